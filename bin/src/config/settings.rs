//! The table of settings: every name, default, meaning and parser, once.
//!
//! Flags, environment variables, keys of the file, `aspen config show`, the help and
//! `docs/config.md` all come from these rows or are tested against them. A row parses text; what
//! it does not allow is refused with the row's own list of what it does.

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use aspen::http::{Auth, DoorLimits, Origins};
use aspen::limits::{KEYSPACE_SHARDS_MAX, MEMBER_WEIGHT_MAX, MEMBERS_MAX, VOTERS_MAX};
use aspen::raft::RaftTimes;
use aspen::types::KeyspaceName;
use aspen::{DoorAddress, Internet, Reach, StorageBackend};

use crate::input;
use crate::logs;
use crate::otlp::Collector;

/// Whom a setting concerns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A node that starts; may stand in the configuration file.
    Node,
    /// A command that talks to a running node; flags and environment only.
    Client,
    /// Of those the ones on keys; as above.
    Store,
}

/// One setting. The flag is `--name`, the variable `ASPEN_NAME`, the key in the file `name`.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Its name, in words joined by dashes.
    pub(crate) name: &'static str,
    /// What stands for its value in the help.
    pub(crate) value_name: &'static str,
    /// Whom it concerns.
    pub(crate) scope: Scope,
    /// The value when nobody says otherwise; `None` leaves it to the node.
    pub(crate) default: Option<&'static str>,
    /// What is allowed, as the end of a sentence that begins with "use".
    pub(crate) allowed: &'static str,
    /// What it is for, in one line.
    pub(crate) help: &'static str,
    /// Takes a text into the configuration; `None` if it is not allowed.
    pub(super) apply: fn(&mut Config, &str) -> Option<()>,
    /// The value as text that `apply` would take.
    pub(super) show: fn(&Config) -> Option<String>,
}

impl Setting {
    /// What the flag alone says, without a value.
    pub(crate) fn bare(&self) -> Option<&'static str> {
        match self.value_name {
            SWITCH => Some("yes"),
            DHT => Some("public"),
            _ => None,
        }
    }

    /// Whether the flag may be given several times.
    pub(crate) fn is_list(&self) -> bool {
        [RELAYS, ORIGINS].contains(&self.value_name)
    }

    /// The environment variable.
    pub(crate) fn variable(&self) -> String {
        format!("ASPEN_{}", self.name.replace('-', "_").to_ascii_uppercase())
    }
}

/// How log lines look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// All values, understood.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Config {
    /// Where the node keeps its data.
    pub(crate) data_dir: PathBuf,
    /// The cluster's name, given when it is made.
    pub(crate) name: Option<String>,
    /// The node's number.
    pub(crate) node_id: Option<u64>,
    /// What people call the node.
    pub(crate) node_name: Option<String>,
    /// How far it reaches.
    pub(crate) reach: Reach,
    /// By what it reaches beyond the LAN.
    pub(crate) internet: Internet,
    /// The mesh that it finds its cluster by.
    pub(crate) lan: Option<String>,
    /// Where the mesh's secret is.
    pub(crate) lan_secret_file: Option<PathBuf>,
    /// Whether the mesh is for everybody on the LAN.
    pub(crate) open: bool,
    /// How many nodes found the mesh's cluster.
    pub(crate) expect: usize,
    /// Where it listens for peers.
    pub(crate) listen: Option<SocketAddr>,
    /// Where it serves HTTP; `None` is off.
    pub(crate) http: Option<DoorAddress>,
    /// With which certificate, if over TLS.
    pub(crate) http_tls_cert: Option<PathBuf>,
    /// Where its key is.
    pub(crate) http_tls_key: Option<PathBuf>,
    /// Whose pages may use it.
    pub(crate) http_cors: Option<Origins>,
    /// How much it lets in there.
    pub(crate) http_limits: DoorLimits,
    /// Whether it asks for tokens there.
    pub(crate) auth: Auth,
    /// Whether it serves HTTP beyond this machine all the same if it does not.
    pub(crate) insecure: bool,
    /// Whether nobody changes anything through it.
    pub(crate) read_only: bool,
    /// What it keeps its data in.
    pub(crate) storage: StorageBackend,
    /// How fast it notices that a leader is gone.
    pub(crate) times: RaftTimes,
    /// What it logs.
    pub(crate) log: String,
    /// How it logs.
    pub(crate) log_format: LogFormat,
    /// Where it sends traces.
    pub(crate) otlp: Option<Collector>,
    /// How many shards the default keyspace of a new cluster has.
    pub(crate) shards: u32,
    /// How many replicas each of them is to have.
    pub(crate) replicas: u8,
    /// How much the node takes in proportion to others.
    pub(crate) capacity: Option<u32>,
    /// The node that a client command talks to.
    pub(crate) node: String,
    /// Who vouches for it, if it speaks TLS.
    pub(crate) ca: Option<PathBuf>,
    /// The token that it shows.
    pub(crate) token: Option<String>,
    /// The file that the token is in.
    pub(crate) token_file: Option<PathBuf>,
    /// The client ticket by which it uses a cluster instead.
    pub(crate) ticket: Option<String>,
    /// The keyspace that a client command is about.
    pub(crate) keyspace: KeyspaceName,
    /// A key of the one shard that it is about.
    pub(crate) near: Option<String>,
    /// How long a client command waits.
    pub(crate) timeout: Duration,
}

