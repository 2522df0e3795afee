//! Where shards are put: any members, any shards, any order of what befalls them.

use std::collections::{BTreeMap, BTreeSet};

use aspen::roster::Roster;
use aspen::roster::balance::{Facts, plan};
use aspen::roster::duties::{drain, maintain, weigh};
use aspen::roster::keyspaces::{Aim, NewKeyspace, create, place, settle};
use aspen::roster::leave::{leave, remove};
use aspen::roster::records::{Shard, Stage, State};
use aspen::types::GroupId;
use proptest::prelude::*;

use super::*;

/// What befalls a cluster.
#[derive(Clone, Debug)]
pub(super) enum Event {
    Join,
    /// Of those that are active, one begins to leave.
    Leave(usize),
    Remove(usize),
    /// One falls silent for good.
    Lose(usize),
    /// One that was lost is heard again.
    Return(usize),
    /// One can't be heard at the moment.
    Silence(usize),
    /// All are heard.
    Hear,
    /// One takes no more.
    Fill(usize),
    /// One that took no more has room.
    Empty(usize),
    /// One is drained, or takes its share again.
    Drain(usize),
    Undrain(usize),
    /// One is under maintenance, or back.
    Maintain(usize),
    EndMaintenance(usize),
    /// One takes so much in proportion to others.
    Weigh(usize, u32),
    Create {
        shards: u32,
        replicas: u8,
    },
    /// Some of the aims that are under way are reached.
    Progress(usize),
}

fn events() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Join),
        1 => (0..9_usize).prop_map(Event::Leave),
        1 => (0..9_usize).prop_map(Event::Remove),
        2 => (0..9_usize).prop_map(Event::Lose),
        1 => (0..9_usize).prop_map(Event::Return),
        1 => (0..9_usize).prop_map(Event::Silence),
        1 => Just(Event::Hear),
        1 => (0..9_usize).prop_map(Event::Fill),
        1 => (0..9_usize).prop_map(Event::Empty),
        1 => (0..9_usize).prop_map(Event::Drain),
        1 => (0..9_usize).prop_map(Event::Undrain),
        1 => (0..9_usize).prop_map(Event::Maintain),
        1 => (0..9_usize).prop_map(Event::EndMaintenance),
        1 => (0..9_usize, 1..5_u32).prop_map(|(at, half)| Event::Weigh(at, 50 * half)),
        2 => (1..12_u32, 1..6_u8).prop_map(|(shards, replicas)| Event::Create { shards, replicas }),
        4 => (0..5_usize).prop_map(Event::Progress),
    ]
}

/// After these it is known what must be moved at least: nobody keeps what it has without taking more.
fn measured() -> impl Strategy<Value = Event> {
    let keeps = |event: &Event| matches!(event, Event::Fill(_) | Event::Maintain(_));
    events().prop_filter("some keep what they have", move |event| !keeps(event))
}

pub(super) struct Cluster {
    pub(super) roster: Roster,
    pub(super) facts: Facts,
    keyspaces: usize,
    members: u8,
}

impl Cluster {
    pub(super) fn new() -> Self {
        let roster = founded();
        let facts = Facts { has_waited: true, moves_max: 4, ..Facts::default() };
        Cluster { roster, facts, keyspaces: 0, members: 1 }
    }

    fn active(&self) -> Vec<NodeId> {
        let active = self.roster.members().filter(|member| member.state == State::Active);
        active.map(|member| member.node).collect()
    }

    /// Who is missed when it is not heard.
    fn watched(&self) -> Vec<NodeId> {
        let mut active = self.active();
        active.retain(|node| !self.roster.duty(*node).maintenance);
        active
    }

    fn decide(
        &mut self,
        node: Option<NodeId>,
        change: impl FnOnce(&Roster, NodeId) -> Result<Change, Refused>,
    ) {
        if let Some(Ok(change)) = node.map(|node| change(&self.roster, node)) {
            commit(&mut self.roster, &change);
        }
    }

    /// Who may be given replicas.
    fn takers(&self) -> Vec<NodeId> {
        let Facts { lost, silent, full, .. } = &self.facts;
        let out = |node: &NodeId| {
            let duty = self.roster.duty(*node);
            let is_out = [lost, silent, full].iter().any(|some| some.contains(node));
            is_out || duty.draining || duty.maintenance
        };
        self.active().into_iter().filter(|node| !out(node)).collect()
    }

