//! Repairs: this node takes a replica that is damaged again from the others.
//!
//! What a repair goes through stands in [`crate::roster::repairs`]. Here it is asked for, whoever
//! leads a group writes that it has let go, and the node whose replica it is writes that it has
//! erased what it had; stopping and erasing are the groups' ([`crate::actors::Groups`]).
//!
//! The meta group may be the damaged one, and then this node sees nothing of the roster: it asks the
//! others for it, whom it keeps in its own file for that.

use std::collections::BTreeMap;

use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, ClusterError};
use super::identity::{Held, KnownMember};
use super::places::Home;
use crate::actors::{RunService, until_stopped};
use crate::limits::{
    AIMS_MAX, CLIENT_DEADLINE, NEWS_PAUSE, REPAIR_LOOK, REPAIR_RETRY, REPLICA_OPEN_WAIT,
};
use crate::machine::ops::Query;
use crate::roster::Roster;
use crate::roster::change::Change;
use crate::roster::records::{RepairStage, State};
use crate::roster::refused::Refused;
use crate::roster::repairs::{ask, finish, let_go};
use crate::types::{Consistency, GroupId, NodeId, Revision};

/// The part that carries repairs on.
pub(super) fn repairing(cluster: Cluster, home: Home) -> RunService {
    until_stopped(move || {
        let (cluster, home) = (cluster.clone(), home.clone());
        async move {
            tokio::join!(
                note_let_go(&cluster),
                note_erased(&cluster, &home),
                hear_of_roster(&cluster),
                keep_members(&cluster, &home)
            );
        }
    })
}

impl Cluster {
    /// Begins to take this node's replica of a group again from the others: what it has is erased
    /// once the others count on it no longer. Asked again, it says how far that is.
    pub async fn repair(&self, group: GroupId) -> Result<RepairStage, ClusterError> {
        let me = self.inner.me;
        if let Some(stage) = stage_of(&self.roster(), group, me) {
            return Ok(stage);
        }
        let own = self.inner.key.endpoint_id();
        let holders = self.inner.members.holders(group).unwrap_or_default();
        let roster = self.roster();
        let is_known = roster.cluster().is_some() && roster.part(group, me).is_none();
        if !holders.contains(&own) || is_known {
            return Err(Refused::NoReplica { group, node: me }.into());
        }
        if holders.iter().all(|holder| *holder == own) {
            return Err(Refused::NothingToTakeFrom { group, node: me }.into());
        }
        if !self.goes_on_without_me(group).await {
            return Err(Refused::OthersAway { group }.into());
        }
        self.decide(|roster, _| Ok(((), ask(roster, group, me)?))).await?;
        // It may even be over by then.
        Ok(stage_of(&*self.fresh().await?, group, me).unwrap_or(RepairStage::Asked))
    }

    /// Whether a group has a majority that does not need this node's replica.
    async fn goes_on_without_me(&self, group: GroupId) -> bool {
        let deadline = Instant::now() + CLIENT_DEADLINE;
        // One that can run is not to count, and is opened if it is put away. The links of a node that
        // has just started come in a moment.
        let open = || self.inner.groups.replica(group, Instant::now() + REPLICA_OPEN_WAIT);
        while let Ok(replica) = open().await {
            let (voters, silent) = (replica.members().voters, self.silent());
            let is_there = |node: &&NodeId| **node != self.inner.me && !silent.contains_key(node);
            if 2 * voters.iter().filter(is_there).count() > voters.len() {
                break;
            }
            if Instant::now() >= deadline {
                return false;
            }
            sleep(REPAIR_LOOK).await;
        }
        let client = self.inner.meta.of_group(group);
        let asked = client.query(Query::Status, Consistency::Linearizable, deadline).await;
        if let Err(error) = &asked {
            tracing::info!(group = group.0, %error, "the others can't go on without this node's replica");
        }
        asked.is_ok()
    }
}

fn stage_of(roster: &Roster, group: GroupId, node: NodeId) -> Option<RepairStage> {
    roster.repair(group).filter(|(repair, _)| repair.node == node).map(|(repair, _)| repair.stage)
}

/// Writes down which groups that are led here have let go of a replica.
async fn note_let_go(cluster: &Cluster) {
    let mut groups = cluster.inner.groups.let_go();
    loop {
        let now = groups.borrow_and_update().clone();
        let is_noted =
            note(cluster, |roster| still(roster, &now, RepairStage::Asked), let_go).await;
        tokio::select! {
            biased;
            changed = groups.changed() => if changed.is_err() { return },
            () = sleep(REPAIR_RETRY), if !is_noted => {}
        }
    }
}