/// Longest name of a cluster or a node, in bytes: it fits into one DNS label and one line of
/// output.
const NAME_BYTES_MAX: usize = 63;

/// The values of a setting that is on or off.
const SWITCH: &str = "yes|no";
const SWITCHED: &[(&str, bool)] = &[("yes", true), ("no", false)];
const ON_OFF: &[(&str, bool)] = &[("on", true), ("off", false)];
const RELAYS: &str = "URL|public|off";
/// The same of origins.
const ORIGINS: &str = "ORIGIN";
const DHT: &str = "public|off|ADDR,…";

/// Every setting there is.
pub(crate) const SETTINGS: &[Setting] = &[
    Setting {
        name: "data-dir",
        value_name: "DIR",
        scope: Scope::Node,
        // Not a hidden place under the home directory: several nodes on one machine are the
        // normal case while learning and testing, and a person must see what to back up or
        // delete. A service names its own directory anyway.
        default: Some("./data"),
        allowed: "a path to a directory",
        help: "Where the node keeps its identity and its data; made if it is not there",
        apply: |config, text| {
            config.data_dir = (!text.is_empty()).then(|| PathBuf::from(text))?;
            Some(())
        },
        show: |config| Some(config.data_dir.display().to_string()),
    },
    Setting {
        name: "name",
        value_name: "NAME",
        scope: Scope::Node,
        default: None,
        allowed: "1 to 63 letters, digits, dots, dashes or underscores",
        help: "The cluster's name, given when the cluster is made",
        apply: |config, text| {
            config.name = Some(is_name(text).then(|| text.to_owned())?);
            Some(())
        },
        show: |config| config.name.clone(),
    },
    Setting {
        name: "node-id",
        value_name: "N",
        scope: Scope::Node,
        default: None,
        allowed: "a whole number from 1",
        help: "The node's number in its cluster; chosen by the cluster unless told otherwise",
        apply: |config, text| {
            config.node_id = Some(text.parse().ok().filter(|&id| id != 0)?);
            Some(())
        },
        show: |config| config.node_id.map(|id| id.to_string()),
    },
    Setting {
        name: "node-name",
        value_name: "NAME",
        scope: Scope::Node,
        default: None,
        allowed: "1 to 63 letters, digits, dots, dashes or underscores",
        help: "What people call the node, in the list of members",
        apply: |config, text| {
            config.node_name = Some(is_name(text).then(|| text.to_owned())?);
            Some(())
        },
        show: |config| config.node_name.clone(),
    },
    Setting {
        name: "reach",
        value_name: "REACH",
        scope: Scope::Node,
        default: Some("lan"),
        allowed: "one of: loopback, lan, internet",
        help: "How far the node reaches for others: loopback, lan or internet",
        apply: |config, text| {
            config.reach = one_of(text, REACHES)?;
            Some(())
        },
        show: |config| Some(word_of(&config.reach, REACHES)),
    },
    Setting {
        name: "relay",
        value_name: RELAYS,
        scope: Scope::Node,
        default: Some("public"),
        allowed: "public, off, or the URL of a relay such as https://relay.example, or several with \
                  commas between them",
        help: "The relay by which nodes meet that can't reach each other; may be given several times",
        apply: |config, text| {
            config.internet.relays = text.parse().ok()?;
            Some(())
        },
        show: |config| Some(config.internet.relays.to_string()),
    },
    Setting {
        name: "relay-only",
        value_name: SWITCH,
        scope: Scope::Node,
        default: Some("no"),
        allowed: "yes or no",
        help: "Be reached by the relay only, and tell nobody this machine's addresses",
        apply: |config, text| {
            config.internet.relay_only = one_of(text, SWITCHED)?;
            Some(())
        },
        show: |config| Some(word_of(&config.internet.relay_only, SWITCHED)),
    },
    Setting {
        name: "directory",
        value_name: "URL|public|off",
        scope: Scope::Node,
        default: Some("public"),
        allowed: "public, off, or the URL of a pkarr server such as https://dns.example/pkarr",
        help: "Where nodes are found by their keys: a pkarr server, or public for iroh's",
        apply: |config, text| {
            config.internet.directory = text.parse().ok()?;
            Some(())
        },
        show: |config| Some(config.internet.directory.to_string()),
    },
    Setting {
        name: "dht",
        value_name: DHT,
        scope: Scope::Node,
        default: Some("off"),
        allowed: "public, off, or nodes to enter it by such as 192.0.2.1:6881, with commas between \
                  them",
        help: "Be found by key in the mainline DHT, too; nodes to enter it by, or public for all's",
        apply: |config, text| {
            config.internet.dht = text.parse().ok()?;
            Some(())
        },
        show: |config| Some(config.internet.dht.to_string()),
    },
    Setting {
        name: "port-mapping",
        value_name: "on|off",
        scope: Scope::Node,
        default: Some("on"),
        allowed: "on or off",
        help: "Ask the router to let other nodes in",
        apply: |config, text| {
            config.internet.port_mapping = one_of(text, ON_OFF)?;
            Some(())
        },
        show: |config| Some(word_of(&config.internet.port_mapping, ON_OFF)),
    },
    Setting {
        name: "lan",
        value_name: "NAME",
        scope: Scope::Node,
        default: None,
        allowed: "1 to 63 letters, digits, dots, dashes or underscores",
        help: "Find the other nodes of this name on the LAN and be one cluster with them",
        apply: |config, text| {
            config.lan = Some(is_name(text).then(|| text.to_owned())?);
            Some(())
        },
        show: |config| config.lan.clone(),
    },
    Setting {
        name: "lan-secret-file",
        value_name: "FILE",
        scope: Scope::Node,
        default: None,
        allowed: "a path to a file",
        help: "The file with the secret that the nodes of the LAN's cluster share",
        apply: |config, text| {
            config.lan_secret_file = some_path(text)?;
            Some(())
        },
        show: |config| config.lan_secret_file.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        name: "open",
        value_name: SWITCH,
        scope: Scope::Node,
        default: Some("no"),
        allowed: "yes or no",
        help: "Let everybody on the LAN into the cluster, without a secret",
        apply: |config, text| {
            config.open = one_of(text, SWITCHED)?;
            Some(())
        },
        show: |config| Some(word_of(&config.open, SWITCHED)),
    },
    Setting {
        name: "expect",
        value_name: "N",
        scope: Scope::Node,
        default: Some("3"),
        allowed: "a whole number from 1 to 256",
        help: "How many nodes must have met on the LAN before they make a cluster",
        apply: |config, text| {
            config.expect = text.parse().ok().filter(|nodes| (1..=MEMBERS_MAX).contains(nodes))?;
            Some(())
        },
        show: |config| Some(config.expect.to_string()),
    },
    Setting {
        name: "shards",
        value_name: "N",
        scope: Scope::Node,
        default: Some("1"),
        allowed: "a whole number from 1 to 500",
        help: "How many shards the default keyspace has, given when the cluster is made",
        apply: |config, text| {
            let shards = 1..=KEYSPACE_SHARDS_MAX;
            config.shards = text.parse().ok().filter(|count| shards.contains(count))?;
            Some(())
        },
        show: |config| Some(config.shards.to_string()),
    },
    Setting {
        name: "replicas",
        value_name: "N",
        scope: Scope::Node,
        default: Some("3"),
        allowed: "a whole number from 1 to 5",
        help: "How many nodes hold each of them, once there are so many",
        apply: |config, text| {
            let replicas = 1..=VOTERS_MAX;
            let count: usize = text.parse().ok().filter(|count| replicas.contains(count))?;
            config.replicas = count as u8;
            Some(())
        },
        show: |config| Some(config.replicas.to_string()),
    },
    Setting {
        name: "capacity",
        value_name: "N",
        scope: Scope::Node,
        default: None,
        allowed: "a whole number from 1 to 10000",
        help: "How much the node takes in proportion to others; 100 until it is said",
        apply: |config, text| {
            let weights = 1..=MEMBER_WEIGHT_MAX;
            config.capacity = Some(text.parse().ok().filter(|weight| weights.contains(weight))?);
            Some(())
        },
        show: |config| config.capacity.map(|weight| weight.to_string()),
    },
    Setting {
        name: "listen",
        value_name: "ADDR",
        scope: Scope::Node,
        default: None,
        allowed: "an address and port such as 127.0.0.1:4681",
        help: "Where the node listens for its peers; chosen by the reach unless told otherwise",
        apply: |config, text| {
            config.listen = Some(text.parse().ok()?);
            Some(())
        },
        show: |config| config.listen.map(|address| address.to_string()),
    },
    Setting {
        name: "http",
        value_name: "ADDR|unix:PATH|off",
        scope: Scope::Node,
        default: Some("127.0.0.1:4680"),
        allowed: "an address and port such as 127.0.0.1:4680 (port 0 takes a free one), a socket \
                  such as unix:/run/aspen.sock, or off",
        help: "Where the node serves HTTP: an address, a Unix socket, or off; port 0 takes a free one",
        apply: |config, text| {
            config.http = if text == "off" { None } else { Some(text.parse().ok()?) };
            Some(())
        },
        show: |config| {
            Some(config.http.as_ref().map_or_else(|| "off".to_owned(), DoorAddress::to_string))
        },
    },
    Setting {
        name: "http-tls-cert",
        value_name: "FILE",
        scope: Scope::Node,
        default: None,
        allowed: "a path to a file",
        help: "The certificate with which the node serves HTTP over TLS, in PEM",
        apply: |config, text| {
            config.http_tls_cert = some_path(text)?;
            Some(())
        },
        show: |config| config.http_tls_cert.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        name: "http-tls-key",
        value_name: "FILE",
        scope: Scope::Node,
        default: None,
        allowed: "a path to a file",
        help: "The private key of that certificate, in PEM",
        apply: |config, text| {
            config.http_tls_key = some_path(text)?;
            Some(())
        },
        show: |config| config.http_tls_key.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        name: "http-cors",
        value_name: ORIGINS,
        scope: Scope::Node,
        default: None,
        allowed: "the origin of pages such as https://app.example, several with commas between \
                  them, or * alone for all",
        help: "Pages of which origin may use HTTP in a browser; may be given several times",
        apply: |config, text| {
            config.http_cors = Some(text.parse().ok()?);
            Some(())
        },
        show: |config| config.http_cors.as_ref().map(Origins::to_string),
    },
    Setting {
        name: "http-rate",
        value_name: "N|off",
        scope: Scope::Node,
        default: Some("off"),
        allowed: "requests a second such as 1000, or off",
        help: "How many requests a second one client address may send by HTTP, or off",
        apply: |config, text| {
            config.http_limits.rate = number_or_off(text)?;
            Some(())
        },
        show: |config| Some(shown_or_off(config.http_limits.rate)),
    },
    Setting {
        name: "http-at-once",
        value_name: "N|off",
        scope: Scope::Node,
        default: Some("4096"),
        allowed: "a whole number from 1, or off",
        help: "How many operations may be under way by HTTP at once, or off",
        apply: |config, text| {
            config.http_limits.at_once = number_or_off(text)?;
            Some(())
        },
        show: |config| Some(shown_or_off(config.http_limits.at_once)),
    },
    Setting {
        name: "auth",
        value_name: "off|required",
        scope: Scope::Node,
        default: Some("off"),
        allowed: "off or required",
        help: "Whether HTTP asks for a token: off lets in whoever reaches it",
        apply: |config, text| {
            config.auth = one_of(text, AUTHS)?;
            Some(())
        },
        show: |config| Some(word_of(&config.auth, AUTHS)),
    },
    Setting {
        name: "insecure",
        value_name: SWITCH,
        scope: Scope::Node,
        default: Some("no"),
        allowed: "yes or no",
        help: "Serve HTTP beyond this machine without asking for a token",
        apply: |config, text| {
            config.insecure = one_of(text, SWITCHED)?;
            Some(())
        },
        show: |config| Some(word_of(&config.insecure, SWITCHED)),
    },
    Setting {
        name: "read-only",
        value_name: SWITCH,
        scope: Scope::Node,
        default: Some("no"),
        allowed: "yes or no",
        help: "Let nobody change anything through this node, by HTTP or with a ticket",
        apply: |config, text| {
            config.read_only = one_of(text, SWITCHED)?;
            Some(())
        },
        show: |config| Some(word_of(&config.read_only, SWITCHED)),
    },
    Setting {
        name: "storage",
        value_name: "STORAGE",
        scope: Scope::Node,
        default: Some("redb"),
        allowed: "one of: redb, memory",
        help: "What the node keeps its data in: redb (durable) or memory (gone when it stops)",
        apply: |config, text| {
            config.storage = one_of(text, STORAGES)?;
            Some(())
        },
        show: |config| Some(word_of(&config.storage, STORAGES)),
    },
    Setting {
        name: "heartbeat",
        value_name: "TIME",
        scope: Scope::Node,
        default: Some("150ms"),
        allowed: TIMES_ALLOWED,
        help: "How often a leader says that it is there; the same on every node",
        apply: |config, text| {
            config.times.heartbeat = some_time(text)?;
            Some(())
        },
        show: |config| Some(input::duration_text(config.times.heartbeat)),
    },
    Setting {
        name: "election-min",
        value_name: "TIME",
        scope: Scope::Node,
        default: Some("500ms"),
        allowed: TIMES_ALLOWED,
        help: "The shortest silence of a leader after which another is elected",
        apply: |config, text| {
            config.times.election_min = some_time(text)?;
            Some(())
        },
        show: |config| Some(input::duration_text(config.times.election_min)),
    },
    Setting {
        name: "election-max",
        value_name: "TIME",
        scope: Scope::Node,
        default: Some("1s"),
        allowed: TIMES_ALLOWED,
        help: "The longest such silence; nodes draw theirs between the two",
        apply: |config, text| {
            config.times.election_max = some_time(text)?;
            Some(())
        },
        show: |config| Some(input::duration_text(config.times.election_max)),
    },
    Setting {
        name: "log",
        value_name: "LEVEL",
        scope: Scope::Node,
        default: Some("info"),
        allowed: "one of: off, error, warn, info, debug, trace; or target=level pairs such as \
                  aspen=debug,iroh=info",
        help: "What is logged to stderr: off, error, warn, info, debug, trace or target=level,…",
        apply: |config, text| {
            config.log = logs::is_filter(text).then(|| text.to_owned())?;
            Some(())
        },
        show: |config| Some(config.log.clone()),
    },
    Setting {
        name: "log-format",
        value_name: "FORMAT",
        scope: Scope::Node,
        default: Some("text"),
        allowed: "one of: text, json",
        help: "How log lines look: text or json",
        apply: |config, text| {
            config.log_format = one_of(text, LOG_FORMATS)?;
            Some(())
        },
        show: |config| Some(word_of(&config.log_format, LOG_FORMATS)),
    },
    Setting {
        name: "otlp",
        value_name: "URL|off",
        scope: Scope::Node,
        default: Some("off"),
        allowed: "off, or the http URL of a collector such as http://127.0.0.1:4318",
        help: "Where the node sends traces of requests by OpenTelemetry's OTLP over HTTP, or off",
        apply: |config, text| {
            config.otlp = if text == "off" { None } else { Some(text.parse().ok()?) };
            Some(())
        },
        show: |config| {
            Some(config.otlp.as_ref().map_or_else(|| "off".to_owned(), Collector::to_string))
        },
    },
    Setting {
        name: "node",
        value_name: "URL",
        scope: Scope::Client,
        default: Some("http://127.0.0.1:4680"),
        allowed: "a URL such as http://127.0.0.1:4680 or https://node.example, or a socket such as \
                  unix:/run/aspen.sock",
        help: "The node that a command talks to",
        apply: |config, text| {
            crate::client::Address::parse(text)?;
            config.node = text.to_owned();
            Some(())
        },
        show: |config| Some(config.node.clone()),
    },
    Setting {
        name: "ca",
        value_name: "FILE",
        scope: Scope::Client,
        default: None,
        allowed: "a path to a file",
        help: "The certificates, in PEM, that vouch for a node whose URL is https",
        apply: |config, text| {
            config.ca = some_path(text)?;
            Some(())
        },
        show: |config| config.ca.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        name: "token",
        value_name: "TOKEN",
        scope: Scope::Client,
        default: None,
        allowed: "a token, which begins with aspentoken",
        help: "The token that a command shows to a node that asks for one",
        apply: |config, text| {
            config.token = (!text.is_empty()).then(|| Some(text.to_owned()))?;
            Some(())
        },
        // What is wrong with one is told where it is used, without it: who reads it can use it.
        show: |config| config.token.as_ref().map(|_| "(a secret)".to_owned()),
    },
    Setting {
        name: "token-file",
        value_name: "FILE",
        scope: Scope::Client,
        default: None,
        allowed: "a path to a file",
        help: "The file that the token is in, such as a node's own owner.token",
        apply: |config, text| {
            config.token_file = some_path(text)?;
            Some(())
        },
        show: |config| config.token_file.as_ref().map(|path| path.display().to_string()),
    },
    Setting {
        name: "ticket",
        value_name: "TICKET",
        scope: Scope::Client,
        default: None,
        allowed: "a client ticket, which begins with aspenclient",
        help: "A client ticket by which a command reaches a cluster, instead of a node's URL",
        // What is wrong with one takes a sentence, which it gets where it is used.
        apply: |config, text| {
            config.ticket = (!text.is_empty()).then(|| Some(text.to_owned()))?;
            Some(())
        },
        // Who reads it can use it.
        show: |config| config.ticket.as_ref().map(|_| "(a secret)".to_owned()),
    },
    Setting {
        name: "keyspace",
        value_name: "NAME",
        scope: Scope::Store,
        default: Some(KeyspaceName::DEFAULT),
        allowed: "1 to 64 letters, digits, dots, dashes or underscores, the first a letter or digit",
        help: "The keyspace that a command on keys is about",
        apply: |config, text| {
            config.keyspace = text.parse().ok()?;
            Some(())
        },
        show: |config| Some(config.keyspace.to_string()),
    },
    Setting {
        name: "near",
        value_name: "KEY",
        scope: Scope::Store,
        default: None,
        allowed: "a key",
        help: "A key of the one shard that is meant, for what belongs to a shard, such as leases",
        apply: |config, text| {
            config.near = (!text.is_empty()).then(|| Some(text.to_owned()))?;
            Some(())
        },
        show: |config| config.near.clone(),
    },
    Setting {
        name: "timeout",
        value_name: "TIME",
        scope: Scope::Client,
        default: Some("10s"),
        allowed: "a time above zero such as 500ms, 10s or 2m",
        help: "How long a command waits for the node's answer",
        apply: |config, text| {
            config.timeout = some_time(text)?;
            Some(())
        },
        show: |config| Some(input::duration_text(config.timeout)),
    },
];

