//! Writing, reading, restarting.

use std::path::Path;
use std::time::Duration;

use aspen::client::{Compare, Op, OpAnswer};
use aspen::error::{Error, Invalid, Refusal};
use aspen::limits::{KEY_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX};
use aspen::{Consistency, KvClient, StorageBackend};
use tokio::time::{Instant, sleep};

use crate::wait;

use super::disk::TestDisk;
use super::{builder, start, temp_dir};

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_restart() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    for n in 0..100 {
        kv.put(format!("k/{n:03}"), format!("v{n}")).await.expect("put");
    }
    kv.delete("k/050").await.expect("delete");
    let lease = kv.lease_grant(Duration::from_secs(600)).await.expect("grant");
    kv.put("leased", "x").lease(lease.id).await.expect("put");
    let before = kv.range(..).await.expect("range");
    let (endpoint, cluster) = (service.node().endpoint_id.clone(), service.node().cluster_id);
    service.shutdown().await.expect("shutdown");

    let service = start(dir.path()).await;
    let kv = service.client();
    assert_eq!(service.node().endpoint_id, endpoint);
    assert_eq!(service.node().cluster_id, cluster);
    let after = kv.range(..).await.expect("range");
    assert_eq!(after, before);
    assert_eq!(kv.lease_keys(lease.id).await.expect("keys").len(), 1);
    let next = kv.put("k/100", "v100").await.expect("put");
    assert_eq!(next.revision, before.revision + 1);
    let past = kv.get("k/050").at(100).await.expect("get").expect("it was there then");
    assert_eq!(past.value.as_bytes(), b"v50");
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn every_freshness_reads_what_one_node_wrote() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    kv.put("k", "v").await.expect("put");
    for consistency in [Consistency::Linearizable, Consistency::Lease, Consistency::Stale] {
        let got = kv.get("k").consistency(consistency).await.expect("get");
        assert_eq!(got.expect("there").value.as_bytes(), b"v", "{consistency}");
    }
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn conditions_decide_between_writers() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    let first = kv.put("k", "1").if_absent().await.expect("the key is new");
    let refused = kv.put("k", "2").if_absent().await.expect_err("the key is there");
    assert_eq!(refused, Error::Refused(Refusal::ConditionFailed { mod_revision: first.revision }));
    let second =
        kv.put("k", "2").if_revision(first.revision).prev().await.expect("nobody was faster");
    assert_eq!(second.prev.expect("asked for").value.as_bytes(), b"1");
    kv.put("k", "3").if_value("1").await.expect_err("it holds 2");
    kv.delete("k").if_revision(first.revision).await.expect_err("it was written since");
    assert_eq!(kv.delete("k").if_revision(second.revision).await.expect("delete").count, 1);
    assert_eq!(kv.get("k").await.expect("get"), None);
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_transaction_is_all_or_nothing_with_one_revision() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    kv.put("a", "1").await.expect("put");
    let done = kv
        .txn()
        .when(Compare::version("a").eq(1))
        .when(Compare::value("a").ne("2"))
        .then(Op::put("b", "x"))
        .then(Op::get("b"))
        .then(Op::delete("a").prev())
        .or_else(Op::get("a"))
        .await
        .expect("txn");
    assert!(done.succeeded);
    assert_eq!(done.revision, 2);
    let [
        OpAnswer::Put { prev: None },
        OpAnswer::Get(Some(b)),
        OpAnswer::Deleted { count: 1, prev },
    ] = &done.answers[..]
    else {
        panic!("{:?}", done.answers);
    };
    assert_eq!((b.mod_revision, prev.len()), (2, 1));
    let unknown = aspen::LeaseId(77);
    let refused = kv
        .txn()
        .then(Op::put("c", "x"))
        .then(Op::put("d", "x").lease(unknown))
        .await
        .expect_err("no such lease");
    assert_eq!(refused, Error::Refused(Refusal::LeaseNotFound { id: unknown }));
    assert_eq!(kv.get("c").await.expect("get"), None);
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_counter_of_many_writers_is_exact() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    const WRITERS: usize = 16;
    const EACH: usize = 25;
    let writers: Vec<_> = (0..WRITERS).map(|_| tokio::spawn(increment(kv.clone(), EACH))).collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    let total = kv.get("n").await.expect("get").expect("it was written");
    assert_eq!(total.value.as_bytes(), (WRITERS * EACH).to_string().as_bytes());
    assert_eq!(total.version, (WRITERS * EACH) as u64);
    service.shutdown().await.expect("shutdown");
}

