//! Was a counter counted as often as clients were told, each time once?
//!
//! Whatever a client sees of it lies between the least that must have been counted before it
//! asked and the most that may have been before it was told; no two clients make it the same
//! number; and it never goes back.

use std::collections::BTreeMap;
use std::fmt;

use super::{Told, Violation};

/// What a call asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Adds one.
    Add,
    /// Reads it.
    Read,
}

/// How often it was counted, as a call that was done answers: an addition itself included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count(pub u64);

/// One call.
pub type Call = super::Call<Asked, Count>;

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Asked::Add => "add one",
            Asked::Read => "read the counter",
        })
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "it is {}", self.0)
    }
}

/// Moments and what was known then, in order.
struct Steps(Vec<(u64, u64)>);

impl Steps {
    /// How many of these moments are before one.
    fn count(mut moments: Vec<u64>) -> Self {
        moments.sort_unstable();
        Steps(moments.into_iter().zip(1..).collect())
    }

    /// The most that was known before a moment.
    fn before(&self, moment: u64) -> u64 {
        let at = self.0.partition_point(|(at, _)| *at < moment);
        at.checked_sub(1).map_or(0, |last| self.0[last].1)
    }
}

/// Checks a history of one counter, which begins at 0.
pub fn check(calls: &[Call]) -> Result<(), Violation> {
    let adds = || calls.iter().filter(|call| call.asked == Asked::Add && call.may_be_done());
    let told = |call: &&Call| matches!(call.told, Told::Done(_));
    let done = Steps::count(adds().filter(told).map(|call| call.ended).collect());
    let begun = Steps::count(adds().map(|call| call.began).collect());
    let mut seen: Vec<(u64, u64)> =
        calls.iter().filter_map(|call| Some((call.ended, call.answer()?.0))).collect();
    seen.sort_unstable();
    for at in 1..seen.len() {
        seen[at].1 = seen[at].1.max(seen[at - 1].1);
    }
    let seen = Steps(seen);
    let mut made: BTreeMap<u64, &Call> = BTreeMap::new();
    for call in calls {
        let Some(Count(count)) = call.answer() else { continue };
        let own = u64::from(call.asked == Asked::Add);
        let least = done.before(call.began).max(seen.before(call.began)) + own;
        let most = begun.before(call.ended);
        if !(least..=most).contains(count) {
            let what = format!("a counter was {count}, and not between {least} and {most}");
            return Err(Violation::new(what, [call]));
        }
        if call.asked == Asked::Add
            && let Some(other) = made.insert(*count, call)
        {
            let what = format!("two clients made a counter {count}");
            return Err(Violation::new(what, [other, call]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Asked::{Add, Read};
    use super::*;

    const UNKNOWN: Option<u64> = None;

    /// Calls as moments, what was asked and what it was then, if the client was told.
    fn accepts(calls: &[(u64, u64, Asked, Option<u64>)]) -> bool {
        let call = |&(began, ended, asked, count): &(u64, u64, Asked, Option<u64>)| match count {
            Some(count) => Call { client: 0, asked, began, ended, told: Told::Done(Count(count)) },
            None => Call { client: 0, asked, began, ended: u64::MAX, told: Told::Unknown },
        };
        check(&calls.iter().map(call).collect::<Vec<_>>()).is_ok()
    }

    #[test]
    fn each_addition_counts_once() {
        let adds = [(1, 2, Add, Some(1)), (3, 4, Add, Some(2))];
        assert!(accepts(&adds));
        for (count, right) in [(1, false), (2, true), (3, false)] {
            assert_eq!(accepts(&[adds[0], adds[1], (5, 6, Read, Some(count))]), right);
        }
        assert!(!accepts(&[(1, 4, Add, Some(1)), (2, 3, Add, Some(1))]));
    }

    #[test]
    fn what_overlaps_may_be_seen_or_not() {
        let add = (1, 9, Add, Some(1));
        assert!(accepts(&[add, (2, 3, Read, Some(0)), (4, 5, Read, Some(1))]));
        assert!(!accepts(&[add, (2, 3, Read, Some(1)), (4, 5, Read, Some(0))]), "it goes back");
    }

    #[test]
    fn an_unknown_addition_counts_once_or_never_and_one_that_was_refused_never() {
        let add = (3, 0, Add, UNKNOWN);
        for (count, right) in [(0, true), (1, true), (2, false)] {
            assert_eq!(accepts(&[add, (4, 5, Read, Some(count))]), right);
        }
        assert!(!accepts(&[(1, 2, Read, Some(1)), add]), "not before it was asked");
        let refused = Call { client: 0, asked: Add, began: 1, ended: 2, told: Told::Not };
        let read = |count| Call {
            client: 0,
            asked: Read,
            began: 3,
            ended: 4,
            told: Told::Done(Count(count)),
        };
        assert!(check(&[refused, read(0)]).is_ok());
        assert!(check(&[refused, read(1)]).is_err());
    }
}
