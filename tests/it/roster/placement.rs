//! Groups are led by the policy's steps through joins, leaves, deaths and changes that stop half
//! way: no step costs what it may not, and when all is calm the group is what is wanted.

use std::collections::{BTreeMap, BTreeSet};

use aspen::limits::VOTERS_MAX;
use aspen::roster::placement::{
    GroupFacts, Step, Wanted, has_let_go, holds, is_reached, next_step, tolerated,
};
use aspen::types::NodeId;
use aspen_tickets::Role;
use proptest::prelude::*;

fn nodes(numbers: &[u64]) -> BTreeSet<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

fn wanted(voters: &[u64], learners: &[u64]) -> Wanted {
    let voters = voters.iter().map(|number| (NodeId(*number), Role::Voter));
    let learners = learners.iter().map(|number| (NodeId(*number), Role::Learner));
    let members = voters.chain(learners).collect();
    Wanted { members, leader: None, replaces: false, without: None }
}

/// A group in which all live and all but the learners behind have caught up.
fn group(voters: &[u64], learners: &[u64], behind: &[u64]) -> GroupFacts {
    let all: BTreeSet<NodeId> = nodes(voters).union(&nodes(learners)).copied().collect();
    GroupFacts {
        voters: nodes(voters),
        learners: nodes(learners),
        is_joint: false,
        is_committed: true,
        caught_up: all.difference(&nodes(behind)).copied().collect(),
        steady: all.clone(),
        alive: all,
        full: BTreeSet::new(),
        leader: NodeId(voters[0]),
    }
}

/// The disk of one is full (scenario 26): it steps down first of all, and leads again when it has room.
#[test]
fn a_leader_whose_disk_is_full_hands_over_to_whoever_has_room() {
    let to = |leader| Wanted { leader: Some(NodeId(leader)), ..wanted(&[1, 2, 3], &[4]) };
    let full = |full: &[u64]| GroupFacts { full: nodes(full), ..group(&[1, 2, 3], &[4], &[]) };
    assert_eq!(next_step(&to(1), &full(&[1])), Some(Step::TransferTo(NodeId(2))));
    assert_eq!(next_step(&to(1), &full(&[1, 2])), Some(Step::TransferTo(NodeId(3))));
    assert_eq!(next_step(&to(1), &full(&[1, 2, 3])), None, "nobody has room");
    let dead = GroupFacts { alive: nodes(&[1]), ..full(&[1]) };
    assert_eq!(next_step(&to(1), &dead), None, "nobody else is there");
    let begun = GroupFacts { full: nodes(&[1]), ..group(&[1, 2, 3], &[], &[]) };
    assert_eq!(next_step(&to(1), &begun), Some(Step::TransferTo(NodeId(2))), "before all else");
    let taken_over = GroupFacts { leader: NodeId(2), ..full(&[1]) };
    assert_eq!(next_step(&to(1), &taken_over), None, "it is not handed back");
    let room_again = GroupFacts { leader: NodeId(2), ..full(&[]) };
    assert_eq!(next_step(&to(1), &room_again), Some(Step::TransferTo(NodeId(1))));
}

#[test]
fn the_lead_goes_to_whoever_is_to_have_it_when_all_else_is_done() {
    let to = |leader| Wanted { leader: Some(NodeId(leader)), ..wanted(&[1, 2, 3], &[4]) };
    let now = group(&[1, 2, 3], &[4], &[]);
    assert!(is_reached(&to(2), &now));
    assert_eq!(next_step(&to(2), &now), Some(Step::TransferTo(NodeId(2))));
    assert_eq!(next_step(&to(1), &now), None, "it leads");
    assert_eq!(next_step(&to(4), &now), None, "it may not vote");
    assert_eq!(next_step(&to(2), &group(&[1, 2, 3], &[4], &[2])), None, "it lags");
    let fresh = GroupFacts { steady: nodes(&[1, 3, 4]), ..now };
    assert_eq!(next_step(&to(2), &fresh), None, "it may be gone in a moment");
    let before = group(&[1, 2, 3], &[], &[]);
    assert!(!is_reached(&to(2), &before));
    assert_eq!(next_step(&to(2), &before), Some(Step::AddLearner(NodeId(4))));
}

