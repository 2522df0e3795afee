//! Groups in which nothing happens sleep, and most of many are put away.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Nodes, groups, health};
use crate::support::{Node, until};

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
    nodes.all().for_each(|node| assert!(node.printed(&["status"]).contains("IN PLACE")));
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
