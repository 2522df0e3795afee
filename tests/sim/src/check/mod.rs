//! Judges of what clients were told: pure, and without any IO.
//!
//! Each takes the calls of one kind of workload, in the order in which they began, and answers
//! what can't be, with the few calls that show it. None knows how the calls were made: those of the
//! simulator and those of real processes are judged alike.
//!
//! Whatever the outcome of a call is that its client was not told, no judge holds it against the
//! store: such a call may have taken effect at any moment after it began, or never. One of which
//! it was told that nothing was done must not have had any effect.

pub mod appends;
pub mod bank;
pub mod counters;
mod cycles;
pub mod leases;
pub mod linear;
pub mod locks;
pub mod sets;
pub mod watches;

use std::fmt::{self, Display};

/// What a call came to, as its client was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told<O> {
    /// It was done, with this answer.
    Done(O),
    /// Nothing was done.
    Not,
    /// That nobody knows; or the client died before it was told anything.
    Unknown,
}

/// One call of one client. Moments are those of a counter of events that all clients share.
#[derive(Clone, Copy, Debug)]
pub struct Call<A, O> {
    /// Which client.
    pub client: u64,
    /// What it asked.
    pub asked: A,
    /// The moment before it asked.
    pub began: u64,
    /// The moment after it was told; [`u64::MAX`] if the outcome is unknown, which may come later.
    pub ended: u64,
    /// What it was told.
    pub told: Told<O>,
}

impl<A, O> Call<A, O> {
    /// The answer, if it was done.
    pub fn answer(&self) -> Option<&O> {
        match &self.told {
            Told::Done(answer) => Some(answer),
            Told::Not | Told::Unknown => None,
        }
    }

    /// Whether it may have had an effect.
    pub fn may_be_done(&self) -> bool {
        !matches!(self.told, Told::Not)
    }
}

impl<O: Display> Display for Told<O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Told::Done(answer) => answer.fmt(f),
            Told::Not => f.write_str("not done"),
            Told::Unknown => f.write_str("unknown"),
        }
    }
}

impl<A: Display, O: Display> Display for Call<A, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Call { client, asked, began, ended, told } = self;
        match told {
            Told::Unknown => write!(f, "[{began}, …] client {client}: {asked} → unknown"),
            told => write!(f, "[{began}, {ended}] client {client}: {asked} → {told}"),
        }
    }
}

/// What can't be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// What is wrong, in a sentence.
    pub what: String,
    /// What shows it, one a line.
    pub shown_by: Vec<String>,
}

impl Violation {
    /// One with what shows it.
    pub fn new<S: Display>(what: impl Into<String>, shown_by: impl IntoIterator<Item = S>) -> Self {
        let shown_by = shown_by.into_iter().map(|shown| shown.to_string()).collect();
        Violation { what: what.into(), shown_by }
    }
}

impl Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        self.shown_by.iter().try_for_each(|shown| write!(f, "\n    {shown}"))
    }
}
