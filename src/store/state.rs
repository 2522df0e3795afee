//! One group's state: the machine's tables in a redb file.
//!
//! A transaction of [`State::write`] is visible at once and durable at the next
//! [`State::checkpoint`]; the log is what makes a write durable, and the log is not purged beyond
//! the last checkpoint. Beside the machine's tables the file holds how far the log was applied and
//! the group's membership, in the same transaction as what was applied.
//!
//! Every 4 KiB block is checked when it is read from disk ([`super::checked`]). A file is created
//! under another name and renamed when it is whole, so a crash never leaves half of one behind.

use std::cell::OnceCell;
use std::fmt;
use std::ops::{Bound, ControlFlow};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bytes::Bytes;
use redb::{
    Database, Durability, ReadableDatabase, ReadableTable, TableDefinition, TableError as OpenError,
};
use serde::{Deserialize, Serialize};

use super::checked::{CheckedFile, DamagedBlock};
use super::log::EntryId;
use crate::limits::STATE_CACHE_BYTES;
use crate::machine::tables::{ReadTables, Table, TableError, Visit, WriteTables, is_empty_range};
use crate::seams::disk::{Disk, OpenMode};
use crate::types::GroupId;

/// The state file's own version; one more for each change of the tables' meaning.
const FORMAT: u8 = 1;
const LOCK_FILE: &str = "lock";
const STATE_FILE: &str = "state.redb";
const STATE_FILE_NEW: &str = "state.redb.new";

/// How far the log was applied, and the membership then; not part of the machine's state.
const APPLIED: TableDefinition<'static, &'static str, &'static [u8]> =
    TableDefinition::new("applied");
const APPLIED_ROW: &str = "applied";

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

/// How far the log was applied to a state.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppliedMark {
    /// The last applied entry.
    pub id: Option<EntryId>,
    /// The entry that holds the membership below.
    pub membership_id: Option<EntryId>,
    /// The last membership, as `raft` encodes it; empty before the first.
    pub membership: Vec<u8>,
}

/// One group's state; clones are the same state.
#[derive(Clone)]
pub struct State {
    inner: Arc<Inner>,
}

/// A state that may be closed meanwhile: for those who look at it now and then, and must not
/// keep its files open in between.
#[derive(Clone)]
pub struct WeakState {
    inner: Weak<Inner>,
}

impl fmt::Debug for WeakState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakState")
    }
}

impl WeakState {
    /// The state, unless it is closed.
    pub fn upgrade(&self) -> Option<State> {
        self.inner.upgrade().map(|inner| State { inner })
    }
}

struct Inner {
    group: GroupId,
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    open: Mutex<Open>,
    /// A replica that failed may take a moment to let go of its files; until then the next one
    /// can't open them.
    _lock: Box<dyn fmt::Debug + Send + Sync>,
}

/// The open file; replaced as a whole when a snapshot is installed.
struct Open {
    database: Arc<Database>,
    applied: AppliedMark,
    /// What the last checkpoint made durable.
    durable: Option<EntryId>,
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State(group {})", self.inner.group)
    }
}

