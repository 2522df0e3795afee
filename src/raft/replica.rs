//! One group on this node: opened, checked, running, stopped.
//!
//! A [`Replica`] is a handle that can be cloned and used from anywhere: operations go straight to
//! Raft and the state, never through an actor's mailbox. Whoever starts and stops replicas is
//! told by [`Replica::failed`] when one can't go on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::{InitializeError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::{Config, EmptyNode, ReadPolicy, ServerState, SnapshotPolicy};
use tokio::sync::{Notify, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::hub::Hub;
use super::keeper::{Checkpoints, Keeper};
use super::leases::{LeaseClock, Standing};
use super::log::LogStore;
use super::machine::{Machine, table_failure};
use super::network::Network;
use super::proposals::{NoAnswer, Proposals};
use super::reads::{NotConfirmed, ReadGate};
use super::types::TypeConfig;
use super::vital::Vital;
use super::watch::{GroupWatch, WatchRequest};
use crate::error::{Corrupt, Error, Refusal, Result};
use crate::limits::WATCHES_MAX;
use crate::machine;
use crate::machine::ops::{Answer, Command, Query};
use crate::seams;
use crate::seams::disk::Disk;
use crate::status::{GroupStatus, Role};
use crate::store::log::GroupLog;
use crate::store::space::{Room, SpaceGuard};
use crate::store::state::State;
use crate::types::{Consistency, GroupId, LeaseId, NodeId};

/// How fast a group notices that its leader is gone. Loose enough for a busy machine with two
/// cores; a planned change of leader does not wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTimes {
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// The shortest silence after which a follower stands for election.
    pub election_min: Duration,
    /// The longest.
    pub election_max: Duration,
}

impl Default for RaftTimes {
    fn default() -> Self {
        RaftTimes {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1_000),
        }
    }
}

/// How long the end of a replica waits for its tasks.
const TASKS_END_MAX: Duration = Duration::from_secs(2);

/// What a replica is opened with.
#[derive(Debug)]
pub struct ReplicaSpec {
    /// Which group.
    pub group: GroupId,
    /// Which node this is.
    pub node: NodeId,
    /// The group's part of the shared log.
    pub log: GroupLog,
    /// The disk that holds the state.
    pub disk: Arc<dyn Disk>,
    /// The group's own directory.
    pub dir: PathBuf,
    /// The guard on free space.
    pub space: SpaceGuard,
    /// How fast to notice a lost leader.
    pub times: RaftTimes,
    /// If the group is new: found it with these voters.
    pub found_with: Option<Vec<NodeId>>,
}

/// Why an operation on a replica has no answer.
#[derive(Clone, Debug)]
pub enum Failed {
    /// Nothing was done: another replica leads, or none is known to.
    NotLeader {
        /// Who leads, if known.
        leader: Option<NodeId>,
    },
    /// The write may or may not have been done.
    Unknown {
        /// Why.
        reason: String,
    },
    /// The error is the answer.
    Final(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Failed::Final(error)
    }
}

/// How much of a lease's time is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTtl {
    /// The lease.
    pub id: LeaseId,
    /// Its full time to live.
    pub ttl_ms: u64,
    /// What is left of it.
    pub left_ms: u64,
}

type Raft = openraft::Raft<TypeConfig, Machine>;

/// A running replica of one group.
#[derive(Clone)]
pub struct Replica {
    inner: Arc<Inner>,
}

struct Inner {
    group: GroupId,
    node: NodeId,
    raft: Raft,
    state: State,
    hub: Arc<Hub>,
    leases: Arc<LeaseClock>,
    proposals: Proposals,
    /// For linearizable reads.
    reads: ReadGate,
    /// For reads under the leader's lease.
    lease_reads: ReadGate,
    space: SpaceGuard,
    watches: Arc<Semaphore>,
    stopped: CancellationToken,
    vital: Vital,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Replica(group {} on node {})", self.inner.group, self.inner.node)
    }
}

