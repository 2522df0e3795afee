//! What a group must do by itself, without being asked.
//!
//! The leader ends leases whose time is up and drives a compaction to its end; every replica
//! moves what it wrote from memory to its state file, checkpoints that and lets go of the log
//! before it. The keepers sleep until one of these is due.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::hub::Hub;
use super::leases::LeaseClock;
use super::machine::Machine;
use super::types::{LeaderId, Proposal, TypeConfig};
use super::vital::Vital;
use crate::limits::{
    CHECKPOINT_LOG_BYTES, CHECKPOINT_LOG_ENTRIES, CHECKPOINT_LOG_SEGMENTS, CHECKPOINT_LOOK,
};
use crate::machine::ops::{Action, Command};
use crate::seams;
use crate::seams::failpoint::Failpoint;
use crate::store::log::{GroupLog, Stats};
use crate::store::state::State;
use crate::types::GroupId;

type Raft = openraft::Raft<TypeConfig, Machine>;

/// How long to wait before trying again what the group could not do.
const RETRY: Duration = Duration::from_millis(500);
/// How long to wait for an answer, or for a checkpoint, before trying again.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// When nothing is due.
const FAR: Duration = Duration::from_secs(24 * 3_600);

/// Keeps a group's leases and compactions.
pub(super) struct Keeper {
    pub(super) group: GroupId,
    pub(super) raft: Raft,
    pub(super) hub: Arc<Hub>,
    pub(super) leases: Arc<LeaseClock>,
}

impl Keeper {
    /// Keeps the group until its Raft stops.
    pub(super) async fn run(self) {
        let mut metrics = self.raft.server_metrics();
        let mut leading: Option<LeaderId> = None;
        loop {
            let leads = self.leads();
            // Another term is another leadership, even if nothing was seen of the time between:
            // another leader may have kept leases alive then.
            if leads != leading {
                leading = leads;
                self.leases.set_leading(leading);
                tracing::info!(
                    group = self.group.0,
                    leading = leading.is_some(),
                    "leadership changed"
                );
            }
            let Some(leader) = leading else {
                if metrics.changed().await.is_err() {
                    return;
                }
                continue;
            };
            let due = self.leases.next_due().unwrap_or_else(|| Instant::now() + FAR);
            tokio::select! {
                biased;
                changed = metrics.changed() => if changed.is_err() { return },
                () = self.leases.changed.notified() => {}
                () = sleep_until(due) => self.expire(leader).await,
                () = self.hub.compacting.notified() => self.compact(leader).await,
            }
        }
    }

    /// As whom this replica leads, if it does.
    fn leads(&self) -> Option<LeaderId> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let leads = metrics.current_leader == Some(*self.raft.node_id());
        let LeaderId { term, node_id } = metrics.vote.leader_id;
        leads.then_some(LeaderId { term, node_id })
    }

    /// Resolves when this replica does not lead as this, or Raft has stopped.
    async fn lead_ends(&self, leader: LeaderId) {
        let mut metrics = self.raft.server_metrics();
        while self.leads() == Some(leader) {
            if metrics.changed().await.is_err() {
                return;
            }
        }
    }

    /// Ends the leases whose time is up.
    async fn expire(&self, leader: LeaderId) {
        let ids = self.leases.take_due();
        if ids.is_empty() {
            return;
        }
        Failpoint::BeforeExpired.pass();
        self.propose(leader, Action::LeaseExpire { ids: ids.clone() }).await;
        // One command ends only as many leases as it may delete keys: the rest come again.
        self.leases.retry_due(&ids);
    }

    /// Removes more of what a compaction left. The answer says if there is still more, and the
    /// hub, which sees all answers, then wakes the keeper again.
    async fn compact(&self, leader: LeaderId) {
        Failpoint::BeforeCompacted.pass();
        if !self.propose(leader, Action::CompactStep).await {
            self.hub.compacting.notify_one();
        }
    }

    /// True if the command was applied; otherwise waits a moment, for the caller to try again. It waits
    /// for nothing once another leads, or this replica in another term. The command is appended only in
    /// the term for which it was decided: in a later one the leases are armed anew.
    async fn propose(&self, leader: LeaderId, action: Action) -> bool {
        let (responder, answered) =
            ProgressResponder::<TypeConfig, ClientWriteResult<TypeConfig>>::complete_only();
        let proposed = match Proposal::new(&Command { session: None, action }) {
            Ok(command) => {
                self.raft.write(command).with_leader(leader).responder(responder).await.is_ok()
            }
            Err(error) => {
                tracing::error!(group = self.group.0, %error, "a command can't be encoded");
                false
            }
        };
        let applied = async {
            let applied = proposed && matches!(timeout(ANSWER_MAX, answered).await, Ok(Ok(Ok(_))));
            if !applied {
                sleep(RETRY).await;
            }
            applied
        };
        tokio::select! {
            biased;
            applied = applied => applied,
            () = self.lead_ends(leader) => false,
        }
    }
}

