//! Clients of every workload, while processes are killed, stand still, are cut off from some or from
//! all, or have no room on their disks; two of the nodes go by clocks of their own. What clients are
//! told must be what can be, by the judges of the simulation, and every call must end in its time.
//!
//! It goes once through all that can go wrong, each at the node after the last one, or as often as
//! `ASPEN_FAULT_ROUNDS` says; three of them bring each to all nodes. In the end it says how many calls
//! of each workload began while each of them lasted: after three rounds there must be some of all.
//! A run that fails keeps what its clients were told, and the nodes' logs, where it says.

use std::array;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::thread::sleep;
use std::time::Duration;

use aspen::seams::Random;
use aspen::{Client, ClientTicket};
use aspen_sim::dice::Dice;
use aspen_sim::work::{self, Alive, Kind, Scribe, Stage, Workload, Works};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::runtime::Runtime;
use tokio::time::Instant;

use super::lan::{Host, Lan};
use super::node::{Node, logs};
use crate::dice::number;
use crate::support::{run, until, write_file};

/// The hosts with nodes; clients have the one after them.
const NODES: usize = 3;
const CLIENTS: usize = 18;
/// The longest that a client waits between calls.
const PACE: Duration = Duration::from_millis(50);
/// Small enough to be filled at once, with room for what a node makes ready.
const DISK_MIB: u32 = 256;
/// How long all goes well between two faults.
const PEACE: Duration = Duration::from_millis(1_500);
/// How soon clients have come to an end.
const END_MAX: Duration = Duration::from_secs(90);

/// What goes wrong at a node.
#[derive(Clone, Copy, Debug)]
enum Fault {
    /// Its process is killed, and started again.
    Kill,
    /// Its process stands still again and again, each time for less than a leader's lease.
    Stutter,
    /// Its process stands still for longer.
    Pause,
    /// Nobody hears it, and it hears nobody.
    Unplug,
    /// It and the next node do not hear each other; all others do.
    Cut,
    /// The next node does not hear it, and is heard by it.
    CutOneWay,
    /// Its disk has no room.
    Full,
}

const FAULTS: [Fault; 7] = [
    Fault::Kill,
    Fault::Stutter,
    Fault::Pause,
    Fault::Unplug,
    Fault::Cut,
    Fault::CutOneWay,
    Fault::Full,
];

/// How long those last of which nothing else says it: longer than any election takes.
const LASTS: Duration = Duration::from_secs(4);
/// How long who stutters stands still, and goes on, each time.
const STILL: Duration = Duration::from_millis(400);
/// How often.
const STUTTERS: u32 = 5;