impl State {
    /// Opens or creates the state of a group in its directory, and sweeps what a crash left there.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, group: GroupId) -> Result<State, TableError> {
        disk.create_dir_all(dir).map_err(|error| io_error(dir, &error))?;
        let lock_path = dir.join(LOCK_FILE);
        let lock = disk.lock(&lock_path).map_err(|error| io_error(&lock_path, &error))?;
        sweep(disk.as_ref(), dir, group)?;
        let path = dir.join(STATE_FILE);
        let is_new = !disk.exists(&path).map_err(|error| io_error(&path, &error))?;
        let database = if is_new {
            let database = open_database(disk.as_ref(), dir, STATE_FILE_NEW, OpenMode::CreateNew)?;
            write_applied(&database, &AppliedMark::default())?;
            publish(disk.as_ref(), dir)?;
            database
        } else {
            open_database(disk.as_ref(), dir, STATE_FILE, OpenMode::Existing)?
        };
        let applied = read_applied(&database)?;
        let durable = applied.id;
        let open = Mutex::new(Open { database: Arc::new(database), applied, durable });
        let inner = Inner { group, disk, dir: dir.to_owned(), open, _lock: lock };
        Ok(State { inner: Arc::new(inner) })
    }

    fn opened(&self) -> MutexGuard<'_, Open> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn database(&self) -> Arc<Database> {
        self.opened().database.clone()
    }

    /// A handle that does not keep the state open.
    pub fn downgrade(&self) -> WeakState {
        WeakState { inner: Arc::downgrade(&self.inner) }
    }

    /// The group whose state this is.
    pub fn group(&self) -> GroupId {
        self.inner.group
    }

    /// Where the group's files are, and on which disk.
    pub(super) fn place(&self) -> (&Arc<dyn Disk>, &Path) {
        (&self.inner.disk, &self.inner.dir)
    }

    /// How far the log was applied.
    pub fn applied(&self) -> AppliedMark {
        self.opened().applied.clone()
    }

    /// The last applied entry.
    pub fn applied_id(&self) -> Option<EntryId> {
        self.opened().applied.id
    }

    /// The last entry whose effect a crash can't take back; the log may be purged up to here.
    pub fn durable_id(&self) -> Option<EntryId> {
        self.opened().durable
    }

    /// Applies entries in one transaction, which is visible when this returns. Only one caller at
    /// a time gets to write; the second waits.
    pub fn write<R>(
        &self,
        apply: impl FnOnce(&mut StateWriter<'_>) -> Result<R, TableError>,
    ) -> Result<R, TableError> {
        let database = self.database();
        let mut transaction = database.begin_write().map_err(storage_error)?;
        transaction.set_durability(Durability::None).map_err(storage_error)?;
        let applied = applied_for_write(&transaction)?;
        let mut writer =
            StateWriter { transaction: &transaction, tables: Default::default(), applied };
        let result = apply(&mut writer)?;
        let applied = writer.into_applied();
        put_applied(&transaction, &applied)?;
        transaction.commit().map_err(storage_error)?;
        self.opened().applied = applied;
        Ok(result)
    }

    /// Makes everything applied so far durable. Blocks for the time of an fsync, and writers with
    /// it: call it where blocking is allowed.
    pub fn checkpoint(&self) -> Result<Option<EntryId>, TableError> {
        let database = self.database();
        let mut transaction = database.begin_write().map_err(storage_error)?;
        make_durable(&mut transaction)?;
        // Writing the row again makes this a commit with content, which carries all before it.
        let applied = applied_for_write(&transaction)?;
        put_applied(&transaction, &applied)?;
        transaction.commit().map_err(storage_error)?;
        self.opened().durable = applied.id;
        Ok(applied.id)
    }

    /// A consistent view of everything applied so far; later writes don't change it.
    pub fn view(&self) -> Result<StateView, TableError> {
        let transaction = self.database().begin_read().map_err(storage_error)?;
        Ok(StateView { transaction, tables: Default::default(), _state: self.clone() })
    }

    /// Opens an empty database under another name, to be filled and then put in this one's place.
    pub(super) fn begin_replacement(&self) -> Result<Replacement<'_>, TableError> {
        let (disk, dir) = self.place();
        let path = dir.join(STATE_FILE_NEW);
        if disk.exists(&path).map_err(|error| io_error(&path, &error))? {
            disk.remove(&path).map_err(|error| io_error(&path, &error))?;
        }
        let database = open_database(disk.as_ref(), dir, STATE_FILE_NEW, OpenMode::CreateNew)?;
        Ok(Replacement { state: self, database })
    }
}

/// A state being filled from a snapshot; dropped unfinished, it changes nothing.
pub(super) struct Replacement<'a> {
    state: &'a State,
    database: Database,
}

impl Replacement<'_> {
    /// Adds rows in one transaction, not yet durable.
    pub(super) fn fill(
        &self,
        fill: impl FnOnce(&mut StateWriter<'_>) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        let mut transaction = self.database.begin_write().map_err(storage_error)?;
        transaction.set_durability(Durability::None).map_err(storage_error)?;
        let applied = AppliedMark::default();
        let mut writer =
            StateWriter { transaction: &transaction, tables: Default::default(), applied };
        fill(&mut writer)?;
        drop(writer);
        transaction.commit().map_err(storage_error)
    }

    /// Makes the new state durable and puts it in place; readers of the old one keep it.
    pub(super) fn finish(self, applied: AppliedMark) -> Result<(), TableError> {
        write_applied(&self.database, &applied)?;
        let (disk, dir) = self.state.place();
        publish(disk.as_ref(), dir)?;
        let durable = applied.id;
        *self.state.opened() = Open { database: Arc::new(self.database), applied, durable };
        Ok(())
    }
}

/// Removes what a crash during creation or a snapshot's arrival left behind.
fn sweep(disk: &dyn Disk, dir: &Path, group: GroupId) -> Result<(), TableError> {
    for name in disk.list(dir).map_err(|error| io_error(dir, &error))? {
        if name == STATE_FILE_NEW || name.ends_with(super::snapshot::PART_SUFFIX) {
            let path = dir.join(&name);
            disk.remove(&path).map_err(|error| io_error(&path, &error))?;
            tracing::info!(%group, file = %name, "removed an unfinished file");
        }
    }
    Ok(())
}

/// Gives the new state file its final name, durably.
fn publish(disk: &dyn Disk, dir: &Path) -> Result<(), TableError> {
    disk.rename(&dir.join(STATE_FILE_NEW), &dir.join(STATE_FILE))
        .and_then(|()| disk.sync_dir(dir))
        .map_err(|error| io_error(dir, &error))
}

