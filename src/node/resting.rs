//! Resting: groups in which nothing happens sleep, and are woken when their leader's node is gone.
//!
//! Each node looks after the groups that it leads. All that may sleep are told to a member in one
//! message, whoever else is in them; a group sleeps when all others that hold it have agreed. Of what
//! sleeps a node keeps open what was touched last, and has the rest put away.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};

use super::cluster::Cluster;
use crate::actors::{RunService, until_stopped};
use crate::limits::{
    ASLEEP_OPEN_MAX, PUT_AWAY_AFTER, REST_AFTER, REST_ASK_MAX, REST_LOOK, REST_UNUSED_AFTER,
};
use crate::raft::{Quiet, Replica};
use crate::roster::records::Stage;
use crate::status::Role;
use crate::types::{EndpointId, GroupId, NodeId};

/// The part that puts groups to sleep and wakes them.
pub(super) fn resting(cluster: Cluster) -> RunService {
    until_stopped(move || {
        let cluster = cluster.clone();
        async move { tokio::join!(put_to_sleep(&cluster), put_away(&cluster), wake(&cluster)) }
    })
}

/// A group that was awake when it was looked at.
struct Seen {
    touches: u64,
    since: Instant,
}

/// How long a group that this replica leads has nothing to do before it sleeps.
fn rest_after(replica: &Replica) -> Duration {
    if replica.is_used() { REST_AFTER } else { REST_UNUSED_AFTER }
}

/// How long a replica sleeps before it is put away: what nobody has used since it was opened is
/// hardly needed soon. A follower waits until its leader sleeps, whose heartbeat would open it again.
fn put_away_after(replica: &Replica) -> Duration {
    match (replica.is_used(), replica.status().role) {
        (true, _) => PUT_AWAY_AFTER,
        (false, Role::Leader) => REST_UNUSED_AFTER,
        (false, _) => REST_UNUSED_AFTER + REST_ASK_MAX,
    }
}

/// Whether nobody has used a replica yet, which is as it is since this moment only.
fn is_fresh(replica: &Replica, since: Instant) -> bool {
    !replica.is_used() && since.elapsed() < REST_LOOK
}

/// How long to wait before the replicas are looked at again.
fn next_look(cluster: &Cluster, some_are_fresh: bool) -> Duration {
    let is_urgent = some_are_fresh || cluster.inner.groups.are_awaited();
    if is_urgent { REST_UNUSED_AFTER } else { REST_LOOK }
}

async fn put_to_sleep(cluster: &Cluster) {
    let mut seen: BTreeMap<GroupId, Seen> = BTreeMap::new();
    let mut look = REST_LOOK;
    loop {
        sleep(look).await;
        let now = Instant::now();
        let awake = cluster.inner.groups.running().into_iter();
        // The meta group is heard of by all, whatever else they hold.
        let awake: BTreeMap<GroupId, Replica> = awake
            .filter(|(group, replica)| *group != GroupId::META && !replica.is_asleep())
            .collect();
        seen.retain(|group, _| awake.contains_key(group));
        let mut idle = Vec::new();
        let mut some_are_fresh = false;
        for (group, replica) in awake {
            let touches = replica.touches();
            let last = seen.entry(group).or_insert(Seen { touches, since: now });
            if last.touches != touches {
                *last = Seen { touches, since: now };
            }
            some_are_fresh |= is_fresh(&replica, last.since);
            if now.duration_since(last.since) >= rest_after(&replica)
                && cluster.is_at_rest(group)
                && let Some(quiet) = replica.quiet()
            {
                idle.push((replica, touches, quiet));
            }
        }
        look = next_look(cluster, some_are_fresh);
        if !idle.is_empty() {
            rest(cluster, idle).await;
        }
    }
}

