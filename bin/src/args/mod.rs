//! The command line: every command, argument and help text.
//!
//! Arguments that are settings ([`crate::config::SETTINGS`]) are made from that table; they are
//! kept as text here and understood there, so that a bad value reads the same whether a flag, a
//! variable or a file carried it.

mod bench;
mod cluster;
mod mistakes;
mod relay;

use std::path::PathBuf;
use std::time::Duration;

use aspen::limits::KEYSPACE_REPLICAS;
use aspen::types::{ClusterId, Consistency, LeaseId, Revision};
use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{
    Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, Subcommand,
};
use clap_complete::Shell;

pub(crate) use bench::BenchArgs;
pub(crate) use cluster::{
    CreateArgs, CreateTokenArgs, JoinArgs, ScopeArgs, TicketArgs, TicketCmd, TokenArgs, TokenCmd,
};
pub(crate) use mistakes::parse;
pub(crate) use relay::{Public, RelayArgs};

use crate::config::{self, SETTINGS, Scope, Setting};
use crate::exit::Failure;
use crate::input::{self, Encoding};

/// A peer-to-peer, strongly consistent key-value store.
#[derive(Debug, Parser)]
#[command(
    name = "aspen",
    version,
    max_term_width = 100,
    after_help = "Exit codes:\n  \
        0  done\n  \
        1  refused, or not found\n  \
        2  wrong usage: arguments, environment or configuration\n  \
        3  the node can't be reached or can't serve now; nothing was done\n  \
        4  the outcome of a write is unknown; read before you repeat it\n\n\
        Example:\n  \
        aspen start                 # on one machine\n  \
        aspen join TICKET           # on others, with the ticket that the first prints\n  \
        aspen put greeting hello    # on any of them"
)]
pub(crate) struct Cli {
    /// Print JSON, one object a line.
    #[arg(long, global = true, display_order = 100)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) client: ClientSettings,
    #[command(subcommand)]
    pub(crate) command: Option<Cmd>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Cmd {
    /// Run a node until it is told to stop (Ctrl-C or SIGTERM).
    #[command(after_help = "Example:\n  aspen start --data-dir ./data --http 127.0.0.1:4680")]
    Start(NodeArgs),
    /// Join the cluster of a ticket and run a node in it; takes the flags of `start`.
    #[command(after_help = "Examples:\n  \
        aspen join aspenaaqb… --data-dir ./data\n  \
        aspen ticket create --node http://127.0.0.1:4680 | aspen join -")]
    Join(JoinArgs),
    /// Run a relay until it is told to stop: where nodes meet that can't reach each other.
    #[command(after_help = "Examples:\n  \
        aspen relay --public relay.example\n  \
        aspen relay --listen 203.0.113.5:3340 --data-dir ./relay")]
    Relay(RelayArgs),
    /// Store a value under a key.
    #[command(after_help = "Examples:\n  \
        aspen put greeting hello\n  \
        aspen put photo --file cat.jpg\n  \
        date | aspen put now\n  \
        aspen put greeting hi --if-revision 7")]
    Put(PutArgs),
    /// Print the value of a key, byte for byte.
    #[command(after_help = "Examples:\n  aspen get greeting\n  aspen get photo > cat.jpg")]
    Get(GetArgs),
    /// Delete a key, or all keys of a prefix or range.
    #[command(after_help = "Examples:\n  \
        aspen del greeting\n  \
        aspen del --prefix app/\n  \
        aspen del --range a n")]
    Del(DelArgs),
    /// List keys and values in the order of keys.
    #[command(after_help = "Examples:\n  \
        aspen range app/\n  \
        aspen range --start a --end n --keys-only\n  \
        aspen range app/ --count")]
    Range(RangeArgs),
    /// Print changes as they happen, until interrupted.
    #[command(after_help = "Examples:\n  \
        aspen watch --prefix app/\n  \
        aspen watch greeting --from 7")]
    Watch(WatchArgs),
    /// Do several operations as one, if conditions hold.
    #[command(after_help = "Example:\n  \
        aspen txn '{\"when\":[{\"key\":\"k\",\"version\":0}],\
        \"then\":[{\"put\":{\"key\":\"k\",\"value\":\"v\"}}]}'")]
    Txn(TxnArgs),
    /// Make, keep and end leases; keys attached to a lease are deleted when it ends.
    #[command(after_help = "Examples:\n  \
        aspen lease grant 30s\n  \
        aspen put worker/1 up --lease 000000000000002a\n  \
        aspen lease keep-alive 000000000000002a")]
    Lease(LeaseArgs),
    /// Make, list, revoke and read tickets.
    #[command(after_help = "Examples:\n  \
        aspen ticket create\n  \
        aspen ticket create --client --prefix app/\n  \
        aspen ticket list")]
    Ticket(TicketArgs),
    /// Make, list and revoke tokens, by which programs use HTTP where a node asks for one.
    Token(TokenArgs),
    /// Make, list and delete keyspaces.
    #[command(after_help = "Examples:\n  \
        aspen keyspace create logs --shards 16\n  \
        aspen keyspace list\n  \
        aspen put a b --keyspace logs")]
    Keyspace(KeyspaceArgs),
    /// Show how a node reaches the other members, and what is in the way of a direct path.
    #[command(after_help = "Example:\n  aspen doctor")]
    Doctor,
    /// List the members of the cluster.
    #[command(after_help = "Examples:\n  aspen members\n  aspen members --addresses")]
    Members {
        /// Where the node would look for each: who said so, and when.
        #[arg(long)]
        addresses: bool,
    },
    /// Take a node out of its cluster: what it leads and holds is handed over first.
    #[command(after_help = "Example:\n  aspen leave --node http://127.0.0.1:4680")]
    Leave,
    /// Remove a member that will not come back.
    #[command(after_help = "Example:\n  aspen remove 3")]
    Remove {
        /// Its number, as `members` prints it.
        #[arg(value_name = "NODE", value_parser = input::node_number)]
        member: u64,
    },
    /// Take everything off a node that stays a member: its replicas and leads go to others.
    #[command(
        after_help = "Examples:\n  aspen drain 3\n  aspen drain 3 --wait\n  aspen drain 3 --off"
    )]
    Drain {
        /// The node's number.
        #[arg(value_name = "NODE", value_parser = input::node_number)]
        member: u64,
        /// Tell how far it is, until it holds nothing.
        #[arg(long, conflicts_with = "off")]
        wait: bool,
        /// Let it take its share again.
        #[arg(long)]
        off: bool,
    },
    /// Put nodes under maintenance: they lead nothing, and are waited for while they are away.
    #[command(after_help = "Examples:\n  aspen maintenance on 3\n  aspen maintenance off 3")]
    Maintenance {
        /// Whether it begins or ends.
        #[arg(value_name = "on|off", value_parser = ["on", "off"], hide_possible_values = true)]
        switch: String,
        /// The nodes' numbers.
        #[arg(required = true, value_name = "NODE", value_parser = input::node_number)]
        members: Vec<u64>,
    },
    /// Show where shards would be moved next.
    #[command(after_help = "Example:\n  aspen rebalance --dry-run")]
    Rebalance {
        /// Only show it; what is shown is done by itself, as far as settings let it.
        #[arg(long, required = true)]
        dry_run: bool,
    },
    /// Show what is under way in the cluster and takes long, and how far it is.
    #[command(after_help = "Examples:\n  \
        aspen operations\n  \
        aspen operations drain-3 --wait")]
    Operations {
        /// Only this one, under way or done.
        id: Option<String>,
        /// Tell how far it is, until it is done.
        #[arg(long, requires = "id")]
        wait: bool,
    },
    /// Show and change what holds for the whole cluster.
    #[command(after_help = "Examples:\n  \
        aspen settings get\n  \
        aspen settings set lost-after 10m\n  \
        aspen settings reset lost-after")]
    Settings {
        #[command(subcommand)]
        command: SettingsCmd,
    },
    /// Make another member the leader of a group.
    #[command(after_help = "Example:\n  aspen transfer 1 2")]
    Transfer {
        /// The group's number, as `status` prints it.
        #[arg(value_parser = input::group_number)]
        group: u64,
        /// The member's number.
        #[arg(value_name = "NODE", value_parser = input::node_number)]
        member: u64,
    },
    /// Take a node's damaged replicas again from the other nodes, and wait until they are whole.
    #[command(after_help = "Examples:\n  aspen repair\n  aspen repair 1")]
    Repair {
        /// The group whose replica to take again, damaged or not; without it, all that are damaged.
        #[arg(value_parser = input::group_number)]
        group: Option<u64>,
    },
    /// Make a new cluster of what a stopped node has, when most of its cluster is lost for good.
    #[command(after_help = "Examples:\n  \
        aspen recover --data-dir ./data\n  \
        aspen recover --data-dir ./data --confirm 0c3f91d2a4b85e67f0112233445566aa")]
    Recover {
        /// The survivor's data directory.
        #[arg(long, value_name = "DIR")]
        data_dir: PathBuf,
        /// Do it, and not only say what would be done: the id of the cluster that is to be no more.
        #[arg(long, value_name = "CLUSTER-ID", value_parser = input::cluster_id)]
        confirm: Option<ClusterId>,
    },
    /// Show a cluster as a node sees it, how well it is, and what to do.
    #[command(after_help = "Examples:\n  aspen status\n  aspen status --watch")]
    Status {
        /// Show it anew every second until interrupted.
        #[arg(long)]
        watch: bool,
    },
    /// Put load on a store for a while and tell how fast it answers.
    #[command(after_help = "Examples:\n  \
        aspen bench\n  \
        aspen bench --reads 90 --clients 256 --for 30s\n  \
        aspen bench --rate 2000 --value-size 4KiB --keyspace logs")]
    Bench(BenchArgs),
    /// Drop the history of changes before a revision; present values stay.
    #[command(after_help = "Example:\n  aspen compact 1000")]
    Compact {
        /// The oldest revision that can still be read afterwards.
        #[arg(value_parser = input::number)]
        revision: Revision,
        #[command(flatten)]
        store: StoreSettings,
    },
    /// Show the configuration and where each value comes from, or check a file.
    #[command(after_help = "Examples:\n  aspen config show --reach loopback\n  \
        aspen config check aspen.toml")]
    Config {
        #[command(subcommand)]
        command: ConfigCmd,
        #[command(flatten)]
        misplaced: MisplacedSettings,
    },
    /// Print what makes a shell complete these commands and their flags.
    #[command(after_help = "Examples:\n  \
        aspen completions bash > ~/.local/share/bash-completion/completions/aspen\n  \
        aspen completions fish > ~/.config/fish/completions/aspen.fish")]
    Completions {
        /// For which shell.
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands.
    #[command(
        after_help = "Examples:\n  aspen man | man -l -\n  aspen man --dir ~/.local/share/man/man1"
    )]
    Man {
        /// Write a page for each command into this directory.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
}

