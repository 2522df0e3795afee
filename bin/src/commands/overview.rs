//! `status --watch`: what all members say of themselves, again and again.

use std::io::{self, IsTerminal};
use std::time::Duration;

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::sleep;

use crate::client::{self, Node, Request};
use crate::exit::Failure;
use crate::input::duration_text;
use crate::output;

/// How often it is shown anew.
const EVERY: Duration = Duration::from_secs(1);
/// To the first place of a terminal, which is empty then.
const CLEAR: &str = "\u{1b}[H\u{1b}[2J";

#[derive(Debug, Deserialize)]
struct Cluster {
    name: String,
    members: Vec<Member>,
}

#[derive(Debug, Deserialize)]
struct Member {
    node: u64,
    name: String,
    state: String,
    connected: bool,
    told: Option<Told>,
}

#[derive(Debug, Deserialize)]
struct Told {
    age_ms: u64,
    version: String,
    writes_per_second: u32,
    free_percent: u8,
    groups: Vec<Part>,
}

#[derive(Debug, Deserialize)]
struct Part {
    id: u64,
    role: String,
    applied_index: u64,
}

/// Shows the members until it is interrupted.
pub(crate) async fn watch(node: Node, json: bool) -> Result<(), Failure> {
    loop {
        let answer: Value = node.ask(Request::read(Method::GET, "/v1/cluster")).await?.json()?;
        if json {
            output::json_line(&json!({ "now_s": answer["now_s"], "members": answer["members"] }))?;
        } else {
            let cluster = Cluster::deserialize(answer).map_err(client::not_understood)?;
            let clear = if io::stdout().is_terminal() { CLEAR } else { "" };
            let Cluster { name, members } = &cluster;
            output::line(&format!("{clear}cluster {name}\n\n{}\n", table(members)))?;
        }
        sleep(EVERY).await;
    }
}

fn table(members: &[Member]) -> String {
    let heading =
        ["NODE", "NAME", "STATE", "LINK", "TOLD", "WRITES/S", "FREE", "VERSION", "GROUPS"];
    let rows = members.iter().map(|member| {
        let told = |show: &dyn Fn(&Told) -> String| {
            member.told.as_ref().map_or_else(|| "-".to_owned(), show)
        };
        vec![
            member.node.to_string(),
            if member.name.is_empty() { "-".to_owned() } else { member.name.clone() },
            member.state.clone(),
            if member.connected { "up" } else { "down" }.to_owned(),
            told(&|told| format!("{} ago", age(told))),
            told(&|told| told.writes_per_second.to_string()),
            told(&|told| format!("{} %", told.free_percent)),
            told(&|told| told.version.clone()),
            told(&|told| told.groups.iter().map(part).collect::<Vec<_>>().join(", ")),
        ]
    });
    let rows: Vec<_> = std::iter::once(heading.map(str::to_owned).to_vec()).chain(rows).collect();
    output::table(&rows)
}

fn age(told: &Told) -> String {
    duration_text(Duration::from_secs((told.age_ms / 1_000).max(1)))
}

/// `1 leader at 90`
fn part(part: &Part) -> String {
    format!("{} {} at {}", part.id, part.role, part.applied_index)
}
