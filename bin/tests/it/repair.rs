//! Damaged replicas: named, stopped, and taken again from the other nodes, with nothing lost on the
//! way.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::cluster::cluster;
use crate::shards::Nodes;
use crate::support::{FAILPOINTS, Node, Run, until, write_file};

const KEYS: usize = 60;
/// More than a repair has.
const STEPS_MAX: u32 = 30;

fn key(n: usize) -> String {
    format!("key/{n:03}")
}

/// Nowhere twice, so that its place in a file can be found.
fn value(n: usize) -> String {
    format!("needle-{n:03}-").repeat(40)
}

/// A keyspace of two shards on three nodes, and keys in it.
#[track_caller]
fn filled() -> Nodes {
    let nodes = Nodes::start(3, &["--shards", "2", "--node-name", "the-one-that-founded-it"]);
    wait_for_voters(&nodes, &[1, 2, 3]);
    (0..KEYS).for_each(|n| drop(nodes.node(1).printed(&["put", &key(n), &value(n)])));
    nodes
}

fn groups_of(node: &Node) -> Vec<Value> {
    cluster(node)["groups"].as_array().cloned().unwrap_or_default()
}

#[track_caller]
fn group_of(node: &Node, group: u64) -> Value {
    let groups = groups_of(node);
    let found = groups.iter().find(|found| found["id"] == group);
    found.unwrap_or_else(|| panic!("group {group} is not in {groups:?}")).clone()
}

/// Waits until all groups have these voters, as each node sees it.
#[track_caller]
fn wait_for_voters(nodes: &Nodes, voters: &[u64]) {
    let has = |node: &Node| {
        let groups = groups_of(node);
        groups.len() == 3 && groups.iter().all(|group| group["voters"] == json!(voters))
    };
    let in_time = until(|| nodes.all().all(has));
    let seen: Vec<_> = nodes.all().map(groups_of).collect();
    assert!(in_time, "no voters {voters:?}: {seen:#?}");
}

/// Every key is read through a node, from its own replicas only if it says `stale`.
#[track_caller]
fn reads_all(node: &Node, consistency: &str) {
    for n in 0..KEYS {
        let read = node.printed(&["get", &key(n), "--consistency", consistency]);
        assert_eq!(read, value(n), "{} at node {}", key(n), node.id());
    }
}

