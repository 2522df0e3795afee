//! The store's actor: watches the shared log, whose failure is the node's.

use ractor::{Actor, ActorProcessingErr, ActorRef};

use super::mailbox::{Envelope, Mailbox};
use super::supervisor::ChildSpec;
use crate::seams::Tasks;
use crate::store::log::Log;

/// The supervised part that is the store. It starts first and stops last, so that all groups
/// have flushed before the log closes.
pub(super) fn store_part(log: Log) -> ChildSpec {
    ChildSpec::actor("store", move || (StoreActor, log.clone())).vital()
}

#[derive(Debug)]
struct StoreActor;

#[derive(Debug)]
struct StoreState {
    log: Log,
    tasks: Tasks,
}

#[derive(Debug)]
enum Msg {
    Lost(String),
}

impl Actor for StoreActor {
    type Msg = Envelope<Msg>;
    type State = StoreState;
    type Arguments = Log;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        log: Log,
    ) -> Result<StoreState, ActorProcessingErr> {
        let tasks = Tasks::new();
        let mailbox = Mailbox::new(myself);
        let watched = log.clone();
        tasks.spawn(async move {
            let mut failure = watched.failure();
            // The sender lives in the log, which this task holds.
            if let Ok(failure) = failure.wait_for(Option::is_some).await.map(|f| f.clone()) {
                let reason = failure.map(|failure| failure.to_string()).unwrap_or_default();
                let _ = mailbox.send(Msg::Lost(reason)).await;
            }
        });
        Ok(StoreState { log, tasks })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        _state: &mut StoreState,
    ) -> Result<(), ActorProcessingErr> {
        let (message, _place) = envelope.open();
        match message {
            Msg::Lost(reason) => Err(reason.into()),
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut StoreState,
    ) -> Result<(), ActorProcessingErr> {
        state.tasks.abort();
        if let Err(error) = state.log.shutdown().await {
            tracing::error!(%error, "the log did not close in an orderly way");
        }
        Ok(())
    }
}
