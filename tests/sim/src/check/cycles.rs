//! Transactions that depend on each other in a circle: what no order of them explains.
//!
//! A graph whose nodes are transactions, and places that only stand for moments between them. An
//! edge says that one comes before another, and why. If the graph has no cycle, any order that
//! follows the edges explains all of them. If it has, the worst kind is named as Adya does: the
//! fewer kinds of edges it takes, the worse.

use std::collections::{HashMap, VecDeque};
use std::fmt;

/// Most edges that are looked at in search of a cycle with only one read that is too old; past it
/// one with several is shown.
const LOOKS_MAX: usize = 50_000_000;
/// How many transactions of a circle are asked for their shortest way back.
const STARTS_MAX: usize = 64;

/// Why one comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// It wrote what the other wrote after it, in this key.
    Wrote(u64),
    /// It wrote what the other read of this key.
    WasRead(u64),
    /// It read of this key what the other replaced.
    WasReplaced(u64),
    /// It had ended when the other began.
    Time,
    /// Its revision is smaller.
    Revision,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Wrote(key) => write!(f, "wrote key {key} before"),
            Why::WasRead(key) => write!(f, "wrote what is read of key {key} by"),
            Why::WasReplaced(key) => write!(f, "read of key {key} what is replaced by"),
            Why::Time => f.write_str("ended before the beginning of"),
            Why::Revision => f.write_str("has an earlier revision than"),
        }
    }
}

/// What a cycle is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anomaly {
    /// Writes that come before each other.
    G0,
    /// Information that flows in a circle.
    G1c,
    /// One reads what the other replaces, and must come after it.
    GSingle,
    /// Several read what others replace.
    G2,
}

impl fmt::Display for Anomaly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Anomaly::G0 => "G0 (writes in a circle)",
            Anomaly::G1c => "G1c (information in a circle)",
            Anomaly::GSingle => "G-single (a read that is too old)",
            Anomaly::G2 => "G2 (reads that are too old)",
        })
    }
}

/// A cycle: its transactions, each with why it comes before the next, the last before the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Cycle {
    /// What it is called.
    pub(super) anomaly: Anomaly,
    /// It takes the order in time or that of revisions to see it.
    pub(super) in_time: bool,
    /// Transactions by their nodes.
    pub(super) steps: Vec<(usize, Why)>,
}

/// Which edges count.
#[derive(Clone, Copy)]
struct Allowed {
    was_read: bool,
    was_replaced: bool,
    time: bool,
}

impl Allowed {
    fn has(self, why: Why) -> bool {
        match why {
            Why::Wrote(_) => true,
            Why::WasRead(_) => self.was_read,
            Why::WasReplaced(_) => self.was_replaced,
            Why::Time | Why::Revision => self.time,
        }
    }
}

/// Transactions and what comes before what.
pub(super) struct Graph {
    transactions: usize,
    after: Vec<Vec<(usize, Why)>>,
}

impl Graph {
    /// A graph of so many transactions, which are its first nodes.
    pub(super) fn new(transactions: usize) -> Self {
        Graph { transactions, after: vec![Vec::new(); transactions] }
    }

    /// A place between transactions.
    pub(super) fn place(&mut self) -> usize {
        self.after.push(Vec::new());
        self.after.len() - 1
    }

    /// One node comes before another.
    pub(super) fn edge(&mut self, before: usize, after: usize, why: Why) {
        self.after[before].push((after, why));
    }

    /// The worst cycle there is, by its kind, and a short one of it.
    pub(super) fn worst(&self) -> Option<Cycle> {
        let everything = Allowed { was_read: true, was_replaced: true, time: true };
        // Almost always there is none.
        self.circles(everything).has_any().then_some(())?;
        let mut looks = LOOKS_MAX;
        for time in [false, true] {
            let kinds = [
                (Anomaly::G0, false, false),
                (Anomaly::G1c, true, false),
                (Anomaly::G2, true, true),
            ];
            for (anomaly, was_read, was_replaced) in kinds {
                let allowed = Allowed { was_read, was_replaced, time };
                let circles = self.circles(allowed);
                if !circles.has_any() {
                    continue;
                }
                if was_replaced && let Some(steps) = self.single(&circles, allowed, &mut looks) {
                    return Some(self.cycle(Anomaly::GSingle, time, steps));
                }
                if let Some(steps) = self.shortest(&circles, allowed) {
                    return Some(self.cycle(anomaly, time, steps));
                }
            }
        }
        None
    }

    /// A cycle without the places in it.
    fn cycle(&self, anomaly: Anomaly, in_time: bool, steps: Vec<(usize, Why)>) -> Cycle {
        let steps = steps.into_iter().filter(|(node, _)| *node < self.transactions).collect();
        Cycle { anomaly, in_time, steps }
    }