/// Asks the others that hold these groups to sleep, and has those sleep here to which all agree.
async fn rest(cluster: &Cluster, idle: Vec<(Replica, u64, Quiet)>) {
    let mut asked: BTreeMap<NodeId, Vec<Quiet>> = BTreeMap::new();
    for (replica, _, quiet) in &idle {
        let members = replica.members();
        for node in members.voters.union(&members.learners).filter(|node| **node != cluster.me()) {
            asked.entry(*node).or_default().push(*quiet);
        }
    }
    let agreed = join_all(asked.into_iter().map(async |(node, quiet)| {
        let slept: BTreeSet<GroupId> =
            cluster.ask_to_sleep(node, quiet).await.into_iter().collect();
        (node, slept)
    }));
    let agreed: BTreeMap<NodeId, BTreeSet<GroupId>> = agreed.await.into_iter().collect();
    for (replica, touches, quiet) in idle {
        let members = replica.members();
        let mut others = members.voters.union(&members.learners).filter(|n| **n != cluster.me());
        let all = others.all(|node| agreed.get(node).is_some_and(|of| of.contains(&quiet.group)));
        // Those that sleep although another does not are woken by the next heartbeat.
        if all {
            replica.fall_asleep(touches);
        }
    }
}

/// Has replicas put away that sleep for long, beyond those that fell asleep last.
async fn put_away(cluster: &Cluster) {
    let mut look = REST_LOOK;
    loop {
        sleep(look).await;
        let running = cluster.inner.groups.running().into_iter();
        let mut asleep: Vec<(Instant, Replica)> =
            running.filter_map(|(_, replica)| Some((replica.asleep_since()?, replica))).collect();
        asleep.sort_unstable_by_key(|(since, _)| Reverse(*since));
        asleep.drain(..ASLEEP_OPEN_MAX.min(asleep.len()));
        look = next_look(cluster, asleep.iter().any(|(since, replica)| is_fresh(replica, *since)));
        for (since, replica) in asleep {
            if since.elapsed() >= put_away_after(&replica) {
                replica.offer_to_put_away();
            }
        }
    }
}

/// Wakes groups whose leader's node can't be reached, and those that are to be led elsewhere, each
/// time that links or the roster change.
async fn wake(cluster: &Cluster) {
    let mut links = cluster.inner.peers.changes();
    let mut members = cluster.inner.members.changes();
    loop {
        members.borrow_and_update();
        let facts = cluster.inner.peers.facts();
        let connected = facts.iter().filter(|facts| facts.connected_since.is_some());
        let connected: BTreeSet<EndpointId> = connected.map(|facts| facts.peer).collect();
        let roster = cluster.roster();
        let is_there = |node: NodeId| {
            node == cluster.me()
                || roster.member(node).is_some_and(|member| connected.contains(&member.endpoint))
        };
        let groups = &cluster.inner.groups;
        for (_, replica) in groups.running() {
            if replica.is_asleep() && !replica.status().leader.is_some_and(is_there) {
                replica.touch_without_leader();
            }
        }
        for status in groups.put_away() {
            let leads = status.leader == Some(cluster.me());
            if !status.leader.is_some_and(is_there) || leads && !cluster.is_at_rest(status.group) {
                groups.wake(status.group);
            }
        }
        tokio::select! {
            changed = links.changed() => if changed.is_err() { return },
            changed = members.changed() => if changed.is_err() { return },
            // One that was being put away at such a moment was passed over.
            () = sleep(REST_LOOK) => {}
        }
    }
}

impl Cluster {
    /// Whether a shard led here is where it is to be, and led by whom it is to be led.
    fn is_at_rest(&self, group: GroupId) -> bool {
        let roster = self.roster();
        let is_whole = roster.repair(group).is_none();
        is_whole
            && roster.shard(group).is_some_and(|(shard, _)| {
                shard.stage == Stage::Settled
                    && shard.leader.is_none_or(|leader| leader == self.me())
            })
    }

    /// Has those of these groups sleep here that are as their leader says.
    pub(super) fn sleep(&self, leader: EndpointId, quiet: &[Quiet]) -> Vec<GroupId> {
        let roster = self.roster();
        let Some(leader) = roster.member_of(leader).map(|member| member.node) else {
            return Vec::new();
        };
        let sleeps = |quiet: &&Quiet| {
            let replica = self.inner.groups.get(quiet.group);
            replica.is_some_and(|replica| replica.sleep_as(quiet, leader))
        };
        quiet.iter().filter(sleeps).map(|quiet| quiet.group).collect()
    }
}
