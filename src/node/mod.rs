//! Composition: the builder, the running service, its doors, and shutdown.

mod acts;
mod address;
mod balancing;
mod builder;
mod cluster;
mod departures;
mod facts;
mod guests;
mod identity;
mod join;
mod measures;
mod mesh;
mod news;
mod places;
mod recover;
mod repairs;
mod resting;
mod serve;
mod service;
mod start;
mod tokens;
mod undertakings;

use std::fmt::Debug;

use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use address::{AddressError, DoorAddress};
pub use builder::{KvServiceBuilder, StartError, StorageBackend};
pub use cluster::{Cluster, ClusterError, Departure};
pub use facts::{GroupFacts, MemberFacts};
pub use measures::{Instruments, PeerMeasures};
pub use mesh::{Mesh, MeshError};
pub use recover::{Kept, Recovery, RecoveryError, Share, recover, survey};
pub use service::KvService;
pub use tokens::{Holder, OWNER_TOKEN_FILE};

use crate::client::KvClient;
use crate::health::HealthReport;
use crate::status::{GroupStatus, NodeIdentity};
use crate::types::Form;

/// What nodes tell each other by themselves, and what a node keeps of itself.
#[doc(hidden)]
pub const FORMS: &[Form] = &[
    join::QUESTION,
    join::ANSWER,
    acts::ASKED,
    acts::HANDED_OVER,
    acts::FOLLOWED,
    acts::ASLEEP,
    mesh::NONCE,
    mesh::PROOF,
    mesh::SAID,
    mesh::WORD,
    identity::FORM,
];

/// What a door is given to serve from.
#[derive(Clone, Debug)]
pub struct DoorContext {
    /// The store.
    pub client: KvClient,
    /// The cluster.
    pub cluster: Cluster,
    /// Whose door it is.
    pub node: NodeIdentity,
    /// How well the node is.
    pub health: watch::Receiver<HealthReport>,
    /// What the node's groups do.
    pub groups: watch::Receiver<Vec<GroupStatus>>,
    /// Where its parts count.
    pub instruments: Instruments,
}

/// A way into the node from outside. Doors know the node; the node knows only this.
pub trait Door: Debug + Send + Sync + 'static {
    /// What to call it in health and logs.
    fn name(&self) -> &'static str;

    /// Takes its address, before anything is served: an error fails the node's start.
    fn open(&self) -> Result<(), String>;

    /// Where it is, once it is open.
    fn address(&self) -> Option<DoorAddress>;

    /// Serves until the token is cancelled; called again after an error.
    fn serve(
        &self,
        context: DoorContext,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), String>>;
}
