//! Every message that a person can meet, kept: the tour of the README, the help, and what the command
//! says when something is wrong. The books are the files of `bin/tests/messages`, to be read like a
//! person's session; a change of a message is a change of a book, and shows in its diff.
//!
//! To add a case, add the line that is typed to a theme below, run the test with
//! `ASPEN_MESSAGES=write`, and read what the book has now.
//!
//! Not kept, because it can't be brought about in a moment or is not the same each time:
//!
//! - Damage found in a log or state, and its repair: where it is found differs (`repair`).
//! - Full disks: the figures differ (`full`, `netns::space`).
//! - Nodes of other builds (`upgrade`), and limits on numbers of clients and files (`node`, `abuse`).
//! - The LAN, the mesh, relays and the internet: they take hosts of their own (`netns`, `relay`).
//! - The second signal: whether a node is still stopping when it comes is chance (`node`).
//! - A node that starts while no majority is there: it waits ten seconds for one.
//! - How far a joining node is, which it tells line by line: when it is looked at is chance (`cluster`).
//! - Log lines of several nodes: their order is that of elections and messages.

mod book;
mod cluster;
mod diff;
mod help;
mod keys;
mod mistyped;
mod plain;
mod settings;
mod start;
mod tickets;
mod tokens;
mod tour;
mod unanswered;

use book::Book;

/// The status of a node without what differs from run to run: how full this machine's disk is, in
/// which order parts were started, how many entries and terms there were.
fn steady_status(status: &str) -> String {
    let tables: Vec<String> = status.split("\n\n").map(steady_part).collect();
    tables.join("\n\n") + "\n"
}

fn steady_part(table: &str) -> String {
    let lines = table.lines().filter(|line| !line.starts_with("disk: ")).map(|line| {
        let cells: Vec<&str> = line.split_whitespace().collect();
        match cells[..] {
            ["health", _, "ready"] => "health    STATE, ready".to_owned(),
            [node, name, role, state, health, shards, leads, _, _, _, "%"] => {
                [node, name, role, state, health, shards, leads, "N", "N", "N %"].join("  ")
            }
            [group, role, _, leader, voters, learners, _, _, _] if group.parse::<u64>().is_ok() => {
                [group, role, "N", leader, voters, learners, "N", "N", "N"].join("  ")
            }
            ["NODE" | "GROUP", ..] => cells.join("  "),
            ["healthy:", ..] => {
                let parts = line.trim_start_matches("healthy: ").split(", ");
                let mut parts: Vec<&str> = parts.filter(|part| *part != "disk").collect();
                parts.sort_unstable();
                format!("healthy: {}", parts.join(", "))
            }
            _ => line.to_owned(),
        }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// A table whose columns are as wide as what varies in them: two spaces between any two.
fn steady_table(table: &str) -> String {
    let line = |line: &str| {
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        cells.join("  ") + "\n"
    };
    table.lines().map(line).collect()
}
