//! Neighbours: the nodes on the same link, found by multicast DNS.
//!
//! Each node says on the link who it is, where it listens, and one short word; anyone there may say
//! anything, so that what is heard is a hint for whom to dial and proves nothing. What is heard is
//! kept as state, in a table with a bound: whoever looks sees the neighbours as they are now.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use iroh::PublicKey;
use iroh::address_lookup::{AddressLookup, EndpointData};
use iroh::endpoint_info::UserData;
use iroh_mdns_address_lookup::{DiscoveryEvent, MdnsAddressLookup};
use tokio::sync::watch;
use tokio::time::sleep;

use super::endpoint::Endpoint;
use super::link::{address, transport};
use crate::limits::{NEIGHBOUR_WORD_BYTES_MAX, NEIGHBOURS_MAX, PEER_ADDRESSES_MAX};
use crate::seams::Tasks;
use crate::types::{Address, EndpointId};

/// What all nodes ask for, whatever their clusters: members of one cluster find each other, and a
/// mesh is told apart by what its nodes say.
const SERVICE: &str = "aspen";

/// How long until listening is tried again where it failed, as it does without a network.
const RETRY: Duration = Duration::from_secs(1);

/// A node on the same link, as it says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbour {
    /// Where it listens.
    pub addresses: Vec<Address>,
    /// Its word; may be empty.
    pub word: String,
}

/// All that are heard at the moment.
pub type Neighbourhood = Arc<BTreeMap<EndpointId, Neighbour>>;

/// This node's ear and mouth on the link; they close when the last clone is dropped.
#[derive(Clone, Debug)]
pub struct Neighbours {
    heard: watch::Receiver<Neighbourhood>,
    word: watch::Sender<String>,
    _tasks: Arc<OnDrop>,
}

#[derive(Debug)]
struct OnDrop(Tasks);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Neighbours {
    /// Begins to listen, and to say where this node is.
    pub fn listen(endpoint: &Endpoint) -> Self {
        let (told, heard) = watch::channel(Neighbourhood::default());
        let word = watch::Sender::new(String::new());
        let tasks = Tasks::new();
        let ear = Ear { me: endpoint.id, said: word.subscribe(), here: endpoint.places(), told };
        tasks.spawn(ear.run());
        Neighbours { heard, word, _tasks: Arc::new(OnDrop(tasks)) }
    }

    /// Says this word from now on; it has at most [`NEIGHBOUR_WORD_BYTES_MAX`] bytes.
    pub fn say(&self, word: String) {
        assert!(word.len() <= NEIGHBOUR_WORD_BYTES_MAX, "the caller keeps to the word's bound");
        self.word.send_replace(word);
    }

    /// Who is heard, and each change.
    pub fn heard(&self) -> watch::Receiver<Neighbourhood> {
        self.heard.clone()
    }
}

struct Ear {
    me: EndpointId,
    said: watch::Receiver<String>,
    /// Where this node is.
    here: watch::Receiver<Vec<Address>>,
    told: watch::Sender<Neighbourhood>,
}

impl Ear {
    /// Listens anew whenever the node's place has changed: who began to listen before an interface
    /// was there never hears anything on it.
    async fn run(mut self) {
        loop {
            let addresses = self.here.borrow_and_update().clone();
            // Who was heard before is heard again in a moment, if it is there.
            self.told.send_replace(Neighbourhood::default());
            match self.open() {
                Ok(lookup) => self.listen(&lookup, addresses).await,
                Err(reason) => {
                    tracing::debug!(%reason, "neighbours can't be heard");
                    sleep(RETRY).await;
                }
            }
            if self.here.has_changed().is_err() {
                return;
            }
        }
    }

    fn open(&self) -> Result<MdnsAddressLookup, String> {
        let me = PublicKey::from_bytes(&self.me.0).map_err(|error| error.to_string())?;
        let builder = MdnsAddressLookup::builder().service_name(SERVICE);
        builder.build(me).map_err(|error| format!("{error:#}"))
    }

    /// Hears and says until this node's place changes.
    async fn listen(&mut self, lookup: &MdnsAddressLookup, addresses: Vec<Address>) {
        let mut events = lookup.subscribe().await;
        self.say(lookup, &addresses);
        loop {
            tokio::select! {
                biased;
                _ = self.here.changed() => return,
                changed = self.said.changed() => match changed {
                    Ok(()) => self.say(lookup, &addresses),
                    Err(_) => return,
                },
                event = events.next() => match event {
                    Some(event) => self.hear(event),
                    None => return sleep(RETRY).await,
                },
            }
        }
    }

    fn say(&mut self, lookup: &MdnsAddressLookup, addresses: &[Address]) {
        let addresses = addresses.iter().map(transport).collect();
        let mut data = EndpointData::new(addresses);
        let word = self.said.borrow_and_update().clone();
        data.set_user_data(UserData::try_from(word).ok());
        lookup.publish(&data);
    }

    fn hear(&self, event: DiscoveryEvent) {
        self.told.send_if_modified(|heard| match event {
            DiscoveryEvent::Discovered { endpoint_info, .. } => {
                let peer = EndpointId(*endpoint_info.endpoint_id.as_bytes());
                let mut addresses: Vec<_> = endpoint_info.addrs().filter_map(address).collect();
                Address::keep_few(&mut addresses, PEER_ADDRESSES_MAX);
                let word = endpoint_info.user_data().map(|word| word.to_string());
                let neighbour = Neighbour { addresses, word: word.unwrap_or_default() };
                let is_full = heard.len() >= NEIGHBOURS_MAX && !heard.contains_key(&peer);
                if is_full || heard.get(&peer) == Some(&neighbour) {
                    return false;
                }
                Arc::make_mut(heard).insert(peer, neighbour);
                true
            }
            DiscoveryEvent::Expired { endpoint_id } => {
                Arc::make_mut(heard).remove(&EndpointId(*endpoint_id.as_bytes())).is_some()
            }
            _ => false,
        });
    }
}
