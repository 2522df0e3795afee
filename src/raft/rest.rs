//! Groups that sleep: where nothing happens a group's clock stops, on all of its replicas, and with
//! it heartbeats and elections. What is left is memory, and where there are many of them that is given
//! up too: the replica is put away, which is to say stopped, and opened again when it is touched.
//!
//! A leader whose group has had nothing to do for a while asks the others whether they have all that
//! it has; when each has stopped its clock, it stops its own. Whatever touches a replica (a write, a
//! read that must be fresh, a change, a message of another replica) starts its clock again, and a
//! leader's clock sends heartbeats, which start the others'. A sleeping replica does not notice that
//! its leader is gone: whoever knows that the leader's node can't be reached touches it.
//!
//! Who wakes does not know whether its leader is still there, and its patience with it is long over. So
//! it stands for election only when that has had the time to show itself; a replica that is woken
//! because its leader is gone stands at once.
//!
//! Nothing rests on the clock that must be right: a lease that was not renewed is over, and who
//! reads or writes asks the others first.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use super::replica::Replica;
use crate::status::Role;
use crate::store::space::Room;
use crate::types::{GroupId, NodeId};

/// Whether a replica sleeps, and what it would sleep through.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// Counts what touches it.
    touches: AtomicU64,
    /// Whether somebody read here or wrote since it was opened.
    is_used: Arc<AtomicBool>,
    is_asleep: AtomicBool,
    clock: Mutex<Clock>,
    /// Told when it falls asleep.
    slept: Notify,
    /// Told when the node would rather have it put away.
    unneeded: Notify,
}

/// Held while a replica's clock is stopped or started.
#[derive(Debug, Default)]
struct Clock {
    stands_since: Option<Instant>,
    /// It is stopped for good: the replica is put away.
    is_taken: bool,
}

impl Rest {
    /// To be set by whatever else uses the replica.
    pub(super) fn used(&self) -> Arc<AtomicBool> {
        self.is_used.clone()
    }

    fn clock(&self) -> MutexGuard<'_, Clock> {
        self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group that may sleep: its leader is there, and all have the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quiet {
    /// The group.
    pub group: GroupId,
    /// The term that its leader leads in.
    pub term: u64,
    /// The last entry, which all have applied.
    pub last: u64,
}

impl Replica {
    /// Starts the replica's clock if it sleeps; true if it did.
    pub fn touch(&self) -> bool {
        let rest = self.rest();
        rest.touches.fetch_add(1, Ordering::SeqCst);
        if !rest.is_asleep.load(Ordering::SeqCst) {
            return false;
        }
        let was_asleep = self.start_clock(false);
        if was_asleep {
            let replica = self.clone();
            self.tasks().spawn(async move {
                sleep(replica.patience()).await;
                replica.stand_from_here_on();
            });
        }
        was_asleep
    }

    /// The same where its leader is gone.
    pub fn touch_without_leader(&self) {
        self.rest().touches.fetch_add(1, Ordering::SeqCst);
        self.start_clock(true);
    }

    fn start_clock(&self, stands: bool) -> bool {
        let rest = self.rest();
        let mut held = rest.clock();
        if held.is_taken {
            return false;
        }
        let was_asleep = rest.is_asleep.swap(false, Ordering::SeqCst);
        if was_asleep {
            tracing::debug!(group = self.group().0, stands, "a group that slept wakes");
            held.stands_since = None;
            let clock = self.raft().runtime_config();
            clock.elect(stands && !self.behind().is_so());
            clock.tick(true);
        }
        was_asleep
    }

    pub(super) fn stand_from_here_on(&self) {
        let rest = self.rest();
        let _held = rest.clock();
        if !rest.is_asleep.load(Ordering::SeqCst) && !self.behind().is_so() {
            self.raft().runtime_config().elect(true);
        }
    }

