//! Leases that end, locks that fence, elections that move.

use std::time::Duration;

use aspen::error::{Error, Refusal};
use tokio::time::Instant;

use super::store::until;
use super::{start, temp_dir};

#[tokio::test]
async fn a_lease_ends_when_nobody_keeps_it_alive_and_not_before() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    let granted = Instant::now();
    let lease = kv.lease_grant(Duration::from_millis(1_500)).await.expect("grant");
    kv.put("mine", "x").lease(lease.id).await.expect("put");
    let mut watch = kv.watch("mine").await.expect("watch");
    let left = kv.lease_keep_alive(lease.id).await.expect("keep alive");
    assert_eq!(left.ttl_ms, 1_500);
    let kept = Instant::now();
    let gone = watch.next().await.expect("the key goes with the lease");
    assert_eq!(gone.events[0].record, None);
    assert!(kept.elapsed() >= Duration::from_millis(1_400), "after {:?}", granted.elapsed());
    let error = kv.lease_keep_alive(lease.id).await.expect_err("it has ended");
    assert_eq!(error, Error::Refused(Refusal::LeaseNotFound { id: lease.id }));
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_lease_is_armed_in_full_after_a_restart() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let lease = service.client().lease_grant(Duration::from_secs(300)).await.expect("grant");
    service.shutdown().await.expect("shutdown");
    let service = start(dir.path()).await;
    let ttl = service.client().lease_ttl(lease.id).await.expect("it lives");
    assert!(ttl.left_ms > 290_000, "{ttl:?}");
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_lock_passes_on_with_a_greater_token() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    let [one, two, three] = [1, 2, 3].map(|_| kv.lease_grant(Duration::from_secs(60)));
    let (one, two, three) =
        (one.await.expect("grant"), two.await.expect("grant"), three.await.expect("grant"));
    let first = kv.lock("l", one.id).await.expect("nobody holds it");
    assert_eq!(kv.lock("l", one.id).await.expect("asking again changes nothing"), first);
    assert_eq!(kv.try_lock("l", three.id).await.expect("it is held"), None);
    let waiting = {
        let kv = kv.clone();
        tokio::spawn(async move { kv.lock("l", two.id).await })
    };
    until(async || kv.range(..).prefix("l/").await.expect("range").count == 2).await;
    assert!(!waiting.is_finished());
    assert_eq!(kv.holder("l").await.expect("holder").expect("held").token, first.token);
    kv.unlock("l", one.id).await.expect("unlock");
    let second = waiting.await.expect("the waiter").expect("the lock");
    assert!(second.token > first.token);
    // The holder's lease ends: the lock is free.
    kv.lease_revoke(two.id).await.expect("revoke");
    let third = kv.try_lock("l", three.id).await.expect("try").expect("free");
    assert!(third.token > second.token);
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn an_election_has_one_leader_whose_word_is_read() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    let lease = kv.lease_grant(Duration::from_secs(60)).await.expect("grant");
    let other = kv.lease_grant(Duration::from_secs(60)).await.expect("grant");
    let won = kv.campaign("e", lease.id, "a").await.expect("nobody else stands");
    kv.proclaim("e", lease.id, "b").await.expect("it leads");
    let leader = kv.holder("e").await.expect("holder").expect("there is one");
    assert_eq!((leader.token, leader.value.as_bytes()), (won.token, &b"b"[..]));
    let error = kv.proclaim("e", other.id, "c").await.expect_err("it does not lead");
    assert_eq!(error, Error::Refused(Refusal::NotHolder { id: other.id }));
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_lock_is_waited_for_across_a_compaction() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    let mut leases = Vec::new();
    for _ in 0..3 {
        leases.push(kv.lease_grant(Duration::from_secs(600)).await.expect("grant").id);
    }
    kv.lock("l", leases[0]).await.expect("it is free");
    let mut waiting = Vec::new();
    for (ahead, &lease) in leases[1..].iter().enumerate() {
        let waiter = kv.clone();
        waiting.push(tokio::spawn(async move { waiter.lock("l", lease).await }));
        let claims = async || kv.range(..).prefix("l/").count_only().await.expect("range").count;
        until(async || claims().await == ahead as u64 + 2).await;
    }
    for _ in 0..10 {
        kv.put("other", "x").await.expect("put");
    }
    let revision = kv.status().await.expect("status").revision;
    kv.compact(revision).await.expect("compact");
    let mut token = 0;
    for (held_by, waiter) in leases.iter().zip(waiting) {
        kv.unlock("l", *held_by).await.expect("unlock");
        let lock = waiter.await.expect("a waiter").expect("its turn has come");
        assert!(lock.token > token);
        token = lock.token;
    }
    service.shutdown().await.expect("shutdown");
}
