//! The next change of a group's membership: from what it is towards what the roster wants.
//!
//! Whoever leads a group asks for one step, carries it out, and asks again, until there is none.
//! Nothing is remembered between steps, so a new leader goes on where the last one ended.
//!
//! What is wanted: every active member holds the group, at least as a learner; of those whose role
//! is voter, an odd number votes, as many as there are up to [`VOTERS_MAX`]; members that leave or
//! are removed hold nothing.
//!
//! What is kept on the way:
//! - Nobody is promoted that has not caught up or is not alive.
//! - A change tolerates at least as many failures as before, unless a voter leaves or is removed,
//!   and even then it waits for a replacement that is alive and catching up.
//! - A voter that is not alive stays one: that it fails is what the others are for. Replacing it is
//!   for whoever decides that it will not come back.
//! - A new configuration has a live majority, or it is not proposed.
//! - No voter is exchanged for another without need, and what is reached stays.
//! - A leader that goes hands over first, where a voter that stays can take over.

use std::collections::{BTreeMap, BTreeSet};

use aspen_tickets::Role;

use super::Roster;
use super::records::State;
use crate::limits::VOTERS_MAX;
use crate::types::NodeId;

/// What the roster wants of every group: the active members and what each may become. Whoever is
/// not in here is to hold nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// By number.
    pub members: BTreeMap<NodeId, Role>,
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
    /// Who has all but the latest entries; of voters, those that could take over.
    pub caught_up: BTreeSet<NodeId>,
    /// Who was heard of lately.
    pub alive: BTreeSet<NodeId>,
    /// Who leads, and asks.
    pub leader: NodeId,
}

/// One change of a group's membership.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A node begins to follow.
    AddLearner(NodeId),
    /// From now on these vote, by a joint change. Also how a change that was begun is finished.
    SetVoters {
        /// All who vote.
        voters: BTreeSet<NodeId>,
        /// Those that voted and from now on follow; the others that voted are dropped. Dropping
        /// none is right too: the next step then removes them.
        followers: BTreeSet<NodeId>,
    },
    /// These follow no longer.
    RemoveLearners(BTreeSet<NodeId>),
    /// The leader hands over to this voter.
    TransferTo(NodeId),
}

impl Roster {
    /// What every group is to become.
    pub fn wanted(&self) -> Wanted {
        let active = self.members().filter(|member| member.state == State::Active);
        Wanted { members: active.map(|member| (member.node, member.role)).collect() }
    }
}

/// Whether a group still holds a node: one that leaves has left when none does.
pub fn holds(now: &GroupFacts, node: NodeId) -> bool {
    now.voters.contains(&node) || now.learners.contains(&node)
}

/// How many voters of so many may fail.
pub fn tolerated(voters: usize) -> usize {
    voters.saturating_sub(1) / 2
}

/// The next step towards what is wanted; `None` if there is nothing to do, or nothing yet.
pub fn next_step(wanted: &Wanted, now: &GroupFacts) -> Option<Step> {
    if now.is_joint {
        return Some(set_voters(wanted, now, now.voters.clone()));
    }
    let missing = wanted.members.keys().find(|node| !holds(now, **node));
    if let Some(node) = missing {
        return Some(Step::AddLearner(*node));
    }
    if let Some(voters) = next_voters(wanted, now) {
        return hand_over_or_change(wanted, now, voters);
    }
    let gone = |node: &&NodeId| !wanted.members.contains_key(node) && **node != now.leader;
    let gone: BTreeSet<NodeId> = now.learners.iter().filter(gone).copied().collect();
    (!gone.is_empty()).then_some(Step::RemoveLearners(gone))
}

/// Those that may vote after the next change, by how they stand.
struct Candidates {
    /// They vote and may go on.
    staying: Vec<NodeId>,
    /// They follow, have caught up and are alive.
    fresh: Vec<NodeId>,
    /// They are alive and will have caught up.
    coming: usize,
    /// Voters that are to go.
    departing: usize,
}

impl Candidates {
    fn of(wanted: &Wanted, now: &GroupFacts) -> Self {
        let may_vote = |node: &NodeId| wanted.members.get(node) == Some(&Role::Voter);
        let (staying, departing): (Vec<_>, Vec<_>) =
            now.voters.iter().copied().partition(|node| may_vote(node));
        let (fresh, coming): (Vec<_>, Vec<_>) = now
            .learners
            .iter()
            .copied()
            .filter(|node| may_vote(node) && is_alive(now, node) && !now.voters.contains(node))
            .partition(|node| now.caught_up.contains(node));
        Candidates { staying, fresh, coming: coming.len(), departing: departing.len() }
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
    let voters = choose(&candidates, now, size)?;
    (voters != now.voters).then_some(voters)
}

/// The voters that the group keeps or takes: those that vote before others, the leader and the
/// living first. If too few of them live, and some go anyway, the living go before the dead.
fn choose(candidates: &Candidates, now: &GroupFacts, size: usize) -> Option<BTreeSet<NodeId>> {
    let mut order: Vec<(bool, NodeId)> = Vec::new();
    order.extend(candidates.staying.iter().map(|node| (false, *node)));
    order.extend(candidates.fresh.iter().map(|node| (true, *node)));
    let take = |order: &[(bool, NodeId)]| -> Option<BTreeSet<NodeId>> {
        let voters: BTreeSet<NodeId> = order.iter().take(size).map(|(_, node)| *node).collect();
        let alive = voters.iter().filter(|node| is_alive(now, node)).count();
        (2 * alive > voters.len()).then_some(voters)
    };
    order.sort_by_key(|(fresh, node)| (*fresh, *node != now.leader, !is_alive(now, node), *node));
    let chosen = take(&order);
    if chosen.is_some() || candidates.departing == 0 {
        return chosen;
    }
    order.sort_by_key(|(fresh, node)| (!is_alive(now, node), *fresh, *node != now.leader, *node));
    take(&order)
}

/// The change, or before it the leader's handing over if it is not to vote any longer.
fn hand_over_or_change(
    wanted: &Wanted,
    now: &GroupFacts,
    voters: BTreeSet<NodeId>,
) -> Option<Step> {
    if voters.contains(&now.leader) || !now.voters.contains(&now.leader) {
        return Some(set_voters(wanted, now, voters));
    }
    let mut heirs = now.voters.intersection(&voters).filter(|node| is_alive(now, node)).peekable();
    if heirs.peek().is_none() {
        return Some(set_voters(wanted, now, voters));
    }
    heirs.find(|node| now.caught_up.contains(node)).copied().map(Step::TransferTo)
}

fn set_voters(wanted: &Wanted, now: &GroupFacts, voters: BTreeSet<NodeId>) -> Step {
    let stays = |node: &NodeId| wanted.members.contains_key(node) && !voters.contains(node);
    let before = now.voters.iter().chain(now.learners.iter().filter(|_| now.is_joint));
    let followers = before.copied().filter(stays).collect();
    Step::SetVoters { voters, followers }
}

/// The largest odd number of voters that so many make; 0 of none.
fn odd(ready: usize) -> usize {
    let most = ready.min(VOTERS_MAX);
    if most.is_multiple_of(2) { most.saturating_sub(1) } else { most }
}

/// Who leads is alive: it asks.
fn is_alive(now: &GroupFacts, node: &NodeId) -> bool {
    *node == now.leader || now.alive.contains(node)
}
