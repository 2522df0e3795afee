//! `start`: a node's life, from its configuration to its last log line.
//!
//! Standard output carries what a person, or with `--json` a program, needs next, once the node
//! serves; everything else is log lines on standard error. The first signal asks the node to stop
//! in an orderly way, within a bounded time; the second ends the process at once.

use crate::config::Config;
use crate::exit::Failure;
use crate::logs;

/// Runs a node until it is told to stop.
pub(crate) fn run(config: &Config, _json: bool) -> Result<(), Failure> {
    logs::start(config);
    Err(Failure::refused("this build has no node"))
}