/// What configures a node.
#[derive(Debug, Args)]
pub(crate) struct NodeArgs {
    #[command(flatten)]
    pub(crate) settings: NodeSettings,
    #[command(flatten)]
    pub(crate) misplaced: MisplacedSettings,
    /// Read settings from this TOML file [env: ASPEN_CONFIG].
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// What to do with the configuration.
#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCmd {
    /// Print every setting with its value and origin; takes the flags of `start`.
    Show(NodeArgs),
    /// Check a configuration file without starting anything.
    Check {
        /// The file.
        file: PathBuf,
        #[command(flatten)]
        misplaced: MisplacedSettings,
    },
}

/// Arguments of `put`.
#[derive(Debug, Args)]
pub(crate) struct PutArgs {
    /// The key.
    pub(crate) key: String,
    /// The value; `-`, or nothing at all, reads it from standard input.
    #[arg(allow_negative_numbers = true)]
    pub(crate) value: Option<String>,
    /// Read the value from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "value")]
    pub(crate) file: Option<PathBuf>,
    /// Attach the key to a lease.
    #[arg(long, value_name = "ID", value_parser = input::lease_id)]
    pub(crate) lease: Option<LeaseId>,
    /// Only if the key was last written at this revision.
    #[arg(long, value_name = "N", value_parser = input::number, conflicts_with = "if_absent")]
    pub(crate) if_revision: Option<Revision>,
    /// Only if the key does not exist.
    #[arg(long)]
    pub(crate) if_absent: bool,
    /// Print the previous value.
    #[arg(long)]
    pub(crate) prev: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreSettings,
}

