//! The checker against histories whose verdict is known, and against one that tries every order.

use aspen::seams::Random;

use super::{Answer, Asked, Call, Op, check, step};
use crate::check::Told;

type Outcome = Told<Answer>;

/// A history, one call a line: `began-ended op → outcome`, with `?` for the end of a call whose
/// outcome is unknown.
fn history(lines: &[(&str, Op, Outcome)]) -> Vec<Call> {
    let parse = |(times, op, outcome): &(&str, Op, Outcome)| {
        let (began, ended) = times.split_once('-').expect("two times");
        let time = |text: &str| text.parse().unwrap_or(u64::MAX);
        let (began, ended) = (time(began), time(ended));
        let asked = Asked { key: 0, op: *op };
        Call { client: 0, asked, began, ended, told: *outcome }
    };
    lines.iter().map(parse).collect()
}

fn accepts(lines: &[(&str, Op, Outcome)]) -> bool {
    check(&history(lines)).is_ok()
}

use Op::{Delete, Get, Put, Swap};
use Told::{Not, Unknown};

#[expect(non_upper_case_globals, reason = "histories read as they are printed")]
const Done: Outcome = Told::Done(Answer::Wrote);
#[expect(non_upper_case_globals, reason = "histories read as they are printed")]
const Differs: Outcome = Told::Done(Answer::Differs);

#[expect(non_snake_case, reason = "histories read as they are printed")]
fn Saw(value: Option<u64>) -> Outcome {
    Told::Done(Answer::Saw(value))
}

#[test]
fn calls_one_after_another_are_as_they_look() {
    assert!(accepts(&[("1-2", Put(1), Done), ("3-4", Get, Saw(Some(1)))]));
    assert!(accepts(&[("1-2", Put(1), Done), ("3-4", Delete, Done), ("5-6", Get, Saw(None))]));
    assert!(accepts(&[("1-2", Swap(None, 1), Done), ("3-4", Swap(None, 2), Differs)]));
}

#[test]
fn a_stale_read_is_found() {
    assert!(!accepts(&[("1-2", Put(1), Done), ("3-4", Put(2), Done), ("5-6", Get, Saw(Some(1))),]));
    assert!(!accepts(&[("1-2", Put(1), Done), ("3-4", Get, Saw(None))]));
}

#[test]
fn calls_that_overlap_may_come_in_either_order() {
    let writes = [("1-5", Put(1), Done), ("2-6", Put(2), Done)];
    for saw in [1, 2] {
        let mut all = writes.to_vec();
        all.push(("7-8", Get, Saw(Some(saw))));
        assert!(accepts(&all));
        // But in one order for all.
        all.push(("9-10", Get, Saw(Some(3 - saw))));
        assert!(!accepts(&all));
    }
}

#[test]
fn a_read_during_a_write_may_see_it_and_then_everyone_must() {
    let write = ("1-10", Put(1), Done);
    assert!(accepts(&[write, ("2-3", Get, Saw(None)), ("4-5", Get, Saw(Some(1)))]));
    assert!(!accepts(&[write, ("2-3", Get, Saw(Some(1))), ("4-5", Get, Saw(None))]));
}

#[test]
fn an_unknown_write_may_come_late_or_never_but_not_early_or_twice() {
    let write = ("3-?", Put(1), Unknown);
    assert!(accepts(&[write, ("5-6", Get, Saw(None))]));
    assert!(accepts(&[write, ("5-6", Get, Saw(None)), ("7-8", Get, Saw(Some(1)))]));
    assert!(!accepts(&[("1-2", Get, Saw(Some(1))), write]));
    assert!(!accepts(&[
        write,
        ("4-5", Get, Saw(Some(1))),
        ("6-7", Put(2), Done),
        ("8-9", Get, Saw(Some(1))),
    ]));
}

#[test]
fn an_unknown_write_that_nobody_read_may_be_why_a_swap_differs() {
    assert!(accepts(&[
        ("1-2", Put(1), Done),
        ("3-?", Put(2), Unknown),
        ("4-5", Swap(Some(1), 3), Differs),
    ]));
    assert!(!accepts(&[("1-2", Put(1), Done), ("4-5", Swap(Some(1), 3), Differs)]));
}