/// A small file system at a host's disk, in memory; gone when dropped.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// Where the host's node keeps its data.
    #[track_caller]
    fn of(host: &Host) -> Self {
        let (path, size) = (host.disk().path().join("data"), format!("size={DISK_MIB}m"));
        fs::create_dir(&path).expect("a directory");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&path);
        assert_eq!(run(&mut mount).code, 0, "a disk in memory at {}", path.display());
        SmallDisk(path)
    }

    fn filler(&self) -> PathBuf {
        self.0.join("filler")
    }

    /// Takes all the room there is.
    #[track_caller]
    fn fill(&self) {
        let mut filler = File::create(self.filler()).expect("a file");
        let block = vec![1; 64 * 1024];
        while filler.write_all(&block).is_ok() {}
    }

    #[track_caller]
    fn free(&self) {
        fs::remove_file(self.filler()).expect("it is there");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// A library that gives a process another clock: ahead or behind, and faster or slower.
const CLOCK: &str = r#"
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
static int (*real)(clockid_t, struct timespec *);
static long long begun, permille, ahead_s;
__attribute__((constructor)) static void begin(void) {
    struct timespec now;
    real = dlsym(RTLD_NEXT, "clock_gettime");
    permille = atoll(getenv("CLOCK_PERMILLE"));
    ahead_s = atoll(getenv("CLOCK_AHEAD_S"));
    real(CLOCK_MONOTONIC, &now);
    begun = now.tv_sec * 1000000000LL + now.tv_nsec;
}
int clock_gettime(clockid_t id, struct timespec *out) {
    int failed = real(id, out);
    if (failed) return failed;
    if (id == CLOCK_REALTIME) out->tv_sec += ahead_s;
    if (id == CLOCK_MONOTONIC) {
        long long ns = out->tv_sec * 1000000000LL + out->tv_nsec;
        ns = begun + (ns - begun) / 1000 * permille;
        out->tv_sec = ns / 1000000000LL;
        out->tv_nsec = ns % 1000000000LL;
    }
    return 0;
}
"#;

/// Compiles the clock.
#[track_caller]
fn clock(dir: &Path) -> PathBuf {
    let (source, library) = (dir.join("clock.c"), dir.join("clock.so"));
    write_file(&source, CLOCK);
    let mut compile = Command::new("cc");
    compile.args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(&source).arg("-ldl");
    let done = run(&mut compile);
    assert_eq!(done.code, 0, "{done:?}");
    library
}

/// What a host's clock is like: thousandths of the usual pace, and seconds ahead.
const CLOCKS: [Option<(u32, i32)>; NODES] = [None, Some((1_030, 600)), Some((970, -600))];

/// The nodes, and how each is started.
struct Machines<'a> {
    lan: &'a Lan,
    disks: Vec<SmallDisk>,
    clock: PathBuf,
    /// Where the logs of those go that were killed, and all in the end.
    kept: PathBuf,
    nodes: Vec<Node<'a>>,
}

impl<'a> Machines<'a> {
    #[track_caller]
    fn start(lan: &'a Lan, kept: PathBuf) -> Self {
        let disks = lan.hosts[..NODES].iter().map(SmallDisk::of).collect();
        let mut machines = Machines { lan, disks, clock: clock(&kept), kept, nodes: Vec::new() };
        for at in 0..NODES {
            let ticket = machines.nodes.first().map(|first| first.ticket().to_owned());
            let node = machines.starting(at, ticket.as_deref()).until_ready();
            machines.nodes.push(node);
        }
        machines
    }

    fn host(&self, at: usize) -> &'a Host {
        &self.lan.hosts[at]
    }

    #[track_caller]
    fn starting(&self, at: usize, ticket: Option<&str>) -> Node<'a> {
        let clock = CLOCKS[at].map(|(permille, ahead_s)| {
            [
                ("LD_PRELOAD", self.clock.display().to_string()),
                ("CLOCK_PERMILLE", permille.to_string()),
                ("CLOCK_AHEAD_S", ahead_s.to_string()),
            ]
        });
        let words = ticket.map_or(vec!["start"], |ticket| vec!["join", ticket]);
        Node::spawn_with(self.host(at), &words, &["--reach", "lan"], clock.iter().flatten())
    }

    /// Lets a node have it, for a while.
    #[track_caller]
    fn suffer(&mut self, at: usize, fault: Fault) {
        eprintln!("{fault:?} at node {}", at + 1);
        let next = (at + 1) % NODES;
        match fault {
            Fault::Kill => {
                self.nodes[at].kill();
                self.keep_log(at).expect("it is written");
                sleep(Duration::from_millis(300));
                self.nodes[at] = self.starting(at, None).until_ready();
            }
            Fault::Stutter => {
                for _ in 0..STUTTERS {
                    self.stand_still(at, STILL);
                    sleep(STILL);
                }
            }
            Fault::Pause => self.stand_still(at, LASTS),
            Fault::Unplug => {
                self.host(at).unplug();
                sleep(LASTS);
                self.host(at).plug();
            }
            Fault::Cut => {
                self.lan.cut_between(at, next);
                sleep(LASTS);
                self.lan.mend_between();
            }
            Fault::CutOneWay => {
                self.lan.cut_one_way(at, next);
                sleep(LASTS);
                self.lan.mend_between();
            }
            Fault::Full => {
                self.disks[at].fill();
                sleep(LASTS);
                self.disks[at].free();
            }
        }
    }

    fn stand_still(&self, at: usize, time: Duration) {
        self.nodes[at].signal("STOP");
        sleep(time);
        self.nodes[at].signal("CONT");
    }

    /// Once all goes well again, for a while: all of them run, and nobody was told what can't be.
    #[track_caller]
    fn rest(&mut self, stage: &Stage) {
        sleep(PEACE);
        assert_eq!(stage.failure(), None);
        let ended: Vec<usize> = (0..NODES).filter(|node| self.nodes[*node].has_ended()).collect();
        assert!(ended.is_empty(), "nodes {ended:?} ended: {}", logs(&self.nodes));
    }

    /// A node that is started again begins its log anew.
    #[expect(clippy::disallowed_methods, reason = "it is no file of the product's")]
    fn keep_log(&self, at: usize) -> io::Result<()> {
        let path = self.kept.join(format!("node-{}.log", at + 1));
        let mut file = File::options().create(true).append(true).open(path)?;
        file.write_all(self.nodes[at].log().as_bytes())
    }
}

