//! The tasks without which a replica does not work.
//!
//! They run until the replica stops. One that ends before, by a panic or by what it met, fails
//! the replica, which is then stopped and started again as a whole; so does damage that a read
//! finds.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::watch;

use super::machine::table_failure;
use crate::error::Error;
use crate::machine::tables::TableError;
use crate::seams::{Here, Tasks};
use crate::types::GroupId;

/// A replica's tasks, and what broke it; clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Vital {
    group: GroupId,
    tasks: Tasks,
    broken: Arc<watch::Sender<Option<Error>>>,
}

impl Vital {
    pub(super) fn new(group: GroupId) -> Self {
        let tasks = Tasks::at(Here::at_group(group));
        Vital { group, tasks, broken: Arc::new(watch::Sender::new(None)) }
    }

    /// Runs a task that must not end before the replica does.
    pub(super) fn spawn<F>(&self, what: &'static str, future: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let vital = self.clone();
        self.tasks.spawn(async move {
            let reason = match AssertUnwindSafe(future).catch_unwind().await {
                Ok(()) => format!("its {what} has ended"),
                Err(_panic) => format!("its {what} panicked; this is a bug"),
            };
            vital.breaks(Error::Unavailable { group: vital.group, reason });
        });
    }

    /// All tasks of the replica, those that may end included.
    pub(super) fn tasks(&self) -> &Tasks {
        &self.tasks
    }

    /// The replica can't go on; the first reason stays.
    fn breaks(&self, error: Error) {
        self.broken.send_if_modified(|broken| {
            let is_first = broken.is_none();
            broken.get_or_insert(error);
            is_first
        });
    }

    /// The state can't be written: the replica can't go on.
    pub(super) fn fails(&self, error: TableError) {
        self.breaks(table_failure(self.group, error));
    }

    /// What a caller is told of a read that failed. Damage also stops the replica: nothing more
    /// is served from it.
    pub(super) fn damage(&self, error: TableError) -> Error {
        let error = table_failure(self.group, error);
        if let Error::Corrupt(_) = error {
            self.breaks(error.clone());
        }
        error
    }

    /// Resolves with what broke the replica.
    pub(super) async fn broken(&self) -> Error {
        let mut broken = self.broken.subscribe();
        match broken.wait_for(Option::is_some).await.map(|broken| broken.clone()) {
            Ok(Some(error)) => error,
            // The sender lives in this handle.
            _ => std::future::pending().await,
        }
    }
}
