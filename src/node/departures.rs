//! Departures: members that leave have left once no group holds them, those that were removed are
//! told so, and a node that is told so stops for good. So does one whose build is too old for what the
//! cluster uses.

use tokio::sync::watch;
use tokio::time::sleep;

use super::cluster::{Cluster, ClusterError, Parts};
use super::places::Home;
use crate::actors::{RunService, until_stopped};
use crate::limits::{DEPARTURES_LOOK, DEPARTURES_REST};
use crate::net::PeerFacts;
use crate::roster::Standing;
use crate::roster::builds::split;
use crate::roster::leave::finish_leaving;
use crate::roster::records::State;
use crate::roster::refused::Refused;
use crate::seams::failpoint::Failpoint;
use crate::seams::network::CloseCode;
use crate::seams::version;
use crate::types::{GroupId, NodeId};

/// Why a node can't go on in its cluster.
#[derive(Clone, Debug)]
pub(super) enum Gone {
    /// It is a member no longer.
    Removed(String),
    /// Its build does not fit.
    Unfit(String),
}

impl Gone {
    pub(super) fn reason(&self) -> &str {
        match self {
            Gone::Removed(reason) | Gone::Unfit(reason) => reason,
        }
    }
}

/// The part that sees members off, and this node when its time has come.
pub(super) fn departures(
    cluster: Cluster,
    home: Home,
    gone: watch::Sender<Option<Gone>>,
) -> RunService {
    until_stopped(move || {
        let (cluster, home, gone) = (cluster.clone(), home.clone(), gone.clone());
        async move {
            tokio::join!(
                see_off(&cluster),
                tell_removed(&cluster),
                go(&cluster, &home, &gone),
                keep_level(&cluster, &home, &gone)
            );
        }
    })
}

/// Closes the links to members that were removed, so that they learn it.
async fn tell_removed(cluster: &Cluster) {
    let Parts { members, peers, .. } = &*cluster.inner;
    let mut changes = members.changes();
    loop {
        let roster = changes.borrow_and_update().clone();
        for facts in peers.facts().iter().filter(|facts| facts.connected_since.is_some()) {
            if let Standing::Removed(node) = roster.standing(facts.peer) {
                let reason = format!("node {node} was removed from the cluster");
                peers.close(facts.peer, CloseCode::Removed(node), &reason);
            }
        }
        if changes.changed().await.is_err() {
            return;
        }
    }
}

/// Waits until a member says that this node was removed, and keeps that. What others say is
/// nothing to go by; nor is what a member that lags says of the number that the key once had.
async fn go(cluster: &Cluster, home: &Home, gone: &watch::Sender<Option<Gone>>) {
    let Parts { me, peers, members, .. } = &*cluster.inner;
    let mut changes = peers.changes();
    let is_removed = |facts: &PeerFacts| {
        facts.lost.as_ref().is_some_and(|lost| lost.code == Some(CloseCode::Removed(*me)))
            && matches!(members.standing(facts.peer), Standing::Member(_))
    };
    while !peers.facts().iter().any(is_removed) {
        if changes.changed().await.is_err() {
            return;
        }
    }
    Failpoint::BeforeGone.pass();
    let kept = home.change(|identity| {
        if let Some(member) = &mut identity.member {
            member.is_removed = true;
        }
    });
    let kept = kept.await;
    Failpoint::AfterGone.pass();
    if let Err(error) = kept {
        tracing::warn!(%error, "that this node was removed can't be kept; it will be told again");
    }
    gone.send_replace(Some(Gone::Removed(format!(
        "node {me} is no longer a member of the cluster; to come back, join with a new ticket and \
         a new data directory"
    ))));
}

/// Keeps which level the cluster uses, so that no build below it opens what is here; and stops if this
/// is one.
async fn keep_level(cluster: &Cluster, home: &Home, gone: &watch::Sender<Option<Gone>>) {
    let (version, level) = split(version());
    let mut changes = cluster.inner.members.changes();
    loop {
        let used = changes.borrow_and_update().level_used();
        let kept = home.change(|identity| identity.level = identity.level.max(used)).await;
        if let Err(error) = &kept {
            tracing::warn!(%error, "which level the cluster uses can't be kept yet");
        }
        if used > level {
            let version = version.to_owned();
            let refused = Refused::BuildTooOld { version, level: used };
            gone.send_replace(Some(Gone::Unfit(refused.to_string())));
            return;
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(DEPARTURES_REST), if kept.is_err() => {}
        }
    }
}

/// Ends members' leaving, on whoever leads the meta group.
async fn see_off(cluster: &Cluster) {
    let mut changes = cluster.inner.members.changes();
    loop {
        let roster = changes.borrow_and_update().clone();
        let leaving: Vec<NodeId> = roster
            .present()
            .filter(|member| member.state == State::Leaving)
            .map(|member| member.node)
            .collect();
        for node in &leaving {
            if cluster.leads_meta()
                && !is_held(cluster, *node)
                && let Err(error) = finish(cluster, *node).await
            {
                tracing::warn!(member = node.0, %error, "the member has left and can't be noted as gone yet");
            }
        }
        let rest = if leaving.is_empty() { DEPARTURES_REST } else { DEPARTURES_LOOK };
        tokio::select! {
            biased;
            changed = changes.changed() => if changed.is_err() { return },
            () = sleep(rest) => {}
        }
    }
}

/// Whether any group still counts on the node: the meta group, which whoever leads it sees, and
/// those of shards, whose records say so.
fn is_held(cluster: &Cluster, node: NodeId) -> bool {
    let meta = cluster.inner.groups.get(GroupId::META).map(|replica| replica.members());
    let in_meta =
        meta.is_none_or(|meta| meta.voters.contains(&node) || meta.learners.contains(&node));
    let roster = cluster.roster();
    in_meta || roster.shards().any(|(_, shard, _)| shard.is_held_by(node))
}

async fn finish(cluster: &Cluster, node: NodeId) -> Result<(), ClusterError> {
    cluster.decide(|roster, _| Ok(((), finish_leaving(roster, node)?))).await
}
