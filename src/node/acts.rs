//! What members ask of each other's nodes: to hand over the lead of a group, which only the leader's
//! own node can, to say when they know the roster as of a revision, and to have groups sleep. A member
//! that is asked passes nothing on.

use bytes::Bytes;
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout};

use super::cluster::{Cluster, ClusterError};
use crate::limits::{
    ACKNOWLEDGE_MAX, CLUSTER_FOLLOW_MAX, HANDOVER_MAX, HANDOVER_RETRY, REST_ASK_MAX,
};
use crate::net::{CallFailed, Refused as NotServed, RefusedCode};
use crate::raft::{ChangeFailed, Quiet};
use crate::roster::keyspaces::lead;
use crate::roster::refused::Refused;
use crate::types::{EndpointId, Form, GroupId, NodeId, Revision};
use crate::wire::StreamKind;
use crate::wire::envelope::{Unreadable, form, open, seal};

/// The version of the messages; the first byte of each.
const VERSION: u8 = 2;

/// What a member is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Asked {
    /// To hand over; answered with how that went.
    HandOver(HandOver),
    /// To wait, for a moment, until it knows the roster as of this revision; answered with the
    /// revision that it knows then.
    Follow(Revision),
    /// To have these groups sleep, which the asking node leads; answered with those that do.
    Sleep(Vec<Quiet>),
}

pub(super) const ASKED: Form = form::<Asked, VERSION>("what a member is asked");
pub(super) const HANDED_OVER: Form =
    form::<Result<(), ChangeFailed>, VERSION>("how handing over went");
pub(super) const FOLLOWED: Form = form::<Revision, VERSION>("what a member knows");
pub(super) const ASLEEP: Form = form::<Vec<GroupId>, VERSION>("groups that sleep");

/// To whom the leader of a group is to hand over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct HandOver {
    group: GroupId,
    to: NodeId,
}

impl Cluster {
    /// Makes another voter the leader of a group, and waits until it is.
    ///
    /// The group takes no writes from when it is asked until then, usually for some milliseconds.
    pub async fn transfer(&self, group: GroupId, to: NodeId) -> Result<(), ClusterError> {
        let roster = self.roster();
        if roster.member(to).is_none_or(|member| !member.is_present()) {
            return Err(Refused::UnknownNode { node: to }.into());
        }
        if !self.inner.groups.holds(group) {
            return Err(Refused::NoReplica { node: self.inner.me, group }.into());
        }
        // Or placement would hand it back.
        self.decide(|roster, _| Ok(((), lead(roster, group, to)?))).await?;
        let deadline = Instant::now() + HANDOVER_MAX;
        loop {
            let failed = match self.leader_of(group, deadline).await? {
                Some(leader) if leader == to => return Ok(()),
                Some(leader) if leader == self.inner.me => {
                    self.hand_over_here(HandOver { group, to }).await
                }
                Some(leader) => {
                    self.ask_to_hand_over(leader, HandOver { group, to }, deadline).await
                }
                None => Err(ChangeFailed::NotLeader { group, leader: None }),
            };
            match failed {
                Ok(()) => return Ok(()),
                // It has just moved, or is about to: who leads is known in a moment.
                Err(ChangeFailed::NotLeader { .. })
                    if Instant::now() + HANDOVER_RETRY < deadline =>
                {
                    sleep(HANDOVER_RETRY).await;
                }
                Err(failed) => return Err(failed.into()),
            }
        }
    }

    async fn leader_of(
        &self,
        group: GroupId,
        deadline: Instant,
    ) -> Result<Option<NodeId>, ClusterError> {
        let replica = self.inner.groups.replica(group, deadline).await?;
        Ok(replica.status().leader)
    }

    async fn hand_over_here(&self, request: HandOver) -> Result<(), ChangeFailed> {
        let HandOver { group, to } = request;
        match self.inner.groups.get(group) {
            Some(replica) => replica.transfer_to(to).await,
            None => Err(ChangeFailed::NotLeader { group, leader: None }),
        }
    }

    async fn ask_to_hand_over(
        &self,
        leader: NodeId,
        request: HandOver,
        deadline: Instant,
    ) -> Result<(), ChangeFailed> {
        let group = request.group;
        let not_there = ChangeFailed::NotLeader { group, leader: None };
        let Some(endpoint) = self.roster().member(leader).map(|member| member.endpoint) else {
            return Err(not_there);
        };
        let asked = seal(VERSION, &Asked::HandOver(request));
        let called = self.inner.peers.call(endpoint, StreamKind::Act, asked, deadline);
        match called.await {
            Ok(answer) => open(VERSION, &answer).unwrap_or_else(|error| {
                Err(ChangeFailed::Unknown { group, reason: error.to_string() })
            }),
            Err(CallFailed::NotSent(_) | CallFailed::Refused(_)) => Err(not_there),
            Err(CallFailed::Lost(lost)) => {
                Err(ChangeFailed::Unknown { group, reason: lost.to_string() })
            }
        }
    }

