//! The iroh endpoint: one UDP socket, or one a protocol family, for everything between nodes.
//!
//! It sends nothing by itself unless its reach is the internet: then it keeps a link to a relay, has
//! its router let others in, and tells the directories where it is. A peer is dialled at the
//! addresses that the caller gives. Where it can be dialled itself changes while it runs, with
//! the interfaces of the machine; [`Endpoint::places`] tells.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::str::FromStr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream, StreamExt};
use iroh::address_lookup::{AddressLookup, EndpointData, EndpointInfo, Error as LookupError, Item};
use iroh::endpoint::presets::Minimal;
use iroh::endpoint::{
    BindError, BindOpts, ConnectError, ConnectOptions, ConnectingError, PortmapperConfig,
};
use iroh::{EndpointAddr, PublicKey, RelayMode, Watcher};
use tokio::sync::{Mutex, mpsc, watch};
use tokio::time::{sleep, timeout};

use super::book::SharedBook;
use super::gossip::Gossip;
use super::internet::{Internet, Relays, relay_mode};
use super::key::NodeKey;
use super::link::{PROTOCOLS, QuicLink, address, alpn, lost, shared, transport};
use super::lookup::Lookup;
use super::pins::Pins;
use super::{door, quic};
use crate::limits::{DIAL_MAX, LINKS_WAITING_MAX};
use crate::seams::network::{Gate, Link, LinkLost, Network, Protocol};
use crate::seams::{Tasks, reason};
use crate::types::{Address, EndpointId};

/// How long closing may take: peers are waited for that may be gone.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// How long is waited for the port to be given back, and how often it is looked whether it was.
const FREE_MAX: Duration = Duration::from_secs(1);
const FREE_LOOK: Duration = Duration::from_millis(5);

/// How far a node reaches out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// This machine only: 127.0.0.1.
    Loopback,
    /// Every interface of the machine.
    #[default]
    Lan,
    /// Beyond the local network.
    Internet,
}

impl FromStr for Reach {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "loopback" => Ok(Reach::Loopback),
            "lan" => Ok(Reach::Lan),
            "internet" => Ok(Reach::Internet),
            _ => Err("reach is one of: loopback, lan, internet".into()),
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reach::Loopback => "loopback",
            Reach::Lan => "lan",
            Reach::Internet => "internet",
        })
    }
}

/// Where an endpoint listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// Wherever the reach allows, on a free port.
    #[default]
    Anywhere,
    /// Wherever the reach allows, on this port.
    Port(u16),
    /// At this address only.
    At(SocketAddr),
}

#[derive(Clone, Debug)]
struct Open {
    endpoint: iroh::Endpoint,
    gossip: Gossip,
    /// Where nodes are found by their keys; `None` if this node does not reach so far.
    lookup: Option<Lookup>,
}

/// The node's place on the network. Whoever passes its [`Gate`] is let in.
#[derive(Debug)]
pub struct Endpoint {
    pub(super) id: EndpointId,
    listen: Vec<SocketAddr>,
    /// `None` once it was closed.
    open: std::sync::Mutex<Option<Open>>,
    /// Links that passed the door.
    ready: Mutex<mpsc::Receiver<Arc<dyn Link>>>,
    /// Where it can be dialled.
    places: watch::Receiver<Vec<Address>>,
    pins: Pins,
    tasks: Tasks,
}

impl Endpoint {
    /// Binds where `listen` says, as far as the reach allows, and opens the door.
    pub async fn bind(
        key: &NodeKey,
        reach: Reach,
        listen: Listen,
        gate: Arc<dyn Gate>,
    ) -> Result<Self, String> {
        Endpoint::bind_with(key, reach, listen, &Internet::default(), gate).await
    }

