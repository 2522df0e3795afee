//! Balancing: the shards get their places, and their records say when they are there.
//!
//! Every node writes down which of the groups that it leads are where they were wanted. Whoever leads
//! the meta group gives shards their first places and others as members come, go and fail
//! ([`crate::roster::balance`]); each aim is committed on the condition that nothing it rests on has
//! changed. What was begun by one leader is gone on with by the next, because all of it stands in
//! the roster.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, ClusterError};
use crate::actors::{RunService, until_stopped};
use crate::limits::{AIMS_MAX, BALANCE_LOOK, PLACE_WAIT, SILENT_AFTER};
use crate::roster::Roster;
use crate::roster::balance::{Facts, plan, plan_with_reasons};
use crate::roster::change::Change;
use crate::roster::keyspaces::{adopt, place, settle};
use crate::roster::load::Loads;
use crate::roster::records::Stage;
use crate::types::{GroupId, NodeId, Revision};

/// The part that keeps shards where they are to be.
pub(super) fn balancing(cluster: Cluster) -> RunService {
    until_stopped(move || {
        let cluster = cluster.clone();
        async move { tokio::join!(settle_reached(&cluster), balance(&cluster)) }
    })
}

/// Writes down which groups are where they were wanted.
async fn settle_reached(cluster: &Cluster) {
    let mut reached = cluster.inner.groups.reached();
    loop {
        let now = reached.borrow_and_update().clone();
        let roster = cluster.roster();
        if !unsettled(&roster, &now).is_empty() {
            let settled = cluster.decide(|roster, _| {
                let mut change = Change::default();
                for (group, as_of) in unsettled(roster, &now).into_iter().take(AIMS_MAX) {
                    settle(roster, &mut change, group, as_of)?;
                }
                Ok(((), change))
            });
            if let Err(error) = settled.await {
                tracing::warn!(%error, "that shards are where they are to be can't be noted yet");
                sleep(BALANCE_LOOK).await;
            }
            // What was left out, or was refused with the rest, is looked at again.
            if !unsettled(&cluster.roster(), &now).is_empty() {
                continue;
            }
        }
        if reached.changed().await.is_err() {
            return;
        }
    }
}

/// Of those that are reached, the ones whose records don't say so, and are as they were.
fn unsettled(
    roster: &Roster,
    reached: &BTreeMap<GroupId, Revision>,
) -> BTreeMap<GroupId, Revision> {
    let is_unsettled = |(group, as_of): &(&GroupId, &Revision)| {
        roster.shard(**group).is_some_and(|(shard, at)| {
            at == **as_of && matches!(shard.stage, Stage::Founding | Stage::Moving)
        })
    };
    reached.iter().filter(is_unsettled).map(|(group, as_of)| (*group, *as_of)).collect()
}

/// Since when members are not heard by a node; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Silences(Arc<Mutex<BTreeMap<NodeId, Instant>>>);

impl Silences {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Instant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in which members there is no link to, each with when others passed on what it said. That
    /// alone makes nobody alive; but who is cut off from this node only is not lost.
    fn note(&self, silent: &BTreeMap<NodeId, Option<Instant>>, now: Instant) {
        let mut since = self.lock();
        since.retain(|node, _| silent.contains_key(node));
        for (node, told) in silent {
            let at = since.entry(*node).or_insert(now);
            *at = told.map_or(*at, |told| told.max(*at));
        }
    }

    /// The members that are not heard for so long.
    fn for_at_least(&self, long: Duration, now: Instant) -> BTreeSet<NodeId> {
        let silences = self.lock();
        let is_long = |(_, since): &(&NodeId, &Instant)| now.duration_since(**since) >= long;
        silences.iter().filter(is_long).map(|(node, _)| *node).collect()
    }

    /// For how long a member is not heard.
    pub(super) fn of(&self, node: NodeId, now: Instant) -> Duration {
        self.lock().get(&node).map_or(Duration::ZERO, |since| now.duration_since(*since))
    }
}

/// What the leader of the meta group remembers of what it has seen; another begins anew, so that
/// nothing has waited before its time.
#[derive(Debug, Default)]
struct Seen {
    /// Since when there are shards without a place.
    waiting: Option<Instant>,
}

async fn balance(cluster: &Cluster) {
    let mut changes = cluster.inner.members.changes();
    let mut seen = Seen::default();
    loop {
        changes.borrow_and_update();
        cluster.inner.silences.note(&cluster.silent(), Instant::now());
        cluster.inner.loads.hear(cluster);
        if cluster.leads_meta() {
            if let Err(error) = act(cluster, &mut seen).await {
                tracing::warn!(%error, "shards can't be placed at the moment");
            }
        } else {
            seen = Seen::default();
        }
        tokio::select! {
            biased;
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(BALANCE_LOOK) => {}
        }
    }
}

