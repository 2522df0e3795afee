//! The `aspen` command: runs a node, and talks to running ones.
//!
//! Everything a person or a script touches is here: arguments, configuration, log lines, signals,
//! exit codes and output. No store logic: `start` and `join` build a node from the library, `relay`
//! runs iroh's relay, every other command is a client of a node's HTTP API (`docs/http.md`).
//!
//! - [`args`]: the command line. [`config`]: settings from flags, environment, file, defaults.
//! - [`start`]: a node's life, with [`progress`] (of joining), [`signals`], [`logs`], and [`otlp`]
//!   (traces).
//! - [`commands`]: the clients, over [`client`] (HTTP) and [`sse`] (streams of events).
//! - [`input`], [`output`], [`screen`], [`bar`], [`exit`]: what goes in and what comes out.

mod args;
mod bar;
mod client;
mod commands;
mod config;
mod exit;
mod input;
mod logs;
mod otlp;
mod output;
mod progress;
mod screen;
mod signals;
mod sse;
mod start;
mod tls;

use std::pin::Pin;
use std::process::ExitCode;

use args::{Cli, ClientSettings, Cmd, JoinArgs, LeaseArgs, StoreSettings, TicketCmd, TokenCmd};
use client::Node;
use commands::drain::Drain;
use config::{Loaded, Origin, Setting};
use exit::Failure;
use mimalloc::MiMalloc;

/// What a write allocates on one thread is freed on another, and glibc's allocator is slow at that.
/// A program that embeds nodes chooses its own.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

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
            start::run(&node.load()?.config, None, json)
        }
        Cmd::Join(JoinArgs { invitation, node }) => {
            client.refuse()?;
            let config = node.load()?.config;
            let ticket = input::ticket(&input::ticket_text(invitation)?)?;
            start::run(&config, Some(ticket), json)
        }
        Cmd::Relay(args) => {
            client.refuse()?;
            args.misplaced.refuse()?;
            commands::relay::run(&args, json)
        }
        Cmd::Completions { shell } => {
            client.refuse()?;
            commands::shell::completions(args::command(), shell)
        }
        Cmd::Man { dir } => {
            client.refuse()?;
            commands::shell::man(args::command(), dir.as_deref())
        }
        Cmd::Config { command, misplaced } => {
            client.refuse()?;
            misplaced.refuse()?;
            commands::config::run(&command, json)
        }
        Cmd::Put(args) => {
            let store = args.store.clone();
            on_keys(&client, &store, async |node| commands::kv::put(node, args, json).await)
        }
        Cmd::Get(args) => {
            let store = args.store.clone();
            on_keys(&client, &store, async |node| commands::kv::get(node, args, json).await)
        }
        Cmd::Del(args) => {
            let store = args.store.clone();
            on_keys(&client, &store, async |node| commands::kv::del(node, args, json).await)
        }
        Cmd::Range(args) => {
            let store = args.store.clone();
            on_keys(&client, &store, async |node| commands::range::run(node, args, json).await)
        }
        Cmd::Watch(args) => {
            let store = args.store.clone();
            on_keys(&client, &store, async |node| commands::watch::run(node, args, json).await)
        }
        Cmd::Txn(args) => {
            let store = args.store.clone();
            on_keys(&client, &store, async |node| commands::txn::run(node, args).await)
        }
        Cmd::Lease(LeaseArgs { store, command }) => {
            on_keys(&client, &store, async |node| commands::lease::run(node, command, json).await)
        }
        Cmd::Bench(args) => {
            let store = args.store.clone();
            on_keys(&client, &store, async |node| commands::bench::run(node, args, json).await)
        }
        Cmd::Compact { revision, store } => on_keys(&client, &store, async |node| {
            commands::compact::run(node, revision, json).await
        }),
        Cmd::Ticket(args) => match args.command {
            TicketCmd::Show { text } => {
                client.refuse()?;
                commands::ticket::show(text, json)
            }
            TicketCmd::Create(args) => {
                at_node(&client, async |node| commands::ticket::create(node, args, json).await)
            }
            TicketCmd::List => {
                at_node(&client, async |node| commands::ticket::list(node, json).await)
            }
            TicketCmd::Revoke { id } => {
                at_node(&client, async |node| commands::ticket::revoke(node, id, json).await)
            }
        },
        Cmd::Token(args) => match args.command {
            TokenCmd::Create(args) => {
                at_node(&client, async |node| commands::token::create(node, args, json).await)
            }
            TokenCmd::List => {
                at_node(&client, async |node| commands::token::list(node, json).await)
            }
            TokenCmd::Revoke { id } => {
                at_node(&client, async |node| commands::token::revoke(node, id, json).await)
            }
        },
        Cmd::Keyspace(args) => {
            at_node(&client, async |node| commands::keyspace::run(node, args.command, json).await)
        }
        Cmd::Doctor => at_node(&client, async |node| commands::doctor::run(node, json).await),
        Cmd::Members { addresses } => {
            at_node(&client, async |node| commands::members::list(node, addresses, json).await)
        }
        Cmd::Leave => at_node(&client, async |node| commands::members::leave(node, json).await),
        Cmd::Remove { member } => {
            at_node(&client, async |node| commands::members::remove(node, member, json).await)
        }
        Cmd::Drain { member, wait, off } => {
            let drain = match (wait, off) {
                (true, _) => Drain::Whole,
                (false, true) => Drain::End,
                (false, false) => Drain::Begin,
            };
            at_node(&client, async |node| commands::drain::run(node, member, drain, json).await)
        }
        Cmd::Maintenance { switch, members } => at_node(&client, async |node| {
            commands::members::maintenance(node, &members, switch == "on", json).await
        }),
        Cmd::Rebalance { dry_run: _ } => {
            at_node(&client, async |node| commands::members::rebalance(node, json).await)
        }
        Cmd::Operations { id, wait } => {
            at_node(&client, async |node| commands::operations::run(node, id, wait, json).await)
        }
        Cmd::Settings { command } => {
            at_node(&client, async |node| commands::settings::run(node, command, json).await)
        }
        Cmd::Transfer { group, member } => at_node(&client, async |node| {
            commands::members::transfer(node, group, member, json).await
        }),
        Cmd::Repair { group } => {
            at_node(&client, async |node| commands::repair::run(node, group, json).await)
        }
        Cmd::Recover { data_dir, confirm } => {
            client.refuse()?;
            commands::recover::run(&data_dir, confirm, json)
        }
        Cmd::Status { watch: false } => {
            at_node(&client, async |node| commands::status::run(node, json).await)
        }
        Cmd::Status { watch: true } => {
            at_node(&client, async |node| commands::status::watch(node, json).await)
        }
    }
}

