//! How the nodes of a mesh become one cluster: who founds it, and whom the others ask to be let in.
//!
//! Those that have proven to each other that they belong to the same mesh tell each other where they
//! stand. Once as many have met as are expected, each *seconds* the smallest key that it knows of,
//! and a node founds the cluster when so many, itself among them, second it. Whoever has seconded
//! somebody stays with that until the other steps back, is settled or is gone: so two nodes that
//! hear each other never both found. Whoever meets a settled node asks it for a ticket instead, once
//! it has listened for long enough to hear of all. Two clusters of one mesh, begun while their halves
//! could not hear each other, are told of and left as they are: whoever looks for one then waits
//! until there is one only, and a member that hears of the other lets nobody in meanwhile.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::types::{ClusterId, EndpointId};

/// Where a node stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stand {
    /// It belongs to no cluster yet.
    Looking(Option<Seconding>),
    /// It is a member of this cluster.
    Settled(ClusterId),
}

/// Who a node thinks should found the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seconding {
    /// Who.
    pub whom: EndpointId,
    /// How often that one has stood for it, as far as is known: a word for a time before it stepped
    /// back does not count when it stands again.
    pub stand: u32,
}

/// What a node that looks for its cluster should do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Wait; so many have met, this node among them.
    Wait {
        /// How many.
        met: usize,
    },
    /// Found the cluster.
    Found,
    /// Ask one of these settled nodes for a ticket.
    Ask(Vec<EndpointId>),
    /// Wait: there is more than one cluster.
    Divided(BTreeSet<ClusterId>),
}

/// What a node that looks for its cluster knows.
#[derive(Clone, Debug)]
pub struct Meeting {
    me: EndpointId,
    expected: usize,
    has_listened: bool,
    met: BTreeMap<EndpointId, Stand>,
    seconds: Option<Seconding>,
    /// How often this node has stood for founding the cluster.
    stood: u32,
}

impl Meeting {
    /// A node that has met nobody, and expects so many with itself.
    pub fn new(me: EndpointId, expected: usize) -> Self {
        let met = BTreeMap::new();
        Meeting { me, expected, has_listened: false, met, seconds: None, stood: 0 }
    }

    /// It has listened for long enough that each cluster which is there would have been heard of.
    pub fn has_listened(&mut self) {
        self.has_listened = true;
        self.reconsider();
    }

    /// A node says where it stands.
    pub fn met(&mut self, peer: EndpointId, stand: Stand) {
        self.met.insert(peer, stand);
        self.reconsider();
    }

    /// A node is gone.
    pub fn lost(&mut self, peer: EndpointId) {
        self.met.remove(&peer);
        self.reconsider();
    }

    /// Where this node stands, to be told to all it has met.
    pub fn stand(&self) -> Stand {
        Stand::Looking(self.seconds)
    }

    /// What to do now.
    pub fn next(&self) -> Next {
        let clusters: BTreeSet<ClusterId> = self.settled().map(|(_, cluster)| cluster).collect();
        match clusters.len() {
            0 if self.supporters() >= self.expected => Next::Found,
            // The first cluster heard of need not be the only one.
            1 if self.has_listened => Next::Ask(self.settled().map(|(peer, _)| peer).collect()),
            0 | 1 => Next::Wait { met: self.met.len() + 1 },
            _ => Next::Divided(clusters),
        }
    }

    fn settled(&self) -> impl Iterator<Item = (EndpointId, ClusterId)> {
        self.met.iter().filter_map(|(peer, stand)| match stand {
            Stand::Settled(cluster) => Some((*peer, *cluster)),
            Stand::Looking(_) => None,
        })
    }

    /// Those met that look too, and whom they second.
    fn looking(&self) -> impl Iterator<Item = (EndpointId, Option<Seconding>)> {
        self.met.iter().filter_map(|(peer, stand)| match stand {
            Stand::Looking(seconds) => Some((*peer, *seconds)),
            Stand::Settled(_) => None,
        })
    }

    /// How many second this node, itself among them; none unless it stands.
    fn supporters(&self) -> usize {
        match self.seconds {
            Some(mine) if mine.whom == self.me => {
                1 + self.looking().filter(|(_, seconds)| *seconds == Some(mine)).count()
            }
            _ => 0,
        }
    }

    fn reconsider(&mut self) {
        self.seconds = self.kept().or_else(|| self.is_ready().then(|| self.chosen()));
    }

    /// What it has said, if it stays with that.
    fn kept(&self) -> Option<Seconding> {
        let said = self.seconds?;
        if said.whom == self.me {
            return (self.smallest() == self.me && self.is_ready()).then_some(said);
        }
        match self.met.get(&said.whom) {
            // It has yet to hear that it should stand.
            Some(Stand::Looking(None)) => Some(said),
            Some(Stand::Looking(Some(theirs))) => (theirs.whom == said.whom).then_some(*theirs),
            Some(Stand::Settled(_)) | None => None,
        }
    }

    fn chosen(&mut self) -> Seconding {
        let whom = self.smallest();
        if whom == self.me {
            self.stood += 1;
            return Seconding { whom, stand: self.stood };
        }
        match self.met.get(&whom) {
            Some(Stand::Looking(Some(theirs))) if theirs.whom == whom => *theirs,
            _ => Seconding { whom, stand: 0 },
        }
    }

    fn is_ready(&self) -> bool {
        let none_settled = self.settled().next().is_none();
        self.has_listened && none_settled && self.looking().count() + 1 >= self.expected
    }

    fn smallest(&self) -> EndpointId {
        self.looking().map(|(peer, _)| peer).fold(self.me, EndpointId::min)
    }
}
