//! The `Meta` table: a shard's counters, and how far compaction has come.
//!
//! ```text
//! "counters"   → layout u8 · revision · compacted · keys · leases · sessions   (varints)
//! "compaction" → revision u64 · sub u32      the last place in history that compaction has done
//! ```
//!
//! The layout byte is the version of the rows of all tables of this state. A state with another
//! layout is refused whole, with an error, by the first command or query that touches it.

use super::history::Place;
use super::{Reader, corrupt, write_varint};
use crate::machine::tables::{ReadTables, Table, TableError, WriteTables};
use crate::types::Revision;

/// The version of all row layouts.
const LAYOUT: u8 = 1;
pub(super) const COUNTERS: &[u8] = b"counters";
pub(super) const COMPACTION: &[u8] = b"compaction";

/// The counters of a shard. One row, so that a command writes it once whatever it changes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counters {
    pub(crate) revision: Revision,
    pub(crate) compacted: Revision,
    pub(crate) keys: u64,
    pub(crate) leases: u64,
    pub(crate) sessions: u64,
}

impl Counters {
    /// The stored counters; all zero in an empty state.
    pub(crate) fn load<T: ReadTables + ?Sized>(tables: &T) -> Result<Counters, TableError> {
        let Some(row) = tables.get(Table::Meta, COUNTERS)? else {
            return Ok(Counters::default());
        };
        let mut reader = Reader::new(Table::Meta, &row);
        let layout = reader.byte()?;
        if layout != LAYOUT {
            return Err(corrupt(
                Table::Meta,
                &format!("the state has layout {layout}; this version reads layout {LAYOUT}"),
            ));
        }
        let counters = Counters {
            revision: reader.varint()?,
            compacted: reader.varint()?,
            keys: reader.varint()?,
            leases: reader.varint()?,
            sessions: reader.varint()?,
        };
        reader.end()?;
        if counters.compacted > counters.revision {
            return Err(corrupt(Table::Meta, "more is compacted than there is"));
        }
        Ok(counters)
    }

    pub(crate) fn save<T: WriteTables>(&self, tables: &mut T) -> Result<(), TableError> {
        let mut row = vec![LAYOUT];
        for number in [self.revision, self.compacted, self.keys, self.leases, self.sessions] {
            write_varint(&mut row, number);
        }
        tables.put(Table::Meta, COUNTERS, &row)
    }

    /// The revision of the next command that changes a key.
    pub(crate) fn next_revision(&self) -> Result<Revision, TableError> {
        let next = self.revision.checked_add(1);
        next.ok_or_else(|| corrupt(Table::Meta, "the revision is at its end"))
    }
}

/// Adds to a counter; damage, not arithmetic, is what takes it out of bounds.
pub(crate) fn count(table: Table, counter: &mut u64, change: i64) -> Result<(), TableError> {
    match counter.checked_add_signed(change) {
        Some(sum) => {
            *counter = sum;
            Ok(())
        }
        None => Err(corrupt(table, "a counter does not agree with the rows")),
    }
}

/// The last place in history that compaction has done; `None` before the first compaction.
pub(crate) fn compaction<T: ReadTables + ?Sized>(tables: &T) -> Result<Option<Place>, TableError> {
    match tables.get(Table::Meta, COMPACTION)? {
        Some(row) => Ok(Some(Place::decode(Table::Meta, &row)?)),
        None => Ok(None),
    }
}

pub(crate) fn save_compaction<T: WriteTables>(
    tables: &mut T,
    done: Place,
) -> Result<(), TableError> {
    tables.put(Table::Meta, COMPACTION, &done.encode())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::tables::MemTables;

    #[test]
    fn counters_have_this_layout() {
        let mut tables = MemTables::default();
        assert_eq!(Counters::load(&tables), Ok(Counters::default()));
        let counters = Counters { revision: 300, compacted: 2, keys: 3, leases: 4, sessions: 5 };
        counters.save(&mut tables).unwrap();
        let row = tables.get(Table::Meta, b"counters").unwrap().unwrap();
        assert_eq!(&row[..], [1, 0xac, 0x02, 2, 3, 4, 5]);
        assert_eq!(Counters::load(&tables), Ok(counters));

        for damaged in
            [&b""[..], &[2, 0, 0, 0, 0, 0], &row[..6], &[1, 1, 1, 0, 0, 0, 0], &[1, 1, 2, 0, 0, 0]]
        {
            tables.put(Table::Meta, b"counters", damaged).unwrap();
            assert!(Counters::load(&tables).is_err_and(|error| error.corrupt), "{damaged:?}");
        }
    }

    #[test]
    fn compaction_has_this_layout() {
        let mut tables = MemTables::default();
        assert_eq!(compaction(&tables), Ok(None));
        let place = Place { revision: 7, sub: 9 };
        save_compaction(&mut tables, place).unwrap();
        let row = tables.get(Table::Meta, b"compaction").unwrap().unwrap();
        assert_eq!(&row[..], [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9]);
        assert_eq!(compaction(&tables), Ok(Some(place)));
    }
}
