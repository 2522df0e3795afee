//! A group's state through crashes: what a checkpoint made durable is there, whole.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::Arc;

use aspen::machine::tables::{ReadTables, Table, TableError, WriteTables};
use aspen::seams::Random;
use aspen::store::log::EntryId;
use aspen::store::state::State;
use aspen::types::GroupId;

use crate::crash_disk::{CrashDisk, EIO, Fault, Kind, Op, below};

const DIR: &str = "data/groups/1";

type Rows = Vec<(Table, Vec<u8>, Vec<u8>)>;

fn open(disk: &CrashDisk) -> Result<State, TableError> {
    State::open(Arc::new(disk.clone()), Path::new(DIR), GroupId(1))
}

fn rows(state: &State) -> Result<Rows, TableError> {
    let view = state.view();
    let mut rows = Rows::new();
    for table in Table::ALL {
        view.scan(table, Bound::Unbounded, Bound::Unbounded, false, &mut |key, row| {
            rows.push((table, key.to_vec(), row.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(rows)
}

fn apply(state: &State, index: u64, random: &Random) {
    state
        .write(|writer| {
            for _ in 0..1 + below(random, 30) {
                let table = Table::ALL[below(random, Table::ALL.len() as u64) as usize];
                let key = below(random, 200).to_be_bytes();
                if below(random, 4) == 0 {
                    writer.delete(table, &key)?;
                } else {
                    let mut row = vec![0; below(random, 1500) as usize];
                    random.fill(&mut row);
                    writer.put(table, &key, &row)?;
                }
            }
            writer.set_applied(EntryId { term: 1, node: 1, index });
            Ok(())
        })
        .unwrap();
}

#[test]
fn a_crash_takes_nothing_of_a_checkpoint() {
    let mut images = 0;
    for seed in 0..8 {
        let random = Random::from_seed(seed);
        let disk = CrashDisk::recording();
        // The state after each applied entry; the first is that of a new file.
        let mut states = vec![Rows::new()];
        // What was durable when the history had some length.
        let mut durable = vec![(0, None)];
        {
            let state = open(&disk).unwrap();
            for index in 0..40 {
                apply(&state, index, &random);
                states.push(rows(&state).unwrap());
                if below(&random, 3) == 0 {
                    state.settle().unwrap();
                }
                if below(&random, 3) == 0 {
                    durable.push((disk.position(), state.durable_id()));
                    let id = state.checkpoint().unwrap();
                    durable.push((disk.position(), id));
                }
            }
        }
        let mut replay = disk.replay();
        while let Some(op) = replay.step() {
            let synced = matches!(op, Op::Sync(_) | Op::SyncDir(_) | Op::Rename(..));
            let at = replay.position();
            if !synced && !at.is_multiple_of(9) {
                continue;
            }
            let random = Random::from_seed((seed << 32) + at as u64);
            let place = format!("seed {seed}, position {at}");
            let image = replay.image(&random);
            let state = open(&image).unwrap_or_else(|error| panic!("{place}: {error}"));
            let (_, least) = durable.iter().rfind(|(position, _)| *position <= at).unwrap();
            let applied = state.applied_id();
            let index = |id: Option<EntryId>| id.map_or(0, |id| id.index + 1);
            assert!(index(applied) >= index(*least), "{place}: {applied:?} is before {least:?}");
            let found = rows(&state).unwrap_or_else(|error| panic!("{place}: {error}"));
            assert!(found == states[index(applied) as usize], "{place}: not what was applied");
            apply(&state, 1000, &random);
            state.checkpoint().unwrap();
            images += 1;
        }
    }
    assert!(images > 200, "{images} images");
}

#[test]
fn a_disk_that_fails_ends_the_state_and_takes_nothing_of_it() {
    let mut failures = 0;
    for seed in 0..60 {
        let random = Random::from_seed(seed);
        let disk = CrashDisk::new();
        let state = open(&disk).unwrap();
        let mut states = vec![Rows::new()];
        let kind = if below(&random, 2) == 0 { Kind::Write } else { Kind::Sync };
        disk.fail(Fault { kind, after: 10 + below(&random, 40), error: EIO });
        let mut least = 0;
        for index in 0..30 {
            apply(&state, index, &random);
            states.push(rows(&state).unwrap());
            let what = below(&random, 4);
            if what < 3 {
                let done = if what == 0 { state.settle() } else { state.checkpoint().map(drop) };
                match done {
                    Ok(()) if what == 0 => {}
                    Ok(()) => least = index + 1,
                    Err(error) => {
                        assert!(!error.corrupt, "seed {seed}: {error}");
                        state.checkpoint().unwrap_err();
                        state.write(|_| Ok(())).unwrap_err();
                        failures += 1;
                        break;
                    }
                }
            }
        }
        let image = if seed % 2 == 0 { disk.copy() } else { disk.image(&random) };
        drop(state);
        let state = open(&image).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        let applied = state.applied_id().map_or(0, |id| id.index + 1);
        assert!(applied >= least, "seed {seed}: {applied} is before {least}");
        assert!(rows(&state).unwrap() == states[applied as usize], "seed {seed}");
    }
    assert!(failures > 20, "{failures} states failed");
}
