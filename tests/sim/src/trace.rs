//! What happened, in order: a digest of all of it, and the notable part as a timeline.
//!
//! Everything that the simulator sees goes into the digest: deliveries, operations of clients,
//! faults, who leads. Two runs of a seed are equal if their digests are. The timeline is for
//! people and is printed as it happens, if asked for.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aspen_sim::work::Scribe;

/// A run's trace; clones are the same.
#[derive(Clone)]
pub(crate) struct Trace(Arc<Mutex<Inner>>);

struct Inner {
    digest: blake3::Hasher,
    line: String,
    now_ms: u64,
    prints: bool,
}

impl Trace {
    pub(crate) fn new(prints: bool) -> Self {
        let (digest, line) = (blake3::Hasher::new(), String::new());
        Trace(Arc::new(Mutex::new(Inner { digest, line, now_ms: 0, prints })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time goes on.
    pub(crate) fn at(&self, now_ms: u64) {
        self.inner().now_ms = now_ms;
    }

    /// Something notable happened, somewhere.
    pub(crate) fn note(&self, place: impl fmt::Display, what: fmt::Arguments<'_>) {
        let inner = &mut *self.inner();
        inner.line.clear();
        let (seconds, ms) = (inner.now_ms / 1_000, inner.now_ms % 1_000);
        // Writing to a string does not fail.
        let _ = fmt::write(&mut inner.line, format_args!("{seconds:4}.{ms:03}  {place:<9} {what}"));
        inner.digest.update(inner.line.as_bytes());
        if inner.prints {
            println!("{}", inner.line);
        }
    }

    /// Something happened that only the digest shows.
    pub(crate) fn mix(&self, numbers: &[u64], bytes: &[u8]) {
        let inner = &mut *self.inner();
        inner.digest.update(&inner.now_ms.to_le_bytes());
        for number in numbers {
            inner.digest.update(&number.to_le_bytes());
        }
        inner.digest.update(bytes);
    }

    /// The digest of all so far.
    pub(crate) fn digest(&self) -> String {
        self.inner().digest.finalize().to_hex()[..16].to_owned()
    }
}

impl Scribe for Trace {
    fn note(&self, who: fmt::Arguments<'_>, what: fmt::Arguments<'_>) {
        Trace::note(self, who, what);
    }
}
