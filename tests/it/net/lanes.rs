//! Lanes: ordered, bounded, and none holds up another.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use aspen::limits::{LANE_MESSAGE_BYTES_MAX, LANE_OUTBOX_BYTES, LANE_WINDOW_BYTES};
use aspen::net::{Lane, LaneEnded};
use aspen::seams::network::CloseCode;
use aspen::types::GroupId;
use bytes::Bytes;
use futures_util::future::join_all;
use tokio::time::{Instant, timeout};

use super::rig::{ECHO, Node, PATIENCE, SINK, STUCK, pair, soon, until};

async fn echo(lane: &Lane, message: Bytes) {
    lane.send(message.clone()).await.unwrap();
    let back = timeout(PATIENCE, lane.recv()).await.expect("an answer comes").unwrap();
    assert!(back == message, "{} bytes came back as {}", message.len(), back.len());
}

#[tokio::test]
async fn messages_arrive_in_order_and_whole() {
    let (a, b) = pair().await;
    let lane = Arc::new(a.peers.lane(b.id, ECHO, soon()).await.unwrap());
    let lengths = [0, 1, 100, 65_535, 65_536, 65_537, 1_000_000, LANE_MESSAGE_BYTES_MAX];
    let message = |n: usize| Bytes::from(vec![n as u8; lengths[n % lengths.len()]]);
    let sender = {
        let lane = lane.clone();
        async move {
            for n in 0..lengths.len() * 3 {
                lane.send(message(n)).await.unwrap();
            }
        }
    };
    let receiver = async {
        for n in 0..lengths.len() * 3 {
            let got = timeout(PATIENCE, lane.recv()).await.unwrap().unwrap();
            assert!(got == message(n), "message {n}");
        }
    };
    tokio::join!(sender, receiver);
}

#[tokio::test]
async fn a_stuck_lane_fills_up_and_holds_up_no_other() {
    let (a, b) = pair().await;
    let stuck = a.peers.lane(b.id, STUCK, soon()).await.unwrap();
    let mut given = 0;
    let message = Bytes::from(vec![1; 100_000]);
    while timeout(Duration::from_millis(300), stuck.send(message.clone())).await.is_ok() {
        given += message.len();
        assert!(given < 64 * 1024 * 1024, "a lane that nobody reads takes everything");
    }
    assert!(given >= LANE_WINDOW_BYTES);
    assert!(given <= LANE_WINDOW_BYTES + LANE_OUTBOX_BYTES + 3 * message.len());
    let other = a.peers.lane(b.id, ECHO, soon()).await.unwrap();
    for n in 0..2_000u32 {
        echo(&other, Bytes::from(vec![2; (n % 5_000) as usize])).await;
    }
}

#[tokio::test]
async fn a_large_message_does_not_hold_up_a_small_one() {
    let (a, b) = pair().await;
    let bulk = Arc::new(a.peers.lane(b.id, SINK, soon()).await.unwrap());
    let pump = {
        let bulk = bulk.clone();
        tokio::spawn(async move {
            let message = Bytes::from(vec![1; LANE_MESSAGE_BYTES_MAX]);
            while bulk.send(message.clone()).await.is_ok() {}
        })
    };
    until("the bulk flows", || async { b.server.sunk.load(Ordering::SeqCst) > 2 }).await;
    let quick = a.peers.lane(b.id, ECHO, soon()).await.unwrap();
    let mut slowest = Duration::ZERO;
    for _ in 0..50 {
        let begin = Instant::now();
        echo(&quick, Bytes::from_static(b"quick")).await;
        slowest = slowest.max(begin.elapsed());
    }
    pump.abort();
    // 16 MiB take far longer than this in the build that tests run.
    println!("the slowest small message took {slowest:?} beside 16 MiB ones");
    assert!(slowest < Duration::from_secs(2), "{slowest:?}");
}

#[tokio::test]
async fn both_sides_open_lanes_to_each_other() {
    let (a, b) = pair().await;
    let there = a.peers.lane(b.id, ECHO, soon()).await.unwrap();
    let back = b.peers.lane(a.id, ECHO, soon()).await.unwrap();
    tokio::join!(echo(&there, Bytes::from_static(b"a")), echo(&back, Bytes::from_static(b"b")));
}

#[tokio::test]
async fn many_lanes_share_the_stream_fairly() {
    let (a, b) = pair().await;
    let lanes = (0..200u64).map(|n| a.peers.lane(b.id, GroupId(100 + n), soon()));
    let lanes: Vec<Lane> = join_all(lanes).await.into_iter().map(Result::unwrap).collect();
    let mut ends = BTreeMap::new();
    let runs = lanes.iter().enumerate().map(|(n, lane)| async move {
        for _ in 0..20 {
            echo(lane, Bytes::from(vec![n as u8; 1_000])).await;
        }
        (n, Instant::now())
    });
    for (n, end) in join_all(runs).await {
        ends.insert(n, end);
    }
    assert_eq!(ends.len(), 200);
    assert_eq!(b.server.lanes.load(Ordering::SeqCst), 200);
}

