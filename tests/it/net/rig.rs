//! Nodes that are nothing but their peers: an endpoint, a gate that the test holds open or shut,
//! and a service whose answers say what happened.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use aspen::Reach;
use aspen::net::{
    AddressBook, AddressSource, Endpoint, Lane, Listen, NodeKey, Peers, Refused, RefusedCode, Serve,
};
use aspen::seams::network::{CloseCode, Gate, Link, Network, Protocol, StreamIn, StreamOut};
use aspen::seams::{Random, Seams};
use aspen::types::{Address, EndpointId, GroupId};
use aspen::wire::StreamKind;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;
use tokio::time::Instant;

pub use crate::wait::{PATIENCE, until};

/// The group whose lanes say everything back.
pub const ECHO: GroupId = GroupId(1);
/// The group whose lanes are never read.
pub const STUCK: GroupId = GroupId(2);
/// The group whose lanes are counted and not answered.
pub const SINK: GroupId = GroupId(3);

pub fn soon() -> Instant {
    Instant::now() + PATIENCE
}

/// Lets everyone in but those that the test names.
#[derive(Debug, Default)]
pub struct Doorman {
    shut: Mutex<BTreeMap<EndpointId, (CloseCode, String)>>,
    strangers: Mutex<bool>,
    members: Mutex<Vec<EndpointId>>,
}

impl Doorman {
    pub fn turn_away(&self, peer: EndpointId, code: CloseCode, reason: &str) {
        self.shut.lock().unwrap().insert(peer, (code, reason.to_owned()));
    }

    pub fn let_in(&self, peer: EndpointId) {
        self.shut.lock().unwrap().remove(&peer);
        self.members.lock().unwrap().push(peer);
    }

    /// From here on only those named may come in.
    pub fn members_only(&self) {
        *self.strangers.lock().unwrap() = true;
    }
}

impl Gate for Doorman {
    fn admit(&self, peer: EndpointId, _: Protocol) -> Result<(), (CloseCode, String)> {
        if let Some(refusal) = self.shut.lock().unwrap().get(&peer) {
            return Err(refusal.clone());
        }
        if *self.strangers.lock().unwrap() && !self.members.lock().unwrap().contains(&peer) {
            return Err((CloseCode::NotMember, "this key is not a member's".to_owned()));
        }
        Ok(())
    }
}

/// Says requests back, and counts what it is given.
#[derive(Debug)]
pub struct Server {
    pub calls: AtomicUsize,
    pub streams: AtomicUsize,
    pub lanes: AtomicUsize,
    pub links: AtomicUsize,
    pub sunk: Arc<AtomicUsize>,
    /// How often each request was seen.
    pub seen: Mutex<BTreeMap<Bytes, usize>>,
    /// Calls that ask to be held wait for a permit of this.
    pub release: Arc<Semaphore>,
}

impl Default for Server {
    fn default() -> Self {
        Server {
            calls: AtomicUsize::default(),
            streams: AtomicUsize::default(),
            lanes: AtomicUsize::default(),
            links: AtomicUsize::default(),
            sunk: Arc::default(),
            seen: Mutex::default(),
            release: Arc::new(Semaphore::new(0)),
        }
    }
}

impl Server {
    /// Everything that ever reached it.
    pub fn touched(&self) -> usize {
        [&self.calls, &self.streams, &self.lanes, &self.links]
            .iter()
            .map(|count| count.load(Ordering::SeqCst))
            .sum()
    }
}

impl Serve for Server {
    fn call(
        &self,
        _: EndpointId,
        _: StreamKind,
        request: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, Refused>> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        *self.seen.lock().unwrap().entry(request.clone()).or_default() += 1;
        let release = self.release.clone();
        Box::pin(async move {
            if request.starts_with(b"refuse") {
                return Err(Refused::new(RefusedCode::NotHere, "nobody of that name is here"));
            }
            if request.starts_with(b"hold") {
                release.acquire().await.unwrap().forget();
            }
            Ok(request)
        })
    }

