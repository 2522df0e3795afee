//! Counts of numbers by power of two: what openraft asks of its statistics, in 520 bytes a
//! histogram. A percentile is told as the least number of its bucket.

#![forbid(unsafe_code)]

use std::fmt;
use std::marker::PhantomData;

/// One bucket for 0 and one for each power of two.
const BUCKETS: usize = 65;

/// How often numbers of each size were recorded. The parameter is the published crate's label of
/// a time slot, of which openraft uses none.
#[derive(Debug, PartialEq, Eq)]
pub struct Histogram<T = ()> {
    counts: [u64; BUCKETS],
    slots: PhantomData<T>,
}

impl<T> Clone for Histogram<T> {
    fn clone(&self) -> Self {
        Histogram { counts: self.counts, slots: PhantomData }
    }
}

impl<T> Default for Histogram<T> {
    fn default() -> Self {
        Histogram { counts: [0; BUCKETS], slots: PhantomData }
    }
}

impl<T> Histogram<T> {
    /// Nothing recorded.
    pub fn new() -> Self {
        Histogram::default()
    }

    /// Records a number.
    pub fn record(&mut self, number: u64) {
        self.record_n(number, 1);
    }

    /// Records a number several times.
    pub fn record_n(&mut self, number: u64, times: u64) {
        let bucket = (u64::BITS - number.leading_zeros()) as usize;
        self.counts[bucket] = self.counts[bucket].saturating_add(times);
    }

    /// How the recorded numbers are spread.
    pub fn percentile_stats(&self) -> PercentileStats {
        let samples = self.counts.iter().fold(0u64, |sum, count| sum.saturating_add(*count));
        let at = |permille| self.at(samples, permille);
        PercentileStats {
            samples,
            p0_1: at(1),
            p1: at(10),
            p5: at(50),
            p10: at(100),
            p50: at(500),
            p90: at(900),
            p99: at(990),
            p99_9: at(999),
        }
    }

    /// The least number of the bucket that so many thousandths of the samples do not exceed.
    fn at(&self, samples: u64, permille: u64) -> u64 {
        let rank = (u128::from(samples) * u128::from(permille)).div_ceil(1_000);
        let mut below = 0u128;
        for (bucket, count) in self.counts.iter().enumerate() {
            below += u128::from(*count);
            if below >= rank && below > 0 {
                return bucket.checked_sub(1).map_or(0, |power| 1 << power);
            }
        }
        0
    }
}

/// How recorded numbers are spread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct PercentileStats {
    pub samples: u64,
    pub p0_1: u64,
    pub p1: u64,
    pub p5: u64,
    pub p10: u64,
    pub p50: u64,
    pub p90: u64,
    pub p99: u64,
    pub p99_9: u64,
}

impl fmt::Display for PercentileStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "samples: {}, p0.1: {}, p1: {}, p5: {}, p10: {}, p50: {}, p90: {}, p99: {}, p99.9: {}",
            self.samples,
            self.p0_1,
            self.p1,
            self.p5,
            self.p10,
            self.p50,
            self.p90,
            self.p99,
            self.p99_9
        )
    }
}

/// Several histograms for the eye: a line each.
#[derive(Clone, Debug, Default)]
pub struct AsciiChart {
    series: Vec<(String, Histogram)>,
}

impl AsciiChart {
    /// An empty chart.
    pub fn new() -> Self {
        AsciiChart::default()
    }

    /// Adds a histogram under a name.
    #[allow(clippy::should_implement_trait)]
    pub fn add(mut self, name: impl Into<String>, histogram: Histogram) -> Self {
        self.series.push((name.into(), histogram));
        self
    }
}

impl fmt::Display for AsciiChart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, histogram) in &self.series {
            writeln!(f, "{name}: {}", histogram.percentile_stats())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_within_a_power_of_two() {
        let mut histogram = Histogram::<()>::new();
        assert_eq!(histogram.percentile_stats(), PercentileStats::default());
        for number in 0..1_000 {
            histogram.record(number);
        }
        histogram.record_n(u64::MAX, 1);
        let stats = histogram.percentile_stats();
        assert_eq!((stats.samples, stats.p0_1, stats.p1), (1_001, 1, 8));
        assert_eq!((stats.p50, stats.p90, stats.p99_9), (256, 512, 512));
    }
}
