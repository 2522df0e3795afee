//! Members that lag behind the log: they are brought up by entries while the log has them, and by
//! a snapshot after that, whatever happens to it on the way.

use std::time::Duration;

use aspen::limits::{CHECKPOINT_LOG_BYTES, SNAPSHOT_WINDOW_BYTES, VALUE_BYTES_MAX};
use aspen::raft::{Origin, Replica, SnapshotTurns};
use aspen::types::NodeId;
use aspen::wire::StreamKind;

use super::rig::{Cluster, GROUP, has, put, putting, until};
use super::weather::Mishap;

const LARGE: usize = VALUE_BYTES_MAX;
/// So many that the log before them is let go of, but for what the last checkpoint keeps.
const PUTS: usize = 3 * (CHECKPOINT_LOG_BYTES as usize / LARGE) + 2;
/// A snapshot of all of them; history has each.
const WHOLE: u64 = (PUTS * LARGE) as u64;

async fn outgrow_the_log(cluster: &Cluster, at: usize) {
    let leader = cluster.replica(at);
    for n in 0..PUTS {
        let command = putting(&format!("large {}", n % 4), vec![n as u8; LARGE]);
        leader.propose(command).await.unwrap();
    }
    // Checkpoints are taken beside the writes.
    until("the log before them is let go of", || async { cluster.purged(at) > Some(1) }).await;
}

