//! Who a node is and what its groups do: plain facts that the doors show.
//!
//! Nothing here is a source of truth. The identity is fixed when the node starts; the groups'
//! facts are a glance at moving counters and are published for people and dashboards only.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::types::{ClusterId, GroupId, NodeId, Revision};

/// A running node's identity, fixed when it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeIdentity {
    /// The node's short number.
    pub node_id: NodeId,
    /// Its public key, as other nodes dial it.
    pub endpoint_id: String,
    /// The cluster it belongs to.
    pub cluster_id: ClusterId,
    /// What people call the cluster.
    pub cluster_name: String,
    /// Where it listens for other nodes.
    pub listen: Vec<SocketAddr>,
}

/// What a replica is to its group at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Orders the group's commands.
    Leader,
    /// Votes and follows.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Follows without a vote.
    Learner,
    /// Being opened, or waiting for its turn to be.
    Starting,
    /// Not running; health says why.
    Stopped,
}

impl Role {
    /// Each of them.
    pub const ALL: [Role; 6] = [
        Role::Leader,
        Role::Follower,
        Role::Candidate,
        Role::Learner,
        Role::Starting,
        Role::Stopped,
    ];

    /// Whether the replica is not there to be anything to its group.
    pub fn is_absent(self) -> bool {
        matches!(self, Role::Starting | Role::Stopped)
    }

    /// The word for it, as doors and logs show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate => "candidate",
            Role::Learner => "learner",
            Role::Starting => "starting",
            Role::Stopped => "stopped",
        }
    }
}

/// One replica of a group, as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The group.
    pub group: GroupId,
    /// What this node is to it.
    pub role: Role,
    /// The term it is in.
    pub term: u64,
    /// Who leads it, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The last entry of its log on this node.
    pub last_log_index: u64,
    /// The last entry that this node has applied.
    pub applied_index: u64,
    /// The revision that its state has on this node.
    pub revision: Revision,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Who follows without a vote.
    pub learners: BTreeSet<NodeId>,
    /// The snapshot that is on its way here, if one is.
    pub arriving: Option<Arriving>,
}

/// A snapshot on its way to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arriving {
    /// How many of its bytes are here.
    pub bytes: u64,
    /// About how many it has; its sender can't know before the end.
    pub of_bytes: u64,
}

impl GroupStatus {
    /// Of a replica that is not there, but in this role.
    pub fn without_replica(group: GroupId, role: Role) -> Self {
        GroupStatus {
            group,
            role,
            term: 0,
            leader: None,
            last_log_index: 0,
            applied_index: 0,
            revision: 0,
            voters: BTreeSet::new(),
            learners: BTreeSet::new(),
            arriving: None,
        }
    }
}

/// Where a replica is, in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupGauges {
    /// The group.
    pub group: GroupId,
    /// What this node is to it.
    pub role: Role,
    /// Nothing happens in it, and its clock stands still on this node.
    pub is_asleep: bool,
    /// The term it is in.
    pub term: u64,
    /// The last entry of its log on this node.
    pub last_index: u64,
    /// The last entry that this node knows to be committed.
    pub committed_index: u64,
    /// The last entry that this node has applied.
    pub applied_index: u64,
    /// On the leader: how many entries the slowest of the others is behind.
    pub lag: Option<u64>,
    /// Proposals that wait for their answers here.
    pub proposals_waiting: u64,
    /// Watches that are served here.
    pub watches: u64,
    /// Bytes of changes that are kept in memory for them.
    pub watch_bytes: u64,
}
