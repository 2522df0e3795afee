//! The next change of a group's membership: from what it is towards what the roster wants.
//!
//! Whoever leads a group asks for one step, carries it out, and asks again, until there is none.
//! Nothing is remembered between steps, so a new leader goes on where the last one ended.
//!
//! What is wanted of the meta group: every active member holds it, at least as a learner; of those
//! whose role is voter, an odd number votes, as many as there are up to [`VOTERS_MAX`]; members that
//! leave hold it as learners until they hold nothing else, because it tells them who takes over; those
//! that are removed hold nothing. What is wanted of a shard's group stands in the shard's record
//! ([`super::keyspaces`]), and of its replicas, too, an odd number votes.
//!
//! What is kept on the way:
//! - Nobody is promoted that has not caught up or is not alive.
//! - A change tolerates at least as many failures as before, unless a voter leaves or is removed,
//!   and even then it waits for a replacement that is alive and catching up; in a shard's group, for
//!   any, because one that does not come is replaced itself ([`super::balance`]).
//! - A voter that is not alive stays one: that it fails is what the others are for. Replacing it is
//!   for whoever decides that it will not come back.
//! - A new configuration has a live majority, or it is not proposed.
//! - No voter is exchanged for another without need, and what is reached stays. Where not all vote
//!   that may, one makes room for whoever is to lead.
//! - A leader whose disk is full hands over first of all, to a voter that has room, and is not handed
//!   the lead again while it has none.
//! - Who takes its replica again ([`super::repairs`]) counts for nothing until then. The others vote on,
//!   were they even in number: an entry stays on as many disks as before.
//! - A leader that goes hands over first, where a voter that stays can take over. Whoever is to lead
//!   is handed the lead when all else is done, and has been there for some time: one that comes and
//!   goes is given nothing.

use std::collections::{BTreeMap, BTreeSet};

use aspen_tickets::Role;

use super::Roster;
use super::records::{Stage, State};
use crate::limits::VOTERS_MAX;
use crate::types::{GroupId, NodeId};

/// What the roster wants of a group: the members that are to hold it and what each may become.
/// Whoever is not in here is to hold nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By number.
    pub members: BTreeMap<NodeId, Role>,
    /// Who of them is to lead, if it can.
    pub leader: Option<NodeId>,
    /// Whoever is not there is replaced by others: until then those that go stay in its place, and the
    /// group bears what it bears.
    pub replaces: bool,
    /// Whose replica is damaged: it is let go at once, and then taken in as one that is new.
    pub without: Option<NodeId>,
}

/// What a group is, as its leader sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// Who votes; during a joint change, who votes when it is done.
    pub voters: BTreeSet<NodeId>,
    /// Who follows without voting; during a joint change, voters of the old configuration that
    /// are not in the new one too.
    pub learners: BTreeSet<NodeId>,
    /// A change between two configurations was begun and not finished.
    pub is_joint: bool,
    /// The last change is committed.
    pub is_committed: bool,
    /// Who has all but the latest entries; of voters, those that could take over.
    pub caught_up: BTreeSet<NodeId>,
    /// Who was heard of lately.
    pub alive: BTreeSet<NodeId>,
    /// Who has been there for some time without a break.
    pub steady: BTreeSet<NodeId>,
    /// Whose disk is full, as far as is known.
    pub full: BTreeSet<NodeId>,
    /// Who leads, and asks.
    pub leader: NodeId,
}

/// One change of a group's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A node begins to follow.
    AddLearner(NodeId),
    /// From now on exactly these vote, by a joint change; others that voted follow. Also how a change
    /// that was begun is finished.
    SetVoters(BTreeSet<NodeId>),
    /// These follow no longer.
    RemoveLearners(BTreeSet<NodeId>),
    /// The leader hands over to this voter.
    TransferTo(NodeId),
}

impl Roster {
    /// What a group is to become; `None` if it is to be nowhere, or nowhere yet.
    pub fn wanted(&self, group: GroupId) -> Option<Wanted> {
        let active = self.members().filter(|member| member.state == State::Active);
        let mut members: BTreeMap<NodeId, Role> =
            active.map(|member| (member.node, member.role)).collect();
        let mut leader = None;
        if group == GroupId::META {
            let leaving = self.members().filter(|member| member.state == State::Leaving);
            let hands_over = |node| self.shards().any(|(_, shard, _)| shard.is_held_by(node));
            let leaving = leaving.map(|member| member.node).filter(|node| hands_over(*node));
            members.extend(leaving.map(|node| (node, Role::Learner)));
        } else {
            let (shard, _) =
                self.shard(group).filter(|(shard, _)| shard.stage != Stage::Waiting)?;
            // Those that never vote are there to have a copy of everything.
            members.retain(|_, role| *role == Role::Learner);
            // One that is leaving, or gone, counts until the shard has another in its place.
            members.extend(shard.replicas.iter().map(|node| (*node, Role::Voter)));
            leader = shard.leader;
        }
        let without = self.repair(group).map(|(repair, _)| repair.node);
        members.retain(|node, _| Some(*node) != without);
        Some(Wanted { members, leader, replaces: group != GroupId::META, without })
    }
}

