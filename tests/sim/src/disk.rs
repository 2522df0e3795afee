//! A node's disk: the one of the crash images, with a fuse.
//!
//! What a crash may do to files is told in `tests/it/crash_disk.rs`. Here is added when: a fuse
//! burns at a chosen call, in the middle of whatever the node does. What a node holds of its disk
//! dies with it, so that nothing it still does after that moment reaches a file. The disk may be
//! slow, and may be full: then files keep their lengths.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aspen::seams::Random;
use aspen::seams::disk::{Disk, File, OpenMode, Space};
use aspen_sim::dice::Dice;
use aspen_sim::work::Alive;

use crate::crash_disk::{CrashDisk, EIO, ENOSPC, Fault, Kind};
use crate::faults::SYNC_MS_MAX;

/// So small that a run begins many segments of the log, purges it, and sends snapshots.
const FILE_BYTES_MAX: u64 = 128 * 1024;
/// What a disk has room for, by its own word.
const TOTAL_BYTES: u64 = 1 << 40;

/// Called when the fuse burns.
type Burn = Box<dyn FnOnce() + Send>;

/// A disk; clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimDisk {
    disk: CrashDisk,
    fuse: Arc<Mutex<Option<Fuse>>>,
    calls: Arc<AtomicU64>,
    /// The longest that a sync takes at the moment.
    sync_ms_max: Arc<AtomicU64>,
    is_full: Arc<AtomicBool>,
    /// A node that does not start has a reason.
    has_failed: Arc<AtomicBool>,
}

struct Fuse {
    calls_left: u64,
    burn: Burn,
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        SimDisk {
            disk: CrashDisk::new(),
            fuse: Arc::default(),
            calls: Arc::default(),
            sync_ms_max: Arc::new(SYNC_MS_MAX.into()),
            is_full: Arc::default(),
            has_failed: Arc::default(),
        }
    }

    /// The disk as a node has it while it is alive.
    pub(crate) fn of_node(&self, alive: Alive, dice: Dice) -> NodeDisk {
        NodeDisk { disk: self.clone(), alive, dice }
    }

    /// How long a sync takes at most from now on.
    pub(crate) fn slow_down(&self, sync_ms_max: u64) {
        self.sync_ms_max.store(sync_ms_max, Ordering::Relaxed);
    }

    /// Whether it has room, from now on.
    pub(crate) fn fill(&self, is_full: bool) {
        self.is_full.store(is_full, Ordering::Relaxed);
        self.has_failed.fetch_or(is_full, Ordering::Relaxed);
    }

    /// Whether it was full, or was told to fail, since this was asked last.
    pub(crate) fn take_failed(&self) -> bool {
        let is_full = self.is_full.load(Ordering::Relaxed);
        self.has_failed.swap(is_full, Ordering::Relaxed)
    }

    /// A sync fails after so many that don't.
    pub(crate) fn fail_sync(&self, after: u64) {
        self.has_failed.store(true, Ordering::Relaxed);
        self.disk.fail(Fault { kind: Kind::Sync, after, error: EIO });
    }

    /// The process dies, and the machine goes on.
    pub(crate) fn kill(&self) {
        self.disk.kill();
    }

    /// How often it was called.
    pub(crate) fn calls(&self) -> u64 {
        self.calls.load(Ordering::Relaxed)
    }

    fn fuse(&self) -> MutexGuard<'_, Option<Fuse>> {
        self.fuse.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After so many further calls, does something before the call that follows.
    pub(crate) fn light(&self, calls_left: u64, burn: impl FnOnce() + Send + 'static) {
        *self.fuse() = Some(Fuse { calls_left, burn: Box::new(burn) });
    }

    /// Whether a fuse burns.
    pub(crate) fn is_lit(&self) -> bool {
        self.fuse().is_some()
    }

    /// Takes the fuse out.
    pub(crate) fn douse(&self) {
        *self.fuse() = None;
    }

    /// The machine loses power.
    pub(crate) fn crash(&self, random: &Random) {
        self.disk.crash(random);
    }

    /// The fuse, if this is the call at which it has burnt down.
    fn burnt(&self) -> Option<Fuse> {
        self.calls.fetch_add(1, Ordering::Relaxed);
        let mut fuse = self.fuse();
        let lit = fuse.as_mut()?;
        match lit.calls_left.checked_sub(1) {
            Some(left) => {
                lit.calls_left = left;
                None
            }
            None => fuse.take(),
        }
    }
}

/// A disk in the hands of one node.
#[derive(Clone)]
pub(crate) struct NodeDisk {
    disk: SimDisk,
    alive: Alive,
    dice: Dice,
}

impl fmt::Debug for NodeDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeDisk")
    }
}

impl NodeDisk {
    /// The disk, if the node lives.
    fn look(&self) -> io::Result<&CrashDisk> {
        if self.alive.is() {
            return Ok(&self.disk.disk);
        }
        Err(io::Error::new(io::ErrorKind::NotConnected, "the machine has no power"))
    }

    /// The same, to change something; the power may fail at this very moment.
    fn change(&self) -> io::Result<&CrashDisk> {
        if self.alive.is()
            && let Some(fuse) = self.disk.burnt()
        {
            (fuse.burn)();
        }
        self.look()
    }

    /// Refuses what needs room if there is none.
    fn take_room(&self) -> io::Result<()> {
        if self.disk.is_full.load(Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(ENOSPC));
        }
        Ok(())
    }
}

impl Disk for NodeDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let disk = self.change()?;
        if !disk.exists(path)? {
            self.take_room()?;
        }
        let file = disk.open(path, mode)?;
        Ok(Arc::new(NodeFile { disk: self.clone(), file }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.change()?.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.look()?.list(dir)
    }

    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.look()?.exists(path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.change()?.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.change()?.remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.change()?.sync_dir(dir)
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn fmt::Debug + Send + Sync>> {
        self.look()?.lock(path)
    }

    fn space(&self, _path: &Path) -> io::Result<Space> {
        let is_full = self.disk.is_full.load(Ordering::Relaxed);
        Ok(Space { total: TOTAL_BYTES, free: if is_full { 0 } else { TOTAL_BYTES } })
    }

    fn file_bytes_max(&self) -> u64 {
        FILE_BYTES_MAX
    }

    fn lag(&self) -> Duration {
        let longest = self.disk.sync_ms_max.load(Ordering::Relaxed);
        Duration::from_millis(self.dice.below(longest + 1))
    }
}

#[derive(Debug)]
struct NodeFile {
    disk: NodeDisk,
    file: Arc<dyn File>,
}

impl File for NodeFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.look()?;
        self.file.len()
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.look()?;
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.disk.change()?;
        if self.file.len()? < offset + data.len() as u64 {
            self.disk.take_room()?;
        }
        self.file.write_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change()?;
        if self.file.len()? < len {
            self.disk.take_room()?;
        }
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change()?;
        self.file.sync_data()
    }
}
