//! The store's part: watches the shared log, whose failure is the node's.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;

use super::service::service_part;
use super::supervisor::ChildSpec;
use crate::store::log::Log;

/// The supervised part that is the store. It starts first and stops last, so that all groups
/// have flushed before the log closes.
pub(super) fn store_part(log: Log) -> ChildSpec {
    let run = move |stop| {
        let log = log.clone();
        Box::pin(watch(log, stop)) as _
    };
    service_part("store", Arc::new(run)).vital()
}

async fn watch(log: Log, stop: CancellationToken) -> Result<(), String> {
    let mut failure = log.failure();
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        // The sender lives in the log, which this task holds: it ends with a failure only.
        failed = failure.wait_for(Option::is_some) => {
            let failure = failed.map(|failure| failure.clone()).ok().flatten();
            return Err(failure.map(|failure| failure.to_string()).unwrap_or_default());
        }
    }
    if let Err(error) = log.shutdown().await {
        tracing::error!(%error, "the log did not close in an orderly way");
    }
    Ok(())
}
