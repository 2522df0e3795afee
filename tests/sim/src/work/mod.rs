//! The workloads: what clients do, each with a judge of what they were told.
//!
//! A run has one [`Stage`], which all its clients share, and some [`Works`] on it. Each [`Client`]
//! takes part in one workload until the run is over; it may die before, and its next incarnation
//! is another client. What it was told goes into the history as it was told: a write that was
//! refused as not done must indeed not have been done. Every call has to end within its deadline,
//! whatever goes wrong.
//!
//! Each workload has keys of its own in the keyspace of its clients. Those that need one shard for
//! them have them in one. Whoever leaves a workload last reads once more what is there.

mod appends;
mod bank;
mod client;
mod counters;
mod history;
mod leases;
mod locks;
mod registers;
mod sets;
mod stage;
#[cfg(test)]
mod store;
#[cfg(test)]
mod tests;
mod watches;

use std::fmt;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;

use crate::check::Violation;
use crate::dice::Dice;

pub use client::{Alive, Client};
pub use stage::{Scribe, Stage};

use history::History;
use stage::Presence;

/// The kinds of workloads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Single keys that are read, put, swapped and deleted.
    Registers,
    /// Transactions over a few keys of one shard.
    Appends,
    /// Keys that are added and read together.
    Sets,
    /// Money that is moved between accounts of one shard.
    Bank,
    /// Keys of one shard that are written and watched.
    Watches,
    /// A lock, and what it protects.
    Locks,
    /// Leases that end.
    Leases,
    /// A key that is put, and so counted.
    Counters,
}

impl Kind {
    /// All there are.
    pub const ALL: [Kind; 8] = [
        Kind::Registers,
        Kind::Appends,
        Kind::Sets,
        Kind::Bank,
        Kind::Watches,
        Kind::Locks,
        Kind::Leases,
        Kind::Counters,
    ];

    /// How its keys begin, and what it is called.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Registers => "registers",
            Kind::Appends => "appends",
            Kind::Sets => "sets",
            Kind::Bank => "bank",
            Kind::Watches => "watches",
            Kind::Locks => "locks",
            Kind::Leases => "leases",
            Kind::Counters => "counters",
        }
    }

    /// How many of its clients there are for one of a kind that does not say otherwise: with more
    /// of them they meet each other more often.
    fn share(self) -> u64 {
        match self {
            Kind::Registers | Kind::Appends | Kind::Locks => 3,
            Kind::Bank | Kind::Watches | Kind::Leases | Kind::Counters => 2,
            Kind::Sets => 1,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What each kind of workload is.
trait Work: Send + Sync {
    /// What a client does, until the run is over.
    fn run<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()>;

    /// Reads what is there once nobody else does anything.
    fn close<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()>;

    /// Whether what clients were told can be.
    fn judge(&self) -> Result<(), Violation>;

    /// How many calls its history has.
    fn calls(&self) -> usize;
}

/// One workload; clones are the same.
#[derive(Clone)]
pub struct Workload {
    kind: Kind,
    work: Arc<dyn Work>,
    /// Who takes part.
    company: Presence,
}

impl Workload {
    /// A workload of a kind whose keys all begin with a prefix of its own.
    pub fn new(kind: Kind, stage: &Stage, prefix: &str) -> Self {
        let work: Arc<dyn Work> = match kind {
            Kind::Registers => Arc::new(registers::Registers::new(stage, prefix)),
            Kind::Appends => Arc::new(appends::Appends::new(stage, prefix)),
            Kind::Sets => Arc::new(sets::Sets::new(stage, prefix)),
            Kind::Bank => Arc::new(bank::Accounts::new(stage, prefix)),
            Kind::Watches => Arc::new(watches::Watches::new(stage, prefix)),
            Kind::Locks => Arc::new(locks::Locks::new(stage, prefix)),
            Kind::Leases => Arc::new(leases::Leases::new(prefix)),
            Kind::Counters => Arc::new(counters::Counters::new(stage, prefix)),
        };
        Workload { kind, work, company: Presence::default() }
    }

    /// Which kind.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Lets a client take part until the run is over.
    pub fn spawn(&self, client: Client) -> JoinHandle<()> {
        let (work, mine) = (self.work.clone(), self.company.enter());
        tokio::spawn(async move {
            work.run(&client).await;
            if mine.leave() == 0 {
                work.close(&client).await;
            }
        })
    }

    /// Whether what its clients were told can be.
    pub fn judge(&self) -> Result<(), Violation> {
        self.work.judge().map_err(|Violation { what, shown_by }| Violation {
            what: format!("{}: {what}", self.kind),
            shown_by,
        })
    }

    /// How many calls its clients made.
    pub fn calls(&self) -> usize {
        self.work.calls()
    }
}

/// One workload of each kind, in one keyspace; clones are the same.
#[derive(Clone)]
pub struct Works {
    all: Arc<[Workload]>,
    dice: Dice,
}

impl Works {
    /// All kinds on a stage, with keys that begin with a prefix.
    pub fn new(stage: &Stage, prefix: &str, dice: Dice) -> Self {
        let work = |kind: Kind| Workload::new(kind, stage, &format!("{prefix}{kind}"));
        Works { all: Kind::ALL.map(work).into(), dice }
    }

    /// The workload of the next client: one of those that lack most of their share of those there
    /// are. So all kinds go on whoever dies, and chance decides where.
    pub fn next(&self) -> &Workload {
        let fullness = |work: &Workload| work.company.count() * 1_000 / work.kind.share();
        let least = self.all.iter().map(fullness).min().unwrap_or_default();
        let lacking: Vec<&Workload> =
            self.all.iter().filter(|work| fullness(work) == least).collect();
        lacking[self.dice.below(lacking.len() as u64) as usize]
    }

    /// All workloads.
    pub fn each(&self) -> &[Workload] {
        &self.all
    }

    /// Whether what clients were told can be, in every workload.
    pub fn judge(&self) -> Result<(), Violation> {
        self.all.iter().try_for_each(Workload::judge)
    }

    /// How many calls clients made.
    pub fn calls(&self) -> usize {
        self.all.iter().map(Workload::calls).sum()
    }
}
