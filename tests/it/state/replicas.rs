//! Replicas on state files: equal to the machine in memory after every entry of the same log,
//! whatever happens to them on the way.

use std::slice;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;
use std::thread;

use aspen::machine::ops::Command;
use aspen::machine::tables::MemTables;
use aspen::machine::{self, Applied};
use aspen::seams::Random;

use super::{apply, entry, hash, index_of, open, receive, stream};
use crate::crash_disk::CrashDisk;
use crate::machine::dice::Dice;
use crate::machine::replicas::log;

const ENTRIES: u64 = 120;

/// The machine in memory after each entry of a log, and what each entry came to.
struct Expected {
    hashes: Vec<[u8; 32]>,
    applied: Vec<Applied>,
}

fn expect(log: &[Command]) -> Expected {
    let mut tables = MemTables::default();
    let mut expected =
        Expected { hashes: vec![machine::hash(&tables).unwrap()], applied: Vec::new() };
    for (index, command) in (1..).zip(log) {
        expected.applied.push(machine::apply(&mut tables, index, command).unwrap());
        expected.hashes.push(machine::hash(&tables).unwrap());
    }
    expected
}

#[test]
fn a_state_file_is_the_machine_through_reopening_kills_and_crashes() {
    let mut happened = [0; 5];
    for seed in 0..40 {
        let log = log(seed, ENTRIES);
        let expected = expect(&log);
        let mut dice = Dice::new(!seed);
        let random = Random::from_seed(seed);
        let disk = CrashDisk::new();
        let mut state = open(&disk);
        let (mut index, mut durable) = (0, 0);
        // Crashes take the state back; there is an end to that.
        let mut crashes = 8;
        while index < ENTRIES {
            let many = (1 + dice.below(12)).min(ENTRIES - index);
            let (from, to) = (index as usize, (index + many) as usize);
            let applied = apply(&state, index + 1, &log[from..to]);
            assert!(applied == expected.applied[from..to], "seed {seed}, entries {from} to {to}");
            index += many;
            let what = dice.below(8) as usize;
            match what {
                0 | 1 => {
                    assert_eq!(state.durable_id().map(|id| id.index).unwrap_or(0), durable);
                    assert_eq!(state.checkpoint().unwrap(), Some(entry(index)));
                    durable = index;
                }
                2 => {
                    // What is in the file when it is closed is durable.
                    state.settle().unwrap();
                    drop(state);
                    state = open(&disk);
                    durable = index;
                }
                3 if crashes > 0 => {
                    crashes -= 1;
                    if dice.once_in(2) {
                        disk.crash(&random);
                        drop(state);
                    } else {
                        disk.kill();
                        drop(state);
                        state = open(&disk);
                        assert_eq!(index_of(state.durable_id()), durable, "seed {seed}");
                        // What it said after the kill is true after a crash.
                        disk.crash(&random);
                        drop(state);
                    }
                    state = open(&disk);
                    index = durable;
                }
                4 => state.settle().unwrap(),
                _ => continue,
            }
            happened[what] += 1;
            let place = format!("seed {seed}, after {index}, {what}");
            assert_eq!(index_of(state.applied_id()), index, "{place}");
            assert_eq!(index_of(state.durable_id()), durable, "{place}");
            assert_eq!(hash(&state), expected.hashes[index as usize], "{place}");
        }
        assert_eq!(hash(&state), expected.hashes[ENTRIES as usize], "seed {seed}, at the end");
    }
    assert!(happened.iter().all(|times| *times >= 30), "{happened:?}");
}

/// Views are taken and the file is written by other threads than the one that applies.
#[test]
fn every_view_is_the_machine_after_some_entry_while_the_file_is_written_beside() {
    let mut settled = 0;
    for seed in 0..60 {
        let log = log(seed, ENTRIES);
        let expected = expect(&log);
        let state = open(&CrashDisk::new());
        let is_over = AtomicBool::new(false);
        thread::scope(|scope| {
            let settling = scope.spawn(|| {
                let mut random = Dice::new(seed);
                let mut times = 0;
                while !is_over.load(Relaxed) {
                    if random.once_in(3) {
                        let durable = index_of(state.checkpoint().unwrap());
                        assert_eq!(index_of(state.durable_id()), durable);
                    } else {
                        state.settle().unwrap();
                    }
                    times += 1;
                }
                times
            });
            let reading = scope.spawn(|| {
                let mut last = 0;
                while !is_over.load(Relaxed) {
                    let view = state.view();
                    let index = index_of(view.applied().id);
                    assert!(index >= last, "seed {seed}: {index} after {last}");
                    let found = machine::hash(&view).unwrap();
                    assert_eq!(found, expected.hashes[index as usize], "seed {seed}, {index}");
                    last = index;
                }
            });
            for (index, command) in (1..).zip(&log) {
                let applied = apply(&state, index, slice::from_ref(command));
                assert_eq!(
                    applied[0],
                    expected.applied[index as usize - 1],
                    "seed {seed}, {index}"
                );
            }
            is_over.store(true, Relaxed);
            settled += settling.join().unwrap();
            reading.join().unwrap();
        });
        assert_eq!(hash(&state), expected.hashes[ENTRIES as usize], "seed {seed}, at the end");
    }
    assert!(settled > 300, "{settled} times");
}

#[test]
fn two_machines_fed_the_same_log_are_equal_across_snapshots() {
    let mut installed = 0;
    for seed in 0..25 {
        let log = log(1_000 + seed, ENTRIES);
        let expected = expect(&log);
        let mut dice = Dice::new(!seed);
        let random = Random::from_seed(seed);
        let disk = CrashDisk::new();
        let (leader, mut follower) = (open(&CrashDisk::new()), open(&disk));
        let (mut leads, mut follows) = (0, 0);
        while leads < ENTRIES {
            let many = (1 + dice.below(20)).min(ENTRIES - leads);
            apply(&leader, leads + 1, &log[leads as usize..(leads + many) as usize]);
            leads += many;
            let place = format!("seed {seed}, after {leads}");
            match dice.below(4) {
                // The follower stays behind.
                0 => continue,
                1 | 2 => {
                    let piece = 1 + dice.below(5_000) as usize;
                    let received = receive(&follower, &stream(&leader), piece).unwrap();
                    assert_eq!(*received.mark(), leader.applied(), "{place}");
                    follower.install(&received).unwrap();
                    drop(received);
                    follows = leads;
                    assert_eq!(follower.applied(), leader.applied(), "{place}");
                    assert_eq!(follower.durable_id(), leader.applied_id(), "{place}");
                    if dice.once_in(2) {
                        // What was installed is durable, and all of it.
                        disk.crash(&random);
                        drop(follower);
                        follower = open(&disk);
                    }
                    assert!(stream(&follower) == stream(&leader), "{place}");
                    installed += 1;
                }
                _ => {
                    apply(&follower, follows + 1, &log[follows as usize..leads as usize]);
                    follows = leads;
                }
            }
            assert_eq!(hash(&leader), expected.hashes[leads as usize], "{place}");
            assert_eq!(hash(&follower), expected.hashes[leads as usize], "{place}");
        }
    }
    assert!(installed >= 60, "{installed} snapshots were installed");
}
