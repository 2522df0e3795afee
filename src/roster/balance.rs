//! Where the shards of all keyspaces are to be: from where they are towards an even spread.
//!
//! Whoever leads the meta group asks for the next aims, commits them, and asks again when something
//! has changed. Nothing is remembered in between. What an aim takes a group to go through,
//! [`super::placement`] knows: here a shard has one place or another.
//!
//! What is wanted, in this order:
//! - A shard has as many replicas as its keyspace says, or as there are members that may hold one.
//! - None is on a member that leaves, is drained, was removed, or is lost for good, if another can
//!   take it; one under maintenance keeps what it has.
//! - Members hold replicas, and lead, in proportion to their weights, to within one.
//! - Of the ways to lead evenly, one in which no member has much more to do than others: the leads of
//!   busy shards are exchanged for others where that lowers the larger load by a fifth.
//! - No more is moved than that takes. What returns is not moved back to for its own sake.
//!
//! What is kept on the way: a shard that is on its way is left alone, unless one that it is to be on
//! is lost or falls silent, and might be waited for in vain: then it is to be where it still is, or
//! elsewhere. Who is silent is given nothing, and has what it has. Only so many are on their way at
//! once; a replica that is lost, or on a member that is drained, counts as long as nobody can take its
//! place and its group would bear less without it.

mod leads;

use std::collections::{BTreeMap, BTreeSet};

use super::Roster;
use super::keyspaces::Aim;
use super::placement::odd;
use super::records::{Member, Shard, Stage};
use crate::types::{GroupId, NodeId};

/// What is known of the members besides the roster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// They were not heard of for so long that they are not waited for, and are not under
    /// maintenance.
    pub lost: BTreeSet<NodeId>,
    /// They can't be heard at the moment, and are not under maintenance.
    pub silent: BTreeSet<NodeId>,
    /// They take no more than they have, and lead nothing that another can.
    pub full: BTreeSet<NodeId>,
    /// Shards without a place have waited long enough for more members to come.
    pub has_waited: bool,
    /// How much is done in each shard, where that is worth counting.
    pub loads: BTreeMap<GroupId, u64>,
    /// Shards whose leads are not to be moved for their loads yet.
    pub resting: BTreeSet<GroupId>,
    /// How many shards may be on their way at once.
    pub moves_max: usize,
}

/// Why a shard is to be elsewhere, or led by another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It has no place yet.
    Place,
    /// A member that holds it, or is to, goes, is lost, is silent, or is under maintenance; or it has
    /// too few or too many replicas.
    Members,
    /// Members hold replicas or lead unevenly.
    Count,
    /// The leader's node has more to do than another.
    Load,
    /// The leader's disk is full.
    Space,
}

impl Why {
    /// The word for it, as doors show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Why::Place => "place",
            Why::Members => "members",
            Why::Count => "count",
            Why::Load => "load",
            Why::Space => "space",
        }
    }
}

/// A member that may hold replicas.
#[derive(Clone, Debug)]
struct Node {
    weight: u64,
    replicas: u64,
    leads: u64,
    /// It may be given more, to hold or to lead.
    takes: bool,
    /// It may lead.
    leads_any: bool,
}

/// A plan as it grows.
struct Plan<'a> {
    roster: &'a Roster,
    facts: &'a Facts,
    nodes: BTreeMap<NodeId, Node>,
    /// Where each shard is to be.
    shards: BTreeMap<GroupId, Planned>,
    /// How many more may be moved.
    moves_left: usize,
}

#[derive(Clone, Debug)]
struct Planned {
    replicas: BTreeSet<NodeId>,
    leader: Option<NodeId>,
    /// How many replicas its keyspace wants.
    wanted: usize,
    /// It is where it is to be, and may be moved.
    settled: bool,
    /// It was not there when the plan began.
    moved: bool,
    /// Why it is to be as it is, if that is new.
    why: Option<Why>,
}

/// The next aims, of all shards whose aim is another than they have.
pub fn plan(roster: &Roster, facts: &Facts) -> Vec<(GroupId, Aim)> {
    let reasoned = plan_with_reasons(roster, facts).into_iter();
    reasoned.map(|(group, aim, _)| (group, aim)).collect()
}

/// The same, each with why.
pub fn plan_with_reasons(roster: &Roster, facts: &Facts) -> Vec<(GroupId, Aim, Why)> {
    let mut plan = Plan::new(roster, facts);
    plan.give_first_places();
    plan.mend();
    plan.spread();
    plan.lead();
    plan.spread_load();
    plan.aims()
}

