//! Nodes join, are drained, leave, and are under maintenance.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::{Load, Nodes, health, killed, led_by, nodes_of, numbers, shards, spread};
use crate::cluster::{cluster, members};
use crate::support::{Asking, Following, Node, Run, until};

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
    let mut took = Vec::new();
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
        took.push(is_there.elapsed());
        let all: Vec<u64> = (1..=joined).collect();
        nodes.wait_for_spread(&all, 3);
        let moved: BTreeSet<_> = placed(nodes.any()).difference(&before).copied().collect();
        assert!(moved.len() as u64 <= (3 * 12_u64).div_ceil(joined), "{moved:?}");
        assert!(moved.iter().all(|(_, node)| *node == joined), "{moved:?}");
        load.goes_on();
    }
    load.end(nodes.all());
    println!("known to all after {took:?}");
    assert!(took.iter().all(|took| *took <= KNOWN_WITHIN), "{took:?}");
}

/// Asserts that a run went well and told how many shards were still to go, of at most so many, each
/// time that there were fewer.
#[track_caller]
fn goes_only_forward(run: &Run, at_first: usize, printed: &str) {
    assert_eq!((run.code, run.stdout.as_str()), (0, printed), "{run:?}");
    let number = |line: &str| line.split_whitespace().find_map(|word| word.parse::<usize>().ok());
    // The first number is the node's.
    let count = |line: &str| line.split_once(": ").and_then(|(_, told)| number(told));
    let told = run.stderr.lines().map(|line| line.strip_prefix("aspen: ").and_then(count));
    let counts = told.collect::<Option<Vec<usize>>>().unwrap_or_else(|| panic!("{run:?}"));
    assert!(counts.is_sorted_by(|a, b| a > b), "{run:?}");
    assert!(counts.first().is_some_and(|first| *first <= at_first), "of {at_first}: {run:?}");
}

#[test]
fn a_drain_that_nobody_can_take_part_in_says_so_and_waits() {
    let nodes = Nodes::start(3, &["--shards", "2"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let dir = tempfile::tempdir().expect("a directory");
    let notes = dir.path().join("notes");
    let mut waiting = nodes.node(1).command(&["drain", "2", "--wait"]);
    waiting.stderr(File::create(&notes).expect("a file"));
    let mut waiting = Following::spawn(&mut waiting);
    let told = || fs::read_to_string(&notes).expect("notes");
    let why = "no other member can take the rest now; node 2 keeps it until one can: ";
    assert!(until(|| told().contains(why)), "{}", told());
    assert_eq!(spread(&shards(nodes.any(), "default"), [2])[&2].0, 2);
    nodes.node(3).printed(&["drain", "2", "--off"]);
    assert_eq!(waiting.code(), Some(1));
    assert!(told().ends_with("node 2 takes its share again: somebody ended the drain\n"));
    nodes.wait_for_spread(&[1, 2, 3], 3);
}

#[test]
fn a_node_is_drained_and_taken_back_and_leaves_under_load() {
    let mut nodes = Nodes::start(4, &["--shards", "8"]);
    nodes.wait_for_spread(&[1, 2, 3, 4], 3);
    let load = Load::begin(nodes.any());
    let held = |node| spread(&shards(nodes.any(), "default"), [node])[&node].0;
    let at_first = held(2);
    let drained = nodes.node(3).run(&["drain", "2", "--wait"]);
    goes_only_forward(&drained, at_first, "node 2 is drained: it holds no shard\n");
    assert_eq!(held(2), 0);
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

    // So that there is something to tell.
    nodes.any().printed(&["settings", "set", "moves-at-once", "1"]);
    let at_first = held(3);
    let left = nodes.node(3).run(&["leave"]);
    goes_only_forward(&left, at_first, "node 3 has left the cluster\n");
    assert!(until(|| members(nodes.node(1)) == [1, 2, 4]));
    nodes.take(3);
    nodes.wait_for_spread(&[1, 2, 4], 3);
    load.goes_on();
    load.end(nodes.all());
}

#[test]
fn two_are_under_maintenance_at_once_where_every_group_keeps_its_majority() {
    let mut nodes = Nodes::start(5, &[]);
    nodes.wait_for_spread(&[1, 2, 3, 4, 5], 3);
    let holders = nodes_of(&shards(nodes.any(), "default")[0]);
    let all: BTreeSet<u64> = nodes.0.keys().copied().collect();
    // All five are the meta group's, three of them the shard's.
    assert!(until(|| nodes.all().all(|node| meta_voters(node) == all)), "not all vote");
    let free: Vec<u64> = all.difference(&holders).copied().collect();
    let held: Vec<String> = holders.iter().map(u64::to_string).collect();
    let on = |node: u64, members: &[&str]| {
        nodes.node(node).run(&[&["maintenance", "on"], members].concat())
    };
    on(free[0], &[&held[0], &held[1]]).refused_as("would have no majority left");
    let two = [free[0].to_string(), free[1].to_string()];
    let done = on(free[0], &[&two[0], &two[1]]);
    assert_eq!(done.printed(), format!("under maintenance: {}, {}\n", two[0], two[1]));
    on(free[1], &[&held[0]]).refused_as("would have no majority left");
    for node in nodes.all() {
        let leads = || {
            let groups = cluster(node)["groups"].take();
            let list = groups.as_array().cloned().unwrap_or_default();
            list.into_iter().any(|group| free.iter().any(|free| group["leader"] == *free))
        };
        assert!(until(|| !leads()), "it leads still, as node {} sees it", node.id());
    }
    let dirs = killed(free.iter().map(|node| nodes.take(*node)));
    for node in nodes.all() {
        let name = format!("by-{}", node.id());
        node.printed(&["put", &name, "v"]);
        assert_eq!(node.printed(&["get", &name]), "v");
        node.printed(&["keyspace", "create", &name]);
    }
    for (number, dir) in free.iter().zip(dirs) {
        let node = Node::start(dir.path(), &[]);
        node.printed(&["maintenance", "off", &number.to_string()]);
        nodes.0.insert(*number, (dir, node));
    }
    nodes.wait_for_spread(&[1, 2, 3, 4, 5], 3);
}

/// The voters of the meta group, as a node sees it.
fn meta_voters(node: &Node) -> BTreeSet<u64> {
    numbers(&cluster(node)["groups"][0]["voters"])
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
