//! [`Client`]: a program that uses a cluster from outside, with a ticket.

use std::ops::Deref;
use std::sync::Arc;

use aspen_tickets::ClientTicket;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::time::Instant;

use super::KvClient;
use super::links::Links;
use super::nodes::NotAnswered;
use super::request::{Failure, Place};
use crate::error::{Error, Result};
use crate::limits::CLIENT_DEADLINE;
use crate::net::{Endpoint, Internet, Listen, NodeKey, Reach};
use crate::seams::Random;
use crate::seams::network::{CloseCode, Gate, Network, Protocol};
use crate::types::{Address, EndpointId, GroupId, KeyspaceName};

/// A cluster, used from outside with a client's ticket. It is a [`KvClient`] in all else: what the
/// ticket does not allow is refused with [`Error::Denied`].
///
/// ```no_run
/// # async fn doc() -> Result<(), Box<dyn std::error::Error>> {
/// let client = aspen::Client::connect(&"aspenclient…".parse()?).await?;
/// client.put("greeting", "hello").await?;
/// client.close().await;
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Client {
    kv: KvClient,
    links: Arc<Links>,
}

impl Client {
    /// Connects with a key of its own, made for this, to whichever of the ticket's members answers
    /// first. [`Error::Denied`] says that the ticket is not accepted and why,
    /// [`Error::Unavailable`] that nobody answered.
    pub async fn connect(ticket: &ClientTicket) -> Result<Client> {
        let random = Random::from_entropy();
        let key = NodeKey::generate(&random);
        Client::connect_as(&key, ticket, random).await
    }

    /// The same with a key that is kept: a ticket for a number of clients counts keys.
    pub async fn connect_as(
        key: &NodeKey,
        ticket: &ClientTicket,
        random: Random,
    ) -> Result<Client> {
        let relays = Internet::to_visit(ticket.peers().iter().flat_map(|peer| &peer.addresses));
        let reach = match (is_local(ticket), &relays) {
            (true, _) => Reach::Loopback,
            (false, None) => Reach::Lan,
            (false, Some(_)) => Reach::Internet,
        };
        let (internet, gate) = (relays.unwrap_or_default(), Arc::new(NoGuests));
        let endpoint = Endpoint::bind_with(key, reach, Listen::Anywhere, &internet, gate).await;
        let endpoint = endpoint.map_err(Error::Fatal)?;
        Client::connect_over(Arc::new(endpoint), ticket, random).await
    }

    /// The same over a network that is there already; the client closes it.
    pub async fn connect_over(
        network: Arc<dyn Network>,
        ticket: &ClientTicket,
        random: Random,
    ) -> Result<Client> {
        let places = ticket.peers().iter().map(|peer| Place {
            endpoint: EndpointId(peer.endpoint),
            addresses: peer.addresses.clone(),
        });
        let links = Links::new(network, ticket.to_string(), places, random.clone());
        if let Err(error) = reach_any(&links, ticket).await {
            links.close().await;
            return Err(error);
        }
        let kv = KvClient::over(links.clone(), KeyspaceName::default(), random);
        Ok(Client { kv, links })
    }

    /// The store; clone it as you like. It works for as long as the client is not closed.
    pub fn kv(&self) -> KvClient {
        self.kv.clone()
    }

    /// Takes leave of the cluster. Without it, the members notice after a while.
    pub async fn close(&self) {
        self.links.close().await;
    }
}

impl Deref for Client {
    type Target = KvClient;

    fn deref(&self) -> &KvClient {
        &self.kv
    }
}

/// Dials all of the ticket's members at once, and is content with the first.
async fn reach_any(links: &Links, ticket: &ClientTicket) -> Result<()> {
    let deadline = Instant::now() + CLIENT_DEADLINE;
    let dial = |endpoint| links.link(EndpointId(endpoint), deadline);
    let mut dials: FuturesUnordered<_> =
        ticket.peers().iter().map(|peer| dial(peer.endpoint)).collect();
    let mut reason = "the ticket names nobody".to_owned();
    while let Some(dialled) = dials.next().await {
        match dialled {
            Ok(_) => return Ok(()),
            Err(NotAnswered::Failed(Failure::Final(error @ Error::Denied(_)))) => {
                return Err(error);
            }
            Err(NotAnswered::Failed(failure)) => reason = format!("{failure:?}"),
            Err(NotAnswered::NotSent { reason: why } | NotAnswered::Lost { reason: why }) => {
                reason = why;
            }
        }
    }
    let reason = format!("no member of the ticket answers ({reason}); are they running?");
    Err(Error::Unavailable { group: GroupId::META, reason })
}

/// Whether all members are on this machine.
fn is_local(ticket: &ClientTicket) -> bool {
    let addresses = ticket.peers().iter().flat_map(|peer| &peer.addresses);
    addresses.map(Address::ip).all(|socket| socket.is_some_and(|socket| socket.ip().is_loopback()))
}

/// Nobody has a reason to dial a client.
#[derive(Debug)]
struct NoGuests;

impl Gate for NoGuests {
    fn admit(&self, _: EndpointId, _: Protocol) -> Result<(), (CloseCode, String)> {
        Err((CloseCode::NotMember, "this is a client, which takes no links".into()))
    }
}
