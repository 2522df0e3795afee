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
mod tour;
mod unanswered;

use book::Book;

/// The status of a node without what differs from run to run: how full this machine's disk is, how
/// many entries and terms there were.
fn steady_status(status: &str) -> String {
    let mut steady = String::new();
    let mut is_group = false;
    for line in status.lines() {
        is_group = line.starts_with("GROUP") || (is_group && !line.is_empty());
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        match cells[..] {
            ["disk", ..] => steady.push_str("disk        STATE"),
            ["health", how] if how.contains("ready") => steady.push_str("health    STATE, ready"),
            [group, role, _, leader, voters, learners, ..] if is_group && group != "GROUP" => {
                steady.push_str(&format!(
                    "{group:5}  {role:8}  N     {leader:6}  {voters:6}  {learners:8}  N    N        N"
                ));
            }
            _ if is_group => {
                steady.push_str(
                    "GROUP  ROLE      TERM  LEADER  VOTERS  LEARNERS  LOG  APPLIED  REVISION",
                );
            }
            _ => steady.push_str(line),
        }
        steady.push('\n');
    }
    steady
}

/// A table whose columns are as wide as what varies in them: two spaces between any two.
fn steady_table(table: &str) -> String {
    let line = |line: &str| {
        let cells: Vec<&str> = line.split("  ").map(str::trim).filter(|c| !c.is_empty()).collect();
        cells.join("  ") + "\n"
    };
    table.lines().map(line).collect()
}