/// Moves what was written from memory to the state file.
pub(super) struct Settling {
    pub(super) state: State,
    pub(super) due: Arc<Notify>,
}

impl Settling {
    /// Settles when it is due; ends when the file can't be written, which also breaks the replica.
    pub(super) async fn run(self, vital: Vital) {
        loop {
            self.due.notified().await;
            let (state, token) = (self.state.clone(), vital.tasks().token());
            let settle = move || {
                // The replica's end waits for it, also when this task was cut off meanwhile.
                let _token = token;
                state.settle()
            };
            if let Err(error) = seams::blocking(settle).await {
                return vital.fails(error);
            }
        }
    }
}

/// Checkpoints a replica's state and purges its log.
pub(super) struct Checkpoints {
    pub(super) raft: Raft,
    pub(super) log: GroupLog,
    pub(super) state: State,
    pub(super) due: Arc<Notify>,
}

/// Whether a group that writes little keeps a segment for the sake of a few entries.
fn is_old(held: Stats) -> bool {
    held.age_segments > CHECKPOINT_LOG_SEGMENTS
}

impl Checkpoints {
    /// Checkpoints when enough was applied, and purges the log up to the checkpoint before: what
    /// lies between lets a slow follower catch up without a snapshot. Ends when Raft stops.
    pub(super) async fn run(self) {
        let mut before = self.durable_index();
        // A node that is restarted often would otherwise purge nothing.
        let held = self.log.stats();
        let is_long = held.entries >= CHECKPOINT_LOG_ENTRIES || held.bytes >= CHECKPOINT_LOG_BYTES;
        if (is_long || is_old(held)) && !self.purge(before).await {
            return;
        }
        loop {
            let is_due = timeout(CHECKPOINT_LOOK, self.due.notified()).await.is_ok();
            if !is_due && !is_old(self.log.stats()) {
                continue;
            }
            let applied = self.state.applied_id().map(|id| id.index);
            while self.durable_index() < applied {
                if !self.checkpoint(applied).await {
                    return;
                }
            }
            if !is_due {
                before = self.durable_index();
            }
            if !self.purge(before).await {
                return;
            }
            before = self.durable_index();
        }
    }

    fn durable_index(&self) -> Option<u64> {
        self.state.durable_id().map(|id| id.index)
    }

    /// Asks for a checkpoint and waits until there is one, or it is time to ask again: Raft passes
    /// over a request that comes while it has another under way. False if Raft has stopped.
    async fn checkpoint(&self, wanted: Option<u64>) -> bool {
        let mut metrics = self.raft.metrics();
        if self.raft.trigger().snapshot().await.is_err() {
            return false;
        }
        let taken = async {
            while metrics.borrow_watched().snapshot.as_ref().map(|id| id.index) < wanted {
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(ANSWER_MAX, taken).await.unwrap_or(true)
    }

    /// Lets go of the log up to an entry. False if Raft has stopped.
    async fn purge(&self, upto: Option<u64>) -> bool {
        match upto {
            Some(upto) => self.raft.trigger().purge_log(upto).await.is_ok(),
            None => true,
        }
    }
}
