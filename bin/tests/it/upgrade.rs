//! A cluster goes from one build to the next, node by node and under load. The new build is the same
//! but for what it says of itself, and for a setting that only it knows: see `src/seams/version.rs`.

use std::fs;
use std::process::Command;

use serde_json::Value;

use crate::shards::{Load, Nodes};
use crate::support::{Node, Run, aspen, run, until};

const OLD: &str = env!("CARGO_PKG_VERSION");
/// The next minor version, and what all builds of it know.
const NEW: &str = "0.2.0+level.4";

/// Stops a node in order and starts it again as this build, or as it is.
#[track_caller]
fn restart(nodes: &mut Nodes, number: u64, version: Option<&str>) {
    let (dir, mut node) = nodes.take(number);
    node.signal("TERM");
    assert_eq!(node.code(), 0, "{}", node.log());
    let node = Node::start_with(dir.path(), |command| {
        command.args(["--http", "127.0.0.1:0", "--log", "info"]);
        be(command, version);
    });
    nodes.0.insert(number, (dir, node));
}

fn be(command: &mut Command, version: Option<&str>) {
    if let Some(version) = version {
        command.env("FAILPOINT_VERSION", version);
    }
}

/// A start or join that is refused.
#[track_caller]
fn refused(words: &[&str], data: &std::path::Path, version: Option<&str>) -> Run {
    let mut command = aspen(words);
    command.args(["--reach", "loopback", "--http", "127.0.0.1:0", "--data-dir"]).arg(data);
    be(&mut command, version);
    run(&mut command)
}

/// What a node says of the builds of all.
fn builds(node: &Node) -> Vec<(u64, String, u64)> {
    let members = node.printed(&["members", "--json"]);
    let members = members.lines().map(|line| {
        let member: Value = serde_json::from_str(line).expect("JSON");
        let number = |name: &str| member[name].as_u64().expect("a number");
        let version = member["version"].as_str().expect("a version").to_owned();
        (number("node"), version, number("level"))
    });
    let mut builds: Vec<_> = members.collect();
    builds.sort();
    builds
}

/// Waits until every node knows that these, and no others, are new.
#[track_caller]
fn wait_for_new(nodes: &Nodes, new: &[u64]) {
    let build = |number: u64| match new.contains(&number) {
        true => (number, "0.2.0".to_owned(), 4),
        false => (number, OLD.to_owned(), 3),
    };
    let should: Vec<_> = nodes.0.keys().copied().map(build).collect();
    let all_know = || nodes.all().all(|node| builds(node) == should);
    assert!(until(all_know), "{:?}", nodes.all().map(builds).collect::<Vec<_>>());
}

const SET: [&str; 4] = ["settings", "set", "for-tests", "on"];

#[test]
fn nodes_are_upgraded_one_by_one_and_what_only_the_new_know_waits_for_the_last() {
    let mut nodes = Nodes::start(3, &["--shards", "4"]);
    let load = Load::begin(nodes.node(1));
    load.goes_on();
    wait_for_new(&nodes, &[]);
    restart(&mut nodes, 1, Some(NEW));
    wait_for_new(&nodes, &[1]);
    load.goes_on();
    // It may go back: nothing is used yet.
    restart(&mut nodes, 1, None);
    wait_for_new(&nodes, &[]);
    for number in 1..=3 {
        restart(&mut nodes, number, Some(NEW));
        wait_for_new(&nodes, &(1..=number).collect::<Vec<_>>());
        load.goes_on();
        if number < 3 {
            let oldest = number + 1;
            let sentence = format!(
                "node {oldest} runs aspen {OLD}, which does not know the setting for-tests; upgrade \
                 it first"
            );
            nodes.node(number).run(&SET).refused_as(&sentence);
            let unknown = nodes.node(oldest).run(&SET);
            unknown.refused_as("there is no setting \"for-tests\"");
        }
    }
    let was_set = nodes.node(2).printed(&SET);
    assert!(was_set.starts_with("set; known to 3 of 3 nodes"), "{was_set}");
    for node in nodes.all() {
        assert_eq!(node.printed(&["settings", "get", "for-tests"]), "on\n");
    }
    let table = nodes.any().printed(&["members"]);
    assert!(table.contains("0.2.0, level 4"), "{table}");
    load.end(nodes.all());

    // There is no way back.
    let (dir, mut node) = nodes.take(2);
    let data = dir.path().join("data");
    let keeps =
        || fs::read_to_string(data.join("node.toml")).expect("a file").contains("level = 4");
    assert!(until(keeps));
    node.signal("TERM");
    assert_eq!(node.code(), 0);
    let too_old =
        format!("aspen {OLD} is too old for the cluster, which needs level 4; start a newer one");
    refused(&["start"], &data, None).refused_as(&too_old);
    // It was not touched, and goes on as what it was.
    let again = Node::start_with(dir.path(), |command| {
        command.args(["--http", "127.0.0.1:0", "--log", "info"]);
        be(command, Some(NEW));
    });
    nodes.0.insert(2, (dir, again));
    let ticket = nodes.node(2).printed(&["ticket", "create"]);
    let other = tempfile::tempdir().expect("a directory");
    let join = |version| refused(&["join", ticket.trim()], &other.path().join("data"), version);
    join(None).refused_as(&too_old);
    join(Some("0.4.0+level.4")).refused_as(
        "aspen 0.4.0 and node 1's 0.2.0 are more than one minor version apart; upgrade one version \
         at a time",
    );
    let joined = Node::start_joining(other.path(), ticket.trim(), |command| be(command, Some(NEW)));
    nodes.0.insert(4, (other, joined));
    wait_for_new(&nodes, &[1, 2, 3, 4]);
}

#[test]
fn nodes_are_restarted_one_by_one_under_load() {
    let mut nodes = Nodes::start(3, &["--shards", "6"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let load = Load::begin(nodes.node(1));
    for number in [1, 2, 3] {
        restart(&mut nodes, number, None);
        load.goes_on();
        // The next is one that others can do without.
        nodes.wait_for_spread(&[1, 2, 3], 3);
    }
    load.goes_on();
    load.end(nodes.all());
}

#[test]
fn a_member_that_skips_a_version_stops_and_says_so() {
    let mut nodes = Nodes::start(3, &[]);
    let (dir, mut node) = nodes.take(3);
    node.signal("TERM");
    assert_eq!(node.code(), 0);
    let far = refused(&["start"], &dir.path().join("data"), Some("0.3.0"));
    assert_eq!(far.code, 1, "{far:?}");
    let sentence = format!(
        "aspen 0.3.0 and node 1's {OLD} are more than one minor version apart; upgrade one version \
         at a time"
    );
    assert!(far.stderr.contains(&sentence), "{far:?}");
    let back = Node::start(dir.path(), &[]);
    nodes.0.insert(3, (dir, back));
    wait_for_new(&nodes, &[]);
}
