//! `members`, `leave`, `remove`, `maintenance`, `rebalance` and `transfer`: who is in the
//! cluster, and who holds and leads what.

use std::pin::pin;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::bar::{Steps, interruptible};
use crate::client::{self, Answer, Node, Request};
use crate::exit::{Exit, Failure};
use crate::input::duration_text;
use crate::output;
use crate::screen::Screen;

/// What a node says of its cluster, as far as it is shown here.
#[derive(Debug, Deserialize)]
struct Cluster {
    now_s: u64,
    members: Vec<Member>,
}

fn first_level() -> u32 {
    1
}

#[derive(Debug, Deserialize)]
struct Member {
    node: u64,
    name: String,
    endpoint_id: String,
    role: String,
    state: String,
    version: String,
    /// Nodes of before there were levels don't say.
    #[serde(default = "first_level")]
    level: u32,
    health: String,
    draining: bool,
    maintenance: bool,
    replicas: usize,
    leads: usize,
    connected: bool,
    heard_ms: Option<u64>,
    known: Vec<Known>,
}

/// Where the node would look for a member.
#[derive(Debug, Deserialize)]
struct Known {
    address: String,
    source: String,
    noted_s: u64,
}

/// Prints the members, each with how it is and what it holds, or with where it would be looked for.
pub(crate) async fn list(node: Node, addresses: bool, json: bool) -> Result<(), Failure> {
    let answer = node.ask(Request::read(Method::GET, "/v1/cluster")).await?;
    let document: Value = answer.json()?;
    let cluster = Cluster::deserialize(&document).map_err(client::not_understood)?;
    if json {
        let members = document["members"].as_array().into_iter().flatten();
        return members.into_iter().try_for_each(output::json_line);
    }
    let rows = if addresses { whereabouts(&cluster) } else { standing(&cluster) };
    output::line(&Screen::here().table(&rows))
}

fn standing(cluster: &Cluster) -> Vec<Vec<String>> {
    let heading = [
        "NODE", "NAME", "ROLE", "STATE", "HEALTH", "SHARDS", "LEADS", "LINK", "VERSION", "ENDPOINT",
    ];
    let rows = cluster.members.iter().map(|member| {
        vec![
            member.node.to_string(),
            some_or(&member.name, "-"),
            member.role.clone(),
            state_of(member),
            member.health.clone(),
            member.replicas.to_string(),
            member.leads.to_string(),
            link_of(member),
            version_of(member),
            member.endpoint_id.chars().take(ENDPOINT_CHARS).collect(),
        ]
    });
    std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect()
}

/// What a build knows is told where it is more than the first one did.
fn version_of(member: &Member) -> String {
    match member.level {
        1 => member.version.clone(),
        level => format!("{}, level {level}", member.version),
    }
}

fn whereabouts(cluster: &Cluster) -> Vec<Vec<String>> {
    let heading = ["NODE", "NAME", "ADDRESS", "FROM", "WHEN"];
    let rows = cluster.members.iter().flat_map(|member| {
        member.known.iter().map(|known| {
            vec![
                member.node.to_string(),
                some_or(&member.name, "-"),
                known.address.clone(),
                known.source.clone(),
                ago(Duration::from_secs(cluster.now_s.saturating_sub(known.noted_s))),
            ]
        })
    });
    std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect()
}

/// Enough of a key to tell members apart; `--json` has all of it.
const ENDPOINT_CHARS: usize = 10;

fn some_or(text: &str, nothing: &str) -> String {
    if text.is_empty() { nothing.to_owned() } else { text.to_owned() }
}

fn state_of(member: &Member) -> String {
    match (member.draining, member.maintenance) {
        _ if member.state != "active" => member.state.clone(),
        (true, _) => "draining".to_owned(),
        (false, true) => "maintenance".to_owned(),
        (false, false) => member.state.clone(),
    }
}

fn link_of(member: &Member) -> String {
    match (member.connected, member.heard_ms) {
        (true, _) => "up".to_owned(),
        (false, Some(ms)) => {
            format!("heard {}", ago(Duration::from_millis(ms)))
        }
        (false, None) => "never heard".to_owned(),
    }
}

/// No time is shown shorter than a second, and none in more detail.
fn ago(time: Duration) -> String {
    format!("{} ago", duration_text(Duration::from_secs(time.as_secs().max(1))))
}

/// After how long it is told that a node is leaving: by then it would have refused to.
const LEAVES_AFTER: Duration = Duration::from_millis(250);

/// What to do if a change of members finds no majority.
fn or_recover(answer: Answer) -> Result<Answer, Failure> {
    let is_unavailable = answer.status == StatusCode::SERVICE_UNAVAILABLE;
    answer.accepted().map_err(|failure| match is_unavailable {
        true => Failure::new(
            failure.exit(),
            format!(
                "{}; if most nodes are lost for good, `aspen recover` makes a new cluster of what one \
                 of the others has",
                failure.sentence()
            ),
        ),
        false => failure,
    })
}