impl Drop for Machines<'_> {
    fn drop(&mut self) {
        for at in 0..self.nodes.len() {
            // If all was well there is no place for it any more.
            let _ = self.keep_log(at);
        }
    }
}

/// The workloads of a keyspace, by its name.
type Fields<'a> = [(&'a str, Works)];

/// How many calls there were of each kind of workload.
fn calls(fields: &Fields<'_>) -> [usize; Kind::ALL.len()] {
    Kind::ALL.map(|kind| {
        let all = fields.iter().flat_map(|(_, works)| works.each());
        all.filter(|work| work.kind() == kind).map(Workload::calls).sum()
    })
}

/// How often each fault came, and how many calls of each kind of workload began meanwhile.
#[derive(Default)]
struct Tally([(usize, [usize; Kind::ALL.len()]); FAULTS.len()]);

impl Tally {
    fn count(&mut self, fault: usize, calls: [usize; Kind::ALL.len()]) {
        let (times, all) = &mut self.0[fault];
        *times += 1;
        all.iter_mut().zip(calls).for_each(|(all, calls)| *all += calls);
    }

    /// Whether there is none of some kind and fault.
    fn has_gaps(&self) -> bool {
        self.0.iter().any(|(_, calls)| calls.contains(&0))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:13} {:>5}", "calls during", "times")?;
        Kind::ALL.iter().try_for_each(|kind| write!(f, " {:>9}", kind.name()))?;
        for (fault, (times, calls)) in FAULTS.iter().zip(&self.0) {
            write!(f, "\n{:13} {times:5}", format!("{fault:?}"))?;
            calls.iter().try_for_each(|calls| write!(f, " {calls:9}"))?;
        }
        Ok(())
    }
}

/// Writes down what clients are told, with the time since the beginning.
struct Chronicle {
    began: Instant,
    file: Mutex<BufWriter<File>>,
}

impl Scribe for Chronicle {
    fn note(&self, who: fmt::Arguments<'_>, what: fmt::Arguments<'_>) {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.began.elapsed().as_secs_f64();
        writeln!(file, "{at:9.3}  {who} {what}").expect("it is written");
    }
}

/// What is left of a run that failed.
struct Kept(Option<PathBuf>);

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(dir) = &self.0 {
            eprintln!("what clients were told, and nodes logged, is in {}", dir.display());
        }
    }
}

/// A runtime whose threads are on a host.
fn runtime_on(host: &Host) -> Runtime {
    let space = host.space().file();
    let enter = move || {
        let kind = Some(LinkNameSpaceType::Network);
        move_into_link_name_space(space.as_fd(), kind).expect("it enters");
    };
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    runtime.worker_threads(2).enable_all().on_thread_start(enter).build().expect("a runtime")
}

