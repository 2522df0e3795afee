//! Whoever leads the meta group dies at each step of each kind of change, one after the other: what
//! was begun is finished or was never begun, nothing is left in between, and what was written stays.
//!
//! Each kind says which of the rare steps it is known to come to, and each of these must be one of some
//! kind's, so that neither a kind nor a step is left out unseen; `steps` has the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use aspen::limits::VOTERS_MAX;
use aspen::seams::failpoint::Failpoint::{self, *};
use serde_json::{Value, json};

use crate::recover;
use crate::shards::{Nodes, nodes_of, numbers};
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
    meta: Meta,
    meta_leader: Option<u64>,
}

/// The meta group's own members.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Meta {
    voters: BTreeSet<u64>,
    learners: BTreeSet<u64>,
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
        let meta = held.remove(&0)?;
        let meta_leader = meta["leader"].as_u64();
        let [voters, learners] = ["voters", "learners"].map(|part| numbers(&meta[part]));
        let meta = Meta { voters, learners };
        let members = by_number(&cluster["members"], "node");
        Some(View { node: node.id(), members, keyspaces, shards, held, meta, meta_leader })
    }

    /// What is not as the records say, or is on its way.
    fn trouble(&self, nodes: &BTreeSet<u64>) -> Option<String> {
        let members: BTreeSet<u64> = self.members.keys().copied().collect();
        if members != *nodes {
            return Some(format!("the members are {members:?}"));
        }
        if let Some(trouble) = self.meta_trouble(&members) {
            return Some(trouble);
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

    /// Every active member is in the meta group, and nobody else; as many vote as are an odd number.
    fn meta_trouble(&self, members: &BTreeSet<u64>) -> Option<String> {
        let is_active = |member: &Value| member["state"] == "active";
        if !self.members.values().all(is_active) {
            return Some(format!("not all are active: {:?}", self.members));
        }
        let Meta { voters, learners } = &self.meta;
        let voting = (members.len() - 1 + members.len() % 2).min(VOTERS_MAX);
        let is_whole = &(voters | learners) == members && voters.is_disjoint(learners);
        (!is_whole || voters.len() != voting).then(|| format!("{:?} of {members:?}", self.meta))
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
    /// The steps at which whoever leads the meta group dies in any case. It may come to others, too,
    /// where it happens to hold or lead what is moved.
    comes_to: &'static [Failpoint],
    /// Makes ready for it, with nobody in danger.
    prepare: fn(&mut Nodes),
    /// Who is to lead the meta group then; `None` if that can't be said yet.
    led_by: fn(&[View]) -> Option<u64>,
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
            let metas: BTreeSet<&Meta> = seen.0.iter().map(|view| &view.meta).collect();
            seen.1 = format!("{missing} do not answer, {trouble:?}, {metas:?}");
            missing == 0 && trouble.is_empty() && metas.len() == 1
        });
        let logs = || nodes.all().map(|node| format!("{}\n", node.log())).collect::<String>();
        assert!(is_settled, "{}, {when}: {}; {}", self.name, seen.1, logs());
        seen.0
    }

    /// Whoever leads the meta group, once nothing is on its way and it is whom the kind wants.
    #[track_caller]
    fn leader(&self, nodes: &Nodes, step: &str) -> u64 {
        let mut leader = None;
        let is_led = until(|| {
            let views = self.settled(nodes, &format!("before step {step}"));
            leader = (self.led_by)(&views);
            let Some(to) = leader else { return false };
            let is_led = views.iter().all(|view| view.meta_leader == leader);
            is_led || {
                // Refused for as long as it could not lead; then it is asked for again.
                nodes.any().run(&["transfer", "0", &to.to_string()]);
                false
            }
        });
        assert!(is_led, "{}: {leader:?} does not lead before step {step}", self.name);
        leader.expect("it is led")
    }

    /// Whether the node is through with the change; false also if it died.
    fn is_over(&self, nodes: &Nodes, node: u64) -> bool {
        let numbers: BTreeSet<u64> = nodes.0.keys().copied().collect();
        // What is on its disk comes first: whoever answers after that has not died of erasing it.
        let groups = nodes.0[&node].0.path().join("data/groups");
        let kept = groups.read_dir().map_or(0, Iterator::count);
        View::of(nodes.node(node)).is_some_and(|view| {
            let is_tidy = kept == view.held.len() + 1;
            is_tidy && (self.is_done)(&view) && view.trouble(&numbers).is_none()
        })
    }

    /// Goes through the change as often as it has steps, and dies at another each time; then at each
    /// step that it is known to come to and that none of these was. In which order they come is not the
    /// same each time, so that counting alone may pass one over.
    #[track_caller]
    fn walk(&self, nodes: &mut Nodes) {
        let (mut died_at, mut written) = (BTreeSet::new(), keys());
        let mut steps = 0;
        while let Some(at) = self.turn(nodes, &steps.to_string(), &mut written) {
            died_at.insert(at);
            steps += 1;
            assert!(steps < STEPS_MAX, "{} has more steps", self.name);
        }
        eprintln!("{}: {steps} steps, {died_at:?}", self.name);
        for missed in self.comes_to.iter().filter(|step| !died_at.contains(*step)) {
            let at = self.turn(nodes, &missed.ending(), &mut written);
            assert_eq!(at, Some(*missed), "{}", self.name);
        }
    }

    /// Goes through the change once; gives the step at which whoever leads died, if it did. All are as
    /// before afterwards, and what was written is there.
    #[track_caller]
    fn turn(
        &self,
        nodes: &mut Nodes,
        armed: &str,
        written: &mut BTreeMap<String, String>,
    ) -> Option<Failpoint> {
        (self.prepare)(nodes);
        let leader = self.leader(nodes, armed);
        let failpoints = nodes.0[&leader].0.path().join(FAILPOINTS);
        write_file(&failpoints, armed);
        (self.ask)(nodes, leader);
        let mut died = false;
        let is_past = until(|| {
            died = nodes.0.get_mut(&leader).expect("it runs").1.has_ended();
            died || self.is_over(nodes, leader)
        });
        assert!(is_past, "{}: step {armed} is not come to", self.name);
        let at = fs::read_to_string(&failpoints).expect("where");
        fs::remove_file(&failpoints).expect("disarmed");
        let Some(at) = Failpoint::named(&at) else {
            assert!(!died, "it died of itself:\n{}", nodes.node(leader).log());
            return None;
        };
        let (dir, node) = nodes.take(leader);
        node.kill();
        let meanwhile = format!("{} {armed}", self.name);
        nodes.any().printed(&["put", MEANWHILE, &meanwhile]);
        written.insert(MEANWHILE.to_owned(), meanwhile);
        let back = Node::start(dir.path(), &[]);
        nodes.0.insert(leader, (dir, back));
        let views = self.settled(nodes, &format!("after step {armed}, {at:?}"));
        let done: BTreeSet<bool> = views.iter().map(self.is_done).collect();
        assert_eq!(done.len(), 1, "{}, after step {armed}, {at:?}: {views:?}", self.name);
        let expected: String =
            written.iter().map(|(key, value)| format!("{key}\t{value}\n")).collect();
        for node in nodes.all() {
            let listed = node.printed(&["range", "key/"]);
            assert_eq!(listed, expected, "{}, after step {armed}, {at:?}", self.name);
        }
        Some(at)
    }
}

