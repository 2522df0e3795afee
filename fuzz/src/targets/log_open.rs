//! A log whose frames hold any records in any order opens, or says what is wrong with it; what it
//! then says it has can be read.
//!
//! The input is taken for a list of records; headers and checksums are made to fit, so that only
//! the meaning is arbitrary. A last byte that is odd leaves the last frame torn.

use std::path::Path;
use std::sync::Arc;

use aspen::seams::disk::{Disk, MemDisk, OpenMode};
use aspen::store::log::format::{
    self, FRAME_HEADER_BYTES, FrameHeader, RECORD_HEADER_BYTES, SECTOR, SegmentHeader,
};
use aspen::store::log::{Log, Options, open};

const SEGMENT_BYTES: usize = 16 * 1024;
const LOG: u64 = 7;

pub fn run(bytes: &[u8]) {
    let disk = Arc::new(MemDisk::default());
    let dir = Path::new("log");
    disk.create_dir_all(dir).expect("memory");
    let path = dir.join(first_segment());
    let file = disk.open(&path, OpenMode::CreateNew).expect("memory");
    file.write_at(&segment(bytes), 0).expect("memory");

    let options = Options {
        segment_bytes: SEGMENT_BYTES as u64,
        frame_bytes_max: SEGMENT_BYTES / 4,
        cache_bytes_max: 1024,
        ..Options::new(LOG)
    };
    let Ok((core, recovery)) = open(disk, dir, options) else { return };
    let (log, _core) = Log::with_driver(core, |core| core);
    assert_eq!(log.groups().len(), recovery.groups);
    for group in log.groups() {
        let Ok(group) = log.group(group) else { continue };
        let Some(last) = group.last_id() else { continue };
        let first = group.first_index();
        if first <= last.index {
            let entries = group.read(first..last.index + 1, 1 << 20);
            assert!(!entries.expect("undamaged entries").is_empty());
        }
    }
}

fn segment(mut records: &[u8]) -> Vec<u8> {
    let torn = records.last().is_some_and(|last| last % 2 == 1);
    let header = SegmentHeader { segment: 1, log: LOG, first_sequence: 1 };
    let mut segment = header.encode().to_vec();
    let mut sequence = 1;
    while let Some((frame, rest)) = frame(records, sequence, segment.len()) {
        if segment.len() + frame.len() > SEGMENT_BYTES {
            break;
        }
        segment.extend(frame);
        sequence += 1;
        records = rest;
    }
    if torn && segment.len() > SECTOR {
        let from = segment.len() - SECTOR;
        segment[from..].fill(0);
    }
    segment.resize(SEGMENT_BYTES, 0);
    segment
}

/// One frame of up to eight records, and what is left of the input.
fn frame(mut records: &[u8], sequence: u64, offset: usize) -> Option<(Vec<u8>, &[u8])> {
    let mut body = Vec::new();
    for _ in 0..8 {
        let Some((record, rest)) = record(records) else { break };
        body.extend(record);
        records = rest;
    }
    if body.is_empty() {
        return None;
    }
    let mut bytes = vec![0; FRAME_HEADER_BYTES];
    bytes.extend(&body);
    bytes.resize(format::frame_bytes(body.len()), 0);
    let mut header = FrameHeader {
        log: LOG,
        sequence,
        synced: sequence - 1,
        segment: 1,
        offset: offset as u32,
        body_bytes: body.len() as u32,
        zero_sectors: 0,
    };
    bytes[..FRAME_HEADER_BYTES].copy_from_slice(&header.encode());
    header.zero_sectors = format::zero_sectors(&bytes);
    bytes[..FRAME_HEADER_BYTES].copy_from_slice(&header.encode());
    Some((bytes, records))
}

/// Kind, group, index and length of a record are a byte each; its body follows. The header is
/// laid out as the format says, for the library only writes headers of records that mean
/// something.
fn record(input: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let [kind, group, index, length, rest @ ..] = input else { return None };
    let (body, rest) = rest.split_at(rest.len().min(usize::from(*length)));
    let mut bytes = vec![0; RECORD_HEADER_BYTES];
    bytes[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
    bytes[4] = 1;
    bytes[5] = kind % 10;
    bytes[8] = group % 4;
    bytes[16] = *index;
    bytes[24..28].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    let crc = crc32fast::hash(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_le_bytes());
    bytes.extend(body);
    Some((bytes, rest))
}

/// The name of segment 1, as the log itself gives it.
fn first_segment() -> String {
    let disk = Arc::new(MemDisk::default());
    let options = Options { segment_bytes: SEGMENT_BYTES as u64, ..Options::new(LOG) };
    let options = Options { frame_bytes_max: SEGMENT_BYTES / 4, ..options };
    let _ = open(disk.clone(), Path::new("log"), options).expect("an empty log");
    disk.list(Path::new("log")).expect("memory").remove(0)
}
