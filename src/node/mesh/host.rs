//! A member of a cluster shows newcomers of its mesh the way in, and tells of other clusters of the
//! same mesh.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use aspen_tickets::Role;
use tokio::time::{Instant, interval};

use super::introduction::{Acquaintance, Side, introduce};
use super::noted::Noted;
use super::{Mesh, Said};
use crate::actors::{RunService, until_stopped};
use crate::limits::{
    MESH_ACQUAINTANCE_MAX, MESH_INVITATION_LIFE, MESH_LOOK, MESH_UNHEARD_MAX, NEIGHBOURS_MAX,
};
use crate::net::Neighbours;
use crate::node::cluster::Cluster;
use crate::roster::mesh::Stand;
use crate::seams::Random;
use crate::seams::network::{CloseCode, Link, LinkLost, Network, Protocol};
use crate::types::{Address, ClusterId, EndpointId};

/// What a host is made of.
pub(in crate::node) struct HostParts {
    pub(in crate::node) mesh: Mesh,
    pub(in crate::node) cluster_id: ClusterId,
    pub(in crate::node) network: Arc<dyn Network>,
    pub(in crate::node) neighbours: Neighbours,
    pub(in crate::node) random: Random,
}

/// A member that knows its mesh; clones are the same.
#[derive(Clone)]
pub(in crate::node) struct Host {
    parts: Arc<HostParts>,
    /// The nodes of other clusters of the mesh that the log tells of, and since when.
    told: Arc<Mutex<Noted>>,
    /// The same of those that know another secret.
    strangers: Arc<Mutex<Noted>>,
    /// The nodes that have shown themselves to be of other clusters of the mesh.
    others: Arc<Mutex<BTreeMap<EndpointId, Other>>>,
}

/// A node of another cluster of the mesh.
#[derive(Clone, Copy)]
struct Other {
    cluster: ClusterId,
    /// When it was met or heard last.
    seen: Instant,
}

impl Other {
    fn seen(cluster: ClusterId) -> Self {
        Other { cluster, seen: Instant::now() }
    }

    /// Whether it may still be there: words on a link get lost, and who is met may not be heard yet.
    fn is_there(&self) -> bool {
        self.seen.elapsed() < MESH_UNHEARD_MAX
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({:?})", self.parts.mesh)
    }
}

impl Host {
    pub(in crate::node) fn new(parts: HostParts) -> Self {
        Host {
            parts: Arc::new(parts),
            told: Arc::default(),
            strangers: Arc::default(),
            others: Arc::default(),
        }
    }

    /// Serves a newcomer's link until it goes.
    pub(in crate::node) async fn serve(self, cluster: Cluster, link: Arc<dyn Link>) {
        let HostParts { mesh, network, random, .. } = &*self.parts;
        let peer = link.peer();
        match introduce(link, mesh, network.id(), random, Side::Accepter).await {
            Ok(acquaintance) => self.accompany(Some(cluster), acquaintance).await,
            Err(lost) => self.not_met(peer, &lost),
        }
    }

    /// The part that says on the link that this node is here, and looks for other clusters.
    pub(in crate::node) fn part(&self) -> RunService {
        let host = self.clone();
        until_stopped(move || {
            let host = host.clone();
            async move { host.look_around().await }
        })
    }

    async fn look_around(&self) {
        let HostParts { mesh, cluster_id, neighbours, .. } = &*self.parts;
        neighbours.say(mesh.word(Some(*cluster_id)));
        let heard = neighbours.heard();
        let mut look = interval(MESH_LOOK);
        let mut visited = Noted::default();
        loop {
            look.tick().await;
            let near = heard.borrow().clone();
            for (&peer, neighbour) in near.iter() {
                let other = mesh.hint(neighbour).flatten().filter(|other| other != cluster_id);
                let Some(other) = other else { continue };
                self.hears(peer, other);
                if visited.is_news(peer) {
                    self.visit(peer, &neighbour.addresses).await;
                }
            }
        }
    }

