//! The load itself: when which client begins which operation.
//!
//! Without a rate each client begins its next operation when it has the answer to the last. With one,
//! operations are due at fixed times, whatever becomes of those before, and the time of one that finds
//! all clients waiting for answers counts from when it was due: otherwise a store that stands still
//! would be asked less, and look fast.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aspen::seams::{Random, Tasks};
use bytes::Bytes;
use hyper::Method;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::tally::{Outcome, Tally, Verb};
use super::{Plan, READS_OF};
use crate::client::{Held, Node, Request};
use crate::exit::Exit;

/// How long a client that can't reach the node waits before it tries again, where no rate says when.
const ABSENT: Duration = Duration::from_millis(100);

/// What all clients share.
#[derive(Debug)]
pub(super) struct Load {
    plan: Plan,
    random: Random,
    tally: Mutex<Tally>,
    began: Instant,
    /// The next operation's number.
    turn: AtomicU64,
    /// Operations that were sent.
    begun: AtomicU64,
    /// Writes that were sent: which key is next.
    writes: AtomicU64,
    stopped: watch::Sender<bool>,
}

impl Load {
    /// Begins a run.
    pub(super) fn begin(plan: Plan, tally: Tally, node: &Node) -> (Arc<Load>, Tasks) {
        let load = Arc::new(Load {
            plan,
            random: Random::from_entropy(),
            tally: Mutex::new(tally),
            began: Instant::now(),
            turn: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            writes: AtomicU64::new(0),
            stopped: watch::Sender::new(false),
        });
        let clients = Tasks::new();
        for _ in 0..load.plan.clients {
            clients.spawn(load.clone().work(node.held()));
        }
        (load, clients)
    }

    /// Looks at or adds to what was counted.
    pub(super) fn tally<T>(&self, look: impl FnOnce(&mut Tally) -> T) -> T {
        look(&mut self.tally.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// When the run began.
    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Lets no further operation begin.
    pub(super) fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// How many operations were due after so long and never begun, since all clients were waiting.
    pub(super) fn not_begun(&self, after: Duration) -> u64 {
        let due = self.plan.rate.map_or(0, |rate| due_within(after, rate));
        due.saturating_sub(self.begun.load(Ordering::Relaxed))
    }

    /// How many writes were sent.
    pub(super) fn writes_begun(&self) -> u64 {
        self.writes.load(Ordering::Relaxed)
    }

    /// One client, until the run ends.
    async fn work(self: Arc<Self>, mut held: Held) {
        let mut stopped = self.stopped.subscribe();
        let end = self.began + self.plan.time;
        loop {
            let begins = match self.plan.rate {
                None => Instant::now(),
                Some(rate) => {
                    let turn = self.turn.fetch_add(1, Ordering::Relaxed);
                    self.began + due_at(turn, rate)
                }
            };
            // A run that is behind ends all the same when its time is up.
            if begins.max(Instant::now()) >= end || *stopped.borrow() {
                return;
            }
            let mut counts_from = begins;
            if begins > Instant::now() {
                tokio::select! {
                    () = sleep_until(begins) => {}
                    _ = stopped.changed() => return,
                }
                // This client was free: that its clock woke it late is no doing of the store's.
                counts_from = Instant::now();
            }
            self.begun.fetch_add(1, Ordering::Relaxed);
            let (verb, request) = self.next();
            let outcome = outcome(&mut held, request).await;
            let is_absent = matches!(&outcome, Outcome::Failed { exit: Exit::Unreachable, .. });
            self.tally(|tally| tally.count(verb, outcome, counts_from.elapsed()));
            if is_absent && self.plan.rate.is_none() {
                tokio::select! {
                    () = sleep(ABSENT) => {}
                    _ = stopped.changed() => return,
                }
            }
        }
    }

    /// The next operation: writes take the keys in turn, reads any of them.
    fn next(&self) -> (Verb, Request) {
        let dice = self.random.next_u64();
        if dice % READS_OF < u64::from(self.plan.reads) {
            let key = (dice / READS_OF) % self.plan.keys;
            let request = Request::read(Method::GET, &self.plan.path(key));
            let consistency = self.plan.consistency.map(|kind| kind.to_string());
            return (Verb::Get, request.maybe("consistency", consistency));
        }
        let key = self.writes.fetch_add(1, Ordering::Relaxed) % self.plan.keys;
        let value: Bytes = self.plan.value(dice);
        (Verb::Put, Request::write(Method::PUT, &self.plan.path(key)).body(value))
    }
}

/// What becomes of a request.
async fn outcome(held: &mut Held, request: Request) -> Outcome {
    let writes = request.is_write();
    match held.send(request).await {
        Ok(answer) if answer.status.is_success() => Outcome::Done,
        Ok(answer) => Outcome::Failed { kind: answer.problem(), exit: answer.exit() },
        Err(unanswered) => {
            let exit = match writes && unanswered.may_be_done() {
                true => Exit::Unknown,
                false => Exit::Unreachable,
            };
            Outcome::Failed { kind: unanswered.name().to_owned(), exit }
        }
    }
}

/// When an operation is due, after the beginning.
fn due_at(turn: u64, rate: NonZeroU32) -> Duration {
    let rate = u64::from(rate.get());
    let nanos = (turn % rate) * 1_000_000_000 / rate;
    Duration::from_secs(turn / rate) + Duration::from_nanos(nanos)
}

/// How many operations are due before so long after the beginning.
fn due_within(time: Duration, rate: NonZeroU32) -> u64 {
    let product = time.as_nanos() * u128::from(rate.get());
    u64::try_from(product.div_ceil(1_000_000_000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_are_due_at_the_rate() {
        let rate = NonZeroU32::new(3).expect("not 0");
        let due = |turn| due_at(turn, rate).as_millis();
        assert_eq!([0, 1, 2, 3, 4].map(due), [0, 333, 666, 1_000, 1_333]);
        assert_eq!(due_within(Duration::from_secs(2), rate), 6);
        assert_eq!(due_within(Duration::from_millis(1_001), rate), 4);
        assert_eq!(due_within(Duration::ZERO, rate), 0);
    }
}
