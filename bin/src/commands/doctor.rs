//! `doctor`: how a node reaches the other members, and what is in the way.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{self, Node, Request};
use crate::exit::Failure;
use crate::output;

/// What a node says of its cluster, as far as it concerns the ways between nodes.
#[derive(Debug, Deserialize)]
struct Cluster {
    node: This,
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct This {
    id: u64,
    listen: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct Member {
    node: u64,
    name: String,
    connected: bool,
    path: Option<Path>,
    unreached: Option<String>,
    known: Vec<Known>,
}

#[derive(Debug, Deserialize)]
struct Path {
    kind: String,
    address: String,
    round_trip_ms: f64,
    packets: u64,
    lost: u64,
}

#[derive(Debug, Deserialize)]
struct Known {
    address: String,
    source: String,
}

/// Prints, for each other member, how it is reached and what could be better.
pub(crate) async fn run(node: Node, json: bool) -> Result<(), Failure> {
    let answer: Value = node.ask(Request::read(Method::GET, "/v1/cluster")).await?.json()?;
    let cluster = Cluster::deserialize(answer).map_err(client::not_understood)?;
    let others = || cluster.members.iter().filter(|member| member.node != cluster.node.id);
    if json {
        return others().try_for_each(|member| output::json_line(&facts(&cluster.node, member)));
    }
    if others().next().is_none() {
        return output::line("the cluster has no other members");
    }
    let heading = ["NODE", "NAME", "PATH", "ROUND TRIP", "LOSS", "FOUND BY", "ADDRESS"];
    let rows = others().map(|member| {
        let path = member.path.as_ref();
        let shown = |show: &dyn Fn(&Path) -> String| path.map_or_else(|| "-".to_owned(), show);
        vec![
            member.node.to_string(),
            if member.name.is_empty() { "-".to_owned() } else { member.name.clone() },
            way(member).to_owned(),
            shown(&|path| format!("{:.1} ms", path.round_trip_ms)),
            shown(&|path| format!("{:.1} %", loss_percent(path))),
            found_by(member).unwrap_or("-").to_owned(),
            shown(&|path| path.address.clone()),
        ]
    });
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect();
    output::line(&output::table(&rows))?;
    let advice =
        others().filter_map(|member| Some((member.node, obstacle(&cluster.node, member)?)));
    for (number, sentence) in advice {
        output::line(&format!("\nnode {number}: {sentence}"))?;
    }
    Ok(())
}

fn facts(this: &This, member: &Member) -> Value {
    json!({
        "node": member.node,
        "name": member.name,
        "path": way(member),
        "address": member.path.as_ref().map(|path| &path.address),
        "round_trip_ms": member.path.as_ref().map(|path| path.round_trip_ms),
        "loss_percent": member.path.as_ref().map(loss_percent),
        "found_by": found_by(member),
        "obstacle": obstacle(this, member),
    })
}

/// `direct`, `relayed`, or that there is no link.
fn way(member: &Member) -> &str {
    match &member.path {
        Some(path) => &path.kind,
        None if member.connected => "linked",
        None => "none",
    }
}

fn loss_percent(path: &Path) -> f64 {
    path.lost as f64 * 100.0 / path.packets.max(1) as f64
}

/// Who told of the address that is used, or else of the newest.
fn found_by(member: &Member) -> Option<&str> {
    let used = member.path.as_ref().map(|path| &path.address);
    let told = member.known.iter().find(|known| Some(&known.address) == used);
    told.or(member.known.first()).map(|known| known.source.as_str())
}

/// What is in the way of a direct path, as far as can be told from here.
fn obstacle(this: &This, member: &Member) -> Option<String> {
    let sockets: Vec<&str> = member
        .known
        .iter()
        .map(|known| known.address.as_str())
        .filter(|address| !address.contains("://"))
        .collect();
    match (way(member), member.path.as_ref()) {
        ("relayed", _) if this.listen.is_empty() => Some(
            "this node is reached by its relay only, as it was told with --relay-only".to_owned(),
        ),
        ("relayed", _) if sockets.is_empty() => Some(
            "it is reached by a relay and tells no address of its own: it runs with --relay-only, \
             or knows of none"
                .to_owned(),
        ),
        ("relayed", _) => Some(format!(
            "it is reached by a relay, and none of {} answers from here: a firewall drops UDP \
             between the two, or both are behind NATs that show another port to everyone; open a \
             UDP port on one side (--listen), or let the router do it (--port-mapping)",
            sockets.join(", ")
        )),
        ("none", _) => {
            let reason = member.unreached.as_deref().unwrap_or("it was not looked for yet");
            let tried = match sockets.is_empty() {
                true => "no address of it is known".to_owned(),
                false => format!("tried at {}", sockets.join(", ")),
            };
            Some(format!("there is no link: {reason} ({tried})"))
        }
        _ => None,
    }
}
