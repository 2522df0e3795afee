//! One group's state: the machine's tables in a redb file, and in memory what was written last.
//!
//! A transaction of [`State::write`] is visible at once, in memory, and durable at the next
//! [`State::checkpoint`]; the log is what makes a write durable, and the log is not purged beyond
//! the last checkpoint. [`State::settle`] moves what gathered in memory to the file, many
//! transactions as one: their rows in order, each once. Both run beside writes and reads. With the
//! tables the file holds how far the log was applied and the group's membership, in the same
//! transaction as what was applied.
//!
//! Every 4 KiB block is checked when it is read from disk ([`super::checked`]). A file is created
//! under another name and renamed when it is whole and durable, so a crash never leaves half of
//! one behind. Nothing is called durable before the file's name is, too.
//!
//! - `file`: the database, and how its errors are sorted.
//! - `recent`: the rows in memory.
//! - `rows`: the tables as they are read and written.

mod file;
mod recent;
mod rows;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use serde::{Deserialize, Serialize};

use redb::WriteTransaction;

use self::file::{StateFile, io_error, put_applied, storage_error};
use self::recent::Recent;
use self::rows::FileView;
pub(super) use self::rows::FileWriter;
pub use self::rows::{StateView, StateWriter};
use super::log::EntryId;
use crate::limits::RECENT_BYTES_MAX;
use crate::machine::tables::TableError;
use crate::seams::disk::{Disk, OpenMode};
use crate::seams::failpoint::Failpoint;
use crate::types::{Form, GroupId, Spelt};

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

pub(super) const MARK: Form = Form {
    name: "mark",
    again: |bytes| Some(AppliedMark::decode(bytes).ok()?.encode().expect("what was decoded")),
    spelt: Spelt::Freely,
};

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
    /// Held by whoever writes to the state, from the first look at it to the last word about it.
    applying: Mutex<()>,
    /// The same for the file. Who needs both takes the other first.
    settling: Mutex<()>,
    open: Mutex<Open>,
    /// A replica that failed may take a moment to let go of its files; until then the next one
    /// can't open them.
    _lock: Box<dyn fmt::Debug + Send + Sync>,
}

/// What there is; replaced as a whole when a snapshot is installed.
struct Open {
    stored: Arc<FileView>,
    /// What is being moved to the file.
    moving: Recent,
    /// What was written since.
    recent: Recent,
    applied: AppliedMark,
    /// What the last checkpoint made durable.
    durable: Option<EntryId>,
    /// Why no more may be written or called durable until the state is opened anew: the file can't
    /// be written, or which file bears its name after a crash is unknown.
    broken: Option<TableError>,
}

impl Open {
    fn new(file: StateFile, applied: AppliedMark) -> Result<Self, TableError> {
        let (stored, durable) = (Arc::new(FileView::new(Arc::new(file))?), applied.id);
        let (moving, recent) = (Recent::default(), Recent::default());
        Ok(Open { stored, moving, recent, applied, durable, broken: None })
    }

    fn may_write(&self) -> Result<(), TableError> {
        match &self.broken {
            Some(error) => Err(error.clone()),
            None => self.stored.file().is_sound(),
        }
    }

    fn take(&mut self, written: Recent, applied: AppliedMark) {
        self.recent.take(written);
        self.applied = applied;
    }

    fn held_bytes(&self) -> usize {
        self.moving.bytes() + self.recent.bytes()
    }
}

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "State(group {})", self.inner.group)
    }
}

