//! The judge of transactions against histories whose verdict is known, and against one that tries
//! every order.

use super::{Answer, Asked, Call, Op, check};
use crate::check::Told;
use crate::dice::Dice;

fn append(key: u64, value: u64) -> Op {
    Op::Append { key, value }
}

fn read(key: u64) -> Op {
    Op::Read { key }
}

fn told(reads: &[&[u64]]) -> Told<Answer> {
    let reads = reads.iter().map(|list| list.to_vec()).collect();
    Told::Done(Answer { reads, revision: 0 })
}

/// Transactions as moments, operations and what they were told. Revisions go up with the moments
/// at which they ended.
fn history(lines: &[(u64, u64, &[Op], Told<Answer>)]) -> Vec<Call> {
    let call = |(began, ended, ops, told): &(u64, u64, &[Op], Told<Answer>)| {
        let mut told = told.clone();
        if let Told::Done(answer) = &mut told {
            answer.revision = *ended;
        }
        let ended = if told == Told::Unknown { u64::MAX } else { *ended };
        Call { client: 0, asked: Asked(ops.to_vec()), began: *began, ended, told }
    };
    lines.iter().map(call).collect()
}

/// What is said of a history that can't be.
fn found(lines: &[(u64, u64, &[Op], Told<Answer>)]) -> String {
    check(&history(lines)).expect_err("it can't be").what
}

fn accepts(lines: &[(u64, u64, &[Op], Told<Answer>)]) {
    check(&history(lines)).unwrap_or_else(|violation| panic!("{violation}"));
}

#[test]
fn transactions_one_after_another_are_as_they_look() {
    accepts(&[
        (1, 2, &[append(1, 1), append(2, 1)], told(&[])),
        (3, 4, &[read(1), append(1, 2), read(1)], told(&[&[1], &[1, 2]])),
        (5, 6, &[read(1), read(2), read(3)], told(&[&[1, 2], &[1], &[]])),
    ]);
}

#[test]
fn elements_that_nobody_appended_or_twice_are_found() {
    let one: (_, _, &[Op], _) = (1, 2, &[append(1, 1)], told(&[]));
    let what = found(&[one.clone(), (3, 4, &[read(1)], told(&[&[1, 7]]))]);
    assert_eq!(what, "7 is in list 1, and nobody appended it");
    let what = found(&[one, (3, 4, &[read(1)], told(&[&[1, 1]]))]);
    assert_eq!(what, "1 is in list 1 twice");
}

#[test]
fn a_read_of_what_was_not_done_is_g1a() {
    let what = found(&[(1, 2, &[append(1, 1)], Told::Not), (3, 4, &[read(1)], told(&[&[1]]))]);
    assert_eq!(what, "G1a: 1 is in list 1, and was not appended");
}

#[test]
fn a_read_in_the_middle_of_a_transaction_is_g1b() {
    let what = found(&[
        (1, 9, &[append(1, 1), append(1, 2)], told(&[])),
        (3, 4, &[read(1)], told(&[&[1]])),
    ]);
    assert_eq!(what, "G1b: list 1 ended in the middle of a transaction");
}

#[test]
fn writes_in_a_circle_are_g0() {
    let what = found(&[
        (1, 9, &[append(1, 1), append(2, 1)], told(&[])),
        (1, 10, &[append(1, 2), append(2, 2)], told(&[])),
        (11, 12, &[read(1), read(2)], told(&[&[1, 2], &[2, 1]])),
    ]);
    assert_eq!(what, "no order explains these: G0 (writes in a circle)");
}

#[test]
fn information_in_a_circle_is_g1c() {
    let what = found(&[
        (1, 9, &[append(1, 1), read(2)], told(&[&[1]])),
        (1, 10, &[append(2, 1), read(1)], told(&[&[1]])),
    ]);
    assert_eq!(what, "no order explains these: G1c (information in a circle)");
}

#[test]
fn a_read_of_half_of_what_was_done_together_is_g_single() {
    let violation = check(&history(&[
        (1, 9, &[append(1, 1), append(2, 1)], told(&[])),
        (1, 10, &[read(1), read(2)], told(&[&[1], &[]])),
        (11, 12, &[read(2)], told(&[&[1]])),
    ]));
    let violation = violation.expect_err("it can't be");
    assert_eq!(violation.what, "no order explains these: G-single (a read that is too old)");
    assert_eq!(violation.shown_by.len(), 2, "{violation}");
}

