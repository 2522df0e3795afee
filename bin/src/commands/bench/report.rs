//! How a run is told: a line a second while it goes on, and at the end a table, or one JSON object.

use std::io::{self, Write};
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use super::Plan;
use super::tally::{Kind, Tally};
use crate::bar::Bar;
use crate::exit::Failure;
use crate::output::{self, counted};

/// The quantiles that are told, and their names in JSON.
const QUANTILES: [(f64, &str); 4] = [(0.5, "p50"), (0.9, "p90"), (0.99, "p99"), (0.999, "p99_9")];
/// The longest row of the histogram, in characters.
const ROW_CHARS: f64 = 40.0;
/// Where the rows of the histogram end, in every power of ten.
const STEPS: [u64; 3] = [1, 2, 5];

/// What became of a run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) plan: Plan,
    pub(super) tally: Tally,
    /// From the first operation's beginning to the last one's end.
    pub(super) elapsed: Duration,
    /// Operations that the rate asked for and that found no client free.
    pub(super) not_begun: u64,
    /// Writes that were sent, whatever became of them.
    pub(super) writes_begun: u64,
    pub(super) is_interrupted: bool,
}

/// Who is told how it goes.
#[derive(Debug)]
pub(super) enum Telling {
    /// Nobody: a program waits for the end.
    Nobody,
    /// A person at a terminal, on one line.
    Bar(Bar),
    /// A line for each second.
    Lines,
}

impl Telling {
    pub(super) fn new(json: bool) -> Self {
        match Bar::new() {
            _ if json => Telling::Nobody,
            Some(bar) => Telling::Bar(bar),
            None => Telling::Lines,
        }
    }

    /// Keys are written before the run.
    pub(super) fn filled(&mut self, done: u64, of: u64) {
        if let Telling::Bar(bar) = self {
            bar.at(done, of, format!("writing {} first", counted(of, "key")));
        }
    }

    /// What was done in the last second or so: how many, in which times, and how many failed.
    pub(super) fn goes(
        &mut self,
        elapsed: Duration,
        of: Duration,
        within: Duration,
        (done, [median, most], failed): (u64, [u64; 2], u64),
    ) {
        let errors = counted(failed, "error");
        let speed = per_second(done, within);
        let times = format!("p50 {}  p99 {}", time_text(median), time_text(most));
        let text = format!("{speed}/s  {times}  {errors}");
        let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        match self {
            Telling::Nobody => {}
            Telling::Bar(bar) => {
                bar.at(ms(elapsed), ms(of), format!("{} s  {text}", elapsed.as_secs()));
            }
            // That nobody reads it does not end the run.
            Telling::Lines => {
                let line = format!("{:>4} s  {text}\n", elapsed.as_secs());
                let _ = io::stderr().lock().write_all(line.as_bytes());
            }
        }
    }

    /// The line that changes is over.
    pub(super) fn end(&mut self) {
        *self = Telling::Nobody;
    }
}

impl Report {
    /// How the command ends.
    pub(super) fn verdict(&self) -> Result<(), Failure> {
        self.tally.verdict()
    }

    /// Prints all of it.
    pub(super) fn tell(&self, json: bool) -> Result<(), Failure> {
        let all = self.tally.all()?;
        if json {
            return output::json_line(&self.object(&all));
        }
        let mut text = vec![self.heading(), output::table(&self.rows(&all))];
        let errors = self.errors();
        if errors.len() > 1 {
            text.push(output::table(&errors));
        }
        if self.not_begun > 0 {
            text.push(format!(
                "{} of the rate never began, since all clients were waiting for answers: the store \
                 is slower than the rate, or --clients too few",
                counted(self.not_begun, "operation")
            ));
        }
        if !all.is_empty() {
            text.push(histogram(&all));
        }
        output::line(&text.join("\n\n"))
    }

    fn heading(&self) -> String {
        let Plan { clients, rate, reads, keys, value_bytes, .. } = &self.plan;
        let rate = rate.map_or_else(String::new, |rate| format!(" at {rate}/s"));
        let ended = if self.is_interrupted { ", interrupted" } else { "" };
        format!(
            "{}{rate}, {reads} % reads, {} of {} for {:.1} s{ended}",
            counted(u64::from(*clients), "client"),
            counted(*keys, "key"),
            counted(*value_bytes as u64, "byte"),
            self.elapsed.as_secs_f64(),
        )
    }

    fn rows(&self, all: &Histogram<u64>) -> Vec<Vec<String>> {
        let heading = ["", "DONE", "PER S", "FAILED", "P50", "P90", "P99", "P99.9", "MAX"];
        let Tally { puts, gets, .. } = &self.tally;
        let failed = puts.failed() + gets.failed();
        let of = |name: &str, took: &Histogram<u64>, failed: u64| {
            let mut row = vec![
                name.to_owned(),
                took.len().to_string(),
                per_second(took.len(), self.elapsed),
                failed.to_string(),
            ];
            let times = QUANTILES.map(|(quantile, _)| took.value_at_quantile(quantile));
            row.extend(times.into_iter().chain([took.max()]).map(|us| match took.is_empty() {
                true => "-".to_owned(),
                false => time_text(us),
            }));
            row
        };
        vec![
            heading.map(str::to_owned).to_vec(),
            of("puts", &puts.took, puts.failed()),
            of("gets", &gets.took, gets.failed()),
            of("all", all, failed),
        ]
    }

