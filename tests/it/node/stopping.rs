//! A node that stops: in time, whatever its users do, and without another one in its way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use aspen::DoorAddress;
use aspen::error::Error;
use aspen::limits::SHUTDOWN_MAX;
use aspen::node::{Door, DoorContext};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::store::until;
use super::{builder, start, temp_dir};

#[tokio::test]
async fn a_node_stops_in_time_under_a_thousand_writers_watchers_and_a_slow_client() {
    let dir = temp_dir();
    let http: DoorAddress = "127.0.0.1:0".parse().expect("an address");
    let service = builder(dir.path()).with_http(http).start().await.expect("start");
    let kv = service.client();
    let written = Arc::new(AtomicUsize::new(0));
    let writers: Vec<_> = (0..1_000)
        .map(|writer| {
            let (kv, written) = (kv.clone(), written.clone());
            tokio::spawn(async move {
                let mut done = 0;
                loop {
                    match kv.put(format!("{writer}"), done.to_string()).await {
                        Ok(_) => done += 1,
                        Err(error) => return (done, error),
                    }
                    written.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut watchers = Vec::new();
    for _ in 0..100 {
        let mut watch = kv.watch("nothing/").await.expect("watch");
        watchers.push(tokio::spawn(async move { watch.next().await }));
    }
    let mut slow = TcpStream::connect(service.http().and_then(|http| http.tcp()).expect("a door"))
        .await
        .expect("connect");
    let half = "PUT /v1/keys/slow HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\nhalf";
    slow.write_all(half.as_bytes()).await.expect("send");
    until(async || written.load(Ordering::Relaxed) > 5_000).await;

    let asked = Instant::now();
    service.shutdown().await.expect("in time");
    assert!(asked.elapsed() < SHUTDOWN_MAX, "{:?}", asked.elapsed());
    let mut acknowledged = Vec::new();
    for writer in writers {
        let soon = timeout(Duration::from_secs(1), writer).await.expect("nobody is left waiting");
        let (done, error) = soon.expect("a writer");
        assert!(
            matches!(error, Error::Unavailable { .. } | Error::OutcomeUnknown { .. }),
            "{error}"
        );
        acknowledged.push((done, matches!(error, Error::OutcomeUnknown { .. })));
    }
    for watcher in watchers {
        let soon = timeout(Duration::from_secs(1), watcher).await.expect("nobody is left waiting");
        soon.expect("a watcher").expect_err("the node has stopped");
    }

    let service = start(dir.path()).await;
    let kv = service.client();
    for (writer, (done, is_unknown)) in acknowledged.into_iter().enumerate() {
        let version = kv.get(format!("{writer}")).await.expect("get").map_or(0, |r| r.version);
        let allowed = done..=done + u64::from(is_unknown);
        assert!(allowed.contains(&version), "writer {writer}: {version} of {allowed:?}");
    }
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_dropped_node_stops_and_keeps_its_directory_until_it_has() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    kv.put("a", "1").await.expect("put");
    drop(service);
    until(async || match builder(dir.path()).start().await {
        Ok(next) => {
            let a = next.client().get("a").await.expect("get").expect("it is there");
            assert_eq!(a.value.as_bytes(), b"1");
            next.shutdown().await.expect("shutdown");
            true
        }
        Err(error) => {
            assert!(error.to_string().contains("in use by another node"), "{error}");
            false
        }
    })
    .await;
    let error = kv.put("a", "2").await.expect_err("its node is gone");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
}

/// A door that panics at first, and later does not listen to being told to stop.
#[derive(Debug, Default)]
struct BadDoor {
    serves: Arc<AtomicUsize>,
}

impl Door for BadDoor {
    fn name(&self) -> &'static str {
        "bad door"
    }
    fn open(&self) -> Result<(), String> {
        Ok(())
    }
    fn address(&self) -> Option<DoorAddress> {
        None
    }
    fn serve(
        &self,
        _context: DoorContext,
        _stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), String>> {
        let earlier = self.serves.fetch_add(1, Ordering::Relaxed);
        async move {
            assert!(earlier > 0, "the first time it panics");
            std::future::pending().await
        }
        .boxed()
    }
}

#[tokio::test]
async fn a_part_that_panics_is_started_again_and_one_that_hangs_holds_up_no_other() {
    let dir = temp_dir();
    let serves = Arc::new(AtomicUsize::new(0));
    let door = Arc::new(BadDoor { serves: serves.clone() });
    let service = builder(dir.path()).with_door(door).start().await.expect("start");
    let trouble = || {
        let health = service.health();
        health.parts.into_iter().find(|part| part.name == "bad door").and_then(|part| part.reason)
    };
    until(async || trouble().is_some_and(|why| why.contains("panicked"))).await;
    service.client().put("a", "1").await.expect("the rest goes on");
    until(async || serves.load(Ordering::Relaxed) == 2 && trouble().is_none()).await;
    let asked = Instant::now();
    service.shutdown().await.expect("the others stop in order");
    assert!(asked.elapsed() < SHUTDOWN_MAX, "{:?}", asked.elapsed());
    start(dir.path()).await.shutdown().await.expect("shutdown");
}
