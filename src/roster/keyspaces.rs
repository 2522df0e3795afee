//! Keyspaces are made and deleted, and their shards get their places.
//!
//! A keyspace's record and those of its shards are written in one transaction, and deleted in one.
//! Its groups have numbers that follow each other and that no other keyspace ever has again.
//!
//! A shard's record says where it is to be. Who is in it founds its group, or waits to be taken in
//! by those that lead it; who leads it carries the change out, and writes that it is settled. Only
//! then does who is let go give up its replica, and only then is the shard moved again, except
//! that a move under way may be given another aim.

use std::collections::BTreeSet;

use aspen_tickets::Role;

use super::change::Change;
use super::placement::odd;
use super::records::{Keyspace, Keyspaces, Record, RecordKey, Shard, Stage, State};
use super::refused::Refused;
use super::spread::SPREAD;
use super::{At, Roster};
use crate::limits::{KEYSPACE_REPLICAS, KEYSPACES_MAX, SHARDS_MAX};
use crate::types::{GroupId, KeyspaceName, NodeId, Revision};

/// A keyspace that somebody asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewKeyspace {
    /// Its name.
    pub name: KeyspaceName,
    /// How many shards it is to have.
    pub shards: u32,
    /// How many replicas each of them is to have.
    pub replicas: u8,
}

/// Where a shard is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Aim {
    /// Who is to hold a replica.
    pub replicas: BTreeSet<NodeId>,
    /// Which of them is to lead.
    pub leader: Option<NodeId>,
}

/// What a node is to do with its replica of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Part {
    /// It founds the group, with these voters.
    Found(Vec<NodeId>),
    /// It follows until the group's leader makes more of it.
    Follow,
}

/// Makes a keyspace whose shards wait for their places.
pub fn create(
    roster: &Roster,
    new: &NewKeyspace,
    now_s: u64,
) -> Result<(Keyspace, Change), Refused> {
    roster.founded()?;
    if let Some(At { record: Keyspace { shards, replicas, .. }, .. }) =
        roster.keyspaces.get(&new.name)
    {
        let (shards, replicas) = (*shards, *replicas);
        return Err(Refused::KeyspaceExists { name: new.name.clone(), shards, replicas });
    }
    let head = roster.next_group.as_ref();
    let first = head.map_or(GroupId::FIRST_SHARD, |head| head.record.next_group);
    let mut change = Change::default();
    let keyspace = add(roster, &mut change, new, first, now_s, &Shard::default())?;
    let next_group = GroupId(first.0 + u64::from(new.shards));
    let guard = head.map_or(0, |head| head.mod_revision);
    change.replace(Record::Keyspaces(Keyspaces { next_group }), guard);
    Ok((keyspace, change))
}

/// Makes the first keyspace of a cluster, at its founder.
pub(super) fn create_first(
    roster: &Roster,
    change: &mut Change,
    new: &NewKeyspace,
    founder: NodeId,
    now_s: u64,
) -> Result<(), Refused> {
    let shard = Shard {
        stage: Stage::Founding,
        replicas: BTreeSet::from([founder]),
        leader: Some(founder),
        ..Shard::default()
    };
    let first = GroupId::FIRST_SHARD;
    add(roster, change, new, first, now_s, &shard)?;
    let next_group = GroupId(first.0 + u64::from(new.shards));
    change.create(Record::Keyspaces(Keyspaces { next_group }));
    Ok(())
}

fn add(
    roster: &Roster,
    change: &mut Change,
    new: &NewKeyspace,
    first: GroupId,
    now_s: u64,
    shard: &Shard,
) -> Result<Keyspace, Refused> {
    let NewKeyspace { name, shards, replicas } = new.clone();
    let keyspace = Keyspace { first, shards, replicas, spread: SPREAD, created_s: now_s };
    keyspace.check().map_err(|_| Refused::KeyspaceOutOfBounds)?;
    if roster.keyspaces.len() >= KEYSPACES_MAX {
        return Err(Refused::TooManyKeyspaces);
    }
    let present = roster.shards.len();
    if present + shards as usize > SHARDS_MAX {
        return Err(Refused::TooManyShards { present: present as u32 });
    }
    change.create(Record::Keyspace(name, keyspace));
    for group in keyspace.groups() {
        // The number is new, so nothing is there.
        change.write(Record::Shard(group, shard.clone()));
    }
    Ok(keyspace)
}