    /// The same, and where the reach is the internet, by what.
    pub async fn bind_with(
        key: &NodeKey,
        reach: Reach,
        listen: Listen,
        internet: &Internet,
        gate: Arc<dyn Gate>,
    ) -> Result<Self, String> {
        let beyond = (reach == Reach::Internet).then_some(internet);
        let addresses = match beyond {
            Some(internet) if internet.relay_only => Vec::new(),
            _ => sockets(reach, listen)?,
        };
        let pins = Pins::default();
        let mut builder = iroh::Endpoint::builder(Minimal)
            .relay_mode(beyond.map_or(RelayMode::Disabled, |internet| relay_mode(&internet.relays)))
            .portmapper_config(mapping(beyond, listen))
            .ca_tls_config(pins.trust())
            .transport_config(quic::accepting())
            .alpns(PROTOCOLS.map(|protocol| alpn(protocol).to_vec()).to_vec())
            .hooks(door::GateHook(gate))
            .secret_key(key.secret().clone())
            .clear_ip_transports();
        for address in &addresses {
            // A machine without IPv6 is on the network all the same; what was asked for must be.
            let required = matches!(listen, Listen::At(_)) || address.is_ipv4();
            builder = builder
                .bind_addr_with_opts(*address, BindOpts::default().set_is_required(required))
                .map_err(|error| format!("the address {address} can't be used: {error}"))?;
        }
        let relays = beyond.and_then(|internet| internet.relays.own());
        let relays = relays.map(Relays::addresses).unwrap_or_default();
        pins.note(relays);
        let inner = bind(builder).await.map_err(|error| {
            let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
            format!("can't listen on {}: {}", addresses.join(" and "), unheard(&error))
        })?;
        let (admitted, ready) = mpsc::channel(LINKS_WAITING_MAX);
        let tasks = Tasks::new();
        let gossip = Gossip::start(inner.clone());
        tasks.spawn(door::serve(inner.clone(), tasks.clone(), admitted, gossip.clone()));
        let (told, places) = watch::channel(dialable(&inner.addr(), relays));
        tasks.spawn(follow_places(inner.clone(), relays.to_vec(), told));
        let lookup = beyond.map(|internet| Lookup::new(&inner, internet));
        if let Some(lookup) = lookup.clone() {
            tasks.spawn(lookup.publish(places.clone()));
        }
        Ok(Endpoint {
            id: EndpointId(*inner.id().as_bytes()),
            listen: inner.bound_sockets(),
            open: std::sync::Mutex::new(Some(Open { endpoint: inner, gossip, lookup })),
            pins,
            ready: Mutex::new(ready),
            places,
            tasks,
        })
    }

    /// The sockets it is bound to; the address may be that of all interfaces.
    pub fn listen(&self) -> Vec<SocketAddr> {
        self.listen.clone()
    }

    /// Where it can be dialled, and each change: interfaces come and go.
    pub fn places(&self) -> watch::Receiver<Vec<Address>> {
        self.places.clone()
    }

    /// The end of the members' gossip here; nothing once the endpoint is closed.
    pub fn gossip(&self) -> Option<Gossip> {
        self.open().as_ref().map(|open| open.gossip.clone())
    }

    /// Where nodes are found by their keys; nothing if this node does not reach so far.
    pub fn lookup(&self) -> Option<Lookup> {
        self.open().as_ref().and_then(|open| open.lookup.clone())
    }

    /// Gossip names its neighbours by their keys only: this is where they are looked up.
    pub fn look_up_in(&self, book: SharedBook) {
        let Some(open) = self.open().clone() else { return };
        if let Ok(services) = open.endpoint.address_lookup() {
            services.add(Book(book));
        }
    }

