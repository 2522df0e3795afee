//! How openraft reaches a group's other members.
//!
//! Entries go over lanes ([`super::append`]), snapshots over streams of their own
//! ([`super::sending`]), all else is a call. A member that can't be reached is an error, never a
//! granted vote; openraft tries again after a short pause. A leader that hears nothing from a
//! follower for as long as an election takes gives up the link to it, which may be dead without
//! having said so.

use std::future::Future;
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, RaftNetworkFactory};
use tokio::time::Instant;

use super::append::Pipeline;
use super::contacts::{Contacts, NoAnswer};
use super::machine::SnapshotData;
use super::messages::{Answer, Ballot, Beat, Handover, Question};
use super::sending::Sending;
use super::types::{TypeConfig, log_id, vote_in, vote_out};
use crate::limits::{MEMBER_BACKOFF_MAX, MEMBER_BACKOFF_MIN};
use crate::seams::Random;
use crate::types::NodeId;
use crate::wire::StreamKind;

/// Makes the connections of one group.
#[derive(Clone, Debug)]
pub(super) struct Network {
    pub(super) contacts: Contacts,
    /// Silence of a follower after which the link to it is given up, and how long one may take to
    /// be made.
    pub(super) silence: Duration,
    /// Numbers the sendings of snapshots.
    pub(super) random: Random,
}

/// One task's way to one member.
#[derive(Debug)]
pub(super) struct Connection {
    network: Network,
    to: NodeId,
    carries: Carries,
}

/// What a connection's requests to append are.
#[derive(Debug)]
enum Carries {
    Entries,
    /// Heartbeats; since when none was answered.
    Heartbeats {
        unheard: Option<Instant>,
    },
}

impl Network {
    fn connection(&self, target: u64, carries: Carries) -> Connection {
        Connection { network: self.clone(), to: NodeId(target), carries }
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Connection {
        self.connection(target, Carries::Entries)
    }

    async fn new_heartbeat_client(&mut self, target: u64, _node: &EmptyNode) -> Connection {
        self.connection(target, Carries::Heartbeats { unheard: None })
    }
}

impl Connection {
    /// Asks the member. What is no answer to the question is an error like a broken link.
    async fn ask<T>(
        &self,
        kind: StreamKind,
        what: Question,
        ttl: Duration,
        understand: impl FnOnce(Answer) -> Option<T>,
    ) -> Result<T, RPCError<TypeConfig>> {
        let deadline = Instant::now() + ttl;
        let answer = match self.network.contacts.ask(self.to, kind, what, deadline).await? {
            Answer::Unavailable(reason) => {
                return Err(NoAnswer::Unreachable { to: self.to, reason }.into());
            }
            answer => answer,
        };
        understand(answer).ok_or_else(|| {
            NetworkError::from_string(format!("node {} answered something else", self.to)).into()
        })
    }

    async fn cast(
        &self,
        what: Question,
        ttl: Duration,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let understand = |answer| match answer {
            Answer::Voted { vote, granted, last } => {
                Some(VoteResponse::new(vote_in(vote), last.map(log_id), granted))
            }
            _ => None,
        };
        self.ask(StreamKind::Vote, what, ttl, understand).await
    }

    /// Sends a heartbeat, and gives up the link if none was answered for long.
    async fn beat(
        &mut self,
        request: &AppendEntriesRequest<TypeConfig>,
        ttl: Duration,
    ) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
        let now = Instant::now();
        if let Carries::Heartbeats { unheard } = &mut self.carries
            && now.duration_since(*unheard.get_or_insert(now)) >= self.network.silence
        {
            *unheard = Some(now);
            if let Ok(peer) = self.network.contacts.endpoint(self.to) {
                self.network.contacts.transport.peers.suspect(peer);
            }
        }
        let what = Question::Heartbeat(Beat::new(request));
        let understand = |answer| match answer {
            Answer::Appended(appended) => Some(appended.into()),
            _ => None,
        };
        let heard = self.ask(StreamKind::Heartbeat, what, ttl, understand).await;
        if heard.is_ok() {
            self.carries = Carries::Heartbeats { unheard: None };
        }
        heard
    }

