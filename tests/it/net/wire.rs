//! What stands on the wire: fixed bytes, round trips, and any bytes at all.

use aspen::limits::LANE_FRAGMENT_BYTES_MAX;
use aspen::types::GroupId;
use aspen::wire::frame::Frame;
use aspen::wire::{self, Hello, Malformed, StreamKind, Welcome};
use bytes::{Bytes, BytesMut};
use proptest::collection::vec;
use proptest::prelude::*;

#[test]
fn heads_of_streams_have_fixed_bytes() {
    let heads: Vec<[u8; 2]> = StreamKind::ALL.into_iter().map(wire::preface).collect();
    assert_eq!(
        heads,
        [
            [1, 0],  // Hello
            [1, 1],  // Lanes
            [1, 2],  // Vote
            [1, 3],  // Heartbeat
            [1, 4],  // Transfer
            [1, 5],  // ReadIndex
            [1, 6],  // Snapshot
            [1, 7],  // Request
            [1, 8],  // Watch
            [1, 9],  // Admit
            [1, 10], // Ticket
            [1, 11], // Forward
        ]
    );
    for kind in StreamKind::ALL {
        assert_eq!(wire::read_preface(wire::preface(kind)), Ok(kind));
    }
    assert_eq!(wire::read_preface([0, 1]), Err(Malformed::Version(0)));
    assert_eq!(wire::read_preface([1, 12]), Err(Malformed::Kind(12)));
}

#[test]
fn the_greeting_has_fixed_bytes() {
    let hello = Hello { incarnation: 0x0102_0304_0506_0708, link: 9, gave_up: 10 };
    assert_eq!(
        hello.encode(),
        [8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0, 10, 0, 0, 0, 0, 0, 0, 0]
    );
    assert_eq!(Hello::decode(&hello.encode()), Ok(hello));
    let welcome = Welcome { incarnation: 0x0102 };
    assert_eq!(welcome.encode(), [2, 1, 0, 0, 0, 0, 0, 0]);
    assert_eq!(Welcome::decode(&welcome.encode()), Ok(welcome));
    assert!(Hello::decode(&[0; 23]).is_err() && Hello::decode(&[0; 25]).is_err());
    assert!(Welcome::decode(&[0; 7]).is_err() && Welcome::decode(&[0; 9]).is_err());
}

#[test]
fn frames_have_fixed_bytes() {
    let frames = [
        (Frame::Open { lane: 1, group: GroupId(2) }, &[1, 1, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0][..]),
        (
            Frame::Data { lane: 3, bytes: Bytes::from_static(b"ab"), last: false },
            &[2, 3, 0, 0, 0, 2, 0, 0, 0, b'a', b'b'],
        ),
        (
            Frame::Data { lane: 3, bytes: Bytes::from_static(b"c"), last: true },
            &[3, 3, 0, 0, 0, 1, 0, 0, 0, b'c'],
        ),
        (Frame::Credit { lane: 4, bytes: 0x0102 }, &[4, 4, 0, 0, 0, 2, 1, 0, 0]),
        (Frame::Close { lane: 0x0506 }, &[5, 6, 5, 0, 0]),
    ];
    for (frame, bytes) in frames {
        let mut encoded = BytesMut::new();
        frame.encode(&mut encoded);
        assert_eq!(&encoded[..], bytes, "{frame:?}");
        assert_eq!(Frame::decode(&mut encoded), Ok(Some(frame)));
        assert!(encoded.is_empty());
    }
}

fn frame() -> impl Strategy<Value = Frame> {
    prop_oneof![
        (any::<u32>(), any::<u64>())
            .prop_map(|(lane, group)| Frame::Open { lane, group: GroupId(group) }),
        (any::<u32>(), vec(any::<u8>(), 0..2_000), any::<bool>())
            .prop_map(|(lane, bytes, last)| Frame::Data { lane, bytes: bytes.into(), last }),
        (any::<u32>(), any::<u32>()).prop_map(|(lane, bytes)| Frame::Credit { lane, bytes }),
        any::<u32>().prop_map(|lane| Frame::Close { lane }),
    ]
}

proptest! {
    #[test]
    fn frames_come_back_however_the_bytes_are_cut(
        frames in vec(frame(), 0..20),
        cuts in vec(1usize..200, 1..50),
    ) {
        let mut encoded = BytesMut::new();
        frames.iter().for_each(|frame| frame.encode(&mut encoded));
        let (mut arrived, mut decoded) = (BytesMut::new(), Vec::new());
        let mut cuts = cuts.into_iter().cycle();
        while !encoded.is_empty() {
            let cut = cuts.next().unwrap().min(encoded.len());
            arrived.extend_from_slice(&encoded.split_to(cut));
            while let Some(frame) = Frame::decode(&mut arrived).unwrap() {
                decoded.push(frame);
            }
        }
        prop_assert!(arrived.is_empty());
        prop_assert_eq!(decoded, frames);
    }

    #[test]
    fn any_bytes_are_frames_or_refused_and_what_is_read_is_written_the_same(
        bytes in vec(any::<u8>(), 0..300),
    ) {
        let mut rest = BytesMut::from(&bytes[..]);
        loop {
            let before = rest.clone();
            match Frame::decode(&mut rest) {
                Ok(Some(frame)) => {
                    let mut again = BytesMut::new();
                    frame.encode(&mut again);
                    prop_assert_eq!(&again[..], &before[..before.len() - rest.len()]);
                }
                Ok(None) => {
                    prop_assert_eq!(&rest, &before);
                    break;
                }
                Err(_) => break,
            }
        }
    }

    #[test]
    fn a_length_past_the_bound_is_refused_before_anything_has_arrived(
        lane: u32,
        over in 1u32..1_000_000,
        last: bool,
    ) {
        let mut bytes = BytesMut::new();
        bytes.extend_from_slice(&[if last { 3 } else { 2 }]);
        bytes.extend_from_slice(&lane.to_le_bytes());
        let length = LANE_FRAGMENT_BYTES_MAX as u32 + over;
        bytes.extend_from_slice(&length.to_le_bytes());
        let refused = matches!(Frame::decode(&mut bytes), Err(Malformed::TooLong { .. }));
        prop_assert!(refused);
    }
}
