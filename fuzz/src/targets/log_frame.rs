//! Any bytes are a segment header, a frame header, a record, or refused; what is read is written
//! the same way again.

use aspen::store::log::format::{self, FrameHeader, RecordHeader, SegmentHeader};
use aspen::types::GroupId;

/// What of a segment's first sector says something.
const HEADER_BYTES: usize = 36;

pub fn run(bytes: &[u8]) {
    if let Ok(header) = SegmentHeader::decode(bytes) {
        assert_eq!(header.encode()[..HEADER_BYTES], bytes[..HEADER_BYTES]);
    }
    if let Some(header) = FrameHeader::decode(bytes) {
        assert_eq!(header.encode(), bytes[..format::FRAME_HEADER_BYTES]);
    }
    let _ = SegmentHeader::decode_healed(bytes);
    let _ = FrameHeader::decode_healed(bytes);
    let _ = RecordHeader::decode_healed(bytes);
    let _ = RecordHeader::decode(bytes);

    // No fuzzer guesses a checksum: a header that fits the rest leads past them.
    let [version, kind, group, index, body @ ..] = bytes else { return };
    let header = RecordHeader {
        body_bytes: body.len() as u32,
        version: *version,
        kind: *kind,
        group: GroupId(u64::from(*group)),
        index: u64::from(*index),
        body_crc: crc32fast::hash(body),
    };
    if let Ok(record) = format::decode_body(&header, body) {
        let mut again = Vec::new();
        format::put(&mut again, header.group, &record);
        let read = RecordHeader::decode(&again).expect("a header that was just written");
        let body = &again[format::RECORD_HEADER_BYTES..];
        assert_eq!(format::decode_body(&read, body).as_ref(), Ok(&record));
    }
}
