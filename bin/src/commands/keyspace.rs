//! `keyspace`: makes, lists, shows and deletes keyspaces.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::KeyspaceCmd;
use crate::client::{Node, Request};
use crate::exit::Failure;
use crate::output;

/// A keyspace, as the node tells of it.
#[derive(Debug, Deserialize)]
pub(super) struct Keyspace {
    name: String,
    shards: u32,
    replicas: u8,
    settled: u32,
}

impl Keyspace {
    /// Its name, its shards, the replicas of each, and how many shards are where they are to be.
    pub(super) fn row(&self) -> Vec<String> {
        let Keyspace { name, shards, replicas, settled } = self;
        vec![name.clone(), shards.to_string(), replicas.to_string(), settled.to_string()]
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Keyspaces {
    pub(super) keyspaces: Vec<Keyspace>,
}

/// A shard, as the node tells of it.
#[derive(Debug, Deserialize)]
struct Shard {
    shard: u32,
    group: u64,
    stage: String,
    replicas: Vec<u64>,
    leaving: Vec<u64>,
    wanted_leader: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Shards {
    shards: Vec<Shard>,
}

/// Does what is asked with keyspaces.
pub(crate) async fn run(node: Node, command: KeyspaceCmd, json: bool) -> Result<(), Failure> {
    match command {
        KeyspaceCmd::Create { name, shards, replicas } => {
            let form = json!({ "name": name, "shards": shards, "replicas": replicas });
            let request = Request::write(Method::POST, "/v1/keyspaces").json(&form);
            let answer = node.ask(request).await?;
            let Keyspace { name, shards, replicas, .. } = answer.json()?;
            if json {
                return output::json_line(&answer.json::<Value>()?);
            }
            let shards = output::counted(shards.into(), "shard");
            let replicas = output::counted(replicas.into(), "replica");
            output::line(&format!("made keyspace {name} of {shards}, {replicas} each"))
        }
        KeyspaceCmd::List => list(&node, json).await,
        KeyspaceCmd::Show { name } => show(&node, &name, json).await,
        KeyspaceCmd::Delete { name } => {
            let request = Request::write(Method::DELETE, &path(&name));
            let answer = node.ask(request).await?;
            match json {
                true => output::json_line(&answer.json::<Value>()?),
                false => output::line(&format!("deleted keyspace {name}")),
            }
        }
    }
}

fn path(name: &str) -> String {
    format!("/v1/keyspaces/{}", crate::client::segment(name))
}

async fn list(node: &Node, json: bool) -> Result<(), Failure> {
    let answer = node.ask(Request::read(Method::GET, "/v1/keyspaces")).await?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    let mut rows = vec![["NAME", "SHARDS", "REPLICAS", "SETTLED"].map(str::to_owned).to_vec()];
    let Keyspaces { keyspaces } = answer.json()?;
    rows.extend(keyspaces.iter().map(Keyspace::row));
    output::line(&output::table(&rows))
}

async fn show(node: &Node, name: &str, json: bool) -> Result<(), Failure> {
    let request = Request::read(Method::GET, "/v1/shards").parameter("keyspace", name);
    let answer = node.ask(request).await?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    let header = ["SHARD", "GROUP", "STAGE", "NODES", "LEAVING", "TO LEAD"];
    let mut rows = vec![header.map(str::to_owned).to_vec()];
    let Shards { shards } = answer.json()?;
    rows.extend(shards.into_iter().map(|shard| {
        let leader = shard.wanted_leader.map_or_else(|| "-".to_owned(), |node| node.to_string());
        vec![
            shard.shard.to_string(),
            shard.group.to_string(),
            shard.stage,
            numbers(&shard.replicas),
            numbers(&shard.leaving),
            leader,
        ]
    }));
    output::line(&output::table(&rows))
}

fn numbers(nodes: &[u64]) -> String {
    let nodes: Vec<String> = nodes.iter().map(u64::to_string).collect();
    if nodes.is_empty() { "-".to_owned() } else { nodes.join(",") }
}
