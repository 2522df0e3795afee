//! What the groups of a node have done, and where each is.
//!
//! Counters outlive replicas: one that stops and comes back goes on where it was. So they are kept
//! by whoever opens replicas, for as long as the node runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use openraft::async_runtime::WatchReceiver;

use super::replica::Replica;
use crate::limits::{COUNTED_GROUPS_MAX, WATCHES_MAX};
use crate::metrics::Counter;
use crate::status::GroupGauges;
use crate::types::GroupId;

/// What one group has done on this node.
#[derive(Debug, Default)]
pub struct GroupCounts {
    /// Commands that were let in.
    pub proposals: Counter,
    /// Commands that found no room in time, and were answered `Busy`.
    pub refused: Counter,
    /// How often it had another leader than before.
    pub leader_changes: Counter,
    /// How often its state was made durable.
    pub checkpoints: Counter,
    /// Snapshots that others took from here.
    pub snapshots_sent: Counter,
    /// Snapshots that were installed here.
    pub snapshots_received: Counter,
    /// Changes that watchers here were shown.
    pub watch_events: Counter,
    /// How often one of them was so far behind that the changes had to be read from disk.
    pub watch_history_reads: Counter,
    /// Those that were so far behind that the changes were compacted, and had to begin anew.
    pub watches_lost: Counter,
}

/// What all of them have done; clones are the same.
#[derive(Clone, Debug, Default)]
pub struct Counts {
    groups: Arc<Mutex<BTreeMap<GroupId, Arc<GroupCounts>>>>,
    /// Of those that came when so many were known already.
    others: Arc<GroupCounts>,
}

impl Counts {
    /// Where a group counts.
    pub fn of(&self, group: GroupId) -> Arc<GroupCounts> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if groups.len() >= COUNTED_GROUPS_MAX && !groups.contains_key(&group) {
            return self.others.clone();
        }
        groups.entry(group).or_default().clone()
    }

    /// One counter of all groups together.
    pub fn sum(&self, counter: impl Fn(&GroupCounts) -> &Counter) -> u64 {
        let groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        let all = groups.values().chain([&self.others]);
        all.map(|group| counter(group).get()).sum()
    }
}

impl Replica {
    /// What it has done, and what those before it did for the same group.
    pub fn counts(&self) -> &Arc<GroupCounts> {
        &self.parts().counts
    }

    /// Where it is.
    pub fn gauges(&self) -> GroupGauges {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let last = metrics.last_log_index.unwrap_or(0);
        let stored = metrics.replication.iter().flatten();
        let others = stored.filter(|(node, _)| **node != metrics.id);
        let least = others.map(|(_, id)| id.as_ref().map_or(0, |id| id.index)).min();
        let parts = self.parts();
        GroupGauges {
            group: self.group(),
            role: super::replica::role(metrics.state),
            is_asleep: self.is_asleep(),
            term: metrics.current_term,
            last_index: last,
            committed_index: metrics.local_committed.as_ref().map_or(0, |id| id.index),
            applied_index: metrics.last_applied.as_ref().map_or(0, |id| id.index),
            lag: least.map(|least| last.saturating_sub(least)),
            proposals_waiting: parts.proposals.waiting() as u64,
            watches: (WATCHES_MAX - parts.watches.available_permits()) as u64,
            watch_bytes: parts.hub.held_bytes() as u64,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_goes_on_counting_where_it_was_and_those_past_the_bound_count_together() {
        let counts = Counts::default();
        counts.of(GroupId(1)).proposals.add(2);
        counts.of(GroupId(1)).proposals.one();
        assert_eq!(counts.of(GroupId(1)).proposals.get(), 3);
        for group in 2..COUNTED_GROUPS_MAX as u64 + 3 {
            counts.of(GroupId(group)).proposals.one();
        }
        assert_eq!(counts.others.proposals.get(), 2);
        assert_eq!(counts.of(GroupId(1)).proposals.get(), 3);
        assert_eq!(counts.sum(|group| &group.proposals), COUNTED_GROUPS_MAX as u64 + 4);
    }
}
