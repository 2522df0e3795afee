//! The keys as they are, or as they were at a revision: what every read stands on.
//!
//! At the present a view is the `Keys` table, with what the command in hand has written so far
//! laid over it. At a past revision it is a merge: of each key, the newest version that is not
//! after the revision, from `Keys` if its present version is old enough and from `Past` otherwise.
//!
//! A visit reads no values; [`View::value`] gets one from history.

use std::cmp::Ordering;
use std::collections::VecDeque;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

use super::draft::Draft;
use super::ops::KeyRange;
use super::rows::corrupt;
use super::rows::history::{Place, Version, value_of};
use super::rows::keys::{
    decode_past, decode_past_key, decode_present, encode_past_key, past_bounds,
};
use super::rows::meta::Counters;
use super::tables::{ReadTables, Table, TableError, is_empty_range};
use crate::error::Refusal;
use crate::types::{Key, Record, Revision, Value};

/// The moment at which keys are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    Present,
    Revision(Revision),
}

/// Called for each key of a visit with its version; `Break` ends the visit.
pub(crate) type VisitKey<'a> =
    dyn FnMut(&[u8], &Version) -> Result<ControlFlow<()>, TableError> + 'a;

/// The keys of a shard, seen by one command or query.
pub(crate) struct View<'a, T: ?Sized> {
    tables: &'a T,
    counters: Counters,
    draft: Option<&'a Draft>,
}

impl<'a, T: ReadTables + ?Sized> View<'a, T> {
    /// The keys as the tables have them.
    pub(crate) fn stored(tables: &'a T, counters: Counters) -> Self {
        View { tables, counters, draft: None }
    }

    /// The keys with what a command has written so far.
    pub(crate) fn drafted(tables: &'a T, draft: &'a Draft) -> Self {
        View { tables, counters: draft.counters, draft: Some(draft) }
    }

    /// Where a read that asks for a revision looks, or why it can't. What a command has written
    /// so far has no revision yet: it is seen by reads that ask for none.
    pub(crate) fn at(&self, asked: Option<Revision>) -> Result<At, Refusal> {
        let Counters { revision: present, compacted, .. } = self.counters;
        let changed = self.draft.is_some_and(|draft| !draft.changes().is_empty());
        match asked {
            None => Ok(At::Present),
            Some(asked) if asked > present => Err(Refusal::FutureRevision { asked, present }),
            Some(asked) if asked < compacted => Err(Refusal::Compacted { asked, compacted }),
            Some(asked) if asked == present && !changed => Ok(At::Present),
            Some(asked) => Ok(At::Revision(asked)),
        }
    }

    /// The present version of a key.
    pub(crate) fn version(&self, key: &[u8]) -> Result<Option<Version>, TableError> {
        if let Some(change) = self.draft.and_then(|draft| draft.latest(key)) {
            return Ok(change.after.as_ref().map(|(version, _)| *version));
        }
        match self.tables.get(Table::Keys, key)? {
            Some(row) => Ok(Some(decode_present(&row)?)),
            None => Ok(None),
        }
    }

    /// The version that a key had at a revision.
    pub(crate) fn version_at(
        &self,
        key: &[u8],
        revision: Revision,
    ) -> Result<Option<Version>, TableError> {
        if let Some(row) = self.tables.get(Table::Keys, key)? {
            let version = decode_present(&row)?;
            if version.place.revision <= revision {
                return Ok(Some(version));
            }
        }
        let (mut start, mut end) = (Vec::new(), Vec::new());
        encode_past_key(&mut start, key, Place::first_of(0));
        encode_past_key(&mut end, key, Place::last_of(revision));
        let mut found = None;
        self.tables.scan(
            Table::Past,
            Bound::Included(&start),
            Bound::Included(&end),
            true,
            &mut |row_key, row| {
                found = decode_past(decode_past_key(row_key)?.1, row)?;
                Ok(ControlFlow::Break(()))
            },
        )?;
        Ok(found)
    }

