//! The nodes as a program with a ticket asks them: over links of its own, one to each node that
//! it needs, each opened with the ticket.
//!
//! A link is made when it is wanted. All who want it wait for the one dial, which goes on when one
//! of them gives up: a node that is far takes longer than the first try has. Where nodes are is
//! known from the ticket, from the welcome of each node, and from hints to a leader.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::nodes::{Changes, Nodes, NotAnswered};
use super::request::{Asked, Hello, Place, Reply, Request, WatchAsked, Welcome, decode_response};
use super::shown::RemoteWatch;
use crate::error::Denied;
use crate::limits::{
    CALL_BYTES_MAX, CLIENT_NODES_MAX, CLIENT_PLACE_ADDRESSES_MAX, CONTROL_BYTES_MAX,
    GUEST_ADMIT_MAX, LINK_CLOSE_WAIT,
};
use crate::net::{open_stream, read_message, write_message};
use crate::raft::WatchRequest;
use crate::seams::Tasks;
use crate::seams::network::{CloseCode, Link, LinkLost, Network, Protocol, StreamIn, StreamOut};
use crate::types::{EndpointId, GroupId};
use crate::wire::StreamKind;

/// A client's links.
#[derive(Debug)]
pub(super) struct Links {
    network: Arc<dyn Network>,
    /// As text, for every link's first stream.
    ticket: String,
    table: Mutex<BTreeMap<EndpointId, Arc<Node>>>,
    /// The keys of the table, in order.
    known: watch::Sender<Arc<[EndpointId]>>,
    closed: watch::Sender<bool>,
    /// Each dial is one, so that it is made to its end whoever waits for it.
    dials: Tasks,
}

/// One node that may be asked.
#[derive(Debug)]
struct Node {
    endpoint: EndpointId,
    addresses: Mutex<Vec<SocketAddr>>,
    link: Mutex<Slot>,
}

/// The link to a node.
#[derive(Debug, Default)]
enum Slot {
    #[default]
    None,
    Dialling(Dial),
    Made(Arc<dyn Link>),
}

/// A link that is being made, and what its welcome says.
type Dial = Shared<BoxFuture<'static, Result<(Arc<dyn Link>, Arc<Welcome>), NotAnswered>>>;

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Links {
    /// Knows these nodes at first.
    pub(super) fn new(network: Arc<dyn Network>, ticket: String, places: Vec<Place>) -> Self {
        let links = Links {
            network,
            ticket,
            table: Mutex::default(),
            known: watch::Sender::new(Arc::default()),
            closed: watch::Sender::new(false),
            dials: Tasks::new(),
        };
        places.iter().for_each(|place| links.note(place));
        links
    }

    fn node(&self, endpoint: EndpointId) -> Result<Arc<Node>, NotAnswered> {
        let unknown = || NotAnswered::NotSent { reason: "where the node is is not known".into() };
        lock(&self.table).get(&endpoint).cloned().ok_or_else(unknown)
    }

    fn note(&self, place: &Place) {
        let addresses: Vec<_> =
            place.addresses.iter().copied().take(CLIENT_PLACE_ADDRESSES_MAX).collect();
        let mut table = lock(&self.table);
        match table.get(&place.endpoint) {
            Some(node) if !addresses.is_empty() => {
                *lock(&node.addresses) = addresses;
            }
            Some(_) => {}
            None if table.len() < CLIENT_NODES_MAX => {
                let node = Node {
                    endpoint: place.endpoint,
                    addresses: Mutex::new(addresses),
                    link: Mutex::default(),
                };
                table.insert(place.endpoint, Arc::new(node));
                self.known.send_replace(table.keys().copied().collect());
            }
            None => {}
        }
    }

    /// The link to a node, made if need be.
    pub(super) async fn link(
        &self,
        endpoint: EndpointId,
        deadline: Instant,
    ) -> Result<Arc<dyn Link>, NotAnswered> {
        let node = self.node(endpoint)?;
        let dial = match &mut *lock(&node.link) {
            Slot::Made(link) if link.closed().now_or_never().is_none() => return Ok(link.clone()),
            Slot::Dialling(dial) => dial.clone(),
            slot @ (Slot::Made(_) | Slot::None) => {
                let dial = self.dial(&node);
                *slot = Slot::Dialling(dial.clone());
                dial
            }
        };
        let dialled = match timeout_at(deadline, dial.clone()).await {
            Ok(dialled) => dialled,
            Err(_) => {
                let reason = "the node was not reached in time".into();
                return Err(NotAnswered::NotSent { reason });
            }
        };
        let slot = &mut *lock(&node.link);
        // Who comes first takes it in; by now there may be another.
        if let Slot::Dialling(current) = slot
            && current.ptr_eq(&dial)
        {
            *slot = dialled.as_ref().map_or(Slot::None, |(link, _)| Slot::Made(link.clone()));
        }
        let (link, welcome) = dialled?;
        welcome.members.iter().for_each(|place| self.note(place));
        Ok(link)
    }

    fn dial(&self, node: &Node) -> Dial {
        let (network, endpoint) = (self.network.clone(), node.endpoint);
        let addresses = lock(&node.addresses).clone();
        let hello = Hello { ticket: self.ticket.clone() }.encode();
        let dial = async move {
            let link = network.connect(endpoint, &addresses, Protocol::Client).await;
            let link = link.map_err(not_sent)?;
            match introduce(&link, &hello).await {
                Some(welcome) => Ok((link, Arc::new(welcome))),
                None => Err(not_sent(why(&link).await)),
            }
        };
        let dial = dial.boxed().shared();
        self.dials.spawn(dial.clone().map(drop));
        dial
    }

    /// Opens a stream to a node. A link that was lost unnoticed is made anew, once.
    async fn open(
        &self,
        node: EndpointId,
        kind: StreamKind,
        deadline: Instant,
    ) -> Result<(Arc<dyn Link>, StreamOut, StreamIn), NotAnswered> {
        let mut again = true;
        loop {
            let link = self.link(node, deadline).await?;
            match timeout_at(deadline, open_stream(&*link, kind)).await {
                Ok(Ok((out, input))) => return Ok((link, out, input)),
                Ok(Err(lost)) if again && lost.code != Some(CloseCode::BadTicket) => again = false,
                Ok(Err(lost)) => return Err(not_sent(lost)),
                Err(_) => {
                    let reason = "the node takes no further stream in time".into();
                    return Err(NotAnswered::NotSent { reason });
                }
            }
        }
    }

    /// Closes every link; nothing is asked any more.
    pub(super) async fn close(&self) {
        self.closed.send_replace(true);
        self.dials.abort();
        self.network.close().await;
    }
}

