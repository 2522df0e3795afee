//! Programs that count while the members are restarted one after the other.

use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aspen::roster::tickets::Access;
use aspen::status::NodeIdentity;
use aspen::types::GroupId;
use aspen::{Client, KvClient, KvService, KvServiceBuilder, MemberRole, Reach};
use aspen_tickets::{Scope, Verbs};
use tokio::task::JoinHandle;

use crate::wait::until;

const HOUR: Duration = Duration::from_secs(3_600);
const WRITERS: usize = 8;

/// Three members on disk.
struct Trio {
    dir: tempfile::TempDir,
    nodes: [Option<KvService>; 3],
}

fn builder(dir: &Path, at: usize) -> KvServiceBuilder {
    KvServiceBuilder::auto(dir.join(format!("node-{at}"))).with_reach(Reach::Loopback)
}

impl Trio {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let first = builder(dir.path(), 0).start().await.expect("the first node");
        let ticket = first.cluster().invite(MemberRole::Voter, HOUR, None).await;
        let ticket = ticket.expect("a ticket");
        let join = async |at| {
            let joined = builder(dir.path(), at).join(ticket.clone()).start().await;
            Some(joined.expect("the ticket is good"))
        };
        let nodes = [None, join(1).await, join(2).await];
        until("all vote in both groups", async || {
            first.groups().iter().all(|group| group.voters.len() == 3)
        })
        .await;
        let [_, second, third] = nodes;
        Trio { dir, nodes: [Some(first), second, third] }
    }

    fn node(&self, at: usize) -> &KvService {
        self.nodes[at].as_ref().expect("it runs")
    }

    /// Stops a node while it leads, and starts it again where it was.
    async fn restart(&mut self, at: usize) {
        let listened = self.stop(at).await;
        let again = builder(self.dir.path(), at).start().await.expect("it starts again");
        assert_eq!(again.node().listen, listened, "its port was given back");
        self.nodes[at] = Some(again);
    }

    /// The same, but it comes back at another port.
    async fn restart_elsewhere(&mut self, at: usize) {
        let listened = self.stop(at).await;
        // Or another test has it by now, which is as good.
        let taken = UdpSocket::bind(listened[0]);
        let again = builder(self.dir.path(), at).start().await.expect("it starts again");
        assert_ne!(again.node().listen, listened);
        drop(taken);
        self.nodes[at] = Some(again);
    }

    async fn stop(&mut self, at: usize) -> Vec<SocketAddr> {
        let node = self.nodes[at].take().expect("it runs");
        let NodeIdentity { node_id, listen, .. } = node.node().clone();
        node.cluster().transfer(GroupId::FIRST_SHARD, node_id).await.expect("it can lead");
        node.shutdown().await.expect("an orderly end");
        listen
    }

    async fn shutdown(self) {
        for node in self.nodes.into_iter().flatten() {
            node.shutdown().await.expect("an orderly end");
        }
    }
}

/// Programs that each count a key up and read it back; no error is allowed.
struct Counting {
    kv: KvClient,
    stop: Arc<AtomicBool>,
    writers: Vec<JoinHandle<u64>>,
}

impl Counting {
    fn begin(kv: KvClient) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = |n| tokio::spawn(count(kv.clone(), key(n), stop.clone()));
        let writers = (0..WRITERS).map(writer).collect();
        Counting { kv, stop, writers }
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (n, writer) in self.writers.into_iter().enumerate() {
            let done = writer.await.expect("a writer");
            let found = self.kv.get(key(n)).await.expect("get").expect("it was written");
            assert_eq!(found.version, done, "writer {n}");
        }
    }
}

fn key(writer: usize) -> String {
    format!("n/{writer}")
}

async fn count(kv: KvClient, key: String, stop: Arc<AtomicBool>) -> u64 {
    let mut done = 0;
    while !stop.load(Ordering::Relaxed) {
        let put = kv.put(&key, "x").await;
        put.unwrap_or_else(|error| panic!("write {done} of {key}: {error}"));
        done += 1;
        let found = kv.get(&key).await;
        let found = found.unwrap_or_else(|error| panic!("read {done} of {key}: {error}"));
        assert_eq!(found.map(|found| found.version), Some(done), "{key}");
    }
    done
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_is_no_error_to_a_client_in_a_member() {
    let mut trio = Trio::start().await;
    let counting = Counting::begin(trio.node(0).client());
    for at in 1..3 {
        trio.restart(at).await;
    }
    counting.end().await;
    trio.shutdown().await;
}

/// A program that has a ticket and nothing else, made when the members were where they first were.
async fn outside(trio: &Trio) -> Client {
    let access = Access { name: "counting".into(), scope: Scope::All, verbs: Verbs::ALL };
    let ticket = trio.node(0).cluster().grant(access, HOUR, None).await.expect("a ticket");
    Client::connect(&ticket).await.expect("the ticket is good")
}

/// Restarts all members while such a program counts.
async fn count_from_outside(restart: impl AsyncFn(&mut Trio, usize)) {
    let mut trio = Trio::start().await;
    let client = outside(&trio).await;
    let counting = Counting::begin(client.kv());
    for at in 0..3 {
        restart(&mut trio, at).await;
    }
    counting.end().await;
    client.close().await;
    trio.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rolling_restart_of_all_members_is_no_error_to_a_client_with_a_ticket() {
    count_from_outside(Trio::restart).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_with_a_ticket_follows_members_that_all_move_away() {
    count_from_outside(Trio::restart_elsewhere).await;
}
