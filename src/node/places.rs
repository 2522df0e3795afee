//! The data directory in this process's hands: its identity, its log, and where its groups are.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::sync::Mutex;

use super::builder::StartError;
use super::identity::{Identity, Membership};
use crate::error::Error;
use crate::net::NodeKey;
use crate::raft::{Origin, RaftTimes, Replica, ReplicaSpec, Transport};
use crate::seams::disk::Disk;
use crate::seams::{self, Random, Seams};
use crate::store::log::{self, Log};
use crate::store::space::SpaceGuard;
use crate::types::{GroupId, NodeId};

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
        let kept = Identity::load(seams, &dir).map_err(unusable)?;
        let identity = kept.unwrap_or_else(|| Identity::new(seams));
        let key = NodeKey::load_or_create(disk.as_ref(), &dir.join("node.key"), &seams.random)
            .map_err(unusable)?;
        let space = SpaceGuard::new(disk.clone(), dir.clone()).map_err(unusable)?;
        let log = open_log(disk.clone(), &dir.join("log"), seams, lock)
            .map_err(|error| StartError::Store { dir: dir.clone(), error })?;
        let home = Home { dir, disk: disk.clone(), identity: Arc::new(Mutex::new(identity)) };
        Ok(Opened { home, key, log, space })
    }
}

/// Opens the shared log and puts its writer to work, which keeps the lock on the node's directory
/// until it has ended: no other node may write there before, whatever becomes of this one.
fn open_log(
    disk: Arc<dyn Disk>,
    dir: &Path,
    seams: &Seams,
    lock: Box<dyn Debug + Send + Sync>,
) -> Result<Log, String> {
    let options = log::Options::new(seams.random.next_u64());
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
}

impl Home {
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
        *identity =
            seams::blocking(move || changed.save(disk.as_ref(), &dir).map(|()| changed)).await?;
        Ok(())
    }

    async fn note_opened(&self, group: GroupId) -> io::Result<()> {
        self.change(|identity| {
            if let Some(member) = &mut identity.member
                && !member.opened.contains(&group)
            {
                member.opened.push(group);
            }
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
    pub(super) random: Random,
}

impl Places {
    /// Opens a group's replica, as often as it has to be started.
    pub(super) fn open(&self, group: GroupId) -> BoxFuture<'static, Result<Replica, Error>> {
        Box::pin(self.clone().open_replica(group))
    }

    async fn open_replica(self, group: GroupId) -> Result<Replica, Error> {
        let log = self.log.group(group)?;
        let noted = |error: io::Error| Error::Unavailable {
            group,
            reason: format!("that it was opened here can't be noted: {error}"),
        };
        let identity = self.home.identity().await;
        let Some(Membership { is_founder, opened, .. }) = identity.member else {
            return Err(Error::Fatal("the node is not a member of a cluster yet".into()));
        };
        let is_new = !opened.contains(&group);
        let replica = Replica::open(ReplicaSpec {
            group,
            node: self.me,
            log,
            disk: self.home.disk.clone(),
            dir: self.home.dir.join("groups").join(group.to_string()),
            space: self.space.clone(),
            times: self.times,
            origin: match (is_new, is_founder) {
                (false, _) => Origin::Returns,
                (true, true) => Origin::Founds(vec![self.me]),
                (true, false) => Origin::Joins,
            },
            random: self.random.clone(),
            transport: self.transport.clone(),
        })
        .await?;
        if is_new && let Err(error) = self.home.note_opened(group).await {
            replica.abandon().await;
            return Err(noted(error));
        }
        Ok(replica)
    }
}