    fn stream(
        &self,
        _: EndpointId,
        _: StreamKind,
        mut out: StreamOut,
        mut input: StreamIn,
    ) -> BoxFuture<'static, ()> {
        self.streams.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            let mut buffer = vec![0; 64 * 1024];
            while let Ok(read @ 1..) = input.read(&mut buffer).await {
                if out.write_all(&buffer[..read]).await.is_err() {
                    return;
                }
            }
            let _ = out.shutdown().await;
        })
    }

    fn lane(&self, _: EndpointId, group: GroupId, lane: Lane) -> BoxFuture<'static, ()> {
        self.lanes.fetch_add(1, Ordering::SeqCst);
        let sunk = self.sunk.clone();
        Box::pin(async move {
            if group == STUCK {
                std::future::pending::<()>().await;
            }
            while let Ok(message) = lane.recv().await {
                if group == SINK {
                    sunk.fetch_add(1, Ordering::SeqCst);
                } else if lane.send(message).await.is_err() {
                    return;
                }
            }
        })
    }

    fn link(&self, link: Arc<dyn Link>) -> BoxFuture<'static, ()> {
        self.links.fetch_add(1, Ordering::SeqCst);
        Box::pin(async move {
            link.closed().await;
        })
    }
}

/// One node.
pub struct Node {
    pub key: NodeKey,
    pub id: EndpointId,
    pub endpoint: Arc<Endpoint>,
    pub peers: Peers,
    pub gate: Arc<Doorman>,
    pub server: Arc<Server>,
}

impl Node {
    pub async fn start() -> Node {
        Node::with_key(NodeKey::generate(&Random::from_entropy())).await
    }

    pub async fn with_key(key: NodeKey) -> Node {
        let seams = Seams::in_memory();
        let book = AddressBook::in_memory(&seams);
        let gate = Arc::new(Doorman::default());
        let endpoint = Arc::new(
            Endpoint::bind(&key, Reach::Loopback, Listen::Anywhere, gate.clone()).await.unwrap(),
        );
        let server = Arc::new(Server::default());
        let network: Arc<dyn Network> = endpoint.clone();
        let peers = Peers::start(network, book, server.clone(), seams.random);
        Node { id: key.endpoint_id(), key, endpoint, peers, gate, server }
    }

    pub fn addresses(&self) -> Vec<Address> {
        self.endpoint.addresses()
    }

    /// Tells this node where another is.
    pub fn knows(&self, other: &Node) {
        self.peers.note(other.id, &other.addresses(), AddressSource::Roster);
    }

    pub async fn call(&self, other: &Node, request: &'static [u8]) -> Bytes {
        let request = Bytes::from_static(request);
        self.peers.call(other.id, StreamKind::Request, request, soon()).await.unwrap()
    }

    /// Ends it in order; its key, to start it again.
    pub async fn stop(self) -> NodeKey {
        self.peers.stop().await;
        self.endpoint.close().await;
        self.key
    }
}

/// Two nodes that know each other.
pub async fn pair() -> (Node, Node) {
    let (a, b) = (Node::start().await, Node::start().await);
    a.knows(&b);
    b.knows(&a);
    (a, b)
}

/// Whoever speaks the protocols without being a node.
pub struct Raw {
    pub endpoint: iroh::Endpoint,
}

impl Raw {
    pub async fn start() -> Raw {
        let endpoint = iroh::Endpoint::builder(iroh::endpoint::presets::Minimal)
            .relay_mode(iroh::RelayMode::Disabled)
            .clear_ip_transports()
            .bind_addr("127.0.0.1:0")
            .unwrap()
            .bind()
            .await
            .unwrap();
        Raw { endpoint }
    }

    pub async fn connect(&self, node: &Node, alpn: &str) -> iroh::endpoint::Connection {
        self.try_connect(node, alpn).await.unwrap()
    }

    pub async fn try_connect(
        &self,
        node: &Node,
        alpn: &str,
    ) -> Result<iroh::endpoint::Connection, iroh::endpoint::ConnectError> {
        let key = iroh::PublicKey::from_bytes(&node.id.0).unwrap();
        let addresses =
            node.addresses().into_iter().filter_map(|at| at.ip()).map(iroh::TransportAddr::Ip);
        let node = iroh::EndpointAddr::from_parts(key, addresses);
        self.endpoint.connect(node, alpn.as_bytes()).await
    }
}

/// The code and the reason that a connection was closed with.
pub async fn closed(connection: &iroh::endpoint::Connection) -> (u64, String) {
    match tokio::time::timeout(PATIENCE, connection.closed()).await {
        Ok(iroh::endpoint::ConnectionError::ApplicationClosed(close)) => {
            (close.error_code.into_inner(), String::from_utf8_lossy(&close.reason).into_owned())
        }
        other => panic!("the connection was not closed by the node: {other:?}"),
    }
}
