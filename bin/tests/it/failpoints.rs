//! Whoever leads the meta group dies at each step of each kind of change, one after the other: what
//! was begun is finished or was never begun, nothing is left in between, and what was written stays.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::shards::{Nodes, nodes_of};
use crate::support::{FAILPOINTS, Node, until, write_file};

/// More than any change has.
const STEPS_MAX: u32 = 100;
const KEYS: usize = 24;

/// The cluster as one of its nodes knows it.
#[derive(Debug)]
struct View {
    node: u64,
    members: BTreeMap<u64, Value>,
    keyspaces: BTreeSet<String>,
    shards: Vec<Value>,
    /// The groups of shards that the node holds itself.
    held: BTreeMap<u64, Value>,
    meta_leader: Option<u64>,
}

fn ask(node: &Node, arguments: &[&str]) -> Option<Value> {
    let run = node.run(arguments);
    (run.code == 0).then(|| serde_json::from_str(&run.stdout).expect("JSON"))
}

fn by_number(list: &Value, number: &str) -> BTreeMap<u64, Value> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|one| Some((one[number].as_u64()?, one.clone()))).collect()
}

impl View {
    /// None if the node does not answer.
    fn of(node: &Node) -> Option<View> {
        let cluster = ask(node, &["status", "--json"])?["cluster"].take();
        let keyspaces = ask(node, &["keyspace", "list", "--json"])?["keyspaces"].take();
        let keyspaces = keyspaces.as_array()?.iter();
        let keyspaces: BTreeSet<String> =
            keyspaces.filter_map(|keyspace| Some(keyspace["name"].as_str()?.to_owned())).collect();
        let mut shards = Vec::new();
        for name in &keyspaces {
            let shown = ask(node, &["keyspace", "show", name, "--json"])?;
            shards.extend(shown["shards"].as_array()?.iter().cloned());
        }
        let mut held = by_number(&cluster["groups"], "id");
        let meta_leader = held.remove(&0).and_then(|meta| meta["leader"].as_u64());
        let members = by_number(&cluster["members"], "node");
        Some(View { node: node.id(), members, keyspaces, shards, held, meta_leader })
    }

    /// What is not as the records say, or is on its way.
    fn trouble(&self, nodes: &BTreeSet<u64>) -> Option<String> {
        let members: BTreeSet<u64> = self.members.keys().copied().collect();
        if members != *nodes {
            return Some(format!("the members are {members:?}"));
        }
        let is_way = |shard: &&Value| {
            let replicas = nodes_of(shard);
            shard["stage"] != "settled" || shard["leaving"] != json!([]) || replicas.len() != 3
        };
        if let Some(shard) = self.shards.iter().find(is_way) {
            return Some(format!("{shard}"));
        }
        let mine = self.shards.iter().filter(|shard| nodes_of(shard).contains(&self.node));
        let mine: BTreeMap<u64, &Value> =
            mine.filter_map(|shard| Some((shard["group"].as_u64()?, &shard["replicas"]))).collect();
        let held: BTreeMap<u64, &Value> =
            self.held.iter().map(|(group, held)| (*group, &held["voters"])).collect();
        (mine != held).then(|| format!("it holds {held:?} and is to hold {mine:?}"))
    }

    fn has_made(&self) -> bool {
        self.keyspaces.contains("made")
    }

    fn is_drained(&self) -> bool {
        let is_free = |shard: &Value| !nodes_of(shard).contains(&DRAINED);
        self.members[&DRAINED]["draining"] == true && self.shards.iter().all(is_free)
    }
}

const DRAINED: u64 = 2;

/// A kind of change.
struct Kind {
    name: &'static str,
    /// Makes ready for it, with nobody in danger.
    prepare: fn(&mut Nodes),
    /// Asks this node for it, which leads the meta group; it may die on the way.
    ask: fn(&mut Nodes, u64),
    is_done: fn(&View) -> bool,
}

impl Kind {
    /// Waits until nothing is on its way to anybody; gives what they know.
    #[track_caller]
    fn settled(&self, nodes: &Nodes, when: &str) -> Vec<View> {
        let numbers: BTreeSet<u64> = nodes.0.keys().copied().collect();
        let mut seen = (Vec::new(), String::new());
        let is_settled = until(|| {
            seen.0 = nodes.all().filter_map(View::of).collect();
            let missing = numbers.len() - seen.0.len();
            let trouble = |view: &View| Some((view.node, view.trouble(&numbers)?));
            let trouble: Vec<_> = seen.0.iter().filter_map(trouble).collect();
            seen.1 = format!("{missing} do not answer, {trouble:?}");
            missing == 0 && trouble.is_empty()
        });
        let logs = || nodes.all().map(|node| format!("{}\n", node.log())).collect::<String>();
        assert!(is_settled, "{}, {when}: {}; {}", self.name, seen.1, logs());
        seen.0
    }

    /// Whether the node is through with the change; false also if it died.
    fn is_over(&self, nodes: &Nodes, node: u64) -> bool {
        let numbers: BTreeSet<u64> = nodes.0.keys().copied().collect();
        View::of(nodes.node(node))
            .is_some_and(|view| (self.is_done)(&view) && view.trouble(&numbers).is_none())
    }

