//! `start` and `join`: a node's life, from its configuration to its last log line.
//!
//! The two differ in how the node becomes a member, and `join` tells how far it is.
//!
//! Standard output carries what a person, or with `--json` a program, needs next, once the node
//! serves; everything else is log lines on standard error. The first signal asks the node to stop
//! in an orderly way, within a bounded time; the second ends the process at once.

use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use aspen::http::{Auth, HttpDoor};
use aspen::limits::{MESH_SECRET_BYTES_MAX, VOTERS_MAX};
use aspen::node::{ClusterError, DoorContext, GroupFacts, OWNER_TOKEN_FILE, StartError};
use aspen::seams::raise_open_files_max;
use aspen::status::GroupStatus;
use aspen::{DoorAddress, KvService, KvServiceBuilder, Mesh, StorageBackend};
use aspen_tickets::{JoinTicket, Role};
use serde::Serialize;
use tokio::sync::{oneshot, watch};
use tokio::time::timeout;

use crate::config::{self, Config};
use crate::exit::{Exit, Failure};
use crate::input;
use crate::logs;
use crate::otlp::{self, Sending};
use crate::output;
use crate::progress::{News, Progress, Telling};
use crate::signals::Signals;

/// How long the ticket that a ready node prints is good.
const TICKET_LIFE: Duration = Duration::from_secs(3_600);
/// How long a node that joins waits to become a voter before it goes on as what it is.
const VOTER_MAX: Duration = Duration::from_secs(10);
/// How long it may take to make. A node whose cluster has no majority serves stale reads and
/// health all the same, and says so without waiting for long.
const TICKET_MAX: Duration = Duration::from_secs(3);

/// Runs a node until it is told to stop; with a ticket, one that joins.
pub(crate) fn run(config: &Config, ticket: Option<JoinTicket>, json: bool) -> Result<(), Failure> {
    let (taking, sending) = config.otlp.clone().map(otlp::to).unzip();
    logs::start(&config.log, config.log_format, taking);
    // Each client takes one.
    raise_open_files_max();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("the node can't run: {error}")))?;
    let outcome = runtime.block_on(async {
        let sending = sending.map(Sending::begin);
        let outcome = live(config, ticket, json).await;
        if let Some(sending) = sending {
            sending.end().await;
        }
        outcome
    });
    // The node has stopped, or is to be cut off: nothing that is left is worth waiting for.
    runtime.shutdown_background();
    outcome
}

async fn live(config: &Config, ticket: Option<JoinTicket>, json: bool) -> Result<(), Failure> {
    let mut signals = Signals::catch()
        .map_err(|error| Failure::refused(format!("signals can't be caught: {error}")))?;
    let mut joining = ticket.map(|ticket| Joining::new(ticket, json));
    let service = tokio::select! {
        biased;
        asked = signals.next() => {
            // Nothing was served yet, so nothing can be lost.
            tracing::info!(signal = asked.name(), "stopping before the node has started");
            return Ok(());
        }
        started = begin(builder(config)?, joining.as_mut()) => started.map_err(not_started)?,
    };
    if announce(&service, config, json).await.is_err() {
        tracing::warn!("nobody reads what the node prints; it serves all the same");
    }
    let ended = tokio::select! {
        asked = signals.next() => {
            tracing::info!(signal = asked.name(), "stopping");
            Ok(())
        }
        // What answers are under way still go out, such as that to whoever made it leave.
        reason = service.stopped() => {
            Err(Failure::refused(format!("the node has stopped by itself: {reason}")))
        }
        // It never resolves: what is left to tell is told beside a node that serves.
        never = go_on(joining.as_mut()) => match never {},
    };
    tokio::select! {
        stopped = service.shutdown() => ended.and(stopped.map_err(Failure::refused))?,
        asked = signals.next() => {
            let sentence = format!("ended at once by a second signal, {}", asked.name());
            return Err(Failure::new(Exit::Signal(asked.number()), sentence));
        }
    }
    tracing::info!("stopped");
    Ok(())
}

/// Nobody being there to admit the node is worth another try; a refusal is not.
fn not_started(error: StartError) -> Failure {
    match error {
        StartError::NotJoined(_) => Failure::unreachable(error),
        _ => Failure::refused(error),
    }
}

/// A join under way, and what has been told of it.
struct Joining {
    ticket: JoinTicket,
    telling: Telling,
    progress: Progress,
    groups: Option<watch::Receiver<Vec<GroupStatus>>>,
}

impl Joining {
    fn new(ticket: JoinTicket, json: bool) -> Self {
        let telling = Telling::new(json);
        Joining { ticket, telling, progress: Progress::default(), groups: None }
    }

    fn tell(&mut self, news: &News) {
        if self.telling.tell(news).is_err() {
            tracing::debug!("nobody reads how far the node is");
        }
    }

