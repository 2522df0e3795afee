//! Fresh reads: one confirmation of leadership serves all who wait for it.
//!
//! A reader may share only a confirmation that begins after the reader came. Those that come
//! while one is under way wait together for the next. Raft is asked by the gate's own task and
//! never by a reader, who may be cut off at any moment: openraft does not bear that while it
//! stops.

use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};

use super::machine::Machine;
use super::types::TypeConfig;
use super::vital::Vital;
use crate::error::{Error, Result};
use crate::limits::READS_WAITING_MAX;
use crate::types::{GroupId, NodeId};

type Raft = openraft::Raft<TypeConfig, Machine>;
type Confirmed = Result<(), NotConfirmed>;

/// Why a read could not be confirmed.
#[derive(Clone, Debug)]
pub(super) enum NotConfirmed {
    /// This replica does not lead.
    NotLeader { leader: Option<NodeId> },
    /// It may lead, but could not make sure.
    Unsure { reason: String },
}

/// Where a group's reads of one policy wait.
#[derive(Clone, Debug)]
pub(super) struct ReadGate {
    group: GroupId,
    queue: mpsc::Sender<oneshot::Sender<Confirmed>>,
}

impl ReadGate {
    /// Starts the confirming task of a group.
    pub(super) fn start(group: GroupId, raft: Raft, policy: ReadPolicy, vital: &Vital) -> Self {
        let (queue, waiting) = mpsc::channel(READS_WAITING_MAX);
        vital.spawn("gate of reads", confirm_for_all(raft, policy, waiting));
        ReadGate { group, queue }
    }

    /// Returns once the state holds every write that was acknowledged before the call, as far as
    /// the gate's policy can tell.
    pub(super) async fn pass(&self) -> Result<Confirmed> {
        let (reader, confirmed) = oneshot::channel();
        self.queue.try_send(reader).map_err(|error| match error {
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
    mut waiting: mpsc::Receiver<oneshot::Sender<Confirmed>>,
) {
    let mut readers = Vec::new();
    while waiting.recv_many(&mut readers, READS_WAITING_MAX).await > 0 {
        let confirmed = confirm(&raft, policy.clone()).await;
        for reader in readers.drain(..) {
            // A reader that gave up is not there to be told.
            let _ = reader.send(confirmed.clone());
        }
    }
}

/// Makes sure of leadership and waits until the state is as new as that moment.
async fn confirm(raft: &Raft, policy: ReadPolicy) -> Confirmed {
    match raft.ensure_linearizable(policy).await {
        Ok(_) => Ok(()),
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            Err(NotConfirmed::NotLeader { leader: forward.leader_id.map(NodeId) })
        }
        Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(error))) => {
            Err(NotConfirmed::Unsure { reason: error.to_string() })
        }
        Err(RaftError::Fatal(fatal)) => Err(NotConfirmed::Unsure { reason: fatal.to_string() }),
    }
}