/// Whether a group still holds a node: one that leaves has left when none does.
pub fn holds(now: &GroupFacts, node: NodeId) -> bool {
    now.voters.contains(&node) || now.learners.contains(&node)
}

/// Whether a group has committed that a node is not in it.
pub fn has_let_go(now: &GroupFacts, node: NodeId) -> bool {
    !now.is_joint && now.is_committed && !holds(now, node)
}

/// How many voters of so many may fail.
pub fn tolerated(voters: usize) -> usize {
    voters.saturating_sub(1) / 2
}

/// The next step towards what is wanted; `None` if there is nothing to do, or nothing yet.
pub fn next_step(wanted: &Wanted, now: &GroupFacts) -> Option<Step> {
    if now.is_joint {
        return Some(Step::SetVoters(now.voters.clone()));
    }
    if let Some(heir) = relief(wanted, now) {
        return Some(Step::TransferTo(heir));
    }
    if let Some(node) = wanted.without.filter(|node| now.voters.contains(node)) {
        let mut others = now.voters.clone();
        others.remove(&node);
        let goes_on = has_live_majority(now, &others);
        return goes_on.then(|| hand_over_or_change(now, others)).flatten();
    }
    let missing = wanted.members.keys().find(|node| !holds(now, **node));
    if let Some(node) = missing {
        return Some(Step::AddLearner(*node));
    }
    if let Some(voters) = next_voters(wanted, now) {
        return hand_over_or_change(now, voters);
    }
    if !now.voters.contains(&now.leader) {
        // Elected on the way by those that voted before: it leads on and counts for nothing.
        let staying = Candidates::of(wanted, now).staying;
        return heir(now, &staying.into_iter().collect()).map(Step::TransferTo);
    }
    let gone = |node: &&NodeId| !wanted.members.contains_key(node) && **node != now.leader;
    let gone: BTreeSet<NodeId> = now.learners.iter().filter(gone).copied().collect();
    if !gone.is_empty() {
        return Some(Step::RemoveLearners(gone));
    }
    let heir = able_leader(wanted, now).filter(|heir| now.voters.contains(heir));
    heir.filter(|heir| *heir != now.leader).map(Step::TransferTo)
}

/// Whether a group is where it is wanted, whoever leads it: all that hold it are wanted, and all
/// that are wanted hold it, with as many votes as they make.
pub fn is_reached(wanted: &Wanted, now: &GroupFacts) -> bool {
    let holders = now.voters.union(&now.learners);
    let voters = wanted.members.values().filter(|role| **role == Role::Voter).count();
    !now.is_joint
        && now.is_committed
        && holders.copied().eq(wanted.members.keys().copied())
        && now.voters.len() == odd(voters)
}

/// Those that may vote after the next change, by how they stand.
struct Candidates {
    /// They vote and may go on.
    staying: Vec<NodeId>,
    /// They follow, have caught up and are alive.
    fresh: Vec<NodeId>,
    /// They are waited for: they are alive and will have caught up, or others will come for them.
    coming: usize,
    /// Voters that are to go.
    departing: usize,
}

impl Candidates {
    fn of(wanted: &Wanted, now: &GroupFacts) -> Self {
        let may_vote = |node: &NodeId| wanted.members.get(node) == Some(&Role::Voter);
        let (staying, departing): (Vec<_>, Vec<_>) =
            now.voters.iter().copied().partition(|node| may_vote(node));
        let (ready, coming): (Vec<_>, Vec<_>) = now
            .learners
            .iter()
            .copied()
            .filter(|node| may_vote(node) && !now.voters.contains(node))
            .filter(|node| wanted.replaces || is_alive(now, node))
            .partition(|node| is_alive(now, node) && now.caught_up.contains(node));
        Candidates { staying, fresh: ready, coming: coming.len(), departing: departing.len() }
    }
}

