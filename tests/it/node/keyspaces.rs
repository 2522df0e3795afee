//! Keyspaces, as a program has them that embeds a node: it makes, lists and deletes them, and where
//! something is about several shards it is told of which keys.

use aspen::client::{Op, WatchRequest};
use aspen::error::{Error, Invalid};
use aspen::machine::ops::KeyRange;
use aspen::node::ClusterError;
use aspen::roster::refused::Refused;
use aspen::{KvClient, KvService};

use super::{start, temp_dir};

/// The keyspaces as they are now, each with its shards and replicas.
async fn listed(service: &KvService) -> Vec<(String, u32, u8)> {
    let roster = service.cluster().fresh().await.expect("it is known");
    let keyspaces = roster.keyspaces();
    keyspaces.map(|(name, of)| (name.to_string(), of.shards, of.replicas)).collect()
}

/// Keys of different shards; which they are says the library.
async fn apart(kv: &KvClient) -> [String; 2] {
    let first = "k/0".to_owned();
    let home = kv.explain(&first).await.expect("a place").shard;
    for number in 1..64 {
        let other = format!("k/{number}");
        if kv.explain(&other).await.expect("a place").shard != home {
            return [first, other];
        }
    }
    panic!("all keys are in one shard");
}

#[tokio::test]
async fn keyspaces_are_made_listed_and_deleted() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let cluster = service.cluster();
    let default = ("default".to_owned(), 1, 3);
    assert_eq!(listed(&service).await, std::slice::from_ref(&default));

    let made = cluster.create_keyspace("logs", 4, 1).await.expect("made");
    assert_eq!((made.shards, made.replicas), (4, 1));
    cluster.create_keyspace("jobs", 2, 3).await.expect("made");
    let jobs = ("jobs".to_owned(), 2, 3);
    assert_eq!(listed(&service).await, [default.clone(), jobs.clone(), ("logs".to_owned(), 4, 1)]);
    let again = cluster.create_keyspace("logs", 4, 1).await.expect_err("it is there");
    assert!(matches!(again, ClusterError::Refused(Refused::KeyspaceExists { .. })), "{again}");
    let none = cluster.create_keyspace("none", 0, 1).await.expect_err("nobody can use it");
    assert!(matches!(none, ClusterError::Refused(Refused::KeyspaceOutOfBounds)), "{none}");

    // What is in one is not in another.
    let logs = service.client().keyspace("logs").expect("a name");
    for number in 0..20 {
        logs.put(format!("k/{number:02}"), number.to_string()).await.expect("a write");
    }
    let page = logs.range(..).await.expect("a read");
    let keys: Vec<String> = (0..20).map(|number| format!("k/{number:02}")).collect();
    assert!(
        page.records.iter().map(|found| found.key.as_bytes()).eq(keys.iter().map(String::as_bytes))
    );
    assert_eq!(service.client().range(..).await.expect("a read").count, 0);

    // A page of one goes on in no other, nor in one that is made anew with its name.
    let first = logs.range(..).limit(3).await.expect("a read");
    let request = || WatchRequest { range: KeyRange::all(), from: None, prev: false };
    let watch = logs.watch_as(request()).await.expect("a watch");
    let position = watch.position().clone();
    drop(watch);
    cluster.delete_keyspace("logs").await.expect("deleted");
    assert_eq!(listed(&service).await, [default.clone(), jobs.clone()]);
    let gone = logs.get("k/00").await.expect_err("it is gone");
    assert!(
        matches!(&gone, Error::UnknownKeyspace { name } if name.to_string() == "logs"),
        "{gone}"
    );
    let gone = cluster.delete_keyspace("logs").await.expect_err("it is gone");
    assert!(matches!(gone, ClusterError::Refused(Refused::UnknownKeyspace { .. })), "{gone}");
    let stays = cluster.delete_keyspace("default").await.expect_err("it stays");
    assert!(matches!(stays, ClusterError::Refused(Refused::KeyspaceStays { .. })), "{stays}");

    cluster.create_keyspace("logs", 4, 1).await.expect("made anew");
    assert_eq!(logs.range(..).await.expect("a read").count, 0);
    let other = Error::Invalid(Invalid::OtherKeyspace);
    assert_eq!(logs.range(..).after_page(&first).await, Err(other.clone()));
    assert_eq!(logs.watch_after(request(), &position).await.map(drop), Err(other));
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_transaction_over_several_shards_names_two_keys_and_does_nothing() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    service.cluster().create_keyspace("logs", 4, 1).await.expect("made");
    let logs = service.client().keyspace("logs").expect("a name");
    let keys = apart(&logs).await;
    let [a, b] = &keys;
    let puts = logs.txn().then(Op::put(a.as_str(), "1")).then(Op::put(b.as_str(), "2"));
    match puts.await.expect_err("they are in different shards") {
        Error::Invalid(Invalid::CrossShard { keyspace, keys: named }) => {
            assert_eq!(keyspace.to_string(), "logs");
            assert!(named.iter().eq(&keys), "{named:?}");
        }
        other => panic!("{other}"),
    }
    assert_eq!(logs.range(..).await.expect("a read").count, 0);
    assert_eq!(logs.status().await.expect("a read").keys, 0);
    // Where there is one shard they are together.
    let puts = service.client().txn().then(Op::put(a.as_str(), "1")).then(Op::put(b.as_str(), "2"));
    assert!(puts.await.expect("done").succeeded);
    service.shutdown().await.expect("shutdown");
}
