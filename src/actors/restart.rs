//! When to start a failed part again. Pure: failures and `now` in, a verdict out.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::limits::{
    BREAKER_OPEN, RESTART_BACKOFF_MAX, RESTART_BACKOFF_MIN, RESTART_WINDOW, RESTARTS_MAX,
};

/// The restarts that one part has left.
#[derive(Clone, Debug, Default)]
pub(super) struct RestartBudget {
    /// When it failed, within the window.
    failures: VecDeque<Instant>,
}

/// What to do about a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start it again after this time.
    Restart(Duration),
    /// It fails too often: leave it alone for this time.
    Break(Duration),
}

impl RestartBudget {
    /// The part failed.
    pub(super) fn failed(&mut self, now: Instant) -> Verdict {
        while self.failures.front().is_some_and(|&at| now - at >= RESTART_WINDOW) {
            self.failures.pop_front();
        }
        if self.failures.len() >= RESTARTS_MAX {
            // After the breaker the part gets one try, not a fresh budget.
            return Verdict::Break(BREAKER_OPEN);
        }
        let doublings = self.failures.len() as u32;
        self.failures.push_back(now);
        Verdict::Restart((RESTART_BACKOFF_MIN * 2u32.pow(doublings)).min(RESTART_BACKOFF_MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_back_off_then_the_breaker_opens_then_the_window_passes() {
        let start = Instant::now();
        let mut budget = RestartBudget::default();
        let seconds = Duration::from_secs;
        assert_eq!(budget.failed(start), Verdict::Restart(seconds(1)));
        assert_eq!(budget.failed(start + seconds(2)), Verdict::Restart(seconds(2)));
        assert_eq!(budget.failed(start + seconds(5)), Verdict::Restart(seconds(4)));
        assert_eq!(budget.failed(start + seconds(10)), Verdict::Break(BREAKER_OPEN));
        assert_eq!(budget.failed(start + seconds(311)), Verdict::Break(BREAKER_OPEN));
        assert_eq!(budget.failed(start + seconds(601)), Verdict::Restart(seconds(4)));
        assert_eq!(budget.failed(start + seconds(1_300)), Verdict::Restart(seconds(1)));
    }
}
