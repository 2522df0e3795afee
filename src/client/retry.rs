//! From one operation to as many tries as it takes, inside one deadline.
//!
//! A try that did nothing is followed at once by one elsewhere, for as long as there is a node
//! that this round has not asked; then comes a wait, longer each time and different for each
//! caller. A try without an answer is followed in the same way: what changes the state is safe to
//! repeat because its session makes it happen once. What is not known about it is remembered, and
//! told if no later try brings an answer.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::desk::Hop;
use super::group::GroupClient;
use super::nodes::{Changes, NotAnswered};
use super::request::{Aim, Failure, Reply, Request};
use super::route::Round;
use crate::error::{Error, Result};
use crate::limits::{CLIENT_BACKOFF_MAX, CLIENT_BACKOFF_MIN, CLIENT_TRY_MAX, CLIENT_TRY_MIN};
use crate::raft::WatchRequest;
use crate::seams::Random;
use crate::types::EndpointId;

/// Waits between rounds, longer each time.
struct Backoff<'a> {
    random: &'a Random,
    deadline: Instant,
    next: Duration,
}

impl<'a> Backoff<'a> {
    fn new(random: &'a Random, deadline: Instant) -> Self {
        Backoff { random, deadline, next: CLIENT_BACKOFF_MIN }
    }

    fn is_longest(&self) -> bool {
        self.next == CLIENT_BACKOFF_MAX
    }

    /// Waits for the next round, between half and all of the step; false if the time is up.
    async fn wait(&mut self) -> bool {
        let half = self.next / 2;
        let spread_us = half.as_micros().max(1) as u64;
        let until =
            Instant::now() + half + Duration::from_micros(self.random.next_u64() % spread_us);
        self.next = (self.next * 2).min(CLIENT_BACKOFF_MAX);
        sleep_until(until.min(self.deadline)).await;
        until < self.deadline
    }
}

/// One operation's tries.
struct Tries<'a> {
    client: &'a GroupClient,
    aim: Aim,
    is_write: bool,
    deadline: Instant,
    backoff: Backoff<'a>,
    round: Round,
    /// How long the next try waits for its answer.
    patience: Duration,
    /// Why the last try has no answer.
    error: Option<Error>,
}

/// What a try without an answer means.
enum Verdict {
    /// Trying again may help. The reason is set if this try may have been done.
    Again(Error, Option<String>),
    /// The error is the answer of all tries.
    Decided(Error),
    /// The error is the answer unless an earlier try may have been done.
    Refused(Error),
}

impl<'a> Tries<'a> {
    fn new(client: &'a GroupClient, aim: Aim, is_write: bool, deadline: Instant) -> Self {
        Tries {
            client,
            aim,
            is_write,
            deadline,
            backoff: Backoff::new(&client.inner.random, deadline),
            round: Round::default(),
            patience: CLIENT_TRY_MIN,
            error: None,
        }
    }

    /// The next node to ask, whether it is to pass it on, and until when; an error when the time is up.
    async fn next(&mut self) -> Result<(EndpointId, Hop, Instant)> {
        loop {
            let now = Instant::now();
            if now >= self.deadline {
                return Err(self.nobody_answers());
            }
            let nodes = &self.client.inner.nodes;
            if nodes.is_closed() {
                return Err(self.nobody_answers());
            }
            let group = self.client.inner.group;
            let here = nodes.here(group);
            let Some(known) = nodes.known(group) else {
                let reason = "its keyspace was deleted".into();
                return Err(self.error.take().unwrap_or(Error::Unavailable { group, reason }));
            };
            let chosen = {
                let mut route = self.client.route();
                let chosen = route.choose(self.aim, here, &known, &self.round, now);
                chosen.map(|node| (node, route.hop(node, now)))
            };
            if let Some((node, hop)) = chosen {
                // A write in this process is waited for, because its replica is told when it leads
                // no more; and so is the only node there is.
                let patient =
                    self.is_write && here == Some(node) || known.iter().all(|known| *known == node);
                let until = if patient { self.deadline } else { now + self.patience };
                return Ok((node, hop, until.min(self.deadline)));
            }
            // Damage does not heal by waiting.
            if let Some(Error::Corrupt(_)) = self.error {
                return Err(self.nobody_answers());
            }
            self.round = Round::default();
            if !self.backoff.wait().await {
                return Err(self.nobody_answers());
            }
        }
    }

    fn nobody_answers(&mut self) -> Error {
        let group = self.client.inner.group;
        let reason = || "no node that holds it could be asked".into();
        self.error.take().unwrap_or_else(|| Error::Unavailable { group, reason: reason() })
    }

