//! Opening a log: reads all of it, rebuilds the index, tells a torn end from damage.
//!
//! Owns the decision what a log's bytes mean after any crash. It writes only to cut a torn end
//! off. How it decides, at a place where no whole frame stands:
//!
//! - *Proven durable*: a later segment exists, or a later frame says that it was written after
//!   this place was durable. Then something was lost here. A record whose head can be read names
//!   its group and entry. A frame whose header can't be read taints the log: every group known so
//!   far is damaged, and so is any group that is not known.
//! - *The end*: nothing proves it. Space ahead of the log is zeros and sectors are written whole
//!   or not at all, so a torn frame has sectors of zeros that it should not have: it was never
//!   acknowledged, and is cut off. A frame that has all its sectors and a wrong checksum was
//!   written and then damaged, and is treated as above, since it may have been acknowledged.
//!
//! So the last frame's damage passes for a tear in one case only: if all that was set in one of
//! its sectors became zeros. A single flipped bit in the header of a segment, a frame or a record
//! is read around, with a log line; damage is only what can't be read.
//!
//! Damage is kept: when some was found, the next write begins a segment whose head says so, and
//! it stays until the group is removed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::LogError;
use super::core::{self, End, LogCore, UNFINISHED};
use super::format::{
    self, FRAME_HEADER_BYTES, FrameHeader, GroupHead, HeaderError, SECTOR, SegmentHeader,
};
use super::handle::Shared;
use super::index::Index;
use super::replay::{self, Replay};
use super::{Options, format::is_zero};
use crate::error::Corrupt;
use crate::limits::LOG_GROUPS_MAX;
use crate::seams::disk::{Disk, File, OpenMode};

/// How much of a file is read at once.
const WINDOW_BYTES: u64 = 1024 * 1024;
/// What a group takes in a head at most: its marks, and damage with its text.
const GROUP_HEAD_BYTES_MAX: u64 = 512;

/// What was found when a log was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Segment files.
    pub segments: usize,
    /// Groups, damaged ones included.
    pub groups: usize,
    /// Entries of all groups.
    pub entries: u64,
    /// The torn end that was cut off.
    pub cut: Option<Cut>,
    /// The groups that are damaged.
    pub damaged: Vec<Corrupt>,
    /// Damage that could not be attributed: a group that is not known may have been lost by it.
    pub tainted: Option<String>,
    /// Damage that did no harm.
    pub healed: u64,
}

/// A torn end, written by a crash and never acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The segment.
    pub segment: u32,
    /// Where the log ends now.
    pub offset: u64,
    /// How many bytes after that held something.
    pub bytes: u64,
}

/// Opens the log in a directory, or makes one.
pub fn open(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: Options,
) -> Result<(LogCore, Recovery), LogError> {
    check(&options)?;
    disk.create_dir_all(dir)?;
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        disk.sync_dir(parent)?;
    }
    let mut index = Index::new(options.cache_bytes_max);
    let mut segments = list(&*disk, dir)?;
    if segments.is_empty() {
        let header = SegmentHeader { segment: 1, log: options.new_log, first_sequence: 1 };
        let zeros =
            core::make_zeros(&*disk, dir, options.first_segment_bytes.min(options.segment_bytes))?;
        let file = core::begin_file(&*disk, dir, &header, zeros)?;
        let bytes = file.len()?;
        segments.push(Segment { number: 1, file, bytes, header: Ok(header), damaged: false });
    }
    for segment in &segments {
        if let Err(HeaderError::Version(version)) = segment.header {
            let text = format!(
                "log segment {} is of version {version}; this program knows version {}",
                core::segment_name(segment.number),
                format::VERSION
            );
            return Err(io::Error::new(io::ErrorKind::Unsupported, text).into());
        }
        index.add_segment(segment.number, segment.file.clone());
    }
    let mut walk = Walk {
        log: segments.iter().find_map(|segment| Some(segment.header.ok()?.log)),
        expected: None,
        replay: Replay::new(index, options.segment_bytes),
        ended: Ended::Clean(SECTOR as u64, false),
    };
    for at in 0..segments.len() {
        walk.segment(&segments[at], segments.get(at + 1))?;
    }
    finish(disk, dir, options, segments, walk)
}