    /// The first request is waited for before anything can fail: it is there that openraft pauses
    /// after a failure, and a member that is down would be tried again and again without one.
    async fn entries<'s, S>(
        &self,
        mut requests: S,
    ) -> Result<BoxStream<'s, AppendAnswer>, RPCError<TypeConfig>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let Some(first) = requests.next().await else { return Ok(Box::pin(stream::empty())) };
        let requests = stream::iter([first]).chain(requests);
        let peer = self.network.contacts.endpoint(self.to)?;
        // A link may have to be made first, which takes longer than a heartbeat.
        let (contacts, deadline) = (&self.network.contacts, Instant::now() + self.network.silence);
        let lane = contacts.transport.peers.lane(peer, contacts.group, deadline).await;
        let lane = lane.map_err(Unreachable::from_string)?;
        let pipeline = Pipeline::new(contacts.route(self.to), lane, requests);
        Ok(pipeline.map_err(NetworkError::from_string)?.answers())
    }
}

type AppendAnswer = Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>;

impl NetBackoff<TypeConfig> for Connection {
    /// Doubled each time: a member that comes back is served again soon.
    fn backoff(&self) -> Option<Backoff> {
        let pauses = std::iter::successors(Some(MEMBER_BACKOFF_MIN), |pause| {
            Some((*pause * 2).min(MEMBER_BACKOFF_MAX))
        });
        Some(Backoff::new(pauses))
    }
}

impl NetStreamAppend<TypeConfig> for Connection {
    fn stream_append<'s, S>(
        &'s mut self,
        mut requests: S,
        option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, AppendAnswer>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let ttl = option.hard_ttl();
        Box::pin(async move {
            if let Carries::Entries = self.carries {
                return self.entries(requests).await;
            }
            let answer = match requests.next().await {
                Some(request) => Some(self.beat(&request, ttl).await),
                None => None,
            };
            Ok(Box::pin(stream::iter(answer)) as BoxStream<'s, AppendAnswer>)
        })
    }
}

impl NetVote<TypeConfig> for Connection {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.cast(Question::Vote(Ballot::new(&request)), option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        let ballot = Ballot::new(&request);
        if self.network.contacts.claims.speak_against(&ballot, Instant::now()) {
            let reason = "it is not asked while the leader is heard".into();
            return Err(NoAnswer::Unreachable { to: self.to, reason }.into());
        }
        self.cast(Question::PreVote(ballot), option.hard_ttl()).await
    }
}

impl NetSnapshot<TypeConfig> for Connection {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        vote: VoteOf<TypeConfig>,
        snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let SnapshotData::Source(source) = snapshot.snapshot else {
            let what = "a snapshot that arrived here can't be passed on";
            return Err(StreamingError::Network(NetworkError::from_string(what)));
        };
        let (contacts, number) = (self.network.contacts.clone(), self.network.random.next_u128());
        let sending = Sending::new(contacts, self.to, vote_out(&vote), number, source);
        tokio::select! {
            biased;
            closed = cancel => Err(StreamingError::Closed(closed)),
            sent = sending.run() => match sent {
                Ok(vote) => Ok(SnapshotResponse::new(vote_in(vote))),
                // After a pause: whatever it failed for may last.
                Err(failed) => Err(StreamingError::Unreachable(Unreachable::from_string(failed))),
            },
        }
    }
}

impl NetTransferLeader<TypeConfig> for Connection {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        let understand = |answer| match answer {
            Answer::Transferred(transferred) => Some(transferred.into()),
            _ => None,
        };
        let what = Question::Transfer(Handover::new(&request));
        self.ask(StreamKind::Transfer, what, option.hard_ttl(), understand).await
    }
}
