//! Watches: ordered, without a gap, resumable, and plain about what is gone.

use aspen::client::Op;
use aspen::error::{Error, Refusal};
use aspen::limits::WATCH_RECENT_BYTES_MAX;

use super::{start, temp_dir};

#[tokio::test]
async fn a_watch_shows_each_change_once_and_in_order() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    let mut watch = kv.watch("w/").await.expect("watch");
    let writer = {
        let kv = kv.clone();
        tokio::spawn(async move {
            for n in 0..200 {
                kv.put(format!("w/{}", n % 7), n.to_string()).await.expect("put");
                kv.put(format!("other/{n}"), "x").await.expect("put");
            }
            kv.txn().then(Op::put("w/a", "1")).then(Op::put("w/b", "2")).await.expect("txn");
        })
    };
    let mut events = Vec::new();
    while events.len() < 202 {
        let batch = watch.next().await.expect("events");
        assert!(batch.revision >= batch.events[0].revision);
        events.extend(batch.events);
    }
    writer.await.expect("the writer");
    assert!(events.windows(2).all(|pair| pair[0].revision <= pair[1].revision));
    for (n, event) in events.iter().take(200).enumerate() {
        let value = event.record.as_ref().expect("a put").value.as_bytes();
        assert_eq!(value, n.to_string().as_bytes());
    }
    // The transaction's two changes share one revision.
    assert_eq!(events[200].revision, events[201].revision);
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_watch_resumes_from_a_revision_across_a_restart() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    for n in 1..=10 {
        kv.put("k", n.to_string()).await.expect("put");
    }
    kv.delete("k").await.expect("delete");
    service.shutdown().await.expect("shutdown");
    let service = start(dir.path()).await;
    let kv = service.client();
    let mut watch = kv.watch("k").from(6).prev().await.expect("watch");
    let mut events = Vec::new();
    while events.len() < 6 {
        events.extend(watch.next().await.expect("events").events);
    }
    let revisions: Vec<u64> = events.iter().map(|event| event.revision).collect();
    assert_eq!(revisions, [6, 7, 8, 9, 10, 11]);
    for event in &events {
        let prev = event.prev.as_ref().expect("each replaced something");
        assert_eq!(prev.value.as_bytes(), (event.revision - 1).to_string().as_bytes());
    }
    assert_eq!(events[5].record, None);
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_watch_from_compacted_history_is_told_so() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    for n in 1..=10 {
        kv.put("k", n.to_string()).await.expect("put");
    }
    service.shutdown().await.expect("shutdown");
    // After a restart no recent changes are in memory, so history must answer.
    let service = start(dir.path()).await;
    let kv = service.client();
    kv.compact(8).await.expect("compact");
    let error = kv.watch("k").from(3).await.expect_err("revision 3 is gone");
    assert_eq!(error, Error::Refused(Refusal::Compacted { asked: 3, compacted: 8 }));
    let mut watch = kv.watch("k").from(9).await.expect("watch");
    assert_eq!(watch.next().await.expect("events").events[0].revision, 9);
    service.shutdown().await.expect("shutdown");
}

#[tokio::test]
async fn a_watch_that_is_not_read_misses_nothing_and_holds_nobody_up() {
    let dir = temp_dir();
    let service = start(dir.path()).await;
    let kv = service.client();
    let mut watch = kv.watch("slow/").await.expect("watch");
    let mut left_behind = kv.watch("slow/").await.expect("watch");
    // Several times what is kept in memory for watchers.
    const WRITES: u64 = 40;
    for n in 1..=WRITES {
        let value = vec![n as u8; WATCH_RECENT_BYTES_MAX / 8];
        kv.put(format!("slow/{}", n % 3), value).await.expect("nobody waits for a watcher");
    }
    let mut next = 1;
    while next <= WRITES {
        for event in watch.next().await.expect("events").events {
            assert_eq!(event.revision, next);
            assert_eq!(event.record.expect("a put").value.as_bytes()[0], next as u8);
            next += 1;
        }
    }
    kv.compact(WRITES).await.expect("compact");
    let error = left_behind.next().await.expect_err("what it did not see is gone");
    assert_eq!(error, Error::Refused(Refusal::Compacted { asked: 1, compacted: WRITES }));
    service.shutdown().await.expect("shutdown");
}