    /// The value of a version of a key, shared with the row that holds it.
    pub(crate) fn value(&self, key: &[u8], version: &Version) -> Result<Value, TableError> {
        if let Some(draft) = self.draft
            && version.place.revision == draft.revision()
        {
            return match draft.changes().get(version.place.sub as usize) {
                Some(change) if change.key.as_bytes() == key => match &change.after {
                    Some((_, value)) => Ok(value.clone()),
                    None => Err(corrupt(Table::Keys, "a key's row points past the present")),
                },
                _ => Err(corrupt(Table::Keys, "a key's row points past the present")),
            };
        }
        match self.tables.get(Table::History, &version.place.encode())? {
            Some(row) => value_of(version.place, &row, key),
            None => Err(corrupt(Table::History, "the change that a key's row points to is gone")),
        }
    }

    /// The record of a version of a key.
    pub(crate) fn record(&self, key: &[u8], version: &Version) -> Result<Record, TableError> {
        Ok(version.record(self.value(key, version)?))
    }

    /// Visits the keys of a range in order, or in reverse.
    pub(crate) fn visit(
        &self,
        range: &KeyRange,
        at: At,
        reverse: bool,
        visit: &mut VisitKey<'_>,
    ) -> Result<(), TableError> {
        if let Some(key) = range.as_one() {
            let version = match at {
                At::Present => self.version(key)?,
                At::Revision(revision) => self.version_at(key, revision)?,
            };
            if let Some(version) = version {
                let _ = visit(key, &version)?;
            }
            return Ok(());
        }
        let (start, end) = range.bounds();
        if is_empty_range(start, end) {
            return Ok(());
        }
        match at {
            At::Present => self.visit_present(start, end, reverse, visit),
            At::Revision(revision) => self.visit_past(start, end, revision, reverse, visit),
        }
    }

    fn visit_present(
        &self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        visit: &mut VisitKey<'_>,
    ) -> Result<(), TableError> {
        let mut drafted =
            self.draft.map(|draft| draft.latest_between(start, end)).into_iter().flatten();
        let mut next_drafted = || if reverse { drafted.next_back() } else { drafted.next() };
        let mut over = next_drafted();
        let mut broken = false;
        self.tables.scan(Table::Keys, start, end, reverse, &mut |key, row| {
            let mut hidden = false;
            while let Some(change) = over {
                let order = change.key.as_bytes().cmp(key);
                if order == if reverse { Ordering::Less } else { Ordering::Greater } {
                    break;
                }
                hidden |= order.is_eq();
                if let Some((version, _)) = &change.after
                    && visit(change.key.as_bytes(), version)?.is_break()
                {
                    broken = true;
                    return Ok(ControlFlow::Break(()));
                }
                over = next_drafted();
            }
            if !hidden && visit(key, &decode_present(row)?)?.is_break() {
                broken = true;
                return Ok(ControlFlow::Break(()));
            }
            Ok(ControlFlow::Continue(()))
        })?;
        while let Some(change) = over.filter(|_| !broken) {
            if let Some((version, _)) = &change.after
                && visit(change.key.as_bytes(), version)?.is_break()
            {
                break;
            }
            over = next_drafted();
        }
        Ok(())
    }

