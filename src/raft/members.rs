//! A group's members, and how its leader changes them.
//!
//! Which members a group should have is decided elsewhere; here one change is carried out, by the
//! replica that leads. Every step is bounded in time, and its outcome is one of: done, not done
//! and why, unknown.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::ChangeMembers;
use openraft::EmptyNode;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{ChangeMembershipError, ClientWriteError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::raft::ClientWriteResponse;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::{Instant, sleep, timeout};

use super::replica::Replica;
use super::types::TypeConfig;
use crate::limits::{LAG_LOOK, LAG_MAX, MEMBERS_CHANGE_MAX, TRANSFER_MAX, TRANSFER_STOP_MAX};
use crate::types::{GroupId, NodeId};

/// Who belongs to a group, as this replica knows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GroupMembers {
    /// Those that vote; while a change is under way, those of before and after.
    pub voters: BTreeSet<NodeId>,
    /// Those that follow without a vote.
    pub learners: BTreeSet<NodeId>,
    /// A change of voters is under way: `voters` are those of both sides.
    pub is_joint: bool,
    /// The entry that says so; `None` before the first.
    pub log_index: Option<u64>,
    /// Whether that entry is committed. The next change waits for it.
    pub is_committed: bool,
}

/// What becomes of voters that a change leaves out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dropped {
    /// They go on as learners.
    Learn,
    /// They are no longer members.
    Leave,
}

