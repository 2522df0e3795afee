//! More callers than there are places: some are told `Busy`, none waits for ever.

use std::path::Path;
use std::sync::Arc;

use aspen::error::Error;
use aspen::limits::{CLIENT_WRITES_MAX, PROPOSALS_MAX};
use aspen::machine::ops::{Action, Command};
use aspen::raft::{Failed, Origin, RaftTimes, Replica, ReplicaSpec, Rounds};
use aspen::seams::Random;
use aspen::store::log::{self, Log};
use aspen::store::space::SpaceGuard;
use aspen::types::{GroupId, NodeId};
use tokio::task::JoinSet;

use super::disk::TestDisk;
use super::store::until;
use super::{start, temp_dir};
use crate::raft::nowhere;

/// One replica with nothing around it.
async fn replica(disk: &TestDisk) -> Replica {
    let disk = disk.seams().disk;
    let (core, _) =
        log::open(disk.clone(), Path::new("node/log"), log::Options::new(1)).expect("the log");
    let log = Log::start(core).expect("the log");
    let (group, node) = (GroupId::FIRST_SHARD, NodeId(1));
    let space = SpaceGuard::new(disk.clone(), "node".into()).expect("space");
    let replica = Replica::open(ReplicaSpec {
        group,
        node,
        log: log.group(group).expect("the group"),
        disk,
        dir: "node/groups/1".into(),
        space,
        times: RaftTimes::default(),
        origin: Origin::Founds(vec![node]),
        after: None,
        transport: nowhere(),
        rounds: Rounds::default(),
        counts: Arc::default(),
        random: Random::from_entropy(),
    })
    .await
    .expect("the replica");
    until(async || replica.status().leader == Some(node)).await;
    replica
}

#[tokio::test]
async fn callers_past_the_limit_are_told_busy_and_the_others_are_answered() {
    let disk = TestDisk::new();
    let replica = Arc::new(replica(&disk).await);
    let open = || Command { session: None, action: Action::SessionOpen };
    replica.propose(open()).await.expect("it leads");
    disk.set_log_held(true);
    let extra = 500;
    let mut callers = JoinSet::new();
    for _ in 0..PROPOSALS_MAX + extra {
        let (replica, command) = (replica.clone(), open());
        callers.spawn(async move { replica.propose(command).await });
    }
    // Nothing can be answered now, so the first answers are refusals.
    for _ in 0..extra {
        let answer = callers.join_next().await.expect("a caller").expect("its task");
        assert!(matches!(answer, Err(Failed::Final(Error::Busy { .. }))), "{answer:?}");
    }
    disk.set_log_held(false);
    for _ in 0..PROPOSALS_MAX {
        callers.join_next().await.expect("a caller").expect("its task").expect("an answer");
    }
    replica.propose(open()).await.expect("all places are free again");
    assert_eq!(replica.counts().refused.get(), extra as u64);
    assert_eq!(replica.counts().proposals.get(), PROPOSALS_MAX as u64 + 2);
    replica.stop().await;
}

#[tokio::test]
async fn a_replica_stops_while_its_log_is_held_and_answers_everybody() {
    let disk = TestDisk::new();
    let replica = Arc::new(replica(&disk).await);
    disk.set_log_held(true);
    let mut callers = JoinSet::new();
    for _ in 0..100 {
        let replica = replica.clone();
        let command = Command { session: None, action: Action::SessionOpen };
        callers.spawn(async move { replica.propose(command).await });
    }
    tokio::task::yield_now().await;
    replica.stop().await;
    while let Some(answer) = callers.join_next().await {
        let answer = answer.expect("its task");
        // Some were appended and some were not: none may be told that nothing was done if it was.
        assert!(
            matches!(
                answer,
                Err(Failed::Unknown { .. } | Failed::Final(Error::Unavailable { .. }))
            ),
            "{answer:?}"
        );
    }
    disk.set_log_held(false);
}

#[tokio::test]
async fn a_client_with_more_writes_than_it_may_have_under_way_finishes_them_all() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    let mut writes = JoinSet::new();
    for n in 0..3 * CLIENT_WRITES_MAX {
        let kv = kv.clone();
        writes.spawn(async move { kv.put(format!("k/{n}"), "x").await });
    }
    while let Some(put) = writes.join_next().await {
        put.expect("a task").expect("put");
    }
    let count = kv.range(..).count_only().await.expect("range").count;
    assert_eq!(count, 3 * CLIENT_WRITES_MAX as u64);
    service.shutdown().await.expect("shutdown");
}
