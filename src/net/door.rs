//! The door: takes incoming connections through their handshakes, and lets in whom the gate lets
//! in.
//!
//! It owns the bounds on strangers: how many handshakes are under way and begin in a second, how
//! long one takes, how many links there are in all and from one peer. A flood past them meets a
//! demand to prove its address, then a refusal that costs one packet; members' links that exist
//! are untouched by it. What passed waits in a bounded queue for whoever accepts links.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use iroh::endpoint::{AfterHandshakeOutcome, Connection, EndpointHooks, Incoming, Side, VarInt};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout};

use super::gossip::Gossip;
use super::link::{QuicLink, close_number, close_reason, protocol, shared};
use crate::limits::{
    GOSSIP_STREAMS_MAX, GUEST_WINDOW_BYTES, HANDSHAKE_MAX, HANDSHAKES_MAX,
    HANDSHAKES_PER_SECOND_MAX, LINKS_MAX, LINKS_PEER_MAX,
};
use crate::seams::Tasks;
use crate::seams::network::{CloseCode, Gate, Link, Protocol};
use crate::types::EndpointId;

/// Asks the gate as soon as a handshake has shown who the peer is, before anything of what it sends
/// is handed on. Dialled connections pass, for their peer was chosen here, but those of gossip, whose
/// swarm chooses among those that it hears of.
#[derive(Debug)]
pub(super) struct GateHook(pub(super) Arc<dyn Gate>);

impl EndpointHooks for GateHook {
    async fn after_handshake<'a>(&'a self, connection: &'a Connection) -> AfterHandshakeOutcome {
        let gossips = protocol(connection.alpn()) == Some(Protocol::Gossip);
        if gossips {
            connection.set_max_concurrent_uni_streams(VarInt::from_u32(GOSSIP_STREAMS_MAX));
        } else if connection.side() == Side::Client {
            return AfterHandshakeOutcome::Accept;
        }
        let peer = EndpointId(*connection.remote_id().as_bytes());
        let verdict = match protocol(connection.alpn()) {
            Some(protocol) => self.0.admit(peer, protocol),
            None => Err((CloseCode::Malformed, "the protocol is not one of this node's".into())),
        };
        match verdict {
            Ok(()) => AfterHandshakeOutcome::Accept,
            Err((code, reason)) => {
                tracing::debug!(%peer, ?code, %reason, "turned a peer away");
                AfterHandshakeOutcome::Reject {
                    error_code: close_number(code),
                    reason: close_reason(&reason).to_vec(),
                }
            }
        }
    }
}

/// A link's place among those that this node may have; free again when dropped.
#[derive(Debug)]
pub(super) struct Place {
    counts: Arc<Mutex<Counts>>,
    peer: EndpointId,
}

#[derive(Debug, Default)]
struct Counts {
    all: usize,
    peers: BTreeMap<EndpointId, usize>,
}

impl Place {
    fn take(counts: &Arc<Mutex<Counts>>, peer: EndpointId) -> Option<Self> {
        let mut held = counts.lock().unwrap_or_else(PoisonError::into_inner);
        let of_peer = held.peers.get(&peer).copied().unwrap_or(0);
        if held.all >= LINKS_MAX || of_peer >= LINKS_PEER_MAX {
            return None;
        }
        held.all += 1;
        held.peers.insert(peer, of_peer + 1);
        drop(held);
        Some(Place { counts: counts.clone(), peer })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut held = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        held.all -= 1;
        match held.peers.get_mut(&self.peer) {
            Some(count) if *count > 1 => *count -= 1,
            _ => drop(held.peers.remove(&self.peer)),
        }
    }
}

/// How many handshakes are under way, and how many began in the current second.
struct Pace {
    under_way: Arc<Semaphore>,
    second: Instant,
    begun: u32,
}

impl Pace {
    fn new() -> Self {
        let under_way = Arc::new(Semaphore::new(HANDSHAKES_MAX));
        Pace { under_way, second: Instant::now(), begun: 0 }
    }

    /// Takes an incoming connection up, sends it back to prove its address, or away.
    fn screen(&mut self, incoming: Incoming) -> Option<(Incoming, OwnedSemaphorePermit)> {
        let now = Instant::now();
        if now >= self.second + Duration::from_secs(1) {
            (self.second, self.begun) = (now, 0);
        }
        let crowded = self.under_way.available_permits() <= HANDSHAKES_MAX / 2
            || self.begun >= HANDSHAKES_PER_SECOND_MAX / 2;
        if crowded && !incoming.remote_addr_validated() {
            // It fails only for an address that is proven.
            let _ = incoming.retry();
            return None;
        }
        let permit = self.under_way.clone().try_acquire_owned().ok();
        match permit.filter(|_| self.begun < HANDSHAKES_PER_SECOND_MAX) {
            Some(permit) => {
                self.begun += 1;
                Some((incoming, permit))
            }
            None => {
                incoming.refuse();
                None
            }
        }
    }
}

/// Runs the door until the endpoint closes.
pub(super) async fn serve(
    endpoint: iroh::Endpoint,
    tasks: Tasks,
    ready: mpsc::Sender<Arc<dyn Link>>,
    gossip: Gossip,
) {
    let counts = Arc::new(Mutex::new(Counts::default()));
    let mut pace = Pace::new();
    while let Some(incoming) = endpoint.accept().await {
        let Some((incoming, permit)) = pace.screen(incoming) else { continue };
        let (counts, ready, gossip) = (counts.clone(), ready.clone(), gossip.clone());
        tasks.spawn(async move {
            let made = timeout(HANDSHAKE_MAX, incoming).await;
            drop(permit);
            match made {
                Ok(Ok(connection)) => {
                    if let Some((connection, _place)) = admit(connection, &counts, &ready) {
                        gossip.take(connection).await;
                    }
                }
                Ok(Err(error)) => tracing::debug!(%error, "a handshake failed"),
                Err(_) => tracing::debug!("a handshake took too long"),
            }
        });
    }
}

/// Gives an admitted connection its place and hands it on; one of gossip is given back with it.
fn admit(
    connection: Connection,
    counts: &Arc<Mutex<Counts>>,
    ready: &mpsc::Sender<Arc<dyn Link>>,
) -> Option<(Connection, Place)> {
    let busy = |connection: &Connection| {
        let reason = b"this node has as many links as it may; try again later";
        connection.close(close_number(CloseCode::Busy), reason);
    };
    let peer = EndpointId(*connection.remote_id().as_bytes());
    let protocol = protocol(connection.alpn())?;
    let Some(place) = Place::take(counts, peer) else {
        busy(&connection);
        return None;
    };
    if protocol != Protocol::Raft {
        connection.set_receive_window(VarInt::from_u32(GUEST_WINDOW_BYTES));
    }
    if protocol == Protocol::Gossip {
        return Some((connection, place));
    }
    let link = shared(QuicLink::new(connection, protocol, Some(place)));
    if let Err(refused) = ready.try_send(link) {
        let reason = "this node has too many links to take up; try again later";
        refused.into_inner().close(CloseCode::Busy, reason);
    }
    None
}

/// A gate for a node without peers: nobody passes.
#[derive(Clone, Copy, Debug, Default)]
pub struct Shut;

impl Gate for Shut {
    fn admit(&self, _: EndpointId, _: Protocol) -> Result<(), (CloseCode, String)> {
        Err((CloseCode::NotMember, "this node has no peers".to_owned()))
    }
}
