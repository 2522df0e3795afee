//! A node that knows nobody and serves nobody.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

use crate::net::{Lane, Refused, RefusedCode, Serve};
use crate::raft::Directory;
use crate::seams::network::{Link, StreamIn, StreamOut};
use crate::types::{EndpointId, GroupId, NodeId};
use crate::wire::StreamKind;

/// Neither members nor service.
#[derive(Clone, Copy, Debug)]
pub(super) struct Alone;

impl Directory for Alone {
    fn endpoint(&self, _node: NodeId) -> Option<EndpointId> {
        None
    }

    fn node(&self, _endpoint: EndpointId) -> Option<NodeId> {
        None
    }
}

impl Serve for Alone {
    fn call(
        &self,
        _peer: EndpointId,
        _kind: StreamKind,
        _request: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refused>> {
        let refused = Refused::new(RefusedCode::Denied, "this node has no peers");
        std::future::ready(Err(refused)).boxed()
    }

    fn stream(
        &self,
        _peer: EndpointId,
        _kind: StreamKind,
        _out: StreamOut,
        _input: StreamIn,
    ) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn lane(&self, _peer: EndpointId, _group: GroupId, _lane: Lane) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn link(&self, _link: Arc<dyn Link>) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}
