//! Keeps the membership of the groups that this node leads equal to what the roster wants.
//!
//! Each group's leader carries out the changes of its own group, one at a time, where nobody needs
//! to be asked; what the next one is, `roster::placement` decides. A step that fails is decided
//! anew from what is then the case.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::time::{Instant, sleep, timeout};

use super::gossip::Rumours;
use super::groups::Groups;
use super::roster::Members;
use super::service::{service_part, until_stopped};
use super::supervisor::ChildSpec;
use crate::limits::{
    FOUNDERS_WAIT, LEAD_STEADY, PLACEMENT_LOOK, PLACEMENT_REST, PLACEMENT_STEP_MAX,
};
use crate::net::Peers;
use crate::raft::{ChangeFailed, Dropped, Pace, Replica};
use crate::roster::Roster;
use crate::roster::placement::{GroupFacts, Step, has_let_go, is_reached, next_step};
use crate::roster::records::{Member, Shard, Stage};
use crate::seams::Here;
use crate::seams::failpoint::Failpoint;
use crate::store::space::SpaceGuard;
use crate::types::{GroupId, NodeId};

/// What placement looks at.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    pub(super) me: NodeId,
    pub(super) members: Members,
    pub(super) groups: Groups,
    pub(super) peers: Peers,
    pub(super) rumours: Rumours,
    pub(super) space: SpaceGuard,
}

/// The supervised part that places this node's groups.
pub(super) fn placement_part(placement: Placement) -> ChildSpec {
    service_part("placement", until_stopped(move || placement.clone().run()))
}

impl Placement {
    async fn run(self) {
        let mut roster = self.members.changes();
        let (mut paces, mut waits) = (BTreeMap::new(), BTreeMap::new());
        // What each group is at; one that takes long keeps no other waiting.
        let (mut steps, mut at_work) = (FuturesUnordered::new(), BTreeSet::new());
        loop {
            let known = roster.borrow_and_update().clone();
            let led: BTreeMap<GroupId, Replica> =
                self.groups.running().into_iter().filter(|(_, replica)| leads(replica)).collect();
            paces.retain(|group, _| led.contains_key(group));
            waits.retain(|group, _| led.contains_key(group));
            let connected = self.connected(&known);
            let full = self.full(&known);
            self.space.note_others(
                connected.keys().filter(|node| !full.contains(node)).copied().collect(),
            );
            let (mut reached, mut let_go) = (BTreeMap::new(), BTreeMap::new());
            for (group, replica) in led {
                let is_left = !full.contains(&self.me) && self.may_sleep(&known, group, &replica);
                if at_work.contains(&group) || is_left {
                    continue;
                }
                let Some(wanted) = known.wanted(group) else { continue };
                let pace = paces.entry(group).or_insert_with(|| Pace::new(&replica));
                let facts = self.facts(&replica, &connected, &full, pace);
                if let Some((shard, as_of)) = known.shard(group)
                    && is_reached(&wanted, &facts)
                {
                    let mut has_waited = || {
                        waits.entry(group).or_insert_with(Instant::now).elapsed() > FOUNDERS_WAIT
                    };
                    if has_founders(&known, shard, &facts) || has_waited() {
                        reached.insert(group, as_of);
                    }
                }
                if let Some((repair, as_of)) = known.repair(group)
                    && has_let_go(&facts, repair.node)
                {
                    let_go.insert(group, as_of);
                }
                if let Some(step) = next_step(&wanted, &facts) {
                    at_work.insert(group);
                    steps.push(take(group, replica, step));
                }
            }
            self.groups.show_reached(reached);
            self.groups.show_let_go(let_go);
            // What was done may make the next step possible; otherwise things change slowly, but for
            // the roster itself.
            tokio::select! {
                biased;
                changed = roster.changed() => if changed.is_err() { return },
                Some(group) = steps.next() => {
                    at_work.remove(&group);
                    while let Some(Some(group)) = steps.next().now_or_never() {
                        at_work.remove(&group);
                    }
                }
                () = sleep(PLACEMENT_REST) => {}
            }
        }
    }

