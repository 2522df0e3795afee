//! Aspen's nodes on one thread, with virtual time and everything going wrong.
//!
//! A seed decides everything: which faults come when, how long each packet and each sync takes,
//! what clients ask. The same seed gives the same trace, byte for byte, so what a seed finds can
//! be looked at again and again.
//!
//! The nodes are what runs in production, from `KvServiceBuilder` on (`node`). Under them stand a
//! disk that loses what was not synced (`disk`), a network that delays, loses and is cut
//! (`network`), and a clock that the simulator steps (`cluster`). Beside them stand what operators do
//! (`operator`), what goes wrong (`faults`), and who judges (`run`, `invariants`). What clients do and
//! what they may be told is not about simulation: it is the package's library (`lib.rs`).
//! `docs/testing.md` has the commands, and what is not simulated.

#![allow(clippy::disallowed_methods, reason = "the simulator stands outside the seams")]

mod cluster;
#[allow(dead_code, unreachable_pub, clippy::unwrap_used, reason = "it belongs to another test")]
#[path = "../../it/crash_disk.rs"]
mod crash_disk;
mod disk;
mod entropy;
mod faults;
mod invariants;
mod minimise;
mod network;
mod node;
mod operator;
mod run;
mod swarm;
mod trace;

use std::io::{self, IsTerminal};
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Runs Aspen's nodes in simulation, seed by seed.
#[derive(Parser)]
struct Arguments {
    /// Run this seed and print what happens.
    #[arg(long, conflicts_with = "swarm", required_unless_present = "swarm")]
    seed: Option<u64>,
    /// Run so many seeds on all cores; exit 1 if one fails, and show the smallest such run.
    #[arg(long)]
    swarm: Option<u64>,
    /// The first seed of a swarm.
    #[arg(long, default_value_t = 1)]
    base: u64,
    #[command(flatten)]
    settings: run::Settings,
    /// Run each seed of a swarm twice, and fail if the traces differ.
    #[arg(long)]
    twice: bool,
    /// Succeed if some seed of the swarm fails, and stop there.
    #[arg(long)]
    must_fail: bool,
    /// Print the verdict only.
    #[arg(long)]
    quiet: bool,
    /// Print what nodes log, too, by a filter such as `aspen=debug,openraft=info`.
    #[arg(long)]
    log: Option<Targets>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(seed) = arguments.seed else {
        let swarm = swarm::Swarm {
            base: arguments.base,
            count: arguments.swarm.unwrap_or_default(),
            settings: arguments.settings,
            twice: arguments.twice,
            must_fail: arguments.must_fail,
        };
        return swarm.run().unwrap_or_else(|error| {
            eprintln!("a run could not be started: {error}");
            ExitCode::from(2)
        });
    };
    let print = !arguments.quiet;
    if let Some(filter) = &arguments.log {
        let colours = io::stdout().is_terminal();
        let lines = fmt::layer().without_time().with_ansi(colours).with_filter(filter.clone());
        tracing_subscriber::registry().with(lines).init();
    }
    let settings = arguments.settings;
    entropy::begin(seed);
    // A thread that has drawn nothing yet, whatever was done with the arguments.
    let simulation = std::thread::spawn(move || {
        aspen::seams::run_in_place();
        run::run(seed, &settings, print)
    });
    let Ok(verdict) = simulation.join() else {
        println!("seed {seed}: the simulation panicked");
        return ExitCode::FAILURE;
    };
    println!("{verdict}");
    if verdict.failure.is_some() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
