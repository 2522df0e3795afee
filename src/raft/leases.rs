//! When leases end: timers on the leader's monotonic clock.
//!
//! The machine knows which leases there are; only the leader knows how much time each has left.
//! On taking the lead every lease is armed in full, so a lease never ends early, and timers say nothing
//! in any other term than that for which they were armed. A lease whose time is up is ended by a
//! replicated command; until that is applied it is `ending`, and can no longer be kept alive.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use super::types::LeaderId;
use crate::limits::LEASES_EXPIRED_MAX;
use crate::machine::ops::{AnswerBody, Query};
use crate::machine::tables::TableError;
use crate::machine::{self, LeaseChanges};
use crate::store::state::State;
use crate::types::LeaseId;

/// How many leases are loaded in one read of the state.
const LOAD_PAGE: u64 = 10_000;

/// The timers of one group's leases.
#[derive(Debug, Default)]
pub(super) struct LeaseClock {
    timers: Mutex<Timers>,
    /// Told when the earliest deadline may have changed.
    pub(super) changed: Notify,
}

#[derive(Debug, Default)]
struct Timers {
    leases: BTreeMap<LeaseId, Timer>,
    /// Armed leases by deadline.
    due: BTreeSet<(Instant, LeaseId)>,
    /// The leadership of this replica for which they are armed.
    leading: Option<LeaderId>,
}

#[derive(Clone, Copy, Debug)]
struct Timer {
    ttl: Duration,
    armed: Armed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Armed {
    /// This replica does not lead.
    No,
    /// The lease ends then unless it is kept alive.
    Until(Instant),
    /// Its end is being proposed.
    Ending,
}

/// How a lease stands with the leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// It lives, with this much of its time left.
    Alive { ttl: Duration, left: Duration },
    /// It does not exist, or is ending.
    Ended,
    /// This replica does not lead, or does and has not armed it yet, so it can't tell.
    NotLeading,
}

impl Timers {
    fn arm(&mut self, id: LeaseId, now: Instant) {
        let Some(timer) = self.leases.get_mut(&id) else { return };
        if let Armed::Until(deadline) = timer.armed {
            self.due.remove(&(deadline, id));
        }
        let deadline = now + timer.ttl;
        timer.armed = Armed::Until(deadline);
        self.due.insert((deadline, id));
    }

    /// Arms every lease in full, or none if this replica does not lead.
    fn arm_all(&mut self, now: Instant) {
        self.due.clear();
        for (&id, timer) in &mut self.leases {
            timer.armed = Armed::No;
            if self.leading.is_some() {
                timer.armed = Armed::Until(now + timer.ttl);
                self.due.insert((now + timer.ttl, id));
            }
        }
    }

    fn remove(&mut self, id: LeaseId) {
        if let Some(Timer { armed: Armed::Until(deadline), .. }) = self.leases.remove(&id) {
            self.due.remove(&(deadline, id));
        }
    }

    fn standing(&self, leader: LeaderId, id: LeaseId, now: Instant) -> Standing {
        match self.leases.get(&id) {
            _ if self.leading != Some(leader) => Standing::NotLeading,
            Some(&Timer { ttl, armed: Armed::Until(deadline) }) if deadline > now => {
                Standing::Alive { ttl, left: deadline - now }
            }
            _ => Standing::Ended,
        }
    }
}

impl LeaseClock {
    /// The timers of a state's leases, none armed.
    pub(super) fn new(state: &State) -> Result<Self, TableError> {
        let clock = LeaseClock::default();
        clock.reset(state)?;
        Ok(clock)
    }

    fn timers(&self) -> MutexGuard<'_, Timers> {
        self.timers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads all leases of a state: at start, and after a snapshot replaced it.
    pub(super) fn reset(&self, state: &State) -> Result<(), TableError> {
        let view = state.view();
        let mut leases = BTreeMap::new();
        let mut after = None;
        loop {
            let page = machine::query(&view, &Query::Leases { after, limit: LOAD_PAGE })?;
            let Ok(AnswerBody::Leases(page)) = page.map(|answer| answer.body) else {
                return Err(TableError::corrupt("the lease table does not read as leases"));
            };
            let Some(last) = page.last() else { break };
            after = Some(last.id);
            leases.extend(page.into_iter().map(|lease| {
                let ttl = Duration::from_millis(lease.ttl_ms);
                (lease.id, Timer { ttl, armed: Armed::No })
            }));
        }
        let mut timers = self.timers();
        timers.leases = leases;
        timers.arm_all(Instant::now());
        drop(timers);
        self.changed.notify_one();
        Ok(())
    }

