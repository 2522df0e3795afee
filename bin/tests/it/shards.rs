//! Many shards on many nodes: they spread, follow members that come, go and die, and nothing that was
//! acknowledged is lost or goes wrong on the way.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use aspen::{Client, KvClient};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::cluster::{cluster, members};
use crate::support::{Asking, Node, until};

/// Nodes with their directories, by their numbers.
pub(crate) struct Nodes(pub(crate) BTreeMap<u64, (TempDir, Node)>);

impl Nodes {
    #[track_caller]
    pub(crate) fn start(count: usize, flags: &[&str]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Node::start(dir.path(), flags);
        let mut nodes = Nodes(BTreeMap::from([(first.id(), (dir, first))]));
        (1..count).for_each(|_| nodes.join());
        nodes
    }

    #[track_caller]
    fn join(&mut self) {
        let any = self.any().id();
        self.join_by(any);
    }

    /// One more by the ticket of this one.
    #[track_caller]
    pub(crate) fn join_by(&mut self, number: u64) {
        let ticket = self.node(number).printed(&["ticket", "create"]);
        let dir = tempfile::tempdir().expect("a directory");
        let node = Node::join(dir.path(), ticket.trim(), &[]);
        self.0.insert(node.id(), (dir, node));
    }

    pub(crate) fn any(&self) -> &Node {
        &self.0.values().next().expect("a node").1
    }