#[test]
fn where_not_all_vote_whoever_is_to_lead_does() {
    let of_two = Wanted { leader: Some(NodeId(2)), ..wanted(&[1, 2], &[]) };
    let mut now = group(&[1], &[2], &[]);
    assert_eq!(voters(next_step(&of_two, &now)), Some(vec![2]));
    (now.voters, now.learners) = (nodes(&[2]), nodes(&[1]));
    assert_eq!(next_step(&of_two, &now), Some(Step::TransferTo(NodeId(2))));
    now.leader = NodeId(2);
    assert_eq!(next_step(&of_two, &now), None);
    let of_four = Wanted { leader: Some(NodeId(4)), ..wanted(&[1, 2, 3, 4], &[]) };
    let now = group(&[1, 2, 3], &[4], &[]);
    assert_eq!(voters(next_step(&of_four, &now)), Some(vec![1, 2, 4]));
    assert_eq!(next_step(&of_four, &group(&[1, 2, 3], &[4], &[4])), None, "it lags");
}

#[test]
fn who_leaves_a_shard_stays_until_another_has_come_in_its_place() {
    let replaced = Wanted { replaces: true, ..wanted(&[1, 2, 3], &[]) };
    let now = group(&[1, 3, 6], &[2], &[2]);
    let dead = GroupFacts { alive: nodes(&[1, 3, 6]), ..now.clone() };
    assert_eq!(next_step(&replaced, &now), None, "it catches up");
    assert_eq!(next_step(&replaced, &dead), None, "it comes back, or another is to come");
    assert_eq!(voters(next_step(&replaced, &group(&[1, 3, 6], &[2], &[]))), Some(vec![1, 2, 3]));
    let fewer = Wanted { replaces: true, ..wanted(&[1, 3], &[]) };
    assert_eq!(voters(next_step(&fewer, &group(&[1, 3, 6], &[], &[]))), Some(vec![1]));
}

fn voters(step: Option<Step>) -> Option<Vec<u64>> {
    match step {
        Some(Step::SetVoters(voters)) => Some(voters.iter().map(|node| node.0).collect()),
        _ => None,
    }
}

#[test]
fn whoever_takes_its_replica_again_is_let_go_at_once_and_then_taken_in_anew() {
    let without = Wanted { without: Some(NodeId(3)), ..wanted(&[1, 2], &[]) };
    let all = wanted(&[1, 2, 3], &[]);
    let now = group(&[1, 2, 3], &[], &[]);
    assert_eq!(voters(next_step(&without, &now)), Some(vec![1, 2]), "two vote on");
    let led = GroupFacts { leader: NodeId(3), ..now.clone() };
    assert_eq!(next_step(&without, &led), Some(Step::TransferTo(NodeId(1))));
    let dead = GroupFacts { alive: nodes(&[1, 3]), ..now };
    assert_eq!(next_step(&without, &dead), None, "the others could not go on");
    let mut now = group(&[1, 2], &[3], &[]);
    assert!(!has_let_go(&now, NodeId(3)));
    let gone = Some(Step::RemoveLearners(nodes(&[3])));
    assert_eq!(next_step(&without, &now), gone, "whether it has caught up or not");
    now.learners.clear();
    assert_eq!(next_step(&without, &now), None, "nor do they become fewer");
    assert!(has_let_go(&now, NodeId(3)));
    now.is_committed = false;
    assert!(!has_let_go(&now, NodeId(3)), "another leader may still count on it");
    now.is_committed = true;
    assert_eq!(next_step(&all, &now), Some(Step::AddLearner(NodeId(3))));
    assert_eq!(next_step(&all, &group(&[1, 2], &[3], &[3])), None);
    assert_eq!(voters(next_step(&all, &group(&[1, 2], &[3], &[]))), Some(vec![1, 2, 3]));
    // It is removed instead.
    assert_eq!(voters(next_step(&wanted(&[1, 2], &[]), &now)), Some(vec![1]));
    // One that follows goes without a change of voters.
    let without = Wanted { without: Some(NodeId(4)), ..wanted(&[1, 2, 3], &[]) };
    let gone = Some(Step::RemoveLearners(nodes(&[4])));
    assert_eq!(next_step(&without, &group(&[1, 2, 3], &[4], &[])), gone);
    // Of five, four vote on until it is back, or a sixth is there.
    let without = Wanted { without: Some(NodeId(5)), ..wanted(&[1, 2, 3, 4, 6], &[]) };
    let now = group(&[1, 2, 3, 4], &[6], &[6]);
    assert_eq!(next_step(&without, &now), None);
    let now = group(&[1, 2, 3, 4], &[6], &[]);
    assert_eq!(voters(next_step(&without, &now)), Some(vec![1, 2, 3, 4, 6]));
}

