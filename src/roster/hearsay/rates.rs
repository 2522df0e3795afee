//! How much of something is let through: an allowance for one key or each of many.
//!
//! An allowance is one time: until when what was taken is paid for. It fills by waiting, so one that
//! is full again is as good as none, and the number that are kept is bounded.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::limits::RATES_MAX;
use crate::types::EndpointId;

/// How much is let through.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rate {
    /// So much in a second, in the long run.
    pub(super) per_second: u32,
    /// So much at once.
    pub(super) burst: u32,
}

impl Rate {
    /// What an allowance that was paid until then is after one more; `None` if it has no room.
    fn take(self, paid_until: Duration, now: Duration) -> Option<Duration> {
        let one = Duration::from_secs(1) / self.per_second;
        let after = paid_until.max(now).saturating_add(one);
        (after <= now.saturating_add(one * self.burst)).then_some(after)
    }
}

/// One allowance.
#[derive(Clone, Debug)]
pub(super) struct Allowance {
    rate: Rate,
    paid_until: Duration,
}

impl Allowance {
    pub(super) fn new(rate: Rate) -> Self {
        Allowance { rate, paid_until: Duration::ZERO }
    }

    /// Whether anything is left of it.
    pub(super) fn has_room(&self, now: Duration) -> bool {
        self.rate.take(self.paid_until, now).is_some()
    }

    /// Takes one if any is left.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        let after = self.rate.take(self.paid_until, now);
        self.paid_until = after.unwrap_or(self.paid_until);
        after.is_some()
    }
}

/// An allowance for each key.
#[derive(Clone, Debug)]
pub(super) struct Allowances {
    rate: Rate,
    /// Until when each key's is paid; those that are not here are full.
    paid_until: BTreeMap<EndpointId, Duration>,
}

impl Allowances {
    pub(super) fn new(rate: Rate) -> Self {
        Allowances { rate, paid_until: BTreeMap::new() }
    }

    /// Takes one of a key's if any is left.
    pub(super) fn take(&mut self, key: EndpointId, now: Duration) -> bool {
        let paid_until = self.paid_until.get(&key).copied().unwrap_or_default();
        let Some(after) = self.rate.take(paid_until, now) else { return false };
        if self.paid_until.insert(key, after).is_none() && self.paid_until.len() > RATES_MAX {
            self.forget_fullest(key);
        }
        true
    }

    /// Keeps only what is kept of some keys.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(EndpointId) -> bool) {
        self.paid_until.retain(|key, _| keep(*key));
    }

    /// Makes the fullest allowance full, except for the one that is asked for.
    fn forget_fullest(&mut self, except: EndpointId) {
        let others = self.paid_until.iter().filter(|(key, _)| **key != except);
        if let Some(key) = others.min_by_key(|(_, paid_until)| **paid_until).map(|(key, _)| *key) {
            self.paid_until.remove(&key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_second: 4, burst: 8 };

    fn key(number: u32) -> EndpointId {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&number.to_be_bytes());
        EndpointId(bytes)
    }

    #[test]
    fn a_burst_at_once_then_the_rate_and_a_burst_again_after_a_rest() {
        let mut allowance = Allowance::new(RATE);
        let mut taken = |now: Duration| (0..100).filter(|_| allowance.take(now)).count();
        let ms = Duration::from_millis;
        assert_eq!(taken(ms(5)), 8);
        assert_eq!(taken(ms(254)), 0);
        assert_eq!(taken(ms(255)), 1);
        assert_eq!(taken(ms(1_255)), 4);
        assert_eq!(taken(ms(60_000)), 8);
    }

    #[test]
    fn whoever_took_most_is_remembered_and_all_are_bounded() {
        let mut allowances = Allowances::new(RATE);
        let now = Duration::from_secs(1);
        assert_eq!((0..100).filter(|_| allowances.take(key(0), now)).count(), 8);
        for number in 1..10_000 {
            assert!(allowances.take(key(number), now));
            assert!(allowances.paid_until.len() <= RATES_MAX);
        }
        assert!(!allowances.take(key(0), now));
    }
}
