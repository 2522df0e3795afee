//! Where the nodes are that a client from elsewhere may ask.
//!
//! First the client's ticket says so. Then each member it is linked with does, at once and
//! whenever it changes: every such [`Whereabouts`] is of one revision of the cluster's roster, and
//! takes the place of whatever was known, so that a member that is behind can't undo what another
//! one said. A hint to a leader helps with a node that no member has told of yet.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::request::{Place, Whereabouts};
use crate::limits::{CLIENT_NODES_MAX, CLIENT_PLACE_ADDRESSES_MAX};
use crate::types::{Address, EndpointId, Revision};

/// The nodes that a client knows of.
#[derive(Debug)]
pub(super) struct Places {
    known: Mutex<Known>,
    /// The keys of all, in order.
    endpoints: watch::Sender<Arc<[EndpointId]>>,
}

#[derive(Debug, Default)]
struct Known {
    nodes: BTreeMap<EndpointId, Node>,
    /// The revision of the roster that a member told last.
    as_of: Revision,
}

#[derive(Debug)]
struct Node {
    addresses: Vec<Address>,
    /// Whether a member told of it; otherwise it is hearsay.
    is_told: bool,
}

impl Node {
    fn at(place: &Place, is_told: bool) -> Self {
        let mut addresses = place.addresses.clone();
        Address::keep_few(&mut addresses, CLIENT_PLACE_ADDRESSES_MAX);
        Node { addresses, is_told }
    }
}

impl Places {
    /// What a ticket says.
    pub(super) fn new(ticket: impl IntoIterator<Item = Place>) -> Self {
        let endpoints = watch::Sender::new(Arc::default());
        let places = Places { known: Mutex::default(), endpoints };
        ticket.into_iter().for_each(|place| places.hint(&place));
        places
    }

    /// All nodes, in an order that stays.
    pub(super) fn endpoints(&self) -> Arc<[EndpointId]> {
        self.endpoints.borrow().clone()
    }

    /// Where a node may be dialled, if it is known.
    pub(super) fn addresses(&self, endpoint: EndpointId) -> Option<Vec<Address>> {
        self.lock().nodes.get(&endpoint).map(|node| node.addresses.clone())
    }

    /// A node was named as a leader.
    pub(super) fn hint(&self, place: &Place) {
        let mut known = self.lock();
        let is_news = match known.nodes.get(&place.endpoint) {
            None => known.nodes.len() < CLIENT_NODES_MAX,
            Some(node) => !node.is_told && !place.addresses.is_empty(),
        };
        if is_news {
            known.nodes.insert(place.endpoint, Node::at(place, false));
            self.publish(&known);
        }
    }

    /// A member told where the members are; whoever is not named is none. One that knows of nobody
    /// is not in its cluster yet.
    pub(super) fn take(&self, told: &Whereabouts) {
        let mut known = self.lock();
        if told.members.is_empty() || told.as_of < known.as_of {
            return;
        }
        let members = told.members.iter().take(CLIENT_NODES_MAX);
        let nodes = members.map(|place| (place.endpoint, Node::at(place, true))).collect();
        *known = Known { nodes, as_of: told.as_of };
        self.publish(&known);
    }

    fn publish(&self, known: &Known) {
        if !known.nodes.keys().eq(self.endpoints.borrow().iter()) {
            self.endpoints.send_replace(known.nodes.keys().copied().collect());
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    const A: EndpointId = EndpointId([1; 32]);
    const B: EndpointId = EndpointId([2; 32]);

    fn place(endpoint: EndpointId, port: u16) -> Place {
        Place { endpoint, addresses: vec![SocketAddr::from(([127, 0, 0, 1], port)).into()] }
    }

    fn told(as_of: Revision, members: impl IntoIterator<Item = Place>) -> Whereabouts {
        Whereabouts { as_of, members: members.into_iter().collect() }
    }

    fn port(places: &Places, endpoint: EndpointId) -> Option<u16> {
        Some(places.addresses(endpoint)?[0].ip()?.port())
    }

    #[test]
    fn what_is_newer_holds_whoever_says_it_first() {
        let places = Places::new([place(A, 1)]);
        places.hint(&place(A, 2));
        assert_eq!(port(&places, A), Some(2), "a ticket may be old");
        places.take(&told(7, [place(A, 3), place(B, 3)]));
        places.take(&told(5, [place(A, 4)]));
        places.hint(&place(A, 5));
        assert_eq!((port(&places, A), port(&places, B)), (Some(3), Some(3)));
        places.take(&told(8, [place(B, 6)]));
        assert_eq!((port(&places, A), port(&places, B)), (None, Some(6)), "A is no member now");
        assert_eq!(*places.endpoints(), [B]);
        places.take(&told(7, [place(A, 7)]));
        assert_eq!(port(&places, A), None, "it was one before");
    }

    #[test]
    fn a_member_that_knows_of_nobody_takes_nobody_away() {
        let places = Places::new([place(A, 1)]);
        places.take(&told(0, []));
        assert_eq!(port(&places, A), Some(1));
    }

    #[test]
    fn no_more_nodes_are_known_than_may_be() {
        let many = |from: u8| (0..CLIENT_NODES_MAX as u8).map(move |n| EndpointId([from + n; 32]));
        let places = Places::new(many(0).map(|endpoint| place(endpoint, 1)));
        places.hint(&place(EndpointId([99; 32]), 1));
        assert_eq!(places.endpoints().len(), CLIENT_NODES_MAX);
        places.take(&told(1, many(100).chain(many(0)).map(|endpoint| place(endpoint, 2))));
        assert!(places.endpoints().iter().copied().eq(many(100)));
        places.hint(&place(A, 3));
        assert_eq!(port(&places, A), None);
    }
}
