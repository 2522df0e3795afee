//! A node's peers: one link to each, whoever dialled it, and everything that goes over it.
//!
//! - A link is made when someone wants it; all who want it share one dial. A dial that fails is
//!   followed by a growing pause, in which callers are told at once why the last one failed.
//! - The first stream of a link is a greeting. A dialler that the peer does not let in learns it
//!   here, before anything is sent that could be lost; and when both have dialled each other, both
//!   keep the same link ([`peer`]).
//! - Calls are one short stream each ([`call`]), lanes share one long-lived stream ([`lanes`]),
//!   what is long has a stream of its own. What peers open is handed to [`Serve`] in a bounded
//!   number of tasks ([`serve`]).
//!
//! It decides nothing about membership: whom to let in is the gate's word, whom to dial the
//! caller's. Time is tokio's clock, chance the node's own randomness.

mod call;
mod dial;
mod lanes;
mod peer;
mod serve;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

pub use call::CallFailed;
pub use lanes::{Lane, LaneEnded};
pub use peer::{PeerFacts, PeerTraffic};
pub(super) use serve::REFUSED;
pub use serve::{Refused, RefusedCode, Serve};

use super::book::{AddressBook, AddressSource, KnownAddress, SharedBook};
use crate::limits::{BOOK_SAVE_PAUSE, PEERS_MAX, SUSPECT_AGE_MIN};
use crate::seams::network::{CloseCode, Link, LinkLost, Network, Protocol, StreamIn, StreamOut};
use crate::seams::{self, Here, Random, Tasks};
use crate::types::{Address, EndpointId, GroupId};
use crate::wire::StreamKind;
use dial::UNANSWERED;
use peer::{Connected, Peer, Seek};

/// How often an operation that the peer can't have seen is tried on another link.
const TRIES_MAX: usize = 3;

/// A node's peers; clones are handles on the same.
#[derive(Clone, Debug)]
pub struct Peers {
    inner: Arc<Inner>,
}

/// Peers that are not kept: for those that serve them.
#[derive(Clone, Debug)]
pub struct WeakPeers {
    inner: Weak<Inner>,
}

impl WeakPeers {
    /// The peers, unless nobody has them any more.
    pub fn upgrade(&self) -> Option<Peers> {
        self.inner.upgrade().map(|inner| Peers { inner })
    }
}

#[derive(Debug)]
struct Inner {
    network: Arc<dyn Network>,
    serve: Arc<dyn Serve>,
    random: Random,
    /// Drawn when the node started; a peer that shows another one has restarted.
    incarnation: u64,
    table: Mutex<BTreeMap<EndpointId, Arc<Peer>>>,
    book: SharedBook,
    book_changed: Notify,
    /// Counts what changed in anyone's facts.
    changes: watch::Sender<u64>,
    tasks: Tasks,
    stopped: CancellationToken,
}

impl Peers {
    /// Begins to take links and to serve them.
    pub fn start(
        network: Arc<dyn Network>,
        book: AddressBook,
        serve: Arc<dyn Serve>,
        random: Random,
    ) -> Peers {
        let inner = Arc::new(Inner {
            network,
            serve,
            incarnation: random.next_u64(),
            random,
            table: Mutex::default(),
            book: Arc::new(Mutex::new(book)),
            book_changed: Notify::new(),
            changes: watch::Sender::new(0),
            tasks: Tasks::new(),
            stopped: CancellationToken::new(),
        });
        inner.tasks.spawn(dial::take_links(inner.clone()));
        inner.tasks.spawn(keep_book(inner.clone()));
        Peers { inner }
    }

    /// A handle that does not keep them.
    pub fn downgrade(&self) -> WeakPeers {
        WeakPeers { inner: Arc::downgrade(&self.inner) }
    }

    /// Closes every link, ends every task, and keeps the address book. The network is its owner's
    /// to close.
    pub async fn stop(&self) {
        self.inner.stopped.cancel();
        let peers: Vec<Arc<Peer>> = self.inner.table().values().cloned().collect();
        for peer in peers {
            peer.close(CloseCode::Done, "the node stops");
        }
        self.inner.tasks.abort();
        self.inner.tasks.ended().await;
        self.inner.save_book().await;
    }

    /// This node's public key.
    pub fn id(&self) -> EndpointId {
        self.inner.network.id()
    }

    /// Where this node listens, as others may dial it.
    pub fn addresses(&self) -> Vec<Address> {
        self.inner.network.addresses()
    }

    /// The link to a peer, made if need be. In the pause after a dial that failed, and when the
    /// dial that this call waits for fails, the error tells why.
    pub async fn link(
        &self,
        peer: EndpointId,
        deadline: Instant,
    ) -> Result<Arc<dyn Link>, LinkLost> {
        Ok(self.inner.connected(peer, deadline).await?.link.clone())
    }

