//! openraft's state machine on one group's state file.
//!
//! Entries are applied in batches, one state transaction each: commit, publish to watchers and
//! timers, then answer. Nothing is seen or answered before it is committed to the state, and the
//! log made it durable before it came here. The state file is written beside.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use futures_util::{FutureExt, Stream, StreamExt};
use openraft::alias::{LogIdOf, SnapshotMetaOf, SnapshotOf, StoredMembershipOf};
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::{Notify, watch};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::counts::GroupCounts;
use super::hub::Hub;
use super::leases::LeaseClock;
use super::types::{Response, TypeConfig, decode_membership, encode_membership, entry_id, log_id};
use crate::error::{Corrupt, Error};
use crate::limits::{
    APPLY_BATCH_BYTES_MAX, APPLY_BATCH_ENTRIES_MAX, CHECKPOINT_LOG_BYTES, CHECKPOINT_LOG_ENTRIES,
    RECENT_BYTES, RECENT_BYTES_MAX,
};
use crate::machine::tables::TableError;
use crate::machine::{self, Applied};
use crate::seams::failpoint::Failpoint;
use crate::seams::{self, Tasks};
use crate::store::snapshot::{ReceivedSnapshot, SnapshotSource};
use crate::store::state::{AppliedMark, State};
use crate::types::GroupId;

/// A snapshot in openraft's hands: one of ours to send, or one that arrived.
#[derive(Debug)]
pub enum SnapshotData {
    /// Taken here.
    Source(Box<SnapshotSource>),
    /// Taken elsewhere, received whole.
    Received(ReceivedSnapshot),
}

/// One group's state, as openraft wants it.
#[derive(Debug)]
pub(super) struct Machine {
    state: State,
    hub: Arc<Hub>,
    leases: Arc<LeaseClock>,
    counts: Arc<GroupCounts>,
    load: Arc<Load>,
    settling_due: Arc<Notify>,
    applied: watch::Sender<AppliedUpto>,
    /// The replica's end waits for it.
    token: TaskTrackerToken,
}

/// How far a state is, for those who wait for an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AppliedUpto(Option<u64>);

impl AppliedUpto {
    fn of(state: &State) -> Self {
        AppliedUpto(state.applied_id().map(|id| id.index))
    }

    /// Whether the state holds an entry.
    pub(super) fn holds(self, index: u64) -> bool {
        self.0.is_some_and(|applied| applied >= index)
    }
}

/// What the machine asks for when it has applied enough; see `keeper`.
#[derive(Clone, Debug, Default)]
pub(super) struct Due {
    /// A checkpoint is worth its fsync.
    pub(super) checkpoint: Arc<Notify>,
    /// What is in memory should be moved to the state file.
    pub(super) settling: Arc<Notify>,
}

/// How much was applied since the last checkpoint.
#[derive(Debug)]
struct Load {
    entries: AtomicU64,
    bytes: AtomicU64,
    is_due: AtomicBool,
    /// Told when a checkpoint is due.
    due: Arc<Notify>,
}

impl Load {
    fn add(&self, entries: u64, bytes: u64) {
        let entries = self.entries.fetch_add(entries, Ordering::Relaxed) + entries;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        let is_due = entries >= CHECKPOINT_LOG_ENTRIES || bytes >= CHECKPOINT_LOG_BYTES;
        // Told once for each checkpoint, or the next would follow it at once.
        if is_due && !self.is_due.swap(true, Ordering::Relaxed) {
            self.due.notify_one();
        }
    }

    fn clear(&self) {
        self.entries.store(0, Ordering::Relaxed);
        self.bytes.store(0, Ordering::Relaxed);
        self.is_due.store(false, Ordering::Relaxed);
    }
}

/// Turns what the tables report into what openraft stops for.
fn table_error(group: GroupId, error: TableError) -> io::Error {
    if error.corrupt {
        let what = error.what;
        io::Error::new(io::ErrorKind::InvalidData, Corrupt { group, index: None, what })
    } else {
        io::Error::other(error)
    }
}

