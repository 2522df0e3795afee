//! Replicas that begin with nothing where their node may have had one before.

use std::pin::pin;

use aspen::raft::Origin;
use aspen::status::Role;
use aspen::store::log::EntryId;
use aspen::types::NodeId;
use futures_util::FutureExt;
use tokio::time::sleep;

use super::rig::{Cluster, GROUP, OTHER, TIMES, has, until};

fn entry(term: u64, index: u64) -> Option<EntryId> {
    Some(EntryId { term, node: 2, index })
}

/// Its log ends where it was the only member, as that of a founder does that takes all again.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_is_behind_makes_nobody_stand() {
    let mut cluster = Cluster::waiting(1).await;
    cluster.open(0, OTHER, Origin::Founds(vec![NodeId(1)])).await;
    cluster.put("greeting", "hello").await;
    cluster.kill(0).await;
    cluster.start(0).await;
    let behind = cluster.open_after(0, GROUP, Origin::Returns, entry(5, 1_000)).await;
    let sound = cluster.open(0, OTHER, Origin::Returns).await;
    until("who is not behind leads", || async { sound.leads() }).await;
    // As long as an election would take, and more.
    sleep(2 * TIMES.election_max).await;
    let status = behind.status();
    assert_eq!((status.leader, status.role), (None, Role::Learner), "{status:?}");
    assert!(status.voters.is_empty(), "those of the log are those that were: {status:?}");
    drop((behind, sound));
    cluster.kill(0).await;
    cluster.start(0).await;
    let caught_up = cluster.open_after(0, GROUP, Origin::Returns, entry(1, 1)).await;
    until("who has caught up leads", || async { caught_up.leads() }).await;
    assert_eq!(caught_up.status().voters, [NodeId(1)].into());
    drop(caught_up);
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_begins_with_nothing_believes_no_leader_of_an_earlier_term() {
    let cluster = Cluster::bare(2).await;
    let leader = cluster.open(0, GROUP, Origin::Founds(vec![NodeId(1)])).await;
    let joins = cluster.open_after(1, GROUP, Origin::Joins, entry(7, 2)).await;
    until("it knows of the term", || async { joins.status().term == 7 }).await;
    until("the first leads", || async { leader.leads() }).await;
    assert!(leader.status().term < 7);
    cluster.put("greeting", "hello").await;
    until("it is made a member", || async {
        leader.add_learner(NodeId(2)).await.is_ok() || leader.members().learners.len() == 1
    })
    .await;
    until("it has what is there", || async {
        has(&joins, "greeting").await.as_deref() == Some("hello")
    })
    .await;
    assert!(leader.status().term > 7, "{:?}", leader.status());
    until("it knows the members", || async { joins.status().learners.len() == 1 }).await;
    cluster.end().await;
}

/// The first knows a membership of before, in which both are, and is in the group no longer; to it the
/// second's empty log is as good as its own.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_begins_with_nothing_votes_for_nobody_whom_its_group_has_left_behind() {
    let cluster = Cluster::bare(2).await;
    let joins = cluster.open_after(1, GROUP, Origin::Joins, entry(7, 2)).await;
    let past = cluster.open(0, GROUP, Origin::Founds(vec![NodeId(1), NodeId(2)])).await;
    // As long as some elections would take.
    sleep(4 * TIMES.election_max).await;
    assert!(!past.leads(), "{:?} {:?}", past.status(), joins.status());
    assert!(past.status().term > 0, "it stood: {:?}", past.status());
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_replica_comes_past_on_its_way_is_history() {
    let cluster = Cluster::bare(2).await;
    let leader = cluster.open(0, GROUP, Origin::Founds(vec![NodeId(1)])).await;
    until("the first leads", || async { leader.leads() }).await;
    cluster.put("greeting", "hello").await;
    let applied = || leader.status().applied_index;
    let (term, far) = (leader.status().term, applied() + 50);
    let after = Some(EntryId { term, node: 1, index: far });
    let joins = cluster.open_after(1, GROUP, Origin::Joins, after).await;
    let mut past = pin!(joins.past_history());
    until("it is made a member", || async {
        leader.add_learner(NodeId(2)).await.is_ok() || leader.members().learners.len() == 1
    })
    .await;
    until("it has what is there", || async {
        has(&joins, "greeting").await.as_deref() == Some("hello")
    })
    .await;
    assert!(past.as_mut().now_or_never().is_none(), "{:?}", joins.status());
    while applied() < far {
        cluster.put("greeting", "hello again").await;
    }
    past.await.expect("it runs");
    assert_eq!(has(&joins, "greeting").await.as_deref(), Some("hello again"));
    cluster.end().await;
}
