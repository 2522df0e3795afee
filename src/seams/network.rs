//! The network: authenticated links between nodes, each carrying ordered streams of bytes.
//!
//! A peer is its key. A [`Link`] is one connection to one peer for one protocol, and whoever holds
//! it knows both for sure. Streams are ordered and lossless while their link lives, and end with
//! an error when it is lost; nothing is kept of what was under way. In production a link is a QUIC
//! connection; a simulator makes links of its own, with delay, loss and partitions, and everything
//! above runs unchanged. So it is with [`Gossip`], which members hear each other by.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use thiserror::Error;
use tokio::io::{AsyncRead, AsyncWrite};

use crate::types::{Address, EndpointId, NodeId};

/// What a link is for. Each is an ALPN on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Between members of one cluster.
    Raft,
    /// From a ticket holder who wants to become a member.
    Join,
    /// From a program that uses the store.
    Client,
    /// Between nodes of one mesh that do not know each other yet.
    Lan,
    /// Between members, what they say of themselves. The endpoint keeps such links to itself.
    Gossip,
}

/// What goes first when a link is busy; the greater first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Priority {
    /// Snapshots and other bulk.
    Bulk = 0,
    /// Requests of clients.
    Request = 1,
    /// Entries of the log.
    Append = 2,
    /// Votes, heartbeats and whatever decides who leads.
    Vote = 3,
}

/// Why a link was closed, as a number that the other side can rely on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CloseCode {
    /// All is done, or the node stops.
    Done,
    /// The key is not one of a member.
    NotMember,
    /// The key was the one of this member, which has been removed. Its number is never given again,
    /// so a node knows for sure whether it is meant: one that was admitted anew has another.
    Removed(NodeId),
    /// The ticket was not accepted.
    BadTicket,
    /// A limit was reached; try again later.
    Busy,
    /// What was sent can't be understood.
    Malformed,
    /// Another link to the same peer took this one's place.
    Replaced,
    /// The peer has not shown that it belongs to the mesh.
    OtherMesh,
}

impl CloseCode {
    /// The code on the wire: its kind in the lowest byte, above it the member it names, if any.
    pub fn number(self) -> u64 {
        match self {
            CloseCode::Done => 0,
            CloseCode::NotMember => 1,
            CloseCode::Removed(node) => 2 | node.0 << 8,
            CloseCode::BadTicket => 3,
            CloseCode::Busy => 4,
            CloseCode::Malformed => 5,
            CloseCode::Replaced => 6,
            CloseCode::OtherMesh => 7,
        }
    }

    /// The code of a number, if it is one of ours.
    pub fn from_number(number: u64) -> Option<Self> {
        let code = match number & 0xff {
            0 => CloseCode::Done,
            1 => CloseCode::NotMember,
            2 => CloseCode::Removed(NodeId(number >> 8)),
            3 => CloseCode::BadTicket,
            4 => CloseCode::Busy,
            5 => CloseCode::Malformed,
            6 => CloseCode::Replaced,
            7 => CloseCode::OtherMesh,
            _ => return None,
        };
        (code.number() == number).then_some(code)
    }
}

/// A link is not there, or no longer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{reason}")]
pub struct LinkLost {
    /// What the peer said when it closed the link; `None` if it said nothing.
    pub code: Option<CloseCode>,
    /// What happened, for people.
    pub reason: String,
}

impl LinkLost {
    /// A link that was lost without a word from the peer.
    pub fn silently(reason: impl Into<String>) -> Self {
        LinkLost { code: None, reason: reason.into() }
    }
}

/// The half of a stream that is written. Shut down, it ends the stream in order; dropped without
/// that, the reader can't tell, so that all that is sent over a stream says its own length.
pub type StreamOut = Box<dyn AsyncWrite + Send + Sync + Unpin>;
/// The half of a stream that is read. Dropped before its end, the writer is stopped.
pub type StreamIn = Box<dyn AsyncRead + Send + Sync + Unpin>;

/// The way that a link takes at the moment, and how good it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path {
    /// Where the peer is on it.
    pub address: Address,
    /// How long a packet and its answer take.
    pub round_trip: Duration,
    /// Packets sent on it.
    pub sent: u64,
    /// Of those, how many were lost.
    pub lost: u64,
}

/// What went over a link so far, both ways, with all that it takes besides what was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes that went to the peer.
    pub bytes_sent: u64,
    /// Bytes that came from it.
    pub bytes_received: u64,
    /// Packets that went to the peer.
    pub packets_sent: u64,
    /// Of those, how many were lost.
    pub packets_lost: u64,
}

impl Traffic {
    /// This and more.
    pub fn add(&mut self, more: Traffic) {
        self.bytes_sent += more.bytes_sent;
        self.bytes_received += more.bytes_received;
        self.packets_sent += more.packets_sent;
        self.packets_lost += more.packets_lost;
    }
}

