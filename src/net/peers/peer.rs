//! One peer: the link to it, the dial under way, the pause after one that failed.
//!
//! The decisions are here and take `now`; tasks that carry them out are in [`super::dial`].
//!
//! Two links at once come about in two ways. *Crossing*: both nodes dialled at the same time. Both
//! keep the link that the smaller key dialled; the other is retired: nothing new begins on it, what
//! is under way may end, then it is closed. *Succession*: the peer has restarted, or has given up
//! the old link, or dials again over its own. The new link is the good one, whoever's key is
//! smaller, and the old one is closed at once. A hello tells the two apart: it shows the peer's
//! incarnation, and the link that it gave up last.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use tokio::io::AsyncWrite;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::lanes::Mux;
use crate::limits::{
    CALLS_PEER_BYTES_MAX, CONTROL_PEER_BYTES_MAX, DIAL_BACKOFF_MAX, DIAL_BACKOFF_MIN,
    LANE_STREAMS_MAX, LINK_STABLE, LINK_STREAMS_MAX, LINK_STREAMS_RESERVED, PEER_STREAMS_MAX,
    REFUSED_BACKOFF_MAX, REFUSED_BACKOFF_MIN,
};
use crate::net::message::{open_stream, priority};
use crate::seams::network::{
    CloseCode, Link, LinkLost, Path, Priority, StreamIn, StreamOut, Traffic,
};
use crate::seams::{Random, Tasks};
use crate::types::{Address, EndpointId};
use crate::wire::StreamKind;

/// What is known of a peer, for health, doors and decisions about liveness.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerFacts {
    /// Who.
    pub peer: EndpointId,
    /// Since when there is a link; `None` if there is none.
    pub connected_since: Option<Instant>,
    /// When the peer was last heard on a link.
    pub heard: Option<Instant>,
    /// Where the peer is reached.
    pub address: Option<Address>,
    /// The way there, and how good it is.
    pub path: Option<Path>,
    /// Dials that failed since the last link that lived.
    pub failures: u32,
    /// Why there is no link, or why the last one ended. Its code tells a node that it was removed.
    pub lost: Option<LinkLost>,
}

/// What went between this node and a peer since this node started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerTraffic {
    /// Who.
    pub peer: EndpointId,
    /// How many links to it there were.
    pub links: u64,
    /// What went over all of them, while they were in use.
    pub traffic: Traffic,
}

/// A link that was greeted.
pub(super) struct Connected {
    pub(super) link: Arc<dyn Link>,
    /// The number that its dialler drew for it.
    pub(super) id: u64,
    /// The peer's process.
    pub(super) incarnation: u64,
    pub(super) dialled_here: bool,
    pub(super) since: Instant,
    heard: Mutex<Instant>,
    /// Streams that may be open here beside those of leadership.
    ordinary: Arc<Semaphore>,
    /// Bytes of clients' requests that may be under way from here.
    request_bytes: Arc<Semaphore>,
    /// What goes on over it, in both directions.
    pub(super) under_way: Tasks,
    /// The stream of lanes that this side opened.
    pub(super) lanes: tokio::sync::Mutex<Option<Arc<Mux>>>,
    /// How many the peer may open.
    pub(super) lanes_of_peer: Semaphore,
}

impl fmt::Debug for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connected({:?}, {:016x})", self.link, self.id)
    }
}

impl Connected {
    pub(super) fn new(link: Arc<dyn Link>, id: u64, incarnation: u64, dialled_here: bool) -> Self {
        let now = Instant::now();
        Connected {
            link,
            id,
            incarnation,
            dialled_here,
            since: now,
            heard: Mutex::new(now),
            ordinary: Arc::new(Semaphore::new(ORDINARY_STREAMS_MAX)),
            request_bytes: Arc::new(Semaphore::new(CALLS_PEER_BYTES_MAX)),
            under_way: Tasks::new(),
            lanes: tokio::sync::Mutex::default(),
            lanes_of_peer: Semaphore::new(LANE_STREAMS_MAX),
        }
    }

