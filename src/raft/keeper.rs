//! What a group must do by itself, without being asked.
//!
//! The leader ends leases whose time is up and drives a compaction to its end; every replica
//! checkpoints its state and lets go of the log before it. The keeper sleeps until one of these
//! is due.

use std::sync::Arc;
use std::time::Duration;

use openraft::async_runtime::WatchReceiver;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::hub::Hub;
use super::leases::LeaseClock;
use super::machine::Machine;
use super::proposals::Proposals;
use super::types::TypeConfig;
use crate::machine::ops::{Action, Command};
use crate::seams::Tasks;
use crate::store::log::EntryId;
use crate::store::state::State;
use crate::types::GroupId;

type Raft = openraft::Raft<TypeConfig, Machine>;

/// How long to wait before trying again what the group could not do.
const RETRY: Duration = Duration::from_millis(500);
/// When nothing is due.
const FAR: Duration = Duration::from_secs(24 * 3_600);

/// One group's keeper.
pub(super) struct Keeper {
    pub(super) group: GroupId,
    pub(super) raft: Raft,
    pub(super) state: State,
    pub(super) hub: Arc<Hub>,
    pub(super) leases: Arc<LeaseClock>,
    pub(super) proposals: Proposals,
    pub(super) checkpoint_due: Arc<Notify>,
    pub(super) tasks: Tasks,
}

impl Keeper {
    /// Keeps the group until its Raft stops.
    pub(super) async fn run(self) {
        self.tasks.spawn(checkpoints(
            self.raft.clone(),
            self.state.clone(),
            self.checkpoint_due.clone(),
        ));
        let mut metrics = self.raft.server_metrics();
        let mut leading = false;
        loop {
            let leads = metrics.borrow_watched().current_leader == Some(*self.raft.node_id());
            if leads != leading {
                leading = leads;
                self.leases.set_leading(leading);
                // A compaction that an earlier leader left unfinished is taken up.
                self.hub.compacting.notify_one();
                tracing::info!(group = %self.group, leading, "leadership changed");
            }
            let due = match self.leases.next_due() {
                Some(deadline) if leading => deadline,
                _ => Instant::now() + FAR,
            };
            tokio::select! {
                biased;
                changed = metrics.changed() => if changed.is_err() { return },
                () = self.leases.changed.notified() => {}
                () = sleep_until(due) => self.expire().await,
                () = self.hub.compacting.notified(), if leading => self.compact().await,
            }
        }
    }

    /// Ends the leases whose time is up.
    async fn expire(&self) {
        let ids = self.leases.take_due();
        if ids.is_empty() {
            return;
        }
        self.propose(Action::LeaseExpire { ids: ids.clone() }).await;
        // One command ends only as many leases as it may delete keys: the rest come again.
        self.leases.retry_due(&ids);
    }

    /// Removes more of what a compaction left. The answer says if there is still more, and the
    /// hub, which sees all answers, then wakes the keeper again.
    async fn compact(&self) {
        if !self.propose(Action::CompactStep).await {
            self.hub.compacting.notify_one();
        }
    }

    /// True if the command was applied; otherwise waits a moment, for the caller to try again.
    async fn propose(&self, action: Action) -> bool {
        let done = self.proposals.propose(Command { session: None, action }).await;
        let applied = matches!(done, Ok(Ok(_)));
        if !applied {
            sleep_until(Instant::now() + RETRY).await;
        }
        applied
    }
}

/// Checkpoints when enough was applied, and purges the log up to the checkpoint before: what lies
/// between lets a slow follower catch up without a snapshot.
async fn checkpoints(raft: Raft, state: State, due: Arc<Notify>) {
    let mut before: Option<EntryId> = state.durable_id();
    let mut snapshots = raft.metrics();
    loop {
        due.notified().await;
        if raft.trigger().snapshot().await.is_err() {
            return;
        }
        let taken = before.map(|id| id.index);
        let is_newer = |state: &State| state.durable_id().map(|id| id.index) > taken;
        while !is_newer(&state) {
            if snapshots.changed().await.is_err() {
                return;
            }
        }
        if let Some(before) = before
            && raft.trigger().purge_log(before.index).await.is_err()
        {
            return;
        }
        before = state.durable_id();
    }
}