async fn increment(kv: KvClient, times: usize) {
    for _ in 0..times {
        loop {
            let now = kv.get("n").await.expect("get");
            let (revision, n) = now.map_or((0, 0), |record| {
                let text = std::str::from_utf8(record.value.as_bytes()).expect("a number");
                (record.mod_revision, text.parse::<u64>().expect("a number"))
            });
            match kv.put("n", (n + 1).to_string()).if_revision(revision).await {
                Ok(_) => break,
                Err(Error::Refused(Refusal::ConditionFailed { .. })) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }
}

#[tokio::test]
async fn bad_input_is_told_by_type_and_changes_nothing() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    let invalid = |error| match error {
        Error::Invalid(invalid) => invalid,
        other => panic!("{other}"),
    };
    assert_eq!(invalid(kv.put("", "v").await.expect_err("empty")), Invalid::KeyEmpty);
    let long = vec![b'k'; KEY_BYTES_MAX + 1];
    let len = long.len();
    assert_eq!(invalid(kv.get(long).await.expect_err("long")), Invalid::KeyTooLong { len });
    let large = vec![0; VALUE_BYTES_MAX + 1];
    let len = large.len();
    assert_eq!(
        invalid(kv.put("k", large).await.expect_err("large")),
        Invalid::ValueTooLong { len }
    );
    kv.put("k", vec![0; VALUE_BYTES_MAX]).await.expect("the limit itself is allowed");
    let mut txn = kv.txn();
    for n in 0..=TXN_OPS_MAX {
        txn = txn.then(Op::put(format!("k{n}"), ""));
    }
    let count = TXN_OPS_MAX + 1;
    assert_eq!(invalid(txn.await.expect_err("too many")), Invalid::TxnTooManyOps { count });
    assert_eq!(
        kv.get("k").at(99).await.expect_err("future"),
        Error::Refused(Refusal::FutureRevision { asked: 99, present: 1 })
    );
    kv.put("k", "2").await.expect("put");
    kv.compact(2).await.expect("compact");
    assert_eq!(
        kv.get("k").at(1).await.expect_err("compacted"),
        Error::Refused(Refusal::Compacted { asked: 1, compacted: 2 })
    );
    let ttl_ms = 1;
    assert_eq!(
        invalid(kv.lease_grant(Duration::from_millis(ttl_ms)).await.expect_err("short")),
        Invalid::LeaseTtl { ttl_ms }
    );
    assert_eq!(kv.status().await.expect("status").revision, 2);
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn the_log_is_let_go_after_a_checkpoint_and_nothing_is_lost() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    // Enough for several checkpoints, each of which lets go of the log before the last one.
    const MIB: usize = 1024 * 1024;
    let writes = 200;
    for n in 0..writes {
        let mut value = vec![n as u8; MIB];
        value[0] = b'v';
        kv.put(format!("big/{}", n % 20), value).await.expect("put");
    }
    let deadline = Instant::now() + Duration::from_secs(60);
    let held = loop {
        let held = log_bytes(dir.path());
        if held < 150 * MIB as u64 || Instant::now() > deadline {
            break held;
        }
        sleep(Duration::from_millis(20)).await;
    };
    assert!(held < 150 * MIB as u64, "the log still holds {held} bytes");
    service.shutdown().await.expect("shutdown");
    let service = start(dir.path()).await;
    let page = service.client().range(..).keys_only().await.expect("range");
    assert_eq!((page.count, page.revision), (20, writes));
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_node_that_is_restarted_often_lets_go_of_its_log_all_the_same() {
    let dir = temp_dir();
    const MIB: usize = 1024 * 1024;
    let (restarts, writes) = (12, 6);
    for life in 0..restarts {
        let service = start(dir.path()).await;
        // Each life writes too little for a checkpoint.
        for n in 0..writes {
            let value = vec![life as u8; 4 * MIB];
            service.client().put(format!("big/{n}"), value).await.expect("put");
        }
        service.shutdown().await.expect("shutdown");
    }
    let held = log_bytes(dir.path());
    assert!(held < 200 * MIB as u64, "the log holds {held} bytes");
    let service = start(dir.path()).await;
    let page = service.client().range(..).keys_only().await.expect("range");
    assert_eq!((page.count, page.revision), (writes, restarts * writes));
    service.shutdown().await.expect("shutdown");
}

fn log_bytes(dir: &Path) -> u64 {
    let files = std::fs::read_dir(dir.join("log")).expect("the log's directory");
    files.map(|file| file.and_then(|file| file.metadata()).map_or(0, |data| data.len())).sum()
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_nothing_else() {
    let disk = TestDisk::new();
    let service = builder(Path::new("node"))
        .with_storage(StorageBackend::Memory)
        .with_seams(disk.seams())
        .start()
        .await
        .expect("start");
    let kv = service.client();
    let said = || service.health().parts.into_iter().map(|part| part.name).collect::<Vec<_>>();
    let parts =
        ["store", "groups", "group 0", "holdings", "roster", "discovery", "placement", "health"];
    until(async || said().starts_with(&parts.map(str::to_owned))).await;
    until(async || said().contains(&"group 1".to_owned())).await;
    until(async || said().contains(&"disk".to_owned())).await;
    kv.put("a", "1").await.expect("there is room");
    kv.put("b", "1").await.expect("there is room");
    disk.set_free_percent(4);
    until(async || matches!(kv.put("c", "1").await, Err(Error::NoSpace { free_percent: 4, .. })))
        .await;
    assert!(kv.get("a").await.expect("reads go on").is_some());
    assert_eq!(kv.delete("a").await.expect("deletes go on").count, 1);
    kv.compact(2).await.expect("compaction goes on");
    let report = service.health();
    assert!(report.ready, "a full disk is not an unready node: {report:?}");
    disk.set_free_percent(30);
    until(async || kv.put("c", "1").await.is_ok()).await;
    service.shutdown().await.expect("shutdown");
}

/// No room at all, though the disk does not look full: a quota, or a disk smaller than what is needed.
#[tokio::test]
async fn a_node_whose_log_has_no_room_waits_for_it_and_goes_on_by_itself() {
    let disk = TestDisk::new();
    let service = builder(Path::new("node"))
        .with_storage(StorageBackend::Memory)
        .with_seams(disk.seams())
        .start()
        .await
        .expect("start");
    let kv = service.client();
    kv.put("a", "1").await.expect("there is room");
    disk.set_log_full(true);
    let hasty = kv.clone().with_deadline(Duration::from_millis(300));
    let error = hasty.put("b", "1").await.expect_err("there is none");
    assert!(!matches!(error, Error::Fatal(_) | Error::Corrupt(_)), "{error}");
    let said = |name: &str| {
        let part = service.health().parts.into_iter().find(|part| part.name == name);
        part.and_then(|part| part.reason).unwrap_or_default()
    };
    until(async || said("disk").contains("no room for the log")).await;
    until(async || said("group 1") == "it waits for room on the disk").await;
    disk.set_log_full(false);
    until(async || kv.put("c", "1").await.is_ok()).await;
    assert!(kv.get("a").await.expect("reads go on").is_some());
    until(async || service.health().parts.iter().all(|part| part.reason.is_none())).await;
    service.shutdown().await.expect("shutdown");
}

/// Waits for a condition.
pub(super) async fn until(condition: impl AsyncFn() -> bool) {
    wait::until("the condition came about", condition).await;
}

#[tokio::test]
async fn a_directory_serves_one_node_at_a_time_and_only_its_own() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let error = builder(dir.path()).start().await.expect_err("it is in use").to_string();
    assert!(error.contains("in use by another node"), "{error}");
    service.shutdown().await.expect("shutdown");
    let other = aspen::KvServiceBuilder::new(2, dir.path()).with_reach(aspen::Reach::Loopback);
    let error = other.start().await.expect_err("it is node 1's").to_string();
    assert!(error.contains("belongs to node 1, not 2"), "{error}");
}
