//! When a member announces itself next.
//!
//! Every ten seconds or so in a small cluster; in a large one more and more rarely while nothing
//! changes; at once when its addresses or roles do, but never twice within a short gap. Pure: what
//! happened, `now` and chance in, the time of the next announcement out. Times are since the node
//! started.

use std::time::Duration;

use crate::limits::{
    ANNOUNCE_EVERY, ANNOUNCE_EVERY_MAX, ANNOUNCE_GAP_MIN, ANNOUNCE_JITTER, ANNOUNCE_MANY,
};

/// When this member announces itself next. The first time is at once.
#[derive(Clone, Debug, Default)]
pub struct Pace {
    /// When it announced itself last.
    last: Option<Duration>,
    /// The pause that it has come to, before chance shortens it.
    every: Duration,
    /// Addresses or roles have changed since.
    changed: bool,
    next: Duration,
}

impl Pace {
    /// When to announce next.
    pub fn next(&self) -> Duration {
        self.next
    }

    /// Its addresses or roles have changed.
    pub fn changed(&mut self) {
        self.changed = true;
        let soonest = self.last.map_or(Duration::ZERO, |last| last + ANNOUNCE_GAP_MIN);
        self.next = self.next.min(soonest);
    }

    /// It announced itself, in a cluster of so many members. `unit` is drawn from 0 to 1.
    pub fn announced(&mut self, now: Duration, members: usize, unit: f64) {
        assert!((0.0..=1.0).contains(&unit), "{unit} is no share of a pause");
        let lengthen = !self.changed && self.last.is_some() && members > ANNOUNCE_MANY;
        self.every =
            if lengthen { (self.every * 2).min(ANNOUNCE_EVERY_MAX) } else { ANNOUNCE_EVERY };
        self.changed = false;
        self.last = Some(now);
        self.next = now + self.every.mul_f64(1.0 - ANNOUNCE_JITTER * unit);
    }
}
