//! What a replica begins with, and what must hold of it before it may run.
//!
//! That a group is founded is written before Raft runs, and not left to openraft, which says that it
//! has founded a group before anything is durable: a crash then leaves a replica that is noted as
//! open, knows no members, and waits for a leader for ever.

use std::io;

use openraft::alias::EntryOf;
use openraft::entry::RaftEntry;
use openraft::{EmptyNode, EntryPayload, Membership};

use super::types::{TypeConfig, encode_entry, log_id};
use crate::error::{Corrupt, Error, Result};
use crate::store::log::{EntryId, GroupLog, Vote};
use crate::store::state::State;
use crate::types::{GroupId, NodeId};

/// What a replica begins with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The group is new, and so is its replica: found it with these voters. One that was founded
    /// before is left as it is.
    Founds(Vec<NodeId>),
    /// The group is elsewhere: wait, with nothing, until its leader makes this replica a member.
    /// One that has something already goes on with it.
    Joins,
    /// The replica was here before: to have nothing is damage.
    Returns,
}

/// What must hold between log and state.
pub(super) fn check(origin: &Origin, log: &GroupLog, state: &State) -> Result<()> {
    let group = state.group();
    let (applied, marks) = (state.applied_id(), log.marks());
    if *origin == Origin::Returns && applied.is_none() && marks.vote.is_none() {
        let what = "its log and its state are lost".into();
        return Err(Corrupt { group, index: None, what }.into());
    }
    let corrupt = |index, what: String| Err(Corrupt { group, index: Some(index), what }.into());
    if let Some(purged) = marks.purged
        && applied.is_none_or(|applied| applied.index < purged.index)
    {
        let has = applied.map_or(0, |applied| applied.index);
        let what = format!("the log begins after this entry and the state ends at entry {has}");
        return corrupt(purged.index, what);
    }
    if let Some(applied) = applied
        && marks.vote.is_none()
    {
        return corrupt(applied.index, "the state is there and the log is lost".into());
    }
    Ok(())
}

/// Writes, durably, that a replica is here, which has promised nothing yet but to whom it knows to
/// lead, and if it founds the group, who the members are: from then on to have nothing is damage, and a
/// crash before its first promise is none. True if the group is founded by this.
pub(super) async fn begin_log(
    origin: &Origin,
    log: &GroupLog,
    node: NodeId,
    after: Option<EntryId>,
) -> Result<bool> {
    let is_begun = log.marks().vote.is_some();
    let is_empty = log.last_id().or(log.marks().purged).is_none();
    let founding = match origin {
        Origin::Founds(voters) if is_empty && !is_begun => Some(first_entry(node, voters)),
        _ => None,
    };
    let failed = |error| unwritable(log.group(), &error);
    let founds = founding.is_some();
    if let Some(first) = founding {
        let first = encode_entry(&first)
            .map_err(|error| Error::Fatal(format!("a membership can't be encoded: {error}")))?;
        // Durable with the vote, which comes after it.
        log.append(vec![first], Box::new(|_| ())).await.map_err(failed)?;
    }
    if *origin != Origin::Returns && !is_begun {
        let nothing = Vote { term: 0, node: 0, committed: false };
        let led = after.map(|after| Vote { term: after.term, node: after.node, committed: true });
        log.save_vote(led.unwrap_or(nothing)).await.map_err(failed)?;
    }
    Ok(founds)
}

pub(super) fn unwritable(group: GroupId, error: &io::Error) -> Error {
    Error::Unavailable { group, reason: format!("its log can't be written: {error}") }
}

/// Says who the members are from the beginning; whoever is elected first decides whose counts.
fn first_entry(node: NodeId, voters: &[NodeId]) -> EntryOf<TypeConfig> {
    let voters = voters.iter().map(|voter| voter.0).collect();
    let membership = Membership::<u64, EmptyNode>::new_with_defaults(vec![voters], []);
    let id = log_id(EntryId { term: 0, node: node.0, index: 0 });
    EntryOf::<TypeConfig>::new(id, EntryPayload::Membership(membership))
}
