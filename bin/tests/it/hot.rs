//! Busy shards: their leads end where least is done besides, and stay there when the work is over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use aspen::Client;
use aspen::limits::LOAD_REST;
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::cluster;
use crate::shards::{Nodes, shards, spread};
use crate::support::{Node, until};

/// Who write to the busiest shard, to another of the same leader, and to one of another leader.
const WRITERS: [usize; 3] = [48, 24, 6];
/// Large enough to weigh more than what a slow machine does of small ones.
const VALUE_BYTES: usize = 8 * 1024;
/// How long nothing may move under load: several times what it takes until a lead is moved for it,
/// and longer than a member that was not heard of before takes to announce itself.
const CALM: Duration = Duration::from_secs(15);
/// How long nothing may move when the load has ended: until what was moved for it may be moved again,
/// and as long as above from then on.
const CALM_AFTER: Duration = LOAD_REST.saturating_add(CALM);
const LOOK: Duration = Duration::from_millis(100);

/// Programs that write to three shards as fast as they are answered.
struct Work {
    runtime: Runtime,
    client: Client,
    stop: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
    done: [Arc<AtomicU64>; 3],
}

impl Work {
    #[track_caller]
    fn begin(node: &Node, keys: [&str; 3]) -> Self {
        let ticket = node.printed(&["ticket", "create", "--client"]);
        let ticket = ticket.trim().parse().expect("a ticket");
        let runtime = Runtime::new().expect("a runtime");
        let client = runtime.block_on(Client::connect(&ticket)).expect("a client");
        let stop = Arc::new(AtomicBool::new(false));
        let done = [Arc::default(), Arc::default(), Arc::default()];
        let mut tasks = Vec::new();
        for ((key, writers), done) in keys.into_iter().zip(WRITERS).zip(&done) {
            for _ in 0..writers {
                let (kv, key) = (client.kv(), key.to_owned());
                let (stop, done): (Arc<AtomicBool>, Arc<AtomicU64>) =
                    (stop.clone(), Arc::clone(done));
                tasks.push(runtime.spawn(async move {
                    let value = vec![1; VALUE_BYTES];
                    while !stop.load(Ordering::Relaxed) {
                        kv.put(key.as_str(), value.clone()).await.expect("it is written");
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                }));
            }
        }
        Work { runtime, client, stop, tasks, done }
    }

    fn counts(&self) -> [u64; 3] {
        self.done.each_ref().map(|done| done.load(Ordering::Relaxed))
    }

    /// Ends it, and says how much was done.
    fn end(self) -> [u64; 3] {
        let counts = self.counts();
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            self.runtime.block_on(task).expect("all was written");
        }
        self.runtime.block_on(self.client.close());
        counts
    }
}

/// Three nodes that wait long for a leader: an election because the machine is busy is none of
/// placement's doing.
#[track_caller]
fn patient_nodes() -> Nodes {
    let dir = || tempfile::tempdir().expect("a directory");
    let patient = ["--heartbeat", "1s", "--election-min", "10s", "--election-max", "20s"];
    let founding = [&patient[..], &["--shards", "6"]].concat();
    let first_dir = dir();
    let first = Node::start(first_dir.path(), &founding);
    let ticket = first.printed(&["ticket", "create", "--uses", "2"]);
    let mut nodes = BTreeMap::from([(first.id(), (first_dir, first))]);
    for _ in 0..2 {
        let dir = dir();
        let node = Node::join(dir.path(), ticket.trim(), &patient);
        nodes.insert(node.id(), (dir, node));
    }
    Nodes(nodes)
}

/// Who leads each group and in which term, as a node sees it.
fn leads(node: &Node) -> BTreeMap<u64, (Value, Value)> {
    let groups = cluster(node)["groups"].take();
    let groups = groups.as_array().cloned().unwrap_or_default().into_iter();
    let lead = |mut group: Value| {
        Some((group["id"].as_u64()?, (group["leader"].take(), group["term"].take())))
    };
    groups.filter_map(lead).collect()
}

