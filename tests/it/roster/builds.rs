//! Clusters of mixed builds: whatever comes, changes and goes, nobody has to read what it does not
//! know.

use std::collections::BTreeSet;

use aspen::roster::Roster;
use aspen::roster::builds::{Build, gate, split};
use aspen::roster::change::{Change, Needs};
use aspen::roster::leave::{remove, update};
use aspen::roster::records::Member;
use aspen_tickets::USES_ANY;
use proptest::prelude::*;

use super::*;

#[test]
fn a_version_ends_in_its_level() {
    for (version, number, level) in [
        ("0.1.0", "0.1.0", 1),
        ("0.2.0+level.2", "0.2.0", 2),
        ("0.2.0-rc.1+level.30", "0.2.0-rc.1", 30),
        ("0.2.0+level.0", "0.2.0+level.0", 1),
        ("0.2.0+level.x", "0.2.0+level.x", 1),
        ("", "", 1),
    ] {
        assert_eq!(split(version), (number, level), "{version}");
    }
    let build = |version| Build::of(version).map(|build| (build.major, build.minor, build.level));
    assert_eq!(build("0.2.0-rc.1+level.3"), Some((0, 2, 3)));
    assert_eq!(build("1.12"), Some((1, 12, 1)));
    for odd in ["", "1", "one.two", "1.x", ".1"] {
        assert_eq!(build(odd), None, "{odd}");
    }
}

fn described_as(incarnation: u128, version: &str) -> Description {
    Description { version: version.into(), ..described(incarnation) }
}

fn needs(level: u32) -> Needs {
    Needs { level, what: "a thing".into() }
}

/// Something that is written and was introduced at a level.
fn thing(level: u32) -> Change {
    let value = aspen::roster::records::Record::Setting("thing".into(), "on".into()).encode();
    let writes = vec![(b"setting/thing".to_vec(), Some(value))];
    Change { writes, needs: Some(needs(level)), ..Change::default() }
}

#[test]
fn what_only_some_know_is_refused_with_the_member_to_upgrade() {
    let mut roster = founded();
    let invitation = invited(&mut roster, 1, Role::Voter, USES_ANY);
    let asked = application(&invitation, key(2), 2);
    let newer = Application { description: described_as(2, "0.2.0+level.2"), ..asked };
    assert!(join(&mut roster, &newer).is_ok());
    let refused = gate(&roster, thing(2)).expect_err("the founder is older");
    assert_eq!(
        refused.to_string(),
        "node 1 runs aspen 0.1.0, which does not know a thing; upgrade it first"
    );
    let upgraded = described_as(1, "0.2.0+level.2");
    let change = update(&roster, NodeId(1), &upgraded).expect("one minor version");
    commit(&mut roster, &change);
    assert_eq!((roster.level(), roster.level_used()), (2, 1));
    // It may go back until something is used.
    let change = update(&roster, NodeId(1), &described(1)).expect("nothing is used");
    let before = roster.clone();
    commit(&mut roster, &change);
    let mut roster = before;
    let used = gate(&roster, thing(2)).expect("all know it");
    commit(&mut roster, &used);
    assert_eq!(roster.level_used(), 2);
    // Who decided on what was before comes too late.
    assert_eq!(roster.commit(&change), Ok(false));
    let refused = update(&roster, NodeId(1), &described(1)).expect_err("it is used");
    assert_eq!(
        refused.to_string(),
        "aspen 0.1.0 is too old for the cluster, which needs level 2; start a newer one"
    );
    let late = application(&invitation, key(3), 3);
    assert_eq!(join(&mut roster, &late), Err(refused));
    let far = Application { description: described_as(3, "0.4.0+level.2"), ..late };
    assert_eq!(
        join(&mut roster, &far).expect_err("it is too far").to_string(),
        "aspen 0.4.0 and node 1's 0.2.0 are more than one minor version apart; upgrade one version \
         at a time"
    );
}

const VERSIONS: [&str; 7] =
    ["0.1.0", "0.1.9", "0.2.0", "0.2.0+level.2", "0.3.0+level.3", "1.2.0+level.3", "not a version"];

#[derive(Clone, Debug)]
enum Step {
    Join(&'static str),
    Update(u64, &'static str),
    Use(u32),
    Remove(u64),
}

fn step() -> impl Strategy<Value = Step> {
    let version = || prop::sample::select(&VERSIONS[..]);
    prop_oneof![
        version().prop_map(Step::Join),
        (1u64..6, version()).prop_map(|(node, version)| Step::Update(node, version)),
        (1u32..4).prop_map(Step::Use),
        (1u64..6).prop_map(Step::Remove),
    ]
}

fn level_of(member: &Member) -> u32 {
    split(&member.version).1
}

/// Decides a step; nothing if it is refused.
fn decide(roster: &Roster, invitation: &Invitation, step: &Step, number: u8) -> Option<Change> {
    match step {
        Step::Join(version) => {
            let asked = application(invitation, key(number), number.into());
            let description = described_as(number.into(), version);
            let asked = Application { description, ..asked };
            admit(roster, &asked, NOW_S, &verify).ok().map(|(_, change)| change)
        }
        Step::Update(node, version) => {
            let incarnation = roster.member(NodeId(*node))?.incarnation;
            update(roster, NodeId(*node), &described_as(incarnation, version)).ok()
        }
        Step::Use(level) => gate(roster, thing(*level)).ok(),
        Step::Remove(node) => remove(roster, NodeId(*node), &BTreeSet::new()).ok(),
    }
}

proptest! {
    #[test]
    fn every_member_knows_what_is_used_and_that_never_goes_down(
        steps in prop::collection::vec((step(), step()), 1..40)
    ) {
        let mut roster = founded();
        let invitation = invited(&mut roster, 1, Role::Voter, USES_ANY);
        let mut number = 1;
        for (first, second) in steps {
            // Two are decided at once, and committed one after the other.
            let before = roster.clone();
            for step in [first, second] {
                number += 1;
                let Some(change) = decide(&before, &invitation, &step, number) else { continue };
                let used = roster.level_used();
                let done = roster.commit(&change).expect("records are sound");
                prop_assert!(roster.level_used() >= used);
                if let (Step::Use(level), true) = (&step, done) {
                    prop_assert!(roster.level_used() >= *level);
                }
                for member in roster.present() {
                    prop_assert!(level_of(member) >= roster.level_used(), "{member:?}");
                }
            }
            let least = roster.present().map(level_of).min().unwrap_or(1);
            prop_assert_eq!(roster.level(), least);
            for level in 1..5 {
                match gate(&roster, thing(level)) {
                    Ok(_) => prop_assert!(level <= least),
                    Err(Refused::MemberTooOld { node, .. }) => {
                        let named = roster.member(node).expect("a member");
                        prop_assert!(named.is_present() && level_of(named) < level);
                    }
                    Err(other) => prop_assert!(false, "{other}"),
                }
            }
        }
    }

    /// Where each waits for the one before, no two members are further apart than they may be.
    #[test]
    fn members_go_together(steps in prop::collection::vec(step(), 1..40)) {
        let mut roster = founded();
        let invitation = invited(&mut roster, 1, Role::Voter, USES_ANY);
        for (step, number) in steps.iter().zip(2..) {
            if let Some(change) = decide(&roster, &invitation, step, number) {
                commit(&mut roster, &change);
            }
            let builds: Vec<Build> =
                roster.present().filter_map(|member| Build::of(&member.version)).collect();
            for (one, other) in builds.iter().flat_map(|one| builds.iter().map(move |o| (one, o))) {
                prop_assert!(one.goes_with(other), "{builds:?}");
            }
        }
    }
}
