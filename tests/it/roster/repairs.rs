//! Repairs of replicas: one at a time for each group, each stage on the condition that the one before
//! stands, and over with the member or the keyspace.

use std::collections::BTreeSet;

use aspen::roster::duties::maintain;
use aspen::roster::keyspaces::{Aim, NewKeyspace, create, delete, place};
use aspen::roster::leave::remove;
use aspen::roster::records::RepairStage;
use aspen::roster::repairs::{ask, finish, let_go};
use aspen::types::{GroupId, Revision};

use super::*;

const GROUP: GroupId = GroupId(3);

/// Four members, and a keyspace whose only shard is on the first three.
fn cluster() -> Roster {
    let mut roster = founded();
    let invitation = invited(&mut roster, 1, Role::Voter, aspen_tickets::USES_ANY);
    for number in 2..=4 {
        join(&mut roster, &application(&invitation, key(number), number.into())).expect("admitted");
    }
    let new = NewKeyspace { name: "logs".parse().expect("a name"), shards: 1, replicas: 3 };
    let (keyspace, change) = create(&roster, &new, NOW_S).expect("a new keyspace");
    commit(&mut roster, &change);
    assert_eq!(keyspace.first, GROUP);
    let aim = Aim { replicas: [1, 2, 3].map(NodeId).into(), leader: None };
    let mut change = Change::default();
    place(&roster, &mut change, GROUP, &aim).expect("a place");
    commit(&mut roster, &change);
    roster
}

fn asked(roster: &mut Roster, group: GroupId, node: u64) -> Result<(), Refused> {
    let change = ask(roster, group, NodeId(node))?;
    commit(roster, &change);
    Ok(())
}

fn stage(roster: &Roster, group: GroupId) -> Option<(u64, RepairStage)> {
    roster.repair(group).map(|(repair, _)| (repair.node.0, repair.stage))
}

fn at(roster: &Roster) -> Revision {
    roster.repair(GROUP).expect("a repair").1
}

type Next = fn(&Roster, &mut Change, GroupId, Revision) -> Result<(), Refused>;

fn taken(roster: &mut Roster, next: Next, as_of: Revision) -> Result<(), Refused> {
    let mut change = Change::default();
    next(roster, &mut change, GROUP, as_of)?;
    commit(roster, &change);
    Ok(())
}

#[test]
fn a_repair_goes_from_stage_to_stage_and_is_forgotten() {
    let mut roster = cluster();
    asked(&mut roster, GROUP, 3).expect("asked");
    let first = at(&roster);
    asked(&mut roster, GROUP, 3).expect("asked again");
    assert_eq!((at(&roster), stage(&roster, GROUP)), (first, Some((3, RepairStage::Asked))));
    assert!(!roster.wanted(GROUP).expect("a shard").members.contains_key(&NodeId(3)));
    assert_eq!(roster.wanted(GROUP).expect("a shard").without, Some(NodeId(3)));

    // Nothing is erased before the group has let go.
    taken(&mut roster, finish, first).expect("nothing to do");
    assert_eq!(stage(&roster, GROUP), Some((3, RepairStage::Asked)));
    taken(&mut roster, let_go, first).expect("let go");
    assert_eq!(stage(&roster, GROUP), Some((3, RepairStage::LetGo)));
    // Whoever led before, and goes by the record that was, says nothing any more.
    assert_eq!(taken(&mut roster, let_go, first), Err(Refused::ShardChanged { group: GROUP }));
    taken(&mut roster, finish, first).expect("nothing to do");
    assert_eq!(stage(&roster, GROUP), Some((3, RepairStage::LetGo)));

    let second = at(&roster);
    taken(&mut roster, finish, second).expect("over");
    assert_eq!(stage(&roster, GROUP), None);
    assert!(roster.wanted(GROUP).expect("a shard").members.contains_key(&NodeId(3)));
    taken(&mut roster, finish, second).expect("over already");
}

#[test]
fn a_group_has_one_repair_at_a_time_of_a_member_that_holds_it_and_is_not_alone() {
    let mut roster = cluster();
    let refused = Refused::NoReplica { group: GROUP, node: NodeId(4) };
    assert_eq!(asked(&mut roster, GROUP, 4), Err(refused));
    let alone = Refused::NothingToTakeFrom { group: GroupId(1), node: NodeId(1) };
    assert_eq!(asked(&mut roster, GroupId(1), 1), Err(alone));
    assert_eq!(asked(&mut roster, GROUP, 9), Err(Refused::UnknownNode { node: NodeId(9) }));
    asked(&mut roster, GROUP, 3).expect("asked");
    let under_way = Refused::RepairUnderWay { group: GROUP, node: NodeId(3) };
    assert_eq!(asked(&mut roster, GROUP, 2), Err(under_way));
    asked(&mut roster, GroupId::META, 2).expect("another group");
    // Two that were decided on the same records are not both committed.
    let mut roster = cluster();
    let changes = [2, 3].map(|node| ask(&roster, GROUP, NodeId(node)).expect("asked"));
    let committed = changes.map(|change| roster.commit(&change).expect("whole"));
    assert_eq!(committed, [true, false]);
}

#[test]
fn a_repair_ends_with_its_member_and_with_its_keyspace() {
    let mut roster = cluster();
    asked(&mut roster, GROUP, 3).expect("asked");
    let change = remove(&roster, NodeId(3), &BTreeSet::new()).expect("removed");
    commit(&mut roster, &change);
    assert_eq!((stage(&roster, GROUP), roster.repairs_of(NodeId(3)).count()), (None, 0));
    asked(&mut roster, GROUP, 2).expect("another may be repaired now");

    let change = delete(&roster, &"logs".parse().expect("a name")).expect("deleted");
    commit(&mut roster, &change);
    assert_eq!(stage(&roster, GROUP), None);
}

#[test]
fn a_replica_that_is_repaired_counts_as_away() {
    let mut roster = cluster();
    assert!(maintain(&roster, &[NodeId(2)].into(), true).is_ok());
    asked(&mut roster, GROUP, 3).expect("asked");
    let refused = maintain(&roster, &[NodeId(2)].into(), true).map(drop);
    assert_eq!(refused, Err(Refused::MajorityAway { group: GROUP }));
    assert!(maintain(&roster, &[NodeId(3)].into(), true).is_ok());
}
