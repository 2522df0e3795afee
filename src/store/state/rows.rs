//! The machine's tables: in the file, and with what was written since laid over it.

use std::cmp::Ordering;
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use redb::{
    AccessGuard, ReadTransaction, TableDefinition, TableError as OpenError, WriteTransaction,
};

use super::file::{StateFile, storage_error};
use super::recent::{Laid, Recent, Slot};
use super::{AppliedMark, State};
use crate::machine::tables::{ReadTables, Table, TableError, Visit, WriteTables, is_empty_range};
use crate::store::log::EntryId;

type Rows = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Where each of the machine's tables lives in the file.
const fn rows_of(table: Table) -> Rows {
    TableDefinition::new(match table {
        Table::Meta => "meta",
        Table::Keys => "keys",
        Table::Past => "past",
        Table::History => "history",
        Table::Leases => "leases",
        Table::LeaseKeys => "lease_keys",
        Table::Sessions => "sessions",
        Table::Answers => "answers",
    })
}

type OpenTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;
type OpenReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// Writes rows to the file, within a transaction.
pub(in crate::store) struct FileWriter<'t> {
    transaction: &'t WriteTransaction,
    tables: [Option<OpenTable<'t>>; Table::ALL.len()],
}

impl<'t> FileWriter<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction) -> Self {
        FileWriter { transaction, tables: Default::default() }
    }

    fn table(&mut self, table: Table) -> Result<&mut OpenTable<'t>, TableError> {
        let place = &mut self.tables[table as usize];
        if place.is_none() {
            *place = Some(self.transaction.open_table(rows_of(table)).map_err(storage_error)?);
        }
        Ok(place.as_mut().expect("opened on the line above"))
    }

    /// Inserts or replaces a row, or removes it if there is none.
    pub(in crate::store) fn put(
        &mut self,
        table: Table,
        key: &[u8],
        row: Option<&[u8]>,
    ) -> Result<(), TableError> {
        let rows = self.table(table)?;
        match row {
            Some(row) => rows.insert(key, row).map(drop).map_err(storage_error),
            None => rows.remove(key).map(drop).map_err(storage_error),
        }
    }
}

/// The tables as the file has them at one moment.
pub(super) struct FileView {
    tables: [OnceLock<Option<OpenReadTable>>; Table::ALL.len()],
    transaction: ReadTransaction,
    /// The state may have another file by now; redb closes this one when nobody holds it.
    file: Arc<StateFile>,
}

impl FileView {
    pub(super) fn new(file: Arc<StateFile>) -> Result<Self, TableError> {
        let transaction = file.begin_read().map_err(|error| file.explain(error))?;
        Ok(FileView { tables: Default::default(), transaction, file })
    }

    pub(super) fn file(&self) -> &Arc<StateFile> {
        &self.file
    }

    /// A table, or `None` if nothing was ever written to it.
    fn table(&self, table: Table) -> Result<Option<&OpenReadTable>, TableError> {
        let cell = &self.tables[table as usize];
        if let Some(open) = cell.get() {
            return Ok(open.as_ref());
        }
        let open = match self.transaction.open_table(rows_of(table)) {
            Ok(open) => Some(open),
            Err(OpenError::TableDoesNotExist(_)) => None,
            Err(error) => return Err(storage_error(error)),
        };
        Ok(cell.get_or_init(|| open).as_ref())
    }

    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        let get = || match self.table(table)? {
            Some(rows) => {
                let row = rows.get(key).map_err(storage_error)?;
                Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
            }
            None => Ok(None),
        };
        get().map_err(|error| self.file.explain(error))
    }

    fn has(&self, table: Table, key: &[u8]) -> Result<bool, TableError> {
        let has = || match self.table(table)? {
            Some(rows) => Ok(rows.get(key).map_err(storage_error)?.is_some()),
            None => Ok(false),
        };
        has().map_err(|error| self.file.explain(error))
    }

    /// Visits the rows of the file with newer ones laid over them.
    fn scan(
        &self,
        table: Table,
        (start, end): (Bound<&[u8]>, Bound<&[u8]>),
        newer: Laid<'_, 3>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), TableError> {
        let scan = || {
            let range = match self.table(table)? {
                Some(rows) => Some(rows.range::<&[u8]>((start, end)).map_err(storage_error)?),
                None => None,
            };
            let older = Stored { range, reverse };
            visit_laid(newer, older, reverse, visit)
        };
        scan().map_err(|error| self.file.explain(error))
    }
}

type StoredRow = (AccessGuard<'static, &'static [u8]>, AccessGuard<'static, &'static [u8]>);

/// Rows of the file, in the order of a scan.
struct Stored {
    range: Option<redb::Range<'static, &'static [u8], &'static [u8]>>,
    reverse: bool,
}

impl Stored {
    fn next(&mut self) -> Result<Option<StoredRow>, TableError> {
        let Some(range) = &mut self.range else { return Ok(None) };
        let next = if self.reverse { range.next_back() } else { range.next() };
        next.transpose().map_err(storage_error)
    }
}

