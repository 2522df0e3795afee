//! The nodes, the network between them, and the time: what the simulator steps.
//!
//! Each node has a runtime of its own, whose clock stands still but for the step that it is given. So
//! nodes take turns, in the order of their numbers, and a crash is to drop a runtime with everything
//! that runs on it. Nothing else runs in the process.
//!
//! How long a step is, is up to the seed: within one, nodes do not hear of each other. Longer ones are
//! a coarser network, and sooner done.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aspen::seams::Random;
use aspen::types::{GroupId, NodeId};
use aspen::{JoinTicket, KvService};
use aspen_sim::dice::{Dice, random_of};
use aspen_sim::work::{Alive, Stage, Works};
use tokio::runtime::Runtime;
use tokio::time::{Instant, advance, sleep_until};

use crate::disk::SimDisk;
use crate::faults::{FAIR, Fault, SYNC_MS_MAX};
use crate::network::{Fabric, HostId, Way};
use crate::node::{self, Boot, Ended, Entrance, Field, KEYSPACES, Placed, SimClock};
use crate::trace::Trace;

const PURPOSE_NETWORK: u64 = 1 << 32;
const PURPOSE_NODES: u64 = 2 << 32;
const PURPOSE_CRASHES: u64 = 3 << 32;
const PURPOSE_CLOCKS: u64 = 5 << 32;
const PURPOSE_WORKS: u64 = 8 << 32;
const PURPOSE_GRAIN: u64 = 10 << 32;

/// The longest that a client waits between calls.
const PACE: Duration = Duration::from_millis(250);

/// How long a step may be, in milliseconds: all divide what the simulation looks at now and then.
const GRAINS_MS: [u64; 3] = [1, 2, 5];

/// How much faster or slower than the simulation a node's clock goes at most, in thousandths.
const DRIFT_PERMILLE_MAX: u64 = 20;
/// How far what people say that the time is may be off at a node.
pub(crate) const WALL_OFF_MS_MAX: u64 = 2_000;
/// After how long a process that has ended by itself is started again.
const RESTART_MS: u64 = 500;

/// All there is.
pub(crate) struct Cluster {
    seed: u64,
    pub(crate) trace: Trace,
    pub(crate) stage: Stage,
    pub(crate) fields: Vec<Field>,
    pub(crate) entrance: Arc<Entrance>,
    /// Everything that an operator waits for an answer to has one.
    pub(crate) asked: Arc<()>,
    fabric: Fabric,
    /// How many clients each node has.
    clients: u64,
    nodes: BTreeMap<HostId, Node>,
    crashes: Random,
    clocks: Dice,
    now_ms: u64,
    /// How long a step is.
    grain_ms: u64,
    /// What clocks of hosts read.
    shown_ms: Arc<AtomicU64>,
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
    clock: Arc<SimClock>,
    /// How fast its own clock goes, in thousandths.
    pace_permille: u64,
    /// How many faults make it slow, fill its disk, hold it up.
    slow: u64,
    full: u64,
    paused: u64,
    starts: u64,
    placed: Placed,
    up: Option<Up>,
    /// It is a member no more, and is not started again.
    is_gone: bool,
    /// The number that it has in its cluster, once that was seen.
    number: Option<NodeId>,
    /// The ticket of a stranger, which must not get in.
    void_ticket: Option<JoinTicket>,
}

/// What runs of a node that is up.
struct Up {
    runtime: Runtime,
    began: Instant,
    began_ms: u64,
    pace_permille: u64,
    random: Random,
    alive: Alive,
}

/// The end of a fault.
enum End {
    Down { host: HostId, for_ms: u64 },
    Cut(Vec<Way>),
    Slow(HostId),
    Full(HostId),
    Pause(HostId, Vec<Way>),
    Foul,
}

impl Cluster {
    /// The nodes of a seed, all up.
    pub(crate) fn new(seed: u64, trace: Trace, hosts: &[HostId], clients: u64) -> Self {
        let random = random_of(seed, PURPOSE_NETWORK);
        let stage = Stage::new(trace.clone(), PACE);
        let dice = Dice::of(seed, PURPOSE_WORKS);
        let field = |keyspace| Field { keyspace, works: Works::new(&stage, "", dice.clone()) };
        let mut cluster = Cluster {
            seed,
            fields: KEYSPACES.map(field).into(),
            stage,
            entrance: Arc::default(),
            asked: Arc::default(),
            fabric: Fabric::new(random, trace.clone(), FAIR),
            trace,
            clients,
            nodes: BTreeMap::new(),
            crashes: random_of(seed, PURPOSE_CRASHES),
            clocks: Dice::of(seed, PURPOSE_CLOCKS),
            now_ms: 0,
            grain_ms: *Dice::of(seed, PURPOSE_GRAIN).pick(&GRAINS_MS),
            shown_ms: Arc::default(),
            ends: BTreeMap::new(),
            last_end: 0,
            cuts: BTreeMap::new(),
            foul: 0,
        };
        for host in hosts {
            cluster.add(*host, None);
        }
        cluster
    }

