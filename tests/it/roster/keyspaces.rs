//! Keyspaces, the places of their shards, and which shard a key is in.

use std::collections::BTreeSet;

use aspen::limits::*;
use aspen::machine::ops::KeyRange;
use aspen::roster::keyspaces::{Aim, NewKeyspace, Part, create, delete, place, settle};
use aspen::roster::records::{Shard, Stage};
use aspen::roster::spread::{SPREAD, shard_of, shard_of_range};
use aspen::types::{GroupId, Revision};
use proptest::prelude::*;

use super::*;

fn new(name: &str, shards: u32) -> NewKeyspace {
    NewKeyspace { name: name.parse().expect("a name"), shards, replicas: 3 }
}

fn nodes(numbers: &[u64]) -> BTreeSet<NodeId> {
    numbers.iter().copied().map(NodeId).collect()
}

fn aim(replicas: &[u64], leader: u64) -> Aim {
    Aim { replicas: nodes(replicas), leader: Some(NodeId(leader)) }
}

fn placed(roster: &mut Roster, group: u64, aim: &Aim) -> Result<(), Refused> {
    let mut change = Change::default();
    place(roster, &mut change, GroupId(group), aim)?;
    commit(roster, &change);
    Ok(())
}

/// The shard is where it is to be.
fn settled(roster: &mut Roster, group: u64, as_of: Revision) -> Result<(), Refused> {
    let mut change = Change::default();
    settle(roster, &mut change, GroupId(group), as_of)?;
    commit(roster, &change);
    Ok(())
}

fn settled_now(roster: &mut Roster, group: u64) {
    let (_, as_of) = roster.shard(GroupId(group)).expect("a shard");
    settled(roster, group, as_of).expect("as it was seen");
}

fn shard(roster: &Roster, group: u64) -> Shard {
    roster.shard(GroupId(group)).expect("a shard").0.clone()
}

fn with_members(last: u8) -> Roster {
    let mut roster = founded();
    let invitation = invited(&mut roster, 1, Role::Voter, aspen_tickets::USES_ANY);
    for number in 2..=last {
        join(&mut roster, &application(&invitation, key(number), number.into())).expect("admitted");
    }
    roster
}

#[test]
fn a_shard_s_way_from_its_first_place_to_another() {
    let mut roster = with_members(4);
    let (keyspace, change) = create(&roster, &new("app", 2), NOW_S).expect("a good keyspace");
    assert_eq!((keyspace.first, keyspace.spread), (GroupId(3), SPREAD), "after the default's two");
    commit(&mut roster, &change);
    assert_eq!(roster.part(GroupId(3), NodeId(1)), None, "it has no place yet");

    placed(&mut roster, 3, &aim(&[1, 2, 3], 2)).expect("its first place");
    let founders = Part::Found([1, 2, 3].map(NodeId).into());
    assert_eq!(roster.part(GroupId(3), NodeId(3)), Some(founders));
    assert_eq!(roster.part(GroupId(3), NodeId(4)), None);
    let moved = placed(&mut roster, 3, &aim(&[1, 2, 4], 2));
    assert_eq!(moved, Err(Refused::ShardChanged { group: GroupId(3) }), "it is being founded");

    let (_, as_of) = roster.shard(GroupId(3)).expect("a shard");
    settled(&mut roster, 3, as_of).expect("as it was seen");
    placed(&mut roster, 3, &aim(&[1, 2, 4], 2)).expect("it is settled");
    let now = shard(&roster, 3);
    assert_eq!((now.stage, now.leaving), (Stage::Moving, nodes(&[3])));
    assert_eq!(roster.part(GroupId(3), NodeId(3)), Some(Part::Follow), "it is not let go yet");
    assert_eq!(roster.part(GroupId(3), NodeId(4)), Some(Part::Follow));
    let late = settled(&mut roster, 3, as_of);
    assert_eq!(late, Err(Refused::ShardChanged { group: GroupId(3) }), "of the place before");

    placed(&mut roster, 3, &aim(&[1, 2, 3], 2)).expect("another aim, on the way");
    assert_eq!(shard(&roster, 3).leaving, nodes(&[4]), "who may have been taken in");
    settled_now(&mut roster, 3);
    assert_eq!(roster.part(GroupId(3), NodeId(4)), None);
    assert_eq!(roster.wanted(GroupId(3)).expect("a place").members.len(), 3);
}

