//! How a group reaches its other members.
//!
//! A group of one member reaches nobody. The peers' streams plug in here; until a member has one
//! it is unreachable, which openraft retries with backoff.

use std::future::Future;

use futures_util::Stream;
use openraft::alias::{SnapshotOf, VoteOf};
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, OptionalSend, RaftNetworkFactory};

use super::machine::SnapshotData;
use super::types::TypeConfig;

/// Makes the connections of one group.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Network;

/// A member that can't be reached.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nobody {
    target: u64,
}

impl Nobody {
    fn unreachable(self) -> Unreachable<TypeConfig> {
        Unreachable::from_string(format!("node {} has no known address", self.target))
    }
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Nobody;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Nobody {
        Nobody { target }
    }
}

impl NetBackoff<TypeConfig> for Nobody {
    fn backoff(&self) -> Option<Backoff> {
        None
    }
}

impl NetStreamAppend<TypeConfig> for Nobody {
    fn stream_append<'s, S>(
        &'s mut self,
        _input: S,
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<
            BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>,
            RPCError<TypeConfig>,
        >,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        let error = self.unreachable();
        Box::pin(async move { Err(RPCError::Unreachable(error)) })
    }
}

impl NetVote<TypeConfig> for Nobody {
    async fn vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }

    async fn pre_vote(
        &mut self,
        _rpc: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }
}

impl NetSnapshot<TypeConfig> for Nobody {
    type SnapshotData = SnapshotData;

    async fn full_snapshot(
        &mut self,
        _vote: VoteOf<TypeConfig>,
        _snapshot: SnapshotOf<TypeConfig, SnapshotData>,
        _cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(StreamingError::Unreachable(self.unreachable()))
    }
}

impl NetTransferLeader<TypeConfig> for Nobody {
    async fn transfer_leader(
        &mut self,
        _req: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(RPCError::Unreachable(self.unreachable()))
    }
}