    /// One that sleeps where it is to be has nothing to be done for it.
    fn may_sleep(&self, roster: &Roster, group: GroupId, replica: &Replica) -> bool {
        let is_there = |shard: &Shard| {
            shard.stage == Stage::Settled && shard.leader.is_none_or(|leader| leader == self.me)
        };
        let is_whole = roster.repair(group).is_none();
        is_whole
            && replica.is_asleep()
            && roster.shard(group).is_some_and(|(shard, _)| is_there(shard))
    }

    /// Since when which members are connected.
    fn connected(&self, roster: &Roster) -> BTreeMap<NodeId, Instant> {
        let facts = self.peers.facts();
        let since: BTreeMap<_, _> =
            facts.into_iter().filter_map(|peer| Some((peer.peer, peer.connected_since?))).collect();
        let present = roster.present();
        present.filter_map(|member| Some((member.node, *since.get(&member.endpoint)?))).collect()
    }

    /// Whose disks are full: this node's, and those of which their nodes said so last.
    fn full(&self, roster: &Roster) -> BTreeSet<NodeId> {
        let mut full = self.rumours.full(roster);
        if self.space.is_crowded() {
            full.insert(self.me);
        } else {
            full.remove(&self.me);
        }
        full
    }

    fn facts(
        &self,
        replica: &Replica,
        connected: &BTreeMap<NodeId, Instant>,
        full: &BTreeSet<NodeId>,
        pace: &mut Pace,
    ) -> GroupFacts {
        let members = replica.members();
        let is_alive = |node: &NodeId| *node == self.me || connected.contains_key(node);
        let is_steady =
            |node: &NodeId| connected.get(node).is_some_and(|since| since.elapsed() >= LEAD_STEADY);
        let all = || members.voters.union(&members.learners).copied();
        GroupFacts {
            leader: self.me,
            alive: all().filter(is_alive).collect(),
            steady: all().filter(is_steady).collect(),
            caught_up: pace.keep_up(replica),
            full: full.clone(),
            is_joint: members.is_joint,
            is_committed: members.is_committed,
            voters: members.voters,
            learners: members.learners,
        }
    }
}

/// Whether all that found a shard's group, and are members still, have something of it.
fn has_founders(roster: &Roster, shard: &Shard, facts: &GroupFacts) -> bool {
    let is_present = |node: &&NodeId| roster.member(**node).is_some_and(Member::is_present);
    let mut founders = facts.voters.union(&facts.learners).filter(is_present);
    shard.stage != Stage::Founding || founders.all(|node| facts.caught_up.contains(node))
}

fn leads(replica: &Replica) -> bool {
    replica.leads()
}

/// Takes a step of one group, and lets what it did come to light before the next is looked for.
async fn take(group: GroupId, replica: Replica, step: Step) -> GroupId {
    tracing::info!(group = group.0, ?step, "the group's membership changes");
    Failpoint::BeforeMembers.pass();
    let taken = Here::at_group(group).scope(carry_out(&replica, step));
    let taken = timeout(PLACEMENT_STEP_MAX, taken).await;
    Failpoint::AfterMembers.pass();
    match taken {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(group = group.0, %error, "a change of membership failed"),
        Err(_) => tracing::warn!(group = group.0, "a change of membership takes long"),
    }
    sleep(PLACEMENT_LOOK).await;
    group
}

async fn carry_out(replica: &Replica, step: Step) -> Result<(), ChangeFailed> {
    let (before, after) = match &step {
        Step::AddLearner(_) => (Failpoint::BeforeLearner, Failpoint::AfterLearner),
        Step::SetVoters(_) => (Failpoint::BeforeVoters, Failpoint::AfterVoters),
        Step::RemoveLearners(_) => (Failpoint::BeforeDropped, Failpoint::AfterDropped),
        Step::TransferTo(_) => (Failpoint::BeforeHandover, Failpoint::AfterHandover),
    };
    before.pass();
    let carried_out = match step {
        Step::AddLearner(node) => replica.add_learner(node).await,
        // Those that are to hold nothing are the next step's.
        Step::SetVoters(voters) => replica.set_voters(voters, Dropped::Learn).await,
        Step::RemoveLearners(nodes) => replica.remove_learners(nodes).await,
        Step::TransferTo(node) => replica.transfer_to(node).await,
    };
    after.pass();
    carried_out
}
