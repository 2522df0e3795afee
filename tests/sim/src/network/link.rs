//! A host and its links, as a node sees them.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use aspen::seams::network::{
    CloseCode, Gate, Link, LinkLost, Network, Plugged, Priority, Protocol, StreamIn, StreamOut,
};
use aspen::types::{Address, EndpointId};
use futures_util::future::BoxFuture;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::stream::{In, Out, Pipe, Place};
use super::{
    DIAL_MS_MAX, End, Fabric, HostId, LinkState, Side, State, StreamState, Way, What, address_of,
};

/// A node's place on the network, from one start to its end.
#[derive(Clone)]
pub(crate) struct Host {
    pub(super) fabric: Fabric,
    pub(super) host: HostId,
    key: EndpointId,
    pub(super) epoch: u64,
}

/// Where a node is plugged in.
#[derive(Clone)]
pub(crate) struct Socket {
    pub(super) fabric: Fabric,
    pub(super) host: HostId,
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Socket({})", self.host)
    }
}

impl aspen::seams::network::Fabric for Socket {
    fn plug(&self, key: EndpointId, gate: Arc<dyn Gate>) -> Plugged {
        let host = self.fabric.plug(self.host, key, gate);
        Plugged { network: Arc::new(host.clone()), gossip: Arc::new(host) }
    }
}

impl fmt::Debug for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Host({})", self.host)
    }
}

impl Host {
    pub(super) fn new(fabric: Fabric, host: HostId, key: EndpointId, epoch: u64) -> Self {
        Host { fabric, host, key, epoch }
    }

    fn dial(&self, to: HostId, whom: EndpointId, protocol: Protocol) -> oneshot::Receiver<u64> {
        let (answer, answered) = oneshot::channel();
        self.fabric.with(|state| {
            let dial = state.number();
            state.dials.insert(dial, answer);
            let way = Way { from: self.host, to };
            state.send(way, What::Dial { dial, protocol, epoch: self.epoch, whom });
        });
        answered
    }

    async fn connect_to(
        &self,
        peer: EndpointId,
        addresses: &[Address],
        protocol: Protocol,
    ) -> Result<Arc<dyn Link>, LinkLost> {
        // All addresses here are those of hosts.
        let Some(IpAddr::V4(ip)) = addresses.first().and_then(Address::ip).map(|ip| ip.ip()) else {
            return Err(LinkLost::silently("no address of the peer is known"));
        };
        let to = ip.octets()[3];
        let answered = self.dial(to, peer, protocol);
        match timeout(Duration::from_millis(DIAL_MS_MAX), answered).await {
            Ok(Ok(link)) => Ok(Arc::new(SimLink {
                fabric: self.fabric.clone(),
                link,
                end: 0,
                protocol,
                peer,
                to,
            })),
            _ => Err(LinkLost::silently("the peer does not answer")),
        }
    }

    /// The next link that waits, if the host is still up.
    fn next_incoming(&self) -> Option<Incoming> {
        self.fabric.with(|state| {
            let is_up = state.is_up(self.host, self.epoch);
            let host = state.hosts.get_mut(&self.host).filter(|_| is_up)?;
            match host.incoming.pop_front() {
                Some(link) => Some(Incoming::Link(link)),
                None => Some(Incoming::None(host.arrived.clone())),
            }
        })
    }

    /// Lets a link in, unless the gate does not.
    fn admit(&self, link: u64) -> Option<Arc<dyn Link>> {
        let (to, peer, protocol, gate) = self.fabric.with(|state| {
            let LinkState { protocol, sides, .. } = state.links.get(&link)?;
            let gate = state.hosts.get(&self.host)?.gate.clone();
            Some((sides[0].host, sides[0].key, *protocol, gate))
        })?;
        match gate.admit(peer, protocol) {
            Ok(()) => Some(Arc::new(SimLink {
                fabric: self.fabric.clone(),
                link,
                end: 1,
                protocol,
                peer,
                to,
            })),
            Err((code, reason)) => {
                self.fabric.with(|state| state.close(link, 1, code, &reason));
                None
            }
        }
    }
}

enum Incoming {
    Link(u64),
    None(Arc<tokio::sync::Notify>),
}

impl Network for Host {
    fn id(&self) -> EndpointId {
        self.key
    }

    fn addresses(&self) -> Vec<Address> {
        vec![address_of(self.host)]
    }

