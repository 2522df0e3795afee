//! One simulated node: the parts of a real one, put together on the simulator's seams.
//!
//! Log, replicas, peers, the supervised tree and the client are production code. The log's writer
//! is a task instead of a thread, and pauses between a write and its sync, for as long as the
//! disk takes. The roster is given: nodes know each other, and where the one shard is, from the
//! beginning, and the meta group has nothing to say.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aspen::KvClient;
use aspen::actors::{Groups, Holdings, Members, Rumours, Sources, Tree, TreeSpec};
use aspen::client::{Desk, Hop, Member};
use aspen::net::{AddressBook, AddressSource, Lane, Peers, Refused, Serve};
use aspen::raft::{
    FindReplica, Inbound, Origin, RaftTimes, Replica, ReplicaSpec, Rounds, Transport,
};
use aspen::roster::Roster;
use aspen::roster::keyspaces::Part;
use aspen::roster::records::{self, Record};
use aspen::roster::spread::SPREAD;
use aspen::seams::disk::Disk;
use aspen::seams::network::{Link, StreamIn, StreamOut};
use aspen::seams::{Random, Seams, WallClock};
use aspen::status::Role;
use aspen::store::log::{self, Log};
use aspen::store::space::SpaceGuard;
use aspen::tickets;
use aspen::types::{ClusterId, EndpointId, GroupId, KeyspaceName, NodeId, Revision};
use aspen::wire::StreamKind;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::time::sleep;

use crate::dice::Dice;
use crate::disk::SimDisk;
use crate::network::{Fabric, HostId, address_of, key_of};
use crate::workload::{Alive, Workload};

/// Small, so that a run begins some.
const SEGMENT_BYTES: u64 = 256 * 1024;
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// How a run is set.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How many nodes.
    pub(crate) nodes: HostId,
    /// How many clients on each.
    pub(crate) clients: u64,
    /// How long faults come.
    pub(crate) faults_ms: u64,
    /// See [`Replica::open_with_unsafe_leader_restore`].
    pub(crate) unsafe_leader_restore: bool,
}

impl Settings {
    pub(crate) fn hosts(&self) -> impl Iterator<Item = HostId> + use<> {
        1..=self.nodes
    }
}

/// The number of a host's node.
fn number_of(host: HostId) -> NodeId {
    NodeId(host.into())
}

/// What a node starts with.
pub(crate) struct Boot {
    pub(crate) host: HostId,
    pub(crate) settings: Settings,
    pub(crate) disk: SimDisk,
    /// The longest that a sync takes at the moment.
    pub(crate) sync_ms_max: Arc<AtomicU64>,
    pub(crate) random: Random,
    pub(crate) dice: Dice,
    pub(crate) fabric: Fabric,
    pub(crate) alive: Alive,
    pub(crate) placed: Placed,
    pub(crate) workload: Workload,
}

/// Where the simulator finds what runs on a node; clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Placed {
    parts: Arc<Mutex<Parts>>,
    /// The groups that were founded here: noted for good, as a node does in its identity.
    founded: Arc<Mutex<BTreeSet<GroupId>>>,
}

#[derive(Default)]
struct Parts {
    replica: Option<Replica>,
}

impl Placed {
    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn founded(&self) -> MutexGuard<'_, BTreeSet<GroupId>> {
        self.founded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clear(&self) {
        let parts = std::mem::take(&mut *self.parts());
        drop(parts);
    }

    pub(crate) fn replica(&self) -> Option<Replica> {
        self.parts().replica.clone()
    }

    /// The term in which the node leads, if it does.
    pub(crate) fn leads(&self) -> Option<u64> {
        let status = self.parts().replica.as_ref()?.status();
        (status.role == Role::Leader).then_some(status.term)
    }
}

/// Runs a node until its runtime is dropped.
pub(crate) async fn run(boot: Boot) {
    let (alive, workload, host) = (boot.alive.clone(), boot.workload.clone(), boot.host);
    let stopped = node(boot).await;
    if alive.is() {
        let why = stopped.err().map_or_else(|| "by itself".into(), |error| error.to_string());
        workload.fail(format!("node {host} stopped: {why}"));
    }
}

