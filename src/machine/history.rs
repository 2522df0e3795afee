//! History as watchers read it: the events of past revisions, and what was there before one.

use std::ops::{Bound, ControlFlow};

use super::ops::{Event, KeyRange};
use super::rows::history::{Change, ChangeRef, Place};
use super::rows::meta::Counters;
use super::tables::{ReadTables, Table, TableError};
use super::view::View;
use crate::error::Refusal;
use crate::limits::{HISTORY_SCAN_ROWS_MAX, RANGE_BYTES_MAX};
use crate::types::{Key, Record, Revision};

/// Some events of the past, all those of a revision or none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HistoryPage {
    /// The events, in order.
    pub events: Vec<Event>,
    /// The first revision that the page does not cover.
    pub next: Revision,
}

/// The events in a range of keys, of the revisions from `from` up to `to` or the present one.
///
/// The page ends early, always between two revisions, once it has `max_events` events or
/// [`RANGE_BYTES_MAX`] bytes of them, or has passed over [`HISTORY_SCAN_ROWS_MAX`] changes: the
/// caller goes on from `next`. Refused if `from` is compacted.
pub fn history<T: ReadTables + ?Sized>(
    tables: &T,
    from: Revision,
    to: Revision,
    range: &KeyRange,
    max_events: usize,
) -> Result<Result<HistoryPage, Refusal>, TableError> {
    let counters = Counters::load(tables)?;
    // Nothing happened in revision 0.
    let from = from.max(1);
    if from <= counters.compacted {
        return Ok(Err(Refusal::Compacted { asked: from, compacted: counters.compacted }));
    }
    let to = to.min(counters.revision);
    if from > to {
        return Ok(Ok(HistoryPage { events: Vec::new(), next: from }));
    }
    let mut page = HistoryPage { events: Vec::new(), next: to.saturating_add(1) };
    let (mut rows, mut bytes, mut last) = (0usize, 0usize, from);
    tables.scan(
        Table::History,
        Bound::Included(&Place::first_of(from).encode()),
        Bound::Included(&Place::last_of(to).encode()),
        false,
        &mut |row_key, row| {
            let change = ChangeRef::decode(row_key, row)?;
            let full = page.events.len() >= max_events
                || bytes >= RANGE_BYTES_MAX
                || rows >= HISTORY_SCAN_ROWS_MAX;
            if full && change.place.revision != last {
                page.next = change.place.revision;
                return Ok(ControlFlow::Break(()));
            }
            last = change.place.revision;
            rows += 1;
            if range.contains(change.key) {
                bytes += row.len();
                page.events.push(event(change.to_owned()?));
            }
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok(Ok(page))
}

fn event(Change { place, key, put }: Change) -> Event {
    let record = put.map(|(version, value)| version.record(value));
    Event { revision: place.revision, key, record }
}

/// The record that a key had before a revision, for watchers that ask for it with each event;
/// `None` if there was none, or if it is compacted.
pub fn record_before<T: ReadTables + ?Sized>(
    tables: &T,
    key: &Key,
    revision: Revision,
) -> Result<Option<Record>, TableError> {
    let counters = Counters::load(tables)?;
    let Some(before) = revision.checked_sub(1).filter(|before| *before >= counters.compacted)
    else {
        return Ok(None);
    };
    let view = View::stored(tables, counters);
    match view.version_at(key.as_bytes(), before)? {
        Some(version) => Ok(Some(view.record(key.as_bytes(), &version)?)),
        None => Ok(None),
    }
}