    pub(super) fn befall(&mut self, event: &Event) {
        self.befall_unseen(event);
        self.step();
    }

    /// The same before anything is planned.
    fn befall_unseen(&mut self, event: &Event) {
        let pick = |from: &[NodeId], at: usize| from.get(at % from.len().max(1)).copied();
        match *event {
            Event::Join if self.members < 40 => {
                self.members += 1;
                let issuer = self.roster.member(self.active()[0]).expect("a member").endpoint;
                let (id, what) = (self.members.into(), Role::Voter);
                let new = NewTicket { id, life_s: 3_600, uses: 1, issuer, what };
                let (invitation, change) = invite(&self.roster, &new, NOW_S).expect("a ticket");
                commit(&mut self.roster, &change);
                let asked = application(&invitation, key(self.members), self.members.into());
                join(&mut self.roster, &asked).expect("admitted");
            }
            Event::Leave(at) => {
                self.decide(pick(&self.active(), at), |roster, node| {
                    leave(roster, node, &BTreeSet::new())
                });
            }
            Event::Remove(at) => {
                self.decide(pick(&self.active(), at), |roster, node| {
                    remove(roster, node, &BTreeSet::new())
                });
            }
            // Who is under maintenance may be away.
            Event::Lose(at) => self.facts.lost.extend(pick(&self.watched(), at)),
            Event::Return(at) => {
                let lost: Vec<NodeId> = self.facts.lost.iter().copied().collect();
                if let Some(node) = pick(&lost, at) {
                    self.facts.lost.remove(&node);
                }
            }
            Event::Silence(at) => self.facts.silent.extend(pick(&self.watched(), at)),
            Event::Hear => self.facts.silent.clear(),
            Event::Fill(at) => self.facts.full.extend(pick(&self.active(), at)),
            Event::Empty(at) => {
                let full: Vec<NodeId> = self.facts.full.iter().copied().collect();
                if let Some(node) = pick(&full, at) {
                    self.facts.full.remove(&node);
                }
            }
            Event::Drain(at) => {
                self.decide(pick(&self.active(), at), |roster, node| drain(roster, node, true))
            }
            Event::Undrain(at) => {
                self.decide(pick(&self.active(), at), |roster, node| drain(roster, node, false));
            }
            Event::Maintain(at) => {
                let node = pick(&self.active(), at);
                self.decide(node, |roster, node| maintain(roster, &BTreeSet::from([node]), true));
                let watched = self.watched();
                self.facts.lost.retain(|node| watched.contains(node));
                self.facts.silent.retain(|node| watched.contains(node));
            }
            Event::EndMaintenance(at) => {
                let node = pick(&self.active(), at);
                self.decide(node, |roster, node| maintain(roster, &BTreeSet::from([node]), false));
            }
            Event::Weigh(at, weight) => {
                self.decide(pick(&self.active(), at), |roster, node| weigh(roster, node, weight));
            }
            Event::Create { shards, replicas } => {
                self.keyspaces += 1;
                let name = format!("k{}", self.keyspaces).parse().expect("a name");
                let new = NewKeyspace { name, shards, replicas };
                if let Ok((_, change)) = create(&self.roster, &new, NOW_S) {
                    commit(&mut self.roster, &change);
                }
            }
            Event::Progress(count) => self.progress(count),
            Event::Join => {}
        }
    }

    /// Some shards on their way come to where they are to be.
    pub(super) fn progress(&mut self, count: usize) {
        let is_on_its_way = |stage| matches!(stage, Stage::Founding | Stage::Moving);
        let shards = self.roster.shards();
        let under_way = shards.filter(|(_, shard, _)| is_on_its_way(shard.stage));
        let under_way: Vec<(GroupId, u64)> =
            under_way.map(|(group, _, as_of)| (group, as_of)).take(count).collect();
        for (group, as_of) in under_way {
            let mut change = Change::default();
            settle(&self.roster, &mut change, group, as_of).expect("as it was seen");
            commit(&mut self.roster, &change);
        }
    }