#[test]
fn one_node_alone_is_all_there_is() {
    assert_eq!(next_step(&wanted(&[1], &[]), &group(&[1], &[], &[])), None);
}

#[test]
fn three_vote_as_soon_as_two_more_have_caught_up() {
    let all = wanted(&[1, 2, 3], &[]);
    assert_eq!(next_step(&all, &group(&[1], &[], &[])), Some(Step::AddLearner(NodeId(2))));
    assert_eq!(next_step(&all, &group(&[1], &[2], &[])), Some(Step::AddLearner(NodeId(3))));
    assert_eq!(next_step(&all, &group(&[1], &[2, 3], &[2])), None);
    let step = next_step(&all, &group(&[1], &[2, 3], &[]));
    assert_eq!(step, Some(Step::SetVoters(nodes(&[1, 2, 3]))));
    assert_eq!(next_step(&all, &group(&[1, 2, 3], &[], &[])), None);
}

#[test]
fn five_vote_and_no_more() {
    let all = wanted(&[1, 2, 3, 4, 5, 6, 7], &[]);
    let step = next_step(&all, &group(&[1, 2, 3], &[4, 5, 6, 7], &[4]));
    assert_eq!(voters(step), Some(vec![1, 2, 3, 5, 6]));
    assert_eq!(next_step(&all, &group(&[1, 2, 3, 5, 6], &[4, 7], &[])), None);
    let four = wanted(&[1, 2, 3, 4], &[]);
    assert_eq!(next_step(&four, &group(&[1, 2, 3], &[4], &[])), None);
}

/// Nothing here makes such groups, but one may be found: an even voter more tolerates nothing more,
/// two more than the most do.
#[test]
fn other_sizes_are_corrected_where_that_costs_nothing() {
    let step = next_step(&wanted(&[1, 2, 3, 4], &[]), &group(&[1, 2, 3, 4], &[], &[]));
    assert_eq!(step, Some(Step::SetVoters(nodes(&[1, 2, 3]))));
    let seven = [1, 2, 3, 4, 5, 6, 7];
    assert_eq!(next_step(&wanted(&seven, &[]), &group(&seven, &[], &[])), None);
}

#[test]
fn learners_and_the_dead_are_not_promoted() {
    let all = wanted(&[1, 2, 3], &[4, 5]);
    let mut now = group(&[1], &[2, 3, 4, 5], &[]);
    now.alive.remove(&NodeId(3));
    assert_eq!(next_step(&all, &now), None);
    let mut now = group(&[1, 2, 3], &[6], &[]);
    now.alive.remove(&NodeId(3));
    assert_eq!(next_step(&wanted(&[1, 2, 3, 6], &[]), &now), None, "a dead voter stays one");
}

#[test]
fn a_voter_that_leaves_is_replaced_in_one_change() {
    let all = wanted(&[1, 2, 4], &[]);
    assert_eq!(next_step(&all, &group(&[1, 2, 3], &[4], &[4])), None, "4 is on its way");
    let step = next_step(&all, &group(&[1, 2, 3], &[4], &[]));
    assert_eq!(step, Some(Step::SetVoters(nodes(&[1, 2, 4]))));
    // Its replacement dies: nothing is worth waiting for.
    let mut now = group(&[1, 2, 3], &[4], &[4]);
    now.alive.remove(&NodeId(4));
    let step = next_step(&all, &now);
    assert_eq!(step, Some(Step::SetVoters(nodes(&[1]))));
}

