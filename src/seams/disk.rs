//! Files: the one trait under log, state and snapshots.
//!
//! Synchronous on purpose: the callers are the log writer's own thread and the state's commits.
//! Positional reads and writes only, so that handles need no cursor and can be shared. What was
//! written is durable after [`File::sync_data`]; a created, renamed or removed name is durable
//! after [`Disk::sync_dir`]. Between those, a crash may lose, reorder or tear writes, and
//! everything above is built for that.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

mod mem;
mod real;

pub use mem::MemDisk;
pub use real::RealDisk;

/// A place that holds named files.
pub trait Disk: Debug + Send + Sync + 'static {
    /// Opens a file for reading and writing.
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;
    /// Creates a directory and its parents, durably; no error if it is there.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, sorted.
    fn list(&self, dir: &Path) -> io::Result<Vec<String>>;
    /// Whether a file or directory is there.
    fn exists(&self, path: &Path) -> io::Result<bool>;
    /// Gives a file another name, replacing what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory in which there is nothing.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes an exclusive lock on a file, created if need be, that ends with the process.
    /// `WouldBlock` if another process holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Debug + Send + Sync>>;
    /// How long a file is.
    fn file_len(&self, path: &Path) -> io::Result<u64> {
        self.open(path, OpenMode::Existing)?.len()
    }
    /// How much room the file system that holds `path` has.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// How large a file may well be: a log on it has smaller segments.
    fn file_bytes_max(&self) -> u64 {
        u64::MAX
    }
    /// How long a sync takes besides what it blocks: where all runs in place nothing may block, so
    /// that whoever syncs waits for this before.
    fn lag(&self) -> Duration {
        Duration::ZERO
    }
}

/// How to open a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// It must be there.
    Existing,
    /// It must not be there.
    CreateNew,
    /// Either.
    Create,
    /// It must not be there, and only its owner may read it (mode 0600).
    CreateNewPrivate,
}

/// The room on a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// All of it, in bytes.
    pub total: u64,
    /// What is left for us, in bytes.
    pub free: u64,
}

impl Space {
    /// What is left, in whole percent.
    pub fn free_percent(&self) -> u64 {
        (u128::from(self.free) * 100).checked_div(u128::from(self.total)).unwrap_or(100) as u64
    }
}

/// An open file.
#[expect(clippy::len_without_is_empty, reason = "a length is IO here, not a property")]
pub trait File: Debug + Send + Sync + 'static {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills the buffer from an offset; an error if the file ends first.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes all of the data at an offset; the file grows if need be.
    fn write_at(&self, data: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts the file, or extends it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes everything written durable, with the length.
    fn sync_data(&self) -> io::Result<()>;
}
