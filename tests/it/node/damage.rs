//! Damaged and missing files: named, stopped, never served.

use std::fs;
use std::path::{Path, PathBuf};

use aspen::error::Error;
use aspen::health::Part;

use super::{builder, start, temp_dir};
use crate::wait::until;

async fn filled(dir: &Path) {
    let service = start(dir).await;
    let kv = service.client();
    for n in 0..200 {
        kv.put(format!("key/{n:04}"), vec![b'x'; 500]).await.expect("put");
    }
    service.shutdown().await.expect("shutdown");
}

/// Flips one bit in the middle of every 4 KiB block after the first of a file.
fn damage(path: &Path) {
    let mut bytes = fs::read(path).expect("the file");
    for block in bytes.chunks_mut(4096).skip(1) {
        let middle = block.len() / 2;
        block[middle] ^= 1;
    }
    fs::write(path, bytes).expect("the file");
}

fn segment(dir: &Path) -> PathBuf {
    let mut segments: Vec<PathBuf> = fs::read_dir(dir.join("log"))
        .expect("the log's directory")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    segments.sort();
    segments.remove(0)
}

/// The node runs, says that the keyspace's group is damaged, and serves nothing of it.
async fn is_reported(dir: &Path) {
    is_reported_of(dir, 1).await;
}

/// As above, of the first group that is asked.
async fn is_reported_of(dir: &Path, group: u64) {
    let service = builder(dir).start().await.expect("the node itself starts");
    let error = service.client().get("key/0001").await.expect_err("nothing may be served");
    let Error::Corrupt(corrupt) = &error else { panic!("{error}") };
    assert_eq!(corrupt.group.0, group, "{error}");
    let error = service.client().put("key/0001", "new").await.expect_err("nor written");
    assert!(matches!(error, Error::Corrupt(_)), "{error}");
    assert!(!service.health().ready, "{:?}", service.health());
    // Whoever asked another group may be told before this one has looked at what there is.
    let is_damaged = |part: &Part| {
        part.name == "group 1" && part.reason.as_ref().is_some_and(|why| why.contains("damaged"))
    };
    until("the group's part says so", async || service.health().parts.iter().any(is_damaged)).await;
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn damage_in_the_log_is_named_and_stops_the_group() {
    let dir = temp_dir();
    filled(dir.path()).await;
    let path = segment(dir.path());
    let mut bytes = fs::read(&path).expect("the segment");
    let place = bytes.windows(8).position(|w| w == b"key/0100").expect("the entry is in the log");
    bytes[place] ^= 1;
    fs::write(&path, bytes).expect("the segment");
    is_reported(dir.path()).await;
}

#[tokio::test]
async fn damage_in_the_state_is_named_and_stops_the_group() {
    let dir = temp_dir();
    filled(dir.path()).await;
    damage(&dir.path().join("groups/1/state.redb"));
    is_reported(dir.path()).await;
}

#[tokio::test]
async fn a_lost_log_is_noticed() {
    let dir = temp_dir();
    filled(dir.path()).await;
    fs::remove_dir_all(dir.path().join("log")).expect("remove");
    // Which keyspaces there are is lost with it.
    is_reported_of(dir.path(), 0).await;
}

#[tokio::test]
async fn a_lost_state_is_rebuilt_from_the_log_that_has_all_of_it() {
    let dir = temp_dir();
    filled(dir.path()).await;
    fs::remove_dir_all(dir.path().join("groups")).expect("remove");
    let service = start(dir.path()).await;
    assert_eq!(service.client().range(..).count_only().await.expect("range").count, 200);
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_group_that_was_there_is_never_founded_anew() {
    let dir = temp_dir();
    filled(dir.path()).await;
    fs::remove_dir_all(dir.path().join("log")).expect("remove");
    fs::remove_dir_all(dir.path().join("groups")).expect("remove");
    is_reported_of(dir.path(), 0).await;
}

#[tokio::test]
async fn what_is_asked_of_a_damaged_group_is_counted_and_the_group_not_started_again() {
    let dir = temp_dir();
    filled(dir.path()).await;
    damage(&dir.path().join("groups/1/state.redb"));
    let (tell, told) = tokio::sync::oneshot::channel();
    let service = builder(dir.path()).tell(tell).start().await.expect("the node itself starts");
    let instruments = told.await.expect("it is told before it serves").instruments;
    service.client().get("key/0001").await.expect_err("nothing may be served");
    let operations = instruments.operations.read();
    let is_get = |kind: &str, group: &str| kind == "get" && group == "shard";
    let gets = operations.iter().filter(|facts| is_get(facts.kind, facts.group));
    let corrupt =
        gets.flat_map(|facts| &facts.outcomes).filter(|(outcome, _)| *outcome == "corrupt");
    assert!(corrupt.map(|(_, count)| count).sum::<u64>() >= 1, "{operations:?}");
    let restarted = instruments.restarted();
    assert_eq!(["group", "store"].map(|part| restarted.get(part)), [Some(&0); 2]);
    service.shutdown().await.expect("shutdown");
}
