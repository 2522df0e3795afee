//! Nodes that are cut off from each other, or gone.

use std::time::Duration;

use aspen::raft::Failed;
use aspen::types::Consistency;
use tokio::time::{Instant, sleep, timeout};

use super::rig::{Cluster, OTHER, TIMES, get, has, put, until};

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_dies_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::founded(3).await;
    for n in 0..20 {
        cluster.put(&format!("key {n}"), "kept").await;
    }
    let leader = cluster.leader().await;
    let begun = Instant::now();
    cluster.kill(leader).await;
    cluster.put("after", "it died").await;
    println!("writes went on after {:?}", begun.elapsed());
    let next = cluster.leader().await;
    assert_ne!(next, leader);
    for n in 0..20 {
        let key = format!("key {n}");
        let read = get(&cluster.replica(next), &key, Consistency::Linearizable).await.unwrap();
        assert_eq!(read.as_deref(), Some("kept"), "{key}");
    }
    cluster.restart(leader).await;
    let back = cluster.replica(leader);
    until("the one that died has caught up", || async {
        has(&back, "after").await.as_deref() == Some("it died")
    })
    .await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_in_the_minority_takes_no_write_and_serves_no_fresh_read_after_its_lease() {
    let cluster = Cluster::founded(3).await;
    let old = cluster.leader().await;
    cluster.put("key", "before").await;
    assert_eq!(
        get(&cluster.replica(old), "key", Consistency::Lease).await.unwrap().as_deref(),
        Some("before")
    );
    cluster.isolate(old);
    let others = [(old + 1) % 3, (old + 2) % 3];
    let new = cluster.leader_among(others).await;
    until("the new one takes writes", || async {
        put(&cluster.replica(new), "key", "after").await.is_ok()
    })
    .await;
    // A new leader is elected only once the lease of the old one is over: whatever it serves
    // from here on must fail or be as new.
    let minority = cluster.replica(old);
    let lease = get(&minority, "key", Consistency::Lease).await;
    assert!(lease.is_err(), "{lease:?}");
    let read = timeout(TIMES.election_max * 10, get(&minority, "key", Consistency::Linearizable));
    let read = read.await.expect("a read that can't be confirmed says so");
    assert!(read.is_err(), "{read:?}");
    match timeout(Duration::from_secs(1), put(&minority, "key", "lost")).await {
        Ok(Ok(())) => panic!("a minority acknowledged a write"),
        Ok(Err(Failed::NotLeader { .. } | Failed::Unknown { .. })) | Err(_) => {}
        Ok(Err(other)) => panic!("{other:?}"),
    }
    assert_eq!(has(&minority, "key").await.as_deref(), Some("before"));
    cluster.weather.heal();
    until("there is one history", || async {
        has(&minority, "key").await.as_deref() == Some("after")
    })
    .await;
    assert_eq!(cluster.leader().await, new);
    cluster.put("key", "healed").await;
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_off_disturbs_nobody_when_it_comes_back() {
    let cluster = Cluster::founded(3).await;
    let leader = cluster.leader().await;
    let (cut, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let silence =
        |at: usize| cluster.replica(leader).silence().get(&cluster.nodes[at].number).copied();
    // Whoever never answered is not told of: it may know its leader before that hears so.
    until("both have answered", || async { silence(cut).is_some() && silence(other).is_some() })
        .await;
    cluster.isolate(cut);
    let term = cluster.replica(leader).status().term;
    let parted = Instant::now();
    while parted.elapsed() < 4 * TIMES.election_max {
        put(&cluster.replica(leader), "key", "goes on").await.unwrap();
        sleep(TIMES.heartbeat).await;
    }
    let fresh = get(&cluster.replica(cut), "key", Consistency::Linearizable).await;
    assert!(fresh.is_err(), "{fresh:?}");
    assert!(silence(cut).unwrap() > 2 * TIMES.election_max);
    until("the other one answers", || async { silence(other).unwrap() < TIMES.election_max }).await;
    cluster.weather.heal();
    put(&cluster.replica(leader), "key", "last").await.unwrap();
    until("it has caught up", || async {
        has(&cluster.replica(cut), "key").await.as_deref() == Some("last")
    })
    .await;
    // It asked before it stood, and was told not to.
    assert_eq!((cluster.leader().await, cluster.replica(leader).status().term), (leader, term));
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_whose_follower_is_stuck_does_not_hold_up_another() {
    let cluster = Cluster::founded(2).await;
    cluster.found(OTHER).await;
    let [leading, following] = [0, 1].map(|at| cluster.nodes[at].find(OTHER).unwrap());
    put(&leading, "key", "before").await.unwrap();
    // Its entries have nobody who takes them from here on.
    following.abandon().await;
    let large = "x".repeat(512 * 1024);
    for n in 0..32 {
        let (leading, large) = (leading.clone(), large.clone());
        tokio::spawn(async move { put(&leading, &format!("{n}"), &large).await });
    }
    for n in 0..100 {
        cluster.put("key", &n.to_string()).await;
    }
    cluster.end().await;
}
