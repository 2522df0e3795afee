//! What a node counts and measures, gathered for doors: plain facts from all of its parts.
//!
//! Gathering takes no lock for long, asks no other node and touches no disk. Nothing is decided by
//! what is gathered.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::cluster::Cluster;
use crate::actors::{HealthBoard, MailboxCounts};
use crate::client::Operations;
use crate::net::PeerTraffic;
use crate::raft::Counts as RaftCounts;
use crate::seams::network::{Path, Traffic};
use crate::status::GroupGauges;
use crate::store::log;
use crate::store::space::SpaceGuard;
use crate::types::NodeId;

/// Where the parts of a node count; clones are the same.
#[derive(Clone, Debug)]
pub struct Instruments {
    /// When the process began to be a node, since 1970.
    pub started_at: Duration,
    /// What was asked of its replicas.
    pub operations: Arc<Operations>,
    /// What its groups did.
    pub raft: RaftCounts,
    /// What the log's writer did.
    pub log: Arc<log::Counts>,
    /// How much room there is.
    pub space: SpaceGuard,
    /// What its parts said of themselves.
    pub board: HealthBoard,
}

impl Instruments {
    /// What went through the mailboxes.
    pub fn mailboxes(&self) -> Arc<MailboxCounts> {
        self.board.mailboxes()
    }

    /// How often parts were started again, by their kind.
    pub fn restarted(&self) -> BTreeMap<String, u64> {
        self.board.restarted()
    }
}

/// A member, and what goes between it and this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerMeasures {
    /// The member.
    pub node: NodeId,
    /// Whether there is a link to it.
    pub is_connected: bool,
    /// The way there, and how good it is.
    pub path: Option<Path>,
    /// How many links to it there were.
    pub links: u64,
    /// What went over all of them.
    pub traffic: Traffic,
}

impl Cluster {
    /// Where the groups that this node holds are; those that don't run are left out.
    pub fn gauges(&self) -> Vec<GroupGauges> {
        let running = self.inner.groups.running().into_iter();
        running.map(|(_, replica)| replica.gauges()).collect()
    }

    /// How many groups that this node holds are put away.
    pub fn put_away(&self) -> usize {
        self.inner.groups.put_away().len()
    }

    /// The other members, and what goes between them and this node.
    pub fn peers(&self) -> Vec<PeerMeasures> {
        let roster = self.roster();
        let facts: BTreeMap<_, _> =
            self.inner.peers.facts().into_iter().map(|facts| (facts.peer, facts)).collect();
        let traffic: BTreeMap<_, PeerTraffic> =
            self.inner.peers.traffic().into_iter().map(|peer| (peer.peer, peer)).collect();
        let others = roster.present().filter(|member| member.node != self.inner.me);
        let measures = others.map(|member| {
            let facts = facts.get(&member.endpoint);
            let traffic = traffic.get(&member.endpoint);
            PeerMeasures {
                node: member.node,
                is_connected: facts.is_some_and(|facts| facts.connected_since.is_some()),
                path: facts.and_then(|facts| facts.path.clone()),
                links: traffic.map_or(0, |peer| peer.links),
                traffic: traffic.map(|peer| peer.traffic).unwrap_or_default(),
            }
        });
        measures.collect()
    }
}
