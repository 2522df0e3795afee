//! Where a node answers requests: from its own replicas.
//!
//! That keeps a request on one hop: whoever asked is told who leads and asks there itself. Only one
//! who does not reach the leader may have its request passed on, once. The node's own client comes to
//! the same desk as its peers and the programs with a ticket.

use std::future::pending;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::counts::Operations;
use super::nodes::Members;
use super::request::{
    Asked, Failure, LEVEL_NAMED, Located, Reply, Request, Response, WatchAsked, decode_response,
    encode_response,
};
use super::trace::{Part, TraceContext, within};
use super::{RequestId, shown};
use crate::actors::Groups;
use crate::error::{Denied, Error, Refusal};
use crate::limits::{
    CALL_BYTES_MAX, CALL_TRANSFER_MAX, CONTROL_BYTES_MAX, GUESTS_BYTES_MAX, REQUEST_SERVE_MAX,
};
use crate::net::{CallFailed, Peers, Refused, RefusedCode, WeakPeers, read_message};
use crate::raft::{Failed, GroupWatch, Replica, WatchRequest};
use crate::seams::Here;
use crate::seams::network::{StreamIn, StreamOut};
use crate::types::{EndpointId, GroupId, KeyspaceName};
use crate::wire::StreamKind;

/// What the log says of requests with a name that other nodes have passed on.
const ANSWERED: &str = "a request of another node was answered";
const SHOWN: &str = "a watch of another node has ended";

/// The pause between looks at who leads.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Answers requests on one node; clones are the same.
#[derive(Clone, Debug)]
pub struct Desk {
    groups: Groups,
    members: Arc<dyn Members>,
    /// Bytes that the links of all clients may hold.
    pub(super) guest_bytes: Arc<Semaphore>,
    /// By which requests are passed on; they serve this desk, and are not kept by it.
    peers: Arc<OnceLock<WeakPeers>>,
    pub(super) counts: Arc<Operations>,
    /// Nobody from outside changes anything here.
    is_read_only: bool,
}

/// Where a request that came over the network is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hop {
    /// Whoever sent it does not reach the leader, and has it passed on if another node leads.
    First,
    /// It is answered here, or the sender told who leads.
    Last,
}

impl Hop {
    /// The kind of the streams that bring such requests.
    pub(super) fn kind(self) -> StreamKind {
        match self {
            Hop::First => StreamKind::Forward,
            Hop::Last => StreamKind::Request,
        }
    }
}

impl Desk {
    /// Answers from these replicas, and tells where these members are.
    pub fn new(groups: Groups, members: Arc<dyn Members>) -> Self {
        let guest_bytes = Arc::new(Semaphore::new(GUESTS_BYTES_MAX));
        Desk {
            groups,
            members,
            guest_bytes,
            peers: Arc::default(),
            counts: Arc::default(),
            is_read_only: false,
        }
    }

    /// The same at a node that changes nothing for who comes from outside, or that does.
    pub fn with_read_only(self, is_read_only: bool) -> Self {
        Desk { is_read_only, ..self }
    }

    pub(super) fn is_read_only(&self) -> bool {
        self.is_read_only
    }

    /// Refuses what would change anything, at a node that does not for who comes from outside.
    pub(super) fn check_changes_anything(&self, request: &Request) -> Result<(), Denied> {
        match request {
            Request::Propose { .. } | Request::KeepAlive { .. } if self.is_read_only => {
                Err(Denied::NodeReadOnly)
            }
            _ => Ok(()),
        }
    }

    /// Counts a request that is not let in.
    pub(super) fn refuse(&self, request: &Request, denied: Denied) -> Failure {
        let failure = Failure::from(denied);
        self.counts.begin(request).answered(&Err(failure.clone()));
        failure
    }

    /// From here on requests are passed on to these peers.
    pub fn pass_on_by(&self, peers: &Peers) {
        self.peers.get_or_init(|| peers.downgrade());
    }

    /// What was asked here, and how it ended.
    pub fn counts(&self) -> Arc<Operations> {
        self.counts.clone()
    }

    /// Resolves when this node's replica of a group learns, from now on, that another node than
    /// this one leads it. Never, if there is no replica.
    pub(super) async fn led_by_another(&self, group: GroupId, node: EndpointId) {
        let Some(replica) = self.groups.get(group) else { return pending().await };
        let asked_in = replica.status().term;
        let mut leadership = replica.leadership();
        loop {
            leadership.changed().await;
            let status = replica.status();
            let leader = status.leader.and_then(|leader| self.members.place(leader));
            if status.term > asked_in && leader.is_some_and(|place| place.endpoint != node) {
                return;
            }
            // One that has ended changes no more, and says so at once.
            sleep(LOOK_AGAIN).await;
        }
    }

    /// Where the members are.
    pub(super) fn members(&self) -> &Arc<dyn Members> {
        &self.members
    }

