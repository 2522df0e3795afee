//! What random operations on a few small keys don't reach: many keys and large values.

use std::ops::Bound;

use aspen::error::Refusal;
use aspen::limits::*;
use aspen::machine::ops::*;
use aspen::machine::tables::{MemTables, Table};
use aspen::machine::{apply, history, query};
use aspen::types::{Key, LeaseId, Value};

use super::against_model::rows;
use super::dice::Dice;
use super::model::Model;

/// A machine and a model that do the same.
#[derive(Default)]
struct Both {
    tables: MemTables,
    model: Model,
    index: u64,
}

impl Both {
    fn apply(&mut self, action: Action) -> Outcome {
        self.index += 1;
        let command = Command { session: None, action };
        let outcome = apply(&mut self.tables, self.index, &command).unwrap().outcome;
        let (allowed, _) = self.model.apply(self.index, &command);
        assert!(allowed.contains(&outcome), "{command:?}: {outcome:?}, the model {allowed:?}");
        outcome
    }

    fn query(&self, asked: Query) -> Outcome {
        let outcome = query(&self.tables, &asked).unwrap();
        assert!(outcome == self.model.query(&asked), "{asked:?}");
        outcome
    }
}

fn key(number: u64) -> Key {
    Key::try_from(format!("key/{number:04}")).unwrap()
}

fn put(key: Key, len: usize) -> Action {
    Action::Put(Put::new(key, Value::new(vec![7; len]).unwrap()))
}

#[test]
fn many_keys_are_read_at_every_revision_and_in_every_order() {
    let mut both = Both::default();
    let mut dice = Dice::new(1);
    // Hundreds of versions of some keys, hundreds of keys with one or none: more than is read
    // ahead of a merge, on both sides of it.
    for number in 0..400 {
        both.apply(put(key(number), number as usize % 7)).unwrap();
    }
    for _ in 0..600 {
        let few = dice.once_in(2);
        let number = if few { 200 + dice.below(3) } else { dice.below(400) };
        both.apply(put(key(number), dice.below(7) as usize)).unwrap();
    }
    let some = KeyRange {
        start: Bound::Included(key(100).into_bytes()),
        end: Bound::Excluded(key(300).into_bytes()),
    };
    both.apply(Action::Delete(Delete { range: some.clone(), prev: true })).unwrap();
    for number in 150..250 {
        both.apply(put(key(number), 3)).unwrap();
    }
    let orders = [OrderBy::Key, OrderBy::Version, OrderBy::Create, OrderBy::Mod, OrderBy::Value];
    let last = both.model.revision();
    for revision in [1, 128, 129, 399, 400, 700, 999, 1_000, 1_001, 1_050, last] {
        for by in orders {
            for descending in [false, true] {
                for range in [KeyRange::all(), some.clone()] {
                    let order = Order { by, descending };
                    let asked = Range { revision: Some(revision), order, ..Range::of(range) };
                    both.query(Query::Range(Range { limit: Some(130), ..asked.clone() })).unwrap();
                    both.query(Query::Range(asked)).unwrap();
                }
            }
        }
    }
    // A client that reads page after page sees one moment, whatever happens meanwhile.
    let whole =
        both.query(Query::Range(Range { revision: Some(900), ..Range::of(KeyRange::all()) }));
    let mut pages = Vec::new();
    let mut start = Bound::Unbounded;
    loop {
        let range = KeyRange { start, end: Bound::Unbounded };
        let asked = Range { revision: Some(900), limit: Some(37), ..Range::of(range) };
        let Ok(Answer { body: AnswerBody::Range(page), .. }) = both.query(Query::Range(asked))
        else {
            panic!("no page");
        };
        pages.extend(page.records);
        if !page.more {
            break;
        }
        start = Bound::Excluded(pages.last().unwrap().key.clone().into_bytes());
        both.apply(put(key(dice.below(500)), 1)).unwrap();
    }
    let Ok(Answer { body: AnswerBody::Range(whole), .. }) = whole else { panic!("no answer") };
    assert_eq!(pages, whole.records);
}

#[test]
fn a_range_answers_no_more_records_than_the_limit() {
    let mut tables = MemTables::default();
    let many = RANGE_RECORDS_MAX as u64 + 1;
    for index in 1..=many {
        let command = Command { session: None, action: put(key(index), 0) };
        apply(&mut tables, index, &command).unwrap();
    }
    for by in [OrderBy::Key, OrderBy::Mod] {
        let order = Order { by, descending: true };
        let asked = Range { order, limit: Some(u64::MAX), ..Range::of(KeyRange::all()) };
        let answered = query(&tables, &Query::Range(asked)).unwrap();
        let Ok(Answer { body: AnswerBody::Range(page), .. }) = answered else { panic!("no page") };
        assert_eq!((page.records.len(), page.count, page.more), (RANGE_RECORDS_MAX, many, true));
    }
}

