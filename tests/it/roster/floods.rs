//! Announcements by the thousand: little of them is looked at, nobody's flood costs another member
//! anything, and memory is bounded.

use std::collections::BTreeSet;

use aspen::limits::*;
use aspen::roster::hearsay::Why;

use super::hearsay::{Rig, SECOND, ignored};
use super::*;

#[test]
fn a_flood_by_one_member_passes_only_as_the_limits_say_and_slows_no_other() {
    let mut rig = Rig::new(4);
    let flood: Vec<Vec<u8>> = (0..10_000).map(|number| rig.said(2, 1, number)).collect();
    let (mut passed, mut logged, mut looked_at) = (0, 0, 0);
    for (number, bytes) in (0..).zip(&flood) {
        let now = SECOND + number * SECOND / 10_000;
        match rig.hear_of(2, bytes, now) {
            Ok(_) => passed += 1,
            Err(ignored) => {
                looked_at += u32::from(ignored.why != Why::DelivererRate);
                let offence = ignored.offence.expect("it floods");
                assert_eq!(offence.who, rig.endpoint(2));
                logged += u32::from(offence.log.is_some());
            }
        }
        // Another member announces itself as fast as it ever does.
        if number % 5_000 == 0 {
            let bytes = rig.said(3, 1, number.into());
            rig.hear(&bytes, rig.endpoint(4), now).expect("nobody slows it");
        }
    }
    assert!(passed <= HEARD_AUTHOR_BURST_MAX + HEARD_AUTHOR_PER_SECOND_MAX, "{passed} passed");
    let most = HEARD_DELIVERER_BURST_MAX + HEARD_DELIVERER_PER_SECOND_MAX;
    assert!(passed + looked_at <= most, "{looked_at} were looked at");
    assert_eq!(logged, 1);
}

#[test]
fn garbage_in_anothers_name_uses_up_nothing_of_the_others() {
    let mut rig = Rig::new(3);
    let mut forged = rig.said(3, 1, u64::MAX);
    *forged.last_mut().unwrap() ^= 1;
    let mut named = BTreeSet::new();
    for number in 0..10_000 {
        let now = SECOND + number * SECOND / 10_000;
        named.extend(ignored(rig.hear_of(2, &forged, now)).1);
    }
    assert_eq!(named, BTreeSet::from([rig.endpoint(2)]));
    for number in 0..u64::from(HEARD_AUTHOR_BURST_MAX) {
        let bytes = rig.said(3, 1, number);
        rig.hear_of(3, &bytes, 2 * SECOND).expect("its allowance is whole");
    }
}

#[test]
fn a_flood_by_several_neighbours_checks_no_more_signatures_than_the_limits_say() {
    let mut rig = Rig::new(41);
    let mut forged = rig.said(2, 1, 1);
    *forged.last_mut().unwrap() ^= 1;
    let checks = std::cell::Cell::new(0);
    let count = |_: EndpointId, _: &[u8], _: &[u8; 64]| {
        checks.set(checks.get() + 1);
        false
    };
    for number in 0..40_000 {
        let by = rig.keys[1 + number % 40].endpoint_id();
        let now = SECOND + number as u32 * SECOND / 40_000;
        rig.hearsay.hear(&forged, by, now, &rig.roster, &count).expect_err("it is forged");
    }
    let most = HEARD_ALL_BURST_MAX + HEARD_ALL_PER_SECOND_MAX;
    assert!((HEARD_ALL_BURST_MAX..=most).contains(&checks.get()), "{} checks", checks.get());
    // Nobody waits longer for the others' flood than it lasts.
    let bytes = rig.said(3, 1, 1);
    rig.hear_of(3, &bytes, 3 * SECOND).expect("the flood has ended");
}

#[test]
fn a_thousand_authors_and_a_million_forgeries_are_kept_within_bounds() {
    let mut rig = Rig::new(1_001);
    for node in 2..=1_001 {
        let bytes = rig.said(node, 1, 1);
        rig.hear_of(node, &bytes, node as u32 * SECOND).expect("it is new");
        assert!(rig.hearsay.all().count() <= HEARD_MAX);
    }
    assert_eq!(rig.hearsay.all().count(), HEARD_MAX);
    assert_eq!(rig.last_of(1_001), Some((1, 1)));
    let kept: Vec<_> = rig.hearsay.all().map(|(key, heard)| (key, heard.clone())).collect();

    let mut forged = rig.said(2, 2, 1);
    let mut lines = 0;
    for number in 0..1_000_000_u32 {
        let at = forged.len() - 64;
        forged[at..at + 4].copy_from_slice(&number.to_le_bytes());
        let mut by = [0; 32];
        by[..4].copy_from_slice(&number.to_le_bytes());
        let now = 2_000 * SECOND + number * SECOND / 100_000;
        let ignored = rig.hear(&forged, EndpointId(by), now).expect_err("it is forged");
        lines += usize::from(ignored.offence.is_some_and(|offence| offence.log.is_some()));
    }
    assert!(lines <= OFFENDERS_MAX, "{lines} lines");
    assert!(rig.hearsay.all().map(|(key, heard)| (key, heard.clone())).eq(kept));
}
