//! The data directory in this process's hands: its identity, its log, and where its groups are.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;
use tokio::time::sleep;

use super::builder::StartError;
use super::identity::{Held, HeldStage, Identity, Membership};
use super::recover;
use crate::actors::{Holdings, Members};
use crate::error::Error;
use crate::limits::PROGRESS_RETRY;
use crate::net::NodeKey;
use crate::raft::{
    Counts, Origin, RaftTimes, Replica, ReplicaSpec, Rounds, Transport, progress_of,
};
use crate::roster::Roster;
use crate::roster::keyspaces::Part;
use crate::seams::disk::Disk;
use crate::seams::{self, Random, Seams};
use crate::store::log::{self, EntryId, Log};
use crate::store::space::{GROUPS_DIR, LOG_DIR, SpaceGuard};
use crate::store::state::State;
use crate::types::{GroupId, NodeId, Revision};

/// What is in a data directory, opened for this process alone.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) home: Home,
    pub(super) key: NodeKey,
    pub(super) log: Log,
    pub(super) space: SpaceGuard,
}

impl Opened {
    /// Blocks: reads the whole log's index.
    pub(super) fn open(dir: PathBuf, seams: &Seams) -> Result<Opened, StartError> {
        let disk = &seams.disk;
        let unusable = |error: io::Error| StartError::Directory { dir: dir.clone(), error };
        disk.create_dir_all(&dir).map_err(unusable)?;
        let lock = disk.lock(&dir.join("lock")).map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock => StartError::DirectoryInUse { dir: dir.clone() },
            _ => unusable(error),
        })?;
        recover::finish(seams, &dir).map_err(unusable)?;
        let kept = Identity::load(seams, &dir).map_err(unusable)?;
        let identity = kept.unwrap_or_else(|| Identity::new(&seams.random));
        let key = dir.join("node.key");
        if let Some(member) = &identity.member
            && !disk.exists(&key).map_err(unusable)?
        {
            return Err(unusable(no_key(member.node_id)));
        }
        let key = NodeKey::load_or_create(disk.as_ref(), &key, &seams.random).map_err(unusable)?;
        let space = SpaceGuard::new(disk.clone(), dir.clone()).map_err(unusable)?;
        let log = open_log(disk.clone(), &dir.join(LOG_DIR), seams, lock)
            .map_err(|error| StartError::Store { dir: dir.clone(), error })?;
        let space = space.with_log(log.starved());
        let identity = Arc::new(Mutex::new(identity));
        let home = Home { dir, disk: disk.clone(), identity, waiting: Arc::default() };
        Ok(Opened { home, key, log, space })
    }
}

/// With another key it would be a stranger to its own cluster.
fn no_key(node: NodeId) -> io::Error {
    let what = format!(
        "node.key, by which others know node {node}, is missing; put it back, or choose another one"
    );
    io::Error::new(io::ErrorKind::InvalidData, what)
}

/// Opens the shared log and puts its writer to work, which keeps the lock on the node's directory
/// until it has ended: no other node may write there before, whatever becomes of this one.
fn open_log(
    disk: Arc<dyn Disk>,
    dir: &Path,
    seams: &Seams,
    lock: Box<dyn Debug + Send + Sync>,
) -> Result<Log, String> {
    let options = log::Options::new(seams.random.next_u64()).within(disk.file_bytes_max());
    let (mut core, _recovery) = log::open(disk, dir, options).map_err(|error| error.to_string())?;
    core.hold(lock);
    Log::start(core).map_err(|error| error.to_string())
}

/// The data directory and what it knows of its node; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Home {
    pub(super) dir: PathBuf,
    disk: Arc<dyn Disk>,
    identity: Arc<Mutex<Identity>>,
    /// What is to be noted of groups by whoever writes next.
    waiting: Arc<std::sync::Mutex<Notes>>,
}

/// How far each group is kept.
type Notes = BTreeMap<GroupId, Option<Held>>;

impl Home {
    fn group_dir(&self, group: GroupId) -> PathBuf {
        self.dir.join(GROUPS_DIR).join(group.to_string())
    }

