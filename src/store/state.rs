//! One group's state: the machine's tables in a redb file.
//!
//! A transaction of [`State::write`] is visible at once and durable at the next
//! [`State::checkpoint`]; the log is what makes a write durable, and the log is not purged beyond
//! the last checkpoint. Beside the machine's tables the file holds how far the log was applied and
//! the group's membership, in the same transaction as what was applied.
//!
//! Every 4 KiB block is checked when it is read from disk ([`super::checked`]). A file is created
//! under another name and renamed when it is whole and durable, so a crash never leaves half of
//! one behind. Nothing is called durable before the file's name is, too.
//!
//! - `file`: the database, and how its errors are sorted.
//! - `rows`: the tables within a transaction.

mod file;
mod rows;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use self::file::{StateFile, io_error, put_applied, storage_error};
pub use self::rows::{StateView, StateWriter};
use super::log::EntryId;
use crate::machine::tables::TableError;
use crate::seams::disk::{Disk, OpenMode};
use crate::types::GroupId;

const LOCK_FILE: &str = "lock";
const STATE_FILE: &str = "state.redb";
const STATE_FILE_NEW: &str = "state.redb.new";

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

impl AppliedMark {
    pub(super) fn encode(&self) -> Result<Vec<u8>, TableError> {
        postcard::to_stdvec(self).map_err(|error| TableError::io(error.to_string()))
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        match postcard::take_from_bytes(bytes) {
            Ok((mark, [])) => Ok(mark),
            Ok(_) => Err("it has bytes left over"),
            Err(_) => Err("it does not decode"),
        }
    }
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
    /// Held by whoever writes, checkpoints or replaces the file, from its first look at the file
    /// to its last word about it.
    writing: Mutex<()>,
    open: Mutex<Open>,
    /// A replica that failed may take a moment to let go of its files; until then the next one
    /// can't open them.
    _lock: Box<dyn fmt::Debug + Send + Sync>,
}