    /// Takes in what one try came to.
    fn judge(&mut self, node: EndpointId, error: NotAnswered) -> Verdict {
        self.round.asked(node);
        let group = self.client.inner.group;
        let unavailable = |reason| Error::Unavailable { group, reason };
        let mut route = self.client.route();
        let failure = match error {
            NotAnswered::NotSent { reason } => {
                route.failed(node, Instant::now());
                return Verdict::Again(unavailable(reason), None);
            }
            NotAnswered::Lost { reason } => {
                route.failed(node, Instant::now());
                self.patience = (self.patience * 2).min(CLIENT_TRY_MAX);
                return Verdict::Again(unavailable(reason.clone()), Some(reason));
            }
            NotAnswered::Failed(failure) => failure,
        };
        route.heard(node);
        match failure {
            Failure::NotLeader { leader } => {
                route.redirected(node, leader.as_ref().map(|place| place.endpoint));
                drop(route);
                let reason = match &leader {
                    Some(leader) => {
                        self.client.inner.nodes.learn(leader);
                        "the node that leads it can't be reached from here"
                    }
                    None => {
                        // Its own replica is told first who leads, unless it is cut off: once it
                        // has had its time, the others are asked too.
                        let here = self.client.inner.nodes.here(group) == Some(node);
                        if here && !self.backoff.is_longest() {
                            self.round.end();
                        }
                        "it has no leader at the moment"
                    }
                };
                Verdict::Again(unavailable(reason.into()), None)
            }
            Failure::NotHere { as_of } => {
                drop(route);
                self.client.inner.nodes.not_here(group, as_of);
                Verdict::Again(unavailable("it is elsewhere by now".into()), None)
            }
            Failure::Unknown { reason } => {
                Verdict::Again(unavailable(reason.clone()), Some(reason))
            }
            Failure::Final(error @ Error::Refused(_)) => Verdict::Decided(error),
            // Of that node, and others may do better.
            Failure::Final(
                error @ (Error::Unavailable { .. } | Error::Corrupt(_) | Error::Fatal(_)),
            ) => Verdict::Again(error, None),
            Failure::Final(Error::OutcomeUnknown { group, reason }) => {
                Verdict::Again(Error::Unavailable { group, reason: reason.clone() }, Some(reason))
            }
            Failure::Final(error) => Verdict::Refused(error),
        }
    }
}

impl GroupClient {
    /// Sends a request until it is answered, refused, or the time is up. `uncertain` says why an
    /// earlier try may have been done: then only an answer and [`Error::Refused`] are about all of
    /// them.
    pub(super) async fn send(
        &self,
        request: &Request,
        deadline: Instant,
        uncertain: &mut Option<String>,
    ) -> Result<Reply> {
        let aim = request.aim();
        let mut tries = Tries::new(self, aim, request.is_write(), deadline);
        loop {
            let (node, hop, until) = tries.next().await?;
            let answer = self.inner.nodes.ask(node, request.clone(), hop, until);
            let error = match timeout_at(until, answer).await {
                Ok(Ok(reply)) => {
                    // Who may have passed it on need not have done it.
                    let did = if hop == Hop::First { Aim::Replica } else { aim };
                    self.route().done(node, did);
                    return Ok(reply);
                }
                Ok(Err(error)) => error,
                Err(_) => NotAnswered::Lost { reason: "no answer came in time".into() },
            };
            match tries.judge(node, error) {
                Verdict::Decided(error) => return Err(error),
                Verdict::Refused(error) if uncertain.is_none() => return Err(error),
                Verdict::Refused(error) => tries.error = Some(error),
                Verdict::Again(error, doubt) => {
                    self.inner.nodes.retries();
                    tries.error = Some(error);
                    if request.is_write() && doubt.is_some() {
                        *uncertain = doubt;
                    }
                }
            }
        }
    }

    /// Begins a watch at whichever node can.
    pub(super) async fn attach(
        &self,
        request: &WatchRequest,
        deadline: Instant,
    ) -> Result<Box<dyn Changes>> {
        let group = self.inner.group;
        let mut tries = Tries::new(self, Aim::Replica, false, deadline);
        loop {
            let (node, _, until) = tries.next().await?;
            let begun = self.inner.nodes.watch(node, group, request.clone(), until);
            let error = match timeout_at(until, begun).await {
                Ok(Ok(changes)) => {
                    self.route().done(node, Aim::Replica);
                    return Ok(changes);
                }
                Ok(Err(error)) => error,
                Err(_) => NotAnswered::Lost { reason: "no answer came in time".into() },
            };
            match tries.judge(node, error) {
                Verdict::Decided(error) | Verdict::Refused(error) => return Err(error),
                Verdict::Again(error, _) => {
                    self.inner.nodes.retries();
                    tries.error = Some(error);
                }
            }
        }
    }
}