async fn act(cluster: &Cluster, seen: &mut Seen) -> Result<(), ClusterError> {
    let facts = seen.look(cluster);
    let roster = cluster.roster();
    if roster.cluster().is_some() && roster.next_group().is_none() {
        cluster.decide(|roster, now_s| Ok(((), adopt(roster, now_s)?))).await?;
    }
    // What loads ask for comes after all else, and has time.
    let without_loads = Facts { loads: BTreeMap::new(), ..facts.clone() };
    let is_calm = plan(&roster, &without_loads).is_empty();
    let is_for_load = is_calm && !plan(&roster, &facts).is_empty();
    let facts = match cluster.inner.loads.is_steady(is_for_load) {
        true => facts,
        false if is_calm => return Ok(()),
        false => without_loads,
    };
    cluster
        .decide(|roster, _| {
            let mut change = Change::default();
            for (group, aim, why) in plan_with_reasons(roster, &facts).into_iter().take(AIMS_MAX) {
                let (replicas, leader, why) = (&aim.replicas, aim.leader, why.as_str());
                tracing::info!(
                    group = group.0,
                    ?replicas,
                    ?leader,
                    why,
                    "a shard is given its place"
                );
                place(roster, &mut change, group, &aim)?;
            }
            Ok(((), change))
        })
        .await
}

impl Seen {
    fn look(&mut self, cluster: &Cluster) -> Facts {
        let (now, roster) = (Instant::now(), cluster.roster());
        let mut waiting = roster.shards().filter(|(_, shard, _)| shard.stage == Stage::Waiting);
        match waiting.next() {
            Some(_) => self.waiting = self.waiting.or(Some(now)),
            None => self.waiting = None,
        }
        let waited = |since| now.duration_since(since) >= PLACE_WAIT;
        Facts { has_waited: self.waiting.is_some_and(waited), ..cluster.placement_facts(&roster) }
    }
}

/// What this node has heard of the loads of shards; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct HeardLoads {
    loads: Arc<Mutex<Loads>>,
    since: Instant,
}

impl Default for HeardLoads {
    fn default() -> Self {
        HeardLoads { loads: Arc::default(), since: Instant::now() }
    }
}

impl HeardLoads {
    fn lock(&self) -> MutexGuard<'_, Loads> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, cluster: &Cluster) {
        let roster = cluster.roster();
        let mut told = cluster.inner.rumours.loads(&roster);
        // What it led is led by somebody else by now.
        let silent = cluster.silent_now(&roster);
        told.retain(|node, _| !silent.contains(node));
        self.lock().hear(&roster, &told, self.since.elapsed());
    }

    fn is_steady(&self, is_wanted: bool) -> bool {
        self.lock().is_steady(is_wanted, self.since.elapsed())
    }
}

impl Cluster {
    /// What this node knows of the members and shards besides the roster. Shards without a place have
    /// waited long enough.
    pub(super) fn placement_facts(&self, roster: &Roster) -> Facts {
        let heard = &self.inner.loads;
        let (loads, resting) = {
            let loads = heard.lock();
            (loads.weights(), loads.resting(heard.since.elapsed()))
        };
        Facts {
            lost: self.lost(roster),
            silent: self.silent_now(roster),
            full: self.inner.rumours.full(roster),
            has_waited: true,
            loads,
            resting,
            moves_max: roster.moves_at_once(),
        }
    }
}

impl Cluster {
    /// The members that nothing is to wait for at the moment: they are not heard, and not expected
    /// back from their maintenance.
    pub(super) fn silent_now(&self, roster: &Roster) -> BTreeSet<NodeId> {
        let mut silent = self.inner.silences.for_at_least(SILENT_AFTER, Instant::now());
        silent.retain(|node| !roster.duty(*node).maintenance);
        silent
    }

    /// The members that are not waited for any longer.
    pub(super) fn lost(&self, roster: &Roster) -> BTreeSet<NodeId> {
        let (now, lost_after) = (Instant::now(), roster.lost_after());
        let is_lost = |node: &NodeId| {
            self.inner.silences.of(*node, now) >= lost_after && !roster.duty(*node).maintenance
        };
        roster.present().map(|member| member.node).filter(is_lost).collect()
    }
}
