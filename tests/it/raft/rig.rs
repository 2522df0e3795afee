//! Nodes that are nothing but replicas: a log, states, links over loopback, no roster. Who is a
//! member is told by the test.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aspen::Reach;
use aspen::machine::ops::{Action, AnswerBody, Command, Put, Query};
use aspen::net::{
    AddressBook, AddressSource, Endpoint, Lane, Listen, NodeKey, Peers, Refused, Serve,
};
use aspen::raft::{
    Directory, Failed, FindReplica, Inbound, Origin, RaftTimes, Replica, ReplicaSpec, Rounds,
    Transport,
};
use aspen::seams::network::{CloseCode, Gate, Link, Network, Protocol, StreamIn, StreamOut};
use aspen::seams::{Random, Seams};
use aspen::status::Role;
use aspen::store::log::{self, EntryId, Log};
use aspen::store::space::SpaceGuard;
use aspen::types::{Consistency, EndpointId, GroupId, Key, NodeId, Value};
use aspen::wire::StreamKind;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use std::future::ready;
use tokio::time::{Instant, sleep, timeout};

use super::weather::Weather;
pub use crate::wait::{PATIENCE, until};

pub const GROUP: GroupId = GroupId(1);
/// A group beside the first.
pub const OTHER: GroupId = GroupId(2);

/// Fast enough for a test, slow enough for two busy cores.
pub const TIMES: RaftTimes = RaftTimes {
    heartbeat: Duration::from_millis(100),
    election_min: Duration::from_millis(600),
    election_max: Duration::from_millis(1_200),
};

/// Whose key is which number.
#[derive(Debug, Default)]
pub struct Known {
    keys: Mutex<BTreeMap<NodeId, EndpointId>>,
    /// Of snapshots; 0 is as fast as can be.
    bytes_per_second: AtomicU64,
}

impl Directory for Known {
    fn endpoint(&self, node: NodeId) -> Option<EndpointId> {
        self.keys.lock().unwrap().get(&node).copied()
    }

    fn node(&self, endpoint: EndpointId) -> Option<NodeId> {
        let known = self.keys.lock().unwrap();
        known.iter().find(|(_, known)| **known == endpoint).map(|(node, _)| *node)
    }

    fn snapshot_bytes_per_second(&self) -> u64 {
        match self.bytes_per_second.load(Ordering::Relaxed) {
            0 => u64::MAX,
            limited => limited,
        }
    }
}

#[derive(Debug)]
struct Open;

impl Gate for Open {
    fn admit(&self, _: EndpointId, _: Protocol) -> Result<(), (CloseCode, String)> {
        Ok(())
    }
}

#[derive(Debug)]
struct Served(Inbound);

impl Serve for Served {
    fn call(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refused>> {
        let inbound = self.0.clone();
        async move { inbound.call(peer, kind, request).await }.boxed()
    }

    fn stream(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        out: StreamOut,
        input: StreamIn,
    ) -> BoxFuture<'static, ()> {
        assert_eq!(kind, StreamKind::Snapshot);
        let inbound = self.0.clone();
        async move { inbound.snapshot(peer, out, input).await }.boxed()
    }

    fn lane(&self, peer: EndpointId, group: GroupId, lane: Lane) -> BoxFuture<'static, ()> {
        let inbound = self.0.clone();
        async move { inbound.lane(peer, group, lane).await }.boxed()
    }

    fn link(&self, _: Arc<dyn Link>) -> BoxFuture<'static, ()> {
        panic!("nobody joins here")
    }
}

/// What runs of a node.
struct Running {
    endpoint: Arc<Endpoint>,
    peers: Peers,
    transport: Transport,
    log: Log,
    replicas: Arc<Mutex<BTreeMap<GroupId, Replica>>>,
}

/// One node: its key and disk outlive what runs of it.
pub struct Node {
    pub number: NodeId,
    key: NodeKey,
    seams: Seams,
    root: PathBuf,
    running: Option<Running>,
}

/// All nodes of a test.
pub struct Cluster {
    pub nodes: Vec<Node>,
    pub weather: Weather,
    known: Arc<Known>,
}

impl Cluster {
    /// Nodes that know each other, without replicas.
    pub async fn bare(nodes: u64) -> Cluster {
        Cluster::with(nodes, |_| (Seams::in_memory(), "data".into())).await
    }

    /// The same, on the disk of this machine.
    pub async fn bare_on_disk(nodes: u64, dir: &Path) -> Cluster {
        Cluster::with(nodes, |number| (Seams::real(), dir.join(number.to_string()))).await
    }

    async fn with(nodes: u64, place: impl Fn(u64) -> (Seams, PathBuf)) -> Cluster {
        let mut cluster =
            Cluster { nodes: Vec::new(), weather: Weather::default(), known: Arc::default() };
        for number in 1..=nodes {
            let key = NodeKey::generate(&Random::from_entropy());
            cluster.known.keys.lock().unwrap().insert(NodeId(number), key.endpoint_id());
            let (seams, root) = place(number);
            let number = NodeId(number);
            cluster.nodes.push(Node { number, key, seams, root, running: None });
        }
        for at in 0..cluster.nodes.len() {
            cluster.start(at).await;
        }
        cluster
    }

