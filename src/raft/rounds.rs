//! How many rounds of Raft the groups of a node begin at once.
//!
//! A round costs its fixed part however many proposals share it. Where the processors have time, each
//! group begins its rounds as it likes: what is waited for then is disks and links. Where they have
//! none, rounds of many groups only wait for each other; fewer at a time take more proposals each, and
//! the node does more in all. Whether they have time shows in how long a task waits for its turn.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::yield_now;
use tokio::time::{Instant, timeout};

use crate::limits::{ROUND_WAIT_MAX, ROUNDS_BUSY_MAX, TURN_BUSY};

/// The rounds of one node; clones are the same.
#[derive(Clone, Debug)]
pub struct Rounds(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    places: Arc<Semaphore>,
    /// How long a task waited for its turn, in nanoseconds: the mean of the latest.
    turn: AtomicU64,
}

/// How much of the mean a new turn makes up, as a divisor.
const WEIGHT: u64 = 8;

impl Default for Rounds {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(ROUNDS_BUSY_MAX));
        Rounds(Arc::new(Inner { places, turn: AtomicU64::new(0) }))
    }
}

impl Rounds {
    /// Waits until a round may begin; it is over when what this gives is dropped. One that waits for a
    /// majority in vain must not stop the others: nobody waits for long.
    pub(super) async fn begin(&self) -> Option<OwnedSemaphorePermit> {
        if !self.is_busy().await {
            return None;
        }
        let place = self.0.places.clone().acquire_owned();
        timeout(ROUND_WAIT_MAX, place).await.ok()?.ok()
    }

    async fn is_busy(&self) -> bool {
        let asked = Instant::now();
        yield_now().await;
        let turn = asked.elapsed().as_nanos() as u64;
        // Turns that are noted at once may take each other's place: it is an estimate.
        let before = self.0.turn.load(Ordering::Relaxed);
        let mean = before - before / WEIGHT + turn / WEIGHT;
        self.0.turn.store(mean, Ordering::Relaxed);
        mean >= TURN_BUSY.as_nanos() as u64
    }
}
