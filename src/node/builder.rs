//! From settings to a running node.

use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep};

use super::alone::Alone;
use super::identity::Identity;
use super::service::KvService;
use super::{Door, DoorContext};
use crate::actors::{OpenReplica, RunService, Tree, TreeSpec};
use crate::client::KvClient;
use crate::error::Error as OpError;
use crate::machine::ops::Query;
use crate::net::{AddressBook, Endpoint, NodeKey, Peers, Reach, Shut};
use crate::raft::{Origin, RaftTimes, Replica, ReplicaSpec, Transport};
use crate::seams::disk::Disk;
use crate::seams::{self, Random, Seams};
use crate::status::NodeIdentity;
use crate::store::log::{self, Log};
use crate::store::space::SpaceGuard;
use crate::types::{Consistency, GroupId, NodeId};

/// How long a start waits for its groups to serve; then the node runs on and its health says
/// which part does not.
const START_MAX: Duration = Duration::from_secs(10);
/// How often it looks.
const START_LOOK: Duration = Duration::from_millis(5);
const FIRST_NODE: NodeId = NodeId(1);
const CLUSTER_NAME: &str = "aspen";

/// Where a node keeps its data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum StorageBackend {
    /// In files: the log in segments, the state in redb.
    #[default]
    Redb,
    /// In memory, gone when the node stops: for tests and caches.
    Memory,
}

/// Why a node did not start: one sentence that says what to do.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// Another process has the directory.
    #[error("the data directory {dir} is in use by another node; stop that one or choose another directory", dir = dir.display())]
    DirectoryInUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory can't be used.
    #[error("the data directory {dir} can't be used: {error}", dir = dir.display())]
    Directory {
        /// The directory.
        dir: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// The directory belongs to a node with another number.
    #[error("the data directory {dir} belongs to node {has}, not {asked}; use node {has} or another directory", dir = dir.display())]
    OtherNode {
        /// The directory.
        dir: PathBuf,
        /// Who lives there.
        has: NodeId,
        /// Who was asked for.
        asked: NodeId,
    },
    /// A setting can't be.
    #[error("{0}")]
    Setting(String),
    /// An address can't be listened on.
    #[error("{0}")]
    Listen(String),
    /// The store can't be opened.
    #[error("the store in {dir} can't be opened: {error}", dir = dir.display())]
    Store {
        /// The directory.
        dir: PathBuf,
        /// Why.
        error: String,
    },
    /// Something within failed.
    #[error("the node did not start: {0}")]
    Other(String),
}

/// Settings of a node to be started.
///
/// ```
/// # tokio_test(async {
/// use aspen::{KvServiceBuilder, Reach, StorageBackend};
///
/// let service = KvServiceBuilder::new(1, "./data/node-1")
///     .with_storage(StorageBackend::Memory)
///     .with_reach(Reach::Loopback)
///     .start()
///     .await?;
/// let kv = service.client();
/// kv.put("greeting", "hello").await?;
/// service.shutdown().await?;
/// # Ok(()) });
/// # fn tokio_test(f: impl Future<Output = Result<(), Box<dyn std::error::Error>>>) {
/// #     tokio::runtime::Runtime::new().unwrap().block_on(f).unwrap();
/// # }
/// ```
#[derive(Debug)]
pub struct KvServiceBuilder {
    node_id: Option<u64>,
    dir: PathBuf,
    storage: StorageBackend,
    reach: Reach,
    name: Option<String>,
    listen: Option<SocketAddr>,
    times: RaftTimes,
    doors: Vec<Arc<dyn Door>>,
    seams: Option<Seams>,
}

impl KvServiceBuilder {
    /// A node with this number in this data directory.
    pub fn new(node_id: u64, dir: impl Into<PathBuf>) -> Self {
        KvServiceBuilder { node_id: Some(node_id), ..KvServiceBuilder::auto(dir) }
    }

    /// The node that lives in this data directory, or a new one with a number of the cluster's
    /// choice.
    pub fn auto(dir: impl Into<PathBuf>) -> Self {
        KvServiceBuilder {
            node_id: None,
            dir: dir.into(),
            storage: StorageBackend::default(),
            reach: Reach::default(),
            name: None,
            listen: None,
            times: RaftTimes::default(),
            doors: Vec::new(),
            seams: None,
        }
    }

    /// Where to keep data; files unless said otherwise.
    pub fn with_storage(mut self, storage: StorageBackend) -> Self {
        self.storage = storage;
        self
    }