/// Deletes a keyspace with all that is in it.
pub fn delete(roster: &Roster, name: &KeyspaceName) -> Result<Change, Refused> {
    if name.as_str() == KeyspaceName::DEFAULT {
        return Err(Refused::KeyspaceStays { name: name.clone() });
    }
    let unknown = || Refused::UnknownKeyspace { name: name.clone() };
    let at = roster.keyspaces.get(name).ok_or_else(unknown)?;
    let mut change = Change::default();
    change.delete(RecordKey::Keyspace(name.clone()), at.mod_revision);
    at.record.groups().for_each(|group| change.forget(RecordKey::Shard(group)));
    let repaired = at.record.groups().filter(|group| roster.repairs.contains_key(group));
    repaired.for_each(|group| change.forget(RecordKey::Repair(group)));
    Ok(change)
}

/// Gives a shard its first place, or another than it has. Whoever is new there must be a member; and who
/// has to stay is decided by where shards are, so the one follows the other in sequence.
pub fn place(
    roster: &Roster,
    change: &mut Change,
    group: GroupId,
    aim: &Aim,
) -> Result<(), Refused> {
    let at = roster.shards.get(&group).ok_or(Refused::UnknownGroup { group })?;
    let Shard { stage, replicas, leaving, .. } = &at.record;
    let stage = match stage {
        Stage::Waiting => Stage::Founding,
        Stage::Founding if *replicas != aim.replicas => {
            return Err(Refused::ShardChanged { group });
        }
        Stage::Settled if *replicas == aim.replicas => Stage::Settled,
        Stage::Founding => Stage::Founding,
        Stage::Moving | Stage::Settled => Stage::Moving,
    };
    for node in aim.replicas.difference(replicas) {
        let member = roster.known(*node)?;
        if member.record.state != State::Active {
            return Err(Refused::Removed { node: *node });
        }
        change.put_in_sequence(roster.founded()?);
    }
    let held: BTreeSet<NodeId> = replicas.union(leaving).copied().collect();
    let after = Shard {
        stage,
        replicas: aim.replicas.clone(),
        leaving: held.difference(&aim.replicas).copied().collect(),
        leader: aim.leader.filter(|leader| aim.replicas.contains(leader)),
    };
    if after != at.record {
        change.replace(Record::Shard(group, after), at.mod_revision);
    }
    Ok(())
}

/// Says who of a shard's replicas is to lead it; nothing of the meta group, whose leads nobody
/// spreads.
pub fn lead(roster: &Roster, group: GroupId, leader: NodeId) -> Result<Change, Refused> {
    let mut change = Change::default();
    if let Some(at) = roster.shards.get(&group)
        && at.record.replicas.contains(&leader)
        && at.record.leader != Some(leader)
    {
        let led = Shard { leader: Some(leader), ..at.record.clone() };
        change.replace(Record::Shard(group, led), at.mod_revision);
    }
    Ok(change)
}

/// Says that a shard's group is where the record of `as_of` wanted it.
pub fn settle(
    roster: &Roster,
    change: &mut Change,
    group: GroupId,
    as_of: Revision,
) -> Result<(), Refused> {
    let at = roster.shards.get(&group).ok_or(Refused::UnknownGroup { group })?;
    if at.mod_revision != as_of {
        return Err(Refused::ShardChanged { group });
    }
    if matches!(at.record.stage, Stage::Founding | Stage::Moving) {
        let settled =
            Shard { stage: Stage::Settled, leaving: BTreeSet::new(), ..at.record.clone() };
        change.replace(Record::Shard(group, settled), at.mod_revision);
    }
    Ok(())
}

