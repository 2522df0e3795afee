//! A running node.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Door;
use crate::actors::Tree;
use crate::client::KvClient;
use crate::error::{Error, Result};
use crate::health::HealthReport;
use crate::limits::SHUTDOWN_MAX;
use crate::net::Endpoint;
use crate::seams::network::Network;
use crate::status::NodeIdentity;

/// A running node. Stop it with [`KvService::shutdown`], which says when it has stopped; dropping
/// it stops it as well, in its own time. Until then no other node can use its directory.
#[derive(Debug)]
pub struct KvService {
    tree: Tree,
    client: KvClient,
    node: NodeIdentity,
    dir: PathBuf,
    doors: Vec<Arc<dyn Door>>,
    endpoint: Arc<Endpoint>,
}

impl KvService {
    pub(super) fn new(
        tree: Tree,
        client: KvClient,
        node: NodeIdentity,
        dir: PathBuf,
        doors: Vec<Arc<dyn Door>>,
        endpoint: Arc<Endpoint>,
    ) -> Self {
        KvService { tree, client, node, dir, doors, endpoint }
    }

    /// The store; clone it as you like.
    pub fn client(&self) -> KvClient {
        self.client.clone()
    }

    /// Who the node is.
    pub fn node(&self) -> &NodeIdentity {
        &self.node
    }

    /// Where its data is.
    pub fn data_dir(&self) -> &Path {
        &self.dir
    }

    /// Where one of its doors is.
    pub fn door(&self, name: &str) -> Option<SocketAddr> {
        self.doors.iter().find(|door| door.name() == name)?.address()
    }

    /// How well it is at the moment.
    pub fn health(&self) -> HealthReport {
        self.tree.board().reports().borrow().clone()
    }

    /// Resolves with the reason when the node stops by itself: its store is lost.
    pub async fn stopped(&self) -> String {
        let mut lost = self.tree.lost();
        match lost.wait_for(Option::is_some).await {
            Ok(reason) => reason.clone().unwrap_or_default(),
            Err(_) => "the node has stopped".into(),
        }
    }

    /// Stops the node in order: doors, groups, store. What was acknowledged is durable already,
    /// so an error means only that the end was cut short.
    pub async fn shutdown(self) -> Result<()> {
        let in_time = self.tree.stop(SHUTDOWN_MAX).await;
        self.endpoint.close().await;
        if in_time {
            Ok(())
        } else {
            Err(Error::Fatal(format!(
                "the node did not stop within {SHUTDOWN_MAX:?} and was cut off"
            )))
        }
    }
}
