//! Fresh reads: one confirmation of leadership serves all who wait for it.
//!
//! A reader may share only a confirmation that begins after the reader came. Those that come
//! while one is under way wait together for the next. A replica that follows asks its leader, who
//! confirms for it in the same way; a question from another replica is never passed on. What is
//! confirmed is an entry: a read is fresh once the state here holds it.
//!
//! Raft is asked by the gate's own task and never by a reader, who may be cut off at any moment:
//! openraft does not bear that while it stops.

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::contacts::Contacts;
use super::machine::Machine;
use super::messages::{Answer, Question};
use super::types::{TypeConfig, entry_id};
use super::vital::Vital;
use crate::error::{Error, Result};
use crate::limits::{READ_INDEX_MAX, READS_WAITING_MAX};
use crate::store::log::EntryId;
use crate::types::{GroupId, NodeId};
use crate::wire::StreamKind;

type Raft = openraft::Raft<TypeConfig, Machine>;
type Confirmed = Result<EntryId, NotConfirmed>;

/// Why a read could not be confirmed.
#[derive(Clone, Debug)]
pub(super) enum NotConfirmed {
    /// This replica does not lead.
    NotLeader { leader: Option<NodeId> },
    /// Whoever leads could not make sure of it.
    Unsure { reason: String },
}

/// Who may confirm a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    /// This replica, if it leads.
    Itself,
    /// This replica or the one that leads.
    Leader,
}

/// Someone who waits for a confirmation.
#[derive(Debug)]
struct Reader {
    by: By,
    answer: oneshot::Sender<Confirmed>,
}

/// Where a group's reads of one policy wait.
#[derive(Clone, Debug)]
pub(super) struct ReadGate {
    group: GroupId,
    queue: mpsc::Sender<Reader>,
}

impl ReadGate {
    /// Starts the confirming task of a group.
    pub(super) fn start(
        group: GroupId,
        raft: Raft,
        policy: ReadPolicy,
        contacts: Contacts,
        vital: &Vital,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(READS_WAITING_MAX);
        vital.spawn("gate of reads", confirm_for_all(raft, policy, contacts, waiting));
        ReadGate { group, queue }
    }

    /// The entry that a state must hold to have every write that was acknowledged before the
    /// call, as far as the gate's policy can tell.
    pub(super) async fn pass(&self, by: By) -> Result<Confirmed> {
        let (answer, confirmed) = oneshot::channel();
        self.queue.try_send(Reader { by, answer }).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => {
                Error::Busy { what: "the queue of reads", retry_after_ms: 100 }
            }
            mpsc::error::TrySendError::Closed(_) => {
                Error::Unavailable { group: self.group, reason: "it is stopping".into() }
            }
        })?;
        let stopped = || Err(NotConfirmed::Unsure { reason: "the group stopped".into() });
        Ok(confirmed.await.unwrap_or_else(|_| stopped()))
    }
}

async fn confirm_for_all(
    raft: Raft,
    policy: ReadPolicy,
    contacts: Contacts,
    mut waiting: mpsc::Receiver<Reader>,
) {
    let mut readers = Vec::new();
    while waiting.recv_many(&mut readers, READS_WAITING_MAX).await > 0 {
        let here = confirm(&raft, policy.clone()).await;
        let asks = readers.iter().any(|reader| reader.by == By::Leader);
        let there = match &here {
            Err(NotConfirmed::NotLeader { leader: Some(leader) })
                if asks && leader.0 != *raft.node_id() =>
            {
                ask_leader(&contacts, *leader).await
            }
            here => here.clone(),
        };
        for Reader { by, answer } in readers.drain(..) {
            // A reader that gave up is not there to be told.
            let _ = answer.send(match by {
                By::Itself => here.clone(),
                By::Leader => there.clone(),
            });
        }
    }
}

/// Makes sure of leadership.
async fn confirm(raft: &Raft, policy: ReadPolicy) -> Confirmed {
    match raft.get_read_linearizer(policy).await {
        Ok(linearizer) => Ok(entry_id(linearizer.read_log_id().log_id())),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            Err(NotConfirmed::NotLeader { leader: forward.leader_id.map(NodeId) })
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error))) => {
            Err(NotConfirmed::Unsure { reason: error.to_string() })
        }
        Err(RaftError::Fatal(fatal)) => Err(NotConfirmed::Unsure { reason: fatal.to_string() }),
    }
}

/// Has the leader make sure.
pub(super) async fn ask_leader(contacts: &Contacts, leader: NodeId) -> Confirmed {
    let deadline = Instant::now() + READ_INDEX_MAX;
    let kind = StreamKind::ReadIndex;
    let unsure = |reason: String| {
        Err(NotConfirmed::Unsure { reason: format!("its leader, node {leader}: {reason}") })
    };
    match contacts.ask(leader, kind, Question::ReadIndex, deadline).await {
        Ok(Answer::ReadIndex(id)) => Ok(id),
        Ok(Answer::NotLeader(leader)) => Err(NotConfirmed::NotLeader { leader }),
        Ok(Answer::Unavailable(reason)) => unsure(reason),
        Ok(_) => unsure("it answered something else".into()),
        Err(failed) => unsure(failed.to_string()),
    }
}