/// Turns what the tables report into what a caller is told.
pub(super) fn table_failure(group: GroupId, error: TableError) -> Error {
    if error.corrupt {
        Error::Corrupt(Corrupt { group, index: None, what: error.what })
    } else {
        Error::Unavailable { group, reason: error.what }
    }
}

impl Machine {
    /// `tasks` are not at their end while openraft's own tasks write the state.
    pub(super) fn new(
        (state, hub, leases, counts): (State, Arc<Hub>, Arc<LeaseClock>, Arc<GroupCounts>),
        due: &Due,
        tasks: &Tasks,
    ) -> Self {
        let load = Load {
            entries: 0.into(),
            bytes: 0.into(),
            is_due: false.into(),
            due: due.checkpoint.clone(),
        };
        let (load, settling_due, token) = (Arc::new(load), due.settling.clone(), tasks.token());
        let applied = watch::Sender::new(AppliedUpto::of(&state));
        Machine { state, hub, leases, counts, load, settling_due, applied, token }
    }

    /// Tells how far the state is; closed when Raft has let go of the machine.
    pub(super) fn follow_applied(&self) -> watch::Receiver<AppliedUpto> {
        self.applied.subscribe()
    }

    fn tell_applied(&self) {
        self.applied.send_replace(AppliedUpto::of(&self.state));
    }

    fn error(&self, error: TableError) -> io::Error {
        table_error(self.state.group(), error)
    }

    /// Applies a batch in one transaction, publishes it, answers it.
    async fn apply_batch(&self, batch: Vec<EntryResponder<TypeConfig>>) -> io::Result<()> {
        Failpoint::BeforeApplied.check()?;
        // openraft does not notice a panic here until it has more to apply.
        let applied = catch_unwind(AssertUnwindSafe(|| self.write(&batch)))
            .map_err(|_panic| io::Error::other("applying an entry panicked; this is a bug"))?
            .map_err(|error| self.error(error))?;
        Failpoint::AfterApplied.pass();
        let mut answers = Vec::with_capacity(batch.len());
        for ((_, responder), applied) in batch.into_iter().zip(applied) {
            let outcome = applied.map(|Applied { outcome, events, leases }| {
                self.leases.applied(&leases);
                self.hub.applied(&outcome, events);
                outcome
            });
            answers.extend(responder.map(|responder| (responder, Response(outcome))));
        }
        self.hub.publish();
        self.tell_applied();
        Failpoint::AfterPublished.pass();
        for (responder, response) in answers {
            responder.send(response);
        }
        Ok(())
    }

    /// Sees to it that what is applied finds room in memory: mostly the state file is written
    /// beside, and only a slow disk is waited for.
    async fn make_room(&self, bytes: usize) -> io::Result<()> {
        if self.state.held_bytes() + bytes >= RECENT_BYTES_MAX {
            let state = self.state.clone();
            seams::blocking(move || state.settle()).await.map_err(|error| self.error(error))?;
        } else if self.state.recent_bytes() >= RECENT_BYTES {
            self.settling_due.notify_one();
        }
        Ok(())
    }

    /// What the entries of a batch did: nothing for Raft's own.
    fn write(
        &self,
        batch: &[EntryResponder<TypeConfig>],
    ) -> Result<Vec<Option<Applied>>, TableError> {
        self.state.write(|writer| {
            let mut applied = Vec::with_capacity(batch.len());
            for (entry, _) in batch {
                let id = entry_id(&entry.log_id);
                writer.set_applied(id);
                applied.push(match &entry.payload {
                    EntryPayload::Blank => None,
                    EntryPayload::Normal(proposal) => {
                        let command = proposal.command().map_err(|what| {
                            TableError::corrupt(format!("entry {} of the log: {what}", id.index))
                        })?;
                        Some(machine::apply(writer, id.index, &command)?)
                    }
                    EntryPayload::Membership(membership) => {
                        Failpoint::BeforeMembersApplied.pass();
                        let bytes = encode_membership(membership)
                            .map_err(|error| TableError::io(error.to_string()))?;
                        writer.set_membership(id, bytes);
                        None
                    }
                });
            }
            Ok(applied)
        })
    }
}

