//! `bench`: load on a store for a while, and how fast it answers.
//!
//! The keys of a run begin with the prefix and a part that no other run has, so that deleting them at
//! the end touches nobody else's. Reads find what they ask for: before a run with reads all keys are
//! written once. A run that is interrupted waits for what is under way, tells what it has, and deletes
//! its keys.
//!
//! - [`load`]: who asks what and when. [`tally`]: what became of it. [`report`]: how it is told.

mod load;
mod report;
mod tally;

use std::num::NonZeroU32;
use std::time::Duration;

use aspen::limits::DELETE_KEYS_MAX;
use aspen::seams::{Random, raise_open_files_max};
use aspen::types::{Consistency, Key};
use bytes::Bytes;
use hyper::Method;
use serde::Deserialize;
use serde_json::json;
use tokio::time::{MissedTickBehavior, interval_at, sleep_until};

use self::load::Load;
use self::report::{Report, Telling};
use self::tally::Tally;
use crate::args::BenchArgs;
use crate::client::{Node, Request, key_path};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::signals::Signals;

/// Of how many operations a number of reads is meant.
const READS_OF: u64 = 100;
/// Digits of a key's number, so that keys are in the order of their numbers.
const KEY_DIGITS: usize = 10;
/// How often it is told how it goes.
const EVERY: Duration = Duration::from_secs(1);
/// Writes in one request when keys are written before a run: as many as a node takes.
const FILL_KEYS: u64 = 1_024;
/// About the bytes of values in such a request: some of them go through a node at a time.
const FILL_BYTES: usize = 4 * 1024 * 1024;
/// Keys that are deleted at once: a fraction of what one delete may, since nothing else is applied
/// meanwhile.
const CLEAR_KEYS: u64 = 5_000;

const _: () = assert!(CLEAR_KEYS < DELETE_KEYS_MAX as u64);

/// What a run is to be.
#[derive(Clone, Debug)]
struct Plan {
    clients: u32,
    time: Duration,
    rate: Option<NonZeroU32>,
    reads: u8,
    keys: u64,
    value_bytes: usize,
    consistency: Option<Consistency>,
    /// What all keys of this run begin with, and no others.
    prefix: String,
    /// Text that values are cut from.
    text: Bytes,
    keeps: bool,
}

impl Plan {
    fn of(args: &BenchArgs) -> Result<Self, Failure> {
        let random = Random::from_entropy();
        let prefix = format!("{}{:016x}/", args.prefix, random.next_u64());
        Key::new(format!("{prefix}{:0KEY_DIGITS$}", 0).into_bytes()).map_err(Failure::usage)?;
        // Twice as long as a value, and cut anywhere: values differ, and none is made anew.
        let mut text = vec![0; 2 * args.value_size.max(1)];
        random.fill(&mut text);
        text.iter_mut().for_each(|byte| *byte = b'a' + *byte % 26);
        Ok(Plan {
            clients: args.clients,
            time: args.time,
            rate: args.rate,
            reads: args.reads,
            keys: u64::from(args.keys),
            value_bytes: args.value_size,
            consistency: args.read.consistency,
            prefix,
            text: text.into(),
            keeps: args.keep,
        })
    }

    fn key(&self, number: u64) -> String {
        format!("{}{number:0KEY_DIGITS$}", self.prefix)
    }

    fn path(&self, number: u64) -> String {
        key_path(self.key(number).as_bytes())
    }

    fn value(&self, dice: u64) -> Bytes {
        let spare = self.text.len() - self.value_bytes;
        let from = usize::try_from(dice % spare.max(1) as u64).unwrap_or_default();
        self.text.slice(from..from + self.value_bytes)
    }
}

