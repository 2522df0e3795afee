//! The ordered tables that hold a shard's state, as the machine sees them.
//!
//! `store` implements them on redb; [`MemTables`] on maps, for tests and tools. A row is bytes;
//! each table's row layout is drawn in the machine file that owns the table.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};

use bytes::Bytes;

/// One of the state's tables. The numbers are part of the snapshot format: never reuse one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Table {
    /// Single values by name: revision, compacted revision, counters.
    Meta = 0,
    /// What is current: key → counters and where its value is in history.
    Keys = 1,
    /// Superseded and deleted versions: key, revision → marker, for reads at a past revision.
    Past = 2,
    /// Every change that is not compacted: revision → what was written.
    History = 3,
    /// Leases: id → time to live and how many keys.
    Leases = 4,
    /// Keys attached to leases: lease, key.
    LeaseKeys = 5,
    /// Client sessions.
    Sessions = 6,
    /// Remembered answers: session, sequence → answer.
    Answers = 7,
}

impl Table {
    /// All tables, in the order in which they are snapshotted and hashed.
    pub const ALL: [Table; 8] = [
        Table::Meta,
        Table::Keys,
        Table::Past,
        Table::History,
        Table::Leases,
        Table::LeaseKeys,
        Table::Sessions,
        Table::Answers,
    ];

    /// The table with this number.
    pub fn from_u8(number: u8) -> Option<Table> {
        Table::ALL.into_iter().find(|table| *table as u8 == number)
    }
}

/// The tables could not be read or written: an IO error or damage. Never a domain error.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{what}")]
pub struct TableError {
    /// What happened, with the file where one is known.
    pub what: String,
    /// True if stored data is damaged; false if the disk refused.
    pub corrupt: bool,
}

impl TableError {
    /// A row does not decode: the state is damaged or was written by a newer version.
    pub fn corrupt(what: impl Into<String>) -> Self {
        TableError { what: what.into(), corrupt: true }
    }

    /// The storage under the tables failed.
    pub fn io(what: impl Into<String>) -> Self {
        TableError { what: what.into(), corrupt: false }
    }
}

/// Called for each row of a scan, in order; `Break` ends the scan.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> Result<ControlFlow<()>, TableError> + 'a;

/// Reads rows of one consistent view.
pub trait ReadTables {
    /// The row under exactly this key.
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, TableError>;

    /// Visits the rows between two bounds, ascending, or descending if `reverse`; none if the
    /// start is beyond the end (see [`is_empty_range`]).
    fn scan(
        &self,
        table: Table,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), TableError>;
}

/// Reads and writes rows; what is written is seen by later reads through the same value.
pub trait WriteTables: ReadTables {
    /// Inserts or replaces a row.
    fn put(&mut self, table: Table, key: &[u8], row: &[u8]) -> Result<(), TableError>;

    /// Removes a row and says whether it was there.
    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, TableError>;
}

/// Tables in memory.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemTables {
    tables: [BTreeMap<Bytes, Bytes>; Table::ALL.len()],
}

impl ReadTables for MemTables {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        Ok(self.tables[table as usize].get(key).cloned())
    }

    fn scan(
        &self,
        table: Table,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), TableError> {
        if is_empty_range(start, end) {
            return Ok(());
        }
        let rows = self.tables[table as usize].range::<[u8], _>((start, end));
        let rows: &mut dyn Iterator<Item = (&Bytes, &Bytes)> =
            if reverse { &mut rows.rev() } else { &mut { rows } };
        for (key, row) in rows {
            if visit(key, row)?.is_break() {
                break;
            }
        }
        Ok(())
    }
}

impl WriteTables for MemTables {
    fn put(&mut self, table: Table, key: &[u8], row: &[u8]) -> Result<(), TableError> {
        self.tables[table as usize]
            .insert(Bytes::copy_from_slice(key), Bytes::copy_from_slice(row));
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, TableError> {
        Ok(self.tables[table as usize].remove(key).is_some())
    }
}

/// True if no key can lie between the bounds; such a range must not reach a B-tree, which panics
/// on a start beyond the end.
pub fn is_empty_range(start: Bound<&[u8]>, end: Bound<&[u8]>) -> bool {
    match (start, end) {
        (Bound::Unbounded, _) | (_, Bound::Unbounded) => false,
        (Bound::Included(start), Bound::Included(end)) => start > end,
        (Bound::Included(start) | Bound::Excluded(start), Bound::Excluded(end))
        | (Bound::Excluded(start), Bound::Included(end)) => start >= end,
    }
}
