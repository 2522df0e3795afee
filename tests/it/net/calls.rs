//! Calls and streams: what arrives, what is refused, and what is said of one that was cut.

use std::sync::atomic::Ordering;
use std::time::Duration;

use aspen::limits::{CALL_BYTES_MAX, CONTROL_BYTES_MAX};
use aspen::net::{AddressSource, CallFailed, RefusedCode};
use aspen::seams::network::CloseCode;
use aspen::wire::StreamKind;
use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::Instant;

use super::rig::{Node, Raw, pair, soon, until};

#[tokio::test]
async fn a_call_brings_the_peers_answer() {
    let (a, b) = pair().await;
    assert_eq!(a.call(&b, b"hello").await, "hello");
    assert_eq!(b.call(&a, b"").await, "");
    let facts = &a.peers.facts()[0];
    assert_eq!((facts.peer, facts.failures), (b.id, 0));
    assert_eq!(facts.address, Some(b.addresses()[0]));
    assert!(facts.connected_since.is_some() && facts.lost.is_none());
    // Both used the one link.
    assert_eq!(b.peers.facts().len(), 1);
}

#[tokio::test]
async fn the_largest_messages_pass_both_ways() {
    let (a, b) = pair().await;
    let large = Bytes::from(vec![7; CALL_BYTES_MAX]);
    let answer = a.peers.call(b.id, StreamKind::Request, large.clone(), soon()).await.unwrap();
    assert!(answer == large);
    let large = large.slice(..CONTROL_BYTES_MAX);
    let answer = a.peers.call(b.id, StreamKind::Vote, large.clone(), soon()).await.unwrap();
    assert!(answer == large);
}

#[tokio::test]
async fn many_calls_at_once_are_all_answered() {
    let (a, b) = pair().await;
    let calls = (0..3_000u32).map(|n| {
        let request = Bytes::from(n.to_string());
        let (peers, peer) = (a.peers.clone(), b.id);
        async move {
            let answer = peers.call(peer, StreamKind::Request, request.clone(), soon()).await;
            assert_eq!(answer.unwrap(), request);
        }
    });
    futures_util::future::join_all(calls).await;
    assert_eq!(b.server.calls.load(Ordering::SeqCst), 3_000);
}

#[tokio::test]
async fn a_refusal_says_its_kind_and_reason() {
    let (a, b) = pair().await;
    let request = Bytes::from_static(b"refuse");
    match a.peers.call(b.id, StreamKind::Request, request, soon()).await {
        Err(CallFailed::Refused(refused)) => {
            assert_eq!(refused.code, RefusedCode::NotHere);
            assert_eq!(refused.reason, "nobody of that name is here");
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_peer_that_cannot_be_reached_has_seen_nothing() {
    let (a, gone) = pair().await;
    let id = gone.id;
    gone.stop().await;
    let request = Bytes::from_static(b"hello");
    let failed = a.peers.call(id, StreamKind::Request, request, soon()).await.unwrap_err();
    assert!(matches!(failed, CallFailed::NotSent(_)), "{failed:?}");
    // In the pause that follows the next call is told at once.
    let failed = a.peers.call(id, StreamKind::Vote, Bytes::new(), soon()).await.unwrap_err();
    assert!(matches!(failed, CallFailed::NotSent(_)), "{failed:?}");
    assert!(a.peers.facts()[0].failures > 0);
}

#[tokio::test]
async fn a_peer_without_an_address_is_named() {
    let (a, b) = (Node::start().await, Node::start().await);
    let failed = a.peers.call(b.id, StreamKind::Vote, Bytes::new(), soon()).await.unwrap_err();
    assert_eq!(
        failed.to_string(),
        format!("the peer was not reached: no address of {} is known", b.id)
    );
    a.peers.note(b.id, &b.addresses(), AddressSource::Ticket);
    assert_eq!(a.call(&b, b"hello").await, "hello");
}

#[tokio::test]
async fn a_caller_waits_no_longer_than_its_deadline() {
    let (a, b) = pair().await;
    a.call(&b, b"hello").await;
    let deadline = Instant::now() + Duration::from_millis(50);
    let request = Bytes::from_static(b"hold");
    let failed = a.peers.call(b.id, StreamKind::Request, request, deadline).await.unwrap_err();
    // The peer has it: whether it did what was asked is not known.
    assert!(matches!(failed, CallFailed::Lost(_)), "{failed:?}");
}

#[tokio::test]
async fn a_call_cut_off_by_the_peer_is_lost_and_says_why() {
    let (a, b) = pair().await;
    let cut = async {
        until("the call has arrived", || async { b.server.calls.load(Ordering::SeqCst) == 1 })
            .await;
        b.peers.close(a.id, CloseCode::Removed, "node 1 was removed");
    };
    let request = Bytes::from_static(b"hold");
    let call = a.peers.call(b.id, StreamKind::Request, request, soon());
    match tokio::join!(call, cut).0 {
        Err(CallFailed::Lost(lost)) => {
            assert_eq!(lost.code, Some(CloseCode::Removed));
            assert_eq!(lost.reason, "node 1 was removed");
        }
        other => panic!("{other:?}"),
    }
    until("the fact is told", || async {
        let lost = a.peers.facts()[0].lost.clone();
        lost.is_some_and(|lost| lost.code == Some(CloseCode::Removed))
    })
    .await;
}

#[tokio::test]
async fn a_call_is_lost_when_its_peer_stops() {
    let (a, b) = pair().await;
    let (peers, id) = (a.peers.clone(), b.id);
    let call = tokio::spawn(async move {
        peers.call(id, StreamKind::Request, Bytes::from_static(b"hold"), soon()).await
    });
    until("the call has arrived", || async { b.server.calls.load(Ordering::SeqCst) == 1 }).await;
    b.stop().await;
    let failed = call.await.unwrap().unwrap_err();
    assert!(matches!(failed, CallFailed::Lost(_)), "{failed:?}");
}

#[tokio::test]
async fn a_stream_of_its_own_carries_any_length_both_ways() {
    let (a, b) = pair().await;
    let (mut out, mut input) = a.peers.stream(b.id, StreamKind::Snapshot, soon()).await.unwrap();
    let sent: Vec<u8> = (0..20_000_000u32).map(|n| (n % 251) as u8).collect();
    let send = async {
        out.write_all(&sent).await.unwrap();
        out.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    let receive = input.read_to_end(&mut received);
    tokio::join!(send, receive).1.unwrap();
    assert!(sent == received);
}

#[tokio::test]
async fn a_message_past_its_bound_closes_the_link() {
    let b = Node::start().await;
    let raw = Raw::start().await;
    let link = raw.connect(&b, "aspen/raft/1").await;
    super::floods::greet(&link).await;
    let (mut out, _input) = link.open_bi().await.unwrap();
    out.write_all(&[1, StreamKind::Vote as u8]).await.unwrap();
    out.write_all(&(CONTROL_BYTES_MAX as u32 + 1).to_le_bytes()).await.unwrap();
    let (code, reason) = super::rig::closed(&link).await;
    assert_eq!(code, CloseCode::Malformed as u64);
    assert_eq!(reason, "262145 bytes are announced where at most 262144 are allowed");
    assert_eq!(b.server.touched(), 0);
}