/// Arguments of `get`.
#[derive(Debug, Args)]
pub(crate) struct GetArgs {
    /// The key.
    pub(crate) key: String,
    /// Read the value as it was at this revision.
    #[arg(long, value_name = "N", value_parser = input::number)]
    pub(crate) revision: Option<Revision>,
    /// Print the key's revisions, version and lease instead of its value.
    #[arg(long)]
    pub(crate) meta: bool,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreSettings,
}

/// Arguments of `del`.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).args(["key", "prefix", "range"]))]
pub(crate) struct DelArgs {
    /// The key.
    pub(crate) key: Option<String>,
    /// Delete every key that begins so.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// Delete every key from A up to, and without, B.
    #[arg(long, num_args = 2, value_names = ["A", "B"])]
    pub(crate) range: Option<Vec<String>>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreSettings,
}

/// Arguments of `range`.
#[derive(Debug, Args)]
pub(crate) struct RangeArgs {
    /// Every key that begins so; without it and without bounds, every key.
    #[arg(conflicts_with_all = ["start", "end"])]
    pub(crate) prefix: Option<String>,
    /// From this key on.
    #[arg(long, value_name = "KEY")]
    pub(crate) start: Option<String>,
    /// Up to this key, without it.
    #[arg(long, value_name = "KEY")]
    pub(crate) end: Option<String>,
    /// At most so many records.
    #[arg(long, value_name = "N", value_parser = input::number)]
    pub(crate) limit: Option<u64>,
    /// Print keys without values.
    #[arg(long, conflicts_with = "count")]
    pub(crate) keys_only: bool,
    /// Print only how many keys there are.
    #[arg(long, conflicts_with_all = ["limit", "reverse"])]
    pub(crate) count: bool,
    /// Greatest key first.
    #[arg(long)]
    pub(crate) reverse: bool,
    /// The state as it was at this revision.
    #[arg(long, value_name = "N", value_parser = input::number)]
    pub(crate) revision: Option<Revision>,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreSettings,
}

