//! Snapshots: a group's whole state as a stream of bounded chunks.
//!
//! The stream is taken from a view of the state while writes go on. It is received into a file of
//! its own and read through once, for its form and its hash, before it is called a snapshot; when
//! it is installed, it is read and hashed again, into a new state file that takes the old one's
//! place as a whole. A stream that is torn, cut, damaged or of another group is refused
//! ([`SnapshotError::Refused`]) and leaves everything as it was.
//!
//! ```text
//! stream  = head row* end hash
//! head    = "ASPNSNAP" version:u8 group:u64 mark_len:u32 mark     (mark: AppliedMark, postcard)
//! row     = table:u8 key_len:u32 row_len:u32 key row              (integers little-endian)
//! end     = 0xff
//! hash    = BLAKE3 of everything before it, 32 bytes
//! ```
//!
//! Rows are in the order of tables, then of keys, each once: a state has one stream.

use std::ops::{Bound, ControlFlow};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use thiserror::Error;

use super::state::{AppliedMark, State, StateView, step};
use crate::limits::{
    SNAPSHOT_CHUNK_BYTES, SNAPSHOT_INSTALL_BYTES, SNAPSHOT_MARK_BYTES_MAX, SNAPSHOT_ROW_BYTES_MAX,
};
use crate::machine::tables::{ReadTables, Table, TableError};
use crate::seams::disk::{Disk, File, MemDisk, OpenMode};
use crate::seams::failpoint::Failpoint;
use crate::types::{Form, GroupId, Spelt};

/// What a snapshot's file is called while it arrives; swept at start.
pub(super) const PART_SUFFIX: &str = ".part";

const MAGIC: &[u8; 8] = b"ASPNSNAP";
const VERSION: u8 = 1;
const END: u8 = 0xff;
const HASH_BYTES: usize = 32;

/// Why a snapshot was not taken over. The state is what it was before.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum SnapshotError {
    /// What arrived is not a snapshot for this group: it must be sent again.
    #[error("the snapshot is refused: {0}")]
    Refused(String),
    /// The disk or the state failed.
    #[error(transparent)]
    Tables(#[from] TableError),
}

impl From<SnapshotError> for TableError {
    /// A refused stream says nothing about the state, so it is no damage of it.
    fn from(error: SnapshotError) -> Self {
        match error {
            SnapshotError::Refused(_) => TableError::io(error.to_string()),
            SnapshotError::Tables(error) => error,
        }
    }
}

fn refused(what: impl Into<String>) -> SnapshotError {
    SnapshotError::Refused(what.into())
}

impl State {
    /// A snapshot of everything applied so far.
    pub fn snapshot(&self) -> Result<SnapshotSource, TableError> {
        step(Failpoint::BeforeSnapshot)?;
        self.snapshot_of(self.view())
    }

    /// Makes everything applied so far durable; a snapshot of exactly that.
    pub fn checkpoint_as_snapshot(&self) -> Result<SnapshotSource, TableError> {
        self.snapshot_of(self.checkpointed()?)
    }

    fn snapshot_of(&self, view: StateView) -> Result<SnapshotSource, TableError> {
        Ok(SnapshotSource {
            group: self.group(),
            about_bytes: self.file_bytes()?,
            mark: view.applied().clone(),
            view,
            at: At::Head,
            hasher: blake3::Hasher::new(),
        })
    }

    /// A file that receives a snapshot from elsewhere, chunk by chunk. `number` tells one arrival
    /// from another.
    pub fn receive_snapshot(&self, number: u64) -> Result<SnapshotSink, TableError> {
        step(Failpoint::BeforeArrival)?;
        let (disk, dir) = self.place();
        let path = dir.join(format!("snapshot-{number}{PART_SUFFIX}"));
        let file = disk
            .open(&path, OpenMode::CreateNew)
            .map_err(|error| TableError::io(format!("{}: {error}", path.display())))?;
        let part = Part { disk: disk.clone(), path, file };
        Ok(SnapshotSink { group: self.group(), part, len: 0 })
    }

