//! A node inside a program: write, read, watch, transact, stop.
//!
//! `cargo run --example embed`

use aspen::client::{Compare, Op};
use aspen::{KvServiceBuilder, Reach, StorageBackend};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let service = KvServiceBuilder::new(1, "./data/embed")
        .with_storage(StorageBackend::Memory)
        .with_reach(Reach::Loopback)
        .start()
        .await?;
    let kv = service.client();

    let first = kv.put("app/greeting", "hello").await?;
    let mut changes = kv.watch("app/").from(first.revision).await?;

    let done = kv
        .txn()
        .when(Compare::version("app/greeting").eq(1))
        .then(Op::put("app/greeting", "hello again"))
        .or_else(Op::get("app/greeting"))
        .await?;
    println!("the transaction succeeded: {}", done.succeeded);

    let mut seen = 0;
    while seen < 2 {
        for event in changes.next().await?.events {
            println!("revision {}: {:?}", event.revision, event.key);
            seen += 1;
        }
    }

    let page = kv.range(..).prefix("app/").limit(10).await?;
    println!("{} key at revision {}", page.count, page.revision);
    service.shutdown().await?;
    Ok(())
}
