//! Three nodes in one program that become a cluster by one ticket; then one stops, and the other
//! two go on.
//!
//! `cargo run --example join`

use std::time::Duration;

use aspen::{KvService, KvServiceBuilder, MemberRole, Reach, Record, StorageBackend};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let first = node("one").start().await?;
    let ticket =
        first.cluster().invite(MemberRole::Voter, Duration::from_secs(60), Some(2)).await?;
    println!("anyone with this can join for a minute: {ticket}");

    let second = node("two").join(ticket.clone()).start().await?;
    let third = node("three").join(ticket).start().await?;
    three_voters(&third).await;
    for facts in first.cluster().members() {
        println!("node {} is {:?}", facts.member.node, facts.member.name);
    }

    second.client().put("greeting", "hello").await?;
    let got = third.client().get("greeting").await?.expect("it was just written");
    println!("written on node 2, read on node 3: {}", text(&got));

    first.shutdown().await?;
    second.client().put("greeting", "hello without node 1").await?;
    let got = third.client().get("greeting").await?.expect("it was just written");
    println!("and without node 1: {}", text(&got));

    third.shutdown().await?;
    second.shutdown().await?;
    Ok(())
}

fn text(record: &Record) -> String {
    String::from_utf8_lossy(record.value.as_bytes()).into_owned()
}

fn node(name: &str) -> KvServiceBuilder {
    KvServiceBuilder::auto(format!("./data/join-{name}"))
        .with_node_name(name)
        .with_storage(StorageBackend::Memory)
        .with_reach(Reach::Loopback)
}

/// A cluster of three outlives the loss of one once all three vote.
async fn three_voters(node: &KvService) {
    let all_vote = || node.cluster().groups().iter().all(|group| group.status.voters.len() == 3);
    while !all_vote() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
