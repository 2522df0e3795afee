//! The writer: takes what is queued, writes it in frames, syncs, reports.
//!
//! Owns the end of the log. It has no thread and never waits: a driver calls
//! [`LogCore::poll_batch`], [`LogCore::write`], [`LogCore::sync`] and [`LogCore::finish`] in turn,
//! and may let time pass between them. Invariants:
//!
//! - A segment is begun only when all of the one before is durable, and gets its name only when
//!   its header and zeros are. It begins with a head that says what the log knows so far.
//! - A segment is deleted only when a record that says so is durable, written after every
//!   operation that emptied it.
//! - The marks written in a head are those of the operations written before it, never of those
//!   that wait; so `written` here follows the order on disk, and the index runs ahead of it.
//! - A write for which the disk has no room has changed nothing that was called durable: it goes on
//!   where it was when it is called again. A sync that finds no room is final, as any other error:
//!   what it was to make durable may be gone from memory.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, sync_channel};
use std::task::{Context, Poll};

use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use super::format::{
    self, FRAME_HEADER_BYTES, FrameHeader, GroupHead, Head, Record, SECTOR, SegmentHeader,
};
use super::handle::{Done, Shared};
use super::index::Place;
use super::{EntryId, Failure, GroupMarks, LogEntry, Options, Vote};
use crate::seams::disk::{Disk, File, OpenMode};
use crate::seams::failpoint::Failpoint;
use crate::types::GroupId;

/// A buffer larger than this is given back after its batch.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;
/// How much of a new segment is zeroed by one write.
const ZERO_BYTES: usize = 1024 * 1024;

/// An operation that waits for the writer.
pub(super) struct Op {
    pub(super) group: GroupId,
    pub(super) what: What,
    pub(super) done: Option<Done>,
    /// The operation's place in the queue, free again when it is dropped.
    pub(super) _room: OwnedSemaphorePermit,
}

pub(super) enum What {
    /// Entries, and the index's stamp of the first.
    Append(Vec<LogEntry>, u64),
    Vote(Vote),
    Truncate(Option<EntryId>),
    Purge(EntryId),
    Remove,
    /// Nothing to write: done when all before it is.
    Flush,
}

/// What is written together and covered by one sync.
#[derive(Default)]
struct Batch {
    ops: Vec<Op>,
    /// How many of them are in frames, and how many entries of the next.
    placed: (usize, usize),
    committed: Vec<(GroupId, EntryId)>,
    /// Segments that were empty when the batch was taken: what emptied them is in it or before.
    dead: Vec<u32>,
    /// Whether a frame says so.
    dead_placed: bool,
}

/// The end of the log.
pub(super) struct End {
    pub(super) log: u64,
    pub(super) segment: u32,
    pub(super) file: Arc<dyn File>,
    pub(super) file_bytes: u64,
    /// Where the next frame goes.
    pub(super) offset: u64,
    /// The next frame's sequence.
    pub(super) sequence: u64,
    /// The last durable frame's.
    pub(super) synced: u64,
    /// Whether the segment has its head.
    pub(super) has_head: bool,
    /// Whether nothing may be added to this segment, because damage stands at its end.
    pub(super) sealed: bool,
}

/// An entry in the frame that is being built.
struct Placed {
    group: GroupId,
    index: u64,
    stamp: u64,
    /// From the frame's beginning.
    offset: usize,
    bytes: usize,
}

/// The log's writer; see [`super::open`] for how to get one and [`super::Log::start`] for how to
/// put it to work.
pub struct LogCore {
    pub(super) disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    pub(super) shared: Arc<Shared>,
    end: End,
    /// What the log on disk knows of each group.
    written: BTreeMap<GroupId, GroupHead>,
    batch: Batch,
    frame: Vec<u8>,
    placed: Vec<Placed>,
    /// Whether frames were written that no later frame proves durable.
    unproven: bool,
    /// Whether a sync has failed.
    is_unsynced: bool,
    /// The zeros of the next segment, if they are being made ahead.
    next: Option<Receiver<io::Result<Arc<dyn File>>>>,
    /// See [`LogCore::hold`].
    held: Option<Box<dyn fmt::Debug + Send + Sync>>,
}