    /// One message to a peer and its answer, on a short stream of its own.
    pub async fn call(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        request: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, CallFailed> {
        assert!(kind.is_call(), "{kind:?} is no call");
        assert!(request.len() <= kind.message_bytes_max(), "the caller keeps to the kind's bound");
        let mut tries = 1;
        loop {
            let connected =
                self.inner.connected(peer, deadline).await.map_err(CallFailed::NotSent)?;
            match call::call(&connected, kind, &request, deadline).await {
                Err(CallFailed::NotSent(lost))
                    if tries < TRIES_MAX && Instant::now() < deadline =>
                {
                    tries += 1;
                    self.inner.link_lost(peer, &connected, lost);
                }
                answered => return answered,
            }
        }
    }

    /// A stream of its own to a peer, its head written; what it holds is its kind's business.
    pub async fn stream(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        deadline: Instant,
    ) -> Result<(StreamOut, StreamIn), LinkLost> {
        let mut tries = 1;
        loop {
            let connected = self.inner.connected(peer, deadline).await?;
            match timeout_at(deadline, connected.open(kind)).await {
                Ok(Err(lost)) if tries < TRIES_MAX => {
                    tries += 1;
                    self.inner.link_lost(peer, &connected, lost);
                }
                Ok(opened) => return opened,
                Err(_) => {
                    return Err(LinkLost::silently("the peer takes no further stream in time"));
                }
            }
        }
    }

    /// An ordered channel to one group of a peer. All lanes to a peer share one stream, and none
    /// holds up another. It ends when the stream does; then ask for a new one.
    pub async fn lane(
        &self,
        peer: EndpointId,
        group: GroupId,
        deadline: Instant,
    ) -> Result<Lane, LinkLost> {
        let mut tries = 1;
        loop {
            let connected = self.inner.connected(peer, deadline).await?;
            match timeout_at(deadline, lanes::open(&self.inner.tasks, &connected, group)).await {
                Ok(Err(lost)) if tries < TRIES_MAX => {
                    tries += 1;
                    self.inner.link_lost(peer, &connected, lost);
                }
                Ok(opened) => return opened,
                Err(_) => {
                    return Err(LinkLost::silently("the peer takes no further stream in time"));
                }
            }
        }
    }

    /// Notes where a peer may be reached; the first address is tried as the newest. An address that
    /// is news ends the pause after a failed dial.
    pub fn note(&self, peer: EndpointId, addresses: &[Address], source: AddressSource) {
        if peer == self.id() {
            return;
        }
        if self.inner.note(peer, addresses, source)
            && let Some(peer) = self.inner.known(peer)
        {
            peer.hope();
        }
    }

    /// Forgets a peer and its addresses, and closes its link.
    pub fn forget(&self, peer: EndpointId) {
        self.close(peer, CloseCode::Done, "this node has forgotten the peer");
        self.inner.table().remove(&peer);
        if self.inner.book().forget(peer) {
            self.inner.book_changed.notify_one();
        }
        self.inner.tell();
    }

    /// Closes the link to a peer, if there is one, and tells the peer why.
    pub fn close(&self, peer: EndpointId, code: CloseCode, reason: &str) {
        if let Some(peer) = self.inner.known(peer) {
            peer.close(code, reason);
        }
    }

    /// Gives up the link to a peer that does not answer, so that the next call makes a new one. A
    /// link that was only just made is kept: the suspicion is about the one before it.
    pub fn suspect(&self, peer: EndpointId) {
        let Some(known) = self.inner.known(peer) else { return };
        let Some(connected) = known.connected() else { return };
        if connected.since.elapsed() >= SUSPECT_AGE_MIN {
            if self.inner.has_other_way(peer, &connected) {
                self.inner.tasks.spawn(dial::leave(connected.clone()));
            } else {
                connected.link.close(CloseCode::Replaced, UNANSWERED);
            }
            self.inner.link_lost(peer, &connected, LinkLost::silently(UNANSWERED));
        }
    }

    /// Gives up the link to a peer that is no longer where the link leads.
    pub fn doubt(&self, peer: EndpointId, addresses: &[Address]) {
        let leads = self.inner.known(peer).and_then(|known| known.facts().address);
        if leads.is_some_and(|leads| !addresses.contains(&leads)) {
            self.suspect(peer);
        }
    }

    /// Gives up every link, so that the next calls make new ones.
    pub fn give_up_links(&self, reason: &str) {
        let peers: Vec<Arc<Peer>> = self.inner.table().values().cloned().collect();
        for peer in peers {
            peer.hope();
            let Some(connected) = peer.connected() else { continue };
            connected.link.close(CloseCode::Replaced, reason);
            self.inner.link_lost(peer.id, &connected, LinkLost::silently(reason));
        }
    }

    /// What is known of every peer that was linked, dialled or waited for, by key.
    pub fn facts(&self) -> Vec<PeerFacts> {
        self.inner.table().values().map(|peer| peer.facts()).collect()
    }

    /// What went to each of them and came from it, by key.
    pub fn traffic(&self) -> Vec<PeerTraffic> {
        self.inner.table().values().map(|peer| peer.traffic()).collect()
    }

    /// Changes whenever a link comes, goes or is refused: the moment to look at [`Peers::facts`].
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.inner.changes.subscribe()
    }