async fn node(boot: Boot) -> io::Result<()> {
    let disk: Arc<dyn Disk> = Arc::new(boot.disk.of_node(boot.alive.clone()));
    let wall = Arc::new(NoClock);
    let seams = Seams { disk: disk.clone(), wall, random: boot.random.clone() };
    let log = open_log(&boot, &disk)?;
    let space = SpaceGuard::new(disk.clone(), "data".into())?.with_log(log.starved());
    let members = Members::default();
    members.take(&roster(&boot.settings));
    let groups = Groups::default();
    let desk = Desk::new(groups.clone(), Arc::new(members.clone()));
    let serve = Arc::new(NodeServe { inbound: inbound(&groups, &members), desk: desk.clone() });
    let network = Arc::new(boot.fabric.plug(boot.host, Arc::new(members.clone())));
    let book = AddressBook::open(&seams, Path::new("data/peers"));
    let peers = Peers::start(network, book, serve, boot.random.clone());
    desk.pass_on_by(&peers);
    for peer in boot.settings.hosts().filter(|peer| *peer != boot.host) {
        peers.note(key_of(peer), &[address_of(peer)], AddressSource::Roster);
    }
    let transport = Transport::new(peers.clone(), Arc::new(members.clone()));
    let holdings = holdings(&boot, &log, &disk, &space, transport);
    let (me, links) = (number_of(boot.host), peers.clone());
    let (sources, rumours) = (Sources::none(), Rumours::new(key_of(boot.host)));
    let spec =
        TreeSpec { log, space, groups, holdings, me, members, peers: links, sources, rumours };
    let tree = Tree::grow(spec, |_| Vec::new()).await.map_err(io::Error::other)?;
    let nodes = Arc::new(Member::new(key_of(boot.host), desk, Some(peers), boot.random.clone()));
    for _ in 0..boot.settings.clients {
        // Each with a session of its own.
        let kv = KvClient::over(nodes.clone(), KeyspaceName::default(), boot.random.clone());
        let dice = Dice::new(Random::from_seed(boot.random.next_u64()));
        let client = boot.workload.client(boot.host, boot.alive.clone(), kv, dice);
        tokio::spawn(client.run());
    }
    let mut lost = tree.lost();
    let why = lost.wait_for(Option::is_some).await.map(|why| why.clone());
    Err(io::Error::other(why.ok().flatten().unwrap_or_default()))
}

/// Opens the log and puts its writer to work as a task.
fn open_log(boot: &Boot, disk: &Arc<dyn Disk>) -> io::Result<Log> {
    let options = log::Options {
        segment_bytes: SEGMENT_BYTES,
        first_segment_bytes: SEGMENT_BYTES,
        frame_bytes_max: FRAME_BYTES_MAX,
        ..log::Options::new(boot.random.next_u64())
    };
    let (core, _) = log::open(disk.clone(), Path::new("data/log"), options)?;
    let (dice, longest) = (boot.dice.clone(), boot.sync_ms_max.clone());
    let pause = move || {
        let ms = dice.below(longest.load(Ordering::Relaxed) + 1);
        sleep(Duration::from_millis(ms))
    };
    let (log, _task) = Log::with_driver(core, |core| tokio::spawn(log::drive(core, pause)));
    Ok(log)
}

fn inbound(groups: &Groups, members: &Members) -> Inbound {
    let running = groups.clone();
    let find: FindReplica = Arc::new(move |group| running.find(group));
    Inbound::new(find, Arc::new(members.clone()))
}

/// The roster that all nodes have: they are members, and hold the default keyspace's only shard.
fn roster(settings: &Settings) -> Roster {
    let cluster = records::Cluster {
        id: ClusterId(1),
        name: "sim".into(),
        gossip_secret: [0; 32],
        next_node: NodeId(u64::from(settings.nodes) + 1),
        forgotten: NodeId(0),
    };
    let member = |host: HostId| records::Member {
        node: number_of(host),
        endpoint: key_of(host),
        incarnation: host.into(),
        name: String::new(),
        role: tickets::Role::Voter,
        addresses: vec![address_of(host)],
        version: String::new(),
        state: records::State::Active,
        invitation: 0,
    };
    let first = GroupId::FIRST_SHARD;
    let keyspace =
        records::Keyspace { first, shards: 1, replicas: 5, spread: SPREAD, created_s: 0 };
    let shard = records::Shard {
        stage: records::Stage::Settled,
        replicas: settings.hosts().map(number_of).collect(),
        ..records::Shard::default()
    };
    let next_group = GroupId(first.0 + 1);
    let members = settings.hosts().map(|host| Record::Member(member(host)));
    let others = [
        Record::Cluster(cluster),
        Record::Keyspaces(records::Keyspaces { next_group }),
        Record::Keyspace(KeyspaceName::default(), keyspace),
        Record::Shard(first, shard),
    ];
    let records = members.chain(others).map(|record| (record.key().encode(), record.encode(), 1));
    Roster::load(records, 1).expect("records of this build")
}

/// How the groups' parts of the tree open their replicas, at each of their starts.
fn holdings(
    boot: &Boot,
    log: &Log,
    disk: &Arc<dyn Disk>,
    space: &SpaceGuard,
    transport: Transport,
) -> Arc<dyn Holdings> {
    Arc::new(Held(Arc::new(Opener {
        host: boot.host,
        settings: boot.settings.clone(),
        log: log.clone(),
        disk: disk.clone(),
        space: space.clone(),
        transport,
        random: boot.random.clone(),
        alive: boot.alive.clone(),
        placed: boot.placed.clone(),
        workload: boot.workload.clone(),
    })))
}