/// Arguments of `watch`.
#[derive(Debug, Args)]
pub(crate) struct WatchArgs {
    /// The key; without it and without a prefix, every key.
    #[arg(conflicts_with = "prefix")]
    pub(crate) key: Option<String>,
    /// Every key that begins so.
    #[arg(long, value_name = "PREFIX")]
    pub(crate) prefix: Option<String>,
    /// Begin with the changes of this revision; without it, with the next change.
    #[arg(long, value_name = "REV", value_parser = input::number)]
    pub(crate) from: Option<Revision>,
    /// Print what was there before each change.
    #[arg(long)]
    pub(crate) prev: bool,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) store: StoreSettings,
}

/// Arguments of `txn`.
#[derive(Debug, Args)]
pub(crate) struct TxnArgs {
    /// The transaction in the JSON of POST /v1/txn (docs/http.md); `-`, or nothing at all, reads
    /// it from standard input.
    pub(crate) txn: Option<String>,
    /// Read the transaction from a file.
    #[arg(long, value_name = "FILE", conflicts_with = "txn")]
    pub(crate) file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) store: StoreSettings,
}

/// Arguments of `lease`.
#[derive(Debug, Args)]
pub(crate) struct LeaseArgs {
    #[command(flatten)]
    pub(crate) store: StoreSettings,
    #[command(subcommand)]
    pub(crate) command: LeaseCmd,
}

/// What to do with leases.
#[derive(Debug, Subcommand)]
pub(crate) enum LeaseCmd {
    /// Make a lease and print its id.
    #[command(after_help = "Example:\n  aspen lease grant 30s")]
    Grant {
        /// How long it lives unless kept alive.
        #[arg(value_parser = input::duration_argument)]
        ttl: Duration,
        /// The id to give it; without one the cluster picks it.
        #[arg(long, value_name = "ID", value_parser = input::lease_id)]
        id: Option<LeaseId>,
    },
    /// End a lease and delete its keys.
    #[command(after_help = "Example:\n  aspen lease revoke 000000000000002a")]
    Revoke {
        /// The lease.
        #[arg(value_parser = input::lease_id)]
        id: LeaseId,
    },
    /// Keep a lease alive until interrupted.
    #[command(after_help = "Example:\n  aspen lease keep-alive 000000000000002a")]
    KeepAlive {
        /// The lease.
        #[arg(value_parser = input::lease_id)]
        id: LeaseId,
        /// Renew it once and end.
        #[arg(long)]
        once: bool,
    },
    /// List all leases.
    #[command(after_help = "Example:\n  aspen lease list")]
    List,
    /// Show a lease, the time it has left and its keys.
    #[command(after_help = "Example:\n  aspen lease show 000000000000002a")]
    Show {
        /// The lease.
        #[arg(value_parser = input::lease_id)]
        id: LeaseId,
    },
}