impl State {
    /// Removes the state of a group, which must not be open, with its directory; no error if it is
    /// not there.
    pub fn erase(disk: &dyn Disk, dir: &Path) -> Result<(), TableError> {
        let failed = |error: std::io::Error| io_error(dir, &error);
        if !disk.exists(dir).map_err(failed)? {
            return Ok(());
        }
        let lock = disk.lock(&dir.join(LOCK_FILE)).map_err(failed)?;
        // The state last: what is there without it is swept by whoever opens the group anew.
        let mut names = disk.list(dir).map_err(failed)?;
        names.sort_by_key(|name| name == STATE_FILE);
        for name in names.iter().filter(|name| *name != LOCK_FILE) {
            disk.remove(&dir.join(name)).map_err(failed)?;
        }
        disk.sync_dir(dir).map_err(failed)?;
        drop(lock);
        if disk.exists(&dir.join(LOCK_FILE)).map_err(failed)? {
            disk.remove(&dir.join(LOCK_FILE)).map_err(failed)?;
        }
        disk.remove_dir(dir).map_err(failed)
    }

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
            step(Failpoint::BeforeStateNamed)?;
            disk.rename(&new, &path).map_err(|error| io_error(&path, &error))?;
            Failpoint::AfterStateNamed.pass();
            file
        } else {
            StateFile::open(disk.as_ref(), &path, OpenMode::Existing)?
        };
        // Also for a file that was there: who gave it its name may have died before this.
        disk.sync_dir(dir).map_err(|error| io_error(dir, &error))?;
        let applied = file.applied()?;
        let open = Mutex::new(Open::new(file, applied)?);
        let (applying, settling, dir) = (Mutex::default(), Mutex::default(), dir.to_owned());
        let inner = Inner { group, disk, dir, applying, settling, open, _lock: lock };
        Ok(State { inner: Arc::new(inner) })
    }

    fn opened(&self) -> MutexGuard<'_, Open> {
        self.inner.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn applying(&self) -> MutexGuard<'_, ()> {
        self.inner.applying.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn settling(&self) -> MutexGuard<'_, ()> {
        self.inner.settling.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// `apply` fails. Only one caller at a time gets to write; the second waits, as it does for the
    /// installation of a snapshot. Who lets [`RECENT_BYTES_MAX`] gather waits here until it is in
    /// the file.
    pub fn write<R>(
        &self,
        apply: impl FnOnce(&mut StateWriter) -> Result<R, TableError>,
    ) -> Result<R, TableError> {
        let _applying = self.applying();
        self.opened().may_write()?;
        let mut writer = StateWriter::new(self.view());
        let result = apply(&mut writer)?;
        let (written, applied) = writer.finish();
        let mut open = self.opened();
        open.take(written, applied);
        let is_full = open.held_bytes() >= RECENT_BYTES_MAX;
        drop(open);
        if is_full {
            self.settle()?;
        }
        Ok(result)
    }

    /// About how many bytes are in memory and wait to be settled.
    pub fn recent_bytes(&self) -> usize {
        self.opened().recent.bytes()
    }

    /// The same, with those that are just being moved.
    pub fn held_bytes(&self) -> usize {
        self.opened().held_bytes()
    }

    /// Moves what is in memory to the file, not yet durable. Blocks while it does, but holds up
    /// neither writes nor reads: call it where blocking is allowed.
    pub fn settle(&self) -> Result<(), TableError> {
        self.settle_as(false).map(drop)
    }

    /// Makes everything applied so far durable, and answers how far that is. Blocks for the time
    /// of an fsync, but holds up neither writes nor reads: call it where blocking is allowed.
    pub fn checkpoint(&self) -> Result<Option<EntryId>, TableError> {
        self.checkpointed().map(|view| view.applied().id)
    }

    /// The same; answers a view of exactly what is durable now.
    pub(super) fn checkpointed(&self) -> Result<StateView, TableError> {
        self.settle_as(true)
    }

    /// Moves what is in memory to the file. Answers a view of the file as it is then.
    fn settle_as(&self, is_durable: bool) -> Result<StateView, TableError> {
        let _settling = self.settling();
        let (file, rows, applied) = {
            let mut open = self.opened();
            open.may_write()?;
            // A move that panicked has left its rows, and they are moved again.
            let recent = std::mem::take(&mut open.recent);
            open.moving.take(recent);
            (open.stored.file().clone(), open.moving.clone(), open.applied.clone())
        };
        let (before, after) = match is_durable {
            true => (Failpoint::BeforeCheckpoint, Failpoint::AfterCheckpoint),
            false => (Failpoint::BeforeSettled, Failpoint::AfterSettled),
        };
        let settle = || {
            step(before)?;
            let transaction = if is_durable { file.begin_durable()? } else { file.begin_write()? };
            write_to(transaction, &applied, |writer| {
                rows.rows().try_for_each(|(table, slot)| writer.put(table, slot.key, slot.row))
            })?;
            after.pass();
            FileView::new(file.clone()).map(Arc::new)
        };
        let settled = settle().map_err(|error| file.explain(error));
        let mut open = self.opened();
        let stored = settled.inspect_err(|error| open.broken = Some(error.clone()))?;
        if is_durable {
            open.durable = applied.id;
        }
        let before = std::mem::replace(&mut open.stored, stored.clone());
        let moved = std::mem::take(&mut open.moving);
        drop(open);
        drop((before, moved, rows));
        Ok(StateView::new(self.clone(), stored, Default::default(), applied))
    }

    /// A consistent view of everything applied so far; later writes don't change it.
    pub fn view(&self) -> StateView {
        let open = self.opened();
        let layers = [open.recent.clone(), open.moving.clone()];
        StateView::new(self.clone(), open.stored.clone(), layers, open.applied.clone())
    }

    /// Opens an empty database under another name, to be filled and then put in this one's place.
    /// Nothing else is written meanwhile.
    pub(super) fn begin_replacement(&self) -> Result<Replacement<'_>, TableError> {
        let _held = (self.applying(), self.settling());
        self.opened().may_write()?;
        let path = self.inner.dir.join(STATE_FILE_NEW);
        let disk = self.inner.disk.clone();
        let file = StateFile::open(disk.as_ref(), &path, OpenMode::CreateNew);
        let unfinished = Unfinished { disk, path, is_named: false };
        Ok(Replacement { state: self, file: file?, unfinished, _held })
    }
}