impl<'a> Plan<'a> {
    fn new(roster: &'a Roster, facts: &'a Facts) -> Self {
        let may_hold = roster
            .members()
            .filter(|member| member.may_vote() && !roster.duty(member.node).draining);
        let mut nodes: BTreeMap<NodeId, Node> = may_hold
            .map(|member| {
                let duty = roster.duty(member.node);
                let is_there = !facts.lost.contains(&member.node) && !duty.maintenance;
                let is_heard = !facts.silent.contains(&member.node);
                let node = Node {
                    weight: duty.weight.into(),
                    replicas: 0,
                    leads: 0,
                    takes: is_there && is_heard && !facts.full.contains(&member.node),
                    leads_any: is_there && !facts.full.contains(&member.node),
                };
                (member.node, node)
            })
            .collect();
        let mut shards = BTreeMap::new();
        let mut moving = 0;
        for (group, Shard { stage, replicas, leader, .. }, _) in roster.shards() {
            let keyspace = roster.keyspace_of(group);
            let wanted = keyspace.map_or(0, |(_, keyspace)| usize::from(keyspace.replicas));
            moving += usize::from(matches!(stage, Stage::Moving));
            for node in replicas {
                if let Some(node) = nodes.get_mut(node) {
                    node.replicas += 1;
                }
            }
            if let Some(node) = leader.and_then(|leader| nodes.get_mut(&leader)) {
                node.leads += 1;
            }
            let (replicas, leader) = (replicas.clone(), *leader);
            let settled = *stage == Stage::Settled;
            let planned = Planned { replicas, leader, wanted, settled, moved: false, why: None };
            shards.insert(group, planned);
        }
        let moves_left = facts.moves_max.saturating_sub(moving);
        Plan { roster, facts, nodes, shards, moves_left }
    }

