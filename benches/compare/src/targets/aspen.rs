//! Three nodes of Aspen as processes, and a client of their HTTP API as small as can be.

use std::path::Path;
use std::time::Duration;

use aspen::Client;
use aspen::seams::Tasks;
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::processes::{Process, command};

const NODES: usize = 3;
const READY_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(20);

/// The cluster. The first node leads the default keyspace's only shard.
pub(crate) struct Servers {
    dirs: Vec<TempDir>,
    nodes: Vec<(Process, String)>,
    leader: String,
}

impl Servers {
    pub(crate) async fn start() -> Result<Servers> {
        let dirs: Vec<TempDir> = (0..NODES).map(|_| TempDir::new()).collect::<Result<_, _>>()?;
        let first = node(dirs[0].path(), &["start"])?;
        let first = until_ready(first).await?;
        let ticket = printed(&first.1, &["ticket", "create"])?;
        let mut nodes = vec![first];
        for dir in &dirs[1..] {
            nodes.push(until_ready(node(dir.path(), &["join", &ticket])?).await?);
        }
        let mut servers = Servers { dirs, nodes, leader: String::new() };
        servers.leader = servers.until_led().await?;
        Ok(servers)
    }

    pub(crate) async fn http(&self) -> Result<Http> {
        Http::to(&self.leader).await
    }

    /// A client from outside.
    pub(crate) async fn visit(&self) -> Result<Client> {
        let ticket = printed(&self.leader, &["ticket", "create", "--client"])?;
        Ok(Client::connect(&ticket.parse()?).await?)
    }

    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.nodes.iter_mut().for_each(|(process, _)| process.kill());
        let started: Vec<Process> =
            self.dirs.iter().map(|dir| node(dir.path(), &["start"])).collect::<Result<_>>()?;
        self.nodes.clear();
        for process in started {
            self.nodes.push(until_ready(process).await?);
        }
        self.leader = self.until_led().await?;
        Ok(())
    }

    pub(crate) fn processor_time(&self) -> Result<Duration> {
        self.nodes.iter().map(|(process, _)| process.time()).sum()
    }

    /// Where the node is that leads the shard with three voters.
    async fn until_led(&self) -> Result<String> {
        let began = Instant::now();
        loop {
            for (_, url) in &self.nodes {
                let groups = Http::to(url).await?.json("/v1/cluster").await?;
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
        std::process::Command::new(command()?).args(arguments).env("ASPEN_NODE", node).output()?;
    match asked.status.success() {
        true => Ok(String::from_utf8(asked.stdout)?.trim().to_owned()),
        false => Err(String::from_utf8_lossy(&asked.stderr).into()),
    }
}

fn node(dir: &Path, what: &[&str]) -> Result<Process> {
    let mut arguments: Vec<String> = what.iter().map(ToString::to_string).collect();
    let data = dir.join("node").display().to_string();
    let flags = ["--json", "--reach", "loopback", "--http", "127.0.0.1:0", "--data-dir", &data];
    arguments.extend(flags.map(str::to_owned));
    Process::start(command()?, arguments, dir)
}

/// Waits for the line by which a node says where it serves.
async fn until_ready(mut node: Process) -> Result<(Process, String)> {
    let began = Instant::now();
    loop {
        let printed = std::fs::read_to_string(&node.output)?;
        let mut events =
            printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ready = events.rfind(|event| event["event"] == "ready");
        if let Some(url) = ready.as_ref().and_then(|ready| ready["http"].as_str()) {
            return Ok((node, url.to_owned()));
        }
        if let Some(ended) = node.ended() {
            return Err(format!("a node of Aspen ended: {ended}").into());
        }
        if began.elapsed() > READY_MAX {
            return Err("a node of Aspen is not ready".into());
        }
        sleep(LOOK).await;
    }
}

/// One kept connection.
pub(crate) struct Http {
    authority: String,
    sender: SendRequest<Full<Bytes>>,
    _connection: Tasks,
}

impl Http {
    async fn to(url: &str) -> Result<Http> {
        let authority = url.strip_prefix("http://").ok_or("a node's address is http")?.to_owned();
        let stream = TcpStream::connect(&authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // A connection that breaks is seen by the request that waits for it.
        let connections = Tasks::new();
        connections.spawn(async { drop(connection.await) });
        Ok(Http { authority, sender, _connection: connections })
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
        let request = Request::builder().method(method).uri(path).header("host", &self.authority);
        self.sender.ready().await?;
        let answer = self.sender.send_request(request.body(Full::new(body))?).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        match status.is_success() {
            true => Ok(body),
            false => Err(format!("{path}: {status} {}", body.escape_ascii()).into()),
        }
    }
}