    /// Replaces the state by a received snapshot. The old state is served until the switch, and
    /// on if this fails before it.
    pub fn install(&self, snapshot: &ReceivedSnapshot) -> Result<(), TableError> {
        let replacement = self.begin_replacement()?;
        // Read with the same care as when it arrived: the disk may have damaged it since.
        let mut reader = StreamReader::new(&snapshot.part, snapshot.len)?;
        let mark = reader.head(self.group())?;
        let mut has_more = true;
        while has_more {
            replacement.fill(|writer| {
                let start = reader.taken;
                while has_more && reader.taken - start < SNAPSHOT_INSTALL_BYTES as u64 {
                    match reader.row()? {
                        Some((table, key, row)) => writer.put(table, key, Some(row))?,
                        None => has_more = false,
                    }
                }
                Ok(())
            })?;
        }
        reader.end()?;
        replacement.finish(mark)
    }
}

/// A snapshot being sent.
pub struct SnapshotSource {
    group: GroupId,
    about_bytes: u64,
    view: StateView,
    mark: AppliedMark,
    at: At,
    hasher: blake3::Hasher,
}

/// What a source sends next.
enum At {
    Head,
    Rows {
        table: usize,
        after: Option<Bytes>,
    },
    Sent,
    /// A chunk was lost to an error. To go on would send a stream without it whose hash fits.
    Broken,
}

impl std::fmt::Debug for SnapshotSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SnapshotSource(group {}, {:?})", self.group, self.mark.id)
    }
}

impl SnapshotSource {
    /// What the snapshot holds.
    pub fn mark(&self) -> &AppliedMark {
        &self.mark
    }

    /// About how many bytes the stream will have, from what the state takes on disk.
    pub fn about_bytes(&self) -> u64 {
        self.about_bytes
    }

    /// The next chunk, of about [`SNAPSHOT_CHUNK_BYTES`] unless one row has more; `None` after
    /// the last. After an error there is no next one.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, TableError> {
        step(Failpoint::BeforeChunk)?;
        let mut chunk = BytesMut::new();
        self.at = match std::mem::replace(&mut self.at, At::Broken) {
            At::Broken => return Err(TableError::io("the snapshot broke off before its end")),
            At::Sent => {
                self.at = At::Sent;
                return Ok(None);
            }
            at => self.fill(&mut chunk, at)?,
        };
        self.hasher.update(&chunk);
        if let At::Sent = self.at {
            step(Failpoint::BeforeLastChunk)?;
            chunk.put_slice(self.hasher.finalize().as_bytes());
        }
        Ok(Some(chunk.freeze()))
    }

    /// Fills a chunk from a place in the stream. Answers the place after it.
    fn fill(&self, chunk: &mut BytesMut, mut at: At) -> Result<At, TableError> {
        while chunk.len() < SNAPSHOT_CHUNK_BYTES {
            at = match at {
                At::Head => {
                    put_head(chunk, self.group, &self.mark)?;
                    At::Rows { table: 0, after: None }
                }
                At::Rows { table, after } => match Table::ALL.get(table) {
                    Some(&rows) => match self.put_rows(chunk, rows, after)? {
                        Some(last) => At::Rows { table, after: Some(last) },
                        None => At::Rows { table: table + 1, after: None },
                    },
                    None => {
                        chunk.put_u8(END);
                        return Ok(At::Sent);
                    }
                },
                At::Sent | At::Broken => return Ok(at),
            };
        }
        Ok(at)
    }

    /// Fills the chunk from one table. Answers the last row's key if there may be more.
    fn put_rows(
        &self,
        chunk: &mut BytesMut,
        table: Table,
        after: Option<Bytes>,
    ) -> Result<Option<Bytes>, TableError> {
        let start = after.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let mut last = None;
        self.view.scan(table, start, Bound::Unbounded, false, &mut |key, row| {
            put_row(chunk, table, key, row)?;
            if chunk.len() < SNAPSHOT_CHUNK_BYTES {
                return Ok(ControlFlow::Continue(()));
            }
            last = Some(Bytes::copy_from_slice(key));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(last)
    }
}

fn put_head(chunk: &mut BytesMut, group: GroupId, mark: &AppliedMark) -> Result<(), TableError> {
    let mark = mark.encode()?;
    if mark.len() > SNAPSHOT_MARK_BYTES_MAX {
        return Err(TableError::io("the membership is too large for a snapshot"));
    }
    chunk.put_slice(MAGIC);
    chunk.put_u8(VERSION);
    chunk.put_u64_le(group.0);
    chunk.put_u32_le(mark.len() as u32);
    chunk.put_slice(&mark);
    Ok(())
}

fn put_row(chunk: &mut BytesMut, table: Table, key: &[u8], row: &[u8]) -> Result<(), TableError> {
    if key.len() + row.len() > SNAPSHOT_ROW_BYTES_MAX {
        return Err(TableError::corrupt(format!("table {table:?}: a row is too long")));
    }
    chunk.put_u8(table as u8);
    chunk.put_u32_le(key.len() as u32);
    chunk.put_u32_le(row.len() as u32);
    chunk.put_slice(key);
    chunk.put_slice(row);
    Ok(())
}

/// The file that a snapshot arrives in; removed when it is dropped. Nothing relies on that: what
/// a crash leaves is swept at start.
#[derive(Debug)]
struct Part {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn File>,
}

impl Drop for Part {
    fn drop(&mut self) {
        if let Err(error) = self.disk.remove(&self.path) {
            tracing::warn!(file = %self.path.display(), %error, "could not remove a snapshot part");
        }
    }
}

impl Part {
    fn error(&self, error: &std::io::Error) -> TableError {
        TableError::io(format!("{}: {error}", self.path.display()))
    }
}

/// A snapshot that arrives.
#[derive(Debug)]
pub struct SnapshotSink {
    group: GroupId,
    part: Part,
    len: u64,
}

impl SnapshotSink {
    /// How many bytes have arrived: where a broken transfer goes on.
    pub fn received(&self) -> u64 {
        self.len
    }

    /// Adds the next bytes of the stream.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), TableError> {
        self.part.file.write_at(chunk, self.len).map_err(|error| self.part.error(&error))?;
        self.len += chunk.len() as u64;
        step(Failpoint::AfterChunk)
    }

    /// Checks the whole stream; [`SnapshotError::Refused`] means that it must be sent again. The
    /// part is not made durable: what a crash leaves of it is swept, and what is installed from
    /// it is durable as a state file.
    pub fn finish(self) -> Result<ReceivedSnapshot, SnapshotError> {
        let SnapshotSink { group, part, len } = self;
        let mut reader = StreamReader::new(&part, len)?;
        let mark = reader.head(group)?;
        while reader.row()?.is_some() {}
        reader.end()?;
        step(Failpoint::AfterArrival)?;
        Ok(ReceivedSnapshot { part, len, mark })
    }
}

