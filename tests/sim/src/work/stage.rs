//! What all clients of a run share.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Who writes down what clients are told, as it happens.
pub trait Scribe: Send + Sync {
    /// Somebody was told something.
    fn note(&self, who: fmt::Arguments<'_>, what: fmt::Arguments<'_>);
}

/// What all clients of a run and those who judge them share; clones are the same.
#[derive(Clone)]
pub struct Stage(Arc<Inner>);

struct Inner {
    scribe: Box<dyn Scribe>,
    pace: Duration,
    last_event: AtomicU64,
    last_value: AtomicU64,
    last_client: AtomicU64,
    is_calm: AtomicBool,
    is_over: AtomicBool,
    clients: Presence,
    answered: Mutex<BTreeMap<u64, Answered>>,
    failure: Mutex<Option<String>>,
}

/// How many calls of a place's clients were answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Answered {
    /// Those that changed nothing.
    pub reads: u64,
    /// Those that did.
    pub writes: u64,
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Stage {
    /// A stage on which clients wait at most so long between calls.
    pub fn new(scribe: impl Scribe + 'static, pace: Duration) -> Self {
        Stage(Arc::new(Inner {
            scribe: Box::new(scribe),
            pace,
            last_event: AtomicU64::new(0),
            last_value: AtomicU64::new(0),
            last_client: AtomicU64::new(0),
            is_calm: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            clients: Presence::default(),
            answered: Mutex::default(),
            failure: Mutex::default(),
        }))
    }

    /// Nothing goes wrong any more: answers are counted anew, and what takes its time when
    /// something does has a limit from now on.
    pub fn calm(&self) {
        lock(&self.0.answered).clear();
        self.0.is_calm.store(true, Ordering::Relaxed);
    }

    /// Whether nothing goes wrong any more.
    pub fn is_calm(&self) -> bool {
        self.0.is_calm.load(Ordering::Relaxed)
    }

    /// Clients finish what they do and leave.
    pub fn finish(&self) {
        self.0.is_over.store(true, Ordering::Relaxed);
    }

    /// Whether clients are to leave.
    pub fn is_over(&self) -> bool {
        self.0.is_over.load(Ordering::Relaxed)
    }

    /// How many clients are there.
    pub fn clients(&self) -> u64 {
        self.0.clients.count()
    }

    /// Calls of a place's clients that were answered since [`Stage::calm`].
    pub fn answered(&self, place: u64) -> Answered {
        lock(&self.0.answered).get(&place).copied().unwrap_or_default()
    }

    /// Something must not be.
    pub fn fail(&self, why: String) {
        self.note(format_args!("violation"), format_args!("{why}"));
        lock(&self.0.failure).get_or_insert(why);
    }

    /// The first thing that must not be.
    pub fn failure(&self) -> Option<String> {
        lock(&self.0.failure).clone()
    }

    pub(super) fn note(&self, who: fmt::Arguments<'_>, what: fmt::Arguments<'_>) {
        self.0.scribe.note(who, what);
    }

    pub(super) fn pace(&self) -> Duration {
        self.0.pace
    }

    pub(super) fn count_answer(&self, place: u64, is_write: bool) {
        let mut answered = lock(&self.0.answered);
        let answered = answered.entry(place).or_default();
        *if is_write { &mut answered.writes } else { &mut answered.reads } += 1;
    }

    /// The next moment of the run.
    pub(super) fn event(&self) -> u64 {
        self.0.last_event.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A number that nobody had before.
    pub(super) fn value(&self) -> u64 {
        self.0.last_value.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A client comes: its number.
    pub(super) fn enter(&self) -> (u64, Present) {
        (self.0.last_client.fetch_add(1, Ordering::Relaxed) + 1, self.0.clients.enter())
    }
}

/// How many are somewhere; clones are the same.
#[derive(Clone, Default)]
pub(super) struct Presence(Arc<AtomicU64>);

impl Presence {
    pub(super) fn count(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(super) fn enter(&self) -> Present {
        self.0.fetch_add(1, Ordering::Relaxed);
        Present(self.0.clone())
    }
}

/// One of them, until it is dropped: so those of a node that died are gone, too.
pub(super) struct Present(Arc<AtomicU64>);

impl Present {
    /// Leaves; answers how many stay.
    pub(super) fn leave(self) -> u64 {
        let count = self.0.clone();
        drop(self);
        count.load(Ordering::Relaxed)
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
