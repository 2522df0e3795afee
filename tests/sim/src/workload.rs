//! What clients do: put, get, swap and delete on few keys, so that they get in each other's way;
//! and count, to see that nothing is done twice.
//!
//! A client lives in a node and dies with it; its next incarnation is another client. What it was
//! told goes into the history as it was told: a write that was refused as not done must indeed
//! not have been done.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aspen::error::Refusal;
use aspen::types::{Consistency, Key};
use aspen::{Error, KvClient};
use tokio::time::sleep;

use crate::dice::Dice;
use crate::history::{History, Op, Outcome};
use crate::network::HostId;
use crate::trace::Trace;

/// How many keys there are.
const KEYS: u64 = 4;
/// The key whose version is how often it was put.
const COUNTER: &str = "counter";
/// The longest that a client waits between calls.
const THINK_MS_MAX: u64 = 60;

/// What clients and those who judge them share; clones are the same.
#[derive(Clone)]
pub(crate) struct Workload {
    pub(crate) history: History,
    shared: Arc<Shared>,
    trace: Trace,
}

#[derive(Default)]
struct Shared {
    last_value: AtomicU64,
    last_client: AtomicU64,
    is_over: AtomicBool,
    /// How often the counter was put, as far as clients were told.
    counted: AtomicU64,
    /// How often it may have been put besides.
    maybe_counted: AtomicU64,
    /// Calls that were answered, by host: reads and writes.
    answered: Mutex<BTreeMap<HostId, [u64; 2]>>,
    /// How often it was put, as it says itself in the end.
    counts: Mutex<Option<u64>>,
    /// Clients that are not done.
    clients: AtomicU64,
    failure: Mutex<Option<String>>,
}

/// Whether a node still runs. What its clients were about to be told when it died, they were not.
#[derive(Clone, Default)]
pub(crate) struct Alive(Arc<AtomicBool>);

impl Alive {
    pub(crate) fn begin() -> Self {
        Alive(Arc::new(AtomicBool::new(true)))
    }

