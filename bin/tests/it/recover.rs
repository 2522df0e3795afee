//! A majority is lost for good: a survivor makes a new cluster of what it has, whole or not at all.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use aspen::seams::failpoint::Failpoint::{self, *};
use serde_json::{Value, json};

use crate::cluster::{cluster, members};
use crate::shards::Nodes;
use crate::support::{FAILPOINTS, Node, Run, aspen, run, until, write_file};

const KEYS: usize = 30;
/// More than a recovery has.
const STEPS_MAX: u32 = 30;

fn recover(dir: &Path, more: &[&str]) -> Run {
    let mut command = aspen(["recover", "--data-dir"]);
    run(command.arg(dir.join("data")).args(more).env("FAILPOINTS", dir.join(FAILPOINTS)))
}

/// What would be done.
#[track_caller]
fn surveyed(dir: &Path) -> Value {
    serde_json::from_str(&recover(dir, &["--json"]).printed()).expect("JSON")
}

fn key(keyspace: &str, n: usize) -> String {
    format!("{keyspace}/{n:03}")
}

#[track_caller]
fn put_all(node: &Node, keyspace: &str, value: &str) {
    for n in 0..KEYS {
        node.printed(&["put", &key(keyspace, n), value, "--keyspace", keyspace]);
    }
}

#[track_caller]
fn has_all(node: &Node, keyspace: &str, value: &str) {
    for n in 0..KEYS {
        let got = node.printed(&["get", &key(keyspace, n), "--keyspace", keyspace]);
        assert_eq!(got, value, "{} at node {}", key(keyspace, n), node.id());
    }
}

/// Waits until every group of the node has these voters.
#[track_caller]
fn wait_for_voters(node: &Node, groups: usize, voters: &[u64]) {
    let are = || {
        let all = cluster(node)["groups"].as_array().cloned().unwrap_or_default();
        all.len() == groups && all.iter().all(|group| group["voters"] == json!(voters))
    };
    assert!(until(are), "not {voters:?}: {}", cluster(node));
}

/// Three nodes with two keyspaces, of which two die; where the survivor's data is, and a token.
#[track_caller]
fn lost_majority() -> (Nodes, tempfile::TempDir, String) {
    let mut nodes = Nodes::start(3, &["--name", "lab"]);
    let made = nodes.any().run(&["keyspace", "create", "logs", "--shards", "2"]);
    assert_eq!(made.code, 0, "{made:?}");
    nodes.all().for_each(|node| wait_for_voters(node, 4, &[1, 2, 3]));
    put_all(nodes.any(), "default", "old");
    put_all(nodes.any(), "logs", "line");
    let token = nodes.any().printed(&["token", "create", "--allow", "read"]);
    // All of it has reached the survivor.
    let survivor = nodes.node(3);
    has_all(survivor, "default", "old");
    has_all(survivor, "logs", "line");
    let (dir, survivor) = nodes.take(3);
    survivor.kill();
    nodes.all().for_each(|node| node.signal("KILL"));
    (nodes, dir, token.trim().to_owned())
}

