//! The nodes, the network between them, and the time: what the simulator steps.
//!
//! Each node has a runtime of its own, whose clock stands still but for the millisecond that it is
//! given. So nodes take turns, in the order of their numbers, and a crash is to drop a runtime
//! with everything that runs on it. Nothing else runs in the process.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aspen::machine::ops::{AnswerBody, KeyRange, KeyRecord, Query, Range};
use aspen::seams::Random;
use aspen::types::{Consistency, Revision};
use tokio::runtime::Runtime;
use tokio::time::{Instant, sleep_until};

use crate::dice::{Dice, random_of};
use crate::disk::SimDisk;
use crate::faults::{FAIR, Fault, SYNC_MS_MAX};
use crate::network::{Fabric, HostId, Way};
use crate::node::{self, Boot, Placed};
use crate::trace::Trace;
use crate::workload::{Alive, Workload};

const PURPOSE_NETWORK: u64 = 1 << 32;
const PURPOSE_NODES: u64 = 2 << 32;
const PURPOSE_CRASHES: u64 = 3 << 32;

/// All there is.
pub(crate) struct Cluster {
    seed: u64,
    pub(crate) trace: Trace,
    pub(crate) workload: Workload,
    fabric: Fabric,
    settings: node::Settings,
    nodes: BTreeMap<HostId, Node>,
    crashes: Random,
    now_ms: u64,
    /// What ends later.
    ends: BTreeMap<(u64, u64), End>,
    last_end: u64,
    /// How many faults cut each way at the moment.
    cuts: BTreeMap<Way, u64>,
    foul: u64,
}

/// A node, up or down.
struct Node {
    disk: SimDisk,
    /// The longest that a sync takes at the moment.
    sync_ms_max: Arc<AtomicU64>,
    /// How many faults make it slow.
    slow: u64,
    starts: u64,
    placed: Placed,
    up: Option<Up>,
}

/// What runs of a node that is up.
struct Up {
    runtime: Runtime,
    began: Instant,
    began_ms: u64,
    random: Random,
    alive: Alive,
    clients: u64,
}

/// The end of a fault.
enum End {
    Down { host: HostId, for_ms: u64 },
    Cut(Vec<Way>),
    Slow(HostId),
    Foul,
}

impl Cluster {
    /// The nodes of a seed, all up.
    pub(crate) fn new(seed: u64, trace: Trace, settings: node::Settings) -> Self {
        let random = random_of(seed, PURPOSE_NETWORK);
        let mut cluster = Cluster {
            seed,
            workload: Workload::new(trace.clone()),
            fabric: Fabric::new(random, trace.clone(), FAIR),
            trace,
            settings,
            nodes: BTreeMap::new(),
            crashes: random_of(seed, PURPOSE_CRASHES),
            now_ms: 0,
            ends: BTreeMap::new(),
            last_end: 0,
            cuts: BTreeMap::new(),
            foul: 0,
        };
        for host in cluster.settings.hosts() {
            cluster.nodes.insert(host, Node::new());
            cluster.start(host);
        }
        cluster
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Lets a millisecond pass.
    pub(crate) fn step(&mut self) {
        self.trace.at(self.now_ms);
        while let Some(first) = self.ends.first_entry()
            && first.key().0 <= self.now_ms
        {
            let end = first.remove();
            self.end(end);
        }
        self.fabric.step(self.now_ms);
        for host in self.hosts() {
            self.turn(host);
        }
        self.now_ms += 1;
    }

    /// Gives a node its millisecond.
    fn turn(&mut self, host: HostId) {
        let Some(node) = self.nodes.get_mut(&host) else { return };
        let Some(up) = &node.up else { return };
        up.run_until(self.now_ms + 1);
        if !up.alive.is() {
            self.bury(host);
        }
    }

    // --- nodes ---

    fn start(&mut self, host: HostId) {
        let Some(node) = self.nodes.get_mut(&host) else { return };
        node.starts += 1;
        let purpose = PURPOSE_NODES + (u64::from(host) << 16) + node.starts;
        let random = random_of(self.seed, purpose);
        let alive = Alive::begin();
        let boot = Boot {
            host,
            settings: self.settings.clone(),
            disk: node.disk.clone(),
            sync_ms_max: node.sync_ms_max.clone(),
            random: random.clone(),
            dice: Dice::new(Random::from_seed(random.next_u64())),
            fabric: self.fabric.clone(),
            alive: alive.clone(),
            placed: node.placed.clone(),
            workload: self.workload.clone(),
        };
        self.trace.note(format_args!("node {host}"), format_args!("starts"));
        node.up = Some(Up::new(self.now_ms, alive, random, boot));
    }

    /// A node is dead from this very moment; what is left of it is taken away after its turn.
    fn kill(&mut self, host: HostId) {
        let crash = self.crash_of(host);
        crash();
        self.bury(host);
    }

    /// What happens to the world when a node loses power.
    fn crash_of(&mut self, host: HostId) -> impl FnOnce() + Send + 'static {
        let random = Random::from_seed(self.crashes.next_u64());
        let node = &self.nodes[&host];
        let (disk, fabric, trace) = (node.disk.clone(), self.fabric.clone(), self.trace.clone());
        let alive = node.up.as_ref().map(|up| up.alive.clone()).unwrap_or_default();
        move || {
            trace.note(format_args!("node {host}"), format_args!("loses power"));
            alive.end();
            fabric.unplug(host);
            disk.crash(&random);
        }
    }

