//! The log's bytes: segments, frames and records, encoded and checked.
//!
//! Owns the layout and nothing else: no files, no index, no decisions about damage. Every decoder
//! takes arbitrary bytes and never panics. Numbers in fixed positions are little-endian; a sector
//! is 512 bytes.
//!
//! ```text
//! segment   header sector, then frames, then zeros to the end of the file
//! header    0 magic "ASPENLOG"  8 version u32  12 segment u32  16 log u64
//!           24 first_sequence u64  32 crc32 of 0..32 u32  zeros to 512
//!
//! frame     begins on a sector and never spans segments: header, records, zeros to a sector
//! header    0 magic u32  4 crc32 of 8..48 u32  8 log u64  16 sequence u64  24 synced u64
//!           32 segment u32  36 offset u32  40 body_bytes u32  44 zero_sectors u32
//!
//! record    0 body_bytes u32  4 version u8  5 kind u8  6 zero u16  8 group u64  16 index u64
//!           24 crc32 of the body u32  28 crc32 of 0..28 u32  32 body in postcard
//! ```
//!
//! `log` is a random number drawn when the log was created. It and the frame's own place keep
//! bytes that merely look like a frame (a value, a misdirected write) from being taken for one.
//! `sequence` counts frames over the whole log without a gap. `synced` is the last sequence that
//! was durable when the frame was written: a readable frame thus proves that all frames up to
//! `synced` once were. `zero_sectors` is how many sectors of the frame are all zeros by content:
//! in space that was zeros before, a frame with more of them was torn, and one with no more was
//! written whole.
//!
//! The group and the index stand at fixed places under a checksum of their own, so that damage
//! in a body can be named. The checksum of a head is far stronger than 256 bits need, so that a
//! head with a single flipped bit can be read all the same ([`FrameHeader::decode_healed`]).
//!
//! | kind | index | body |
//! |---|---|---|
//! | 1 entry | the entry's | term, node, payload |
//! | 2 vote | 0 | [`Vote`] |
//! | 3 committed | 0 | [`EntryId`] |
//! | 4 truncate | 0 | the last entry that stays, `Option<EntryId>` |
//! | 5 purge | 0 | the last entry that goes, [`EntryId`] |
//! | 6 remove | 0 | nothing |
//! | 7 head | 0 | [`Head`]; twice in a segment's first frame; group 0 and meant for none |
//! | 8 drop | 0 | the segments that are deleted now, a list of u32; meant for no group |

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{EntryId, GroupMarks, LogEntry, Vote};
use crate::error::Corrupt;
use crate::types::GroupId;

/// What a disk writes as one: a torn write leaves some sectors new and others old.
pub const SECTOR: usize = 512;
/// The version of this layout.
pub const VERSION: u32 = 1;
/// The bytes of a frame's header.
pub const FRAME_HEADER_BYTES: usize = 48;
/// The bytes of a record before its body.
pub const RECORD_HEADER_BYTES: usize = 32;

const SEGMENT_MAGIC: &[u8; 8] = b"ASPENLOG";
const FRAME_MAGIC: u32 = u32::from_le_bytes(*b"AsFr");
const RECORD_VERSION: u8 = 1;
/// Three numbers in postcard's variable length: what an entry has before its payload.
const ENTRY_PREFIX_BYTES_MAX: usize = 30;
const ZEROS: [u8; SECTOR] = [0; SECTOR];

/// The first sector of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Its number; the file's name says it too.
    pub segment: u32,
    /// The log that it belongs to.
    pub log: u64,
    /// The sequence of its first frame: all frames before are durable in earlier segments.
    pub first_sequence: u64,
}

/// Why a segment's header was not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HeaderError {
    /// It does not carry our mark, or its checksum is wrong.
    Damaged,
    /// It is whole and of a version that this program does not know.
    Version(u32),
}

/// What stands before the records of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// The log that it belongs to.
    pub log: u64,
    /// Its place in the order of all frames.
    pub sequence: u64,
    /// The last sequence that was durable when this frame was written.
    pub synced: u64,
    /// The segment that it stands in.
    pub segment: u32,
    /// Where it stands in there.
    pub offset: u32,
    /// The bytes of its records.
    pub body_bytes: u32,
    /// How many of its sectors are zeros by content.
    pub zero_sectors: u32,
}

/// What stands before the body of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// The bytes of the body.
    pub body_bytes: u32,
    /// The record's version.
    pub version: u8,
    /// What it is.
    pub kind: u8,
    /// Whose it is.
    pub group: GroupId,
    /// The index of an entry, 0 for other kinds.
    pub index: u64,
    /// The checksum that the body must have.
    pub body_crc: u32,
}