    fn visit_past(
        &self,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        revision: Revision,
        reverse: bool,
        visit: &mut VisitKey<'_>,
    ) -> Result<(), TableError> {
        let owned = (start.map(<[u8]>::to_vec), end.map(<[u8]>::to_vec));
        let mut keys = Rows::new(self.tables, Table::Keys, owned, reverse);
        let mut past = Rows::new(self.tables, Table::Past, past_bounds(start, end), reverse);
        let mut present = next_present(&mut keys)?;
        let mut earlier = next_past(&mut past)?;
        loop {
            let key = match (&present, &earlier) {
                (None, None) => return Ok(()),
                (Some((key, _)), None) => key.clone(),
                (None, Some((key, ..))) => Bytes::copy_from_slice(key),
                (Some((a, _)), Some((b, ..))) => {
                    let present_first = if reverse { a[..] >= b[..] } else { a[..] <= b[..] };
                    if present_first { a.clone() } else { Bytes::copy_from_slice(b) }
                }
            };
            let mut found: Option<(Place, Option<Version>)> = None;
            if let Some((_, version)) = present.take_if(|(k, _)| *k == key) {
                if version.place.revision <= revision {
                    found = Some((version.place, Some(version)));
                }
                present = next_present(&mut keys)?;
            }
            while let Some((_, place, version)) = earlier.take_if(|(k, ..)| k[..] == key[..]) {
                if place.revision <= revision && found.is_none_or(|(best, _)| best < place) {
                    found = Some((place, version));
                }
                earlier = next_past(&mut past)?;
            }
            if let Some((_, Some(version))) = found
                && visit(&key, &version)?.is_break()
            {
                return Ok(());
            }
        }
    }
}

fn next_present<T: ReadTables + ?Sized>(
    rows: &mut Rows<'_, T>,
) -> Result<Option<(Bytes, Version)>, TableError> {
    match rows.next()? {
        Some((key, row)) => Ok(Some((key, decode_present(&row)?))),
        None => Ok(None),
    }
}

/// The next earlier version: its key, its place, and the version unless it is a deletion.
type Earlier = (Vec<u8>, Place, Option<Version>);

fn next_past<T: ReadTables + ?Sized>(
    rows: &mut Rows<'_, T>,
) -> Result<Option<Earlier>, TableError> {
    match rows.next()? {
        Some((row_key, row)) => {
            let (key, place) = decode_past_key(&row_key)?;
            Ok(Some((key, place, decode_past(place, &row)?)))
        }
        None => Ok(None),
    }
}

/// How many rows are read ahead of a merge.
const ROWS_AHEAD: usize = 128;

/// The rows of a scan, pulled rather than pushed, so that two scans can be merged.
struct Rows<'a, T: ?Sized> {
    tables: &'a T,
    table: Table,
    start: Bound<Vec<u8>>,
    end: Bound<Vec<u8>>,
    reverse: bool,
    ahead: VecDeque<(Bytes, Bytes)>,
    ended: bool,
}

impl<'a, T: ReadTables + ?Sized> Rows<'a, T> {
    fn new(
        tables: &'a T,
        table: Table,
        (start, end): (Bound<Vec<u8>>, Bound<Vec<u8>>),
        reverse: bool,
    ) -> Self {
        Rows { tables, table, start, end, reverse, ahead: VecDeque::new(), ended: false }
    }

    fn next(&mut self) -> Result<Option<(Bytes, Bytes)>, TableError> {
        if self.ahead.is_empty() && !self.ended {
            self.read_ahead()?;
        }
        Ok(self.ahead.pop_front())
    }

    fn read_ahead(&mut self) -> Result<(), TableError> {
        let ahead = &mut self.ahead;
        self.tables.scan(
            self.table,
            self.start.as_ref().map(|key| &key[..]),
            self.end.as_ref().map(|key| &key[..]),
            self.reverse,
            &mut |key, row| {
                ahead.push_back((Bytes::copy_from_slice(key), Bytes::copy_from_slice(row)));
                let full = ahead.len() == ROWS_AHEAD;
                Ok(if full { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
            },
        )?;
        self.ended = self.ahead.len() < ROWS_AHEAD;
        if let Some((last, _)) = self.ahead.back() {
            let beyond = Bound::Excluded(last.to_vec());
            if self.reverse {
                self.end = beyond;
            } else {
                self.start = beyond;
            }
        }
        Ok(())
    }
}

/// A key that a visit passed; its length was checked when it was stored.
pub(crate) fn visited_key(key: &[u8]) -> Result<Key, TableError> {
    super::rows::history::checked_key(Table::Keys, key)
}
