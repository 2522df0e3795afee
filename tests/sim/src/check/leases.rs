//! Did each lease live for its time, and no longer?
//!
//! A lease has one client, who keeps it alive for a while, then stops, and looks at a key of it
//! until that is gone. All times are its own, in milliseconds since it asked for the lease:
//!
//! - The lease lives for its time from the moment at which the client last asked, with success,
//!   to have it granted or kept alive: until then the key is there. The leader's clock may go
//!   faster than the client's, by [`DRIFT_PERMILLE_MAX`] thousandths.
//! - Afterwards it may live for longer, as leadership moves and each leader arms it in full. Once
//!   nothing goes wrong any more it ends within its time and [`LATE_MS_MAX`].
//! - What is gone does not come back.

use std::fmt;

use super::Violation;

/// How much longer than its time a lease may live while nothing goes wrong: a leader may still have
/// to be elected, which then arms it in full.
pub const LATE_MS_MAX: u64 = 10_000;

/// How much faster than another a clock may go.
pub const DRIFT_PERMILLE_MAX: u64 = 50;

/// What a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// The lease was granted, or has its full time again.
    Kept,
    /// The lease may have its full time again; nobody knows.
    MaybeKept,
    /// The key is there.
    There,
    /// The lease can't be kept alive any more: it is about to end, unless leadership moves.
    Ending,
    /// The key, or the lease, is gone.
    Gone,
    /// The lease is gone because the client had it revoked, or may have.
    Revoked,
}

/// One thing that a client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// When it asked.
    pub asked_ms: u64,
    /// When it was told.
    pub told_ms: u64,
    /// What.
    pub told: Told,
}

/// One lease as its client saw it. Nobody else has its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Whose.
    pub client: u64,
    /// How long it lives.
    pub ttl_ms: u64,
    /// Since when nothing goes wrong, if the client noticed.
    pub calm_ms: Option<u64>,
    /// What the client was told, in order.
    pub events: Vec<Event>,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Event { asked_ms, told_ms, told } = self;
        write!(f, "{asked_ms} to {told_ms} ms: {told:?}")
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Life { client, ttl_ms, .. } = self;
        write!(f, "client {client} has a lease of {ttl_ms} ms")?;
        self.calm_ms.iter().try_for_each(|ms| write!(f, ", and nothing goes wrong from {ms} ms on"))
    }
}

/// Checks all leases.
pub fn check(lives: &[Life]) -> Result<(), Violation> {
    lives.iter().try_for_each(check_one)
}

fn check_one(life: &Life) -> Result<(), Violation> {
    // Until when it lives for sure, and from when on it may have begun to end.
    let (mut until_ms, mut renewed_ms) = (0, 0);
    let mut gone = None;
    for event in &life.events {
        let broken = |what: &str| {
            let shown = gone.into_iter().chain([event]).map(ToString::to_string);
            Violation::new(what, [life.to_string()].into_iter().chain(shown))
        };
        match event.told {
            Told::Kept if gone.is_some() => return Err(broken("an ended lease is kept alive")),
            Told::Kept => {
                let surely_ms = life.ttl_ms * (1_000 - DRIFT_PERMILLE_MAX) / 1_000;
                until_ms = until_ms.max(event.asked_ms + surely_ms);
                renewed_ms = event.told_ms;
            }
            Told::MaybeKept => renewed_ms = event.told_ms,
            Told::There => {
                let since_ms = life.calm_ms.map(|calm_ms| calm_ms.max(renewed_ms));
                let is_late =
                    since_ms.is_some_and(|ms| event.asked_ms > ms + life.ttl_ms + LATE_MS_MAX);
                if gone.is_some() {
                    return Err(broken("a key of an ended lease is back"));
                } else if is_late {
                    return Err(broken("a lease does not end"));
                }
            }
            Told::Ending | Told::Gone => {
                if gone.is_none() && event.told_ms < until_ms {
                    return Err(broken("a lease ended early"));
                }
                if event.told == Told::Gone {
                    gone.get_or_insert(event);
                }
            }
            // From now on it may be gone, and if it was told so it is.
            Told::Revoked => until_ms = 0,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::Told::{Ending, Gone, Kept, MaybeKept, Revoked, There};
    use super::*;

    /// What is said of a lease of a second.
    fn found(calm_ms: Option<u64>, events: &[(u64, u64, Told)]) -> Option<String> {
        let event =
            |&(asked_ms, told_ms, told): &(u64, u64, Told)| Event { asked_ms, told_ms, told };
        let events = events.iter().map(event).collect();
        let life = Life { client: 0, ttl_ms: 1_000, calm_ms, events };
        check(&[life]).err().map(|violation| violation.what)
    }

    const GRANTED: (u64, u64, Told) = (0, 500, Kept);

    #[test]
    fn a_lease_lives_for_its_time() {
        // A leader whose clock goes faster ends it after 950 ms of its client's.
        assert_eq!(found(None, &[GRANTED, (900, 950, Gone)]), None);
        let said = found(None, &[GRANTED, (900, 949, Gone)]);
        assert_eq!(said.as_deref(), Some("a lease ended early"));
        let said = found(None, &[GRANTED, (900, 949, Ending)]);
        assert_eq!(said.as_deref(), Some("a lease ended early"));
        let kept = (700, 800, Kept);
        let said = found(None, &[GRANTED, kept, (1_600, 1_649, Gone)]);
        assert_eq!(said.as_deref(), Some("a lease ended early"));
        assert_eq!(found(None, &[GRANTED, kept, (1_600, 1_650, Gone)]), None);
        let maybe = (700, 800, MaybeKept);
        assert_eq!(found(None, &[GRANTED, maybe, (1_500, 1_600, Gone)]), None);
        assert_eq!(found(None, &[GRANTED, (600, 650, Revoked), (660, 670, Gone)]), None);
    }

    #[test]
    fn a_lease_ends_once_nothing_goes_wrong() {
        let there = (20_000, 20_001, There);
        assert_eq!(found(None, &[GRANTED, there]), None);
        assert_eq!(found(Some(9_500), &[GRANTED, there]), None);
        let said = found(Some(8_000), &[GRANTED, there]);
        assert_eq!(said.as_deref(), Some("a lease does not end"));
        let maybe = (9_400, 9_500, MaybeKept);
        assert_eq!(found(Some(8_000), &[GRANTED, maybe, there]), None);
    }

    #[test]
    fn what_is_gone_does_not_come_back() {
        let gone = (1_100, 1_200, Gone);
        let said = found(None, &[GRANTED, gone, (1_300, 1_301, There)]);
        assert_eq!(said.as_deref(), Some("a key of an ended lease is back"));
        let ending = (1_100, 1_200, Ending);
        assert_eq!(found(None, &[GRANTED, ending, (1_300, 1_301, There)]), None);
        let said = found(None, &[GRANTED, gone, (1_300, 1_301, Kept)]);
        assert_eq!(said.as_deref(), Some("an ended lease is kept alive"));
    }
}
