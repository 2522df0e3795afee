//! The HTTP door: decode, call the client, map errors. No logic.
//!
//! [`Door`] is what the door shows; [`serve`] shows it on a listening socket until it is told to
//! stop. `docs/http.md` is the contract that this folder keeps.

mod serve;

use tokio::sync::watch;

use crate::client::KvClient;
use crate::health::HealthReport;
use crate::status::{GroupStatus, NodeIdentity};

pub use serve::serve;

/// What the door shows.
#[derive(Clone, Debug)]
pub struct Door {
    /// The store.
    pub client: KvClient,
    /// Whose door it is.
    pub node: NodeIdentity,
    /// How well the node is; the last report stays if nobody sends another.
    pub health: watch::Receiver<HealthReport>,
    /// What the node's groups do; likewise.
    pub groups: watch::Receiver<Vec<GroupStatus>>,
}
