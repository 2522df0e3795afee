//! What the handles promise, one behaviour a test.

use std::path::Path;
use std::sync::Arc;

use aspen::seams::disk::{MemDisk, RealDisk};
use aspen::store::log::{EntryId, GroupMarks, Log, LogEntry, Options, Vote, open};
use aspen::types::GroupId;

use super::{done, entry, small};

const ONE: GroupId = GroupId(1);
const TWO: GroupId = GroupId(2);

async fn append(log: &Log, group: GroupId, entries: Vec<LogEntry>) {
    let (done, flushed) = done();
    log.group(group).unwrap().append(entries, done).await.unwrap();
    flushed.await.unwrap().unwrap();
}

#[tokio::test]
async fn what_was_flushed_is_there_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let disk = Arc::new(RealDisk);
    let vote = Vote { term: 3, node: 2, committed: true };
    {
        let (core, _) = open(disk.clone(), &path, small()).unwrap();
        let log = Log::start(core).unwrap();
        append(&log, ONE, vec![entry(0, "a"), entry(1, "b")]).await;
        append(&log, TWO, vec![entry(0, "c")]).await;
        let one = log.group(ONE).unwrap();
        one.save_vote(vote).await.unwrap();
        one.save_committed(entry(0, "a").id);
        log.shutdown().await.unwrap();
    }
    let (core, recovery) = open(disk, &path, small()).unwrap();
    assert_eq!((recovery.groups, recovery.entries, recovery.cut), (2, 3, None));
    let log = Log::start(core).unwrap();
    let one = log.group(ONE).unwrap();
    let committed = Some(entry(0, "a").id);
    assert_eq!(one.marks(), GroupMarks { vote: Some(vote), committed, purged: None });
    assert_eq!(one.read(0..9, 1 << 20).unwrap(), [entry(0, "a"), entry(1, "b")]);
    assert_eq!(log.group(TWO).unwrap().read(0..9, 1 << 20).unwrap(), [entry(0, "c")]);
    log.shutdown().await.unwrap();
}

#[tokio::test]
async fn segments_that_hold_nothing_are_deleted() {
    let disk = Arc::new(MemDisk::default());
    let path = Path::new("log");
    let (core, _) = open(disk.clone(), path, small()).unwrap();
    let log = Log::start(core).unwrap();
    let text = "x".repeat(1000);
    for index in 0..100 {
        append(&log, ONE, vec![entry(index, &text)]).await;
    }
    let one = log.group(ONE).unwrap();
    assert_eq!(one.read(0..100, 1 << 20).unwrap().len(), 100, "all of it from disk");
    one.purge(entry(98, "").id).await.unwrap();
    log.flush().await.unwrap();
    log.shutdown().await.unwrap();
    let (core, recovery) = open(disk, path, small()).unwrap();
    assert!(recovery.segments <= 2, "{recovery:?}");
    let log = Log::start(core).unwrap();
    assert_eq!(log.group(ONE).unwrap().read(0..200, 1 << 20).unwrap(), [entry(99, &text)]);
}

#[tokio::test]
async fn a_purge_beyond_the_end_lets_the_log_go_on_after_it() {
    let (core, _) = open(Arc::new(MemDisk::default()), Path::new("log"), small()).unwrap();
    let log = Log::start(core).unwrap();
    append(&log, ONE, vec![entry(0, "a")]).await;
    let one = log.group(ONE).unwrap();
    let through = EntryId { term: 4, node: 2, index: 41 };
    one.purge(through).await.unwrap();
    assert_eq!(one.last_id(), Some(through));
    assert_eq!(one.first_index(), 42);
    append(&log, ONE, vec![entry(42, "b")]).await;
    assert_eq!(one.read(0..100, 1).unwrap(), [entry(42, "b")]);
}

