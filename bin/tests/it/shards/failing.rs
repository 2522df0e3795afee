//! Nodes are killed: one, all at once, for good or for a while.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Load, Nodes, groups, health, killed, nodes_of, shards};
use crate::support::{Asking, Node, until};

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

#[test]
fn all_are_killed_at_once_and_everything_acknowledged_is_there() {
    let nodes = Nodes::start(3, &["--shards", "8"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    for number in 0..30 {
        let key = format!("key/{number}");
        nodes.node(number % 3 + 1).printed(&["put", &key, &number.to_string()]);
    }
    // More is on its way when they end.
    let load = Load::begin(nodes.any());
    load.goes_on();
    let dirs = killed(nodes.0.into_values());
    let counters = load.cut_off();
    assert!(counters.iter().all(|(_, written)| *written.start() > 0), "{counters:?}");
    let starting: Vec<Node> = dirs.iter().map(|dir| Node::starting(dir.path())).collect();
    let nodes: Vec<Node> = starting.into_iter().map(Node::until_ready).collect();
    for node in &nodes {
        for number in 0..30 {
            assert_eq!(node.printed(&["get", &format!("key/{number}")]), number.to_string());
        }
    }
    for (key, written) in counters {
        let reads: Vec<String> = nodes.iter().map(|node| node.printed(&["get", &key])).collect();
        let count = reads[0].parse::<u64>().expect("a number");
        assert!(written.contains(&count), "{key} is {count} and should be {written:?}");
        assert!(reads.iter().all(|read| *read == reads[0]), "{key}: {reads:?}");
    }
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
    let stays = |nodes: &Nodes, when: &str| {
        assert_eq!(held(nodes), before, "something was moved, {when}");
    };
    let is_noticed = |node: &Node| {
        let leads = |group: &Value| group["leader"].as_u64().is_some_and(|leader| leader != 3);
        health(node, 3) == "suspect" && groups(node).values().all(leads)
    };
    let all_notice = || {
        stays(&nodes, "it is away");
        nodes.all().all(is_noticed)
    };
    assert!(until(all_notice), "it is not noticed");
    keys().for_each(|key| drop(nodes.node(1).printed(&["put", &key, "w"])));

    let node = Node::start(dir.path(), &[]);
    nodes.0.insert(3, (dir, node));
    let has_all = |nodes: &Nodes| {
        stays(nodes, "it catches up");
        let applied = |node: &Node| -> Vec<Value> {
            groups(node).into_values().map(|mut group| group["applied_index"].take()).collect()
        };
        health(nodes.node(1), 3) == "healthy" && applied(nodes.node(3)) == applied(nodes.node(1))
    };
    assert!(until(|| has_all(&nodes)), "it does not catch up");
    keys().for_each(|key| assert_eq!(nodes.node(3).printed(&["get", &key]), "w"));
    // Its share of leads comes back to it, and with them no replica.
    nodes.wait_for_spread(&[1, 2, 3], 3);
    stays(&nodes, "it is back");
}

#[test]
fn a_founder_that_hears_late_of_its_shards_makes_up_for_one_that_dies() {
    const LATE: Duration = Duration::from_secs(2);
    let mut nodes = Nodes::start(3, &[]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    nodes.node(3).signal("STOP");
    nodes.node(1).printed(&["keyspace", "create", "late", "--shards", "4"]);
    let keys: Vec<String> = (0..16).map(|number| format!("key/{number}")).collect();
    for key in &keys {
        nodes.node(1).printed(&["put", key, "of two", "--keyspace", "late"]);
    }
    // It has nothing of them, and they are there for it to begin with.
    let stopped = Instant::now();
    while stopped.elapsed() < LATE {
        let shards = shards(nodes.node(1), "late");
        let is_there = |shard: &Value| {
            shard["stage"] == "founding" && nodes_of(shard) == BTreeSet::from([1, 2, 3])
        };
        assert!(shards.iter().all(is_there), "{shards:?}");
    }
    let (_its_dir, dies) = nodes.take(1);
    dies.kill();
    nodes.node(3).signal("CONT");
    for key in &keys {
        assert_eq!(nodes.node(3).printed(&["get", key, "--keyspace", "late"]), "of two");
        nodes.node(2).printed(&["put", key, "of two others", "--keyspace", "late"]);
    }
}
