//! Compaction: history that no read may ask for any more is removed, step by step.
//!
//! A compaction to revision R takes effect at once for readers, by a counter. The rows follow: a
//! cursor passes over the changes in history up to R, once each over all compactions, and each
//! change takes away the earlier versions of its key; a deletion then takes away itself. What is
//! left at or before R is of each key the newest version, so that R itself can be read, before,
//! during and after the steps.

use std::ops::{Bound, ControlFlow};

use super::ops::AnswerBody;
use super::rows::history::{ChangeRef, Place, checked_key};
use super::rows::keys::{decode_past_key, encode_past_key};
use super::rows::meta::{Counters, compaction, save_compaction};
use super::stop::Stop;
use super::tables::{ReadTables, Table, TableError, WriteTables};
use crate::error::Refusal;
use crate::limits::COMPACT_STEP_ENTRIES_MAX;
use crate::types::{Key, Revision};

/// Sets the compacted revision and does a first step. One that is the compacted revision already
/// is done again, which does nothing but say how far it is.
pub(crate) fn compact<T: WriteTables>(
    tables: &mut T,
    counters: &mut Counters,
    revision: Revision,
) -> Result<AnswerBody, Stop> {
    let Counters { revision: present, compacted, .. } = *counters;
    if revision > present {
        return Err(Refusal::FutureRevision { asked: revision, present }.into());
    }
    if revision < compacted {
        return Err(Refusal::Compacted { asked: revision, compacted }.into());
    }
    counters.compacted = revision;
    Ok(step(tables, counters)?)
}

/// Whether rows are left to remove.
pub(crate) fn is_pending<T: ReadTables + ?Sized>(
    tables: &T,
    counters: &Counters,
) -> Result<bool, TableError> {
    let end = Place::last_of(counters.compacted);
    Ok(counters.compacted > 0 && compaction(tables)?.is_none_or(|done| done < end))
}

/// Passes over the next changes that are to be compacted.
pub(crate) fn step<T: WriteTables>(
    tables: &mut T,
    counters: &Counters,
) -> Result<AnswerBody, TableError> {
    let revision = counters.compacted;
    if !is_pending(tables, counters)? {
        return Ok(AnswerBody::Compacted { revision, pending: false });
    }
    let end = Place::last_of(revision);
    let changes = next_changes(tables, compaction(tables)?, end)?;
    for (place, key, deleted) in &changes {
        remove_before(tables, key, *place)?;
        if *deleted {
            remove(tables, key, *place)?;
        }
    }
    let pending = changes.len() == COMPACT_STEP_ENTRIES_MAX;
    let done = match changes.last() {
        Some((place, ..)) if pending => *place,
        _ => end,
    };
    save_compaction(tables, done)?;
    Ok(AnswerBody::Compacted { revision, pending })
}

/// The changes after a place, up to the number of one step, and whether each is a deletion.
fn next_changes<T: ReadTables>(
    tables: &T,
    after: Option<Place>,
    end: Place,
) -> Result<Vec<(Place, Key, bool)>, TableError> {
    let after = after.map(Place::encode);
    let start = match &after {
        Some(after) => Bound::Excluded(&after[..]),
        None => Bound::Unbounded,
    };
    let mut changes = Vec::new();
    tables.scan(
        Table::History,
        start,
        Bound::Included(&end.encode()),
        false,
        &mut |row_key, row| {
            let change = ChangeRef::decode(row_key, row)?;
            let key = checked_key(Table::History, change.key)?;
            changes.push((change.place, key, change.put.is_none()));
            let full = changes.len() == COMPACT_STEP_ENTRIES_MAX;
            Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
        },
    )?;
    Ok(changes)
}

/// Removes the versions of a key that are older than a change of it. The cursor has passed all
/// but one of them before.
fn remove_before<T: WriteTables>(
    tables: &mut T,
    key: &Key,
    place: Place,
) -> Result<(), TableError> {
    let (mut start, mut end) = (Vec::new(), Vec::new());
    encode_past_key(&mut start, key.as_bytes(), Place::first_of(0));
    encode_past_key(&mut end, key.as_bytes(), place);
    let mut older = Vec::new();
    tables.scan(
        Table::Past,
        Bound::Included(&start),
        Bound::Excluded(&end),
        false,
        &mut |row_key, _| {
            older.push(decode_past_key(row_key)?.1);
            Ok(ControlFlow::Continue(()))
        },
    )?;
    for place in older {
        remove(tables, key, place)?;
    }
    Ok(())
}

fn remove<T: WriteTables>(tables: &mut T, key: &Key, place: Place) -> Result<(), TableError> {
    let mut past_key = Vec::new();
    encode_past_key(&mut past_key, key.as_bytes(), place);
    tables.delete(Table::Past, &past_key)?;
    tables.delete(Table::History, &place.encode())?;
    Ok(())
}
