//! Damaged rows: a table error or an answer, never a panic.
//!
//! Pages of a state file have checksums, so what is tried here should not happen; if it does, a
//! replica stops with the damage named and is taken anew from its peers.

use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use aspen::machine::ops::KeyRange;
use aspen::machine::tables::{MemTables, Table, WriteTables};
use aspen::machine::{apply, hash, history, query, record_before};

use super::against_model::rows;
use super::dice::Dice;
use super::generate::{self, Generator};
use super::model::Model;

/// Changes one row: its key or its content, cut, extended, with a byte changed, or all random.
fn damage(dice: &mut Dice, tables: &mut MemTables) {
    let table = *dice.pick(&Table::ALL);
    let all = rows(tables, table);
    let (mut key, mut row) = match all.is_empty() {
        true => (dice.bytes(24), dice.bytes(24)),
        false => dice.pick(&all).clone(),
    };
    if dice.once_in(2) {
        tables.delete(table, &key).unwrap();
    }
    let bytes = if dice.once_in(3) { &mut key } else { &mut row };
    match dice.below(6) {
        0 => *bytes = dice.bytes(24),
        1 => bytes.truncate(dice.below(bytes.len() as u64 + 1) as usize),
        2 => bytes.extend(dice.bytes(12)),
        3 => bytes.fill(0xff),
        _ if bytes.is_empty() => bytes.push(dice.next() as u8),
        _ => {
            let at = dice.below(bytes.len() as u64) as usize;
            bytes[at] = if dice.once_in(2) { dice.next() as u8 } else { bytes[at] ^ 1 };
        }
    }
    tables.put(table, &key, &row).unwrap();
}

#[test]
fn damaged_rows_are_errors_and_never_panics() {
    let (mut errors, mut answers) = (0u64, 0u64);
    for seed in 0..1_500 {
        let mut step = 0;
        let ran = catch_unwind(AssertUnwindSafe(|| {
            let mut dice = Dice::new(seed);
            let (mut tables, mut model) = (MemTables::default(), Model::default());
            let mut generator = Generator::default();
            for index in 1..=40 {
                let command = generator.command(&mut dice, &model);
                apply(&mut tables, index, &command).unwrap();
                model.apply(index, &command);
            }
            for _ in 0..1 + dice.below(4) {
                damage(&mut dice, &mut tables);
            }
            for index in 41..=70 {
                step = index;
                let mut tried = tables.clone();
                let command = generator.command(&mut dice, &model);
                match apply(&mut tried, index, &command) {
                    Ok(_) => {
                        answers += 1;
                        tables = tried;
                    }
                    Err(error) => {
                        assert!(error.corrupt, "{error}");
                        errors += 1;
                    }
                }
                let _ = query(&tables, &generate::query(&mut dice, &model));
                let _ = history(&tables, dice.below(40), dice.below(60), &dice.range(), 5);
                let _ = record_before(&tables, &dice.key(), dice.below(40));
            }
            let all = KeyRange { start: Bound::Unbounded, end: Bound::Unbounded };
            let _ = history(&tables, 0, u64::MAX, &all, usize::MAX);
            hash(&tables).unwrap();
        }));
        assert!(ran.is_ok(), "seed {seed} panics at step {step}");
    }
    // Both happen: damage is noticed, and does not take what it does not touch.
    assert!(errors > 1_000 && answers > 1_000, "{errors} errors, {answers} answers");
}