    /// Where peers are looked up; it may outlive this.
    pub fn shared_book(&self) -> SharedBook {
        self.inner.book.clone()
    }

    /// Where a peer was last known to be, who said so and when, the newest first.
    pub fn known_addresses(&self, peer: EndpointId) -> Vec<KnownAddress> {
        self.inner.book().addresses(peer).to_vec()
    }
}

impl Inner {
    fn table(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Arc<Peer>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn book(&self) -> MutexGuard<'_, AddressBook> {
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn known(&self, peer: EndpointId) -> Option<Arc<Peer>> {
        self.table().get(&peer).cloned()
    }

    /// What is known of a peer, begun if need be. A table that is full forgets those that nobody is
    /// linked to.
    fn peer(&self, id: EndpointId) -> Arc<Peer> {
        let mut table = self.table();
        if table.len() >= PEERS_MAX && !table.contains_key(&id) {
            table.retain(|_, peer| peer.is_busy());
        }
        table.entry(id).or_insert_with(|| Arc::new(Peer::new(id))).clone()
    }

    /// The link to use: the one there is, or the outcome of the dial under way, or of a new one.
    async fn connected(
        self: &Arc<Self>,
        id: EndpointId,
        deadline: Instant,
    ) -> Result<Arc<Connected>, LinkLost> {
        if id == self.network.id() {
            return Err(LinkLost::silently("a node does not dial itself"));
        }
        let peer = self.peer(id);
        let mut joined = None;
        loop {
            let mut changed = pin!(peer.changed.notified());
            changed.as_mut().enable();
            match peer.seek(&mut joined, Instant::now()) {
                Seek::Use(connected) => return Ok(connected),
                Seek::Failed(lost) => return Err(lost),
                Seek::Dial => {
                    // The link is for all groups, whichever wants it first.
                    let dial = dial::dial(self.clone(), peer.clone());
                    self.tasks.spawn(Here::at_no_group().scope(dial));
                }
                Seek::Wait => {}
            }
            tokio::select! {
                biased;
                () = self.stopped.cancelled() => return Err(LinkLost::silently("this node stops")),
                changed = timeout_at(deadline, changed) => if changed.is_err() {
                    return Err(LinkLost::silently("the peer was not reached in time"));
                },
            }
        }
    }

    /// A link has ended, whoever noticed.
    fn link_lost(&self, id: EndpointId, connected: &Arc<Connected>, lost: LinkLost) {
        if let Some(peer) = self.known(id)
            && peer.lost(connected, lost, Instant::now(), &self.random)
        {
            self.tell();
        }
    }

    /// Whether a peer that was reached directly may be reached by a relay.
    fn has_other_way(&self, peer: EndpointId, connected: &Connected) -> bool {
        let is_relay = |address: &Address| matches!(address, Address::Relay(_));
        connected.link.address().is_some_and(|leads| !is_relay(&leads))
            && self.addresses(peer).iter().any(is_relay)
    }

    fn addresses(&self, peer: EndpointId) -> Vec<Address> {
        self.book().addresses(peer).iter().map(|known| known.address.clone()).collect()
    }

    /// Notes addresses, and says whether any is news.
    fn note(&self, peer: EndpointId, addresses: &[Address], source: AddressSource) -> bool {
        let news = self.book().note(peer, addresses, source);
        if news {
            self.book_changed.notify_one();
        }
        news
    }

    fn tell(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    async fn save_book(&self) {
        let save = self.book().save();
        let Some(save) = save else { return };
        if let Err(error) = seams::blocking(save).await {
            tracing::warn!(%error, "the addresses of peers could not be kept");
        }
    }
}

/// Writes the address book a while after it has changed.
async fn keep_book(inner: Arc<Inner>) {
    loop {
        inner.book_changed.notified().await;
        sleep(BOOK_SAVE_PAUSE).await;
        inner.save_book().await;
    }
}

/// Runs a future until it ends or for so long; `None` if it had to be given up.
async fn within<F: Future>(bound: std::time::Duration, future: F) -> Option<F::Output> {
    timeout(bound, future).await.ok()
}

/// Whether a link is for members; others are handed on whole.
fn is_between_members(link: &Arc<dyn Link>) -> bool {
    link.protocol() == Protocol::Raft
}
