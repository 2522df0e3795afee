//! The nodes as a program with a ticket asks them: over links of its own, one to each node that
//! it needs, each opened with the ticket.
//!
//! A link is made when it is wanted. All who want it wait for the one dial, which goes on when one
//! of them gives up: a node that is far takes longer than the first try has. The node then goes on
//! telling where the members are for as long as the link lasts ([`Places`]).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use tokio::io::AsyncWriteExt;
use tokio::sync::watch;
use tokio::time::{Instant, timeout, timeout_at};

use super::desk::Hop;
use super::group::GroupClient;
use super::nodes::{Changes, Nodes, NotAnswered};
use super::places::Places;
use super::request::{
    Asked, Hello, Located, Place, Reply, Request, WatchAsked, Whereabouts, decode_response,
};
use super::shown::RemoteWatch;
use crate::error::{Denied, Error, Result};
use crate::limits::{
    CALL_BYTES_MAX, CLIENT_KEYSPACES_MAX, CONTROL_BYTES_MAX, GUEST_ADMIT_MAX, LINK_CLOSE_WAIT,
};
use crate::net::{open_stream, read_message, write_message};
use crate::raft::WatchRequest;
use crate::roster::records::Keyspace;
use crate::seams::network::{CloseCode, Link, LinkLost, Network, Protocol, StreamIn, StreamOut};
use crate::seams::{Random, Tasks};
use crate::types::{Address, EndpointId, GroupId, KeyspaceName, Revision};
use crate::wire::StreamKind;

/// A client's links.
#[derive(Debug)]
pub(super) struct Links {
    network: Arc<dyn Network>,
    /// As text, for every link's first stream.
    ticket: String,
    places: Arc<Places>,
    slots: Mutex<BTreeMap<EndpointId, Slot>>,
    /// Where the shards of keyspaces are that were asked for.
    maps: Mutex<BTreeMap<KeyspaceName, Map>>,
    itself: Weak<Links>,
    random: Random,
    closed: watch::Sender<bool>,
    /// Each dial is one, so that it is made to its end whoever waits for it; and each link's news.
    tasks: Tasks,
}

/// Where the shards of a keyspace are, as a member told.
#[derive(Debug)]
struct Map {
    as_of: Revision,
    keyspace: Keyspace,
    holders: Vec<Arc<[EndpointId]>>,
}

impl Map {
    /// `None` if there is no such keyspace, or what was told makes no sense.
    fn of(located: Located) -> Option<Self> {
        let Located { as_of, keyspace, nodes, holders } = located;
        let keyspace = keyspace?;
        let node = |at: u16| nodes.get(usize::from(at)).copied();
        let holders: Vec<Arc<[EndpointId]>> = holders
            .into_iter()
            .map(|holders| holders.into_iter().filter_map(node).collect())
            .collect();
        (holders.len() == keyspace.shards as usize).then_some(Map { as_of, keyspace, holders })
    }

    /// Who holds a group; `None` if it is none of these, or nobody is known to.
    fn holders(&self, group: GroupId) -> Option<Arc<[EndpointId]>> {
        let shard = self.keyspace.shard(group)?;
        self.holders.get(shard as usize).filter(|holders| !holders.is_empty()).cloned()
    }
}

/// The link to a node.
#[derive(Clone, Debug)]
enum Slot {
    /// To these addresses.
    Dialling(Vec<Address>, Dial),
    Made(Arc<dyn Link>),
}

/// A link that is being made.
type Dial = Shared<BoxFuture<'static, Result<Arc<dyn Link>, NotAnswered>>>;

impl Links {
    /// Knows these nodes at first.
    pub(super) fn new(
        network: Arc<dyn Network>,
        ticket: String,
        places: impl IntoIterator<Item = Place>,
        random: Random,
    ) -> Arc<Self> {
        Arc::new_cyclic(|itself| Links {
            network,
            ticket,
            places: Arc::new(Places::new(places)),
            slots: Mutex::default(),
            maps: Mutex::default(),
            itself: itself.clone(),
            random,
            closed: watch::Sender::new(false),
            tasks: Tasks::new(),
        })
    }

    /// The link to a node, made if need be.
    pub(super) async fn link(
        &self,
        endpoint: EndpointId,
        deadline: Instant,
    ) -> Result<Arc<dyn Link>, NotAnswered> {
        let dial = match self.slot(endpoint)? {
            Slot::Made(link) => return Ok(link),
            Slot::Dialling(_, dial) => dial,
        };
        let dialled = match timeout_at(deadline, dial.clone()).await {
            Ok(dialled) => dialled,
            Err(_) => {
                let reason = "the node was not reached in time".into();
                return Err(NotAnswered::NotSent { reason });
            }
        };
        let mut slots = self.slots();
        // Who comes first takes it in; by now there may be another.
        if let Some(Slot::Dialling(_, current)) = slots.get(&endpoint)
            && current.ptr_eq(&dial)
        {
            match &dialled {
                Ok(link) => slots.insert(endpoint, Slot::Made(link.clone())),
                Err(_) => slots.remove(&endpoint),
            };
        }
        dialled
    }

