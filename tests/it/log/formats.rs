//! The bytes of the log: fixed for this version, and safe to read whatever they are.

use aspen::error::Corrupt;
use aspen::store::log::format::{
    FRAME_HEADER_BYTES, FrameHeader, GroupHead, Head, RECORD_HEADER_BYTES, Record, RecordHeader,
    SECTOR, SegmentHeader, decode_body, put,
};
use aspen::store::log::{EntryId, GroupMarks, Vote};
use aspen::types::GroupId;
use proptest::prelude::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn the_bytes_of_headers_are_fixed() {
    let segment = SegmentHeader { segment: 3, log: 0x1122_3344_5566_7788, first_sequence: 9 };
    let bytes = segment.encode();
    assert_eq!(
        hex(&bytes[..36]),
        concat!(
            "415350454e4c4f47", // ASPENLOG
            "01000000",         // version
            "03000000",         // segment
            "8877665544332211", // log
            "0900000000000000", // first sequence
            "c4397b8c",
        )
    );
    assert!(bytes[36..].iter().all(|byte| *byte == 0));
    assert_eq!(SegmentHeader::decode(&bytes), Ok(segment));

    let frame = FrameHeader {
        log: 0x1122_3344_5566_7788,
        sequence: 9,
        synced: 8,
        segment: 3,
        offset: 512,
        body_bytes: 100,
        zero_sectors: 2,
    };
    let bytes = frame.encode();
    assert_eq!(
        hex(&bytes),
        concat!(
            "41734672", // AsFr
            "3fc6db4c",
            "8877665544332211", // log
            "0900000000000000", // sequence
            "0800000000000000", // synced
            "03000000",         // segment
            "00020000",         // offset
            "64000000",         // body bytes
            "02000000",         // zero sectors
        )
    );
    assert_eq!(FrameHeader::decode(&bytes), Some(frame));
}

fn id(index: u64) -> EntryId {
    EntryId { term: 300, node: 2, index }
}

#[test]
fn the_bytes_of_records_are_fixed() {
    let group = GroupId(5);
    let vote = Vote { term: 300, node: 2, committed: true };
    let marks = GroupMarks { vote: Some(vote), committed: Some(id(4)), purged: None };
    let corrupt = Corrupt { group, index: Some(3), what: "x".to_owned() };
    let head = Head {
        segments: vec![1, 3],
        tainted: None,
        groups: vec![GroupHead { group, marks, last: Some(id(4)), damage: Some(corrupt) }],
    };
    let known = [
        (
            Record::Entry(id(4), b"hello"),
            concat!(
                "0900000001010000050000000000000004000000000000002ab3dc915d20a21c",
                "ac02020568656c6c6f"
            ),
        ),
        (
            Record::Vote(vote),
            concat!("040000000102000005000000000000000000000000000000dbff4c60688e2d9f", "ac020201"),
        ),
        (
            Record::Committed(id(4)),
            concat!("040000000103000005000000000000000000000000000000540b2610ccebbecc", "ac020204"),
        ),
        (
            Record::Truncate(None),
            concat!("0100000001040000050000000000000000000000000000008def02d25eb650cc", "00"),
        ),
        (
            Record::Truncate(Some(id(4))),
            concat!(
                "050000000104000005000000000000000000000000000000e50a20cafb51e22f",
                "01ac020204"
            ),
        ),
        (
            Record::Purge(id(4)),
            concat!("040000000105000005000000000000000000000000000000540b2610b6997421", "ac020204"),
        ),
        (Record::Remove, "00000000010600000500000000000000000000000000000000000000abb015c7"),
        (
            Record::Head(head),
            concat!(
                "1c000000010700000000000000000000000000000000000099a0582755d693a9",
                "02010300010501ac02020101ac0202040001ac020204010501030178"
            ),
        ),
        (
            Record::Drop(vec![1, 300]),
            concat!("04000000010800000000000000000000000000000000000069ef3366d52b11b3", "0201ac02"),
        ),
    ];
    for (record, expected) in known {
        let mut bytes = Vec::new();
        put(&mut bytes, group, &record);
        assert_eq!(hex(&bytes), expected, "{record:?}");
        let header = RecordHeader::decode(&bytes).unwrap();
        assert_eq!(decode_body(&header, &bytes[RECORD_HEADER_BYTES..]), Ok(record));
    }
}

proptest! {
    /// Every decoder answers on any bytes, and accepts only what is whole.
    #[test]
    fn any_bytes_can_be_decoded(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
        let _ = SegmentHeader::decode_healed(&bytes);
        let _ = FrameHeader::decode_healed(&bytes);
        if let Some(header) = RecordHeader::decode_healed(&bytes) {
            let _ = decode_body(&header, &bytes[RECORD_HEADER_BYTES..]);
        }
    }

    /// A body of any bytes under a right checksum is decoded or refused.
    #[test]
    fn any_body_can_be_decoded(
        kind in 0_u8..12,
        index in any::<u64>(),
        body in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let header = RecordHeader {
            body_bytes: body.len() as u32,
            version: 1,
            kind,
            group: GroupId(1),
            index,
            body_crc: crc32fast::hash(&body),
        };
        let _ = decode_body(&header, &body);
    }

    /// A single flipped bit in a header is read around; two are not.
    #[test]
    fn a_header_is_read_around_one_flipped_bit(
        sequence in any::<u64>(),
        body_bytes in any::<u32>(),
        first in 0..FRAME_HEADER_BYTES * 8,
        second in 0..FRAME_HEADER_BYTES * 8,
    ) {
        let header = FrameHeader {
            log: 77,
            sequence,
            synced: sequence / 2,
            segment: 5,
            offset: SECTOR as u32,
            body_bytes,
            zero_sectors: 0,
        };
        let mut bytes = header.encode();
        bytes[first / 8] ^= 1 << (first % 8);
        prop_assert_eq!(FrameHeader::decode(&bytes), None);
        prop_assert_eq!(FrameHeader::decode_healed(&bytes), Some(header));
        if first != second {
            bytes[second / 8] ^= 1 << (second % 8);
            prop_assert_eq!(FrameHeader::decode_healed(&bytes), None);
        }
    }
}
