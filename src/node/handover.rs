//! Handing over the lead of a group on request: only the leader's own node can, so a member that is
//! asked for it passes the request on to that one, which never passes it on again.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep};

use super::cluster::{Cluster, ClusterError};
use crate::limits::{HANDOVER_MAX, HANDOVER_RETRY};
use crate::net::{CallFailed, Refused as NotServed, RefusedCode};
use crate::raft::ChangeFailed;
use crate::roster::refused::Refused;
use crate::types::{GroupId, NodeId};
use crate::wire::StreamKind;
use crate::wire::envelope::{Unreadable, open, seal};

/// The version of the messages; the first byte of each.
const VERSION: u8 = 1;

/// What a member asks the leader of a group.
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
        let called =
            self.inner.peers.call(endpoint, StreamKind::Act, seal(VERSION, &request), deadline);
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

    /// Answers a member that asks this node to hand over.
    pub(super) async fn answer_hand_over(&self, request: Bytes) -> Result<Bytes, NotServed> {
        let malformed =
            |error: Unreadable| NotServed::new(RefusedCode::Malformed, error.to_string());
        let request: HandOver = open(VERSION, &request).map_err(malformed)?;
        tracing::info!(group = %request.group, to = %request.to, "asked to hand over");
        Ok(seal(VERSION, &self.hand_over_here(request).await))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_messages_keep_their_bytes() {
        let request = HandOver { group: GroupId(1), to: NodeId(300) };
        assert_eq!(seal(VERSION, &request)[..], [1, 1, 0xac, 0x02]);
        assert_eq!(open::<HandOver>(VERSION, &seal(VERSION, &request)), Ok(request));
        let done: Result<(), ChangeFailed> = Ok(());
        assert_eq!(seal(VERSION, &done)[..], [1, 0]);
        let lags = ChangeFailed::Lags { group: GroupId(1), node: NodeId(2), entries: 3 };
        assert_eq!(seal(VERSION, &Err::<(), _>(lags))[..], [1, 1, 2, 1, 2, 3]);
    }

    #[test]
    fn what_is_no_message_is_told() {
        for bytes in [&[][..], &[2, 1, 1], &[1, 1], &[1, 1, 1, 1]] {
            assert!(open::<HandOver>(VERSION, bytes).is_err(), "{bytes:?}");
        }
    }
}
