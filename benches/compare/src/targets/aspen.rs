//! Three nodes of Aspen as processes, and their clients.

use std::time::Duration;

use aspen::Client;
use bytes::Bytes;
use hyper::Method;
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::costs::processor_time;
use crate::running::{Node, program};
use crate::{Result, http};

const NODES: usize = 3;
const READY_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// The cluster. The first node leads the default keyspace's only shard.
pub(crate) struct Servers {
    dirs: Vec<TempDir>,
    nodes: Vec<Node>,
    leader: String,
}

impl Servers {
    pub(crate) async fn start() -> Result<Servers> {
        let dirs: Vec<TempDir> = (0..NODES).map(|_| TempDir::new()).collect::<Result<_, _>>()?;
        let first = Node::start(dirs[0].path()).await?;
        let ticket = printed(&first.url, &["ticket", "create"])?;
        let mut nodes = vec![first];
        for dir in &dirs[1..] {
            nodes.push(Node::run(dir.path(), &["join", &ticket]).until_ready().await?);
        }
        let mut servers = Servers { dirs, nodes, leader: String::new() };
        servers.leader = servers.until_led().await?;
        Ok(servers)
    }

    pub(crate) async fn http(&self) -> Result<Http> {
        let mut http = Http::to(&self.leader);
        // It connects when it is first used.
        http.json("/v1/cluster").await?;
        Ok(http)
    }

    /// A client from outside.
    pub(crate) async fn visit(&self) -> Result<Client> {
        let ticket = printed(&self.leader, &["ticket", "create", "--client"])?;
        Ok(Client::connect(&ticket.parse()?).await?)
    }

    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.nodes.iter_mut().for_each(Node::kill);
        let started: Vec<Node> = self.dirs.iter().map(|dir| Node::spawn(dir.path())).collect();
        self.nodes.clear();
        for node in started {
            self.nodes.push(node.until_ready().await?);
        }
        self.leader = self.until_led().await?;
        Ok(())
    }

    pub(crate) fn processor_time(&self) -> Result<Duration> {
        let times = self.nodes.iter().map(|node| processor_time(node.child.id()));
        Ok(times.sum::<std::io::Result<_>>()?)
    }

    /// Where the node is that leads the shard with three voters.
    async fn until_led(&self) -> Result<String> {
        let began = Instant::now();
        loop {
            for Node { url, .. } in &self.nodes {
                let groups = Http::to(url).json("/v1/cluster").await?;
                let leads = |group: &Value| {
                    group["group"] == 1
                        && group["role"] == "leader"
                        && group["voters"].as_array().is_some_and(|voters| voters.len() == NODES)
                };
                if groups["groups"].as_array().is_some_and(|groups| groups.iter().any(leads)) {
                    return Ok(url.clone());
                }
            }
            if began.elapsed() > READY_MAX {
                return Err("no node of Aspen leads three voters".into());
            }
            sleep(LOOK).await;
        }
    }
}

/// What the command prints when it asks a node.
fn printed(node: &str, arguments: &[&str]) -> Result<String> {
    let asked =
        std::process::Command::new(program()).args(arguments).env("ASPEN_NODE", node).output()?;
    match asked.status.success() {
        true => Ok(String::from_utf8(asked.stdout)?.trim().to_owned()),
        false => Err(String::from_utf8_lossy(&asked.stderr).into()),
    }
}

/// One kept connection.
pub(crate) struct Http(http::Http);

impl Http {
    fn to(url: &str) -> Http {
        Http(http::Http::to(url))
    }

    pub(crate) async fn put(&mut self, key: &str, value: Bytes) -> Result<()> {
        self.send(Method::PUT, &format!("/v1/kv/{key}"), value).await.map(drop)
    }

    pub(crate) async fn get(&mut self, key: &str) -> Result<Bytes> {
        self.send(Method::GET, &format!("/v1/kv/{key}"), Bytes::new()).await
    }

    async fn json(&mut self, path: &str) -> Result<Value> {
        Ok(serde_json::from_slice(&self.send(Method::GET, path, Bytes::new()).await?)?)
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Bytes> {
        match self.0.send(method, path, None, body).await {
            Ok(answer) if answer.status.is_success() => Ok(answer.body),
            Ok(answer) => Err(format!("{path}: {answer}").into()),
            Err(broken) => Err(format!("{path}: {broken}").into()),
        }
    }
}
