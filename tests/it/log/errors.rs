//! A disk that fails ends the log, and what was acknowledged is there when it is opened again.

use std::io;
use std::path::Path;
use std::sync::Arc;

use aspen::limits::{LOG_QUEUE_BYTES_MAX, LOG_QUEUE_OPS_MAX};
use aspen::seams::Random;
use aspen::seams::disk::MemDisk;
use aspen::store::log::{Log, LogEntry, Options, Vote, drive, open};
use aspen::types::GroupId;
use tokio::sync::Semaphore;

use super::rig::{DIR, Rig, matching, now, open_on};
use super::{done, entry, small};
use crate::crash_disk::{CrashDisk, EIO, ENOSPC, Fault, Kind, below};

#[test]
fn what_was_acknowledged_before_a_failure_is_there_after_it() {
    let mut failures = 0;
    for seed in 0..300 {
        let random = Random::from_seed(seed);
        let mut rig = Rig::new(CrashDisk::new(), random.clone());
        for _ in 0..below(&random, 60) {
            rig.act().unwrap();
        }
        let kind = [Kind::Write, Kind::Sync, Kind::Name][below(&random, 3) as usize];
        let error = [EIO, ENOSPC][below(&random, 2) as usize];
        rig.disk.fail(Fault { kind, after: below(&random, 8), error });
        let Some(first) = (0..200).find_map(|_| rig.act().err()) else { continue };
        failures += 1;
        let place = format!("seed {seed}, {kind:?}: {first}");
        assert_eq!(first.raw_os_error(), Some(error), "{place}");
        rig.core.fail(&first);
        rig.collect();
        assert_eq!(rig.waiting(), 0, "{place}: all who wait are told");
        refuses_everything(&rig, "the log has failed and takes nothing more", &place);
        assert!(rig.log.failure().borrow().is_some(), "{place}");

        // The process may go on or the machine may crash with it.
        let disk = if below(&random, 2) == 0 { rig.disk.copy() } else { rig.disk.image(&random) };
        let bounds = (rig.acknowledged(), rig.steps.len());
        let (log, _core, recovery) = open_on(&disk, small()).unwrap();
        assert_eq!((recovery.damaged, recovery.tainted), (vec![], None), "{place}");
        if let Err(difference) = matching(&rig.steps, bounds, &log, &random) {
            panic!("{place}: {difference}");
        }
    }
    assert!(failures > 100, "{failures} runs failed");
}

fn refuses_everything(rig: &Rig, why: &str, place: &str) {
    let group = rig.log.group(GroupId(9)).unwrap();
    let (callback, _) = done();
    let refused = [
        now(group.append(vec![entry(0, "late")], callback)),
        now(group.save_vote(Vote { term: 1, node: 1, committed: false })),
        now(group.truncate_after(None)),
        now(group.purge(entry(5, "").id)),
        now(rig.log.remove_group(GroupId(9))),
        now(rig.log.flush()),
    ];
    for result in refused {
        let text = result.unwrap_err().to_string();
        assert!(text.contains(why), "{place}: {text}");
    }
    assert_eq!(group.last_id(), None, "{place}: what was refused can't be read");
}

/// The disk is full for a while (scenario 26): all who wait and all who come are told so, what was
/// queued is kept, and the log goes on from there.
#[test]
fn a_log_that_waits_for_room_goes_on_where_it_was() {
    let mut waits = 0;
    for seed in 0..300 {
        let random = Random::from_seed(seed);
        let mut rig = Rig::new(CrashDisk::new(), random.clone());
        for _ in 0..below(&random, 60) {
            rig.act().unwrap();
        }
        let no_room = |after| Fault { kind: Kind::Write, after, error: ENOSPC };
        rig.disk.fail(no_room(below(&random, 8)));
        let Some(mut error) = (0..200).find_map(|_| rig.act().err()) else { continue };
        waits += 1;
        let place = format!("seed {seed}: {error}");
        for _ in 0..below(&random, 3) {
            assert!(rig.core.starve(&error), "{place}");
            rig.disk.fail(no_room(0));
            error = rig.core.write().unwrap_err();
        }
        assert!(rig.core.starve(&error), "{place}");
        rig.collect();
        assert_eq!(rig.waiting(), 0, "{place}: all who wait are told");
        refuses_everything(&rig, "the disk has no room for the log", &place);
        assert!(*rig.log.starved().borrow(), "{place}");
        assert!(rig.log.failure().borrow().is_none(), "{place}");

        if below(&random, 3) > 0 {
            rig.core.write().and_then(|()| rig.core.sync()).unwrap();
            rig.core.finish().unwrap();
            rig.drive().unwrap();
            assert!(!*rig.log.starved().borrow(), "{place}");
            rig.model.compare(&rig.log, &random).unwrap();
            for _ in 0..40 {
                rig.act().unwrap();
            }
            rig.drive().unwrap();
        }
        let disk = if below(&random, 2) == 0 { rig.disk.copy() } else { rig.disk.image(&random) };
        let bounds = (rig.acknowledged(), rig.steps.len());
        let (log, _core, recovery) = open_on(&disk, small()).unwrap();
        assert_eq!((recovery.damaged, recovery.tainted), (vec![], None), "{place}");
        if let Err(difference) = matching(&rig.steps, bounds, &log, &random) {
            panic!("{place}: {difference}");
        }
    }
    assert!(waits > 100, "{waits} runs had no room");
}