    fn connect<'a>(
        &'a self,
        peer: EndpointId,
        addresses: &'a [Address],
        protocol: Protocol,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkLost>> {
        Box::pin(self.connect_to(peer, addresses, protocol))
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Link>>> {
        Box::pin(async {
            loop {
                match self.next_incoming()? {
                    // A link that comes meanwhile leaves its permit.
                    Incoming::None(arrived) => arrived.notified().await,
                    Incoming::Link(link) => {
                        if let Some(link) = self.admit(link) {
                            return Some(link);
                        }
                    }
                }
            }
        })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            self.fabric.with(|state| {
                if state.is_up(self.host, self.epoch) {
                    state.shut_down(self.host);
                }
            });
        })
    }
}

impl State {
    /// A host closes all its links and is gone.
    fn shut_down(&mut self, host: HostId) {
        let mine = |link: &LinkState| (0..2).find(|end| link.sides[*end].host == host);
        let links: Vec<(u64, End)> =
            self.links.iter().filter_map(|(number, link)| Some((*number, mine(link)?))).collect();
        for (link, end) in links {
            self.close(link, end, CloseCode::Done, "the node stops");
        }
        if let Some(host) = self.hosts.get_mut(&host) {
            host.is_up = false;
            host.arrived.notify_one();
        }
        self.leave_topics(host);
    }

    fn side(&self, link: u64, end: End) -> Result<&Side, LinkLost> {
        let side = self.links.get(&link).map(|link| &link.sides[end]);
        side.ok_or_else(|| LinkLost::silently("the link is gone"))
    }

    /// A stream of a link that is not lost.
    fn open_stream(&mut self, link: u64, end: End) -> Result<u64, LinkLost> {
        self.side(link, end)?.lost.clone().map_or(Ok(()), Err)?;
        let number = self.number();
        if let Some(link) = self.links.get_mut(&link) {
            let pipes = [Pipe::default(), Pipe::default()];
            let stream = StreamState { is_seen: false, pipes, halves: 4 };
            link.streams.insert(number, stream);
        }
        Ok(number)
    }
}

/// One end of a link; closed when it is dropped.
struct SimLink {
    fabric: Fabric,
    link: u64,
    end: End,
    protocol: Protocol,
    peer: EndpointId,
    to: HostId,
}

impl fmt::Debug for SimLink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimLink({} with host {})", self.link, self.to)
    }
}

impl Drop for SimLink {
    fn drop(&mut self) {
        self.close(CloseCode::Done, "its last handle was dropped");
    }
}

impl SimLink {
    fn halves(&self, stream: u64) -> (StreamOut, StreamIn) {
        let place = Place { fabric: self.fabric.clone(), link: self.link, stream, end: self.end };
        (Box::new(Out(place.clone())), Box::new(In(place)))
    }

    /// Waits for something that this side has, or for its loss.
    async fn wait<T>(
        &self,
        look: impl Fn(&mut Side) -> Option<Result<T, LinkLost>>,
    ) -> Result<T, LinkLost> {
        loop {
            let changed = self
                .fabric
                .with(|state| state.side(self.link, self.end).map(|side| side.changed.clone()))?;
            let mut changed = std::pin::pin!(changed.notified());
            // Listened to before looking, so that nothing happens unnoticed in between.
            changed.as_mut().enable();
            let found = self.fabric.with(|state| {
                state.links.get_mut(&self.link).and_then(|link| look(&mut link.sides[self.end]))
            });
            match found {
                Some(found) => return found,
                None => changed.await,
            }
        }
    }
}

impl Link for SimLink {
    fn peer(&self) -> EndpointId {
        self.peer
    }

    fn protocol(&self) -> Protocol {
        self.protocol
    }

    fn address(&self) -> Option<Address> {
        Some(address_of(self.to))
    }

    fn open(&self, _priority: Priority) -> BoxFuture<'_, Result<(StreamOut, StreamIn), LinkLost>> {
        Box::pin(async {
            let stream = self.fabric.with(|state| state.open_stream(self.link, self.end))?;
            Ok(self.halves(stream))
        })
    }

    fn accept(&self) -> BoxFuture<'_, Result<(StreamOut, StreamIn), LinkLost>> {
        Box::pin(async {
            let opened = |side: &mut Side| match side.opened.pop_front() {
                Some(stream) => Some(Ok(stream)),
                None => side.lost.clone().map(Err),
            };
            Ok(self.halves(self.wait(opened).await?))
        })
    }

    fn close(&self, code: CloseCode, reason: &str) {
        self.fabric.with(|state| state.close(self.link, self.end, code, reason));
    }

    fn closed(&self) -> BoxFuture<'_, LinkLost> {
        Box::pin(async {
            let lost = |side: &mut Side| side.lost.clone().map(Ok);
            self.wait(lost).await.unwrap_or_else(|lost| lost)
        })
    }
}