/// Makes the only shard that there was before there were keyspaces the default keyspace's, at some
/// of those that hold it. Nothing if there are keyspaces.
pub fn adopt(roster: &Roster, now_s: u64) -> Result<Change, Refused> {
    let mut change = Change::default();
    if roster.next_group.is_some() || roster.cluster.is_none() {
        return Ok(change);
    }
    let active = || roster.present().filter(|member| member.state == State::Active);
    let voters = active().filter(|member| member.role == Role::Voter).map(|member| member.node);
    let replicas: BTreeSet<NodeId> = voters.take(KEYSPACE_REPLICAS.into()).collect();
    let held = roster.present().map(|member| member.node);
    let leaving = held.filter(|node| !replicas.contains(node)).collect();
    let shard = Shard { stage: Stage::Moving, leader: None, leaving, replicas };
    let name = KeyspaceName::default();
    let new = NewKeyspace { name, shards: 1, replicas: KEYSPACE_REPLICAS };
    add(roster, &mut change, &new, GroupId::FIRST_SHARD, now_s, &shard)?;
    let next_group = GroupId(GroupId::FIRST_SHARD.0 + 1);
    change.create(Record::Keyspaces(Keyspaces { next_group }));
    Ok(change)
}

impl Roster {
    /// The keyspaces, by name.
    pub fn keyspaces(&self) -> impl Iterator<Item = (&KeyspaceName, &Keyspace)> {
        self.keyspaces.iter().map(|(name, at)| (name, &at.record))
    }

    /// A keyspace.
    pub fn keyspace(&self, name: &KeyspaceName) -> Option<&Keyspace> {
        self.keyspaces.get(name).map(|at| &at.record)
    }

    /// The keyspace that a group is a shard of.
    pub fn keyspace_of(&self, group: GroupId) -> Option<(&KeyspaceName, &Keyspace)> {
        self.keyspaces().find(|(_, keyspace)| keyspace.shard(group).is_some())
    }

    /// The shards by their groups, each with the revision that wrote it last.
    pub fn shards(&self) -> impl Iterator<Item = (GroupId, &Shard, Revision)> {
        self.shards.iter().map(|(group, at)| (*group, &at.record, at.mod_revision))
    }

    /// A shard, and the revision that wrote it last.
    pub fn shard(&self, group: GroupId) -> Option<(&Shard, Revision)> {
        self.shards.get(&group).map(|at| (&at.record, at.mod_revision))
    }

    /// The number that the next shard's group will have; `None` if there never was a keyspace.
    pub fn next_group(&self) -> Option<GroupId> {
        self.next_group.as_ref().map(|next| next.record.next_group)
    }

    /// Whether a group's number was given to a shard, which is there or was deleted.
    pub fn has_numbered(&self, group: GroupId) -> bool {
        self.next_group().is_some_and(|next| group < next)
    }

    /// The present members that may answer for a shard: those that hold it, and those that hold it
    /// still.
    pub fn holders(&self, group: GroupId) -> BTreeSet<NodeId> {
        let present = self.present().map(|member| member.node);
        present.filter(|node| self.part(group, *node).is_some()).collect()
    }

    /// What a node is to do with its replica of a group; `None` if it is to have none.
    pub fn part(&self, group: GroupId, node: NodeId) -> Option<Part> {
        if group == GroupId::META {
            return Some(Part::Follow);
        }
        let (shard, _) = self.shard(group)?;
        if shard.stage == Stage::Founding && shard.replicas.contains(&node) {
            let founders = odd(shard.replicas.len());
            return Some(Part::Found(shard.replicas.iter().take(founders).copied().collect()));
        }
        let follows = shard.is_held_by(node) || shard.stage != Stage::Waiting && self.copies(node);
        follows.then_some(Part::Follow)
    }

    /// Whether a node has a copy of every shard: a member that never votes is there for that.
    fn copies(&self, node: NodeId) -> bool {
        let is_learner = |member: &super::records::Member| {
            member.role == Role::Learner && member.state == State::Active
        };
        self.member(node).is_some_and(is_learner)
    }
}