/// The driver of production waits by itself, and an end of the log is an end of the wait.
#[tokio::test]
async fn the_writer_tries_again_until_there_is_room_or_the_log_is_closed() {
    let disk = CrashDisk::new();
    let (core, _) = open(Arc::new(disk.clone()), Path::new(DIR), small()).unwrap();
    let log = Log::start(core).unwrap();
    let group = log.group(GroupId(1)).unwrap();
    let vote = |term| Vote { term, node: 1, committed: false };
    disk.fail(Fault { kind: Kind::Write, after: 0, error: ENOSPC });
    let error = group.save_vote(vote(1)).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    let mut starved = log.starved();
    starved.wait_for(|starved| !starved).await.unwrap();
    assert_eq!(group.marks().vote, Some(vote(1)), "it is durable all the same");
    group.save_vote(vote(2)).await.unwrap();

    // The next segment is made by a thread of its own, which may meet it instead.
    for term in 3.. {
        disk.fail(Fault { kind: Kind::Write, after: 0, error: ENOSPC });
        if group.save_vote(vote(term)).await.is_err() {
            break;
        }
    }
    let closed = log.shutdown().await;
    assert!(closed.is_ok() || closed.is_err_and(|e| e.kind() == io::ErrorKind::StorageFull));
}

#[tokio::test]
async fn a_failed_sync_is_told_to_all_who_wait() {
    let disk = CrashDisk::new();
    let (core, _) = open(Arc::new(disk.clone()), Path::new(DIR), small()).unwrap();
    let log = Log::start(core).unwrap();
    log.flush().await.unwrap();
    disk.fail(Fault { kind: Kind::Sync, after: 0, error: EIO });
    let mut failure = log.failure();
    let mut waiting = Vec::new();
    for group in 0..3 {
        let (callback, flushed) = done();
        let group = log.group(GroupId(group)).unwrap();
        match group.append(vec![entry(0, "a")], callback).await {
            Ok(()) => waiting.push(flushed),
            Err(error) => assert!(error.to_string().contains("the log has failed"), "{error}"),
        }
    }
    for flushed in waiting {
        flushed.await.unwrap().unwrap_err();
    }
    failure.wait_for(Option::is_some).await.unwrap();
    log.shutdown().await.unwrap_err();
}

#[tokio::test]
async fn a_driver_that_goes_away_leaves_nobody_waiting() {
    let (core, _) = open(Arc::new(MemDisk::default()), Path::new(DIR), small()).unwrap();
    let (log, core) = Log::with_driver(core, |core| core);
    let group = log.group(GroupId(1)).unwrap();
    let (callback, flushed) = done();
    group.append(vec![entry(0, "a")], callback).await.unwrap();
    drop(core);
    assert_eq!(flushed.await.unwrap().unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(log.flush().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
    assert_eq!(log.shutdown().await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn a_full_queue_lets_callers_wait() {
    let (core, _) = open(Arc::new(MemDisk::default()), Path::new(DIR), Options::new(1)).unwrap();
    let (log, mut core) = Log::with_driver(core, |core| core);
    let group = log.group(GroupId(1)).unwrap();
    let payload = vec![7; 4 * 1024 * 1024];
    let entry = |index| LogEntry { payload: payload.clone().into(), ..entry(index, "") };
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut appended = 0;
    let mut blocked = loop {
        let (callback, _) = done();
        let mut append = Box::pin(group.append(vec![entry(appended)], callback));
        if std::future::Future::poll(append.as_mut(), &mut cx).is_pending() {
            break append;
        }
        appended += 1;
    };
    assert_eq!(appended as usize, LOG_QUEUE_BYTES_MAX / (4 * 1024 * 1024 + 1));
    assert_eq!(group.last_id().unwrap().index, appended - 1, "who waits has changed nothing");
    super::rig::drive(&mut core).unwrap();
    let polled = std::future::Future::poll(blocked.as_mut(), &mut cx);
    assert!(polled.is_ready(), "there is room again");

    let marks = (0..).take_while(|_| {
        std::future::Future::poll(std::pin::pin!(group.truncate_after(Some(1))), &mut cx).is_ready()
    });
    assert!(marks.count() <= LOG_QUEUE_OPS_MAX);
}

#[test]
fn an_entry_larger_than_a_frame_is_refused() {
    let (log, _core, _) = open_on(&CrashDisk::new(), small()).unwrap();
    let large = LogEntry { payload: vec![1; 4 * 1024].into(), ..entry(0, "") };
    let (callback, _) = done();
    let error = now(log.group(GroupId(1)).unwrap().append(vec![large], callback)).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

/// The driver of simulations: reports come only after the pause and the sync.
#[tokio::test]
async fn a_task_can_drive_the_log() {
    let disk = CrashDisk::new();
    let (core, _) = open(Arc::new(disk.clone()), Path::new(DIR), small()).unwrap();
    let tasks = aspen::seams::Tasks::new();
    let gate = Arc::new(Semaphore::new(0));
    let pause = {
        let gate = gate.clone();
        move || {
            let gate = gate.clone();
            async move { gate.acquire().await.unwrap().forget() }
        }
    };
    let (log, _) = Log::with_driver(core, |core| tasks.spawn(drive(core, pause)));
    let group = log.group(GroupId(1)).unwrap();
    let (callback, mut flushed) = done();
    group.append(vec![entry(0, "a")], callback).await.unwrap();
    assert_eq!(group.read(0..1, 1).unwrap(), [entry(0, "a")], "before it is durable");
    let lost = disk.copy_of_durable();
    assert!(flushed.try_recv().is_err(), "the driver is in its pause, or before it");
    gate.add_permits(1);
    flushed.await.unwrap().unwrap();
    let kept = disk.copy_of_durable();
    gate.add_permits(10);
    log.shutdown().await.unwrap();
    tasks.ended().await;
    for (disk, entries) in [(lost, 0), (kept, 1)] {
        let (_, _, recovery) = open_on(&disk, small()).unwrap();
        assert_eq!(recovery.entries, entries);
    }
}
