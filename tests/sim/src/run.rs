//! One run: faults for a time, then none, then the verdict.
//!
//! - While faults come, clients work on every node.
//! - Then all is healed, and within [`PROGRESS_MS_MAX`] clients on every node must have been
//!   answered again, reads and writes; and once they are told to stop, every call ends within
//!   [`ANSWER_MS_MAX`].
//! - Then the history must be linearizable, every replica must come to hold the same, and the
//!   counter must have been put as often as clients were told.
//! - Throughout, no replica may fail and nothing may panic.

use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::cluster::Cluster;
use crate::dice::Dice;
use crate::faults::Faults;
use crate::linear;
use crate::network::HostId;
use crate::node::Settings;
use crate::trace::Trace;
use crate::workload;

/// How long a new cluster is left in peace.
const PEACE_MS: u64 = 2_000;
/// How soon after the last fault every node's clients are answered again: broken links and the
/// breakers of clients take their time.
const PROGRESS_MS_MAX: u64 = 20_000;
/// How soon every call ends: the deadline of a call, and some.
const ANSWER_MS_MAX: u64 = 8_000;
/// How soon all replicas hold the same once nothing is written.
const EQUAL_MS_MAX: u64 = 5_000;

const PURPOSE_FAULTS: u64 = 4 << 32;

/// What a run came to.
pub(crate) struct Verdict {
    pub(crate) seed: u64,
    /// Of everything that happened.
    pub(crate) digest: String,
    pub(crate) calls: usize,
    pub(crate) simulated_ms: u64,
    pub(crate) failure: Option<String>,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Verdict { seed, digest, calls, simulated_ms, failure } = self;
        let seconds = simulated_ms / 1_000;
        write!(f, "seed {seed}: {calls} calls in {seconds} s, trace {digest}")?;
        match failure {
            Some(why) => write!(f, ", FAILED: {why}"),
            None => f.write_str(", all well"),
        }
    }
}

/// The first panic: none may happen, whoever catches it.
static PANIC: Mutex<Option<String>> = Mutex::new(None);

fn panicked() -> MutexGuard<'static, Option<String>> {
    PANIC.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs a seed.
pub(crate) fn run(seed: u64, settings: Settings, prints: bool) -> Verdict {
    std::panic::set_hook(Box::new(|info| {
        panicked().get_or_insert_with(|| info.to_string());
    }));
    let trace = Trace::new(prints);
    let faults_ms = settings.faults_ms;
    let faults = Faults::new(Dice::of(seed, PURPOSE_FAULTS), settings.hosts().collect(), PEACE_MS);
    let cluster = Cluster::new(seed, trace.clone(), settings);
    let mut run = Run { cluster, faults, leader: None };
    let judged =
        run.suffer(PEACE_MS + faults_ms).and_then(|()| run.recover()).and_then(|()| run.judge());
    let failure = judged.err();
    if let Some(why) = &failure {
        trace.note("violation", format_args!("{why}"));
    }
    Verdict {
        seed,
        digest: trace.digest(),
        calls: run.cluster.workload.history.calls().len(),
        simulated_ms: run.cluster.now_ms(),
        failure,
    }
}

struct Run {
    cluster: Cluster,
    faults: Faults,
    leader: Option<HostId>,
}

type Judged = Result<(), String>;

impl Run {
    /// Lets a millisecond pass; an error if something happened that must not.
    fn step(&mut self) -> Judged {
        self.cluster.step();
        self.look_at_leaders();
        let panic = panicked().take();
        panic.or_else(|| self.cluster.workload.failure()).map_or(Ok(()), Err)
    }

    /// Notes who leads: of those that believe to, the one of the latest term.
    fn look_at_leaders(&mut self) {
        let leader = self.cluster.leaders().max().map(|(_term, host)| host);
        if leader != self.leader {
            self.leader = leader;
            let trace = &self.cluster.trace;
            match leader {
                Some(host) => trace.note(format_args!("node {host}"), format_args!("leads")),
                None => trace.note("group", format_args!("has no leader")),
            }
        }
    }

    fn suffer(&mut self, until_ms: u64) -> Judged {
        while self.cluster.now_ms() < until_ms {
            if let Some(fault) = self.faults.next(self.cluster.now_ms(), self.leader) {
                self.cluster.fault(fault);
            }
            self.step()?;
        }
        Ok(())
    }

    /// Steps until a condition holds.
    fn until(
        &mut self,
        what: &str,
        within_ms: u64,
        holds: impl Fn(&mut Cluster) -> bool,
    ) -> Judged {
        let end_ms = self.cluster.now_ms() + within_ms;
        while !holds(&mut self.cluster) {
            if self.cluster.now_ms() >= end_ms {
                return Err(format!("within {within_ms} ms without faults, {what}"));
            }
            self.step()?;
        }
        Ok(())
    }

    fn recover(&mut self) -> Judged {
        self.cluster.heal();
        self.cluster.workload.begin_answers();
        for host in self.cluster.hosts() {
            let what = format!("no client of node {host} was answered a read and a write");
            self.until(&what, PROGRESS_MS_MAX, |cluster| {
                let [reads, writes] = cluster.workload.answered(host);
                reads > 0 && writes > 0
            })?;
        }
        self.cluster.workload.finish();
        let what = "some clients got no answer at all";
        self.until(what, ANSWER_MS_MAX, |cluster| cluster.workload.clients() == 0)
    }

    fn judge(&mut self) -> Judged {
        // What clients were told comes first: it is what counts.
        linear::check(&self.cluster.workload.history.calls()).map_err(|found| found.to_string())?;
        self.until("replicas did not come to hold the same", EQUAL_MS_MAX, |cluster| {
            cluster.contents().is_some()
        })?;
        let (_, records) = self.cluster.contents().unwrap_or_default();
        let counted = workload::counter(&records);
        let (least, most) = self.cluster.workload.counted();
        if !(least..=most).contains(&counted) {
            return Err(format!(
                "the counter was put {counted} times; clients were told of {least}, at most {most}"
            ));
        }
        Ok(())
    }
}
