//! Transactions that append to lists and read them, over a few keys of one shard.
//!
//! The store does not append: a client reads the lists, and replaces them in a transaction on the
//! condition that they are as it read them. A list that is long is left for a new one.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use aspen::client::{OpAnswer, TxnDone};
use aspen::{Compare, Error, Op, Record};
use futures_util::future::BoxFuture;

use super::client::{Client, Effect};
use super::{History, Stage, Work};
use crate::check::appends::{self, Answer, Asked};
use crate::check::{Told, Violation};

/// How many lists there are at once.
const LISTS: usize = 4;
/// How long a list becomes.
const ELEMENTS_MAX: usize = 48;
/// Most operations of one transaction.
const OPS_MAX: u64 = 5;

pub(super) struct Appends {
    prefix: String,
    history: History<Asked, Answer>,
    /// How many lists each place had before the present one.
    past: [AtomicU64; LISTS],
}

/// A list as it was read, and the revision of that.
#[derive(Clone, Debug, Default)]
struct List {
    elements: Vec<u64>,
    revision: u64,
}

/// What is not there is empty.
impl From<&Option<Record>> for List {
    fn from(record: &Option<Record>) -> Self {
        let Some(record) = record else { return List::default() };
        let text = String::from_utf8_lossy(record.value.as_bytes());
        // What is no number is an element that nobody appended.
        let element = |element: &str| element.parse().unwrap_or(u64::MAX);
        let elements = text.split_ascii_whitespace().map(element).collect();
        List { elements, revision: record.mod_revision }
    }
}

impl fmt::Display for List {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.elements.iter().try_for_each(|element| write!(f, "{element} "))
    }
}

type Lists = BTreeMap<u64, List>;

impl Appends {
    pub(super) fn new(stage: &Stage, prefix: &str) -> Self {
        let (prefix, history) = (format!("{{{prefix}}}/"), History::new(stage));
        Appends { prefix, history, past: Default::default() }
    }

    fn name(&self, key: u64) -> String {
        format!("{}{key}", self.prefix)
    }

    /// The present list of a place.
    fn present(&self, place: usize) -> u64 {
        self.past[place].load(Ordering::Relaxed) * LISTS as u64 + place as u64
    }

    /// Leaves lists that are long.
    fn leave_long(&self, lists: &Lists) {
        let is_long = |(_, list): &(_, &List)| list.elements.len() >= ELEMENTS_MAX;
        for (key, _) in lists.iter().filter(is_long) {
            let (past, place) = (key / LISTS as u64, (key % LISTS as u64) as usize);
            // Another client may have left it already.
            let _ = self.past[place].compare_exchange(
                past,
                past + 1,
                Ordering::Relaxed,
                Ordering::Relaxed,
            );
        }
    }

    fn choose(&self, client: &Client) -> Asked {
        let dice = &client.dice;
        let mut written = BTreeSet::new();
        let op = |_| {
            let key = self.present(dice.below(LISTS as u64) as usize);
            // A transaction writes each key once.
            if dice.percent(50) && written.insert(key) {
                appends::Op::Append { key, value: client.stage.value() }
            } else {
                appends::Op::Read { key }
            }
        };
        Asked((0..dice.between(1, OPS_MAX)).map(op).collect())
    }

    /// Reads lists in one transaction. Answers them if it was told.
    async fn read(&self, client: &Client, keys: impl IntoIterator<Item = u64>) -> Option<Lists> {
        let keys: Vec<u64> = keys.into_iter().collect();
        let asked = Asked(keys.iter().map(|key| appends::Op::Read { key: *key }).collect());
        let gets = keys.iter().map(|key| Op::get(self.name(*key)));
        let txn = gets.fold(client.kv.txn(), |txn, get| txn.then(get));
        let mut lists = Lists::new();
        let read = async {
            let done = txn.await?;
            let found: Vec<List> = got(&done).collect();
            lists = keys.into_iter().zip(found.iter().cloned()).collect();
            Ok(answer(&done))
        };
        let told = client.call(&self.history, asked, Effect::Reads, read).await;
        matches!(told, Told::Done(_)).then_some(lists)
    }

    /// Does a transaction if the lists that it appends to are as they were read.
    async fn write(&self, client: &Client, asked: Asked, lists: &Lists) {
        let mut txn = client.kv.txn();
        for op in &asked.0 {
            txn = match *op {
                appends::Op::Read { key } => txn.then(Op::get(self.name(key))),
                appends::Op::Append { key, value } => {
                    let list = lists.get(&key).cloned().unwrap_or_default();
                    let is_same = Compare::mod_revision(self.name(key)).eq(list.revision);
                    let value = format!("{list}{value}");
                    txn.when(is_same).then(Op::put(self.name(key), value))
                }
            };
        }
        let write = async {
            let done = txn.await?;
            if done.succeeded { Ok(answer(&done)) } else { Err(changed()) }
        };
        client.call(&self.history, asked, Effect::Writes, write).await;
    }
}

/// Some list is not as it was read: nothing was done.
fn changed() -> Error {
    Error::Busy { what: "a list", retry_after_ms: 0 }
}

/// The lists that a transaction read.
fn got(done: &TxnDone) -> impl Iterator<Item = List> {
    done.answers.iter().filter_map(|answer| match answer {
        OpAnswer::Get(record) => Some(List::from(record)),
        _ => None,
    })
}

fn answer(done: &TxnDone) -> Answer {
    Answer { reads: got(done).map(|list| list.elements).collect(), revision: done.revision }
}

impl Work for Appends {
    fn run<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            while client.thinks().await {
                let asked = self.choose(client);
                let appended = asked.0.iter().filter_map(|op| match op {
                    appends::Op::Append { key, .. } => Some(*key),
                    appends::Op::Read { .. } => None,
                });
                let appended: BTreeSet<u64> = appended.collect();
                if appended.is_empty() {
                    let read = asked.0.iter().filter_map(|op| match op {
                        appends::Op::Read { key } => Some(*key),
                        appends::Op::Append { .. } => None,
                    });
                    self.read(client, read).await;
                } else if let Some(lists) = self.read(client, appended).await {
                    self.leave_long(&lists);
                    self.write(client, asked, &lists).await;
                }
            }
        })
    }

    fn close<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for place in 0..LISTS {
                let last = self.present(place) / LISTS as u64;
                for past in 0..=last {
                    self.read(client, [past * LISTS as u64 + place as u64]).await;
                }
            }
        })
    }

    fn judge(&self) -> Result<(), Violation> {
        appends::check(&self.history.calls())
    }

    fn calls(&self) -> usize {
        self.history.count()
    }
}
