//! Was there one order of all calls that explains what every client saw?
//!
//! The algorithm of Wing and Gong with Lowe's memo, a key at a time: linearizability is local. It
//! walks the events of a key in order and tries to let each open call take effect; a return whose
//! call took no effect sends it back. A set of calls done and the value they led to are tried
//! once.
//!
//! A call of unknown outcome may have taken effect at any moment after it began, or never. Many
//! of those make the search long, so those whose value nobody saw are left out at first: if there
//! is an order without them, there is one. If there is none, all are tried.
//!
//! What it refuses: to go on for ever. A key that takes more steps than [`STEPS_MAX`] is reported
//! as undecided, which is a failure of the run too.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;

use crate::history::{Call, Op, Outcome};

/// Most calls that are tried for one key; histories of a run take a few thousand.
const STEPS_MAX: u64 = 5_000_000;

/// Why a history is not accepted.
#[derive(Debug)]
pub(crate) enum Violation {
    /// No order explains the calls of a key. These are the ones that could not take effect where
    /// the search came farthest, and the value that the key had there.
    NoOrder { key: u8, value: Option<u64>, open: Vec<Call> },
    /// The search took too long.
    Undecided { key: u8, calls: usize },
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Violation::NoOrder { key, value, open } => {
                write!(
                    f,
                    "key {key} is not linearizable: it holds {value:?} and none of these fits"
                )?;
                open.iter().try_for_each(|call| write!(f, "\n    {call}"))
            }
            Violation::Undecided { key, calls } => {
                write!(f, "key {key}: {calls} calls could not be ordered in {STEPS_MAX} steps")
            }
        }
    }
}

/// Checks all keys of a history.
pub(crate) fn check(calls: &[Call]) -> Result<(), Violation> {
    let mut keys: BTreeMap<u8, Vec<Call>> = BTreeMap::new();
    for call in calls {
        if may_matter(call) {
            keys.entry(call.key).or_default().push(*call);
        }
    }
    keys.into_iter().try_for_each(|(key, calls)| check_key(key, &calls))
}

/// Calls that did nothing and said nothing explain nothing.
fn may_matter(call: &Call) -> bool {
    !matches!((call.op, call.outcome), (_, Outcome::Not) | (Op::Get, Outcome::Unknown))
}

fn check_key(key: u8, calls: &[Call]) -> Result<(), Violation> {
    let seen = values_seen(calls);
    let needed: Vec<Call> = calls.iter().filter(|call| is_needed(call, &seen)).copied().collect();
    match Search::new(&needed).run(key) {
        Err(_) if needed.len() < calls.len() => Search::new(calls).run(key),
        found => found,
    }
}

/// The values that some client saw, or found when it swapped.
fn values_seen(calls: &[Call]) -> BTreeSet<u64> {
    let seen = calls.iter().filter_map(|call| match (call.op, call.outcome) {
        (_, Outcome::Saw(value)) => value,
        (Op::Swap(expected, _), Outcome::Done) => expected,
        _ => None,
    });
    seen.collect()
}

fn is_needed(call: &Call, seen: &BTreeSet<u64>) -> bool {
    match (call.outcome, call.op) {
        (Outcome::Unknown, Op::Put(value) | Op::Swap(_, value)) => seen.contains(&value),
        _ => true,
    }
}

/// What a key holds after a call took effect; none if it can't have had this outcome.
fn step(value: Option<u64>, call: &Call) -> Option<Option<u64>> {
    match (call.op, call.outcome) {
        (Op::Get, Outcome::Saw(saw)) => (saw == value).then_some(value),
        (Op::Put(put), Outcome::Done | Outcome::Unknown) => Some(Some(put)),
        (Op::Delete, Outcome::Done | Outcome::Unknown) => Some(None),
        (Op::Swap(expected, put), Outcome::Done | Outcome::Unknown) => {
            (expected == value).then_some(Some(put))
        }
        (Op::Swap(expected, _), Outcome::Differs) => (expected != value).then_some(value),
        _ => None,
    }
}

/// A place in the list of events that have not been dealt with.
#[derive(Clone, Copy)]
struct Event {
    call: usize,
    is_return: bool,
    before: usize,
    after: usize,
}