    /// Takes what an applied command did to leases.
    pub(super) fn applied(&self, changes: &LeaseChanges) {
        if changes.granted.is_empty() && changes.ended.is_empty() {
            return;
        }
        let now = Instant::now();
        let mut timers = self.timers();
        for &(id, ttl_ms) in &changes.granted {
            let ttl = Duration::from_millis(ttl_ms);
            timers.leases.insert(id, Timer { ttl, armed: Armed::No });
            if timers.leading.is_some() {
                timers.arm(id, now);
            }
        }
        for &id in &changes.ended {
            timers.remove(id);
        }
        drop(timers);
        self.changed.notify_one();
    }

    /// Takes the lead, for the first time or in another term, arming every lease in full; or gives
    /// it up.
    pub(super) fn set_leading(&self, leading: Option<LeaderId>) {
        let now = Instant::now();
        let mut timers = self.timers();
        timers.leading = leading;
        timers.arm_all(now);
        drop(timers);
        self.changed.notify_one();
    }

    /// Gives a lease its full time again, unless it has ended, if this replica leads as this.
    pub(super) fn keep_alive(&self, leader: LeaderId, id: LeaseId) -> Standing {
        let now = Instant::now();
        let mut timers = self.timers();
        if let Standing::Alive { .. } = timers.standing(leader, id, now) {
            timers.arm(id, now);
        }
        timers.standing(leader, id, now)
    }

    /// How a lease stands, if this replica leads as this.
    pub(super) fn standing(&self, leader: LeaderId, id: LeaseId) -> Standing {
        self.timers().standing(leader, id, Instant::now())
    }

    /// When the next lease ends.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.timers().due.first().map(|&(deadline, _)| deadline)
    }

    /// Takes leases whose time is up, a bounded number; they are ending from now on.
    pub(super) fn take_due(&self) -> Vec<LeaseId> {
        let now = Instant::now();
        let mut timers = self.timers();
        let mut ids = Vec::new();
        while ids.len() < LEASES_EXPIRED_MAX
            && let Some(&(deadline, id)) = timers.due.first()
            && deadline <= now
        {
            timers.due.pop_first();
            if let Some(timer) = timers.leases.get_mut(&id) {
                timer.armed = Armed::Ending;
            }
            ids.push(id);
        }
        ids
    }

    /// Those of these leases that still live did not end yet: try again at once while this replica
    /// leads.
    pub(super) fn retry_due(&self, ids: &[LeaseId]) {
        let now = Instant::now();
        let mut timers = self.timers();
        for &id in ids {
            if let Some(timer) = timers.leases.get_mut(&id)
                && timer.armed == Armed::Ending
            {
                timer.armed = Armed::Until(now);
                timers.due.insert((now, id));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TTL: Duration = Duration::from_secs(10);

    fn leader(term: u64) -> LeaderId {
        LeaderId { term, node_id: 1 }
    }

    #[tokio::test(start_paused = true)]
    async fn timers_say_nothing_in_another_term_than_that_for_which_they_were_armed() {
        let (clock, id) = (LeaseClock::default(), LeaseId(7));
        clock.set_leading(Some(leader(1)));
        let granted = vec![(id, TTL.as_millis() as u64)];
        clock.applied(&LeaseChanges { granted, ended: Vec::new() });
        let alive = |left| Standing::Alive { ttl: TTL, left };
        assert_eq!(clock.standing(leader(1), id), alive(TTL));
        tokio::time::advance(TTL).await;
        assert_eq!(clock.take_due(), [id]);
        assert_eq!(clock.keep_alive(leader(1), id), Standing::Ended);
        // Meanwhile it led no more, another kept the lease alive, and now it leads again: whoever arms
        // the timers has not heard of it yet.
        assert_eq!(clock.keep_alive(leader(3), id), Standing::NotLeading);
        clock.set_leading(Some(leader(3)));
        assert_eq!(clock.keep_alive(leader(3), id), alive(TTL));
        assert_eq!(clock.standing(leader(1), id), Standing::NotLeading);
        clock.set_leading(None);
        assert_eq!(clock.standing(leader(3), id), Standing::NotLeading);
    }
}