fn open_database(
    disk: &dyn Disk,
    dir: &Path,
    name: &str,
    mode: OpenMode,
) -> Result<Database, TableError> {
    let path = dir.join(name);
    let file = disk.open(&path, mode).map_err(|error| io_error(&path, &error))?;
    let checked = CheckedFile::new(file, &path).map_err(|error| open_error(&path, error))?;
    redb::Builder::new()
        .set_cache_size(STATE_CACHE_BYTES)
        .create_with_backend(checked)
        .map_err(storage_error)
}

fn put_applied(
    transaction: &redb::WriteTransaction,
    applied: &AppliedMark,
) -> Result<(), TableError> {
    let mut row = vec![FORMAT];
    row.extend(postcard::to_stdvec(applied).map_err(|error| TableError::io(error.to_string()))?);
    let mut table = transaction.open_table(APPLIED).map_err(storage_error)?;
    table.insert(APPLIED_ROW, row.as_slice()).map_err(storage_error)?;
    Ok(())
}

fn write_applied(database: &Database, applied: &AppliedMark) -> Result<(), TableError> {
    let mut transaction = database.begin_write().map_err(storage_error)?;
    make_durable(&mut transaction)?;
    put_applied(&transaction, applied)?;
    transaction.commit().map_err(storage_error)
}

/// Asks for a commit that a crash can't take back, in the two phases that [`CheckedFile`] needs.
/// Quick repair is two-phase and writes down which pages are free, so that opening after a crash
/// does not read the whole file.
fn make_durable(transaction: &mut redb::WriteTransaction) -> Result<(), TableError> {
    transaction.set_durability(Durability::Immediate).map_err(storage_error)?;
    transaction.set_quick_repair(true);
    Ok(())
}

fn read_applied(database: &Database) -> Result<AppliedMark, TableError> {
    let transaction = database.begin_read().map_err(storage_error)?;
    applied_in(&transaction)
}

fn applied_in(transaction: &redb::ReadTransaction) -> Result<AppliedMark, TableError> {
    applied_row(&transaction.open_table(APPLIED).map_err(storage_error)?)
}

/// The mark as the writer sees it, which may be newer than what [`State::applied`] says yet.
fn applied_for_write(transaction: &redb::WriteTransaction) -> Result<AppliedMark, TableError> {
    applied_row(&transaction.open_table(APPLIED).map_err(storage_error)?)
}

fn applied_row(
    table: &impl ReadableTable<&'static str, &'static [u8]>,
) -> Result<AppliedMark, TableError> {
    let row = table
        .get(APPLIED_ROW)
        .map_err(storage_error)?
        .ok_or_else(|| TableError::corrupt("the state file does not say what was applied"))?;
    match row.value() {
        [FORMAT, mark @ ..] => postcard::from_bytes(mark)
            .map_err(|error| TableError::corrupt(format!("the applied mark: {error}"))),
        [newer, ..] => Err(TableError::io(format!(
            "the state file has version {newer}; this build reads {FORMAT}: use a newer one"
        ))),
        [] => Err(TableError::corrupt("the applied mark is empty")),
    }
}

fn open_error(path: &Path, error: std::io::Error) -> TableError {
    match error.kind() {
        std::io::ErrorKind::InvalidData => TableError::corrupt(error.to_string()),
        _ => io_error(path, &error),
    }
}

fn io_error(path: &Path, error: &std::io::Error) -> TableError {
    TableError::io(format!("{}: {error}", path.display()))
}

/// Sorts what redb reports into damage and failure.
fn storage_error(error: impl Into<redb::Error>) -> TableError {
    match error.into() {
        redb::Error::Corrupted(what) => TableError::corrupt(what),
        redb::Error::Io(error) => match DamagedBlock::of(&error) {
            Some(damage) => TableError::corrupt(damage.to_string()),
            None => TableError::io(error.to_string()),
        },
        error => TableError::io(error.to_string()),
    }
}

type OpenTable<'t> = redb::Table<'t, &'static [u8], &'static [u8]>;
type OpenReadTable = redb::ReadOnlyTable<&'static [u8], &'static [u8]>;

/// The tables within one write transaction.
pub struct StateWriter<'t> {
    transaction: &'t redb::WriteTransaction,
    tables: [OnceCell<OpenTable<'t>>; Table::ALL.len()],
    applied: AppliedMark,
}

impl<'t> StateWriter<'t> {
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
    fn into_applied(self) -> AppliedMark {
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

/// The tables as of one moment.
pub struct StateView {
    transaction: redb::ReadTransaction,
    tables: [OnceCell<Option<OpenReadTable>>; Table::ALL.len()],
    /// Keeps the files from being opened anew while they are read.
    _state: State,
}

impl StateView {
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
        applied_in(&self.transaction)
    }
}

impl ReadTables for StateView {
    fn get(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        match self.table(table)? {
            Some(rows) => get_row(rows, key),
            None => Ok(None),
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
        match self.table(table)? {
            Some(rows) => scan_rows(rows, start, end, reverse, visit),
            None => Ok(()),
        }
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