/// Runs a command on the store: at the node, or by the ticket, that flags and environment name.
fn on_keys(
    client: &ClientSettings,
    store: &StoreSettings,
    command: impl AsyncFnOnce(Node) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let loaded = load_client(&[&client.0[..], &store.0].concat())?;
    let ticket = ticket_of(&loaded)?;
    run_with(&loaded, async |config| {
        let node = match ticket {
            Some(ticket) => Node::by_ticket(ticket, config).await?,
            None => Node::of(config)?,
        };
        command(node).await
    })
}

/// Runs a command on a node itself, which no client ticket opens.
fn at_node(
    settings: &ClientSettings,
    command: impl AsyncFnOnce(Node) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let loaded = load_client(&settings.0)?;
    if let Origin::Flag(_) = loaded.origin("ticket") {
        return Err(Failure::usage(
            "--ticket is for commands on keys, such as put and get; name a node with --node",
        ));
    }
    run_with(&loaded, async |config| command(Node::of(config)?).await)
}

fn load_client(given: &[(&'static Setting, String)]) -> Result<Loaded, Failure> {
    config::load_client(given, &config::environment())
        .map_err(|problems| config::failure(&problems))
}

/// The ticket to go by, if it is that and not a node's URL: a flag is over a variable, and of two
/// alike neither is over the other.
fn ticket_of(loaded: &Loaded) -> Result<Option<String>, Failure> {
    match (loaded.origin("ticket"), loaded.origin("node")) {
        (Origin::Flag(_), Origin::Flag(_)) => {
            Err(Failure::usage("give --node or --ticket, not both"))
        }
        (Origin::Environment(ticket), Origin::Environment(node)) => {
            Err(Failure::usage(format!("{node} and {ticket} are both set; unset one")))
        }
        (Origin::Environment(_), Origin::Flag(_)) => Ok(None),
        _ => Ok(loaded.config.ticket.clone()),
    }
}

fn run_with(
    loaded: &Loaded,
    command: impl AsyncFnOnce(&config::Config) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("the command can't run: {error}")))?;
    let running: Pin<Box<dyn Future<Output = _>>> = Box::pin(command(&loaded.config));
    runtime.block_on(running)
}
