//! One log for all groups of a node, in pre-allocated segment files.
//!
//! Owns `data/log/`: entries, votes, purge points and committed marks of every group, written by
//! one writer in one order, so that one fsync covers what all groups had queued. It stores what
//! it is given and does not know Raft.
//!
//! What it keeps:
//!
//! - What was reported durable is there after any crash, or its group is reported [`Corrupt`];
//!   nothing is there that was not written, and no group's log has a gap.
//! - Operations of one group take effect in the order in which they were called; an entry can be
//!   read as soon as its append returns.
//! - An error of the disk is final: what waits and what comes later fails with it. But that there
//!   is no room for a write is not: who waits and who comes is told so, what was queued is kept, and
//!   the log takes more once all of that is durable.
//! - Damage is named with its group and entry as closely as it can be, and stops that group only.
//!
//! What it refuses: to skip a bad record, to overwrite one, to grow a queue, to guess.
//!
//! The map: [`mod@format`] is the bytes; `index` is what is in memory; [`LogCore`] writes and syncs
//! and has no thread; `recovery`
//! and `replay` open it again; [`Log`] and [`GroupLog`] are the handles, with
//! the drivers that put a core to work.

mod core;
pub mod format;
mod handle;
mod index;
mod recovery;
mod replay;

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::error::Corrupt;
use crate::limits::{FRAME_BYTES_MAX, LOG_CACHE_BYTES_MAX, SEGMENT_BYTES, SEGMENT_BYTES_FIRST};
use crate::metrics::{COUNTS, Counter, Histogram, TIMES_NS};

pub use self::core::LogCore;
pub use handle::{Done, GroupLog, Log, Stats, drive};
pub use recovery::{Cut, Recovery, open};

/// The name of an entry: who led when it was made, and its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EntryId {
    /// The term in which it was proposed.
    pub term: u64,
    /// The node that led in that term.
    pub node: u64,
    /// Its place in the group's log; the first is 0.
    pub index: u64,
}

/// One entry of a group's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its name.
    pub id: EntryId,
    /// What it says; the log doesn't look inside.
    pub payload: Bytes,
}

/// Whom a group's replica voted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Vote {
    /// The term.
    pub term: u64,
    /// The candidate.
    pub node: u64,
    /// Whether a majority granted it.
    pub committed: bool,
}

/// What the log knows of a group besides its entries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupMarks {
    /// The last vote.
    pub vote: Option<Vote>,
    /// The last entry known to be committed; it may be older than the truth after a crash.
    pub committed: Option<EntryId>,
    /// The last entry that was purged; the log goes on after it.
    pub purged: Option<EntryId>,
}

/// What the writer has done.
#[derive(Debug)]
pub struct Counts {
    /// How long its syncs took, in nanoseconds.
    pub syncs: Histogram,
    /// How many operations each batch had.
    pub batches: Histogram,
    /// The bytes of frames that it wrote.
    pub bytes: Counter,
}

impl Default for Counts {
    fn default() -> Self {
        let (syncs, batches) = (Histogram::new(TIMES_NS), Histogram::new(COUNTS));
        Counts { syncs, batches, bytes: Counter::default() }
    }
}

/// How to open a log.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The size of new segment files.
    pub segment_bytes: u64,
    /// The size of the first segment of a new log, at most that of others: so that a new log is
    /// made at once.
    pub first_segment_bytes: u64,
    /// Most bytes of one frame; an entry must fit in one.
    pub frame_bytes_max: usize,
    /// Most bytes of payloads of written entries kept in memory.
    pub cache_bytes_max: usize,
    /// A random number: the name of the log if it is created now.
    pub new_log: u64,
}

impl Options {
    /// The limits of [`crate::limits`]; `new_log` is a random number.
    pub fn new(new_log: u64) -> Self {
        Options {
            segment_bytes: SEGMENT_BYTES,
            first_segment_bytes: SEGMENT_BYTES_FIRST,
            frame_bytes_max: FRAME_BYTES_MAX,
            cache_bytes_max: LOG_CACHE_BYTES_MAX,
            new_log,
        }
    }

    /// The same on a disk whose files are to be smaller.
    pub fn within(self, file_bytes_max: u64) -> Self {
        let quarter = usize::try_from(file_bytes_max / 4).unwrap_or(usize::MAX);
        Options {
            segment_bytes: self.segment_bytes.min(file_bytes_max),
            first_segment_bytes: self.first_segment_bytes.min(file_bytes_max),
            frame_bytes_max: self.frame_bytes_max.min(quarter),
            ..self
        }
    }
}

/// Why the log did not answer.
#[derive(Debug, Error)]
pub enum LogError {
    /// Stored data of the group is damaged.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The disk failed, or the log is closed.
    #[error("the log can't be read or written: {0}")]
    Io(#[from] io::Error),
}

impl From<LogError> for io::Error {
    fn from(error: LogError) -> Self {
        match error {
            LogError::Corrupt(corrupt) => io::Error::new(io::ErrorKind::InvalidData, corrupt),
            LogError::Io(error) => error,
        }
    }
}

/// The error that ended the log; every later operation fails with it.
#[derive(Clone, Debug, Error)]
#[error("the log has failed and takes nothing more: {text}")]
pub struct Failure {
    kind: io::ErrorKind,
    text: Arc<str>,
}

/// There is no room for what the log was given: until there is, every operation is refused with it.
#[derive(Clone, Debug, Error)]
#[error("the disk has no room for the log, which waits for it: {text}")]
struct Hunger {
    kind: io::ErrorKind,
    text: Arc<str>,
}

impl Hunger {
    fn new(error: &io::Error) -> Self {
        Hunger { kind: error.kind(), text: error.to_string().into() }
    }

    fn to_io(&self) -> io::Error {
        io::Error::new(self.kind, self.clone())
    }
}

impl Failure {
    fn new(error: &io::Error) -> Self {
        Failure { kind: error.kind(), text: error.to_string().into() }
    }

    fn to_io(&self) -> io::Error {
        io::Error::new(self.kind, self.clone())
    }
}