    pub(crate) fn node(&self, number: u64) -> &Node {
        &self.0[&number].1
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Node> {
        self.0.values().map(|(_, node)| node)
    }

    pub(crate) fn take(&mut self, number: u64) -> (TempDir, Node) {
        self.0.remove(&number).expect("a node")
    }

    /// Waits until all shards of the default keyspace are settled on so many of these nodes each,
    /// evenly, and are led by them as evenly: by what each says that it leads, and not only by what
    /// is to be.
    #[track_caller]
    pub(crate) fn wait_for_spread(&self, on: &[u64], replicas: usize) {
        let witness = self.node(on[0]);
        let is_there = || {
            let shards = shards(witness, "default");
            let settled = |shard: &Value| {
                let holders = nodes_of(shard);
                shard["stage"] == "settled"
                    && holders.len() == replicas
                    && holders.iter().all(|node| on.contains(node))
            };
            let leads: BTreeMap<u64, usize> =
                on.iter().map(|node| (*node, led_by(self.node(*node), &shards))).collect();
            shards.iter().all(settled)
                && is_even(&spread(&shards, on.iter().copied()))
                && leads.values().sum::<usize>() == shards.len()
                && is_within_one(leads.values().copied())
        };
        if !until(is_there) {
            let shards = shards(witness, "default");
            let spread = spread(&shards, on.iter().copied());
            let leads: Vec<_> =
                on.iter().map(|node| (node, led_by(self.node(*node), &shards))).collect();
            panic!("not even on {on:?}: {spread:?}, led by {leads:?}; {shards:?}");
        }
    }
}

/// How many of these shards a node leads, as it says itself.
fn led_by(node: &Node, shards: &[Value]) -> usize {
    let groups = groups(node);
    let is_led = |shard: &&Value| {
        let group = shard["group"].as_u64().and_then(|id| groups.get(&id));
        group.is_some_and(|group| group["role"] == "leader")
    };
    shards.iter().filter(is_led).count()
}

/// The shards of a keyspace, as a node knows them.
#[track_caller]
pub(crate) fn shards(node: &Node, keyspace: &str) -> Vec<Value> {
    let shown = node.printed(&["keyspace", "show", keyspace, "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown["shards"].as_array().expect("a list").clone()
}

pub(crate) fn nodes_of(shard: &Value) -> BTreeSet<u64> {
    shard["replicas"].as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
}

/// How many shards each node holds and is to lead.
pub(crate) fn spread(
    shards: &[Value],
    nodes: impl IntoIterator<Item = u64>,
) -> BTreeMap<u64, (usize, usize)> {
    let count = |node: u64| {
        let holds = shards.iter().filter(|shard| nodes_of(shard).contains(&node)).count();
        let leads = shards.iter().filter(|shard| shard["wanted_leader"] == node).count();
        (node, (holds, leads))
    };
    nodes.into_iter().map(count).collect()
}

fn is_even(spread: &BTreeMap<u64, (usize, usize)>) -> bool {
    is_within_one(spread.values().map(|(holds, _)| *holds))
        && is_within_one(spread.values().map(|(_, leads)| *leads))
}

fn is_within_one(counts: impl Iterator<Item = usize> + Clone) -> bool {
    counts.clone().max() <= counts.min().map(|least| least + 1)
}

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

/// How well a member is, as a node sees it.
fn health(node: &Node, of: u64) -> String {
    let members = cluster(node)["members"].take();
    let found = members.as_array().into_iter().flatten().find(|member| member["node"] == of);
    let health = found.and_then(|member| member["health"].as_str());
    health.unwrap_or_default().to_owned()
}

#[test]
fn shards_follow_members_that_die_for_good_and_come_under_load_without_a_failed_operation() {
    let mut nodes = Nodes::start(5, &["--shards", "32"]);
    let first = nodes.any().id();
    nodes.wait_for_spread(&[1, 2, 3, 4, 5], 3);
    let was_set = nodes.any().printed(&["settings", "set", "lost-after", "3s"]);
    assert!(was_set.starts_with("set; known to 5 of 5 nodes as of epoch "), "{was_set}");
    for node in nodes.all() {
        assert_eq!(node.printed(&["settings", "get", "lost-after"]), "3s\n");
    }

    let load = Load::begin(nodes.node(first));
    load.goes_on();
    let (_its_dir, its_node) = nodes.take(4);
    its_node.kill();
    for node in nodes.all() {
        assert!(until(|| health(node, 4) != "healthy"), "nobody suspects it");
    }
    nodes.wait_for_spread(&[1, 2, 3, 5], 3);
    assert_eq!(health(nodes.node(first), 4), "dead");
    load.goes_on();

    nodes.join();
    nodes.join();
    nodes.wait_for_spread(&[1, 2, 3, 5, 6, 7], 3);
    load.goes_on();
    load.end(nodes.all());
}

/// Which node holds a replica of which group.
fn placed(node: &Node) -> BTreeSet<(u64, u64)> {
    let shards = shards(node, "default");
    let of = |shard: &Value| {
        let group = shard["group"].as_u64().expect("a number");
        nodes_of(shard).into_iter().map(move |node| (group, node))
    };
    shards.iter().flat_map(of).collect()
}

#[test]
fn whoever_joins_is_known_to_all_takes_its_share_and_nothing_else_is_moved_under_load() {
    const KNOWN_WITHIN: Duration = Duration::from_secs(5);
    let asking = Asking::new();
    let mut nodes = Nodes::start(1, &["--shards", "12"]);
    nodes.wait_for_spread(&[1], 1);
    nodes.join();
    nodes.join();
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let load = Load::begin(nodes.any());
    load.goes_on();
    for joined in [4, 5] {
        let before = placed(nodes.any());
        nodes.join();
        let is_there = Instant::now();
        let knows = |node: &Node| {
            let cluster = asking.get(node, "/v1/cluster");
            let members = cluster["members"].as_array().cloned().unwrap_or_default();
            members.iter().any(|member| member["node"] == joined && member["health"] == "healthy")
        };
        assert!(until(|| nodes.all().all(knows)), "not all know node {joined}");
        assert!(is_there.elapsed() <= KNOWN_WITHIN, "{:?}", is_there.elapsed());
        let all: Vec<u64> = (1..=joined).collect();
        nodes.wait_for_spread(&all, 3);
        let moved: BTreeSet<_> = placed(nodes.any()).difference(&before).copied().collect();
        assert!(moved.len() as u64 <= (3 * 12_u64).div_ceil(joined), "{moved:?}");
        assert!(moved.iter().all(|(_, node)| *node == joined), "{moved:?}");
        load.goes_on();
    }
    load.end(nodes.all());
}

#[test]
fn a_node_is_drained_and_taken_back_and_leaves_under_load() {
    let mut nodes = Nodes::start(4, &["--shards", "8"]);
    nodes.wait_for_spread(&[1, 2, 3, 4], 3);
    let load = Load::begin(nodes.any());
    let drained = nodes.any().printed(&["drain", "2"]);
    assert!(drained.starts_with("node 2 is being drained: "), "{drained}");
    nodes.wait_for_spread(&[1, 3, 4], 3);
    // What it no longer holds it keeps nothing of; the meta group is everybody's.
    let groups = nodes.0[&2].0.path().join("data/groups");
    let kept = || groups.read_dir().expect("its groups").count();
    assert!(until(|| kept() == 1), "{} groups are kept", kept());
    load.goes_on();
    nodes.node(2).printed(&["get", "counter/0"]);
    nodes.any().printed(&["drain", "2", "--off"]);
    nodes.wait_for_spread(&[1, 2, 3, 4], 3);
    load.goes_on();

    let left = nodes.node(3).run(&["leave"]);
    assert_eq!((left.code, left.stdout.as_str()), (0, "node 3 has left the cluster\n"), "{left:?}");
    // It tells how many shards it has still to hand over, each time that there are fewer.
    let count = |line: &str| line.split_whitespace().nth(5).and_then(|n| n.parse::<u32>().ok());
    let counts: Option<Vec<u32>> = left.stderr.lines().map(count).collect();
    let counts = counts.unwrap_or_else(|| panic!("{left:?}"));
    assert!(counts.is_sorted_by(|a, b| a > b), "{left:?}");
    assert!(until(|| members(nodes.node(1)) == [1, 2, 4]));
    nodes.take(3);
    nodes.wait_for_spread(&[1, 2, 4], 3);
    load.goes_on();
    load.end(nodes.all());
}

#[test]
fn keyspaces_are_made_used_and_deleted_through_every_node() {
    let nodes = Nodes::start(3, &[]);
    nodes.node(1).printed(&["put", "k", "of default"]);
    for node in nodes.all() {
        let name = format!("space-{}", node.id());
        let made = node.printed(&["keyspace", "create", &name, "--shards", "4"]);
        assert_eq!(made, format!("made keyspace {name} of 4 shards, 3 replicas each\n"));
        for other in nodes.all() {
            other.printed(&["put", &format!("k{}", other.id()), "v", "--keyspace", &name]);
        }
        for other in nodes.all() {
            let count = other.printed(&["range", "--count", "--keyspace", &name]);
            assert_eq!(count, "3\n");
            assert_eq!(other.printed(&["get", "k"]), "of default");
            other.run(&["get", "k", "--keyspace", &name]).refused_as("does not exist");
        }
        let again = node.run(&["keyspace", "create", &name]);
        again.refused_as(&format!("there is a keyspace {name} already"));
    }
    let list = nodes.node(2).printed(&["keyspace", "list"]);
    let names: Vec<&str> = list.lines().filter_map(|row| row.split_whitespace().next()).collect();
    assert_eq!(names, ["NAME", "default", "space-1", "space-2", "space-3"], "{list}");

    for (node, name) in nodes.all().zip(["space-2", "space-3", "space-1"]) {
        node.printed(&["keyspace", "delete", name]);
        for other in nodes.all() {
            let gone = format!("there is no keyspace {name}");
            other.run(&["get", "k1", "--keyspace", name]).refused_as(&gone);
            other.run(&["put", "k1", "v", "--keyspace", name]).refused_as(&gone);
        }
        node.run(&["keyspace", "delete", name]).refused_as("there is no keyspace");
    }
    // One of the same name is another one.
    nodes.node(3).printed(&["keyspace", "create", "space-1", "--shards", "2"]);
    for node in nodes.all() {
        assert_eq!(node.printed(&["range", "--count", "--keyspace", "space-1"]), "0\n");
    }
    nodes.node(1).run(&["keyspace", "delete", "default"]).refused_as("default stays");
    nodes.node(1).run(&["keyspace", "create", "a b"]).refused_as("a keyspace's name is");
    // Of what is gone nothing is kept: the meta group, the default keyspace and the last are.
    for (dir, node) in nodes.0.values() {
        let kept = || dir.path().join("data/groups").read_dir().expect("its groups").count();
        assert!(until(|| kept() == 4), "{} groups are kept by {}", kept(), node.id());
    }
}

#[test]
fn what_is_about_several_shards_says_so() {
    let nodes = Nodes::start(1, &["--shards", "8"]);
    let node = nodes.any();
    for number in 0..40 {
        node.printed(&["put", &format!("key/{number:02}"), "v"]);
    }
    let listed = node.printed(&["range", "key/", "--keys-only"]);
    let expected: Vec<String> = (0..40).map(|number| format!("key/{number:02}")).collect();
    assert_eq!(listed.lines().collect::<Vec<_>>(), expected, "in the order of keys");
    let backwards = node.printed(&["range", "key/", "--keys-only", "--reverse", "--limit", "3"]);
    assert_eq!(backwards, "key/39\nkey/38\nkey/37\n");

    let put = |key: &str| json!({ "put": { "key": key, "value": "w" } });
    let across = json!({ "then": [put("key/00"), put("key/01")] }).to_string();
    node.run(&["txn", &across]).refused_as("in different shards of the keyspace default");
    let together = json!({ "then": [put("{a}/1"), put("{a}/2")] }).to_string();
    node.printed(&["txn", &together]);
    node.run(&["lease", "grant", "10s"]).refused_as("a lease belongs to one shard");
    let lease = node.printed(&["lease", "grant", "10s", "--near", "{a}"]);
    node.printed(&["put", "{a}/3", "v", "--lease", lease.trim()]);
    node.printed(&["lease", "revoke", lease.trim(), "--near", "{a}"]);
    assert_eq!(node.printed(&["range", "{a}/", "--keys-only"]), "{a}/1\n{a}/2\n");
    node.run(&["compact", "3"]).refused_as("a compaction belongs to one shard");
    let deleted = node.printed(&["del", "--prefix", "key/"]);
    assert_eq!(deleted, "deleted 40 keys in several shards\n");
}

#[test]
fn all_are_killed_at_once_and_everything_acknowledged_is_there() {
    let nodes = Nodes::start(3, &["--shards", "8"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    for number in 0..30 {
        let key = format!("key/{number}");
        nodes.node(number % 3 + 1).printed(&["put", &key, &number.to_string()]);
    }
    let dirs: Vec<TempDir> = nodes
        .0
        .into_values()
        .map(|(dir, node)| {
            node.kill();
            dir
        })
        .collect();
    let starting: Vec<Node> = dirs.iter().map(|dir| Node::starting(dir.path())).collect();
    let nodes: Vec<Node> = starting.into_iter().map(Node::until_ready).collect();
    for node in &nodes {
        for number in 0..30 {
            assert_eq!(node.printed(&["get", &format!("key/{number}")]), number.to_string());
        }
    }
}

#[test]
fn as_many_are_under_maintenance_as_leave_every_group_its_majority() {
    let mut nodes = Nodes::start(3, &["--shards", "4"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    nodes.any().printed(&["settings", "set", "lost-after", "1s"]);
    let refused = nodes.any().run(&["maintenance", "on", "2", "3"]);
    refused.refused_as("would have no majority left");
    let on = nodes.any().printed(&["maintenance", "on", "3"]);
    assert_eq!(on, "under maintenance: 3\n");
    let refused = nodes.node(2).run(&["maintenance", "on", "2"]);
    refused.refused_as("would have no majority left");
    let leads = |node: &Node| led_by(node, &shards(node, "default"));
    assert!(until(|| leads(nodes.node(3)) == 0), "it leads still");

    // It may be away as long as it likes.
    let (dir, node) = nodes.take(3);
    node.kill();
    assert!(until(|| health(nodes.any(), 3) == "dead"), "it is gone for longer than any may be");
    let holds = spread(&shards(nodes.any(), "default"), [3])[&3].0;
    assert_eq!(holds, 4, "its replicas are not made again elsewhere");
    nodes.any().printed(&["rebalance", "--dry-run"]);
    let back = Node::start(dir.path(), &[]);
    back.printed(&["maintenance", "off", "3"]);
    nodes.0.insert(3, (dir, back));
    nodes.wait_for_spread(&[1, 2, 3], 3);
}

/// The groups of shards as a node sees them, by their numbers.
fn groups(node: &Node) -> BTreeMap<u64, Value> {
    let groups = cluster(node)["groups"].take();
    let groups = groups.as_array().cloned().unwrap_or_default().into_iter();
    let groups = groups.filter_map(|group| Some((group["id"].as_u64()?, group)));
    groups.filter(|(id, _)| *id != 0).collect()
}

/// How long it takes until every other node suspects one that was killed and knows other leaders of
/// all that it led; the groups that a node knows of are those that it holds.
fn noticed_in(nodes: &Nodes, asking: &Asking, dead: u64, killed: Instant) -> Duration {
    let is_noticed = |node: &Node| {
        let cluster = asking.get(node, "/v1/cluster");
        let list = |name: &str| cluster[name].as_array().cloned().unwrap_or_default();
        let is_suspect = |member: &Value| member["node"] == dead && member["health"] == "suspect";
        let is_led = |group: &Value| group["leader"].as_u64().is_some_and(|leader| leader != dead);
        list("members").iter().any(is_suspect) && list("groups").iter().all(is_led)
    };
    assert!(until(|| nodes.all().all(is_noticed)), "not all notice that node {dead} is gone");
    killed.elapsed()
}

#[test]
fn a_killed_node_is_suspect_and_what_it_led_is_led_by_others_within_two_seconds() {
    const WITHIN: Duration = Duration::from_secs(2);
    let asking = Asking::new();
    let mut nodes = Nodes::start(5, &["--shards", "10"]);
    let all = [1, 2, 3, 4, 5];
    nodes.wait_for_spread(&all, 3);
    let load = Load::begin(nodes.any());
    load.goes_on();
    let mut took = Vec::new();
    for number in all {
        let (dir, node) = nodes.take(number);
        let killed = Instant::now();
        node.kill();
        took.push(noticed_in(&nodes, &asking, number, killed));
        load.goes_on();
        let back = Node::start(dir.path(), &[]);
        nodes.0.insert(number, (dir, back));
        nodes.wait_for_spread(&all, 3);
    }
    load.end(nodes.all());
    // The machine may have been busy with others at one of them.
    took.sort_unstable();
    assert!(took[took.len() / 2] <= WITHIN, "{took:?}");
}

#[test]
fn a_killed_node_that_comes_back_in_time_catches_up_and_nothing_is_moved() {
    let mut nodes = Nodes::start(3, &["--shards", "12"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let held =
        |nodes: &Nodes| -> Vec<_> { shards(nodes.any(), "default").iter().map(nodes_of).collect() };
    let before = held(&nodes);
    let keys = || (0..36).map(|number| format!("key/{number}"));
    keys().for_each(|key| drop(nodes.node(3).printed(&["put", &key, "v"])));
    let (dir, node) = nodes.take(3);
    node.kill();
    let is_noticed = |node: &Node| {
        let leads = |group: &Value| group["leader"].as_u64().is_some_and(|leader| leader != 3);
        health(node, 3) == "suspect" && groups(node).values().all(leads)
    };
    assert!(until(|| nodes.all().all(is_noticed)), "it is not noticed");
    keys().for_each(|key| drop(nodes.node(1).printed(&["put", &key, "w"])));

    let node = Node::start(dir.path(), &[]);
    nodes.0.insert(3, (dir, node));
    let has_all = |nodes: &Nodes| {
        let applied = |node: &Node| -> Vec<Value> {
            groups(node).into_values().map(|mut group| group["applied_index"].take()).collect()
        };
        health(nodes.node(1), 3) == "healthy" && applied(nodes.node(3)) == applied(nodes.node(1))
    };
    assert!(until(|| has_all(&nodes)), "it does not catch up");
    keys().for_each(|key| assert_eq!(nodes.node(3).printed(&["get", &key]), "w"));
    assert_eq!(held(&nodes), before, "something was moved");
}

#[test]
fn groups_in_which_nothing_happens_sleep_until_they_are_touched_or_their_leader_is_gone() {
    let mut nodes = Nodes::start(3, &["--shards", "8"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let sleeps = |node: &Node| {
        let groups = groups(node);
        groups.len() == 8 && groups.values().all(|group| group["asleep"] == true)
    };
    let all_sleep = |nodes: &Nodes| assert!(until(|| nodes.all().all(sleeps)), "they don't sleep");
    all_sleep(&nodes);
    let terms = |nodes: &Nodes| -> Vec<BTreeMap<u64, Value>> {
        let terms = |node: &Node| {
            groups(node).into_iter().map(|(id, mut group)| (id, group["term"].take())).collect()
        };
        nodes.all().map(terms).collect()
    };
    let before = terms(&nodes);

    // Touched through any node, each answers as ever, and is led by whom it was.
    for number in 0..24 {
        let key = format!("key/{number}");
        nodes.node(number % 3 + 1).printed(&["put", &key, "v"]);
        assert_eq!(nodes.node((number + 1) % 3 + 1).printed(&["get", &key]), "v");
    }
    assert_eq!(terms(&nodes), before);
    all_sleep(&nodes);

    // A node that comes back to groups that sleep disturbs none of those that others lead.
    let led_by_others = |nodes: &Nodes| -> BTreeMap<u64, Value> {
        let groups = groups(nodes.node(1)).into_iter();
        let by_others = groups.filter(|(_, group)| group["leader"] != 3);
        by_others.map(|(id, mut group)| (id, group["term"].take())).collect()
    };
    let before = led_by_others(&nodes);
    let (dir, node) = nodes.take(3);
    node.kill();
    let back = Node::start(dir.path(), &[]);
    nodes.0.insert(3, (dir, back));
    let is_up = |node: &Node| health(node, 3) == "healthy";
    assert!(until(|| is_up(nodes.node(1)) && groups(nodes.node(3)).len() == 8));
    all_sleep(&nodes);
    let after = led_by_others(&nodes);
    assert!(before.iter().all(|(id, term)| after.get(id).is_none_or(|now| now == term)));

    // One whose leader is gone is woken for another.
    let (_dir, node) = nodes.take(2);
    node.kill();
    for number in 0..24 {
        let key = format!("key/{number}");
        nodes.node(1).printed(&["put", &key, "w"]);
        assert_eq!(nodes.node(3).printed(&["get", &key]), "w");
    }
}

#[test]
fn of_many_groups_that_sleep_most_are_put_away_and_opened_by_whoever_needs_them() {
    const SHARDS: usize = 48;
    // The meta group's, and those that fell asleep last.
    const OPEN: usize = 17;
    let mut nodes = Nodes::start(3, &[]);
    nodes.node(2).printed(&["keyspace", "create", "many", "--shards", &SHARDS.to_string()]);
    let are_put_away = |nodes: &Nodes| {
        let is_so = |node: &Node| {
            let groups = groups(node);
            let sleep = groups.values().all(|group| group["asleep"] == true);
            groups.len() == SHARDS + 1 && sleep && node.open_files("state.redb") <= OPEN
        };
        let open = || nodes.all().map(|node| node.open_files("state.redb")).collect::<Vec<_>>();
        assert!(until(|| nodes.all().all(is_so)), "they are not put away: {:?}", open());
    };
    let many = ["--keyspace", "many"];
    let put = |node: &Node, key: &str, value: &str| {
        node.printed(&[&["put", key, value], &many[..]].concat());
    };
    let get = |node: &Node, key: &str, read: &str| {
        node.printed(&[&["get", key, "--consistency", read], &many[..]].concat())
    };
    let key = |number: usize| format!("key/{number}");
    are_put_away(&nodes);

    // To look at them opens none.
    let terms = |nodes: &Nodes| -> Vec<Value> {
        groups(nodes.any()).into_values().map(|mut group| group["term"].take()).collect()
    };
    let before = terms(&nodes);
    nodes.all().for_each(|node| assert!(node.printed(&["status"]).contains("REVISION")));
    are_put_away(&nodes);
    assert_eq!(terms(&nodes), before);

    // Each is opened for a write through any node.
    (0..2 * SHARDS).for_each(|n| put(nodes.node(n as u64 % 3 + 1), &key(n), "v"));

    // Nobody has used them since their nodes were started again.
    for number in 1..=3 {
        let (dir, node) = nodes.take(number);
        node.kill();
        let node = Node::start(dir.path(), &[]);
        nodes.0.insert(number, (dir, node));
    }
    are_put_away(&nodes);
    // Half of them are opened for reads of any kind.
    for number in 0..SHARDS {
        let read = ["linearizable", "lease", "stale"][number % 3];
        let node = nodes.node((number as u64 + 1) % 3 + 1);
        assert_eq!(get(node, &key(number), read), "v", "{number}, {read}");
    }

    // What was led by a node that is gone is led by another, whether it was put away or not.
    let (_dir, node) = nodes.take(2);
    node.kill();
    for number in 0..2 * SHARDS {
        put(nodes.node([1, 3][number % 2]), &key(number), "w");
        assert_eq!(get(nodes.node(3), &key(number), "linearizable"), "w");
    }
}
