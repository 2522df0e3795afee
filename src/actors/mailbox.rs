//! Mailboxes with a bound.
//!
//! ractor's own are unbounded. Here every message carries a permit that was taken before it was
//! sent and is given back when it was handled, so a full mailbox refuses instead of growing.

use std::sync::Arc;

use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::limits::MAILBOX_MAX;

/// A message with its place in the mailbox.
#[derive(Debug)]
pub(super) struct Envelope<M> {
    message: M,
    place: OwnedSemaphorePermit,
}

impl<M> Envelope<M> {
    /// The message and its place; keep the place until the message is handled.
    pub(super) fn open(self) -> (M, OwnedSemaphorePermit) {
        (self.message, self.place)
    }
}

/// Where messages to one actor go.
#[derive(Debug)]
pub(super) struct Mailbox<M: Send + 'static> {
    actor: ActorRef<Envelope<M>>,
    places: Arc<Semaphore>,
}

impl<M: Send + 'static> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        Mailbox { actor: self.actor.clone(), places: self.places.clone() }
    }
}

impl<M: Send + 'static> Mailbox<M> {
    /// The mailbox of an actor. Make one an actor and clone it: each has places of its own.
    pub(super) fn new(actor: ActorRef<Envelope<M>>) -> Self {
        Mailbox { actor, places: Arc::new(Semaphore::new(MAILBOX_MAX)) }
    }

    /// Sends, waiting for a place: for messages that report what happened and must arrive.
    pub(super) async fn send(&self, message: M) -> Result<()> {
        let stopped = || Error::Fatal("the actor has stopped".into());
        let place = self.places.clone().acquire_owned().await.map_err(|_| stopped())?;
        self.actor.cast(Envelope { message, place }).map_err(|_| stopped())
    }
}