/// Puts load on a store and tells what became of it.
pub(crate) async fn run(node: Node, args: BenchArgs, json: bool) -> Result<(), Failure> {
    let plan = Plan::of(&args)?;
    // Each client takes one.
    raise_open_files_max();
    let mut signals = Signals::catch()
        .map_err(|error| Failure::refused(format!("signals can't be caught: {error}")))?;
    let mut telling = Telling::new(json);
    // Whoever can't be asked or may not be is told so as with any other command.
    let known = node.send(Request::read(Method::GET, &plan.path(0))).await?;
    if known.problem() != "key-not-found" {
        known.accepted()?;
    }
    let measured = tokio::select! {
        biased;
        // What was written so far is deleted all the same.
        _ = signals.next() => Ok(None),
        filled = fill(&node, &plan, &mut telling) => filled.map(Some),
    };
    let measured = match measured {
        Ok(Some(())) => measure(&node, &plan, &mut signals, &mut telling).await,
        Ok(None) => Err(Failure::new(Exit::Signal(2), "interrupted before the run began")),
        Err(failure) => Err(failure),
    };
    telling.end();
    // Without reads no more keys are there than were written.
    let touched = match &measured {
        Ok(report) if plan.reads == 0 => plan.keys.min(report.writes_begun),
        _ => plan.keys,
    };
    let told = measured.and_then(|report| {
        report.tell(json)?;
        report.verdict()
    });
    if plan.keeps {
        return told;
    }
    let cleared = tokio::select! {
        biased;
        asked = signals.next() => Err(Failure::new(Exit::Signal(asked.number()), "ended at once")),
        cleared = clear(&node, &plan, touched) => cleared,
    };
    let left = |failure: &Failure| {
        output::note(&format!(
            "keys of this run are left ({}); delete them with `aspen del --prefix {}`",
            failure.sentence(),
            plan.prefix
        ));
    };
    match (told, cleared) {
        (Ok(()), Err(failure)) => {
            left(&failure);
            Err(Failure::new(failure.exit(), "the run is done, its keys are not deleted"))
        }
        (Err(first), Err(failure)) => {
            left(&failure);
            Err(first)
        }
        (told, Ok(())) => told,
    }
}

/// Writes every key once, if there will be reads.
async fn fill(node: &Node, plan: &Plan, telling: &mut Telling) -> Result<(), Failure> {
    #[derive(Deserialize)]
    struct Written {
        failed: u64,
    }
    if plan.reads == 0 {
        return Ok(());
    }
    let at_once = (FILL_BYTES / plan.value_bytes.max(1)).max(1) as u64;
    let at_once = at_once.min(FILL_KEYS);
    let mut from = 0;
    while from < plan.keys {
        telling.filled(from, plan.keys);
        let to = plan.keys.min(from + at_once);
        let writes: Vec<_> = (from..to)
            .map(|number| {
                let value = plan.value(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
                let value = String::from_utf8_lossy(&value);
                json!({ "put": { "key": plan.key(number), "value": value } })
            })
            .collect();
        let request = Request::write(Method::POST, "/v1/kv/batch").json(&json!({ "ops": writes }));
        let Written { failed } = node.ask(request).await?.json()?;
        if failed > 0 {
            let keys = output::counted(failed, "key");
            let sentence = format!("{keys} could not be written before the run; try again");
            return Err(Failure::unreachable(sentence));
        }
        from = to;
    }
    Ok(())
}

/// The run, until its time is up or it is interrupted.
async fn measure(
    node: &Node,
    plan: &Plan,
    signals: &mut Signals,
    telling: &mut Telling,
) -> Result<Report, Failure> {
    let (load, clients) = Load::begin(plan.clone(), Tally::new()?, node);
    let end = load.began() + plan.time;
    let mut second = interval_at(load.began() + EVERY, EVERY);
    second.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut looked = load.began();
    let is_interrupted = loop {
        tokio::select! {
            biased;
            _ = signals.next() => break true,
            () = sleep_until(end) => break false,
            now = second.tick() => {
                let seen = load.tally(Tally::look);
                telling.goes(load.began().elapsed(), plan.time, now - looked, seen);
                looked = now;
            }
        }
    };
    // What is under way is waited for, so that all that was sent is counted and none is done after the
    // keys are deleted.
    let ran = load.began().elapsed().min(plan.time);
    load.stop();
    tokio::select! {
        () = clients.ended() => {}
        _ = signals.next() => clients.abort(),
    }
    let elapsed = load.began().elapsed();
    let (not_begun, writes_begun) = (load.not_begun(ran), load.writes_begun());
    let none = Tally::new()?;
    let tally = load.tally(|counted| std::mem::replace(counted, none));
    Ok(Report { plan: plan.clone(), tally, elapsed, not_begun, writes_begun, is_interrupted })
}

/// Deletes the keys of the run, some at a time.
async fn clear(node: &Node, plan: &Plan, keys: u64) -> Result<(), Failure> {
    let mut from = 0;
    while from < keys {
        let to = keys.min(from + CLEAR_KEYS);
        let request = Request::write(Method::DELETE, "/v1/kv")
            .parameter("start", plan.key(from))
            .parameter("end", plan.key(to));
        node.ask(request).await?;
        from = to;
    }
    Ok(())
}