    pub(crate) fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    pub(crate) fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl Workload {
    pub(crate) fn new(trace: Trace) -> Self {
        Workload { history: History::new(trace.clone()), shared: Arc::default(), trace }
    }

    /// Clients finish what they do and stop.
    pub(crate) fn finish(&self) {
        self.shared.is_over.store(true, Ordering::Relaxed);
    }

    /// Clients that are not done.
    pub(crate) fn clients(&self) -> u64 {
        self.shared.clients.load(Ordering::Relaxed)
    }

    /// Those of a node that died are done.
    pub(crate) fn forget_clients(&self, count: u64) {
        self.shared.clients.fetch_sub(count, Ordering::Relaxed);
    }

    /// Something must not be.
    pub(crate) fn fail(&self, why: String) {
        self.trace.note("violation", format_args!("{why}"));
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }

    /// The first thing that must not be.
    pub(crate) fn failure(&self) -> Option<String> {
        self.shared.failure.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn all_answered(&self) -> MutexGuard<'_, BTreeMap<HostId, [u64; 2]>> {
        self.shared.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads and writes of a host's clients that were answered since [`Workload::begin_answers`].
    pub(crate) fn answered(&self, host: HostId) -> [u64; 2] {
        self.all_answered().get(&host).copied().unwrap_or_default()
    }

    /// Counts answers from now on.
    pub(crate) fn begin_answers(&self) {
        self.all_answered().clear();
    }

    /// How often the counter may have been put: at least, at most.
    pub(crate) fn counted(&self) -> (u64, u64) {
        let counted = self.shared.counted.load(Ordering::Relaxed);
        (counted, counted + self.shared.maybe_counted.load(Ordering::Relaxed))
    }

    /// Reads the counter when all are done.
    pub(crate) async fn read_counter(self, kv: KvClient) {
        let version = |found: Option<aspen::Record>| found.map_or(0, |record| record.version);
        match kv.get(COUNTER).await {
            Ok(found) => {
                let counts = &self.shared.counts;
                *counts.lock().unwrap_or_else(PoisonError::into_inner) = Some(version(found));
            }
            Err(error) => self.fail(format!("the counter can't be read in the end: {error}")),
        }
    }

    /// How often the counter was put, once that was read.
    pub(crate) fn counts(&self) -> Option<u64> {
        *self.shared.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client of a node.
    pub(crate) fn client(&self, host: HostId, alive: Alive, kv: KvClient, dice: Dice) -> Client {
        self.shared.clients.fetch_add(1, Ordering::Relaxed);
        let number = self.shared.last_client.fetch_add(1, Ordering::Relaxed) + 1;
        let workload = self.clone();
        Client { number, host, alive, kv, dice, workload, seen: BTreeMap::new() }
    }
}

/// One client.
pub(crate) struct Client {
    number: u64,
    host: HostId,
    alive: Alive,
    kv: KvClient,
    dice: Dice,
    workload: Workload,
    /// What it last saw of each key: what a swap is likely to find.
    seen: BTreeMap<u8, Option<u64>>,
}

fn name(key: u8) -> Key {
    Key::try_from(format!("key/{key}")).expect("it is short")
}

impl Client {
    /// Calls, one after another, until the workload is over.
    pub(crate) async fn run(mut self) {
        while !self.workload.shared.is_over.load(Ordering::Relaxed) {
            sleep(Duration::from_millis(self.dice.below(THINK_MS_MAX))).await;
            if self.dice.percent(10) {
                self.count().await;
            } else {
                self.call().await;
            }
        }
        if self.alive.is() {
            self.workload.forget_clients(1);
        }
    }

    fn choose(&self) -> (u8, Op) {
        let key = self.dice.below(KEYS) as u8;
        let value = || self.workload.shared.last_value.fetch_add(1, Ordering::Relaxed) + 1;
        let op = match self.dice.below(100) {
            0..40 => Op::Get,
            40..65 => Op::Put(value()),
            65..95 => Op::Swap(self.seen.get(&key).copied().flatten(), value()),
            _ => Op::Delete,
        };
        (key, op)
    }

    async fn call(&mut self) {
        let (key, op) = self.choose();
        let begun = self.workload.history.begin(self.number, key, op);
        let told = self.ask(key, op).await;
        if !self.alive.is() {
            return;
        }
        let outcome = told.unwrap_or_else(|error| self.judge(&error));
        match (op, outcome) {
            (_, Outcome::Saw(value)) => drop(self.seen.insert(key, value)),
            (Op::Put(value) | Op::Swap(_, value), Outcome::Done) => {
                self.seen.insert(key, Some(value));
            }
            _ => {}
        }
        if !matches!(outcome, Outcome::Not | Outcome::Unknown) {
            let mut answered = self.workload.all_answered();
            answered.entry(self.host).or_default()[usize::from(op != Op::Get)] += 1;
        }
        self.workload.history.end(begun, outcome);
    }

    async fn ask(&self, key: u8, op: Op) -> Result<Outcome, Error> {
        let kv = &self.kv;
        match op {
            Op::Get => {
                let lease = self.dice.percent(30);
                let how = if lease { Consistency::Lease } else { Consistency::Linearizable };
                let got = kv.get(name(key)).consistency(how).await?;
                let parse = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse().ok();
                Ok(Outcome::Saw(got.and_then(|record| parse(record.value.as_bytes()))))
            }
            Op::Put(value) => kv.put(name(key), value.to_string()).await.map(|_| Outcome::Done),
            Op::Swap(None, value) => {
                kv.put(name(key), value.to_string()).if_absent().await.map(|_| Outcome::Done)
            }
            Op::Swap(Some(expected), value) => {
                let put = kv.put(name(key), value.to_string());
                put.if_value(expected.to_string()).await.map(|_| Outcome::Done)
            }
            Op::Delete => kv.delete(name(key)).await.map(|_| Outcome::Done),
        }
    }

    /// What an error tells the client.
    fn judge(&self, error: &Error) -> Outcome {
        match error {
            Error::Refused(Refusal::ConditionFailed { .. }) => Outcome::Differs,
            Error::OutcomeUnknown { .. } => Outcome::Unknown,
            Error::Busy { .. } | Error::Unavailable { .. } | Error::NoSpace { .. } => Outcome::Not,
            other => {
                self.workload.fail(format!("client {} was told: {other}", self.number));
                Outcome::Unknown
            }
        }
    }

    /// Puts the counter once. It counts as perhaps done until the answer says more.
    async fn count(&self) {
        let shared = &self.workload.shared;
        shared.maybe_counted.fetch_add(1, Ordering::Relaxed);
        let told = self.kv.put(COUNTER, "").await;
        if !self.alive.is() {
            return;
        }
        let outcome = told.map_or_else(|error| self.judge(&error), |_| Outcome::Done);
        match outcome {
            Outcome::Done => {
                shared.maybe_counted.fetch_sub(1, Ordering::Relaxed);
                shared.counted.fetch_add(1, Ordering::Relaxed);
            }
            Outcome::Unknown => {}
            _ => drop(shared.maybe_counted.fetch_sub(1, Ordering::Relaxed)),
        }
    }
}