    fn open(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn dial(
        &self,
        peer: EndpointId,
        addresses: &[Address],
        protocol: Protocol,
    ) -> Result<Arc<dyn Link>, LinkLost> {
        let key = PublicKey::from_bytes(&peer.0)
            .map_err(|_| LinkLost::silently(format!("{peer} is not a node's key")))?;
        if addresses.is_empty() {
            return Err(LinkLost::silently(format!("no address of {peer} is known")));
        }
        let Some(Open { endpoint, .. }) = self.open().clone() else {
            return Err(LinkLost::silently("this node's network is closed"));
        };
        self.pins.note(addresses);
        let dialled = EndpointAddr::from_parts(key, addresses.iter().map(transport));
        let options = ConnectOptions::new().with_transport_config(quic::dialling());
        let dial = async {
            let begun = endpoint.connect_with_opts(dialled, alpn(protocol), options).await?;
            Ok::<_, ConnectError>(begun.await?)
        };
        match timeout(DIAL_MAX, dial).await {
            Ok(Ok(connection)) => Ok(shared(QuicLink::new(connection, protocol, None))),
            Ok(Err(error)) => Err(not_connected(error)),
            Err(_) => {
                let bound = DIAL_MAX.as_secs();
                Err(LinkLost::silently(format!("the peer did not answer within {bound} s")))
            }
        }
    }
}

/// Not an `async fn`, so that it is compiled here and not in every crate that awaits it.
fn bind(builder: iroh::endpoint::Builder) -> BoxFuture<'static, Result<iroh::Endpoint, BindError>> {
    Box::pin(builder.bind())
}

/// Why nothing can be listened on, as the end of a sentence.
fn unheard(error: &BindError) -> String {
    match error {
        BindError::Sockets { source, .. } => match source.kind() {
            io::ErrorKind::AddrInUse => "it is taken; choose another one with --listen (port 0 \
                                         takes a free one)"
                .to_owned(),
            io::ErrorKind::AddrNotAvailable => "this machine has no such address; choose one that \
                                                it has with --listen"
                .to_owned(),
            _ => reason(source),
        },
        other => other.to_string(),
    }
}

/// Whether the router is asked to let others in: not for a node that only this machine reaches, or
/// only a relay.
fn mapping(beyond: Option<&Internet>, listen: Listen) -> PortmapperConfig {
    let is_local = matches!(listen, Listen::At(address) if address.ip().is_loopback());
    match beyond {
        Some(internet) if internet.port_mapping && !internet.relay_only && !is_local => {
            PortmapperConfig::default()
        }
        _ => PortmapperConfig::Disabled,
    }
}

/// Where a node of this reach listens.
fn sockets(reach: Reach, listen: Listen) -> Result<Vec<SocketAddr>, String> {
    let port = match listen {
        Listen::At(address) if reach == Reach::Loopback && !address.ip().is_loopback() => {
            return Err(format!(
                "the address {address} is not on this machine's loopback; choose 127.0.0.1 or a \
                 wider reach"
            ));
        }
        Listen::At(address) => return Ok(vec![address]),
        Listen::Port(port) => port,
        Listen::Anywhere => 0,
    };
    Ok(match reach {
        Reach::Loopback => vec![(Ipv4Addr::LOCALHOST, port).into()],
        Reach::Lan | Reach::Internet => {
            vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
        }
    })
}

/// Why there is no link, in our words: a peer may close one in the middle of its handshake.
fn not_connected(error: ConnectError) -> LinkLost {
    match error {
        ConnectError::Connection { source, .. }
        | ConnectError::Connecting {
            source: ConnectingError::ConnectionError { source, .. },
            ..
        } => lost(source),
        other => LinkLost::silently(format!("the peer can't be reached: {other}")),
    }
}

/// An address that only means something together with an interface of the one who dials.
fn is_link_local(address: &Address) -> bool {
    match address.ip() {
        Some(SocketAddr::V4(socket)) => socket.ip().is_link_local(),
        Some(SocketAddr::V6(socket)) => socket.ip().is_unicast_link_local(),
        None => false,
    }
}

/// The address book, as iroh looks things up.
#[derive(Debug)]
struct Book(SharedBook);