    /// Commits the next aims; answers how many replicas are made anew, but for first ones.
    pub(super) fn step(&mut self) -> usize {
        let before: BTreeMap<GroupId, Shard> =
            self.roster.shards().map(|(group, shard, _)| (group, shard.clone())).collect();
        let aims = plan(&self.roster, &self.facts);
        let mut moved = 0;
        for (group, aim) in &aims {
            self.check(&before[group], group, aim);
            let had = &before[group].replicas;
            moved += if had.is_empty() { 0 } else { aim.replicas.difference(had).count() };
            let mut change = Change::default();
            place(&self.roster, &mut change, *group, aim).expect("a plan can be carried out");
            commit(&mut self.roster, &change);
        }
        let moving =
            self.roster.shards().filter(|(_, shard, _)| shard.stage == Stage::Moving).count();
        let were = before.values().filter(|shard| shard.stage == Stage::Moving).count();
        assert!(moving <= self.facts.moves_max.max(were), "{moving} are on their way at once");
        moved
    }

    fn check(&self, before: &Shard, group: &GroupId, aim: &Aim) {
        let wanted = self.roster.keyspace_of(*group).expect("its keyspace").1.replicas;
        let takers = self.takers();
        assert!(aim.replicas.len() <= usize::from(wanted), "group {group}: {aim:?}");
        assert!(aim.leader.is_none_or(|leader| aim.replicas.contains(&leader)));
        let new: Vec<&NodeId> = aim.replicas.difference(&before.replicas).collect();
        assert!(new.iter().all(|node| takers.contains(node)), "group {group}: {aim:?}");
        let count = |place: &BTreeSet<NodeId>, counts: &dyn Fn(NodeId) -> bool| {
            place.iter().filter(|node| counts(**node)).count()
        };
        let is_never_less =
            |what: &str, weigh: fn(usize) -> usize, counts: &dyn Fn(NodeId) -> bool| {
                let (now, then) = (count(&aim.replicas, counts), count(&before.replicas, counts));
                let is_so = weigh(now) >= weigh(then.min(wanted.into()));
                assert!(is_so, "{what} of group {group}: {before:?} to {aim:?}");
            };
        let active = self.active();
        let is_active = |node| active.contains(&node);
        let is_lost = |node| self.facts.lost.contains(&node);
        let is_drained = |node| self.roster.duty(node).draining;
        // What is lost is given up only for what can take its place, and what is drained too, unless as
        // many vote without it: of an even number one does not.
        let voters = |all: usize| all.saturating_sub(usize::from(all.is_multiple_of(2)));
        is_never_less("replicas", |all| all, &|node| is_active(node) && !is_drained(node));
        is_never_less("sound", |all| all, &|node| {
            is_active(node) && !is_drained(node) && !is_lost(node)
        });
        is_never_less("voters", voters, &is_active);
    }

    pub(super) fn counts(&self, of: impl Fn(&Shard) -> Vec<NodeId>) -> BTreeMap<NodeId, usize> {
        let mut counts: BTreeMap<NodeId, usize> =
            self.takers().into_iter().map(|node| (node, 0)).collect();
        for (_, shard, _) in self.roster.shards() {
            for node in of(shard) {
                if let Some(count) = counts.get_mut(&node) {
                    *count += 1;
                }
            }
        }
        counts
    }

    fn replicas(&self) -> BTreeMap<NodeId, usize> {
        self.counts(|shard| shard.replicas.iter().copied().collect())
    }

    /// Carries everything out until nothing more is planned; answers how many replicas were made anew.
    pub(super) fn converge(&mut self) -> usize {
        let mut moved = 0;
        for _ in 0..1_000 {
            let now = self.step();
            moved += now;
            self.progress(usize::MAX);
            if now == 0 && plan(&self.roster, &self.facts).is_empty() {
                return moved;
            }
        }
        panic!("it goes on and on: {:?}", plan(&self.roster, &self.facts));
    }
}

impl Cluster {
    /// Two members of which one holds so much more than the other, for their weights, that one replica
    /// fewer there and one more here would be more even, and a shard that could be moved so.
    fn uneven(&self) -> Option<(NodeId, NodeId, GroupId)> {
        let weight = |node: NodeId| self.roster.duty(node).weight as usize;
        let holds = self.replicas();
        for (from, much) in &holds {
            for (to, little) in &holds {
                let is_more = much * weight(*to) > (little + 1) * weight(*from);
                let fits =
                    |shard: &Shard| shard.replicas.contains(from) && !shard.replicas.contains(to);
                let mut shards = self.roster.shards().filter(|(_, shard, _)| fits(shard));
                if let (true, Some((group, ..))) = (is_more, shards.next()) {
                    return Some((*from, *to, group));
                }
            }
        }
        None
    }