    /// Goes through the change as often as it has steps, and dies at another each time; gives how
    /// many there were.
    #[track_caller]
    fn walk(&self, nodes: &mut Nodes) -> u32 {
        for step in 0..STEPS_MAX {
            (self.prepare)(nodes);
            let views = self.settled(nodes, &format!("before step {step}"));
            let leader = views[0].meta_leader.expect("a leader");
            let failpoints = nodes.0[&leader].0.path().join(FAILPOINTS);
            write_file(&failpoints, &step.to_string());
            (self.ask)(nodes, leader);
            let mut died = false;
            let is_past = until(|| {
                died = nodes.0.get_mut(&leader).expect("it runs").1.has_ended();
                died || self.is_over(nodes, leader)
            });
            assert!(is_past, "{}: step {step} is not come to", self.name);
            let at = fs::read_to_string(&failpoints).expect("where");
            fs::remove_file(&failpoints).expect("disarmed");
            if at.parse::<u32>().is_ok() {
                assert!(!died, "it died of itself:\n{}", nodes.node(leader).log());
                eprintln!("{}: {step} steps", self.name);
                return step;
            }
            let (dir, node) = nodes.take(leader);
            node.kill();
            nodes.any().printed(&["put", "alive", &format!("{} {step}", self.name)]);
            let back = Node::start(dir.path(), &[]);
            nodes.0.insert(leader, (dir, back));
            let views = self.settled(nodes, &format!("after step {step}, {at}"));
            let done: BTreeSet<bool> = views.iter().map(self.is_done).collect();
            assert_eq!(done.len(), 1, "{}, after step {step}, {at}: {views:?}", self.name);
            for node in nodes.all() {
                let count = node.printed(&["range", "key/", "--count"]);
                assert_eq!(count.trim(), KEYS.to_string(), "{}, after {step}", self.name);
            }
        }
        panic!("{} has more steps", self.name);
    }
}

/// Four nodes, of which three hold each of two shards with keys.
fn nodes() -> Nodes {
    let nodes = Nodes::start(4, &["--shards", "2"]);
    for number in 0..KEYS {
        nodes.any().printed(&["put", &format!("key/{number}"), "v"]);
    }
    nodes
}

const MAKE: [&str; 5] = ["keyspace", "create", "made", "--shards", "2"];
const DELETE: [&str; 3] = ["keyspace", "delete", "made"];

fn has_made(nodes: &Nodes) -> bool {
    View::of(nodes.any()).expect("an answer").has_made()
}

#[test]
fn a_keyspace_is_made_and_deleted_whatever_step_the_leader_dies_at() {
    let mut nodes = nodes();
    let create = Kind {
        name: "making a keyspace",
        prepare: |nodes| {
            if has_made(nodes) {
                nodes.any().printed(&DELETE);
            }
        },
        ask: |nodes, leader| drop(nodes.node(leader).run(&MAKE)),
        is_done: View::has_made,
    };
    let delete = Kind {
        name: "deleting a keyspace",
        prepare: |nodes| {
            if !has_made(nodes) {
                nodes.any().printed(&MAKE);
            }
        },
        ask: |nodes, leader| drop(nodes.node(leader).run(&DELETE)),
        is_done: |view| !view.has_made(),
    };
    assert!(create.walk(&mut nodes) > 0);
    assert!(delete.walk(&mut nodes) > 0);
}

const DRAIN: [&str; 2] = ["drain", "2"];
const TAKE_BACK: [&str; 3] = ["drain", "2", "--off"];

#[test]
fn shards_move_away_and_back_whatever_step_the_leader_dies_at() {
    let mut nodes = nodes();
    let away = Kind {
        name: "draining",
        prepare: |nodes| drop(nodes.any().printed(&TAKE_BACK)),
        ask: |nodes, leader| drop(nodes.node(leader).run(&DRAIN)),
        is_done: View::is_drained,
    };
    let back = Kind {
        name: "taking back",
        prepare: |nodes| drop(nodes.any().printed(&DRAIN)),
        ask: |nodes, leader| drop(nodes.node(leader).run(&TAKE_BACK)),
        is_done: |view| !view.is_drained(),
    };
    assert!(away.walk(&mut nodes) > 0);
    assert!(back.walk(&mut nodes) > 0);
}

/// The newest of five leaves.
fn leave(nodes: &mut Nodes) {
    let newest = *nodes.0.keys().next_back().expect("a node");
    let (_dir, mut node) = nodes.take(newest);
    // It may hear of nothing that comes after the leader's end; asked again it goes on.
    let has_left = until(|| node.has_ended() || node.run(&["leave"]).code == 0);
    assert!(has_left, "node {newest} can't leave:\n{}", node.log());
}

#[test]
fn a_node_joins_and_leaves_whatever_step_the_leader_dies_at() {
    let mut nodes = nodes();
    let join = Kind {
        name: "joining",
        prepare: |nodes| {
            if nodes.0.len() == 5 {
                leave(nodes);
            }
        },
        // By another's ticket, which names others too.
        ask: |nodes, leader| nodes.join_by(if leader == 1 { 2 } else { 1 }),
        is_done: |view| view.members.len() == 5,
    };
    let leaving = Kind {
        name: "leaving",
        prepare: |nodes| {
            if nodes.0.len() == 4 {
                nodes.join_by(1);
            }
            let newest = *nodes.0.keys().next_back().expect("a node");
            let leads = || View::of(nodes.any()).and_then(|view| view.meta_leader) == Some(newest);
            until(|| !leads() || nodes.any().run(&["transfer", "0", "1"]).code != 0);
        },
        ask: |nodes, _| leave(nodes),
        is_done: |view| view.members.len() == 4,
    };
    assert!(join.walk(&mut nodes) > 0);
    assert!(leaving.walk(&mut nodes) > 0);
}
