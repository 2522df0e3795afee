//! Three etcd servers and their gRPC client.

use std::time::Duration;

use bytes::Bytes;
use etcd_client::KvClient;
use tempfile::TempDir;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::processes::{Process, free_ports};

const READY_MAX: Duration = Duration::from_secs(60);
const LOOK: Duration = Duration::from_millis(50);

/// The cluster, with the defaults of etcd.
pub(crate) struct Servers {
    dirs: [TempDir; 3],
    /// For clients, and for the other servers.
    ports: [[u16; 2]; 3],
    processes: Vec<Process>,
    leader: u16,
}

impl Servers {
    pub(crate) async fn start() -> Result<Servers> {
        let [a, b, c, d, e, f] = free_ports()?;
        let dirs = [TempDir::new()?, TempDir::new()?, TempDir::new()?];
        let ports = [[a, b], [c, d], [e, f]];
        let mut servers = Servers { dirs, ports, processes: Vec::new(), leader: a };
        servers.run().await?;
        Ok(servers)
    }

    pub(crate) async fn client(&self) -> Result<Client> {
        Client::to(self.leader).await
    }

    pub(crate) async fn restart(&mut self) -> Result<()> {
        self.processes.iter_mut().for_each(Process::kill);
        self.run().await
    }

    pub(crate) fn processor_time(&self) -> Result<Duration> {
        self.processes.iter().map(Process::time).sum()
    }

    async fn run(&mut self) -> Result<()> {
        let url = |port: &u16| format!("http://127.0.0.1:{port}");
        let named = |(number, [_, peer]): (usize, &[u16; 2])| format!("n{number}={}", url(peer));
        let all: Vec<String> = self.ports.iter().enumerate().map(named).collect();
        let all = all.join(",");
        self.processes.clear();
        for (number, ([client, peer], dir)) in self.ports.iter().zip(&self.dirs).enumerate() {
            let (client, peer, name) = (url(client), url(peer), format!("n{number}"));
            let data = dir.path().join("data").display().to_string();
            let arguments = [
                ("--name", &*name),
                ("--data-dir", &data),
                ("--listen-client-urls", &client),
                ("--advertise-client-urls", &client),
                ("--listen-peer-urls", &peer),
                ("--initial-advertise-peer-urls", &peer),
                ("--initial-cluster", &all),
                ("--initial-cluster-state", "new"),
                ("--logger", "zap"),
                ("--log-level", "error"),
            ];
            let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag, value]);
            self.processes.push(Process::start("etcd", arguments, dir.path())?);
        }
        self.leader = self.until_led().await?;
        Ok(())
    }

    /// The client port of the server that leads.
    async fn until_led(&mut self) -> Result<u16> {
        let began = Instant::now();
        let mut last = String::from("none of them was chosen");
        loop {
            for (process, [port, _]) in self.processes.iter_mut().zip(&self.ports) {
                if let Some(ended) = process.ended() {
                    return Err(format!("a server of etcd ended: {ended}").into());
                }
                match leads(*port).await {
                    Ok(true) => return Ok(*port),
                    Ok(false) => {}
                    Err(error) => last = error.to_string(),
                }
            }
            if began.elapsed() > READY_MAX {
                return Err(format!("no server of etcd leads: {last}").into());
            }
            sleep(LOOK).await;
        }
    }
}

async fn connected(port: u16) -> Result<etcd_client::Client> {
    Ok(etcd_client::Client::connect([format!("127.0.0.1:{port}")], None).await?)
}

async fn leads(port: u16) -> Result<bool> {
    let status = connected(port).await?.status().await?;
    let me = status.header().map(|header| header.member_id());
    Ok(me == Some(status.leader()))
}

/// One connection.
pub(crate) struct Client(Box<KvClient>);

impl Client {
    async fn to(port: u16) -> Result<Client> {
        let mut client = Client(Box::new(connected(port).await?.kv_client()));
        // It connects when it is first used.
        client.0.get("ready", None).await?;
        Ok(client)
    }

    pub(crate) async fn put(&mut self, key: &str, value: Bytes) -> Result<()> {
        self.0.put(key, value, None).await?;
        Ok(())
    }

    pub(crate) async fn get(&mut self, key: &str) -> Result<Bytes> {
        let found = self.0.get(key, None).await?;
        let found = found.kvs().first().ok_or_else(|| format!("{key} is not there"))?;
        Ok(Bytes::copy_from_slice(found.value()))
    }
}
