//! A disk that does what the test says: fills up, fails the files of groups, or holds the log.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex};

use aspen::seams::Seams;
use aspen::seams::disk::{Disk, File, MemDisk, OpenMode, Space};

/// What the test says; clones are the same disk.
#[derive(Clone, Debug)]
pub struct TestDisk {
    disk: Arc<dyn Disk>,
    free_percent: Arc<AtomicU64>,
    groups_fail: Arc<AtomicBool>,
    log_gate: Arc<Gate>,
    log_full: Arc<AtomicBool>,
}

/// Where the log's syncs wait while it is closed.
#[derive(Debug, Default)]
struct Gate {
    closed: Mutex<bool>,
    opened: Condvar,
}

impl TestDisk {
    /// A disk in memory, half full, that works.
    pub fn new() -> Self {
        TestDisk {
            disk: Arc::new(MemDisk::default()),
            free_percent: Arc::new(AtomicU64::new(50)),
            groups_fail: Arc::default(),
            log_gate: Arc::default(),
            log_full: Arc::default(),
        }
    }

    /// A node's seams on this disk.
    pub fn seams(&self) -> Seams {
        Seams { disk: Arc::new(self.clone()), ..Seams::in_memory() }
    }

    /// From now on so much is free.
    pub fn set_free_percent(&self, percent: u64) {
        self.free_percent.store(percent, Ordering::Relaxed);
    }

    /// From now on the state files of groups fail, or work again.
    pub fn set_groups_fail(&self, fail: bool) {
        self.groups_fail.store(fail, Ordering::Relaxed);
    }

    /// From now on there is no room for the log, or there is again.
    pub fn set_log_full(&self, full: bool) {
        self.log_full.store(full, Ordering::Relaxed);
    }

    /// From now on the log's syncs wait, or go on.
    pub fn set_log_held(&self, held: bool) {
        *self.log_gate.closed.lock().unwrap() = held;
        self.log_gate.opened.notify_all();
    }
}

impl Disk for TestDisk {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.disk.open(path, mode)?;
        let is_in = |dir: &str| path.components().any(|part| part.as_os_str() == dir);
        if is_in("groups") {
            Ok(Arc::new(GroupFile { file, fail: self.groups_fail.clone() }))
        } else if is_in("log") {
            let (gate, full) = (self.log_gate.clone(), self.log_full.clone());
            Ok(Arc::new(LogFile { file, gate, full }))
        } else {
            Ok(file)
        }
    }
    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir_all(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<String>> {
        self.disk.list(dir)
    }
    fn exists(&self, path: &Path) -> io::Result<bool> {
        self.disk.exists(path)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>> {
        self.disk.lock(path)
    }
    fn space(&self, _path: &Path) -> io::Result<Space> {
        Ok(Space { total: 100, free: self.free_percent.load(Ordering::Relaxed) })
    }
}

#[derive(Debug)]
struct GroupFile {
    file: Arc<dyn File>,
    fail: Arc<AtomicBool>,
}

impl GroupFile {
    fn check(&self) -> io::Result<()> {
        if self.fail.load(Ordering::Relaxed) {
            return Err(io::Error::other("the test fails this file"));
        }
        Ok(())
    }
}

impl File for GroupFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.check()?;
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        self.check()?;
        self.file.write_at(data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }
}

#[derive(Debug)]
struct LogFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
    full: Arc<AtomicBool>,
}

impl File for LogFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(buffer, offset)
    }
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()> {
        if self.full.load(Ordering::Relaxed) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.file.write_at(data, offset)
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn sync_data(&self) -> io::Result<()> {
        let closed = self.gate.closed.lock().unwrap();
        drop(self.gate.opened.wait_while(closed, |closed| *closed).unwrap());
        self.file.sync_data()
    }
}
