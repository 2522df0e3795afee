//! Keeps the membership of the groups that this node leads equal to what the roster wants.
//!
//! Each group's leader carries out the changes of its own group, one at a time, where nobody needs
//! to be asked; what the next one is, `roster::placement` decides. A step that fails is decided
//! anew from what is then the case.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::groups::Groups;
use super::roster::Members;
use super::service::service_part;
use super::supervisor::ChildSpec;
use crate::limits::{LEAD_STEADY, PLACEMENT_LOOK, PLACEMENT_REST, PLACEMENT_STEP_MAX};
use crate::net::Peers;
use crate::raft::{ChangeFailed, Dropped, Pace, Replica};
use crate::roster::Roster;
use crate::roster::placement::{GroupFacts, Step, is_reached, next_step};
use crate::roster::records::{Shard, Stage};
use crate::seams::failpoint;
use crate::types::{GroupId, NodeId};

/// What placement looks at.
#[derive(Clone, Debug)]
pub(super) struct Placement {
    pub(super) me: NodeId,
    pub(super) members: Members,
    pub(super) groups: Groups,
    pub(super) peers: Peers,
}

/// The supervised part that places this node's groups.
pub(super) fn placement_part(placement: Placement) -> ChildSpec {
    let run = move |stop: CancellationToken| {
        let placing = placement.clone().run();
        Box::pin(async move {
            stop.run_until_cancelled_owned(placing).await;
            Ok(())
        }) as _
    };
    service_part("placement", Arc::new(run))
}

impl Placement {
    async fn run(self) {
        let mut roster = self.members.changes();
        let mut paces = BTreeMap::new();
        loop {
            let known = roster.borrow_and_update().clone();
            let led: BTreeMap<GroupId, Replica> =
                self.groups.running().into_iter().filter(|(_, replica)| leads(replica)).collect();
            paces.retain(|group, _| led.contains_key(group));
            let mut reached = BTreeMap::new();
            let steps: Vec<_> = led
                .into_iter()
                .filter_map(|(group, replica)| {
                    if self.may_sleep(&known, group, &replica) {
                        return None;
                    }
                    let pace = paces.entry(group).or_insert_with(|| Pace::new(&replica));
                    let (wanted, facts) = (known.wanted(group)?, self.facts(&replica, pace));
                    if let Some((_, as_of)) = known.shard(group)
                        && is_reached(&wanted, &facts)
                    {
                        reached.insert(group, as_of);
                    }
                    Some(take(group, replica, next_step(&wanted, &facts)?))
                })
                .collect();
            self.groups.show_reached(reached);
            let moved = !join_all(steps).await.is_empty();
            // What was decided may make the next step possible; otherwise things change slowly,
            // but for the roster itself.
            tokio::select! {
                biased;
                changed = roster.changed() => if changed.is_err() { return },
                () = sleep(if moved { PLACEMENT_LOOK } else { PLACEMENT_REST }) => {}
            }
        }
    }

    /// One that sleeps where it is to be has nothing to be done for it.
    fn may_sleep(&self, roster: &Roster, group: GroupId, replica: &Replica) -> bool {
        let is_there = |shard: &Shard| {
            shard.stage == Stage::Settled && shard.leader.is_none_or(|leader| leader == self.me)
        };
        replica.is_asleep() && roster.shard(group).is_some_and(|(shard, _)| is_there(shard))
    }

    fn facts(&self, replica: &Replica, pace: &mut Pace) -> GroupFacts {
        let members = replica.members();
        let roster = self.members.roster();
        let connected: BTreeMap<_, _> = self
            .peers
            .facts()
            .into_iter()
            .filter_map(|peer| Some((peer.peer, peer.connected_since?)))
            .collect();
        let since = |node: &NodeId| connected.get(&roster.member(*node)?.endpoint).copied();
        let is_alive = |node: &NodeId| *node == self.me || since(node).is_some();
        let is_steady = |node: &NodeId| since(node).is_some_and(|at| at.elapsed() >= LEAD_STEADY);
        let all = || members.voters.union(&members.learners).copied();
        GroupFacts {
            leader: self.me,
            alive: all().filter(is_alive).collect(),
            steady: all().filter(is_steady).collect(),
            caught_up: pace.keep_up(replica),
            is_joint: members.is_joint,
            voters: members.voters,
            learners: members.learners,
        }
    }
}

fn leads(replica: &Replica) -> bool {
    replica.leads()
}

/// Takes a step of one group; whatever it comes to, the group is not yet as wanted.
async fn take(group: GroupId, replica: Replica, step: Step) {
    tracing::info!(%group, ?step, "the group's membership changes");
    failpoint::step("before a change of a group's members");
    let taken = timeout(PLACEMENT_STEP_MAX, carry_out(&replica, step)).await;
    failpoint::step("after a change of a group's members");
    match taken {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::warn!(%group, %error, "a change of membership failed"),
        Err(_) => tracing::warn!(%group, "a change of membership takes long"),
    }
}

async fn carry_out(replica: &Replica, step: Step) -> Result<(), ChangeFailed> {
    match step {
        Step::AddLearner(node) => replica.add_learner(node).await,
        // Those that are to hold nothing are the next step's.
        Step::SetVoters { voters, .. } => replica.set_voters(voters, Dropped::Learn).await,
        Step::RemoveLearners(nodes) => replica.remove_learners(nodes).await,
        Step::TransferTo(node) => replica.transfer_to(node).await,
    }
}
