//! Snapshots: a group's whole state as a stream of bounded chunks.
//!
//! The stream is taken from a view of the state while writes go on. It is received into a file of
//! its own and checked as a whole before a byte of it is looked at; a stream that is torn, cut or
//! damaged is never seen by anyone.
//!
//! ```text
//! stream  = head row* end hash
//! head    = "ASPNSNAP" version:u8 group:u64 mark_len:u32 mark     (mark: AppliedMark, postcard)
//! row     = table:u8 key_len:u32 row_len:u32 key row              (integers little-endian)
//! end     = 0xff
//! hash    = BLAKE3 of everything before it, 32 bytes
//! ```

use std::ops::{Bound, ControlFlow};
use std::path::PathBuf;
use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};

use super::state::{AppliedMark, State, StateView};
use crate::limits::SNAPSHOT_CHUNK_BYTES;
use crate::machine::tables::{ReadTables, Table, TableError, WriteTables};
use crate::seams::disk::{Disk, File, OpenMode};
use crate::types::GroupId;

/// What a snapshot's file is called while it arrives; swept at start.
pub(super) const PART_SUFFIX: &str = ".part";

const MAGIC: &[u8; 8] = b"ASPNSNAP";
const VERSION: u8 = 1;
const END: u8 = 0xff;
const HASH_BYTES: usize = 32;
const ROW_HEAD_BYTES: usize = 9;
/// A mark holds three small ids and a membership of at most some hundred nodes.
const MARK_BYTES_MAX: usize = 64 * 1024;
/// No machine row is longer: a value, a key and their counters.
const ROW_BYTES_MAX: usize = crate::limits::VALUE_BYTES_MAX + 64 * 1024;
/// How many bytes of rows are put into one transaction of the state that is being rebuilt.
const INSTALL_BATCH_BYTES: usize = 4 * 1024 * 1024;

impl State {
    /// A snapshot of everything applied so far.
    pub fn snapshot(&self) -> Result<SnapshotSource, TableError> {
        let view = self.view()?;
        let mark = view.applied()?;
        Ok(SnapshotSource {
            group: self.group(),
            view,
            mark,
            at: At::Head,
            hasher: blake3::Hasher::new(),
        })
    }

    /// A file that receives a snapshot from elsewhere, chunk by chunk. `number` tells one arrival
    /// from another.
    pub fn receive_snapshot(&self, number: u64) -> Result<SnapshotSink, TableError> {
        let (disk, dir) = self.place();
        let path = dir.join(format!("snapshot-{number}{PART_SUFFIX}"));
        let file = disk
            .open(&path, OpenMode::CreateNew)
            .map_err(|error| TableError::io(format!("{}: {error}", path.display())))?;
        let part = Part { disk: disk.clone(), path, file };
        Ok(SnapshotSink { group: self.group(), part, len: 0 })
    }

    /// Replaces the state by a received snapshot. The old state is served until the switch.
    pub fn install(&self, snapshot: &ReceivedSnapshot) -> Result<(), TableError> {
        let replacement = self.begin_replacement()?;
        let mut reader = PartReader::new(&snapshot.part, snapshot.len - HASH_BYTES as u64);
        read_head(&mut reader, self.group())?;
        let mut done = false;
        while !done {
            replacement.fill(|writer| {
                let start = reader.offset;
                while reader.offset - start < INSTALL_BATCH_BYTES as u64 {
                    match read_row(&mut reader)? {
                        Some((table, key, row)) => writer.put(table, &key, &row)?,
                        None => {
                            done = true;
                            break;
                        }
                    }
                }
                Ok(())
            })?;
        }
        replacement.finish(snapshot.mark.clone())
    }
}

/// A snapshot being sent.
pub struct SnapshotSource {
    group: GroupId,
    view: StateView,
    mark: AppliedMark,
    at: At,
    hasher: blake3::Hasher,
}

/// What a source sends next.
enum At {
    Head,
    Rows { table: usize, after: Option<Bytes> },
    Sent,
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

    /// The next chunk, of about [`SNAPSHOT_CHUNK_BYTES`] unless one row has more; `None` after
    /// the last.
    pub fn next_chunk(&mut self) -> Result<Option<Bytes>, TableError> {
        let mut chunk = BytesMut::new();
        while chunk.len() < SNAPSHOT_CHUNK_BYTES {
            match &self.at {
                At::Head => {
                    put_head(&mut chunk, self.group, &self.mark)?;
                    self.at = At::Rows { table: 0, after: None };
                }
                At::Rows { table, after } => {
                    let (table, after) = (*table, after.clone());
                    match Table::ALL.get(table) {
                        Some(&rows) => {
                            self.at = match self.put_rows(&mut chunk, rows, after)? {
                                Some(last) => At::Rows { table, after: Some(last) },
                                None => At::Rows { table: table + 1, after: None },
                            };
                        }
                        None => {
                            chunk.put_u8(END);
                            self.hasher.update(&chunk);
                            chunk.put_slice(self.hasher.finalize().as_bytes());
                            self.at = At::Sent;
                            return Ok(Some(chunk.freeze()));
                        }
                    }
                }
                At::Sent => return Ok(None),
            }
        }
        self.hasher.update(&chunk);
        Ok(Some(chunk.freeze()))
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
            chunk.put_u8(table as u8);
            chunk.put_u32_le(u32::try_from(key.len()).map_err(too_long)?);
            chunk.put_u32_le(u32::try_from(row.len()).map_err(too_long)?);
            chunk.put_slice(key);
            chunk.put_slice(row);
            if chunk.len() < SNAPSHOT_CHUNK_BYTES {
                return Ok(ControlFlow::Continue(()));
            }
            last = Some(Bytes::copy_from_slice(key));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(last)
    }
}