/// A node's place on the network.
pub trait Network: Debug + Send + Sync + 'static {
    /// This node's public key.
    fn id(&self) -> EndpointId;
    /// Where this node listens, as others may dial it; may change while it runs.
    fn addresses(&self) -> Vec<Address>;
    /// Makes a link to a peer. That the peer lets this node in is not known yet when this returns:
    /// a peer that does not closes the link with its reason. Ends by itself in bounded time.
    fn connect<'a>(
        &'a self,
        peer: EndpointId,
        addresses: &'a [Address],
        protocol: Protocol,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkLost>>;
    /// Where a peer may be, by its key alone, as far as anybody tells whom this node may ask. Ends by
    /// itself in bounded time.
    fn find(&self, _peer: EndpointId) -> BoxFuture<'_, Vec<Address>> {
        Box::pin(async { Vec::new() })
    }
    /// The next link that a peer made and that the gate let in; `None` when the network is closed.
    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Link>>>;
    /// Closes all links and stops listening, in bounded time.
    fn close(&self) -> BoxFuture<'_, ()>;
}

/// Who may make a link to this node; asked before a byte from the peer is looked at.
pub trait Gate: Debug + Send + Sync + 'static {
    /// Lets a peer in for a protocol, or says why not.
    fn admit(&self, peer: EndpointId, protocol: Protocol) -> Result<(), (CloseCode, String)>;
}

/// What nodes are on in place of the machine's own network: a simulator's.
pub trait Fabric: Debug + Send + Sync + 'static {
    /// Gives the node of this key its place.
    fn plug(&self, key: EndpointId, gate: Arc<dyn Gate>) -> Plugged;
}

/// A node's place on a [`Fabric`].
#[derive(Debug)]
pub struct Plugged {
    /// Its links.
    pub network: Arc<dyn Network>,
    /// How it hears of the others.
    pub gossip: Arc<dyn Gossip>,
}

/// Short messages that reach every node of a topic by way of a few neighbours each. One may be lost,
/// come twice, and in any order.
pub trait Gossip: Debug + Send + Sync + 'static {
    /// Enters a topic by these members.
    fn enter<'a>(
        &'a self,
        topic: [u8; 32],
        by: &'a [EndpointId],
    ) -> BoxFuture<'a, Result<Box<dyn Topic>, String>>;
}

/// A topic that a node is in; it is left when this is dropped.
pub trait Topic: Debug + Send + Sync + 'static {
    /// Says something to all.
    fn say(&self, message: Vec<u8>) -> BoxFuture<'_, Result<(), String>>;
    /// Makes neighbours of some of these, if they can be reached.
    fn meet<'a>(&'a self, members: &'a [EndpointId]) -> BoxFuture<'a, Result<(), String>>;
    /// What comes next; an error is reason to enter the topic anew, as when more came than was
    /// taken. Nothing is lost of what it waits for if it is dropped.
    fn hear(&mut self) -> BoxFuture<'_, Result<Whisper, String>>;
}

/// What comes of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whisper {
    /// A message.
    Message {
        /// The neighbour that passed it on, who need not have written it.
        delivered_by: EndpointId,
        /// What it holds.
        bytes: Bytes,
    },
    /// The neighbours are others than before.
    Neighbours {
        /// How many there are.
        count: usize,
    },
}

/// One connection to one peer for one protocol. Dropping the last handle closes it.
pub trait Link: Debug + Send + Sync + 'static {
    /// The peer's public key.
    fn peer(&self) -> EndpointId;
    /// What the link is for.
    fn protocol(&self) -> Protocol;
    /// Where the peer is reached at the moment, if it is known.
    fn address(&self) -> Option<Address>;
    /// The way to it at the moment, and how good that is, where it is known.
    fn path(&self) -> Option<Path> {
        None
    }
    /// What went over it so far, where that is counted. Never less than before.
    fn traffic(&self) -> Traffic {
        Traffic::default()
    }
    /// Opens a stream. The peer sees it only once something was written to it. Waits while the
    /// peer allows no more streams.
    fn open(&self, priority: Priority) -> BoxFuture<'_, Result<(StreamOut, StreamIn), LinkLost>>;
    /// The next stream that the peer opened.
    fn accept(&self) -> BoxFuture<'_, Result<(StreamOut, StreamIn), LinkLost>>;
    /// Closes the link; the peer is told.
    fn close(&self, code: CloseCode, reason: &str);
    /// Resolves when the link is lost or closed, by either side.
    fn closed(&self) -> BoxFuture<'_, LinkLost>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_the_numbers_they_were() {
        use CloseCode::*;
        let removed = Removed(NodeId(0xffff_ffff));
        let three = Removed(NodeId(3));
        let codes =
            [Done, NotMember, three, BadTicket, Busy, Malformed, Replaced, OtherMesh, removed];
        let numbers = [0, 1, 0x302, 3, 4, 5, 6, 7, 0xff_ffff_ff02];
        assert_eq!(codes.map(CloseCode::number), numbers);
        assert_eq!(numbers.map(CloseCode::from_number), codes.map(Some));
        for other in [8, 0xff, 0x100, 0x303, u64::MAX] {
            assert_eq!(CloseCode::from_number(other), None, "{other}");
        }
    }
}
