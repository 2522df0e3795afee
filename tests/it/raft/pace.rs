//! How fast three replicas are, side by side in one process on the disk of this machine: figures to
//! look at, nothing is asserted of them.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aspen::types::Consistency;
use tokio::time::Instant;

use super::rig::{Cluster, GROUP, get, putting};

/// So many do the same at once, as many times as told in all.
async fn together<F>(what: &str, many: usize, times: usize, act: impl Fn(usize, usize) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let begun = Instant::now();
    let tasks: Vec<_> = (0..many)
        .map(|who| {
            let acts: Vec<_> = (0..times / many).map(|n| act(who, n)).collect();
            tokio::spawn(async move {
                let mut took = Vec::new();
                for act in acts {
                    let begun = Instant::now();
                    act.await;
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
    println!("{many} {what}: {pace:.0} /s, half within {half:?}, 99 % within {most:?}");
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
        together("writers", writers, writes, |writer, n| {
            let replica = replica.clone();
            async move {
                let command = putting(&format!("{writer} {}", n % 1000), vec![7; 256]);
                replica.propose(command).await.unwrap();
            }
        })
        .await;
    }
    for (who, at) in [("the leader", leader), ("a follower", (leader + 1) % 3)] {
        let replica = cluster.replica(at);
        for (readers, reads) in [(1, 2_000), (64, 60_000)] {
            together(&format!("readers at {who}"), readers, reads, |_, _| {
                let replica = replica.clone();
                async move {
                    get(&replica, "0 1", Consistency::Linearizable).await.unwrap();
                }
            })
            .await;
        }
    }
    drop(replica);
    Arc::into_inner(cluster).unwrap().end().await;
}
