//! A service that runs until it is told to stop, as a supervised part: the doors.

use std::sync::Arc;

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio_util::sync::CancellationToken;

use super::mailbox::{Envelope, Mailbox};
use super::supervisor::ChildSpec;
use crate::seams::Tasks;

/// Runs a service until the token is cancelled; an error is a reason to start it again.
pub type RunService =
    Arc<dyn Fn(CancellationToken) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// The supervised part that runs a service.
pub(super) fn service_part(name: &str, run: RunService) -> ChildSpec {
    ChildSpec::actor(name, move || (ServiceActor, run.clone()))
}

#[derive(Debug)]
struct ServiceActor;

#[derive(Debug)]
struct ServiceState {
    stop: CancellationToken,
    tasks: Tasks,
}

#[derive(Debug)]
enum Msg {
    Ended(Result<(), String>),
}

impl Actor for ServiceActor {
    type Msg = Envelope<Msg>;
    type State = ServiceState;
    type Arguments = RunService;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        run: RunService,
    ) -> Result<ServiceState, ActorProcessingErr> {
        let stop = CancellationToken::new();
        let tasks = Tasks::new();
        let mailbox = Mailbox::new(myself);
        let service = run(stop.clone());
        tasks.spawn(async move {
            let ended = service.await;
            let _ = mailbox.send(Msg::Ended(ended)).await;
        });
        Ok(ServiceState { stop, tasks })
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
        state.stop.cancel();
        state.tasks.ended().await;
        Ok(())
    }
}