fn check(options: &Options) -> io::Result<()> {
    let sizes = [options.segment_bytes, options.first_segment_bytes];
    let sector = SECTOR as u64;
    let sectors = sizes.iter().all(|bytes| bytes.is_multiple_of(sector) && *bytes >= 4 * sector);
    let frames = 2 * options.frame_bytes_max as u64 <= options.segment_bytes;
    if !sectors || !frames || options.segment_bytes > u64::from(u32::MAX) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a log segment is four or more whole sectors, holds two frames, and is below 4 GiB",
        ));
    }
    Ok(())
}

struct Segment {
    number: u32,
    file: Arc<dyn File>,
    bytes: u64,
    header: Result<SegmentHeader, HeaderError>,
    /// Whether the header was read around damage, or could not be read.
    damaged: bool,
}

/// The segments of a directory in order. A file that was being made is removed.
fn list(disk: &dyn Disk, dir: &Path) -> io::Result<Vec<Segment>> {
    let mut segments = Vec::new();
    for name in disk.list(dir)? {
        if name == UNFINISHED {
            tracing::info!(dir = %dir.display(), "a log segment was not finished and is removed");
            disk.remove(&dir.join(name))?;
            continue;
        }
        let number = name.strip_suffix(".log").and_then(|hex| u32::from_str_radix(hex, 16).ok());
        let Some(number) = number.filter(|n| *n != 0 && core::segment_name(*n) == name) else {
            continue;
        };
        let file = disk.open(&dir.join(name), OpenMode::Existing)?;
        // What lies beyond is not ours: positions have four bytes.
        let bytes = file.len()?.min(u64::from(u32::MAX));
        let mut sector = [0; SECTOR];
        if bytes >= SECTOR as u64 {
            file.read_at(&mut sector, 0)?;
        }
        let header = SegmentHeader::decode_healed(&sector).and_then(|header| {
            if header.segment == number { Ok(header) } else { Err(HeaderError::Damaged) }
        });
        let damaged = SegmentHeader::decode(&sector) != header || header.is_err();
        segments.push(Segment { number, file, bytes, header, damaged });
    }
    segments.sort_by_key(|segment| segment.number);
    Ok(segments)
}

/// How the last segment that was walked ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ended {
    /// With the last frame; the next goes here. And whether something stands there.
    Clean(u64, bool),
    /// With damage: nothing may be written there.
    Damaged,
}

/// Reads all frames in order.
struct Walk {
    log: Option<u64>,
    /// The sequence of the next frame, once one is known.
    expected: Option<u64>,
    replay: Replay,
    ended: Ended,
}

/// The frames that can be read after some place.
struct Later {
    /// The first of them and where it stands.
    first: Option<(u64, FrameHeader)>,
    /// The last sequence that any of them proves durable.
    synced: u64,
    /// How many bits are set.
    ones: u64,
}

impl Walk {
    fn segment(&mut self, segment: &Segment, next: Option<&Segment>) -> io::Result<()> {
        let is_last = next.is_none();
        let next_header = next
            .filter(|next| segment.number.checked_add(1) == Some(next.number))
            .and_then(|next| next.header.ok());
        self.replay.begin_segment(segment.number);
        self.replay.healed += u64::from(segment.damaged);
        if let Ok(header) = &segment.header {
            self.expected = Some(header.first_sequence);
        }
        let mut window = Window::new(&segment.file, segment.bytes);
        let mut offset = SECTOR as u64;
        let mut rest = false;
        while offset + SECTOR as u64 <= segment.bytes {
            let sector = window.get(offset, SECTOR as u64)?;
            let found = FrameHeader::decode_healed(sector)
                .filter(|header| self.belongs(header, segment.number, offset));
            match found {
                Some(header) => {
                    if FrameHeader::decode(sector).is_none() {
                        self.replay.healed += 1;
                    }
                    if !self.frame(segment, &mut window, offset, header, is_last)? {
                        rest = true;
                        break;
                    }
                    offset += header.frame_bytes();
                }
                None => {
                    let bits = ones(sector);
                    let later = self.later(segment, &mut window, offset)?;
                    let expected = self.expected.unwrap_or(1);
                    let proven = !is_last || later.synced >= expected;
                    // Far fewer bits than a header has: it is a flip in space not yet used.
                    if bits <= 1 && !proven {
                        rest = bits + later.ones > 0;
                        break;
                    }
                    let complete = match next_header {
                        Some(next) => next.first_sequence == expected && later.first.is_none(),
                        None => bits + later.ones <= 1,
                    };
                    if complete {
                        self.replay.healed += u64::from(bits + later.ones > 0);
                        break;
                    }
                    self.taint(segment.number, offset, "no frame can be read");
                    match later.first {
                        Some((at, header)) => {
                            self.expected = Some(header.sequence);
                            offset = at;
                        }
                        None => {
                            self.ended = Ended::Damaged;
                            self.expected = Some(expected + 1);
                            return Ok(());
                        }
                    }
                }
            }
        }
        if let (Some(header), Some(expected)) = (next_header, self.expected)
            && offset + SECTOR as u64 > segment.bytes
            && header.first_sequence != expected
        {
            self.taint(segment.number, offset, "frames are missing at the end");
        }
        self.ended = Ended::Clean(offset, rest);
        Ok(())
    }

