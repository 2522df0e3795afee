//! Calls and streams: what arrives, what is refused, and what is said of one that was cut.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aspen::limits::{CALL_BYTES_MAX, CONTROL_BYTES_MAX, LINK_SEND_BYTES_MAX, LINK_STREAMS_MAX};
use aspen::net::{AddressSource, CallFailed, RefusedCode};
use aspen::seams::Random;
use aspen::seams::network::CloseCode;
use aspen::types::NodeId;
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
    assert_eq!(facts.address, b.addresses().first().cloned());
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
        b.peers.close(a.id, CloseCode::Removed(NodeId(1)), "node 1 was removed");
    };
    let request = Bytes::from_static(b"hold");
    let call = a.peers.call(b.id, StreamKind::Request, request, soon());
    match tokio::join!(call, cut).0 {
        Err(CallFailed::Lost(lost)) => {
            assert_eq!(lost.code, Some(CloseCode::Removed(NodeId(1))));
            assert_eq!(lost.reason, "node 1 was removed");
        }
        other => panic!("{other:?}"),
    }
    until("the fact is told", || async {
        let lost = a.peers.facts()[0].lost.clone();
        lost.is_some_and(|lost| lost.code == Some(CloseCode::Removed(NodeId(1))))
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

/// Links are closed from both sides at random while calls go on.
#[tokio::test]
async fn what_a_call_says_of_itself_is_true_whatever_becomes_of_its_link() {
    let (a, b) = pair().await;
    let dice = Random::from_seed(7);
    let cuts = async {
        for _ in 0..300 {
            let (one, other) = if dice.next_u64().is_multiple_of(2) { (&a, &b) } else { (&b, &a) };
            match dice.next_u64() % 3 {
                0 => one.peers.close(other.id, CloseCode::Busy, "cut"),
                1 => one.peers.close(other.id, CloseCode::Replaced, "cut"),
                _ => one.peers.suspect(other.id),
            }
            // Anywhere among the calls, which come one a millisecond.
            tokio::time::sleep(Duration::from_micros(dice.next_u64() % 20_000)).await;
        }
    };
    let calls = (0..2_000u32).map(|n| {
        let (a, b) = (&a, &b);
        async move {
            tokio::time::sleep(Duration::from_millis(u64::from(n))).await;
            let request = Bytes::from(format!("{n}"));
            (request.clone(), a.peers.call(b.id, StreamKind::Request, request, soon()).await)
        }
    });
    let (answers, ()) = tokio::join!(futures_util::future::join_all(calls), cuts);
    let seen = b.server.seen.lock().unwrap().clone();
    let mut counts = [0; 3];
    for (request, answer) in answers {
        let times = seen.get(&request).copied().unwrap_or(0);
        match answer {
            Ok(answer) => {
                assert_eq!((answer, times), (request, 1), "answered, so done once");
                counts[0] += 1;
            }
            Err(CallFailed::NotSent(lost)) => {
                assert_eq!(times, 0, "it was said not to be seen: {lost:?}");
                counts[1] += 1;
            }
            Err(CallFailed::Lost(_)) => {
                assert!(times <= 1);
                counts[2] += 1;
            }
            Err(CallFailed::Refused(refused)) => panic!("{refused}"),
        }
    }
    println!("{} answered, {} not sent, {} lost", counts[0], counts[1], counts[2]);
    assert!(counts[0] > 200, "{counts:?}");
    until("all is well again", || async {
        a.peers.call(b.id, StreamKind::Vote, Bytes::new(), soon()).await.is_ok()
    })
    .await;
}

#[tokio::test]
async fn requests_that_hang_hold_up_no_vote() {
    let (a, b) = pair().await;
    // More than may be open at once, and more bytes than may be held.
    let large = Bytes::from([&b"hold"[..], &vec![0; 500_000]].concat());
    let hanging: Vec<_> = (0..LINK_STREAMS_MAX + 100)
        .map(|n| {
            let (peers, id) = (a.peers.clone(), b.id);
            let request = if n < 200 { large.clone() } else { Bytes::from_static(b"hold") };
            tokio::spawn(async move { peers.call(id, StreamKind::Request, request, soon()).await })
        })
        .collect();
    until("as much as may is held", || async { b.server.calls.load(Ordering::SeqCst) > 100 }).await;
    for kind in [StreamKind::Vote, StreamKind::Heartbeat, StreamKind::ReadIndex] {
        a.peers.call(b.id, kind, Bytes::from_static(b"now"), soon()).await.unwrap();
    }
    // And all of them come to their end.
    b.server.release.add_permits(hanging.len());
    for call in hanging {
        call.await.unwrap().unwrap();
    }
}

/// Told in bytes and not in time, so that a busy machine changes nothing.
#[tokio::test]
async fn bulk_does_not_hold_up_votes() {
    let (a, b) = pair().await;
    let echoed = Arc::new(AtomicUsize::new(0));
    let pumps: Vec<_> = (0..4)
        .map(|_| {
            let (peers, id, echoed) = (a.peers.clone(), b.id, echoed.clone());
            tokio::spawn(async move {
                let stream = peers.stream(id, StreamKind::Snapshot, soon()).await;
                let (mut out, mut input) = stream.unwrap();
                let chunk = vec![1; 256 * 1024];
                let send = async { while out.write_all(&chunk).await.is_ok() {} };
                let mut back = vec![0; 256 * 1024];
                let receive = async {
                    while let Ok(read @ 1..) = input.read(&mut back).await {
                        echoed.fetch_add(read, Ordering::SeqCst);
                    }
                };
                tokio::join!(send, receive);
            })
        })
        .collect();
    until("the bulk flows", || async { echoed.load(Ordering::SeqCst) > 10_000_000 }).await;
    let mut most = 0;
    for _ in 0..100 {
        let before = echoed.load(Ordering::SeqCst);
        a.peers.call(b.id, StreamKind::Vote, Bytes::new(), soon()).await.unwrap();
        most = most.max(echoed.load(Ordering::SeqCst) - before);
    }
    pumps.iter().for_each(|pump| pump.abort());
    println!("at most {most} bytes of bulk passed a vote");
    // What was on its way in both directions when the vote set out, and as much again.
    assert!(most as u64 <= 4 * LINK_SEND_BYTES_MAX, "{most} bytes of bulk passed a vote");
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
    assert_eq!(code, CloseCode::Malformed.number());
    assert_eq!(reason, "262145 bytes are announced where at most 262144 are allowed");
    assert_eq!(b.server.touched(), 0);
}