    /// Takes away what is left of a dead node.
    fn bury(&mut self, host: HostId) {
        let Some(node) = self.nodes.get_mut(&host) else { return };
        node.disk.douse();
        node.placed.clear();
        if let Some(up) = node.up.take() {
            self.trace.mix(&[10, host.into(), node.disk.calls()], &[]);
            self.workload.forget_clients(up.clients);
        }
    }

    /// Who believes to lead, and in which terms.
    pub(crate) fn leaders(&self) -> impl Iterator<Item = (u64, HostId)> {
        self.nodes.iter().filter_map(|(host, node)| Some((node.placed.leads()?, *host)))
    }

    /// All nodes, by their numbers.
    pub(crate) fn hosts(&self) -> Vec<HostId> {
        self.nodes.keys().copied().collect()
    }

    /// What every replica holds, if all are there and hold the same.
    pub(crate) fn contents(&self) -> Option<Contents> {
        let mut all = self.nodes.values().map(Node::contents);
        let first = all.next()??;
        all.all(|other| other.as_ref() == Some(&first)).then_some(first)
    }

    // --- faults ---

    /// A fault begins.
    pub(crate) fn fault(&mut self, fault: Fault) {
        self.trace.note("fault", format_args!("{fault:?}"));
        match fault {
            Fault::Crash { host, after_calls, down_ms } => self.crash(host, after_calls, down_ms),
            Fault::Cut { ways, for_ms } => {
                for way in &ways {
                    self.fabric.cut(*way);
                    *self.cuts.entry(*way).or_default() += 1;
                }
                self.end_in(for_ms, End::Cut(ways));
            }
            Fault::Break { one, other } => self.fabric.break_links(one, other),
            Fault::Slow { host, sync_ms_max, for_ms } => {
                if let Some(node) = self.nodes.get_mut(&host) {
                    node.slow += 1;
                    node.sync_ms_max.store(sync_ms_max, Ordering::Relaxed);
                }
                self.end_in(for_ms, End::Slow(host));
            }
            Fault::Foul { weather, for_ms } => {
                self.foul += 1;
                self.fabric.set_weather(weather);
                self.end_in(for_ms, End::Foul);
            }
        }
    }

    fn crash(&mut self, host: HostId, after_calls: Option<u64>, down_ms: u64) {
        if self.nodes[&host].up.is_none() {
            return;
        }
        match after_calls {
            None => self.kill(host),
            Some(calls) => {
                let crash = self.crash_of(host);
                self.nodes[&host].disk.light(calls, crash);
            }
        }
        self.end_in(down_ms, End::Down { host, for_ms: down_ms });
    }

    fn end_in(&mut self, ms: u64, end: End) {
        self.last_end += 1;
        self.ends.insert((self.now_ms + ms, self.last_end), end);
    }

    fn end(&mut self, end: End) {
        match end {
            End::Down { host, for_ms } => {
                let node = &self.nodes[&host];
                if node.up.is_none() {
                    self.start(host);
                } else if node.disk.is_lit() {
                    // The node was idle, and the fuse has not burnt down: now.
                    self.kill(host);
                    self.end_in(for_ms, End::Down { host, for_ms });
                }
            }
            End::Cut(ways) => {
                for way in ways {
                    let left = self.cuts.entry(way).or_default();
                    *left -= 1;
                    if *left == 0 {
                        self.fabric.mend(way);
                    }
                }
            }
            End::Slow(host) => {
                if let Some(node) = self.nodes.get_mut(&host) {
                    node.slow -= 1;
                    if node.slow == 0 {
                        node.sync_ms_max.store(SYNC_MS_MAX, Ordering::Relaxed);
                    }
                }
            }
            End::Foul => {
                self.foul -= 1;
                if self.foul == 0 {
                    self.fabric.set_weather(FAIR);
                }
            }
        }
    }

    /// All faults end now, and all nodes come up.
    pub(crate) fn heal(&mut self) {
        self.trace.note("fault", format_args!("all end"));
        while let Some((_, end)) = self.ends.pop_first() {
            self.end(end);
        }
    }
}

/// What a replica holds: its revision and its records.
pub(crate) type Contents = (Revision, Vec<KeyRecord>);

impl Node {
    /// What its replica holds. Takes no time.
    fn contents(&self) -> Option<Contents> {
        let (up, replica) = (self.up.as_ref()?, self.placed.replica()?);
        let all = Query::Range(Range::of(KeyRange::all()));
        let answer = up.runtime.block_on(replica.query(&all, Consistency::Stale)).ok()?;
        match answer.body {
            AnswerBody::Range(page) => Some((answer.revision, page.records)),
            _ => None,
        }
    }

    fn new() -> Self {
        Node {
            disk: SimDisk::new(),
            sync_ms_max: Arc::new(SYNC_MS_MAX.into()),
            slow: 0,
            starts: 0,
            placed: Placed::default(),
            up: None,
        }
    }
}

impl Up {
    fn new(now_ms: u64, alive: Alive, random: Random, boot: Boot) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without threads or sockets needs nothing");
        let clients = boot.settings.clients;
        let began = {
            let _entered = random.enter();
            runtime.block_on(async {
                tokio::spawn(node::run(boot));
                Instant::now()
            })
        };
        Up { runtime, began, began_ms: now_ms, random, alive, clients }
    }

    /// Lets everything on the node run until a moment.
    fn run_until(&self, ms: u64) {
        let until = self.began + Duration::from_millis(ms - self.began_ms);
        let _entered = self.random.enter();
        // Made within the runtime, whose clock it goes by.
        self.runtime.block_on(async { sleep_until(until).await });
    }
}
