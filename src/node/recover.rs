//! Recovery: a node whose cluster lost its majority for good makes a new cluster of what it has.
//!
//! Nothing of the old is changed. The new log, states and `node.toml` are built aside, in a directory
//! within the node's; when all of it is durable that directory gets its final name, which is the
//! moment from which there is a new cluster. Then the old files move to a directory of their own,
//! and the new ones take their places; whoever opens the directory next does what of that is left.
//!
//! ```text
//! recovered.part/           being built; removed if it is found
//! recovered/                whole: its files are to take their places
//! before-<new cluster id>/  what was there before
//! ```
//!
//! It refuses to do any of this unasked, and to a node that is alone anyway.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::builder::StartError;
use super::cluster::transaction;
use super::identity::{Held, HeldStage, Identity, Membership};
use crate::actors::read_roster;
use crate::error::{Corrupt, Error as StoreError};
use crate::limits::RECOVERY_RECORDS_MAX;
use crate::machine::ops::Action;
use crate::raft::{Remains, act_alone, begin_alone, query_alone};
use crate::roster::Roster;
use crate::roster::change::Change;
use crate::roster::recovery::{Survivor, alone};
use crate::roster::refused::Refused;
use crate::seams::Seams;
use crate::seams::disk::Disk;
use crate::seams::failpoint::Failpoint;
use crate::store::log::{self, EntryId, Log, Vote};
use crate::store::state::State;
use crate::types::{ClusterId, GroupId, KeyspaceName, NodeId};

const PART: &str = "recovered.part";
const WHOLE: &str = "recovered";
const BEFORE: &str = "before-";
/// What takes the old's place, in this order: who the node is comes last.
const PLACES: [&str; 4] = ["peers", "log", "groups", "node.toml"];

/// Why there is no new cluster.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecoveryError {
    /// The directory can't be used.
    #[error("{0}")]
    Directory(#[from] StartError),
    /// Nobody lives there.
    #[error("{dir} holds no node that is a member of a cluster; name the survivor's data directory", dir = dir.display())]
    NoMember {
        /// The directory.
        dir: PathBuf,
    },
    /// There is nobody to do without.
    #[error("node {node} is the only member of its cluster, and needs no recovery; start it")]
    Alone {
        /// The node.
        node: NodeId,
    },
    /// The members and keyspaces can't be read.
    #[error("who the members are can't be read from {dir} ({reason}); recover from another survivor", dir = dir.display())]
    NoRoster {
        /// The directory.
        dir: PathBuf,
        /// Why.
        reason: String,
    },
    /// The id that was confirmed is another cluster's.
    #[error(
        "the node belongs to the cluster {has}, and {confirmed} was confirmed; nothing was done"
    )]
    OtherCluster {
        /// Its cluster.
        has: ClusterId,
        /// What was said.
        confirmed: ClusterId,
    },
    /// Something within failed; the old files are as they were.
    #[error("the new cluster can't be made: {0}; nothing was changed")]
    Failed(String),
}

/// What a new cluster would be made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recovery {
    /// The survivor.
    pub node: NodeId,
    /// Its cluster, which is to be no more.
    pub cluster_id: ClusterId,
    /// What people call it; the new one is called the same.
    pub cluster_name: String,
    /// The other members, which would be none.
    pub others: Vec<NodeId>,
    /// The meta group.
    pub meta: Kept,
    /// The shards of all keyspaces.
    pub shards: Vec<Share>,
}

/// A group of which the survivor has something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kept {
    /// The last entry that it has.
    pub last: EntryId,
    /// It has what was before this damage.
    pub damage: Option<Corrupt>,
    /// It was still being filled: the group had come at least as far as this entry.
    pub behind: Option<u64>,
}

/// A shard, and what the survivor has of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Its group.
    pub group: GroupId,
    /// Its keyspace.
    pub keyspace: Option<KeyspaceName>,
    /// Which of the keyspace's shards it is.
    pub shard: Option<u32>,
    /// `None`: nothing, and what was in it is lost.
    pub kept: Option<Kept>,
}