#[test]
fn a_leader_that_leaves_hands_over_first() {
    let all = wanted(&[2, 3, 4], &[]);
    let mut now = group(&[1, 2, 3], &[4], &[]);
    assert_eq!(next_step(&all, &now), Some(Step::TransferTo(NodeId(2))));
    now.caught_up.remove(&NodeId(2));
    assert_eq!(next_step(&all, &now), Some(Step::TransferTo(NodeId(3))));
    now.leader = NodeId(3);
    assert_eq!(voters(next_step(&all, &now)), Some(vec![2, 3, 4]));
    // Alone it hands over by the change itself.
    let step = next_step(&wanted(&[2], &[]), &group(&[1], &[2], &[]));
    assert_eq!(voters(step), Some(vec![2]));
}

#[test]
fn what_was_begun_is_finished_and_what_is_gone_is_removed() {
    let all = wanted(&[1, 2, 4], &[]);
    let mut now = group(&[1, 2, 4], &[3], &[]);
    now.is_joint = true;
    let step = next_step(&all, &now);
    assert_eq!(step, Some(Step::SetVoters(nodes(&[1, 2, 4]))));
    now.is_joint = false;
    assert_eq!(next_step(&all, &now), Some(Step::RemoveLearners(nodes(&[3]))));
}

/// Those that voted before elect one of them while the change is under way, and then it has no vote.
#[test]
fn a_leader_that_lost_its_vote_hands_over() {
    let all = wanted(&[1, 2, 3], &[]);
    let mut now = GroupFacts { leader: NodeId(4), ..group(&[1, 2, 3], &[4], &[1]) };
    now.alive.remove(&NodeId(2));
    assert_eq!(next_step(&all, &now), Some(Step::TransferTo(NodeId(3))));
    now.caught_up.clear();
    assert_eq!(next_step(&all, &now), None, "nobody could take over");
}

/// With two of five dead and two removed, a majority of those that stay would be dead.
#[test]
fn a_new_configuration_has_a_live_majority() {
    let mut now = group(&[1, 2, 3, 4, 5], &[6], &[]);
    now.alive = nodes(&[1, 4, 5, 6]);
    assert_eq!(voters(next_step(&wanted(&[1, 2, 3, 6], &[]), &now)), Some(vec![1, 2, 6]));
    now.alive.remove(&NodeId(6));
    assert_eq!(next_step(&wanted(&[1, 2, 3, 6], &[]), &now), None);
}

/// What may happen between two steps; a disk that is filled twice has room again. Numbers are taken
/// modulo what there is.
#[derive(Clone, Debug)]
enum Event {
    Join { voter: bool },
    Go { which: usize },
    Die { which: usize },
    Live { which: usize },
    CatchUp { which: usize },
    FallBehind { which: usize },
    Elect { which: usize },
    Fill { which: usize },
    Step { half: bool },
}

fn events() -> impl Strategy<Value = Event> {
    let which = 0..12_usize;
    prop_oneof![
        2 => any::<bool>().prop_map(|voter| Event::Join { voter }),
        1 => which.clone().prop_map(|which| Event::Go { which }),
        1 => which.clone().prop_map(|which| Event::Die { which }),
        1 => which.clone().prop_map(|which| Event::Live { which }),
        3 => which.clone().prop_map(|which| Event::CatchUp { which }),
        1 => which.clone().prop_map(|which| Event::FallBehind { which }),
        1 => which.clone().prop_map(|which| Event::Elect { which }),
        1 => which.prop_map(|which| Event::Fill { which }),
        8 => proptest::bool::weighted(0.2).prop_map(|half| Event::Step { half }),
    ]
}

/// One group and what the roster wants of it.
#[derive(Clone, Debug)]
struct World {
    wanted: Wanted,
    /// Every node that ever was; the dead may come back.
    nodes: BTreeMap<NodeId, bool>,
    now: GroupFacts,
    /// The voters before a change that was left half way.
    old_voters: BTreeSet<NodeId>,
}

impl World {
    fn new() -> Self {
        World {
            wanted: wanted(&[1], &[]),
            nodes: BTreeMap::from([(NodeId(1), true)]),
            now: group(&[1], &[], &[]),
            old_voters: BTreeSet::new(),
        }
    }