/// Roughly what an entry weighs; only to bound a batch.
fn weight(entry: &openraft::alias::EntryOf<TypeConfig>) -> usize {
    match &entry.payload {
        EntryPayload::Normal(proposal) => proposal.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => 0,
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = Checkpointer;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogIdOf<TypeConfig>>, StoredMembershipOf<TypeConfig>), io::Error> {
        let applied = self.state.applied();
        let membership = decode_membership(applied.membership_id, &applied.membership)
            .map_err(|error| self.error(TableError::corrupt(format!("the membership: {error}"))))?;
        Ok((applied.id.map(log_id), membership))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        let mut entries = entries.fuse();
        while let Some(first) = entries.next().await {
            let first = first?;
            let mut bytes = weight(&first.0);
            let mut batch = vec![first];
            while batch.len() < APPLY_BATCH_ENTRIES_MAX && bytes < APPLY_BATCH_BYTES_MAX {
                // Whatever is there already; nothing is waited for.
                let Some(Some(next)) = entries.next().now_or_never() else { break };
                let next = next?;
                bytes += weight(&next.0);
                batch.push(next);
            }
            let entries = batch.len() as u64;
            self.make_room(bytes).await?;
            self.apply_batch(batch).await?;
            self.load.add(entries, bytes as u64);
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self::SnapshotBuilder {
        Checkpointer {
            state: self.state.clone(),
            load: self.load.clone(),
            counts: self.counts.clone(),
            _token: self.token.clone(),
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMetaOf<TypeConfig>,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let SnapshotData::Received(received) = snapshot else {
            return Err(io::Error::other("a snapshot that was taken here can't be installed here"));
        };
        // Whoever received it has compared them and refused it otherwise.
        if snapshot_meta(received.mark()).map_err(|error| self.error(error))? != *meta {
            return Err(io::Error::other("a snapshot holds another state than was announced"));
        }
        let state = self.state.clone();
        let installed = seams::blocking(move || state.install(&received)).await;
        installed.map_err(|error| self.error(error))?;
        self.leases.reset(&self.state).map_err(|error| self.error(error))?;
        self.hub.reset(&self.state).map_err(|error| self.error(error))?;
        self.tell_applied();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, SnapshotData>>, io::Error> {
        if self.state.applied_id().is_none() {
            return Ok(None);
        }
        self.state.snapshot().and_then(offered).map(Some).map_err(|error| self.error(error))
    }
}

/// A snapshot that was taken here, as openraft wants it.
fn offered(source: SnapshotSource) -> Result<SnapshotOf<TypeConfig, SnapshotData>, TableError> {
    let meta = snapshot_meta(source.mark())?;
    Ok(SnapshotOf::<TypeConfig, _> { meta, snapshot: SnapshotData::Source(Box::new(source)) })
}

/// What openraft knows of a snapshot.
pub(super) fn snapshot_meta(mark: &AppliedMark) -> Result<SnapshotMetaOf<TypeConfig>, TableError> {
    let last_membership = decode_membership(mark.membership_id, &mark.membership)
        .map_err(|error| TableError::corrupt(format!("the membership: {error}")))?;
    Ok(SnapshotMetaOf::<TypeConfig> { last_log_id: mark.id.map(log_id), last_membership })
}

/// "Builds" a snapshot: makes the state durable, so that the log before it can go. What is sent
/// to a follower is read from the state when it is asked for.
#[derive(Debug)]
pub(super) struct Checkpointer {
    state: State,
    load: Arc<Load>,
    counts: Arc<GroupCounts>,
    _token: TaskTrackerToken,
}

impl RaftSnapshotBuilder<TypeConfig> for Checkpointer {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, SnapshotData>, io::Error> {
        let group = self.state.group();
        let state = self.state.clone();
        // What is applied from here on counts for the next.
        self.load.clear();
        let taken = seams::blocking(move || state.checkpoint_as_snapshot().and_then(offered)).await;
        let taken = taken.map_err(|error| table_error(group, error))?;
        self.counts.checkpoints.one();
        Ok(taken)
    }
}
