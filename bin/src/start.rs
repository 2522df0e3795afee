//! `start`: a node's life, from its configuration to its last log line.
//!
//! Standard output carries what a person, or with `--json` a program, needs next, once the node
//! serves; everything else is log lines on standard error. The first signal asks the node to stop
//! in an orderly way, within a bounded time; the second ends the process at once.

use std::path::Path;

use aspen::{KvService, KvServiceBuilder, StorageBackend};
use serde::Serialize;

use crate::config::{self, Config};
use crate::exit::{Exit, Failure};
use crate::logs;
use crate::output;
use crate::signals::Signals;

/// Runs a node until it is told to stop.
pub(crate) fn run(config: &Config, json: bool) -> Result<(), Failure> {
    logs::start(config);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("the node can't run: {error}")))?;
    let outcome = runtime.block_on(live(config, json));
    // The node has stopped, or is to be cut off: nothing that is left is worth waiting for.
    runtime.shutdown_background();
    outcome
}

async fn live(config: &Config, json: bool) -> Result<(), Failure> {
    let mut signals = Signals::catch()
        .map_err(|error| Failure::refused(format!("signals can't be caught: {error}")))?;
    if let Some(address) = config.http.filter(|address| !address.ip().is_loopback()) {
        tracing::warn!(%address, "HTTP asks nobody who they are, and others can reach this address");
    }
    let service = tokio::select! {
        biased;
        asked = signals.next() => {
            // Nothing was served yet, so nothing can be lost.
            tracing::info!(signal = asked.name(), "stopping before the node has started");
            return Ok(());
        }
        started = builder(config).start() => started.map_err(Failure::refused)?,
    };
    if announce(&service, config, json).is_err() {
        tracing::warn!("nobody reads what the node prints; it serves all the same");
    }
    tokio::select! {
        asked = signals.next() => tracing::info!(signal = asked.name(), "stopping"),
        reason = service.stopped() => {
            return Err(Failure::refused(format!("the node has stopped by itself: {reason}")));
        }
    }
    tokio::select! {
        stopped = service.shutdown() => stopped.map_err(Failure::refused)?,
        asked = signals.next() => {
            let sentence = format!("ended at once by a second signal, {}", asked.name());
            return Err(Failure::new(Exit::Signal(asked.number()), sentence));
        }
    }
    tracing::info!("stopped");
    Ok(())
}

fn builder(config: &Config) -> KvServiceBuilder {
    let dir = &config.data_dir;
    let mut builder = match config.node_id {
        Some(id) => KvServiceBuilder::new(id, dir),
        None => KvServiceBuilder::auto(dir),
    };
    builder = builder.with_storage(config.storage).with_reach(config.reach);
    if let Some(name) = &config.name {
        builder = builder.with_name(name);
    }
    if let Some(address) = config.listen {
        builder = builder.with_listen(address);
    }
    if let Some(address) = config.http {
        builder = builder.with_http(address);
    }
    builder
}

/// The one line of a node that serves, in the order in which people read it.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    event: &'static str,
    node_id: u64,
    endpoint_id: &'a str,
    cluster_id: String,
    http: Option<String>,
    /// None if the node keeps its data in memory.
    data_dir: Option<&'a Path>,
}

/// Prints what comes next, now that the node serves.
fn announce(service: &KvService, config: &Config, json: bool) -> Result<(), Failure> {
    let node = service.node();
    let data_dir = match config.storage {
        StorageBackend::Redb => Some(std::path::absolute(service.data_dir())?),
        StorageBackend::Memory => None,
    };
    let http = service.http().map(|address| format!("http://{address}"));
    if json {
        return output::json_line(&Ready {
            event: "ready",
            node_id: node.node_id.0,
            endpoint_id: &node.endpoint_id,
            cluster_id: node.cluster_id.to_string(),
            http,
            data_dir: data_dir.as_deref(),
        });
    }
    let data = data_dir.map_or_else(
        || "in memory, gone when the node stops".to_owned(),
        |dir| dir.display().to_string(),
    );
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![
        row("cluster", format!("{} ({})", node.cluster_name, node.cluster_id)),
        row("node", node.node_id.to_string()),
        row("endpoint", node.endpoint_id.clone()),
        row("http", http.clone().unwrap_or_else(|| "off".to_owned())),
        row("data", data),
    ];
    if let Some(url) = http {
        // The default address needs no naming.
        let node = match url == config::default_of("node") {
            true => String::new(),
            false => format!("--node {url} "),
        };
        rows.push(row("try", format!("aspen {node}put greeting hello")));
    }
    rows.push(row("stop", "Ctrl-C".to_owned()));
    output::line(&output::table(&rows))
}