impl AddressLookup for Book {
    fn resolve(&self, id: PublicKey) -> Option<BoxStream<'static, Result<Item, LookupError>>> {
        let peer = EndpointId(*id.as_bytes());
        let book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses =
            book.addresses(peer).iter().map(|known| transport(&known.address)).collect();
        let info = EndpointInfo::from_parts(id, EndpointData::new(addresses));
        Some(stream::iter([Ok(Item::new(info, "book", None))]).boxed())
    }
}

/// The addresses that others may dial, the likeliest first. As long as no relay is linked, those
/// relays where the node will be: a ticket that is made as it starts is good where nothing else is.
fn dialable(known: &EndpointAddr, relays: &[Address]) -> Vec<Address> {
    let mut addresses: Vec<_> =
        known.addrs.iter().filter_map(address).filter(|found| !is_link_local(found)).collect();
    if addresses.iter().all(|address| address.relay().is_none()) {
        addresses.extend_from_slice(relays);
    }
    // On most networks the shorter kind is the one that works: they are in that order.
    addresses.sort();
    addresses
}

/// Of a node's addresses, those that its own interfaces have: those that can be bound.
pub fn on_interfaces(addresses: &[Address]) -> BTreeSet<IpAddr> {
    let sockets = addresses.iter().filter_map(Address::ip).map(|socket| socket.ip());
    sockets.filter(|ip| UdpSocket::bind((*ip, 0)).is_ok()).collect()
}

/// Tells where the endpoint can be dialled until it closes.
async fn follow_places(
    endpoint: iroh::Endpoint,
    relays: Vec<Address>,
    told: watch::Sender<Vec<Address>>,
) {
    let mut known = endpoint.watch_addr();
    // The task's own handle would keep the socket.
    drop(endpoint);
    while let Ok(now) = known.updated().await {
        let now = dialable(&now, &relays);
        told.send_if_modified(|places| {
            let is_news = *places != now;
            *places = now;
            is_news
        });
    }
}

impl Network for Endpoint {
    fn id(&self) -> EndpointId {
        self.id
    }

    fn addresses(&self) -> Vec<Address> {
        self.places.borrow().clone()
    }

    fn connect<'a>(
        &'a self,
        peer: EndpointId,
        addresses: &'a [Address],
        protocol: Protocol,
    ) -> BoxFuture<'a, Result<Arc<dyn Link>, LinkLost>> {
        Box::pin(self.dial(peer, addresses, protocol))
    }

    fn find(&self, peer: EndpointId) -> BoxFuture<'_, Vec<Address>> {
        let lookup = self.lookup();
        Box::pin(async move {
            let Some(lookup) = lookup else { return Vec::new() };
            lookup.find(peer).await.into_iter().flat_map(|(_, addresses)| addresses).collect()
        })
    }

    fn accept(&self) -> BoxFuture<'_, Option<Arc<dyn Link>>> {
        Box::pin(async move { self.ready.lock().await.recv().await })
    }

    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            let Some(Open { endpoint, gossip, lookup }) = self.open().take() else { return };
            gossip.stop().await;
            drop((gossip, lookup));
            if timeout(CLOSE_MAX, endpoint.close()).await.is_err() {
                tracing::debug!("the endpoint did not close in time and was dropped");
            }
            self.tasks.abort();
            self.tasks.ended().await;
            let mut ready = self.ready.lock().await;
            ready.close();
            while ready.try_recv().is_ok() {}
            drop(endpoint);
            if timeout(FREE_MAX, free(&self.listen)).await.is_err() {
                tracing::debug!("the endpoint's port was not given back in time");
            }
        })
    }
}

/// Waits until others may listen here. A socket is given back with the last connection over it, and
/// who held one may just be ending; a node that starts again at once wants its port.
async fn free(listen: &[SocketAddr]) {
    while !listen.iter().all(|address| UdpSocket::bind(address).is_ok()) {
        sleep(FREE_LOOK).await;
    }
}