/// Takes the node out of its cluster and waits until it has left; tells how much it has still to
/// hand over, at first and each time that it is less.
pub(crate) async fn leave(node: Node, json: bool) -> Result<(), Failure> {
    interruptible(until_left(&node, json)).await
}

async fn until_left(node: &Node, json: bool) -> Result<(), Failure> {
    let cluster: Value = node.ask(Request::read(Method::GET, "/v1/cluster")).await?.json()?;
    let me = &cluster["node"]["id"];
    let mut members = cluster["members"].as_array().into_iter().flatten();
    let itself = members.find(|member| member["node"] == *me);
    let holds = itself.and_then(|itself| itself["replicas"].as_u64()).unwrap_or_default();
    let (mut is_leaving, mut told) = (false, None);
    let mut steps = Steps::new();
    loop {
        let mut asking = pin!(node.send(Request::write(Method::POST, "/v1/leave")));
        let answered = match timeout(LEAVES_AFTER, &mut asking).await {
            Ok(answered) => answered,
            Err(_) => {
                if told.is_none() && holds > 0 && !json {
                    steps.at(0, holds, is_leaving_with(me, holds));
                    told = Some(holds);
                }
                asking.await
            }
        };
        let answer = match answered {
            Ok(answer) => answer,
            Err(failure) if is_leaving && failure.exit() == Exit::Unreachable => {
                let sentence = "the node ended while it was leaving; whether it has left, another \
                                node's `aspen members` tells";
                return Err(Failure::new(Exit::Unknown, sentence));
            }
            Err(failure) => return Err(failure),
        };
        let answer = or_recover(answer)?;
        let departure: Value = answer.json()?;
        if json {
            output::json_line(&departure)?;
        }
        let member = &departure["node"];
        if answer.status != StatusCode::ACCEPTED {
            if json {
                return Ok(());
            }
            drop(steps);
            return output::line(&format!("node {member} has left the cluster"));
        }
        is_leaving = true;
        let left = departure["replicas"].as_u64().unwrap_or_default();
        if !json && told.is_none_or(|told| left < told) {
            steps.at(holds.saturating_sub(left), holds.max(left), is_leaving_with(member, left));
        }
        told = Some(left);
    }
}

fn is_leaving_with(member: &Value, left: u64) -> String {
    format!("node {member} is leaving: {} to hand over", output::counted(left, "shard"))
}

/// Removes a member.
pub(crate) async fn remove(node: Node, member: u64, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/members/{member}");
    let answer = or_recover(node.send(Request::write(Method::DELETE, &path)).await?)?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    output::line(&format!("node {member} is removed from the cluster"))
}

/// Puts members under maintenance, or ends that.
pub(crate) async fn maintenance(
    node: Node,
    members: &[u64],
    on: bool,
    json: bool,
) -> Result<(), Failure> {
    let form = json!({ "nodes": members, "on": on });
    let request = Request::write(Method::POST, "/v1/maintenance").json(&form);
    let answer: Value = node.ask(request).await?.json()?;
    if json {
        return output::json_line(&answer);
    }
    let nodes: Vec<String> = members.iter().map(u64::to_string).collect();
    let nodes = nodes.join(", ");
    output::line(&match on {
        true => format!("under maintenance: {nodes}"),
        false => format!("back from maintenance: {nodes}"),
    })
}

/// Where shards would be moved next.
#[derive(Debug, Deserialize)]
struct Plan {
    moves: Vec<Move>,
}

#[derive(Debug, Deserialize)]
struct Move {
    group: u64,
    from: Vec<u64>,
    to: Vec<u64>,
    leader: Option<u64>,
    /// A node of an earlier version does not say.
    #[serde(default)]
    why: String,
}

/// Prints where shards would be moved next.
pub(crate) async fn rebalance(node: Node, json: bool) -> Result<(), Failure> {
    let answer = node.ask(Request::read(Method::GET, "/v1/rebalance")).await?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    let Plan { moves } = answer.json()?;
    if moves.is_empty() {
        return output::line("every shard is where it is to be");
    }
    let numbers = |nodes: &[u64]| {
        let nodes: Vec<String> = nodes.iter().map(u64::to_string).collect();
        some_or(&nodes.join(","), "-")
    };
    let mut rows = vec![["GROUP", "FROM", "TO", "TO LEAD", "WHY"].map(str::to_owned).to_vec()];
    rows.extend(moves.iter().map(|next| {
        let leader = next.leader.map_or_else(|| "-".to_owned(), |node| node.to_string());
        let why = some_or(&next.why, "-");
        vec![next.group.to_string(), numbers(&next.from), numbers(&next.to), leader, why]
    }));
    output::line(&output::table(&rows))
}

/// Makes a member the leader of a group.
pub(crate) async fn transfer(
    node: Node,
    group: u64,
    member: u64,
    json: bool,
) -> Result<(), Failure> {
    let path = format!("/v1/groups/{group}/transfer");
    let request = Request::write(Method::POST, &path).json(&json!({ "to": member }));
    let answer = node.ask(request).await?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    output::line(&format!("node {member} leads group {group}"))
}