/// A change of members or of the leader was not carried out.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChangeFailed {
    /// Nothing was done: ask the replica that leads.
    #[error("this replica of group {group} does not lead it")]
    NotLeader {
        /// The group.
        group: GroupId,
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// Nothing was done: an earlier change is not over yet. Try again.
    #[error("group {group} is still at an earlier change of its members")]
    InProgress {
        /// The group.
        group: GroupId,
    },
    /// Nothing was done: the node must catch up first.
    #[error("node {node} lags {entries} entries behind in group {group}")]
    Lags {
        /// The group.
        group: GroupId,
        /// Who lags.
        node: NodeId,
        /// By how much.
        entries: u64,
    },
    /// Nothing was done: the node does not answer.
    #[error("node {node} does not answer in group {group}")]
    Silent {
        /// The group.
        group: GroupId,
        /// Who is silent.
        node: NodeId,
    },
    /// Nothing was done, and nothing will be: the change makes no sense.
    #[error("group {group} can't be changed like that: {reason}")]
    Refused {
        /// The group.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// It may have been done or be done yet: look at the members before the next.
    #[error("whether group {group} was changed is unknown: {reason}")]
    Unknown {
        /// The group.
        group: GroupId,
        /// Why.
        reason: String,
    },
}

impl Replica {
    /// Who belongs to the group. [`Replica::leadership`] tells when it may have changed.
    pub fn members(&self) -> GroupMembers {
        let metrics = self.raft().server_metrics();
        let metrics = metrics.borrow_watched();
        let stored = &metrics.membership_config;
        let membership = stored.membership();
        GroupMembers {
            voters: membership.voter_ids().map(NodeId).collect(),
            learners: membership.learner_ids().map(NodeId).collect(),
            is_joint: membership.get_joint_config().len() > 1,
            log_index: stored.log_id().as_ref().map(|id| id.index),
            is_committed: stored.log_id() == metrics.committed_membership_config.log_id(),
        }
    }

    /// Up to which entry each member's log is known to be this one's, which is among them; empty
    /// unless this replica leads.
    pub fn progress(&self) -> BTreeMap<NodeId, u64> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let matched = metrics.replication.iter().flatten();
        matched.map(|(node, id)| (NodeId(*node), id.as_ref().map_or(0, |id| id.index))).collect()
    }

    /// How long ago each other member last answered, as of the moment it was asked; members that
    /// never did are left out. Empty unless this replica leads.
    pub fn silence(&self) -> BTreeMap<NodeId, Duration> {
        let metrics = self.raft().metrics();
        let metrics = metrics.borrow_watched();
        let heard = metrics.heartbeat.iter().flatten();
        heard.filter_map(|(node, at)| Some((NodeId(*node), at.as_ref()?.elapsed()))).collect()
    }

    /// The last entry of this replica's log; `None` before the first.
    pub fn last_log_index(&self) -> Option<u64> {
        self.raft().metrics().borrow_watched().last_log_index
    }

    /// Makes a node a learner; done when that is committed, not when it has caught up.
    pub async fn add_learner(&self, node: NodeId) -> Result<(), ChangeFailed> {
        let nodes = BTreeMap::from([(node.0, EmptyNode::default())]);
        self.change(ChangeMembers::AddNodes(nodes), true).await
    }

    /// Makes exactly these the voters, by way of a joint membership; a joint one that an earlier
    /// leader left is ended by this, too. All must be members already.
    pub async fn set_voters(
        &self,
        voters: BTreeSet<NodeId>,
        dropped: Dropped,
    ) -> Result<(), ChangeFailed> {
        self.await_majority(&voters).await?;
        let voters = voters.into_iter().map(|node| node.0).collect();
        self.change(ChangeMembers::ReplaceAllVoters(voters), dropped == Dropped::Learn).await
    }

    /// Takes learners out of the group.
    pub async fn remove_learners(&self, learners: BTreeSet<NodeId>) -> Result<(), ChangeFailed> {
        let learners = learners.into_iter().map(|node| node.0).collect();
        self.change(ChangeMembers::RemoveNodes(learners), true).await
    }

    /// Waits until a majority of these answers, or a change to them could not be committed, nor undone.
    /// Where they are fewer than before, each death counts more, and an answer of before is none.
    async fn await_majority(&self, voters: &BTreeSet<NodeId>) -> Result<(), ChangeFailed> {
        self.touch();
        let members = self.members();
        let is_member =
            |node: &NodeId| members.voters.contains(node) || members.learners.contains(node);
        let became_fewer = voters.len() < members.voters.len();
        let began = Instant::now();
        let deadline = began + TRANSFER_MAX.max(2 * self.patience());
        while self.leads() && voters.iter().all(is_member) {
            let silences = self.silence();
            let recent = match became_fewer {
                true => began.elapsed().min(self.patience()),
                false => self.patience(),
            };
            let is_there = |node: &&NodeId| {
                **node == self.node() || silences.get(*node).is_some_and(|it| *it < recent)
            };
            if 2 * voters.iter().filter(is_there).count() > voters.len() {
                return Ok(());
            }
            let silent = voters.iter().find(|node| !is_there(node));
            if let Some(node) = silent.filter(|_| Instant::now() >= deadline) {
                return Err(ChangeFailed::Silent { group: self.group(), node: *node });
            }
            sleep(LAG_LOOK).await;
        }
        // Raft says what is wrong with it.
        Ok(())
    }

    async fn change(
        &self,
        change: ChangeMembers<u64, EmptyNode>,
        retain: bool,
    ) -> Result<(), ChangeFailed> {
        self.touch();
        let (group, replica) = (self.group(), self.clone());
        let unknown = |reason: String| ChangeFailed::Unknown { group, reason };
        let changing = self.in_own_task(async move {
            let change = async {
                let changed = replica.raft().change_membership(change, retain).await;
                if let Ok(response) = &changed {
                    replica.await_members_of(response.log_id.index).await;
                }
                changed
            };
            timeout(MEMBERS_CHANGE_MAX, change).await
        });
        match changing.await {
            Some(Ok(changed)) => sort_out(group, changed),
            Some(Err(_elapsed)) => Err(unknown(format!("no outcome in {MEMBERS_CHANGE_MAX:?}"))),
            None => Err(unknown("the replica stops".into())),
        }
    }

    /// Waits until [`Replica::members`] tells of a committed change: Raft answers who asked for it
    /// before it shows it.
    async fn await_members_of(&self, log_index: u64) {
        let mut changes = self.raft().server_metrics();
        let is_shown = |metrics: &RaftServerMetrics<TypeConfig>| {
            let shown = metrics.committed_membership_config.log_id().as_ref();
            shown.is_some_and(|id| id.index >= log_index)
        };
        // An error means that Raft has ended.
        while !is_shown(&changes.borrow_watched()) && changes.changed().await.is_ok() {}
    }

    /// Hands the lead to another voter; done when that one leads. The group takes no writes from
    /// the moment it is asked until then, usually for some milliseconds. If it comes to nothing
    /// the group elects whoever can lead.
    pub async fn transfer_to(&self, node: NodeId) -> Result<(), ChangeFailed> {
        self.touch();
        let replica = self.clone();
        let group = self.group();
        // To the end, whoever waits: a leader that was told to hand over takes no more writes.
        let handed = self.in_own_task(async move { replica.hand_over(node).await });
        let stops = || ChangeFailed::Unknown { group, reason: "the replica stops".into() };
        handed.await.unwrap_or_else(|| Err(stops()))
    }

    async fn hand_over(&self, node: NodeId) -> Result<(), ChangeFailed> {
        let group = self.group();
        let refused = |reason: &str| ChangeFailed::Refused { group, reason: reason.into() };
        if !self.leads() {
            return Err(ChangeFailed::NotLeader { group, leader: self.status().leader });
        }
        if node == self.node() {
            return Ok(());
        }
        if !self.members().voters.contains(&node) {
            return Err(refused("who is to lead has no vote"));
        }
        self.await_readiness(node).await?;
        let before = self.status().term;
        let unknown = |reason: String| ChangeFailed::Unknown { group, reason };
        let asked = self.raft().trigger().transfer_leader(node.0).await;
        asked.map_err(|fatal| unknown(fatal.to_string()))?;
        if self.await_leader_after(before).await != Some(node) {
            self.let_others_lead(before).await;
        }
        match self.status() {
            status if status.leader == Some(node) => Ok(()),
            status => Err(unknown(match status.leader {
                Some(leader) => format!("node {leader} leads instead"),
                None => "the group has no leader at the moment".into(),
            })),
        }
    }

    /// Waits until a voter answers and keeps up with the log.
    async fn await_readiness(&self, node: NodeId) -> Result<(), ChangeFailed> {
        let group = self.group();
        let deadline = Instant::now() + TRANSFER_MAX;
        let mut pace = Pace::new(self);
        loop {
            let answers = self.hears(node);
            if answers && pace.keep_up(self).contains(&node) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let has = self.progress().get(&node).copied().unwrap_or(0);
                let entries = self.last_log_index().unwrap_or(0).saturating_sub(has);
                return Err(match answers {
                    true => ChangeFailed::Lags { group, node, entries },
                    false => ChangeFailed::Silent { group, node },
                });
            }
            sleep(LAG_LOOK).await;
        }
    }

    /// Whether a member has answered lately; always false unless this replica leads.
    fn hears(&self, node: NodeId) -> bool {
        self.silence().get(&node).is_some_and(|silence| *silence < self.patience())
    }

    /// Who leads in a later term, once somebody does; `None` if nobody does in time.
    async fn await_leader_after(&self, term: u64) -> Option<NodeId> {
        let mut changes = self.raft().server_metrics();
        let leads = async {
            loop {
                let status = self.status();
                if status.term > term && status.leader.is_some() {
                    return status.leader;
                }
                // Raft has ended.
                changes.changed().await.ok()?;
            }
        };
        timeout(TRANSFER_MAX, leads).await.ok().flatten()
    }

    /// A leader that was told to hand over takes no writes ever again in its term. If the chosen
    /// one does not take over, this one falls silent until another does.
    async fn let_others_lead(&self, term: u64) {
        let status = self.status();
        if !self.leads() || status.term > term {
            return;
        }
        tracing::warn!(group = self.group().0, "a transfer came to nothing: electing anew");
        self.raft().runtime_config().heartbeat(false);
        self.await_leader_after(term).await;
        self.raft().runtime_config().heartbeat(true);
    }

    /// Hands the lead to the voter that has most of the log, of those that answer, before this
    /// replica stops.
    pub(super) async fn hand_over_to_stop(&self) {
        if !self.leads() {
            return;
        }
        let (voters, me) = (self.members().voters, self.node());
        let progress = self.progress();
        let others = voters.iter().filter(|voter| **voter != me && self.hears(**voter));
        let best = others.max_by_key(|voter| progress.get(voter).copied());
        if let Some(best) = best
            && let Ok(Err(error)) = timeout(TRANSFER_STOP_MAX, self.transfer_to(*best)).await
        {
            tracing::info!(group = self.group().0, %error, "the lead was not handed over");
        }
    }
}