/// What to do with the cluster's settings.
#[derive(Debug, Subcommand)]
pub(crate) enum SettingsCmd {
    /// Print the settings, or one of them.
    #[command(after_help = "Example:\n  aspen settings get lost-after")]
    Get {
        /// Which.
        name: Option<String>,
    },
    /// Set a setting, and wait until the members know it.
    #[command(after_help = "Example:\n  aspen settings set lost-after 10m")]
    Set {
        /// Which.
        name: String,
        /// What it is to be.
        value: String,
    },
    /// Go back to a setting's default.
    #[command(after_help = "Example:\n  aspen settings reset lost-after")]
    Reset {
        /// Which.
        name: String,
    },
}

/// Arguments of `keyspace`.
#[derive(Debug, Args)]
pub(crate) struct KeyspaceArgs {
    #[command(subcommand)]
    pub(crate) command: KeyspaceCmd,
}

/// What to do with keyspaces.
#[derive(Debug, Subcommand)]
pub(crate) enum KeyspaceCmd {
    /// Make a keyspace; its number of shards stays for ever.
    #[command(after_help = "Example:\n  aspen keyspace create logs --shards 16")]
    Create {
        /// Its name.
        name: String,
        /// How many shards its keys are spread over.
        #[arg(long, value_name = "N", default_value_t = 1, value_parser = input::shards)]
        shards: u32,
        /// How many nodes hold each shard, once there are so many.
        #[arg(
            long,
            value_name = "N",
            default_value_t = KEYSPACE_REPLICAS,
            value_parser = input::replicas
        )]
        replicas: u8,
    },
    /// List the keyspaces.
    #[command(after_help = "Example:\n  aspen keyspace list")]
    List,
    /// Show a keyspace and where each of its shards is.
    Show {
        /// Its name.
        name: String,
    },
    /// Delete a keyspace with all that is in it.
    #[command(after_help = "Example:\n  aspen keyspace delete logs")]
    Delete {
        /// Its name.
        name: String,
    },
}

/// How fresh a read must be.
#[derive(Debug, Args)]
pub(crate) struct ReadArgs {
    /// How fresh the answer must be.
    #[arg(long, value_name = "KIND", value_parser = consistencies())]
    pub(crate) consistency: Option<Consistency>,
}

fn consistencies() -> impl TypedValueParser<Value = Consistency> {
    PossibleValuesParser::new(["linearizable", "lease", "stale"])
        .try_map(|word| word.parse::<Consistency>())
}

/// How keys are written.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct KeyArgs {
    /// How keys are written in the arguments: text, base64 or hex.
    #[arg(long, value_enum, default_value = "text", hide_possible_values = true)]
    pub(crate) encoding: Encoding,
}

