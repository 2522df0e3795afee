//! What parts count while they work: counters and histograms, read by whoever shows them.
//!
//! Counting is for the quickest path there is: an addition to an atomic, without a lock or an
//! allocation. What all threads count at once is kept in several copies, of which each thread has
//! one ([`copy`]), so that they don't take turns for a cache line. Nothing here has a name: names
//! are the door's, and nothing is ever decided by what is counted.
//!
//! A counter belongs to its part and never goes backwards for as long as the process runs.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

/// Counts what happens.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// It happened so often.
    pub fn add(&self, times: u64) {
        self.0.fetch_add(times, Ordering::Relaxed);
    }

    /// It happened.
    pub fn one(&self) {
        self.add(1);
    }

    /// How often it has happened.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Bounds of times, in nanoseconds: from a read that asks nobody to the longest that anything waits.
pub const TIMES_NS: &[u64] = &[
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    2_500_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    250_000_000,
    500_000_000,
    1_000_000_000,
    2_500_000_000,
    5_000_000_000,
    10_000_000_000,
];

/// Bounds of what comes together.
pub const COUNTS: &[u64] = &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024];

/// Counts values by the bounds between which they lie.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One for each bound, and one for what is past all of them.
    buckets: Box<[Counter]>,
    sum: Counter,
}

impl Histogram {
    /// Of values with these bounds, in rising order; each is within its bucket.
    pub fn new(bounds: &'static [u64]) -> Self {
        let buckets = (0..=bounds.len()).map(|_| Counter::default()).collect();
        Histogram { bounds, buckets, sum: Counter::default() }
    }

    /// Counts a value.
    pub fn note(&self, value: u64) {
        self.buckets[self.bounds.partition_point(|bound| *bound < value)].one();
        self.sum.add(value);
    }

    /// What was counted so far.
    pub fn read(&self) -> Distribution {
        let mut distribution = Distribution::empty(self.bounds);
        for (sum, bucket) in distribution.buckets.iter_mut().zip(&self.buckets) {
            *sum += bucket.get();
        }
        distribution.sum += self.sum.get();
        distribution
    }
}

/// What a histogram has counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    /// The bounds, in rising order.
    pub bounds: &'static [u64],
    /// How many values lie up to each bound and past the one before, and how many past the last.
    pub buckets: Vec<u64>,
    /// All values together.
    pub sum: u64,
}

impl Distribution {
    /// Of no values.
    pub fn empty(bounds: &'static [u64]) -> Self {
        Distribution { bounds, buckets: vec![0; bounds.len() + 1], sum: 0 }
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// How many copies there are of what all threads count: as many as processors count at once on most
/// machines. With more, some share.
pub const COPIES: usize = 8;

/// Which copy the calling thread counts in.
pub fn copy() -> usize {
    // Only spreads threads: what is read is the sum.
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    thread_local! {
        static MINE: usize = NEXT.fetch_add(1, Ordering::Relaxed) % COPIES;
    }
    MINE.with(|mine| *mine)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn each_value_is_counted_once_and_up_to_its_bound(
            values in prop::collection::vec(0u64..20_000_000_000, 0..50)
        ) {
            let histogram = Histogram::new(TIMES_NS);
            values.iter().for_each(|value| histogram.note(*value));
            let read = histogram.read();
            prop_assert_eq!(read.count(), values.len() as u64);
            prop_assert_eq!(read.sum, values.iter().sum::<u64>());
            let mut upto = 0;
            for (bound, bucket) in TIMES_NS.iter().zip(&read.buckets) {
                upto += bucket;
                prop_assert_eq!(upto, values.iter().filter(|value| *value <= bound).count() as u64);
            }
        }
    }

    #[test]
    fn bounds_rise() {
        for bounds in [TIMES_NS, COUNTS] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
