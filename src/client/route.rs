//! Which node to ask next.
//!
//! Pure: what happened and the time go in, a node comes out. A route remembers who was last said
//! to lead, who last answered, and which nodes don't answer. Those are behind a breaker: asked
//! only when its time is up, one try at a time, so that a dead node costs a try now and then and
//! not a try an operation. A [`Round`] asks each node at most once; whoever finds nobody left
//! waits and begins another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use tokio::time::Instant;

use super::desk::Hop;
use super::request::Aim;
use crate::limits::{
    CLIENT_BREAKER_OPEN_MAX, CLIENT_BREAKER_OPEN_MIN, CLIENT_NODES_MAX, CLIENT_ROUND_TRIES_MAX,
};
use crate::types::EndpointId;

/// What a client knows of the nodes it asks.
#[derive(Debug, Default)]
pub(super) struct Route {
    leader: Option<EndpointId>,
    /// Who answered last: a remote client stays with one node for as long as it answers.
    answered: Option<EndpointId>,
    /// Only nodes that failed since they last answered; at most [`CLIENT_NODES_MAX`].
    breakers: BTreeMap<EndpointId, Breaker>,
}

/// How often in a row a node did not answer, and when it is asked again.
#[derive(Clone, Copy, Debug)]
struct Breaker {
    failures: u32,
    open_until: Instant,
}

/// The tries of one operation between two waits.
#[derive(Debug, Default)]
pub(super) struct Round {
    asked: BTreeSet<EndpointId>,
    over: bool,
}

impl Round {
    /// The node is not asked again in this round.
    pub(super) fn asked(&mut self, node: EndpointId) {
        self.asked.insert(node);
    }

    /// Asking others would bring nothing.
    pub(super) fn end(&mut self) {
        self.over = true;
    }
}

impl Route {
    /// The node to ask, of those that are known; `None` if this round has asked all it should.
    pub(super) fn choose(
        &mut self,
        aim: Aim,
        here: Option<EndpointId>,
        known: &[EndpointId],
        round: &Round,
        now: Instant,
    ) -> Option<EndpointId> {
        if round.over || round.asked.len() >= CLIENT_ROUND_TRIES_MAX {
            return None;
        }
        let best = match aim {
            Aim::Leader => [self.leader, here, self.answered],
            Aim::Replica => [here, self.answered, self.leader],
        };
        let may_ask = |node: &EndpointId| !round.asked.contains(node) && self.may_ask(*node, now);
        let node = best.into_iter().flatten().find(may_ask);
        let node = node.or_else(|| known.iter().copied().find(may_ask))?;
        self.ask(node, now);
        Some(node)
    }

    /// Whether a node is to pass on what only the leader can do: that one is known, is another, and
    /// is left alone because it did not answer.
    pub(super) fn hop(&self, node: EndpointId, now: Instant) -> Hop {
        match self.leader {
            Some(leader) if leader != node && !self.may_ask(leader, now) => Hop::First,
            _ => Hop::Last,
        }
    }

    /// Who leads, as far as is known.
    pub(super) fn leader(&self) -> Option<EndpointId> {
        self.leader
    }

    fn may_ask(&self, node: EndpointId, now: Instant) -> bool {
        self.breakers.get(&node).is_none_or(|breaker| breaker.open_until <= now)
    }

    /// One try goes through a breaker whose time is up; the next waits for what becomes of it.
    fn ask(&mut self, node: EndpointId, now: Instant) {
        if let Some(breaker) = self.breakers.get_mut(&node) {
            breaker.open_until = now + open_for(breaker.failures);
        }
    }

    /// A node answered, whatever it said.
    pub(super) fn heard(&mut self, node: EndpointId) {
        self.breakers.remove(&node);
    }

    /// A node did what was asked; as a leader if only a leader can.
    pub(super) fn done(&mut self, node: EndpointId, aim: Aim) {
        self.heard(node);
        self.answered = Some(node);
        if aim == Aim::Leader {
            self.leader = Some(node);
        }
    }

