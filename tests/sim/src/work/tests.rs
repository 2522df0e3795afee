//! Each workload against a store that does as it should, against ones that each do one thing wrong,
//! and against a real node on many threads.

use std::fmt;
use std::time::Duration;

use aspen::{KvServiceBuilder, Reach, StorageBackend};
use tokio::runtime::Builder;
use tokio::time::sleep;

use super::store::{Store, Wrong};
use super::{Alive, Client, Kind, Scribe, Stage, Workload, Works};
use crate::check::Violation;
use crate::dice::Dice;

struct Silent;

impl Scribe for Silent {
    fn note(&self, _who: fmt::Arguments<'_>, _what: fmt::Arguments<'_>) {}
}

const PACE: Duration = Duration::from_millis(50);
const CLIENTS: u64 = 5;
/// How long clients work, by a clock that does not wait.
const WORK: Duration = Duration::from_secs(20);

/// Lets clients of one kind work on a store; answers what is said of it.
fn judged(kind: Kind, wrong: Wrong, seed: u64) -> Result<usize, Violation> {
    let runtime = Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime without sockets").block_on(async {
        let stage = Stage::new(Silent, PACE);
        let store = Store::new(Dice::of(seed, 1), wrong);
        let workload = Workload::new(kind, &stage, "w");
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let kv = store.client(seed + number);
                let dice = Dice::of(seed, 2 + number);
                workload.spawn(Client::new(&stage, 0, Alive::begin(), kv, dice))
            })
            .collect();
        sleep(WORK / 2).await;
        stage.calm();
        sleep(WORK / 2).await;
        stage.finish();
        for client in clients {
            client.await.expect("a client does not panic");
        }
        assert_eq!(stage.clients(), 0);
        workload.judge()?;
        match stage.failure() {
            Some(why) => Err(Violation::new(why, [] as [String; 0])),
            None => Ok(workload.calls()),
        }
    })
}

#[test]
fn a_store_that_does_as_it_should_is_accepted() {
    for kind in Kind::ALL {
        for seed in 0..5 {
            let calls = judged(kind, Wrong::Nothing, seed);
            let calls = calls.unwrap_or_else(|found| panic!("{kind}, seed {seed}: {found}"));
            assert!(calls > 50, "{kind} made {calls} calls only");
        }
    }
}

#[test]
fn what_a_store_does_wrong_is_found_by_each_workload_that_can_see_it() {
    use Kind::*;
    let wrongs: [(Wrong, &[Kind]); 9] = [
        (Wrong::ReadsOld, &[Registers, Sets, Counters]),
        (Wrong::LosesWrites, &[Registers, Appends, Sets, Watches, Counters]),
        (Wrong::RepeatsWrites, &[Watches, Counters]),
        (Wrong::ForgetsConditions, &[Registers, Appends, Bank, Locks]),
        (Wrong::TearsTransactions, &[Appends, Bank, Watches]),
        (Wrong::SkipsEvents, &[Watches]),
        (Wrong::RepeatsEvents, &[Watches]),
        (Wrong::EndsLeasesEarly, &[Leases]),
        (Wrong::EndsNoLease, &[Leases]),
    ];
    for (wrong, kinds) in wrongs {
        for kind in kinds {
            let is_found = (0..20).any(|seed| judged(*kind, wrong, seed).is_err());
            assert!(is_found, "{kind} do not see that a store {wrong:?}");
        }
    }
}

/// The same clients on the wall's clock, in a cluster of one whose keyspace has several shards.
#[test]
fn a_real_node_on_many_threads_is_accepted() {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let service = KvServiceBuilder::new(1, "sim")
            .with_storage(StorageBackend::Memory)
            .with_reach(Reach::Loopback)
            .with_shards(4)
            .start()
            .await
            .expect("a node in memory");
        let stage = Stage::new(Silent, PACE);
        let works = Works::new(&stage, "w/", Dice::of(1, 1));
        let clients: Vec<_> = (0..3 * Kind::ALL.len() as u64)
            .map(|number| {
                let dice = Dice::of(1, 2 + number);
                let client = Client::new(&stage, 0, Alive::begin(), service.client(), dice);
                works.next().spawn(client)
            })
            .collect();
        stage.calm();
        while works.calls() < 1_000 && stage.failure().is_none() {
            sleep(PACE).await;
        }
        stage.finish();
        for client in clients {
            client.await.expect("a client does not panic");
        }
        service.shutdown().await.expect("it stops");
        works.judge().unwrap_or_else(|found| panic!("{found}"));
        assert_eq!(stage.failure(), None);
    });
}
