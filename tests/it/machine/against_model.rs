//! Random commands on the machine and on the naive model: after each, the outcome, the events,
//! the lease changes, a few queries and a piece of history must be the same.
//!
//! `ASPEN_MODEL_SEEDS` is how many seeds are run; `ASPEN_MODEL_SEED` runs one.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::panic::{AssertUnwindSafe, catch_unwind};

use aspen::error::Refusal;
use aspen::machine::ops::*;
use aspen::machine::tables::{MemTables, ReadTables, Table};
use aspen::machine::{LeaseChanges, apply, history, query, record_before};
use aspen::types::LeaseId;

use super::dice::Dice;
use super::generate::{self, Generator};
use super::model::Model;

const SEEDS: u64 = 1_000;
const STEPS: u64 = 200;

/// What the steps of all seeds came to, by name: the test is only as good as what it reaches.
type Reached = BTreeMap<String, u64>;

/// What a full run must come to often.
const REACHED: [&str; 25] = [
    "Done",
    "Session",
    "Put",
    "Deleted",
    "Record",
    "Range",
    "Txn succeeded",
    "Txn failed",
    "Lease",
    "Leases",
    "LeaseInfo",
    "Claim",
    "Compacted",
    "Status",
    "refused FutureRevision",
    "refused Compacted",
    "refused LeaseNotFound",
    "refused LeaseExists",
    "refused KeyNotFound",
    "refused NotHolder",
    "refused SessionExpired",
    "refused SessionFull",
    "repeated",
    "repeated and forgotten",
    "history Compacted",
];

#[test]
fn the_machine_does_what_the_model_does() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seeds = match number("ASPEN_MODEL_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ASPEN_MODEL_SEEDS").unwrap_or(SEEDS),
    };
    let mut reached = Reached::new();
    let full = seeds.end - seeds.start >= SEEDS;
    for seed in seeds {
        let mut step = 0;
        let ran = catch_unwind(AssertUnwindSafe(|| run(seed, &mut step, &mut reached)));
        let wrong = match ran {
            Ok(Ok(())) => continue,
            Ok(Err(wrong)) => wrong,
            Err(panic) => {
                let text = panic.downcast_ref::<String>().cloned();
                text.unwrap_or_else(|| "a panic".into())
            }
        };
        panic!("ASPEN_MODEL_SEED={seed} reproduces it, at step {step}: {wrong}");
    }
    for name in REACHED.into_iter().filter(|_| full) {
        let times = reached.get(name).copied().unwrap_or(0);
        assert!(times >= 100, "{name} was reached {times} times only: {reached:#?}");
    }
}

fn reach(reached: &mut Reached, name: impl Into<String>) {
    *reached.entry(name.into()).or_default() += 1;
}

fn reach_outcome(reached: &mut Reached, outcome: &Outcome) {
    let word =
        |debug: String| debug.split(|c: char| !c.is_alphanumeric()).next().unwrap().to_owned();
    let name = match outcome {
        Ok(Answer { body: AnswerBody::Txn { succeeded: true, .. }, .. }) => "Txn succeeded".into(),
        Ok(Answer { body: AnswerBody::Txn { succeeded: false, .. }, .. }) => "Txn failed".into(),
        Ok(Answer { body, .. }) => word(format!("{body:?}")),
        Err(refusal) => format!("refused {}", word(format!("{refusal:?}"))),
    };
    reach(reached, name);
}

/// Fails with what differs.
fn same<A: PartialEq + std::fmt::Debug>(
    of: &dyn std::fmt::Debug,
    machine: A,
    model: A,
) -> Result<(), String> {
    if machine == model {
        return Ok(());
    }
    Err(format!("{of:?}: the machine says {machine:?}, the model {model:?}"))
}