async fn caught_up(leader: &Replica, learner: &Replica) {
    put(leader, "last", "of all").await.unwrap();
    until("the learner has all of it", || async {
        has(learner, "last").await.as_deref() == Some("of all")
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_catches_up_by_the_log_alone_while_the_log_has_all() {
    let cluster = Cluster::waiting(2).await;
    let (leader, learner) = (cluster.replica(0), cluster.replica(1));
    for n in 0..200 {
        put(&leader, &format!("key {n}"), "value").await.unwrap();
    }
    leader.add_learner(NodeId(2)).await.unwrap();
    caught_up(&leader, &learner).await;
    assert_eq!(has(&learner, "key 0").await.as_deref(), Some("value"));
    assert_eq!(cluster.weather.written(StreamKind::Snapshot), 0);
    cluster.end().await;
}

/// Brings up a learner by a snapshot with mishaps on the way; how many bytes that took.
async fn bring_up(mishaps: &[Mishap]) -> u64 {
    let mut cluster = Cluster::waiting(2).await;
    let leader = cluster.replica(0);
    put(&leader, "first", "of all").await.unwrap();
    outgrow_the_log(&cluster, 0).await;
    cluster.weather.spoil(mishaps.iter().copied());
    leader.add_learner(NodeId(2)).await.unwrap();
    let learner = cluster.replica(1);
    caught_up(&leader, &learner).await;
    assert_eq!(cluster.weather.mishaps_left(), 0);
    let sent = cluster.weather.written(StreamKind::Snapshot);
    assert!(sent > 0, "there was a snapshot");
    assert_eq!(has(&learner, "first").await.as_deref(), Some("of all"));
    assert_eq!(learner.members().learners.into_iter().collect::<Vec<_>>(), [NodeId(2)]);
    // What it has is durable, and its log goes on after it.
    drop(learner);
    cluster.kill(1).await;
    cluster.start(1).await;
    let learner = cluster.open(1, GROUP, Origin::Returns).await;
    assert_eq!(has(&learner, "first").await.as_deref(), Some("of all"));
    caught_up(&leader, &learner).await;
    cluster.end().await;
    sent
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_behind_the_log_is_brought_up_by_a_snapshot() {
    let sent = bring_up(&[]).await;
    assert!((WHOLE..WHOLE + LARGE as u64).contains(&sent), "{sent} bytes of {WHOLE}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_link_breaks_goes_on_where_it_was() {
    let sent = bring_up(&[Mishap::Cut(6 * LARGE), Mishap::Cut(9 * LARGE)]).await;
    // What was under way is sent again: at most a window and a chunk for each break.
    let again = sent.saturating_sub(WHOLE);
    assert!(again < 4 * (SNAPSHOT_WINDOW_BYTES + LARGE) as u64, "{again} bytes were sent again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_with_a_damaged_byte_is_discarded_and_taken_again() {
    let sent = bring_up(&[Mishap::Flip(3 * LARGE + 100)]).await;
    assert!(sent >= 2 * WHOLE, "{sent} bytes, and {WHOLE} would do without damage");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_sender_dies_is_taken_anew_from_the_next_leader() {
    let mut cluster = Cluster::founded(3).await;
    cluster.put("first", "of all").await;
    let leader = cluster.leader().await;
    let away = (leader + 1) % 3;
    let follower = cluster.replica(away);
    until("it is everywhere", || async { has(&follower, "first").await.is_some() }).await;
    drop(follower);
    cluster.kill(away).await;
    outgrow_the_log(&cluster, leader).await;
    cluster.restart(away).await;
    let behind = cluster.replica(away);
    until("a snapshot is on its way", || async {
        cluster.weather.written(StreamKind::Snapshot) > LARGE as u64
    })
    .await;
    // What it had before is served meanwhile, once its log is applied again.
    until("it serves what it had", || async { has(&behind, "first").await.is_some() }).await;
    cluster.kill(leader).await;
    cluster.put("last", "of all").await;
    until("it has all of it", || async { has(&behind, "last").await.as_deref() == Some("of all") })
        .await;
    cluster.end().await;
}

/// All that a node sends at once is no faster than the cluster's settings allow.
#[tokio::test(flavor = "multi_thread")]
async fn snapshots_of_one_node_take_turns_at_the_rate_that_is_allowed() {
    const RATE: u64 = 64 * 1024 * 1024;
    let cluster = Cluster::waiting(3).await;
    let leader = cluster.replica(0);
    outgrow_the_log(&cluster, 0).await;
    cluster.limit_snapshots(RATE);
    let begun = tokio::time::Instant::now();
    for learner in [2, 3] {
        leader.add_learner(NodeId(learner)).await.unwrap();
    }
    for at in [1, 2] {
        caught_up(&leader, &cluster.replica(at)).await;
    }
    // The last chunk of each has left when its turn began.
    let least = (2 * WHOLE - 2 * LARGE as u64) as f64 / RATE as f64;
    assert!(begun.elapsed() >= Duration::from_secs_f64(least), "{:?}", begun.elapsed());
    cluster.end().await;
}

/// By the clock of a test, to the millisecond.
#[tokio::test(start_paused = true)]
async fn turns_are_as_long_as_what_is_sent_and_a_pause_saves_none_up() {
    let turns = SnapshotTurns::default();
    let begun = tokio::time::Instant::now();
    let passed = || begun.elapsed().as_millis();
    turns.wait(1_000, 1_000).await;
    assert_eq!(passed(), 0, "nobody is before the first");
    let others = turns.clone();
    tokio::join!(turns.wait(500, 1_000), others.wait(500, 1_000));
    assert_eq!(passed(), 1_500);
    turns.wait(1_000, 2_000).await;
    assert_eq!(passed(), 2_000, "the rate may change");
    tokio::time::sleep(Duration::from_secs(60)).await;
    turns.wait(1_000, 1_000).await;
    turns.wait(1_000, 1_000).await;
    assert_eq!(passed(), 63_000);
}

/// What this process has in memory, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib * 1024
}

/// Both sides are in this process, so they may take twice what each may.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes several gigabytes; docs/testing.md says how to run it"]
async fn a_gigabyte_is_sent_and_received_in_little_memory() {
    const MIB: u64 = 1024 * 1024;
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::bare_on_disk(2, dir.path()).await;
    cluster.await_members().await;
    let (leader, learner) = (cluster.replica(0), cluster.replica(1));
    for n in 0..1024 {
        let command = putting(&format!("large {n}"), vec![n as u8; MIB as usize]);
        leader.propose(command).await.unwrap();
    }
    let (before, begun) = (resident(), tokio::time::Instant::now());
    leader.add_learner(NodeId(2)).await.unwrap();
    let catching_up = caught_up(&leader, &learner);
    tokio::pin!(catching_up);
    let mut most = before;
    while tokio::time::timeout(Duration::from_millis(10), &mut catching_up).await.is_err() {
        most = most.max(resident());
    }
    let sent = cluster.weather.written(StreamKind::Snapshot);
    println!(
        "{} MiB in {:?}; {} MiB resident before, {} MiB at most",
        sent / MIB,
        begun.elapsed(),
        before / MIB,
        most / MIB
    );
    assert!(sent >= 1024 * MIB);
    assert!(most - before <= 2 * 150 * MIB);
    cluster.end().await;
}
