//! What is left of a group on one node, when the majority of its replicas is lost for good.
//!
//! Owns the making of a replica that is the group's only one out of what a node's log and state
//! hold. All entries of the log count: one that a majority has acknowledged may be known here as no
//! more than stored. The replica is built anew, elsewhere; what it is made from is only read.
//!
//! It refuses to judge whether the others are lost. If they are not, there are two groups from here
//! on, each with a truth of its own.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use openraft::{EmptyNode, EntryPayload, Membership};

use super::machine::table_failure;
use super::types::{decode_entry, encode_membership};
use crate::error::{Corrupt, Error, Result};
use crate::limits::LOG_READ_BYTES_MAX;
use crate::machine;
use crate::machine::ops::{Action, Answer, Command, Query};
use crate::machine::tables::TableError;
use crate::seams::disk::Disk;
use crate::store::log::{EntryId, GroupLog, Log, LogEntry, LogError, Vote};
use crate::store::state::{State, StateWriter};
use crate::types::{GroupId, NodeId};

/// What a node has of a group.
#[derive(Debug)]
pub struct Remains {
    group: GroupId,
    /// What was applied; `None` if there is no file, as before the first checkpoint.
    state: Option<State>,
    /// The entries; `None` if they are damaged.
    log: Option<GroupLog>,
    damage: Option<Corrupt>,
}

impl Remains {
    /// What there is of a group in a node's log and in its directory; `None` if there is nothing.
    /// Blocks.
    pub fn find(
        log: &Log,
        disk: &Arc<dyn Disk>,
        dir: &Path,
        group: GroupId,
    ) -> Result<Option<Self>> {
        let (log, mut damage) = match log.group(group) {
            Ok(log) => (Some(log), None),
            Err(corrupt) => (None, Some(corrupt)),
        };
        let unavailable = |error: std::io::Error| Error::Unavailable {
            group,
            reason: format!("{}: {error}", dir.display()),
        };
        let state = match disk.exists(dir).map_err(unavailable)? {
            true => match State::open(disk.clone(), dir, group) {
                Ok(state) => Some(state),
                Err(error) if error.corrupt => {
                    damage = damage.or(Some(Corrupt { group, index: None, what: error.what }));
                    None
                }
                Err(error) => return Err(table_failure(group, error)),
            },
            false => None,
        };
        let mut remains = Remains { group, state, log, damage };
        if remains.damage.is_none() && remains.log.is_some() && remains.entries().is_none() {
            let what = "the log begins after the end of the state".into();
            remains.damage = Some(Corrupt { group, index: None, what });
        }
        Ok(remains.last().map(|_| remains))
    }

    /// The log, if it goes on from the state: what was purged from it must be there.
    fn entries(&self) -> Option<&GroupLog> {
        let applied = self.state.as_ref().and_then(State::applied_id);
        let goes_on = |log: &&GroupLog| {
            let purged = log.marks().purged;
            purged.is_none_or(|purged| applied.is_some_and(|at| at.index >= purged.index))
        };
        self.log.as_ref().filter(goes_on)
    }

    /// The last entry that is here, and can be used: the log's, or where that is damaged the state's.
    pub fn last(&self) -> Option<EntryId> {
        let applied = self.state.as_ref().and_then(State::applied_id);
        let stored = self.entries().and_then(GroupLog::last_id);
        stored.into_iter().chain(applied).max_by_key(|id| id.index)
    }

    /// What of it is damaged: it ends before, and what came after is lost.
    pub fn damage(&self) -> Option<&Corrupt> {
        self.damage.as_ref()
    }