fn run(seed: u64, step: &mut u64, reached: &mut Reached) -> Result<(), String> {
    let mut dice = Dice::new(seed);
    let mut tables = MemTables::default();
    let mut model = Model::default();
    let mut generator = Generator::default();
    for index in 1..=STEPS {
        *step = index;
        let command = generator.command(&mut dice, &model);
        let leases_before: Vec<LeaseId> = model.leases.keys().copied().collect();
        let applied = apply(&mut tables, index, &command).map_err(|error| error.to_string())?;
        let (allowed, events) = model.apply(index, &command);
        if !allowed.contains(&applied.outcome) {
            return Err(format!(
                "{command:?}: the machine says {:?}, the model {allowed:?}",
                applied.outcome
            ));
        }
        reach_outcome(reached, &applied.outcome);
        match (allowed.len(), applied.outcome) {
            (1, _) if model.was_repeated => reach(reached, "repeated"),
            (2, Err(Refusal::AnswerAcknowledged)) => reach(reached, "repeated and forgotten"),
            _ => {}
        }
        same(&command, applied.events, events)?;
        same(&command, ordered(applied.leases), lease_changes(&leases_before, &model))?;
        for _ in 0..3 {
            let asked = generate::query(&mut dice, &model);
            let answered = query(&tables, &asked).map_err(|error| error.to_string())?;
            reach_outcome(reached, &answered);
            same(&asked, answered, model.query(&asked))?;
        }
        check_history(&mut dice, &tables, &model, reached)?;
    }
    check_rows(&tables, &model)
}

fn ordered(mut changes: LeaseChanges) -> LeaseChanges {
    changes.ended.sort();
    changes
}

fn lease_changes(before: &[LeaseId], model: &Model) -> LeaseChanges {
    let granted = model.leases.iter().filter(|(id, _)| !before.contains(id));
    LeaseChanges {
        granted: granted.map(|(id, ttl_ms)| (*id, *ttl_ms)).collect(),
        ended: before.iter().filter(|id| !model.leases.contains_key(id)).copied().collect(),
    }
}

/// A watcher that is behind reads pages of random size until it has caught up.
fn check_history(
    dice: &mut Dice,
    tables: &MemTables,
    model: &Model,
    reached: &mut Reached,
) -> Result<(), String> {
    let from = dice.below(model.revision() + 3);
    let to = dice.below(model.revision() + 3);
    let range = dice.range();
    let mut read = Vec::new();
    let mut next = from;
    loop {
        let page = history(tables, next, to, &range, 1 + dice.below(4) as usize);
        match page.map_err(|error| error.to_string())? {
            Err(refusal) => {
                reach(reached, "history Compacted");
                return same(&("history", from, to), Err(refusal), model.history(from, to, &range));
            }
            Ok(page) => {
                if let Some(last) = page.events.last() {
                    let whole = last.revision < page.next;
                    same(&("a page ends between revisions", from, to), whole, true)?;
                }
                read.extend(page.events);
                if page.next <= next || page.next > to {
                    break;
                }
                next = page.next;
            }
        }
    }
    for event in read.iter().take(3) {
        let before = record_before(tables, &event.key, event.revision);
        let before = before.map_err(|error| error.to_string())?;
        same(&("before", event), before, model.record_before(&event.key, event.revision))?;
    }
    same(&("history", from, to, &range), Ok(read), model.history(from, to, &range))
}

pub(crate) fn rows(tables: &MemTables, table: Table) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut visit = |key: &[u8], row: &[u8]| {
        rows.push((key.to_vec(), row.to_vec()));
        Ok(ControlFlow::Continue(()))
    };
    tables.scan(table, Bound::Unbounded, Bound::Unbounded, false, &mut visit).unwrap();
    rows
}

/// No row is lost and none is left behind: every change that is kept is pointed to once.
fn check_rows(tables: &MemTables, model: &Model) -> Result<(), String> {
    let many = |table| rows(tables, table).len();
    same(&"rows of history", many(Table::History), model.kept_changes())?;
    same(&"rows that point there", many(Table::Keys) + many(Table::Past), model.kept_changes())?;
    same(&"rows of keys", many(Table::Keys), model.state().len())?;
    let attached = model.state().values().filter(|record| record.lease.is_some()).count();
    same(&"rows of leases' keys", many(Table::LeaseKeys), attached)?;
    same(&"rows of leases", many(Table::Leases), model.leases.len())?;
    same(&"rows of sessions", many(Table::Sessions), 2 * model.open_sessions().count())?;

    let mut tables = tables.clone();
    let revision = model.revision();
    let all = Command { session: None, action: Action::Compact { revision } };
    apply(&mut tables, STEPS + 1, &all).map_err(|error| error.to_string())?;
    same(&"earlier versions after compaction", rows(&tables, Table::Past).len(), 0)?;
    same(&"changes after compaction", rows(&tables, Table::History).len(), model.state().len())
}