#[test]
fn a_place_is_among_members() {
    let mut roster = with_members(2);
    let unknown = placed(&mut roster, 1, &aim(&[1, 9], 1));
    assert_eq!(unknown, Err(Refused::ShardChanged { group: GroupId(1) }), "it is being founded");
    settled_now(&mut roster, 1);
    let unknown = placed(&mut roster, 1, &aim(&[1, 9], 1));
    assert_eq!(unknown, Err(Refused::UnknownNode { node: NodeId(9) }));

    // Who is taken in is a member still when that is committed.
    let mut change = Change::default();
    place(&roster, &mut change, GroupId(1), &aim(&[1, 2], 1)).expect("both are members");
    let removed = aspen::roster::leave::remove(&roster, NodeId(2), &BTreeSet::new())
        .expect("another voter is there");
    commit(&mut roster, &removed);
    assert_eq!(roster.commit(&change), Ok(false));
}

#[test]
fn every_way_a_keyspace_is_refused_has_its_own_word() {
    let mut roster = founded();
    let (_, change) = create(&roster, &new("app", 4), NOW_S).expect("a good keyspace");
    commit(&mut roster, &change);
    let refused = |roster: &Roster, new: &NewKeyspace| create(roster, new, NOW_S).unwrap_err();
    let name = new("app", 1).name;
    let exists = Refused::KeyspaceExists { name: name.clone(), shards: 4, replicas: 3 };
    assert_eq!(refused(&roster, &new("app", 1)), exists);
    for (shards, replicas) in [(0, 3), (KEYSPACE_SHARDS_MAX + 1, 3), (1, 0), (1, 6)] {
        let asked = NewKeyspace { shards, replicas, ..new("b", 1) };
        assert_eq!(refused(&roster, &asked), Refused::KeyspaceOutOfBounds);
    }
    for number in 0..4 {
        let (_, change) = create(&roster, &new(&format!("n{number}"), 500), NOW_S).expect("room");
        commit(&mut roster, &change);
    }
    assert_eq!(refused(&roster, &new("b", 500)), Refused::TooManyShards { present: 2_006 });

    let stays = Refused::KeyspaceStays { name: new("default", 1).name };
    assert_eq!(delete(&roster, &new("default", 1).name), Err(stays));
    let unknown = Refused::UnknownKeyspace { name: new("b", 1).name };
    assert_eq!(delete(&roster, &new("b", 1).name), Err(unknown));
    let gone = delete(&roster, &name).expect("it is there");
    commit(&mut roster, &gone);
    assert_eq!(roster.keyspace(&name), None);
    assert_eq!(roster.shard(GroupId(3)), None);

    for bad in ["", "-a", ".", "a/b", "a b", "\u{fc}", &"a".repeat(65)] {
        assert!(bad.parse::<aspen::types::KeyspaceName>().is_err(), "{bad}");
    }
}

/// These can never change: keys lie where the hash says.
#[test]
fn the_first_spread_is_fixed() {
    let shards = |key: &str| [2, 3, 8, 100, 500].map(|shards| shard_of(key.as_bytes(), shards));
    assert_eq!(shards("a"), [0, 0, 2, 32, 163]);
    assert_eq!(shards("user/7"), [0, 1, 2, 36, 181]);
    assert_eq!(shards("\u{4f60}\u{597d}"), [0, 0, 0, 9, 45]);
    assert_eq!(shards("{user/7}/cart"), shards("user/7"));
    assert_eq!(shards("orders/{user/7}"), shards("user/7"));
    assert_eq!(shard_of(&[0xff, 0, b'{'], 1_000), 1);
    // What is no tag is part of the key.
    for key in ["{}a", "{a", "}a{", "a}"] {
        let hash = blake3::hash(key.as_bytes());
        let first = u64::from_le_bytes(hash.as_bytes()[..8].try_into().unwrap());
        assert_eq!(
            u64::from(shard_of(key.as_bytes(), 500)),
            ((u128::from(first) * 500) >> 64) as u64
        );
    }
}

#[test]
fn keys_are_spread_evenly() {
    let mut counts = [0_u32; 8];
    for number in 0..8_000 {
        counts[shard_of(format!("key-{number}").as_bytes(), 8) as usize] += 1;
    }
    assert!(counts.iter().all(|count| (800..=1_200).contains(count)), "{counts:?}");
}

proptest! {
    /// A range that is said to be in one shard has no key in another.
    #[test]
    fn a_range_in_one_shard_has_all_its_keys_there(
        start in "[a{}]{0,4}", end in "[a{}~]{0,4}", key in "[a{}~]{1,6}", by_prefix: bool,
    ) {
        let range = match by_prefix {
            true => KeyRange::prefix(start.clone()),
            false => KeyRange {
                start: std::ops::Bound::Included(start.clone().into()),
                end: std::ops::Bound::Excluded(end.into()),
            },
        };
        let (from, to) = range.bounds();
        if let Some(shard) = shard_of_range(from, to, 64) {
            let keys = [key.clone(), format!("{start}{key}")];
            for key in keys.iter().filter(|key| range.contains(key.as_bytes())) {
                prop_assert_eq!(shard_of(key.as_bytes(), 64), shard);
            }
        }
    }
}