    pub(super) fn hear(&self) {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn heard(&self) -> Instant {
        *self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a stream that counts as under way while its writing half is held.
    pub(super) async fn open(&self, kind: StreamKind) -> Result<(StreamOut, StreamIn), LinkLost> {
        let place = self.place(kind, 0).await;
        let (out, input) = open_stream(self.link.as_ref(), kind).await?;
        Ok((Box::new(Counted { out, _place: place }), input))
    }

    /// A place among the streams of this link, and for the bytes of a request. Streams that decide
    /// who leads have theirs for sure.
    pub(super) async fn place(&self, kind: StreamKind, bytes: usize) -> StreamPlace {
        let mut permits = Vec::new();
        if matches!(kind, StreamKind::Request | StreamKind::Forward) {
            permits.push(permits_of(&self.request_bytes, bytes).await);
        }
        if priority(kind) != Priority::Vote {
            permits.push(permits_of(&self.ordinary, 1).await);
        }
        StreamPlace { _under_way: self.under_way.token(), _permits: permits }
    }

    /// Why a stream broke: what the link says if it is lost, or the error itself.
    pub(super) fn why(&self, error: impl fmt::Display) -> LinkLost {
        let lost = self.link.closed().now_or_never();
        lost.unwrap_or_else(|| LinkLost::silently(format!("the peer dropped the stream: {error}")))
    }
}

const ORDINARY_STREAMS_MAX: usize = (LINK_STREAMS_MAX - LINK_STREAMS_RESERVED) as usize;

/// Counts a stream as under way on its link; free again when dropped.
#[derive(Debug)]
pub(super) struct StreamPlace {
    _under_way: TaskTrackerToken,
    _permits: Vec<OwnedSemaphorePermit>,
}

async fn permits_of(semaphore: &Arc<Semaphore>, count: usize) -> OwnedSemaphorePermit {
    let permits = semaphore.clone().acquire_many_owned(count as u32).await;
    permits.expect("the semaphore is never closed")
}

/// The writing half of a stream, with its place.
struct Counted {
    out: StreamOut,
    _place: StreamPlace,
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.out).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.out).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.out).poll_shutdown(context)
    }
}

/// The link to use, or what to do for one.
#[derive(Debug)]
pub(super) enum Seek {
    Use(Arc<Connected>),
    Failed(LinkLost),
    /// Nobody dials yet: the caller does.
    Dial,
    Wait,
}

/// What is to become of the other link, when there were two.
#[derive(Debug)]
pub(super) enum Loser {
    None,
    /// It crossed the one that is kept.
    Retire(Arc<Connected>),
    /// The peer no longer uses it.
    Close(Arc<Connected>),
}

/// One peer.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) id: EndpointId,
    state: Mutex<State>,
    /// Told when a link comes or goes, or a dial ends.
    pub(super) changed: Notify,
    /// Streams of the peer that may be served at once.
    pub(super) streams: Arc<Semaphore>,
    /// Bytes of its clients' requests that may be held at once.
    request_bytes: Arc<Semaphore>,
    /// The same for other calls.
    control_bytes: Arc<Semaphore>,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Arc<Connected>>,
    dialling: bool,
    /// Dials that have ended.
    dials: u64,
    /// Of those, how many failed since the last link that lived.
    failures: u32,
    retry_at: Option<Instant>,
    lost: Option<LinkLost>,
    heard: Option<Instant>,
    /// The last link that was given up; 0 if none.
    gave_up: u64,
    /// Links that were in use so far.
    links: u64,
    /// What went over those that are no longer.
    before: Traffic,
}

impl Peer {
    pub(super) fn new(id: EndpointId) -> Self {
        Peer {
            id,
            state: Mutex::default(),
            changed: Notify::new(),
            streams: Arc::new(Semaphore::new(PEER_STREAMS_MAX)),
            request_bytes: Arc::new(Semaphore::new(CALLS_PEER_BYTES_MAX)),
            control_bytes: Arc::new(Semaphore::new(CONTROL_PEER_BYTES_MAX)),
        }
    }

