//! Many shards on many nodes: they spread, follow members that come, go and die, and nothing that was
//! acknowledged is lost or goes wrong on the way.

mod failing;
mod load;
mod operating;
mod sleeping;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) use self::load::Load;
use crate::cluster::cluster;
use crate::support::{Node, until};

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
    /// evenly, and are led by them as evenly: by what each says that it leads and who votes with it,
    /// and not only by what is to be.
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

/// Kills nodes; their directories are left.
fn killed(nodes: impl IntoIterator<Item = (TempDir, Node)>) -> Vec<TempDir> {
    let kill = |(dir, node): (TempDir, Node)| {
        node.kill();
        dir
    };
    nodes.into_iter().map(kill).collect()
}

/// How many of these shards a node leads with all votes that are to be, as it says itself: of an odd
/// number of replicas all vote.
fn led_by(node: &Node, shards: &[Value]) -> usize {
    let groups = groups(node);
    let is_led = |shard: &&Value| {
        let replicas = nodes_of(shard);
        let group = shard["group"].as_u64().and_then(|id| groups.get(&id));
        group.filter(|group| group["role"] == "leader").is_some_and(|group| {
            let voters = numbers(&group["voters"]);
            voters == replicas || replicas.len().is_multiple_of(2) && voters.is_subset(&replicas)
        })
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
    numbers(&shard["replicas"])
}

pub(crate) fn numbers(list: &Value) -> BTreeSet<u64> {
    list.as_array().into_iter().flatten().filter_map(Value::as_u64).collect()
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

/// How well a member is, as a node sees it.
fn health(node: &Node, of: u64) -> String {
    let members = cluster(node)["members"].take();
    let found = members.as_array().into_iter().flatten().find(|member| member["node"] == of);
    let health = found.and_then(|member| member["health"].as_str());
    health.unwrap_or_default().to_owned()
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

/// The groups of shards as a node sees them, by their numbers.
fn groups(node: &Node) -> BTreeMap<u64, Value> {
    let groups = cluster(node)["groups"].take();
    let groups = groups.as_array().cloned().unwrap_or_default().into_iter();
    let groups = groups.filter_map(|group| Some((group["id"].as_u64()?, group)));
    groups.filter(|(id, _)| *id != 0).collect()
}