    fn belongs(&self, header: &FrameHeader, segment: u32, offset: u64) -> bool {
        self.log.is_none_or(|log| log == header.log)
            && header.segment == segment
            && u64::from(header.offset) == offset
            && self.expected.is_none_or(|expected| expected <= header.sequence)
    }

    fn taint(&mut self, segment: u32, offset: u64, what: &str) {
        let what = format!("{what} (log segment {segment:08x}, byte {offset})");
        self.replay.taint(what);
    }

    /// Replays one frame. False if it was torn: the log ends before it.
    fn frame(
        &mut self,
        segment: &Segment,
        window: &mut Window,
        offset: u64,
        header: FrameHeader,
        is_last: bool,
    ) -> io::Result<bool> {
        if self.expected.is_some_and(|expected| expected != header.sequence) {
            self.taint(segment.number, offset, "frames are missing");
        }
        // A file that was cut from outside: what is not there is not zeros either.
        let there = header.frame_bytes().min(segment.bytes - offset);
        let frame = window.get(offset, there)?;
        let body_end = (FRAME_HEADER_BYTES + header.body_bytes as usize).min(frame.len());
        let parsed = replay::parse(&frame[FRAME_HEADER_BYTES..body_end], header.body_bytes);
        if !parsed.is_whole() && is_last {
            let torn = format::zero_sectors(&frame[SECTOR..]) > header.zero_sectors;
            if torn && self.later(segment, window, offset)?.synced < header.sequence {
                return Ok(false);
            }
        }
        let frame = window.get(offset, there)?;
        let parsed = replay::parse(&frame[FRAME_HEADER_BYTES..body_end], header.body_bytes);
        self.replay.apply(segment.number, offset as u32 + FRAME_HEADER_BYTES as u32, parsed);
        self.log = Some(header.log);
        self.expected = Some(header.sequence + 1);
        Ok(true)
    }

    /// Looks for frames in the sectors after an offset.
    fn later(&self, segment: &Segment, window: &mut Window, after: u64) -> io::Result<Later> {
        let mut later = Later { first: None, synced: 0, ones: 0 };
        let mut offset = after + SECTOR as u64;
        while offset + SECTOR as u64 <= segment.bytes {
            let bytes = WINDOW_BYTES.min((segment.bytes - offset) / SECTOR as u64 * SECTOR as u64);
            let chunk = window.get(offset, bytes)?;
            if !is_zero(chunk) {
                later.ones += ones(chunk);
                for (sector, at) in chunk.chunks(SECTOR).zip((offset..).step_by(SECTOR)) {
                    let header = FrameHeader::decode(sector)
                        .filter(|header| self.belongs(header, segment.number, at));
                    if let Some(header) = header {
                        later.first.get_or_insert((at, header));
                        later.synced = later.synced.max(header.synced);
                    }
                }
            }
            offset += bytes;
        }
        Ok(later)
    }
}

/// How many bits are set.
fn ones(bytes: &[u8]) -> u64 {
    bytes.iter().map(|byte| u64::from(byte.count_ones())).sum()
}

