//! Programs that read and write while a cluster changes.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use aspen::{Client, KvClient};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::support::{Node, until};

/// Programs that each count keys of their own up and read them back, by a ticket, while the cluster
/// changes. No operation may fail within its deadline of 5 s, and every read must see what was
/// acknowledged before it began and nothing that was not written yet: with one writer a key that is
/// what linearizable means.
pub(crate) struct Load {
    runtime: Runtime,
    client: Client,
    stop: Arc<AtomicBool>,
    counters: Vec<Arc<Counter>>,
    tasks: Vec<JoinHandle<u64>>,
    /// What went wrong first.
    failed: Arc<OnceLock<String>>,
}

/// A key with what was begun to be written to it, and what was acknowledged.
struct Counter {
    key: String,
    begun: AtomicU64,
    acknowledged: AtomicU64,
}

impl Load {
    const COUNTERS: usize = 24;

    pub(crate) fn begin(node: &Node) -> Self {
        let ticket = node.printed(&["ticket", "create", "--client"]);
        let ticket = ticket.trim().parse().expect("a ticket");
        let runtime = Runtime::new().expect("a runtime");
        let client = runtime.block_on(Client::connect(&ticket)).expect("a client");
        let stop = Arc::new(AtomicBool::new(false));
        let counters: Vec<Arc<Counter>> = (0..Load::COUNTERS)
            .map(|number| {
                let (begun, acknowledged) = (AtomicU64::new(0), AtomicU64::new(0));
                Arc::new(Counter { key: format!("counter/{number}"), begun, acknowledged })
            })
            .collect();
        let failed = Arc::new(OnceLock::new());
        let tasks = counters
            .iter()
            .flat_map(|counter| {
                let write = write(client.kv(), counter.clone(), stop.clone());
                let read = read(client.kv(), counter.clone(), stop.clone());
                [runtime.spawn(noting(write, &failed)), runtime.spawn(noting(read, &failed))]
            })
            .collect();
        Load { runtime, client, stop, counters, tasks, failed }
    }

    /// Waits until each key was written some more.
    #[track_caller]
    pub(crate) fn goes_on(&self) {
        let before: Vec<u64> = self.counts();
        let moved = || self.counts().iter().zip(&before).all(|(now, before)| now > before);
        let in_time = until(|| moved() || self.failed.get().is_some());
        assert_eq!(self.failed.get(), None);
        assert!(in_time, "writes stand still: {before:?}, {:?}", self.counts());
    }

    fn counts(&self) -> Vec<u64> {
        self.counters.iter().map(|counter| counter.acknowledged.load(Ordering::SeqCst)).collect()
    }

    /// Ends it where it is, and says of each key what was acknowledged and what was begun.
    pub(super) fn cut_off(self) -> Vec<(String, RangeInclusive<u64>)> {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.iter().for_each(JoinHandle::abort);
        for task in self.tasks {
            // It was cut off, or came to its end before.
            let _ = self.runtime.block_on(task);
        }
        let written = self.counters.iter().map(|counter| {
            let acknowledged = counter.acknowledged.load(Ordering::SeqCst);
            (counter.key.clone(), acknowledged..=counter.begun.load(Ordering::SeqCst))
        });
        written.collect()
    }

    /// Ends it: all went well, and every node has what was written last.
    #[track_caller]
    pub(crate) fn end<'a>(self, nodes: impl Iterator<Item = &'a Node>) {
        self.stop.store(true, Ordering::SeqCst);
        let mut done = 0;
        for task in self.tasks {
            done += self.runtime.block_on(task).expect("no panic");
        }
        assert_eq!(self.failed.get(), None);
        assert!(done > 0);
        for node in nodes {
            for counter in &self.counters {
                let count = counter.acknowledged.load(Ordering::SeqCst).to_string();
                assert_eq!(node.printed(&["get", &counter.key]), count, "{}", counter.key);
            }
        }
        self.runtime.block_on(self.client.close());
    }
}

fn noting(
    work: impl Future<Output = Result<u64, String>> + Send + 'static,
    failed: &Arc<OnceLock<String>>,
) -> impl Future<Output = u64> + Send + 'static {
    let failed = failed.clone();
    async move {
        work.await.unwrap_or_else(|error| {
            // The first is told.
            let _ = failed.set(error);
            0
        })
    }
}

async fn write(kv: KvClient, counter: Arc<Counter>, stop: Arc<AtomicBool>) -> Result<u64, String> {
    let mut count = 0;
    while !stop.load(Ordering::SeqCst) {
        count += 1;
        counter.begun.store(count, Ordering::SeqCst);
        let put = kv.put(counter.key.as_str(), count.to_string()).await;
        put.map_err(|error| format!("put {}: {error}", counter.key))?;
        counter.acknowledged.store(count, Ordering::SeqCst);
    }
    Ok(count)
}

async fn read(kv: KvClient, counter: Arc<Counter>, stop: Arc<AtomicBool>) -> Result<u64, String> {
    let mut reads = 0;
    while !stop.load(Ordering::SeqCst) {
        let least = counter.acknowledged.load(Ordering::SeqCst);
        let got = kv.get(counter.key.as_str()).await;
        let got = got.map_err(|error| format!("get {}: {error}", counter.key))?;
        let most = counter.begun.load(Ordering::SeqCst);
        let count = got.map_or(0, |record| {
            let text = std::str::from_utf8(record.value.as_bytes()).expect("digits");
            text.parse().expect("a number")
        });
        if !(least..=most).contains(&count) {
            return Err(format!("{} read as {count}, of {least} to {most}", counter.key));
        }
        reads += 1;
    }
    Ok(reads)
}
