//! The settings of a node to be started, and why one did not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use aspen_tickets::JoinTicket;
use thiserror::Error;
use tokio::sync::oneshot;

use super::mesh::Mesh;
use super::service::KvService;
use super::{Door, DoorContext, start};
use crate::limits::KEYSPACE_REPLICAS;
use crate::net::{Internet, Reach};
use crate::raft::RaftTimes;
use crate::roster::refused::Refused;
use crate::seams::{Seams, reason};
use crate::types::{ClusterId, NodeId};

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
    #[error(
        "the data directory {dir} can't be used: {}", unusable(error),
        dir = dir.display()
    )]
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
    /// The directory belongs to a node of another cluster than the ticket's.
    #[error("the data directory {dir} belongs to a node of the cluster {has}, and the ticket is for {asked}; use another directory", dir = dir.display())]
    OtherCluster {
        /// The directory.
        dir: PathBuf,
        /// Which cluster's node lives there.
        has: ClusterId,
        /// Which cluster the ticket is for.
        asked: ClusterId,
    },
    /// The node was removed from its cluster.
    #[error(
        "node {node} was removed from the cluster {cluster}; to come back, join with a new ticket and a new data directory"
    )]
    Removed {
        /// The node.
        node: NodeId,
        /// The cluster's name.
        cluster: String,
    },
    /// The build does not know what the cluster uses.
    #[error("{0}")]
    TooOld(Refused),
    /// The cluster does not take the node in.
    #[error("{0}")]
    NotAdmitted(Refused),
    /// Nobody who could take the node in answered; the same command goes on from here.
    #[error("{0}")]
    NotJoined(String),
    /// Something within failed.
    #[error("the node did not start: {0}")]
    Other(String),
}

/// Why a directory can't be used and what to do, as the end of a sentence.
fn unusable(error: &io::Error) -> String {
    match error.kind() {
        // It names the file, and says what to do.
        io::ErrorKind::InvalidData => error.to_string(),
        // The directory itself, or one that it is to be in.
        io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
            "there is a file in its place; choose another one".to_owned()
        }
        _ => format!("{}; choose another one", reason(error)),
    }
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
    pub(super) node_id: Option<u64>,
    pub(super) dir: PathBuf,
    pub(super) storage: StorageBackend,
    pub(super) reach: Reach,
    pub(super) internet: Internet,
    pub(super) name: Option<String>,
    pub(super) node_name: Option<String>,
    pub(super) listen: Option<SocketAddr>,
    pub(super) times: RaftTimes,
    pub(super) shards: u32,
    pub(super) replicas: u8,
    pub(super) capacity: Option<u32>,
    pub(super) read_only: bool,
    pub(super) ticket: Option<JoinTicket>,
    pub(super) mesh: Option<Mesh>,
    pub(super) doors: Vec<Arc<dyn Door>>,
    pub(super) told: Option<oneshot::Sender<DoorContext>>,
    pub(super) seams: Option<Seams>,
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
            internet: Internet::default(),
            name: None,
            node_name: None,
            listen: None,
            times: RaftTimes::default(),
            shards: 1,
            replicas: KEYSPACE_REPLICAS,
            capacity: None,
            read_only: false,
            ticket: None,
            mesh: None,
            doors: Vec::new(),
            told: None,
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

    /// By what to reach out to the internet; only with [`Reach::Internet`].
    pub fn with_internet(mut self, internet: Internet) -> Self {
        self.internet = internet;
        self
    }

    /// Joins the ticket's cluster, if the data directory's node is not a member of it yet.
    ///
    /// A join that is cut off at any point is finished by starting again, with or without the
    /// ticket.
    pub fn join(mut self, ticket: JoinTicket) -> Self {
        self.ticket = Some(ticket);
        self
    }

    /// Finds the other nodes of a mesh on the LAN, and with them the cluster: founds it or joins it,
    /// if the data directory's node is a member of none yet. [`KvServiceBuilder::start`] then takes
    /// as long as the others do to come.
    pub fn with_mesh(mut self, mesh: Mesh) -> Self {
        self.mesh = Some(mesh);
        self
    }

    /// What people call the cluster that a new node founds.
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// What people call the node.
    pub fn with_node_name(mut self, name: impl Into<String>) -> Self {
        self.node_name = Some(name.into());
        self
    }

    /// Where to listen for other nodes; where it listened last, or on a free port, unless said
    /// otherwise.
    pub fn with_listen(mut self, address: SocketAddr) -> Self {
        self.listen = Some(address);
        self
    }

    /// How fast to notice a lost leader.
    pub fn with_times(mut self, times: RaftTimes) -> Self {
        self.times = times;
        self
    }

    /// How many shards the default keyspace of a new cluster has, for ever; one unless said
    /// otherwise. One orders all its keys; with more they are spread over the nodes.
    pub fn with_shards(mut self, shards: u32) -> Self {
        self.shards = shards;
        self
    }

    /// How many nodes hold each shard of the default keyspace of a new cluster, once there are so
    /// many; three unless said otherwise.
    pub fn with_replicas(mut self, replicas: u8) -> Self {
        self.replicas = replicas;
        self
    }

    /// How much this node takes in proportion to others: of two of which one has twice the capacity
    /// that one holds, and leads, twice as many shards. 100 for a node that never said otherwise;
    /// 10,000 at most.
    pub fn with_capacity(mut self, capacity: u32) -> Self {
        self.capacity = Some(capacity);
        self
    }

    /// Whether nobody may change anything through this node who comes by a door or with a ticket:
    /// neither the data nor the cluster. What the node's own program asks of
    /// [`KvService::client`] is done all the same, and the node holds its share of the data.
    pub fn with_read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Adds a way in from outside.
    pub fn with_door(mut self, door: Arc<dyn Door>) -> Self {
        self.doors.push(door);
        self
    }

    /// Tells when the node is a member and its groups run, which is before it serves: for those who
    /// want to see how far it is.
    pub fn tell(mut self, told: oneshot::Sender<DoorContext>) -> Self {
        self.told = Some(told);
        self
    }

    /// Other files, clock and randomness than the machine's own: for simulation.
    pub fn with_seams(mut self, seams: Seams) -> Self {
        self.seams = Some(seams);
        self
    }

    /// Starts the node and waits until it serves.
    pub async fn start(self) -> Result<KvService, StartError> {
        start::start(self).await
    }
}
