//! What became of the operations of a run: how many were done, how long they took, and why others
//! were not.
//!
//! Times are kept to three digits, from a microsecond to an hour; what took longer counts as an hour.
//! Only operations that were done have a time: one that failed at once would make the store look fast.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::exit::{Exit, Failure};
use crate::output::counted;

/// The longest time that is kept, in microseconds.
const TOOK_US_MAX: u64 = 3_600 * 1_000_000;
/// Digits that are kept of a time.
const DIGITS: u8 = 3;

/// What an operation is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Put,
    Get,
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Done,
    /// It was not done, or nobody knows.
    Failed {
        kind: String,
        exit: Exit,
    },
}

/// Operations of one kind.
#[derive(Debug)]
pub(super) struct Kind {
    pub(super) took: Histogram<u64>,
    /// How many were not done or may not have been, by the name of the reason.
    pub(super) errors: BTreeMap<String, u64>,
    /// How many of those may have been done all the same.
    pub(super) unknown: u64,
    refused: u64,
}

impl Kind {
    fn new() -> Result<Self, Failure> {
        Ok(Kind { took: times()?, errors: BTreeMap::new(), unknown: 0, refused: 0 })
    }

    /// How many were done.
    pub(super) fn done(&self) -> u64 {
        self.took.len()
    }

    /// How many were not, as far as is known.
    pub(super) fn failed(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// No times yet.
fn times() -> Result<Histogram<u64>, Failure> {
    let made = Histogram::new_with_bounds(1, TOOK_US_MAX, DIGITS);
    made.map_err(|error| Failure::refused(format!("times can't be kept: {error}")))
}

/// All of a run.
#[derive(Debug)]
pub(super) struct Tally {
    pub(super) puts: Kind,
    pub(super) gets: Kind,
    /// What was done since this was looked at.
    recent: Histogram<u64>,
    recent_failed: u64,
}

impl Tally {
    pub(super) fn new() -> Result<Self, Failure> {
        Ok(Tally { puts: Kind::new()?, gets: Kind::new()?, recent: times()?, recent_failed: 0 })
    }

    /// Counts an operation.
    pub(super) fn count(&mut self, verb: Verb, outcome: Outcome, took: Duration) {
        let kind = match verb {
            Verb::Put => &mut self.puts,
            Verb::Get => &mut self.gets,
        };
        match outcome {
            Outcome::Done => {
                let us = u64::try_from(took.as_micros()).unwrap_or(TOOK_US_MAX).max(1);
                kind.took.saturating_record(us);
                self.recent.saturating_record(us);
            }
            Outcome::Failed { kind: name, exit } => {
                *kind.errors.entry(name).or_default() += 1;
                match exit {
                    Exit::Unknown => kind.unknown += 1,
                    Exit::Refused => kind.refused += 1,
                    _ => {}
                }
                self.recent_failed += 1;
            }
        }
    }

    /// How many were done since the last look, the times at two quantiles in microseconds, and how many
    /// failed.
    pub(super) fn look(&mut self) -> (u64, [u64; 2], u64) {
        let quantiles = [0.5, 0.99].map(|quantile| self.recent.value_at_quantile(quantile));
        let seen = (self.recent.len(), quantiles, self.recent_failed);
        self.recent.reset();
        self.recent_failed = 0;
        seen
    }

    /// Times of both kinds together.
    pub(super) fn all(&self) -> Result<Histogram<u64>, Failure> {
        let mut all = times()?;
        for kind in [&self.puts, &self.gets] {
            all.add(&kind.took)
                .map_err(|error| Failure::refused(format!("times can't be added: {error}")))?;
        }
        Ok(all)
    }

    /// How the command ends: by the worst that happened to an operation.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        let failed = self.puts.failed() + self.gets.failed();
        let refused = self.puts.refused + self.gets.refused;
        let operations = |count| counted(count, "operation");
        if self.puts.unknown > 0 {
            let writes = counted(self.puts.unknown, "write");
            let sentence = format!("{writes} may or may not have been done; see the errors above");
            return Err(Failure::new(Exit::Unknown, sentence));
        }
        if failed > refused {
            let sentence = format!("{} failed; see the errors above", operations(failed));
            return Err(Failure::unreachable(sentence));
        }
        if refused > 0 {
            let sentence = format!("{} were refused; see the errors above", operations(refused));
            return Err(Failure::refused(sentence));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(kind: &str, exit: Exit) -> Outcome {
        Outcome::Failed { kind: kind.to_owned(), exit }
    }

    #[test]
    fn the_worst_that_happened_is_how_the_command_ends() {
        let mut tally = Tally::new().expect("bounds");
        let exit = |tally: &Tally| tally.verdict().map_err(|failure| failure.exit());
        tally.count(Verb::Put, Outcome::Done, Duration::from_millis(2));
        assert_eq!(exit(&tally), Ok(()));
        tally.count(Verb::Get, failed("denied", Exit::Refused), Duration::ZERO);
        assert_eq!(exit(&tally), Err(Exit::Refused));
        tally.count(Verb::Get, failed("busy", Exit::Unreachable), Duration::ZERO);
        assert_eq!(exit(&tally), Err(Exit::Unreachable));
        tally.count(Verb::Put, failed("outcome-unknown", Exit::Unknown), Duration::ZERO);
        assert_eq!(exit(&tally), Err(Exit::Unknown));
        assert_eq!((tally.puts.done(), tally.puts.failed(), tally.puts.unknown), (1, 1, 1));
        assert_eq!((tally.gets.done(), tally.gets.failed()), (0, 2));
    }

    #[test]
    fn what_was_looked_at_is_not_told_again() {
        let mut tally = Tally::new().expect("bounds");
        tally.count(Verb::Put, Outcome::Done, Duration::from_secs(9_999));
        tally.count(Verb::Get, failed("busy", Exit::Unreachable), Duration::ZERO);
        let (done, [median, _], errors) = tally.look();
        assert_eq!((done, errors), (1, 1));
        assert!(median >= TOOK_US_MAX, "{median}");
        assert_eq!(tally.look().0, 0);
        assert_eq!(tally.all().expect("bounds").len(), 1);
    }
}
