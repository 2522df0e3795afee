//! Mailboxes with a bound.
//!
//! ractor's own are unbounded. Here every message carries a permit that was taken before it was
//! sent and is given back when it was handled, so a full mailbox refuses instead of growing.

use std::sync::Arc;

use ractor::ActorRef;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::error::{Error, Result};
use crate::limits::MAILBOX_MAX;
use crate::metrics::Counter;

/// What went through the mailboxes of a node, all of them together.
#[derive(Debug, Default)]
pub struct MailboxCounts {
    /// Messages that got a place.
    pub sent: Counter,
    /// Of those, how many gave it back.
    pub handled: Counter,
    /// How often there was no place, and the sender had to wait for one.
    pub waits: Counter,
}

/// A message with its place in the mailbox.
#[derive(Debug)]
pub(super) struct Envelope<M> {
    message: M,
    place: Place,
}

/// A place in a mailbox, free again when it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    _permit: OwnedSemaphorePermit,
    counts: Arc<MailboxCounts>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.counts.handled.one();
    }
}

impl<M> Envelope<M> {
    /// The message and its place; keep the place until the message is handled.
    pub(super) fn open(self) -> (M, Place) {
        (self.message, self.place)
    }
}

/// Where messages to one actor go.
#[derive(Debug)]
pub(super) struct Mailbox<M: Send + 'static> {
    actor: ActorRef<Envelope<M>>,
    places: Arc<Semaphore>,
    counts: Arc<MailboxCounts>,
}

impl<M: Send + 'static> Clone for Mailbox<M> {
    fn clone(&self) -> Self {
        let Mailbox { actor, places, counts } = self;
        Mailbox { actor: actor.clone(), places: places.clone(), counts: counts.clone() }
    }
}

impl<M: Send + 'static> Mailbox<M> {
    /// The mailbox of an actor. Make one an actor and clone it: each has places of its own.
    pub(super) fn new(actor: ActorRef<Envelope<M>>, counts: Arc<MailboxCounts>) -> Self {
        Mailbox { actor, places: Arc::new(Semaphore::new(MAILBOX_MAX)), counts }
    }

    /// Sends, waiting for a place: for messages that report what happened and must arrive.
    pub(super) async fn send(&self, message: M) -> Result<()> {
        let stopped = || Error::Fatal("the actor has stopped".into());
        if self.places.available_permits() == 0 {
            self.counts.waits.one();
        }
        let permit = self.places.clone().acquire_owned().await.map_err(|_| stopped())?;
        self.counts.sent.one();
        let place = Place { _permit: permit, counts: self.counts.clone() };
        self.actor.cast(Envelope { message, place }).map_err(|_| stopped())
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use ractor::{Actor, ActorProcessingErr};
    use tokio::sync::Notify;

    use super::*;

    /// Handles a message when it is told to.
    #[derive(Debug)]
    struct Slow;

    impl Actor for Slow {
        type Msg = Envelope<()>;
        type State = Arc<Notify>;
        type Arguments = Arc<Notify>;

        async fn pre_start(
            &self,
            _: ActorRef<Self::Msg>,
            go_on: Arc<Notify>,
        ) -> Result<Arc<Notify>, ActorProcessingErr> {
            Ok(go_on)
        }

        async fn handle(
            &self,
            _: ActorRef<Self::Msg>,
            message: Envelope<()>,
            go_on: &mut Arc<Notify>,
        ) -> Result<(), ActorProcessingErr> {
            let ((), _place) = message.open();
            go_on.notified().await;
            Ok(())
        }
    }

    #[tokio::test]
    async fn who_finds_it_full_waits_for_a_place_and_is_counted() {
        let (go_on, counts) = (Arc::new(Notify::new()), Arc::new(MailboxCounts::default()));
        let (actor, task) = Actor::spawn(None, Slow, go_on.clone()).await.expect("it starts");
        let mailbox = Mailbox::new(actor.clone(), counts.clone());
        for _ in 0..MAILBOX_MAX {
            mailbox.send(()).await.expect("it has a place");
        }
        assert_eq!((counts.sent.get(), counts.waits.get()), (MAILBOX_MAX as u64, 0));
        let late = mailbox.send(());
        tokio::pin!(late);
        assert!(late.as_mut().now_or_never().is_none(), "there is no place");
        assert_eq!((counts.sent.get(), counts.waits.get()), (MAILBOX_MAX as u64, 1));
        go_on.notify_one();
        late.await.expect("one was handled");
        assert_eq!((counts.sent.get(), counts.handled.get()), (MAILBOX_MAX as u64 + 1, 1));
        actor.stop(None);
        go_on.notify_one();
        task.await.expect("it stops");
    }
}
