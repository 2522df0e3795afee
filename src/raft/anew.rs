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
//! until it has as much in its log it does not stand for election, votes for nobody who has less, and
//! does not say who the members are. What it has applied until then is how things once were, too:
//! whoever acts on the state as on that of today waits for [`Replica::past_history`].
//!
//! A replica that comes back knows what it had, and not how much of that is committed: its leader says
//! so, or is asked to.

use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use openraft::async_runtime::WatchReceiver;
use tokio::time::sleep;

use super::contacts::{Contacts, Transport};
use super::members::GroupMembers;
use super::reads::{NotConfirmed, ask_leader};
use super::replica::{Failed, Replica, stand_if_alone};
use crate::limits::PROGRESS_RETRY;
use crate::store::log::{EntryId, GroupLog};
use crate::types::{GroupId, NodeId};

/// How far a group is, by these nodes: an entry that is committed, of the term of a leader that a
/// majority has confirmed; `None` if none of them can tell at the moment.
pub async fn progress_of(
    transport: &Transport,
    group: GroupId,
    node: NodeId,
    others: impl IntoIterator<Item = NodeId>,
) -> Option<EntryId> {
    ask_around(&Contacts::new(group, node, transport.clone()), others).await
}

/// Asks them all at once: whoever is dead keeps nobody waiting.
async fn ask_around(
    contacts: &Contacts,
    others: impl IntoIterator<Item = NodeId>,
) -> Option<EntryId> {
    let asked = others.into_iter().map(|other| ask_by(contacts, other));
    let mut answers: FuturesUnordered<_> = asked.collect();
    while let Some(answer) = answers.next().await {
        if answer.is_some() {
            return answer;
        }
    }
    None
}

/// Asks a node, and whom it takes for the leader.
async fn ask_by(contacts: &Contacts, other: NodeId) -> Option<EntryId> {
    match ask_leader(contacts, other).await {
        Ok(id) => Some(id),
        Err(NotConfirmed::NotLeader { leader: Some(leader) }) if leader != contacts.node => {
            ask_leader(contacts, leader).await.ok()
        }
        Err(_) => None,
    }
}

/// How far a group was when a replica began with nothing, as long as its log is behind that.
///
/// What counts is the log and not what was applied: what it has up to there it has from leaders of
/// whom a majority knew, and no restart takes it back.
#[derive(Debug)]
pub(super) struct Behind {
    is_so: AtomicBool,
    after: Option<EntryId>,
}

impl Behind {
    pub(super) fn new(log: &GroupLog, after: Option<EntryId>) -> Self {
        let last = log.last_id().map(|last| last.index);
        let is_so = AtomicBool::new(after.is_some_and(|after| last < Some(after.index)));
        Behind { is_so, after }
    }

    /// Whether it does not know yet who the members are.
    pub(super) fn is_so(&self) -> bool {
        self.is_so.load(Ordering::SeqCst)
    }

    /// Whether a candidate with this last entry must not have its vote: its own log would let in
    /// anybody, also one whom the group has left behind.
    pub(super) fn speaks_against(&self, last: Option<EntryId>) -> bool {
        let rank = |id: EntryId| (id.term, id.node, id.index);
        self.is_so() && last.map(rank) < self.after.map(rank)
    }
}

impl Replica {
    /// Resolves when the state holds all that its group had when this replica began with nothing:
    /// what it says before that was so once.
    pub async fn past_history(&self) -> Result<(), Failed> {
        match self.behind().after {
            Some(after) => self.await_applied(Ok(after)).await.map(drop),
            None => Ok(()),
        }
    }

    /// Has a replica without a vote find out how far its group is, when it is opened again. Where
    /// nothing happens the leader sleeps, and would not say before something does; whoever may vote
    /// wakes it by standing for election.
    pub(super) fn ask_how_far(&self, contacts: Contacts) {
        let replica = self.clone();
        self.tasks().spawn(async move {
            let mut leadership = replica.leadership();
            // Raft says it in a moment; of one that is new, whoever takes it in.
            while replica.members().voters.is_empty() {
                if !leadership.changed().await {
                    return;
                }
            }
            let is_done = |members: GroupMembers| members.voters.contains(&replica.node());
            while !is_done(replica.members())
                && ask_around(&contacts, replica.members().voters).await.is_none()
            {
                sleep(PROGRESS_RETRY).await;
            }
        });
    }

    /// Lets it stand for election from when it knows who the members are.
    pub(super) fn stand_when_caught_up(&self, after: EntryId) {
        let replica = self.clone();
        self.tasks().spawn(async move {
            let mut metrics = replica.raft().metrics();
            while metrics.borrow_watched().last_log_index < Some(after.index) {
                if metrics.changed().await.is_err() {
                    // Raft has ended.
                    return;
                }
            }
            replica.behind().is_so.store(false, Ordering::SeqCst);
            replica.stand_from_here_on();
            let is_led = replica.status().leader.is_some();
            if !is_led && let Err(error) = stand_if_alone(replica.group(), replica.raft()).await {
                tracing::debug!(group = replica.group().0, %error, "it could not stand");
            }
        });
    }
}
