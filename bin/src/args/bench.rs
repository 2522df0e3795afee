//! The arguments of `bench`: how much load, of what kind, for how long.

use std::num::NonZeroU32;
use std::time::Duration;

use aspen::limits::VALUE_BYTES_MAX;
use clap::Args;

use super::{ReadArgs, StoreSettings};
use crate::input;

/// Most clients at once: each has a connection, and a node lets a process's worth of them in.
const CLIENTS_MAX: i64 = 4_096;
/// Most keys: their numbers have ten digits, and this many can be written and deleted again in a time
/// that somebody would wait.
const KEYS_MAX: i64 = 100_000_000;
/// The longest run.
const FOR_MAX: Duration = Duration::from_secs(24 * 3_600);
/// Most operations that are begun in a second: more than one process could send.
const RATE_MAX: i64 = 1_000_000;

/// Arguments of `bench`.
#[derive(Debug, Args)]
pub(crate) struct BenchArgs {
    /// How many clients ask at once, each on a connection of its own.
    #[arg(long, value_name = "N", default_value = "64",
          value_parser = clap::value_parser!(u32).range(1..=CLIENTS_MAX))]
    pub(crate) clients: u32,
    /// For how long.
    #[arg(long = "for", value_name = "TIME", default_value = "10s", value_parser = time)]
    pub(crate) time: Duration,
    /// Begin so many operations a second, however long they take; without it, each client begins the
    /// next as soon as it has its answer.
    #[arg(long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<NonZeroU32>,
    /// How many of a hundred operations are reads; the others are writes.
    #[arg(long, value_name = "PERCENT", default_value = "50",
          value_parser = clap::value_parser!(u8).range(0..=100))]
    pub(crate) reads: u8,
    /// How many bytes a value has.
    #[arg(long, value_name = "BYTES", default_value = "256", value_parser = size)]
    pub(crate) value_size: usize,
    /// How many keys there are.
    #[arg(long, value_name = "N", default_value = "10000",
          value_parser = clap::value_parser!(u32).range(1..=KEYS_MAX))]
    pub(crate) keys: u32,
    /// What the keys begin with; a part that only this run has follows.
    #[arg(long, value_name = "PREFIX", default_value = "aspen-bench/")]
    pub(crate) prefix: String,
    /// Leave the keys where they are; otherwise they are deleted at the end.
    #[arg(long)]
    pub(crate) keep: bool,
    #[command(flatten)]
    pub(crate) read: ReadArgs,
    #[command(flatten)]
    pub(crate) store: StoreSettings,
}

fn time(text: &str) -> Result<Duration, String> {
    let time = input::duration_argument(text)?;
    match time.is_zero() || time > FOR_MAX {
        true => Err("use a time from 1ms to 1d".to_owned()),
        false => Ok(time),
    }
}

fn rate(text: &str) -> Result<NonZeroU32, String> {
    let rate = text.parse().ok().filter(|rate: &NonZeroU32| i64::from(rate.get()) <= RATE_MAX);
    rate.ok_or_else(|| format!("use a whole number from 1 to {RATE_MAX}"))
}

/// A number of bytes, as `512`, `4KiB` or `1MiB`.
fn size(text: &str) -> Result<usize, String> {
    let (digits, unit) = match text.find(|c: char| !c.is_ascii_digit()) {
        Some(end) => text.split_at(end),
        None => (text, ""),
    };
    let shift = match unit {
        "" | "B" => Some(0),
        "KiB" => Some(10),
        "MiB" => Some(20),
        _ => None,
    };
    let bytes = digits.parse::<usize>().ok().zip(shift);
    let bytes = bytes.and_then(|(number, shift)| number.checked_mul(1 << shift));
    bytes.filter(|&bytes| bytes <= VALUE_BYTES_MAX).ok_or_else(|| {
        format!("use a number of bytes such as 512, 4KiB or 1MiB, at most {VALUE_BYTES_MAX}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_a_unit_or_are_bytes() {
        assert_eq!(size("0"), Ok(0));
        assert_eq!(size("4KiB"), Ok(4_096));
        assert_eq!(size("4MiB"), Ok(VALUE_BYTES_MAX));
        for text in ["", "KiB", "5MiB", "-1", "1.5KiB", "1kb", "99999999999999999999MiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_run_is_without_time_or_rate() {
        assert!(time("0s").is_err() && time("2d").is_err() && time("1ms").is_ok());
        assert!(rate("0").is_err() && rate("1000001").is_err() && rate("1").is_ok());
    }
}
