//! Is there one order of all transactions of a shard that explains what each of them read?
//!
//! Transactions append to lists and read them, in the way of Elle: a list shows in which order its
//! elements were appended, and so which transaction wrote, read or replaced what of another. With
//! the order in time and that of revisions these make a graph (`cycles`). If it has no cycle,
//! there is an order that explains everything: the transactions are strictly serializable. What
//! needs no graph is looked for before: elements that nobody appended, appended twice or only
//! tried to append; reads of half a transaction; orders of one list that can't both be.
//!
//! No value is appended to a key twice in a run. A transaction of unknown outcome counts as done
//! once anybody saw one of its elements, and otherwise not at all. Appends that nobody saw come
//! after all that were seen, in any order.
//!
//! Everything here takes about as long as the history is.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::cycles::{Cycle, Graph, Why};
use super::{Told, Violation};

/// One operation of a transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Appends to a list.
    Append {
        /// Which list.
        key: u64,
        /// What.
        value: u64,
    },
    /// Reads a list, as the operations before it left it.
    Read {
        /// Which list.
        key: u64,
    },
}

/// A transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked(pub Vec<Op>);

/// What a transaction answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What its reads saw, in their order.
    pub reads: Vec<Vec<u64>>,
    /// The shard's revision afterwards: its own if it appended.
    pub revision: u64,
}

/// One call.
pub type Call = super::Call<Asked, Answer>;

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, op) in self.0.iter().enumerate() {
            f.write_str(if at == 0 { "" } else { ", " })?;
            match op {
                Op::Append { key, value } => write!(f, "append {value} to {key}")?,
                Op::Read { key } => write!(f, "read {key}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at revision {}", self.revision)?;
        self.reads.iter().try_for_each(|list| write!(f, " {list:?}"))
    }
}

/// Checks a history of one shard's lists, which begin empty.
pub fn check(calls: &[Call]) -> Result<(), Violation> {
    let history = History::new(calls)?;
    history.look_at_elements()?;
    let orders = history.orders()?;
    match history.graph(&orders)?.worst() {
        None => Ok(()),
        Some(cycle) => Err(history.shown(&cycle)),
    }
}

/// What one transaction saw of a list before it did anything to it, and what it appended.
#[derive(Default)]
struct Part<'a> {
    saw: Option<&'a [u64]>,
    appended: Vec<u64>,
}

/// A transaction: what it did to each list.
type Parts<'a> = BTreeMap<u64, Part<'a>>;

/// The order of a list's elements, as far as anybody saw it, and who saw the most of it.
struct Order {
    elements: Vec<u64>,
    seen_by: usize,
}

struct History<'a> {
    calls: &'a [Call],
    parts: Vec<Parts<'a>>,
    /// Who appended what to which key.
    appended_by: HashMap<(u64, u64), usize>,
    /// Whether it took effect, as somebody was told or saw.
    is_done: Vec<bool>,
}

impl<'a> History<'a> {
    fn new(calls: &'a [Call]) -> Result<Self, Violation> {
        let mut appended_by = HashMap::new();
        for (at, call) in calls.iter().enumerate() {
            for op in &call.asked.0 {
                if let Op::Append { key, value } = *op
                    && let Some(other) = appended_by.insert((key, value), at)
                {
                    let what =
                        format!("{value} was to be appended to {key} twice: a faulty history");
                    return Err(Violation::new(what, [&calls[other], call]));
                }
            }
        }
        let parts = calls.iter().map(parts).collect::<Result<Vec<_>, _>>()?;
        let is_done = calls.iter().map(|call| call.answer().is_some()).collect();
        let mut history = History { calls, parts, appended_by, is_done };
        history.take_what_was_seen_as_done()?;
        Ok(history)
    }

    /// All that was seen of lists: by whom, of which key, and what.
    fn seen(&self) -> impl Iterator<Item = (usize, u64, &'a [u64])> {
        let parts = self.parts.iter().enumerate();
        parts.flat_map(|(at, parts)| {
            parts.iter().filter_map(move |(key, part)| Some((at, *key, part.saw?)))
        })
    }

    fn take_what_was_seen_as_done(&mut self) -> Result<(), Violation> {
        let mut is_done = std::mem::take(&mut self.is_done);
        for (at, key, list) in self.seen() {
            for value in list {
                let Some(&by) = self.appended_by.get(&(key, *value)) else {
                    let what = format!("{value} is in list {key}, and nobody appended it");
                    return Err(Violation::new(what, [&self.calls[at]]));
                };
                if self.calls[by].told == Told::Not {
                    let what = format!("G1a: {value} is in list {key}, and was not appended");
                    return Err(Violation::new(what, [&self.calls[by], &self.calls[at]]));
                }
                is_done[by] = true;
            }
        }
        self.is_done = is_done;
        Ok(())
    }

