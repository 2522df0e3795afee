//! How a replica reaches the other replicas of its group.
//!
//! Replicas are numbers; the [`Directory`] knows whose key a number is, and who may be heard. A
//! question is one message each way with a deadline.

use std::fmt::Debug;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use openraft::errors::{NetworkError, RPCError, Unreachable};
use thiserror::Error;
use tokio::time::{Instant, sleep_until};

use super::claims::{Claims, Heard};
use super::counts::GroupCounts;
use super::messages::{Answer, Ask, Question, Route, decode, encode};
use super::pulse::Pulse;
use super::types::TypeConfig;
use crate::net::{CallFailed, Peers};
use crate::types::{EndpointId, GroupId, NodeId};
use crate::wire::StreamKind;

/// Who the members of the cluster are, as far as this node knows.
pub trait Directory: Debug + Send + Sync + 'static {
    /// The key of a member.
    fn endpoint(&self, node: NodeId) -> Option<EndpointId>;
    /// The member with a key.
    fn node(&self, endpoint: EndpointId) -> Option<NodeId>;
    /// How many bytes of snapshots this node may send in one second.
    fn snapshot_bytes_per_second(&self) -> u64 {
        u64::MAX
    }
}

/// The turns that all snapshots take which a node sends; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct SnapshotTurns {
    /// When the next may go.
    next: Arc<Mutex<Option<Instant>>>,
}

impl SnapshotTurns {
    /// Waits until so many bytes may go, where so many may in one second. Who was let go and does not
    /// send has lost its turn.
    pub async fn wait(&self, bytes: usize, per_second: u64) {
        let takes = Duration::from_secs_f64(bytes as f64 / per_second.max(1) as f64);
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            *next = Some(turn + takes);
            turn
        };
        sleep_until(turn).await;
    }
}

/// What replicas on this node reach others by.
#[derive(Clone, Debug)]
pub struct Transport {
    pub(super) peers: Peers,
    pub(super) directory: Arc<dyn Directory>,
    /// The pace of its snapshots.
    pub(super) turns: SnapshotTurns,
    pub(super) pulse: Pulse,
    pub(super) heard: Heard,
}

impl Transport {
    /// Over links to other nodes, of which the directory knows who they are. There is one for all
    /// groups of a node.
    pub fn new(peers: Peers, directory: Arc<dyn Directory>) -> Self {
        let (turns, pulse, heard) = Default::default();
        Transport { peers, directory, turns, pulse, heard }
    }
}

/// A question was not answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It was not sent.
    #[error("node {to} can't be reached: {reason}")]
    Unreachable { to: NodeId, reason: String },
    /// It may have been heard.
    #[error("node {to} did not answer: {reason}")]
    Lost { to: NodeId, reason: String },
}

impl NoAnswer {
    pub(super) fn of(to: NodeId, error: CallFailed) -> Self {
        match error {
            CallFailed::NotSent(error) => NoAnswer::Unreachable { to, reason: error.to_string() },
            error => NoAnswer::Lost { to, reason: error.to_string() },
        }
    }
}

impl From<NoAnswer> for RPCError<TypeConfig> {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Unreachable { .. } => Unreachable::from_string(error).into(),
            NoAnswer::Lost { .. } => NetworkError::from_string(error).into(),
        }
    }
}

/// One replica's way to the others; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Contacts {
    pub(super) counts: Arc<GroupCounts>,
    pub(super) group: GroupId,
    pub(super) node: NodeId,
    pub(super) transport: Transport,
    pub(super) claims: Claims,
}

impl Contacts {
    /// For asking before there is a replica.
    pub(super) fn new(group: GroupId, node: NodeId, transport: Transport) -> Self {
        let claims = Claims::new(transport.heard.clone(), Duration::ZERO);
        Contacts { group, node, transport, claims, counts: Arc::default() }
    }

    pub(super) fn route(&self, to: NodeId) -> Route {
        Route { group: self.group, from: self.node, to }
    }

    /// The key of another replica's node.
    pub(super) fn endpoint(&self, to: NodeId) -> Result<EndpointId, NoAnswer> {
        let unknown = || NoAnswer::Unreachable { to, reason: "it is no known member".into() };
        self.transport.directory.endpoint(to).ok_or_else(unknown)
    }

    /// Asks another replica, once.
    pub(super) async fn ask(
        &self,
        to: NodeId,
        kind: StreamKind,
        what: Question,
        deadline: Instant,
    ) -> Result<Answer, NoAnswer> {
        let peer = self.endpoint(to)?;
        let ask = Ask { route: self.route(to), what };
        let Transport { peers, pulse, .. } = &self.transport;
        if matches!(kind, StreamKind::Heartbeat | StreamKind::Vote) {
            return pulse.ask(peers, (peer, kind), ask, deadline).await;
        }
        let answered = peers.call(peer, kind, encode(&ask), deadline).await;
        let answer = answered.map_err(|error| NoAnswer::of(to, error))?;
        decode(&answer).map_err(|reason| NoAnswer::Lost { to, reason })
    }
}