impl Replica {
    /// Opens the replica's state, checks it against the log, and runs it. Not to be cut short:
    /// what has been started by then would have no owner.
    pub async fn open(spec: ReplicaSpec) -> Result<Replica> {
        let ReplicaSpec { group, node, log, disk, dir, space, times, found_with } = spec;
        let failure = |error| table_failure(group, error);
        let state =
            seams::blocking(move || State::open(disk, &dir, group)).await.map_err(failure)?;
        check(&log, &state, found_with.is_some())?;
        let hub = Arc::new(Hub::new(&state).map_err(failure)?);
        let leases = Arc::new(LeaseClock::new(&state).map_err(failure)?);
        let (vital, due) = (Vital::new(group), Arc::new(Notify::new()));
        let machine =
            Machine::new(state.clone(), hub.clone(), leases.clone(), due.clone(), vital.tasks());
        let settings = Arc::new(config(group, times)?);
        let raft = Raft::new(node.0, settings, Network, LogStore::new(log.clone()), machine)
            .await
            .map_err(|fatal| open_failure(group, &fatal))?;
        let inner = Inner {
            group,
            node,
            proposals: Proposals::start(group, raft.clone(), &vital),
            reads: ReadGate::start(group, raft.clone(), ReadPolicy::ReadIndex, &vital),
            lease_reads: ReadGate::start(group, raft.clone(), ReadPolicy::LeaseRead, &vital),
            raft,
            state,
            hub,
            leases,
            space,
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
            stopped: CancellationToken::new(),
            vital,
        };
        let replica = Replica { inner: Arc::new(inner) };
        replica.keep(log, due);
        match replica.begin(found_with).await {
            Ok(()) => Ok(replica),
            Err(error) => {
                replica.abandon().await;
                Err(error)
            }
        }
    }

    /// Starts what the group does by itself.
    fn keep(&self, log: GroupLog, due: Arc<Notify>) {
        let Inner { group, raft, state, hub, leases, vital, .. } = &*self.inner;
        let (hub, leases) = (hub.clone(), leases.clone());
        let keeper = Keeper { group: *group, raft: raft.clone(), hub, leases };
        vital.spawn("keeping of leases", keeper.run());
        let (raft, state) = (raft.clone(), state.clone());
        vital.spawn("keeping of checkpoints", Checkpoints { raft, log, state, due }.run());
    }

    /// Founds the group if it is new, and does not wait for others if there are none.
    async fn begin(&self, found_with: Option<Vec<NodeId>>) -> Result<()> {
        let (group, raft) = (self.inner.group, &self.inner.raft);
        if let Some(voters) = found_with {
            found(group, raft, &voters).await?;
        }
        stand_if_alone(group, raft).await
    }

    /// Proposes a command and waits until it is applied here, for as long as that takes: the
    /// caller has the deadline.
    pub async fn propose(&self, command: Command) -> Result<Answer, Failed> {
        let inner = &self.inner;
        if command.action.adds_data() && inner.space.room() == Room::Full {
            let free_percent = inner.space.free_percent();
            return Err(Error::NoSpace { node: inner.node, free_percent }.into());
        }
        match inner.proposals.propose(command).await? {
            Ok(outcome) => outcome.map_err(|refusal| Failed::Final(Error::Refused(refusal))),
            Err(NoAnswer::NotLeader { leader }) => Err(Failed::NotLeader { leader }),
            Err(NoAnswer::Unknown { reason }) => Err(Failed::Unknown { reason }),
        }
    }

    /// Reads at a freshness.
    pub async fn query(&self, query: &Query, consistency: Consistency) -> Result<Answer, Failed> {
        self.freshen(consistency).await?;
        let failure = |error| self.inner.vital.damage(error);
        let view = self.inner.state.view().map_err(failure)?;
        let outcome = machine::query(&view, query).map_err(failure)?;
        outcome.map_err(|refusal| Failed::Final(Error::Refused(refusal)))
    }

    /// Waits until a read of the state here is as fresh as asked.
    async fn freshen(&self, consistency: Consistency) -> Result<(), Failed> {
        let confirmed = match consistency {
            Consistency::Stale => return Ok(()),
            Consistency::Linearizable => self.inner.reads.pass().await?,
            Consistency::Lease => self.inner.lease_reads.pass().await?,
        };
        confirmed.map_err(|not| match not {
            NotConfirmed::NotLeader { leader } => Failed::NotLeader { leader },
            NotConfirmed::Unsure { reason } => {
                Failed::Final(Error::Unavailable { group: self.inner.group, reason })
            }
        })
    }