/// The search through one key's calls. Events form a list, with the head at place 0, from which
/// a call that took effect is lifted together with its return.
struct Search<'a> {
    calls: &'a [Call],
    events: Vec<Event>,
    /// The places of each call's beginning and return; unknown ones do not return.
    places: Vec<(usize, Option<usize>)>,
    /// One bit a call: it took effect.
    done: Vec<u64>,
    value: Option<u64>,
    /// What took effect, in order, and what the key held before.
    order: Vec<(usize, Option<u64>)>,
    tried: HashSet<(Vec<u64>, Option<u64>)>,
    /// Calls that must take effect and did not yet.
    left: usize,
    farthest: Option<(usize, Violation)>,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [Call]) -> Self {
        let mut order: Vec<(u64, usize, bool)> = Vec::new();
        for (at, call) in calls.iter().enumerate() {
            order.push((call.began, at, false));
            if call.outcome != Outcome::Unknown {
                order.push((call.ended, at, true));
            }
        }
        order.sort_unstable();
        let head = Event { call: usize::MAX, is_return: true, before: 0, after: 1 };
        let mut events = vec![head];
        let mut places = vec![(0, None); calls.len()];
        for (_, call, is_return) in order {
            let at = events.len();
            events.push(Event { call, is_return, before: at - 1, after: at + 1 });
            if is_return { places[call].1 = Some(at) } else { places[call].0 = at }
        }
        // The list ends where it began.
        let last = events.len() - 1;
        events[last].after = 0;
        events[0].before = last;
        Search {
            left: places.iter().filter(|(_, returned)| returned.is_some()).count(),
            done: vec![0; calls.len().div_ceil(64)],
            calls,
            events,
            places,
            value: None,
            order: Vec::new(),
            tried: HashSet::new(),
            farthest: None,
        }
    }

    fn run(mut self, key: u8) -> Result<(), Violation> {
        let mut at = self.events[0].after;
        for _ in 0..STEPS_MAX {
            if self.left == 0 {
                return Ok(());
            }
            let event = self.events[at];
            if at == 0 || event.is_return {
                self.note_farthest(key);
                match self.take_back() {
                    Some(next) => at = next,
                    None => return self.farthest.map_or(Ok(()), |(_, violation)| Err(violation)),
                }
            } else if self.take_effect(event.call) {
                at = self.events[0].after;
            } else {
                at = event.after;
            }
        }
        Err(Violation::Undecided { key, calls: self.calls.len() })
    }

    /// Lets a call take effect, unless it can't or what follows was tried before.
    fn take_effect(&mut self, call: usize) -> bool {
        let Some(value) = step(self.value, &self.calls[call]) else { return false };
        self.done[call / 64] |= 1 << (call % 64);
        if !self.tried.insert((self.done.clone(), value)) {
            self.done[call / 64] &= !(1 << (call % 64));
            return false;
        }
        self.order.push((call, self.value));
        self.value = value;
        let (began, returned) = self.places[call];
        self.lift(began);
        if let Some(returned) = returned {
            self.lift(returned);
            self.left -= 1;
        }
        true
    }

    /// Takes the last call that took effect back. Answers where to go on.
    fn take_back(&mut self) -> Option<usize> {
        let (call, value) = self.order.pop()?;
        self.value = value;
        self.done[call / 64] &= !(1 << (call % 64));
        let (began, returned) = self.places[call];
        if let Some(returned) = returned {
            self.put_back(returned);
            self.left += 1;
        }
        self.put_back(began);
        Some(self.events[began].after)
    }

    fn lift(&mut self, at: usize) {
        let Event { before, after, .. } = self.events[at];
        self.events[before].after = after;
        self.events[after].before = before;
    }

    fn put_back(&mut self, at: usize) {
        let Event { before, after, .. } = self.events[at];
        self.events[before].after = at;
        self.events[after].before = at;
    }

    /// Remembers where the search came farthest, for the report.
    fn note_farthest(&mut self, key: u8) {
        if self.farthest.as_ref().is_some_and(|(most, _)| *most >= self.order.len()) {
            return;
        }
        let mut open = Vec::new();
        let mut at = self.events[0].after;
        while at != 0 && !self.events[at].is_return {
            open.push(self.calls[self.events[at].call]);
            at = self.events[at].after;
        }
        let violation = Violation::NoOrder { key, value: self.value, open };
        self.farthest = Some((self.order.len(), violation));
    }
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