/// The kinds of records.
pub mod kind {
    /// An entry.
    pub const ENTRY: u8 = 1;
    /// A vote.
    pub const VOTE: u8 = 2;
    /// A committed mark.
    pub const COMMITTED: u8 = 3;
    /// The end of the log was taken back.
    pub const TRUNCATE: u8 = 4;
    /// The beginning of the log was given up.
    pub const PURGE: u8 = 5;
    /// The group is gone.
    pub const REMOVE: u8 = 6;
    /// What the log knew when the segment began.
    pub const HEAD: u8 = 7;
    /// Segments that hold nothing any more.
    pub const DROP: u8 = 8;
}

/// A record's meaning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record<'a> {
    /// One entry and its payload.
    Entry(EntryId, &'a [u8]),
    /// The group's vote.
    Vote(Vote),
    /// What the group knows to be committed.
    Committed(EntryId),
    /// All after this entry is gone, or all if none.
    Truncate(Option<EntryId>),
    /// All up to this entry is gone.
    Purge(EntryId),
    /// The group is gone.
    Remove,
    /// What the log knew when the segment began.
    Head(Head),
    /// These segments hold nothing any more.
    Drop(Vec<u32>),
}

/// All that the log knows besides entries, at the beginning of a segment: with it, older segments
/// matter only for the entries that they hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The segments that exist, this one included.
    pub segments: Vec<u32>,
    /// Damage that could not be attributed, if some was found: groups that are not listed here
    /// may have been lost by it.
    pub tainted: Option<String>,
    /// Every group; one that is not listed does not exist.
    pub groups: Vec<GroupHead>,
}

/// What the log knows of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupHead {
    /// Which.
    pub group: GroupId,
    /// Its marks.
    pub marks: GroupMarks,
    /// The end of its log: the last entry, or the purge point if there is none.
    pub last: Option<EntryId>,
    /// Damage found earlier, until the group is removed.
    pub damage: Option<Corrupt>,
}

/// Numbers at fixed places; the caller has checked the length.
fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

impl SegmentHeader {
    /// The header's sector.
    pub fn encode(&self) -> [u8; SECTOR] {
        let mut sector = [0; SECTOR];
        sector[..8].copy_from_slice(SEGMENT_MAGIC);
        sector[8..12].copy_from_slice(&VERSION.to_le_bytes());
        sector[12..16].copy_from_slice(&self.segment.to_le_bytes());
        sector[16..24].copy_from_slice(&self.log.to_le_bytes());
        sector[24..32].copy_from_slice(&self.first_sequence.to_le_bytes());
        let crc = crc32fast::hash(&sector[..32]);
        sector[32..36].copy_from_slice(&crc.to_le_bytes());
        sector
    }

    /// Reads a header; nothing after its checksum is looked at.
    pub fn decode(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        let Some(fields) = bytes.get(..32).filter(|_| bytes.len() >= 36) else {
            return Err(HeaderError::Damaged);
        };
        if &fields[..8] != SEGMENT_MAGIC || crc32fast::hash(fields) != u32_at(bytes, 32) {
            return Err(HeaderError::Damaged);
        }
        match u32_at(fields, 8) {
            VERSION => Ok(SegmentHeader {
                segment: u32_at(fields, 12),
                log: u64_at(fields, 16),
                first_sequence: u64_at(fields, 24),
            }),
            other => Err(HeaderError::Version(other)),
        }
    }

    /// Reads a header that is whole, or that is once a single bit is flipped back.
    pub fn decode_healed(bytes: &[u8]) -> Result<SegmentHeader, HeaderError> {
        heal::<36, _>(bytes, |bytes| match SegmentHeader::decode(bytes) {
            Err(HeaderError::Damaged) => None,
            known => Some(known),
        })
        .unwrap_or(Err(HeaderError::Damaged))
    }
}