    /// Watches a range of keys from what is committed now, or from a revision.
    pub async fn watch(&self, request: WatchRequest) -> Result<GroupWatch, Failed> {
        let inner = &self.inner;
        let place = inner
            .watches
            .clone()
            .try_acquire_owned()
            .map_err(|_| Error::Busy { what: "the number of watches", retry_after_ms: 1_000 })?;
        match request.from {
            None => self.freshen(Consistency::Linearizable).await?,
            // Memory may still have what was compacted; a watch that asks for it is refused all
            // the same, or whether it is would be chance.
            Some(from) => {
                let failure = |error| inner.vital.damage(error);
                let view = inner.state.view().map_err(failure)?;
                machine::history(&view, from, from, &request.range, 1)
                    .map_err(failure)?
                    .map_err(Error::Refused)?;
            }
        }
        let published = inner.hub.follow();
        let next = request.from.unwrap_or_else(|| inner.hub.revision() + 1).max(1);
        Ok(GroupWatch {
            hub: inner.hub.clone(),
            state: inner.state.downgrade(),
            published,
            stopped: inner.stopped.clone(),
            vital: inner.vital.clone(),
            request,
            next,
            _place: place,
        })
    }

    /// Gives a lease its full time again.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<LeaseTtl, Failed> {
        // The lease may have been granted a moment ago: see all that was acknowledged first.
        self.freshen(Consistency::Linearizable).await?;
        let standing = self.inner.leases.keep_alive(id);
        // Another leader may have armed it before: the renewal counts only if this one still
        // leads after it.
        self.freshen(Consistency::Linearizable).await?;
        self.lease_standing(id, standing)
    }

    /// How much of a lease's time is left.
    pub async fn lease_ttl(&self, id: LeaseId) -> Result<LeaseTtl, Failed> {
        self.freshen(Consistency::Linearizable).await?;
        let standing = self.inner.leases.standing(id);
        self.lease_standing(id, standing)
    }

    fn lease_standing(&self, id: LeaseId, standing: Standing) -> Result<LeaseTtl, Failed> {
        match standing {
            Standing::Alive { ttl, left } => Ok(LeaseTtl {
                id,
                ttl_ms: ttl.as_millis() as u64,
                left_ms: left.as_millis() as u64,
            }),
            Standing::Ended => Err(Failed::Final(Refusal::LeaseNotFound { id }.into())),
            Standing::NotLeading => Err(Failed::NotLeader { leader: None }),
        }
    }

    /// What the replica does at the moment.
    pub fn status(&self) -> GroupStatus {
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        GroupStatus {
            group: self.inner.group,
            role: match metrics.state {
                ServerState::Leader => Role::Leader,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Learner => Role::Learner,
                ServerState::Shutdown => Role::Stopped,
            },
            term: metrics.current_term,
            leader: metrics.current_leader.map(NodeId),
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |id| id.index),
        }
    }

    /// Tells of each change of who leads.
    pub fn leadership(&self) -> Leadership {
        Leadership { metrics: self.inner.raft.server_metrics() }
    }

    /// Resolves with the reason when the replica can't go on; never after [`Replica::stop`].
    pub async fn failed(&self) -> Error {
        let Inner { group, raft, vital, stopped, .. } = &*self.inner;
        let mut server = raft.server_metrics();
        let raft_ended = async {
            // These metrics change seldom, and their channel closes when Raft ends, however it
            // ends.
            while server.changed().await.is_ok() {}
            match raft.metrics().borrow_watched().running_state.clone() {
                Err(fatal) => open_failure(*group, &fatal),
                Ok(()) => {
                    let reason = "its Raft panicked; this is a bug".into();
                    Error::Unavailable { group: *group, reason }
                }
            }
        };
        let error = tokio::select! {
            biased;
            error = raft_ended => error,
            error = vital.broken() => error,
        };
        if stopped.is_cancelled() {
            std::future::pending::<()>().await;
        }
        error
    }

    /// Stops a replica that can't go on: nothing more is written.
    pub async fn abandon(&self) {
        let Inner { group, raft, vital, stopped, .. } = &*self.inner;
        stopped.cancel();
        if let Err(error) = raft.shutdown().await {
            tracing::warn!(%group, %error, "Raft did not stop in an orderly way");
        }
        vital.tasks().abort();
        // Until then they hold the state's files, and no other replica can open them.
        if timeout(TASKS_END_MAX, vital.tasks().ended()).await.is_err() {
            tracing::warn!(%group, "tasks of the replica are still ending");
        }
    }

    /// Stops the replica in an orderly way: what was applied is checkpointed, watchers are told.
    pub async fn stop(&self) {
        self.abandon().await;
        let (group, state) = (self.inner.group, self.inner.state.clone());
        if let Err(error) = seams::blocking(move || state.checkpoint()).await {
            tracing::error!(%group, %error, "the last checkpoint failed");
        }
    }
}

