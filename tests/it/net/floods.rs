//! Peers that misbehave within a link they were let in by: half-open streams, nonsense, too much.

use std::sync::atomic::Ordering;

use aspen::limits::{HANDSHAKES_MAX, LANE_STREAMS_MAX, LINK_STREAMS_MAX, LINKS_PEER_MAX};
use aspen::seams::network::CloseCode;
use aspen::wire::frame::Frame;
use aspen::wire::{Hello, StreamKind, Welcome};
use bytes::{Bytes, BytesMut};
use futures_util::future::join_all;
use iroh::endpoint::Connection;
use tokio::time::timeout;

use super::rig::{ECHO, Node, Raw, closed, pair, soon, until};

/// Says hello as a member does, and is welcomed.
pub async fn greet(link: &Connection) {
    let (mut out, mut input) = link.open_bi().await.unwrap();
    out.write_all(&[1, StreamKind::Hello as u8]).await.unwrap();
    out.write_all(&Hello { incarnation: 1, link: 2, gave_up: 0 }.encode()).await.unwrap();
    out.finish().unwrap();
    let welcome = input.read_to_end(64).await.unwrap();
    assert!(Welcome::decode(&welcome).is_ok());
}

/// Says something on a stream of a link that was greeted, and tells how the link was closed.
async fn answer_to(bytes: &[u8]) -> (u64, String) {
    let node = Node::start().await;
    let raw = Raw::start().await;
    let link = raw.connect(&node, "aspen/raft/1").await;
    greet(&link).await;
    let (mut out, _input) = link.open_bi().await.unwrap();
    out.write_all(bytes).await.unwrap();
    let closed = closed(&link).await;
    assert_eq!(node.server.touched(), 0);
    closed
}

#[tokio::test]
async fn nonsense_at_the_head_of_a_stream_closes_the_link() {
    let malformed = |reason: &str| (CloseCode::Malformed.number(), reason.to_owned());
    assert_eq!(
        answer_to(&[9, 2]).await,
        malformed("the stream has version 9; this build speaks 1: run the same version of both")
    );
    assert_eq!(
        answer_to(&[1, 200]).await,
        malformed("the stream has kind 200, which this build does not know")
    );
    assert_eq!(
        answer_to(&[1, StreamKind::Hello as u8]).await,
        malformed("a stream of a kind that has no place here")
    );
}

#[tokio::test]
async fn nonsense_on_a_stream_of_lanes_closes_the_link() {
    let lanes = |frames: &[Frame]| {
        let mut bytes = BytesMut::from(&[1, StreamKind::Lanes as u8][..]);
        frames.iter().for_each(|frame| frame.encode(&mut bytes));
        bytes
    };
    let open = Frame::Open { lane: 1, group: ECHO };
    let cases = [
        (BytesMut::from(&[1, 1, 77][..]), "a frame of a kind that this build does not know"),
        (
            BytesMut::from(&[1, 1, 3, 1, 0, 0, 0, 0xff, 0xff, 0xff, 0xff][..]),
            "4294967295 bytes are announced where at most 65536 are allowed",
        ),
        (lanes(&[Frame::Close { lane: 1 }]), "a lane was never opened"),
        (
            lanes(&[open.clone(), Frame::Credit { lane: 1, bytes: 1 }]),
            "a lane was given more credit than there is",
        ),
        (
            lanes(&[
                open.clone(),
                Frame::Close { lane: 1 },
                Frame::Data { lane: 1, bytes: Bytes::from_static(b"more"), last: true },
            ]),
            "a lane says more after its end",
        ),
        (lanes(&[open.clone(), open]), "a lane was opened from the wrong side, or twice"),
    ];
    for (bytes, reason) in cases {
        let (code, said) = answer_to(&bytes).await;
        assert_eq!((code, said.as_str()), (CloseCode::Malformed.number(), reason));
    }
}

#[tokio::test]
async fn a_sender_that_ignores_credit_is_closed() {
    let node = Node::start().await;
    let raw = Raw::start().await;
    let link = raw.connect(&node, "aspen/raft/1").await;
    greet(&link).await;
    let (mut out, _input) = link.open_bi().await.unwrap();
    let mut bytes = BytesMut::from(&[1, StreamKind::Lanes as u8][..]);
    Frame::Open { lane: 1, group: super::rig::STUCK }.encode(&mut bytes);
    out.write_all(&bytes).await.unwrap();
    let mut piece = BytesMut::new();
    let zeros = Bytes::from(vec![0; 60_000]);
    Frame::Data { lane: 1, bytes: zeros, last: true }.encode(&mut piece);
    while out.write_all(&piece).await.is_ok() {}
    let (code, reason) = closed(&link).await;
    assert_eq!(code, CloseCode::Malformed.number());
    assert_eq!(reason, "a lane was sent more than it has room for");
}