#[test]
fn a_write_that_was_not_done_is_not_seen() {
    assert!(accepts(&[("1-2", Put(1), Not), ("3-4", Get, Saw(None))]));
    assert!(!accepts(&[("1-2", Put(1), Not), ("3-4", Get, Saw(Some(1)))]));
}

#[test]
fn a_write_that_was_applied_twice_is_found() {
    assert!(!accepts(&[
        ("1-20", Put(1), Done),
        ("2-3", Get, Saw(Some(1))),
        ("4-5", Put(2), Done),
        ("6-7", Get, Saw(Some(2))),
        ("8-9", Get, Saw(Some(1))),
    ]));
    // A swap that was done, and whose retry was answered as if it had not been.
    assert!(!accepts(&[("1-9", Swap(None, 1), Differs), ("2-3", Get, Saw(Some(1)))]));
}

#[test]
fn keys_are_judged_each_for_itself() {
    let mut calls = history(&[("1-2", Put(1), Done), ("3-4", Get, Saw(None))]);
    calls[1].asked.key = 1;
    assert!(check(&calls).is_ok());
}

#[test]
fn the_report_names_what_did_not_fit() {
    let calls = history(&[("1-2", Put(1), Done), ("3-4", Get, Saw(Some(7)))]);
    let violation = check(&calls).expect_err("nobody wrote 7");
    assert_eq!(violation.what, "key 0 is not linearizable: it holds 1 and none of these fits");
    assert_eq!(violation.shown_by, ["[3, 4] client 0: get key 0 → saw 7"]);
}

/// Tries every order of every choice of unknown calls.
fn is_linearizable(calls: &[Call], done: &mut Vec<usize>, value: Option<u64>) -> bool {
    let open = |at: &usize| !done.contains(at);
    let left: Vec<usize> = (0..calls.len()).filter(open).collect();
    if left.iter().all(|at| calls[*at].told == Unknown) {
        return true;
    }
    let must_wait = |at: usize| {
        let earlier =
            |other: &usize| calls[*other].told != Unknown && calls[*other].ended < calls[at].began;
        left.iter().any(earlier)
    };
    for at in left.iter().copied().filter(|at| !must_wait(*at)) {
        if let Some(value) = step(value, &calls[at]) {
            done.push(at);
            let found = is_linearizable(calls, done, value);
            done.pop();
            if found {
                return true;
            }
        }
    }
    false
}

/// A few calls that overlap at random, with outcomes that may or may not fit.
fn any_history(random: &Random) -> Vec<Call> {
    let below = |bound: u64| random.next_u64() % bound;
    let count = 2 + below(5);
    let mut times: Vec<u64> = (0..2 * count).collect();
    for at in (1..times.len()).rev() {
        times.swap(at, below(at as u64 + 1) as usize);
    }
    let value = || [None, Some(below(count))][usize::from(below(4) > 0)];
    let call = |at: usize| {
        let (a, b) = (times[2 * at], times[2 * at + 1]);
        let op = match below(4) {
            0 => Put(at as u64),
            1 => Swap(value(), at as u64),
            2 if below(3) == 0 => Delete,
            _ => Get,
        };
        let outcome = match op {
            Get => Saw(value()),
            _ if below(4) == 0 => Unknown,
            Swap(..) if below(2) == 0 => Differs,
            _ => Done,
        };
        let asked = Asked { key: 0, op };
        Call { client: 0, asked, began: a.min(b), ended: a.max(b), told: outcome }
    };
    (0..count as usize).map(call).collect()
}

#[test]
fn the_checker_agrees_with_trying_every_order() {
    let mut verdicts = [0, 0];
    for seed in 0..20_000 {
        let calls = any_history(&Random::from_seed(seed));
        let expected = is_linearizable(&calls, &mut Vec::new(), None);
        assert_eq!(check(&calls).is_ok(), expected, "seed {seed}: {calls:#?}");
        verdicts[usize::from(expected)] += 1;
    }
    assert!(verdicts.iter().all(|count| *count > 1_000), "{verdicts:?}");
}
