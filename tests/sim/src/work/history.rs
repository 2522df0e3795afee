//! What clients asked for and what they were told, in the order in which it happened.
//!
//! A call's moments are taken from the run's counter before it is made and after it was answered:
//! one that ended before another began did so, on however many threads they ran. In the simulator
//! nodes take turns within each millisecond, and no message between them takes less than one, so
//! the order in which events are noted is one in which they may have happened.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::Stage;
use crate::check::{Call, Told};

/// The calls of one workload.
pub(super) struct History<A, O> {
    calls: Mutex<Vec<Call<A, O>>>,
    stage: Stage,
}

/// A call that has begun.
#[derive(Clone, Copy)]
pub(super) struct Begun(usize);

impl<A: Clone, O: Clone> History<A, O> {
    pub(super) fn new(stage: &Stage) -> Self {
        History { calls: Mutex::default(), stage: stage.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call<A, O>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A client begins a call; until more is known, its outcome is unknown.
    pub(super) fn begin(&self, client: u64, asked: A) -> Begun {
        let mut calls = self.lock();
        let began = self.stage.event();
        calls.push(Call { client, asked, began, ended: u64::MAX, told: Told::Unknown });
        Begun(calls.len() - 1)
    }

    /// The client of a call is told what it came to.
    pub(super) fn end(&self, begun: Begun, told: Told<O>) {
        let mut calls = self.lock();
        let ended = self.stage.event();
        let call = &mut calls[begun.0];
        if !matches!(told, Told::Unknown) {
            call.ended = ended;
        }
        call.told = told;
    }

    /// All calls so far, in the order in which they began.
    pub(super) fn calls(&self) -> Vec<Call<A, O>> {
        self.lock().clone()
    }

    /// How many.
    pub(super) fn count(&self) -> usize {
        self.lock().len()
    }
}