#[tokio::test]
async fn a_truncation_makes_room_for_other_entries() {
    let disk = Arc::new(MemDisk::default());
    let (core, _) = open(disk.clone(), Path::new("log"), Options::new(1)).unwrap();
    let log = Log::start(core).unwrap();
    append(&log, ONE, vec![entry(0, "a"), entry(1, "b"), entry(2, "c")]).await;
    let one = log.group(ONE).unwrap();
    one.truncate_after(Some(0)).await.unwrap();
    assert_eq!(one.last_id(), Some(entry(0, "a").id));
    append(&log, ONE, vec![entry(1, "d")]).await;
    log.shutdown().await.unwrap();
    let (core, _) = open(disk, Path::new("log"), Options::new(1)).unwrap();
    let log = Log::start(core).unwrap();
    let read = log.group(ONE).unwrap().read(0..9, 1 << 20).unwrap();
    assert_eq!(read, [entry(0, "a"), entry(1, "d")]);
}

#[tokio::test]
async fn an_entry_that_does_not_follow_is_refused() {
    let (core, _) = open(Arc::new(MemDisk::default()), Path::new("log"), small()).unwrap();
    let log = Log::start(core).unwrap();
    let one = log.group(ONE).unwrap();
    let (callback, _) = done();
    let error = one.append(vec![entry(3, "a")], callback).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::InvalidInput);
    assert_eq!(one.last_id(), None);
}

#[tokio::test]
async fn a_removed_group_begins_anew() {
    let disk = Arc::new(MemDisk::default());
    let (core, _) = open(disk.clone(), Path::new("log"), small()).unwrap();
    let log = Log::start(core).unwrap();
    append(&log, ONE, vec![entry(0, "a"), entry(1, "b")]).await;
    append(&log, TWO, vec![entry(0, "c")]).await;
    log.remove_group(ONE).await.unwrap();
    assert_eq!(log.groups(), [TWO]);
    append(&log, ONE, vec![entry(0, "d")]).await;
    log.shutdown().await.unwrap();
    let (core, _) = open(disk, Path::new("log"), small()).unwrap();
    let log = Log::start(core).unwrap();
    assert_eq!(log.group(ONE).unwrap().read(0..9, 1 << 20).unwrap(), [entry(0, "d")]);
}

/// Many groups on a real disk, with segments made ahead by the driver's other thread.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_write_at_once_share_syncs_and_keep_their_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("log");
    let disk = Arc::new(RealDisk);
    let options = Options {
        segment_bytes: 256 * 1024,
        first_segment_bytes: 64 * 1024,
        frame_bytes_max: 64 * 1024,
        ..Options::new(5)
    };
    let (core, _) = open(disk.clone(), &path, options).unwrap();
    let log = Log::start(core).unwrap();
    let mut writers = Vec::new();
    for group in 0..8 {
        let log = log.clone();
        writers.push(async move {
            let group = log.group(GroupId(group)).unwrap();
            let mut flushes = Vec::new();
            for index in 0..300 {
                let (done, flushed) = done();
                group.append(vec![entry(index, &"y".repeat(700))], done).await.unwrap();
                flushes.push(flushed);
                if index % 50 == 49 {
                    let vote = Vote { term: index, node: 1, committed: false };
                    group.save_vote(vote).await.unwrap();
                    for flushed in flushes.drain(..) {
                        // A vote is durable after all appends before it.
                        flushed.await.unwrap().unwrap();
                    }
                    group.purge(entry(index - 20, "").id).await.unwrap();
                }
            }
        });
    }
    futures_util::future::join_all(writers).await;
    log.shutdown().await.unwrap();
    let (core, recovery) = open(disk, &path, options).unwrap();
    assert_eq!((recovery.entries, recovery.damaged), (8 * 20, vec![]));
    // All of it would take seven; each group keeps what it wrote last, wherever that was.
    assert!(recovery.segments < 7, "{} segments", recovery.segments);
    let log = Log::start(core).unwrap();
    for group in 0..8 {
        let read = log.group(GroupId(group)).unwrap().read(0..1000, usize::MAX).unwrap();
        let indexes: Vec<u64> = read.iter().map(|entry| entry.id.index).collect();
        assert_eq!(indexes, (280..300).collect::<Vec<u64>>());
    }
    log.shutdown().await.unwrap();
}
