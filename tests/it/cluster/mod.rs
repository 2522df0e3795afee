//! Clusters of embedded nodes in one process, on loopback: what a program sees that starts one,
//! joins others by ticket, and loses some.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use aspen::{KvService, KvServiceBuilder, MemberRole, Reach};
use tokio::time::{Instant, sleep};

/// Long enough for a loaded machine; everything is waited for, so it is rarely spent.
const PATIENCE: Duration = Duration::from_secs(30);

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

fn builder(dir: &Path, node: u64) -> KvServiceBuilder {
    KvServiceBuilder::auto(dir.join(format!("node-{node}"))).with_reach(Reach::Loopback)
}

async fn ticket(service: &KvService) -> aspen::JoinTicket {
    let life = Duration::from_secs(3_600);
    service.cluster().invite(MemberRole::Voter, life, None).await.expect("a ticket")
}

/// Three nodes, the second and third joined by the first one's ticket.
async fn three(dir: &Path) -> Vec<KvService> {
    let first = builder(dir, 1).start().await.expect("the first node starts");
    let ticket = ticket(&first).await;
    let mut nodes = vec![first];
    for node in 2..=3 {
        let joined = builder(dir, node).join(ticket.clone()).start().await;
        nodes.push(joined.expect("the ticket is good"));
    }
    nodes
}

fn voters(service: &KvService) -> Vec<BTreeSet<u64>> {
    let groups = service.groups();
    groups.iter().map(|group| group.voters.iter().map(|node| node.0).collect()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_from_one_ticket_are_one_store() {
    let dir = tempfile::tempdir().unwrap();
    let nodes = three(dir.path()).await;
    let all = BTreeSet::from([1, 2, 3]);
    until("all three vote in both groups", async || {
        nodes.iter().all(|node| voters(node) == [all.clone(), all.clone()])
    })
    .await;
    for (at, node) in nodes.iter().enumerate() {
        node.client().put(format!("key-{at}").as_str(), "value").await.expect("a write");
    }
    for node in &nodes {
        let page = node.client().range(..).await.expect("a read");
        assert_eq!(page.records.len(), 3);
    }
    for node in nodes {
        node.shutdown().await.expect("an orderly end");
    }
}
