//! Where the members are, as far as anybody says: whoever says so feeds the one address book.
//!
//! And what follows when a node moves: its links may hang on a path that leads nowhere any more,
//! which QUIC alone notices late or never. A node that has lost an address therefore gives its links
//! up and dials every member at once, so that those that don't know where it is now learn it; and
//! a link to a neighbour that no longer listens where the link leads is given up, too. A member to whom
//! there is no link is looked for, and dialled.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::watch;
use tokio::time::{Instant, interval};
use tokio_util::sync::CancellationToken;

use super::gossip::{Speaker, gossip};
use super::roster::Members;
use super::service::service_part;
use super::supervisor::ChildSpec;
use crate::limits::{DIAL_MAX, SEEK_MAX, SEEK_MIN};
use crate::net::{AddressSource, Lookup, Neighbourhood, Neighbours, Peers, on_interfaces};
use crate::roster::Standing;
use crate::types::{Address, EndpointId};

/// Who says where members are, and where this node is.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The members themselves, all of them; `None` if the network is closed.
    pub speaker: Option<Speaker>,
    /// The nodes on the link; `None` if this node does not listen for them.
    pub neighbours: Option<Neighbours>,
    /// Where nodes are found by their keys; `None` if this node does not reach so far.
    pub lookup: Option<Lookup>,
    /// Where this node can be dialled.
    pub places: watch::Receiver<Vec<Address>>,
}

/// The supervised part that feeds the address book.
pub(super) fn discovery_part(members: Members, peers: Peers, sources: Sources) -> ChildSpec {
    let run = move |stop: CancellationToken| {
        let discovery = Discovery { members: members.clone(), peers: peers.clone() };
        let sources = sources.clone();
        Box::pin(async move {
            let all = async {
                tokio::join!(
                    discovery.gossip(sources.speaker, sources.places.clone()),
                    discovery.hear_neighbours(sources.neighbours),
                    discovery.seek_lost(sources.lookup),
                    discovery.follow_places(sources.places)
                );
                // Sources that have said all are no failure.
                pending::<()>().await;
            };
            // There is nothing to finish.
            stop.run_until_cancelled(all).await;
            Ok(())
        }) as _
    };
    service_part("discovery", Arc::new(run))
}

struct Discovery {
    members: Members,
    peers: Peers,
}

impl Sources {
    /// Nobody says anything: for a node that is told where its peers are.
    pub fn none() -> Self {
        let places = watch::channel(Vec::new()).1;
        Sources { speaker: None, neighbours: None, lookup: None, places }
    }
}

impl Discovery {
    async fn gossip(&self, speaker: Option<Speaker>, places: watch::Receiver<Vec<Address>>) {
        let Some(speaker) = speaker else { return };
        gossip(speaker, self.members.clone(), self.peers.clone(), places).await;
    }

    async fn hear_neighbours(&self, neighbours: Option<Neighbours>) {
        let Some(neighbours) = neighbours else { return };
        let mut heard = neighbours.heard();
        let mut members = self.members.changes();
        let mut before = Neighbourhood::default();
        loop {
            // Anybody may call himself a neighbour: only members have a place in the book.
            let now = heard.borrow_and_update().clone();
            members.mark_unchanged();
            for (&peer, neighbour) in now.iter() {
                if self.is_member(peer) {
                    self.peers.note(peer, &neighbour.addresses, AddressSource::Mdns);
                    if before.get(&peer).is_some_and(|was| was.addresses != neighbour.addresses) {
                        self.peers.doubt(peer, &neighbour.addresses);
                    }
                }
            }
            before = now;
            let changed = tokio::select! {
                changed = heard.changed() => changed,
                changed = members.changed() => changed,
            };
            if changed.is_err() {
                return;
            }
        }
    }

    /// Looks for the members that are not reached, one after the other, and dials them: one that only
    /// paused would seem lost until somebody has something to say to it.
    async fn seek_lost(&self, lookup: Option<Lookup>) {
        let mut sought = BTreeMap::new();
        let mut look = interval(SEEK_MIN);
        loop {
            look.tick().await;
            for member in self.unreached() {
                let now = Instant::now();
                let (next, pause) = *sought.entry(member).or_insert((now, SEEK_MIN));
                if next > now {
                    continue;
                }
                sought.insert(member, (now + pause, (2 * pause).min(SEEK_MAX)));
                self.seek(lookup.as_ref(), member).await;
            }
            let unreached: BTreeSet<_> = self.unreached().into_iter().collect();
            sought.retain(|member, _| unreached.contains(member));
        }
    }

    async fn seek(&self, lookup: Option<&Lookup>, member: EndpointId) {
        if let Some(lookup) = lookup {
            for (source, addresses) in &lookup.find(member).await {
                self.peers.note(member, addresses, *source);
            }
        }
        // Who is not reached now is sought again.
        let _ = self.peers.link(member, Instant::now() + DIAL_MAX).await;
    }

    /// The other members to whom there is no link.
    fn unreached(&self) -> Vec<EndpointId> {
        let facts = self.peers.facts();
        let reached = |member: &EndpointId| {
            facts.iter().any(|peer| peer.peer == *member && peer.connected_since.is_some())
        };
        let members = self.members.endpoints();
        let others = members.iter().filter(|member| **member != self.peers.id());
        others.filter(|member| !reached(member)).copied().collect()
    }

    async fn follow_places(&self, mut places: watch::Receiver<Vec<Address>>) {
        let mut before = on_interfaces(&places.borrow_and_update());
        while places.changed().await.is_ok() {
            let all = places.borrow_and_update().clone();
            let now = on_interfaces(&all);
            tracing::info!(addresses = ?all, "this node's addresses have changed");
            // What a router or a relay lends comes and goes, and no path begins there.
            if !before.is_subset(&now) {
                self.peers.give_up_links("this node has moved");
                self.dial_all().await;
            }
            before = now;
        }
    }

    /// So that all learn where this node is; who is not reached now is when somebody wants it.
    async fn dial_all(&self) {
        let deadline = Instant::now() + DIAL_MAX;
        let members = self.members.endpoints();
        let others = members.iter().filter(|member| **member != self.peers.id());
        join_all(others.map(|member| self.peers.link(*member, deadline))).await;
    }

    fn is_member(&self, peer: EndpointId) -> bool {
        matches!(self.members.standing(peer), Standing::Member(_))
    }
}