    /// One group with all nodes as voters, and a leader.
    pub async fn founded(nodes: u64) -> Cluster {
        let cluster = Cluster::bare(nodes).await;
        cluster.found(GROUP).await;
        cluster
    }

    /// Founds a group on the first node, with all as voters. As in the product one node founds:
    /// several would all stand at once, and one may lead and lose its lead to another's late vote.
    pub async fn found(&self, group: GroupId) {
        for at in 1..self.nodes.len() {
            self.open(at, group, Origin::Joins).await;
        }
        let voters: Vec<NodeId> = self.nodes.iter().map(|node| node.number).collect();
        self.open(0, group, Origin::Founds(voters.clone())).await;
        until("all follow the founder", || async {
            let follows = |node: &Node| {
                let status = node.find(group).expect("it was opened").status();
                (status.leader, status.voters.len()) == (Some(voters[0]), voters.len())
            };
            self.nodes.iter().all(follows)
        })
        .await;
    }

    /// A first node that leads alone, and others that wait to be made members.
    pub async fn waiting(nodes: u64) -> Cluster {
        let cluster = Cluster::bare(nodes).await;
        cluster.await_members().await;
        cluster
    }

    /// Founds the group on the first node; the others wait.
    pub async fn await_members(&self) {
        self.open(0, GROUP, Origin::Founds(vec![NodeId(1)])).await;
        for at in 1..self.nodes.len() {
            self.open(at, GROUP, Origin::Joins).await;
        }
        assert_eq!(self.leader().await, 0);
    }

    /// Up to which entry a node's log was let go of.
    pub fn purged(&self, at: usize) -> Option<u64> {
        let log = &self.nodes[at].running.as_ref().expect("it runs").log;
        log.group(GROUP).unwrap().marks().purged.map(|id| id.index)
    }

    /// Starts a node's log and links; its replicas are opened by [`Cluster::open`].
    pub async fn start(&mut self, at: usize) {
        let (known, node) = (self.known.clone(), &self.nodes[at]);
        let options = log::Options::new(node.number.0);
        let (core, _) =
            log::open(node.seams.disk.clone(), &node.root.join("log"), options).unwrap();
        let endpoint = Endpoint::bind(&node.key, Reach::Loopback, Listen::Anywhere, Arc::new(Open))
            .await
            .unwrap();
        let endpoint = Arc::new(endpoint);
        let replicas: Arc<Mutex<BTreeMap<GroupId, Replica>>> = Arc::default();
        let found = replicas.clone();
        let find: FindReplica =
            Arc::new(move |group| ready(found.lock().unwrap().get(&group).cloned()).boxed());
        let peers = Peers::start(
            self.weather.over(endpoint.clone()),
            AddressBook::in_memory(&node.seams),
            Arc::new(Served(Inbound::new(find, known))),
            node.seams.random.clone(),
        );
        let log = Log::start(core).unwrap();
        let transport = Transport::new(peers.clone(), self.known.clone());
        self.nodes[at].running = Some(Running { endpoint, peers, transport, log, replicas });
        self.introduce();
    }

    /// Tells everyone where everyone is.
    fn introduce(&self) {
        for node in &self.nodes {
            for other in &self.nodes {
                if let (Some(running), Some(there)) = (&node.running, &other.running) {
                    let addresses = there.endpoint.addresses();
                    running.peers.note(other.id(), &addresses, AddressSource::Roster);
                }
            }
        }
    }

    /// From now on a node sends no more bytes of snapshots in one second.
    pub fn limit_snapshots(&self, bytes_per_second: u64) {
        self.known.bytes_per_second.store(bytes_per_second, Ordering::Relaxed);
    }

    /// Opens a replica on a node.
    pub async fn open(&self, at: usize, group: GroupId, origin: Origin) -> Replica {
        self.open_after(at, group, origin, None).await
    }

    /// The same, of one that began with nothing when the group was so far.
    pub async fn open_after(
        &self,
        at: usize,
        group: GroupId,
        origin: Origin,
        after: Option<EntryId>,
    ) -> Replica {
        let node = &self.nodes[at];
        let running = node.running();
        let dir = node.root.join("groups").join(group.to_string());
        let disk = node.seams.disk.clone();
        let replica = Replica::open(ReplicaSpec {
            group,
            node: node.number,
            log: running.log.group(group).unwrap(),
            space: SpaceGuard::new(disk.clone(), node.root.clone()).unwrap(),
            disk,
            dir,
            times: TIMES,
            origin,
            after,
            transport: running.transport.clone(),
            rounds: Rounds::default(),
            counts: Arc::default(),
            random: node.seams.random.clone(),
        });
        let replica = replica.await.unwrap();
        running.replicas.lock().unwrap().insert(group, replica.clone());
        replica
    }

