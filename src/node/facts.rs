//! The cluster as it looks from this node, for people and dashboards: members and how they are
//! reached, groups and who is in them. A glance at moving things; nothing is decided by it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use super::cluster::Cluster;
use crate::actors::Told;
use crate::error::Corrupt;
use crate::net::{KnownAddress, PeerFacts};
use crate::roster::records::{Member, RepairStage};
use crate::seams::network::Path;
use crate::status::{GroupStatus, Role};
use crate::types::{Address, GroupId, NodeId};

/// A member, and how this node reaches it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberFacts {
    /// What the roster says.
    pub member: Member,
    /// Whether there is a link to it; there always is to oneself.
    pub is_connected: bool,
    /// How long ago it was last heard; `None` if it never was since this node started.
    pub heard: Option<Duration>,
    /// For how long there has been no link to it and nothing that others passed on.
    pub silence: Duration,
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

/// How well a member is, as far as a node can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemberHealth {
    /// There is a link to it.
    Healthy,
    /// There is none.
    Suspect,
    /// It was not heard for so long that it is not waited for.
    Dead,
}

impl MemberHealth {
    /// The word for it, as doors show it.
    pub fn as_str(self) -> &'static str {
        match self {
            MemberHealth::Healthy => "healthy",
            MemberHealth::Suspect => "suspect",
            MemberHealth::Dead => "dead",
        }
    }
}

impl MemberFacts {
    /// How well it is, if a member is waited for for so long.
    pub fn health(&self, lost_after: Duration) -> MemberHealth {
        match self.is_connected {
            true => MemberHealth::Healthy,
            false if self.silence < lost_after => MemberHealth::Suspect,
            false => MemberHealth::Dead,
        }
    }
}

/// A group that this node holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupFacts {
    /// This node's replica, and who is in the group.
    pub status: GroupStatus,
    /// The last entry that each other member is known to have stored; only the leader knows.
    pub stored: BTreeMap<NodeId, u64>,
    /// Nothing happens in it, and its clock stands still on this node.
    pub is_asleep: bool,
    /// What of this node's replica is damaged, if that has stopped it.
    pub damage: Option<Corrupt>,
    /// How far the repair of this node's replica is, if it is under way.
    pub repair: Option<RepairStage>,
    /// History that was dropped is still there, and removed as fast as the group likes.
    pub is_compacting: bool,
}

impl Cluster {
    /// Which member this node is.
    pub fn me(&self) -> NodeId {
        self.inner.me
    }

    /// The members, those that are leaving included.
    pub fn members(&self) -> Vec<MemberFacts> {
        let peers = self.inner.peers.facts();
        self.roster().present().map(|member| self.facts_of(member, &peers)).collect()
    }

    /// One of them; `None` if none has this number.
    pub fn member(&self, node: NodeId) -> Option<MemberFacts> {
        let roster = self.roster();
        let member = roster.member(node).filter(|member| member.is_present())?;
        Some(self.facts_of(member, &self.inner.peers.facts()))
    }

    fn facts_of(&self, member: &Member, peers: &[PeerFacts]) -> MemberFacts {
        if member.node == self.inner.me {
            return MemberFacts {
                member: member.clone(),
                is_connected: true,
                heard: Some(Duration::ZERO),
                silence: Duration::ZERO,
                reached_at: None,
                path: None,
                unreached: None,
                known: Vec::new(),
                told: self.inner.rumours.of(member.endpoint),
                offences: 0,
            };
        }
        let now = Instant::now();
        let peer = peers.iter().find(|peer| peer.peer == member.endpoint);
        MemberFacts {
            member: member.clone(),
            is_connected: peer.is_some_and(|peer| peer.connected_since.is_some()),
            heard: peer.and_then(|peer| peer.heard).map(|at| now.duration_since(at)),
            reached_at: peer.and_then(|peer| peer.address.clone()),
            path: peer.and_then(|peer| peer.path.clone()),
            unreached: peer.and_then(unreached),
            known: self.inner.peers.known_addresses(member.endpoint),
            silence: self.inner.silences.of(member.node, now),
            told: self.inner.rumours.of(member.endpoint),
            offences: self.inner.rumours.offences(member.endpoint),
        }
    }

    /// The groups that this node holds.
    pub fn groups(&self) -> Vec<GroupFacts> {
        let (groups, roster) = (&self.inner.groups, self.roster());
        let repairs: BTreeMap<GroupId, RepairStage> =
            roster.repairs_of(self.inner.me).map(|(group, stage, _)| (group, stage)).collect();
        let of_repairs = repairs
            .keys()
            .map(|group| (*group, GroupStatus::without_replica(*group, Role::Stopped)));
        let statuses = groups.statuses().into_iter().map(|status| (status.group, status));
        let all: BTreeMap<GroupId, GroupStatus> = of_repairs.chain(statuses).collect();
        let facts = |(group, status): (GroupId, GroupStatus)| {
            let replica = groups.get(group);
            let repair = repairs.get(&group).copied();
            let is_compacting = replica.as_ref().is_some_and(|replica| replica.is_compacting());
            let is_put_away = replica.is_none() && !status.role.is_absent();
            let mut stored = match &replica {
                Some(replica) => replica.progress(),
                // A leader is put away only when all have what it has.
                None if status.role == Role::Leader => {
                    let all = status.voters.union(&status.learners);
                    all.map(|node| (*node, status.last_log_index)).collect()
                }
                None => BTreeMap::new(),
            };
            stored.remove(&self.inner.me);
            let is_asleep = is_put_away || replica.is_some_and(|replica| replica.is_asleep());
            let damage = groups.damage(group);
            GroupFacts { status, stored, is_asleep, damage, repair, is_compacting }
        };
        all.into_iter().map(facts).collect()
    }
}

fn unreached(peer: &PeerFacts) -> Option<String> {
    let lost = peer.lost.as_ref().filter(|_| peer.connected_since.is_none())?;
    Some(lost.reason.clone())
}
