//! A node's disk: the one of the crash images, with a fuse.
//!
//! What a crash may do to files is told in `tests/it/crash_disk.rs`. Here is added when: a fuse
//! burns at a chosen call, in the middle of whatever the node does. What a node holds of its disk
//! dies with it, so that nothing it still does after that moment reaches a file.

use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aspen::seams::Random;
use aspen::seams::disk::{Disk, File, OpenMode, Space};

use crate::crash_disk::CrashDisk;
use crate::workload::Alive;

/// Called when the fuse burns.
type Burn = Box<dyn FnOnce() + Send>;

/// A disk; clones are the same disk.
#[derive(Clone)]
pub(crate) struct SimDisk {
    disk: CrashDisk,
    fuse: Arc<Mutex<Option<Fuse>>>,
    calls: Arc<AtomicU64>,
}

struct Fuse {
    calls_left: u64,
    burn: Burn,
}

impl SimDisk {
    pub(crate) fn new() -> Self {
        SimDisk { disk: CrashDisk::new(), fuse: Arc::default(), calls: Arc::default() }
    }

    /// The disk as a node has it while it is alive.
    pub(crate) fn of_node(&self, alive: Alive) -> NodeDisk {
        NodeDisk { disk: self.clone(), alive }
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
}

impl Disk for NodeDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.change()?.open(path, mode)?;
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

    fn space(&self, path: &Path) -> io::Result<Space> {
        self.look()?.space(path)
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
        self.file.write_at(data, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk.change()?;
        self.file.sync_data()
    }
}