    /// A cycle that is too old a read but for which all would be well.
    fn single(
        &self,
        circles: &Circles,
        allowed: Allowed,
        looks: &mut usize,
    ) -> Option<Vec<(usize, Why)>> {
        let others = Allowed { was_replaced: false, ..allowed };
        for (before, edges) in self.after.iter().enumerate() {
            for &(after, why) in edges {
                let is_one = matches!(why, Why::WasReplaced(_)) && circles.share(before, after);
                if is_one && let Some(back) = self.way(after, before, circles, others, looks) {
                    return Some([vec![(before, why)], back].concat());
                }
                if *looks == 0 {
                    return None;
                }
            }
        }
        None
    }

    /// A cycle with few transactions.
    fn shortest(&self, circles: &Circles, allowed: Allowed) -> Option<Vec<(usize, Why)>> {
        let starts = (0..self.transactions).filter(|node| circles.is_in_one(*node));
        let around = |start| {
            let mut any_number = usize::MAX;
            self.way(start, start, circles, allowed, &mut any_number)
        };
        let length = |way: &Vec<(usize, Why)>| {
            way.iter().filter(|(node, _)| *node < self.transactions).count()
        };
        starts.take(STARTS_MAX).filter_map(around).min_by_key(length)
    }

    /// The way from one node to another within their circle that passes the fewest transactions,
    /// the last node left out; once around if they are the same.
    fn way(
        &self,
        from: usize,
        to: usize,
        circles: &Circles,
        allowed: Allowed,
        looks: &mut usize,
    ) -> Option<Vec<(usize, Why)>> {
        let mut came_by = HashMap::new();
        let mut open = VecDeque::from([from]);
        while let Some(node) = open.pop_front() {
            for &(next, why) in &self.after[node] {
                *looks = looks.checked_sub(1)?;
                if !allowed.has(why) || !circles.share(node, next) || came_by.contains_key(&next) {
                    continue;
                }
                came_by.insert(next, (node, why));
                if next == to {
                    return Some(Self::back(from, to, &came_by));
                }
                // A place costs nothing.
                if next < self.transactions { open.push_back(next) } else { open.push_front(next) }
            }
        }
        None
    }

    fn back(from: usize, to: usize, came_by: &HashMap<usize, (usize, Why)>) -> Vec<(usize, Why)> {
        let mut way = Vec::new();
        let mut at = to;
        while let Some(&(before, why)) = came_by.get(&at) {
            way.push((before, why));
            at = before;
            if at == from {
                break;
            }
        }
        way.reverse();
        way
    }

    /// Tarjan's algorithm, without recursion.
    fn circles(&self, allowed: Allowed) -> Circles {
        let nodes = self.after.len();
        let mut found = Circles { of: vec![usize::MAX; nodes], sizes: Vec::new(), own: Vec::new() };
        let mut order = vec![usize::MAX; nodes];
        let mut low = vec![0; nodes];
        let (mut stack, mut calls) = (Vec::new(), Vec::new());
        let mut next = 0;
        for root in 0..nodes {
            if order[root] != usize::MAX {
                continue;
            }
            calls.push((root, 0));
            while let Some((node, edge)) = calls.pop() {
                if edge == 0 {
                    order[node] = next;
                    low[node] = next;
                    next += 1;
                    stack.push(node);
                }
                let Some(&(after, why)) = self.after[node].get(edge) else {
                    found.close(node, order[node], low[node], &mut stack);
                    if let Some(&(caller, _)) = calls.last() {
                        low[caller] = low[caller].min(low[node]);
                    }
                    continue;
                };
                calls.push((node, edge + 1));
                if !allowed.has(why) {
                    continue;
                }
                if after == node {
                    found.own.push(node);
                } else if order[after] == usize::MAX {
                    calls.push((after, 0));
                } else if found.of[after] == usize::MAX {
                    low[node] = low[node].min(order[after]);
                }
            }
        }
        found
    }
}

/// Which nodes can be reached from each other.
struct Circles {
    /// The circle of each node; those that are in none are one of their own.
    of: Vec<usize>,
    sizes: Vec<usize>,
    /// Nodes that come before themselves.
    own: Vec<usize>,
}

impl Circles {
    /// Takes the nodes of a circle off the stack, if this one is its first.
    fn close(&mut self, node: usize, order: usize, low: usize, stack: &mut Vec<usize>) {
        if order != low {
            return;
        }
        let mut size = 0;
        while let Some(member) = stack.pop() {
            self.of[member] = self.sizes.len();
            size += 1;
            if member == node {
                break;
            }
        }
        self.sizes.push(size);
    }

    fn has_any(&self) -> bool {
        !self.own.is_empty() || self.sizes.iter().any(|size| *size > 1)
    }

    fn is_in_one(&self, node: usize) -> bool {
        self.sizes[self.of[node]] > 1 || self.own.contains(&node)
    }

    fn share(&self, one: usize, other: usize) -> bool {
        self.of[one] == self.of[other]
    }
}
