//! One group on this node: opened, checked, running, stopped.
//!
//! A [`Replica`] is a handle that can be cloned and used from anywhere: operations go straight to
//! Raft and the state, never through an actor's mailbox. Whoever starts and stops replicas is
//! told by [`Replica::failed`] when one can't go on.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::alias::WatchReceiverOf;
use openraft::async_runtime::WatchReceiver;
use openraft::metrics::RaftServerMetrics;
use openraft::{Config, ReadPolicy, ServerState};
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::anew::Behind;
use super::claims::Claims;
use super::contacts::{Contacts, Transport};
use super::counts::GroupCounts;
use super::hub::Hub;
use super::keeper::{Checkpoints, Keeper, Settling};
use super::leases::{LeaseClock, Standing};
use super::log::LogStore;
use super::machine::{AppliedUpto, Due, Machine, table_failure};
use super::network::Network;
use super::origin::{Origin, begin_log, check, unwritable};
use super::proposals::{NoAnswer, Proposals};
use super::reads::{By, NotConfirmed, ReadGate};
use super::receiving::Arrivals;
use super::rest::Rest;
use super::rounds::Rounds;
use super::runtime::ticks_for;
use super::settings::{RaftTimes, config};
use super::types::{LeaderId, Proposal, TypeConfig, vote_out};
use super::vital::Vital;
use super::watch::{GroupWatch, WatchRequest};
use crate::error::{Corrupt, Error, Refusal, Result};
use crate::limits::WATCHES_MAX;
use crate::machine;
use crate::machine::ops::{Answer, Command, Query};
use crate::roster::load::Work;
use crate::seams::disk::Disk;
use crate::seams::{self, Random, Tasks};
use crate::status::{GroupStatus, Role};
use crate::store::log::{EntryId, GroupLog, Vote};
use crate::store::space::{Room, SpaceGuard};
use crate::store::state::State;
use crate::types::{Consistency, GroupId, LeaseId, NodeId};

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
    /// What the replica begins with.
    pub origin: Origin,
    /// How far the group was before this replica was there, which began with nothing; see
    /// `raft::anew`.
    pub after: Option<EntryId>,
    /// How it reaches the others of its group.
    pub transport: Transport,
    /// The rounds of Raft that the node's groups begin.
    pub rounds: Rounds,
    /// Where it counts what it does.
    pub counts: Arc<GroupCounts>,
    /// The node's randomness.
    pub random: Random,
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

pub(super) struct Inner {
    group: GroupId,
    node: NodeId,
    raft: Raft,
    state: State,
    pub(super) hub: Arc<Hub>,
    leases: Arc<LeaseClock>,
    pub(super) proposals: Proposals,
    /// For linearizable reads.
    reads: ReadGate,
    /// For reads under the leader's lease.
    lease_reads: ReadGate,
    space: SpaceGuard,
    times: RaftTimes,
    pub(super) watches: Arc<Semaphore>,
    pub(super) counts: Arc<GroupCounts>,
    applied: watch::Receiver<AppliedUpto>,
    behind: Behind,
    arrivals: Arrivals,
    claims: Claims,
    rest: Rest,
    work: Worked,
    stopped: CancellationToken,
    vital: Vital,
}

/// Counts what is asked of a replica.
#[derive(Debug, Default)]
struct Worked {
    operations: AtomicU64,
    bytes: AtomicU64,
}

