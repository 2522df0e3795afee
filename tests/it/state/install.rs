//! Taking over a snapshot: what readers see, and what a disk that fails in the middle leaves.

use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};

use aspen::machine;
use aspen::machine::tables::{ReadTables, Table, TableError, WriteTables};
use aspen::seams::Random;

use super::{
    fill, fill_beyond_memory, hash, index_of, names, open, put, receive, stream, try_open,
};
use crate::crash_disk::{CrashDisk, EIO, ENOSPC, Fault, Kind};

#[test]
fn a_view_outlives_the_file_it_reads() {
    let disk = CrashDisk::new();
    let state = open(&disk);
    fill_beyond_memory(&state);
    let old = hash(&state);
    let leader = open(&CrashDisk::new());
    fill(&leader, 200, 300);
    let (view, mut source) = (state.view(), state.snapshot().unwrap());
    let received = receive(&state, &stream(&leader), 50_000).unwrap();
    state.install(&received).unwrap();
    drop(received);
    assert_eq!(hash(&state), hash(&leader));
    assert_eq!(machine::hash(&view).unwrap(), old);
    let mut sink = leader.receive_snapshot(1).unwrap();
    while let Some(chunk) = source.next_chunk().unwrap() {
        sink.write(&chunk).unwrap();
    }
    assert_eq!(sink.finish().unwrap().mark(), source.mark());
    // Whoever reads keeps the files from being opened anew.
    drop(state);
    let error = try_open(&disk).unwrap_err();
    assert!(error.what.contains("still open"), "{error}");
    drop((view, source));
    assert_eq!(index_of(open(&disk).applied_id()), 200);
}

#[test]
fn reads_go_on_while_a_snapshot_is_installed() {
    let leader = open(&CrashDisk::new());
    fill(&leader, 2, 3_000);
    let state = open(&CrashDisk::new());
    put(&state, 1, &[(Table::Meta, b"old", b"")]).unwrap();
    let received = receive(&state, &stream(&leader), 50_000).unwrap();
    let (old, new) = (hash(&state), hash(&leader));
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut seen = Vec::new();
            while seen.last() != Some(&new) {
                seen.push(hash(&state));
            }
            seen
        });
        state.install(&received).unwrap();
        let seen = reader.join().unwrap();
        assert!(seen.iter().all(|hash| [old, new].contains(hash)), "all of it or none of it");
        assert!(seen.is_sorted_by_key(|hash| *hash == new), "and never back");
    });
}

/// What an attempt came to.
#[derive(Default)]
struct Attempts {
    failed: u64,
    adrift: u64,
}

/// Fails the nth operation of a kind during an installation. False if there is no nth.
fn fails(
    before: &CrashDisk,
    bytes: &[u8],
    new: [u8; 32],
    fault: Fault,
    sum: &mut Attempts,
) -> bool {
    let place = format!("{fault:?}");
    let disk = before.copy();
    let state = open(&disk);
    let old = hash(&state);
    let received = receive(&state, bytes, 50_000).unwrap();
    disk.fail(fault);
    let installed = state.install(&received);
    disk.fail(Fault { kind: fault.kind, after: u64::MAX, error: 0 });
    drop(received);
    let Err(error) = installed else {
        assert_eq!(hash(&state), new, "{place}");
        return false;
    };
    assert!(!error.corrupt, "{place}: {error}");
    sum.failed += 1;
    // Either the old state goes on, or nothing more is taken until it is opened anew.
    match put(&state, 8, &[(Table::Meta, b"more", b"")]) {
        Ok(()) => {
            assert_eq!(names(&disk), ["state.redb"], "{place}");
            assert_eq!(index_of(state.checkpoint().unwrap()), 8, "{place}");
        }
        Err(_) => {
            let found = hash(&state);
            assert!(found == old || found == new, "{place}");
            let _ = state.checkpoint().unwrap_err();
            assert_eq!(index_of(state.durable_id()), 7, "{place}");
            sum.adrift += 1;
        }
    }
    let durable = index_of(state.durable_id());
    // The process ends, and goes on before the system wrote anything.
    disk.kill();
    drop(state);
    let state = open(&disk);
    assert!(index_of(state.durable_id()) >= durable, "{place}");
    put(&state, 20, &[(Table::Meta, b"after", b"")]).unwrap();
    state.checkpoint().unwrap();
    let last = hash(&state);
    for seed in 0..3 {
        let image = disk.image(&Random::from_seed(seed));
        let state = open(&image);
        assert_eq!((index_of(state.applied_id()), hash(&state)), (20, last), "{place}");
    }
    true
}