#[tokio::test]
async fn a_link_that_is_not_greeted_serves_nothing() {
    let node = Node::start().await;
    let raw = Raw::start().await;
    let link = raw.connect(&node, "aspen/raft/1").await;
    let (mut out, _input) = link.open_bi().await.unwrap();
    out.write_all(&[1, StreamKind::Vote as u8, 1, 0, 0, 0, b'v']).await.unwrap();
    let (code, reason) = closed(&link).await;
    assert_eq!(code, CloseCode::Malformed.number());
    assert_eq!(reason, "a link between members begins with a hello");
    assert_eq!(node.server.touched(), 0);
}

#[tokio::test]
async fn a_link_that_says_nothing_is_closed() {
    let node = Node::start().await;
    let raw = Raw::start().await;
    let link = raw.connect(&node, "aspen/raft/1").await;
    let (code, reason) = closed(&link).await;
    assert_eq!(code, CloseCode::Malformed.number());
    assert_eq!(reason, "the stream stood still for too long");
}

#[tokio::test]
async fn half_open_streams_hold_up_nobody_and_go_away() {
    let (a, b) = pair().await;
    let raw = Raw::start().await;
    let link = raw.connect(&b, "aspen/raft/1").await;
    greet(&link).await;
    // One byte of a head each: as many streams as may be open beside the greeting.
    let mut halves = Vec::new();
    for _ in 1..LINK_STREAMS_MAX {
        let (mut out, input) = link.open_bi().await.unwrap();
        out.write_all(&[1]).await.unwrap();
        halves.push((out, input));
    }
    // Others are served meanwhile.
    assert_eq!(a.call(&b, b"hello").await, "hello");
    // And the flood itself is dropped after a while.
    for (_out, input) in &mut halves {
        let ended = timeout(super::rig::PATIENCE, input.read_to_end(1)).await;
        assert!(ended.expect("the stream was dropped").unwrap().is_empty());
    }
    assert!(link.close_reason().is_none(), "a slow stream does not cost the link");
    assert_eq!(b.server.calls.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn one_key_has_so_many_links_and_no_more() {
    let node = Node::start().await;
    let raw = Raw::start().await;
    let mut links = Vec::new();
    for _ in 0..LINKS_PEER_MAX {
        let link = raw.connect(&node, "aspen/client/1").await;
        links.push(link);
    }
    until("all are served", || async {
        node.server.links.load(Ordering::SeqCst) == LINKS_PEER_MAX
    })
    .await;
    let one_more = raw.connect(&node, "aspen/client/1").await;
    assert_eq!(closed(&one_more).await.0, CloseCode::Busy.number());
    // A link that ends makes room.
    links.pop().unwrap().close(0u32.into(), b"");
    until("there is room again", || async {
        let link = raw.connect(&node, "aspen/client/1").await;
        let stays = timeout(std::time::Duration::from_millis(100), link.closed()).await;
        stays.is_err()
    })
    .await;
}

#[tokio::test]
async fn a_second_stream_of_lanes_is_one_too_many() {
    let node = Node::start().await;
    let raw = Raw::start().await;
    let link = raw.connect(&node, "aspen/raft/1").await;
    greet(&link).await;
    let mut streams = Vec::new();
    for _ in 0..=LANE_STREAMS_MAX {
        let (mut out, input) = link.open_bi().await.unwrap();
        out.write_all(&[1, StreamKind::Lanes as u8]).await.unwrap();
        streams.push((out, input));
    }
    let (code, reason) = closed(&link).await;
    assert_eq!(code, CloseCode::Malformed.number());
    assert_eq!(reason, "one link has one stream of lanes");
}

#[tokio::test]
async fn members_are_served_through_a_flood_of_strangers() {
    let (a, b) = pair().await;
    b.gate.members_only();
    b.gate.let_in(a.id);
    let raw = Raw::start().await;
    let flood = async {
        for _ in 0..5 {
            let dials = (0..2 * HANDSHAKES_MAX).map(|_| raw.try_connect(&b, "aspen/raft/1"));
            for connection in join_all(dials).await.into_iter().flatten() {
                // In a flood the node's word may get lost, and a bare reset follows it.
                let ended = timeout(super::rig::PATIENCE, connection.closed()).await;
                ended.expect("nobody of the flood stays");
            }
        }
    };
    let calls = async {
        for _ in 0..200 {
            a.call(&b, b"hello").await;
        }
    };
    tokio::join!(flood, calls);
    assert_eq!(b.server.touched(), 200);
    // And one that comes new gets in.
    let late = Node::start().await;
    b.gate.let_in(late.id);
    late.knows(&b);
    until("it is let in", || async { late.peers.link(b.id, soon()).await.is_ok() }).await;
}
