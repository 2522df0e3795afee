//! A whole node on a disk that crashes: what it acknowledged is on every image of it.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use aspen::client::Op;
use aspen::error::Error;
use aspen::seams::{Random, Seams};
use aspen::{KvService, StorageBackend};

use super::builder;
use super::disk::TestDisk;
use super::store::until;
use crate::crash_disk::{CrashDisk, EIO, Fault, Kind};

async fn start_on(disk: &CrashDisk) -> KvService {
    let seams = Seams { disk: Arc::new(disk.clone()), ..Seams::in_memory() };
    builder(Path::new("node"))
        .with_storage(StorageBackend::Memory)
        .with_seams(seams)
        .start()
        .await
        .expect("the node starts")
}

/// What a client was told: at which operation of the disk, which key has which value.
type Told = Vec<(usize, String, Option<String>)>;

#[tokio::test]
async fn every_image_of_a_node_has_what_it_acknowledged() {
    let disk = CrashDisk::recording();
    let service = start_on(&disk).await;
    let founded = disk.position();
    let told: Arc<Mutex<Told>> = Arc::default();
    let writers: Vec<_> = (0..4)
        .map(|writer| {
            let (kv, disk, told) = (service.client(), disk.clone(), told.clone());
            tokio::spawn(async move {
                for n in 0..40 {
                    // Keys of one writer only, so that the last word told is the value.
                    let key = format!("{writer}/{}", n % 5);
                    let value = (n % 7 != 6).then(|| format!("{n}"));
                    match &value {
                        Some(value) if n % 3 == 0 => {
                            let txn = kv.txn().then(Op::put(&key, value));
                            txn.await.map(drop)
                        }
                        Some(value) => kv.put(&key, value).await.map(drop),
                        None => kv.delete(&key).await.map(drop),
                    }
                    .expect("the write");
                    told.lock().unwrap().push((disk.position(), key, value));
                }
            })
        })
        .collect();
    for writer in writers {
        writer.await.expect("a writer");
    }
    let end = disk.position();
    service.shutdown().await.expect("shutdown");

    let told = told.lock().unwrap().clone();
    let random = Random::from_seed(7);
    let mut replay = disk.replay();
    let mut images = 0;
    while replay.position() < end {
        replay.step();
        if replay.position() < founded || !random.next_u64().is_multiple_of(4) {
            continue;
        }
        let image = replay.image(&random);
        has_what_was_told(&image, &told, replay.position()).await;
        images += 1;
    }
    assert!(images >= 10, "only {images} images were tried");
}

/// Whatever reached the disk while its groups were founded, none is damaged or waits to be founded.
#[tokio::test]
async fn every_image_of_a_node_that_is_being_founded_goes_on() {
    let disk = CrashDisk::recording();
    let service = start_on(&disk).await;
    service.client().put("a", "1").await.expect("put");
    let founded = disk.position();
    service.shutdown().await.expect("shutdown");
    let random = Random::from_seed(11);
    let mut replay = disk.replay();
    while replay.position() < founded {
        replay.step();
        let service = start_on(&replay.image(&random)).await;
        let put = service.client().put("after", "the crash").await;
        put.unwrap_or_else(|error| panic!("position {}: {error}", replay.position()));
        service.shutdown().await.expect("shutdown");
    }
}

async fn has_what_was_told(image: &CrashDisk, told: &Told, position: usize) {
    let mut acknowledged: BTreeMap<&str, Vec<&Option<String>>> = BTreeMap::new();
    let mut later: BTreeMap<&str, Vec<&Option<String>>> = BTreeMap::new();
    for (at, key, value) in told {
        let of_key = if *at <= position { &mut acknowledged } else { &mut later };
        of_key.entry(key).or_default().push(value);
    }
    let service = start_on(image).await;
    let kv = service.client();
    for key in told.iter().map(|(_, key, _)| key.as_str()) {
        let found = kv.get(key).await.expect("get");
        let found =
            found.map(|record| String::from_utf8(record.value.as_bytes().to_vec()).unwrap());
        // The last that was acknowledged, or one that was on its way.
        let last = acknowledged.get(key).and_then(|values| values.last().copied()).unwrap_or(&None);
        let is_later = later.get(key).is_some_and(|values| values.contains(&&found));
        assert!(
            *last == found || is_later,
            "position {position}: {key} holds {found:?}, acknowledged was {last:?}"
        );
    }
    kv.put("after", "the crash").await.expect("the node goes on");
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_log_that_fails_stops_the_node_and_acknowledges_nothing() {
    let disk = CrashDisk::new();
    let service = start_on(&disk).await;
    let kv = service.client();
    kv.put("a", "1").await.expect("put");
    disk.fail(Fault { kind: Kind::Sync, after: 0, error: EIO });
    let error = kv.put("a", "2").await.expect_err("nothing is durable any more");
    assert!(matches!(error, Error::OutcomeUnknown { .. }), "{error}");
    let reason = service.stopped().await;
    assert!(reason.contains("store"), "{reason}");
    let _cut_short = service.shutdown().await;
    let service = start_on(&disk.copy()).await;
    let a = service.client().get("a").await.expect("get").expect("there");
    assert!([&b"1"[..], b"2"].contains(&a.value.as_bytes()));
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_group_that_fails_is_started_again_and_its_handles_go_on() {
    let disk = TestDisk::new();
    let service = builder(Path::new("node"))
        .with_storage(StorageBackend::Memory)
        .with_seams(disk.seams())
        .start()
        .await
        .expect("start");
    let kv = service.client();
    kv.put("a", "1").await.expect("put");
    let mut watch = kv.watch("a").await.expect("watch");
    disk.set_groups_fail(true);
    // A checkpoint needs the file: write enough for one, until the group is seen to fail.
    let is_down = |service: &KvService| {
        let health = service.health();
        health.parts.iter().any(|part| part.name == "group 1" && part.reason.is_some())
    };
    let big = vec![0; 4 * 1024 * 1024];
    let writing = {
        let kv = kv.clone();
        tokio::spawn(async move {
            let mut written = 0;
            for n in 0..20 {
                written += u32::from(kv.put(format!("big/{n}"), big.clone()).await.is_ok());
            }
            written
        })
    };
    until(async || is_down(&service)).await;
    disk.set_groups_fail(false);
    until(async || kv.put("a", "2").await.is_ok()).await;
    let change = watch.next().await.expect("the watch went on").events.remove(0);
    assert_eq!(change.record.expect("a put").value.as_bytes(), b"2");
    let written = writing.await.expect("the writer");
    let there = kv.range(..).prefix("big/").count_only().await.expect("range").count;
    assert!(there >= u64::from(written), "{there} of {written} acknowledged writes are there");
    until(async || !is_down(&service)).await;
    service.shutdown().await.expect("shutdown");
}
