//! openraft's runtime: tokio, with tasks and randomness from our seams.
//!
//! It is the same in production and in simulation. What differs is the source of randomness that
//! the thread was given, and who steps tokio's clock.

use std::future::Future;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use openraft::impls::TokioRuntime;
use openraft::{AsyncRuntime, OptionalSend};

use crate::seams::{self, ThreadRandom};

type Instant = <TokioRuntime as AsyncRuntime>::Instant;

/// Microseconds; the shortest tick of the groups that this process has had.
static TICK: AtomicU64 = AtomicU64::new(u64::MAX);

/// A group with this heartbeat begins: about five ticks make one.
pub(super) fn ticks_for(heartbeat: Duration) {
    TICK.fetch_min((heartbeat / 5).as_micros() as u64, Ordering::Relaxed);
}

/// The moment at or after a deadline at which others end, too. Where all runs in place it is the
/// deadline: when a process began must not be seen there.
fn together(deadline: Instant) -> Instant {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    let tick = TICK.load(Ordering::Relaxed);
    let since = (deadline - *FIRST.get_or_init(|| deadline)).as_micros() as u64;
    match since.checked_rem(tick) {
        None | Some(0) => deadline,
        Some(_) if tick == u64::MAX || seams::runs_in_place() => deadline,
        Some(late) => deadline + Duration::from_micros(tick - late),
    }
}

/// What openraft runs its tasks on.
#[derive(Debug)]
pub(super) struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + OptionalSend> =
        <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = ThreadRandom;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = <TokioRuntime as AsyncRuntime>::Watch;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: OptionalSend + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + OptionalSend + 'static,
        T::Output: OptionalSend + 'static,
    {
        seams::spawn_for_library(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    /// openraft sleeps like this from one tick of a group's clock to the next. All groups tick
    /// together: an idle node wakes up once for all of them.
    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(together(deadline))
    }

    fn timeout<R, F: Future<Output = R> + OptionalSend>(
        duration: Duration,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + OptionalSend>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> Self::ThreadLocalRng {
        ThreadRandom
    }

    fn new(threads: usize) -> Self {
        Runtime(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}
