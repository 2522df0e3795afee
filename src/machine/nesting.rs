//! Bounded nesting when commands and answers are decoded.
//!
//! Transactions nest, so decoding them recurses; a few crafted bytes a level would otherwise
//! exhaust the stack before anything could be checked. Decoding deeper than [`TXN_DEPTH_MAX`] is
//! an error like any other malformed bytes.

use std::cell::Cell;

use serde::{Deserialize, Deserializer, de};

use crate::limits::TXN_DEPTH_MAX;

thread_local! {
    /// How many transactions are being decoded around this one, on this thread.
    static DEPTH: Cell<usize> = const { Cell::new(0) };
}

/// Leaves a level however decoding it ends.
struct Level;

impl Level {
    fn enter() -> Option<Level> {
        DEPTH.with(|depth| {
            let within = depth.get() + 1;
            // The outermost transaction is a level too, and is not counted here.
            (within < TXN_DEPTH_MAX).then(|| {
                depth.set(within);
                Level
            })
        })
    }
}

impl Drop for Level {
    fn drop(&mut self) {
        DEPTH.with(|depth| depth.set(depth.get() - 1));
    }
}

/// Decodes something that stands inside a transaction and may hold more of them.
pub(crate) fn nested<'de, D, V>(deserializer: D) -> Result<V, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    match Level::enter() {
        Some(_level) => V::deserialize(deserializer),
        None => Err(de::Error::custom("transactions are nested too deep")),
    }
}
