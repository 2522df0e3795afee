//! Did the lock keep its holders apart, by the evidence of the store?
//!
//! Each holder has a token. What the lock protects is written in two ways: on condition that the
//! holder's claim is still there, and on condition that no greater token was there before, as
//! storage outside the cluster would do it.
//!
//! - No token is given twice, and who asks later has a greater one.
//! - By the revisions of the writes of either kind, tokens never go back.
//! - Once anybody holds the lock with a greater token, or the holder gave it up, no write on
//!   condition of the old claim is done.

use std::collections::BTreeMap;
use std::fmt;

use super::Violation;

/// On which condition something is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// The claim is there.
    Claim,
    /// No greater token was there.
    Fence,
}

/// What a call asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// The lock.
    Acquire,
    /// To write what it protects.
    Write {
        /// With which token.
        token: u64,
        /// On which condition.
        guard: Guard,
    },
    /// To give the lock up.
    Release {
        /// With which token it was held.
        token: u64,
    },
}

/// What a call that was done answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The lock is held, with this token.
    Holds(u64),
    /// It was not to be had.
    HoldsNot,
    /// It was written.
    Wrote {
        /// The revision of that.
        revision: u64,
        /// The token with which it was written before; 0 if it was not.
        over: u64,
    },
    /// The condition did not hold.
    Refused,
    /// It was given up.
    Released,
}

/// One call.
pub type Call = super::Call<Asked, Answer>;

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Acquire => f.write_str("lock"),
            Asked::Write { token, guard } => write!(f, "write with token {token} by its {guard:?}"),
            Asked::Release { token } => write!(f, "unlock token {token}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Holds(token) => write!(f, "held with token {token}"),
            Answer::HoldsNot => f.write_str("not held"),
            Answer::Wrote { revision, over } => write!(f, "over {over} at revision {revision}"),
            Answer::Refused => f.write_str("refused"),
            Answer::Released => f.write_str("unlocked"),
        }
    }
}

/// Checks a history of one lock and of what it protects.
pub fn check(calls: &[Call]) -> Result<(), Violation> {
    check_tokens(calls)?;
    check_writes(calls)?;
    check_claims(calls)
}

/// Calls that hold the lock, with their tokens.
fn holders(calls: &[Call]) -> impl Iterator<Item = (u64, &Call)> {
    calls.iter().filter_map(|call| match call.answer()? {
        Answer::Holds(token) => Some((*token, call)),
        _ => None,
    })
}

/// The greatest token with which the lock was held, or given up, before some moment.
struct Greatest<'a> {
    /// In the order of the moments: when, and which so far.
    known: Vec<(u64, u64, &'a Call)>,
}