#[test]
fn a_survivor_makes_a_new_cluster_of_what_it_has_and_others_join_it() {
    let (mut old, dir, token) = lost_majority();
    let old_ticket = old.node(1).ticket();
    let dir = dir.path();
    let plan = surveyed(dir);
    let old_id = plan["cluster_id"].as_str().expect("an id").to_owned();
    assert_eq!((&plan["node"], &plan["others"]), (&json!(3), &json!([1, 2])), "{plan}");
    assert!(plan["new_cluster_id"].is_null(), "{plan}");
    let shards = plan["shards"].as_array().expect("a list");
    assert_eq!(shards.len(), 3, "{plan}");
    assert!(shards.iter().all(|shard| shard["kept"]["entry"].is_u64()), "{plan}");
    let told = recover(dir, &[]).printed();
    for part in [
        "Node 3 of the cluster lab",
        "shard 1 of logs",
        "LOST: whatever was acknowledged by nodes 1, 2 alone",
        "Nodes 1, 2 must never be started again",
        &format!("--confirm {old_id}"),
    ] {
        assert!(told.contains(part), "{part:?} is not in:\n{told}");
    }
    recover(dir, &["--confirm", &"0".repeat(32)]).refused_as("nothing was done");
    assert_eq!(surveyed(dir), plan, "nothing was changed");

    let done = recover(dir, &["--confirm", &old_id]).printed();
    assert!(done.contains("is the only member of the new cluster lab"), "{done}");
    let first = Node::start(dir, &[]);
    let new_id = first.ready()["cluster_id"].as_str().expect("an id").to_owned();
    assert!(new_id != old_id && done.contains(&new_id), "{done}");
    assert_eq!((first.id(), members(&first)), (3, vec![3]));
    wait_for_voters(&first, 4, &[3]);
    has_all(&first, "default", "old");
    has_all(&first, "logs", "line");
    // Tokens stay good for what they are.
    let by_token = |command: &[&str]| first.run(&[&["--token", &token], command].concat());
    assert_eq!(by_token(&["get", &key("default", 0)]).printed(), "old");
    by_token(&["put", "k", "v"]).refused_as("does not allow to write");
    put_all(&first, "default", "new");

    // One that was lost comes back all the same: it is told, and ends.
    let (old_dir, _killed) = old.take(1);
    let mut back = Node::starting(old_dir.path());
    assert!(until(|| back.ended().is_some()), "it goes on:\n{}", back.log());
    assert!(back.log().contains("no longer a member"), "{}", back.log());
    let mut again = Node::starting(old_dir.path());
    assert!(until(|| again.ended() == Some(1)), "it goes on:\n{}", again.log());
    assert_eq!(members(&first), [3]);
    has_all(&first, "default", "new");

    // Nor does a ticket of the old cluster lead to the new one.
    let stranger = tempfile::tempdir().expect("a directory");
    let mut joining = Node::joining(stranger.path(), &old_ticket, &[]);
    assert!(until(|| joining.ended().is_some()), "it joins:\n{}", joining.log());
    assert_eq!(members(&first), [3]);

    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let ticket = first.ticket();
    let joined: Vec<Node> = dirs.iter().map(|dir| Node::join(dir.path(), &ticket, &[])).collect();
    for node in joined.iter().chain([&first]) {
        wait_for_voters(node, 4, &[3, 4, 5]);
        has_all(node, "default", "new");
        has_all(node, "logs", "line");
    }
    first.kill();
    let put = || joined[0].run(&["--timeout", "2s", "put", "after", "all"]).code == 0;
    assert!(until(put), "{}", joined[0].log());
}

#[test]
fn what_a_survivor_has_nothing_of_is_said_to_be_lost_and_begins_anew() {
    let mut nodes = Nodes::start(3, &[]);
    nodes.all().for_each(|node| wait_for_voters(node, 2, &[1, 2, 3]));
    let made =
        nodes.node(1).run(&["keyspace", "create", "thin", "--shards", "3", "--replicas", "1"]);
    assert_eq!(made.code, 0, "{made:?}");
    put_all(nodes.node(1), "thin", "here");
    put_all(nodes.node(1), "default", "everywhere");
    has_all(nodes.node(2), "default", "everywhere");
    let (dir, survivor) = nodes.take(2);
    survivor.kill();
    drop(nodes);
    let plan = surveyed(dir.path());
    let shards = plan["shards"].as_array().expect("a list");
    let lost: Vec<&Value> = shards.iter().filter(|shard| shard["kept"].is_null()).collect();
    assert_eq!(lost.len(), 2, "one of three is here: {plan}");
    assert!(lost.iter().all(|shard| shard["keyspace"] == "thin"), "{plan}");
    let told = recover(dir.path(), &[]).printed();
    assert!(
        told.contains("LOST: 2 shards of which this node has nothing begin anew, empty."),
        "{told}"
    );
    recover(dir.path(), &["--confirm", plan["cluster_id"].as_str().expect("an id")]).printed();
    let node = Node::start(dir.path(), &[]);
    wait_for_voters(&node, 5, &[2]);
    has_all(&node, "default", "everywhere");
    let kept = node.printed(&["range", "--count", "--keyspace", "thin"]);
    let kept: usize = kept.trim().parse().expect("a number");
    assert!(kept < KEYS, "{kept} of {KEYS}");
    put_all(&node, "thin", "again");
    has_all(&node, "thin", "again");
}