#[test]
fn an_installation_that_fails_half_way_takes_nothing() {
    let disk = CrashDisk::new();
    {
        let state = open(&disk);
        put(&state, 7, &[(Table::Keys, b"old", b"row")]).unwrap();
        state.checkpoint().unwrap();
    }
    let leader = open(&CrashDisk::new());
    fill(&leader, 9, 60);
    let (bytes, new) = (stream(&leader), hash(&leader));
    for kind in [Kind::Name, Kind::Sync, Kind::Write, Kind::Read] {
        let mut sum = Attempts::default();
        // Every one of the first, then some.
        for after in (0..24).chain((24..100_000).step_by(17)) {
            let error = if after % 2 == 0 { EIO } else { ENOSPC };
            if !fails(&disk, &bytes, new, Fault { kind, after, error }, &mut sum) {
                break;
            }
        }
        assert!(sum.failed >= 3, "{kind:?}: {} failed", sum.failed);
        let named = u64::from(kind == Kind::Name);
        assert_eq!(sum.adrift, 2 * named, "{kind:?}: the rename and the sync of the directory");
    }
}

/// As a crash may leave the disk at every moment of an installation.
#[test]
fn a_crash_during_an_installation_leaves_the_old_state_or_the_new_one() {
    let disk = CrashDisk::new();
    let leader = open(&CrashDisk::new());
    fill(&leader, 9, 60);
    let state = open(&disk);
    put(&state, 7, &[(Table::Keys, b"old", b"row")]).unwrap();
    state.checkpoint().unwrap();
    let hashes = [hash(&state), hash(&leader)];
    let disk = disk.recorded();
    let received = receive(&state, &stream(&leader), 100_000).unwrap();
    state.install(&received).unwrap();
    let end = disk.position();
    drop(received);
    let mut replay = disk.replay();
    let mut seen = [0; 2];
    while replay.step().is_some() {
        let image = replay.image(&Random::from_seed(replay.position() as u64));
        let place = format!("position {} of {end}", replay.position());
        let state = open(&image);
        let found = hash(&state);
        let which = hashes.iter().position(|hash| *hash == found);
        let which = which.unwrap_or_else(|| panic!("{place}: neither state"));
        assert_eq!(index_of(state.applied_id()), [7, 9][which], "{place}");
        assert!(which == 1 || replay.position() < end, "{place}: it was installed");
        assert_eq!(names(&image), ["state.redb"], "{place}: swept");
        seen[which] += 1;
    }
    assert!(seen[0] > 20 && seen[1] > 0, "{seen:?}");
}

#[test]
fn a_writer_that_fails_or_panics_leaves_no_trace() {
    let state = open(&CrashDisk::new());
    fill(&state, 1, 100);
    let before = (state.applied(), hash(&state));
    let failed: Result<(), _> = state.write(|writer| {
        writer.put(Table::Keys, b"half", b"written")?;
        writer.set_applied(super::entry(2));
        Err(TableError::corrupt("the test says so"))
    });
    assert!(failed.unwrap_err().corrupt);
    assert!((state.applied(), hash(&state)) == before);
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        state.write::<()>(|writer| {
            writer.put(Table::Keys, b"half", b"written").unwrap();
            panic!("the test says so")
        })
    }));
    assert!(panicked.is_err());
    assert!((state.applied(), hash(&state)) == before);
    let view = state.view();
    let mut rows = 0;
    let mut count = |_: &[u8], _: &[u8]| {
        rows += 1;
        Ok(ControlFlow::Continue(()))
    };
    view.scan(Table::Keys, Bound::Unbounded, Bound::Unbounded, true, &mut count).unwrap();
    assert!(rows > 5);
}

/// A panic in the middle of a transaction must not make redb close the file in a way that a crash
/// then turns into damage.
#[test]
fn a_crash_while_closing_after_a_panic_takes_nothing_of_the_checkpoint() {
    let mut seen = [0; 2];
    for round in 0..4 {
        let disk = CrashDisk::new();
        let state = open(&disk);
        fill(&state, 1, 60);
        state.checkpoint().unwrap();
        let mut hashes = vec![hash(&state)];
        fill(&state, 2, 90);
        state.settle().unwrap();
        hashes.push(hash(&state));
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            state.write::<()>(|writer| {
                writer.put(Table::Keys, b"half", &[3; 9_000]).unwrap();
                panic!("the test says so")
            })
        }));
        assert!(panicked.is_err());
        let disk = disk.recorded();
        drop(state);
        let mut replay = disk.replay();
        while replay.step().is_some() {
            for image in 0..4 {
                let seed = (round << 32) + (replay.position() as u64 * 4) + image;
                let place = format!("seed {seed}, position {}", replay.position());
                let state = try_open(&replay.image(&Random::from_seed(seed)));
                let state = state.unwrap_or_else(|error| panic!("{place}: {error}"));
                let index = index_of(state.applied_id()) as usize;
                assert_eq!(hash(&state), hashes[index - 1], "{place}");
                seen[index - 1] += 1;
            }
        }
    }
    assert!(seen[0] > 50 && seen[1] > 10, "{seen:?}");
}
