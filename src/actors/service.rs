//! A part that runs until it is told to stop: every leaf of the tree.
//!
//! The actor starts the service as a task, ends with a reason when the task ends by itself or
//! panics, and on stopping tells the service and waits for it. The service is never cut off in
//! the middle: what it owns, it ends itself.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::mailbox::{Envelope, Mailbox, MailboxCounts};
use super::supervisor::ChildSpec;
use crate::seams::Tasks;

/// Runs a service until the token is cancelled; an error is a reason to start it again.
pub type RunService =
    Arc<dyn Fn(CancellationToken) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The service whose work has nothing to be finished: told to stop, it is dropped where it stands.
pub fn until_stopped<W>(work: impl Fn() -> W + Send + Sync + 'static) -> RunService
where
    W: Future + Send + 'static,
{
    Arc::new(move |stop: CancellationToken| {
        let work = work();
        Box::pin(async move {
            stop.run_until_cancelled_owned(work).await;
            Ok(())
        })
    })
}

/// The supervised part that runs a service.
pub(super) fn service_part(name: impl Into<String>, run: RunService) -> ChildSpec {
    ChildSpec::actor(name, move |counts| (ServiceActor, (run.clone(), counts)))
}

#[derive(Debug)]
struct ServiceActor;

#[derive(Debug)]
struct ServiceState {
    /// Tells the service to stop even if the actor is killed.
    stop: DropGuard,
    tasks: Tasks,
}

#[derive(Debug)]
enum Msg {
    Ended(Result<(), String>),
}

impl Actor for ServiceActor {
    type Msg = Envelope<Msg>;
    type State = ServiceState;
    type Arguments = (RunService, Arc<MailboxCounts>);

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (run, counts): Self::Arguments,
    ) -> Result<ServiceState, ActorProcessingErr> {
        let stop = CancellationToken::new();
        let tasks = Tasks::new();
        let mailbox = Mailbox::new(myself, counts);
        let stopping = stop.clone();
        tasks.spawn(async move {
            let service = AssertUnwindSafe(async move { run(stopping).await });
            let ended = match service.catch_unwind().await {
                Ok(ended) => ended,
                Err(_panic) => Err("it panicked; this is a bug, and the log has the place".into()),
            };
            // An actor that has stopped meanwhile does not ask any more.
            let _ = mailbox.send(Msg::Ended(ended)).await;
        });
        Ok(ServiceState { stop: stop.drop_guard(), tasks })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        _state: &mut ServiceState,
    ) -> Result<(), ActorProcessingErr> {
        let (message, _place) = envelope.open();
        match message {
            Msg::Ended(Ok(())) => Err("it ended without being told to".into()),
            Msg::Ended(Err(reason)) => Err(reason.into()),
        }
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut ServiceState,
    ) -> Result<(), ActorProcessingErr> {
        state.stop.token().cancel();
        state.tasks.ended().await;
        Ok(())
    }
}
