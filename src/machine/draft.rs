//! What a command is about to change. A command is decided whole before anything is written:
//! a refusal anywhere in it drops the draft and the tables are as they were.
//!
//! Rows that a put of an existing key touches, without a lease: `Keys` is read and written,
//! `Past` and `History` are written, the counters are read and written: two reads and four
//! writes. A new key has no `Past` row. A session adds two reads and one write, and now and then
//! the forgetting of old answers (see `session`).

use std::collections::BTreeMap;
use std::ops::Bound;

use bytes::Bytes;

use super::apply::LeaseChanges;
use super::ops::Event;
use super::rows::corrupt;
use super::rows::history::{Place, Version, encode_delete, encode_put};
use super::rows::keys::{encode_past, encode_past_key, encode_present};
use super::rows::leases::{LeaseRow, encode_lease_key};
use super::rows::meta::{Counters, count};
use super::stop::Stop;
use super::tables::{ReadTables, Table, TableError, WriteTables, is_empty_range};
use crate::error::Refusal;
use crate::limits::{
    DELETE_KEY_BYTES_MAX, DELETE_KEYS_MAX, LEASE_KEYS_MAX, LEASES_MAX, TXN_ANSWER_BYTES_MAX,
    TXN_BYTES_MAX,
};
use crate::types::{Key, LeaseId, Record, Revision, Value};

/// One change of one key. A key may change more than once in a draft; changes are in order.
pub(crate) struct Change {
    pub(crate) key: Key,
    /// The version that is superseded.
    pub(crate) before: Option<Version>,
    /// What is written, or `None` for a deletion.
    pub(crate) after: Option<(Version, Value)>,
}

/// The changes of one command, in order, all of one revision.
pub(crate) struct Draft {
    /// The counters before the command.
    pub(crate) counters: Counters,
    revision: Revision,
    changes: Vec<Change>,
    /// The last change of each key.
    latest: BTreeMap<Bytes, usize>,
    /// Leases that keys were attached to or detached from, as they will be; `None` if it ended.
    leases: BTreeMap<LeaseId, Option<LeaseRow>>,
    lease_changes: LeaseChanges,
    kept_bytes: usize,
    deleted: usize,
    deleted_bytes: usize,
    answer_bytes: usize,
}

impl Draft {
    pub(crate) fn new(counters: Counters) -> Result<Draft, TableError> {
        Ok(Draft {
            counters,
            revision: counters.next_revision()?,
            changes: Vec::new(),
            latest: BTreeMap::new(),
            leases: BTreeMap::new(),
            lease_changes: LeaseChanges::default(),
            kept_bytes: 0,
            deleted: 0,
            deleted_bytes: 0,
            answer_bytes: 0,
        })
    }

    /// The revision of all that is written.
    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn changes(&self) -> &[Change] {
        &self.changes
    }

    /// The last change of a key, if the draft changes it.
    pub(crate) fn latest(&self, key: &[u8]) -> Option<&Change> {
        self.latest.get(key).map(|&change| &self.changes[change])
    }

