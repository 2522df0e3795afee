//! What takes long is told by every node, by its id, until it is done and after.

use serde_json::{Value, json};

use crate::shards::{Nodes, shards};
use crate::support::{Asking, Node, until};

fn operation(node: &Node, id: &str) -> Value {
    let shown = node.run(&["operations", id, "--json"]);
    serde_json::from_str(&shown.stdout).unwrap_or(Value::Null)
}

/// Waits until a node says so of an operation.
#[track_caller]
fn wait_for(node: &Node, id: &str, is_so: impl Fn(&Value) -> bool) {
    let in_time = until(|| is_so(&operation(node, id)));
    assert!(in_time, "node {} says of {id}: {}", node.id(), operation(node, id));
}

#[track_caller]
fn is_unknown(node: &Node, id: &str) {
    node.run(&["operations", id]).refused_as("no operation of this id is under way or was");
}

/// What a request that begins something says is its operation.
#[track_caller]
fn begun(node: &Node, arguments: &[&str]) -> String {
    let answer = node.printed(&[arguments, &["--json"]].concat());
    let answer: Value = serde_json::from_str(answer.trim()).expect("JSON");
    answer["operation"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[test]
fn a_drain_is_told_by_every_node_from_its_beginning_to_its_end() {
    let mut nodes = Nodes::start(3, &["--shards", "4"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    for node in nodes.all() {
        // The shards may be on their way a moment longer by what this one has heard.
        wait_for(node, "create-default", |told| told["state"] == "done");
        for id in ["drain-2", "leave-2", "remove-2", "drain-9", "create-absent", "move-99"] {
            is_unknown(node, id);
        }
        for id in ["drain", "drain-02", "drain--2", "create-a b", "walk-1"] {
            is_unknown(node, id);
        }
    }

    // Nobody is there to take part in it.
    assert_eq!(begun(nodes.node(1), &["drain", "2"]), "drain-2");
    for node in nodes.all() {
        wait_for(node, "drain-2", |told| {
            let why = told["why"].as_str().unwrap_or_default();
            told["state"] == "waiting" && why.starts_with("no other member can take the rest")
        });
        let told = operation(node, "drain-2");
        let expected = json!({
            "id": "drain-2", "kind": "drain", "node": 2, "group": null, "keyspace": null,
            "state": "waiting", "done": 0, "of": 4, "unit": "shards", "why": told["why"],
        });
        assert_eq!(told, expected);
        let listed = node.printed(&["operations"]);
        let is_row = |line: &str| line.starts_with("drain-2") && line.contains("0 of 4 shards");
        assert!(listed.starts_with("OPERATION ") && listed.lines().any(is_row), "{listed}");
    }

    // It survives whoever dies, and goes on once somebody can take part.
    let (dir, founder) = nodes.take(1);
    founder.kill();
    wait_for(nodes.node(3), "drain-2", |told| told["of"] == 4);
    let founder = Node::start(dir.path(), &[]);
    nodes.0.insert(1, (dir, founder));
    nodes.join_by(1);
    let waited = nodes.node(3).run(&["operations", "drain-2", "--wait"]);
    assert_eq!((waited.code, waited.stdout.as_str()), (0, "drain-2: done\n"), "{waited:?}");
    assert!(waited.stderr.lines().all(|line| line.starts_with("aspen: drain-2: ")), "{waited:?}");
    for node in nodes.all() {
        wait_for(node, "drain-2", |told| told["state"] == "done" && told["done"] == told["of"]);
    }

    // Who leaves is known to have left.
    nodes.node(2).run(&["leave"]);
    for id in ["leave-2", "remove-2", "drain-2"] {
        wait_for(nodes.node(3), id, |told| told["state"] == "done");
    }
    is_unknown(nodes.node(3), "leave-3");
}

#[test]
fn what_is_made_moved_repaired_compacted_and_erased_has_operations() {
    let nodes = Nodes::start(3, &["--shards", "2"]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let node = nodes.node(2);

    let waited = |id: &str| {
        let waited = node.run(&["operations", id, "--wait", "--json"]);
        let last = waited.stdout.lines().last().unwrap_or_default();
        let last: Value = serde_json::from_str(last).unwrap_or_else(|_| panic!("{waited:?}"));
        assert_eq!((waited.code, &last["state"]), (0, &json!("done")), "{waited:?}");
    };
    assert_eq!(begun(node, &["keyspace", "create", "logs", "--shards", "8"]), "create-logs");
    waited("create-logs");
    let group = shards(node, "logs")[0]["group"].as_u64().expect("a number");
    waited(&format!("move-{group}"));

    // Its replica is taken again, though it is sound.
    let asking = Asking::new();
    let repaired = node.run(&["repair", &group.to_string(), "--json"]);
    assert_eq!(repaired.code, 0, "{repaired:?}");
    waited(&format!("repair-{group}-2"));
    is_unknown(node, &format!("repair-{group}-9"));

    // More history than is removed at once.
    let filled =
        node.run(&["bench", "--keys", "20000", "--reads", "100", "--for", "1ms", "--keep"]);
    assert_eq!(filled.code, 0, "{filled:?}");
    let revision = node.printed(&["put", "{a}", "1", "--json"]);
    let revision: Value = serde_json::from_str(&revision).expect("JSON");
    let revision = revision["revision"].to_string();
    let compacting = begun(node, &["compact", &revision, "--near", "{a}"]);
    waited(&compacting);
    let again = node.printed(&["compact", &revision, "--near", "{a}", "--json"]);
    assert!(!again.contains("operation"), "nothing is left to remove: {again}");
    is_unknown(node, "compact-999");

    assert_eq!(begun(node, &["keyspace", "delete", "logs"]), "erase-2");
    waited("erase-2");
    is_unknown(node, "create-logs");
    for node in nodes.all() {
        wait_for(node, &format!("erase-{}", node.id()), |told| told["state"] == "done");
        wait_for(node, "catch-up-3", |told| told["state"] == "done");
        let idle = || asking.get(node, "/v1/operations")["operations"] == json!([]);
        assert!(until(idle), "{}", asking.get(node, "/v1/operations"));
        assert_eq!(node.printed(&["operations"]), "nothing is under way\n");
    }
}