    /// How far to reach out; the local network unless said otherwise.
    pub fn with_reach(mut self, reach: Reach) -> Self {
        self.reach = reach;
        self
    }

    /// What people call the cluster that a new node founds.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Where to listen for other nodes; a free port unless said otherwise.
    pub fn with_listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// How fast to notice a lost leader.
    pub fn with_times(mut self, times: RaftTimes) -> Self {
        self.times = times;
        self
    }

    /// Adds a way in from outside.
    pub fn with_door(mut self, door: Arc<dyn Door>) -> Self {
        self.doors.push(door);
        self
    }

    /// Other files, clock and randomness than the machine's own: for simulation.
    pub fn with_seams(mut self, seams: Seams) -> Self {
        self.seams = Some(seams);
        self
    }

    /// Starts the node and waits until it serves.
    pub async fn start(self) -> Result<KvService, StartError> {
        let seams = self.seams.clone().unwrap_or_else(|| match self.storage {
            StorageBackend::Redb => Seams::real(),
            StorageBackend::Memory => Seams::in_memory(),
        });
        for door in &self.doors {
            door.open().map_err(StartError::Listen)?;
        }
        let opened = {
            let (dir, seams) = (self.dir.clone(), seams.clone());
            let (asked, name) = (self.node_id, self.name.clone());
            seams::blocking(move || Opened::open(dir, &seams, asked, name)).await?
        };
        let Opened { dir, identity, key, log, space } = opened;
        let endpoint = Endpoint::bind(&key, self.reach, self.listen, Arc::new(Shut))
            .await
            .map_err(StartError::Listen)?;
        let endpoint = Arc::new(endpoint);
        let node = NodeIdentity {
            node_id: identity.node_id,
            endpoint_id: key.endpoint_id().to_string(),
            cluster_id: identity.cluster_id,
            cluster_name: identity.cluster_name.clone(),
            listen: endpoint.listen(),
        };
        let group = GroupId::FIRST_SHARD;
        let place = GroupPlace {
            group,
            identity: Arc::new(Mutex::new(identity)),
            log: log.clone(),
            disk: seams.disk.clone(),
            dir: dir.clone(),
            space: space.clone(),
            times: self.times,
            random: seams.random.clone(),
            transport: Transport {
                peers: Peers::start(
                    endpoint.clone(),
                    AddressBook::in_memory(&seams),
                    Arc::new(Alone),
                    seams.random.clone(),
                ),
                directory: Arc::new(Alone),
            },
        };
        let open: OpenReplica = Arc::new(move || Box::pin(place.clone().open()));
        let mut client = None;
        let doors = self.doors.clone();
        let tree =
            Tree::grow(TreeSpec { log, space, groups: vec![(group, open)] }, |groups, board| {
                let kv = client.insert(KvClient::new(groups.clone()));
                let context = DoorContext {
                    client: kv.clone(),
                    node: node.clone(),
                    health: board.reports(),
                    groups: board.groups(),
                };
                doors
                    .into_iter()
                    .map(|door| (door.name().to_owned(), run_door(door, &context)))
                    .collect()
            })
            .await
            .map_err(|error| StartError::Other(error.to_string()))?;
        let client = client.ok_or_else(|| StartError::Other("it has no client".into()))?;
        let mut lost = tree.lost();
        tokio::select! {
            biased;
            Ok(reason) = lost.wait_for(Option::is_some) => {
                return Err(StartError::Other(reason.clone().unwrap_or_default()));
            }
            () = serves(&client) => {}
        }
        Ok(KvService::new(tree, client, node, dir, self.doors, endpoint))
    }
}

/// What a group's replica is opened from, at each of its starts.
#[derive(Clone)]
struct GroupPlace {
    group: GroupId,
    identity: Arc<Mutex<Identity>>,
    log: Log,
    disk: Arc<dyn Disk>,
    /// The node's directory.
    dir: PathBuf,
    space: SpaceGuard,
    times: RaftTimes,
    random: Random,
    transport: Transport,
}

impl GroupPlace {
    async fn open(self) -> Result<Replica, OpError> {
        let group = self.group;
        let (node, is_founded) = {
            let identity = self.identity.lock().await;
            (identity.node_id, identity.founded.contains(&group))
        };
        let replica = Replica::open(ReplicaSpec {
            group,
            node,
            log: self.log.group(group)?,
            disk: self.disk.clone(),
            dir: self.dir.join("groups").join(group.to_string()),
            space: self.space.clone(),
            times: self.times,
            origin: if is_founded { Origin::Returns } else { Origin::Founds(vec![node]) },
            transport: self.transport.clone(),
            random: self.random.clone(),
        })
        .await?;
        if is_founded {
            return Ok(replica);
        }
        if let Err(error) = self.note_founded().await {
            replica.abandon().await;
            let reason = format!("that it was founded can't be noted: {error}");
            return Err(OpError::Unavailable { group, reason });
        }
        Ok(replica)
    }