impl<'a> Greatest<'a> {
    fn of(calls: impl Iterator<Item = (u64, &'a Call)>) -> Self {
        let mut known: Vec<_> = calls.map(|(token, call)| (call.ended, token, call)).collect();
        known.sort_by_key(|(ended, ..)| *ended);
        for at in 1..known.len() {
            if known[at].1 < known[at - 1].1 {
                (known[at].1, known[at].2) = (known[at - 1].1, known[at - 1].2);
            }
        }
        Greatest { known }
    }

    fn before(&self, moment: u64) -> Option<(u64, &'a Call)> {
        let at = self.known.partition_point(|(ended, ..)| *ended < moment);
        let (_, token, call) = self.known[at.checked_sub(1)?];
        Some((token, call))
    }
}

fn check_tokens(calls: &[Call]) -> Result<(), Violation> {
    let mut given: BTreeMap<u64, &Call> = BTreeMap::new();
    let greatest = Greatest::of(holders(calls));
    for (token, call) in holders(calls) {
        if let Some(other) = given.insert(token, call) {
            return Err(Violation::new("a token was given twice", [other, call]));
        }
        if let Some((earlier, other)) = greatest.before(call.began)
            && earlier > token
        {
            return Err(Violation::new("tokens go back", [other, call]));
        }
    }
    Ok(())
}

fn check_writes(calls: &[Call]) -> Result<(), Violation> {
    let mut writes: BTreeMap<(Guard, u64), (u64, &Call)> = BTreeMap::new();
    for call in calls {
        if let (Asked::Write { token, guard }, Some(Answer::Wrote { revision, over })) =
            (call.asked, call.answer())
        {
            if *over > token {
                return Err(Violation::new("an old holder wrote over a new one", [call]));
            }
            writes.insert((guard, *revision), (token, call));
        }
    }
    let pairs = writes.iter().zip(writes.iter().skip(1));
    for (((guard, _), (token, call)), ((next_guard, _), (next_token, next))) in pairs {
        if guard == next_guard && token > next_token {
            return Err(Violation::new("an old holder wrote after a new one", [call, next]));
        }
    }
    Ok(())
}

fn check_claims(calls: &[Call]) -> Result<(), Violation> {
    let held = Greatest::of(holders(calls));
    let mut released: BTreeMap<u64, &Call> = BTreeMap::new();
    for call in calls {
        if let (Asked::Release { token }, Some(Answer::Released)) = (call.asked, call.answer()) {
            released.insert(token, call);
        }
    }
    for call in calls {
        let Asked::Write { token, guard: Guard::Claim } = call.asked else { continue };
        let Some(Answer::Wrote { .. }) = call.answer() else { continue };
        if let Some((greater, holder)) = held.before(call.began)
            && greater > token
        {
            return Err(Violation::new("two held the lock at once", [holder, call]));
        }
        if let Some(release) = released.get(&token)
            && release.ended < call.began
        {
            return Err(Violation::new("who gave the lock up wrote", [*release, call]));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Told;

    fn call(began: u64, ended: u64, asked: Asked, answer: Answer) -> Call {
        Call { client: 0, asked, began, ended, told: Told::Done(answer) }
    }

    fn holds(began: u64, ended: u64, token: u64) -> Call {
        call(began, ended, Asked::Acquire, Answer::Holds(token))
    }

    fn wrote(began: u64, guard: Guard, token: u64, revision: u64, over: u64) -> Call {
        let answer = Answer::Wrote { revision, over };
        call(began, began + 1, Asked::Write { token, guard }, answer)
    }

    fn found(calls: &[Call]) -> Option<String> {
        check(calls).err().map(|violation| violation.what)
    }

    #[test]
    fn tokens_go_up_as_they_are_asked_for() {
        assert_eq!(found(&[holds(1, 2, 5), holds(3, 4, 6)]), None);
        assert_eq!(found(&[holds(1, 4, 6), holds(3, 5, 5)]), None, "they overlap");
        let said = found(&[holds(1, 2, 6), holds(3, 4, 5)]);
        assert_eq!(said.as_deref(), Some("tokens go back"));
        let said = found(&[holds(1, 2, 5), holds(3, 4, 5)]);
        assert_eq!(said.as_deref(), Some("a token was given twice"));
    }

    #[test]
    fn an_old_holder_does_not_write_after_a_new_one() {
        for guard in [Guard::Claim, Guard::Fence] {
            let in_order = [wrote(1, guard, 5, 10, 0), wrote(1, guard, 6, 11, 5)];
            assert_eq!(found(&in_order), None);
            let after = [wrote(1, guard, 6, 10, 0), wrote(1, guard, 5, 11, 0)];
            let said = found(&after);
            assert_eq!(said.as_deref(), Some("an old holder wrote after a new one"));
            let said = found(&[wrote(1, guard, 5, 10, 6)]);
            assert_eq!(said.as_deref(), Some("an old holder wrote over a new one"));
        }
        let apart = [wrote(1, Guard::Claim, 6, 10, 0), wrote(1, Guard::Fence, 5, 11, 0)];
        assert_eq!(found(&apart), None, "they protect different things");
    }

    #[test]
    fn a_claim_is_good_until_another_holds_or_it_is_given_up() {
        let old = wrote(5, Guard::Claim, 5, 10, 0);
        assert_eq!(found(&[holds(1, 2, 5), holds(3, 6, 6), old]), None, "they overlap");
        let said = found(&[holds(1, 2, 5), holds(3, 4, 6), old]);
        assert_eq!(said.as_deref(), Some("two held the lock at once"));
        let fenced = wrote(5, Guard::Fence, 5, 10, 0);
        assert_eq!(found(&[holds(1, 2, 5), holds(3, 4, 6), fenced]), None, "nobody wrote yet");
        let release = call(3, 4, Asked::Release { token: 5 }, Answer::Released);
        let said = found(&[holds(1, 2, 5), release, old]);
        assert_eq!(said.as_deref(), Some("who gave the lock up wrote"));
    }
}
