//! Measures what a node costs: idle, starting, with a million keys under load, and how fast it
//! writes; and what a cluster of three processes does ([`cluster`]).
//!
//! `cargo measure` builds the command as it is released, runs it as a process of its own on
//! loopback with its data in a temporary directory, and prints a table; docs/benchmarks.md holds
//! the last one. `cargo measure idle`, `start`, `load`, `writes`, `joins`, `cluster`, `groups`,
//! `idle-groups` or `failover` measures one of them. Memory and processor time are those that Linux
//! reports in `/proc`.

mod cluster;
#[path = "../../tests/it/costs.rs"]
mod costs;
#[path = "../../tests/it/http.rs"]
mod http;
#[path = "../../tests/it/running.rs"]
mod running;

use std::time::Duration;

use aspen::{KvClient, KvServiceBuilder, Reach};
use costs::{memory_mib, processor_time};
use futures_util::future::{join_all, try_join_all};
use http::{Answer, Http};
use hyper::Method;
use mimalloc::MiMalloc;
use running::Node;
use tokio::time::{Instant, sleep};

/// As the command has.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

const VALUE_BYTES: usize = 256;
/// Keys written by one transaction while loading.
const LOAD_BATCH: u64 = 500;
const LOAD_CLIENTS: u64 = 4;

const IDLE_SETTLE: Duration = Duration::from_secs(5);
const IDLE_MEASURED: Duration = Duration::from_secs(30);

const START_KEYS: u64 = 100_000;
const STARTS: usize = 5;

const BUSY_KEYS: u64 = 1_000_000;
const BUSY_CLIENTS: u64 = 8;
const BUSY_MEASURED: Duration = Duration::from_secs(30);

const WRITERS: [u64; 2] = [1, 64];
const WRITES_MEASURED: Duration = Duration::from_secs(10);
/// The keys that are written, over and over.
const WRITES_KEYS: u64 = 100_000;

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    let wanted = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        println!("| what | figure |\n|---|---|");
        if wanted("idle") {
            idle().await?;
        }
        if wanted("start") {
            start().await?;
        }
        if wanted("load") {
            load().await?;
        }
        if wanted("writes") {
            writes_over_http().await?;
        }
        Result::Ok(())
    })?;
    // From here on a node shares this process and its threads with those who write.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if wanted("writes") {
        runtime.block_on(writes_embedded())?;
    }
    if wanted("joins") {
        runtime.block_on(cluster::joins())?;
    }
    if wanted("cluster") {
        runtime.block_on(cluster::writes())?;
    }
    if wanted("groups") {
        runtime.block_on(cluster::groups())?;
    }
    if wanted("idle-groups") {
        runtime.block_on(cluster::idle_groups())?;
    }
    if wanted("failover") {
        runtime.block_on(cluster::failover())?;
    }
    Ok(())
}

/// A fresh node with nothing to do.
async fn idle() -> Result<()> {
    let data = tempfile::tempdir()?;
    let node = Node::start(data.path()).await?;
    sleep(IDLE_SETTLE).await;
    let before = processor_time(node.child.id())?;
    let began = Instant::now();
    sleep(IDLE_MEASURED).await;
    let used = processor_time(node.child.id())? - before;
    let percent = 100.0 * used.div_duration_f64(began.elapsed());
    println!("| idle, processor | {percent:.2} % of a core over {} s |", IDLE_MEASURED.as_secs());
    println!("| idle, resident | {:.1} MiB |", memory_mib(node.child.id(), "VmRSS")?);
    node.stop().await;
    Ok(())
}

/// From the start of the process to the line that says it serves.
async fn start() -> Result<()> {
    let data = tempfile::tempdir()?;
    let mut node = Node::start(data.path()).await?;
    fill(&node, START_KEYS).await?;
    for (ended, by_force) in [("an orderly end", false), ("SIGKILL", true)] {
        let mut times = Vec::new();
        for _ in 0..STARTS {
            if by_force {
                node.kill();
            } else {
                node.stop().await;
            }
            let began = Instant::now();
            node = Node::start(data.path()).await?;
            times.push(began.elapsed().as_millis());
            // So that each start has something of the one before to recover.
            fill(&node, LOAD_BATCH).await?;
        }
        times.sort_unstable();
        println!(
            "| start to serving, {START_KEYS} keys, after {ended} | median {} ms, longest {} ms |",
            times[STARTS / 2],
            times[STARTS - 1]
        );
    }
    node.stop().await;
    Ok(())
}

/// A million keys, then reads and writes of them.
async fn load() -> Result<()> {
    let data = tempfile::tempdir()?;
    let node = Node::start(data.path()).await?;
    let began = Instant::now();
    fill(&node, BUSY_KEYS).await?;
    let rate = BUSY_KEYS as f64 / began.elapsed().as_secs_f64();
    println!(
        "| {BUSY_KEYS} keys of {VALUE_BYTES} bytes in transactions of {LOAD_BATCH} | {rate:.0} /s |"
    );

    let until = Instant::now() + BUSY_MEASURED;
    let working = join_all((0..BUSY_CLIENTS).map(|client| busy(&node, client, until)));
    let watching = async {
        let mut most: f64 = 0.0;
        while Instant::now() < until {
            most = most.max(memory_mib(node.child.id(), "VmRSS")?);
            sleep(Duration::from_millis(100)).await;
        }
        Result::Ok(most)
    };
    let (done, most) = tokio::join!(working, watching);
    let done: u64 = done.into_iter().sum::<Result<u64>>()?;
    let rate = done as f64 / BUSY_MEASURED.as_secs_f64();
    println!("| half reads, half writes of them by {BUSY_CLIENTS} clients | {rate:.0} /s |");
    println!("| resident meanwhile, at most | {:.0} MiB |", most?);
    println!(
        "| resident since its start, at most | {:.0} MiB |",
        memory_mib(node.child.id(), "VmHWM")?
    );
    node.stop().await;
    Ok(())
}