    /// A new host comes up, with nothing on its disk; it may have a ticket that is no good.
    pub(crate) fn add(&mut self, host: HostId, void_ticket: Option<JoinTicket>) {
        let ahead_ms = self.clocks.below(WALL_OFF_MS_MAX);
        let clock = Arc::new(SimClock::new(self.shown_ms.clone(), ahead_ms));
        let drift = self.clocks.below(2 * DRIFT_PERMILLE_MAX + 1);
        let node = Node { void_ticket, ..Node::new(clock, 1_000 - DRIFT_PERMILLE_MAX + drift) };
        self.nodes.insert(host, node);
        self.start(host);
    }

    pub(crate) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Lets a step's time pass.
    pub(crate) fn step(&mut self) {
        self.trace.at(self.now_ms);
        while let Some(first) = self.ends.first_entry()
            && first.key().0 <= self.now_ms
        {
            let end = first.remove();
            self.end(end);
        }
        self.shown_ms.store(self.now_ms, Ordering::Relaxed);
        self.fabric.step(self.now_ms);
        let all: Vec<HostId> = self.nodes.keys().copied().collect();
        for host in all {
            self.turn(host);
        }
        self.now_ms += self.grain_ms;
    }

    /// Gives a node its part of a step.
    fn turn(&mut self, host: HostId) {
        let Some(node) = self.nodes.get_mut(&host) else { return };
        if node.number.is_none() {
            node.number = node.placed.number();
        }
        let Some(up) = &node.up else { return };
        if node.paused == 0 {
            up.run_until(self.now_ms + self.grain_ms);
        }
        if !up.alive.is() {
            self.bury(host);
        } else if let Some(Ended { why, is_over }) = node.placed.ended() {
            node.is_gone = is_over;
            self.trace.note(format_args!("node {host}"), format_args!("ends: {why}"));
            self.kill_process(host);
            self.end_in(RESTART_MS, End::Down { host, for_ms: RESTART_MS });
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
            clients: self.clients,
            disk: node.disk.clone(),
            clock: node.clock.clone(),
            random: random.clone(),
            fabric: self.fabric.clone(),
            alive: alive.clone(),
            placed: node.placed.clone(),
            stage: self.stage.clone(),
            fields: self.fields.clone(),
            entrance: self.entrance.clone(),
            void_ticket: node.void_ticket.clone(),
        };
        self.trace.note(format_args!("node {host}"), format_args!("starts"));
        node.up = Some(Up::new(self.now_ms, node.pace_permille, alive, random, boot));
    }

    /// A node is dead from this very moment; what is left of it is taken away after its turn.
    fn kill(&mut self, host: HostId) {
        let crash = self.crash_of(host);
        crash();
        self.bury(host);
    }

    /// The process of a node is gone from this very moment.
    fn kill_process(&mut self, host: HostId) {
        let Some(node) = self.nodes.get_mut(&host) else { return };
        if let Some(up) = &node.up {
            up.alive.end();
            self.fabric.unplug(host);
            node.disk.kill();
            self.bury(host);
        }
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
        if node.up.take().is_some() {
            self.trace.mix(&[10, host.into(), node.disk.calls()], &[]);
        }
    }

    /// Who believes to lead a group, and in which terms.
    pub(crate) fn leaders(&self) -> impl Iterator<Item = (HostId, GroupId, u64)> {
        let led = |(host, node): (&HostId, &Node)| {
            let host = *host;
            node.placed.leads().into_iter().map(move |(group, term)| (host, group, term))
        };
        self.present().flat_map(led)
    }

    /// What runs on each host.
    pub(crate) fn placed(&self) -> impl Iterator<Item = (HostId, &Placed)> {
        self.present().map(|(host, node)| (*host, &node.placed))
    }

    /// All hosts whose nodes are not gone for good, and that are no strangers.
    pub(crate) fn hosts(&self) -> Vec<HostId> {
        self.present().map(|(host, _)| *host).collect()
    }

    fn present(&self) -> impl Iterator<Item = (&HostId, &Node)> {
        self.nodes.iter().filter(|(_, node)| !node.is_gone && node.void_ticket.is_none())
    }

    /// The nodes that are members as far as is known, up or down.
    pub(crate) fn members(&self) -> impl Iterator<Item = (HostId, NodeId)> {
        self.present().filter_map(|(host, node)| Some((*host, node.number?)))
    }

    /// Has something done on a node that serves.
    pub(crate) fn ask<F>(&self, host: HostId, ask: impl FnOnce(Arc<KvService>) -> F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let Some(node) = self.nodes.get(&host) else { return };
        if let (Some(up), Some(service)) = (&node.up, node.placed.service()) {
            up.runtime.spawn(ask(service));
        }
    }

    // --- faults ---