/// Written while the leader is dead, each time another value.
const MEANWHILE: &str = "key/meanwhile";

/// What is there from the beginning: each key with a value of its own.
fn keys() -> BTreeMap<String, String> {
    (0..KEYS).map(|number| (format!("key/{number}"), format!("value of {number}"))).collect()
}

/// So many nodes, of which three hold each of two shards with keys.
fn nodes(count: usize) -> Nodes {
    let nodes = Nodes::start(count, &["--shards", "2"]);
    for (key, value) in keys() {
        nodes.any().printed(&["put", &key, &value]);
    }
    nodes
}

const MAKE: [&str; 5] = ["keyspace", "create", "made", "--shards", "2"];
const DELETE: [&str; 3] = ["keyspace", "delete", "made"];

fn has_made(nodes: &Nodes) -> bool {
    View::of(nodes.any()).expect("an answer").has_made()
}

fn whoever(views: &[View]) -> Option<u64> {
    views[0].meta_leader
}

const MAKING: Kind = Kind {
    name: "making a keyspace",
    comes_to: &[BeforeRoster, AfterRoster, BeforeOpened, AfterOpened],
    prepare: |nodes| {
        if has_made(nodes) {
            nodes.any().printed(&DELETE);
        }
    },
    led_by: whoever,
    ask: |nodes, leader| drop(nodes.node(leader).run(&MAKE)),
    is_done: View::has_made,
};