#[test]
fn two_that_each_miss_the_other_are_g2() {
    let what = found(&[
        (1, 9, &[append(1, 1), read(2)], told(&[&[]])),
        (1, 10, &[append(2, 1), read(1)], told(&[&[]])),
    ]);
    assert_eq!(what, "no order explains these: G2 (reads that are too old)");
}

#[test]
fn two_that_replace_the_same_are_a_lost_update() {
    let what = found(&[
        (1, 9, &[read(1), append(1, 1)], told(&[&[]])),
        (1, 10, &[read(1), append(1, 2)], told(&[&[]])),
    ]);
    assert_eq!(what, "a lost update: two transactions appended to the same list 1");
}

#[test]
fn what_was_acknowledged_is_seen_afterwards() {
    let write: (_, _, &[Op], _) = (1, 2, &[append(1, 1)], told(&[]));
    let what = found(&[write.clone(), (3, 4, &[read(1)], told(&[&[]]))]);
    assert_eq!(what, "no order explains these: G-single (a read that is too old) in time");
    let during: (_, _, &[Op], _) = (0, 1, &[read(1)], told(&[&[]]));
    accepts(&[during, write]);
}

#[test]
fn a_transaction_agrees_with_itself() {
    let broken: [(&[Op], &[&[u64]]); 3] = [
        (&[append(1, 1), read(1)], &[&[]]),
        (&[read(1), read(1)], &[&[], &[2]]),
        (&[read(1), append(1, 1)], &[&[1]]),
    ];
    for (ops, reads) in broken {
        found(&[(1, 9, &[append(1, 2)], told(&[])), (2, 8, ops, told(reads))]);
    }
}

#[test]
fn an_unknown_transaction_is_done_as_a_whole_or_not_at_all() {
    let unknown: (_, _, &[Op], _) = (3, 0, &[append(1, 1), append(2, 1)], Told::Unknown);
    accepts(&[unknown.clone(), (4, 5, &[read(1), read(2)], told(&[&[], &[]]))]);
    accepts(&[
        unknown.clone(),
        (4, 5, &[read(1), read(2)], told(&[&[], &[]])),
        (6, 7, &[read(1), read(2)], told(&[&[1], &[1]])),
    ]);
    found(&[unknown.clone(), (4, 5, &[read(1), read(2)], told(&[&[1], &[]]))]);
    found(&[(1, 2, &[read(1)], told(&[&[1]])), unknown]);
}

#[test]
fn revisions_are_in_order() {
    let mut calls = history(&[
        (1, 5, &[append(1, 1)], told(&[])),
        (2, 6, &[read(1), append(1, 2)], told(&[&[1]])),
    ]);
    assert!(check(&calls).is_ok());
    let set = |call: &mut Call, to| {
        if let Told::Done(answer) = &mut call.told {
            answer.revision = to;
        }
    };
    set(&mut calls[0], 7);
    let what = check(&calls).expect_err("a later revision is before").what;
    assert_eq!(what, "no order explains these: G0 (writes in a circle) in time");
    set(&mut calls[0], 6);
    assert_eq!(check(&calls).expect_err("one of two").what, "two transactions have revision 6");
}

/// The lists of a naive store.
type Lists = std::collections::BTreeMap<u64, Vec<u64>>;

/// Does a transaction; answers what it reads.
fn apply(lists: &mut Lists, ops: &[Op]) -> Vec<Vec<u64>> {
    let mut reads = Vec::new();
    for op in ops {
        match *op {
            Op::Append { key, value } => lists.entry(key).or_default().push(value),
            Op::Read { key } => reads.push(lists.get(&key).cloned().unwrap_or_default()),
        }
    }
    reads
}

fn writes(call: &Call) -> bool {
    call.asked.0.iter().any(|op| matches!(op, Op::Append { .. }))
}