fn visit_laid(
    newer: Laid<'_, 3>,
    mut older: Stored,
    reverse: bool,
    visit: &mut Visit<'_>,
) -> Result<(), TableError> {
    let mut newer = newer.peekable();
    let mut stored = older.next()?;
    loop {
        let order = match (newer.peek(), &stored) {
            (None, None) => return Ok(()),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(slot), Some((key, _))) => {
                let order = slot.key.cmp(key.value());
                if reverse { order.reverse() } else { order }
            }
        };
        let mut flow = ControlFlow::Continue(());
        if order.is_le()
            && let Some(slot) = newer.next()
            && let Some(row) = slot.row
        {
            flow = visit(slot.key, row)?;
        }
        if order.is_gt()
            && let Some((key, row)) = &stored
        {
            flow = visit(key.value(), row.value())?;
        }
        if flow.is_break() {
            return Ok(());
        }
        if order.is_ge() {
            stored = older.next()?;
        }
    }
}

fn row_of(slot: Slot<'_>) -> Option<Bytes> {
    slot.row.map(Bytes::copy_from_slice)
}

/// The tables within one transaction: nothing is seen of it before it is done.
pub struct StateWriter {
    /// The state before it.
    before: StateView,
    written: Recent,
    applied: AppliedMark,
}

impl StateWriter {
    pub(super) fn new(before: StateView) -> Self {
        let applied = before.applied.clone();
        StateWriter { before, written: Recent::default(), applied }
    }

    /// Notes an entry as applied; part of the transaction.
    pub fn set_applied(&mut self, id: EntryId) {
        self.applied.id = Some(id);
    }

    /// Notes an entry as the one that holds the membership; part of the transaction.
    pub fn set_membership(&mut self, id: EntryId, membership: Vec<u8>) {
        self.applied.membership_id = Some(id);
        self.applied.membership = membership;
    }

    /// What was written, and the mark. Lets go of the state before, which can then be changed
    /// without a copy.
    pub(super) fn finish(self) -> (Recent, AppliedMark) {
        (self.written, self.applied)
    }
}

impl ReadTables for StateWriter {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        match self.written.get(table, key) {
            Some(slot) => Ok(row_of(slot)),
            None => self.before.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), TableError> {
        self.before.scan_under(Some(&self.written), table, (start, end), reverse, visit)
    }
}

impl WriteTables for StateWriter {
    fn put(&mut self, table: Table, key: &[u8], row: &[u8]) -> Result<(), TableError> {
        self.written.put(table, Slot { key, row: Some(row) });
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, TableError> {
        let was_there = match self.written.get(table, key) {
            Some(slot) => slot.row.is_some(),
            None => self.before.has(table, key)?,
        };
        if was_there {
            self.written.put(table, Slot { key, row: None });
        }
        Ok(was_there)
    }
}

/// The tables as of one moment. Keeps the state's files from being opened anew while it is read.
pub struct StateView {
    stored: Arc<FileView>,
    /// What is not in the file as seen here, the newest first.
    layers: [Recent; 2],
    applied: AppliedMark,
    _state: State,
}

impl fmt::Debug for StateView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StateView({:?})", self.applied.id)
    }
}

impl StateView {
    pub(super) fn new(
        state: State,
        stored: Arc<FileView>,
        layers: [Recent; 2],
        applied: AppliedMark,
    ) -> Self {
        StateView { stored, layers, applied, _state: state }
    }

    /// A row that is in memory.
    fn recent(&self, table: Table, key: &[u8]) -> Option<Slot<'_>> {
        self.layers.iter().find_map(|layer| layer.get(table, key))
    }

    /// How far the log was applied in this view.
    pub fn applied(&self) -> &AppliedMark {
        &self.applied
    }

    fn has(&self, table: Table, key: &[u8]) -> Result<bool, TableError> {
        match self.recent(table, key) {
            Some(slot) => Ok(slot.row.is_some()),
            None => self.stored.has(table, key),
        }
    }

    /// Visits the rows with those of a transaction laid over them.
    fn scan_under<'a>(
        &'a self,
        written: Option<&'a Recent>,
        table: Table,
        (start, end): (Bound<&[u8]>, Bound<&[u8]>),
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), TableError> {
        if is_empty_range(start, end) {
            return Ok(());
        }
        let range = |rows: &'a Recent| rows.range(table, start, end);
        let [newer, older] = self.layers.each_ref().map(range);
        let written = written.map(range).unwrap_or_default();
        let newer = Laid::over([written, newer, older], reverse);
        self.stored.scan(table, (start, end), newer, reverse, visit)
    }
}

impl ReadTables for StateView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        match self.recent(table, key) {
            Some(slot) => Ok(row_of(slot)),
            None => self.stored.get(table, key),
        }
    }

    fn scan(
        &self,
        table: Table,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), TableError> {
        self.scan_under(None, table, (start, end), reverse, visit)
    }
}
