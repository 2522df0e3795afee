//! The arguments of what concerns a cluster: joining it, tickets, members.

use std::time::Duration;

use aspen_tickets::{Role, Verbs};
use clap::{Args, Subcommand};

use super::NodeArgs;
use crate::input;

/// Arguments of `join`.
#[derive(Debug, Args)]
pub(crate) struct JoinArgs {
    /// The ticket, as `start` or `ticket create` printed it; `-` reads it from standard input.
    #[arg(value_name = "TICKET")]
    pub(crate) invitation: String,
    #[command(flatten)]
    pub(crate) node: NodeArgs,
}

/// Arguments of `ticket`.
#[derive(Debug, Args)]
pub(crate) struct TicketArgs {
    #[command(subcommand)]
    pub(crate) command: TicketCmd,
}

/// What to do with tickets.
#[derive(Debug, Subcommand)]
pub(crate) enum TicketCmd {
    /// Make a ticket and print it: for a node that joins, or with --client for programs.
    #[command(after_help = "Examples:\n  \
        aspen ticket create\n  \
        aspen ticket create --role learner --uses 3 --expires 10m\n  \
        aspen ticket create --client --prefix app/ --allow read --name dashboard")]
    Create(CreateArgs),
    /// List the tickets that the cluster knows, without the secrets that make them good.
    #[command(after_help = "Example:\n  aspen ticket list")]
    List,
    /// Make a ticket good for nothing.
    #[command(after_help = "Example:\n  aspen ticket revoke 0c3f91d2a4b85e67f0112233445566aa")]
    Revoke {
        /// The ticket's id, as `ticket list` and `ticket show` print it.
        #[arg(value_parser = input::ticket_id)]
        id: u128,
    },
    /// Read a ticket, without asking anybody.
    #[command(after_help = "Example:\n  aspen ticket show aspenaaqb…")]
    Show {
        /// The ticket, of either kind; `-` reads it from standard input.
        #[arg(value_name = "TICKET")]
        text: String,
    },
}

/// Arguments of `ticket create`.
#[derive(Debug, Args)]
pub(crate) struct CreateArgs {
    /// What the node may become: voter or learner.
    #[arg(long, default_value = "voter", conflicts_with = "for_clients")]
    pub(crate) role: Role,
    /// How long the ticket is good.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = input::duration_argument)]
    pub(crate) expires: Duration,
    /// How many may use it, or any [default: 1 node, any number of clients].
    #[arg(long, value_name = "N|any", value_parser = input::uses)]
    pub(crate) uses: Option<input::Uses>,
    /// A ticket for programs that use the store, not for nodes.
    #[arg(long = "client")]
    pub(crate) for_clients: bool,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
}

/// What a ticket for programs, or a token, allows.
#[derive(Debug, Args)]
pub(crate) struct ScopeArgs {
    /// Only keys that begin so; may be given several times.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Vec<String>,
    /// Only keys of this keyspace; may be given several times.
    #[arg(long, value_name = "KEYSPACE")]
    pub(crate) keyspace: Vec<String>,
    /// What may be done: read, write, admin, with commas between them [default: read,write].
    #[arg(long, value_name = "VERBS")]
    pub(crate) allow: Option<Verbs>,
    /// A label for people, shown in the list.
    #[arg(long = "name", value_name = "NAME")]
    pub(crate) label: Option<String>,
}

impl ScopeArgs {
    /// Whether anything was said.
    pub(crate) fn is_given(&self) -> bool {
        let ScopeArgs { prefix, keyspace, allow, label } = self;
        !prefix.is_empty() || !keyspace.is_empty() || allow.is_some() || label.is_some()
    }
}

/// Arguments of `token`.
#[derive(Debug, Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    pub(crate) command: TokenCmd,
}

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCmd {
    /// Make a token and print it, this once.
    #[command(after_help = "Examples:\n  \
        aspen token create --name dashboard --allow read --prefix app/\n  \
        aspen token create --allow read,write,admin --expires 30d --token-file data/owner.token")]
    Create(CreateTokenArgs),
    /// List the tokens that the cluster knows, without the secrets that make them good.
    #[command(after_help = "Example:\n  aspen token list")]
    List,
    /// Make a token good for nothing.
    #[command(after_help = "Example:\n  aspen token revoke 0c3f91d2a4b85e67f0112233445566aa")]
    Revoke {
        /// The token's id, as `token list` prints it.
        #[arg(value_parser = input::ticket_id)]
        id: u128,
    },
}

/// Arguments of `token create`.
#[derive(Debug, Args)]
pub(crate) struct CreateTokenArgs {
    /// How long the token is good [default: until it is revoked].
    #[arg(long, value_name = "TIME", value_parser = input::duration_argument)]
    pub(crate) expires: Option<Duration>,
    #[command(flatten)]
    pub(crate) scope: ScopeArgs,
}
