//! `status`: who a node is, what it holds, and how well it is.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{self, Node, Request};
use crate::exit::Failure;
use crate::output;

/// What a node says of itself and its cluster.
#[derive(Debug, Deserialize)]
struct Cluster {
    id: String,
    name: String,
    node: Identity,
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Identity {
    id: u64,
    endpoint_id: String,
    listen: Vec<String>,
    version: String,
}

#[derive(Debug, Deserialize)]
struct Group {
    id: u64,
    role: String,
    term: u64,
    leader: Option<u64>,
    last_log_index: u64,
    applied_index: u64,
    revision: u64,
    voters: Vec<u64>,
    learners: Vec<u64>,
    damage: Option<Value>,
    repair: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Health {
    state: String,
    ready: bool,
    parts: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    name: String,
    state: String,
    reason: Option<String>,
}

/// Prints a node's status. A node that is not well is shown, not refused.
pub(crate) async fn run(node: Node, json: bool) -> Result<(), Failure> {
    let cluster: Value = node.ask(Request::read(Method::GET, "/v1/cluster")).await?.json()?;
    // An unhealthy node answers with its health under another status.
    let health: Value = node.send(Request::read(Method::GET, "/health")).await?.json()?;
    if json {
        let status = json!({ "cluster": cluster, "health": health });
        return output::json_line(&status);
    }
    let cluster = Cluster::deserialize(cluster).map_err(client::not_understood)?;
    let health = Health::deserialize(health).map_err(client::not_understood)?;
    let facts = output::table(&facts(&cluster, &health));
    output::line(&[facts, parts(&health.parts), groups(&cluster.groups)].join("\n\n"))
}

fn row<const N: usize>(cells: [&str; N]) -> Vec<String> {
    cells.map(str::to_owned).to_vec()
}

fn facts(cluster: &Cluster, health: &Health) -> Vec<Vec<String>> {
    let Identity { id, endpoint_id, listen, version } = &cluster.node;
    let ready = if health.ready { "ready" } else { "not ready" };
    vec![
        row(["cluster", &format!("{} ({})", cluster.name, cluster.id)]),
        row(["node", &format!("{id} (aspen {version})")]),
        row(["endpoint", endpoint_id]),
        row(["listens", &listen.join(", ")]),
        row(["health", &format!("{}, {ready}", health.state)]),
    ]
}

fn parts(parts: &[Part]) -> String {
    let rows = parts
        .iter()
        .map(|part| row([&part.name, &part.state, part.reason.as_deref().unwrap_or_default()]));
    output::table(
        &std::iter::once(row(["PART", "STATE", "REASON"])).chain(rows).collect::<Vec<_>>(),
    )
}

fn groups(groups: &[Group]) -> String {
    let heading =
        ["GROUP", "ROLE", "TERM", "LEADER", "VOTERS", "LEARNERS", "LOG", "APPLIED", "REVISION"];
    let rows = groups.iter().map(|group| {
        let leader = group.leader.map_or_else(|| "none".to_owned(), |id| id.to_string());
        let (log, applied) = (group.last_log_index.to_string(), group.applied_index.to_string());
        let revision = group.revision.to_string();
        let (voters, learners) = (numbers(&group.voters), numbers(&group.learners));
        let (id, term) = (group.id.to_string(), group.term.to_string());
        let role = match (&group.damage, &group.repair) {
            (_, Some(_)) => "repaired",
            (Some(_), None) => "damaged",
            (None, None) => &group.role,
        };
        row([&id, role, &term, &leader, &voters, &learners, &log, &applied, &revision])
    });
    output::table(&std::iter::once(row(heading)).chain(rows).collect::<Vec<_>>())
}

fn numbers(nodes: &[u64]) -> String {
    match nodes {
        [] => "-".to_owned(),
        _ => nodes.iter().map(u64::to_string).collect::<Vec<_>>().join(" "),
    }
}