    fn nth<'a>(nodes: impl Iterator<Item = &'a NodeId>, which: usize) -> Option<NodeId> {
        let nodes: Vec<&NodeId> = nodes.collect();
        (!nodes.is_empty()).then(|| *nodes[which % nodes.len()])
    }

    fn alive(&self, node: &NodeId) -> bool {
        self.nodes.get(node) == Some(&true)
    }

    fn has_quorum(&self, of: &BTreeSet<NodeId>) -> bool {
        2 * of.iter().filter(|node| self.alive(node)).count() > of.len()
    }

    /// Whether the group can do anything: a majority lives, of both configurations in a change.
    fn works(&self) -> bool {
        self.has_quorum(&self.now.voters)
            && (!self.now.is_joint || self.has_quorum(&self.old_voters))
    }

    fn elect(&mut self, which: usize) {
        let before = self.old_voters.iter().filter(|_| self.now.is_joint);
        let voters = self.now.voters.iter().chain(before).filter(|node| self.alive(node));
        if let Some(leader) = World::nth(voters, which) {
            self.now.leader = leader;
        }
    }

    fn happen(&mut self, event: &Event) {
        let voters_wanted =
            self.wanted.members.values().filter(|role| **role == Role::Voter).count();
        match *event {
            Event::Join { voter } if self.wanted.members.len() < 9 => {
                let node = NodeId(self.nodes.len() as u64 + 1);
                let role = if voter { Role::Voter } else { Role::Learner };
                self.nodes.insert(node, true);
                self.wanted.members.insert(node, role);
            }
            Event::Go { which } => {
                if let Some(node) = World::nth(self.wanted.members.keys(), which)
                    && (voters_wanted > 1 || self.wanted.members[&node] == Role::Learner)
                {
                    self.wanted.members.remove(&node);
                }
            }
            Event::Die { which } | Event::Live { which } => {
                if let Some(node) = World::nth(self.nodes.keys(), which) {
                    self.nodes.insert(node, matches!(event, Event::Live { .. }));
                }
            }
            Event::CatchUp { which } => {
                let here = self.now.learners.iter().chain(&self.now.voters);
                if let Some(node) = World::nth(here, which) {
                    self.now.caught_up.insert(node);
                }
            }
            Event::FallBehind { which } => {
                if let Some(node) = World::nth(self.now.learners.iter(), which) {
                    self.now.caught_up.remove(&node);
                }
            }
            Event::Elect { which } => self.elect(which),
            Event::Fill { which } => {
                if let Some(node) = World::nth(self.nodes.keys(), which)
                    && !self.now.full.remove(&node)
                {
                    self.now.full.insert(node);
                }
            }
            Event::Step { half } => drop(self.step(half)),
            Event::Join { .. } => {}
        }
        self.look();
    }

    /// What the leader sees, whoever that is by now. One that has lost its vote leads on.
    fn look(&mut self) {
        let nodes = &self.nodes;
        self.now.alive = nodes.iter().filter(|(_, alive)| **alive).map(|(node, _)| *node).collect();
        if !self.alive(&self.now.leader) || !holds(&self.now, self.now.leader) {
            self.elect(0);
        }
    }

    /// One step of the policy, checked and carried out; left half way if it is to be.
    fn step(&mut self, half: bool) -> Option<Step> {
        if !self.works() {
            return None;
        }
        let step = next_step(&self.wanted, &self.now)?;
        match step.clone() {
            Step::AddLearner(node) => {
                assert!(!holds(&self.now, node) && self.wanted.members.contains_key(&node));
                self.now.learners.insert(node);
                self.now.caught_up.remove(&node);
            }
            Step::RemoveLearners(gone) => {
                assert!(!gone.is_empty() && gone.is_subset(&self.now.learners));
                assert!(gone.iter().all(|node| !self.wanted.members.contains_key(node)));
                self.now.learners = &self.now.learners - &gone;
            }
            Step::TransferTo(heir) => {
                assert!(heir != self.now.leader && self.alive(&heir));
                assert!(self.now.voters.contains(&heir) && self.now.caught_up.contains(&heir));
                assert!(self.may_vote(&heir), "it would have to go too");
                self.now.leader = heir;
            }
            Step::SetVoters(voters) if self.now.is_joint => {
                assert_eq!(voters, self.now.voters, "what was begun is finished");
                self.now.is_joint = false;
            }
            Step::SetVoters(voters) => {
                self.check_voters(&voters);
                let before = std::mem::replace(&mut self.now.voters, voters.clone());
                self.now.learners = &(&self.now.learners | &before) - &voters;
                (self.now.is_joint, self.old_voters) = (half, before);
                self.now.caught_up.extend(voters);
            }
        }
        Some(step)
    }

    fn may_vote(&self, node: &NodeId) -> bool {
        self.wanted.members.get(node) == Some(&Role::Voter)
    }

    fn check_voters(&self, voters: &BTreeSet<NodeId>) {
        let before = &self.now.voters;
        assert!(voters != before, "a change changes something");
        assert!(voters.len() % 2 == 1 && voters.len() <= VOTERS_MAX, "odd, and not too many");
        assert!(voters.iter().all(|node| self.may_vote(node)));
        assert!(self.has_quorum(voters), "it can go on");
        let staying = before.iter().filter(|node| self.may_vote(node)).count();
        let none_goes = staying == before.len();
        if none_goes {
            assert!(before.is_subset(voters), "nobody is exchanged without need");
        }
        assert!(
            !none_goes || tolerated(voters.len()) >= tolerated(before.len()),
            "no less tolerance"
        );
        if self.wanted.replaces {
            let all = self.wanted.members.values().filter(|role| **role == Role::Voter).count();
            let least = tolerated(before.len()).min(tolerated(all.min(VOTERS_MAX)));
            assert!(tolerated(voters.len()) >= least, "those that go wait for those that come");
        }
        for node in voters - before {
            assert!(self.now.learners.contains(&node) && self.now.caught_up.contains(&node));
            assert!(self.alive(&node));
        }
        let leaves = before.contains(&self.now.leader) && !voters.contains(&self.now.leader);
        if leaves {
            let mut heirs = before.intersection(voters).filter(|node| self.alive(node));
            assert!(heirs.next().is_none(), "the leader should have handed over");
        }
    }

    /// All live and catch up, and nothing else happens any more: the policy comes to an end.
    fn settle(&mut self) {
        let every: Vec<NodeId> = self.nodes.keys().copied().collect();
        self.nodes.values_mut().for_each(|alive| *alive = true);
        self.now.alive = every.iter().copied().collect();
        // Each node is added, promoted, demoted or removed a few times at most.
        for _ in 0..4 * self.nodes.len() + 4 {
            self.now.caught_up = every.iter().copied().collect();
            if !holds(&self.now, self.now.leader) {
                self.elect(0);
            }
            if self.step(false).is_none() {
                return;
            }
        }
        panic!("the policy does not come to an end: {self:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn a_group_is_led_to_what_is_wanted_and_never_weakened(
        events in proptest::collection::vec(events(), 0..120), replaces in any::<bool>(),
    ) {
        let mut world = World::new();
        world.wanted.replaces = replaces;
        for event in &events {
            world.happen(event);
        }
        world.settle();
        let World { wanted, now, .. } = &world;
        let may_vote = wanted.members.values().filter(|role| **role == Role::Voter).count();
        let most = may_vote.min(VOTERS_MAX);
        prop_assert_eq!(now.voters.len(), if most % 2 == 0 { most - 1 } else { most });
        prop_assert!(now.voters.iter().all(|node| world.may_vote(node)));
        prop_assert!(now.voters.contains(&now.leader));
        let held: BTreeSet<NodeId> = &now.voters | &now.learners;
        prop_assert_eq!(held, wanted.members.keys().copied().collect::<BTreeSet<_>>());
        // What is reached stays, whoever leads and whoever dies then, if disks have room.
        let now = GroupFacts { full: BTreeSet::new(), ..now.clone() };
        for leader in &now.voters {
            prop_assert_eq!(next_step(wanted, &GroupFacts { leader: *leader, ..now.clone() }), None);
            let mut alive = now.alive.clone();
            alive.remove(leader);
            prop_assert_eq!(next_step(wanted, &GroupFacts { alive, ..now.clone() }), None);
        }
    }

    #[test]
    fn with_the_dead_it_comes_to_an_end_too(
        events in proptest::collection::vec(events(), 0..120),
    ) {
        let mut world = World::new();
        events.iter().for_each(|event| world.happen(event));
        let steps = 4 * world.nodes.len() + 4;
        let ended = (0..steps).any(|_| {
            let ended = world.step(false).is_none();
            world.look();
            ended
        });
        prop_assert!(ended, "{world:?}");
    }
}