    /// Whether the node has stopped for good.
    pub(super) fn is_closed(&self) -> bool {
        self.groups.are_stopped()
    }

    /// Whether this node holds a group, or is about to.
    pub(super) fn holds(&self, group: GroupId) -> bool {
        self.groups.holds(group)
    }

    /// The replica of a group that this node holds.
    async fn replica(&self, group: GroupId, start_by: Instant) -> Result<Replica, Failure> {
        if !self.groups.holds(group) && !self.is_closed() {
            return Err(Failure::NotHere { as_of: self.members.as_of() });
        }
        Ok(self.groups.replica(group, start_by).await?)
    }

    /// Where the shards of a keyspace are.
    fn locate(&self, name: &KeyspaceName) -> Reply {
        let (as_of, keyspace) = (self.members.as_of(), self.members.keyspace(name));
        let mut nodes: Vec<EndpointId> = Vec::new();
        let mut at = |node: &EndpointId| {
            let known = nodes.iter().position(|known| known == node);
            // There are fewer members than this counts.
            known.unwrap_or_else(|| {
                nodes.push(*node);
                nodes.len() - 1
            }) as u16
        };
        let groups = keyspace.iter().flat_map(|keyspace| keyspace.groups());
        let holders = groups
            .map(|group| {
                let holders = self.members.holders(group);
                holders.iter().flat_map(|holders| holders.iter()).map(&mut at).collect()
            })
            .collect();
        Reply::Located(Located { as_of, keyspace, nodes, holders })
    }

    /// Answers by a deadline, waiting until another for a replica that is starting.
    pub async fn answer(&self, request: Request, start_by: Instant, deadline: Instant) -> Response {
        let counted = self.counts.begin(&request);
        let here = Here::at_group(request.group());
        let part = Part::next(counted.kind(), request.group());
        let work = within(part.as_ref(), self.in_time(request, start_by, deadline));
        let response = here.scope(work).await;
        let outcome = counted.answered(&response);
        if let Some(part) = part {
            part.came_to(outcome.as_str(), outcome.is_failure());
        }
        response
    }

    async fn in_time(&self, request: Request, start_by: Instant, deadline: Instant) -> Response {
        if let Request::Locate { keyspace } = &request {
            return Ok(self.locate(keyspace));
        }
        if self.members.is_read_only() && request.is_users_write() {
            return Err(Denied::ClusterReadOnly.into());
        }
        let replica = self.replica(request.group(), start_by).await?;
        let is_write = request.is_write();
        match timeout_at(deadline, serve(&replica, request)).await {
            Ok(Ok(reply)) => Ok(reply),
            Ok(Err(failed)) => Err(self.failure(failed)),
            Err(_) if is_write => {
                Err(Failure::Unknown { reason: "it was not done in time".into() })
            }
            Err(_) => Err(late(&replica)),
        }
    }

    /// Begins a watch by a deadline; as above.
    pub async fn watch(
        &self,
        group: GroupId,
        request: WatchRequest,
        start_by: Instant,
        deadline: Instant,
    ) -> Result<GroupWatch, Failure> {
        let counted = self.counts.begin_watch(group);
        let part = Part::next(counted.kind(), group);
        let beginning = self.watch_in_time(group, request, start_by, deadline);
        let watch = Here::at_group(group).scope(within(part.as_ref(), beginning)).await;
        let outcome = counted.begun(&watch);
        if let Some(part) = part {
            part.came_to(outcome.as_str(), outcome.is_failure());
        }
        watch
    }

    async fn watch_in_time(
        &self,
        group: GroupId,
        request: WatchRequest,
        start_by: Instant,
        deadline: Instant,
    ) -> Result<GroupWatch, Failure> {
        let replica = self.replica(group, start_by).await?;
        match timeout_at(deadline, replica.watch(request)).await {
            Ok(begun) => begun.map_err(|failed| self.failure(failed)),
            Err(_) => Err(late(&replica)),
        }
    }