    /// Whether its clock stands still.
    pub fn is_asleep(&self) -> bool {
        self.rest().is_asleep.load(Ordering::SeqCst)
    }

    /// Since when its clock stands still.
    pub fn asleep_since(&self) -> Option<Instant> {
        self.rest().clock().stands_since
    }

    /// Whether it sleeps for so short a time that what its leader sent before may still come in.
    pub(super) fn fell_asleep_just_now(&self) -> bool {
        self.asleep_since().is_some_and(|since| since.elapsed() < self.patience())
    }

    /// Notes that somebody reads here; what is written is noted where it is logged.
    pub(super) fn note_use(&self) {
        self.rest().is_used.store(true, Ordering::Relaxed);
    }

    /// Whether somebody used the group since the replica was opened, as far as can be seen here.
    pub fn is_used(&self) -> bool {
        self.rest().is_used.load(Ordering::Relaxed)
    }

    /// Asks whoever runs it to put it away, if it sleeps, nobody watches it, and there is room to
    /// write down what it holds in memory.
    pub fn offer_to_put_away(&self) {
        if self.is_asleep() && !self.is_watched() && self.room() != Room::Full {
            self.rest().unneeded.notify_one();
        }
    }

    /// Resolves when it has fallen asleep since this was asked last.
    pub async fn slept(&self) {
        self.rest().slept.notified().await;
    }

    /// Resolves when it is to be put away.
    pub async fn unneeded(&self) {
        self.rest().unneeded.notified().await;
    }

    /// Takes its clock, so that nothing wakes it any more; false if it does not sleep. Whoever has a
    /// handle to it still is told that it is stopping, and finds it anew.
    pub fn take_clock(&self) -> bool {
        let mut held = self.rest().clock();
        held.is_taken |= self.is_asleep();
        held.is_taken
    }

    /// Stands for election at once, if the others would have it lead: it led when it was put away.
    pub async fn stand(&self) {
        // One that has failed meanwhile says so itself.
        let _ = self.raft().trigger().elect(true).await;
    }

    /// How often it was touched: who has looked twice knows whether something happened.
    pub fn touches(&self) -> u64 {
        self.rest().touches.load(Ordering::SeqCst)
    }

    /// The group as its leader sees it, if it may sleep: nobody lags, no lease runs, and no change is
    /// under way.
    pub fn quiet(&self) -> Option<Quiet> {
        let status = self.status();
        let members = self.members();
        let last = status.last_log_index;
        let progress = self.progress();
        let others = members.voters.union(&members.learners).filter(|node| **node != self.node());
        let has_all = |node: &NodeId| progress.get(node) == Some(&last);
        let is_quiet = status.role == Role::Leader
            && status.applied_index == last
            && !members.is_joint
            && members.is_committed
            && !self.has_leases()
            && others.into_iter().all(has_all);
        is_quiet.then_some(Quiet { group: status.group, term: status.term, last })
    }

    /// Falls asleep at its leader's word, if it is as its leader says; false if not.
    pub fn sleep_as(&self, quiet: &Quiet, leader: NodeId) -> bool {
        let touches = self.touches();
        let status = self.status();
        let is_so = status.term == quiet.term
            && status.leader == Some(leader)
            && status.last_log_index == quiet.last
            && status.applied_index == quiet.last;
        is_so && self.fall_asleep(touches)
    }

    /// Stops the replica's clock unless it was touched since; false if it was.
    pub fn fall_asleep(&self, touches: u64) -> bool {
        let rest = self.rest();
        let mut held = rest.clock();
        rest.is_asleep.store(true, Ordering::SeqCst);
        // Who touches it from here on sees that it sleeps, and waits to wake it.
        if rest.touches.load(Ordering::SeqCst) != touches {
            rest.is_asleep.store(false, Ordering::SeqCst);
            return false;
        }
        held.stands_since = Some(Instant::now());
        self.raft().runtime_config().tick(false);
        rest.slept.notify_one();
        true
    }
}
