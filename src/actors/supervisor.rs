//! The supervising actor: starts its children in order, starts a failed one again with backoff
//! and a budget, and stops them in the reverse order.
//!
//! One kind serves the whole tree: the node's root and the groups are both supervisors. A child
//! is started by a closure, so that it can be started again; what must survive a restart (slots,
//! boards) the closure hands to each start.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::health::HealthBoard;
use super::mailbox::{Envelope, Mailbox};
use super::restart::{RestartBudget, Verdict};
use crate::health::Part;
use crate::limits::PART_STOP_MAX;
use crate::seams::Tasks;

type Start = dyn Fn(ActorCell) -> BoxFuture<'static, Result<ActorCell, SpawnErr>> + Send + Sync;

/// How to start one child, as often as need be.
#[derive(Clone)]
pub(super) struct ChildSpec {
    name: String,
    start: Arc<Start>,
    is_vital: bool,
    reports_itself: bool,
}

impl std::fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ChildSpec({})", self.name)
    }
}

impl ChildSpec {
    /// A child that is an actor, made anew for each start. Unnamed for ractor, whose names are
    /// global to the process.
    pub(super) fn actor<A: Actor>(
        name: impl Into<String>,
        make: impl Fn() -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        let start: Arc<Start> = Arc::new(move |supervisor| {
            let (actor, arguments) = make();
            Box::pin(async move {
                let started = Actor::spawn_linked(None, actor, arguments, supervisor).await;
                started.map(|(actor, _handle)| actor.get_cell())
            })
        });
        ChildSpec { name: name.into(), start, is_vital: false, reports_itself: false }
    }

    /// The supervisor stops when this child fails: nothing works without it.
    pub(super) fn vital(mut self) -> Self {
        self.is_vital = true;
        self
    }

    /// The part says itself when it works; otherwise it does from its start on.
    pub(super) fn reports_itself(mut self) -> Self {
        self.reports_itself = true;
        self
    }
}

/// What a supervisor is made of.
#[derive(Clone, Debug)]
pub(super) struct Family {
    pub(super) children: Vec<ChildSpec>,
    pub(super) board: HealthBoard,
    /// Told why, when a vital child failed.
    pub(super) lost: watch::Sender<Option<String>>,
    /// Cancelled when the supervisor begins to stop, and at the latest when it is gone.
    pub(super) stopped: CancellationToken,
}

impl Family {
    /// A supervisor of this family, as a child of another.
    pub(super) fn spec(self, name: &str) -> ChildSpec {
        ChildSpec::actor(name, move || (Supervisor, self.clone()))
    }
}

#[derive(Debug)]
pub(super) struct Supervisor;

#[derive(Debug)]
pub(super) struct SupervisorState {
    children: Vec<Child>,
    board: HealthBoard,
    lost: watch::Sender<Option<String>>,
    stopped: DropGuard,
    mailbox: Mailbox<Msg>,
    tasks: Tasks,
}

#[derive(Debug)]
struct Child {
    spec: ChildSpec,
    running: Option<ActorCell>,
    budget: RestartBudget,
}

#[derive(Debug)]
pub(super) enum Msg {
    /// The wait before a restart is over.
    Start { child: usize },
}

impl Actor for Supervisor {
    type Msg = Envelope<Msg>;
    type State = SupervisorState;
    type Arguments = Family;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        family: Family,
    ) -> Result<SupervisorState, ActorProcessingErr> {
        let Family { children, board, lost, stopped } = family;
        let children = children
            .into_iter()
            .map(|spec| Child { spec, running: None, budget: RestartBudget::default() })
            .collect();
        let mailbox = Mailbox::new(myself.clone());
        let (stopped, tasks) = (stopped.drop_guard(), Tasks::new());
        let mut state = SupervisorState { children, board, lost, stopped, mailbox, tasks };
        for child in 0..state.children.len() {
            state.start(&myself, child).await;
        }
        Ok(state)
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        envelope: Self::Msg,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (message, _place) = envelope.open();
        match message {
            Msg::Start { child } => state.start(&myself, child).await,
        }
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, reason) = match event {
            SupervisionEvent::ActorFailed(cell, error) => (cell, error.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, reason.unwrap_or_else(|| "it ended".into()))
            }
            _ => return Ok(()),
        };
        let is_it = |child: &Child| {
            child.running.as_ref().is_some_and(|running| running.get_id() == cell.get_id())
        };
        if let Some(child) = state.children.iter().position(is_it) {
            state.failed(&myself, child, reason);
        }
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        state: &mut SupervisorState,
    ) -> Result<(), ActorProcessingErr> {
        state.stopped.token().cancel();
        state.tasks.abort();
        for child in state.children.iter_mut().rev() {
            let Some(running) = child.running.take() else { continue };
            if let Err(error) = running.stop_and_wait(None, Some(PART_STOP_MAX)).await {
                tracing::warn!(part = %child.spec.name, %error, "did not stop in time");
            }
        }
        Ok(())
    }
}

impl SupervisorState {
    async fn start(&mut self, myself: &ActorRef<Envelope<Msg>>, child: usize) {
        let Child { spec, running, .. } = &mut self.children[child];
        self.board.say(match spec.reports_itself {
            true => Part::unhealthy(&spec.name, "it is starting"),
            false => Part::healthy(&spec.name),
        });
        match (spec.start)(myself.get_cell()).await {
            Ok(cell) => *running = Some(cell),
            Err(error) => {
                let reason = error.to_string();
                self.failed(myself, child, reason);
            }
        }
    }

    /// Plans the restart of a failed child, or gives up if nothing works without it.
    fn failed(&mut self, myself: &ActorRef<Envelope<Msg>>, child: usize, reason: String) {
        let Child { spec, running, budget } = &mut self.children[child];
        let part = spec.name.clone();
        *running = None;
        self.board.say(Part::unhealthy(&part, &reason));
        if spec.is_vital {
            tracing::error!(%part, %reason, "a vital part failed; the node stops");
            let why = format!("the {part} failed: {reason}");
            self.lost.send_replace(Some(why.clone()));
            myself.stop(Some(why));
            return;
        }
        let wait: Duration = match budget.failed(Instant::now()) {
            Verdict::Restart(wait) => {
                tracing::warn!(%part, %reason, ?wait, "a part failed and is started again");
                wait
            }
            Verdict::Break(wait) => {
                tracing::error!(%part, %reason, ?wait, "a part keeps failing and is left alone");
                wait
            }
        };
        let mailbox = self.mailbox.clone();
        self.tasks.spawn(async move {
            sleep_until(Instant::now() + wait).await;
            // If the supervisor has stopped there is nothing left to start.
            let _ = mailbox.send(Msg::Start { child }).await;
        });
    }
}
