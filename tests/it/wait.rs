//! Waiting for what is to come about.

use std::time::Duration;

use tokio::time::{Instant, sleep};

/// Longer than anything takes, on a loaded machine too; a test that waits for it has failed.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until something holds; fails with its name if it never does.
pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "it never held that {what}");
        sleep(Duration::from_millis(5)).await;
    }
}