/// The group of a key.
#[track_caller]
fn group_of_key(node: &Node, n: usize) -> u64 {
    let shown = node.printed(&["keyspace", "show", "default", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let groups: Vec<u64> = shown["shards"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|shard| shard["group"].as_u64())
        .collect();
    let shard = aspen::roster::spread::shard_of(key(n).as_bytes(), groups.len() as u32);
    groups[shard as usize]
}

/// Stops a node, damages something in its data, and starts it again.
#[track_caller]
fn damaged(nodes: &mut Nodes, number: u64, damage: impl FnOnce(&Path)) {
    let (dir, mut node) = nodes.take(number);
    node.signal("TERM");
    node.code();
    damage(&dir.path().join("data"));
    let node = Node::start(dir.path(), &[]);
    nodes.0.insert(number, (dir, node));
}

/// Flips a bit of a text where it stands in a file; true if it does.
#[expect(clippy::disallowed_methods, reason = "what a stopped node has is damaged from outside")]
fn flip(path: &Path, text: &str) -> bool {
    let mut bytes = fs::read(path).expect("the file");
    let Some(at) = bytes.windows(text.len()).position(|found| found == text.as_bytes()) else {
        return false;
    };
    bytes[at + 1] ^= 1;
    File::create(path).and_then(|mut file| file.write_all(&bytes)).expect("written");
    true
}

fn flip_in_log(data: &Path, text: &str) {
    let segments = fs::read_dir(data.join("log")).expect("the log");
    let segments: Vec<PathBuf> = segments.map(|entry| entry.expect("an entry").path()).collect();
    assert!(segments.iter().any(|path| flip(path, text)), "{text:?} is not in the log");
}

/// Waits until a node says that a group is damaged, wherever it says how it is.
#[track_caller]
fn is_named(node: &Node, group: u64, entry: bool) {
    let place = format!("group {group} is damaged{}", if entry { " at entry " } else { ": " });
    let remedy = format!("`aspen repair {group}`");
    let part_of = || -> Value {
        let status: Value =
            serde_json::from_str(&node.printed(&["status", "--json"])).expect("JSON");
        let mut parts = status["health"]["parts"].as_array().into_iter().flatten();
        parts.find(|part| part["name"] == format!("group {group}")).cloned().unwrap_or_default()
    };
    let says = || {
        let reason = part_of()["reason"].as_str().unwrap_or_default().to_owned();
        reason.starts_with(&place) && reason.contains(&remedy)
    };
    assert!(until(says), "{}", part_of());
    node.wait_for_log(&place);
    let said = group_of(node, group);
    assert_eq!(said["role"], "stopped", "{said}");
    assert_eq!(said["damage"]["entry"].is_u64(), entry, "{said}");
    let status = node.printed(&["status"]);
    assert!(status.contains("damaged") && status.contains(&remedy), "{status}");
}

/// Repairs what a node has that is damaged, and sees that all is as it was before.
#[track_caller]
fn is_repaired(nodes: &mut Nodes, number: u64, group: u64) {
    // What it has not is read from the others meanwhile.
    reads_all(nodes.node(number), "linearizable");
    let told = nodes.node(number).printed(&["repair"]);
    assert!(told.ends_with(&format!("group {group}: it is whole again\n")), "{told}");
    wait_for_voters(nodes, &[1, 2, 3]);
    let said = group_of(nodes.node(number), group);
    assert!(said["damage"].is_null() && said["repair"].is_null(), "{said}");
    let nothing = format!("nothing that node {number} holds is known to be damaged\n");
    assert_eq!(nodes.node(number).printed(&["repair"]), nothing);
    for node in nodes.all() {
        reads_all(node, "linearizable");
        reads_all(node, "stale");
    }
    // It counts again: with it and one more, all that was acknowledged is there.
    let other = nodes.0.keys().copied().find(|other| *other != number).expect("another");
    nodes.take(other).1.kill();
    let node = nodes.node(number);
    let put = || node.run(&["--timeout", "2s", "put", "after", "all"]).code == 0;
    assert!(until(put), "no writes with node {other} gone; log:\n{}", node.log());
    nodes.all().for_each(|node| reads_all(node, "linearizable"));
}

#[test]
fn a_damaged_entry_of_the_log_is_named_and_its_replica_taken_again() {
    let mut nodes = filled();
    let group = group_of_key(nodes.node(1), 20);
    damaged(&mut nodes, 3, |data| flip_in_log(data, &value(20)));
    is_named(nodes.node(3), group, true);
    let sound = group_of(nodes.node(3), 3 - group);
    assert_eq!(sound["voters"], json!([1, 2, 3]), "the other shard goes on: {sound}");
    // Nor does it come to life by a restart.
    damaged(&mut nodes, 3, |_| {});
    is_named(nodes.node(3), group, true);
    is_repaired(&mut nodes, 3, group);
}

#[test]
fn damage_of_a_state_that_is_found_as_it_is_read_is_named_and_its_replica_taken_again() {
    let mut nodes = filled();
    let group = group_of_key(nodes.node(1), 20);
    damaged(&mut nodes, 2, |data| {
        let state = data.join(format!("groups/{group}/state.redb"));
        assert!(flip(&state, &value(20)), "the value is not in the state");
    });
    // Others know it.
    assert_eq!(nodes.node(2).printed(&["get", &key(20), "--consistency", "stale"]), value(20));
    is_named(nodes.node(2), group, false);
    is_repaired(&mut nodes, 2, group);
}

#[test]
fn the_founders_meta_group_is_taken_again_and_not_founded_anew() {
    let mut nodes = filled();
    damaged(&mut nodes, 1, |data| flip_in_log(data, "the-one-that-founded-it"));
    is_named(nodes.node(1), 0, true);
    is_repaired(&mut nodes, 1, 0);
    // Nor at the next start.
    damaged(&mut nodes, 1, |_| {});
    let members = || crate::cluster::members(nodes.node(1)).len() == 3;
    assert!(until(members), "{}", nodes.node(1).log());
}

/// The node dies at each step of a repair, one after the other, and is started again.
#[test]
fn a_repair_goes_on_where_a_crash_cut_it_off() {
    let mut nodes = filled();
    let group = group_of_key(nodes.node(1), 20);
    damaged(&mut nodes, 3, |data| flip_in_log(data, &value(20)));
    is_named(nodes.node(3), group, true);
    let mut gone_past = Vec::new();
    for steps in 0..STEPS_MAX {
        let (dir, mut node) = nodes.take(3);
        let failpoint = dir.path().join(FAILPOINTS);
        write_file(&failpoint, &steps.to_string());
        let repaired = node.run(&["repair", &group.to_string()]);
        let is_over = repaired.code == 0;
        assert!(is_over || until(|| node.has_ended()), "{repaired:?}; log:\n{}", node.log());
        gone_past.push(fs::read_to_string(&failpoint).expect("the step"));
        fs::remove_file(&failpoint).expect("removed");
        if node.has_ended() {
            node = Node::start(dir.path(), &[]);
        }
        nodes.0.insert(3, (dir, node));
        let is_whole = || {
            let said = group_of(nodes.node(3), group);
            said["repair"].is_null() && said["voters"] == json!([1, 2, 3])
        };
        // Where the crash was before it was asked for, there is nothing to go on with.
        let is_asked = gone_past.last().is_none_or(|step| step != "before a change of the roster");
        assert!(
            !is_asked || steps == 0 || until(is_whole),
            "after {gone_past:?}: {:?}",
            groups_of(nodes.node(3))
        );
        if is_over {
            break;
        }
    }
    println!("died at {gone_past:?}");
    assert!(gone_past.iter().any(|step| step == "after a replica was erased"), "{gone_past:?}");
    wait_for_voters(&nodes, &[1, 2, 3]);
    reads_all(nodes.node(3), "stale");
}

#[test]
fn what_the_others_can_t_spare_is_refused() {
    let alone = Nodes::start(1, &[]);
    let refused: Run = alone.node(1).run(&["repair", "1"]);
    refused.refused_as("there is nobody to take it from");
    let told = alone.node(1).printed(&["repair"]);
    assert_eq!(told, "nothing that node 1 holds is known to be damaged\n");
    alone.node(1).run(&["repair", "77"]).refused_as("holds no replica of group 77");
    drop(alone);

    let mut nodes = filled();
    nodes.take(2).1.kill();
    let is_noticed = || {
        let members = cluster(nodes.node(3))["members"].as_array().cloned().unwrap_or_default();
        members.iter().any(|member| member["node"] == 2 && member["health"] == "suspect")
    };
    assert!(until(is_noticed), "{:?}", cluster(nodes.node(3)));
    let refused = nodes.node(3).run(&["--timeout", "20s", "repair", "1"]);
    refused.refused_as("has no majority without this node's replica");
}

/// Asked before anybody has noticed that another node is dead.
#[test]
fn a_repair_that_another_death_overtakes_waits_and_costs_nothing() {
    let mut nodes = filled();
    let group = group_of_key(nodes.node(1), 20);
    let (dir, dead) = nodes.take(2);
    dead.kill();
    let asked = nodes.node(3).following(&["repair", &group.to_string()]);
    let put =
        |value: &str| nodes.node(3).run(&["--timeout", "3s", "put", &key(20), value]).code == 0;
    for round in 0..20 {
        assert!(until(|| put(&round.to_string())), "no writes: {:?}", groups_of(nodes.node(1)));
    }
    assert!(until(|| put(&value(20))));
    drop(asked);
    let again = Node::start(dir.path(), &[]);
    nodes.0.insert(2, (dir, again));
    nodes.node(3).run(&["repair", &group.to_string()]);
    wait_for_voters(&nodes, &[1, 2, 3]);
    nodes.all().for_each(|node| reads_all(node, "linearizable"));
}