    /// Waits until so many bytes of a call may be held; they are free again when it is dropped.
    pub(super) async fn hold(&self, kind: StreamKind, bytes: usize) -> OwnedSemaphorePermit {
        let budget = match kind {
            StreamKind::Request | StreamKind::Forward => &self.request_bytes,
            _ => &self.control_bytes,
        };
        permits_of(budget, bytes).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What a caller who wants a link does next; `joined` is the dial whose end it waits for.
    pub(super) fn seek(&self, joined: &mut Option<u64>, now: Instant) -> Seek {
        let mut state = self.state();
        if let Some(connected) = &state.link {
            return Seek::Use(connected.clone());
        }
        let next = state.dials + 1;
        if state.dialling {
            joined.get_or_insert(next);
            return Seek::Wait;
        }
        let ended = joined.is_some_and(|joined| state.dials >= joined);
        let paused = state.retry_at.is_some_and(|at| now < at);
        if ended || paused {
            let lost = state.lost.clone();
            return Seek::Failed(lost.unwrap_or_else(|| LinkLost::silently("the link was lost")));
        }
        state.dialling = true;
        *joined = Some(next);
        Seek::Dial
    }

    /// The link that this node gave up last, for a hello.
    pub(super) fn gave_up(&self) -> u64 {
        self.state().gave_up
    }

    /// A dial has ended without a link.
    pub(super) fn dial_failed(&self, lost: LinkLost, now: Instant, random: &Random) {
        let mut state = self.state();
        state.dial_ended();
        // A link that the peer made meanwhile is as good.
        if state.link.is_none() {
            state.failed(lost, now, random);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Takes a link that was greeted; says what is to become of the other one, if there is one.
    /// `gave_up` is what the peer said in its hello, if it dialled.
    pub(super) fn connect(
        &self,
        new: &Arc<Connected>,
        gave_up: Option<u64>,
        me: EndpointId,
    ) -> Loser {
        let mut state = self.state();
        if new.dialled_here {
            state.dial_ended();
        }
        let loser = match state.link.take() {
            None => Loser::None,
            Some(old) if follows(new, &old, gave_up) => {
                state.before.add(old.link.traffic());
                Loser::Close(old)
            }
            Some(old) if (new.dialled_here == (me < self.id)) => {
                state.before.add(old.link.traffic());
                Loser::Retire(old)
            }
            Some(old) => {
                state.link = Some(old);
                Loser::Retire(new.clone())
            }
        };
        if state.link.is_none() {
            state.link = Some(new.clone());
            state.links += 1;
            state.retry_at = None;
            state.lost = None;
        }
        drop(state);
        self.changed.notify_waiters();
        loser
    }

    /// A link has ended; says whether it was the one in use.
    pub(super) fn lost(
        &self,
        connected: &Arc<Connected>,
        lost: LinkLost,
        now: Instant,
        random: &Random,
    ) -> bool {
        let mut state = self.state();
        if !state.link.as_ref().is_some_and(|link| Arc::ptr_eq(link, connected)) {
            return false;
        }
        state.link = None;
        state.before.add(connected.link.traffic());
        state.heard = Some(connected.heard());
        state.gave_up = connected.id;
        if now.duration_since(connected.since) < LINK_STABLE || is_refusal(&lost) {
            state.failed(lost, now, random);
        } else {
            state.failures = 0;
            state.lost = Some(lost);
        }
        drop(state);
        self.changed.notify_waiters();
        true
    }

    /// There is reason to dial again at once.
    pub(super) fn hope(&self) {
        self.state().retry_at = None;
    }

    pub(super) fn connected(&self) -> Option<Arc<Connected>> {
        self.state().link.clone()
    }

    /// Whether it is linked or dialled.
    pub(super) fn is_busy(&self) -> bool {
        let state = self.state();
        state.link.is_some() || state.dialling
    }

    pub(super) fn close(&self, code: CloseCode, reason: &str) {
        if let Some(connected) = self.connected() {
            connected.link.close(code, reason);
        }
    }

    pub(super) fn traffic(&self) -> PeerTraffic {
        let state = self.state();
        let mut traffic = state.before;
        if let Some(connected) = &state.link {
            traffic.add(connected.link.traffic());
        }
        PeerTraffic { peer: self.id, links: state.links, traffic }
    }

    pub(super) fn facts(&self) -> PeerFacts {
        let state = self.state();
        let link = state.link.as_ref();
        PeerFacts {
            peer: self.id,
            connected_since: link.map(|link| link.since),
            heard: link.map(|link| link.heard()).or(state.heard),
            address: link.and_then(|link| link.link.address()),
            path: link.and_then(|link| link.link.path()),
            failures: state.failures,
            lost: state.lost.clone(),
        }
    }
}

impl State {
    fn dial_ended(&mut self) {
        self.dialling = false;
        self.dials += 1;
    }

    fn failed(&mut self, lost: LinkLost, now: Instant, random: &Random) {
        // The pauses of the two kinds grow apart: a peer that could not be reached for long and
        // now refuses may be one that has not heard of an admission yet.
        if self.lost.as_ref().is_none_or(|last| is_refusal(last) != is_refusal(&lost)) {
            self.failures = 0;
        }
        self.retry_at = Some(now + backoff(&lost, self.failures, random));
        self.failures = self.failures.saturating_add(1);
        self.lost = Some(lost);
    }
}

/// Whether a link follows another, which the peer then no longer uses; else the two crossed.
fn follows(new: &Connected, old: &Connected, gave_up: Option<u64>) -> bool {
    new.incarnation != old.incarnation
        || gave_up == Some(old.id)
        || new.dialled_here == old.dialled_here
}

/// Whether the peer has said that this node is not, or no longer, a member.
fn is_refusal(lost: &LinkLost) -> bool {
    matches!(lost.code, Some(CloseCode::NotMember | CloseCode::Removed(_)))
}

/// The pause after a dial that failed: doubled each time, and between a half and the whole of that.
fn backoff(lost: &LinkLost, failures: u32, random: &Random) -> Duration {
    let (min, max) = if is_refusal(lost) {
        (REFUSED_BACKOFF_MIN, REFUSED_BACKOFF_MAX)
    } else {
        (DIAL_BACKOFF_MIN, DIAL_BACKOFF_MAX)
    };
    let whole = min.saturating_mul(1 << failures.min(16)).min(max);
    let half_ns = (whole / 2).as_nanos() as u64;
    whole / 2 + Duration::from_nanos(random.next_u64() % half_ns.max(1))
}
