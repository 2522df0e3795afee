//! The guard on free disk space.
//!
//! Somebody samples it from time to time, and looks how much of it the node's own files have; whoever
//! is about to admit a write asks it. Asking costs one load. A log that waits for room is a full disk,
//! whatever the sample says: there are quotas, and disks smaller than a few segments.
//!
//! It also holds what others are known to have room, as the last who looked put it there: a leader
//! without room refuses writes differently if somebody can take over.

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;

use crate::limits::{SPACE_FREE_PERCENT_AGAIN, SPACE_FREE_PERCENT_MIN, SPACE_FREE_PERCENT_WARN};
use crate::seams::disk::Disk;
use crate::types::NodeId;

/// Where in a node's directory its log is.
pub const LOG_DIR: &str = "log";
/// The same of its groups, each of which has a directory of its own there.
pub const GROUPS_DIR: &str = "groups";

/// How much room the disk has, as of the last sample; clones are the same guard.
#[derive(Clone, Debug)]
pub struct SpaceGuard {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    free_percent: Arc<AtomicU64>,
    free_bytes: Arc<AtomicU64>,
    log_bytes: Arc<AtomicU64>,
    state_bytes: Arc<AtomicU64>,
    is_crowded: Arc<AtomicBool>,
    log_starves: Option<watch::Receiver<bool>>,
    others: Arc<RwLock<BTreeSet<NodeId>>>,
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
        let guard = SpaceGuard {
            disk,
            path,
            free_percent: Arc::new(AtomicU64::new(100)),
            free_bytes: Arc::default(),
            log_bytes: Arc::default(),
            state_bytes: Arc::default(),
            is_crowded: Arc::default(),
            log_starves: None,
            others: Arc::default(),
        };
        guard.sample()?;
        Ok(guard)
    }

    /// The same guard, for a log on this disk that says when it waits for room.
    pub fn with_log(self, starves: watch::Receiver<bool>) -> Self {
        SpaceGuard { log_starves: Some(starves), ..self }
    }

    /// Looks at the disk.
    pub fn sample(&self) -> io::Result<Room> {
        let space = self.disk.space(&self.path)?;
        let percent = space.free_percent();
        self.free_percent.store(percent, Ordering::Relaxed);
        self.free_bytes.store(space.free, Ordering::Relaxed);
        if !(SPACE_FREE_PERCENT_MIN..SPACE_FREE_PERCENT_AGAIN).contains(&percent) {
            self.is_crowded.store(percent < SPACE_FREE_PERCENT_MIN, Ordering::Relaxed);
        }
        Ok(self.room())
    }

    /// Looks how long our own files are; one that can't be looked at, or goes meanwhile, counts for
    /// nothing.
    pub fn measure(&self) {
        let files = |dir: PathBuf| -> u64 {
            let names = self.disk.list(&dir).unwrap_or_default().into_iter();
            names.map(|name| self.disk.file_len(&dir.join(name)).unwrap_or(0)).sum()
        };
        let groups = self.path.join(GROUPS_DIR);
        let dirs = self.disk.list(&groups).unwrap_or_default().into_iter();
        let states = dirs.map(|dir| files(groups.join(dir))).sum();
        self.log_bytes.store(files(self.path.join(LOG_DIR)), Ordering::Relaxed);
        self.state_bytes.store(states, Ordering::Relaxed);
    }

    /// What the files of the log held when they were measured.
    pub fn log_bytes(&self) -> u64 {
        self.log_bytes.load(Ordering::Relaxed)
    }

    /// What those of all states held.
    pub fn state_bytes(&self) -> u64 {
        self.state_bytes.load(Ordering::Relaxed)
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

    /// Whether this node should lead nothing and be given nothing: it is full, or was and has little
    /// more than that since.
    pub fn is_crowded(&self) -> bool {
        self.log_starves() || self.is_crowded.load(Ordering::Relaxed)
    }

    /// Whether the log waits for room.
    pub fn log_starves(&self) -> bool {
        self.log_starves.as_ref().is_some_and(|starves| *starves.borrow())
    }

    /// The last sample; nothing while the log waits for room.
    pub fn free_percent(&self) -> u64 {
        if self.log_starves() { 0 } else { self.free_percent.load(Ordering::Relaxed) }
    }

    /// These other members are there and have room.
    pub fn note_others(&self, others: BTreeSet<NodeId>) {
        *self.others.write().unwrap_or_else(PoisonError::into_inner) = others;
    }

    /// Whether one of these has room, and is not this node.
    pub fn is_elsewhere(&self, among: &BTreeSet<NodeId>) -> bool {
        let others = self.others.read().unwrap_or_else(PoisonError::into_inner);
        others.iter().any(|other| among.contains(other))
    }
}
