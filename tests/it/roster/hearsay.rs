//! What members say of themselves: what passes, what is ignored, and whom it is held against.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::time::Duration;

use aspen::limits::*;
use aspen::net::{NodeKey, verify};
use aspen::roster::announcement::{Announcement, Part, PartRole};
use aspen::roster::hearsay::{Hearsay, Ignored, News, Offence, Why};
use aspen::roster::records::{Member, Record, State};
use aspen::seams::Random;
use aspen::types::{Address, GroupId};

use super::*;

pub(super) const SECOND: Duration = Duration::from_secs(1);

pub(super) fn address(text: &str) -> Address {
    text.parse().unwrap()
}

/// A node that listens, number 1, and the members that it may hear of, numbers 2 and on.
pub(super) struct Rig {
    pub(super) roster: Roster,
    pub(super) hearsay: Hearsay,
    pub(super) keys: Vec<NodeKey>,
}

impl Rig {
    pub(super) fn new(members: u64) -> Rig {
        let random = Random::from_seed(7);
        let keys: Vec<NodeKey> = (0..members).map(|_| NodeKey::generate(&random)).collect();
        let hearsay = Hearsay::new(keys[0].endpoint_id());
        let mut rig = Rig { roster: founded(), hearsay, keys };
        for node in 1..=members {
            let record = rig.member(node);
            rig.record(record);
        }
        rig
    }

    pub(super) fn key(&self, node: u64) -> &NodeKey {
        &self.keys[node as usize - 1]
    }

    pub(super) fn endpoint(&self, node: u64) -> EndpointId {
        self.key(node).endpoint_id()
    }

    pub(super) fn member(&self, node: u64) -> Member {
        Member {
            node: NodeId(node),
            endpoint: self.endpoint(node),
            incarnation: node.into(),
            name: String::new(),
            role: Role::Voter,
            addresses: Vec::new(),
            version: String::new(),
            state: State::Active,
            invitation: 0,
        }
    }

    pub(super) fn record(&mut self, member: Member) {
        let record = Record::Member(member);
        self.roster.put(&record.key().encode(), &record.encode(), 9).expect("a good record");
    }

    pub(super) fn announcement(&self, node: u64, start: u64, number: u64) -> Announcement {
        Announcement {
            cluster: CLUSTER,
            endpoint: self.endpoint(node),
            node: NodeId(node),
            start,
            number,
            addresses: vec![SocketAddr::new([10, 0, 0, 1].into(), node as u16).into()],
            writes_per_second: 1,
            free_percent: 50,
            version: "0.1.0".into(),
            groups_cut: false,
            groups: vec![Part { group: GroupId::META, role: PartRole::Voter, applied: number }],
            rest: Default::default(),
        }
    }

    /// Signed by whoever has this number, whatever it says.
    pub(super) fn sealed(&self, node: u64, announcement: &Announcement) -> Vec<u8> {
        announcement.clone().seal(|message| self.key(node).sign(message))
    }

    pub(super) fn said(&self, node: u64, start: u64, number: u64) -> Vec<u8> {
        self.sealed(node, &self.announcement(node, start, number))
    }

    pub(super) fn hear(
        &mut self,
        bytes: &[u8],
        by: EndpointId,
        now: Duration,
    ) -> Result<News, Ignored> {
        self.hearsay.hear(bytes, by, now, &self.roster, &verify)
    }

    /// Delivered by its author.
    pub(super) fn hear_of(
        &mut self,
        node: u64,
        bytes: &[u8],
        now: Duration,
    ) -> Result<News, Ignored> {
        self.hear(bytes, self.endpoint(node), now)
    }

    pub(super) fn last_of(&self, node: u64) -> Option<(u64, u64)> {
        self.hearsay.heard(self.endpoint(node)).map(|heard| heard.announcement.order())
    }
}

/// Why it was ignored, and who is named.
pub(super) fn ignored(heard: Result<News, Ignored>) -> (Why, Option<EndpointId>) {
    let ignored = heard.expect_err("it is ignored");
    (ignored.why, ignored.offence.map(|offence| offence.who))
}

