//! The nodes as a program inside a member asks them: its own replicas first, the other members
//! over the node's links.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::{Instant, timeout_at};

use super::desk::{Desk, Hop};
use super::group::GroupClient;
use super::nodes::{Changes, Nodes, NotAnswered};
use super::request::{Asked, Failure, Place, Reply, Request, WatchAsked, decode_response};
use super::shown::RemoteWatch;
use super::trace::Part;
use crate::error::{Error, Result};
use crate::machine::ops::Query;
use crate::net::{CallFailed, Peers, Refused, RefusedCode};
use crate::raft::WatchRequest;
use crate::roster::records::Keyspace;
use crate::seams::Random;
use crate::types::{Consistency, EndpointId, GroupId, KeyspaceName, Revision};
use crate::wire::StreamKind;

/// The nodes of a cluster, asked from one of them.
#[derive(Clone, Debug)]
pub struct Member {
    id: EndpointId,
    desk: Desk,
    /// None on a node that is alone for good.
    peers: Option<Peers>,
    random: Random,
}

impl Member {
    /// Asks from the node with this key, the others through its peers.
    pub fn new(id: EndpointId, desk: Desk, peers: Option<Peers>, random: Random) -> Self {
        Member { id, desk, peers, random }
    }

    /// Whether its node changes nothing for who comes from outside.
    pub fn is_read_only(&self) -> bool {
        self.desk.is_read_only()
    }

    pub(super) fn desk(&self) -> &Desk {
        &self.desk
    }

    /// Until when to wait for a replica of this node that is starting: no time at all if another
    /// node may answer meanwhile.
    fn start_by(&self, group: GroupId, deadline: Instant) -> Instant {
        let known = self.known(group);
        let alone = known.is_none_or(|known| known.iter().all(|member| *member == self.id));
        if alone { deadline } else { Instant::now() }
    }

    fn peers(&self) -> Result<&Peers, NotAnswered> {
        let alone = || NotAnswered::NotSent { reason: "this node has no peers".into() };
        self.peers.as_ref().ok_or_else(alone)
    }

    async fn ask_peer(
        &self,
        node: EndpointId,
        request: Request,
        hop: Hop,
        deadline: Instant,
    ) -> Result<Reply, NotAnswered> {
        let group = request.group();
        let part = Part::asking(&node, group);
        let trace = part.as_ref().and_then(Part::context);
        let message = Asked::by(deadline, request, self.desk.name_for(node, trace)).encode();
        let called = self.peers()?.call(node, hop.kind(), message, deadline);
        let called = tokio::select! {
            biased;
            called = called => called,
            // A dead leader answers nothing, and its replicas elsewhere know before a link does.
            () = self.desk.led_by_another(group, node) => {
                return Err(NotAnswered::Lost { reason: "another node leads it now".into() });
            }
        };
        let response = called.map_err(|failed| not_answered(group, failed))?;
        let response = decode_response(&response).map_err(NotAnswered::malformed)?;
        response.map_err(NotAnswered::Failed)
    }

    async fn watch_peer(
        &self,
        node: EndpointId,
        asked: WatchAsked,
        deadline: Instant,
    ) -> Result<RemoteWatch, NotAnswered> {
        let stream = self.peers()?.stream(node, StreamKind::Watch, deadline).await;
        let stream = stream.map_err(|lost| NotAnswered::NotSent { reason: lost.to_string() })?;
        RemoteWatch::begin(stream, &asked, deadline).await
    }
}

/// What a call without an answer means for the request.
fn not_answered(group: GroupId, failed: CallFailed) -> NotAnswered {
    let refused = match failed {
        CallFailed::NotSent(lost) => return NotAnswered::NotSent { reason: lost.to_string() },
        CallFailed::Lost(lost) => return NotAnswered::Lost { reason: lost.to_string() },
        CallFailed::Refused(refused) => refused,
    };
    let Refused { code, reason } = refused;
    NotAnswered::Failed(Failure::Final(match code {
        RefusedCode::Busy => {
            Error::Busy { what: "the node that was asked", retry_after_ms: RETRY_AFTER_MS }
        }
        RefusedCode::NotHere | RefusedCode::Denied | RefusedCode::Malformed => {
            Error::Unavailable { group, reason }
        }
    }))
}

/// When to come again to a node that has too much to do.
const RETRY_AFTER_MS: u64 = 100;

impl Nodes for Member {
    fn is_closed(&self) -> bool {
        self.desk.is_closed()
    }

    fn here(&self, group: GroupId) -> Option<EndpointId> {
        self.desk.holds(group).then_some(self.id)
    }

    fn known(&self, group: GroupId) -> Option<Arc<[EndpointId]>> {
        self.desk.members().holders(group)
    }

    /// The roster says who does.
    fn not_here(&self, _group: GroupId, _as_of: Revision) {}

    fn keyspace(&self, name: &KeyspaceName) -> Option<Keyspace> {
        self.desk.members().keyspace(name)
    }

    fn retries(&self) {
        self.desk.counts.retries.one();
    }

    /// This node may not have heard of it yet: it asks how far the meta group is, and waits until it
    /// has heard that much.
    fn find_keyspace<'a>(
        &'a self,
        name: &'a KeyspaceName,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Keyspace>>> {
        Box::pin(async move {
            let (nodes, random) = (Arc::new(self.clone()), self.random.clone());
            let meta = GroupClient::over(nodes, GroupId::META, random);
            let known = meta.query(Query::Status, Consistency::Linearizable, deadline).await?;
            let members = self.desk.members();
            match timeout_at(deadline, members.reached(known.revision)).await {
                Ok(()) => Ok(members.keyspace(name)),
                Err(_) => {
                    let reason = "this node lags behind it".into();
                    Err(Error::Unavailable { group: GroupId::META, reason })
                }
            }
        })
    }

    /// The roster says where members are.
    fn learn(&self, _place: &Place) {}

    fn ask(
        &self,
        node: EndpointId,
        request: Request,
        hop: Hop,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Reply, NotAnswered>> {
        Box::pin(async move {
            if node != self.id {
                return self.ask_peer(node, request, hop, deadline).await;
            }
            let start_by = self.start_by(request.group(), deadline);
            self.desk.answer(request, start_by, deadline).await.map_err(NotAnswered::Failed)
        })
    }

    fn watch(
        &self,
        node: EndpointId,
        group: GroupId,
        request: WatchRequest,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<dyn Changes>, NotAnswered>> {
        Box::pin(async move {
            if node != self.id {
                let part = Part::asking(&node, group);
                let trace = part.as_ref().and_then(Part::context);
                let asked = WatchAsked::new(group, &request, self.desk.name_for(node, trace));
                let watch = self.watch_peer(node, asked, deadline).await?;
                return Ok(Box::new(watch) as _);
            }
            let start_by = self.start_by(group, deadline);
            let watch = self.desk.watch(group, request, start_by, deadline).await;
            watch.map(|watch| Box::new(watch) as _).map_err(NotAnswered::Failed)
        })
    }
}