/// Follows who leads a group.
pub struct Leadership {
    metrics: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
}

impl Leadership {
    /// Resolves when who leads may have changed since the last time, and when the replica has
    /// ended.
    pub async fn changed(&mut self) {
        let _ = self.metrics.changed().await;
    }
}

/// What must hold between log and state before a replica may run.
fn check(log: &GroupLog, state: &State, is_new: bool) -> Result<()> {
    let group = state.group();
    let (applied, marks) = (state.applied_id(), log.marks());
    if !is_new && applied.is_none() && marks.vote.is_none() {
        let what = "its log and its state are lost".into();
        return Err(Corrupt { group, index: None, what }.into());
    }
    let corrupt = |index, what: String| Err(Corrupt { group, index: Some(index), what }.into());
    if let Some(purged) = marks.purged
        && applied.is_none_or(|applied| applied.index < purged.index)
    {
        let has = applied.map_or(0, |applied| applied.index);
        let what = format!("the log begins after this entry and the state ends at entry {has}");
        return corrupt(purged.index, what);
    }
    if let Some(applied) = applied
        && marks.vote.is_none()
    {
        return corrupt(applied.index, "the state is there and the log is lost".into());
    }
    Ok(())
}

fn config(group: GroupId, times: RaftTimes) -> Result<Config> {
    let config = Config {
        cluster_name: format!("group-{group}"),
        heartbeat_interval: times.heartbeat.as_millis() as u64,
        election_timeout_min: times.election_min.as_millis() as u64,
        election_timeout_max: times.election_max.as_millis() as u64,
        // A candidate that can't win disturbs nobody.
        enable_pre_vote: Some(true),
        // A restarted leader must be elected again: in its old term it could reuse log ids that
        // followers committed and its own disk lost.
        enable_leader_restore: Some(false),
        // Checkpoints and purges are timed by the group's keeper, by bytes.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        ..Config::default()
    };
    config.validate().map_err(|error| Error::Fatal(format!("the settings of Raft: {error}")))
}

fn open_failure(group: GroupId, fatal: &impl std::error::Error) -> Error {
    let mut source: Option<&(dyn std::error::Error + 'static)> = fatal.source();
    while let Some(error) = source {
        if let Some(corrupt) = error.downcast_ref::<Corrupt>() {
            return corrupt.clone().into();
        }
        source = error.source();
    }
    Error::Unavailable { group, reason: fatal.to_string() }
}

/// Founds a new group; one that was founded before is left as it is.
async fn found(group: GroupId, raft: &Raft, voters: &[NodeId]) -> Result<()> {
    let members: BTreeMap<u64, EmptyNode> =
        voters.iter().map(|node| (node.0, EmptyNode::default())).collect();
    match raft.initialize(members).await {
        Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
        Err(error) => Err(Error::Unavailable { group, reason: error.to_string() }),
    }
}

/// The only voter of a group need not wait for anybody's silence.
async fn stand_if_alone(group: GroupId, raft: &Raft) -> Result<()> {
    let mut voters = raft.voter_ids();
    if voters.next() == Some(*raft.node_id()) && voters.next().is_none() {
        raft.trigger().elect(false).await.map_err(|fatal| open_failure(group, &fatal))?;
    }
    Ok(())
}
