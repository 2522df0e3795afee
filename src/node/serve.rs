//! What a node does for its peers: each stream and call goes to the part that understands it.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_util::future::{BoxFuture, pending};

use super::cluster::Cluster;
use super::join;
use super::mesh::Host;
use crate::actors::Members;
use crate::client::request::{Place, Whereabouts};
use crate::client::{self, Desk, Hop};
use crate::limits::CLIENT_NODES_MAX;
use crate::net::{Lane, Refused, RefusedCode, Serve};
use crate::raft::{Directory, Inbound};
use crate::roster::Roster;
use crate::roster::builds::{LEVEL_FIRST, split};
use crate::roster::records::{Keyspace, Member};
use crate::seams::network::{CloseCode, Link, Protocol, StreamIn, StreamOut};
use crate::types::{EndpointId, GroupId, KeyspaceName, NodeId, Revision};
use crate::wire::StreamKind;

/// The node's side of every link.
#[derive(Debug)]
pub(super) struct NodeServe {
    raft: Inbound,
    desk: Desk,
    /// Where newcomers of its mesh are shown the way in; `None` for a node of none.
    host: Option<Host>,
    /// Set once the node is whole; who comes before is asked to come again.
    cluster: OnceLock<Cluster>,
}

impl NodeServe {
    pub(super) fn new(raft: Inbound, desk: Desk, host: Option<Host>) -> Self {
        NodeServe { raft, desk, host, cluster: OnceLock::new() }
    }

    /// From here on the node admits others.
    pub(super) fn complete(&self, cluster: Cluster) {
        self.cluster.get_or_init(|| cluster);
    }
}

impl Serve for NodeServe {
    fn call(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refused>> {
        use StreamKind::*;
        match kind {
            Vote | Heartbeat | Transfer | ReadIndex => {
                let raft = self.raft.clone();
                Box::pin(async move { raft.call(peer, kind, request).await })
            }
            Request => self.desk.call(request, Hop::Last),
            Forward => self.desk.call(request, Hop::First),
            Act => match self.cluster.get().cloned() {
                Some(cluster) => Box::pin(async move { cluster.answer_asked(peer, request).await }),
                None => {
                    let reason = "the node is still starting".to_owned();
                    Box::pin(async { Err(Refused { code: RefusedCode::NotHere, reason }) })
                }
            },
            Hello | Lanes | Snapshot | Watch | Ticket => {
                let reason = format!("{kind:?} is not asked of a node by a call");
                Box::pin(async { Err(Refused { code: RefusedCode::NotHere, reason }) })
            }
        }
    }

    fn stream(
        &self,
        peer: EndpointId,
        kind: StreamKind,
        out: StreamOut,
        input: StreamIn,
    ) -> BoxFuture<'static, ()> {
        match kind {
            StreamKind::Snapshot => {
                let raft = self.raft.clone();
                Box::pin(async move { raft.snapshot(peer, out, input).await })
            }
            StreamKind::Watch => self.desk.stream(out, input),
            // Whatever else has a stream of its own is taken before it comes here.
            _ => Box::pin(async {}),
        }
    }

    fn lane(&self, peer: EndpointId, group: GroupId, lane: Lane) -> BoxFuture<'static, ()> {
        let raft = self.raft.clone();
        Box::pin(async move { raft.lane(peer, group, lane).await })
    }

    fn link(&self, link: Arc<dyn Link>) -> BoxFuture<'static, ()> {
        let Some(cluster) = self.cluster.get().cloned() else {
            link.close(CloseCode::Busy, "the node is still starting; try again in a moment");
            return Box::pin(async {});
        };
        let (desk, host) = (self.desk.clone(), self.host.clone());
        Box::pin(async move {
            match link.protocol() {
                Protocol::Join => join::answer(cluster, link).await,
                Protocol::Client => desk.serve_link(link, Arc::new(cluster)).await,
                Protocol::Lan => match host {
                    Some(host) => host.serve(cluster, link).await,
                    None => link.close(CloseCode::OtherMesh, "this node is of no mesh"),
                },
                // Links between members are the peers' and the endpoint's.
                Protocol::Raft | Protocol::Gossip => {}
            }
        })
    }
}

impl client::nodes::Members for Members {
    fn endpoints(&self) -> Arc<[EndpointId]> {
        self.endpoints()
    }

    fn holders(&self, group: GroupId) -> Option<Arc<[EndpointId]>> {
        self.holders(group)
    }

    fn keyspace(&self, name: &KeyspaceName) -> Option<Keyspace> {
        self.roster().keyspace(name).copied()
    }

    fn keyspace_of(&self, group: GroupId) -> Option<KeyspaceName> {
        self.roster().keyspace_of(group).map(|(name, _)| name.clone())
    }

    fn as_of(&self) -> Revision {
        self.roster().revision()
    }

    fn level(&self, member: EndpointId) -> u32 {
        let version = |member: &Member| split(&member.version).1;
        self.roster().member_of(member).map_or(LEVEL_FIRST, version)
    }

    fn is_read_only(&self) -> bool {
        self.roster().is_read_only()
    }

    fn reached(&self, revision: Revision) -> BoxFuture<'static, ()> {
        let mut changes = self.changes();
        Box::pin(async move {
            let reached = changes.wait_for(|roster| roster.revision() >= revision).await.is_ok();
            if !reached {
                // The node ends, and everything that waits for this with it.
                pending::<()>().await;
            }
        })
    }

    fn place(&self, node: NodeId) -> Option<Place> {
        let endpoint = Directory::endpoint(self, node)?;
        let addresses = self.roster().member(node).map(|member| member.addresses.clone());
        Some(Place { endpoint, addresses: addresses.unwrap_or_default() })
    }

    fn whereabouts(&self) -> Whereabouts {
        whereabouts(&self.roster())
    }

    fn moved(&self, told: &Whereabouts) -> BoxFuture<'static, Whereabouts> {
        let (mut changes, told) = (self.changes(), told.members.clone());
        Box::pin(async move {
            loop {
                let now = whereabouts(&changes.borrow_and_update());
                if now.members != told {
                    return now;
                }
                if changes.changed().await.is_err() {
                    // The node ends, and everything that waits for this with it.
                    return pending().await;
                }
            }
        })
    }
}

fn whereabouts(roster: &Roster) -> Whereabouts {
    let place =
        |member: &Member| Place { endpoint: member.endpoint, addresses: member.addresses.clone() };
    let members = roster.present().map(place).take(CLIENT_NODES_MAX).collect();
    Whereabouts { as_of: roster.revision(), members }
}
