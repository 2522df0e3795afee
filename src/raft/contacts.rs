//! How a replica reaches the other replicas of its group.
//!
//! Replicas are numbers; the [`Directory`] knows whose key a number is, and who may be heard. A
//! question is one message each way with a deadline.

use std::fmt::Debug;
use std::sync::Arc;

use openraft::errors::{NetworkError, RPCError, Unreachable};
use thiserror::Error;
use tokio::time::Instant;

use super::messages::{Answer, Ask, Question, Route, decode, encode};
use super::types::TypeConfig;
use crate::net::{CallFailed, Peers};
use crate::types::{EndpointId, GroupId, NodeId};
use crate::wire::StreamKind;

/// Who the members of the cluster are, as far as this node knows.
pub trait Directory: Debug + Send + Sync + 'static {
    /// The key of a member.
    fn endpoint(&self, node: NodeId) -> Option<EndpointId>;
    /// The member with a key.
    fn node(&self, endpoint: EndpointId) -> Option<NodeId>;
}

/// What replicas on this node reach others by.
#[derive(Clone, Debug)]
pub struct Transport {
    /// The links to other nodes.
    pub peers: Peers,
    /// Who they are.
    pub directory: Arc<dyn Directory>,
}

/// A question was not answered.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum NoAnswer {
    /// It was not sent.
    #[error("node {to} can't be reached: {reason}")]
    Unreachable { to: NodeId, reason: String },
    /// It may have been heard.
    #[error("node {to} did not answer: {reason}")]
    Lost { to: NodeId, reason: String },
}

impl From<NoAnswer> for RPCError<TypeConfig> {
    fn from(error: NoAnswer) -> Self {
        match error {
            NoAnswer::Unreachable { .. } => Unreachable::from_string(error).into(),
            NoAnswer::Lost { .. } => NetworkError::from_string(error).into(),
        }
    }
}

/// One replica's way to the others; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Contacts {
    pub(super) group: GroupId,
    pub(super) node: NodeId,
    pub(super) transport: Transport,
}

impl Contacts {
    pub(super) fn route(&self, to: NodeId) -> Route {
        Route { group: self.group, from: self.node, to }
    }

    /// The key of another replica's node.
    pub(super) fn endpoint(&self, to: NodeId) -> Result<EndpointId, NoAnswer> {
        let unknown = || NoAnswer::Unreachable { to, reason: "it is no known member".into() };
        self.transport.directory.endpoint(to).ok_or_else(unknown)
    }

    /// Asks another replica, once.
    pub(super) async fn ask(
        &self,
        to: NodeId,
        kind: StreamKind,
        what: Question,
        deadline: Instant,
    ) -> Result<Answer, NoAnswer> {
        let lost = |reason| NoAnswer::Lost { to, reason };
        let peer = self.endpoint(to)?;
        let request = encode(&Ask { route: self.route(to), what });
        match self.transport.peers.call(peer, kind, request, deadline).await {
            Ok(answer) => decode(&answer).map_err(lost),
            Err(CallFailed::NotSent(error)) => {
                Err(NoAnswer::Unreachable { to, reason: error.to_string() })
            }
            Err(error) => Err(lost(error.to_string())),
        }
    }
}
