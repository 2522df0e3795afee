//! Which of two links is kept, in every order that the two nodes can see them come up.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::peer::{Connected, Loser, Peer, Seek};
use crate::limits::{DIAL_BACKOFF_MAX, REFUSED_BACKOFF_MIN};
use crate::seams::Random;
use crate::seams::network::{CloseCode, Link, LinkLost, Priority, Protocol, StreamIn, StreamOut};
use crate::types::{Address, EndpointId};

/// A link that nothing goes over.
#[derive(Debug)]
struct Idle(EndpointId);

impl Link for Idle {
    fn peer(&self) -> EndpointId {
        self.0
    }

    fn protocol(&self) -> Protocol {
        Protocol::Raft
    }

    fn address(&self) -> Option<Address> {
        None
    }

    fn open(&self, _: Priority) -> BoxFuture<'_, Result<(StreamOut, StreamIn), LinkLost>> {
        Box::pin(std::future::pending())
    }

    fn accept(&self) -> BoxFuture<'_, Result<(StreamOut, StreamIn), LinkLost>> {
        Box::pin(std::future::pending())
    }

    fn close(&self, _: CloseCode, _: &str) {}

    fn closed(&self) -> BoxFuture<'_, LinkLost> {
        Box::pin(std::future::pending())
    }
}

const A: EndpointId = EndpointId([1; 32]);
const B: EndpointId = EndpointId([2; 32]);

/// One node and what it knows of the other.
struct Side {
    me: EndpointId,
    incarnation: u64,
    view: Peer,
}

impl Side {
    fn new(me: EndpointId, other: EndpointId, incarnation: u64) -> Self {
        Side { me, incarnation, view: Peer::new(other) }
    }

    /// The link comes up here.
    fn settle(&self, link: u64, other: &Side, dialled_here: bool, gave_up: u64) -> Loser {
        let link: Arc<Connected> = Arc::new(Connected::new(
            Arc::new(Idle(other.me)),
            link,
            other.incarnation,
            dialled_here,
        ));
        self.view.connect(&link, (!dialled_here).then_some(gave_up), self.me)
    }

    fn uses(&self) -> Option<u64> {
        self.view.connected().map(|connected| connected.id)
    }
}

fn permutations<T: Clone>(of: &[T]) -> Vec<Vec<T>> {
    if of.is_empty() {
        return vec![Vec::new()];
    }
    (0..of.len())
        .flat_map(|at| {
            let mut rest = of.to_vec();
            let first = rest.remove(at);
            permutations(&rest).into_iter().map(move |mut tail| {
                tail.insert(0, first.clone());
                tail
            })
        })
        .collect()
}

/// Link 1 is dialled by A, link 2 by B, and each comes up at both ends in any order.
#[tokio::test]
async fn links_that_cross_are_settled_alike_in_every_order() {
    for order in permutations(&[(1, A), (1, B), (2, A), (2, B)]) {
        let (a, b) = (Side::new(A, B, 10), Side::new(B, A, 20));
        for &(link, at) in &order {
            let dialler = if link == 1 { A } else { B };
            let (here, there) = if at == A { (&a, &b) } else { (&b, &a) };
            let loser = here.settle(link, there, dialler == at, 0);
            // Nothing is cut off: what is under way on the loser may end.
            assert!(!matches!(loser, Loser::Close(_)), "{order:?}");
        }
        assert_eq!((a.uses(), b.uses()), (Some(1), Some(1)), "{order:?}");
    }
}

#[tokio::test]
async fn a_restarted_peers_link_is_kept_whoevers_key_is_smaller() {
    for (me, peer) in [(A, B), (B, A)] {
        for dialled_first in [true, false] {
            let here = Side::new(me, peer, 10);
            here.settle(1, &Side::new(peer, me, 20), dialled_first, 0);
            let loser = here.settle(2, &Side::new(peer, me, 21), false, 0);
            assert!(matches!(loser, Loser::Close(old) if old.id == 1));
            assert_eq!(here.uses(), Some(2));
        }
    }
}

#[tokio::test]
async fn a_link_that_the_peer_gave_up_is_not_preferred_to_its_new_one() {
    // A dialled link 1, which by its key would be kept.
    let (a, b) = (Side::new(A, B, 10), Side::new(B, A, 20));
    a.settle(1, &b, true, 0);
    assert!(matches!(a.settle(2, &b, false, 1), Loser::Close(old) if old.id == 1));
    assert_eq!(a.uses(), Some(2));
}

#[tokio::test]
async fn a_failed_dial_is_followed_by_a_growing_pause_in_which_its_reason_is_told() {
    let random = Random::from_seed(1);
    let side = Side::new(A, B, 10);
    let now = Instant::now();
    let mut pauses = Vec::new();
    let mut joined = None;
    assert!(matches!(side.view.seek(&mut joined, now), Seek::Dial));
    for _ in 0..12 {
        assert!(matches!(side.view.seek(&mut None, now), Seek::Wait), "one dial is shared");
        side.view.dial_failed(LinkLost::silently("gone"), now, &random);
        let told = side.view.seek(&mut joined, now + DIAL_BACKOFF_MAX);
        assert!(matches!(told, Seek::Failed(lost) if lost.reason == "gone"), "who waited is told");
        let mut pause = Duration::ZERO;
        joined = None;
        while let Seek::Failed(lost) = side.view.seek(&mut joined, now + pause) {
            assert_eq!(lost.reason, "gone");
            pause += Duration::from_millis(1);
        }
        pauses.push(pause);
    }
    assert!(pauses[0] <= Duration::from_millis(40), "{pauses:?}");
    assert!(pauses[11] >= DIAL_BACKOFF_MAX / 2 && pauses[11] <= DIAL_BACKOFF_MAX, "{pauses:?}");
}

#[tokio::test]
async fn a_refusal_begins_its_own_pauses() {
    let random = Random::from_seed(1);
    let side = Side::new(A, B, 10);
    let now = Instant::now();
    for _ in 0..10 {
        side.view.dial_failed(LinkLost::silently("gone"), now, &random);
    }
    let refusal = LinkLost { code: Some(CloseCode::NotMember), reason: "who?".into() };
    side.view.dial_failed(refusal, now, &random);
    assert!(matches!(side.view.seek(&mut None, now), Seek::Failed(_)));
    let soon = now + REFUSED_BACKOFF_MIN;
    assert!(matches!(side.view.seek(&mut None, soon), Seek::Dial));
}
