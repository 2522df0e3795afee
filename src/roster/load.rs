//! How busy groups are: measured by whoever leads them, remembered by whoever places them.
//!
//! A [`Meter`] turns counters into what is done in a second, smoothed over some seconds, so that a
//! burst is no load. [`Loads`] keeps what the members said of their groups last, and when each lead was
//! last elsewhere: a new leader has measured little yet. All of it is hearsay: it says which of those
//! that hold a shard leads it, and nothing rests on that but how well the work is spread.
//!
//! Times are since the node started and never go back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::Roster;
use super::announcement::GroupLoad;
use crate::limits::{LOAD_KEPT, LOAD_MIN, LOAD_REST, LOAD_SMOOTH, LOAD_STEADY};
use crate::types::{GroupId, NodeId};

/// What was done in a group since its replica was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Writes, and reads by the leader's lease, that were asked of this replica. Other reads are served
    /// by whoever is near the client, and stay there when the lead moves.
    pub operations: u64,
    /// What the writes among them have to say, in bytes.
    pub bytes: u64,
}

/// Measures the groups that are led here.
#[derive(Clone, Debug, Default)]
pub struct Meter {
    groups: BTreeMap<GroupId, Measured>,
}

#[derive(Clone, Copy, Debug)]
struct Measured {
    before: Work,
    /// In one second.
    operations: f64,
    bytes: f64,
}

impl Meter {
    /// Looks at the counters of the groups that are led here, so long after the last look.
    pub fn look(&mut self, led: &BTreeMap<GroupId, Work>, since: Duration) {
        self.groups.retain(|group, _| led.contains_key(group));
        let seconds = since.as_secs_f64().max(f64::MIN_POSITIVE);
        let part = (seconds / LOAD_SMOOTH.as_secs_f64()).min(1.0);
        for (group, now) in led {
            let new = Measured { before: *now, operations: 0.0, bytes: 0.0 };
            let measured = self.groups.entry(*group).or_insert(new);
            // A replica that was opened anew counts from nothing.
            let rate = |now: u64, before: u64| now.saturating_sub(before) as f64 / seconds;
            let operations = rate(now.operations, measured.before.operations);
            let bytes = rate(now.bytes, measured.before.bytes);
            measured.operations += part * (operations - measured.operations);
            measured.bytes += part * (bytes - measured.bytes);
            measured.before = *now;
        }
    }

    /// What is done in those in which there is enough of it to count.
    pub fn loads(&self) -> Vec<GroupLoad> {
        let load = |(group, measured): (&GroupId, &Measured)| GroupLoad {
            group: *group,
            operations: measured.operations as u32,
            bytes: measured.bytes as u32,
        };
        let loads = self.groups.iter().map(load);
        loads.filter(|load| load.weight() >= LOAD_MIN).collect()
    }
}

/// Whether loads are so different from what was said of them that others should hear of it now.
pub fn is_news(said: &[GroupLoad], now: &[GroupLoad]) -> bool {
    let weight = |of: &[GroupLoad], group| {
        let load = of.iter().find(|load| load.group == group);
        load.map_or(0, GroupLoad::weight)
    };
    said.iter().chain(now).any(|load| {
        let (said, now) = (weight(said, load.group), weight(now, load.group));
        said.max(now) > 2 * said.min(now)
    })
}

/// What the members said of the loads of the groups that they lead.
#[derive(Clone, Debug, Default)]
pub struct Loads {
    groups: BTreeMap<GroupId, Told>,
    /// Since when there is a lead to be moved for its load, without a break.
    wanted: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Told {
    weight: u64,
    /// Who was to lead it then.
    leader: Option<NodeId>,
    /// When somebody else was.
    moved: Option<Duration>,
}

impl Loads {
    /// Takes in what each member says at the moment.
    pub fn hear(
        &mut self,
        roster: &Roster,
        told: &BTreeMap<NodeId, Vec<GroupLoad>>,
        now: Duration,
    ) {
        let mut heard: BTreeMap<GroupId, BTreeMap<NodeId, u64>> = BTreeMap::new();
        for (node, loads) in told {
            for load in loads {
                heard.entry(load.group).or_default().insert(*node, load.weight());
            }
        }
        self.groups.retain(|group, _| roster.shard(*group).is_some());
        for (group, shard, _) in roster.shards() {
            let said = heard.get(&group);
            // Who is to lead knows best; while it does not lead yet, another that holds it does.
            let by_leader = shard.leader.and_then(|leader| said?.get(&leader).copied());
            let by_any = || {
                let holds = |(node, _): &(&NodeId, &u64)| shard.is_held_by(**node);
                said?.iter().filter(holds).map(|(_, weight)| *weight).max()
            };
            let weight = by_leader.or_else(by_any).unwrap_or(0);
            let new = Told { weight: 0, leader: shard.leader, moved: None };
            let told = self.groups.entry(group).or_insert(new);
            if told.leader != shard.leader {
                (told.leader, told.moved) = (shard.leader, Some(now));
            }
            let is_new = told.moved.is_some_and(|moved| now < moved + LOAD_KEPT);
            told.weight = if is_new { told.weight.max(weight) } else { weight };
        }
    }

    /// How much is done in each group, in operations a second; those in which little is are left out.
    pub fn weights(&self) -> BTreeMap<GroupId, u64> {
        let weights = self.groups.iter().map(|(group, told)| (*group, told.weight));
        weights.filter(|(_, weight)| *weight >= LOAD_MIN).collect()
    }

    /// The groups whose leads were moved a short while ago, for whatever reason.
    pub fn resting(&self, now: Duration) -> BTreeSet<GroupId> {
        let rests = |told: &Told| told.moved.is_some_and(|moved| now < moved + LOAD_REST);
        let resting = self.groups.iter().filter(|(_, told)| rests(told));
        resting.map(|(group, _)| *group).collect()
    }

    /// Whether a lead is to be moved for its load by now: that has been so for long enough that it is
    /// no matter of who was heard first.
    pub fn is_steady(&mut self, is_wanted: bool, now: Duration) -> bool {
        let since = *self.wanted.get_or_insert(now);
        let is_steady = is_wanted && now.saturating_sub(since) >= LOAD_STEADY;
        if !is_wanted || is_steady {
            self.wanted = None;
        }
        is_steady
    }
}
