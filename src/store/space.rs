//! The guard on free disk space.
//!
//! Somebody samples it from time to time; whoever is about to admit a write asks it. Asking costs
//! one load.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::limits::{SPACE_FREE_PERCENT_MIN, SPACE_FREE_PERCENT_WARN};
use crate::seams::disk::Disk;

/// How much room the disk has, as of the last sample; clones are the same guard.
#[derive(Clone, Debug)]
pub struct SpaceGuard {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    free_percent: Arc<AtomicU64>,
    free_bytes: Arc<AtomicU64>,
}

/// What the room left allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    /// Enough.
    Enough,
    /// Everything still works; somebody should make room.
    Low,
    /// Writes are refused, deletes and compaction are not.
    Full,
}

impl SpaceGuard {
    /// A guard on the disk that holds `path`, with a first sample.
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf) -> io::Result<Self> {
        let free_percent = Arc::new(AtomicU64::new(100));
        let guard = SpaceGuard { disk, path, free_percent, free_bytes: Arc::default() };
        guard.sample()?;
        Ok(guard)
    }

    /// Looks at the disk.
    pub fn sample(&self) -> io::Result<Room> {
        let space = self.disk.space(&self.path)?;
        self.free_percent.store(space.free_percent(), Ordering::Relaxed);
        self.free_bytes.store(space.free, Ordering::Relaxed);
        Ok(self.room())
    }

    /// What the last sample allows.
    pub fn room(&self) -> Room {
        match self.free_percent() {
            percent if percent < SPACE_FREE_PERCENT_MIN => Room::Full,
            percent if percent < SPACE_FREE_PERCENT_WARN => Room::Low,
            _ => Room::Enough,
        }
    }

    /// The last sample, in bytes.
    pub fn free_bytes(&self) -> u64 {
        self.free_bytes.load(Ordering::Relaxed)
    }

    /// The last sample.
    pub fn free_percent(&self) -> u64 {
        self.free_percent.load(Ordering::Relaxed)
    }
}
