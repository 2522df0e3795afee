//! A watch goes on at another node where one breaks: nothing is lost, nothing shown twice.

use aspen::error::Error;
use proptest::prelude::*;

use super::script::{Fate, Script};
use crate::machine::dice::Dice;

const WRITES: u64 = 60;

async fn a_watch_is_whole(seed: u64) {
    let script = Script::new(3, None);
    let kv = script.client(seed);
    let mut dice = Dice::new(seed);
    let mut breaks = Dice::new(!seed);
    script.break_watches_after(move || breaks.below(4) as usize);
    let from = kv.put("w/0", "x").await.expect("put").revision;
    let mut watch = kv.watch("w/").from(from).await.expect("watch");
    let writer = tokio::spawn({
        let kv = kv.clone();
        async move {
            for n in 1..WRITES {
                let prefix = if dice.below(3) == 0 { "other" } else { "w" };
                kv.put(format!("{prefix}/{n}"), "x").await.expect("put");
                if dice.below(4) == 0 {
                    tokio::time::sleep(std::time::Duration::from_millis(1)).await;
                }
            }
            kv.put("w/end", "x").await.expect("put").revision
        }
    });
    let mut seen = Vec::new();
    while seen.last().is_none_or(|(_, key)| key != "w/end") {
        let batch = watch.next().await.expect("it goes on");
        seen.extend(batch.events.into_iter().map(|event| (event.revision, event.key.into_bytes())));
    }
    let end = writer.await.expect("the writer");
    let page = kv.range(..).prefix("w/").await.expect("range");
    let mut expected: Vec<_> = page
        .records
        .into_iter()
        .map(|found| (found.record.mod_revision, found.key.into_bytes()))
        .collect();
    expected.sort();
    assert_eq!(seen, expected, "seed {seed}");
    assert_eq!(seen.last().map(|(revision, _)| *revision), Some(end), "seed {seed}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn every_change_is_shown_once_and_in_order(seed: u64) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        runtime.unwrap().block_on(a_watch_is_whole(seed));
    }
}

#[tokio::test(start_paused = true)]
async fn a_watch_ends_when_its_history_is_gone() {
    let script = Script::new(3, None);
    script.always(Fate::Answered);
    let kv = script.client(1);
    for n in 0..10 {
        kv.put("k", n.to_string()).await.expect("put");
    }
    kv.compact(8).await.expect("compact");
    let mut watch = kv.watch("k").from(3).await.expect("watch");
    let error = watch.next().await.expect_err("it is compacted");
    assert!(matches!(error, Error::Refused(_)), "{error}");
}
