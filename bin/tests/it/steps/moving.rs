//! A shard that moves from node to node, with a log that does not reach back: learners, snapshots,
//! other voters, another leader.

use std::collections::BTreeSet;

use aspen::seams::failpoint::Failpoint::{self, *};
use serde_json::Value;

use super::{Harm, Written, arm, harms, is_harmed, long};
use crate::shards::{Nodes, nodes_of};
use crate::support::{FAILPOINTS, Node, until};

/// In about the order in which a move comes to them.
pub(super) const MOVES: &[Failpoint] = &[
    BeforeLearner,
    AfterLearner,
    BeforeSnapshot,
    BeforeChunk,
    BeforeLastChunk,
    BeforeArrival,
    AfterChunk,
    AfterArrival,
    BeforeInstalled,
    AfterInstalled,
    BeforeVoters,
    AfterVoters,
    BeforeHandover,
    AfterHandover,
    BeforeDropped,
    AfterDropped,
];

/// More moves than it takes to come to a step.
const MOVES_MAX: usize = 4;

struct Moving {
    nodes: Nodes,
    /// The node that the shard leaves.
    drained: u64,
}

impl Moving {
    /// The shard's record, as any node knows it.
    fn shard(&self) -> Option<Value> {
        let shown = self.nodes.all().find_map(|node| {
            let run = node.run(&["keyspace", "show", "default", "--json"]);
            (run.code == 0).then_some(run.stdout)
        })?;
        let mut shown: Value = serde_json::from_str(&shown).ok()?;
        Some(shown["shards"][0].take())
    }

    /// Who holds it, once it does not move.
    fn holders(&self) -> Option<BTreeSet<u64>> {
        let shard = self.shard()?;
        (shard["stage"] == "settled").then(|| nodes_of(&shard))
    }

    /// Which node says that it leads it.
    fn leader(&self) -> Option<u64> {
        let leads = |node: &&Node| {
            let status = node.run(&["status", "--json"]).stdout;
            let status: Value = serde_json::from_str(&status).unwrap_or_default();
            let groups = status["cluster"]["groups"].as_array().into_iter().flatten();
            groups.into_iter().any(|group| group["id"] != 0 && group["role"] == "leader")
        };
        self.nodes.all().find(leads).map(Node::id)
    }

    fn is_over(&self) -> bool {
        self.holders().is_some_and(|holders| !holders.contains(&self.drained))
    }

    /// Begins another move, away from whoever leads.
    #[track_caller]
    fn begin(&mut self) {
        let is_done = |arguments: &[&str]| until(|| self.nodes.any().run(arguments).code == 0);
        assert!(is_done(&["drain", &self.drained.to_string(), "--off"]), "it is not taken back");
        let mut leader = None;
        let is_led = until(|| {
            leader = self.leader();
            leader.is_some()
        });
        assert!(is_led, "nobody leads it: {:?}", self.shard());
        let leader = leader.expect("it is led");
        assert!(is_done(&["drain", &leader.to_string()]), "it is not drained");
        self.drained = leader;
    }

    /// Starts again who has ended; gives whether somebody had.
    fn start_again(&mut self) -> bool {
        let ended = self.nodes.0.iter_mut();
        let ended = ended.filter_map(|(number, (_, node))| node.has_ended().then_some(*number));
        let ended: Vec<u64> = ended.collect();
        for number in &ended {
            let (dir, node) = self.nodes.take(*number);
            drop(node);
            let back = Node::start(dir.path(), &[]);
            self.nodes.0.insert(*number, (dir, back));
        }
        !ended.is_empty()
    }
}

/// Nodes of which three hold the shard, whose log does not reach back.
fn moving(written: &mut Written) -> Moving {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Node::start(dir.path(), &[]);
    // Until its state is durable; the next start lets go of the log before that.
    long::fill(&first, dir.path(), long::VALUES, || false);
    assert!(written.put(&first, "w/before", "1"));
    let shown = first.printed(&["get", "w/before", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    first.printed(&["compact", &shown["mod_revision"].to_string()]);
    first.kill();
    let first = Node::start(dir.path(), &[]);
    let mut nodes = Nodes([(first.id(), (dir, first))].into());
    (1..4).for_each(|_| nodes.join_by(1));
    let mut moving = Moving { nodes, drained: 0 };
    let all: BTreeSet<u64> = moving.nodes.0.keys().copied().collect();
    let mut free = None;
    let is_held = until(|| {
        let holders = moving.holders().filter(|holders| holders.len() == 3);
        free = holders.and_then(|holders| all.difference(&holders).next().copied());
        free.is_some()
    });
    assert!(is_held, "three of four do not hold it: {:?}", moving.shard());
    moving.drained = free.expect("one of them");
    moving
}

#[test]
fn a_shard_moves_whatever_step_that_is_cut_off_at() {
    let mut written = Written::default();
    let mut moving = moving(&mut written);
    for (at, harm) in harms(MOVES) {
        for (dir, _) in moving.nodes.0.values() {
            arm(dir.path(), (at, harm));
        }
        let harmed =
            |moving: &Moving| moving.nodes.0.values().any(|(dir, _)| is_harmed(dir.path(), at));
        let mut moves = 0;
        let is_come_to = until(|| {
            if harmed(&moving) {
                return true;
            }
            if moving.is_over() {
                assert!(moves < MOVES_MAX, "{at:?} is not come to in {moves} moves");
                moves += 1;
                moving.begin();
            }
            false
        });
        assert!(is_come_to, "{at:?} is not come to");
        for (dir, _) in moving.nodes.0.values() {
            let _ = std::fs::remove_file(dir.path().join(FAILPOINTS));
        }
        if harm == Harm::Ends {
            assert!(until(|| moving.start_again()), "nobody has ended at {at:?}");
        }
        let is_put = || {
            moving.start_again();
            written.put(moving.nodes.any(), "w/after", &format!("{at:?} {harm:?}"))
        };
        assert!(until(is_put), "nothing can be written after {at:?}");
        for node in moving.nodes.all() {
            written.is_shown_by(node, &format!("after {at:?}, {harm:?}"));
        }
    }
    assert!(until(|| moving.is_over()), "{:?}", moving.shard());
}
