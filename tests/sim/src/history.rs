//! What clients asked for and what they were told, in the order in which it happened.
//!
//! Nodes of one run take turns within each millisecond, and no message between them takes less
//! than one, so the order in which events are noted here is one in which they may have happened.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::trace::Trace;

/// What a call asks of one key. No value is written twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Get,
    Put(u64),
    /// Puts the second if the key holds the first.
    Swap(Option<u64>, u64),
    Delete,
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// What a get saw.
    Saw(Option<u64>),
    /// The write was done.
    Done,
    /// A swap found something else.
    Differs,
    /// Nothing was done, the client was told.
    Not,
    /// The client was told that nobody knows, or died before it was told anything.
    Unknown,
}

/// One call of one client on one key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) client: u64,
    pub(crate) key: u8,
    pub(crate) op: Op,
    pub(crate) began: u64,
    /// Without meaning if the outcome is unknown.
    pub(crate) ended: u64,
    pub(crate) outcome: Outcome,
}

struct Shown(Option<u64>);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("nothing"),
        }
    }
}

impl fmt::Display for Op {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Op::Get => f.write_str("get"),
            Op::Put(value) => write!(f, "put {value}"),
            Op::Swap(expected, value) => write!(f, "swap {} for {value}", Shown(*expected)),
            Op::Delete => f.write_str("delete"),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Saw(value) => write!(f, "saw {}", Shown(*value)),
            Outcome::Done => f.write_str("done"),
            Outcome::Differs => f.write_str("differs"),
            Outcome::Not => f.write_str("not done"),
            Outcome::Unknown => f.write_str("unknown"),
        }
    }
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { client, key, op, began, ended, outcome } = self;
        match outcome {
            Outcome::Unknown => write!(f, "[{began}, …] client {client}: {op} of key {key}"),
            _ => write!(f, "[{began}, {ended}] client {client}: {op} of key {key}"),
        }?;
        write!(f, " → {outcome}")
    }
}

/// The calls of a run; clones are the same.
#[derive(Clone)]
pub(crate) struct History {
    inner: Arc<Mutex<Inner>>,
    trace: Trace,
}

#[derive(Default)]
struct Inner {
    calls: Vec<Call>,
    events: u64,
}

impl Inner {
    fn event(&mut self) -> u64 {
        self.events += 1;
        self.events
    }
}

/// A call that has begun.
#[derive(Clone, Copy)]
pub(crate) struct Begun(usize);

impl History {
    pub(crate) fn new(trace: Trace) -> Self {
        History { inner: Arc::default(), trace }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client begins a call.
    pub(crate) fn begin(&self, client: u64, key: u8, op: Op) -> Begun {
        let mut inner = self.inner();
        let began = inner.event();
        let (ended, outcome) = (u64::MAX, Outcome::Unknown);
        inner.calls.push(Call { client, key, op, began, ended, outcome });
        Begun(inner.calls.len() - 1)
    }

    /// The client of a call is told what it came to.
    pub(crate) fn end(&self, begun: Begun, outcome: Outcome) {
        let mut inner = self.inner();
        let ended = inner.event();
        let call = &mut inner.calls[begun.0];
        (call.ended, call.outcome) = (ended, outcome);
        let Call { client, key, op, .. } = *call;
        drop(inner);
        self.trace.note(format_args!("client {client}"), format_args!("{op} of {key} → {outcome}"));
    }

    /// All calls so far, in the order in which they began.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.inner().calls.clone()
    }
}