struct Held(Arc<Opener>);

impl Holdings for Held {
    /// All replicas are there from the beginning.
    fn prepare(&self, _group: GroupId) -> BoxFuture<'static, aspen::Result<Part>> {
        Box::pin(async { Ok(Part::Follow) })
    }

    fn open(&self, group: GroupId, _part: Part) -> BoxFuture<'static, aspen::Result<Replica>> {
        let opener = self.0.clone();
        Box::pin(async move { opener.open(group).await })
    }

    fn erase(&self, group: GroupId) -> BoxFuture<'static, aspen::Result<()>> {
        let reason = "nobody gives a group up here".to_owned();
        Box::pin(async move { Err(aspen::Error::Unavailable { group, reason }) })
    }

    fn held(&self) -> BoxFuture<'static, BTreeMap<GroupId, Revision>> {
        Box::pin(async { BTreeMap::new() })
    }
}

struct Opener {
    host: HostId,
    settings: Settings,
    log: Log,
    disk: Arc<dyn Disk>,
    space: SpaceGuard,
    transport: Transport,
    random: Random,
    alive: Alive,
    placed: Placed,
    workload: Workload,
}

impl Opener {
    fn spec(&self, group: GroupId) -> aspen::Result<ReplicaSpec> {
        let voters = self.settings.hosts().map(number_of).collect();
        let is_founded = self.placed.founded().contains(&group);
        Ok(ReplicaSpec {
            group,
            node: number_of(self.host),
            log: self.log.group(group)?,
            disk: self.disk.clone(),
            dir: format!("data/groups/{group}").into(),
            space: self.space.clone(),
            times: RaftTimes::default(),
            origin: if is_founded { Origin::Returns } else { Origin::Founds(voters) },
            after: None,
            transport: self.transport.clone(),
            rounds: Rounds::default(),
            counts: Arc::default(),
            random: self.random.clone(),
        })
    }

    /// Opens the replica. Here nothing is ever wrong with a disk, so neither this nor the replica
    /// may fail while the node has power.
    async fn open(&self, group: GroupId) -> aspen::Result<Replica> {
        let opened = match self.spec(group) {
            Ok(spec) if self.settings.unsafe_leader_restore => {
                Replica::open_with_unsafe_leader_restore(spec).await
            }
            Ok(spec) => Replica::open(spec).await,
            Err(error) => Err(error),
        };
        let fail = |what: &str, error: &aspen::Error| {
            if self.alive.is() {
                self.workload.fail(format!("node {}: the replica {what}: {error}", self.host));
            }
        };
        let replica = opened.inspect_err(|error| fail("does not open", error))?;
        if self.alive.is() {
            self.placed.founded().insert(group);
        }
        if group == GroupId::FIRST_SHARD {
            self.placed.parts().replica = Some(replica.clone());
        }
        let (alive, workload, host) = (self.alive.clone(), self.workload.clone(), self.host);
        let failing = replica.clone();
        tokio::spawn(async move {
            let error = failing.failed().await;
            if alive.is() {
                workload.fail(format!("node {host}: the replica failed: {error}"));
            }
        });
        Ok(replica)
    }
}

/// Nobody may ask what time people say it is.
#[derive(Debug)]
struct NoClock;

impl WallClock for NoClock {
    fn since_epoch(&self) -> Duration {
        Duration::from_secs(1_800_000_000)
    }
}

/// What a node does for its peers.
struct NodeServe {
    inbound: Inbound,
    desk: Desk,
}

impl fmt::Debug for NodeServe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeServe")
    }
}

impl Serve for NodeServe {
    fn call(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refused>> {
        match kind {
            StreamKind::Request => return self.desk.call(request, Hop::Last),
            StreamKind::Forward => return self.desk.call(request, Hop::First),
            _ => {}
        }
        let inbound = self.inbound.clone();
        Box::pin(async move { inbound.call(peer, kind, request).await })
    }

    fn stream(
        &self,
        peer: EndpointId,
        _kind: StreamKind,
        out: StreamOut,
        input: StreamIn,
    ) -> BoxFuture<'static, ()> {
        let inbound = self.inbound.clone();
        Box::pin(async move { inbound.snapshot(peer, out, input).await })
    }

    fn lane(&self, peer: EndpointId, group: GroupId, lane: Lane) -> BoxFuture<'static, ()> {
        let inbound = self.inbound.clone();
        Box::pin(async move { inbound.lane(peer, group, lane).await })
    }

    fn link(&self, _link: Arc<dyn Link>) -> BoxFuture<'static, ()> {
        Box::pin(async {})
    }
}
