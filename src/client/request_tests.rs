//! The bytes of requests and answers: fixed, bounded, and refused when they are not ours.

use std::ops::Bound;

use data_encoding::HEXLOWER;

use super::*;
use crate::machine::ops::{Action, AnswerBody, Put, SessionSeq};
use crate::types::{SessionId, Value};

const GROUP: GroupId = GroupId(1);

fn put() -> Asked {
    let put = Put::new(Key::try_from("k").expect("a key"), Value::try_from("v").expect("a value"));
    let session = Some(SessionSeq { id: SessionId(5), seq: 3, acked_below: 2 });
    let command = Command { session, action: Action::Put(put) };
    let request = Request::Propose { group: GROUP, command, proof: Some([7; 16]) };
    Asked { within_ms: 5_000, request, id: None }
}

fn watch(id: Option<RequestId>) -> WatchAsked {
    let (start, end) = (Bytes::from_static(b"a"), Bytes::from_static(b"b"));
    let range = KeyRange { start: Bound::Included(start), end: Bound::Excluded(end) };
    WatchAsked { group: GROUP, range, from: Some(9), prev: false, id }
}

/// What a peer of the first version sends must be understood for ever.
#[test]
fn the_bytes_stay() {
    let hex = |bytes: Bytes| HEXLOWER.encode(&bytes);
    let place = Place {
        endpoint: EndpointId([2; 32]),
        addresses: vec!["127.0.0.1:80".parse().expect("an address")],
    };
    let relay: Address = "https://relay.example".parse().expect("an address");
    let afar = Place { endpoint: EndpointId([2; 32]), addresses: vec![relay] };
    let answer = Answer { revision: 9, body: AnswerBody::Put { prev: None } };
    let fixed = [
        (
            hex(put().encode()),
            "0188270001010503020201 6b01017600000107070707070707070707070707070707",
        ),
        (
            hex(Asked { id: RequestId::new("a-1"), ..put() }.encode()),
            "0288270001010503020201 6b01017600000107070707070707070707070707070707 03612d31",
        ),
        (hex(watch(None).encode()), "0101 010161 020162 0109 00"),
        (hex(watch(RequestId::new("a-1")).encode()), "0201 010161 020162 0109 00 03612d31"),
        (hex(encode_response(Ok(answer.into()))), "0100000902000 0"),
        (
            hex(encode_response(Err(Failure::NotLeader { leader: Some(place) }))),
            "010100010202020202020202020202020202020202020202020202020202020202020202 01007f00000150",
        ),
        (hex(encode_response(Err(Refusal::KeyNotFound.into()))), "01010306"),
        (hex(Shown::Upto(300).encode()), "0101ac02"),
        (hex(Hello { ticket: "aspenclient".into() }.encode()), "010b617370656e636c69656e74"),
        (hex(Whereabouts { as_of: 7, members: Vec::new() }.encode()), "010700"),
        (
            hex(Whereabouts { as_of: 7, members: vec![afar] }.encode()),
            "010701 0202020202020202020202020202020202020202020202020202020202020202 010216 68747470733a2f2f72656c61792e6578616d706c652f",
        ),
    ];
    for (n, (found, right)) in fixed.into_iter().enumerate() {
        assert_eq!(found, right.replace(' ', ""), "message {n}");
    }
    assert_eq!(Asked::decode(&put().encode()), Ok(put()));
    for id in [None, RequestId::new("a-1")] {
        let asked = Asked { id: id.clone(), ..put() };
        assert_eq!(Asked::decode(&asked.encode()), Ok(asked));
        assert_eq!(WatchAsked::decode(&watch(id.clone()).encode()), Ok(watch(id)));
    }
    // A name that is none makes the request none of ours.
    let mut bad = Asked { id: RequestId::new("a-1"), ..put() }.encode().to_vec();
    *bad.last_mut().expect("a byte") = b' ';
    assert_eq!(Asked::decode(&bad), Err(Unreadable::Garbled));
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        Failure::Final(refusal.into())
    }
}

#[test]
fn every_failure_arrives_as_what_it_is() {
    let reason = || "why".to_owned();
    let failures = [
        Failure::NotLeader { leader: None },
        Failure::Unknown { reason: reason() },
        Refusal::Compacted { asked: 1, compacted: 2 }.into(),
        Denied::Outside.into(),
        Error::NoSpace { node: NodeId(3), free_percent: 2 }.into(),
        Error::Unavailable { group: GROUP, reason: reason() }.into(),
        Error::OutcomeUnknown { group: GROUP, reason: reason() }.into(),
        Error::Corrupt(Corrupt { group: GROUP, index: Some(4), what: reason() }).into(),
        Error::Fatal(reason()).into(),
    ];
    for failure in failures {
        let sent = encode_response(Err(failure.clone()));
        assert_eq!(decode_response(&sent), Ok(Err(failure)));
    }
    // These say as much as a client needs.
    for (error, kind) in [
        (Error::Invalid(Invalid::KeyEmpty), crate::error::Kind::Invalid),
        (Error::Busy { what: "the queue", retry_after_ms: 5 }, crate::error::Kind::Busy),
    ] {
        let sent = encode_response(Err(error.into()));
        match decode_response(&sent) {
            Ok(Err(Failure::Final(error))) => assert_eq!(error.kind(), kind),
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_hint_with_too_many_relays_is_passed_over() {
    let relay: Address = "https://relay.example".parse().expect("an address");
    for (relays, hinted) in [(aspen_tickets::RELAYS_MAX, true), (100, false)] {
        let place = Place { endpoint: EndpointId([2; 32]), addresses: vec![relay.clone(); relays] };
        let sent = encode_response(Err(Failure::NotLeader { leader: Some(place) }));
        let told = decode_response(&sent);
        assert!(
            matches!(told, Ok(Err(Failure::NotLeader { leader })) if leader.is_some() == hinted)
        );
    }
}

#[test]
fn reasons_are_cut_between_characters() {
    let long = "ä".repeat(CLIENT_REASON_BYTES_MAX);
    let sent = encode_response(Err(Failure::Unknown { reason: long }));
    assert!(sent.len() < CLIENT_REASON_BYTES_MAX + 16);
    match decode_response(&sent) {
        Ok(Err(Failure::Unknown { reason })) => {
            assert!(reason.len() <= CLIENT_REASON_BYTES_MAX && reason.chars().all(|c| c == 'ä'));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_not_ours_is_malformed() {
    let good = put().encode();
    assert_eq!(Asked::decode(&[]), Err(Unreadable::Garbled));
    assert_eq!(Asked::decode(&[3, 0, 0]), Err(Unreadable::Version { found: 3, speaks: 2 }));
    assert_eq!(decode_response(&[2, 0, 0]), Err(Unreadable::Version { found: 2, speaks: 1 }));
    for cut in 1..good.len() {
        assert_eq!(Asked::decode(&good[..cut]), Err(Unreadable::Garbled), "cut at {cut}");
    }
    let longer = [&good[..], &[0]].concat();
    assert_eq!(Asked::decode(&longer), Err(Unreadable::Garbled));
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_decoded_or_refused(bytes: Vec<u8>) {
        let named = [&[VERSION_NAMED][..], &bytes].concat();
        let _ = (Asked::decode(&named), WatchAsked::decode(&named));
        let bytes = [&[VERSION][..], &bytes].concat();
        let _ = (Asked::decode(&bytes), decode_response(&bytes), Shown::decode(&bytes));
        let _ = (WatchAsked::decode(&bytes), Hello::decode(&bytes), Whereabouts::decode(&bytes));
    }
}