impl FrameHeader {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; FRAME_HEADER_BYTES] {
        let mut bytes = [0; FRAME_HEADER_BYTES];
        bytes[..4].copy_from_slice(&FRAME_MAGIC.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.log.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.synced.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.segment.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.offset.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.zero_sectors.to_le_bytes());
        let crc = crc32fast::hash(&bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header that is whole.
    pub fn decode(bytes: &[u8]) -> Option<FrameHeader> {
        let bytes = bytes.get(..FRAME_HEADER_BYTES)?;
        if u32_at(bytes, 0) != FRAME_MAGIC || crc32fast::hash(&bytes[8..]) != u32_at(bytes, 4) {
            return None;
        }
        Some(FrameHeader {
            log: u64_at(bytes, 8),
            sequence: u64_at(bytes, 16),
            synced: u64_at(bytes, 24),
            segment: u32_at(bytes, 32),
            offset: u32_at(bytes, 36),
            body_bytes: u32_at(bytes, 40),
            zero_sectors: u32_at(bytes, 44),
        })
    }

    /// Reads a header that is whole, or that is once a single bit is flipped back.
    pub fn decode_healed(bytes: &[u8]) -> Option<FrameHeader> {
        heal::<FRAME_HEADER_BYTES, _>(bytes, FrameHeader::decode)
    }

    /// The bytes of the frame on disk: header, records and zeros up to a sector.
    pub fn frame_bytes(&self) -> u64 {
        frame_bytes(self.body_bytes as usize) as u64
    }
}

/// The bytes that a frame with such a body takes on disk.
pub fn frame_bytes(body_bytes: usize) -> usize {
    (FRAME_HEADER_BYTES + body_bytes).next_multiple_of(SECTOR)
}

impl RecordHeader {
    fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[4] = self.version;
        bytes[5] = self.kind;
        bytes[8..16].copy_from_slice(&self.group.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.index.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.body_crc.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header that is whole.
    pub fn decode(bytes: &[u8]) -> Option<RecordHeader> {
        let bytes = bytes.get(..RECORD_HEADER_BYTES)?;
        if crc32fast::hash(&bytes[..28]) != u32_at(bytes, 28) {
            return None;
        }
        Some(RecordHeader {
            body_bytes: u32_at(bytes, 0),
            version: bytes[4],
            kind: bytes[5],
            group: GroupId(u64_at(bytes, 8)),
            index: u64_at(bytes, 16),
            body_crc: u32_at(bytes, 24),
        })
    }

    /// Reads a header that is whole, or that is once a single bit is flipped back.
    pub fn decode_healed(bytes: &[u8]) -> Option<RecordHeader> {
        heal::<RECORD_HEADER_BYTES, _>(bytes, RecordHeader::decode)
    }

    /// The bytes of the record on disk.
    pub fn record_bytes(&self) -> u64 {
        RECORD_HEADER_BYTES as u64 + u64::from(self.body_bytes)
    }

    /// Whether it belongs to a group; heads and drops belong to the log.
    pub fn is_of_group(&self) -> bool {
        !matches!(self.kind, kind::HEAD | kind::DROP)
    }
}

/// Decodes as is, then with each bit flipped. The checksums in question differ in at least four
/// bits between any two valid headers, so at most one flip can fit.
fn heal<const N: usize, T>(bytes: &[u8], decode: impl Fn(&[u8]) -> Option<T>) -> Option<T> {
    let mut copy = [0; N];
    copy.copy_from_slice(bytes.get(..N)?);
    if let Some(whole) = decode(&copy) {
        return Some(whole);
    }
    (0..N * 8).find_map(|bit| {
        copy[bit / 8] ^= 1 << (bit % 8);
        let healed = decode(&copy);
        copy[bit / 8] ^= 1 << (bit % 8);
        healed
    })
}

/// How many sectors are all zeros; a part of one at the end counts too.
pub fn zero_sectors(bytes: &[u8]) -> u32 {
    bytes.chunks(SECTOR).filter(|sector| is_zero(sector)).count() as u32
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    bytes.chunks(SECTOR).all(|chunk| chunk == &ZEROS[..chunk.len()])
}

/// The most bytes that an entry's record can take.
pub fn entry_record_bytes_max(payload_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + ENTRY_PREFIX_BYTES_MAX + payload_bytes
}

/// The bytes of an entry's body.
pub fn entry_body_bytes(entry: &LogEntry) -> usize {
    let numbers = [entry.id.term, entry.id.node, entry.payload.len() as u64];
    numbers.iter().map(|number| varint_bytes(*number)).sum::<usize>() + entry.payload.len()
}

fn varint_bytes(number: u64) -> usize {
    (64 - (number | 1).leading_zeros() as usize).div_ceil(7)
}

/// Appends an entry's record, copying its payload once.
pub fn put_entry(out: &mut Vec<u8>, group: GroupId, entry: &LogEntry) {
    let mut prefix = [0; ENTRY_PREFIX_BYTES_MAX];
    let numbers = (entry.id.term, entry.id.node, entry.payload.len() as u64);
    let prefix = postcard::to_slice(&numbers, &mut prefix)
        .expect("three numbers fit in the bytes that three numbers take at most");
    put_record(out, kind::ENTRY, group, entry.id.index, &[prefix, &entry.payload]);
}

/// Appends any record but an entry's.
pub fn put(out: &mut Vec<u8>, group: GroupId, record: &Record<'_>) {
    match record {
        Record::Entry(id, payload) => put_entry(
            out,
            group,
            &LogEntry { id: *id, payload: bytes::Bytes::copy_from_slice(payload) },
        ),
        Record::Vote(vote) => put_small(out, kind::VOTE, group, vote),
        Record::Committed(id) => put_small(out, kind::COMMITTED, group, id),
        Record::Truncate(after) => put_small(out, kind::TRUNCATE, group, after),
        Record::Purge(id) => put_small(out, kind::PURGE, group, id),
        Record::Remove => put_small(out, kind::REMOVE, group, &()),
        Record::Head(head) => put_large(out, kind::HEAD, head),
        Record::Drop(segments) => put_large(out, kind::DROP, segments),
    }
}

/// Marks are a few numbers each; 64 bytes hold the largest of them.
fn put_small<T: Serialize>(out: &mut Vec<u8>, kind: u8, group: GroupId, body: &T) {
    let mut bytes = [0; 64];
    let bytes = postcard::to_slice(body, &mut bytes).expect("a mark takes at most 34 bytes");
    put_record(out, kind, group, 0, &[bytes]);
}

fn put_large<T: Serialize>(out: &mut Vec<u8>, kind: u8, body: &T) {
    let bytes = postcard::to_allocvec(body).expect("plain data in memory is always encoded");
    put_record(out, kind, GroupId(0), 0, &[&bytes]);
}

fn put_record(out: &mut Vec<u8>, kind: u8, group: GroupId, index: u64, body: &[&[u8]]) {
    let start = out.len();
    out.resize(start + RECORD_HEADER_BYTES, 0);
    for part in body {
        out.extend_from_slice(part);
    }
    let written = &out[start + RECORD_HEADER_BYTES..];
    let header = RecordHeader {
        body_bytes: u32::try_from(written.len()).expect("a frame is far below 4 GiB"),
        version: RECORD_VERSION,
        kind,
        group,
        index,
        body_crc: crc32fast::hash(written),
    };
    out[start..start + RECORD_HEADER_BYTES].copy_from_slice(&header.encode());
}

/// What a body says, or what is wrong with it.
pub fn decode_body<'a>(header: &RecordHeader, body: &'a [u8]) -> Result<Record<'a>, &'static str> {
    if body.len() != header.body_bytes as usize || crc32fast::hash(body) != header.body_crc {
        return Err("the checksum of the record is wrong");
    }
    if header.version != RECORD_VERSION {
        return Err("the record is of a version that this program does not know");
    }
    let record = match header.kind {
        kind::ENTRY => {
            let (id, payload) = decode_entry(header.index, body)?;
            Record::Entry(id, payload)
        }
        kind::VOTE => Record::Vote(exactly(body)?),
        kind::COMMITTED => Record::Committed(exactly(body)?),
        kind::TRUNCATE => Record::Truncate(exactly(body)?),
        kind::PURGE => Record::Purge(exactly(body)?),
        kind::REMOVE => {
            exactly::<()>(body)?;
            Record::Remove
        }
        kind::HEAD => Record::Head(exactly(body)?),
        kind::DROP => Record::Drop(exactly(body)?),
        _ => return Err("the record is of a kind that this program does not know"),
    };
    Ok(record)
}

fn decode_entry(index: u64, body: &[u8]) -> Result<(EntryId, &[u8]), &'static str> {
    let ((term, node, len), payload) = postcard::take_from_bytes::<(u64, u64, u64)>(body)
        .map_err(|_| "the entry can't be decoded")?;
    if payload.len() as u64 != len {
        return Err("the entry's payload has another length");
    }
    Ok((EntryId { term, node, index }, payload))
}

/// Decodes a value that takes all of the bytes.
fn exactly<T: DeserializeOwned>(body: &[u8]) -> Result<T, &'static str> {
    match postcard::take_from_bytes(body) {
        Ok((value, [])) => Ok(value),
        Ok(_) => Err("the record has bytes left over"),
        Err(_) => Err("the record can't be decoded"),
    }
}
