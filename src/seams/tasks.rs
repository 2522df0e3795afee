//! Tasks and threads with an owner.
//!
//! A [`Tasks`] belongs to one part of a node, which ends its tasks when it stops: by waiting for
//! them, or by cutting them off.

use std::future::Future;
use std::io;

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// The running tasks of one part of a node; clones share the set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    aborted: CancellationToken,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Tasks::default()
    }

    /// Runs a future as a task of this set.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let until_aborted = self.aborted.clone().run_until_cancelled_owned(future);
        tokio::spawn(self.tracker.track_future(async move {
            until_aborted.await;
        }));
    }

    /// Ends all tasks of the set at their next await.
    pub fn abort(&self) {
        self.aborted.cancel();
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
    tokio::spawn(future)
}

/// Runs a closure that blocks, off the async threads, and waits for it.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub async fn blocking<F, T>(run: F) -> T
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    match tokio::task::spawn_blocking(run).await {
        Ok(result) => result,
        Err(error) => std::panic::resume_unwind(match error.try_into_panic() {
            Ok(panic) => panic,
            Err(cancelled) => Box::new(cancelled),
        }),
    }
}

/// Runs a closure on an OS thread of its own: for the few parts whose work is to block.
#[expect(clippy::disallowed_methods, reason = "this is the seam")]
pub fn spawn_thread<F>(name: String, run: F) -> io::Result<std::thread::JoinHandle<()>>
where
    F: FnOnce() + Send + 'static,
{
    std::thread::Builder::new().name(name).spawn(run)
}
