//! Where nodes are told of and found by their keys alone, beyond the LAN.
//!
//! What is found is a hint: the address book takes it, and the peer's key is proven when it is
//! dialled. Nothing here is waited for when a node starts.

use std::sync::{Arc, Mutex, PoisonError};

use futures_util::StreamExt;
use futures_util::stream::SelectAll;
use iroh::address_lookup::pkarr::{PkarrPublisher, PkarrResolver};
use iroh::address_lookup::{AddrFilter, AddressLookup, DnsAddressLookup, EndpointData};
use iroh::{PublicKey, SecretKey};
use iroh_mainline_address_lookup::DhtAddressLookup;
use n0_mainline::DhtBuilder;
use tokio::sync::watch;
use tokio::time::timeout;

use super::book::AddressSource;
use super::internet::{Choice, Directory, Entrances, Internet};
use super::link::{address, transport};
use crate::limits::{LOOKUP_MAX, PEER_ADDRESSES_MAX};
use crate::types::{Address, EndpointId};

/// The services that a node uses; clones are the same.
#[derive(Clone, Debug)]
pub struct Lookup {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    /// What the node's place is signed with, where it is told.
    key: SecretKey,
    dht: Choice<Entrances>,
    services: Mutex<Vec<Service>>,
}

#[derive(Clone, Debug)]
struct Service {
    source: AddressSource,
    lookup: Arc<dyn AddressLookup>,
}

impl Lookup {
    /// The services of a node; none that can't be used, of which the log tells.
    pub(super) fn new(endpoint: &iroh::Endpoint, internet: &Internet) -> Self {
        let key = endpoint.secret_key().clone();
        let mut services = directory(endpoint, &internet.directory);
        services.extend(dht(&key, &internet.dht));
        let inner = Inner { key, dht: internet.dht.clone(), services: Mutex::new(services) };
        Lookup { inner: Arc::new(inner) }
    }

    fn services(&self) -> Vec<Service> {
        self.inner.services.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks for a peer everywhere, for a bounded time: what each service said.
    pub async fn find(&self, peer: EndpointId) -> Vec<(AddressSource, Vec<Address>)> {
        let Ok(key) = PublicKey::from_bytes(&peer.0) else { return Vec::new() };
        let mut said = SelectAll::new();
        for Service { source, lookup } in self.services() {
            let found = lookup.resolve(key).into_iter();
            said.extend(found.map(|found| found.map(move |item| (source, item)).boxed()));
        }
        let mut all = Vec::new();
        let looking = async {
            while let Some((source, item)) = said.next().await {
                let Ok(item) = item else { continue };
                let info = item.endpoint_info();
                let mut addresses: Vec<_> = info.addrs().filter_map(address).collect();
                Address::keep_few(&mut addresses, PEER_ADDRESSES_MAX);
                if !addresses.is_empty() {
                    all.push((source, addresses));
                }
            }
        };
        let _ = timeout(LOOKUP_MAX, looking).await;
        all
    }

    /// Tells the services where this node is, now and whenever that changes.
    pub(super) async fn publish(self, mut places: watch::Receiver<Vec<Address>>) {
        let mut is_first = true;
        loop {
            let here = places.borrow_and_update().clone();
            if !is_first {
                self.enter_dht_anew();
            }
            is_first = false;
            let data = EndpointData::new(here.iter().map(transport).collect());
            for service in self.services() {
                service.lookup.publish(&data);
            }
            if places.changed().await.is_err() {
                return;
            }
        }
    }

    /// A node that has moved is not heard in the DHT by the socket it had there.
    fn enter_dht_anew(&self) {
        let mut services = self.inner.services.lock().unwrap_or_else(PoisonError::into_inner);
        services.retain(|service| service.source != AddressSource::Dht);
        services.extend(dht(&self.inner.key, &self.inner.dht));
    }
}

/// All addresses are told, not only those of relays: what is looked for is a way to the node.
fn directory(endpoint: &iroh::Endpoint, directory: &Choice<Directory>) -> Vec<Service> {
    let (key, tls) = (endpoint.secret_key().clone(), endpoint.tls_config().clone());
    let service = |lookup| Service { source: AddressSource::Dns, lookup };
    match directory {
        Choice::Off => Vec::new(),
        Choice::Public => {
            let publisher = PkarrPublisher::n0_dns().addr_filter(AddrFilter::unfiltered());
            let mut resolver = DnsAddressLookup::n0_dns();
            if let Ok(dns) = endpoint.dns_resolver() {
                resolver = resolver.dns_resolver(dns.clone());
            }
            vec![
                service(Arc::new(publisher.build(key, tls)) as Arc<dyn AddressLookup>),
                service(Arc::new(resolver.build())),
            ]
        }
        Choice::Own(directory) => {
            let url = &**directory.url();
            let publisher = PkarrPublisher::builder(url.clone());
            let publisher = publisher.addr_filter(AddrFilter::unfiltered());
            vec![
                service(Arc::new(publisher.build(key, tls.clone())) as Arc<dyn AddressLookup>),
                service(Arc::new(PkarrResolver::builder(url.clone()).build(tls))),
            ]
        }
    }
}

fn dht(key: &SecretKey, dht: &Choice<Entrances>) -> Option<Service> {
    let builder = match dht {
        Choice::Off => return None,
        Choice::Public => DhtAddressLookup::builder(),
        Choice::Own(entrances) => {
            let mut entered = DhtBuilder::default();
            entered.bootstrap(entrances.nodes());
            DhtAddressLookup::builder().dht_builder(entered)
        }
    };
    let builder = builder.addr_filter(AddrFilter::unfiltered());
    match builder.secret_key(key.clone()).build() {
        Ok(lookup) => Some(Service { source: AddressSource::Dht, lookup: Arc::new(lookup) }),
        Err(error) => {
            tracing::warn!(%error, "the DHT can't be entered");
            None
        }
    }
}