impl fmt::Debug for LogCore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LogCore")
            .field("dir", &self.dir)
            .field("segment", &self.end.segment)
            .field("offset", &self.end.offset)
            .field("sequence", &self.end.sequence)
            .finish_non_exhaustive()
    }
}

impl LogCore {
    /// Keeps something for as long as the log is written, and lets go of it before the log says
    /// that it has ended: the lock on the directory.
    pub fn hold(&mut self, held: Box<dyn fmt::Debug + Send + Sync>) {
        self.held = Some(held);
    }

    pub(super) fn new(
        disk: Arc<dyn Disk>,
        dir: PathBuf,
        options: Options,
        shared: Arc<Shared>,
        end: End,
        written: BTreeMap<GroupId, GroupHead>,
    ) -> Self {
        LogCore {
            disk,
            dir,
            options,
            shared,
            end,
            written,
            batch: Batch::default(),
            frame: Vec::new(),
            placed: Vec::new(),
            unproven: false,
            is_unsynced: false,
            next: None,
            held: None,
        }
    }

    /// Takes what is queued. `true`: write, sync and finish it. `false`: the log is closed and all
    /// of it is written, or it has failed. Pending: nothing to do; the waker is called when there
    /// is.
    pub fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<bool> {
        let mut state = self.shared.state();
        if state.failure.is_some() {
            return Poll::Ready(false);
        }
        if state.queue.is_empty() && !state.closed {
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        if state.queue.is_empty() && state.committed.is_empty() {
            return Poll::Ready(self.unproven);
        }
        std::mem::swap(&mut self.batch.ops, &mut state.queue);
        self.batch.committed.extend(std::mem::take(&mut state.committed));
        self.batch.dead = state.index.dead_segments(self.end.segment);
        Poll::Ready(true)
    }

    /// Writes the batch that was taken. After an error only [`LogCore::fail`] may be called; or,
    /// where it was for want of room and [`LogCore::starve`] has told everybody, this again.
    ///
    /// The last batch of a log that is closed is an empty frame: it proves all before it durable,
    /// so that damage in there can't pass for a torn end when the log is opened again.
    pub fn write(&mut self) -> io::Result<()> {
        if self.batch.ops.is_empty() && self.batch.committed.is_empty() {
            Failpoint::BeforeSealed.check()?;
            self.make_room(0)?;
            self.write_frame()?;
            self.unproven = false;
            return Ok(());
        }
        self.unproven = true;
        self.shared.counts.batches.note(self.batch.ops.len() as u64);
        let ops = std::mem::take(&mut self.batch.ops);
        let written = self.write_ops(&ops);
        self.batch.ops = ops;
        written?;
        while let Some((group, id)) = self.batch.committed.last().copied() {
            // A mark of a group that was removed after it was noted.
            if self.written.contains_key(&group) {
                self.put(group, &Record::Committed(id))?;
                self.head_of(group).marks.committed = Some(id);
            }
            self.batch.committed.pop();
        }
        if !self.batch.dead.is_empty() && !self.batch.dead_placed {
            let dead = Record::Drop(self.batch.dead.clone());
            self.put(GroupId(0), &dead)?;
            self.batch.dead_placed = true;
        }
        self.write_frame()
    }

    fn write_ops(&mut self, ops: &[Op]) -> io::Result<()> {
        while let Some(op) = ops.get(self.batch.placed.0) {
            let group = op.group;
            match &op.what {
                What::Append(entries, stamp) => {
                    while let Some(entry) = entries.get(self.batch.placed.1) {
                        self.put_entry(group, entry, stamp + self.batch.placed.1 as u64)?;
                        self.batch.placed.1 += 1;
                    }
                }
                What::Vote(vote) => {
                    self.put(group, &Record::Vote(*vote))?;
                    self.head_of(group).marks.vote = Some(*vote);
                }
                What::Truncate(after) => {
                    self.put(group, &Record::Truncate(*after))?;
                    self.head_of(group).last = *after;
                }
                What::Purge(through) => {
                    self.put(group, &Record::Purge(*through))?;
                    let head = self.head_of(group);
                    head.marks.purged = Some(*through);
                    if head.last.is_none_or(|last| last.index < through.index) {
                        head.last = Some(*through);
                    }
                }
                What::Remove => {
                    self.put(group, &Record::Remove)?;
                    self.written.remove(&group);
                    if self.shared.state().index.tainted.is_some() {
                        self.head_of(group);
                    }
                }
                What::Flush => {}
            }
            self.batch.placed = (self.batch.placed.0 + 1, 0);
        }
        Ok(())
    }

    /// Makes durable what was written.
    pub fn sync(&mut self) -> io::Result<()> {
        if self.end.synced + 1 < self.end.sequence {
            let begun_at = Instant::now();
            let synced = Failpoint::BeforeSync.check().and_then(|()| self.end.file.sync_data());
            synced.inspect_err(|_| self.is_unsynced = true)?;
            Failpoint::AfterSync.pass();
            self.shared.counts.syncs.note(begun_at.elapsed().as_nanos() as u64);
            self.end.synced = self.end.sequence - 1;
        }
        Ok(())
    }

    /// Reports the batch done, then deletes the segments that it emptied.
    pub fn finish(&mut self) -> io::Result<()> {
        for mut op in self.batch.ops.drain(..) {
            if let Some(done) = op.done.take() {
                done(Ok(()));
            }
        }
        Failpoint::AfterReport.pass();
        self.batch.placed = (0, 0);
        self.batch.dead_placed = false;
        self.shared.relieve();
        if self.frame.capacity() > BUFFER_BYTES_KEPT {
            self.frame = Vec::new();
        }
        for number in std::mem::take(&mut self.batch.dead) {
            self.shared.state().index.remove_segment(number);
            Failpoint::BeforeSegmentRemoved.check()?;
            self.disk.remove(&segment_path(&self.dir, number))?;
            Failpoint::AfterSegmentRemoved.pass();
        }
        Ok(())
    }

    /// Ends the log with an error: all that waits and all that comes fails with it.
    pub fn fail(&mut self, error: &io::Error) {
        let failure = Failure::new(error);
        tracing::error!(dir = %self.dir.display(), %error, "the log has failed");
        let queued = self.shared.fail(&failure);
        for mut op in self.batch.ops.drain(..).chain(queued) {
            if let Some(done) = op.done.take() {
                done(Err(failure.to_io()));
            }
        }
    }

    /// The disk has no room: all who wait are told so, and nobody else gets in until all that was
    /// queued is durable after all. False if the log is to be closed, which is then its end, or if a
    /// sync has failed, for whatever reason: the system tells that once, and the next would seem to
    /// succeed.
    pub fn starve(&mut self, error: &io::Error) -> bool {
        if self.is_unsynced {
            return false;
        }
        let Some(starving) = self.shared.starve(error) else { return false };
        if starving.is_new {
            tracing::error!(dir = %self.dir.display(), %error, "the log waits for room on the disk");
        }
        let waiting = self.batch.ops.iter_mut().filter_map(|op| op.done.take());
        for done in waiting.chain(starving.waiting) {
            done(Err(starving.hunger.to_io()));
        }
        true
    }

    // --- frames ---

    fn head_of(&mut self, group: GroupId) -> &mut GroupHead {
        self.written.entry(group).or_insert_with(|| GroupHead {
            group,
            marks: GroupMarks::default(),
            last: None,
            damage: None,
        })
    }

    fn put_entry(&mut self, group: GroupId, entry: &LogEntry, stamp: u64) -> io::Result<()> {
        self.make_room(format::entry_record_bytes_max(entry.payload.len()))?;
        let offset = self.frame.len();
        format::put_entry(&mut self.frame, group, entry);
        let bytes = self.frame.len() - offset;
        self.placed.push(Placed { group, index: entry.id.index, stamp, offset, bytes });
        self.head_of(group).last = Some(entry.id);
        Ok(())
    }

    fn put(&mut self, group: GroupId, record: &Record<'_>) -> io::Result<()> {
        let bytes = match record {
            Record::Drop(segments) => format::RECORD_HEADER_BYTES + 5 * (segments.len() + 1),
            _ => format::RECORD_HEADER_BYTES + 64,
        };
        self.make_room(bytes)?;
        format::put(&mut self.frame, group, record);
        Ok(())
    }

    /// Ends the frame if a record of so many bytes would make it too large for its limit or for
    /// the segment, and begins a segment if need be; then begins a frame if there is none.
    fn make_room(&mut self, record_bytes: usize) -> io::Result<()> {
        let frame_bytes = self.frame.len().max(FRAME_HEADER_BYTES) + record_bytes;
        let too_large = frame_bytes > self.options.frame_bytes_max;
        if !self.frame.is_empty() && (too_large || !self.fits(frame_bytes)) {
            self.write_frame()?;
        }
        if self.frame.is_empty() {
            let frame_bytes = FRAME_HEADER_BYTES + record_bytes;
            if self.end.sealed || (self.end.has_head && !self.fits(frame_bytes)) {
                self.begin_segment()?;
            }
            if !self.end.has_head {
                self.write_head()?;
            }
            if !self.fits(frame_bytes) {
                // The first segment of a log is smaller than the others.
                self.begin_segment()?;
                self.write_head()?;
            }
            if !self.fits(frame_bytes) {
                return Err(io::Error::other("a record is larger than a segment"));
            }
            self.frame.resize(FRAME_HEADER_BYTES, 0);
        }
        Ok(())
    }

    fn fits(&self, frame_bytes: usize) -> bool {
        let frame_bytes = frame_bytes.next_multiple_of(SECTOR) as u64;
        self.end.offset + frame_bytes <= self.end.file_bytes
    }

    /// Writes the frame that was built and tells the index where its entries are.
    fn write_frame(&mut self) -> io::Result<()> {
        if self.frame.is_empty() {
            return Ok(());
        }
        let body_bytes = self.frame.len() - FRAME_HEADER_BYTES;
        self.frame.resize(format::frame_bytes(body_bytes), 0);
        let zero_sectors = format::zero_sectors(&self.frame[SECTOR..]);
        let header = FrameHeader {
            log: self.end.log,
            sequence: self.end.sequence,
            synced: self.end.synced,
            segment: self.end.segment,
            offset: position(self.end.offset)?,
            body_bytes: position(body_bytes as u64)?,
            zero_sectors,
        };
        self.frame[..FRAME_HEADER_BYTES].copy_from_slice(&header.encode());
        let written = Failpoint::BeforeFrame.check();
        let written = written.and_then(|()| self.end.file.write_at(&self.frame, self.end.offset));
        if let Err(error) = written {
            // Written again it is the same frame.
            self.frame.truncate(FRAME_HEADER_BYTES + body_bytes);
            return Err(error);
        }
        Failpoint::AfterFrame.pass();

        let mut state = self.shared.state();
        for placed in self.placed.drain(..) {
            let place = Place {
                segment: self.end.segment,
                offset: header.offset + placed.offset as u32,
                body_bytes: (placed.bytes - format::RECORD_HEADER_BYTES) as u32,
            };
            state.index.place(placed.group, placed.index, placed.stamp, place);
        }
        state.index.evict();
        drop(state);

        self.shared.counts.bytes.add(self.frame.len() as u64);
        self.end.offset += self.frame.len() as u64;
        self.end.sequence += 1;
        self.frame.clear();
        Ok(())
    }

    /// Writes what the log knows so far, as a frame of its own.
    fn write_head(&mut self) -> io::Result<()> {
        let (segments, tainted) = {
            let state = self.shared.state();
            (state.index.segments(), state.index.tainted.clone())
        };
        let groups = self.written.values().cloned().collect();
        self.frame.resize(FRAME_HEADER_BYTES, 0);
        // Twice: it stands for all of the log's past, and damage to it would concern every group.
        let head = Record::Head(Head { segments, tainted, groups });
        format::put(&mut self.frame, GroupId(0), &head);
        format::put(&mut self.frame, GroupId(0), &head);
        if !self.fits(self.frame.len()) {
            return Err(io::Error::other("the marks of all groups are larger than a segment"));
        }
        let written = self.write_frame();
        self.frame.clear();
        self.end.has_head = written.is_ok();
        written
    }

    /// Work for another thread once the segment is half full: the zeros of the next one.
    pub(super) fn make_ahead(&mut self) -> Option<impl FnOnce() + Send + 'static> {
        if self.next.is_some() || self.end.offset < self.end.file_bytes / 2 {
            return None;
        }
        let (made, next) = sync_channel(1);
        self.next = Some(next);
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        let bytes = self.options.segment_bytes;
        // Nobody waits for the answer if the log has ended; its next start removes the file.
        Some(move || drop(made.send(make_zeros(&*disk, &dir, bytes))))
    }