    /// What it knows at the moment.
    pub(super) async fn identity(&self) -> Identity {
        self.identity.lock().await.clone()
    }

    /// Changes what it knows, durably, or not at all.
    pub(super) async fn change(&self, change: impl FnOnce(&mut Identity)) -> io::Result<()> {
        let mut identity = self.identity.clone().lock_owned().await;
        let mut changed = identity.clone();
        change(&mut changed);
        if changed == *identity {
            return Ok(());
        }
        let (disk, dir) = (self.disk.clone(), self.dir.clone());
        // Whoever waits may be gone before it is done, and the next must not begin before either.
        seams::blocking(move || {
            changed.save(disk.as_ref(), &dir)?;
            *identity = changed;
            Ok(())
        })
        .await
    }

    /// What it knows of the groups that are kept here.
    pub(super) async fn held(&self) -> Vec<Held> {
        self.identity.lock().await.member.as_ref().map_or_else(Vec::new, |m| m.held.clone())
    }

    /// Notes how far a group is kept; `None` if it is kept no longer. Many that come at once are
    /// written together.
    async fn note(&self, group: GroupId, held: Option<Held>) -> io::Result<()> {
        let waiting = || self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        waiting().insert(group, held);
        self.change(|identity| {
            let Some(member) = &mut identity.member else { return };
            let mut notes = std::mem::take(&mut *waiting());
            notes.entry(group).or_insert(held);
            member.held.retain(|held| !notes.contains_key(&held.group));
            member.held.extend(notes.into_values().flatten());
            member.held.sort_unstable_by_key(|held| held.group);
        })
        .await
    }
}

/// What the replicas of this node are opened from.
#[derive(Clone, Debug)]
pub(super) struct Places {
    pub(super) me: NodeId,
    pub(super) home: Home,
    pub(super) log: Log,
    pub(super) space: SpaceGuard,
    pub(super) times: RaftTimes,
    pub(super) transport: Transport,
    pub(super) members: Members,
    pub(super) rounds: Rounds,
    pub(super) counts: Counts,
    pub(super) random: Random,
}

impl Holdings for Places {
    fn prepare(&self, group: GroupId) -> BoxFuture<'static, Result<Part, Error>> {
        Box::pin(self.clone().prepare_replica(group))
    }

    fn open(&self, group: GroupId, part: Part) -> BoxFuture<'static, Result<Replica, Error>> {
        Box::pin(self.clone().open_replica(group, part))
    }

    fn erase(&self, group: GroupId) -> BoxFuture<'static, Result<(), Error>> {
        let places = self.clone();
        Box::pin(async move {
            if group == GroupId::META {
                places.found_no_more().await?;
            }
            // First of all, so that what is left after a crash is never taken for the group.
            let erased = Held { group, as_of: 0, stage: HeldStage::Erased, after: None };
            places.note(group, Some(erased)).await?;
            places.erase_replica(group).await?;
            places.note(group, None).await
        })
    }

    fn held(&self) -> BoxFuture<'static, BTreeMap<GroupId, Revision>> {
        let home = self.home.clone();
        Box::pin(async move {
            home.held().await.into_iter().map(|held| (held.group, held.as_of)).collect()
        })
    }
}

impl Places {
    /// What is noted of a group, and whether this node makes the meta group.
    async fn noted(&self, group: GroupId) -> Result<(Option<Held>, bool), Error> {
        let Some(Membership { is_founder, held, .. }) = self.home.identity().await.member else {
            return Err(Error::Fatal("the node is not a member of a cluster yet".into()));
        };
        let held = held.into_iter().find(|held| held.group == group);
        Ok((held, group == GroupId::META && is_founder))
    }

