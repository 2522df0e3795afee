//! The nodes that a client can ask, as one trait: a program inside a member asks its own node's
//! replicas and, through the node's peers, the others; a program elsewhere asks members over links
//! of its own. Tests script theirs.
//!
//! An implementation asks one node once and says what became of it. Which node, how often and how
//! long is decided above, in `route` and `retry`.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::desk::Hop;
use super::request::{Failure, Place, Reply, Request, Whereabouts};
use crate::error::{Error, Result};
use crate::raft::{GroupWatch, WatchBatch, WatchRequest};
use crate::roster::records::Keyspace;
use crate::types::{EndpointId, GroupId, KeyspaceName, NodeId, Revision};

/// Nodes that hold groups, and the ways to ask them.
pub trait Nodes: Debug + Send + Sync + 'static {
    /// Whether asking is of no use any more: the node, or the client, has stopped.
    fn is_closed(&self) -> bool;
    /// The node in this very process, if there is one that holds the group: the cheapest to ask.
    fn here(&self, group: GroupId) -> Option<EndpointId>;
    /// All that may be asked about a group, this one included, in an order that stays; `None` if
    /// the group is no more.
    fn known(&self, group: GroupId) -> Option<Arc<[EndpointId]>>;
    /// A node that was asked about a group does not hold it, by the roster of this revision.
    fn not_here(&self, group: GroupId, as_of: Revision);
    /// A try came to nothing, so that another follows if there is time.
    fn retries(&self) {}
    /// A keyspace, if it is known here and now.
    fn keyspace(&self, name: &KeyspaceName) -> Option<Keyspace>;
    /// A keyspace that was not known, or that has changed; `None` if there is none.
    fn find_keyspace<'a>(
        &'a self,
        name: &'a KeyspaceName,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Keyspace>>>;
    /// A node that was named as a leader.
    fn learn(&self, place: &Place);
    /// Asks one node once, ending soon after the deadline; at its first hop the request is passed on
    /// to who leads. Dropped, it may have been done.
    fn ask(
        &self,
        node: EndpointId,
        request: Request,
        hop: Hop,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Reply, NotAnswered>>;
    /// Begins a watch at one node.
    fn watch(
        &self,
        node: EndpointId,
        group: GroupId,
        request: WatchRequest,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<dyn Changes>, NotAnswered>>;
}

/// Where the members of the cluster are, as the node that answers knows it.
pub trait Members: Debug + Send + Sync + 'static {
    /// Their keys, in an order that stays; empty only before the node is in a cluster.
    fn endpoints(&self) -> Arc<[EndpointId]>;
    /// Those that hold a group, in an order that stays; `None` if the group is no more.
    fn holders(&self, group: GroupId) -> Option<Arc<[EndpointId]>>;
    /// A keyspace.
    fn keyspace(&self, name: &KeyspaceName) -> Option<Keyspace>;
    /// The keyspace that a group is a shard of.
    fn keyspace_of(&self, group: GroupId) -> Option<KeyspaceName>;
    /// The revision of the roster that says all this.
    fn as_of(&self) -> Revision;
    /// The level of what a member's build knows.
    fn level(&self, member: EndpointId) -> u32;
    /// Resolves when that is at least this one.
    fn reached(&self, revision: Revision) -> BoxFuture<'static, ()>;
    /// Whether the cluster takes no writes.
    fn is_read_only(&self) -> bool;
    /// Where one of them is.
    fn place(&self, node: NodeId) -> Option<Place>;
    /// Where they are, for clients that come from elsewhere: at most
    /// [`CLIENT_NODES_MAX`](crate::limits::CLIENT_NODES_MAX).
    fn whereabouts(&self) -> Whereabouts;
    /// The same, once they are elsewhere or others than was told.
    fn moved(&self, told: &Whereabouts) -> BoxFuture<'static, Whereabouts>;
}

/// Why one try at one node has no answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotAnswered {
    /// The node answered that it can't.
    Failed(Failure),
    /// The node was not reached: nothing was done.
    NotSent {
        /// Why.
        reason: String,
    },
    /// The node may have got the request, and will not answer.
    Lost {
        /// Why.
        reason: String,
    },
}

impl NotAnswered {
    /// A message came that another version sends, or none of ours.
    pub(super) fn malformed(error: impl std::fmt::Display) -> Self {
        NotAnswered::Lost { reason: error.to_string() }
    }
}

impl From<Error> for NotAnswered {
    fn from(error: Error) -> Self {
        NotAnswered::Failed(Failure::Final(error))
    }
}

/// A watch that was begun at one node.
pub trait Changes: Debug + Send {
    /// The first revision that was not shown yet.
    fn next_revision(&self) -> Revision;
    /// The next changes, waiting for them; `None` when this node shows no more, after which a
    /// watch from [`Changes::next_revision`] at any node misses nothing.
    fn next(&mut self) -> BoxFuture<'_, Result<Option<WatchBatch>>>;
}

impl Changes for GroupWatch {
    fn next_revision(&self) -> Revision {
        GroupWatch::next_revision(self)
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<WatchBatch>>> {
        Box::pin(GroupWatch::next(self))
    }
}
