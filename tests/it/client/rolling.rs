//! A program inside a member, while the other members are restarted one after the other.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aspen::{KvClient, KvService, KvServiceBuilder, MemberRole, Reach};
use tokio::time::{Instant, sleep};

const PATIENCE: Duration = Duration::from_secs(30);
const WRITERS: usize = 8;

fn builder(dir: &Path, node: usize) -> KvServiceBuilder {
    KvServiceBuilder::auto(dir.join(format!("node-{node}"))).with_reach(Reach::Loopback)
}

async fn all_vote(node: &KvService, members: usize) {
    let deadline = Instant::now() + PATIENCE;
    while node.groups().iter().any(|group| group.voters.len() != members) {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {:?}", node.groups());
        sleep(Duration::from_millis(10)).await;
    }
}

/// Counts a key up and reads it back until told to stop; no error is allowed.
async fn count(kv: KvClient, key: String, stop: Arc<AtomicBool>) -> u64 {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let put = kv.put(&key, "x").await;
        put.unwrap_or_else(|error| panic!("write {done} of {key}: {error}"));
        done += 1;
        let found = kv.get(&key).await;
        let found = found.unwrap_or_else(|error| panic!("read {done} of {key}: {error}"));
        assert_eq!(found.map(|found| found.version), Some(done), "{key}");
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_is_no_error_to_a_client_in_a_member() {
    let dir = tempfile::tempdir().unwrap();
    let first = builder(dir.path(), 0).start().await.expect("the first node");
    let life = Duration::from_secs(3_600);
    let ticket = first.cluster().invite(MemberRole::Voter, life, None).await.expect("a ticket");
    let mut others = Vec::new();
    for node in 1..3 {
        let joined = builder(dir.path(), node).join(ticket.clone()).start().await;
        others.push(Some(joined.expect("the ticket is good")));
    }
    all_vote(&first, 3).await;
    // The other nodes are stopped while they lead too.
    let stop = Arc::new(AtomicBool::new(false));
    let kv = first.client();
    let writers: Vec<_> = (0..WRITERS)
        .map(|n| tokio::spawn(count(kv.clone(), format!("n/{n}"), stop.clone())))
        .collect();
    for (at, place) in others.iter_mut().enumerate() {
        let node = place.take().expect("it runs");
        let id = node.node().node_id;
        first.cluster().transfer(aspen::types::GroupId::FIRST_SHARD, id).await.expect("transfer");
        node.shutdown().await.expect("an orderly end");
        let again = builder(dir.path(), at + 1).start().await.expect("it starts again");
        *place = Some(again);
    }
    stop.store(true, Ordering::Relaxed);
    for (n, writer) in writers.into_iter().enumerate() {
        let done = writer.await.expect("a writer");
        let found = kv.get(format!("n/{n}")).await.expect("get").expect("it was written");
        assert_eq!(found.version, done, "writer {n}");
    }
    for node in others.into_iter().flatten() {
        node.shutdown().await.expect("shutdown");
    }
    first.shutdown().await.expect("shutdown");
}
