//! The transport of a replica that has nobody to reach.

use std::sync::Arc;

use aspen::net::{AddressBook, Lane, Peers, Refused, RefusedCode, Serve};
use aspen::raft::{Directory, Transport};
use aspen::seams::network::{Link, LinkLost, Network, Protocol, StreamIn, StreamOut};
use aspen::seams::{Random, Seams};
use aspen::types::{Address, EndpointId, GroupId, NodeId};
use aspen::wire::StreamKind;
use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;

/// No network, no members, no service.
#[derive(Debug)]
struct Nowhere;

/// Links to nobody.
pub fn nowhere() -> Transport {
    let book = AddressBook::in_memory(&Seams::in_memory());
    let random = Random::from_entropy();
    let peers = Peers::start(Arc::new(Nowhere), book, Arc::new(Nowhere), random);
    Transport::new(peers, Arc::new(Nowhere))
}

impl Directory for Nowhere {
    fn endpoint(&self, _: NodeId) -> Option<EndpointId> {
        None
    }

    fn node(&self, _: EndpointId) -> Option<NodeId> {
        None
    }
}

impl Network for Nowhere {
    fn id(&self) -> EndpointId {
        EndpointId([0; 32])
    }

    fn addresses(&self) -> Vec<Address> {
        Vec::new()
    }

    fn connect<'a>(
        &'a self,
        _: EndpointId,
        _: &'a [Address],
        _: Protocol,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkLost>> {
        std::future::ready(Err(LinkLost::silently("there is nobody"))).boxed()
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Link>>> {
        std::future::pending().boxed()
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}

impl Serve for Nowhere {
    fn call(
        &self,
        _: EndpointId,
        _: StreamKind,
        _: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refused>> {
        std::future::ready(Err(Refused::new(RefusedCode::NotHere, "nothing is here"))).boxed()
    }

    fn stream(
        &self,
        _: EndpointId,
        _: StreamKind,
        _: StreamOut,
        _: StreamIn,
    ) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn lane(&self, _: EndpointId, _: GroupId, _: Lane) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }

    fn link(&self, _: Arc<dyn Link>) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}