    /// A node said that it does not lead, and perhaps who does.
    pub(super) fn redirected(&mut self, node: EndpointId, leader: Option<EndpointId>) {
        match leader {
            Some(leader) => self.leader = Some(leader),
            None if self.leader == Some(node) => self.leader = None,
            None => {}
        }
    }

    /// A node did not answer. Another is believed to lead as soon as anybody says so.
    pub(super) fn failed(&mut self, node: EndpointId, now: Instant) {
        if self.leader == Some(node) {
            self.leader = None;
        }
        if self.answered == Some(node) {
            self.answered = None;
        }
        if self.breakers.len() >= CLIENT_NODES_MAX && !self.breakers.contains_key(&node) {
            return;
        }
        let breaker = self.breakers.entry(node).or_insert(Breaker { failures: 0, open_until: now });
        breaker.failures = breaker.failures.saturating_add(1);
        breaker.open_until = now + open_for(breaker.failures);
    }
}

/// Longer with each failure, up to a limit.
fn open_for(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    (CLIENT_BREAKER_OPEN_MIN * 2u32.pow(doublings)).min(CLIENT_BREAKER_OPEN_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: EndpointId = EndpointId([1; 32]);
    const B: EndpointId = EndpointId([2; 32]);
    const C: EndpointId = EndpointId([3; 32]);
    const KNOWN: [EndpointId; 3] = [A, B, C];

    fn order(route: &mut Route, aim: Aim, here: Option<EndpointId>) -> Vec<EndpointId> {
        let mut round = Round::default();
        let mut order = Vec::new();
        while let Some(node) = route.choose(aim, here, &KNOWN, &round, Instant::now()) {
            round.asked(node);
            order.push(node);
        }
        order
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_asks_each_node_once_and_the_likeliest_first() {
        let mut route = Route::default();
        assert_eq!(order(&mut route, Aim::Leader, None), [A, B, C]);
        route.redirected(A, Some(C));
        assert_eq!(order(&mut route, Aim::Leader, Some(B)), [C, B, A]);
        assert_eq!(order(&mut route, Aim::Replica, Some(B)), [B, C, A]);
        route.done(B, Aim::Leader);
        assert_eq!(order(&mut route, Aim::Leader, Some(A)), [B, A, C]);
        // It does not know: then it does not lead.
        route.redirected(B, None);
        assert_eq!(order(&mut route, Aim::Leader, Some(A)), [A, B, C]);
    }

    #[tokio::test(start_paused = true)]
    async fn others_pass_on_what_is_for_a_leader_that_does_not_answer_until_it_is_tried_again() {
        let mut route = Route::default();
        let hop = |route: &Route, node| route.hop(node, Instant::now());
        route.redirected(B, Some(A));
        assert_eq!(hop(&route, B), Hop::Last);
        route.failed(A, Instant::now());
        assert_eq!(hop(&route, B), Hop::Last, "nobody is known to lead");
        route.redirected(B, Some(A));
        assert_eq!((hop(&route, C), hop(&route, A)), (Hop::First, Hop::Last));
        // Who passed it on is not taken for the leader.
        route.done(C, Aim::Replica);
        assert_eq!(order(&mut route, Aim::Leader, Some(B)), [B, C]);
        tokio::time::advance(CLIENT_BREAKER_OPEN_MIN).await;
        assert_eq!(hop(&route, C), Hop::Last);
        assert_eq!(order(&mut route, Aim::Leader, Some(B)), [A, B, C]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_does_not_answer_is_left_alone_for_longer_and_longer() {
        let mut route = Route::default();
        let asked = |route: &mut Route| order(route, Aim::Leader, None).contains(&A);
        assert!(asked(&mut route));
        route.failed(A, Instant::now());
        let mut wait = CLIENT_BREAKER_OPEN_MIN;
        for _ in 0..8 {
            assert!(!asked(&mut route), "its breaker is open");
            tokio::time::advance(wait).await;
            assert!(asked(&mut route), "one try goes through");
            assert!(!asked(&mut route), "and no second beside it");
            route.failed(A, Instant::now());
            wait = (wait * 2).min(CLIENT_BREAKER_OPEN_MAX);
        }
        route.heard(A);
        assert!(asked(&mut route));
    }
}