    /// The link that is there, or the dial that is under way; begun if there is neither, or the
    /// node is elsewhere by now.
    fn slot(&self, endpoint: EndpointId) -> Result<Slot, NotAnswered> {
        let Some(addresses) = self.places.addresses(endpoint) else {
            let reason = "where the node is is not known".into();
            return Err(NotAnswered::NotSent { reason });
        };
        let mut slots = self.slots();
        match slots.get(&endpoint) {
            Some(made @ Slot::Made(link)) if link.closed().now_or_never().is_none() => {
                return Ok(made.clone());
            }
            Some(dialling @ Slot::Dialling(to, _)) if *to == addresses => {
                return Ok(dialling.clone());
            }
            Some(_) | None => {}
        }
        slots.retain(|endpoint, _| self.places.addresses(*endpoint).is_some());
        let dial = self.dial(endpoint, addresses.clone());
        let dialling = Slot::Dialling(addresses, dial);
        slots.insert(endpoint, dialling.clone());
        Ok(dialling)
    }

    fn maps(&self) -> MutexGuard<'_, BTreeMap<KeyspaceName, Map>> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes in where the shards of a keyspace are.
    fn take(&self, name: &KeyspaceName, located: Located) -> Option<Keyspace> {
        let mut maps = self.maps();
        let Some(map) = Map::of(located) else {
            maps.remove(name);
            return None;
        };
        if maps.len() >= CLIENT_KEYSPACES_MAX {
            maps.clear();
        }
        let keyspace = map.keyspace;
        maps.insert(name.clone(), map);
        Some(keyspace)
    }

    /// This, as whoever asks over it holds it.
    fn itself(&self) -> Result<Arc<Links>> {
        let closed = || Error::Fatal("the client is closed".into());
        self.itself.upgrade().ok_or_else(closed)
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<EndpointId, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn dial(&self, endpoint: EndpointId, addresses: Vec<Address>) -> Dial {
        let (network, places, tasks) =
            (self.network.clone(), self.places.clone(), self.tasks.clone());
        let hello = Hello { ticket: self.ticket.clone() }.encode();
        let dial = async move {
            let link = network.connect(endpoint, &addresses, Protocol::Client).await;
            let link = link.map_err(not_sent)?;
            match introduce(&link, &hello).await {
                Some((told, news)) => {
                    places.take(&told);
                    tasks.spawn(follow(news, places));
                    Ok(link)
                }
                None => Err(not_sent(why(&link).await)),
            }
        };
        let dial = dial.boxed().shared();
        self.tasks.spawn(dial.clone().map(drop));
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
        self.tasks.abort();
        self.slots().clear();
        self.network.close().await;
    }
}

/// Shows the ticket: what it is answered with, and where more of that comes; `None` if nothing came
/// in time.
async fn introduce(link: &Arc<dyn Link>, hello: &[u8]) -> Option<(Whereabouts, StreamIn)> {
    let introduced = timeout(GUEST_ADMIT_MAX, async {
        let (mut out, mut input) = open_stream(&**link, StreamKind::Ticket).await.ok()?;
        write_message(&mut out, hello).await.ok()?;
        out.shutdown().await.ok()?;
        Some((next_told(&mut input).await?, input))
    });
    introduced.await.ok().flatten()
}

/// Takes in where the members are for as long as a node tells it.
async fn follow(mut news: StreamIn, places: Arc<Places>) {
    while let Some(told) = next_told(&mut news).await {
        places.take(&told);
    }
}

async fn next_told(input: &mut StreamIn) -> Option<Whereabouts> {
    let told = read_message(input, CONTROL_BYTES_MAX).await.ok()?;
    Whereabouts::decode(&told).ok()
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

    fn here(&self, _group: GroupId) -> Option<EndpointId> {
        None
    }

    /// Those that hold it, or all members as long as that is not known.
    fn known(&self, group: GroupId) -> Option<Arc<[EndpointId]>> {
        let holders = self.maps().values().find_map(|map| map.holders(group));
        Some(holders.unwrap_or_else(|| self.places.endpoints()))
    }

    fn not_here(&self, group: GroupId, as_of: Revision) {
        self.maps().retain(|_, map| map.as_of >= as_of || map.holders(group).is_none());
    }

    fn keyspace(&self, name: &KeyspaceName) -> Option<Keyspace> {
        self.maps().get(name).map(|map| map.keyspace)
    }

    fn find_keyspace<'a>(
        &'a self,
        name: &'a KeyspaceName,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Keyspace>>> {
        Box::pin(async move {
            let group = GroupClient::over(self.itself()?, GroupId::META, self.random.clone());
            let request = Request::Locate { keyspace: name.clone() };
            match group.send(&request, deadline, &mut None).await? {
                Reply::Located(located) => Ok(self.take(name, located)),
                other => Err(other.unexpected()),
            }
        })
    }

    fn learn(&self, place: &Place) {
        self.places.hint(place);
    }

    fn ask(
        &self,
        node: EndpointId,
        request: Request,
        hop: Hop,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Reply, NotAnswered>> {
        Box::pin(async move {
            let (link, mut out, mut input) = self.open(node, hop.kind(), deadline).await?;
            let message = Asked::by(deadline, request, None).encode();
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
            let asked = WatchAsked::new(group, &request, None);
            let watch = RemoteWatch::begin((out, input), &asked, deadline).await?;
            Ok(Box::new(watch) as _)
        })
    }
}