    /// Makes sure that a neighbour which says that it is of another cluster is, and tells it of
    /// this one.
    async fn visit(&self, peer: EndpointId, addresses: &[Address]) {
        let HostParts { mesh, network, random, .. } = &*self.parts;
        let met = async {
            let link = network.connect(peer, addresses, Protocol::Lan).await?;
            introduce(link, mesh, network.id(), random, Side::Dialler).await
        };
        match met.await {
            Ok(acquaintance) => self.accompany(None, acquaintance).await,
            Err(lost) => self.not_met(peer, &lost),
        }
    }

    /// Tells an acquaintance where this node stands, and lets it in if it asks. It goes by itself.
    async fn accompany(&self, cluster: Option<Cluster>, mut with: Acquaintance) {
        let cluster_id = self.parts.cluster_id;
        // However often it asks, one ticket is enough to come in by.
        let mut given = None;
        let talking = async {
            with.out.say(&Said::Stand(Stand::Settled(cluster_id))).await.ok()?;
            loop {
                let answer = match with.input.hear().await.ok()? {
                    Said::Ask => match (&cluster, &given) {
                        (_, Some(ticket)) => Said::Ticket(String::clone(ticket)),
                        (Some(cluster), None) => match self.let_in(cluster, with.peer).await {
                            Ok(ticket) => Said::Ticket(given.insert(ticket).clone()),
                            Err(refusal) => refusal,
                        },
                        (None, None) => Said::NotNow("ask when you have dialled".into()),
                    },
                    Said::Stand(Stand::Settled(other)) if other != cluster_id => {
                        self.tell_of(with.peer, other);
                        return Some(());
                    }
                    Said::Stand(_) => continue,
                    Said::Ticket(_) | Said::NotNow(_) | Said::Divided(_) => return None,
                };
                with.out.say(&answer).await.ok()?;
            }
        };
        let _ = tokio::time::timeout(MESH_ACQUAINTANCE_MAX, talking).await;
        if cluster.is_none() {
            // The other side hears this node's word before the link ends.
            let _ = tokio::time::timeout(MESH_LOOK, with.link.closed()).await;
        }
        with.link.close(CloseCode::Done, "all is said");
    }

    /// A ticket, or what is said instead.
    async fn let_in(&self, cluster: &Cluster, peer: EndpointId) -> Result<String, Said> {
        if let Some(clusters) = self.divided() {
            return Err(Said::Divided(clusters));
        }
        let invited = cluster.invite(Role::Voter, MESH_INVITATION_LIFE, Some(1)).await;
        let ticket = invited.map_err(|error| Said::NotNow(error.to_string()))?;
        tracing::info!(%peer, mesh = self.parts.mesh.name(), "let a node of the mesh in");
        Ok(ticket.to_string())
    }

    fn not_met(&self, peer: EndpointId, lost: &LinkLost) {
        let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
        strangers.not_met(&self.parts.mesh, peer, lost);
    }

    /// All clusters of the mesh, if there are others.
    fn divided(&self) -> Option<BTreeSet<ClusterId>> {
        let others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        let there = others.values().filter(|other| other.is_there());
        let others: BTreeSet<_> = there.map(|other| other.cluster).collect();
        (!others.is_empty()).then(|| others.into_iter().chain([self.parts.cluster_id]).collect())
    }

    /// A node that has shown that it is of another cluster says so still; what others say proves
    /// nothing.
    fn hears(&self, peer: EndpointId, of: ClusterId) {
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(other) = others.get_mut(&peer).filter(|other| other.cluster == of) {
            *other = Other::seen(of);
        }
    }

    fn tell_of(&self, peer: EndpointId, other: ClusterId) {
        let HostParts { mesh, cluster_id, .. } = &*self.parts;
        let mut others = self.others.lock().unwrap_or_else(PoisonError::into_inner);
        if others.len() >= NEIGHBOURS_MAX {
            others.retain(|_, other| other.is_there());
        }
        if others.len() < NEIGHBOURS_MAX {
            others.insert(peer, Other::seen(other));
        }
        drop(others);
        if !self.told.lock().unwrap_or_else(PoisonError::into_inner).is_news(peer) {
            return;
        }
        tracing::warn!(
            mesh = mesh.name(), %peer, this = %cluster_id, %other,
            "the mesh has another cluster, begun apart from this one; they stay apart: to have \
             one, let the nodes of one leave it and start anew without their data"
        );
    }
}