/// What a new cluster would be made of. Nothing is changed.
pub async fn survey(dir: &Path) -> Result<Recovery, RecoveryError> {
    let old = Old::open(dir)?;
    // What was built for it is closed by then.
    let recovery = old.build_meta().await.map(|built| built.recovery);
    clear(old.seams.disk.as_ref(), &dir.join(PART)).map_err(|error| unusable(dir, error))?;
    recovery
}

/// Makes a new cluster of what a node has, if this is the id of its old one. Answers what was made of
/// it, and the new cluster's id.
pub async fn recover(
    dir: &Path,
    confirmed: ClusterId,
) -> Result<(Recovery, ClusterId), RecoveryError> {
    let old = Old::open(dir)?;
    if old.member.cluster_id != confirmed {
        return Err(RecoveryError::OtherCluster { has: old.member.cluster_id, confirmed });
    }
    let made = old.make().await;
    let disk = old.seams.disk.as_ref();
    if made.is_err() {
        let _ = clear(disk, &dir.join(PART));
    }
    let made = made?;
    let put = || {
        Failpoint::BeforeRecovered.pass();
        disk.rename(&dir.join(PART), &dir.join(WHOLE))?;
        disk.sync_dir(dir)?;
        Failpoint::AfterRecovered.pass();
        finish(&old.seams, dir)
    };
    put().map_err(|error| unusable(dir, error))?;
    Ok(made)
}

/// Puts what was recovered in its place, and removes what was not recovered to the end.
pub(super) fn finish(seams: &Seams, dir: &Path) -> io::Result<()> {
    let disk = seams.disk.as_ref();
    clear(disk, &dir.join(PART))?;
    let whole = dir.join(WHOLE);
    if !disk.exists(&whole)? {
        return Ok(());
    }
    // It is moved last, so it is there for as long as anything is left to do.
    let Some(identity) = Identity::load(seams, &whole)? else {
        disk.remove_dir(&whole)?;
        return disk.sync_dir(dir);
    };
    let id = identity.member.map_or_else(String::new, |member| member.cluster_id.to_string());
    let before = dir.join(format!("{BEFORE}{id}"));
    disk.create_dir_all(&before)?;
    for name in PLACES {
        let (new, place) = (whole.join(name), dir.join(name));
        // What has moved is out of the way, or is the new one already.
        let is_old = name == "peers" || disk.exists(&new)?;
        if is_old && disk.exists(&place)? && !disk.exists(&before.join(name))? {
            disk.rename(&place, &before.join(name))?;
            Failpoint::WhileRecovered.pass();
        }
        if disk.exists(&new)? {
            disk.rename(&new, &place)?;
            Failpoint::WhileRecovered.pass();
        }
        disk.sync_dir(&before)?;
        disk.sync_dir(&whole)?;
        disk.sync_dir(dir)?;
    }
    disk.remove_dir(&whole)?;
    disk.sync_dir(dir)?;
    tracing::warn!(cluster = id, before = %before.display(), "this node has a cluster of its own now");
    Ok(())
}

/// Removes what was being built.
fn clear(disk: &dyn Disk, part: &Path) -> io::Result<()> {
    if !disk.exists(part)? {
        return Ok(());
    }
    let groups = part.join("groups");
    if disk.exists(&groups)? {
        for group in disk.list(&groups)? {
            let erased = State::erase(disk, &groups.join(group));
            erased.map_err(|error| io::Error::other(error.what))?;
        }
        disk.remove_dir(&groups)?;
    }
    let log = part.join("log");
    if disk.exists(&log)? {
        disk.list(&log)?.iter().try_for_each(|name| disk.remove(&log.join(name)))?;
        disk.remove_dir(&log)?;
    }
    disk.list(part)?.iter().try_for_each(|name| disk.remove(&part.join(name)))?;
    disk.remove_dir(part)
}

fn unusable(dir: &Path, error: io::Error) -> RecoveryError {
    StartError::Directory { dir: dir.to_owned(), error }.into()
}

