//! The cluster as it looks from this node, for people and dashboards: members and how they are
//! reached, groups and who is in them. A glance at moving things; nothing is decided by it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::Cluster;
use crate::actors::Told;
use crate::net::{KnownAddress, PeerFacts};
use crate::raft::Replica;
use crate::roster::records::Member;
use crate::seams::network::Path;
use crate::status::GroupStatus;
use crate::types::{Address, NodeId};

/// A member, and how this node reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberFacts {
    /// What the roster says.
    pub member: Member,
    /// Whether there is a link to it; there always is to oneself.
    pub is_connected: bool,
    /// How long ago it was last heard; `None` if it never was since this node started.
    pub heard: Option<Duration>,
    /// Where it is reached.
    pub reached_at: Option<Address>,
    /// The way there, and how good it is.
    pub path: Option<Path>,
    /// Why it is not reached, if it is not.
    pub unreached: Option<String>,
    /// Where this node would look for it, the newest first.
    pub known: Vec<KnownAddress>,
    /// What it said of itself last, if it was heard.
    pub told: Option<Told>,
    /// How much of what it said, or passed on, was against the rules and ignored.
    pub offences: u64,
}

/// A group that this node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// This node's replica, and who is in the group.
    pub status: GroupStatus,
    /// The last entry that each other member is known to have stored; only the leader knows.
    pub stored: BTreeMap<NodeId, u64>,
}

impl Cluster {
    /// Which member this node is.
    pub fn me(&self) -> NodeId {
        self.inner.me
    }

    /// The members, those that are leaving included.
    pub fn members(&self) -> Vec<MemberFacts> {
        let now = Instant::now();
        let peers = self.inner.peers.facts();
        let facts = |member: &Member| {
            if member.node == self.inner.me {
                return MemberFacts {
                    member: member.clone(),
                    is_connected: true,
                    heard: Some(Duration::ZERO),
                    reached_at: None,
                    path: None,
                    unreached: None,
                    known: Vec::new(),
                    told: self.inner.rumours.of(member.endpoint),
                    offences: 0,
                };
            }
            let peer = peers.iter().find(|peer| peer.peer == member.endpoint);
            MemberFacts {
                member: member.clone(),
                is_connected: peer.is_some_and(|peer| peer.connected_since.is_some()),
                heard: peer.and_then(|peer| peer.heard).map(|at| now.duration_since(at)),
                reached_at: peer.and_then(|peer| peer.address.clone()),
                path: peer.and_then(|peer| peer.path.clone()),
                unreached: peer.and_then(unreached),
                known: self.inner.peers.known_addresses(member.endpoint),
                told: self.inner.rumours.of(member.endpoint),
                offences: self.inner.rumours.offences(member.endpoint),
            }
        };
        self.roster().present().map(facts).collect()
    }

    /// The groups that this node holds.
    pub fn groups(&self) -> Vec<GroupFacts> {
        let running = self.inner.groups.running().into_iter();
        let facts =
            |replica: Replica| GroupFacts { status: replica.status(), stored: replica.progress() };
        running.map(|(_, replica)| facts(replica)).collect()
    }
}

fn unreached(peer: &PeerFacts) -> Option<String> {
    let lost = peer.lost.as_ref().filter(|_| peer.connected_since.is_none())?;
    Some(lost.reason.clone())
}