/// A snapshot that arrived whole.
#[derive(Debug)]
pub struct ReceivedSnapshot {
    part: Part,
    len: u64,
    mark: AppliedMark,
}

impl ReceivedSnapshot {
    /// What the snapshot holds.
    pub fn mark(&self) -> &AppliedMark {
        &self.mark
    }
}

/// Reads a stream from a part: the head, then rows to the end. Lengths are checked before room is
/// made for what they announce; one chunk and one row are held at most. Nothing that was read may
/// be relied on before [`StreamReader::end`] says that the hash fits.
struct StreamReader<'a> {
    part: &'a Part,
    hasher: blake3::Hasher,
    /// Where the hash begins.
    end: u64,
    /// How much was taken.
    taken: u64,
    buffer: Vec<u8>,
    /// How much of the buffer was taken.
    skip: usize,
    /// The last row's table and key.
    last: Option<(Table, Vec<u8>)>,
}

/// A row, after the table and key it stands under.
type Row<'a> = (Table, &'a [u8], &'a [u8]);

impl<'a> StreamReader<'a> {
    fn new(part: &'a Part, len: u64) -> Result<Self, SnapshotError> {
        let Some(end) = len.checked_sub(HASH_BYTES as u64) else {
            return Err(refused("it is shorter than its hash"));
        };
        let hasher = blake3::Hasher::new();
        Ok(StreamReader { part, hasher, end, taken: 0, buffer: Vec::new(), skip: 0, last: None })
    }

    /// Has at least `len` bytes in the buffer.
    fn refill(&mut self, len: usize) -> Result<(), SnapshotError> {
        let kept = self.buffer.len() - self.skip;
        if kept >= len {
            return Ok(());
        }
        let from = self.taken + kept as u64;
        let more = (self.end - from).min(len.max(SNAPSHOT_CHUNK_BYTES) as u64) as usize;
        if kept + more < len {
            return Err(refused("it ends early"));
        }
        self.buffer.drain(..self.skip);
        self.skip = 0;
        self.buffer.resize(kept + more, 0);
        let read = self.part.file.read_at(&mut self.buffer[kept..], from);
        read.map_err(|error| self.part.error(&error))?;
        self.hasher.update(&self.buffer[kept..]);
        Ok(())
    }

