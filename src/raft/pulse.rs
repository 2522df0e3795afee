//! What all groups of a node ask at the same moment, gathered: heartbeats, because all groups tick
//! together, and votes, because many groups lose their leader with its node. Those of a kind to one
//! member are one message each way.
//!
//! Whoever comes first sends for all, in its own time: there is no task that would have an owner.
//! If it is cut off before it has asked, the others' questions are lost with it, and are asked again.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures_util::future::join_all;
use tokio::sync::oneshot;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::contacts::NoAnswer;
use super::messages::{Answer, Ask, decode, encode};
use crate::limits::GATHERED_MAX;
use crate::net::Peers;
use crate::types::EndpointId;
use crate::wire::StreamKind;

/// What one member is to be asked, and who waits for it; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Pulse {
    gathered: Arc<Mutex<BTreeMap<To, Vec<Waiting>>>>,
}

/// Whom, and on which kind of stream.
type To = (EndpointId, StreamKind);

#[derive(Debug)]
struct Waiting {
    ask: Ask,
    tell: oneshot::Sender<Result<Answer, NoAnswer>>,
}

/// The first of those that are gathered for a member. What it has not taken is dropped with it.
struct Gathering<'a> {
    pulse: &'a Pulse,
    to: To,
    /// What is gathered from then on is another's.
    is_taken: bool,
}

impl Gathering<'_> {
    fn take(mut self) -> Vec<Waiting> {
        self.is_taken = true;
        self.pulse.gathered().remove(&self.to).unwrap_or_default()
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        if !self.is_taken {
            self.pulse.gathered().remove(&self.to);
        }
    }
}

impl Pulse {
    fn gathered(&self) -> MutexGuard<'_, BTreeMap<To, Vec<Waiting>>> {
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks a member with those that ask it at the same moment.
    pub(super) async fn ask(
        &self,
        peers: &Peers,
        to: To,
        ask: Ask,
        deadline: Instant,
    ) -> Result<Answer, NoAnswer> {
        let (tell, told) = oneshot::channel();
        let node = ask.route.to;
        let is_first = {
            let mut gathered = self.gathered();
            let asks = gathered.entry(to).or_default();
            asks.push(Waiting { ask, tell });
            asks.len() == 1
        };
        if is_first {
            let gathering = Gathering { pulse: self, to, is_taken: false };
            // All that are ready to ask do it now.
            yield_now().await;
            let asks = gathering.take();
            join_all(chunks(asks).map(|asks| send(peers, to, asks, deadline))).await;
        }
        let lost = || NoAnswer::Lost { to: node, reason: "it was given up with others".into() };
        told.await.unwrap_or_else(|_| Err(lost()))
    }
}

/// What is gathered in messages of bounded length; hardly ever more than one.
fn chunks(mut asks: Vec<Waiting>) -> impl Iterator<Item = Vec<Waiting>> {
    std::iter::from_fn(move || {
        let rest = asks.split_off(asks.len().min(GATHERED_MAX));
        let chunk = std::mem::replace(&mut asks, rest);
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// Sends what is gathered as one call, and tells each its answer.
async fn send(peers: &Peers, (peer, kind): To, asks: Vec<Waiting>, deadline: Instant) {
    // Of one key in all of them, unless it comes back under another number at this moment.
    let to = asks[0].ask.route.to;
    let questions: Vec<&Ask> = asks.iter().map(|waiting| &waiting.ask).collect();
    let called = peers.call(peer, kind, encode(&questions), deadline).await;
    let answers = called.map_err(|error| NoAnswer::of(to, error)).and_then(|answers| {
        let lost = |reason| NoAnswer::Lost { to, reason };
        let answers: Vec<Answer> = decode(&answers).map_err(lost)?;
        match answers.len() == asks.len() {
            true => Ok(answers),
            false => Err(lost("it answered another number of questions".into())),
        }
    });
    // Whoever asked may be gone.
    match answers {
        Ok(answers) => asks.into_iter().zip(answers).for_each(|(waiting, answer)| {
            let _ = waiting.tell.send(Ok(answer));
        }),
        Err(error) => asks.into_iter().for_each(|waiting| {
            let _ = waiting.tell.send(Err(error.clone()));
        }),
    }
}
