//! What members are there for: how much each takes, and which are to have less to do for a while.
//!
//! A member that is drained gives its replicas and leads to others and stays a member. One under
//! maintenance keeps its replicas, leads nothing, is given nothing, and is waited for however long it
//! is away; as many are under maintenance as leave every group its majority.

use std::collections::BTreeSet;

use super::Roster;
use super::change::Change;
use super::placement::odd;
use super::records::{Duty, Record};
use super::refused::Refused;
use crate::limits::{MEMBER_WEIGHT_MAX, VOTERS_MAX};
use crate::types::{GroupId, NodeId};

/// Changes what a present member is there for.
fn change_duty(
    roster: &Roster,
    change: &mut Change,
    node: NodeId,
    becomes: impl FnOnce(&mut Duty),
) -> Result<(), Refused> {
    let member = roster.known(node)?;
    if !member.record.is_present() {
        return Err(Refused::Removed { node });
    }
    let mut duty = roster.duty(node);
    becomes(&mut duty);
    if duty != roster.duty(node) {
        let mod_revision = roster.duties.get(&node).map_or(0, |at| at.mod_revision);
        change.replace(Record::Duty(node, duty), mod_revision);
    }
    Ok(())
}

/// Says how much a member takes, in proportion to others.
pub fn weigh(roster: &Roster, node: NodeId, weight: u32) -> Result<Change, Refused> {
    if weight == 0 || weight > MEMBER_WEIGHT_MAX {
        return Err(Refused::WeightOutOfBounds);
    }
    let mut change = Change::default();
    change_duty(roster, &mut change, node, |duty| duty.weight = weight)?;
    Ok(change)
}

/// Begins to take everything off a member, or ends that.
pub fn drain(roster: &Roster, node: NodeId, on: bool) -> Result<Change, Refused> {
    let mut change = Change::default();
    change_duty(roster, &mut change, node, |duty| duty.draining = on)?;
    Ok(change)
}

/// Puts members under maintenance, or ends that: all of them or none.
pub fn maintain(roster: &Roster, nodes: &BTreeSet<NodeId>, on: bool) -> Result<Change, Refused> {
    // Two that are decided at once must see each other.
    let mut change = roster.change_in_sequence()?;
    for node in nodes {
        change_duty(roster, &mut change, *node, |duty| duty.maintenance = on)?;
    }
    if !on {
        return Ok(change);
    }
    let is_away = |node: &NodeId| nodes.contains(node) || roster.duty(*node).maintenance;
    // Who is taking its replica again has none.
    let is_repaired =
        |group, node: &NodeId| roster.repair(group).is_some_and(|(repair, _)| repair.node == *node);
    for (group, shard, _) in roster.shards() {
        let is_out = |node: &&NodeId| is_away(node) || is_repaired(group, node);
        let away = shard.replicas.iter().filter(is_out).count();
        if !keeps_majority(shard.replicas.len(), away) {
            return Err(Refused::MajorityAway { group });
        }
    }
    let voters = roster.members().filter(|member| member.may_vote());
    let voters: Vec<NodeId> = voters.map(|member| member.node).collect();
    let is_out = |node: &&NodeId| is_away(node) || is_repaired(GroupId::META, node);
    let away = voters.iter().filter(is_out).count();
    // Which of them vote the roster does not say: all that are away may.
    let size = odd(voters.len().min(VOTERS_MAX));
    if 2 * size.saturating_sub(away) <= size {
        return Err(Refused::MajorityAway { group: GroupId::META });
    }
    Ok(change)
}

/// Whether a shard can do without so many of its replicas. Which of an even number vote the record
/// does not say: all that are away may; but of two it is the one that leads, and none leads where it
/// is under maintenance.
fn keeps_majority(replicas: usize, away: usize) -> bool {
    match (replicas, away) {
        (0, _) | (2, 1) => true,
        _ => 2 * odd(replicas).saturating_sub(away) > odd(replicas),
    }
}

impl Roster {
    /// What a member is there for.
    pub fn duty(&self, node: NodeId) -> Duty {
        self.duties.get(&node).map_or_else(Duty::default, |at| at.record)
    }
}
