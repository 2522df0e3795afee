//! A running node.

use std::convert::Infallible;
use std::future::pending;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::builder::StartError;
use super::cluster::Cluster;
use super::departures::Gone;
use super::identity::Membership;
use super::places::Home;
use super::{Door, DoorAddress};
use crate::actors::Tree;
use crate::client::KvClient;
use crate::error::{Error, Result};
use crate::health::HealthReport;
use crate::limits::SHUTDOWN_MAX;
use crate::machine::ops::Query;
use crate::net::Peers;
use crate::raft::Replica;
use crate::roster::admit::Description;
use crate::roster::found::Founding;
use crate::seams::network::Network;
use crate::status::{GroupStatus, NodeIdentity};
use crate::types::{Consistency, GroupId, NodeId};

/// How long a start waits for its groups to serve; then the node runs on and its health says
/// which part does not.
const START_MAX: Duration = Duration::from_secs(10);
/// How often it looks.
const START_LOOK: Duration = Duration::from_millis(5);
/// How long it waits without telling for whom.
const START_QUIET: Duration = Duration::from_secs(2);

/// A running node. Stop it with [`KvService::shutdown`], which says when it has stopped; dropping
/// it stops it as well, in its own time. Until then no other node can use its directory.
#[derive(Debug)]
pub struct KvService {
    pub(super) tree: Tree,
    pub(super) client: KvClient,
    pub(super) cluster: Cluster,
    pub(super) node: NodeIdentity,
    pub(super) home: Home,
    pub(super) doors: Vec<Arc<dyn Door>>,
    pub(super) network: Arc<dyn Network>,
    pub(super) peers: Peers,
    /// Told why, when the node is a member no longer.
    pub(super) gone: watch::Receiver<Option<Gone>>,
}

impl KvService {
    /// Waits until the node serves, and founds the cluster if it is to.
    pub(super) async fn begin(
        &self,
        member: &Membership,
        description: Description,
        shards: u32,
        replicas: u8,
    ) -> Result<(), StartError> {
        let mut lost = self.tree.lost();
        let deadline = Instant::now() + START_MAX;
        let begin = async {
            if member.is_founder && self.meta_serves(deadline).await {
                self.found(member, description, shards, replicas).await;
            }
            self.store_serves(deadline).await;
        };
        tokio::select! {
            biased;
            Ok(reason) = lost.wait_for(Option::is_some) => {
                Err(StartError::Other(reason.clone().unwrap_or_default()))
            }
            () = begin => {
                self.tree.board().begin();
                Ok(())
            }
            never = self.tell_whom_it_waits_for() => match never {},
        }
    }

    /// Tells, once it takes long, which of the others are away that may be needed.
    async fn tell_whom_it_waits_for(&self) -> Infallible {
        sleep(START_QUIET).await;
        let away: Vec<String> = self.cluster.silent().keys().map(NodeId::to_string).collect();
        if !away.is_empty() {
            tracing::warn!(
                away = away.join(", "),
                "the node waits for a majority of its cluster; start those that are away"
            );
        }
        pending().await
    }

    /// Waits until the meta group answers, or can be seen not to; true if it does.
    async fn meta_serves(&self, deadline: Instant) -> bool {
        while Instant::now() < deadline {
            match self.cluster.fresh().await {
                Ok(_) => return true,
                Err(error) if is_hopeless(&error).await => return false,
                Err(_) => {}
            }
        }
        false
    }

    /// Waits until the default keyspace answers, or can be seen not to.
    async fn store_serves(&self, deadline: Instant) {
        while Instant::now() < deadline {
            match self.client.query(Query::Status, Consistency::Linearizable).await {
                Ok(_) => return,
                Err(error) if is_hopeless(&error).await => return,
                Err(_) => {}
            }
        }
    }

    async fn found(
        &self,
        member: &Membership,
        description: Description,
        shards: u32,
        replicas: u8,
    ) {
        let founding = Founding {
            id: member.cluster_id,
            name: member.cluster_name.clone(),
            gossip_secret: self.cluster.new_secret(),
            node: member.node_id,
            endpoint: self.network.id(),
            description,
            shards,
            replicas,
        };
        if let Err(error) = self.cluster.found(founding).await {
            tracing::warn!(%error, "the cluster is not founded yet; the next start tries again");
        }
    }

    /// The store; clone it as you like.
    pub fn client(&self) -> KvClient {
        self.client.clone()
    }

    /// The cluster: its members, its tickets, and what can be done to it.
    pub fn cluster(&self) -> Cluster {
        self.cluster.clone()
    }

    /// Who the node is.
    pub fn node(&self) -> &NodeIdentity {
        &self.node
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &Path {
        &self.home.dir
    }

    /// Where one of its doors is.
    pub fn door(&self, name: &str) -> Option<DoorAddress> {
        self.doors.iter().find(|door| door.name() == name)?.address()
    }

    /// What its replicas do at the moment.
    pub fn groups(&self) -> Vec<GroupStatus> {
        self.cluster.inner.groups.statuses()
    }

    /// The replicas that run here at the moment, for those who look closer.
    pub fn replicas(&self) -> Vec<(GroupId, Replica)> {
        self.cluster.inner.groups.running()
    }

    /// How well it is at the moment.
    pub fn health(&self) -> HealthReport {
        self.tree.board().reports().borrow().clone()
    }

    /// Resolves with the reason when the node can't go on: its store is lost, or it is a member
    /// no longer. It is still to be shut down.
    pub async fn stopped(&self) -> String {
        let (mut lost, mut gone) = (self.tree.lost(), self.gone.clone());
        let reason = tokio::select! {
            biased;
            reason = lost.wait_for(Option::is_some) => reason.ok().and_then(|reason| reason.clone()),
            gone = gone.wait_for(Option::is_some) => {
                gone.ok().and_then(|gone| gone.as_ref().map(|gone| gone.reason().to_owned()))
            }
        };
        reason.unwrap_or_else(|| "the node has stopped".into())
    }

    /// Stops the node in order: doors, groups, store. What was acknowledged is durable already,
    /// so an error means only that the end was cut short.
    pub async fn shutdown(self) -> Result<()> {
        let in_time = self.tree.stop(SHUTDOWN_MAX).await;
        self.peers.stop().await;
        self.network.close().await;
        if in_time {
            Ok(())
        } else {
            Err(Error::Fatal(format!(
                "the node did not stop within {SHUTDOWN_MAX:?} and was cut off"
            )))
        }
    }
}

/// Whether asking again is of use.
async fn is_hopeless(error: &Error) -> bool {
    if let Error::Corrupt(_) = error {
        tracing::error!(%error, "the node runs without this group");
        return true;
    }
    sleep(START_LOOK).await;
    false
}
