//! The groups of this node: one supervised part for each replica, and the handles to them.
//!
//! A group's part opens its replica, publishes it in the group's slot and ends when the replica
//! can't go on, so that the supervisor starts it again. Operations never pass through the part:
//! they take the replica from the slot.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use super::health::HealthBoard;
use super::service::service_part;
use super::supervisor::{ChildSpec, Family};
use crate::error::{Error, Result};
use crate::health::Part;
use crate::raft::Replica;
use crate::status::GroupStatus;
use crate::types::GroupId;

const STOPPING: &str = "the node is stopping";

/// Handles to the node's groups, good across restarts of the groups; clones are the same.
#[derive(Clone, Debug)]
pub struct Groups {
    /// Where each group's running replica is found.
    slots: Arc<BTreeMap<GroupId, watch::Sender<Place>>>,
    /// Cancelled when the groups stop for good.
    stopped: CancellationToken,
}

#[derive(Clone, Debug)]
enum Place {
    Starting,
    Running(Replica),
    /// It failed and is started again in a while, or the node stops.
    Down(Error),
}

impl Groups {
    /// Handles to groups that are still to be started.
    pub fn new(groups: impl IntoIterator<Item = GroupId>) -> Self {
        let slot = |group| (group, watch::Sender::new(Place::Starting));
        let slots = Arc::new(groups.into_iter().map(slot).collect());
        Groups { slots, stopped: CancellationToken::new() }
    }

    /// The group's replica, waiting until a deadline for one that is starting. An error is final:
    /// the deadline has passed, or waiting does not help.
    pub async fn replica(&self, group: GroupId, deadline: Instant) -> Result<Replica> {
        let unavailable = |reason: &str| Error::Unavailable { group, reason: reason.into() };
        let Some(slot) = self.slots.get(&group) else {
            return Err(unavailable("it is not on this node"));
        };
        let mut place = slot.subscribe();
        loop {
            if self.stopped.is_cancelled() {
                return Err(unavailable(STOPPING));
            }
            let waiting_for = match &*place.borrow_and_update() {
                Place::Running(replica) => return Ok(replica.clone()),
                // Damage does not heal by waiting; anything else may.
                Place::Down(error @ Error::Corrupt(_)) => return Err(error.clone()),
                Place::Down(error) => error.clone(),
                Place::Starting => unavailable("it is still starting"),
            };
            // The slot's sender lives as long as this handle.
            let moved = self.stopped.run_until_cancelled(place.changed());
            if timeout_at(deadline, moved).await.is_err() {
                return Err(waiting_for);
            }
        }
    }

    /// Whether they have stopped for good.
    pub fn are_stopped(&self) -> bool {
        self.stopped.is_cancelled()
    }

    /// The replica of a group, if it runs at the moment.
    pub fn get(&self, group: GroupId) -> Option<Replica> {
        match &*self.slots.get(&group)?.borrow() {
            Place::Running(replica) => Some(replica.clone()),
            Place::Starting | Place::Down(_) => None,
        }
    }

    /// The replicas that run at the moment.
    pub fn running(&self) -> Vec<(GroupId, Replica)> {
        let running = self.slots.iter().filter_map(|(group, slot)| match &*slot.borrow() {
            Place::Running(replica) => Some((*group, replica.clone())),
            Place::Starting | Place::Down(_) => None,
        });
        running.collect()
    }

    /// What they do; those that don't run are stopped.
    pub fn statuses(&self) -> Vec<GroupStatus> {
        let status = |(group, slot): (&GroupId, &watch::Sender<Place>)| match &*slot.borrow() {
            Place::Running(replica) => replica.status(),
            Place::Starting | Place::Down(_) => GroupStatus::stopped(*group),
        };
        self.slots.iter().map(status).collect()
    }

    fn ids(&self) -> Vec<GroupId> {
        self.slots.keys().copied().collect()
    }
}

/// Opens a group's replica, at each start of the group.
pub type OpenReplica = Arc<dyn Fn(GroupId) -> BoxFuture<'static, Result<Replica>> + Send + Sync>;

/// The supervised part that runs all groups.
pub(super) fn groups_part(groups: &Groups, open: OpenReplica, board: &HealthBoard) -> ChildSpec {
    let children = groups
        .ids()
        .into_iter()
        .map(|group| {
            let part = GroupPart { group, groups: groups.clone(), board: board.clone() };
            let open = open.clone();
            let run = move |stop| {
                let (part, open) = (part.clone(), open.clone());
                Box::pin(async move { part.run(open, stop).await }) as _
            };
            service_part(part_name(group), Arc::new(run)).reports_itself()
        })
        .collect();
    let (lost, stopped) = (watch::Sender::new(None), groups.stopped.clone());
    Family { children, board: board.clone(), lost, stopped }.spec("groups")
}

fn part_name(group: GroupId) -> String {
    format!("group {group}")
}

/// One group's part of the tree.
#[derive(Clone, Debug)]
struct GroupPart {
    group: GroupId,
    groups: Groups,
    board: HealthBoard,
}

impl GroupPart {
    /// Says that the group serves, or why it does not.
    fn say(&self, trouble: Option<&str>) {
        let name = part_name(self.group);
        self.board.say(match trouble {
            None => Part::healthy(name),
            Some(why) => Part::unhealthy(name, why),
        });
    }

    fn put(&self, place: Place) {
        if let Some(slot) = self.groups.slots.get(&self.group) {
            slot.send_replace(place);
        }
        self.board.show_groups(self.groups.statuses());
    }

    async fn run(self, open: OpenReplica, stop: CancellationToken) -> Result<(), String> {
        self.put(Place::Starting);
        // Not cut short by a stop: a Raft that is half open would have no owner.
        let replica = match open(self.group).await {
            Ok(replica) => replica,
            Err(error) => {
                self.put(Place::Down(error.clone()));
                return Err(error.to_string());
            }
        };
        self.put(Place::Running(replica.clone()));
        match self.attend(&replica, &stop).await {
            None => {
                self.say(Some(STOPPING));
                let reason = STOPPING.into();
                self.put(Place::Down(Error::Unavailable { group: self.group, reason }));
                replica.stop().await;
                Ok(())
            }
            Some(error) => {
                self.say(Some(&error.to_string()));
                self.put(Place::Down(error.clone()));
                replica.abandon().await;
                Err(error.to_string())
            }
        }
    }

    /// Reports who leads until the group fails (the error) or is to stop (`None`).
    async fn attend(&self, replica: &Replica, stop: &CancellationToken) -> Option<Error> {
        let mut leadership = replica.leadership();
        let failed = replica.failed();
        tokio::pin!(failed);
        loop {
            let status = replica.status();
            self.say(status.leader.is_none().then_some("it has no leader at the moment"));
            self.board.show_groups(self.groups.statuses());
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                error = &mut failed => return Some(error),
                () = leadership.changed() => {}
            }
        }
    }
}