fn failed(error: impl std::fmt::Display) -> RecoveryError {
    RecoveryError::Failed(error.to_string())
}

/// A survivor's directory, in this process's hands.
struct Old {
    dir: PathBuf,
    seams: Seams,
    identity: Identity,
    member: Membership,
    log: Log,
    _lock: Box<dyn Debug + Send + Sync>,
}

/// The new cluster as far as it is built: the meta group, and what follows from it.
struct Built {
    recovery: Recovery,
    roster: Roster,
    meta: State,
    vote: Vote,
    /// The shards of which there is something.
    shards: Vec<Remains>,
    groups: Vec<GroupId>,
}

impl Old {
    fn open(dir: &Path) -> Result<Self, RecoveryError> {
        let seams = Seams::real();
        let no_member = || RecoveryError::NoMember { dir: dir.to_owned() };
        // On its way to its place it may be in either.
        let is_there = |place: PathBuf| {
            seams.disk.exists(&place.join("node.toml")).map_err(|error| unusable(dir, error))
        };
        if !is_there(dir.to_owned())? && !is_there(dir.join(WHOLE))? {
            return Err(no_member());
        }
        let lock = seams.disk.lock(&dir.join("lock")).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StartError::DirectoryInUse { dir: dir.to_owned() }.into(),
            _ => unusable(dir, error),
        })?;
        finish(&seams, dir).map_err(|error| unusable(dir, error))?;
        let identity = Identity::load(&seams, dir).map_err(|error| unusable(dir, error))?;
        let identity = identity.ok_or_else(no_member)?;
        let member = identity.member.clone().ok_or_else(no_member)?;
        if member.is_removed {
            let (node, cluster) = (member.node_id, member.cluster_name);
            return Err(StartError::Removed { node, cluster }.into());
        }
        let options = log::Options::new(seams.random.next_u64());
        let opened = log::open(seams.disk.clone(), &dir.join("log"), options);
        let (core, _recovery) = opened.map_err(failed)?;
        let log = Log::start(core).map_err(failed)?;
        Ok(Old { dir: dir.to_owned(), seams, identity, member, log, _lock: lock })
    }

    fn remains(&self, group: GroupId) -> Result<Option<Remains>, RecoveryError> {
        let dir = self.dir.join("groups").join(group.to_string());
        // What is being erased is another's by now.
        let is_held = |held: &Held| held.group == group && held.stage != HeldStage::Erased;
        if !self.member.held.iter().any(is_held) {
            return Ok(None);
        }
        Remains::find(&self.log, &self.seams.disk, &dir, group).map_err(failed)
    }

    fn new_state(&self, group: GroupId) -> Result<State, RecoveryError> {
        let dir = self.dir.join(PART).join("groups").join(group.to_string());
        State::open(self.seams.disk.clone(), &dir, group).map_err(|error| failed(error.what))
    }

    /// Builds the meta group, which tells what else there is to build.
    async fn build_meta(&self) -> Result<Built, RecoveryError> {
        let no_roster = |reason: String| RecoveryError::NoRoster { dir: self.dir.clone(), reason };
        let nothing = || no_roster("there is nothing of it".into());
        let remains = self.remains(GroupId::META)?.ok_or_else(nothing)?;
        let meta = self.new_state(GroupId::META)?;
        remains.rebuild(&meta).map_err(|error| no_roster(error.to_string()))?;
        let ask = async |query| query_alone(&meta, &query);
        let read = read_roster(ask).await;
        let roster = read.map_err(|error: StoreError| no_roster(error.to_string()))?;
        let node = self.member.node_id;
        let others = roster.present().map(|member| member.node).filter(|other| *other != node);
        let others: Vec<NodeId> = others.collect();
        if roster.cluster().is_none() {
            return Err(nothing());
        }
        if others.is_empty() {
            return Err(RecoveryError::Alone { node });
        }
        let vote = remains.take_over(&meta, node).map_err(failed)?;
        let kept = |group: GroupId, remains: &Remains| {
            let damage = remains.damage().cloned();
            let last = remains.last()?;
            let held = self.member.held.iter().find(|held| held.group == group);
            let after = held.and_then(|held| held.after).map(|after| after.index);
            Some(Kept { last, damage, behind: after.filter(|after| last.index < *after) })
        };
        let (mut shards, mut shares) = (Vec::new(), Vec::new());
        for (group, ..) in roster.shards() {
            let found = self.remains(group)?;
            let keyspace = roster.keyspace_of(group);
            shares.push(Share {
                group,
                keyspace: keyspace.map(|(name, _)| name.clone()),
                shard: keyspace.and_then(|(_, keyspace)| keyspace.shard(group)),
                kept: found.as_ref().and_then(|found| kept(group, found)),
            });
            shards.extend(found.map(|found| (group, found)));
        }
        let recovery = Recovery {
            node,
            cluster_id: self.member.cluster_id,
            cluster_name: self.member.cluster_name.clone(),
            others,
            meta: kept(GroupId::META, &remains).ok_or_else(nothing)?,
            shards: shares,
        };
        let (groups, shards) = shards.into_iter().unzip();
        Ok(Built { recovery, roster, meta, vote, shards, groups })
    }

    /// Builds all of it, durably.
    async fn make(&self) -> Result<(Recovery, ClusterId), RecoveryError> {
        let Built { recovery, roster, meta, vote, shards, groups } = self.build_meta().await?;
        let random = &self.seams.random;
        let mut gossip_secret = [0; 32];
        random.fill(&mut gossip_secret);
        let survivor = Survivor {
            id: ClusterId(random.next_u128()),
            gossip_secret,
            node: recovery.node,
            incarnation: random.next_u128(),
            held: groups.iter().copied().collect(),
        };
        let change = alone(&roster, &survivor).map_err(|refused: Refused| failed(refused))?;
        act(&meta, change)?;
        let dir = self.dir.join(PART);
        let options = log::Options::new(random.next_u64());
        let (core, _) =
            log::open(self.seams.disk.clone(), &dir.join("log"), options).map_err(failed)?;
        let log = Log::start(core).map_err(failed)?;
        let mut held = vec![self.begin(&log, &meta, vote).await?];
        for (group, remains) in groups.into_iter().zip(&shards) {
            let state = self.new_state(group)?;
            remains.rebuild(&state).map_err(failed)?;
            let vote = remains.take_over(&state, recovery.node).map_err(failed)?;
            held.push(self.begin(&log, &state, vote).await?);
        }
        log.shutdown().await.map_err(failed)?;
        let mut identity = self.identity.clone();
        identity.incarnation = survivor.incarnation;
        identity.joining = None;
        identity.member = Some(Membership {
            cluster_id: survivor.id,
            is_founder: false,
            held,
            told_of: Vec::new(),
            ..self.member.clone()
        });
        identity.save(self.seams.disk.as_ref(), &dir).map_err(failed)?;
        Ok((recovery, survivor.id))
    }

    /// Makes a group's state durable, and begins its log after it.
    async fn begin(&self, log: &Log, state: &State, vote: Vote) -> Result<Held, RecoveryError> {
        let group = state.group();
        state.checkpoint().map_err(|error| failed(error.what))?;
        let log = log.group(group).map_err(failed)?;
        begin_alone(&log, state, vote).await.map_err(failed)?;
        Ok(Held { group, as_of: 0, stage: HeldStage::Open, after: None })
    }
}

/// Writes the records of the new cluster, some at a time: nobody sees them before all are there.
fn act(meta: &State, change: Change) -> Result<(), RecoveryError> {
    let Change { writes, .. } = change;
    for writes in writes.chunks(RECOVERY_RECORDS_MAX) {
        let change = Change { writes: writes.to_vec(), ..Change::default() };
        let txn = transaction(change).map_err(failed)?;
        act_alone(meta, Action::Txn(txn)).map_err(failed)?;
    }
    Ok(())
}