#[test]
fn news_say_what_is_new() {
    let mut rig = Rig::new(2);
    let news = |heard: Result<News, Ignored>| heard.map(|news| (news.addresses, news.roles));
    let mut said = rig.announcement(2, 1, 0);
    let tell = |rig: &mut Rig, said: &mut Announcement| {
        said.number += 1;
        let bytes = rig.sealed(2, said);
        news(rig.hear_of(2, &bytes, said.number as u32 * SECOND))
    };
    assert_eq!(tell(&mut rig, &mut said), Ok((true, true)));
    said.groups[0].applied += 100;
    assert_eq!(tell(&mut rig, &mut said), Ok((false, false)));
    said.addresses.clear();
    assert_eq!(tell(&mut rig, &mut said), Ok((true, false)));
    said.groups[0].role = PartRole::Leader;
    assert_eq!(tell(&mut rig, &mut said), Ok((false, true)));
    let heard = rig.hearsay.heard(rig.endpoint(2)).expect("it was just heard");
    assert_eq!((&heard.announcement, heard.at), (&said, 4 * SECOND));
    assert_eq!(rig.hearsay.all().count(), 1);
}

#[test]
fn repeated_and_old_announcements_are_ignored_also_those_from_before_a_restart() {
    let mut rig = Rig::new(2);
    let old = |rig: &mut Rig, start, number| {
        let bytes = rig.said(2, start, number);
        ignored(rig.hear_of(2, &bytes, SECOND))
    };
    let first = rig.said(2, 4, 7);
    rig.hear_of(2, &first, SECOND).expect("it is new");
    for (start, number) in [(4, 7), (4, 6), (3, 8)] {
        assert_eq!(old(&mut rig, start, number), (Why::Old { node: NodeId(2) }, None));
    }
    let restarted = rig.said(2, 5, 0);
    rig.hear_of(2, &restarted, SECOND).expect("its author has started again");
    for (start, number) in [(5, 0), (4, 8), (4, u64::MAX)] {
        assert_eq!(old(&mut rig, start, number), (Why::Old { node: NodeId(2) }, None));
    }
    assert_eq!(rig.last_of(2), Some((5, 0)));
}

#[test]
fn whoever_replays_without_end_is_named_and_not_the_author() {
    let mut rig = Rig::new(3);
    let said = rig.said(2, 1, 1);
    rig.hear_of(2, &said, SECOND).expect("it is new");
    let mut named = BTreeSet::new();
    // Slow enough to be looked at, each one.
    for number in 0..1_000 {
        let now = 2 * SECOND + number * SECOND / HEARD_DELIVERER_PER_SECOND_MAX;
        named.extend(ignored(rig.hear(&said, rig.endpoint(3), now)).1);
    }
    assert_eq!(named, BTreeSet::from([rig.endpoint(3)]));
    let next = rig.said(2, 1, 2);
    rig.hear_of(2, &next, 20 * SECOND).expect("its author has not used anything up");
}

#[test]
fn a_lie_about_the_number_is_held_against_the_liar_and_a_forgery_against_its_deliverer() {
    let mut rig = Rig::new(3);
    let lie = Announcement { node: NodeId(3), ..rig.announcement(2, 1, 1) };
    let bytes = rig.sealed(2, &lie);
    let why = Why::Number { author: rig.endpoint(2), node: NodeId(2), claimed: NodeId(3) };
    assert_eq!(ignored(rig.hear_of(3, &bytes, SECOND)), (why, Some(rig.endpoint(2))));

    let forged = rig.sealed(2, &rig.announcement(3, 1, 1));
    let why = Why::Forged { node: NodeId(3) };
    assert_eq!(ignored(rig.hear_of(2, &forged, SECOND)), (why, Some(rig.endpoint(2))));
    assert_eq!(rig.hearsay.all().count(), 0);
}

#[test]
fn only_present_members_of_this_cluster_other_than_ourselves_are_heard() {
    let mut rig = Rig::new(4);
    let removed = Member { state: State::Removed, ..rig.member(3) };
    rig.record(removed);
    let bytes = rig.said(3, 1, 1);
    let stranger = Why::Stranger { author: rig.endpoint(3) };
    assert_eq!(ignored(rig.hear_of(2, &bytes, SECOND)), (stranger, None));
    let bytes = rig.said(1, 1, 1);
    assert_eq!(ignored(rig.hear_of(2, &bytes, SECOND)), (Why::Ourselves, None));
    let bytes = rig.sealed(4, &Announcement { cluster: ClusterId(8), ..rig.announcement(4, 1, 1) });
    let other = Why::OtherCluster(ClusterId(8));
    assert_eq!(ignored(rig.hear_of(4, &bytes, SECOND)), (other, Some(rig.endpoint(4))));
    let mut unknown = Rig { roster: Roster::default(), ..Rig::new(2) };
    let bytes = unknown.said(2, 1, 1);
    assert_eq!(ignored(unknown.hear_of(2, &bytes, SECOND)).1, None);
}

