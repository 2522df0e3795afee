//! What the log says of other nodes of a mesh, each not more often than now and then: whoever is on
//! the LAN may try as often as it likes.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::Mesh;
use crate::limits::{MESH_TOLD_PAUSE, NEIGHBOURS_MAX};
use crate::seams::network::{CloseCode, LinkLost};
use crate::types::EndpointId;

/// Nodes that the log has told of, and when.
#[derive(Debug, Default)]
pub(super) struct Noted(BTreeMap<EndpointId, Instant>);

impl Noted {
    /// Whether a node was not noted for a while; it is noted now. When there are too many, others are
    /// no news until some are old.
    pub(super) fn is_news(&mut self, peer: EndpointId) -> bool {
        let now = Instant::now();
        self.0.retain(|_, at| now < *at + MESH_TOLD_PAUSE);
        let is_news = self.0.len() < NEIGHBOURS_MAX && !self.0.contains_key(&peer);
        if is_news {
            self.0.insert(peer, now);
        }
        is_news
    }

    /// Says in the log why a node of the mesh's name was not met.
    pub(super) fn not_met(&mut self, mesh: &Mesh, peer: EndpointId, lost: &LinkLost) {
        match lost.code {
            Some(CloseCode::OtherMesh) if self.is_news(peer) => tracing::warn!(
                mesh = mesh.name(), %peer,
                "a node says that it is of this mesh, and has another secret, or one of the two is \
                 open: give all the same --lan-secret-file"
            ),
            _ => {
                tracing::debug!(mesh = mesh.name(), %peer, %lost, "a node of the mesh was not met")
            }
        }
    }
}