#[test]
fn history_is_cut_by_bytes_between_revisions() {
    let mut tables = MemTables::default();
    let large = VALUE_BYTES_MAX;
    for index in 1..=4 {
        let command = Command { session: None, action: put(key(index), large) };
        apply(&mut tables, index, &command).unwrap();
    }
    let page = history(&tables, 1, 9, &KeyRange::all(), usize::MAX).unwrap().unwrap();
    assert!(page.events.len() < 4 && page.next == page.events.len() as u64 + 1);
    let rest = history(&tables, page.next, 9, &KeyRange::all(), usize::MAX).unwrap().unwrap();
    assert_eq!(page.events.len() + rest.events.len(), 4);
}

#[test]
fn leases_that_hold_too_much_for_one_command_end_in_several() {
    let mut tables = MemTables::default();
    let mut index = 0;
    let mut applied = |action| {
        index += 1;
        apply(&mut tables, index, &Command { session: None, action }).unwrap()
    };
    // Each lease holds half of the bytes of keys that one command deletes.
    let long = |lease: u64, number: usize| {
        let mut bytes = vec![b'k'; KEY_BYTES_MAX - 16];
        bytes.extend(format!("{lease:08}{number:08}").bytes());
        Key::new(bytes).unwrap()
    };
    let each = DELETE_KEY_BYTES_MAX / KEY_BYTES_MAX / 2;
    assert!(each <= LEASE_KEYS_MAX as usize);
    let ids: Vec<LeaseId> = (1..=3).map(LeaseId).collect();
    for &id in &ids {
        applied(Action::LeaseGrant { id: Some(id), ttl_ms: 1_000 }).outcome.unwrap();
        for number in 0..each {
            let lease = PutLease::Attach(id);
            let put = Put { lease, ..Put::new(long(id.0, number), Value::default()) };
            applied(Action::Put(put)).outcome.unwrap();
        }
    }
    let first = applied(Action::LeaseExpire { ids: ids.clone() });
    assert_eq!((first.leases.ended.len(), first.events.len()), (2, 2 * each));
    let second = applied(Action::LeaseExpire { ids: ids.clone() });
    assert_eq!((second.leases.ended.len(), second.events.len()), (1, each));
    let refused = applied(Action::LeaseRevoke { id: ids[0] }).outcome;
    assert_eq!(refused, Err(Refusal::LeaseNotFound { id: ids[0] }));
}

#[test]
fn a_long_compaction_goes_step_by_step_and_leaves_nothing_behind() {
    let mut both = Both::default();
    // Each transaction changes so many keys that steps end within a revision.
    let many = 1_000;
    let write = |both: &mut Both, keys: std::ops::Range<u64>| {
        let puts = keys.map(|number| Op::Put(Put::new(key(number), Value::default())));
        both.apply(Action::Txn(Txn { then: puts.collect(), ..Txn::default() })).unwrap();
    };
    let delete = |both: &mut Both, from: u64, to: u64| {
        let range = KeyRange {
            start: Bound::Included(key(from).into_bytes()),
            end: Bound::Excluded(key(to).into_bytes()),
        };
        both.apply(Action::Delete(Delete { range, prev: false })).unwrap();
    };
    for round in 0..7 {
        write(&mut both, 0..many);
        delete(&mut both, round * 100, round * 100 + 250);
    }
    for revision in [both.model.revision() - 1, both.model.revision()] {
        let command = Command { session: None, action: Action::Compact { revision } };
        both.model.apply(0, &command);
        let mut action = Action::Compact { revision };
        let mut steps = 0;
        loop {
            both.index += 1;
            let command = Command { session: None, action };
            let applied = apply(&mut both.tables, both.index, &command).unwrap();
            let Ok(Answer { body: AnswerBody::Compacted { pending, .. }, .. }) = applied.outcome
            else {
                panic!("{applied:?}");
            };
            let at = Range { revision: Some(revision), ..Range::of(KeyRange::all()) };
            both.query(Query::Range(at)).unwrap();
            if !pending {
                break;
            }
            steps += 1;
            write(&mut both, steps..steps + 10);
            delete(&mut both, many - 10 * steps, many);
            action = Action::CompactStep;
        }
        let kept = both.model.kept_changes();
        assert_eq!(rows(&both.tables, Table::History).len(), kept, "after {steps} steps");
        let pointing =
            rows(&both.tables, Table::Keys).len() + rows(&both.tables, Table::Past).len();
        assert_eq!(pointing, kept, "after {steps} steps");
        assert_eq!(steps > 1, revision == 13, "the first takes many steps, the second one");
    }
}