    /// Remembers that the group was founded here, before it serves anything: so its data can
    /// never be missed unnoticed.
    async fn note_founded(self) -> io::Result<()> {
        let mut identity = self.identity.lock_owned().await;
        let mut founded = identity.clone();
        founded.founded.push(self.group);
        let (disk, dir) = (self.disk, self.dir);
        *identity =
            seams::blocking(move || founded.save(disk.as_ref(), &dir).map(|()| founded)).await?;
        Ok(())
    }
}

/// What is in a data directory, opened for this process alone.
struct Opened {
    dir: PathBuf,
    identity: Identity,
    key: NodeKey,
    log: Log,
    space: SpaceGuard,
}

impl Opened {
    /// Blocks: reads the whole log's index.
    fn open(
        dir: PathBuf,
        seams: &Seams,
        asked: Option<u64>,
        name: Option<String>,
    ) -> Result<Opened, StartError> {
        let disk = &seams.disk;
        let unusable = |error: io::Error| StartError::Directory { dir: dir.clone(), error };
        disk.create_dir_all(&dir).map_err(unusable)?;
        let lock = disk.lock(&dir.join("lock")).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StartError::DirectoryInUse { dir: dir.clone() },
            _ => unusable(error),
        })?;
        let identity = settle_identity(seams, &dir, asked, name)?;
        let key = NodeKey::load_or_create(disk.as_ref(), &dir.join("node.key"), &seams.random)
            .map_err(unusable)?;
        let space = SpaceGuard::new(disk.clone(), dir.clone()).map_err(unusable)?;
        let log = open_log(disk.clone(), &dir.join("log"), seams, lock)
            .map_err(|error| StartError::Store { dir: dir.clone(), error })?;
        Ok(Opened { dir, identity, key, log, space })
    }
}

/// Opens the shared log and puts its writer to work, which keeps the lock on the node's directory
/// until it has ended: no other node may write there before, whatever becomes of this one.
fn open_log(
    disk: Arc<dyn Disk>,
    dir: &Path,
    seams: &Seams,
    lock: Box<dyn Debug + Send + Sync>,
) -> Result<Log, String> {
    let options = log::Options::new(seams.random.next_u64());
    let (mut core, _recovery) = log::open(disk, dir, options).map_err(|error| error.to_string())?;
    core.hold(lock);
    Log::start(core).map_err(|error| error.to_string())
}

/// The identity in the directory, if it is the one asked for; else a new one.
fn settle_identity(
    seams: &Seams,
    dir: &Path,
    asked: Option<u64>,
    name: Option<String>,
) -> Result<Identity, StartError> {
    if asked == Some(0) {
        return Err(StartError::Setting("a node's number is 1 or greater".into()));
    }
    let unusable = |error: io::Error| StartError::Directory { dir: dir.to_owned(), error };
    match Identity::load(seams.disk.as_ref(), dir).map_err(unusable)? {
        Some(identity) => match asked.map(NodeId) {
            Some(asked) if asked != identity.node_id => {
                Err(StartError::OtherNode { dir: dir.to_owned(), has: identity.node_id, asked })
            }
            _ => Ok(identity),
        },
        None => {
            let node = asked.map_or(FIRST_NODE, NodeId);
            let name = name.unwrap_or_else(|| CLUSTER_NAME.to_owned());
            let identity = Identity::new(node, name, seams);
            identity.save(seams.disk.as_ref(), dir).map_err(unusable)?;
            Ok(identity)
        }
    }
}

fn run_door(door: Arc<dyn Door>, context: &DoorContext) -> RunService {
    let context = context.clone();
    Arc::new(move |stop| door.serve(context.clone(), stop))
}

/// Waits until the store answers, or can be seen not to.
async fn serves(client: &KvClient) {
    let deadline = Instant::now() + START_MAX;
    while Instant::now() < deadline {
        match client.query(Query::Status, Consistency::Linearizable).await {
            Ok(_) => return,
            Err(error @ OpError::Corrupt(_)) => {
                tracing::error!(%error, "the node runs without this group");
                return;
            }
            Err(_) => sleep(START_LOOK).await,
        }
    }
}