/// The node's settings that were given as flags.
#[derive(Debug, Default)]
pub(crate) struct NodeSettings(pub(crate) Vec<(&'static Setting, String)>);

/// The client's settings that were given as flags, before or after the command.
#[derive(Debug, Default)]
pub(crate) struct ClientSettings(pub(crate) Vec<(&'static Setting, String)>);

/// The settings of commands on keys that were given as flags.
#[derive(Clone, Debug, Default)]
pub(crate) struct StoreSettings(pub(crate) Vec<(&'static Setting, String)>);

/// The client's settings where they mean nothing: taken so that the refusal can say so, and not
/// shown in the help.
#[derive(Debug, Default)]
pub(crate) struct MisplacedSettings(Vec<(&'static Setting, String)>);

fn settings_of(scope: Scope) -> impl Iterator<Item = &'static Setting> {
    SETTINGS.iter().filter(move |setting| setting.scope == scope)
}

fn setting_arg(setting: &'static Setting) -> Arg {
    let variable = setting.variable();
    let default = setting.default.map_or_else(String::new, |text| format!(" [default: {text}]"));
    let arg = Arg::new(setting.name)
        .long(setting.name)
        .value_name(setting.value_name)
        .action(ArgAction::Set)
        .help(format!("{} [env: {variable}]{default}", setting.help));
    match setting.bare() {
        Some(bare) => arg.num_args(0..=1).require_equals(true).default_missing_value(bare),
        None if setting.is_list() => arg.action(ArgAction::Append),
        None => arg,
    }
}

fn given(scope: Scope, matches: &ArgMatches) -> Vec<(&'static Setting, String)> {
    settings_of(scope)
        .filter_map(|setting| {
            let values: Vec<&str> =
                matches.get_many::<String>(setting.name)?.map(String::as_str).collect();
            Some((setting, values.join(",")))
        })
        .collect()
}

macro_rules! settings_as_args {
    ($type:ident, $scope:expr, $arg:expr) => {
        impl Args for $type {
            fn augment_args(command: Command) -> Command {
                command.args(settings_of($scope).map($arg))
            }
            fn augment_args_for_update(command: Command) -> Command {
                Self::augment_args(command)
            }
        }
        impl FromArgMatches for $type {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok($type(given($scope, matches)))
            }
            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                *self = Self::from_arg_matches(matches)?;
                Ok(())
            }
        }
    };
}

settings_as_args!(NodeSettings, Scope::Node, setting_arg);
settings_as_args!(ClientSettings, Scope::Client, |setting| {
    setting_arg(setting).global(true).display_order(101)
});
settings_as_args!(StoreSettings, Scope::Store, |setting| {
    setting_arg(setting).global(true).display_order(102)
});
settings_as_args!(MisplacedSettings, Scope::Client, |setting| setting_arg(setting).hide(true));

/// Prints the help of the command as a whole.
pub(crate) fn print_help() -> Result<(), Failure> {
    Ok(command().print_help()?)
}

/// All of the command line.
pub(crate) fn command() -> Command {
    Cli::command()
}

/// `--node`, `--ticket` and `--timeout` are for commands that talk to a node; said elsewhere they
/// are a mistake that must not pass silently.
fn refuse(given: &[(&'static Setting, String)]) -> Result<(), Failure> {
    match given.first() {
        Some((setting, _)) => Err(Failure::usage(format!(
            "--{} is for commands that talk to a running node, such as put and get",
            setting.name
        ))),
        None => Ok(()),
    }
}

impl ClientSettings {
    /// Refuses them before a command that does not talk to a node.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        refuse(&self.0)
    }
}

impl MisplacedSettings {
    /// Refuses them.
    pub(crate) fn refuse(&self) -> Result<(), Failure> {
        refuse(&self.0)
    }
}

impl NodeArgs {
    /// Reads the configuration from its four places.
    pub(crate) fn load(&self) -> Result<config::Loaded, Failure> {
        self.misplaced.refuse()?;
        config::load_node(&self.settings.0, self.config.as_deref(), &config::environment())
            .map_err(|problems| config::failure(&problems))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_has_an_example() {
        fn walk(command: &Command) {
            if !command.has_subcommands() {
                let help = command.get_after_help().map(ToString::to_string).unwrap_or_default();
                let parent_has_it = ["show", "check"].contains(&command.get_name());
                assert!(help.contains("Example") || parent_has_it, "{}", command.get_name());
            }
            command.get_subcommands().for_each(walk);
        }
        walk(&Cli::command());
    }

    #[test]
    fn every_command_and_flag_is_documented() {
        let page = include_str!("../../../docs/command.md");
        fn walk(command: &Command, page: &str) {
            let name = command.get_name();
            assert!(page.contains(name), "{name} is not in docs/command.md");
            for flag in command.get_arguments().filter(|a| !a.is_hide_set()) {
                let Some(long) = flag.get_long() else { continue };
                assert!(page.contains(&format!("--{long}")), "{name} --{long} is not there");
            }
            command.get_subcommands().for_each(|command| walk(command, page));
        }
        walk(&Cli::command(), page);
    }
}
