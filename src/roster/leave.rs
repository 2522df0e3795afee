//! Members change what they say of themselves, leave, and are removed.
//!
//! Leaving takes two steps, because a node hands over what it holds in between: it is `Leaving`
//! while [`super::placement`] takes it out of every group, then `Removed`. Removing takes one: it
//! is for nodes that will not come back, and the groups follow. Both end in a tombstone.
//!
//! Somebody who may vote always stays: the last one does not leave, nor while all others are away, and
//! who is leaving stays after all once the last one that would take over is removed as lost.

use std::collections::{BTreeMap, BTreeSet};

use aspen_tickets::Role;

use super::admit::Description;
use super::builds::check_change;
use super::change::Change;
use super::placement::{odd, tolerated};
use super::records::{Cluster, Member, Record, RecordKey, Shard, State};
use super::refused::Refused;
use super::{At, Roster, repairs};
use crate::limits::TOMBSTONES_MAX;
use crate::types::{GroupId, NodeId};

/// Takes over what a present member says of itself. Nothing is written if it says nothing new;
/// its incarnation can't change.
pub fn update(roster: &Roster, node: NodeId, description: &Description) -> Result<Change, Refused> {
    description.check()?;
    let at = present(roster, node)?;
    let mut after = at.record.clone();
    after.name.clone_from(&description.name);
    after.addresses.clone_from(&description.addresses);
    after.version.clone_from(&description.version);
    let mut change = Change::default();
    if after.version != at.record.version {
        check_change(roster, node, &after.version)?;
        // Or a level could begin to be used in between that the new one does not know.
        change.put_in_sequence(roster.founded()?);
    }
    if after != at.record {
        change.replace(Record::Member(after), at.mod_revision);
    }
    Ok(change)
}

/// Begins a member's leaving, when these are away. Asking again changes nothing.
pub fn leave(roster: &Roster, node: NodeId, away: &BTreeSet<NodeId>) -> Result<Change, Refused> {
    let at = present(roster, node)?;
    if at.record.state == State::Leaving {
        return Ok(Change::default());
    }
    let first = voters(roster, node).next().ok_or(Refused::LastVoter { node })?.node;
    if voters(roster, node).all(|heir| away.contains(&heir.node)) {
        return Err(Refused::HeirAway { node, away: first });
    }
    let mut change = roster.change_in_sequence()?;
    let leaving = Member { state: State::Leaving, ..at.record.clone() };
    change.replace(Record::Member(leaving), at.mod_revision);
    Ok(change)
}

/// Ends a member's leaving, once no group holds it any longer.
pub fn finish_leaving(roster: &Roster, node: NodeId) -> Result<Change, Refused> {
    let at = present(roster, node)?;
    if at.record.state != State::Leaving {
        return Err(Refused::NotLeaving { node });
    }
    bury(roster, at)
}

/// Who votes in a group, as far as is known: so many of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Votes {
    /// Everybody who may.
    pub among: BTreeSet<NodeId>,
    /// How many of them do.
    pub count: usize,
    /// Who of them says that it does not, or not yet: it is on its way, its disk was full when the group
    /// came to it, or its replica is damaged.
    pub lacking: BTreeSet<NodeId>,
}

impl Votes {
    /// Exactly these vote.
    pub fn of(voters: BTreeSet<NodeId>) -> Self {
        Votes { count: voters.len(), among: voters, lacking: BTreeSet::new() }
    }

    /// As many as can of those that hold a shard, or held it before and may not be let go yet.
    pub fn of_shard(shard: &Shard) -> Self {
        let among = shard.replicas.union(&shard.leaving).copied().collect();
        Votes { among, count: odd(shard.replicas.len()), lacking: BTreeSet::new() }
    }

    /// Those of them lack it for whom this holds.
    pub fn lacked_by(mut self, says_no: impl Fn(NodeId) -> bool) -> Self {
        self.lacking = self.among.iter().copied().filter(|node| says_no(*node)).collect();
        self
    }
}

