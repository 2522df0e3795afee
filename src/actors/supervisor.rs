//! The supervising actor: starts its children in order, starts a failed one again with backoff
//! and a budget, and stops them in the reverse order.
//!
//! One kind serves the whole tree: the node's root and the groups are both supervisors. A child
//! is started by a closure, so that it can be started again; what must survive a restart (slots,
//! boards) the closure hands to each start.
//!
//! Which children there are may change: those that are new are started, those that are to be no
//! longer are told to stop, and have their own time for it. One that is wanted again before it has
//! ended is started when it has.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::{StreamExt, stream};
use ractor::{Actor, ActorCell, ActorProcessingErr, ActorRef, SpawnErr, SupervisionEvent};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::health::HealthBoard;
use super::mailbox::{Envelope, Mailbox, MailboxCounts};
use super::placed::Placed;
use super::restart::{RestartBudget, Verdict};
use crate::health::Part;
use crate::limits::PART_STOP_MAX;
use crate::seams::Tasks;

type Start = dyn Fn(ActorCell, Arc<MailboxCounts>) -> BoxFuture<'static, Result<ActorCell, SpawnErr>>
    + Send
    + Sync;

/// How to start one child, as often as need be.
#[derive(Clone)]
pub(super) struct ChildSpec {
    name: String,
    start: Arc<Start>,
    is_vital: bool,
    reports_itself: bool,
    /// Called when it is a child no longer, and has ended.
    dismissed: Option<Arc<dyn Fn() + Send + Sync>>,
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
        make: impl Fn(Arc<MailboxCounts>) -> (A, A::Arguments) + Send + Sync + 'static,
    ) -> Self {
        let start: Arc<Start> = Arc::new(move |supervisor, counts| {
            let (actor, arguments) = make(counts);
            Box::pin(async move {
                let placed = Placed::new(actor);
                let started = Actor::spawn_linked(None, placed, arguments, supervisor).await;
                started.map(|(actor, _handle)| actor.get_cell())
            })
        });
        let name = name.into();
        ChildSpec { name, start, is_vital: false, reports_itself: false, dismissed: None }
    }

    /// What it is called.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// What to do when it is a child no longer, and has ended.
    pub(super) fn when_dismissed(mut self, dismissed: impl Fn() + Send + Sync + 'static) -> Self {
        self.dismissed = Some(Arc::new(dismissed));
        self
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
    /// Those that there are to be, each with a name of its own.
    pub(super) children: watch::Receiver<Vec<ChildSpec>>,
    /// None of them leans on one before it: they are stopped all at once.
    pub(super) independent: bool,
    pub(super) board: HealthBoard,
    /// Told why, when a vital child failed.
    pub(super) lost: watch::Sender<Option<String>>,
    /// Cancelled when the supervisor begins to stop, and at the latest when it is gone.
    pub(super) stopped: CancellationToken,
}

/// Children that stay the same.
pub(super) fn fixed(children: Vec<ChildSpec>) -> watch::Receiver<Vec<ChildSpec>> {
    watch::Sender::new(children).subscribe()
}

impl Family {
    /// A supervisor of this family, as a child of another.
    pub(super) fn spec(self, name: &str) -> ChildSpec {
        ChildSpec::actor(name, move |_| (Supervisor, self.clone()))
    }
}

#[derive(Debug)]
pub(super) struct Supervisor;

#[derive(Debug)]
pub(super) struct SupervisorState {
    wanted: watch::Receiver<Vec<ChildSpec>>,
    /// In the order in which they came.
    children: Vec<Child>,
    independent: bool,
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
    /// It was told to stop, and is wanted no longer or not yet again.
    stops: bool,
}

