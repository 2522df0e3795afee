//! What this node knows of its cluster: the roster, followed in its replica of the meta group.
//!
//! [`Members`] answers who is a member, for whoever lets peers in or reaches them. It knows what
//! is committed and was applied here or heard from another member, so it may be late, and never
//! ahead. Before there is anything, it knows whom the node was told of at its admission. A replica
//! that gets the log from its start comes past rosters of before that admission, in which whoever
//! feeds it may be nobody: none of them is taken over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep};

use super::groups::Groups;
use super::service::{service_part, until_stopped};
use super::supervisor::ChildSpec;
use crate::error::Error;
use crate::limits::{ROSTER_RETRY, ROSTER_WAIT};
use crate::machine::ops::{
    Answer, AnswerBody, Filter, KeyRange, Order, Page, Query, Range, Select,
};
use crate::net::{AddressSource, Peers};
use crate::raft::{Directory, Failed, Replica, WatchRequest};
use crate::roster::records::Member;
use crate::roster::{Roster, Standing};
use crate::seams::network::{CloseCode, Gate, Protocol};
use crate::types::{Address, Consistency, EndpointId, GroupId, NodeId, Revision};

/// Who the members are, as far as this node knows; clones are the same.
#[derive(Clone, Debug)]
pub struct Members {
    roster: watch::Sender<Arc<Roster>>,
    told_of: Arc<OnceLock<BTreeMap<NodeId, EndpointId>>>,
    /// The keys of all, made when they change: they are asked for with every operation.
    endpoints: watch::Sender<Arc<[EndpointId]>>,
    /// The keys of those that hold each shard; as above.
    holders: watch::Sender<Arc<Holders>>,
    /// Told when a key was turned away.
    turned_away: Arc<Notify>,
    /// Whether nodes that say the same mesh may introduce themselves.
    has_mesh: Arc<AtomicBool>,
}

/// Who holds which shard.
#[derive(Debug, Default)]
struct Holders {
    of: BTreeMap<GroupId, Arc<[EndpointId]>>,
    next_group: Option<GroupId>,
}

impl Holders {
    fn of(roster: &Roster) -> Self {
        let mut shared: BTreeMap<BTreeSet<NodeId>, Arc<[EndpointId]>> = BTreeMap::new();
        let holders = roster.shards().map(|(group, ..)| {
            let nodes = roster.holders(group);
            let keys = |nodes: &BTreeSet<NodeId>| {
                nodes.iter().filter_map(|node| Some(roster.member(*node)?.endpoint)).collect()
            };
            let keys = shared.get(&nodes).cloned().unwrap_or_else(|| keys(&nodes));
            shared.insert(nodes, keys.clone());
            (group, keys)
        });
        Holders { of: holders.collect(), next_group: roster.next_group() }
    }
}

impl Default for Members {
    fn default() -> Self {
        Members {
            roster: watch::Sender::default(),
            told_of: Arc::default(),
            endpoints: watch::Sender::new(Arc::default()),
            holders: watch::Sender::default(),
            turned_away: Arc::default(),
            has_mesh: Arc::default(),
        }
    }
}

impl Members {
    /// Takes over this node and whom it was told of, once.
    pub fn told_of(&self, members: impl IntoIterator<Item = (NodeId, EndpointId)>) {
        let told_of = self.told_of.get_or_init(|| members.into_iter().collect());
        self.endpoints.send_replace(told_of.values().copied().collect());
    }

    /// From here on nodes of a mesh may introduce themselves.
    pub fn receive_mesh(&self) {
        self.has_mesh.store(true, Ordering::Relaxed);
    }

    /// Takes over a roster that is committed. One that is older than what is known is no news.
    pub fn take(&self, roster: &Roster) {
        self.roster.send_if_modified(|known| {
            let is_news = roster.revision() >= known.revision();
            if is_news {
                *known = Arc::new(roster.clone());
                // Before it is founded a cluster has nobody on record, and its founder is there.
                if roster.cluster().is_some() {
                    let present = roster.present().map(|member| member.endpoint);
                    self.endpoints.send_replace(present.collect());
                    self.holders.send_replace(Arc::new(Holders::of(roster)));
                }
            }
            is_news
        });
    }

