//! `lease`: grant, revoke, keep alive, list, show.

use std::time::Duration;

use aspen::types::LeaseId;
use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::{self, Instant};

use crate::args::LeaseCmd;
use crate::client::{self, Node, Request};
use crate::exit::{Exit, Failure};
use crate::input::duration_text;
use crate::output;

/// What a node says about a lease; which fields are there depends on what was asked.
#[derive(Debug, Deserialize)]
struct Lease {
    id: String,
    ttl_ms: u64,
    left_ms: Option<u64>,
    #[serde(default)]
    keys: Value,
}

#[derive(Debug, Deserialize)]
struct Leases {
    more: bool,
    leases: Vec<Value>,
}

/// Runs one of the five.
pub(crate) async fn run(node: Node, command: LeaseCmd, json: bool) -> Result<(), Failure> {
    match command {
        LeaseCmd::Grant { ttl, id } => grant(&node, ttl, id, json).await,
        LeaseCmd::Revoke { id } => {
            let answer = node.ask(Request::write(Method::DELETE, &path(id))).await?;
            if json {
                return output::json_line(&answer.json::<Value>()?);
            }
            output::line(&format!("revoked {id}"))
        }
        LeaseCmd::KeepAlive { id, once } => keep_alive(&node, id, once, json).await,
        LeaseCmd::List => list(&node, json).await,
        LeaseCmd::Show { id } => show(&node, id, json).await,
    }
}

fn path(id: LeaseId) -> String {
    format!("/v1/leases/{id}")
}

fn text(ms: u64) -> String {
    duration_text(Duration::from_millis(ms))
}

async fn grant(node: &Node, ttl: Duration, id: Option<LeaseId>, json: bool) -> Result<(), Failure> {
    let mut body = json!({ "ttl_ms": u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX) });
    if let Some(id) = id {
        body["id"] = json!(id.to_string());
    }
    let answer = node.ask(Request::write(Method::POST, "/v1/leases").json(&body)).await?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    // The id alone, so that a script can take it: `id=$(aspen lease grant 30s)`.
    output::line(&answer.json::<Lease>()?.id)
}

/// Renews a third of the way to the end, so that two renewals may fail before it comes.
async fn keep_alive(node: &Node, id: LeaseId, once: bool, json: bool) -> Result<(), Failure> {
    let mut ends: Option<Instant> = None;
    let mut told = false;
    loop {
        let sent = Instant::now();
        let request = Request::write(Method::POST, &format!("{}/keep-alive", path(id)));
        let wait = match node.ask(request).await {
            Ok(answer) => {
                let lease: Lease = answer.json()?;
                let ttl = Duration::from_millis(lease.ttl_ms);
                ends = sent.checked_add(ttl);
                if json {
                    output::json_line(&answer.json::<Value>()?)?;
                } else if !std::mem::replace(&mut told, true) {
                    output::line(&format!("{id} lives for another {}", text(lease.ttl_ms)))?;
                }
                if once {
                    return Ok(());
                }
                ttl / 3
            }
            // Renewing twice is no harm: whatever happened to this one, the next will tell.
            Err(failure)
                if matches!(failure.exit(), Exit::Unreachable | Exit::Unknown)
                    && ends.is_some_and(|ends| Instant::now() < ends) =>
            {
                RETRY
            }
            Err(failure) => return Err(failure),
        };
        time::sleep(wait).await;
    }
}

/// The wait after a renewal that was not answered.
const RETRY: Duration = Duration::from_millis(250);

async fn list(node: &Node, json: bool) -> Result<(), Failure> {
    let mut rows = vec![["LEASE", "TTL", "KEYS"].map(str::to_owned).to_vec()];
    let mut after: Option<String> = None;
    loop {
        let request = Request::read(Method::GET, "/v1/leases").maybe("after", after.as_deref());
        let page: Leases = node.ask(request).await?.json()?;
        after = None;
        for listed in &page.leases {
            let lease = Lease::deserialize(listed).map_err(client::not_understood)?;
            if json {
                output::json_line(listed)?;
            } else {
                let keys = lease.keys.to_string();
                rows.push(vec![lease.id.clone(), text(lease.ttl_ms), keys]);
            }
            after = Some(lease.id);
        }
        if !page.more || after.is_none() {
            break;
        }
    }
    if json { Ok(()) } else { output::line(&output::table(&rows)) }
}

async fn show(node: &Node, id: LeaseId, json: bool) -> Result<(), Failure> {
    let request = Request::read(Method::GET, &path(id)).flag("keys", true);
    let answer = node.ask(request).await?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    let lease: Lease = answer.json()?;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let mut rows = vec![row("lease", lease.id), row("ttl", text(lease.ttl_ms))];
    if let Some(left_ms) = lease.left_ms {
        rows.push(row("left", text(left_ms)));
    }
    for key in lease.keys.as_array().into_iter().flatten() {
        let bytes = output::bytes_from_json(key).unwrap_or_default();
        rows.push(row("key", output::bytes_text(&bytes)));
    }
    output::line(&output::table(&rows))
}
