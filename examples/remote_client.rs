//! A program that uses a cluster from outside: all it needs is a ticket.
//!
//! `cargo run --example remote_client` starts a node to have somebody to talk to;
//! `cargo run --example remote_client TICKET` uses a cluster of yours, with a ticket made by
//! `aspen ticket create --client`.

use std::error::Error;
use std::time::Duration;

use aspen::roster::tickets::Access;
use aspen::tickets::{Prefix, Scope, Verb};
use aspen::{Client, ClientTicket, KvService, KvServiceBuilder, Reach, StorageBackend};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    if let Some(ticket) = std::env::args().nth(1) {
        return visit(&ticket.parse()?).await;
    }
    let node = KvServiceBuilder::auto("remote-client")
        .with_storage(StorageBackend::Memory)
        .with_reach(Reach::Loopback)
        .start()
        .await?;
    let ticket = ticket(&node).await?;
    println!("ticket: {ticket}");
    visit(&ticket).await?;
    node.shutdown().await?;
    Ok(())
}

/// A ticket for the keys under `guests/`, to be read and written by anybody who has it, for an
/// hour.
async fn ticket(node: &KvService) -> Result<ClientTicket, Box<dyn Error>> {
    let guests = Prefix { keyspace: "default".into(), prefix: b"guests/".to_vec() };
    let access = Access {
        name: "guests".into(),
        scope: Scope::Prefixes(vec![guests]),
        verbs: [Verb::Read, Verb::Write].into_iter().collect(),
    };
    Ok(node.cluster().grant(access, Duration::from_secs(3_600), None).await?)
}

async fn visit(ticket: &ClientTicket) -> Result<(), Box<dyn Error>> {
    let client = Client::connect(ticket).await?;
    let mut changes = client.watch("guests/").await?;
    let written = client.put("guests/ada", "hello").await?;
    println!("written at revision {}", written.revision);
    for change in changes.next().await?.events {
        println!("seen: {:?} at revision {}", change.key, change.revision);
    }
    // The ticket is for nothing else.
    match client.get("accounts/ada").await {
        Err(aspen::Error::Denied(denied)) => println!("refused: {denied}"),
        other => println!("the ticket is for more than guests: {other:?}"),
    }
    client.close().await;
    Ok(())
}