    /// The keys of all members, this node's included.
    pub fn endpoints(&self) -> Arc<[EndpointId]> {
        self.endpoints.borrow().clone()
    }

    /// The keys of those that hold a group, this node's included; all members of those that hold
    /// what everybody holds, and nobody of a shard that has no place yet. `None` if the group is a
    /// deleted shard's.
    pub fn holders(&self, group: GroupId) -> Option<Arc<[EndpointId]>> {
        if group == GroupId::META {
            return Some(self.endpoints());
        }
        let holders = self.holders.borrow();
        match holders.of.get(&group) {
            Some(endpoints) => Some(endpoints.clone()),
            None if holders.next_group.is_some_and(|next| group < next) => None,
            // A shard from before there were keyspaces, or one that this node has not heard of.
            None => Some(self.endpoints()),
        }
    }

    /// The other members that hold a group, as far as is known: whom to ask about it.
    pub fn others(&self, group: GroupId, me: NodeId) -> Vec<NodeId> {
        let roster = self.roster.borrow();
        let mut others: Vec<NodeId> = match roster.cluster() {
            Some(_) => roster.holders(group).into_iter().collect(),
            None => self.told_of.get().into_iter().flat_map(BTreeMap::keys).copied().collect(),
        };
        others.retain(|node| *node != me);
        others
    }

    /// The roster as it is known now; empty until the meta group has been read.
    pub fn roster(&self) -> Arc<Roster> {
        self.roster.borrow().clone()
    }

    /// The roster, and each that follows.
    pub fn changes(&self) -> watch::Receiver<Arc<Roster>> {
        self.roster.subscribe()
    }

    /// Resolves when a key was turned away that may be a member's this node has not heard of yet.
    pub async fn turned_away(&self) {
        self.turned_away.notified().await;
    }

    /// What a key is to the cluster.
    pub fn standing(&self, endpoint: EndpointId) -> Standing {
        let roster = self.roster.borrow();
        if roster.cluster().is_some() {
            return roster.standing(endpoint);
        }
        let mut told_of = self.told_of.get().into_iter().flatten();
        match told_of.find(|(_, known)| **known == endpoint) {
            Some((node, _)) => Standing::Member(*node),
            None => Standing::Stranger,
        }
    }
}

impl Directory for Members {
    fn endpoint(&self, node: NodeId) -> Option<EndpointId> {
        let roster = self.roster.borrow();
        match roster.member(node) {
            Some(member) => member.is_present().then_some(member.endpoint),
            None => self.told_of.get()?.get(&node).copied(),
        }
    }

    fn node(&self, endpoint: EndpointId) -> Option<NodeId> {
        match self.standing(endpoint) {
            Standing::Member(node) => Some(node),
            Standing::Removed(_) | Standing::Stranger => None,
        }
    }

    fn snapshot_bytes_per_second(&self) -> u64 {
        self.roster.borrow().snapshot_bytes_per_second()
    }
}

impl Gate for Members {
    fn admit(&self, peer: EndpointId, protocol: Protocol) -> Result<(), (CloseCode, String)> {
        match (protocol, self.standing(peer)) {
            // These show their tickets.
            (Protocol::Join | Protocol::Client, _) => Ok(()),
            (Protocol::Lan, _) if self.has_mesh.load(Ordering::Relaxed) => Ok(()),
            (Protocol::Lan, _) => Err((CloseCode::OtherMesh, "this node is of no mesh".into())),
            (Protocol::Raft | Protocol::Gossip, Standing::Member(_)) => Ok(()),
            (Protocol::Raft | Protocol::Gossip, Standing::Removed(node)) => {
                self.turned_away.notify_one();
                let reason = format!("node {node} was removed from the cluster");
                Err((CloseCode::Removed(node), reason))
            }
            (Protocol::Raft | Protocol::Gossip, Standing::Stranger) => {
                self.turned_away.notify_one();
                Err((CloseCode::NotMember, "this key is not a member's".into()))
            }
        }
    }
}