#[derive(Debug)]
pub(super) enum Msg {
    /// The wait before a restart is over.
    Start { child: String },
    /// Other children are wanted than before.
    Reconcile,
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
        let Family { children: wanted, independent, board, lost, stopped } = family;
        let mailbox = Mailbox::new(myself.clone(), board.mailboxes());
        let (stopped, tasks) = (stopped.drop_guard(), Tasks::new());
        let (mut changes, telling) = (wanted.clone(), mailbox.clone());
        let children = Vec::new();
        let mut state =
            SupervisorState { wanted, children, independent, board, lost, stopped, mailbox, tasks };
        state.reconcile(&myself).await;
        state.tasks.spawn(async move {
            // Until nobody can want others, or the supervisor has stopped.
            while changes.changed().await.is_ok() && telling.send(Msg::Reconcile).await.is_ok() {}
        });
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
            Msg::Start { child } => {
                state.board.restarts(&child);
                state.start(&myself, &child).await;
            }
            Msg::Reconcile => state.reconcile(&myself).await,
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
        let Some(child) = state.children.iter().find(|child| is_it(child)) else { return Ok(()) };
        let (name, stops) = (child.spec.name.clone(), child.stops);
        match stops {
            false => state.failed(&myself, &name, reason),
            true => state.ended(&myself, &name).await,
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
        let at_once = if state.independent { usize::MAX } else { 1 };
        let running = state.children.iter_mut().rev();
        let running = running.filter_map(|child| Some((&child.spec.name, child.running.take()?)));
        let stop = |(part, cell): (&String, ActorCell)| {
            let part = part.clone();
            async move {
                if let Err(error) = cell.stop_and_wait(None, Some(PART_STOP_MAX)).await {
                    tracing::warn!(%part, %error, "did not stop in time");
                }
            }
        };
        stream::iter(running.map(stop)).for_each_concurrent(at_once, |stopped| stopped).await;
        Ok(())
    }
}

impl SupervisorState {
    /// Starts those that are new, and stops those that are wanted no longer.
    async fn reconcile(&mut self, myself: &ActorRef<Envelope<Msg>>) {
        let wanted = self.wanted.borrow_and_update().clone();
        let names: BTreeSet<&str> = wanted.iter().map(|spec| spec.name.as_str()).collect();
        let mut over = Vec::new();
        for child in &mut self.children {
            if names.contains(child.spec.name.as_str()) {
                continue;
            }
            match &child.running {
                Some(_) if child.stops => {}
                Some(running) => running.stop(None),
                None => over.push(child.spec.name.clone()),
            }
            child.stops = true;
        }
        for name in over {
            self.ended(myself, &name).await;
        }
        for spec in wanted {
            if self.children.iter().all(|child| child.spec.name != spec.name) {
                let name = spec.name.clone();
                let budget = RestartBudget::default();
                self.children.push(Child { spec, running: None, budget, stops: false });
                self.start(myself, &name).await;
            }
        }
    }

    /// A child that was told to stop has ended: it goes, or is started if it is wanted again.
    async fn ended(&mut self, myself: &ActorRef<Envelope<Msg>>, name: &str) {
        let Some(at) = self.children.iter().position(|child| child.spec.name == name) else {
            return;
        };
        if self.wanted.borrow().iter().any(|spec| spec.name == name) {
            self.children[at].stops = false;
            self.children[at].running = None;
            return self.start(myself, name).await;
        }
        let child = self.children.remove(at);
        self.board.forget(name);
        if let Some(dismissed) = child.spec.dismissed {
            dismissed();
        }
    }

    async fn start(&mut self, myself: &ActorRef<Envelope<Msg>>, name: &str) {
        let child = self.children.iter_mut().find(|child| child.spec.name == name);
        let Some(Child { spec, running, .. }) =
            child.filter(|child| !child.stops && child.running.is_none())
        else {
            return;
        };
        match spec.reports_itself {
            true => self.board.starts(&spec.name),
            false => self.board.say(Part::healthy(&spec.name)),
        }
        match (spec.start)(myself.get_cell(), self.board.mailboxes()).await {
            Ok(cell) => *running = Some(cell),
            Err(error) => {
                let reason = error.to_string();
                self.failed(myself, name, reason);
            }
        }
    }

    /// Plans the restart of a failed child, or gives up if nothing works without it.
    fn failed(&mut self, myself: &ActorRef<Envelope<Msg>>, name: &str, reason: String) {
        let child = self.children.iter_mut().find(|child| child.spec.name == name);
        let Some(Child { spec, running, budget, .. }) = child else { return };
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
            let _ = mailbox.send(Msg::Start { child: part }).await;
        });
    }
}