    fn admitted(&mut self, context: &DoorContext) {
        let node = &context.node;
        self.tell(&News::Admitted {
            node_id: node.node_id.0,
            cluster: node.cluster_name.clone(),
            cluster_id: node.cluster_id.to_string(),
        });
        self.groups = Some(context.groups.clone());
    }

    /// Tells what the groups do until the node is a voter, or for ever.
    async fn follow(&mut self) {
        self.follow_while(|_| true).await;
        if !self.progress.is_voter() {
            std::future::pending().await
        }
    }

    /// Tells what the groups do until the node is a voter, or will not be one soon.
    async fn follow_to_vote(&mut self, service: &KvService) {
        self.follow_while(|joining| joining.is_wanted_as_voter(service)).await;
    }

    async fn follow_while(&mut self, goes_on: impl Fn(&Self) -> bool) {
        while let Some(groups) = &mut self.groups {
            let news = self.progress.see(&groups.borrow_and_update());
            news.iter().for_each(|news| self.tell(news));
            if self.progress.is_voter() || !goes_on(self) {
                return;
            }
            let changed = match &mut self.groups {
                Some(groups) => groups.changed().await,
                None => return,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Whether the node will soon be a voter, if all goes well: the ticket lets it, and there are
    /// more members to vote than do. As long as it has not heard who votes, it may.
    fn is_wanted_as_voter(&self, service: &KvService) -> bool {
        let cluster = service.cluster();
        let members = cluster.members();
        let may_vote = members.iter().filter(|facts| facts.member.role == Role::Voter).count();
        let odd = may_vote.saturating_sub(usize::from(may_vote % 2 == 0));
        let short = |group: &GroupFacts| group.status.voters.len() < odd.min(VOTERS_MAX);
        self.ticket.invitation().role == Role::Voter && cluster.groups().iter().any(short)
    }
}

/// Starts the node; one that joins tells how far it is, until it serves and is what it is to be.
async fn begin(
    builder: KvServiceBuilder,
    joining: Option<&mut Joining>,
) -> Result<KvService, StartError> {
    let Some(joining) = joining else { return builder.start().await };
    let (told, context) = oneshot::channel();
    let mut starting = pin!(builder.join(joining.ticket.clone()).tell(told).start());
    let context = tokio::select! {
        biased;
        Ok(context) = context => context,
        started = &mut starting => return started,
    };
    joining.admitted(&context);
    let service = tokio::select! {
        biased;
        started = &mut starting => started?,
        () = joining.follow() => starting.await?,
    };
    // Past that time the node goes on as what it is, and tells when it becomes more.
    let _ = timeout(VOTER_MAX, joining.follow_to_vote(&service)).await;
    let _ = joining.telling.end();
    Ok(service)
}

/// Tells what is left to tell of a join.
async fn go_on(joining: Option<&mut Joining>) -> std::convert::Infallible {
    if let Some(joining) = joining
        && !joining.progress.is_voter()
    {
        joining.follow().await;
    }
    std::future::pending().await
}

fn builder(config: &Config) -> Result<KvServiceBuilder, Failure> {
    let dir = &config.data_dir;
    let mut builder = match config.node_id {
        Some(id) => KvServiceBuilder::new(id, dir),
        None => KvServiceBuilder::auto(dir),
    };
    builder = builder.with_storage(config.storage).with_reach(config.reach);
    builder = builder.with_times(config.times).with_internet(config.internet.clone());
    builder = builder.with_read_only(config.read_only);
    builder = builder.with_shards(config.shards).with_replicas(config.replicas);
    if let Some(capacity) = config.capacity {
        builder = builder.with_capacity(capacity);
    }
    if let Some(name) = &config.node_name {
        builder = builder.with_node_name(name);
    }
    if let Some(name) = &config.name {
        builder = builder.with_name(name);
    }
    if let Some(address) = config.listen {
        builder = builder.with_listen(address);
    }
    if let Some(address) = &config.http {
        builder = builder.with_door(Arc::new(door(address, config)));
    }
    if let Some(name) = &config.lan {
        builder = builder.with_mesh(mesh(name, config)?);
    }
    Ok(builder)
}

/// The HTTP door of the configuration.
fn door(address: &DoorAddress, config: &Config) -> HttpDoor {
    let origins = config.http_cors.clone().unwrap_or_default();
    let auth = if config.insecure { Auth::Insecure } else { config.auth };
    let door = HttpDoor::new(address.clone())
        .with_origins(origins)
        .with_limits(config.http_limits)
        .with_auth(auth);
    match (&config.http_tls_cert, &config.http_tls_key) {
        (Some(certificate), Some(key)) => door.with_tls(certificate, key),
        _ => door,
    }
}

/// The mesh of the configuration; its secret is read here, without the line end behind it.
fn mesh(name: &str, config: &Config) -> Result<Mesh, Failure> {
    let mesh = match &config.lan_secret_file {
        None => Mesh::open(name),
        Some(path) => {
            let read = input::read_file(path, MESH_SECRET_BYTES_MAX).map_err(Failure::usage)?;
            Mesh::with_secret(name, read.trim_ascii_end())
        }
    };
    let mesh = mesh.and_then(|mesh| mesh.expecting(config.expect));
    mesh.map_err(|error| match &config.lan_secret_file {
        Some(path) => Failure::usage(format!("{}: {error}", path.display())),
        None => Failure::usage(error),
    })
}

/// The one line of a node that serves, in the order in which people read it.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    event: &'static str,
    node_id: u64,
    endpoint_id: String,
    cluster_id: String,
    http: Option<String>,
    /// None if the node keeps its data in memory.
    data_dir: Option<&'a Path>,
    /// None if it can't be made at the moment.
    ticket: Option<String>,
    /// Where the owner's token is, if HTTP asks for one.
    #[serde(skip_serializing_if = "Option::is_none")]
    token_file: Option<PathBuf>,
    /// The owner's token itself, if the node keeps no files.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<String>,
}

/// The token of the node's owner.
enum Owners {
    In(PathBuf),
    Is(String),
}

/// Where the owner's token is, if HTTP asks for one.
async fn owners(service: &KvService, config: &Config) -> Result<Option<Owners>, Failure> {
    if config.auth == Auth::Off || config.http.is_none() {
        return Ok(None);
    }
    let token = service.cluster().owner_token().await;
    let token = token.map_err(|error| Failure::refused(format!("the owner's token: {error}")))?;
    Ok(Some(match config.storage {
        StorageBackend::Redb => {
            Owners::In(std::path::absolute(service.data_dir())?.join(OWNER_TOKEN_FILE))
        }
        StorageBackend::Memory => Owners::Is(token.text()),
    }))
}

/// A ticket for others to join by: for an hour, for any number of voters.
async fn ticket(service: &KvService) -> Result<JoinTicket, String> {
    let cluster = service.cluster();
    match timeout(TICKET_MAX, cluster.invite(Role::Voter, TICKET_LIFE, None)).await {
        Ok(made) => made.map_err(|error: ClusterError| error.to_string()),
        Err(_) => Err("no majority of the cluster answers".to_owned()),
    }
}

/// Prints what comes next, now that the node serves.
async fn announce(service: &KvService, config: &Config, json: bool) -> Result<(), Failure> {
    let node = service.node();
    let data_dir = match config.storage {
        StorageBackend::Redb => Some(std::path::absolute(service.data_dir())?),
        StorageBackend::Memory => None,
    };
    let http = service.http().map(|address| match address {
        DoorAddress::Tcp(address) => match config.http_tls_cert {
            Some(_) => format!("https://{address}"),
            None => format!("http://{address}"),
        },
        socket @ DoorAddress::Unix(_) => socket.to_string(),
    });
    let ticket = ticket(service).await;
    let (token_file, token) = match owners(service, config).await? {
        None => (None, None),
        Some(Owners::In(file)) => (Some(file), None),
        Some(Owners::Is(token)) => (None, Some(token)),
    };
    if json {
        if let Err(reason) = &ticket {
            tracing::warn!(reason, "there is no ticket to join by yet");
        }
        return output::json_line(&Ready {
            event: "ready",
            node_id: node.node_id.0,
            endpoint_id: node.endpoint_id.to_string(),
            cluster_id: node.cluster_id.to_string(),
            http,
            data_dir: data_dir.as_deref(),
            ticket: ticket.ok().map(|ticket| ticket.to_string()),
            token_file,
            token,
        });
    }
    let data = data_dir.map_or_else(
        || "in memory, gone when the node stops".to_owned(),
        |dir| dir.display().to_string(),
    );
    let join = match ticket {
        Ok(ticket) => format!("aspen join {ticket}"),
        Err(reason) => format!("no ticket yet ({reason}); `aspen ticket create` makes one later"),
    };
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("cluster", format!("{} ({})", node.cluster_name, node.cluster_id)),
        row("node", node.node_id.to_string()),
        row("endpoint", node.endpoint_id.to_string()),
        row("http", http.clone().unwrap_or_else(|| "off".to_owned())),
        row("data", data),
        row("join", join),
    ];
    if let Some(url) = http {
        // The default address needs no naming.
        let node = match (url == config::default_of("node"), &config.http_tls_cert) {
            (true, _) => String::new(),
            // Its own certificate is as good as that of whoever vouches for it.
            (_, Some(certificate)) => format!("--node {url} --ca {} ", certificate.display()),
            (_, None) => format!("--node {url} "),
        };
        let shown = match (&token_file, &token) {
            (Some(file), _) => format!("--token-file {} ", file.display()),
            (None, Some(token)) => format!("--token {token} "),
            (None, None) => String::new(),
        };
        rows.push(row("try", format!("aspen {node}{shown}put greeting hello")));
    }
    rows.push(row("stop", "Ctrl-C".to_owned()));
    output::line(&output::table(&rows))
}