    /// Lists that have an element twice, or what somebody appended not as a whole.
    fn look_at_elements(&self) -> Result<(), Violation> {
        for (at, key, list) in self.seen() {
            let mut sorted = list.to_vec();
            sorted.sort_unstable();
            if let Some(twice) = sorted.windows(2).find(|pair| pair[0] == pair[1]) {
                let what = format!("{} is in list {key} twice", twice[0]);
                return Err(Violation::new(what, [&self.calls[at]]));
            }
            let Some(last) = list.last() else { continue };
            let by = self.appended_by[&(key, *last)];
            if by == at {
                let what = format!("list {key} had {last} before it was appended");
                return Err(Violation::new(what, [&self.calls[at]]));
            }
            if self.parts[by][&key].appended.last() != Some(last) {
                let what = format!("G1b: list {key} ended in the middle of a transaction");
                return Err(Violation::new(what, [&self.calls[by], &self.calls[at]]));
            }
            if let Some(by) = self.torn(key, list) {
                let what = format!("list {key} has what was appended together apart");
                return Err(Violation::new(what, [&self.calls[by], &self.calls[at]]));
            }
        }
        Ok(())
    }

    /// Whose appends are not all in a list one after another, though the last is.
    fn torn(&self, key: u64, list: &[u64]) -> Option<usize> {
        let mut before = None;
        list.iter().find_map(|value| {
            let by = self.appended_by[&(key, *value)];
            let all = &self.parts[by][&key].appended;
            let at = all.iter().position(|appended| appended == value)?;
            let follows = at == 0 || before == Some(all[at - 1]);
            before = Some(*value);
            (!follows).then_some(by)
        })
    }

    /// The order of each list's elements. What a transaction appended comes after what it saw.
    fn orders(&self) -> Result<BTreeMap<u64, Order>, Violation> {
        let mut orders: BTreeMap<u64, Order> = BTreeMap::new();
        for (seen_by, key, saw) in self.seen() {
            let elements = [saw, &self.parts[seen_by][&key].appended].concat();
            let order = Order { elements, seen_by };
            let Some(known) = orders.get_mut(&key) else {
                orders.insert(key, order);
                continue;
            };
            let (shorter, longer) = if known.elements.len() < order.elements.len() {
                (&*known, &order)
            } else {
                (&order, &*known)
            };
            if !longer.elements.starts_with(&shorter.elements) {
                return Err(self.incompatible(key, known, &order));
            }
            if known.elements.len() < order.elements.len() {
                *known = order;
            }
        }
        Ok(orders)
    }

    fn incompatible(&self, key: u64, one: &Order, other: &Order) -> Violation {
        let part = |order: &Order| &self.parts[order.seen_by][&key];
        let saw_the_same = part(one).saw == part(other).saw;
        let what = if saw_the_same {
            format!("a lost update: two transactions appended to the same list {key}")
        } else {
            format!("list {key} was seen in two orders that can't both be")
        };
        Violation::new(what, [one, other].map(|order| &self.calls[order.seen_by]))
    }

    fn graph(&self, orders: &BTreeMap<u64, Order>) -> Result<Graph, Violation> {
        let mut graph = Graph::new(self.calls.len());
        let beyond = self.order_writes(orders, &mut graph);
        for (reader, key, saw) in self.seen() {
            if let Some(last) = saw.last() {
                graph.edge(self.appended_by[&(key, *last)], reader, Why::WasRead(key));
            }
            let replaced_by = match orders[&key].elements.get(saw.len()) {
                Some(next) => Some(self.appended_by[&(key, *next)]),
                None => beyond.get(&key).copied(),
            };
            if let Some(replaced_by) = replaced_by.filter(|by| *by != reader) {
                graph.edge(reader, replaced_by, Why::WasReplaced(key));
            }
        }
        self.order_by_time(&mut graph);
        self.order_by_revision(&mut graph)?;
        Ok(graph)
    }

