//! What the internet has besides nodes: a directory and a DHT, as processes on a host.
//!
//! Each is a test that is left out of ordinary runs; another test runs it from this same binary
//! inside a host's namespace. It ends when its standard input does.

use std::fs;
use std::io::Read;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use iroh_dns_server::Server as DirectoryServer;
use iroh_dns_server::config::{Config, MetricsConfig, RateLimitConfig};
use n0_mainline::Dht;

use super::lan::Host;
use crate::support::until;

/// The ports that the servers listen on: each host has all of them to itself.
const DIRECTORY_PORT: u16 = 8_080;
const DHT_PORT: u16 = 6_881;
const DHT_NODES: u16 = 5;

/// Where a server keeps its data and says that it serves, and at which address it is reached.
const DIR: &str = "SERVER_DIR";
const ADDRESS: &str = "SERVER_ADDRESS";

/// A server on a host; ended when dropped.
#[derive(Debug)]
pub(super) struct Server {
    child: Child,
    address: Ipv4Addr,
}

impl Server {
    /// A directory of nodes, told and asked over HTTP.
    #[track_caller]
    pub(super) fn directory(host: &Host) -> Self {
        Server::run(host, "netns::servers::a_directory")
    }

    /// A few nodes of a DHT of their own.
    #[track_caller]
    pub(super) fn dht(host: &Host) -> Self {
        Server::run(host, "netns::servers::a_dht")
    }

    #[track_caller]
    fn run(host: &Host, test: &str) -> Self {
        let dir = host.disk().path().join(test.replace(':', "-"));
        fs::create_dir_all(&dir).expect("a directory");
        let mut this = Command::new(std::env::current_exe().expect("this binary"));
        this.args([test, "--exact", "--ignored", "--nocapture"]);
        this.env(DIR, &dir).env(ADDRESS, host.address().to_string());
        let mut command = host.space().inside(&this);
        let log = fs::File::create(dir.join("log")).expect("a file");
        command.stdin(Stdio::piped()).stdout(log.try_clone().expect("a file")).stderr(log);
        let mut child = command.spawn().expect("this binary runs");
        let serves =
            until(|| dir.join("serves").exists() || child.try_wait().expect("a child").is_some());
        let log = || fs::read_to_string(dir.join("log")).unwrap_or_default();
        assert!(serves && dir.join("serves").exists(), "no server: {}", log());
        Server { child, address: host.address() }
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
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Says that it serves, and waits until whoever runs it is gone.
fn serve_on(dir: &Path) {
    fs::File::create(dir.join("serves")).expect("a file");
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
}

fn surroundings() -> (std::path::PathBuf, Ipv4Addr) {
    let variable = |name| std::env::var(name).expect("it is run by another test");
    (variable(DIR).into(), variable(ADDRESS).parse().expect("an address"))
}

#[test]
#[ignore = "a server for other tests, which run it on a host"]
fn a_directory() {
    let (dir, _) = surroundings();
    let everywhere = Some(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
    let mut config = Config::default();
    let http = config.http.as_mut().expect("the default serves HTTP");
    (http.port, http.bind_addr) = (DIRECTORY_PORT, everywhere);
    config.https = None;
    config.dns.bind_addr = everywhere;
    config.metrics = Some(MetricsConfig::disabled());
    config.pkarr_put_rate_limit = RateLimitConfig::Disabled;
    config.data_dir = Some(dir.clone());
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(DirectoryServer::bind(config)).expect("it serves");
    serve_on(&dir);
    drop(server);
}

#[test]
#[ignore = "servers for other tests, which run them on a host"]
fn a_dht() {
    let (dir, address) = surroundings();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _entered = runtime.enter();
    let nodes: Vec<Dht> = (0..DHT_NODES)
        .map(|number| {
            let mut builder = Dht::builder();
            builder.server_mode().port(DHT_PORT + number).public_ip(address);
            match number {
                0 => builder.no_bootstrap(),
                _ => builder.bootstrap(&[format!("{address}:{DHT_PORT}")]),
            };
            builder.build().expect("a node of the DHT")
        })
        .collect();
    for node in &nodes[1..] {
        assert!(runtime.block_on(node.bootstrapped()).expect("it runs"), "it found the first");
    }
    serve_on(&dir);
}