    async fn prepare_replica(self, group: GroupId) -> Result<Part, Error> {
        let (held, founds_meta) = self.noted(group).await?;
        match held.map(|held| (held.stage, held.as_of)) {
            Some((HeldStage::Open, _)) => return Ok(Part::Follow),
            // A roster of before does not know what it was made ready for, which may be to found it.
            Some((HeldStage::New, as_of)) => return Ok(self.part(group, as_of).await.0),
            Some((HeldStage::Erased, _)) => self.erase_replica(group).await?,
            None => {}
        }
        let (part, as_of) = self.part(group, 0).await;
        let founds = founds_meta || matches!(part, Part::Found(_));
        let after = if founds { None } else { Some(self.progress_of(group).await) };
        self.note(group, Some(Held { group, as_of, stage: HeldStage::New, after })).await?;
        Ok(part)
    }

    /// What the replica is by a roster that is at least as late as this revision, and its revision.
    async fn part(&self, group: GroupId, as_of: Revision) -> (Part, Revision) {
        let mut changes = self.members.changes();
        let is_late = |roster: &Arc<Roster>| group == GroupId::META || roster.revision() >= as_of;
        // It has not ended: who would tell it is held here.
        let roster = match changes.wait_for(is_late).await {
            Ok(roster) => roster.clone(),
            Err(_) => self.members.roster(),
        };
        (roster.part(group, self.me).unwrap_or(Part::Follow), roster.revision())
    }

    /// How far a group is, once the others can tell.
    async fn progress_of(&self, group: GroupId) -> EntryId {
        loop {
            let others = self.members.others(group, self.me);
            match progress_of(&self.transport, group, self.me, others).await {
                Some(id) => return id,
                None => sleep(PROGRESS_RETRY).await,
            }
        }
    }

    async fn open_replica(self, group: GroupId, part: Part) -> Result<Replica, Error> {
        let (held, founds_meta) = self.noted(group).await?;
        let Some(held) = held else {
            return Err(Error::Fatal(format!("group {group} was not made ready")));
        };
        let is_new = held.stage != HeldStage::Open;
        let replica = Replica::open(ReplicaSpec {
            group,
            node: self.me,
            log: self.log.group(group)?,
            disk: self.home.disk.clone(),
            dir: self.home.group_dir(group),
            space: self.space.clone(),
            times: self.times,
            origin: match (is_new, part) {
                (false, _) => Origin::Returns,
                (true, _) if founds_meta => Origin::Founds(vec![self.me]),
                (true, Part::Found(voters)) => Origin::Founds(voters),
                (true, Part::Follow) => Origin::Joins,
            },
            random: self.random.clone(),
            after: held.after,
            transport: self.transport.clone(),
            rounds: self.rounds.clone(),
            counts: self.counts.of(group),
        })
        .await?;
        let open = Held { stage: HeldStage::Open, ..held };
        if is_new && let Err(error) = self.note(group, Some(open)).await {
            replica.abandon().await;
            return Err(error);
        }
        Ok(replica)
    }

    async fn note(&self, group: GroupId, held: Option<Held>) -> Result<(), Error> {
        let unavailable = |error: io::Error| Error::Unavailable {
            group,
            reason: format!("whether it is kept here can't be noted: {error}"),
        };
        self.home.note(group, held).await.map_err(unavailable)
    }

    /// The meta group is there, and whoever made it is to take it from the others like everybody.
    async fn found_no_more(&self) -> Result<(), Error> {
        let changed = self.home.change(|identity| {
            if let Some(member) = &mut identity.member {
                member.is_founder = false;
            }
        });
        changed.await.map_err(|error| Error::Unavailable {
            group: GroupId::META,
            reason: format!("that it is founded can't be noted: {error}"),
        })
    }

    async fn erase_replica(&self, group: GroupId) -> Result<(), Error> {
        let unavailable = |what: String| Error::Unavailable {
            group,
            reason: format!("what was kept of it here can't be erased: {what}"),
        };
        self.log.remove_group(group).await.map_err(|error| unavailable(error.to_string()))?;
        let (disk, dir) = (self.home.disk.clone(), self.home.group_dir(group));
        let erased = seams::blocking(move || State::erase(disk.as_ref(), &dir)).await;
        erased.map_err(|error| unavailable(error.to_string()))
    }
}