    /// Waits, for a moment, until the members know the roster as of a revision: what each says that
    /// it knows; nothing of those that don't answer.
    pub async fn acknowledged(&self, revision: Revision) -> Vec<(NodeId, Option<Revision>)> {
        let deadline = Instant::now() + ACKNOWLEDGE_MAX;
        let roster = self.roster();
        let ask = async |node: NodeId, endpoint: EndpointId| {
            let known = match node == self.inner.me {
                true => Some(self.follow(revision).await),
                false => self.ask_to_follow(endpoint, revision, deadline).await,
            };
            (node, known)
        };
        join_all(roster.present().map(|member| ask(member.node, member.endpoint))).await
    }

    async fn ask_to_follow(
        &self,
        endpoint: EndpointId,
        revision: Revision,
        deadline: Instant,
    ) -> Option<Revision> {
        let asked = seal(VERSION, &Asked::Follow(revision));
        let called = self.inner.peers.call(endpoint, StreamKind::Act, asked, deadline);
        open(VERSION, &called.await.ok()?).ok()
    }

    /// Asks a member to have groups sleep; answers which do.
    pub(super) async fn ask_to_sleep(&self, node: NodeId, quiet: Vec<Quiet>) -> Vec<GroupId> {
        let Some(endpoint) = self.roster().member(node).map(|member| member.endpoint) else {
            return Vec::new();
        };
        let (asked, deadline) =
            (seal(VERSION, &Asked::Sleep(quiet)), Instant::now() + REST_ASK_MAX);
        let called = self.inner.peers.call(endpoint, StreamKind::Act, asked, deadline).await;
        called.ok().and_then(|answer| open(VERSION, &answer).ok()).unwrap_or_default()
    }

    async fn follow(&self, revision: Revision) -> Revision {
        let mut changes = self.inner.members.changes();
        let reached = changes.wait_for(|roster| roster.revision() >= revision);
        // What is known when the time is up is the answer.
        drop(timeout(CLUSTER_FOLLOW_MAX, reached).await);
        self.roster().revision()
    }

    /// Answers what a member asks of this node.
    pub(super) async fn answer_asked(
        &self,
        peer: EndpointId,
        request: Bytes,
    ) -> Result<Bytes, NotServed> {
        let malformed =
            |error: Unreadable| NotServed::new(RefusedCode::Malformed, error.to_string());
        match open(VERSION, &request).map_err(malformed)? {
            Asked::HandOver(request) => {
                tracing::info!(group = request.group.0, to = %request.to, "asked to hand over");
                Ok(seal(VERSION, &self.hand_over_here(request).await))
            }
            Asked::Follow(revision) => Ok(seal(VERSION, &self.follow(revision).await)),
            Asked::Sleep(quiet) => Ok(seal(VERSION, &self.sleep(peer, &quiet))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_keep_their_bytes() {
        let request = Asked::HandOver(HandOver { group: GroupId(1), to: NodeId(300) });
        assert_eq!(seal(VERSION, &request)[..], [2, 0, 1, 0xac, 0x02]);
        assert_eq!(open::<Asked>(VERSION, &seal(VERSION, &request)), Ok(request));
        assert_eq!(seal(VERSION, &Asked::Follow(300))[..], [2, 1, 0xac, 0x02]);
        let quiet = Quiet { group: GroupId(5), term: 2, last: 300 };
        assert_eq!(seal(VERSION, &Asked::Sleep(vec![quiet]))[..], [2, 2, 1, 5, 2, 0xac, 0x02]);
        let done: Result<(), ChangeFailed> = Ok(());
        assert_eq!(seal(VERSION, &done)[..], [2, 0]);
        let lags = ChangeFailed::Lags { group: GroupId(1), node: NodeId(2), entries: 3 };
        assert_eq!(seal(VERSION, &Err::<(), _>(lags))[..], [2, 1, 2, 1, 2, 3]);
    }

    #[test]
    fn what_is_no_message_is_told() {
        for bytes in [&[][..], &[1, 1, 1], &[2, 1], &[2, 3], &[2, 0, 1, 1, 1]] {
            assert!(open::<Asked>(VERSION, bytes).is_err(), "{bytes:?}");
        }
    }
}