    /// The least number of replicas that must be made anew from here until all shards have as many as
    /// they are to, on those that take them, and evenly.
    fn least_moves(&self) -> usize {
        let takers = self.takers();
        let weight = |node: NodeId| self.roster.duty(node).weight as usize;
        let all: usize = takers.iter().map(|node| weight(*node)).sum();
        let (mut forced, mut total) = (0, 0);
        for (group, shard, _) in
            self.roster.shards().filter(|(_, shard, _)| !shard.replicas.is_empty())
        {
            let keyspace = self.roster.keyspace_of(group).expect("its keyspace").1;
            let wanted = usize::from(keyspace.replicas).min(takers.len());
            let has = shard.replicas.iter().filter(|node| takers.contains(node)).count();
            forced += wanted.saturating_sub(has);
            total += wanted;
        }
        let holds = self.replicas();
        // Within one of its share: what another has more than one above its own could be moved here.
        let owed = |node: &NodeId| (total * weight(*node)).div_ceil(all).saturating_sub(1);
        let lacking = takers.iter().map(|node| owed(node).saturating_sub(holds[node])).sum();
        forced.max(lacking)
    }
}

pub(super) fn gap(counts: &BTreeMap<NodeId, usize>) -> usize {
    counts.values().max().unwrap_or(&0) - counts.values().min().unwrap_or(&0)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn shards_come_to_rest_evenly_whatever_befalls_their_cluster(
        events in proptest::collection::vec(events(), 0..40),
    ) {
        let mut cluster = Cluster::new();
        for event in &events {
            cluster.befall(event);
        }
        cluster.befall(&Event::Hear);
        cluster.converge();
        let takers = cluster.takers();
        for (group, shard, _) in cluster.roster.shards() {
            let wanted = usize::from(cluster.roster.keyspace_of(group).expect("its keyspace").1.replicas);
            if takers.is_empty() {
                continue;
            }
            prop_assert!(shard.stage == Stage::Settled, "group {}: {:?}", group, shard);
            // Who is full or under maintenance keeps what it has.
            let keeps = |node: &&NodeId| {
                let is_kept = cluster.facts.full.contains(node) || cluster.roster.duty(**node).maintenance;
                takers.contains(node) || is_kept
            };
            let sound = shard.replicas.iter().filter(keeps).count();
            prop_assert!(sound >= wanted.min(takers.len()), "group {}: {:?}", group, shard);
            let leader = shard.leader.expect("somebody can lead");
            prop_assert!(!cluster.facts.lost.contains(&leader));
        }
        prop_assert!(cluster.uneven().is_none(), "{:?}: {:?}", cluster.replicas(), cluster.uneven());
    }

    /// From wherever a cluster has come to rest, what befalls it next moves at most half as much again
    /// as it must, and one replica a member.
    #[test]
    fn no_more_is_moved_than_what_befalls_a_cluster_takes(
        events in proptest::collection::vec(measured(), 0..30),
        last in measured().prop_filter("makes shards", |last| !matches!(last, Event::Create { .. })),
    ) {
        let mut cluster = Cluster::new();
        for event in &events {
            cluster.befall(event);
        }
        cluster.befall(&Event::Hear);
        cluster.converge();
        cluster.befall_unseen(&last);
        cluster.facts.silent.clear();
        let least = cluster.least_moves();
        let moved = cluster.converge();
        let members = cluster.takers().len();
        prop_assert!(2 * moved <= 3 * least + 2 * members, "{} moved, least {}, {} members", moved, least, members);
    }

    /// A member that comes takes its share, and hardly more is moved than that.
    #[test]
    fn who_joins_takes_its_share_and_little_else_is_moved(
        members in 1..7_u8, shards in 1..40_u32, replicas in 1..6_u8,
    ) {
        let mut cluster = Cluster::new();
        (1..members).for_each(|_| cluster.befall(&Event::Join));
        cluster.befall(&Event::Create { shards, replicas });
        cluster.converge();
        let before: BTreeMap<GroupId, Shard> =
            cluster.roster.shards().map(|(group, shard, _)| (group, shard.clone())).collect();
        cluster.befall(&Event::Join);
        cluster.converge();
        prop_assert!(gap(&cluster.replicas()) <= 1, "{:?}", cluster.replicas());
        let new: usize = cluster
            .roster
            .shards()
            .map(|(group, shard, _)| shard.replicas.difference(&before[&group].replicas).count())
            .sum();
        let share = cluster.replicas().values().copied().max().unwrap_or(0);
        prop_assert!(new <= share + 1, "{} new replicas, and a share of {}", new, share);
    }
}

