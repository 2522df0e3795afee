//! A node whose disk is full: others lead what it led, the cluster goes on through every node, and it
//! returns by itself once there is room.
//!
//! Its disk is a small file system in memory that only the node's process sees, which takes root as
//! network namespaces do. It is filled with a file beside the node's own.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use serde_json::Value;

use crate::cluster::cluster;
use crate::netns::ready::is_ready;
use crate::shards::{Load, Nodes, nodes_of, shards, spread};
use crate::support::{Node, run, until};

const DISK_MIB: u32 = 192;
/// Of this size a few fill what the log has made ready of itself.
const VALUE_BYTES: usize = 900_000;

/// What takes the room on a disk; gone when dropped.
struct Filler {
    path: PathBuf,
    file: File,
}

impl Filler {
    /// Leaves this much of the disk, in percent.
    #[track_caller]
    fn leaving(directory: &Path, percent: u64) -> Self {
        let disk = statvfs(directory).expect("a disk");
        let left = disk.f_blocks * percent / 100;
        let path = directory.join("filler");
        let filler = Filler { file: File::create(&path).expect("a file"), path };
        filler.grow(disk.f_bavail.saturating_sub(left) * disk.f_frsize);
        filler
    }

    fn grow(&self, mut bytes: u64) {
        let block = vec![1; 4_096];
        while bytes > 0 && (&self.file).write_all(&block).is_ok() {
            bytes = bytes.saturating_sub(block.len() as u64);
        }
    }

    /// Takes the last byte.
    fn fill(&self) {
        self.grow(u64::MAX);
    }
}

impl Drop for Filler {
    fn drop(&mut self) {
        fs::remove_file(&self.path).expect("it is there");
    }
}

/// What a node's part says of itself, by its health.
fn part(node: &Node, name: &str) -> (String, String) {
    let health: Value = serde_json::from_str(&health(node)).expect("JSON");
    let parts = health["parts"].as_array().cloned().unwrap_or_default();
    let part = parts.into_iter().find(|part| part["name"] == name).unwrap_or_default();
    let text = |field: &str| part[field].as_str().unwrap_or_default().to_owned();
    (text("state"), text("reason"))
}

fn health(node: &Node) -> String {
    let mut curl = std::process::Command::new("curl");
    run(curl.args(["--silent", &format!("{}/health", node.url())])).printed()
}

/// The groups that a node leads, as another sees it.
fn led_by(node: u64, as_seen_by: &Node) -> Vec<Value> {
    let groups = cluster(as_seen_by)["groups"].take();
    let groups = groups.as_array().cloned().unwrap_or_default().into_iter();
    groups.filter(|group| group["leader"] == node).map(|mut group| group["id"].take()).collect()
}

/// What is written through each node is read through each.
#[track_caller]
fn serves_through_all(nodes: &Nodes, when: &str) {
    for writer in nodes.all() {
        for number in 0..4 {
            let key = format!("through/{}/{number}", writer.id());
            writer.printed(&["put", &key, when]);
            for reader in nodes.all() {
                assert_eq!(reader.printed(&["get", &key]), when, "{key} by {}", reader.id());
            }
        }
    }
}

/// Scenarios 17 and 26.
#[test]
fn a_node_with_a_full_disk_leads_nothing_is_given_nothing_and_returns_when_there_is_room() {
    if !is_ready() {
        return;
    }
    let mut nodes = Nodes::start(2, &["--shards", "6"]);
    let dir = tempfile::tempdir().expect("a directory");
    let ticket = nodes.any().printed(&["ticket", "create"]);
    let third = Node::join_on_disk_of(dir.path(), DISK_MIB, ticket.trim());
    let data = third.path(&dir.path().join("data"));
    assert_eq!(third.id(), 3);
    nodes.0.insert(3, (dir, third));
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let leads = |node| led_by(3, nodes.node(node)).len();
    assert!(until(|| leads(1) == 2), "{:?}", cluster(nodes.node(1)));
    let load = Load::begin(nodes.node(1));
    load.goes_on();

    // Under 5 %: it says so, leads nothing, and is given nothing.
    let filler = Filler::leaving(&data, 3);
    let disk = || part(nodes.node(3), "disk");
    let says = |what: &str| until(|| disk().0 == "unhealthy" && disk().1.contains(what));
    assert!(says("of the disk is free: until there is more"), "{}", health(nodes.node(3)));
    let leads_nothing = || [1, 2, 3].into_iter().all(|node| leads(node) == 0);
    assert!(until(leads_nothing), "it leads on: {:?}", led_by(3, nodes.node(1)));
    let is_to_lead = || spread(&shards(nodes.node(1), "default"), [3])[&3].1;
    assert!(until(|| is_to_lead() == 0), "{:?}", shards(nodes.node(1), "default"));
    load.goes_on();
    serves_through_all(&nodes, "under 5 %");
    nodes.node(3).printed(&["keyspace", "create", "more", "--shards", "4"]);
    let more = || shards(nodes.node(1), "more");
    let is_on = |on: &[u64]| {
        let holds = |shard: &Value| nodes_of(shard).into_iter().eq(on.iter().copied());
        more().iter().all(|shard| shard["stage"] == "settled" && holds(shard))
    };
    assert!(until(|| is_on(&[1, 2])), "{:?}", more());
    nodes.node(3).printed(&["put", "k", "v", "--keyspace", "more"]);
    assert_eq!(nodes.node(3).printed(&["get", "k", "--keyspace", "more"]), "v");

    // To the last byte, and past what the log had made ready.
    filler.fill();
    let big = "v".repeat(VALUE_BYTES);
    let value = dir_file(nodes.0[&1].0.path(), &big);
    for number in 0..12 {
        let key = format!("big/{number}");
        nodes.node(1).printed(&["put", &key, "--file", value.to_str().expect("text")]);
    }
    assert!(says("has no room for the log"), "{}", health(nodes.node(3)));
    load.goes_on();
    serves_through_all(&nodes, "to the last byte");
    assert!(leads_nothing(), "{:?}", led_by(3, nodes.node(1)));
    load.goes_on();

    // Room again, and nobody starts anything.
    drop(filler);
    let is_well = || !health(nodes.node(3)).contains("unhealthy");
    assert!(until(is_well), "{}", health(nodes.node(3)));
    assert!(until(|| is_on(&[1, 2, 3])), "{:?}", more());
    nodes.node(3).printed(&["keyspace", "delete", "more"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    assert!(until(|| leads(1) == 2), "{:?}", cluster(nodes.node(1)));
    serves_through_all(&nodes, "room again");
    for number in 0..12 {
        let stale = ["get", &format!("big/{number}"), "--consistency", "stale"];
        assert!(until(|| nodes.node(3).run(&stale).stdout == big), "big/{number} is not there");
    }
    load.goes_on();
    load.end(nodes.all());
}

fn dir_file(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("big");
    crate::support::write_file(&path, text);
    path
}
