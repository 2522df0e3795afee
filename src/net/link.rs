//! A link as a QUIC connection.

use std::fmt;
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use iroh::TransportAddr;
use iroh::endpoint::{Connection, ConnectionError, VarInt};

use super::door::Place;
use crate::limits::LINK_SILENCE_MAX;
use crate::seams::network::{
    CloseCode, Link, LinkLost, Path, Priority, Protocol, StreamIn, StreamOut, Traffic,
};
use crate::types::{Address, EndpointId};

/// The longest reason that is sent with a close: it must fit in one packet.
const REASON_BYTES_MAX: usize = 256;

/// The name of a protocol in a handshake.
pub(super) fn alpn(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Raft => b"aspen/raft/1",
        Protocol::Join => b"aspen/join/1",
        Protocol::Client => b"aspen/client/1",
        Protocol::Lan => b"aspen/lan/1",
        Protocol::Gossip => iroh_gossip::net::GOSSIP_ALPN,
    }
}

/// All protocols.
pub(super) const PROTOCOLS: [Protocol; 5] =
    [Protocol::Raft, Protocol::Join, Protocol::Client, Protocol::Lan, Protocol::Gossip];

/// The protocol of a name, if it is one of ours.
pub(super) fn protocol(name: &[u8]) -> Option<Protocol> {
    PROTOCOLS.into_iter().find(|protocol| alpn(*protocol) == name)
}

/// An address of iroh as ours; `None` for a kind that has none.
pub(super) fn address(address: &TransportAddr) -> Option<Address> {
    match address {
        TransportAddr::Ip(socket) => Some(Address::Ip(*socket)),
        TransportAddr::Relay(url) => url.clone().try_into().ok().map(Address::Relay),
        _ => None,
    }
}

/// The same the other way.
pub(super) fn transport(address: &Address) -> TransportAddr {
    match address {
        Address::Ip(socket) => TransportAddr::Ip(*socket),
        Address::Relay(url) => TransportAddr::Relay(url.as_iroh().clone()),
    }
}

/// One connection. Its place among the links of this node is free again when it is dropped.
pub(super) struct QuicLink {
    connection: Connection,
    protocol: Protocol,
    /// Why this side closed it, if it did.
    closed_here: OnceLock<LinkLost>,
    _place: Option<Place>,
}

impl fmt::Debug for QuicLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "QuicLink({:?} with {})", self.protocol, self.peer())
    }
}

impl QuicLink {
    /// Takes a connection that may be used; one that was accepted has a place.
    pub(super) fn new(connection: Connection, protocol: Protocol, place: Option<Place>) -> Self {
        QuicLink { connection, protocol, closed_here: OnceLock::new(), _place: place }
    }

    fn lost(&self, error: ConnectionError) -> LinkLost {
        match (&error, self.closed_here.get()) {
            (ConnectionError::LocallyClosed, Some(lost)) => lost.clone(),
            _ => lost(error),
        }
    }
}

/// Tells the end of a connection in our words.
pub(super) fn lost(error: ConnectionError) -> LinkLost {
    match error {
        ConnectionError::ApplicationClosed(close) => LinkLost {
            code: CloseCode::from_number(close.error_code.into_inner()),
            reason: match String::from_utf8_lossy(&close.reason) {
                reason if reason.is_empty() => "the peer closed the link".to_owned(),
                reason => reason.into_owned(),
            },
        },
        ConnectionError::TimedOut => LinkLost::silently(format!(
            "nothing was heard from the peer for {:.1} s",
            LINK_SILENCE_MAX.as_secs_f64()
        )),
        ConnectionError::LocallyClosed => LinkLost::silently("the link was closed here"),
        ConnectionError::Reset => LinkLost::silently("the peer no longer knows the link"),
        other => LinkLost::silently(format!("the link was lost: {other}")),
    }
}

/// What a refusal or a close says, cut to what a packet holds.
pub(super) fn close_reason(reason: &str) -> &[u8] {
    let end =
        (0..=reason.len().min(REASON_BYTES_MAX)).rev().find(|at| reason.is_char_boundary(*at));
    &reason.as_bytes()[..end.unwrap_or(0)]
}

pub(super) fn close_number(code: CloseCode) -> VarInt {
    // Numbers of nodes are bounded; beyond that bound the reason alone tells.
    VarInt::from_u64(code.number()).unwrap_or(VarInt::MAX)
}

/// Bulk goes behind what an accepting side answers, which QUIC sends at level 0.
fn level(priority: Priority) -> i32 {
    priority as i32 - Priority::Request as i32
}

impl Link for QuicLink {
    fn peer(&self) -> EndpointId {
        EndpointId(*self.connection.remote_id().as_bytes())
    }

    fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn address(&self) -> Option<Address> {
        let paths = self.connection.paths();
        paths.iter().find(|path| path.is_selected()).and_then(|path| address(path.remote_addr()))
    }

    fn path(&self) -> Option<Path> {
        let paths = self.connection.paths();
        let used = paths.iter().find(|path| path.is_selected())?;
        let stats = used.stats();
        Some(Path {
            address: address(used.remote_addr())?,
            round_trip: stats.rtt,
            // Probes for the size of packets are made to be lost.
            sent: stats.sent_packets.saturating_sub(stats.sent_plpmtud_probes),
            lost: stats.lost_packets.saturating_sub(stats.lost_plpmtud_probes),
        })
    }

    fn traffic(&self) -> Traffic {
        let stats = self.connection.stats();
        Traffic {
            bytes_sent: stats.udp_tx.bytes,
            bytes_received: stats.udp_rx.bytes,
            packets_sent: stats.sent_packets,
            packets_lost: stats.lost_packets,
        }
    }

    fn open(&self, priority: Priority) -> BoxFuture<'_, Result<(StreamOut, StreamIn), LinkLost>> {
        Box::pin(async move {
            let (out, input) = self.connection.open_bi().await.map_err(|error| self.lost(error))?;
            // It fails only for a stream that has ended, which then says so by itself.
            let _ = out.set_priority(level(priority));
            Ok((Box::new(out) as StreamOut, Box::new(input) as StreamIn))
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<(StreamOut, StreamIn), LinkLost>> {
        Box::pin(async move {
            let (out, input) =
                self.connection.accept_bi().await.map_err(|error| self.lost(error))?;
            Ok((Box::new(out) as StreamOut, Box::new(input) as StreamIn))
        })
    }

    fn close(&self, code: CloseCode, reason: &str) {
        let _ = self.closed_here.set(LinkLost { code: Some(code), reason: reason.to_owned() });
        self.connection.close(close_number(code), close_reason(reason));
    }

    fn closed(&self) -> BoxFuture<'_, LinkLost> {
        Box::pin(async move { self.lost(self.connection.closed().await) })
    }
}

/// Streams that are still held would keep the connection; whoever drops the link is done with it.
impl Drop for QuicLink {
    fn drop(&mut self) {
        self.connection.close(close_number(CloseCode::Done), b"");
    }
}

/// A link in the form that everything above knows.
pub(super) fn shared(link: QuicLink) -> Arc<dyn Link> {
    Arc::new(link)
}