/// Does the writing of one transaction, with the mark.
fn write_to(
    transaction: WriteTransaction,
    applied: &AppliedMark,
    write: impl FnOnce(&mut FileWriter<'_>) -> Result<(), TableError>,
) -> Result<(), TableError> {
    let written = catch_unwind(AssertUnwindSafe(|| write(&mut FileWriter::new(&transaction))));
    match written {
        Ok(written) => {
            written?;
            put_applied(&transaction, applied)?;
            transaction.commit().map_err(storage_error)
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
    _held: (MutexGuard<'a, ()>, MutexGuard<'a, ()>),
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
        fill: impl FnOnce(&mut FileWriter<'_>) -> Result<(), TableError>,
    ) -> Result<(), TableError> {
        write_to(self.file.begin_write()?, &AppliedMark::default(), fill)
    }

    /// Makes the new state durable and puts it in place; readers of the old one keep it.
    pub(super) fn finish(self, applied: AppliedMark) -> Result<(), TableError> {
        let Replacement { state, file, mut unfinished, _held } = self;
        file.make_durable(&applied)?;
        let mut new = Open::new(file, applied)?;
        let (disk, dir) = state.place();
        let path = dir.join(STATE_FILE);
        let renamed = Failpoint::BeforeInstalled.check();
        if let Err(error) = renamed.and_then(|()| disk.rename(&unfinished.path, &path)) {
            state.opened().broken = Some(adrift());
            return Err(io_error(&path, &error));
        }
        unfinished.is_named = true;
        Failpoint::AfterInstalled.pass();
        let synced = disk.sync_dir(dir);
        let mut open = state.opened();
        if synced.is_err() {
            (new.durable, new.broken) = (open.durable, Some(adrift()));
        }
        let old = std::mem::replace(&mut *open, new);
        drop(open);
        // Closing it takes a while, which readers of the new one need not wait for.
        drop(old);
        synced.map_err(|error| io_error(dir, &error))
    }
}

pub(super) fn step(at: Failpoint) -> Result<(), TableError> {
    at.check().map_err(|error| TableError::io(error.to_string()))
}

fn adrift() -> TableError {
    TableError::io("replacing the state file failed; it must be opened anew")
}

/// Removes what a crash during creation or a snapshot's arrival left behind.
fn sweep(disk: &dyn Disk, dir: &Path, group: GroupId) -> Result<(), TableError> {
    for name in disk.list(dir).map_err(|error| io_error(dir, &error))? {
        if name == STATE_FILE_NEW || name.ends_with(super::snapshot::PART_SUFFIX) {
            let path = dir.join(&name);
            disk.remove(&path).map_err(|error| io_error(&path, &error))?;
            tracing::info!(group = group.0, file = %name, "removed an unfinished file");
        }
    }
    Ok(())
}