const DELETING: Kind = Kind {
    name: "deleting a keyspace",
    comes_to: &[BeforeRoster, AfterRoster, BeforeErased, AfterErased],
    prepare: |nodes| {
        if !has_made(nodes) {
            nodes.any().printed(&MAKE);
        }
    },
    led_by: whoever,
    ask: |nodes, leader| drop(nodes.node(leader).run(&DELETE)),
    is_done: |view| !view.has_made(),
};

const DRAINING: Kind = Kind {
    name: "draining",
    comes_to: &[BeforeRoster, AfterRoster, BeforeMembers, AfterMembers],
    prepare: |nodes| drop(nodes.any().printed(&TAKE_BACK)),
    // Who leads one of the shards that are moved, and is to.
    led_by: |views| {
        let drained = views.iter().find(|view| view.node == DRAINED)?;
        let wanted = |group: u64| drained.shards.iter().find(|shard| shard["group"] == group);
        let led = drained.held.iter().find(|(group, held)| {
            wanted(**group).is_some_and(|shard| shard["wanted_leader"] == held["leader"])
        });
        led?.1["leader"].as_u64()
    },
    ask: |nodes, leader| drop(nodes.node(leader).run(&DRAIN)),
    is_done: View::is_drained,
};

const TAKING_BACK: Kind = Kind {
    name: "taking back",
    comes_to: &[BeforeRoster, AfterRoster],
    prepare: |nodes| drop(nodes.any().printed(&DRAIN)),
    led_by: whoever,
    ask: |nodes, leader| drop(nodes.node(leader).run(&TAKE_BACK)),
    is_done: |view| !view.is_drained(),
};

const JOINING: Kind = Kind {
    name: "joining",
    comes_to: &[BeforeRoster, AfterRoster, BeforeMembers, AfterMembers],
    prepare: |nodes| {
        if nodes.0.len() == 5 {
            leave(nodes);
        }
    },
    led_by: whoever,
    // By another's ticket, which names others too.
    ask: |nodes, leader| nodes.join_by(if leader == 1 { 2 } else { 1 }),
    is_done: |view| view.members.len() == 5,
};

const LEAVING: Kind = Kind {
    name: "leaving",
    comes_to: &[BeforeRoster, AfterRoster, BeforeMembers, AfterMembers],
    prepare: |nodes| {
        if nodes.0.len() == 4 {
            nodes.join_by(1);
        }
    },
    led_by: |views| {
        let newest = views.iter().map(|view| view.node).max()?;
        let leader = views[0].meta_leader?;
        Some(if leader == newest { 1 } else { leader })
    },
    ask: |nodes, _| leave(nodes),
    is_done: |view| view.members.len() == 4,
};

#[test]
fn every_rare_step_is_one_at_which_something_dies() {
    let kinds = [MAKING, DELETING, DRAINING, TAKING_BACK, JOINING, LEAVING];
    let leaders = kinds.iter().flat_map(|kind| kind.comes_to);
    let known: BTreeSet<_> = leaders.chain(recover::COMES_TO).copied().collect();
    let all: BTreeSet<_> = Failpoint::RARE.iter().copied().collect();
    assert_eq!(known, all);
}

#[test]
fn a_keyspace_is_made_and_deleted_whatever_step_the_leader_dies_at() {
    let mut nodes = nodes(4);
    MAKING.walk(&mut nodes);
    DELETING.walk(&mut nodes);
}

const DRAIN: [&str; 2] = ["drain", "2"];
const TAKE_BACK: [&str; 3] = ["drain", "2", "--off"];

#[test]
fn shards_move_away_and_back_whatever_step_the_leader_dies_at() {
    // So many that all vote in the meta group, and any can lead it.
    let mut nodes = nodes(5);
    DRAINING.walk(&mut nodes);
    TAKING_BACK.walk(&mut nodes);
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
    let mut nodes = nodes(4);
    JOINING.walk(&mut nodes);
    LEAVING.walk(&mut nodes);
}