    /// A fault begins, for this cause.
    pub(crate) fn fault(&mut self, cause: fmt::Arguments<'_>, fault: Fault) {
        self.trace.note(cause, format_args!("{fault:?}"));
        match fault {
            Fault::Crash { host, after_calls, down_ms } => self.crash(host, after_calls, down_ms),
            Fault::Kill { host, down_ms } => {
                if self.nodes[&host].up.is_some() {
                    self.kill_process(host);
                    self.end_in(down_ms, End::Down { host, for_ms: down_ms });
                }
            }
            Fault::Outage { hosts, down_ms } => {
                hosts.into_iter().for_each(|host| self.crash(host, None, down_ms));
            }
            Fault::Pause { host, for_ms } => {
                let ways = self.ways_of(host);
                self.cut(&ways);
                if let Some(node) = self.nodes.get_mut(&host) {
                    node.paused += 1;
                }
                self.end_in(for_ms, End::Pause(host, ways));
            }
            Fault::Cut { ways, for_ms } => {
                self.cut(&ways);
                self.end_in(for_ms, End::Cut(ways));
            }
            Fault::Break { one, other } => self.fabric.break_links(one, other),
            Fault::Slow { host, sync_ms_max, for_ms } => {
                if let Some(node) = self.nodes.get_mut(&host) {
                    node.slow += 1;
                    node.disk.slow_down(sync_ms_max);
                }
                self.end_in(for_ms, End::Slow(host));
            }
            Fault::Full { host, for_ms } => {
                if let Some(node) = self.nodes.get_mut(&host) {
                    node.full += 1;
                    node.disk.fill(true);
                }
                self.end_in(for_ms, End::Full(host));
            }
            Fault::FailSync { host, after } => self.nodes[&host].disk.fail_sync(after),
            Fault::Foul { weather, for_ms } => {
                self.foul += 1;
                self.fabric.set_weather(weather);
                self.end_in(for_ms, End::Foul);
            }
        }
    }

    /// All that goes to a host or comes from it.
    fn ways_of(&self, host: HostId) -> Vec<Way> {
        let others = self.nodes.keys().filter(|other| **other != host);
        let both =
            |other: &HostId| [Way { from: host, to: *other }, Way { from: *other, to: host }];
        others.flat_map(both).collect()
    }

    fn cut(&mut self, ways: &[Way]) {
        for way in ways {
            self.fabric.cut(*way);
            *self.cuts.entry(*way).or_default() += 1;
        }
    }

    fn mend(&mut self, ways: Vec<Way>) {
        for way in ways {
            let left = self.cuts.entry(way).or_default();
            *left -= 1;
            if *left == 0 {
                self.fabric.mend(way);
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
                let died = |up: &Up| !up.alive.is();
                if self.nodes[&host].up.as_ref().is_some_and(died) {
                    // Since its last turn: whoever looks at what it holds calls its disk, too.
                    self.bury(host);
                }
                let node = &self.nodes[&host];
                if node.is_gone {
                    // There is nobody to be started.
                } else if node.up.is_none() {
                    self.start(host);
                } else if node.disk.is_lit() {
                    // The node was idle, and the fuse has not burnt down: now.
                    self.kill(host);
                    self.end_in(for_ms, End::Down { host, for_ms });
                }
            }
            End::Cut(ways) => self.mend(ways),
            End::Slow(host) => {
                if let Some(node) = self.nodes.get_mut(&host) {
                    node.slow -= 1;
                    if node.slow == 0 {
                        node.disk.slow_down(SYNC_MS_MAX);
                    }
                }
            }
            End::Full(host) => {
                if let Some(node) = self.nodes.get_mut(&host) {
                    node.full -= 1;
                    node.disk.fill(node.full > 0);
                }
            }
            End::Pause(host, ways) => {
                self.mend(ways);
                if let Some(node) = self.nodes.get_mut(&host) {
                    node.paused -= 1;
                    if let Some(up) = &node.up
                        && node.paused == 0
                    {
                        up.leap_to(self.now_ms);
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

impl Node {
    fn new(clock: Arc<SimClock>, pace_permille: u64) -> Self {
        Node {
            disk: SimDisk::new(),
            clock,
            pace_permille,
            slow: 0,
            full: 0,
            paused: 0,
            starts: 0,
            placed: Placed::default(),
            up: None,
            is_gone: false,
            number: None,
            void_ticket: None,
        }
    }
}

impl Up {
    fn new(now_ms: u64, pace_permille: u64, alive: Alive, random: Random, boot: Boot) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime without threads or sockets needs nothing");
        let began = {
            let _entered = random.enter();
            runtime.block_on(async {
                tokio::spawn(node::run(boot));
                Instant::now()
            })
        };
        Up { runtime, began, began_ms: now_ms, pace_permille, random, alive }
    }

    /// What its own clock reads at a moment.
    fn at(&self, ms: u64) -> Instant {
        self.began + Duration::from_micros((ms - self.began_ms) * self.pace_permille)
    }

    /// Lets everything on the node run until a moment.
    fn run_until(&self, ms: u64) {
        let until = self.at(ms);
        let _entered = self.random.enter();
        // Made within the runtime, whose clock it goes by.
        self.runtime.block_on(async { sleep_until(until).await });
    }

    /// The clock goes on to a moment at once, and nothing has run meanwhile.
    fn leap_to(&self, ms: u64) {
        let to = self.at(ms);
        let _entered = self.random.enter();
        self.runtime
            .block_on(async { advance(to.saturating_duration_since(Instant::now())).await });
    }
}
