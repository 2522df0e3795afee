//! A cluster that lost its majority for good: one of its members makes a new one of what it has.
//!
//! The records become those of another cluster: another id and secret, and one member. All others are
//! tombstones, so that one that comes back is told and ends; tickets of the old cluster are gone, and
//! would be for another cluster anyway. A shard of which the member has nothing waits for its first
//! place, as one that is new: what was in it is lost, and whoever writes to it can.

use std::collections::BTreeSet;

use aspen_tickets::Role;

use super::Roster;
use super::change::Change;
use super::records::{Cluster, Member, Record, RecordKey, Shard, Stage, State};
use super::refused::Refused;
use crate::types::{ClusterId, GroupId, NodeId};

/// What the new cluster begins with.
#[derive(Clone, Debug)]
pub struct Survivor {
    /// The new cluster's id, drawn at random.
    pub id: ClusterId,
    /// What members derive the gossip topic from, drawn at random.
    pub gossip_secret: [u8; 32],
    /// The member that is left.
    pub node: NodeId,
    /// The new name of its data directory, drawn at random.
    pub incarnation: u128,
    /// The groups of which it has something.
    pub held: BTreeSet<GroupId>,
}

/// Makes the records those of a new cluster of one member.
pub fn alone(roster: &Roster, survivor: &Survivor) -> Result<Change, Refused> {
    let cluster = roster.founded()?.record.clone();
    let Survivor { id, gossip_secret, node, incarnation, held } = survivor.clone();
    let mut change = Change::default();
    change.write(Record::Cluster(Cluster { id, gossip_secret, ..cluster }));
    let me = roster.known(node)?.record.clone();
    if !me.is_present() {
        return Err(Refused::Removed { node });
    }
    let (role, state, invitation) = (Role::Voter, State::Active, 0);
    change.write(Record::Member(Member { incarnation, role, state, invitation, ..me }));
    for member in roster.present().filter(|member| member.node != node) {
        change.write(Record::Member(Member { state: State::Removed, ..member.clone() }));
    }
    roster.invitations.keys().for_each(|id| change.forget(RecordKey::Invitation(*id)));
    roster.grants.keys().for_each(|id| change.forget(RecordKey::Grant(*id)));
    roster.clients.keys().for_each(|(id, key)| change.forget(RecordKey::Client(*id, *key)));
    roster.duties.keys().for_each(|node| change.forget(RecordKey::Duty(*node)));
    roster.repairs.keys().for_each(|group| change.forget(RecordKey::Repair(*group)));
    for (group, shard, _) in roster.shards() {
        let here = Shard {
            stage: Stage::Settled,
            replicas: BTreeSet::from([node]),
            leaving: BTreeSet::new(),
            leader: Some(node),
        };
        let after = if held.contains(&group) { here } else { Shard::default() };
        if *shard != after {
            change.write(Record::Shard(group, after));
        }
    }
    Ok(change)
}