/// Writes down which replicas of this node were erased and are there anew.
async fn note_erased(cluster: &Cluster, home: &Home) {
    let mut changes = cluster.inner.members.changes();
    loop {
        changes.borrow_and_update();
        let held = home.held().await;
        let me = cluster.inner.me;
        let is_noted = note(cluster, |roster| erased(roster, me, &held), finish).await;
        let is_over = cluster.roster().repairs_of(me).next().is_none();
        tokio::select! {
            biased;
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(REPAIR_LOOK), if is_noted && !is_over => {}
            () = sleep(REPAIR_RETRY), if !is_noted => {}
        }
    }
}

type Stages = BTreeMap<GroupId, Revision>;

/// Takes repairs to the next stage; true if none is left that is to be.
async fn note(
    cluster: &Cluster,
    which: impl Fn(&Roster) -> Stages,
    next: fn(&Roster, &mut Change, GroupId, Revision) -> Result<(), Refused>,
) -> bool {
    if which(&cluster.roster()).is_empty() {
        return true;
    }
    let noted = cluster.decide(|roster, _| {
        let mut change = Change::default();
        for (group, as_of) in which(roster).into_iter().take(AIMS_MAX) {
            next(roster, &mut change, group, as_of)?;
        }
        Ok(((), change))
    });
    if let Err(error) = noted.await {
        tracing::warn!(%error, "how far a repair is can't be noted yet");
    }
    which(&cluster.roster()).is_empty()
}

/// Of these repairs the ones whose records are as they were, and at this stage.
fn still(roster: &Roster, groups: &Stages, stage: RepairStage) -> Stages {
    let is_still = |(group, as_of): &(&GroupId, &Revision)| {
        roster.repair(**group).is_some_and(|(repair, at)| at == **as_of && repair.stage == stage)
    };
    groups.iter().filter(is_still).map(|(group, as_of)| (*group, *as_of)).collect()
}

/// The repairs of a node whose replicas it holds anew, or holds no more and is not to hold.
fn erased(roster: &Roster, me: NodeId, held: &[Held]) -> Stages {
    let let_go = roster.repairs_of(me).filter(|(_, stage, _)| *stage == RepairStage::LetGo);
    let is_erased = |(group, _, at): &(GroupId, RepairStage, Revision)| match held
        .iter()
        .find(|held| held.group == *group)
    {
        Some(held) => held.as_of >= *at,
        None => roster.part(*group, me).is_none(),
    };
    let_go.filter(is_erased).map(|(group, _, at)| (group, at)).collect()
}

/// Asks the others for the roster for as long as this node's own replica tells nothing of it.
async fn hear_of_roster(cluster: &Cluster) {
    loop {
        sleep(NEWS_PAUSE).await;
        if sees_nothing(cluster)
            && let Err(error) = cluster.hear().await
        {
            tracing::debug!(%error, "the roster can't be asked for now");
        }
    }
}

fn sees_nothing(cluster: &Cluster) -> bool {
    let (me, groups) = (cluster.inner.me, &cluster.inner.groups);
    let Some(replica) = groups.get(GroupId::META) else {
        let is_repaired = cluster.roster().repair(GroupId::META).is_some();
        return is_repaired || groups.damage(GroupId::META).is_some();
    };
    // One that leaves sees it last; one that has not been told of a roster waits to be taken in.
    let is_active = |member: &crate::roster::records::Member| member.state == State::Active;
    let members = replica.members();
    cluster.roster().member(me).is_some_and(is_active)
        && !members.voters.contains(&me)
        && !members.learners.contains(&me)
}

/// Keeps who the others are and where, for a start at which the meta group can't be read.
async fn keep_members(cluster: &Cluster, home: &Home) {
    let mut changes = cluster.inner.members.changes();
    loop {
        let roster = changes.borrow_and_update().clone();
        if roster.cluster().is_some() {
            let others = roster.present().filter(|member| member.node != cluster.inner.me);
            let known: Vec<KnownMember> = others
                .map(|member| KnownMember {
                    node: member.node,
                    endpoint: member.endpoint,
                    addresses: member.addresses.clone(),
                })
                .collect();
            let kept = home.change(|identity| {
                if let Some(member) = &mut identity.member {
                    member.told_of = known;
                }
            });
            if let Err(error) = kept.await {
                tracing::warn!(%error, "who the members are can't be kept");
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}