/// Tells which members keep up with a log that may grow all the while: they have all of it that
/// was there at some moment of the last [`LAG_MAX`]. Entries differ in size by far too much for a
/// count of them to say so.
#[derive(Debug)]
pub struct Pace {
    since: Instant,
    /// The last entry then.
    last: u64,
}

impl Pace {
    /// Begins to look. Until the log grows, those keep up that have all of it.
    pub fn new(replica: &Replica) -> Pace {
        Pace { since: Instant::now(), last: replica.last_log_index().unwrap_or(0) }
    }

    /// The members that keep up; none unless the replica leads. To be asked more often than
    /// [`LAG_MAX`], or who has not the very last entry is never among them.
    pub fn keep_up(&mut self, replica: &Replica) -> BTreeSet<NodeId> {
        if self.since.elapsed() > LAG_MAX {
            *self = Pace::new(replica);
        }
        let progress = replica.progress().into_iter();
        progress.filter(|(_, has)| *has >= self.last).map(|(node, _)| node).collect()
    }
}

type Changed =
    Result<ClientWriteResponse<TypeConfig>, RaftError<TypeConfig, ClientWriteError<TypeConfig>>>;

fn sort_out(group: GroupId, changed: Changed) -> Result<(), ChangeFailed> {
    let refused = |reason: String| ChangeFailed::Refused { group, reason };
    let error = match changed {
        Ok(_) => return Ok(()),
        Err(RaftError::Fatal(fatal)) => {
            return Err(ChangeFailed::Unknown { group, reason: fatal.to_string() });
        }
        Err(RaftError::APIError(error)) => error,
    };
    Err(match error {
        ClientWriteError::ForwardToLeader(forward) => {
            ChangeFailed::NotLeader { group, leader: forward.leader_id.map(NodeId) }
        }
        ClientWriteError::ChangeMembershipError(error) => match error {
            ChangeMembershipError::InProgress(_)
            | ChangeMembershipError::UncommittedLeaderLog(_) => ChangeFailed::InProgress { group },
            error => refused(error.to_string()),
        },
        error => ChangeFailed::Unknown { group, reason: error.to_string() },
    })
}