/// A key of each of these groups.
fn keys_of(node: &Node, groups: [u64; 3]) -> [String; 3] {
    groups.map(|group| {
        let mut keys = (0..1_000).map(|number| format!("key/{number}"));
        let is_there = |key: &String| {
            let mut curl = std::process::Command::new("curl");
            let url = format!("{}/v1/kv/{}?explain", node.url(), key.replace('/', "%2F"));
            let told = crate::support::run(curl.args(["--silent", &url])).printed();
            let told: Value = serde_json::from_str(&told).expect("JSON");
            told["group"] == group
        };
        keys.find(is_there).expect("a key of each shard")
    })
}

fn moves(node: &Node) -> Vec<Value> {
    let planned = node.printed(&["rebalance", "--dry-run", "--json"]);
    let mut planned: Value = serde_json::from_str(&planned).expect("JSON");
    planned["moves"].as_array_mut().map(std::mem::take).unwrap_or_default()
}

/// Looks for a good while whether anything moves or is to be moved; every look asks each node what
/// placement would do next.
#[track_caller]
fn nothing_moves(nodes: &Nodes, calm: Duration, when: &str) {
    let before = leads(nodes.any());
    let until = Instant::now() + calm;
    while Instant::now() < until {
        for node in nodes.all() {
            assert_eq!(moves(node), Vec::<Value>::new(), "{when}");
            assert_eq!(leads(node), before, "{when}");
        }
        std::thread::sleep(LOOK);
    }
}

/// Scenario 33.
#[test]
fn the_lead_of_a_hot_shard_ends_where_least_is_done_besides_and_nothing_flaps_afterwards() {
    let nodes = patient_nodes();
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let wanted = || -> BTreeMap<u64, u64> {
        let shards = shards(nodes.any(), "default");
        let lead =
            |shard: &Value| Some((shard["group"].as_u64()?, shard["wanted_leader"].as_u64()?));
        shards.iter().filter_map(lead).collect()
    };
    let is_as_wanted = || {
        let leads = leads(nodes.any());
        wanted().iter().all(|(group, leader)| leads.get(group).is_some_and(|(by, _)| by == leader))
    };
    assert!(until(is_as_wanted), "{:?}, {:?}", wanted(), leads(nodes.any()));
    // Two shards of one leader.
    let of_three: Vec<u64> =
        wanted().into_iter().filter(|(_, leader)| *leader == 3).map(|(group, _)| group).collect();
    let [hot, warm] = of_three[..] else { panic!("it leads {of_three:?}") };
    // And one of another leader, so that the third has the least to do.
    let of_one = wanted().into_iter().find(|(_, leader)| *leader == 1);
    let (mild, _) = of_one.expect("it leads two");
    let [hot_key, warm_key, mild_key] = keys_of(nodes.any(), [hot, warm, mild]);
    let work = Work::begin(nodes.any(), [&hot_key, &warm_key, &mild_key]);

    let mut told = Vec::new();
    let are_apart = || wanted()[&hot] != wanted()[&warm];
    let mut is_done = || {
        std::thread::sleep(LOOK);
        if told.is_empty() {
            told = moves(nodes.node(2));
        }
        are_apart()
    };
    // The leads have rested for half a minute since the nodes came together.
    let in_time = until(&mut is_done) || until(&mut is_done);
    assert!(in_time, "{:?} after {:?}", wanted(), work.counts());
    assert!(!told.is_empty() && told.iter().all(|next| next["why"] == "load"), "{told:?}");
    let spread = spread(&shards(nodes.any(), "default"), [1, 2, 3]);
    assert!(spread.values().all(|(_, leads)| *leads == 2), "still even by count: {spread:?}");
    assert!(until(is_as_wanted), "{:?}, {:?}", wanted(), leads(nodes.any()));
    // The one that did nothing took one of the two, and not the one that was a little busy.
    let apart = BTreeSet::from([wanted()[&hot], wanted()[&warm]]);
    assert_eq!(apart, BTreeSet::from([2, 3]), "{:?}", wanted());
    // Busy as they are they stay there.
    nothing_moves(&nodes, CALM, "under load");
    let done = work.end();
    assert!(done.iter().all(|done| *done > 0), "{done:?}");
    nothing_moves(&nodes, CALM_AFTER, "when the load has ended");
}
