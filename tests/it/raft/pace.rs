//! How fast three replicas are, side by side in one process on the disk of this machine: figures to
//! look at, nothing is asserted of them.

use std::sync::Arc;
use std::time::Duration;

use aspen::raft::Replica;
use aspen::types::Consistency;
use tokio::time::Instant;

use super::rig::{Cluster, GROUP, get, putting};

async fn write(replica: &Replica, writers: usize, writes: usize) {
    let begun = Instant::now();
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let replica = replica.clone();
            tokio::spawn(async move {
                let mut took = Vec::new();
                for n in 0..writes / writers {
                    let begun = Instant::now();
                    let command = putting(&format!("{writer} {}", n % 1000), vec![7; 256]);
                    replica.propose(command).await.unwrap();
                    took.push(begun.elapsed());
                }
                took
            })
        })
        .collect();
    let mut took: Vec<Duration> = Vec::new();
    for task in tasks {
        took.extend(task.await.unwrap());
    }
    took.sort();
    let pace = took.len() as f64 / begun.elapsed().as_secs_f64();
    let (half, most) = (took[took.len() / 2], took[took.len() * 99 / 100]);
    println!("{writers} writers: {pace:.0} writes/s, half within {half:?}, 99 % within {most:?}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "prints figures; docs/testing.md says how to run it"]
async fn the_pace_of_three_replicas() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Arc::new(Cluster::bare_on_disk(3, dir.path()).await);
    cluster.found(GROUP).await;
    let leader = cluster.leader().await;
    let replica = cluster.replica(leader);
    for (writers, writes) in [(1, 2_000), (64, 30_000), (256, 60_000)] {
        write(&replica, writers, writes).await;
    }
    for (who, at) in [("the leader", leader), ("a follower", (leader + 1) % 3)] {
        let (replica, begun) = (cluster.replica(at), Instant::now());
        for _ in 0..1_000 {
            get(&replica, "0 1", Consistency::Linearizable).await.unwrap();
        }
        println!("a linearizable read on {who}: {:?}", begun.elapsed() / 1_000);
    }
    drop(replica);
    Arc::into_inner(cluster).unwrap().end().await;
}
