//! The machine's tables within one transaction of the state file.

use std::cell::OnceCell;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use bytes::Bytes;
use redb::{
    ReadTransaction, ReadableTable, TableDefinition, TableError as OpenError, WriteTransaction,
};

use super::file::{StateFile, applied_in, storage_error};
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

/// The tables within one write transaction.
pub struct StateWriter<'t> {
    transaction: &'t WriteTransaction,
    tables: [OnceCell<OpenTable<'t>>; Table::ALL.len()],
    applied: AppliedMark,
}

impl<'t> StateWriter<'t> {
    pub(super) fn new(transaction: &'t WriteTransaction, applied: AppliedMark) -> Self {
        StateWriter { transaction, tables: Default::default(), applied }
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

    /// Closes the tables, which the commit asks for.
    pub(super) fn into_applied(self) -> AppliedMark {
        self.applied
    }

    fn table(&self, table: Table) -> Result<&OpenTable<'t>, TableError> {
        let cell = &self.tables[table as usize];
        if let Some(open) = cell.get() {
            return Ok(open);
        }
        let open = self.transaction.open_table(rows_of(table)).map_err(storage_error)?;
        Ok(cell.get_or_init(|| open))
    }

    fn table_mut(&mut self, table: Table) -> Result<&mut OpenTable<'t>, TableError> {
        self.table(table)?;
        Ok(self.tables[table as usize].get_mut().expect("opened on the line above"))
    }
}

impl ReadTables for StateWriter<'_> {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        get_row(self.table(table)?, key)
    }

    fn scan(
        &self,
        table: Table,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), TableError> {
        scan_rows(self.table(table)?, start, end, reverse, visit)
    }
}

impl WriteTables for StateWriter<'_> {
    fn put(&mut self, table: Table, key: &[u8], row: &[u8]) -> Result<(), TableError> {
        self.table_mut(table)?.insert(key, row).map_err(storage_error)?;
        Ok(())
    }

    fn delete(&mut self, table: Table, key: &[u8]) -> Result<bool, TableError> {
        Ok(self.table_mut(table)?.remove(key).map_err(storage_error)?.is_some())
    }
}

/// The tables as of one moment. Keeps the state's files from being opened anew while it is read.
pub struct StateView {
    tables: [OnceCell<Option<OpenReadTable>>; Table::ALL.len()],
    transaction: ReadTransaction,
    /// The state may have another file by now; redb closes this one when nobody holds it.
    file: Arc<StateFile>,
    _state: State,
}

impl StateView {
    pub(super) fn new(state: State, file: Arc<StateFile>) -> Result<Self, TableError> {
        let transaction = file.begin_read().map_err(|error| file.explain(error))?;
        Ok(StateView { tables: Default::default(), transaction, file, _state: state })
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

    /// How far the log was applied in this view.
    pub fn applied(&self) -> Result<AppliedMark, TableError> {
        applied_in(&self.transaction).map_err(|error| self.file.explain(error))
    }
}

impl ReadTables for StateView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        let get = || match self.table(table)? {
            Some(rows) => get_row(rows, key),
            None => Ok(None),
        };
        get().map_err(|error| self.file.explain(error))
    }

    fn scan(
        &self,
        table: Table,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
        reverse: bool,
        visit: &mut Visit<'_>,
    ) -> Result<(), TableError> {
        let mut scan = || match self.table(table)? {
            Some(rows) => scan_rows(rows, start, end, reverse, visit),
            None => Ok(()),
        };
        scan().map_err(|error| self.file.explain(error))
    }
}

fn get_row(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    key: &[u8],
) -> Result<Option<Bytes>, TableError> {
    let row = rows.get(key).map_err(storage_error)?;
    Ok(row.map(|row| Bytes::copy_from_slice(row.value())))
}

fn scan_rows(
    rows: &impl ReadableTable<&'static [u8], &'static [u8]>,
    start: Bound<&[u8]>,
    end: Bound<&[u8]>,
    reverse: bool,
    visit: &mut Visit<'_>,
) -> Result<(), TableError> {
    if is_empty_range(start, end) {
        return Ok(());
    }
    let mut range = rows.range::<&[u8]>((start, end)).map_err(storage_error)?;
    loop {
        let next = if reverse { range.next_back() } else { range.next() };
        let Some(row) = next else { return Ok(()) };
        let (key, row) = row.map_err(storage_error)?;
        if let ControlFlow::Break(()) = visit(key.value(), row.value())? {
            return Ok(());
        }
    }
}
