//! What is under way in the cluster, as this node can tell: what of it is not in the roster is
//! gathered here, and what it means is decided in [`crate::roster::undertakings`].

use std::collections::{BTreeMap, BTreeSet};

use super::cluster::Cluster;
use super::facts::GroupFacts;
use crate::limits::CATCH_UP_ENTRIES_MIN;
use crate::roster::Roster;
use crate::roster::balance::plan_with_reasons;
use crate::roster::undertakings::{Seen, Undertaking, What, find, under_way};
use crate::status::Role;
use crate::types::NodeId;

impl Cluster {
    /// All that is under way and takes long.
    pub async fn undertakings(&self) -> Vec<Undertaking> {
        let roster = self.fresh_or_known().await;
        under_way(&roster, &self.seen(&roster))
    }

    /// One of them, under way or done; `None` if what it would be about is not known.
    pub async fn undertaking(&self, what: &What) -> Option<Undertaking> {
        let roster = self.fresh_or_known().await;
        find(&roster, &self.seen(&roster), what)
    }

    fn seen(&self, roster: &Roster) -> Seen {
        let plan = plan_with_reasons(roster, &self.placement_facts(roster));
        let mut seen = Seen {
            next: plan.into_iter().map(|(group, ..)| group).collect(),
            silent: self.silent().into_keys().collect(),
            ..Seen::default()
        };
        for member in self.members() {
            let Some(told) = member.told else { continue };
            let groups = told.announcement.groups.iter().map(|part| part.group);
            seen.held.insert(member.member.node, groups.collect());
        }
        let groups = self.groups();
        let here = groups.iter().map(|facts| facts.status.group).collect();
        seen.held.insert(self.me(), here);
        for facts in &groups {
            look_at(&mut seen, self.me(), facts);
        }
        let (entries, bytes) = own_lack(&groups);
        if let Some(lack) = bytes.or(entries) {
            seen.behind.insert(self.me(), lack);
        }
        for (node, lack) in lacks_of_others(&groups, &seen.silent) {
            seen.behind.entry(node).or_insert(lack);
        }
        seen
    }
}

/// What one group says of itself.
fn look_at(seen: &mut Seen, me: NodeId, facts: &GroupFacts) {
    let status = &facts.status;
    let inside: BTreeSet<NodeId> = status.voters.union(&status.learners).copied().collect();
    if !inside.is_empty() {
        seen.inside.insert(status.group, inside);
    }
    let is_filled = status.role.is_absent() || status.applied_index < status.last_log_index;
    if is_filled || status.arriving.is_some() || facts.damage.is_some() {
        seen.filling.insert((status.group, me));
    }
    if facts.is_compacting {
        seen.compacting.insert(status.group);
    }
}

type Lack = (u64, u64, &'static str);

/// What this node has yet to get: in entries of logs, and in bytes while snapshots come.
fn own_lack(groups: &[GroupFacts]) -> (Option<Lack>, Option<Lack>) {
    let arriving = groups.iter().filter_map(|facts| facts.status.arriving);
    let (bytes, of_bytes) =
        arriving.fold((0, 0), |(bytes, of), one| (bytes + one.bytes, of + one.of_bytes));
    let sums = groups.iter().fold((0, 0), |(done, of), facts| {
        (done + facts.status.applied_index, of + facts.status.last_log_index)
    });
    (lack(sums), (of_bytes > 0).then_some((bytes, of_bytes, "bytes")))
}

/// What other members have yet to get of the groups that this node leads. Of one that can't be heard
/// nothing is on its way.
fn lacks_of_others(groups: &[GroupFacts], silent: &BTreeSet<NodeId>) -> BTreeMap<NodeId, Lack> {
    let mut sums: BTreeMap<NodeId, (u64, u64)> = BTreeMap::new();
    for facts in groups.iter().filter(|facts| facts.status.role == Role::Leader) {
        for (node, stored) in facts.stored.iter().filter(|(node, _)| !silent.contains(node)) {
            let (done, of) = sums.entry(*node).or_default();
            *done += (*stored).min(facts.status.last_log_index);
            *of += facts.status.last_log_index;
        }
    }
    sums.into_iter().filter_map(|(node, sums)| Some((node, lack(sums)?))).collect()
}

fn lack((done, of): (u64, u64)) -> Option<Lack> {
    (done + CATCH_UP_ENTRIES_MIN < of).then_some((done, of, "entries"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::GroupStatus;
    use crate::types::GroupId;

    fn group(id: u64, role: Role, applied_index: u64, last_log_index: u64) -> GroupFacts {
        let status = GroupStatus::without_replica(GroupId(id), role);
        GroupFacts {
            status: GroupStatus { applied_index, last_log_index, ..status },
            stored: BTreeMap::new(),
            is_asleep: false,
            damage: None,
            repair: None,
            is_compacting: false,
        }
    }

    #[test]
    fn who_is_behind_by_little_does_not_catch_up() {
        assert_eq!(own_lack(&[group(0, Role::Follower, 90, 100)]), (None, None));
        let behind = [group(0, Role::Follower, 90, 100), group(1, Role::Learner, 0, 5_000)];
        assert_eq!(own_lack(&behind), (Some((90, 5_100, "entries")), None));
    }

    #[test]
    fn a_leader_tells_who_is_behind_and_who_is_silent() {
        let mut led = group(1, Role::Leader, 9_000, 9_000);
        led.stored = [(NodeId(2), 8_999), (NodeId(3), 10), (NodeId(4), 10)].into();
        let silent = [NodeId(4)].into();
        let lacks = lacks_of_others(&[led], &silent);
        assert_eq!(lacks, [(NodeId(3), (10, 9_000, "entries"))].into());
    }
}
