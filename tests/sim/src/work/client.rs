//! One client, whatever it does.

use std::fmt::Display;
use std::future::{Future, IntoFuture, pending};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aspen::error::Refusal;
use aspen::limits::CLIENT_DEADLINE;
use aspen::{Error, KvClient};
use tokio::time::{Instant, sleep};

use super::stage::Present;
use super::{History, Stage};
use crate::check::Told;
use crate::dice::Dice;

/// How soon every call ends: its deadline, and what a process that stood still meanwhile, or a loaded
/// machine, takes to notice.
pub(super) const CALL_MAX: Duration = CLIENT_DEADLINE.saturating_add(Duration::from_secs(8));

/// Whether a client's process still runs; clones are the same. What its clients were about to be
/// told when it died, they were not.
#[derive(Clone, Default)]
pub struct Alive(Arc<AtomicBool>);

impl Alive {
    /// From now on.
    pub fn begin() -> Self {
        Alive(Arc::new(AtomicBool::new(true)))
    }

    /// Until now.
    pub fn end(&self) {
        self.0.store(false, Ordering::Relaxed);
    }

    /// Whether it does.
    pub fn is(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// What a call does if it is done.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Effect {
    Reads,
    Writes,
}

/// One client.
pub struct Client {
    pub(super) number: u64,
    place: u64,
    alive: Alive,
    pub(super) kv: KvClient,
    pub(super) dice: Dice,
    pub(super) stage: Stage,
    _present: Present,
}

impl Client {
    /// A client of a run that works at some place, such as a node, for as long as that is alive.
    pub fn new(stage: &Stage, place: u64, alive: Alive, kv: KvClient, dice: Dice) -> Self {
        let (number, present) = stage.enter();
        Client { number, place, alive, kv, dice, stage: stage.clone(), _present: present }
    }

    /// Waits a while between calls. Answers whether to go on.
    pub(super) async fn thinks(&self) -> bool {
        if self.stage.is_over() {
            return false;
        }
        self.waits().await;
        true
    }

    /// Waits a while before it asks again.
    pub(super) async fn waits(&self) {
        sleep(self.dice.time_below(self.stage.pace())).await;
        self.lives().await;
    }

    /// Comes back only if the client lives: its runtime may go on for a moment after its death.
    pub(super) async fn lives(&self) {
        if !self.alive.is() {
            pending::<()>().await;
        }
    }

    /// Makes a call, and writes down what it came to.
    pub(super) async fn call<A, O>(
        &self,
        history: &History<A, O>,
        asked: A,
        effect: Effect,
        asking: impl Future<Output = aspen::Result<O>>,
    ) -> Told<O>
    where
        A: Clone + Display,
        O: Clone + Display,
    {
        self.calls(history, asked, effect, self.in_time(asking)).await
    }

    /// The same with something that takes several calls, each made by [`Client::in_time`].
    pub(super) async fn calls<A, O>(
        &self,
        history: &History<A, O>,
        asked: A,
        effect: Effect,
        asking: impl Future<Output = aspen::Result<O>>,
    ) -> Told<O>
    where
        A: Clone + Display,
        O: Clone + Display,
    {
        let begun = history.begin(self.number, asked.clone());
        let told = self.ask(&asked, effect, asking).await;
        history.end(begun, told.clone());
        told
    }

    /// Makes one call, which has to end within its deadline.
    pub(super) async fn in_time<T>(
        &self,
        call: impl IntoFuture<Output = aspen::Result<T>>,
    ) -> aspen::Result<T> {
        let began = Instant::now();
        let answer = call.await;
        self.lives().await;
        let took = began.elapsed();
        if took > CALL_MAX {
            self.fail(format_args!("waited {took:?} for one answer"));
        }
        answer
    }

    /// Asks what no history has, by calls made by [`Client::in_time`].
    pub(super) async fn ask<O: Display>(
        &self,
        asked: &impl Display,
        effect: Effect,
        asking: impl Future<Output = aspen::Result<O>>,
    ) -> Told<O> {
        let answer = asking.await;
        self.lives().await;
        let told = match answer {
            Ok(answer) => {
                self.stage.count_answer(self.place, effect == Effect::Writes);
                Told::Done(answer)
            }
            Err(error) => self.judge(&error),
        };
        self.note(format_args!("{asked} → {told}"));
        told
    }

    /// What an error tells a client.
    fn judge<O>(&self, error: &Error) -> Told<O> {
        match error {
            Error::Busy { .. } | Error::Unavailable { .. } | Error::NoSpace { .. } => Told::Not,
            // It read what was, and others had just had that dropped.
            Error::Refused(Refusal::Compacted { .. }) => Told::Not,
            Error::OutcomeUnknown { .. } => Told::Unknown,
            // It was done, and what it answered is not kept.
            Error::Refused(Refusal::AnswerForgotten { .. }) => Told::Unknown,
            other => {
                self.fail(format_args!("was told: {other}"));
                Told::Unknown
            }
        }
    }

    /// Writes down what it was told.
    pub(super) fn note(&self, what: std::fmt::Arguments<'_>) {
        self.stage.note(format_args!("client {}", self.number), what);
    }

    /// It was told what must not be.
    pub(super) fn fail(&self, what: std::fmt::Arguments<'_>) {
        self.stage.fail(format!("client {} {what}", self.number));
    }
}

/// The number that a value holds as text.
pub(super) fn number_in(value: &aspen::Value) -> Option<u64> {
    std::str::from_utf8(value.as_bytes()).ok()?.parse().ok()
}
