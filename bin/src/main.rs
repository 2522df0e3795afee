//! The `aspen` command: runs a node, and talks to running ones.
//!
//! Everything a person or a script touches is here: arguments, configuration, log lines, signals,
//! exit codes and output. No store logic: `start` builds a node from the library, every other
//! command is a client of a node's HTTP API (`docs/http.md`).
//!
//! - [`args`]: the command line. [`config`]: settings from flags, environment, file, defaults.
//! - [`start`]: a node's life, with [`signals`] and [`logs`].
//! - [`commands`]: the clients, over [`client`] (HTTP) and [`sse`] (streams of events).
//! - [`input`], [`output`], [`exit`]: what goes in and what comes out.

mod args;
mod client;
mod commands;
mod config;
mod exit;
mod input;
mod logs;
mod output;
mod signals;
mod sse;
mod start;

use std::process::ExitCode;

use args::{Cli, ClientSettings, Cmd};
use client::Node;
use exit::Failure;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(),
    }
}

fn run() -> Result<(), Failure> {
    let Some(Cli { json, client, command }) = args::parse()? else { return Ok(()) };
    let Some(command) = command else { return args::print_help() };
    match command {
        Cmd::Start(node) => {
            client.refuse()?;
            start::run(&node.load()?.config, json)
        }
        Cmd::Config { command, misplaced } => {
            client.refuse()?;
            misplaced.refuse()?;
            commands::config::run(&command, json)
        }
        Cmd::Put(args) => {
            as_client(&client, async |node| commands::kv::put(node, args, json).await)
        }
        Cmd::Get(args) => {
            as_client(&client, async |node| commands::kv::get(node, args, json).await)
        }
        Cmd::Del(args) => {
            as_client(&client, async |node| commands::kv::del(node, args, json).await)
        }
        Cmd::Range(args) => {
            as_client(&client, async |node| commands::range::run(node, args, json).await)
        }
        Cmd::Watch(args) => {
            as_client(&client, async |node| commands::watch::run(node, args, json).await)
        }
        Cmd::Txn(args) => as_client(&client, async |node| commands::txn::run(node, args).await),
        Cmd::Lease(args) => {
            as_client(&client, async |node| commands::lease::run(node, args.command, json).await)
        }
        Cmd::Status => as_client(&client, async |node| commands::status::run(node, json).await),
        Cmd::Compact { revision } => {
            as_client(&client, async |node| commands::compact::run(node, revision, json).await)
        }
    }
}

/// Runs a command that talks to the node that flags and environment name.
fn as_client(
    settings: &ClientSettings,
    command: impl AsyncFnOnce(Node) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let loaded = config::load_client(&settings.0, &config::environment())
        .map_err(|problems| config::failure(&problems))?;
    let node = Node::of(&loaded.config)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("the command can't run: {error}")))?;
    runtime.block_on(command(node))
}