    /// Waits until the other thread has ended.
    pub(super) fn await_ahead(&mut self) {
        if let Some(next) = self.next.take() {
            drop(next.recv());
        }
    }

    /// Makes all of this segment durable, then begins the next.
    fn begin_segment(&mut self) -> io::Result<()> {
        self.sync()?;
        let number = self.end.segment.checked_add(1).ok_or_else(|| {
            io::Error::other("the log has used up all numbers that a segment can have")
        })?;
        let header =
            SegmentHeader { segment: number, log: self.end.log, first_sequence: self.end.sequence };
        let ahead = self.next.take().and_then(|next| next.recv().ok());
        let zeros = match ahead {
            Some(Ok(zeros)) => zeros,
            // What failed ahead is tried again, and fails the log if it fails here.
            _ => make_zeros(&*self.disk, &self.dir, self.options.segment_bytes)?,
        };
        let file = begin_file(&*self.disk, &self.dir, &header, zeros)?;
        self.shared.state().index.add_segment(number, file.clone());
        self.end.segment = number;
        self.end.file = file;
        self.end.file_bytes = self.options.segment_bytes;
        self.end.offset = SECTOR as u64;
        self.end.has_head = false;
        self.end.sealed = false;
        Ok(())
    }
}

/// A driver that goes away without an orderly end (a panic, a task dropped) must not leave
/// callers waiting.
impl Drop for LogCore {
    fn drop(&mut self) {
        let orderly = {
            let state = self.shared.state();
            state.failure.is_some() || (state.closed && state.queue.is_empty())
        };
        if !orderly || !self.batch.ops.is_empty() {
            self.fail(&io::Error::new(io::ErrorKind::BrokenPipe, "the log's writer has ended"));
        }
        self.held = None;
        self.shared.ended.send_replace(true);
    }
}