/// Whether every group goes on when a member is removed, when these are away, by who votes in each: the
/// rest of its voters are cut off from it at once, and have to change the group's members without it.
/// One that is away is missed already; but those that are left must be able to be a majority once they
/// are there, or the group never goes on. Who has nothing of a group is taken in by a majority of others.
pub fn check_not_needed(
    roster: &Roster,
    node: NodeId,
    away: &BTreeSet<NodeId>,
    votes: &BTreeMap<GroupId, Votes>,
) -> Result<(), Refused> {
    let is_away = away.contains(&node);
    // Whoever was removed before may be counted on as long as the group has not followed.
    let is_gone = |voter: &NodeId| !roster.member(*voter).is_some_and(Member::is_present);
    let is_missed =
        |voter: &NodeId| *voter == node || is_gone(voter) || !is_away && away.contains(voter);
    for (&group, votes) in votes.iter().filter(|(_, votes)| votes.among.contains(&node)) {
        let (missed, left): (Vec<_>, Vec<_>) =
            votes.among.iter().copied().partition(|voter| is_missed(voter));
        let (lack_it, have_it): (Vec<_>, Vec<_>) =
            left.into_iter().partition(|voter| votes.lacking.contains(voter));
        let may_fail = tolerated(votes.count);
        if missed.len() > may_fail {
            return Err(match is_away {
                true => Refused::NeverAgain { node, group },
                false => Refused::StillNeeded { node, group },
            });
        }
        if let Some(&lacks) = lack_it.first()
            && have_it.len() + may_fail < votes.count
        {
            return Err(Refused::Lacking { node, group, lacks });
        }
    }
    Ok(())
}

/// Removes a member that will not come back, when these are away. If it is one of them, and nobody else
/// may vote but those that are leaving, they stay: there is nobody left to take over from them.
pub fn remove(roster: &Roster, node: NodeId, away: &BTreeSet<NodeId>) -> Result<Change, Refused> {
    let at = present(roster, node)?;
    let Err(refused) = check_voter_remains(roster, node) else { return bury(roster, at) };
    let others = roster.members.values().filter(|at| at.record.node != node);
    let leaving = others.filter(|at| at.record.state == State::Leaving);
    let mut staying = leaving.filter(|at| at.record.role == Role::Voter).peekable();
    // Who is there may have taken over already.
    if staying.peek().is_none() || !away.contains(&node) {
        return Err(refused);
    }
    let mut change = bury(roster, at)?;
    for at in staying {
        let stays = Member { state: State::Active, ..at.record.clone() };
        change.replace(Record::Member(stays), at.mod_revision);
    }
    Ok(change)
}

/// The active voters but for this one.
fn voters(roster: &Roster, without: NodeId) -> impl Iterator<Item = &Member> {
    roster.members().filter(move |member| member.node != without && member.may_vote())
}

/// Whether another active voter is there when this member is not.
pub(super) fn check_voter_remains(roster: &Roster, without: NodeId) -> Result<(), Refused> {
    match voters(roster, without).next() {
        Some(_) => Ok(()),
        None => Err(Refused::LastVoter { node: without }),
    }
}

/// Makes room for one more tombstone: the one that was written first goes, if there are too many.
pub(super) fn remember(roster: &Roster, cluster: &mut Cluster, drops: &mut Vec<RecordKey>) {
    let mut tombstones: Vec<(u64, NodeId)> = roster
        .members
        .values()
        .filter(|at| !at.record.is_present())
        .map(|at| (at.mod_revision, at.record.node))
        .collect();
    tombstones.sort_unstable();
    let too_many = (tombstones.len() + 1).saturating_sub(TOMBSTONES_MAX);
    for (_, node) in tombstones.into_iter().take(too_many) {
        cluster.forgotten = cluster.forgotten.max(node);
        drops.push(RecordKey::Member(node));
    }
}

fn bury(roster: &Roster, at: &At<Member>) -> Result<Change, Refused> {
    let cluster = roster.founded()?;
    let mut after = cluster.record.clone();
    let mut drops = Vec::new();
    remember(roster, &mut after, &mut drops);
    let mut change = Change::in_sequence(cluster, after);
    let removed = Member { state: State::Removed, ..at.record.clone() };
    change.replace(Record::Member(removed), at.mod_revision);
    drops.into_iter().for_each(|key| change.forget(key));
    if roster.duties.contains_key(&at.record.node) {
        change.forget(RecordKey::Duty(at.record.node));
    }
    repairs::forget(roster, &mut change, at.record.node);
    Ok(change)
}

fn present(roster: &Roster, node: NodeId) -> Result<&At<Member>, Refused> {
    let at = roster.known(node)?;
    if at.record.is_present() { Ok(at) } else { Err(Refused::Removed { node }) }
}