    /// Answers a member's request, as it came over the network.
    pub fn call(&self, request: Bytes, hop: Hop) -> BoxFuture<'static, Result<Bytes, Refused>> {
        let desk = self.clone();
        Box::pin(async move {
            let asked = Asked::decode(&request)
                .map_err(|error| Refused::new(RefusedCode::Malformed, error.to_string()))?;
            drop(request);
            let is_write = asked.request.is_write();
            Ok(respond(desk.answer_asked(asked, hop).await, is_write))
        })
    }

    /// Serves a member's watch, to its end.
    pub fn stream(&self, mut out: StreamOut, mut input: StreamIn) -> BoxFuture<'static, ()> {
        let desk = self.clone();
        Box::pin(async move {
            let read = read_message(&mut input, CONTROL_BYTES_MAX);
            let Ok(Ok(message)) = timeout(CALL_TRANSFER_MAX, read).await else { return };
            let Ok(mut asked) = WatchAsked::decode(&message) else { return };
            let id = asked.id.take();
            let shown = shown::serve(&desk, asked, &|| Ok(()), &mut out, &mut input);
            match id {
                Some(id) => id.log(SHOWN, shown).await,
                None => shown.await,
            }
        })
    }

    /// What the present request is called, for a node that reads names, and where it is in its trace.
    pub(super) fn name_for(
        &self,
        node: EndpointId,
        trace: Option<TraceContext>,
    ) -> Option<RequestId> {
        let id = RequestId::present().filter(|_| self.members.level(node) >= LEVEL_NAMED)?;
        Some(trace.and_then(|trace| trace.before(&id)).unwrap_or(id))
    }

    /// Answers what came over the network, for as long as its client waits.
    pub(super) async fn answer_asked(&self, mut asked: Asked, hop: Hop) -> Response {
        match asked.id.take() {
            Some(id) => id.log(ANSWERED, self.answer_for(asked, hop)).await,
            None => self.answer_for(asked, hop).await,
        }
    }

    async fn answer_for(&self, asked: Asked, hop: Hop) -> Response {
        let now = Instant::now();
        let within = Duration::from_millis(asked.within_ms.into()).min(REQUEST_SERVE_MAX);
        let (request, deadline) = (asked.request, now + within);
        let kept = (hop == Hop::First).then(|| request.clone());
        let response = self.answer(request, now, deadline).await;
        match (&response, kept) {
            (Err(Failure::NotLeader { leader: Some(leader) }), Some(request)) => {
                let passed_on = self.pass_on(leader.endpoint, request, deadline).await;
                passed_on.unwrap_or(response)
            }
            _ => response,
        }
    }

    /// Asks the leader in the place of who does not reach it; `None` if nothing was done.
    async fn pass_on(
        &self,
        leader: EndpointId,
        request: Request,
        deadline: Instant,
    ) -> Option<Response> {
        let peers = self.peers.get()?.upgrade()?;
        let (is_write, group) = (request.is_write(), request.group());
        let part = Part::asking(&leader, group);
        let trace = part.as_ref().and_then(Part::context);
        let message = Asked::by(deadline, request, self.name_for(leader, trace)).encode();
        let called = tokio::select! {
            biased;
            called = peers.call(leader, StreamKind::Request, message, deadline) => called,
            // A dead leader answers nothing, and whoever asked would take this node for the dead one.
            () = self.led_by_another(group, leader) => {
                let reason = "another node leads it now".into();
                return is_write.then_some(Err(Failure::Unknown { reason }));
            }
        };
        let lost = match called {
            Ok(response) => match decode_response(&response) {
                Ok(response) => return Some(response),
                Err(error) => error.to_string(),
            },
            Err(CallFailed::NotSent(_) | CallFailed::Refused(_)) => return None,
            Err(CallFailed::Lost(lost)) => lost.to_string(),
        };
        is_write.then(|| Err(Failure::Unknown { reason: lost }))
    }

    fn failure(&self, failed: Failed) -> Failure {
        match failed {
            Failed::NotLeader { leader } => {
                Failure::NotLeader { leader: leader.and_then(|node| self.members.place(node)) }
            }
            Failed::Unknown { reason } => Failure::Unknown { reason },
            Failed::Final(error) => Failure::Final(error),
        }
    }
}

/// A response as it is sent. One too long to be sent is told as such.
pub(super) fn respond(response: Response, is_write: bool) -> Bytes {
    let refusal = match &response {
        Ok(Reply::Answer { answer, .. }) if is_write => {
            Refusal::AnswerForgotten { revision: answer.revision }
        }
        _ => Refusal::AnswerTooLarge,
    };
    let encoded = encode_response(response);
    if encoded.len() <= CALL_BYTES_MAX {
        return encoded;
    }
    encode_response(Err(Failure::Final(refusal.into())))
}

fn late(replica: &Replica) -> Failure {
    let group = replica.status().group;
    Failure::Final(Error::Unavailable { group, reason: "it did not answer in time".into() })
}

/// Does what is asked, on one replica.
fn serve(
    replica: &Replica,
    request: Request,
) -> impl Future<Output = Result<Reply, Failed>> + Send + use<> {
    let replica = replica.clone();
    async move {
        match request {
            Request::Propose { command, .. } => {
                command.validate().map_err(Error::Invalid)?;
                replica.propose(command).map(|answer| answer.map(Reply::from)).await
            }
            Request::Query { query, consistency, .. } => {
                query.validate().map_err(Error::Invalid)?;
                replica.query(&query, consistency).await.map(Reply::from)
            }
            Request::KeepAlive { lease, .. } => replica.keep_alive(lease).await.map(Reply::from),
            Request::LeaseTtl { lease, .. } => replica.lease_ttl(lease).await.map(Reply::from),
            Request::Locate { .. } => {
                let what = "a replica was asked where replicas are".to_owned();
                Err(Failed::Final(Error::Fatal(what)))
            }
        }
    }
}
