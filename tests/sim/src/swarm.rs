//! Many seeds, one process each, on all cores. The first that fails is made smaller (`minimise`).

use std::collections::BTreeMap;
use std::io;
use std::num::NonZero;
use std::process::{Command, ExitCode, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use crate::minimise;
use crate::run::Settings;

/// How long one run may take; they take about one. What stands still in simulated time would run
/// for ever.
const RUN_MAX: Duration = Duration::from_secs(120);
/// How often a run is looked at.
const LOOK: Duration = Duration::from_millis(5);

/// How many runs go on at once.
pub(crate) fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// Which seeds, and how each is run.
pub(crate) struct Swarm {
    pub(crate) base: u64,
    pub(crate) count: u64,
    pub(crate) settings: Settings,
    /// Run each seed twice and compare the traces.
    pub(crate) twice: bool,
    /// Succeed if some seed fails, and stop there.
    pub(crate) must_fail: bool,
}

/// What became of one seed.
struct Ran {
    seed: u64,
    failure: Option<String>,
}

impl Swarm {
    /// Runs them all and reports what failed and how to see it again.
    pub(crate) fn run(self) -> io::Result<ExitCode> {
        let began = Instant::now();
        let cores = cores();
        let next = AtomicU64::new(self.base);
        let end = self.base + self.count;
        let (ran, results) = mpsc::sync_channel::<io::Result<Ran>>(cores);
        let failures = Mutex::new(BTreeMap::new());
        let mut count = 0;
        std::thread::scope(|scope| -> io::Result<()> {
            for _ in 0..cores {
                let (swarm, next, ran) = (&self, &next, ran.clone());
                scope.spawn(move || {
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if seed >= end || ran.send(swarm.seed(seed)).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(ran);
            for ran in results {
                let Ran { seed, failure } = ran?;
                count += 1;
                if let Some(why) = failure {
                    println!("seed {seed} FAILED: {why}");
                    failures.lock().unwrap_or_else(PoisonError::into_inner).insert(seed, why);
                    if self.must_fail {
                        next.store(end, Ordering::Relaxed);
                    }
                }
            }
            Ok(())
        })?;
        let failures = failures.into_inner().unwrap_or_else(PoisonError::into_inner);
        let seconds = began.elapsed().as_secs_f64();
        println!("{count} seeds from {}: {} failed, {seconds:.1} s", self.base, failures.len());
        if let Some((seed, why)) = failures.first_key_value() {
            let mut settings = self.settings;
            if !self.must_fail {
                settings = minimise::smaller(*seed, settings, why)?;
            }
            println!("see it again: cargo run --release -p aspen-sim -- --seed {seed} {settings}");
        }
        let is_well = failures.is_empty() != self.must_fail;
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }

    fn seed(&self, seed: u64) -> io::Result<Ran> {
        let first = process(seed, &self.settings)?;
        if self.twice && first.is_ok() {
            let second = process(seed, &self.settings)?;
            if first != second {
                let show = |run: Result<String, String>| run.unwrap_or_else(|why| why);
                let why = format!("it does not repeat: {} / {}", show(first), show(second));
                return Ok(Ran { seed, failure: Some(why) });
            }
        }
        Ok(Ran { seed, failure: first.err() })
    }
}

/// Runs a seed in a process of its own. Answers what it says; as an error if it failed.
pub(crate) fn process(seed: u64, settings: &Settings) -> io::Result<Result<String, String>> {
    let mut run = Command::new(std::env::current_exe()?)
        .args(["--seed", &seed.to_string(), "--quiet"])
        .args(settings.to_string().split(' '))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let began = Instant::now();
    while run.try_wait()?.is_none() {
        if began.elapsed() > RUN_MAX {
            run.kill()?;
            run.wait()?;
            return Ok(Err(format!("it did not end within {RUN_MAX:?}: something stands still")));
        }
        std::thread::sleep(LOOK);
    }
    // A verdict is shorter than what a pipe holds, so nothing waited for its reader.
    let Output { status, stdout, .. } = run.wait_with_output()?;
    let text = String::from_utf8_lossy(&stdout).trim().to_owned();
    Ok(if status.success() { Ok(text) } else { Err(text) })
}