#[test]
fn clients_are_told_the_truth_whatever_goes_wrong() {
    let Some(lan) = Lan::new(NODES as u8 + 1) else { return };
    let kept = tempfile::tempdir().expect("a directory").keep();
    let mut failed = Kept(Some(kept.clone()));
    let mut machines = Machines::start(&lan, kept.clone());
    let first = &machines.nodes[0];
    first.printed(&["keyspace", "create", "spread", "--shards", "3", "--replicas", "3"]);
    // They compact, too.
    let ticket = first.printed(&["ticket", "create", "--client", "--allow", "read,write,admin"]);
    let ticket: ClientTicket = ticket.trim().parse().expect("a ticket");
    let is_whole = || {
        let status = machines.nodes[0].printed(&["keyspace", "show", "spread", "--json"]);
        let shown: serde_json::Value = serde_json::from_str(&status).expect("JSON");
        let shards = shown["shards"].as_array().cloned().unwrap_or_default();
        shards.iter().all(|shard| {
            shard["stage"] == "settled" && shard["replicas"].as_array().map(Vec::len) == Some(3)
        })
    };
    assert!(until(is_whole), "{}", logs(&machines.nodes));

    let file = File::create(kept.join("history")).expect("a file");
    let chronicle = Chronicle { began: Instant::now(), file: Mutex::new(BufWriter::new(file)) };
    let stage = Stage::new(chronicle, PACE);
    let random = Random::from_seed(number("ASPEN_FAULT_SEED").unwrap_or(1));
    let dice = || Dice::new(Random::from_seed(random.next_u64()));
    let fields = ["default", "spread"].map(|name| (name, Works::new(&stage, "", dice())));
    let runtime = runtime_on(&lan.hosts[NODES]);
    let link = ticket.clone();
    let client = runtime.spawn(async move { Client::connect(&link).await });
    let client = runtime.block_on(client).expect("no panic").expect("a client");
    for at in 0..CLIENTS.max(2 * Kind::ALL.len()) {
        let (keyspace, works) = &fields[at % fields.len()];
        let kv = client.keyspace(keyspace).expect("a name");
        let client = work::Client::new(&stage, 0, Alive::begin(), kv, dice());
        let _running = runtime.enter();
        drop(works.next().spawn(client));
    }

    let rounds = number("ASPEN_FAULT_ROUNDS").unwrap_or(1) as usize;
    let mut tally = Tally::default();
    for round in 0..rounds {
        for (nth, fault) in FAULTS.into_iter().enumerate() {
            let before = calls(&fields);
            // Each at another node than the one before.
            machines.suffer((round + nth) % NODES, fault);
            let after = calls(&fields);
            tally.count(nth, array::from_fn(|kind| after[kind] - before[kind]));
            machines.rest(&stage);
        }
    }
    eprintln!("{tally}");
    let is_complete = rounds < NODES || !tally.has_gaps();
    assert!(is_complete, "some workload did nothing during some fault");

    stage.calm();
    let is_answered = || {
        let answered = stage.answered(0);
        answered.reads > 0 && answered.writes > 0
    };
    assert!(until(is_answered), "nobody is answered: {}", logs(&machines.nodes));
    stage.finish();
    let ends = Instant::now() + END_MAX;
    while stage.clients() > 0 {
        assert!(Instant::now() < ends, "{} clients did not come to an end", stage.clients());
        sleep(Duration::from_millis(20));
    }
    assert_eq!(stage.failure(), None);
    for (keyspace, works) in &fields {
        if let Err(found) = works.judge() {
            panic!("keyspace {keyspace}: {found}\n{}", logs(&machines.nodes));
        }
        assert!(works.calls() > 0, "nothing was asked in {keyspace}");
    }
    runtime.block_on(client.close());
    failed.0 = None;
    fs::remove_dir_all(&kept).expect("it was here");
}
