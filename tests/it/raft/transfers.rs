//! Planned changes of the leader, members that come and go.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use aspen::limits::COMPACT_STEP_ENTRIES_MAX;
use aspen::machine::ops::{Action, AnswerBody, Command, Op, Put, Query, Txn};
use aspen::raft::{ChangeFailed, Dropped, Replica};
use aspen::types::{Consistency, Key, NodeId, Value};
use tokio::sync::watch;
use tokio::time::Instant;

use super::rig::{Cluster, TIMES, get, has, put, until};

fn nodes(numbers: impl IntoIterator<Item = u64>) -> BTreeSet<NodeId> {
    numbers.into_iter().map(NodeId).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_planned_transfer_interrupts_writes_for_a_moment_only() {
    let cluster = Arc::new(Cluster::founded(3).await);
    let mut at = cluster.leader().await;
    let (over, written) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
    // One writer, each write as soon as the last is acknowledged.
    let writer = tokio::spawn({
        let (cluster, over, written) = (cluster.clone(), over.clone(), written.clone());
        async move {
            while !over.load(Ordering::SeqCst) {
                let begun = Instant::now();
                let value = written.lock().unwrap().len().to_string();
                cluster.put("counter", &value).await;
                written.lock().unwrap().push(begun.elapsed());
            }
        }
    });
    let count = || written.lock().unwrap().len();
    let go_on = async |from: usize| until("writes go on", async || count() > from + 20).await;
    let mut interruptions = Vec::new();
    go_on(0).await;
    for _ in 0..4 {
        let (next, before) = ((at + 1) % 3, count());
        cluster.replica(at).transfer_to(NodeId(next as u64 + 1)).await.unwrap();
        assert_eq!(cluster.leader().await, next);
        at = next;
        go_on(count()).await;
        interruptions.push(written.lock().unwrap()[before..].iter().max().copied().unwrap());
    }
    over.store(true, Ordering::SeqCst);
    writer.await.unwrap();
    println!("{} writes, the slowest of each transfer: {interruptions:?}", count());
    // An election without a plan takes at least as long as the shortest silence.
    let longest = interruptions.iter().max().unwrap();
    assert!(*longest < TIMES.election_min, "{interruptions:?}");
    let read = get(&cluster.replica(at), "counter", Consistency::Linearizable).await.unwrap();
    assert_eq!(read, Some((count() - 1).to_string()));
    Arc::into_inner(cluster).unwrap().end().await;
}

/// Who is told of a change of the leader reads that one, however busy the machine is: nobody tells it
/// again.
#[tokio::test(flavor = "multi_thread", worker_threads = 8)]
async fn whoever_follows_the_lead_knows_of_the_last_leader() {
    let cluster = Cluster::founded(3).await;
    let followed: Vec<_> = (0..3)
        .flat_map(|at| (0..8).map(move |_| at))
        .map(|at| {
            let replica = cluster.replica(at);
            let (sender, seen) = watch::channel(None);
            tokio::spawn(async move {
                let mut leadership = replica.leadership();
                loop {
                    sender.send_replace(replica.status().leader);
                    if !leadership.changed().await {
                        return;
                    }
                }
            });
            seen
        })
        .collect();
    let mut at = cluster.leader().await;
    for _ in 0..100 {
        at = (at + 1) % 3;
        let leader = NodeId(at as u64 + 1);
        let before = (at + 2) % 3;
        cluster.replica(before).transfer_to(leader).await.unwrap();
        until("everyone knows", async || {
            followed.iter().all(|seen| *seen.borrow() == Some(leader))
        })
        .await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_to_one_that_is_gone_ends_with_some_leader_that_takes_writes() {
    let mut cluster = Cluster::founded(3).await;
    let leader = cluster.leader().await;
    let gone = (leader + 1) % 3;
    cluster.kill(gone).await;
    let error = cluster.replica(leader).transfer_to(NodeId(gone as u64 + 1)).await.unwrap_err();
    println!("{error}");
    cluster.put("after", "all").await;
    // Once its silence is noticed nothing is tried.
    let leader = cluster.replica(cluster.leader().await);
    until("it is known to be silent", || async {
        leader.silence().get(&NodeId(gone as u64 + 1)).is_none_or(|it| *it > TIMES.election_min)
    })
    .await;
    let error = leader.transfer_to(NodeId(gone as u64 + 1)).await.unwrap_err();
    assert!(matches!(error, ChangeFailed::Silent { .. }), "{error}");
    let error = leader.transfer_to(NodeId(9)).await.unwrap_err();
    assert!(matches!(error, ChangeFailed::Refused { .. }), "{error}");
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_stops_in_order_hands_over_first() {
    let mut cluster = Cluster::founded(3).await;
    for _ in 0..2 {
        let leader = cluster.leader().await;
        cluster.put("before", "it").await;
        let follower = cluster.replica((leader + 1) % 3);
        let term = follower.status().term;
        cluster.stop(leader).await;
        // Without a word the others would still be waiting for its heartbeat.
        let status = follower.status();
        assert!(status.term > term, "{status:?}");
        cluster.restart(leader).await;
        cluster.leader().await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_one_becomes_one_of_three_and_shrinks_again() {
    let cluster = Cluster::waiting(3).await;
    let leader = cluster.replica(0);
    put(&leader, "first", "1").await.unwrap();
    let error = leader.set_voters(nodes(1..=3), Dropped::Leave).await.unwrap_err();
    assert!(matches!(error, ChangeFailed::Refused { .. }), "{error}");
    for learner in 2..=3 {
        leader.add_learner(NodeId(learner)).await.unwrap();
        until("it has caught up", || async {
            leader.progress().get(&NodeId(learner)).copied() >= leader.last_log_index()
        })
        .await;
    }
    let members = leader.members();
    assert_eq!((members.voters, members.learners), (nodes([1]), nodes([2, 3])));
    leader.set_voters(nodes(1..=3), Dropped::Leave).await.unwrap();
    let members = leader.members();
    assert_eq!((members.voters, members.is_joint), (nodes(1..=3), false));
    // Two of three are a majority: the founder is no longer needed.
    leader.transfer_to(NodeId(2)).await.unwrap();
    let second = cluster.replica(1);
    put(&second, "second", "2").await.unwrap();
    let error = leader.add_learner(NodeId(4)).await.unwrap_err();
    assert!(matches!(&error, ChangeFailed::NotLeader { leader: Some(NodeId(2)), .. }), "{error}");
    second.set_voters(nodes([2]), Dropped::Learn).await.unwrap();
    let members = second.members();
    assert_eq!((members.voters, members.learners), (nodes([2]), nodes([1, 3])));
    second.remove_learners(nodes([1, 3])).await.unwrap();
    assert_eq!(second.members().learners, nodes([]));
    put(&second, "third", "3").await.unwrap();
    assert_eq!(has(&second, "first").await.as_deref(), Some("1"));
    cluster.end().await;
}

/// Whether a replica's own state has rows that a compaction is still to remove.
async fn is_compacting(replica: &Replica) -> bool {
    match replica.query(&Query::Status, Consistency::Stale).await.unwrap().body {
        AnswerBody::Status(status) => status.compacting,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_compaction_is_finished_whoever_leads_meanwhile() {
    const KEYS: usize = 1_000;
    let mut cluster = Cluster::founded(3).await;
    let first = cluster.leader().await;
    let propose = async |at: usize, action: Action| {
        let command = Command { session: None, action };
        cluster.replica(at).propose(command).await.unwrap().body
    };
    // More than twenty steps.
    for _ in 0..20 * COMPACT_STEP_ENTRIES_MAX / KEYS {
        let put = |n: usize| Op::Put(Put::new(Key::new(format!("{n}")).unwrap(), Value::default()));
        let then = (0..KEYS).map(put).collect();
        propose(first, Action::Txn(Txn { then, ..Txn::default() })).await;
    }
    let revision = (20 * COMPACT_STEP_ENTRIES_MAX / KEYS) as u64;
    let begun = propose(first, Action::Compact { revision }).await;
    assert!(matches!(begun, AnswerBody::Compacted { pending: true, .. }), "{begun:?}");
    // The lead goes on by plan, and then without one.
    let second = (first + 1) % 3;
    cluster.replica(first).transfer_to(NodeId(second as u64 + 1)).await.unwrap();
    assert!(is_compacting(&cluster.replica(second)).await, "it was over before the lead moved");
    cluster.kill(second).await;
    let third = cluster.leader().await;
    cluster.restart(second).await;
    for at in 0..3 {
        until("the compaction is over", async || !is_compacting(&cluster.replica(at)).await).await;
    }
    println!("led by {first}, {second} and {third}");
    cluster.end().await;
}