/// Whether an error is that the disk has no room, which may come.
pub(super) fn lacks_room(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Positions in a segment are written in four bytes.
fn position(bytes: u64) -> io::Result<u32> {
    u32::try_from(bytes).map_err(|_| io::Error::other("a log segment is at most 4 GiB"))
}

pub(super) fn segment_name(number: u32) -> String {
    format!("{number:08x}.log")
}

pub(super) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(segment_name(number))
}

/// What a segment is called until it is whole.
pub(super) const UNFINISHED: &str = "next.tmp";

/// Makes a segment file: zeros made durable under a temporary name, in steps, so that the syncs
/// of the log don't wait long behind them.
pub(super) fn make_zeros(disk: &dyn Disk, dir: &Path, bytes: u64) -> io::Result<Arc<dyn File>> {
    Failpoint::BeforeSegmentMade.check()?;
    let path = dir.join(UNFINISHED);
    let file = disk.open(&path, OpenMode::Create)?;
    let fill = || {
        file.set_len(0)?;
        let mut from = 0;
        while from < bytes {
            let to = bytes.min(from + ZERO_BYTES as u64);
            zero(&*file, from, to)?;
            file.sync_data()?;
            from = to;
        }
        Ok(())
    };
    match fill() {
        Ok(()) => Ok(file),
        Err(error) => {
            if lacks_room(&error) {
                // What there is of it is room that others need; whether it goes is not the question.
                drop(disk.remove(&path));
            }
            Err(error)
        }
    }
}

/// Makes zeros a segment: its header made durable, then its name.
pub(super) fn begin_file(
    disk: &dyn Disk,
    dir: &Path,
    header: &SegmentHeader,
    zeros: Arc<dyn File>,
) -> io::Result<Arc<dyn File>> {
    zeros.write_at(&header.encode(), 0)?;
    zeros.sync_data()?;
    Failpoint::BeforeSegmentNamed.check()?;
    disk.rename(&dir.join(UNFINISHED), &segment_path(dir, header.segment))?;
    Failpoint::AfterSegmentNamed.pass();
    disk.sync_dir(dir)?;
    Ok(zeros)
}

/// Writes zeros from an offset up to another.
pub(super) fn zero(file: &dyn File, mut from: u64, to: u64) -> io::Result<()> {
    let zeros = vec![0; ZERO_BYTES.min((to - from) as usize)];
    while from < to {
        let bytes = zeros.len().min((to - from) as usize);
        file.write_at(&zeros[..bytes], from)?;
        from += bytes as u64;
    }
    Ok(())
}