    /// Why operations failed; under a heading that is there without any.
    fn errors(&self) -> Vec<Vec<String>> {
        let mut rows = vec![["", "ERROR", "COUNT", ""].map(str::to_owned).to_vec()];
        for (name, kind) in [("puts", &self.tally.puts), ("gets", &self.tally.gets)] {
            rows.extend(kind.errors.iter().map(|(error, count)| {
                vec![name.to_owned(), error.clone(), count.to_string(), String::new()]
            }));
        }
        if self.tally.puts.unknown > 0
            && let Some(row) = rows.get_mut(1)
            && let Some(last) = row.last_mut()
        {
            let unknown = counted(self.tally.puts.unknown, "write");
            *last = format!("{unknown} may or may not have been done");
        }
        rows
    }

    fn object(&self, all: &Histogram<u64>) -> Value {
        let Plan { clients, rate, reads, keys, value_bytes, prefix, keeps, .. } = &self.plan;
        let Tally { puts, gets, .. } = &self.tally;
        let rows: Vec<_> = rows_of(all)
            .into_iter()
            .map(|(to, count)| json!({ "to_ms": ms(to), "count": count }))
            .collect();
        json!({
            "seconds": self.elapsed.as_secs_f64(), "interrupted": self.is_interrupted,
            "clients": clients, "rate": rate, "reads_percent": reads,
            "keys": keys, "value_bytes": value_bytes, "prefix": prefix, "kept": keeps,
            "done": all.len(), "per_second": speed(all.len(), self.elapsed),
            "failed": puts.failed() + gets.failed(), "not_begun": self.not_begun,
            "puts": self.of_kind(puts), "gets": self.of_kind(gets),
            "latency_ms": latency(all), "histogram": rows,
        })
    }

    fn of_kind(&self, kind: &Kind) -> Value {
        json!({
            "done": kind.done(), "per_second": speed(kind.done(), self.elapsed),
            "failed": kind.failed(), "unknown": kind.unknown, "errors": kind.errors,
            "latency_ms": latency(&kind.took),
        })
    }
}

fn ms(us: u64) -> f64 {
    us as f64 / 1_000.0
}

/// Null where nothing was done.
fn latency(took: &Histogram<u64>) -> Value {
    if took.is_empty() {
        return Value::Null;
    }
    let times = QUANTILES
        .map(|(quantile, name)| (name.to_owned(), json!(ms(took.value_at_quantile(quantile)))));
    let ends = [("mean", took.mean() / 1_000.0), ("max", ms(took.max()))]
        .map(|(name, value)| (name.to_owned(), json!(value)));
    Value::Object(times.into_iter().chain(ends).collect())
}

fn speed(count: u64, within: Duration) -> f64 {
    let seconds = within.as_secs_f64();
    if seconds > 0.0 { (count as f64 / seconds * 10.0).round() / 10.0 } else { 0.0 }
}

fn per_second(count: u64, within: Duration) -> String {
    format!("{:.0}", speed(count, within))
}

/// `850 µs`, `1.23 ms`, `12.3 ms`, `1.23 s`: three digits.
fn time_text(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..10_000 => format!("{:.2} ms", ms(us)),
        10_000..100_000 => format!("{:.1} ms", ms(us)),
        100_000..1_000_000 => format!("{:.0} ms", ms(us)),
        _ => format!("{:.2} s", ms(us) / 1_000.0),
    }
}

/// How many took up to 1, 2, 5, 10, … microseconds, and more than the time before: from the first row
/// to the last that have any.
fn rows_of(took: &Histogram<u64>) -> Vec<(u64, u64)> {
    let (mut rows, mut power) = (Vec::new(), 1_u64);
    let mut values = took.iter_recorded().peekable();
    while values.peek().is_some() {
        for step in STEPS {
            let (to, mut count) = (power * step, 0);
            while let Some(value) = values.next_if(|value| value.value_iterated_to() <= to) {
                count += value.count_at_value();
            }
            if count > 0 || (!rows.is_empty() && values.peek().is_some()) {
                rows.push((to, count));
            }
        }
        power *= 10;
    }
    rows
}

/// A row for each step, as long as it has a share in the longest.
fn histogram(took: &Histogram<u64>) -> String {
    let rows = rows_of(took);
    let most = rows.iter().map(|&(_, count)| count).max().unwrap_or(1).max(1) as f64;
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(to, count)| {
            let share = 100.0 * count as f64 / took.len().max(1) as f64;
            let chars = (ROW_CHARS * count as f64 / most).ceil() as usize;
            vec![format!("to {}", round_text(to)), format!("{share:>5.1} %"), "#".repeat(chars)]
        })
        .collect();
    output::table(&rows)
}

/// A round number of microseconds.
fn round_text(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{} ms", us / 1_000),
        _ => format!("{} s", us / 1_000_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn took(times: &[u64]) -> Histogram<u64> {
        let mut took = Histogram::new(3).expect("digits");
        times.iter().for_each(|&us| took.record(us).expect("it grows"));
        took
    }

    #[test]
    fn rows_begin_and_end_where_there_is_something() {
        assert_eq!(rows_of(&took(&[])), []);
        assert_eq!(rows_of(&took(&[1])), [(1, 1)]);
        let rows = rows_of(&took(&[120, 130, 400, 4_000]));
        let shown = [(200, 2), (500, 1), (1_000, 0), (2_000, 0), (5_000, 1)];
        assert_eq!(rows, shown);
        let text = histogram(&took(&[120, 130, 400, 4_000]));
        assert!(text.starts_with("to 200 µs   50.0 %  ####"), "{text}");
        assert_eq!(text.lines().count(), 5);
    }

    #[test]
    fn times_have_three_digits() {
        let texts = [7, 850, 1_234, 12_345, 123_456, 1_234_567].map(time_text);
        assert_eq!(texts, ["7 µs", "850 µs", "1.23 ms", "12.3 ms", "123 ms", "1.23 s"]);
    }
}
