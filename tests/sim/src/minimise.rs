//! A failure made smaller: fewer clients, less time, and of all that goes wrong and all that
//! operators do only what it takes. A run is smaller if it fails in the same way, whatever else
//! happens in it: it is what a person wants to look at.

use std::io;
use std::thread;
use std::time::{Duration, Instant};

use aspen_sim::shrink::{Numbers, smallest};

use crate::run::Settings;
use crate::swarm::{cores, process};

/// How many runs it may take, and how long: what is found by then is what is shown.
const RUNS_MAX: usize = 150;
const TIME_MAX: Duration = Duration::from_secs(15 * 60);
/// How many clients are tried; each node has one at least.
const CLIENTS: [u64; 3] = [1, 6, 12];

/// Something that may be left out of a run.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Fault(u64),
    Act(u64),
}

/// Looks for a smaller run of a seed that fails as this one did. Answers how it is set.
pub(crate) fn smaller(seed: u64, settings: Settings, verdict: &str) -> io::Result<Settings> {
    let mut search = Search {
        seed,
        kind: kind(verdict),
        began: Instant::now(),
        runs: 0,
        found: (settings.clone(), verdict.to_owned()),
    };
    if search.first_failing(vec![settings])?.is_none() {
        println!("a second run of it is well: it is shown as it was");
        return Ok(search.found.0);
    }
    search.fewer_clients()?;
    search.less_time()?;
    search.fewer_parts()?;
    search.less_time()?;
    let (settings, verdict) = search.found;
    let left = |noun, skip| numbers(&verdict, noun, skip).count();
    let (faults, acts) = (left("faults", &settings.skip), left("acts", &settings.skip_acts));
    println!("the smallest in {} runs has {faults} faults and {acts} acts:", search.runs);
    println!("{verdict}");
    Ok(settings)
}

struct Search {
    seed: u64,
    kind: String,
    began: Instant,
    runs: usize,
    /// The smallest so far, and its verdict.
    found: (Settings, String),
}

impl Search {
    fn fewer_clients(&mut self) -> io::Result<()> {
        let settings = &self.found.0;
        let fewer = CLIENTS.into_iter().filter(|clients| *clients < settings.clients);
        let tries = fewer.map(|clients| Settings { clients, ..settings.clone() }).collect();
        self.first_failing(tries).map(drop)
    }

    fn less_time(&mut self) -> io::Result<()> {
        loop {
            let settings = &self.found.0;
            let longest = settings.seconds;
            let mut less =
                vec![longest / 4, longest / 2, longest * 3 / 4, longest.saturating_sub(1)];
            less.dedup();
            less.retain(|seconds| *seconds < longest);
            let tries = less.into_iter().map(|seconds| Settings { seconds, ..settings.clone() });
            let tries = tries.collect();
            if self.first_failing(tries)?.is_none() {
                return Ok(());
            }
        }
    }

    fn fewer_parts(&mut self) -> io::Result<()> {
        let (settings, verdict) = self.found.clone();
        let faults = numbers(&verdict, "faults", &settings.skip).map(Part::Fault);
        let acts = numbers(&verdict, "acts", &settings.skip_acts).map(Part::Act);
        let parts = faults.chain(acts).collect();
        let none = Numbers::default();
        let without = |noun, part: fn(u64) -> Part, kept: &[Part]| {
            numbers(&verdict, noun, &none).filter(|number| !kept.contains(&part(*number))).collect()
        };
        let with = |kept: &Vec<Part>| {
            let skip = without("faults", Part::Fault, kept);
            let skip_acts = without("acts", Part::Act, kept);
            Settings { skip, skip_acts, ..settings.clone() }
        };
        smallest(parts, |lists| self.first_failing(lists.iter().map(with).collect())).map(drop)
    }

    /// The first of these that fails in the same way, which is then the smallest so far.
    fn first_failing(&mut self, tries: Vec<Settings>) -> io::Result<Option<usize>> {
        let mut first = 0;
        for some in tries.chunks(cores()) {
            if self.runs >= RUNS_MAX || self.began.elapsed() >= TIME_MAX {
                return Ok(None);
            }
            self.runs += some.len();
            let seed = self.seed;
            let verdicts: Vec<io::Result<Result<String, String>>> = thread::scope(|scope| {
                let runs: Vec<_> =
                    some.iter().map(|one| scope.spawn(move || process(seed, one))).collect();
                let ended = runs.into_iter().map(|run| run.join().expect("it does not panic"));
                ended.collect()
            });
            for (nth, verdict) in verdicts.into_iter().enumerate() {
                if let Err(verdict) = verdict?
                    && kind(&verdict) == self.kind
                {
                    self.found = (some[nth].clone(), verdict);
                    return Ok(Some(first + nth));
                }
            }
            first += some.len();
        }
        Ok(None)
    }
}

/// What is wrong, in those words of its first line that are no names or numbers: the same for
/// failures that differ in whom they hit.
fn kind(verdict: &str) -> String {
    let what = verdict.split_once("FAILED: ").map_or(verdict, |(_, what)| what);
    let is_word = |word: &&str| word.chars().all(|c| c.is_alphabetic() || "'’.,:;-".contains(c));
    let first = what.lines().next().unwrap_or_default();
    first.split_whitespace().filter(is_word).collect::<Vec<_>>().join(" ")
}

/// The numbers of what a verdict says that there was, without these.
fn numbers<'a>(verdict: &str, noun: &str, without: &'a Numbers) -> impl Iterator<Item = u64> + 'a {
    let words: Vec<&str> = verdict.split([' ', ',']).filter(|word| !word.is_empty()).collect();
    let count = words.windows(2).find(|pair| pair[1] == noun).and_then(|pair| pair[0].parse().ok());
    (1..=count.unwrap_or(0)).filter(|number| !without.contains(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERDICT: &str = "seed 72: 1234 calls, 33 faults, 3 acts of operators in 140 s, trace 00, \
                           FAILED: group 3, led by host 2: {NodeId(1)} vote, where {} are to\n  more";

    #[test]
    fn failures_are_of_one_kind_whomever_they_hit() {
        assert_eq!(kind(VERDICT), "group led by host vote, where are to");
        let elsewhere = VERDICT.replace("host 2", "host 4").replace("(1)", "(3)");
        assert_eq!(kind(&elsewhere), kind(VERDICT));
        assert_ne!(kind("FAILED: bank: the sum is 7"), kind("FAILED: sets: 7 is gone"));
    }

    #[test]
    fn what_may_be_left_out_is_known_from_the_verdict() {
        let without: Numbers = "2-30".parse().expect("a list");
        assert_eq!(numbers(VERDICT, "faults", &without).collect::<Vec<_>>(), [1, 31, 32, 33]);
        assert_eq!(numbers(VERDICT, "acts", &without).collect::<Vec<_>>(), [1]);
        assert_eq!(numbers("the simulation panicked", "acts", &without).count(), 0);
    }
}
