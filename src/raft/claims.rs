//! Who claims to lead a group, as heartbeats say when they arrive.
//!
//! On a machine with too much to do a heartbeat may lie for long before its group's Raft looks at it,
//! while the clock by which that would elect somebody else goes on; of many groups each election is
//! more to do, and so they never end. So nobody stands against a leader whose heartbeat has come in,
//! and nobody helps who does: also while only its node is heard, for a moment in which the group's own
//! heartbeat may be late. Elections are put off by this, and nothing else rests on it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::messages::Ballot;
use crate::limits::CLAIM_MAX;
use crate::store::log::Vote;
use crate::types::NodeId;

/// When each node was heard as a leader of any group; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Heard(Arc<Mutex<BTreeMap<NodeId, Instant>>>);

impl Heard {
    fn note(&self, node: NodeId, now: Instant) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(node, now);
    }

    fn at(&self, node: NodeId) -> Option<Instant> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&node).copied()
    }
}

/// The last claim to lead one group; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Claims {
    heard: Heard,
    last: Arc<Mutex<Option<Claim>>>,
    /// The silence from which on a leader may be gone.
    silence: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Claim {
    vote: Vote,
    at: Instant,
}

impl Claims {
    pub(super) fn new(heard: Heard, silence: Duration) -> Self {
        Claims { heard, last: Arc::default(), silence }
    }

    /// A heartbeat has come in.
    pub(super) fn note(&self, vote: Vote, now: Instant) {
        self.heard.note(NodeId(vote.node), now);
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if last.is_none_or(|last| last.vote.term <= vote.term) {
            *last = Some(Claim { vote, at: now });
        }
    }

    /// The leader hands over: it sends no heartbeats any more, whatever comes of it.
    pub(super) fn forget(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Whether a leader that the candidate would take the place of is there.
    pub(super) fn speak_against(&self, ballot: &Ballot, now: Instant) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(Claim { vote, at }) = last else { return false };
        let is_recent = |at: Instant| now.duration_since(at) < self.silence;
        let node_is_there = || self.heard.at(NodeId(vote.node)).is_some_and(is_recent);
        let is_there = is_recent(at) || now.duration_since(at) < CLAIM_MAX && node_is_there();
        is_there
            && !ballot.handed_over
            && vote.node != ballot.vote.node
            && vote.term + 1 >= ballot.vote.term
    }
}