const REACHES: &[(&str, Reach)] =
    &[("loopback", Reach::Loopback), ("lan", Reach::Lan), ("internet", Reach::Internet)];
const STORAGES: &[(&str, StorageBackend)] =
    &[("redb", StorageBackend::Redb), ("memory", StorageBackend::Memory)];
const AUTHS: &[(&str, Auth)] = &[("off", Auth::Off), ("required", Auth::Required)];
const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

/// What is allowed where a time is.
const TIMES_ALLOWED: &str = "a time above zero such as 150ms or 1s";

fn some_time(text: &str) -> Option<Duration> {
    input::duration(text).filter(|time| !time.is_zero())
}

fn some_path(text: &str) -> Option<Option<PathBuf>> {
    (!text.is_empty()).then(|| Some(PathBuf::from(text)))
}

/// A number from 1, or nothing for `off`; `None` if it is neither.
fn number_or_off(text: &str) -> Option<Option<NonZeroU32>> {
    if text == "off" { Some(None) } else { text.parse().ok().map(Some) }
}

fn shown_or_off(number: Option<NonZeroU32>) -> String {
    number.map_or_else(|| "off".to_owned(), |number| number.to_string())
}

fn is_name(text: &str) -> bool {
    let fits = (1..=NAME_BYTES_MAX).contains(&text.len());
    fits && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b))
}

fn one_of<T: Copy>(text: &str, words: &[(&str, T)]) -> Option<T> {
    words.iter().find(|(word, _)| *word == text).map(|(_, value)| *value)
}

fn word_of<T: PartialEq + fmt::Debug>(value: &T, words: &[(&str, T)]) -> String {
    let found = words.iter().find(|(_, candidate)| candidate == value);
    debug_assert!(found.is_some(), "every value has a word: {value:?}");
    found.map_or_else(String::new, |(word, _)| (*word).to_owned())
}
