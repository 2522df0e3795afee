//! A write is done once: while the group fails under it, and when nobody waits for it.

use std::future::IntoFuture;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aspen::error::Error;
use aspen::limits::{PROPOSALS_MAX, SESSION_ANSWERS_MAX};
use aspen::{KvClient, KvService, StorageBackend};
use futures_util::FutureExt;

use super::disk::TestDisk;
use super::store::until;
use super::{builder, start, temp_dir};

async fn start_on(disk: &TestDisk) -> KvService {
    builder(Path::new("node"))
        .with_storage(StorageBackend::Memory)
        .with_seams(disk.seams())
        .start()
        .await
        .expect("start")
}

/// Writes one key again and again until told to stop; answers how many writes were done.
async fn count(kv: KvClient, key: String, stop: Arc<AtomicBool>) -> u64 {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let value = (done + 1).to_string();
        match kv.put(&key, &value).await {
            Ok(_) => done += 1,
            Err(Error::OutcomeUnknown { .. }) => {
                let found = loop {
                    // Each waits for the group to come back.
                    if let Ok(found) = kv.get(&key).await {
                        break found;
                    }
                };
                done += u64::from(
                    found.is_some_and(|found| found.value.as_bytes() == value.as_bytes()),
                );
            }
            Err(Error::Unavailable { .. } | Error::Busy { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    done
}

fn is_down(service: &KvService) -> bool {
    service.health().parts.iter().any(|part| part.name == "group 1" && part.reason.is_some())
}

#[tokio::test]
async fn writes_are_done_once_while_the_group_fails_again_and_again() {
    let disk = TestDisk::new();
    const WRITERS: usize = 16;
    let mut expected = [0; WRITERS];
    for _life in 0..3 {
        let service = start_on(&disk).await;
        let kv = service.client();
        let stop = Arc::new(AtomicBool::new(false));
        let writers: Vec<_> = (0..WRITERS)
            .map(|n| tokio::spawn(count(kv.clone(), format!("n/{n}"), stop.clone())))
            .collect();
        for _failure in 0..2 {
            disk.set_groups_fail(true);
            // A checkpoint needs the file: fill the log until one is due.
            let filler = {
                let kv = kv.clone();
                tokio::spawn(async move {
                    loop {
                        let _ = kv.put("filler", vec![0; 2 * 1024 * 1024]).await;
                    }
                })
            };
            until(async || is_down(&service)).await;
            filler.abort();
            disk.set_groups_fail(false);
            until(async || !is_down(&service)).await;
        }
        stop.store(true, Ordering::Relaxed);
        for (n, writer) in writers.into_iter().enumerate() {
            expected[n] += writer.await.expect("a writer");
        }
        for (n, expected) in expected.iter().enumerate() {
            let found = kv.get(format!("n/{n}")).await.expect("get").expect("it was written");
            assert_eq!(found.version, *expected, "writer {n}");
        }
        service.shutdown().await.expect("shutdown");
    }
}

#[tokio::test]
async fn writes_whose_callers_are_gone_keep_no_place() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    kv.put("a", "1").await.expect("put");
    // Each is polled once, which sends it if there is a place, and dropped.
    let writes = 3 * PROPOSALS_MAX.max(SESSION_ANSWERS_MAX as usize);
    let mut sent = 1;
    for n in 0..writes {
        if kv.put("gone", n.to_string()).into_future().now_or_never().is_none() {
            sent += 1;
        }
        if n % 64 == 0 {
            tokio::task::yield_now().await;
        }
    }
    let puts = (0..3_000).map(|n| tokio::spawn(kv.put(format!("here/{n}"), "x").into_future()));
    for put in puts.collect::<Vec<_>>() {
        put.await.expect("a task").expect("there is room");
    }
    assert_eq!(kv.range(..).prefix("here/").count_only().await.expect("range").count, 3_000);
    let gone = kv.get("gone").await.expect("get").map_or(0, |gone| gone.version);
    assert!(gone <= sent, "{gone} of {sent} writes were done");
    service.shutdown().await.expect("shutdown");
}