    /// Those that hold a shard and are to hold it no longer.
    fn leaving(&self, group: GroupId) -> impl Iterator<Item = &'a NodeId> {
        self.roster.shard(group).into_iter().flat_map(|(shard, _)| &shard.leaving)
    }

    fn stage(&self, group: GroupId) -> Stage {
        self.roster.shard(group).map_or(Stage::Waiting, |(shard, _)| shard.stage)
    }

    /// Puts shards that have no place where they are to be, once there are enough members or they
    /// have waited for them.
    fn give_first_places(&mut self) {
        let waiting: Vec<GroupId> = self.shards.keys().copied().collect();
        for group in waiting {
            if self.stage(group) != Stage::Waiting {
                continue;
            }
            let wanted = self.shards[&group].wanted;
            let takers = self.nodes.values().filter(|node| node.takes).count();
            if takers >= wanted || (takers > 0 && self.facts.has_waited) {
                let place = self.takers(&BTreeSet::new(), wanted);
                self.put(group, place, Why::Place);
            }
        }
    }

    /// Gives replicas to shards that have too few, takes those away that are too many, and replaces
    /// those that are nowhere.
    fn mend(&mut self) {
        let groups: Vec<GroupId> = self.shards.keys().copied().collect();
        for group in groups {
            let Planned { replicas, wanted, settled, .. } = self.shards[&group].clone();
            let is_moving = self.stage(group) == Stage::Moving;
            let stays = |node: &NodeId| self.nodes.contains_key(node);
            let is_out = |node: &NodeId| {
                self.facts.lost.contains(node) || is_moving && self.facts.silent.contains(node)
            };
            let is_sound = |node: &NodeId| stays(node) && !is_out(node);
            // One that is on its way is left alone, unless it waits for somebody in vain.
            let in_vain = is_moving && !replicas.iter().all(is_sound);
            if !settled && !in_vain || settled && self.moves_left == 0 {
                continue;
            }
            let sound: BTreeSet<NodeId> = replicas.iter().copied().filter(is_sound).collect();
            let mut place = sound.clone();
            // Where it still is it need not go.
            let takes = |node: &&NodeId| self.nodes.get(node).is_some_and(|node| node.takes);
            let still = self.leaving(group).filter(takes).copied();
            place.extend(still.take(wanted.saturating_sub(sound.len())));
            place.extend(self.takers(&place, wanted.saturating_sub(place.len())));
            // Until others can take their places the lost count, and the drained as far as the group
            // bears less without them.
            let may_stay = |node: &NodeId| {
                !place.contains(node) && self.roster.member(*node).is_some_and(Member::may_vote)
            };
            let (lost, drained): (Vec<NodeId>, Vec<NodeId>) = replicas
                .iter()
                .filter(|node| may_stay(node))
                .partition(|node| stays(node) || self.facts.lost.contains(node));
            let size = wanted.min(place.len() + lost.len() + drained.len());
            let needed = odd(size).saturating_sub(place.len());
            place.extend(drained.into_iter().take(needed));
            let missing = wanted.saturating_sub(place.len());
            place.extend(lost.into_iter().take(missing));
            while place.len() > wanted {
                let most = place.iter().copied().max_by_key(|node| self.fullness(*node, 0));
                most.map(|node| place.remove(&node));
            }
            if !place.is_empty() && place != replicas {
                self.moves_left = self.moves_left.saturating_sub(usize::from(settled));
                self.put(group, place, Why::Members);
            }
        }
    }

    /// Moves replicas from members that hold much to those that hold little.
    fn spread(&mut self) {
        while self.moves_left > 0 {
            let Some((group, from, to)) = self.best_move() else { return };
            let mut place = self.shards[&group].replicas.clone();
            place.remove(&from);
            place.insert(to);
            self.moves_left -= usize::from(!self.shards[&group].moved);
            self.put(group, place, Why::Count);
        }
    }

    /// The move that evens out most; `None` if none does.
    fn best_move(&self) -> Option<(GroupId, NodeId, NodeId)> {
        let mut pairs: Vec<(NodeId, NodeId)> = Vec::new();
        for (from, giver) in &self.nodes {
            for (to, taker) in self.nodes.iter().filter(|(_, taker)| taker.takes) {
                // It must still hold no less than the other then does.
                if giver.replicas * taker.weight > (taker.replicas + 1) * giver.weight {
                    pairs.push((*from, *to));
                }
            }
        }
        pairs.sort_by_key(|(from, to)| {
            (std::cmp::Reverse(self.fullness(*from, 0)), self.fullness(*to, 0))
        });
        pairs.into_iter().find_map(|(from, to)| {
            let fits = |planned: &Planned| {
                planned.settled
                    && planned.replicas.contains(&from)
                    && !planned.replicas.contains(&to)
            };
            let candidates = self.shards.iter().filter(|(_, planned)| fits(planned));
            // What it does not lead is moved before what it leads, and no shard twice.
            let best = candidates
                .filter(|(_, planned)| !planned.moved)
                .min_by_key(|(group, planned)| (planned.leader == Some(from), **group));
            best.map(|(group, _)| (*group, from, to))
        })
    }

    /// The members that hold least, as many as are asked for, besides some.
    fn takers(&self, besides: &BTreeSet<NodeId>, count: usize) -> BTreeSet<NodeId> {
        let mut takers: Vec<NodeId> = self
            .nodes
            .iter()
            .filter(|(node, facts)| facts.takes && !besides.contains(node))
            .map(|(node, _)| *node)
            .collect();
        takers.sort_by_key(|node| (self.fullness(*node, 1), *node));
        takers.into_iter().take(count).collect()
    }

    /// How much a member holds, and so much more, for its weight; comparable between members.
    fn fullness(&self, node: NodeId, more: u64) -> u64 {
        self.nodes
            .get(&node)
            .map_or(u64::MAX, |node| (node.replicas + more) * FULLNESS / node.weight)
    }

    fn lead_fullness(&self, node: NodeId) -> u64 {
        self.nodes.get(&node).map_or(u64::MAX, |node| node.leads * FULLNESS / node.weight)
    }

    fn put(&mut self, group: GroupId, place: BTreeSet<NodeId>, why: Why) {
        let Some(planned) = self.shards.get_mut(&group) else { return };
        for node in &planned.replicas {
            if let Some(node) = self.nodes.get_mut(node) {
                node.replicas -= 1;
            }
        }
        for node in &place {
            if let Some(node) = self.nodes.get_mut(node) {
                node.replicas += 1;
            }
        }
        planned.moved = true;
        planned.replicas = place;
        planned.why.get_or_insert(why);
        if planned.leader.is_some_and(|leader| !planned.replicas.contains(&leader)) {
            self.set_leader(group, None, why);
        }
    }

    fn set_leader(&mut self, group: GroupId, leader: Option<NodeId>, why: Why) {
        let Some(planned) = self.shards.get_mut(&group) else { return };
        if let Some(node) = planned.leader.and_then(|leader| self.nodes.get_mut(&leader)) {
            node.leads -= 1;
        }
        if let Some(node) = leader.and_then(|leader| self.nodes.get_mut(&leader)) {
            node.leads += 1;
        }
        planned.leader = leader;
        planned.why.get_or_insert(why);
    }

    fn aims(self) -> Vec<(GroupId, Aim, Why)> {
        let is_new = |(group, planned): &(GroupId, Planned)| {
            self.roster.shard(*group).is_some_and(|(shard, _)| {
                shard.replicas != planned.replicas || shard.leader != planned.leader
            })
        };
        let aim = |(group, planned): (GroupId, Planned)| {
            let Planned { replicas, leader, why, .. } = planned;
            // What is changed and changed back is not in here.
            (group, Aim { replicas, leader }, why.unwrap_or(Why::Count))
        };
        self.shards.into_iter().filter(is_new).map(aim).collect()
    }
}

/// What one replica on a member of weight 1 counts: enough to tell weights apart.
const FULLNESS: u64 = 1_000_000;