/// The open file; replaced as a whole when a snapshot is installed.
struct Open {
    file: Arc<StateFile>,
    applied: AppliedMark,
    /// What the last checkpoint made durable.
    durable: Option<EntryId>,
    /// Which file bears the name after a crash is unknown: no more may be written or called
    /// durable until the state is opened anew.
    is_adrift: bool,
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
        let lock = disk.lock(&lock_path).map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => {
                TableError::io(format!("the state in {} is still open", dir.display()))
            }
            _ => io_error(&lock_path, &error),
        })?;
        sweep(disk.as_ref(), dir, group)?;
        let path = dir.join(STATE_FILE);
        let is_new = !disk.exists(&path).map_err(|error| io_error(&path, &error))?;
        let file = if is_new {
            let new = dir.join(STATE_FILE_NEW);
            let file = StateFile::open(disk.as_ref(), &new, OpenMode::CreateNew)?;
            file.make_durable(&AppliedMark::default())?;
            disk.rename(&new, &path).map_err(|error| io_error(&path, &error))?;
            file
        } else {
            StateFile::open(disk.as_ref(), &path, OpenMode::Existing)?
        };
        // Also for a file that was there: who gave it its name may have died before this.
        disk.sync_dir(dir).map_err(|error| io_error(dir, &error))?;
        let applied = file.applied()?;
        let durable = applied.id;
        let open = Open { file: Arc::new(file), applied, durable, is_adrift: false };
        let (writing, open) = (Mutex::default(), Mutex::new(open));
        let inner = Inner { group, disk, dir: dir.to_owned(), writing, open, _lock: lock };
        Ok(State { inner: Arc::new(inner) })
    }

    fn opened(&self) -> MutexGuard<'_, Open> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn writing(&self) -> MutexGuard<'_, ()> {
        self.inner.writing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The file, to write to it.
    fn file_to_write(&self) -> Result<Arc<StateFile>, TableError> {
        let open = self.opened();
        if open.is_adrift {
            return Err(TableError::io("replacing the state file failed; it must be opened anew"));
        }
        Ok(open.file.clone())
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

    /// How many bytes the state takes on disk.
    pub(super) fn file_bytes(&self) -> Result<u64, TableError> {
        let path = self.inner.dir.join(STATE_FILE);
        let file = self.inner.disk.open(&path, OpenMode::Existing);
        file.and_then(|file| file.len()).map_err(|error| io_error(&path, &error))
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

    /// Applies entries in one transaction, which is visible when this returns; none of it if
    /// `apply` fails. Only one caller at a time gets to write; the second waits, as it does for a
    /// checkpoint and for the installation of a snapshot.
    pub fn write<R>(
        &self,
        apply: impl FnOnce(&mut StateWriter<'_>) -> Result<R, TableError>,
    ) -> Result<R, TableError> {
        let _writing = self.writing();
        let file = self.file_to_write()?;
        let (result, applied) =
            write_to(&file, self.applied(), apply).map_err(|error| file.explain(error))?;
        self.opened().applied = applied;
        Ok(result)
    }

    /// Makes everything applied so far durable. Blocks for the time of an fsync, and writers with
    /// it: call it where blocking is allowed.
    pub fn checkpoint(&self) -> Result<Option<EntryId>, TableError> {
        let _writing = self.writing();
        let file = self.file_to_write()?;
        let applied = self.applied();
        file.make_durable(&applied).map_err(|error| file.explain(error))?;
        self.opened().durable = applied.id;
        Ok(applied.id)
    }

    /// A consistent view of everything applied so far; later writes don't change it.
    pub fn view(&self) -> Result<StateView, TableError> {
        let file = self.opened().file.clone();
        StateView::new(self.clone(), file)
    }

    /// Opens an empty database under another name, to be filled and then put in this one's place.
    /// Nothing else is written meanwhile.
    pub(super) fn begin_replacement(&self) -> Result<Replacement<'_>, TableError> {
        let writing = self.writing();
        self.file_to_write()?;
        let path = self.inner.dir.join(STATE_FILE_NEW);
        let disk = self.inner.disk.clone();
        let file = StateFile::open(disk.as_ref(), &path, OpenMode::CreateNew);
        let unfinished = Unfinished { disk, path, is_named: false };
        Ok(Replacement { state: self, file: file?, unfinished, _writing: writing })
    }
}

/// Does the writing of one transaction. Answers what was applied then.
fn write_to<R>(
    file: &StateFile,
    applied: AppliedMark,
    write: impl FnOnce(&mut StateWriter<'_>) -> Result<R, TableError>,
) -> Result<(R, AppliedMark), TableError> {
    let transaction = file.begin_write()?;
    let mut writer = StateWriter::new(&transaction, applied);
    let result = catch_unwind(AssertUnwindSafe(|| write(&mut writer)));
    let applied = writer.into_applied();
    match result {
        Ok(result) => {
            let result = result?;
            put_applied(&transaction, &applied)?;
            transaction.commit().map_err(storage_error)?;
            Ok((result, applied))
        }
        Err(panic) => {
            // redb does not take back what a transaction did that is dropped while a panic
            // unwinds. It would then close the file by a commit in one phase, which a crash can
            // turn into what looks like damage.
            if let Err(error) = transaction.abort() {
                tracing::error!(%error, "a transaction that panicked could not be taken back");
            }
            resume_unwind(panic)
        }
    }
}

/// A state being filled from a snapshot; dropped unfinished, it changes nothing.
pub(super) struct Replacement<'a> {
    state: &'a State,
    file: StateFile,
    unfinished: Unfinished,
    _writing: MutexGuard<'a, ()>,
}

/// The new file until it has its name. Removed when that comes to nothing, or a disk that is full
/// because of it would stay full until the next start.
struct Unfinished {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    is_named: bool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_named
            && let Err(error) = self.disk.remove(&self.path)
        {
            tracing::warn!(file = %self.path.display(), %error, "could not remove a state file");
        }
    }
}

impl Replacement<'_> {
    /// Adds rows in one transaction, not yet durable.
    pub(super) fn fill(
        &self,
        fill: impl FnOnce(&mut StateWriter<'_>) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        write_to(&self.file, AppliedMark::default(), fill).map(drop)
    }

    /// Makes the new state durable and puts it in place; readers of the old one keep it.
    pub(super) fn finish(self, applied: AppliedMark) -> Result<(), TableError> {
        let Replacement { state, file, mut unfinished, _writing } = self;
        file.make_durable(&applied)?;
        let (disk, dir) = state.place();
        let path = dir.join(STATE_FILE);
        if let Err(error) = disk.rename(&unfinished.path, &path) {
            state.opened().is_adrift = true;
            return Err(io_error(&path, &error));
        }
        unfinished.is_named = true;
        let synced = disk.sync_dir(dir);
        let mut open = state.opened();
        let durable = if synced.is_ok() { applied.id } else { open.durable };
        let new = Open { file: Arc::new(file), applied, durable, is_adrift: synced.is_err() };
        let old = std::mem::replace(&mut *open, new);
        drop(open);
        // Closing it takes a while, which readers of the new one need not wait for.
        drop(old);
        synced.map_err(|error| io_error(dir, &error))
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
