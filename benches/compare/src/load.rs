//! Clients: each begins its next operation when it has the answer to the last.
//!
//! A key has one client at a time, which writes numbers into it that only go up. So it is known of each
//! key which write was acknowledged last, and which was begun last: [`crate::proof`] looks for them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::Result;
use crate::dice::Dice;
use crate::processes;
use crate::targets::{Cluster, Session};

const VALUE_BYTES: usize = 256;
const FILLERS: usize = 64;
/// The longest time that is kept, in nanoseconds.
const TOOK_NS_MAX: u64 = 60_000_000_000;
const DIGITS: u8 = 3;

/// Which operations there are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mix {
    pub(crate) puts_percent: u64,
}

impl Mix {
    pub(crate) const PUTS: Mix = Mix { puts_percent: 100 };
    pub(crate) const GETS: Mix = Mix { puts_percent: 0 };
}

/// What was written into the keys of a cluster.
#[derive(Debug)]
pub(crate) struct Load {
    /// Of each key, the number that was written last: begun, and acknowledged.
    keys: Vec<(AtomicU64, AtomicU64)>,
}

impl Load {
    pub(crate) fn new(keys: u64) -> Arc<Load> {
        Arc::new(Load { keys: (0..keys).map(|_| Default::default()).collect() })
    }

    pub(crate) fn keys(&self) -> usize {
        self.keys.len()
    }

    /// The numbers that a key may hold.
    pub(crate) fn may_hold(&self, key: usize) -> std::ops::RangeInclusive<u64> {
        let (begun, acknowledged) = &self.keys[key];
        acknowledged.load(Ordering::Relaxed)..=begun.load(Ordering::Relaxed)
    }

    async fn put(&self, session: &mut Session, key: usize) -> Result<()> {
        let (begun, acknowledged) = &self.keys[key];
        let number = begun.fetch_add(1, Ordering::Relaxed) + 1;
        session.put(&name(key), value(key, number)).await?;
        acknowledged.store(number, Ordering::Relaxed);
        Ok(())
    }
}

/// A key's name, of 16 bytes.
pub(crate) fn name(key: usize) -> String {
    format!("bench/{key:010}")
}

/// A value that holds a number, and else nothing that could be compressed.
pub(crate) fn value(key: usize, number: u64) -> Bytes {
    let mut bytes = number.to_be_bytes().to_vec();
    bytes.extend(Dice(key as u64 ^ number << 32).bytes(VALUE_BYTES - bytes.len()));
    bytes.into()
}

/// What came of a turn.
#[derive(Debug)]
pub(crate) struct Figures {
    time: Duration,
    took: Histogram<u64>,
    /// Processor time of the servers.
    pub(crate) servers: Duration,
    /// Processor time of this process.
    pub(crate) clients: Duration,
}

impl Figures {
    /// Operations in a second.
    pub(crate) fn rate(&self) -> f64 {
        self.took.len() as f64 / self.time.as_secs_f64()
    }

    /// The time at a quantile.
    pub(crate) fn ms_at(&self, quantile: f64) -> f64 {
        self.took.value_at_quantile(quantile) as f64 / 1e6
    }

    /// So much time, for each operation.
    pub(crate) fn us_each(&self, time: Duration) -> f64 {
        time.as_secs_f64() * 1e6 / self.took.len() as f64
    }
}

/// Writes each key once.
pub(crate) async fn fill(cluster: &Cluster, load: &Arc<Load>) -> Result<()> {
    let mut fillers: JoinSet<Result<()>> = JoinSet::new();
    for filler in 0..FILLERS {
        let (mut session, load) = (cluster.session().await?, load.clone());
        fillers.spawn(async move {
            for key in (filler..load.keys()).step_by(FILLERS) {
                load.put(&mut session, key).await?;
            }
            Ok(())
        });
    }
    while let Some(filled) = fillers.join_next().await {
        filled??;
    }
    Ok(())
}

/// Runs so many clients, warms up and measures. An operation that fails ends it all: nothing goes wrong
/// here, so that a store that refuses work has not done it.
pub(crate) async fn run(
    cluster: &Cluster,
    load: &Arc<Load>,
    mix: Mix,
    clients: usize,
    time: Duration,
) -> Result<Figures> {
    let (measures, ends) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let mut running: JoinSet<Result<Histogram<u64>>> = JoinSet::new();
    for client in 0..clients {
        let session = cluster.session().await?;
        let work = Worker { client, clients, mix, load: load.clone(), session };
        running.spawn(work.run(measures.clone(), ends.clone()));
    }
    sleep(time / 5).await;
    let servers = cluster.processor_time()?;
    let own = processes::own_time()?;
    let began = Instant::now();
    measures.store(true, Ordering::Relaxed);
    sleep(time).await;
    measures.store(false, Ordering::Relaxed);
    let figures =
        (began.elapsed(), cluster.processor_time()? - servers, processes::own_time()? - own);
    ends.store(true, Ordering::Relaxed);
    let mut took = times()?;
    while let Some(worked) = running.join_next().await {
        took.add(worked??)?;
    }
    let (time, servers, clients) = figures;
    Ok(Figures { time, took, servers, clients })
}

fn times() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, TOOK_NS_MAX, DIGITS)?)
}

/// One client.
struct Worker {
    client: usize,
    clients: usize,
    mix: Mix,
    load: Arc<Load>,
    session: Session,
}

impl Worker {
    async fn run(
        mut self,
        measures: Arc<AtomicBool>,
        ends: Arc<AtomicBool>,
    ) -> Result<Histogram<u64>> {
        let mut took = times()?;
        let mut dice = Dice(self.client as u64 + 1);
        while !ends.load(Ordering::Relaxed) {
            let is_put = dice.below(100) < self.mix.puts_percent;
            // Those that no other client writes.
            let own = dice.index(self.load.keys() / self.clients) * self.clients + self.client;
            let any = dice.index(self.load.keys());
            let began = Instant::now();
            if is_put {
                self.load.put(&mut self.session, own).await?;
            } else {
                self.session.get(&name(any)).await?;
            }
            if measures.load(Ordering::Relaxed) {
                took.saturating_record(began.elapsed().as_nanos() as u64);
            }
        }
        Ok(took)
    }
}
