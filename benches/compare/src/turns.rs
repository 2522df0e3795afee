//! The two sides of a row by turns, and what is made of their figures.
//!
//! Both clusters are there all the time, with the same keys, and one of them at a time has clients. What
//! is said of a row is the median of the ratios of neighbouring turns: what the machine does to one it
//! does to the next.

use std::time::Duration;

use crate::Result;
use crate::load::{self, Figures, Load};
use crate::proof;
use crate::rows::Row;
use crate::targets::Cluster;

/// How much is done for a row.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) turns: u32,
    pub(crate) time: Duration,
    pub(crate) keys: u64,
}

/// What came of one number of clients.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) clients: usize,
    pub(crate) ours: Side,
    pub(crate) theirs: Side,
    pub(crate) rate: Spread,
    pub(crate) p99: Spread,
}

/// One side's figures.
#[derive(Debug)]
pub(crate) struct Side {
    pub(crate) name: String,
    /// Operations in a second.
    pub(crate) rate: Spread,
    /// In milliseconds.
    pub(crate) p50_ms: Spread,
    pub(crate) p99_ms: Spread,
    /// Processor time for one operation, in microseconds: of the servers, and of the clients.
    pub(crate) servers_us: Spread,
    pub(crate) clients_us: Spread,
}

/// The median of several figures, the least and the most.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Spread {
    fn of(figures: impl IntoIterator<Item = f64>) -> Spread {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let at = |place: usize| figures.get(place).copied().unwrap_or(f64::NAN);
        let last = figures.len().saturating_sub(1);
        let median = (at(last / 2) + at(last.div_ceil(2))) / 2.0;
        Spread { median, least: at(0), most: at(last) }
    }
}

/// Runs a row: each number of clients, both sides by turns, then the proof.
pub(crate) async fn take(row: &Row, effort: &Effort) -> Result<Vec<Outcome>> {
    let mut ours = Cluster::start(row.ours).await?;
    let mut theirs = Cluster::start(row.theirs).await?;
    let (our_load, their_load) = (Load::new(effort.keys), Load::new(effort.keys));
    load::fill(&ours, &our_load).await?;
    load::fill(&theirs, &their_load).await?;
    let mut outcomes = Vec::new();
    for &clients in row.clients {
        let (mut our_figures, mut their_figures) = (Vec::new(), Vec::new());
        for turn in 0..effort.turns {
            our_figures.push(load::run(&ours, &our_load, row.mix, clients, effort.time).await?);
            their_figures
                .push(load::run(&theirs, &their_load, row.mix, clients, effort.time).await?);
            eprintln!(
                "row {}, {clients} clients, turn {} of {}: {:.0} and {:.0} a second",
                row.number,
                turn + 1,
                effort.turns,
                our_figures[our_figures.len() - 1].rate(),
                their_figures[their_figures.len() - 1].rate(),
            );
        }
        outcomes.push(outcome(clients, row, &our_figures, &their_figures));
    }
    proof::holds(&mut ours, &our_load).await?;
    proof::holds(&mut theirs, &their_load).await?;
    Ok(outcomes)
}

fn outcome(clients: usize, row: &Row, ours: &[Figures], theirs: &[Figures]) -> Outcome {
    let ratio = |of: fn(&Figures) -> f64| {
        Spread::of(ours.iter().zip(theirs).map(|(ours, theirs)| of(ours) / of(theirs)))
    };
    Outcome {
        clients,
        ours: side(row.ours.name(), ours),
        theirs: side(row.theirs.name(), theirs),
        rate: ratio(Figures::rate),
        p99: ratio(|figures| figures.ms_at(0.99)),
    }
}

fn side(name: &str, figures: &[Figures]) -> Side {
    let spread = |of: fn(&Figures) -> f64| Spread::of(figures.iter().map(of));
    Side {
        name: name.into(),
        rate: spread(Figures::rate),
        p50_ms: spread(|figures| figures.ms_at(0.5)),
        p99_ms: spread(|figures| figures.ms_at(0.99)),
        servers_us: spread(|figures| figures.us_each(figures.servers)),
        clients_us: spread(|figures| figures.us_each(figures.clients)),
    }
}