#[tokio::test]
async fn a_lane_that_is_dropped_says_what_it_was_given_and_ends() {
    let (a, b) = pair().await;
    let other = a.peers.lane(b.id, ECHO, soon()).await.unwrap();
    for _ in 0..50 {
        let lane = a.peers.lane(b.id, SINK, soon()).await.unwrap();
        for _ in 0..100 {
            lane.send(Bytes::from_static(b"counted")).await.unwrap();
        }
    }
    until("all of it has arrived", || async { b.server.sunk.load(Ordering::SeqCst) == 5_000 })
        .await;
    echo(&other, Bytes::from_static(b"still here")).await;
}

#[tokio::test]
async fn the_other_side_learns_that_a_lane_is_closed() {
    let (a, b) = pair().await;
    // The service ends such a lane by ending its task; here by refusing to go on.
    let lane = a.peers.lane(b.id, ECHO, soon()).await.unwrap();
    echo(&lane, Bytes::from_static(b"x")).await;
    b.peers.stop().await;
    let ended = timeout(PATIENCE, lane.recv()).await.unwrap().unwrap_err();
    assert!(matches!(ended, LaneEnded::Lost(_) | LaneEnded::Closed), "{ended:?}");
    assert!(lane.send(Bytes::new()).await.is_err());
}

#[tokio::test]
async fn a_broken_link_ends_all_lanes_and_new_ones_begin_on_the_next() {
    let (a, b) = pair().await;
    for round in 0..5 {
        let lanes = (0..3).map(|_| a.peers.lane(b.id, ECHO, soon()));
        let lanes: Vec<Lane> = join_all(lanes).await.into_iter().map(Result::unwrap).collect();
        for lane in &lanes {
            echo(lane, Bytes::from(vec![round; 10])).await;
        }
        b.peers.close(a.id, CloseCode::Busy, "cut");
        for lane in &lanes {
            match timeout(PATIENCE, lane.recv()).await.unwrap() {
                Err(LaneEnded::Lost(lost)) => assert_eq!(lost.code, Some(CloseCode::Busy)),
                other => panic!("{other:?}"),
            }
            assert!(lane.send(Bytes::new()).await.is_err());
        }
        until("the next link is there", || async { a.peers.link(b.id, soon()).await.is_ok() })
            .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "prints figures; docs/testing.md says how to run it"]
async fn lanes_carry_many_small_messages() {
    const MESSAGES: usize = 1_000_000;
    let (a, b) = pair().await;
    for lanes in [1usize, 4] {
        let before = b.server.sunk.load(Ordering::SeqCst);
        let begin = Instant::now();
        let runs = (0..lanes).map(|_| {
            let peers = a.peers.clone();
            tokio::spawn(async move {
                let lane = peers.lane(b.id, SINK, soon()).await.unwrap();
                let message = Bytes::from(vec![3; 256]);
                for _ in 0..MESSAGES / lanes {
                    lane.send(message.clone()).await.unwrap();
                }
            })
        });
        join_all(runs).await;
        until("all have arrived", || async {
            b.server.sunk.load(Ordering::SeqCst) - before == MESSAGES
        })
        .await;
        let rate = MESSAGES as f64 / begin.elapsed().as_secs_f64();
        println!("{lanes} lanes: {rate:.0} messages of 256 bytes a second");
    }
    let lane = a.peers.lane(b.id, ECHO, soon()).await.unwrap();
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..5_000 {
        let begin = Instant::now();
        echo(&lane, Bytes::from_static(b"there and back")).await;
        took.push(begin.elapsed());
    }
    took.sort();
    println!("a round trip: p50 {:?}, p99 {:?}", took[2_500], took[4_950]);
    let mut took: Vec<Duration> = Vec::new();
    for _ in 0..5_000 {
        let begin = Instant::now();
        a.call(&b, b"there and back").await;
        took.push(begin.elapsed());
    }
    took.sort();
    println!("a call: p50 {:?}, p99 {:?}", took[2_500], took[4_950]);
}

#[tokio::test]
async fn a_lane_to_a_node_that_is_gone_fails() {
    let (a, b) = pair().await;
    let id = b.id;
    b.stop().await;
    let alone: Node = a;
    assert!(alone.peers.lane(id, ECHO, soon()).await.is_err());
}
