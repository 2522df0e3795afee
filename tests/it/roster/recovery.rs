//! A new cluster of what one member has: its records are another cluster's, and of one member.

use std::collections::BTreeSet;

use aspen::roster::Standing;
use aspen::roster::duties::drain;
use aspen::roster::records::{Stage, State};
use aspen::roster::recovery::{Survivor, alone};
use aspen::types::GroupId;

use super::*;

fn survivor(held: &[u64]) -> Survivor {
    Survivor {
        id: ClusterId(78),
        gossip_secret: [6; 32],
        node: NodeId(2),
        incarnation: 99,
        held: held.iter().copied().map(GroupId).collect(),
    }
}

#[test]
fn the_records_become_those_of_a_cluster_of_one() {
    let mut roster = founded();
    let invitation = invited(&mut roster, 1, Role::Voter, aspen_tickets::USES_ANY);
    for number in 2..=3 {
        join(&mut roster, &application(&invitation, key(number), number.into())).expect("admitted");
    }
    let change = drain(&roster, NodeId(2), true).expect("drained");
    commit(&mut roster, &change);
    let change = alone(&roster, &survivor(&[1])).expect("a member");
    commit(&mut roster, &change);

    let cluster = roster.cluster().expect("a cluster");
    assert_eq!(
        (cluster.id, cluster.gossip_secret, &*cluster.name),
        (ClusterId(78), [6; 32], "lab")
    );
    assert_eq!(cluster.next_node, NodeId(4), "no number is given twice");
    let me = roster.member(NodeId(2)).expect("the survivor");
    assert_eq!((me.state, me.role, me.incarnation), (State::Active, Role::Voter, 99));
    assert_eq!(roster.present().count(), 1);
    assert_eq!(roster.standing(key(1)), Standing::Removed(NodeId(1)), "it is told, and ends");
    assert_eq!(roster.invitations().count(), 0);
    assert!(!roster.duty(NodeId(2)).draining, "there is nobody to take what it has");
    // Of two shards it has one.
    let (here, _) = roster.shard(GroupId(1)).expect("a shard");
    assert_eq!((here.stage, here.leader), (Stage::Settled, Some(NodeId(2))));
    assert_eq!(here.replicas, BTreeSet::from([NodeId(2)]));
    let (lost, _) = roster.shard(GroupId(2)).expect("a shard");
    assert_eq!((lost.stage, lost.replicas.len()), (Stage::Waiting, 0));

    // By tickets of the old cluster nobody comes.
    let refused = join(&mut roster, &application(&invitation, key(9), 9)).expect_err("refused");
    assert_eq!(refused, Refused::OtherCluster { ours: ClusterId(78), theirs: CLUSTER });
}

#[test]
fn only_a_member_makes_one() {
    let unknown = Err(Refused::UnknownNode { node: NodeId(2) });
    assert_eq!(alone(&founded(), &survivor(&[])).map(drop), unknown);
    assert_eq!(alone(&Roster::default(), &survivor(&[])).map(drop), Err(Refused::NotFounded));
}