/// Tries every order of every choice of unknown transactions.
fn is_explained(calls: &[Call], done: &mut Vec<usize>, lists: &Lists, revision: u64) -> bool {
    let left: Vec<usize> = (0..calls.len()).filter(|at| !done.contains(at)).collect();
    if left.iter().all(|at| calls[*at].answer().is_none()) {
        return true;
    }
    let is_next = |at: &usize| {
        let is_before = |other: &usize| calls[*other].ended < calls[*at].began;
        calls[*at].told != Told::Not
            && !left.iter().any(|other| calls[*other].answer().is_some() && is_before(other))
    };
    left.iter().filter(|at| is_next(at)).any(|at| {
        let call = &calls[*at];
        let mut lists = lists.clone();
        let reads = apply(&mut lists, &call.asked.0);
        let revision = match call.answer() {
            None => revision,
            Some(answer) => {
                let least = revision + u64::from(writes(call));
                if answer.reads != reads || answer.revision < least {
                    return false;
                }
                answer.revision
            }
        };
        done.push(*at);
        let is_explained = is_explained(calls, done, &lists, revision);
        done.pop();
        is_explained
    })
}

/// A few transactions that were done in some order, each at some moment between its beginning and
/// its end; and then, perhaps, something that may not fit.
fn any_history(dice: &Dice) -> Vec<Call> {
    let count = 2 + dice.below(4);
    let (mut lists, mut revision) = (Lists::new(), 0);
    let mut calls = Vec::new();
    for at in 0..count {
        let op = |value| {
            let key = dice.below(2);
            if dice.percent(50) { read(key) } else { append(key, 10 * at + value) }
        };
        let ops: Vec<Op> = (0..1 + dice.below(3)).map(op).collect();
        let began = (10 * at).saturating_sub(dice.below(20));
        let ended = 10 * at + 1 + dice.below(20);
        let mut call = Call { client: 0, asked: Asked(ops), began, ended, told: Told::Not };
        match dice.below(10) {
            0 => {}
            1 => (call.told, call.ended) = (Told::Unknown, u64::MAX),
            kind => {
                let reads = apply(&mut lists, &call.asked.0);
                revision += u64::from(writes(&call));
                call.told = Told::Done(Answer { reads, revision });
                if kind == 2 {
                    (call.told, call.ended) = (Told::Unknown, u64::MAX);
                }
            }
        }
        calls.push(call);
    }
    if dice.percent(60) {
        spoil(&mut calls, dice);
    }
    calls.sort_by_key(|call| call.began);
    calls
}

fn spoil(calls: &mut [Call], dice: &Dice) {
    let at = dice.below(calls.len() as u64) as usize;
    let Told::Done(answer) = &mut calls[at].told else { return };
    let reads = answer.reads.len() as u64;
    match dice.below(4) {
        0 if reads > 0 => drop(answer.reads[dice.below(reads) as usize].pop()),
        1 if reads > 0 => answer.reads[dice.below(reads) as usize].reverse(),
        2 => answer.revision = 1 + dice.below(6),
        _ => calls[at].began = calls[at].ended - 1,
    }
}

#[test]
fn the_judge_agrees_with_trying_every_order() {
    let mut verdicts = [0, 0];
    for seed in 0..20_000 {
        let calls = any_history(&Dice::of(seed, 0));
        let expected = is_explained(&calls, &mut Vec::new(), &Lists::new(), 0);
        let verdict = check(&calls);
        assert_eq!(verdict.is_ok(), expected, "seed {seed}: {verdict:?} of {calls:#?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 1_000), "{verdicts:?}");
}

/// As many as a long run has, by ten clients at once.
#[test]
fn a_hundred_thousand_transactions_are_judged_in_seconds() {
    let dice = Dice::of(1, 0);
    let (mut lists, mut calls) = (Lists::new(), Vec::new());
    for at in 0..100_000 {
        let ops: Vec<Op> = (0..1 + dice.below(5))
            .map(|value| {
                let key = at / 100 + dice.below(4);
                if dice.percent(50) { read(key) } else { append(key, 10 * at + value) }
            })
            .collect();
        let reads = apply(&mut lists, &ops);
        let (began, ended) = (at + 10 - dice.below(10), at + 11 + dice.below(10));
        let told = Told::Done(Answer { reads, revision: at });
        calls.push(Call { client: 0, asked: Asked(ops), began, ended, told });
    }
    check(&calls).unwrap_or_else(|violation| panic!("{violation}"));
    // The same with one old read in the middle.
    let mut old = calls[50_000].clone();
    (old.began, old.ended) = (60_000, 60_001);
    old.asked.0.retain(|op| matches!(op, Op::Read { .. }));
    calls.push(old);
    assert!(check(&calls).is_err());
}