#[test]
fn a_newer_version_is_nobodys_fault_and_garbage_its_deliverers() {
    let mut rig = Rig::new(2);
    assert_eq!(ignored(rig.hear_of(2, &[2, 0, 0], SECOND)).1, None);
    for garbage in [&b""[..], &[1], &[1; 64], &[1; 65], &[0xff; 200], &[1; 5_000]] {
        let (why, named) = ignored(rig.hear_of(2, garbage, SECOND));
        let version = garbage.first().is_some_and(|version| *version != 1);
        assert_eq!(named, (!version).then(|| rig.endpoint(2)), "{why}");
    }
}

#[test]
fn who_is_removed_is_forgotten_and_who_comes_back_under_a_new_number_counts_anew() {
    let mut rig = Rig::new(3);
    for node in [2, 3] {
        let bytes = rig.said(node, 9, 9);
        rig.hear_of(node, &bytes, SECOND).expect("it is new");
    }
    let removed = Member { state: State::Removed, ..rig.member(2) };
    rig.record(removed);
    rig.hearsay.retain(&rig.roster);
    assert_eq!((rig.last_of(2), rig.last_of(3)), (None, Some((9, 9))));

    // Its data is lost: the same key under another number, before anybody has cleared up.
    let removed = Member { state: State::Removed, ..rig.member(3) };
    rig.record(removed);
    let again = Member { node: NodeId(4), ..rig.member(3) };
    rig.record(again);
    let said = Announcement { node: NodeId(4), ..rig.announcement(3, 1, 0) };
    let bytes = rig.sealed(3, &said);
    rig.hear_of(3, &bytes, SECOND).expect("it counts anew");
    let bytes = rig.said(3, 9, 10);
    assert!(matches!(ignored(rig.hear_of(3, &bytes, SECOND)).0, Why::Number { .. }));
    assert_eq!(rig.last_of(3), Some((1, 0)));
}

#[test]
fn anothers_address_is_dropped_and_held_against_who_announces_it() {
    let mut rig = Rig::new(4);
    let (ours, theirs) = (address("10.0.0.9:1"), address("[fd00::1]:2"));
    let recorded = Member { addresses: vec![ours.clone()], ..rig.member(3) };
    rig.record(recorded);
    let claim = |rig: &Rig, node, number| {
        let addresses = vec![ours.clone(), address("10.0.0.8:8"), theirs.clone()];
        rig.sealed(node, &Announcement { addresses, ..rig.announcement(node, 1, number) })
    };
    let told = Announcement { addresses: vec![theirs.clone()], ..rig.announcement(4, 1, 1) };
    let told = rig.sealed(4, &told);
    rig.hear_of(4, &told, SECOND).expect("it is new");

    let bytes = claim(&rig, 2, 1);
    let news = rig.hear_of(2, &bytes, SECOND).expect("the rest of it is good");
    assert_eq!(news.offence, Some(Offence { who: rig.endpoint(2), log: Some(0) }));
    let kept = |rig: &Rig, node| {
        rig.hearsay.heard(rig.endpoint(node)).expect("it was heard").announcement.addresses.clone()
    };
    assert_eq!(kept(&rig, 2), [address("10.0.0.8:8")]);

    // What was announced long ago may be another's by now; what the roster says stands, and what it
    // says of the author is the author's.
    let bytes = claim(&rig, 2, 2);
    let news = rig.hear_of(2, &bytes, SECOND + HEARD_LIVE).expect("it is new");
    assert!(news.offence.is_some());
    assert_eq!(kept(&rig, 2), [address("10.0.0.8:8"), theirs.clone()]);
    let both = Member { addresses: vec![ours.clone()], ..rig.member(2) };
    rig.record(both);
    let bytes = claim(&rig, 2, 3);
    let news = rig.hear_of(2, &bytes, 2 * SECOND + HEARD_LIVE).expect("it is new");
    assert_eq!((news.offence, kept(&rig, 2).len()), (None, 3));
}
