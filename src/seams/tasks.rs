//! Tasks and threads with an owner.
//!
//! A [`Tasks`] belongs to one part of a node, which ends its tasks when it stops: by waiting for
//! them, or by cutting them off. What is started works for the node and the group that whoever
//! started it did ([`Here`]).
//!
//! A simulator runs whole nodes on one thread ([`run_in_place`]). There what blocks runs where it
//! is called, and nobody gets a thread.

use std::cell::Cell;
use std::future::Future;
use std::io;

use futures_util::future::BoxFuture;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::Here;

thread_local! {
    static RUNS_IN_PLACE: Cell<bool> = const { Cell::new(false) };
}

/// From now on, what would leave the present thread runs on it: for simulators, whose threads
/// must not race.
pub fn run_in_place() {
    RUNS_IN_PLACE.set(true);
}

/// Whether all runs in place; see [`run_in_place`].
pub fn runs_in_place() -> bool {
    RUNS_IN_PLACE.get()
}

/// The running tasks of one part of a node; clones share the set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    aborted: CancellationToken,
    /// For what all of them work, if it is not whoever starts one that says it.
    at: Option<Here>,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Tasks::default()
    }

    /// No tasks yet; all that come work for this, whoever starts them.
    pub fn at(here: Here) -> Self {
        Tasks { at: Some(here), ..Tasks::default() }
    }

    /// Runs a future as a task of this set.
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        self.spawn_boxed(Box::pin(future));
    }

    /// One kind of task for all futures: each kind is compiled anew, runtime and all.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn spawn_boxed(&self, future: BoxFuture<'static, ()>) {
        let until_aborted = self.aborted.clone().run_until_cancelled_owned(future);
        let here = self.at.unwrap_or_else(Here::present);
        tokio::spawn(self.tracker.track_future(here.scope(async move {
            until_aborted.await;
        })));
    }

    /// Ends all tasks of the set at their next await.
    pub fn abort(&self) {
        self.aborted.cancel();
    }

    /// Aborts the tasks when it is dropped: for a set whose owner is a future, which may be dropped
    /// at any await.
    pub fn abort_on_drop(&self) -> DropGuard {
        self.aborted.clone().drop_guard()
    }

    /// Counts as a task of the set until it is dropped: for what runs in tasks of others.
    pub fn token(&self) -> TaskTrackerToken {
        self.tracker.token()
    }

    /// Waits until all tasks of the set have ended; none may be added afterwards.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

/// Runs a future as a task whose handle a library keeps: only for one that has an owner for its
/// tasks of its own. All else goes through [`Tasks`].
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn spawn_for_library<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio::spawn(Here::present().scope(future))
}

/// Most closures of a process that block at a time, each on a thread of its own.
const BLOCKING_MAX: usize = 16;

/// The turns of those that block. Every thread that allocates keeps pages of its own, so that many
/// replicas that are opened at once on threads of their own would cost more than they hold.
static TURNS: Semaphore = Semaphore::const_new(BLOCKING_MAX);

/// Runs a closure that blocks, off the async threads, and waits for it.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub async fn blocking<F, T>(run: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    if RUNS_IN_PLACE.get() {
        return run();
    }
    let turn = TURNS.acquire().await;
    let here = Here::present();
    let run = move || {
        // It has its turn until it is done, also if nobody waits for it any more.
        let _turn = turn;
        here.run(run)
    };
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(match error.try_into_panic() {
            Ok(panic) => panic,
            Err(cancelled) => Box::new(cancelled),
        }),
    }
}

/// Runs a closure on an OS thread of its own: for the few parts whose work is to block. An error
/// where all runs in place; such a part needs another driver there.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn spawn_thread<F>(name: String, run: F) -> io::Result<std::thread::JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    if RUNS_IN_PLACE.get() {
        return Err(io::Error::new(io::ErrorKind::Unsupported, "this thread shares its work"));
    }
    let here = Here::present();
    std::thread::Builder::new().name(name).spawn(move || here.run(run))
}
