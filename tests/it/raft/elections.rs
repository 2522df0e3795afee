//! Who leads, and what becomes of writes and reads when that changes.

use aspen::raft::Failed;
use aspen::types::Consistency;

use super::rig::{Cluster, get, has, put, until};

#[tokio::test(flavor = "multi_thread")]
async fn three_replicas_elect_a_leader_and_all_apply_what_it_commits() {
    let cluster = Cluster::founded(3).await;
    cluster.put("greeting", "hello").await;
    for at in 0..3 {
        let replica = cluster.replica(at);
        until("the value is everywhere", || async {
            has(&replica, "greeting").await.as_deref() == Some("hello")
        })
        .await;
    }
    cluster.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linearizable_read_on_a_follower_sees_every_write_that_was_acknowledged() {
    let cluster = Cluster::founded(3).await;
    for n in 0..50 {
        let value = n.to_string();
        // On a busy machine the lead may change at any time; then nothing was done.
        let leader = loop {
            let leader = cluster.leader().await;
            match put(&cluster.replica(leader), "counter", &value).await {
                Err(Failed::NotLeader { .. }) => {}
                put => break put.map(|_| leader).unwrap(),
            }
        };
        let follower = cluster.replica((leader + 1 + n % 2) % 3);
        let read = loop {
            match get(&follower, "counter", Consistency::Linearizable).await {
                Err(Failed::NotLeader { .. }) => drop(cluster.leader().await),
                read => break read.unwrap(),
            }
        };
        assert_eq!(read.as_deref(), Some(&*value));
    }
    cluster.end().await;
}