fn too_long(_: std::num::TryFromIntError) -> TableError {
    TableError::corrupt("a row is longer than 4 GiB")
}

fn put_head(chunk: &mut BytesMut, group: GroupId, mark: &AppliedMark) -> Result<(), TableError> {
    let mark = postcard::to_stdvec(mark).map_err(|error| TableError::io(error.to_string()))?;
    chunk.put_slice(MAGIC);
    chunk.put_u8(VERSION);
    chunk.put_u64_le(group.0);
    chunk.put_u32_le(u32::try_from(mark.len()).map_err(too_long)?);
    chunk.put_slice(&mark);
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
        Ok(())
    }

    /// Checks the whole stream and makes it durable. An error means that it must be sent again.
    pub fn finish(self) -> Result<ReceivedSnapshot, TableError> {
        let SnapshotSink { group, part, len } = self;
        part.file.sync_data().map_err(|error| part.error(&error))?;
        let Some(body_len) = len.checked_sub(HASH_BYTES as u64) else {
            return Err(TableError::corrupt("the snapshot is shorter than its hash"));
        };
        let mut reader = PartReader::new(&part, body_len);
        let mut hasher = blake3::Hasher::new();
        while let Some(chunk) = reader.next_chunk()? {
            hasher.update(chunk);
        }
        let mut hash = [0; HASH_BYTES];
        part.file.read_at(&mut hash, body_len).map_err(|error| part.error(&error))?;
        if hasher.finalize() != blake3::Hash::from_bytes(hash) {
            return Err(TableError::corrupt("the snapshot's hash does not match its content"));
        }
        let mark = read_head(&mut PartReader::new(&part, body_len), group)?;
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

/// Reads a part from its beginning, a chunk at a time.
struct PartReader<'a> {
    part: &'a Part,
    /// How much has been taken.
    offset: u64,
    end: u64,
    buffer: Vec<u8>,
    taken: usize,
}

impl<'a> PartReader<'a> {
    fn new(part: &'a Part, end: u64) -> Self {
        PartReader { part, offset: 0, end, buffer: Vec::new(), taken: 0 }
    }

    /// Everything buffered, or the next chunk of the file.
    fn next_chunk(&mut self) -> Result<Option<&[u8]>, TableError> {
        if self.taken == self.buffer.len() && !self.refill(1)? {
            return Ok(None);
        }
        let chunk = &self.buffer[self.taken..];
        self.offset += chunk.len() as u64;
        self.taken = self.buffer.len();
        Ok(Some(chunk))
    }

    /// Has at least `len` bytes buffered; false if the stream has fewer.
    fn refill(&mut self, len: usize) -> Result<bool, TableError> {
        let kept = self.buffer.len() - self.taken;
        if kept >= len {
            return Ok(true);
        }
        let left = self.end - self.offset - kept as u64;
        let more = left.min(len.max(SNAPSHOT_CHUNK_BYTES) as u64) as usize;
        if kept + more < len {
            return Ok(false);
        }
        self.buffer.drain(..self.taken);
        self.taken = 0;
        self.buffer.resize(kept + more, 0);
        let from = self.offset + kept as u64;
        let file = &self.part.file;
        file.read_at(&mut self.buffer[kept..], from).map_err(|error| self.part.error(&error))?;
        Ok(true)
    }

    fn take(&mut self, len: usize) -> Result<&[u8], TableError> {
        if !self.refill(len)? {
            return Err(TableError::corrupt("the snapshot ends early"));
        }
        let taken = &self.buffer[self.taken..self.taken + len];
        self.taken += len;
        self.offset += len as u64;
        Ok(taken)
    }

    fn take_u32(&mut self) -> Result<u32, TableError> {
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into().expect("four bytes were taken")))
    }
}

fn read_head(reader: &mut PartReader<'_>, group: GroupId) -> Result<AppliedMark, TableError> {
    if reader.take(MAGIC.len())? != MAGIC {
        return Err(TableError::corrupt("this is no snapshot"));
    }
    let version = reader.take(1)?[0];
    if version != VERSION {
        return Err(TableError::io(format!(
            "the snapshot has version {version}; this build reads {VERSION}"
        )));
    }
    let of = u64::from_le_bytes(reader.take(8)?.try_into().expect("eight bytes were taken"));
    if of != group.0 {
        return Err(TableError::corrupt(format!("the snapshot is of group {of}, not {group}")));
    }
    let mark_len = reader.take_u32()? as usize;
    if mark_len > MARK_BYTES_MAX {
        return Err(TableError::corrupt("the snapshot's mark is too long"));
    }
    postcard::from_bytes(reader.take(mark_len)?)
        .map_err(|error| TableError::corrupt(format!("the snapshot's mark: {error}")))
}

/// A row, and the table and key it stands under.
type Row = (Table, Vec<u8>, Vec<u8>);

/// The next row, or `None` at the end of the rows.
fn read_row(reader: &mut PartReader<'_>) -> Result<Option<Row>, TableError> {
    let number = reader.take(1)?[0];
    if number == END {
        return Ok(None);
    }
    let table = Table::from_u8(number)
        .ok_or_else(|| TableError::corrupt(format!("the snapshot has a table {number}")))?;
    let key_len = reader.take_u32()? as usize;
    let row_len = reader.take_u32()? as usize;
    if key_len + row_len + ROW_HEAD_BYTES > ROW_BYTES_MAX {
        return Err(TableError::corrupt("the snapshot has a row that is too long"));
    }
    let key = reader.take(key_len)?.to_vec();
    let row = reader.take(row_len)?.to_vec();
    Ok(Some((table, key, row)))
}
