//! The supervised actors: they own lifecycle and decisions, and hide behind handles.
//!
//! ```text
//! node                stops when the store is lost or the user asks
//! ├─ store            the shared log; its failure is the node's
//! ├─ groups           one child for each replica on this node
//! │  ├─ group 0       the meta group
//! │  └─ group 1 …     the shards that the roster gives it
//! ├─ holdings         which those are; erases those that are others' now
//! ├─ roster           follows the meta group: who the members are
//! ├─ discovery        where they are: all who say so feed one address book
//! ├─ placement        changes the membership of the groups led here
//! ├─ health           samples what nobody reports
//! └─ http …           the doors
//! ```
//!
//! Data never passes through an actor: [`Groups`] hands out replicas, and operations go straight
//! to them. A part that fails is started again after 1, 2, 4 … 16 s; after three restarts in ten
//! minutes it is reported unhealthy and left alone for five. Handles keep working across that.

mod discovery;
mod gossip;
mod groups;
mod health;
mod mailbox;
mod placed;
mod placement;
mod restart;
mod roster;
mod service;
mod store;
mod supervisor;

use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorRef};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

pub use discovery::Sources;
pub use gossip::{Rumours, Speaker, Told};
pub use groups::{Groups, Holdings};
pub use health::HealthBoard;
pub use mailbox::MailboxCounts;
pub use roster::{Members, read_roster};
pub use service::{RunService, until_stopped};

use crate::error::{Error, Result};
use crate::net::Peers;
use crate::store::log::Log;
use crate::store::space::SpaceGuard;
use crate::types::NodeId;
use mailbox::Envelope;
use placed::Placed;
use placement::Placement;
use supervisor::{Family, Supervisor, fixed};

/// What the tree is grown from.
pub struct TreeSpec {
    /// The shared log.
    pub log: Log,
    /// The guard on free space.
    pub space: SpaceGuard,
    /// The slots of the groups to run.
    pub groups: Groups,
    /// Where their replicas are kept.
    pub holdings: Arc<dyn Holdings>,
    /// Which node this is.
    pub me: NodeId,
    /// Who the members are; kept up to date from here on.
    pub members: Members,
    /// The links to them.
    pub peers: Peers,
    /// Who says where they are.
    pub sources: Sources,
    /// What they say of themselves.
    pub rumours: Rumours,
}

/// The running tree. Dropped, it stops as by [`Tree::stop`], with nobody to wait for it.
#[derive(Debug)]
pub struct Tree {
    root: ActorRef<Envelope<supervisor::Msg>>,
    board: HealthBoard,
    lost: watch::Receiver<Option<String>>,
}

impl Tree {
    /// Starts everything but the doors, which need what this makes. `doors` is asked for them.
    pub async fn grow(
        spec: TreeSpec,
        doors: impl FnOnce(&HealthBoard) -> Vec<(String, RunService)>,
    ) -> Result<Tree> {
        let TreeSpec { log, space, groups, holdings, me, members, peers, sources, rumours } = spec;
        let board = HealthBoard::default();
        let placement = Placement {
            me,
            members: members.clone(),
            groups: groups.clone(),
            peers: peers.clone(),
            rumours,
            space: space.clone(),
        };
        let mut children = vec![store::store_part(log)];
        children.extend(groups::groups_parts(me, &members, &groups, holdings, &space, &board));
        children.extend([
            roster::roster_part(members.clone(), groups.clone(), peers.clone()),
            discovery::discovery_part(members, peers, sources),
            placement::placement_part(placement),
            health::health_part(board.clone(), space, groups),
        ]);
        let doors = doors(&board);
        children.extend(doors.into_iter().map(|(name, run)| service::service_part(name, run)));
        let lost = watch::Sender::new(None);
        let losing = lost.subscribe();
        let stopped = CancellationToken::new();
        let children = fixed(children);
        let family = Family { children, independent: false, board: board.clone(), lost, stopped };
        let (root, _handle) = Actor::spawn(None, Placed::new(Supervisor), family)
            .await
            .map_err(|error| Error::Fatal(format!("the node's actors did not start: {error}")))?;
        Ok(Tree { root, board, lost: losing })
    }

    /// How well the parts are.
    pub fn board(&self) -> &HealthBoard {
        &self.board
    }

    /// Resolves with the reason when the node stops by itself.
    pub fn lost(&self) -> watch::Receiver<Option<String>> {
        self.lost.clone()
    }

    /// Stops everything in order, the doors first and the store last; false if that took longer
    /// than it may and the rest was cut off.
    pub async fn stop(&self, within: Duration) -> bool {
        let stopped = self.root.stop_and_wait(None, Some(within)).await.is_ok();
        if !stopped {
            self.root.kill();
        }
        stopped
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.root.stop(None);
    }
}