    fn take(&mut self, len: usize) -> Result<&[u8], SnapshotError> {
        self.refill(len)?;
        let taken = &self.buffer[self.skip..self.skip + len];
        self.skip += len;
        self.taken += len as u64;
        Ok(taken)
    }

    fn take_array<const N: usize>(&mut self) -> Result<[u8; N], SnapshotError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn take_len(&mut self) -> Result<u64, SnapshotError> {
        Ok(u32::from_le_bytes(self.take_array()?).into())
    }

    fn head(&mut self, group: GroupId) -> Result<AppliedMark, SnapshotError> {
        if self.take(MAGIC.len())? != MAGIC {
            return Err(refused("it does not begin as one"));
        }
        let [version] = self.take_array()?;
        if version != VERSION {
            return Err(refused(format!(
                "it has version {version}, this program reads {VERSION}: use a newer one"
            )));
        }
        let of = GroupId(u64::from_le_bytes(self.take_array()?));
        if of != group {
            return Err(refused(format!("it is of group {of}, not {group}")));
        }
        let mark_len = self.take_len()?;
        if mark_len > SNAPSHOT_MARK_BYTES_MAX as u64 {
            return Err(refused("its mark is too long"));
        }
        AppliedMark::decode(self.take(mark_len as usize)?)
            .map_err(|error| refused(format!("its mark: {error}")))
    }

    /// The next row, or `None` at the end of the rows.
    fn row(&mut self) -> Result<Option<Row<'_>>, SnapshotError> {
        let [number] = self.take_array()?;
        if number == END {
            return Ok(None);
        }
        let Some(table) = Table::from_u8(number) else {
            return Err(refused(format!("it has a table {number}")));
        };
        let (key_len, row_len) = (self.take_len()?, self.take_len()?);
        if key_len + row_len > SNAPSHOT_ROW_BYTES_MAX as u64 {
            return Err(refused("it has a row that is too long"));
        }
        let (key_len, row_len) = (key_len as usize, row_len as usize);
        self.refill(key_len + row_len)?;
        let key = &self.buffer[self.skip..self.skip + key_len];
        match &mut self.last {
            Some((last_table, last_key)) if (*last_table, &last_key[..]) >= (table, key) => {
                return Err(refused("its rows are not in order"));
            }
            Some((last_table, last_key)) => {
                *last_table = table;
                last_key.clear();
                last_key.extend_from_slice(key);
            }
            last => *last = Some((table, key.to_vec())),
        }
        let (key, row) = self.take(key_len + row_len)?.split_at(key_len);
        Ok(Some((table, key, row)))
    }

    /// Nothing may follow the end of the rows but the hash of all that was taken.
    fn end(&self) -> Result<(), SnapshotError> {
        if self.taken != self.end {
            return Err(refused("it goes on behind its end"));
        }
        let mut hash = [0; HASH_BYTES];
        let read = self.part.file.read_at(&mut hash, self.end);
        read.map_err(|error| self.part.error(&error))?;
        if self.hasher.finalize() != blake3::Hash::from_bytes(hash) {
            return Err(refused("its hash does not fit"));
        }
        Ok(())
    }
}

/// The form of a stream, without its hash.
pub(super) const FORM: Form = Form {
    name: "snapshot",
    again: |stream| {
        let disk: Arc<dyn Disk> = Arc::new(MemDisk::default());
        let path = PathBuf::from("stream");
        let file = disk.open(&path, OpenMode::CreateNew).expect("memory");
        let len = stream.len() as u64;
        file.write_at(stream, 0).expect("memory");
        file.write_at(blake3::hash(stream).as_bytes(), len).expect("memory");
        let part = Part { disk, path, file };
        match read_again(&part, len + HASH_BYTES as u64) {
            Ok(again) => Some(again.into()),
            Err(SnapshotError::Refused(_)) => None,
            Err(SnapshotError::Tables(error)) => panic!("what arrived is no damage: {error}"),
        }
    },
    spelt: Spelt::Freely,
};

fn read_again(part: &Part, len: u64) -> Result<BytesMut, SnapshotError> {
    const GROUP: GroupId = GroupId(1);
    let mut reader = StreamReader::new(part, len)?;
    let mut again = BytesMut::new();
    put_head(&mut again, GROUP, &reader.head(GROUP)?)?;
    while let Some((table, key, row)) = reader.row()? {
        put_row(&mut again, table, key, row)?;
    }
    again.put_u8(END);
    reader.end()?;
    Ok(again)
}
