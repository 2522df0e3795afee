//! The table, and what it was made on.

use std::process::Command;

use crate::Result;
use crate::rows::Row;
use crate::turns::{Effort, Outcome, Side, Spread};

/// On what, and by how much effort.
pub(crate) fn print_machine(effort: &Effort) -> Result<()> {
    let commit = Command::new("git").args(["describe", "--always", "--dirty"]).output()?;
    let commit = String::from_utf8_lossy(&commit.stdout).trim().to_owned();
    let processors = std::thread::available_parallelism()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let Effort { turns, time, keys } = effort;
    println!(
        "Commit {commit}, {processors} processors, Linux {}, {keys} keys, {turns} turns of {} s each.\n",
        kernel.trim(),
        time.as_secs()
    );
    Ok(())
}

pub(crate) fn print_head() {
    println!(
        "| # | work | clients | | a second | p50, p99 in ms | µs of servers, clients each | ratio | wanted |"
    );
    println!("|---|---|---|---|---|---|---|---|---|");
}

pub(crate) fn print_row(row: &Row, outcomes: &[Outcome]) {
    for Outcome { clients, ours, theirs, rate, p99 } in outcomes {
        let mut ratio = times(rate);
        let mut wanted =
            row.rate.map_or_else(String::new, |(least, aim)| format!("{least} ×, aim {aim} ×"));
        if let Some(most) = row.p99 {
            ratio += &format!("; p99 {}", times(p99));
            wanted += &format!("; p99 at most {most} ×");
        }
        println!(
            "| {} | {} | {clients} | {} | {ratio} | {wanted} |",
            row.number,
            row.work,
            side(ours)
        );
        println!("| | | | {} | | |", side(theirs));
    }
}

fn side(side: &Side) -> String {
    let Side { name, rate, p50_ms, p99_ms, servers_us, clients_us } = side;
    format!(
        "{name} | {:.0} ({:.0} to {:.0}) | {:.2}, {:.2} | {:.0}, {:.0}",
        rate.median,
        rate.least,
        rate.most,
        p50_ms.median,
        p99_ms.median,
        servers_us.median,
        clients_us.median
    )
}

fn times(ratio: &Spread) -> String {
    format!("{:.2} × ({:.2} to {:.2})", ratio.median, ratio.least, ratio.most)
}
