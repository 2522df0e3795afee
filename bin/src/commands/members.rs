//! `members`, `leave`, `remove` and `transfer`: who is in the cluster, and who leads what.

use std::time::Duration;

use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::client::{self, Node, Request};
use crate::exit::{Exit, Failure};
use crate::input::duration_text;
use crate::output;

/// What a node says of its cluster, as far as it is shown here.
#[derive(Debug, Deserialize)]
struct Cluster {
    now_s: u64,
    members: Vec<Member>,
    groups: Vec<Group>,
}

#[derive(Debug, Deserialize)]
struct Member {
    node: u64,
    name: String,
    endpoint_id: String,
    role: String,
    state: String,
    version: String,
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

#[derive(Debug, Deserialize)]
struct Group {
    id: u64,
    leader: Option<u64>,
    voters: Vec<u64>,
    learners: Vec<u64>,
}

/// Prints the members, each with what it is to the groups or with where it would be looked for.
pub(crate) async fn list(node: Node, addresses: bool, json: bool) -> Result<(), Failure> {
    let answer = node.ask(Request::read(Method::GET, "/v1/cluster")).await?;
    let document: Value = answer.json()?;
    let cluster = Cluster::deserialize(&document).map_err(client::not_understood)?;
    if json {
        let members = document["members"].as_array().into_iter().flatten();
        return members.into_iter().try_for_each(output::json_line);
    }
    let rows = if addresses { whereabouts(&cluster) } else { standing(&cluster) };
    output::line(&output::table(&rows))
}

fn standing(cluster: &Cluster) -> Vec<Vec<String>> {
    let heading = ["NODE", "NAME", "ROLE", "STATE", "GROUPS", "LINK", "VERSION", "ENDPOINT"];
    let rows = cluster.members.iter().map(|member| {
        vec![
            member.node.to_string(),
            some_or(&member.name, "-"),
            member.role.clone(),
            member.state.clone(),
            groups_of(member.node, &cluster.groups),
            link_of(member),
            member.version.clone(),
            member.endpoint_id.chars().take(ENDPOINT_CHARS).collect(),
        ]
    });
    std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect()
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

/// `0 leader, 1 voter`
fn groups_of(node: u64, groups: &[Group]) -> String {
    let part = |group: &Group| {
        let part = match () {
            () if group.leader == Some(node) => "leader",
            () if group.voters.contains(&node) => "voter",
            () if group.learners.contains(&node) => "learner",
            () => return None,
        };
        Some(format!("{} {part}", group.id))
    };
    some_or(&groups.iter().filter_map(part).collect::<Vec<_>>().join(", "), "-")
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

/// Takes the node out of its cluster and waits until it has left.
pub(crate) async fn leave(node: Node, json: bool) -> Result<(), Failure> {
    let mut is_leaving = false;
    loop {
        let answer = match node.ask(Request::write(Method::POST, "/v1/leave")).await {
            Ok(answer) => answer,
            Err(failure) if is_leaving && failure.exit() == Exit::Unreachable => {
                let sentence = "the node ended while it was leaving; whether it has left, another \
                                node's `aspen members` tells";
                return Err(Failure::new(Exit::Unknown, sentence));
            }
            Err(failure) => return Err(failure),
        };
        let departure: Value = answer.json()?;
        if json {
            output::json_line(&departure)?;
        }
        let member = &departure["node"];
        if answer.status != StatusCode::ACCEPTED {
            if json {
                return Ok(());
            }
            return output::line(&format!("node {member} has left the cluster"));
        }
        if !json && !is_leaving {
            output::note(&format!("node {member} is leaving: it hands over what it holds"));
        }
        is_leaving = true;
    }
}

/// Removes a member.
pub(crate) async fn remove(node: Node, member: u64, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/members/{member}");
    let answer = node.ask(Request::write(Method::DELETE, &path)).await?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    output::line(&format!("node {member} is removed from the cluster"))
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