    /// Who wrote before whom. Answers, by key, the place after all that was seen and before the
    /// appends that nobody saw.
    fn order_writes(
        &self,
        orders: &BTreeMap<u64, Order>,
        graph: &mut Graph,
    ) -> HashMap<u64, usize> {
        let mut seen = HashSet::new();
        for (key, order) in orders {
            seen.extend(order.elements.iter().map(|value| (*key, *value)));
            for pair in order.elements.windows(2) {
                let [one, other] = [pair[0], pair[1]].map(|value| self.appended_by[&(*key, value)]);
                if one != other {
                    graph.edge(one, other, Why::Wrote(*key));
                }
            }
        }
        let mut beyond = HashMap::new();
        for (at, parts) in self.parts.iter().enumerate() {
            for (key, part) in parts.iter().filter(|_| self.is_done[at]) {
                if part.appended.last().is_none_or(|last| seen.contains(&(*key, *last))) {
                    continue;
                }
                let place = *beyond.entry(*key).or_insert_with(|| {
                    let place = graph.place();
                    if let Some(last) = orders.get(key).and_then(|order| order.elements.last()) {
                        graph.edge(self.appended_by[&(*key, *last)], place, Why::Wrote(*key));
                    }
                    place
                });
                graph.edge(place, at, Why::Wrote(*key));
            }
        }
        beyond
    }

    /// A chain of moments: who ended comes before the next, and who begins after the last.
    fn order_by_time(&self, graph: &mut Graph) {
        let mut events = Vec::new();
        for (at, call) in self.calls.iter().enumerate().filter(|(at, _)| self.is_done[*at]) {
            events.push((call.began, false, at));
            if call.answer().is_some() {
                events.push((call.ended, true, at));
            }
        }
        events.sort_unstable();
        let mut moment = None;
        for (_, is_end, at) in events {
            match (is_end, moment) {
                (true, last) => {
                    let place = graph.place();
                    graph.edge(at, place, Why::Time);
                    if let Some(last) = last {
                        graph.edge(last, place, Why::Time);
                    }
                    moment = Some(place);
                }
                (false, Some(last)) => graph.edge(last, at, Why::Time),
                (false, None) => {}
            }
        }
    }

    /// A chain of revisions: who wrote one comes before those that read at it, and all of them
    /// before the next.
    fn order_by_revision(&self, graph: &mut Graph) -> Result<(), Violation> {
        let mut at_revision: BTreeMap<u64, (Option<usize>, Vec<usize>)> = BTreeMap::new();
        for (at, call) in self.calls.iter().enumerate() {
            let Some(answer) = call.answer() else { continue };
            let (writer, readers) = at_revision.entry(answer.revision).or_default();
            if !call.asked.0.iter().any(|op| matches!(op, Op::Append { .. })) {
                readers.push(at);
            } else if let Some(other) = writer.replace(at) {
                let what = format!("two transactions have revision {}", answer.revision);
                return Err(Violation::new(what, [&self.calls[other], call]));
            }
        }
        let mut before = graph.place();
        for (writer, readers) in at_revision.into_values() {
            let (written, read) = (graph.place(), graph.place());
            graph.edge(before, written, Why::Revision);
            if let Some(at) = writer {
                graph.edge(before, at, Why::Revision);
                graph.edge(at, written, Why::Revision);
            }
            for at in readers {
                graph.edge(written, at, Why::Revision);
                graph.edge(at, read, Why::Revision);
            }
            graph.edge(written, read, Why::Revision);
            before = read;
        }
        Ok(())
    }

    fn shown(&self, cycle: &Cycle) -> Violation {
        let in_time = if cycle.in_time { " in time" } else { "" };
        let what = format!("no order explains these: {}{in_time}", cycle.anomaly);
        let lines = cycle.steps.iter().enumerate().map(|(at, (node, why))| {
            let next = (at + 1) % cycle.steps.len() + 1;
            format!("{}. {}; {why} {next}.", at + 1, self.calls[*node])
        });
        Violation::new(what, lines)
    }
}

/// What a transaction did to each list. What it read must be what it saw of a list at first, and
/// what it appended since.
fn parts(call: &Call) -> Result<Parts<'_>, Violation> {
    let mut parts = Parts::new();
    let mut reads = call.answer().map(|answer| answer.reads.iter());
    for op in &call.asked.0 {
        match *op {
            Op::Append { key, value } => parts.entry(key).or_default().appended.push(value),
            Op::Read { key } => {
                let Some(reads) = &mut reads else { continue };
                let broken = |what: &str| Violation::new(format!("{what} list {key}"), [call]);
                let list = reads.next().ok_or_else(|| broken("no answer to a read of"))?;
                let part = parts.entry(key).or_default();
                let saw = list.strip_suffix(part.appended.as_slice());
                let saw =
                    saw.ok_or_else(|| broken("a transaction does not see its own writes to"))?;
                if *part.saw.get_or_insert(saw) != saw {
                    return Err(broken("a transaction sees others' writes to"));
                }
            }
        }
    }
    Ok(parts)
}

#[cfg(test)]
#[path = "appends_tests.rs"]
mod tests;