    /// The last change of each changed key between two bounds, in order of the keys.
    pub(crate) fn latest_between<'a>(
        &'a self,
        start: Bound<&'a [u8]>,
        end: Bound<&'a [u8]>,
    ) -> impl DoubleEndedIterator<Item = &'a Change> {
        // A B-tree panics on a start beyond the end.
        let bounds = if is_empty_range(start, end) {
            (Bound::Unbounded, Bound::Excluded(&[][..]))
        } else {
            (start, end)
        };
        self.latest.range::<[u8], _>(bounds).map(|(_, &change)| &self.changes[change])
    }

    /// Counts a value that a put keeps, which costs as much as one that is sent.
    pub(crate) fn charge_kept(&mut self, value: &Value) -> Result<(), Refusal> {
        self.kept_bytes = self.kept_bytes.saturating_add(value.as_bytes().len());
        if self.kept_bytes > TXN_BYTES_MAX { Err(Refusal::KeptTooLarge) } else { Ok(()) }
    }

    /// Counts a record that the command answers.
    pub(crate) fn charge_answer(&mut self, key: &[u8], record: &Record) -> Result<(), Refusal> {
        self.answer_bytes =
            self.answer_bytes.saturating_add(key.len() + record.value.as_bytes().len());
        if self.answer_bytes > TXN_ANSWER_BYTES_MAX { Err(Refusal::AnswerTooLarge) } else { Ok(()) }
    }

    /// Whether keys of this many bytes can be deleted besides those that already are.
    pub(crate) fn has_room_to_delete(&self, keys: usize, key_bytes: usize) -> bool {
        self.deleted + keys <= DELETE_KEYS_MAX
            && self.deleted_bytes + key_bytes <= DELETE_KEY_BYTES_MAX
    }

    /// Writes a key. `before` is its present version; `create` and `version` go on from it,
    /// unless it is to be as if it had been deleted before.
    pub(crate) fn put<T: ReadTables + ?Sized>(
        &mut self,
        tables: &T,
        key: Key,
        before: Option<Version>,
        anew: bool,
        value: Value,
        lease: Option<LeaseId>,
    ) -> Result<(), Stop> {
        let place = self.next_place()?;
        let after = match before.filter(|_| !anew) {
            None => Version { place, create: self.revision, version: 1, lease },
            Some(before) => {
                let version = before.version.checked_add(1);
                let version =
                    version.ok_or_else(|| corrupt(Table::Keys, "a version is at its end"))?;
                Version { place, create: before.create, version, lease }
            }
        };
        let lease_before = before.and_then(|before| before.lease);
        if lease_before != lease {
            self.detach(tables, lease_before)?;
            if let Some(lease) = lease {
                self.attach(tables, lease)?;
            }
        }
        self.push(Change { key, before, after: Some((after, value)) });
        Ok(())
    }

    /// Deletes a key that exists.
    pub(crate) fn delete<T: ReadTables + ?Sized>(
        &mut self,
        tables: &T,
        key: Key,
        before: Version,
    ) -> Result<(), Stop> {
        if !self.has_room_to_delete(1, key.as_bytes().len()) {
            return Err(Refusal::DeleteTooLarge.into());
        }
        self.next_place()?;
        self.deleted += 1;
        self.deleted_bytes += key.as_bytes().len();
        self.detach(tables, before.lease)?;
        self.push(Change { key, before: Some(before), after: None });
        Ok(())
    }

    fn next_place(&self) -> Result<Place, TableError> {
        // Transactions and deletes are limited far below this.
        let sub = u32::try_from(self.changes.len())
            .map_err(|_| corrupt(Table::History, "a revision has too many changes"))?;
        Ok(Place { revision: self.revision, sub })
    }

    fn push(&mut self, change: Change) {
        self.latest.insert(change.key.clone().into_bytes(), self.changes.len());
        self.changes.push(change);
    }

    /// The lease as this draft leaves it.
    pub(crate) fn lease<T: ReadTables + ?Sized>(
        &self,
        tables: &T,
        id: LeaseId,
    ) -> Result<Option<LeaseRow>, TableError> {
        match self.leases.get(&id) {
            Some(row) => Ok(*row),
            None => LeaseRow::load(tables, id),
        }
    }

    fn attach<T: ReadTables + ?Sized>(&mut self, tables: &T, id: LeaseId) -> Result<(), Stop> {
        let mut row = self.lease(tables, id)?.ok_or(Refusal::LeaseNotFound { id })?;
        if row.keys >= LEASE_KEYS_MAX {
            return Err(Refusal::LeaseTooManyKeys { id }.into());
        }
        row.keys += 1;
        self.leases.insert(id, Some(row));
        Ok(())
    }

    fn detach<T: ReadTables + ?Sized>(
        &mut self,
        tables: &T,
        id: Option<LeaseId>,
    ) -> Result<(), TableError> {
        let Some(id) = id else { return Ok(()) };
        let row = self.lease(tables, id)?;
        let mut row = row.ok_or_else(|| corrupt(Table::Leases, "a key's lease is not there"))?;
        count(Table::Leases, &mut row.keys, -1)?;
        self.leases.insert(id, Some(row));
        Ok(())
    }

    /// Makes a lease that does not exist.
    pub(crate) fn grant(&mut self, id: LeaseId, ttl_ms: u64) -> Result<(), Refusal> {
        if self.counters.leases >= LEASES_MAX {
            return Err(Refusal::TooManyLeases);
        }
        self.leases.insert(id, Some(LeaseRow { ttl_ms, keys: 0 }));
        self.lease_changes.granted.push((id, ttl_ms));
        Ok(())
    }

    /// Ends a lease whose keys are deleted.
    pub(crate) fn end(&mut self, id: LeaseId) {
        self.leases.insert(id, None);
        self.lease_changes.ended.push(id);
    }

    /// Writes all of it, moves the counters on, and says what happened.
    pub(crate) fn commit<T: WriteTables>(
        self,
        tables: &mut T,
        counters: &mut Counters,
    ) -> Result<(Vec<Event>, LeaseChanges), TableError> {
        let mut events = Vec::with_capacity(self.changes.len());
        let (mut row_key, mut row) = (Vec::new(), Vec::new());
        if !self.changes.is_empty() {
            counters.revision = self.revision;
        }
        for (sub, change) in self.changes.into_iter().enumerate() {
            let place = Place { revision: self.revision, sub: sub as u32 };
            let key = change.key.as_bytes();
            if let Some(before) = &change.before {
                encode_past_key(&mut row_key, key, before.place);
                encode_past(&mut row, before);
                tables.put(Table::Past, &row_key, &row)?;
            }
            match &change.after {
                Some((version, value)) => {
                    encode_put(&mut row, &change.key, version, value);
                    tables.put(Table::History, &place.encode(), &row)?;
                    encode_present(&mut row, version);
                    tables.put(Table::Keys, key, &row)?;
                }
                None => {
                    encode_delete(&mut row, &change.key);
                    tables.put(Table::History, &place.encode(), &row)?;
                    encode_past_key(&mut row_key, key, place);
                    tables.put(Table::Past, &row_key, &[])?;
                    tables.delete(Table::Keys, key)?;
                }
            }
            let before = change.before.and_then(|version| version.lease);
            let after = change.after.as_ref().and_then(|(version, _)| version.lease);
            if before != after {
                if let Some(id) = before {
                    encode_lease_key(&mut row_key, id, key);
                    tables.delete(Table::LeaseKeys, &row_key)?;
                }
                if let Some(id) = after {
                    encode_lease_key(&mut row_key, id, key);
                    tables.put(Table::LeaseKeys, &row_key, &[])?;
                }
            }
            let keys = i64::from(change.after.is_some()) - i64::from(change.before.is_some());
            count(Table::Keys, &mut counters.keys, keys)?;
            let record = change.after.map(|(version, value)| version.record(value));
            events.push(Event { revision: self.revision, key: change.key, record });
        }
        for (id, lease) in self.leases {
            match lease {
                Some(lease) => {
                    tables.put(Table::Leases, &id.0.to_be_bytes(), &lease.encode())?;
                }
                None => {
                    tables.delete(Table::Leases, &id.0.to_be_bytes())?;
                }
            }
        }
        let LeaseChanges { granted, ended } = &self.lease_changes;
        count(Table::Leases, &mut counters.leases, granted.len() as i64 - ended.len() as i64)?;
        Ok((events, self.lease_changes))
    }
}