    /// Fills a new and empty state with everything that is here. Blocks.
    pub fn rebuild(&self, new: &State) -> Result<()> {
        if let Some(old) = self.state.as_ref().filter(|old| old.applied_id().is_some()) {
            copy(old, new).map_err(|error| table_failure(self.group, error))?;
        }
        let Some(log) = self.entries() else { return Ok(()) };
        let mut next = new.applied_id().map_or(0, |id| id.index + 1);
        let end = log.last_id().map_or(0, |id| id.index + 1);
        while next < end {
            let entries = log.read(next..end, LOG_READ_BYTES_MAX).map_err(|error| match error {
                LogError::Corrupt(corrupt) => Error::Corrupt(corrupt),
                LogError::Io(error) => self.unusable(&error.to_string()),
            })?;
            let Some(last) = entries.last() else {
                return Err(self.unusable(&format!("entry {next} of its log is not there")));
            };
            next = last.id.index + 1;
            let applied = new.write(|writer| entries.iter().try_for_each(|it| apply(writer, it)));
            applied.map_err(|error| table_failure(self.group, error))?;
        }
        Ok(())
    }

    fn unusable(&self, reason: &str) -> Error {
        Error::Unavailable { group: self.group, reason: reason.into() }
    }

    /// Makes a node the only member of the group whose state was rebuilt. Answers how it votes from
    /// here on.
    pub fn take_over(&self, new: &State, node: NodeId) -> Result<Vote> {
        let voted = self.log.as_ref().and_then(|log| log.marks().vote).map_or(0, |vote| vote.term);
        let last = new.applied_id();
        let term = voted.max(last.map_or(0, |id| id.term)) + 1;
        let alone = vec![BTreeSet::from([node.0])];
        let membership = Membership::<u64, EmptyNode>::new_with_defaults(alone, []);
        let id = EntryId { term, node: node.0, index: last.map_or(0, |id| id.index + 1) };
        let written = encode_membership(&membership)
            .map_err(|error| TableError::io(error.to_string()))
            .and_then(|bytes| {
                new.write(|writer| {
                    writer.set_applied(id);
                    writer.set_membership(id, bytes);
                    Ok(())
                })
            });
        written.map_err(|error| table_failure(self.group, error))?;
        Ok(Vote { term, node: node.0, committed: true })
    }
}

/// Does an action on a state that was taken over, as the entry that comes next.
pub fn act_alone(state: &State, action: Action) -> Result<()> {
    let group = state.group();
    let Some(last) = state.applied_id() else {
        return Err(Error::Unavailable { group, reason: "it was not taken over".into() });
    };
    let command = Command { session: None, action };
    let id = EntryId { index: last.index + 1, ..last };
    let applied = state.write(|writer| {
        writer.set_applied(id);
        machine::apply(writer, id.index, &command)
    });
    let applied = applied.map_err(|error| table_failure(group, error))?;
    applied.outcome.map(drop).map_err(Error::Refused)
}

/// Reads a state that no replica runs on.
pub fn query_alone(state: &State, query: &Query) -> Result<Answer> {
    let outcome = machine::query(&state.view(), query);
    outcome.map_err(|error| table_failure(state.group(), error))?.map_err(Error::Refused)
}

/// Begins the log of a group that was taken over: all that was is in its state.
pub async fn begin_alone(log: &GroupLog, state: &State, vote: Vote) -> std::io::Result<()> {
    log.save_vote(vote).await?;
    match state.applied_id() {
        Some(applied) => log.purge(applied).await,
        None => Ok(()),
    }
}

/// As a snapshot, which is checked as a whole before it is taken over.
fn copy(old: &State, new: &State) -> Result<(), TableError> {
    let mut source = old.snapshot()?;
    let mut sink = new.receive_snapshot(1)?;
    while let Some(chunk) = source.next_chunk()? {
        sink.write(&chunk)?;
    }
    let received = sink.finish()?;
    new.install(&received)
}

fn apply(writer: &mut StateWriter, entry: &LogEntry) -> Result<(), TableError> {
    let broken = |what: String| TableError::corrupt(format!("entry {}: {what}", entry.id.index));
    writer.set_applied(entry.id);
    match decode_entry(entry).map_err(broken)?.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(proposal) => {
            let command = proposal.command().map_err(broken)?;
            machine::apply(writer, entry.id.index, &command)?;
        }
        EntryPayload::Membership(membership) => {
            let bytes = encode_membership(&membership)
                .map_err(|error| TableError::io(error.to_string()))?;
            writer.set_membership(entry.id, bytes);
        }
    }
    Ok(())
}