fn next_voters(wanted: &Wanted, now: &GroupFacts) -> Option<BTreeSet<NodeId>> {
    let candidates = Candidates::of(wanted, now);
    let ready = candidates.staying.len() + candidates.fresh.len();
    let (size, later) = (odd(ready), odd(ready + candidates.coming));
    if tolerated(size) < tolerated(now.voters.len()) {
        // Only voters that go may cost tolerance, and not if waiting saves some of it.
        if candidates.departing == 0 || later > size {
            return None;
        }
    }
    // Only a repair leaves an even number, and only until whom it lacks is there.
    let all = wanted.members.values().filter(|role| **role == Role::Voter).count();
    let waits_for_more = odd(all + usize::from(wanted.without.is_some())) > size;
    if size < now.voters.len() && candidates.departing == 0 && waits_for_more {
        return None;
    }
    let voters = choose(&candidates, now, size, able_leader(wanted, now))?;
    (voters != now.voters).then_some(voters)
}

/// Who is to lead, if it could.
fn able_leader(wanted: &Wanted, now: &GroupFacts) -> Option<NodeId> {
    let is_able = |node: &NodeId| {
        now.steady.contains(node) && now.caught_up.contains(node) && !now.full.contains(node)
    };
    wanted.leader.filter(|leader| *leader == now.leader || is_able(leader))
}

/// The voters that the group keeps or takes: whoever is to lead, then those that vote before others,
/// the leader and the living first. If too few of them live, and some go anyway, the living go before
/// the dead.
fn choose(
    candidates: &Candidates,
    now: &GroupFacts,
    size: usize,
    first: Option<NodeId>,
) -> Option<BTreeSet<NodeId>> {
    let mut order: Vec<(bool, NodeId)> = Vec::new();
    order.extend(candidates.staying.iter().map(|node| (false, *node)));
    order.extend(candidates.fresh.iter().map(|node| (true, *node)));
    let take = |order: &[(bool, NodeId)]| -> Option<BTreeSet<NodeId>> {
        let voters: BTreeSet<NodeId> = order.iter().take(size).map(|(_, node)| *node).collect();
        has_live_majority(now, &voters).then_some(voters)
    };
    order.sort_by_key(|(fresh, node)| {
        (Some(*node) != first, *fresh, *node != now.leader, !is_alive(now, node), *node)
    });
    let chosen = take(&order);
    if chosen.is_some() || candidates.departing == 0 {
        return chosen;
    }
    order.sort_by_key(|(fresh, node)| (!is_alive(now, node), *fresh, *node != now.leader, *node));
    take(&order)
}

/// The change, or before it the leader's handing over if it is not to vote any longer.
fn hand_over_or_change(now: &GroupFacts, voters: BTreeSet<NodeId>) -> Option<Step> {
    let leads_on = voters.contains(&now.leader) || !now.voters.contains(&now.leader);
    let staying: BTreeSet<NodeId> = now.voters.intersection(&voters).copied().collect();
    if leads_on || !staying.iter().any(|node| is_alive(now, node)) {
        return Some(Step::SetVoters(voters));
    }
    heir(now, &staying).map(Step::TransferTo)
}

fn has_live_majority(now: &GroupFacts, voters: &BTreeSet<NodeId>) -> bool {
    2 * voters.iter().filter(|node| is_alive(now, node)).count() > voters.len()
}

/// Who of these could take over, and had better.
fn heir(now: &GroupFacts, of: &BTreeSet<NodeId>) -> Option<NodeId> {
    let able = of.iter().filter(|node| is_alive(now, node) && now.caught_up.contains(node));
    able.min_by_key(|node| now.full.contains(node)).copied()
}

/// Who takes over from a leader whose disk is full: nobody who is to go, and would hand it back.
fn relief(wanted: &Wanted, now: &GroupFacts) -> Option<NodeId> {
    if !now.full.contains(&now.leader) {
        return None;
    }
    let votes_on = |node: &NodeId| wanted.members.get(node) == Some(&Role::Voter);
    let stays = |node: &NodeId| votes_on(node) && *node != now.leader;
    let with_room = now.voters.iter().copied();
    let with_room = with_room.filter(|node| stays(node) && !now.full.contains(node));
    heir(now, &with_room.collect())
}

/// The largest odd number of voters that so many make; 0 of none.
pub fn odd(ready: usize) -> usize {
    let most = ready.min(VOTERS_MAX);
    if most.is_multiple_of(2) { most.saturating_sub(1) } else { most }
}

/// Who leads is alive: it asks.
fn is_alive(now: &GroupFacts, node: &NodeId) -> bool {
    *node == now.leader || now.alive.contains(node)
}