/// Shows the ticket; `None` if it brought no welcome in time.
async fn introduce(link: &Arc<dyn Link>, hello: &[u8]) -> Option<Welcome> {
    let introduced = timeout(GUEST_ADMIT_MAX, async {
        let (mut out, mut input) = open_stream(&**link, StreamKind::Ticket).await.ok()?;
        write_message(&mut out, hello).await.ok()?;
        out.shutdown().await.ok()?;
        let welcome = read_message(&mut input, CONTROL_BYTES_MAX).await.ok()?;
        Welcome::decode(&welcome).ok()
    });
    introduced.await.ok().flatten()
}

/// Why a link is of no use, as far as the node says so in time.
async fn why(link: &Arc<dyn Link>) -> LinkLost {
    match timeout(LINK_CLOSE_WAIT, link.closed()).await {
        Ok(lost) => lost,
        Err(_) => {
            link.close(CloseCode::Malformed, "no welcome came");
            LinkLost::silently("the node does not speak as Aspen does")
        }
    }
}

fn not_sent(lost: LinkLost) -> NotAnswered {
    match ticket_trouble(&lost) {
        Some(denied) => denied,
        None => NotAnswered::NotSent { reason: lost.reason },
    }
}

/// A ticket that one node refuses is refused by all.
fn ticket_trouble(lost: &LinkLost) -> Option<NotAnswered> {
    let reason = lost.reason.clone();
    let refused = || crate::error::Error::from(Denied::Ticket { reason }).into();
    (lost.code == Some(CloseCode::BadTicket)).then(refused)
}

impl Nodes for Links {
    fn is_closed(&self) -> bool {
        *self.closed.borrow()
    }

    fn here(&self) -> Option<EndpointId> {
        None
    }

    fn known(&self) -> Arc<[EndpointId]> {
        self.known.borrow().clone()
    }

    fn learn(&self, place: &Place) {
        self.note(place);
    }

    fn ask(
        &self,
        node: EndpointId,
        request: Request,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Reply, NotAnswered>> {
        Box::pin(async move {
            let (link, mut out, mut input) = self.open(node, StreamKind::Request, deadline).await?;
            let message = Asked::by(deadline, request).encode();
            let exchange = async {
                write_message(&mut out, &message).await.map_err(|error| error.to_string())?;
                out.shutdown().await.map_err(|error| error.to_string())?;
                let response = read_message(&mut input, CALL_BYTES_MAX).await;
                response.map_err(|error| error.to_string())
            };
            let response = match timeout_at(deadline, exchange).await {
                Ok(Ok(response)) => response,
                // The request may have come before the link was closed.
                Ok(Err(reason)) => {
                    let lost = link.closed().now_or_never();
                    let reason = lost.map_or(reason, |lost| lost.reason);
                    return Err(NotAnswered::Lost { reason });
                }
                Err(_) => {
                    return Err(NotAnswered::Lost { reason: "no answer came in time".into() });
                }
            };
            let response = decode_response(&response).map_err(NotAnswered::malformed)?;
            response.map_err(NotAnswered::Failed)
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
            let (_, out, input) = self.open(node, StreamKind::Watch, deadline).await?;
            let asked = WatchAsked::new(group, &request);
            let watch = RemoteWatch::begin((out, input), &asked, deadline).await?;
            Ok(Box::new(watch) as _)
        })
    }
}
