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

use super::{Told, Violation};

/// Most calls that are tried for one key; histories of a run take a few thousand.
const STEPS_MAX: u64 = 5_000_000;

/// What a call asks of one key. No value is written twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Reads it.
    Get,
    /// Writes it.
    Put(u64),
    /// Puts the second if the key holds the first.
    Swap(Option<u64>, u64),
    /// Deletes it.
    Delete,
}

/// What a call asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Of which key.
    pub key: u64,
    /// And what.
    pub op: Op,
}

/// What a call that was done answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// What a get saw.
    Saw(Option<u64>),
    /// The write was done.
    Wrote,
    /// A swap found something else.
    Differs,
}

/// One call.
pub type Call = super::Call<Asked, Answer>;

struct Shown(Option<u64>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked { key, op } = self;
        match op {
            Op::Get => write!(f, "get key {key}"),
            Op::Put(value) => write!(f, "put {value} in key {key}"),
            Op::Swap(expected, value) => {
                write!(f, "swap {} for {value} in key {key}", Shown(*expected))
            }
            Op::Delete => write!(f, "delete key {key}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Saw(value) => write!(f, "saw {}", Shown(*value)),
            Answer::Wrote => f.write_str("done"),
            Answer::Differs => f.write_str("differs"),
        }
    }
}

/// Checks all keys of a history.
pub fn check(calls: &[Call]) -> Result<(), Violation> {
    let mut keys: BTreeMap<u64, Vec<Call>> = BTreeMap::new();
    for call in calls {
        if may_matter(call) {
            keys.entry(call.asked.key).or_default().push(*call);
        }
    }
    keys.into_iter().try_for_each(|(key, calls)| check_key(key, &calls))
}

/// Calls that did nothing and said nothing explain nothing.
fn may_matter(call: &Call) -> bool {
    !matches!((call.asked.op, call.told), (_, Told::Not) | (Op::Get, Told::Unknown))
}

fn check_key(key: u64, calls: &[Call]) -> Result<(), Violation> {
    let seen = values_seen(calls);
    let needed: Vec<Call> = calls.iter().filter(|call| is_needed(call, &seen)).copied().collect();
    match Search::new(&needed).run(key) {
        Err(_) if needed.len() < calls.len() => Search::new(calls).run(key),
        found => found,
    }
}

/// The values that some client saw, or found when it swapped.
fn values_seen(calls: &[Call]) -> BTreeSet<u64> {
    let seen = calls.iter().filter_map(|call| match (call.asked.op, call.told) {
        (_, Told::Done(Answer::Saw(value))) => value,
        (Op::Swap(expected, _), Told::Done(Answer::Wrote)) => expected,
        _ => None,
    });
    seen.collect()
}

fn is_needed(call: &Call, seen: &BTreeSet<u64>) -> bool {
    match (call.told, call.asked.op) {
        (Told::Unknown, Op::Put(value) | Op::Swap(_, value)) => seen.contains(&value),
        _ => true,
    }
}

/// What a key holds after a call took effect; none if it can't have had this outcome.
fn step(value: Option<u64>, call: &Call) -> Option<Option<u64>> {
    use Answer::{Differs, Saw, Wrote};
    use Told::{Done, Unknown};
    match (call.asked.op, call.told) {
        (Op::Get, Done(Saw(saw))) => (saw == value).then_some(value),
        (Op::Put(put), Done(Wrote) | Unknown) => Some(Some(put)),
        (Op::Delete, Done(Wrote) | Unknown) => Some(None),
        (Op::Swap(expected, put), Done(Wrote) | Unknown) => {
            (expected == value).then_some(Some(put))
        }
        (Op::Swap(expected, _), Done(Differs)) => (expected != value).then_some(value),
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
    /// Where the search came farthest: how many calls had taken effect, what the key held, and
    /// which calls could not.
    farthest: Option<(usize, Option<u64>, Vec<Call>)>,
}

impl<'a> Search<'a> {
    fn new(calls: &'a [Call]) -> Self {
        let mut order: Vec<(u64, usize, bool)> = Vec::new();
        for (at, call) in calls.iter().enumerate() {
            order.push((call.began, at, false));
            if call.told != Told::Unknown {
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

    fn run(mut self, key: u64) -> Result<(), Violation> {
        let mut at = self.events[0].after;
        for _ in 0..STEPS_MAX {
            if self.left == 0 {
                return Ok(());
            }
            let event = self.events[at];
            if at == 0 || event.is_return {
                self.note_farthest();
                match self.take_back() {
                    Some(next) => at = next,
                    None => return Err(self.no_order(key)),
                }
            } else if self.take_effect(event.call) {
                at = self.events[0].after;
            } else {
                at = event.after;
            }
        }
        let calls = self.calls.len();
        let what = format!("key {key}: {calls} calls could not be ordered in {STEPS_MAX} steps");
        Err(Violation::new(what, [] as [Call; 0]))
    }

    fn no_order(&self, key: u64) -> Violation {
        let (value, open) = match &self.farthest {
            Some((_, value, open)) => (*value, open.as_slice()),
            None => (None, &[][..]),
        };
        let value = Shown(value);
        let what =
            format!("key {key} is not linearizable: it holds {value} and none of these fits");
        Violation::new(what, open)
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
    fn note_farthest(&mut self) {
        if self.farthest.as_ref().is_some_and(|(most, ..)| *most >= self.order.len()) {
            return;
        }
        let mut open = Vec::new();
        let mut at = self.events[0].after;
        while at != 0 && !self.events[at].is_return {
            open.push(self.calls[self.events[at].call]);
            at = self.events[at].after;
        }
        self.farthest = Some((self.order.len(), self.value, open));
    }
}

#[cfg(test)]
#[path = "linear_tests.rs"]
mod tests;
