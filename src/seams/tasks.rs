//! Tasks and threads with an owner.
//!
//! A [`Tasks`] belongs to one part of a node. Dropping it aborts what still runs, so nothing
//! outlives its part; shutting down waits for it.

use std::future::Future;
use std::io;

use tokio::task::AbortHandle;
use tokio_util::task::TaskTracker;

/// The running tasks of one part of a node; clones share the set.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
}

impl Tasks {
    /// No tasks yet.
    pub fn new() -> Self {
        Tasks::default()
    }

    /// Runs a future as a task of this set.
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    pub fn spawn<F>(&self, future: F) -> AbortHandle
    where
        F: Future<Output = ()> + Send + 'static,
    {
        tokio::spawn(self.tracker.track_future(future)).abort_handle()
    }

    /// Waits until all tasks of the set have ended; none may be added afterwards.
    pub async fn ended(&self) {
        self.tracker.close();
        self.tracker.wait().await;
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
