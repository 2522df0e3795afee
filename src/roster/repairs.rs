//! A node takes its replica of a group again from the others: what it had is damaged.
//!
//! Whoever comes back without what it promised must not count for what it was: its vote could be
//! given twice in one term, and entries that it acknowledged are gone. So a repair has stages, each
//! a record that is committed:
//!
//! 1. *Asked*: whoever leads the group takes the replica out, and writes the next stage when the
//!    membership without it is committed. Until then it does what it still can.
//! 2. *Let go*: a majority that does not need the node knows that it counts for nothing. It erases
//!    what it has, is there anew with nothing, and deletes the record.
//! 3. Without the record the group wants the node again: as one that follows, and as a voter once it
//!    has caught up.
//!
//! A group has one repair at a time, and so no majority of nodes that forgot something.

use super::change::Change;
use super::records::{Record, RecordKey, Repair, RepairStage};
use super::refused::Refused;
use super::{At, Roster};
use crate::types::{GroupId, NodeId, Revision};

/// Begins the repair of a node's replica. Asking again changes nothing.
pub fn ask(roster: &Roster, group: GroupId, node: NodeId) -> Result<Change, Refused> {
    // Two that are decided at once must see each other, and whoever is removed meanwhile.
    let mut change = roster.change_in_sequence()?;
    if !roster.known(node)?.record.is_present() {
        return Err(Refused::Removed { node });
    }
    if roster.part(group, node).is_none() {
        return Err(Refused::NoReplica { group, node });
    }
    if !roster.holders(group).iter().any(|holder| *holder != node) {
        return Err(Refused::NothingToTakeFrom { group, node });
    }
    match roster.repair(group) {
        Some((repair, _)) if repair.node == node => return Ok(Change::default()),
        Some((repair, _)) => return Err(Refused::RepairUnderWay { group, node: repair.node }),
        None => {}
    }
    let asked = Repair { node, stage: RepairStage::Asked };
    change.write(Record::Repair(group, asked));
    Ok(change)
}

/// Says that a group has let go of the node, as the record of `as_of` asks.
pub fn let_go(
    roster: &Roster,
    change: &mut Change,
    group: GroupId,
    as_of: Revision,
) -> Result<(), Refused> {
    let unchanged = roster.repair(group).filter(|(_, at)| *at == as_of);
    let (repair, at) = unchanged.ok_or(Refused::ShardChanged { group })?;
    if repair.stage == RepairStage::Asked {
        let let_go = Repair { stage: RepairStage::LetGo, ..repair };
        change.replace(Record::Repair(group, let_go), at);
    }
    Ok(())
}

/// Ends a repair whose node has erased what it had by the record of `as_of`.
pub fn finish(
    roster: &Roster,
    change: &mut Change,
    group: GroupId,
    as_of: Revision,
) -> Result<(), Refused> {
    if let Some((Repair { stage: RepairStage::LetGo, .. }, at)) = roster.repair(group)
        && at == as_of
    {
        change.delete(RecordKey::Repair(group), at);
    }
    Ok(())
}

/// Ends the repairs of a node that is a member no longer.
pub(super) fn forget(roster: &Roster, change: &mut Change, node: NodeId) {
    let of_node = roster.repairs.iter().filter(|(_, at)| at.record.node == node);
    of_node.for_each(|(group, _)| change.forget(RecordKey::Repair(*group)));
}

impl Roster {
    /// The repair of a group that is under way, and the revision that wrote its record last.
    pub fn repair(&self, group: GroupId) -> Option<(Repair, Revision)> {
        let At { record, mod_revision } = self.repairs.get(&group)?;
        let is_present = self.member(record.node).is_some_and(|member| member.is_present());
        is_present.then_some((*record, *mod_revision))
    }

    /// The repairs of a node's replicas that are under way, each with the revision that wrote its
    /// record last.
    pub fn repairs_of(
        &self,
        node: NodeId,
    ) -> impl Iterator<Item = (GroupId, RepairStage, Revision)> {
        let repairs = self.repairs.keys().filter_map(|group| Some((*group, self.repair(*group)?)));
        let of_node = repairs.filter(move |(_, (repair, _))| repair.node == node);
        of_node.map(|(group, (repair, at))| (group, repair.stage, at))
    }
}