impl Worked {
    fn add(&self, bytes: usize) {
        self.operations.fetch_add(1, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    fn so_far(&self) -> Work {
        let [operations, bytes] =
            [&self.operations, &self.bytes].map(|counter| counter.load(Ordering::Relaxed));
        Work { operations, bytes }
    }
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
        let ReplicaSpec {
            group,
            node,
            log,
            disk,
            dir,
            space,
            times,
            origin,
            after,
            transport,
            rounds,
            counts,
            random,
        } = spec;
        let settings = config(group, times)?;
        // Raft takes what it finds for durable, and the log shows what is queued.
        log.flush().await.map_err(|error| unwritable(group, &error))?;
        let behind = Behind::new(&log, after);
        let enable_elect = settings.enable_elect && !behind.is_so();
        let settings = Arc::new(Config { enable_elect, ..settings });
        let failure = |error| table_failure(group, error);
        let state =
            seams::blocking(move || State::open(disk, &dir, group)).await.map_err(failure)?;
        check(&origin, &log, &state)?;
        let founds = begin_log(&origin, &log, node, after).await?;
        let hub = Arc::new(Hub::new(&state).map_err(failure)?);
        let leases = Arc::new(LeaseClock::new(&state).map_err(failure)?);
        let (vital, due) = (Vital::new(group), Due::default());
        let parts = (state.clone(), hub.clone(), leases.clone(), counts.clone());
        let machine = Machine::new(parts, &due, vital.tasks());
        let applied = machine.follow_applied();
        let claims = Claims::new(transport.heard.clone(), times.election_min);
        let (claimed, counted) = (claims.clone(), counts.clone());
        let contacts = Contacts { group, node, transport, claims: claimed, counts: counted };
        let network = Network { contacts: contacts.clone(), silence: times.election_max, random };
        ticks_for(times.heartbeat);
        let rest = Rest::default();
        let log_store = LogStore::new(log.clone(), rest.used());
        let raft = Raft::new(node.0, settings, network, log_store, machine)
            .await
            .map_err(|fatal| open_failure(group, &fatal))?;
        let gate = |policy| ReadGate::start(group, raft.clone(), policy, contacts.clone(), &vital);
        let (weak, tasks) = (state.downgrade(), vital.tasks().clone());
        let inner = Inner {
            group,
            node,
            proposals: Proposals::start(group, raft.clone(), rounds, counts.clone(), &vital),
            reads: gate(ReadPolicy::ReadIndex),
            lease_reads: gate(ReadPolicy::LeaseRead),
            claims,
            arrivals: Arrivals::new(weak, space.clone(), raft.clone(), counts.clone(), tasks),
            applied,
            behind,
            raft,
            state,
            hub,
            leases,
            space,
            times,
            watches: Arc::new(Semaphore::new(WATCHES_MAX)),
            counts,
            rest,
            work: Worked::default(),
            stopped: CancellationToken::new(),
            vital,
        };
        let replica = Replica { inner: Arc::new(inner) };
        replica.keep(log, due);
        match replica.begin(founds, after).await {
            Ok(()) => {
                replica.ask_how_far(contacts);
                Ok(replica)
            }
            Err(error) => {
                replica.abandon().await;
                Err(error)
            }
        }
    }

    /// Starts what the group does by itself.
    fn keep(&self, log: GroupLog, due: Due) {
        let Inner { group, raft, state, hub, leases, vital, .. } = &*self.inner;
        let (hub, leases) = (hub.clone(), leases.clone());
        let keeper = Keeper { group: *group, raft: raft.clone(), hub, leases };
        vital.spawn("keeping of leases", keeper.run());
        let settling = Settling { state: state.clone(), due: due.settling };
        vital.spawn("settling of what was written", settling.run(vital.clone()));
        let (raft, state, due) = (raft.clone(), state.clone(), due.checkpoint);
        vital.spawn("keeping of checkpoints", Checkpoints { raft, log, state, due }.run());
    }

    pub(super) fn group(&self) -> GroupId {
        self.inner.group
    }

    pub(super) fn node(&self) -> NodeId {
        self.inner.node
    }

    pub(super) fn parts(&self) -> &Inner {
        &self.inner
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.inner.raft
    }

    pub(super) fn reads(&self) -> &ReadGate {
        &self.inner.reads
    }

    pub(super) fn arrivals(&self) -> &Arrivals {
        &self.inner.arrivals
    }

    pub(super) fn claims(&self) -> &Claims {
        &self.inner.claims
    }

    pub(super) fn rest(&self) -> &Rest {
        &self.inner.rest
    }

    pub(super) fn room(&self) -> Room {
        self.inner.space.room()
    }

    /// Whether a lease runs here, by which the group has something to do without being asked.
    pub(super) fn has_leases(&self) -> bool {
        self.inner.leases.next_due().is_some()
    }

    pub(super) fn behind(&self) -> &Behind {
        &self.inner.behind
    }

    pub(super) fn tasks(&self) -> &Tasks {
        self.inner.vital.tasks()
    }

    /// Whether somebody watches it.
    pub(super) fn is_watched(&self) -> bool {
        self.inner.watches.available_permits() < WATCHES_MAX
    }

    /// The silence from which on another replica may be gone.
    pub(super) fn patience(&self) -> Duration {
        self.inner.times.election_min
    }

    /// Whether this replica leads, as far as it knows.
    pub fn leads(&self) -> bool {
        self.inner.raft.server_metrics().borrow_watched().state == ServerState::Leader
    }

    /// This replica's vote, if it is for somebody later.
    pub(super) fn higher_vote(&self, than: Vote) -> Option<Vote> {
        let own = vote_out(&self.inner.raft.server_metrics().borrow_watched().vote);
        (own.term > than.term).then_some(own)
    }

    /// Stands for election where nobody else is to be waited for: the group is founded, or is this
    /// replica alone.
    async fn begin(&self, founds: bool, after: Option<EntryId>) -> Result<()> {
        let (group, raft) = (self.inner.group, &self.inner.raft);
        if founds {
            return raft.trigger().elect(false).await.map_err(|fatal| open_failure(group, &fatal));
        }
        if let Some(after) = after.filter(|_| self.inner.behind.is_so()) {
            self.stand_when_caught_up(after);
            return Ok(());
        }
        stand_if_alone(group, raft).await
    }

    /// Proposes a command and waits until it is applied here, for as long as that takes: the
    /// caller has the deadline.
    pub async fn propose(&self, command: Command) -> Result<Answer, Failed> {
        let inner = &self.inner;
        self.touch();
        if command.action.adds_data() && inner.space.room() == Room::Full {
            if inner.space.is_elsewhere(&self.members().voters) {
                // Whoever has room leads in a moment, and takes the write.
                let reason = "the disk of the node that leads it is full, and another takes over";
                let reason = reason.to_owned();
                return Err(Error::Unavailable { group: inner.group, reason }.into());
            }
            let free_percent = inner.space.free_percent();
            return Err(Error::NoSpace { node: inner.node, free_percent }.into());
        }
        let proposal = Proposal::new(&command)
            .map_err(|error| Error::Fatal(format!("a command can't be encoded: {error}")))?;
        drop(command);
        inner.work.add(proposal.len());
        let mut answered = inner.proposals.propose(proposal.clone()).await?;
        if let Err(NoAnswer::NotLeader { leader: None }) = answered
            && self.leads()
            && self.is_confirmed_soon().await
        {
            answered = inner.proposals.propose(proposal).await?;
        }
        match answered {
            Ok(outcome) => outcome.map_err(|refusal| Failed::Final(Error::Refused(refusal))),
            Err(NoAnswer::NotLeader { leader }) => Err(Failed::NotLeader { leader }),
            Err(NoAnswer::Unknown { reason }) => Err(Failed::Unknown { reason }),
        }
    }

    /// A leader takes no writes before a majority has confirmed it, which is a matter of one round
    /// when it is new, and takes for ever when it is cut off.
    async fn is_confirmed_soon(&self) -> bool {
        let confirmed =
            timeout(self.inner.times.heartbeat, self.inner.reads.pass(By::Itself)).await;
        matches!(confirmed, Ok(Ok(Ok(_))))
    }

    /// Reads at a freshness.
    pub async fn query(&self, query: &Query, consistency: Consistency) -> Result<Answer, Failed> {
        self.note_use();
        if consistency == Consistency::Lease {
            self.inner.work.add(0);
        }
        self.freshen(consistency).await?;
        let failure = |error| self.inner.vital.damage(error);
        let view = self.inner.state.view();
        let outcome = machine::query(&view, query).map_err(failure)?;
        outcome.map_err(|refusal| Failed::Final(Error::Refused(refusal)))
    }

    /// Waits until a read of the state here is as fresh as asked.
    async fn freshen(&self, consistency: Consistency) -> Result<(), Failed> {
        if consistency == Consistency::Stale {
            return Ok(());
        }
        let slept = self.touch();
        let confirmed = match consistency {
            Consistency::Stale => return Ok(()),
            Consistency::Linearizable => self.inner.reads.pass(By::Leader).await?,
            // A lease is good for the one that holds it, and over after a sleep.
            Consistency::Lease if slept => self.inner.reads.pass(By::Itself).await?,
            Consistency::Lease => self.inner.lease_reads.pass(By::Itself).await?,
        };
        self.await_applied(confirmed).await.map(drop)
    }

    /// Waits until the state has all that was acknowledged before, and this replica is known to
    /// have led then: as whom.
    async fn freshen_leading(&self) -> Result<LeaderId, Failed> {
        self.note_use();
        self.touch();
        let confirmed = self.inner.reads.pass(By::Itself).await?;
        let EntryId { term, node, .. } = self.await_applied(confirmed).await?;
        // A leader confirms nothing before an entry of its own.
        Ok(LeaderId { term, node_id: node })
    }

    /// Waits until the state holds what was confirmed: up to which entry.
    pub(super) async fn await_applied(
        &self,
        confirmed: Result<EntryId, NotConfirmed>,
    ) -> Result<EntryId, Failed> {
        let group = self.inner.group;
        let unavailable = |reason| Failed::Final(Error::Unavailable { group, reason });
        let id = confirmed.map_err(|not| match not {
            NotConfirmed::NotLeader { leader } => Failed::NotLeader { leader },
            NotConfirmed::Unsure { reason } => unavailable(reason),
        })?;
        let mut applied = self.inner.applied.clone();
        let holds = applied.wait_for(|applied| applied.holds(id.index));
        match self.inner.stopped.run_until_cancelled(holds).await {
            Some(Ok(_)) => Ok(id),
            Some(Err(_)) | None => Err(unavailable("it is stopping".into())),
        }
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
                let view = inner.state.view();
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
            counts: inner.counts.clone(),
            request,
            next,
            _place: place,
        })
    }

    /// Gives a lease its full time again.
    pub async fn keep_alive(&self, id: LeaseId) -> Result<LeaseTtl, Failed> {
        // The lease may have been granted a moment ago: see all that was acknowledged first.
        let leader = self.freshen_leading().await?;
        let standing = self.inner.leases.keep_alive(leader, id);
        // Another leader may have armed it before: the renewal counts only if this one still
        // leads after it.
        let still = self.freshen_leading().await? == leader;
        self.lease_standing(id, if still { standing } else { Standing::NotLeading })
    }

    /// How much of a lease's time is left.
    pub async fn lease_ttl(&self, id: LeaseId) -> Result<LeaseTtl, Failed> {
        let leader = self.freshen_leading().await?;
        self.lease_standing(id, self.inner.leases.standing(leader, id))
    }

    fn lease_standing(&self, id: LeaseId, standing: Standing) -> Result<LeaseTtl, Failed> {
        match standing {
            Standing::Alive { ttl, left } => Ok(LeaseTtl {
                id,
                ttl_ms: ttl.as_millis() as u64,
                left_ms: left.as_millis() as u64,
            }),
            Standing::Ended => Err(Failed::Final(Refusal::LeaseNotFound { id }.into())),
            Standing::NotLeading => Err(Failed::NotLeader { leader: self.status().leader }),
        }
    }

    /// What was asked of it since it was opened.
    pub fn work(&self) -> Work {
        self.inner.work.so_far()
    }

    /// Whether history that was dropped is still here.
    pub fn is_compacting(&self) -> bool {
        self.inner.hub.is_compacting()
    }

    /// What the replica does at the moment.
    pub fn status(&self) -> GroupStatus {
        // Raft shows these before those of the log, and [`Replica::leadership`] tells of these: of
        // the others, who was told of a new leader might read the one before, and not be told again.
        let server = self.inner.raft.server_metrics().borrow_watched().clone();
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        // Those of its log so far are those that were.
        let known = !self.inner.behind.is_so();
        let members = server.membership_config.membership();
        GroupStatus {
            group: self.inner.group,
            role: if known { role(server.state) } else { Role::Learner },
            term: metrics.current_term.max(server.vote.leader_id.term),
            leader: server.current_leader.map(NodeId),
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: metrics.last_applied.map_or(0, |id| id.index),
            revision: self.inner.hub.revision(),
            voters: members.voter_ids().filter(|_| known).map(NodeId).collect(),
            learners: members.learner_ids().filter(|_| known).map(NodeId).collect(),
            arriving: self.inner.arrivals.arriving(),
        }
    }

    /// The hash of all that the state holds, and the entry with which it does: replicas that have
    /// applied the same entries hold the same. Reads the whole state, and blocks meanwhile.
    pub fn digest(&self) -> Result<(Option<EntryId>, [u8; 32])> {
        let failure = |error| table_failure(self.inner.group, error);
        let mut snapshot = self.inner.state.snapshot().map_err(failure)?;
        let applied = snapshot.mark().id;
        let mut hash = [0; 32];
        while let Some(chunk) = snapshot.next_chunk().map_err(failure)? {
            // The stream ends with its hash.
            if let Some(last) = chunk.last_chunk() {
                hash = *last;
            }
        }
        Ok((applied, hash))
    }

    /// Tells of each change of who leads and of who belongs to the group.
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
            tracing::warn!(group = group.0, %error, "Raft did not stop in an orderly way");
        }
        vital.tasks().abort();
        // Until then they hold the state's files, and no other replica can open them.
        if timeout(TASKS_END_MAX, vital.tasks().ended()).await.is_err() {
            tracing::warn!(group = group.0, "tasks of the replica are still ending");
        }
    }

    /// Stops the replica in an orderly way: it hands its lead over, what was applied is
    /// checkpointed, watchers are told.
    pub async fn stop(&self) {
        self.hand_over_to_stop().await;
        self.close().await;
    }

    /// The same of one that leads nobody who is awake.
    pub async fn close(&self) {
        self.abandon().await;
        let (group, state) = (self.inner.group, self.inner.state.clone());
        if let Err(error) = seams::blocking(move || state.checkpoint()).await {
            tracing::error!(group = group.0, %error, "the last checkpoint failed");
        }
    }
}

pub(super) fn role(state: ServerState) -> Role {
    match state {
        ServerState::Leader => Role::Leader,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Learner => Role::Learner,
        ServerState::Shutdown => Role::Stopped,
    }
}

/// Follows who leads a group, and its members.
pub struct Leadership {
    metrics: WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>,
}

impl Leadership {
    /// Resolves when either may have changed since the last time; `false` when the replica has ended.
    pub async fn changed(&mut self) -> bool {
        self.metrics.changed().await.is_ok()
    }
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

/// The only voter of a group need not wait for anybody's silence.
pub(super) async fn stand_if_alone(group: GroupId, raft: &Raft) -> Result<()> {
    let mut voters = raft.voter_ids();
    if voters.next() == Some(*raft.node_id()) && voters.next().is_none() {
        raft.trigger().elect(false).await.map_err(|fatal| open_failure(group, &fatal))?;
    }
    Ok(())
}
