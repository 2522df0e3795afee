//! Replicas that are there anew, of a node that may have had one of the group before.
//!
//! A log tells of the members that were, one membership after the other, and a replica goes by the
//! last that it has. One that begins with nothing and follows the log from its start comes past
//! those in which its node voted, and could take itself for the majority that it was part of then:
//! alone, if its node founded the group; with a leader of the past, if that is still about. What it
//! acknowledged then is lost, so nothing would keep them from deciding a second time.
//!
//! So whoever begins with nothing asks first how far the group is, by a read index: a leader whom a
//! majority confirms without this replica. From then on it believes nobody of an earlier term, and
//! until it has applied as much it does not stand for election, nor say who the members are.

use openraft::async_runtime::WatchReceiver;
use tokio::time::{Instant, timeout_at};

use super::contacts::{Contacts, Transport};
use super::reads::{NotConfirmed, ask_leader};
use super::replica::{Replica, stand_if_alone};
use crate::limits::READ_INDEX_MAX;
use crate::store::log::EntryId;
use crate::types::{GroupId, NodeId};

/// How far a group is, by these nodes: an entry that is committed, of the term of a leader that a
/// majority has confirmed; `None` if none of them can tell at the moment.
pub async fn progress_of(
    transport: &Transport,
    group: GroupId,
    node: NodeId,
    others: impl IntoIterator<Item = NodeId>,
) -> Option<EntryId> {
    let contacts = Contacts::new(group, node, transport.clone());
    for other in others {
        let deadline = Instant::now() + READ_INDEX_MAX;
        match timeout_at(deadline, ask_leader(&contacts, other)).await {
            Ok(Ok(id)) => return Some(id),
            Ok(Err(NotConfirmed::NotLeader { leader: Some(leader) })) if leader != node => {
                if let Ok(id) = ask_leader(&contacts, leader).await {
                    return Some(id);
                }
            }
            _ => {}
        }
    }
    None
}

impl Replica {
    /// Whether it has what it takes to know who the members are.
    pub(super) fn has_caught_up_once(&self) -> bool {
        let after = self.after();
        after.is_none_or(|after| self.applied().borrow().holds(after.index))
    }

    /// Lets it stand for election from when it knows who the members are.
    pub(super) fn stand_when_caught_up(&self, after: EntryId) {
        let replica = self.clone();
        self.tasks().spawn(async move {
            let mut applied = replica.applied();
            if applied.wait_for(|applied| applied.holds(after.index)).await.is_err() {
                // Raft has ended.
                return;
            }
            replica.stand_from_here_on();
            let is_led = replica.raft().server_metrics().borrow_watched().current_leader.is_some();
            if !is_led && let Err(error) = stand_if_alone(replica.group(), replica.raft()).await {
                tracing::debug!(group = %replica.group(), %error, "it could not stand");
            }
        });
    }
}
