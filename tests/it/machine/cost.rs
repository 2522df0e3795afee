//! What the commonest operations cost in rows read and written, as the machine's comments say.

use std::cell::Cell;
use std::ops::Bound;

use aspen::machine::ops::*;
use aspen::machine::tables::{MemTables, ReadTables, Table, TableError, Visit, WriteTables};
use aspen::machine::{apply, query};
use aspen::types::{Key, SessionId, Value};
use bytes::Bytes;

/// Tables that count.
#[derive(Default)]
struct Counting {
    tables: MemTables,
    reads: Cell<u64>,
    scans: Cell<u64>,
    writes: u64,
}

impl ReadTables for Counting {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        self.reads.set(self.reads.get() + 1);
        self.tables.get(table, key)
    }

    fn scan(
        &self,
        table: Table,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), TableError> {
        self.scans.set(self.scans.get() + 1);
        self.tables.scan(table, start, end, reverse, visit)
    }
}

impl WriteTables for Counting {
    fn put(&mut self, table: Table, key: &[u8], row: &[u8]) -> Result<(), TableError> {
        self.writes += 1;
        self.tables.put(table, key, row)
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, TableError> {
        self.writes += 1;
        self.tables.delete(table, key)
    }
}

impl Counting {
    /// Rows read, scans and rows written since it was last asked.
    fn cost(&mut self) -> (u64, u64, u64) {
        (self.reads.take(), self.scans.take(), std::mem::take(&mut self.writes))
    }
}

#[test]
fn common_operations_touch_few_rows() {
    let mut tables = Counting::default();
    let key = Key::try_from("k").unwrap();
    let put = || Action::Put(Put::new(Key::try_from("k").unwrap(), Value::default()));
    apply(&mut tables, 1, &Command { session: None, action: Action::SessionOpen }).unwrap();
    tables.cost();

    apply(&mut tables, 2, &Command { session: None, action: put() }).unwrap();
    assert_eq!(tables.cost(), (2, 0, 3), "a put of a new key");
    apply(&mut tables, 3, &Command { session: None, action: put() }).unwrap();
    assert_eq!(tables.cost(), (2, 0, 4), "a put of a key that exists");

    let place = |seq| Some(SessionSeq { id: SessionId(1), seq, acked_below: seq });
    apply(&mut tables, 4, &Command { session: place(1), action: put() }).unwrap();
    assert_eq!(tables.cost(), (4, 0, 5), "the same in a session");
    for seq in 2..=321 {
        apply(&mut tables, 3 + seq, &Command { session: place(seq), action: put() }).unwrap();
    }
    let (reads, scans, writes) = tables.cost();
    assert_eq!((reads, scans), (4 * 320, 10), "one scan for 32 answers that are forgotten");
    assert_eq!(writes, 320 * 5 + 319 + 10, "each is forgotten once, and the session written then");

    query(&tables, &Query::Get(key)).unwrap().unwrap();
    assert_eq!(tables.cost(), (3, 0, 0), "a get");
}
