//! Replicas: machines fed the same log are equal, whether they applied it all, came up from a
//! snapshot on the way, or read it from disk.

use std::ops::{Bound, ControlFlow};

use aspen::machine::ops::Command;
use aspen::machine::tables::{MemTables, ReadTables, Table, WriteTables};
use aspen::machine::{apply, hash};

use super::dice::Dice;
use super::generate::Generator;
use super::model::Model;

/// A random log, made by the generator against what the model says of it.
pub(crate) fn log(seed: u64, len: u64) -> Vec<Command> {
    let mut dice = Dice::new(seed);
    let mut model = Model::default();
    let mut generator = Generator::default();
    (1..=len)
        .map(|index| {
            let command = generator.command(&mut dice, &model);
            model.apply(index, &command);
            command
        })
        .collect()
}

/// All rows, in the order of a snapshot, put into new tables.
fn copy(tables: &MemTables) -> MemTables {
    let mut copied = MemTables::default();
    for table in Table::ALL {
        let mut visit = |key: &[u8], row: &[u8]| {
            copied.put(table, key, row)?;
            Ok(ControlFlow::Continue(()))
        };
        tables.scan(table, Bound::Unbounded, Bound::Unbounded, false, &mut visit).unwrap();
    }
    copied
}

#[test]
fn two_machines_fed_the_same_log_are_equal() {
    for seed in 0..200 {
        let mut dice = Dice::new(!seed);
        let (mut first, mut second) = (MemTables::default(), MemTables::default());
        for (index, command) in (1..).zip(log(seed, 150)) {
            let bytes = postcard::to_stdvec(&command).unwrap();
            let read: Command = postcard::from_bytes(&bytes).unwrap();
            let applied = apply(&mut first, index, &command).unwrap();
            assert_eq!(applied, apply(&mut second, index, &read).unwrap(), "seed {seed}, {index}");
            if dice.once_in(20) {
                second = copy(&first);
            }
            if dice.once_in(10) {
                let equal = hash(&first).unwrap() == hash(&second).unwrap();
                assert!(equal, "seed {seed}, after {index}");
            }
        }
        assert!(first == second && hash(&first) == hash(&second), "seed {seed}, at the end");
    }
}

#[test]
fn a_hash_tells_states_apart() {
    let put = |tables: &[(Table, &str, &str)]| {
        let mut state = MemTables::default();
        for (table, key, row) in tables {
            state.put(*table, key.as_bytes(), row.as_bytes()).unwrap();
        }
        hash(&state).unwrap()
    };
    let states = [
        put(&[]),
        put(&[(Table::Keys, "a", "")]),
        put(&[(Table::Past, "a", "")]),
        put(&[(Table::Keys, "", "a")]),
        put(&[(Table::Keys, "a", "b")]),
        put(&[(Table::Keys, "ab", "")]),
        put(&[(Table::Keys, "a", ""), (Table::Keys, "b", "")]),
        put(&[(Table::Keys, "a", ""), (Table::Past, "b", "")]),
    ];
    for (at, state) in states.iter().enumerate() {
        assert!(!states[..at].contains(state), "{at}");
    }
}
