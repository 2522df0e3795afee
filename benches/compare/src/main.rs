//! Aspen beside what people would use instead: on one machine, in the same minutes, with values that
//! are on disk before they are acknowledged.
//!
//! - [`rows`]: what is compared, and what is wanted of it
//! - [`turns`]: the two sides of a row by turns, and what is made of their figures
//! - [`load`]: clients, when each begins what, and how long it takes
//! - [`proof`]: whatever was acknowledged is there after all nodes were killed
//! - [`processes`]: servers as processes, and their processor time
//! - [`targets`]: how each store is started and spoken to
//! - [`report`]: the table
//!
//! `cargo run --release -p aspen-bench -- compare` does all of it; with numbers it does those rows.

#[path = "../../../bin/tests/it/costs.rs"]
#[expect(dead_code, reason = "memory is not compared")]
mod costs;
#[path = "../../../bin/tests/it/dice.rs"]
#[expect(dead_code, reason = "it has more kinds of chance than are needed")]
mod dice;
#[path = "../../../bin/tests/it/http.rs"]
mod http;
mod load;
mod processes;
mod proof;
mod report;
mod rows;
#[path = "../../../bin/tests/it/running.rs"]
#[expect(dead_code, reason = "nodes are killed here, and not stopped")]
mod running;
mod targets;
mod turns;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand};
use mimalloc::MiMalloc;

use crate::turns::Effort;

/// As the command has: clients that wait for their allocator would hide what a store does.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

#[derive(Debug, Parser)]
#[command(name = "aspen-bench", about = "Aspen beside what people would use instead.")]
struct Arguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Runs rows of the comparison and prints their table.
    Compare {
        /// The numbers of the rows; all of them unless some are named.
        rows: Vec<u32>,
        /// How often each side has its turn.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
        turns: u32,
        /// How many seconds a turn is measured, after a fifth of that to warm up.
        #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..))]
        seconds: u64,
        /// How many keys there are.
        #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1_000..))]
        keys: u64,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let What::Compare { rows, turns, seconds, keys } = Arguments::parse().what;
    let effort = Effort { turns, time: Duration::from_secs(seconds), keys };
    match compare(&rows, &effort).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("aspen-bench: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn compare(numbers: &[u32], effort: &Effort) -> Result<()> {
    let rows = rows::chosen(numbers)?;
    processes::build_the_command()?;
    report::print_machine(effort)?;
    report::print_head();
    for row in &rows {
        let outcome = turns::take(row, effort).await?;
        report::print_row(row, &outcome);
    }
    Ok(())
}
