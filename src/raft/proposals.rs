//! From many callers to few steps of Raft.
//!
//! A proposal takes a count permit and a byte permit and keeps both until it is answered, so what
//! waits is bounded whatever the callers do. Proposals that arrive while earlier ones are on
//! their way enter Raft together.

use std::collections::VecDeque;
use std::sync::Arc;

use futures_util::StreamExt;
use openraft::alias::LogIdOf;
use openraft::errors::{ClientWriteError, ForwardToLeader};
use openraft::raft::WriteResult;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::timeout;

use super::company::take_others;
use super::counts::GroupCounts;
use super::machine::Machine;
use super::rounds::Rounds;
use super::types::{Proposal, TypeConfig};
use super::vital::Vital;
use crate::error::{Error, Result};
use crate::limits::*;
use crate::machine::ops::Outcome;
use crate::seams::Tasks;
use crate::types::{GroupId, NodeId};

type Raft = openraft::Raft<TypeConfig, Machine>;

/// Where a group's proposals enter.
#[derive(Clone, Debug)]
pub(super) struct Proposals {
    group: GroupId,
    queue: mpsc::Sender<Waiting>,
    count: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    counts: Arc<GroupCounts>,
}

/// A proposal and who waits for it.
#[derive(Debug)]
struct Waiting {
    proposal: Proposal,
    answer: Answer,
}

/// Answering gives the proposal's permits back.
#[derive(Debug)]
struct Answer {
    to: oneshot::Sender<Result<Outcome, NoAnswer>>,
    _permits: (OwnedSemaphorePermit, OwnedSemaphorePermit),
}

/// Why a proposal has no outcome.
#[derive(Clone, Debug)]
pub(super) enum NoAnswer {
    /// It was not appended: this replica does not lead.
    NotLeader { leader: Option<NodeId> },
    /// It may have been appended.
    Unknown { reason: String },
}

impl Proposals {
    /// Starts the gathering task of a group.
    pub(super) fn start(
        group: GroupId,
        raft: Raft,
        rounds: Rounds,
        counts: Arc<GroupCounts>,
        vital: &Vital,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(PROPOSALS_MAX);
        let gathering = gather(raft, waiting, rounds, vital.tasks().clone());
        vital.spawn("gathering of proposals", gathering);
        Proposals {
            group,
            queue,
            count: Arc::new(Semaphore::new(PROPOSALS_MAX)),
            bytes: Arc::new(Semaphore::new(PROPOSAL_BYTES_MAX)),
            counts,
        }
    }

    /// Proposes a command and waits for what it comes to.
    pub(super) async fn propose(&self, proposal: Proposal) -> Result<Result<Outcome, NoAnswer>> {
        let bytes = proposal.len().clamp(1, PROPOSAL_BYTES_MAX) as u32;
        let permits = timeout(PROPOSE_ADMIT, async {
            let count = self.count.clone().acquire_owned().await;
            let bytes = self.bytes.clone().acquire_many_owned(bytes).await;
            (count, bytes)
        });
        let permits = match permits.await {
            Ok((Ok(count), Ok(bytes))) => (count, bytes),
            Ok(_) => return Err(self.stopped()),
            Err(_elapsed) => {
                self.counts.refused.one();
                return Err(Error::Busy {
                    what: "the queue of proposals",
                    retry_after_ms: PROPOSE_ADMIT.as_millis() as u64,
                });
            }
        };
        self.counts.proposals.one();
        let (to, answer) = oneshot::channel();
        let waiting = Waiting { proposal, answer: Answer { to, _permits: permits } };
        // There is a place: the queue is as long as there are count permits.
        self.queue.send(waiting).await.map_err(|_| self.stopped())?;
        Ok(answer.await.unwrap_or_else(|_| Err(unknown("the group stopped"))))
    }

    /// How many wait for their answers.
    pub(super) fn waiting(&self) -> usize {
        PROPOSALS_MAX - self.count.available_permits()
    }

    fn stopped(&self) -> Error {
        Error::Unavailable { group: self.group, reason: "it is stopping".into() }
    }
}

fn unknown(reason: &str) -> NoAnswer {
    NoAnswer::Unknown { reason: reason.into() }
}

/// Takes all that come together, hands them to Raft in one step, and goes on; a few steps may be
/// under way at once.
async fn gather(raft: Raft, mut waiting: mpsc::Receiver<Waiting>, rounds: Rounds, tasks: Tasks) {
    let steps = Arc::new(Semaphore::new(PROPOSE_BATCHES_MAX));
    let mut batch = Vec::new();
    while let Ok(step) = steps.clone().acquire_owned().await {
        let Some(first) = waiting.recv().await else { return };
        batch.push(first);
        let round = rounds.begin().await;
        take_others(&mut waiting, &mut batch, PROPOSE_BATCH_MAX).await;
        let (proposals, answers): (Vec<_>, VecDeque<_>) =
            batch.drain(..).map(|Waiting { proposal, answer }| (proposal, answer)).unzip();
        match raft.client_write_many(proposals).await {
            Ok(results) => {
                tasks.spawn(async move {
                    distribute(results, answers).await;
                    drop((step, round));
                });
            }
            // Raft has stopped; it may or may not have taken the batch.
            Err(fatal) => fail(answers, &fatal.to_string()),
        }
    }
}

/// Hands each result to whoever waits for it; results come in the order of the proposals.
async fn distribute<E: std::fmt::Display>(
    mut results: impl futures_util::Stream<Item = Result<WriteResult<TypeConfig>, E>> + Unpin,
    mut answers: VecDeque<Answer>,
) {
    while !answers.is_empty() {
        let result = match results.next().await {
            Some(Ok(result)) => result,
            Some(Err(fatal)) => return fail(answers, &fatal.to_string()),
            None => return fail(answers, "the group stopped"),
        };
        let Some(answer) = answers.pop_front() else { return };
        // A caller that gave up is not there to be told.
        let _ = answer.to.send(outcome(result));
    }
}

fn fail(answers: VecDeque<Answer>, reason: &str) {
    for answer in answers {
        let _ = answer.to.send(Err(unknown(reason)));
    }
}

fn outcome(result: WriteResult<TypeConfig>) -> Result<Outcome, NoAnswer> {
    match result {
        Ok(written) => match written.response.0 {
            Some(outcome) => Ok(outcome),
            None => Err(unanswered(&written.log_id)),
        },
        Err(ClientWriteError::ForwardToLeader(ForwardToLeader { leader_id, .. })) => {
            Err(NoAnswer::NotLeader { leader: leader_id.map(NodeId) })
        }
        Err(other) => Err(unknown(&other.to_string())),
    }
}

/// A command is always answered by the machine; Raft's own entries are proposed by Raft alone.
fn unanswered(id: &LogIdOf<TypeConfig>) -> NoAnswer {
    unknown(&format!("entry {} was applied without an answer", id.index))
}
