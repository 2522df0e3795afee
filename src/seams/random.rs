//! One seeded source of randomness a node, so that a simulated node repeats itself.
//!
//! A library that draws numbers without being handed a source draws from its thread's
//! ([`ThreadRandom`]): whoever runs a simulated node sets it while the node runs.

use std::cell::RefCell;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, PoisonError};

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng, TryRng};

thread_local! {
    static OF_THREAD: RefCell<Option<Random>> = const { RefCell::new(None) };
}

/// A handle on a node's randomness; clones share the sequence.
#[derive(Clone, Debug)]
pub struct Random(Arc<Mutex<StdRng>>);

impl Random {
    /// A sequence nobody can foretell.
    pub fn from_entropy() -> Self {
        Random(Arc::new(Mutex::new(rand::make_rng())))
    }

    /// The sequence of a seed.
    pub fn from_seed(seed: u64) -> Self {
        Random(Arc::new(Mutex::new(StdRng::seed_from_u64(seed))))
    }

    /// The next number of the sequence.
    pub fn next_u64(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }

    /// Two of them.
    pub fn next_u128(&self) -> u128 {
        (u128::from(self.next_u64()) << 64) | u128::from(self.next_u64())
    }

    /// Fills a buffer from the sequence.
    pub fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }

    /// Makes this the source of [`ThreadRandom`] on the present thread, until the guard is
    /// dropped.
    pub fn enter(&self) -> EnteredRandom {
        let before = OF_THREAD.with(|source| source.replace(Some(self.clone())));
        EnteredRandom { before, _of_thread: std::marker::PhantomData }
    }
}

/// Gives the thread its former source back when it is dropped.
#[derive(Debug)]
#[must_use = "the source is in force while this lives"]
pub struct EnteredRandom {
    before: Option<Random>,
    /// It must be dropped on its own thread.
    _of_thread: std::marker::PhantomData<*const ()>,
}

impl Drop for EnteredRandom {
    fn drop(&mut self) {
        OF_THREAD.with(|source| source.replace(self.before.take()));
    }
}

/// The randomness of the present thread: what [`Random::enter`] set, else numbers that nobody can
/// foretell.
#[derive(Clone, Copy, Debug, Default)]
pub struct ThreadRandom;

impl ThreadRandom {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn draw<T>(drawn: impl FnOnce(&mut dyn Rng) -> T) -> T {
        OF_THREAD.with_borrow(|source| match source {
            Some(Random(source)) => {
                drawn(&mut *source.lock().unwrap_or_else(PoisonError::into_inner))
            }
            None => drawn(&mut rand::rng()),
        })
    }
}

impl TryRng for ThreadRandom {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok(Self::draw(|source| source.next_u32()))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok(Self::draw(|source| source.next_u64()))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        Self::draw(|source| source.fill_bytes(bytes));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_draws_from_the_source_that_was_entered_last() {
        let drawn = |seed| {
            let _entered = Random::from_seed(seed).enter();
            [ThreadRandom.next_u64(), ThreadRandom.next_u64()]
        };
        let outer = Random::from_seed(7);
        let entered = outer.enter();
        assert_eq!(drawn(1), drawn(1));
        assert_ne!(drawn(1), drawn(2));
        assert_eq!(ThreadRandom.next_u64(), Random::from_seed(7).next_u64());
        drop(entered);
        assert_ne!(ThreadRandom.next_u64(), ThreadRandom.next_u64());
    }
}