/// Cuts the torn end, makes what was accepted durable, and puts the core together.
fn finish(
    disk: Arc<dyn Disk>,
    dir: &Path,
    options: Options,
    segments: Vec<Segment>,
    mut walk: Walk,
) -> Result<(LogCore, Recovery), LogError> {
    let present: BTreeSet<u32> = segments.iter().map(|segment| segment.number).collect();
    walk.replay.end(&present);
    let count = segments.len();
    let Some(last) = segments.into_iter().next_back() else {
        return Err(io::Error::other("a log that was opened has a segment").into());
    };
    let (offset, ended_clean, cut) = match walk.ended {
        Ended::Clean(offset, false) => (offset, true, None),
        Ended::Clean(offset, true) => (offset, true, cut(&last, offset)?),
        Ended::Damaged => (last.bytes, false, None),
    };
    // A killed process leaves what it wrote to the system: it is accepted, so it must be durable.
    last.file.sync_data()?;
    disk.sync_dir(dir)?;

    let replay = walk.replay;
    let written: BTreeMap<_, _> = replay
        .index
        .groups
        .iter()
        .map(|(id, group)| {
            let (marks, damage) = (group.marks, group.damage.clone());
            (*id, GroupHead { group: *id, marks, last: group.last(), damage })
        })
        .collect();
    let recovery = Recovery {
        segments: count,
        groups: written.len(),
        entries: replay.index.groups.values().map(|group| group.len()).sum(),
        cut,
        damaged: written.values().filter_map(|head| head.damage.clone()).collect(),
        tainted: replay.index.tainted.clone(),
        healed: replay.healed,
    };
    report(dir, &recovery);

    let sequence = walk.expected.unwrap_or(1);
    let end = End {
        log: walk.log.unwrap_or(options.new_log),
        segment: last.number,
        file: last.file,
        file_bytes: last.bytes,
        offset,
        sequence,
        synced: sequence - 1,
        has_head: offset > SECTOR as u64,
        sealed: !ended_clean || replay.has_new_damage(),
    };
    let groups_max = (options.segment_bytes / 8 / GROUP_HEAD_BYTES_MAX).max(1) as usize;
    let shared = Shared::new(replay.index, &options, groups_max.min(LOG_GROUPS_MAX));
    let core = LogCore::new(disk, dir.to_owned(), options, Arc::new(shared), end, written);
    Ok((core, recovery))
}

/// Zeros all from an offset to the end of the file. If this is cut short by a crash, the frame at
/// the offset has no fewer zeros than before, and is cut again.
fn cut(segment: &Segment, from: u64) -> io::Result<Option<Cut>> {
    let mut window = Window::new(&segment.file, segment.bytes);
    let mut end = from;
    let mut offset = from;
    while offset < segment.bytes {
        let bytes = WINDOW_BYTES.min(segment.bytes - offset);
        let chunk = window.get(offset, bytes)?;
        if let Some(last) = chunk.iter().rposition(|byte| *byte != 0).filter(|_| !is_zero(chunk)) {
            end = offset + last as u64 + 1;
            core::zero(&*segment.file, offset, offset + bytes)?;
        }
        offset += bytes;
    }
    let cut = Cut { segment: segment.number, offset: from, bytes: end - from };
    Ok((end > from).then_some(cut))
}

fn report(dir: &Path, recovery: &Recovery) {
    let dir = dir.display();
    if let Some(Cut { segment, offset, bytes }) = recovery.cut {
        tracing::warn!(
            %dir, segment, offset, bytes,
            "the log ended in a torn write that was never acknowledged; it is cut off"
        );
    }
    if recovery.healed > 0 {
        tracing::warn!(%dir, places = recovery.healed, "the log has damage that does no harm");
    }
    for corrupt in &recovery.damaged {
        tracing::error!(%dir, group = corrupt.group.0, index = corrupt.index, "{corrupt}");
    }
    if let Some(what) = &recovery.tainted {
        tracing::error!(%dir, "the log has damage that no group can be named for: {what}");
    }
}

/// A part of a file in memory, for reads that go forward.
struct Window {
    file: Arc<dyn File>,
    file_bytes: u64,
    start: u64,
    buffer: Vec<u8>,
}

impl Window {
    fn new(file: &Arc<dyn File>, file_bytes: u64) -> Self {
        Window { file: file.clone(), file_bytes, start: 0, buffer: Vec::new() }
    }

    /// Bytes that are in the file.
    fn get(&mut self, offset: u64, bytes: u64) -> io::Result<&[u8]> {
        let held = self.start..self.start + self.buffer.len() as u64;
        if offset < held.start || offset + bytes > held.end {
            let ahead = bytes.max(WINDOW_BYTES).min(self.file_bytes - offset);
            self.buffer.resize(ahead as usize, 0);
            self.start = offset;
            self.file.read_at(&mut self.buffer, offset)?;
        }
        let at = (offset - self.start) as usize;
        Ok(&self.buffer[at..at + bytes as usize])
    }
}
