//! A mesh settles on one cluster, whatever the order in which its nodes hear of each other.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use aspen::roster::mesh::{Meeting, Next, Stand};
use aspen::types::{ClusterId, EndpointId};
use proptest::prelude::*;

use super::key;

/// A few nodes and the words on their way between them, in order from each to each.
struct Mesh {
    looking: BTreeMap<EndpointId, Meeting>,
    settled: BTreeMap<EndpointId, ClusterId>,
    linked: BTreeSet<(EndpointId, EndpointId)>,
    words: BTreeMap<(EndpointId, EndpointId), VecDeque<Stand>>,
    founded: Vec<EndpointId>,
}

impl Mesh {
    fn new(nodes: u8, expected: usize) -> Self {
        let looking = (1..=nodes).map(|n| (key(n), Meeting::new(key(n), expected))).collect();
        Mesh {
            looking,
            settled: BTreeMap::new(),
            linked: BTreeSet::new(),
            words: BTreeMap::new(),
            founded: Vec::new(),
        }
    }

    fn stand(&self, node: EndpointId) -> Stand {
        match self.looking.get(&node) {
            Some(meeting) => meeting.stand(),
            None => Stand::Settled(self.settled[&node]),
        }
    }

    fn tell(&mut self, from: EndpointId, to: EndpointId) {
        let stand = self.stand(from);
        self.words.entry((from, to)).or_default().push_back(stand);
    }

    fn link(&mut self, a: EndpointId, b: EndpointId) {
        if a != b && self.linked.insert((a, b)) {
            self.linked.insert((b, a));
            self.tell(a, b);
            self.tell(b, a);
        }
    }

    /// A node hears, or its time to listen is over; then it does what it should.
    fn step(&mut self, node: EndpointId, event: impl FnOnce(&mut Meeting)) {
        let Some(meeting) = self.looking.get_mut(&node) else { return };
        let before = meeting.stand();
        event(meeting);
        let settled = match meeting.next() {
            Next::Found => {
                self.founded.push(node);
                Some(ClusterId(u128::from(node.0[0])))
            }
            Next::Ask(hosts) => Some(self.settled[&hosts[0]]),
            Next::Wait { .. } | Next::Divided(_) => None,
        };
        if let Some(cluster) = settled {
            self.looking.remove(&node);
            self.settled.insert(node, cluster);
        }
        if self.stand(node) != before {
            let peers: Vec<_> =
                self.linked.iter().filter(|(from, _)| *from == node).map(|link| link.1).collect();
            peers.into_iter().for_each(|peer| self.tell(node, peer));
        }
    }

    fn deliver(&mut self, from: EndpointId, to: EndpointId) {
        let word = self.words.get_mut(&(from, to)).and_then(VecDeque::pop_front);
        if let Some(stand) = word {
            self.step(to, |meeting| meeting.met(from, stand));
        }
    }

    /// Everybody meets and has listened, and every word arrives.
    fn settle(&mut self, nodes: u8) {
        for a in 1..=nodes {
            self.step(key(a), Meeting::has_listened);
            (1..=nodes).for_each(|b| self.link(key(a), key(b)));
        }
        while let Some((&(from, to), _)) = self.words.iter().find(|(_, words)| !words.is_empty()) {
            self.deliver(from, to);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// More than half are expected, so that two clusters would have a supporter in common.
    #[test]
    fn nodes_that_meet_in_any_order_become_one_cluster(
        nodes in 3u8..=5,
        events in prop::collection::vec((0u8..3, 1u8..=5, 1u8..=5), 0..120),
    ) {
        let mut mesh = Mesh::new(nodes, usize::from(nodes) / 2 + 1);
        for (what, a, b) in events {
            let (a, b) = (key(1 + a % nodes), key(1 + b % nodes));
            match what {
                0 => mesh.link(a, b),
                1 => mesh.step(a, Meeting::has_listened),
                _ => mesh.deliver(a, b),
            }
        }
        mesh.settle(nodes);
        prop_assert_eq!(mesh.founded.len(), 1, "{:?} founded", mesh.founded);
        prop_assert!(mesh.looking.is_empty(), "{:?} still look", mesh.looking);
    }
}

#[test]
fn nobody_founds_before_it_has_listened_and_so_many_have_met() {
    let mut meeting = Meeting::new(key(1), 3);
    let looks = Stand::Looking(None);
    meeting.met(key(2), looks);
    meeting.has_listened();
    assert_eq!(meeting.next(), Next::Wait { met: 2 });
    meeting.met(key(3), looks);
    assert_eq!(meeting.next(), Next::Wait { met: 3 }, "two have yet to second it");
    let seconds = meeting.stand();
    meeting.met(key(2), seconds);
    meeting.met(key(3), seconds);
    assert_eq!(meeting.next(), Next::Found);
}

#[test]
fn a_word_for_an_earlier_stand_does_not_count_for_a_later_one() {
    let mut meeting = Meeting::new(key(2), 2);
    meeting.has_listened();
    meeting.met(key(3), Stand::Looking(None));
    let first = meeting.stand();
    meeting.met(key(1), Stand::Looking(None));
    assert_ne!(meeting.stand(), first, "it steps back for a smaller key");
    meeting.lost(key(1));
    meeting.met(key(3), first);
    assert_eq!(meeting.next(), Next::Wait { met: 2 });
    let again = meeting.stand();
    meeting.met(key(3), again);
    assert_eq!(meeting.next(), Next::Found);
}

#[test]
fn two_clusters_of_one_mesh_are_told_of_and_neither_is_chosen() {
    let mut meeting = Meeting::new(key(1), 1);
    meeting.met(key(2), Stand::Settled(ClusterId(5)));
    assert_eq!(meeting.next(), Next::Wait { met: 2 }, "it may yet hear of another");
    meeting.has_listened();
    assert_eq!(meeting.next(), Next::Ask(vec![key(2)]));
    meeting.met(key(3), Stand::Settled(ClusterId(6)));
    assert_eq!(meeting.next(), Next::Divided([ClusterId(5), ClusterId(6)].into()));
    meeting.lost(key(2));
    assert_eq!(meeting.next(), Next::Ask(vec![key(3)]));
}
