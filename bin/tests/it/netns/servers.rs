//! What the internet has besides nodes: a directory and a DHT, served from a host's namespace.
//!
//! A server is a thread of the test, which enters the namespace before it opens a socket; threads that
//! it starts are where it is.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::mpsc;
use std::thread::JoinHandle;

use aspen::seams::spawn_thread;
use iroh_dns_server::Server as DirectoryServer;
use iroh_dns_server::config::{Config, MetricsConfig, RateLimitConfig};
use n0_mainline::Dht;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::lan::Host;

/// The ports that the servers listen on: each host has all of them to itself.
const DIRECTORY_PORT: u16 = 8_080;
const DHT_PORT: u16 = 6_881;
const DHT_NODES: u16 = 5;

/// A server on a host; ended when dropped.
#[derive(Debug)]
pub(super) struct Server {
    address: Ipv4Addr,
    /// Dropped, it ends the server.
    runs: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// A directory of nodes, told and asked over HTTP.
    #[track_caller]
    pub(super) fn directory(host: &Host) -> Self {
        let dir = host.disk().path().join("directory");
        Server::run(host, async move || directory(&dir).await)
    }

    /// A few nodes of a DHT of their own.
    #[track_caller]
    pub(super) fn dht(host: &Host) -> Self {
        let address = host.address();
        Server::run(host, async move || dht(address).await)
    }

    /// Runs what serves for as long as what it returns is kept.
    #[track_caller]
    fn run<S, T>(host: &Host, serve: S) -> Self
    where
        S: AsyncFnOnce() -> T + Send + 'static,
    {
        let (serves, served) = mpsc::sync_channel(1);
        let (runs, ended) = oneshot::channel::<()>();
        let space = host.space().file();
        let thread = move || {
            move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))
                .expect("the host's namespace");
            let runtime = Runtime::new().expect("a runtime");
            runtime.block_on(async {
                let _server = serve().await;
                serves.send(()).expect("the test waits");
                let _ = ended.await;
            });
            runtime.shutdown_background();
        };
        let thread = spawn_thread("server".into(), thread).expect("a thread");
        served.recv().expect("the server serves");
        Server { address: host.address(), runs: Some(runs), thread: Some(thread) }
    }

    /// Where a node tells and asks the directory.
    pub(super) fn url(&self) -> String {
        format!("http://{}:{DIRECTORY_PORT}/pkarr", self.address)
    }

    /// By which a node enters the DHT.
    pub(super) fn entrance(&self) -> String {
        format!("{}:{DHT_PORT}", self.address)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.runs.take());
        if let Some(thread) = self.thread.take() {
            // A server that panicked has failed the test that waits for it.
            let _ = thread.join();
        }
    }
}

async fn directory(dir: &Path) -> DirectoryServer {
    let everywhere = Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut config = Config::default();
    let http = config.http.as_mut().expect("the default serves HTTP");
    (http.port, http.bind_addr) = (DIRECTORY_PORT, everywhere);
    config.https = None;
    config.dns.bind_addr = everywhere;
    config.metrics = Some(MetricsConfig::disabled());
    config.pkarr_put_rate_limit = RateLimitConfig::Disabled;
    config.data_dir = Some(dir.to_owned());
    DirectoryServer::bind(config).await.expect("it serves")
}

async fn dht(address: Ipv4Addr) -> Vec<Dht> {
    let node = |number: u16| {
        let mut builder = Dht::builder();
        builder.server_mode().port(DHT_PORT + number).public_ip(address);
        match number {
            0 => builder.no_bootstrap(),
            _ => builder.bootstrap(&[format!("{address}:{DHT_PORT}")]),
        };
        builder.build().expect("a node of the DHT")
    };
    let nodes: Vec<Dht> = (0..DHT_NODES).map(node).collect();
    for node in &nodes[1..] {
        assert!(node.bootstrapped().await.expect("it runs"), "it found the first");
    }
    nodes
}
