//! Announcements as bytes, and when they are made.

use std::net::SocketAddr;
use std::time::Duration;

use aspen::limits::*;
use aspen::roster::announcement::{Announcement, Part, PartRole};
use aspen::roster::pace::Pace;
use aspen::types::GroupId;
use proptest::prelude::*;

use super::hearsay::{Rig, SECOND, address};
use super::*;

#[test]
fn the_largest_announcement_fits_with_its_leads_first_and_says_that_it_was_cut() {
    let rig = Rig::new(2);
    let part = |group: u64| Part {
        group: GroupId(u64::MAX - group),
        role: if group < 100 { PartRole::Leader } else { PartRole::Learner },
        applied: u64::MAX,
    };
    let largest = Announcement {
        cluster: ClusterId(u128::MAX),
        node: NodeId(u64::MAX),
        start: u64::MAX,
        number: u64::MAX,
        addresses: vec![address("[ffff:ffff::1]:65535"); MEMBER_ADDRESSES_MAX + 1],
        writes_per_second: u32::MAX,
        free_percent: 100,
        version: "v".repeat(MEMBER_VERSION_BYTES_MAX),
        groups: (0..1_000).map(part).collect(),
        ..rig.announcement(2, 1, 1)
    };
    let bytes = rig.sealed(2, &largest);
    let room = ANNOUNCEMENT_BYTES_MAX - bytes.len();
    assert!(room < 21, "{room} bytes are left, and a group takes 21");
    let read = Announcement::read(&bytes).expect("it was just made");
    assert!(read.groups_cut && read.groups.len() > 100);
    assert!(read.groups[..100].iter().all(|part| part.role == PartRole::Leader));
    assert_eq!(read.addresses.len(), MEMBER_ADDRESSES_MAX);
    // Small ones are bounded by their number.
    let small = |group| Part { group: GroupId(group), role: PartRole::Voter, applied: 1 };
    let many =
        Announcement { groups: (0..1_000).map(small).collect(), ..rig.announcement(2, 1, 1) };
    let read = Announcement::read(&rig.sealed(2, &many)).expect("it was just made");
    assert_eq!((read.groups_cut, read.groups.len()), (true, ANNOUNCEMENT_GROUPS_MAX));
}

#[test]
fn changing_any_bit_of_an_announcement_makes_it_ignored() {
    let mut rig = Rig::new(2);
    let bytes = rig.said(2, 1, 1);
    for bit in 0..bytes.len() * 8 {
        let mut changed = bytes.clone();
        changed[bit / 8] ^= 1 << (bit % 8);
        let now = (bit as u32 + 1) * SECOND;
        assert!(rig.hear_of(2, &changed, now).is_err(), "bit {bit}");
    }
    rig.hear_of(2, &bytes, 1_000_000 * SECOND).expect("as it was sent it is good");
}

#[test]
fn a_small_cluster_keeps_its_pace_and_a_large_one_slows_while_nothing_changes() {
    let pauses = |members: usize, unit: f64| {
        let mut pace = Pace::default();
        assert_eq!(pace.next(), Duration::ZERO);
        std::array::from_fn(|_| {
            let now = pace.next();
            pace.announced(now, members, unit);
            pace.next() - now
        })
    };
    let seconds = |pauses: [u64; 5]| pauses.map(Duration::from_secs);
    assert_eq!(pauses(ANNOUNCE_MANY, 0.0), seconds([10, 10, 10, 10, 10]));
    assert_eq!(pauses(ANNOUNCE_MANY + 1, 0.0), seconds([10, 20, 40, 60, 60]));
    assert_eq!(pauses(ANNOUNCE_MANY + 1, 1.0)[3..], seconds([0, 0, 0, 45, 45])[3..]);
}

#[test]
fn a_change_is_announced_at_once_but_never_twice_within_the_gap() {
    let mut pace = Pace::default();
    for number in 0..6 {
        pace.announced(number * 60 * SECOND, 100, 0.5);
    }
    let last = 300 * SECOND;
    pace.changed();
    assert_eq!(pace.next(), last + ANNOUNCE_GAP_MIN, "which has passed for most changes");
    pace.announced(last + 30 * SECOND, 100, 0.0);
    assert_eq!(pace.next(), last + 40 * SECOND, "after a change others need it fresh");
    for _ in 0..3 {
        pace.changed();
        assert_eq!(pace.next(), last + 30 * SECOND + ANNOUNCE_GAP_MIN);
    }
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let role = prop_oneof![Just(PartRole::Leader), Just(PartRole::Voter), Just(PartRole::Learner)];
    let part = (any::<u64>(), role, any::<u64>());
    proptest::collection::vec(part, 0..400).prop_map(|parts| {
        let part = |(group, role, applied)| Part { group: GroupId(group), role, applied };
        parts.into_iter().map(part).collect()
    })
}

proptest! {
    #[test]
    fn announcements_survive_their_bytes(
        order in any::<(u64, u64)>(),
        cluster in any::<u128>(),
        node in 1..u64::MAX,
        addresses in proptest::collection::vec(any::<(std::net::IpAddr, u16)>(), 0..=8),
        load in any::<u32>(),
        free_percent in 0..=100_u8,
        version in "[a-z0-9.]{0,32}",
        groups in parts(),
    ) {
        let rig = Rig::new(2);
        let said = Announcement {
            cluster: ClusterId(cluster),
            node: NodeId(node),
            addresses: addresses.into_iter().map(|at| SocketAddr::from(at).into()).collect(),
            writes_per_second: load,
            free_percent,
            version,
            groups,
            ..rig.announcement(2, order.0, order.1)
        };
        let bytes = rig.sealed(2, &said);
        prop_assert!(bytes.len() <= ANNOUNCEMENT_BYTES_MAX);
        let read = Announcement::read(&bytes).expect("it was just made");
        prop_assert_eq!(&rig.sealed(2, &read), &bytes);
        let kept = read.groups.len();
        prop_assert!(read.groups.iter().all(|part| said.groups.contains(part)));
        prop_assert!(kept == said.groups.len() || read.groups_cut);
        prop_assert_eq!(Announcement { groups: said.groups.clone(), groups_cut: false, ..read }, said);
    }

    #[test]
    fn no_bytes_are_too_strange(
        bytes in proptest::collection::vec(any::<u8>(), 0..4_200),
        versioned in any::<bool>(),
        at in any::<prop::sample::Index>(),
    ) {
        let mut rig = Rig::new(2);
        let mut bytes = bytes;
        if versioned && !bytes.is_empty() {
            bytes[0] = 1;
        }
        prop_assert!(rig.hear_of(2, &bytes, SECOND).is_err());
        // And a good one with other bytes from somewhere on.
        let good = rig.said(2, 1, 1);
        let at = at.index(good.len());
        let mixed = [&good[..at], &bytes].concat();
        prop_assert!(mixed == good || rig.hear_of(2, &mixed, SECOND).is_err());
    }
}