/// The supervised part that follows the meta group.
pub(super) fn roster_part(members: Members, groups: Groups, peers: Peers) -> ChildSpec {
    let run = until_stopped(move || {
        let (members, groups, peers) = (members.clone(), groups.clone(), peers.clone());
        async move { tokio::join!(follow(members.clone(), groups), acquaint(members, peers)) }
    });
    service_part("roster", run)
}

/// Tells the peers where members say that they are, when that is news.
async fn acquaint(members: Members, peers: Peers) {
    let mut changes = members.changes();
    let mut told: BTreeMap<NodeId, Vec<Address>> = BTreeMap::new();
    loop {
        let roster = changes.borrow_and_update().clone();
        told.retain(|node, _| roster.member(*node).is_some_and(Member::is_present));
        for member in roster.present() {
            if told.get(&member.node) != Some(&member.addresses) {
                peers.note(member.endpoint, &member.addresses, AddressSource::Roster);
                told.insert(member.node, member.addresses.clone());
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Follows the meta group across restarts of its replica.
async fn follow(members: Members, groups: Groups) {
    loop {
        let deadline = Instant::now() + ROSTER_WAIT;
        if let Ok(replica) = groups.replica(GroupId::META, deadline).await
            && let Err(error) = follow_replica(&members, &replica).await
        {
            tracing::debug!(?error, "the roster is read again from its start");
        }
        sleep(ROSTER_RETRY).await;
    }
}

async fn follow_replica(members: &Members, replica: &Replica) -> Result<(), Failed> {
    replica.past_history().await?;
    let mut roster = load(replica).await?;
    members.take(&roster);
    let from = Some(roster.revision() + 1);
    let request = WatchRequest { range: KeyRange::all(), from, prev: false };
    let mut changes = replica.watch(request).await?;
    while let Some(batch) = changes.next().await? {
        for event in batch.events {
            let key = event.key.as_bytes();
            let taken = match &event.record {
                Some(record) => roster.put(key, record.value.as_bytes(), record.mod_revision),
                None => roster.delete(key, event.revision),
            };
            // A newer node wrote what this build can't read: it goes by what it understands.
            if let Err(error) = taken {
                tracing::warn!(%error, "a record of the roster is not understood");
            }
        }
        roster.reach(batch.revision);
        members.take(&roster);
    }
    Ok(())
}

async fn load(replica: &Replica) -> Result<Roster, Failed> {
    let ask = |query: Query| async move { replica.query(&query, Consistency::Stale).await };
    read_roster(ask).await
}

/// Reads the whole roster at one revision from whoever answers queries on the meta group.
pub async fn read_roster<E: From<Error>, A: Future<Output = Result<Answer, E>>>(
    ask: impl Fn(Query) -> A,
) -> Result<Roster, E> {
    let mut roster = Roster::default();
    let mut range = KeyRange::all();
    let mut revision = None;
    loop {
        let answer = ask(everything(range.clone(), revision)).await?;
        let at = *revision.get_or_insert(answer.revision);
        let AnswerBody::Range(Page { records, more, .. }) = answer.body else {
            return Err(Error::Fatal("the machine answered another question".into()).into());
        };
        for found in &records {
            let (key, record) = (found.key.as_bytes(), &found.record);
            if let Err(error) = roster.put(key, record.value.as_bytes(), record.mod_revision) {
                tracing::warn!(%error, "a record of the roster is not understood");
            }
        }
        match records.last() {
            Some(last) if more => range = KeyRange::after(&last.key),
            _ => {
                roster.reach(at);
                return Ok(roster);
            }
        }
    }
}

fn everything(range: KeyRange, revision: Option<Revision>) -> Query {
    Query::Range(Range {
        range,
        revision,
        limit: None,
        order: Order::default(),
        select: Select::Records,
        filter: Filter::default(),
    })
}
