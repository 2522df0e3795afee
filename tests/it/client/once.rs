//! A write is done once and its outcome is never told wrongly, whatever becomes of its tries.

use std::sync::Arc;
use std::time::Duration;

use aspen::KvClient;
use aspen::error::Error;
use aspen::limits::CLIENT_DEADLINE;
use proptest::prelude::*;
use tokio::task::JoinSet;

use super::script::{Fate, Script};
use crate::machine::dice::Dice;

const WRITERS: u64 = 6;
const WRITES: u64 = 12;

fn paused() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap()
}

/// Anything may happen to a try, but for one in four that is answered; leaders come and go. Only
/// the node in the client's own process always says something.
fn chaos(script: &Arc<Script>, seed: u64, here: usize) {
    let mut dice = Dice::new(seed);
    script.decide(move |node, _| match dice.below(16) {
        0..=3 => Fate::Answered,
        4 => Fate::Slow(Duration::from_millis(dice.below(3_000))),
        5 => Fate::NotSent,
        6 => Fate::RequestLost,
        7 | 8 => Fate::AnswerLost,
        9 if node != here => Fate::Silence,
        10 | 11 => Fate::Late,
        12 => Fate::Redirected(Some(dice.below(3) as usize)),
        13 => Fate::Redirected(None),
        _ => Fate::Unknown,
    });
}

/// Writes a key again and again; answers how many writes were done, as far as is known.
async fn count(kv: KvClient, key: String) -> (u64, u64) {
    let (mut done, mut unknown) = (0, 0);
    for _ in 0..WRITES {
        match kv.put(&key, "x").await {
            Ok(_) => done += 1,
            Err(Error::OutcomeUnknown { .. }) => unknown += 1,
            Err(Error::Unavailable { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    (done, unknown)
}

async fn counters_end_exact(seed: u64, within: Duration) {
    let here = (seed % 3) as usize;
    let script = Script::new(3, Some(here));
    chaos(&script, seed, here);
    let kv = script.client(seed).with_deadline(within);
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let (kv, key) = (kv.clone(), format!("n/{writer}"));
        writers.spawn(async move { (key.clone(), count(kv, key).await) });
    }
    let leaders = tokio::spawn({
        let script = script.clone();
        let mut dice = Dice::new(!seed);
        async move {
            // In virtual time; when leaders change is what a seed decides.
            loop {
                tokio::time::sleep(Duration::from_millis(dice.below(2_000))).await;
                script.lead(Some(dice.below(3) as usize));
            }
        }
    });
    let counted = writers.join_all().await;
    leaders.abort();
    script.always(Fate::Answered);
    // What was held up arrives now, after the client has gone on.
    let kv = kv.with_deadline(CLIENT_DEADLINE);
    kv.put("flush", "x").await.expect("all is well again");
    for (key, (done, unknown)) in counted {
        let found = kv.get(&key).await.expect("get").map_or(0, |record| record.version);
        assert!(
            (done..=done + unknown).contains(&found),
            "seed {seed}, {key}: {done} done, {unknown} unknown, {found} found"
        );
        // With time enough nothing stays unknown.
        if within > Duration::from_secs(60) {
            assert_eq!((found, unknown), (WRITES, 0), "seed {seed}, {key}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn a_counter_of_retried_writes_ends_exact(seed: u64) {
        paused().block_on(counters_end_exact(seed, Duration::from_secs(600)));
    }

    #[test]
    fn with_little_time_an_outcome_is_unknown_and_never_wrong(seed: u64) {
        paused().block_on(counters_end_exact(seed, Duration::from_millis(700)));
    }
}