#[test]
fn leads_are_spread_to_within_one() {
    for (members, shards) in [(3, 32), (5, 32), (4, 7), (5, 100)] {
        let mut cluster = Cluster::new();
        (1..members).for_each(|_| cluster.befall(&Event::Join));
        cluster.befall(&Event::Create { shards, replicas: 3 });
        cluster.converge();
        let leads = cluster.counts(|shard| shard.leader.into_iter().collect());
        assert!(gap(&leads) <= 1, "{leads:?}");
    }
}

#[test]
fn a_keyspace_waits_for_as_many_members_as_it_wants_replicas() {
    let mut cluster = Cluster::new();
    cluster.facts.has_waited = false;
    cluster.befall(&Event::Join);
    cluster.befall(&Event::Create { shards: 2, replicas: 3 });
    let stage = |cluster: &Cluster| cluster.roster.shard(GroupId(3)).expect("a shard").0.stage;
    assert_eq!(stage(&cluster), Stage::Waiting);
    let mut others = Cluster { roster: cluster.roster.clone(), ..Cluster::new() };
    others.step();
    assert_eq!(stage(&others), Stage::Founding, "it has waited long enough");
    cluster.befall(&Event::Join);
    assert_eq!(stage(&cluster), Stage::Founding);
}

/// A shard does not wait for a member that is silent, and what rests there stays there.
#[test]
fn who_is_silent_is_not_waited_for_and_keeps_what_it_has() {
    let mut cluster = Cluster::new();
    (1..5).for_each(|_| cluster.befall(&Event::Join));
    cluster.befall(&Event::Create { shards: 1, replicas: 3 });
    cluster.converge();
    let place =
        |cluster: &Cluster| cluster.roster.shard(GroupId(3)).expect("a shard").0.replicas.clone();
    let before = place(&cluster);
    cluster.facts.silent.insert(*before.last().expect("a replica"));
    cluster.converge();
    assert_eq!(place(&cluster), before);
    cluster.facts.silent.clear();

    let first = *before.first().expect("a replica");
    let leave = leave(&cluster.roster, first, &BTreeSet::new()).expect("it may");
    commit(&mut cluster.roster, &leave);
    cluster.step();
    let on_the_way = place(&cluster);
    let coming = *on_the_way.difference(&before).next().expect("another");
    cluster.facts.silent.insert(coming);
    cluster.step();
    let now = place(&cluster);
    assert!(!now.contains(&coming) && now.len() == 3, "{before:?}, {on_the_way:?}, {now:?}");
    assert_eq!(now.intersection(&before).count(), 2, "{before:?}, {now:?}");
}

/// A member that is lost and comes back is given nothing back for its own sake.
#[test]
fn what_returns_is_not_moved_back_to() {
    let mut cluster = Cluster::new();
    (1..4).for_each(|_| cluster.befall(&Event::Join));
    cluster.befall(&Event::Create { shards: 1, replicas: 3 });
    cluster.converge();
    let place =
        |cluster: &Cluster| cluster.roster.shard(GroupId(3)).expect("a shard").0.replicas.clone();
    let lost = *place(&cluster).first().expect("a replica");
    cluster.facts.lost.insert(lost);
    cluster.converge();
    let mended = place(&cluster);
    assert!(!mended.contains(&lost) && mended.len() == 3);
    cluster.facts.lost.clear();
    let moved = cluster.converge();
    assert!(gap(&cluster.replicas()) <= 1);
    assert!(moved <= 2, "{moved} shards were moved for one that came back");
}