/// Puts over HTTP, each client with a connection of its own.
async fn writes_over_http() -> Result<()> {
    let data = tempfile::tempdir()?;
    let node = Node::start(data.path()).await?;
    for writers in WRITERS {
        let url = &node.url;
        let until = Instant::now() + WRITES_MEASURED;
        let working = (0..writers).map(async |writer| {
            let mut http = Http::to(url);
            let mut times = Vec::new();
            for number in shuffled(writer, WRITES_KEYS) {
                let began = Instant::now();
                if began >= until {
                    break;
                }
                let path = format!("/v1/kv/{}", key(number));
                done(http.send(Method::PUT, &path, None, value(number)).await)?;
                times.push(began.elapsed());
            }
            Result::Ok(times)
        });
        say_times("puts over HTTP", writers, try_join_all(working).await?);
    }
    node.stop().await;
    Ok(())
}

/// Puts by tasks of the process that the node is in.
async fn writes_embedded() -> Result<()> {
    let data = tempfile::tempdir()?;
    let node = KvServiceBuilder::new(1, data.path()).with_reach(Reach::Loopback).start().await?;
    for writers in WRITERS {
        let times = write_as(&node.client(), writers).await?;
        say_times("puts in the node's own process", writers, times);
    }
    node.shutdown().await?;
    Ok(())
}

/// How long each write of so many writers took.
async fn write_as(kv: &KvClient, writers: u64) -> Result<Vec<Vec<Duration>>> {
    let until = Instant::now() + WRITES_MEASURED;
    let mut working = tokio::task::JoinSet::new();
    for writer in 0..writers {
        working.spawn(write_until(kv.clone(), writer, until));
    }
    let mut times = Vec::new();
    while let Some(written) = working.join_next().await {
        times.push(written??);
    }
    Ok(times)
}

async fn write_until(
    kv: KvClient,
    writer: u64,
    until: Instant,
) -> std::result::Result<Vec<Duration>, aspen::Error> {
    let mut times = Vec::new();
    for number in shuffled(writer, WRITES_KEYS) {
        let began = Instant::now();
        if began >= until {
            break;
        }
        kv.put(key(number), value(number)).await?;
        times.push(began.elapsed());
    }
    Ok(times)
}

fn say_times(what: &str, writers: u64, times: Vec<Vec<Duration>>) {
    let mut times: Vec<Duration> = times.into_iter().flatten().collect();
    times.sort_unstable();
    let rate = times.len() as f64 / WRITES_MEASURED.as_secs_f64();
    let at = |part: f64| times.get((times.len() as f64 * part) as usize).copied();
    let ms = |time: Option<Duration>| time.unwrap_or_default().as_secs_f64() * 1e3;
    println!(
        "| {what}, {writers} at a time | {rate:.0} /s, half within {:.2} ms, 99 % within {:.1} ms, \
         all within {:.0} ms |",
        ms(at(0.5)),
        ms(at(0.99)),
        ms(times.last().copied()),
    );
}

/// Numbers below a bound in an order that looks random, without end.
fn shuffled(seed: u64, below: u64) -> impl Iterator<Item = u64> {
    let next = |place: &u64| Some(place.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    std::iter::successors(Some(seed), next).skip(1).map(move |place| (place >> 33) % below)
}

fn key(number: u64) -> String {
    format!("measured/{number:011}")
}

fn value(number: u64) -> String {
    let head = format!("{number}-");
    let rest = "v".repeat(VALUE_BYTES - head.len());
    head + &rest
}

/// Writes the keys 0 to `count` in transactions.
async fn fill(node: &Node, count: u64) -> Result<()> {
    let clients = (0..LOAD_CLIENTS).map(async |client| {
        let mut http = Http::to(&node.url);
        let mut first = client * LOAD_BATCH;
        while first < count {
            let puts: Vec<_> = (first..count.min(first + LOAD_BATCH))
                .map(|n| serde_json::json!({ "put": { "key": key(n), "value": value(n) } }))
                .collect();
            let body = serde_json::json!({ "then": puts }).to_string();
            done(http.send(Method::POST, "/v1/txn", None, body).await)?;
            first += LOAD_CLIENTS * LOAD_BATCH;
        }
        Result::Ok(())
    });
    try_join_all(clients).await?;
    Ok(())
}

/// Reads and writes keys all over the range; answers how many operations were done.
async fn busy(node: &Node, client: u64, until: Instant) -> Result<u64> {
    let mut http = Http::to(&node.url);
    let mut count = 0;
    for number in shuffled(client, BUSY_KEYS) {
        if Instant::now() >= until {
            break;
        }
        let path = format!("/v1/kv/{}", key(number));
        let answer = match count % 2 {
            0 => http.send(Method::GET, &path, None, "").await,
            _ => http.send(Method::PUT, &path, None, value(count)).await,
        };
        done(answer)?;
        count += 1;
    }
    Ok(count)
}

/// An answer that says that it was done.
fn done(answer: std::result::Result<Answer, http::Broken>) -> Result<()> {
    let answer = answer.map_err(|broken| format!("no answer: {broken}"))?;
    match answer.status.is_success() {
        true => Ok(()),
        false => Err(format!("the node answered {answer}").into()),
    }
}