/// The steps of a recovery.
pub(crate) const COMES_TO: &[Failpoint] = &[BeforeRecovered, AfterRecovered, WhileRecovered];

/// The command is killed at each step, one after the other.
#[test]
fn there_is_the_old_cluster_or_the_new_whenever_a_recovery_is_killed() {
    let (nodes, dir, _) = lost_majority();
    drop(nodes);
    let dir = dir.path();
    let kept = tempfile::tempdir().expect("a directory");
    copy(&dir.join("data"), &kept.path().join("data"));
    let id = surveyed(dir)["cluster_id"].as_str().expect("an id").to_owned();
    let (mut steps, mut olds, mut news) = (Vec::new(), 0, 0);
    for count in 0..STEPS_MAX {
        fs::remove_dir_all(dir.join("data")).expect("removed");
        copy(&kept.path().join("data"), &dir.join("data"));
        write_file(&dir.join(FAILPOINTS), &count.to_string());
        let mut command = aspen(["recover", "--confirm", &id, "--data-dir"]);
        command.arg(dir.join("data")).env("FAILPOINTS", dir.join(FAILPOINTS));
        let status = command.output().expect("it runs").status;
        let step = fs::read_to_string(dir.join(FAILPOINTS)).expect("the step");
        fs::remove_file(dir.join(FAILPOINTS)).expect("removed");
        let is_over = status.success();
        assert!(is_over || status.code().is_none(), "{status:?} at {step:?}");
        // Whoever opens the directory next ends what was begun.
        let looked = recover(dir, &["--json"]);
        match looked.code {
            0 => {
                olds += 1;
                assert_eq!(surveyed(dir)["cluster_id"], id, "the old one, as it was");
                assert!(!dir.join("data/recovered.part").exists());
            }
            _ => {
                news += 1;
                looked.refused_as("needs no recovery; start it");
                let node = Node::start(dir, &[]);
                assert_ne!(node.ready()["cluster_id"], id);
                has_all(&node, "default", "old");
                has_all(&node, "logs", "line");
            }
        }
        if is_over {
            break;
        }
        steps.push(Failpoint::named(&step).expect("a step's name"));
    }
    println!("killed at {steps:?}");
    let killed_at: BTreeSet<Failpoint> = steps.iter().copied().collect();
    assert_eq!(killed_at, COMES_TO.iter().copied().collect());
    assert!(olds > 0 && news > 4, "{olds} old, {news} new, of {steps:?}");
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory") {
        let entry = entry.expect("an entry");
        let there = to.join(entry.file_name());
        match entry.file_type().expect("a type").is_dir() {
            true => copy(&entry.path(), &there),
            false => drop(fs::copy(entry.path(), there).expect("copied")),
        }
    }
}

#[test]
fn what_needs_no_recovery_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    recover(dir.path(), &[]).refused_as("holds no node that is a member of a cluster");
    let node = Node::start(dir.path(), &[]);
    recover(dir.path(), &[]).refused_as("stop it before it is recovered");
    node.kill();
    recover(dir.path(), &[]).refused_as("node 1 is the only member of its cluster");
    let wrong = recover(dir.path(), &["--confirm", "7g"]);
    assert_eq!(wrong.code, 2, "{wrong:?}");
}