    /// Ends a node without a word to anybody, as if its process were killed.
    pub async fn kill(&mut self, at: usize) {
        let Some(running) = self.nodes[at].running.take() else { return };
        running.endpoint.close().await;
        running.peers.stop().await;
        let replicas = std::mem::take(&mut *running.replicas.lock().unwrap());
        for replica in replicas.into_values() {
            replica.abandon().await;
        }
        running.log.shutdown().await.unwrap();
    }

    /// Stops a node in order.
    pub async fn stop(&mut self, at: usize) {
        let Some(running) = self.nodes[at].running.take() else { return };
        let replicas = running.replicas.lock().unwrap().clone();
        for replica in replicas.into_values() {
            replica.stop().await;
        }
        running.replicas.lock().unwrap().clear();
        running.peers.stop().await;
        running.endpoint.close().await;
        running.log.shutdown().await.unwrap();
    }

    /// Starts a node again, with what it has.
    pub async fn restart(&mut self, at: usize) {
        self.start(at).await;
        self.open(at, GROUP, Origin::Returns).await;
    }

    /// Ends everything.
    pub async fn end(mut self) {
        self.weather.heal();
        for at in 0..self.nodes.len() {
            self.kill(at).await;
        }
    }

    /// The place of the node whose replica leads the group, once there is one that all running
    /// replicas but those parted from it agree on.
    pub async fn leader(&self) -> usize {
        self.leader_among(0..self.nodes.len()).await
    }

    /// The same, of some nodes.
    pub async fn leader_among(&self, places: impl IntoIterator<Item = usize>) -> usize {
        let places: BTreeSet<usize> = places.into_iter().collect();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let leads = |at: &&usize| {
                self.nodes[**at].find(GROUP).is_some_and(|it| it.status().role == Role::Leader)
            };
            if let Some(at) = places.iter().find(leads) {
                let leader = self.nodes[*at].number;
                let agrees = |at: &usize| {
                    self.nodes[*at].find(GROUP).is_none_or(|it| {
                        it.members().log_index.is_none() || it.status().leader == Some(leader)
                    })
                };
                if places.iter().all(agrees) {
                    return *at;
                }
            }
            assert!(Instant::now() < deadline, "no leader: {:?}", self.statuses());
            sleep(Duration::from_millis(5)).await;
        }
    }

    fn statuses(&self) -> Vec<String> {
        let status = |node: &Node| format!("{:?}", node.find(GROUP).map(|it| it.status()));
        self.nodes.iter().map(status).collect()
    }

    pub fn replica(&self, at: usize) -> Replica {
        self.nodes[at].find(GROUP).expect("the replica runs")
    }

    /// Parts a node from all others.
    pub fn isolate(&self, at: usize) {
        for other in (0..self.nodes.len()).filter(|other| *other != at) {
            self.weather.part(self.nodes[at].id(), self.nodes[other].id());
        }
    }

    /// Puts through whoever leads, trying until it is acknowledged.
    pub async fn put(&self, key: &str, value: &str) {
        let deadline = Instant::now() + PATIENCE;
        let mut at = 0;
        loop {
            let replica = self.nodes[at % self.nodes.len()].find(GROUP);
            if let Some(replica) = replica
                && let Ok(Ok(())) = timeout(Duration::from_secs(2), put(&replica, key, value)).await
            {
                return;
            }
            at += 1;
            assert!(Instant::now() < deadline, "{key} is not put: {:?}", self.statuses());
            sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Node {
    pub fn id(&self) -> EndpointId {
        self.key.endpoint_id()
    }

    fn running(&self) -> &Running {
        self.running.as_ref().expect("the node runs")
    }

    pub fn find(&self, group: GroupId) -> Option<Replica> {
        let running = self.running.as_ref()?;
        running.replicas.lock().unwrap().get(&group).cloned()
    }

    /// Another peer's handle, to speak as this node.
    pub fn peers(&self) -> &Peers {
        &self.running().peers
    }
}

fn key(text: &str) -> Key {
    Key::try_from(text).unwrap()
}

pub fn putting(name: &str, value: impl Into<Bytes>) -> Command {
    let value = Value::new(value.into()).unwrap();
    Command { session: None, action: Action::Put(Put::new(key(name), value)) }
}

pub async fn put(replica: &Replica, name: &str, value: &str) -> Result<(), Failed> {
    replica.propose(putting(name, value.to_owned())).await.map(drop)
}

pub async fn get(
    replica: &Replica,
    name: &str,
    consistency: Consistency,
) -> Result<Option<String>, Failed> {
    let answer = replica.query(&Query::Get(key(name)), consistency).await?;
    match answer.body {
        AnswerBody::Record(record) => {
            Ok(record.map(|it| String::from_utf8(it.value.as_bytes().to_vec()).unwrap()))
        }
        other => panic!("{other:?}"),
    }
}

/// The value that a replica's own state has.
pub async fn has(replica: &Replica, name: &str) -> Option<String> {
    get(replica, name, Consistency::Stale).await.unwrap()
}
