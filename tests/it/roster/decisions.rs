//! Each decision and each reason against it, as a person would meet them.

use std::collections::{BTreeMap, BTreeSet};

use aspen::limits::*;
use aspen::roster::clients::{Presented, authorise, check};
use aspen::roster::keyspaces::{Aim, NewKeyspace, create, place, settle};
use aspen::roster::leave::{Votes, check_not_needed, finish_leaving, leave, remove, update};
use aspen::roster::records::{Shard, Stage, State};
use aspen::roster::tickets::{Access, grant, revoke};
use aspen::roster::tokens::{self, LEVEL_TOKENS, Token};
use aspen::roster::{Roster, Standing};
use aspen::types::{GroupId, NodeId};
use aspen_tickets::{Grant, Role, Scope, USES_ANY, Verbs};

use super::*;

fn node(number: u64) -> NodeId {
    NodeId(number)
}

/// Founder and voters up to `last`, each with its number for key and incarnation.
fn voters(last: u8) -> Roster {
    let mut roster = founded();
    let invitation = invited(&mut roster, 1, Role::Voter, USES_ANY);
    for number in 2..=last {
        let admitted = join(&mut roster, &application(&invitation, key(number), number.into()));
        assert_eq!(admitted.map(|admitted| admitted.node), Ok(node(number.into())));
    }
    roster
}

fn granted(roster: &mut Roster, id: u128, uses: u32) -> Grant {
    let what = Access { name: "app".into(), scope: Scope::All, verbs: Verbs::ALL };
    let new = NewTicket { id, life_s: 60, uses, issuer: key(1), what };
    let (ticket, change) = grant(roster, &new, NOW_S).expect("a good grant");
    commit(roster, &change);
    ticket
}

fn presented(ticket: &Grant, client: u8) -> Presented {
    let signature = signed(ticket);
    Presented { cluster: CLUSTER, grant: ticket.clone(), signature, endpoint: key(client) }
}

fn present(roster: &mut Roster, presented: &Presented, now_s: u64) -> Result<bool, Refused> {
    let (_, change) = authorise(roster, presented, now_s, &verify)?;
    commit(roster, &change);
    Ok(!change.is_empty())
}

#[test]
fn a_cluster_is_founded_once() {
    let roster = founded();
    let again = Founding { id: ClusterId(2), name: "other".into(), ..founding() };
    let refused = Refused::AlreadyFounded { id: CLUSTER };
    assert_eq!(found(&roster, again.clone(), NOW_S), Err(refused));
    let found = |founding| found(&Roster::default(), founding, NOW_S);
    assert!(matches!(
        found(Founding { node: node(0), ..again.clone() }),
        Err(Refused::NodeOutOfBounds { .. })
    ));
    assert!(matches!(
        found(Founding { name: "\n".into(), ..again.clone() }),
        Err(Refused::Malformed { .. })
    ));
    for (shards, replicas) in [(0, 3), (KEYSPACE_SHARDS_MAX + 1, 3), (1, 0), (1, 6)] {
        let founding = Founding { shards, replicas, ..again.clone() };
        assert_eq!(found(founding), Err(Refused::KeyspaceOutOfBounds));
    }
    let empty = Roster::default();
    assert_eq!(
        leave(&empty, node(1), &BTreeSet::new()),
        Err(Refused::UnknownNode { node: node(1) })
    );
}

#[test]
fn every_way_a_ticket_can_be_bad_has_its_own_refusal() {
    let mut roster = voters(3);
    let once = invited(&mut roster, 2, Role::Voter, 1);
    let refused = |roster: &Roster, application: &Application, now_s| {
        admit(roster, application, now_s, &verify).expect_err("a bad ticket")
    };
    let good = application(&once, key(9), 9);

    let other = ClusterId(78);
    assert_eq!(
        refused(&roster, &Application { cluster: other, ..good.clone() }, NOW_S),
        Refused::OtherCluster { ours: CLUSTER, theirs: other }
    );
    let mut tampered = good.clone();
    tampered.invitation.uses = 2;
    assert_eq!(refused(&roster, &tampered, NOW_S), Refused::Tampered);
    // Signed by a member, and still not what was committed.
    tampered.signature = signed(&tampered.invitation);
    assert_eq!(refused(&roster, &tampered, NOW_S), Refused::Tampered);
    let unknown = aspen_tickets::Invitation { id: 99, ..once };
    assert_eq!(refused(&roster, &application(&unknown, key(9), 9), NOW_S), Refused::UnknownTicket);
    assert_eq!(refused(&roster, &good, NOW_S + 3_610), Refused::Expired { ago_s: 10 });
    assert_eq!(refused(&roster, &good, NOW_S + 3_600), Refused::Expired { ago_s: 0 });

    join(&mut roster, &application(&once, key(8), 8)).expect("its one use");
    assert_eq!(refused(&roster, &good, NOW_S), Refused::UsedUp { uses: 1 });

    let revoked = invited(&mut roster, 3, Role::Voter, 1);
    let change = revoke(&roster, 3).expect("it is there");
    commit(&mut roster, &change);
    assert_eq!(refused(&roster, &application(&revoked, key(9), 9), NOW_S), Refused::Revoked);
    assert!(revoke(&roster, 3).expect("it is there").is_empty());
    assert_eq!(revoke(&roster, 4), Err(Refused::UnknownTicket));

    let orphan = invited(&mut roster, 5, Role::Voter, 1);
    let change = remove(&roster, node(1), &BTreeSet::new()).expect("there are others");
    commit(&mut roster, &change);
    assert_eq!(refused(&roster, &application(&orphan, key(9), 9), NOW_S), Refused::IssuerGone);
}

#[test]
fn joining_twice_is_joining_once() {
    let mut roster = founded();
    let once = invited(&mut roster, 1, Role::Learner, 1);
    let mut asked = application(&once, key(2), 2);
    let first = join(&mut roster, &asked).expect("a good ticket");
    assert_eq!((first.node, first.role, first.again), (node(2), Role::Learner, false));

    // However late and however often, and whatever became of the ticket.
    let change = revoke(&roster, 1).expect("it is there");
    commit(&mut roster, &change);
    let (again, change) = admit(&roster, &asked, NOW_S + 10_000, &verify).expect("it is a member");
    assert_eq!((again.node, again.again), (node(2), true));
    assert!(change.is_empty());
    assert_eq!(roster.invitations().next().map(|(_, invitation)| invitation.used), Some(1));

    // It takes over what the node newly says, and what else it would like it does not get.
    asked.description.addresses = vec!["127.0.0.1:9".parse().unwrap()];
    asked.wanted = Some(node(7));
    assert_eq!(join(&mut roster, &asked).map(|admitted| admitted.node), Ok(node(2)));
    assert_eq!(roster.member(node(2)).map(|member| member.addresses.len()), Some(1));
}

#[test]
fn a_node_without_its_data_is_a_new_node() {
    let mut roster = voters(3);
    let invitation = invited(&mut roster, 2, Role::Voter, 1);
    let back = join(&mut roster, &application(&invitation, key(2), 20)).expect("a good ticket");
    assert_eq!((back.node, back.replaces, back.again), (node(4), Some(node(2)), false));
    assert_eq!(roster.member(node(2)).map(|member| member.state), Some(State::Removed));
    assert_eq!(roster.standing(key(2)), Standing::Member(node(4)));
    // The old directory, found again, is not the member's any longer.
    let invitation = invited(&mut roster, 3, Role::Voter, 1);
    let old = join(&mut roster, &application(&invitation, key(2), 2)).expect("a new node again");
    assert_eq!((old.node, old.replaces), (node(5), Some(node(4))));
}

#[test]
fn a_lost_member_needs_a_good_ticket_as_anyone() {
    let mut roster = voters(3);
    let invitation = invited(&mut roster, 2, Role::Voter, 1);
    join(&mut roster, &application(&invitation, key(9), 9)).expect("its one use");
    assert_eq!(
        join(&mut roster, &application(&invitation, key(2), 20)),
        Err(Refused::UsedUp { uses: 1 })
    );
    assert_eq!(roster.standing(key(2)), Standing::Member(node(2)));
}

#[test]
fn who_was_removed_is_told_and_may_join_anew() {
    let mut roster = voters(3);
    let invitation = invited(&mut roster, 2, Role::Voter, 5);
    let change = remove(&roster, node(3), &BTreeSet::new()).expect("there are others");
    commit(&mut roster, &change);
    assert_eq!(roster.standing(key(3)), Standing::Removed(node(3)));
    assert_eq!(roster.standing(key(9)), Standing::Stranger);
    let refused = Refused::Removed { node: node(3) };
    assert_eq!(join(&mut roster, &application(&invitation, key(3), 3)), Err(refused.clone()));
    assert_eq!(remove(&roster, node(3), &BTreeSet::new()), Err(refused.clone()));
    assert_eq!(update(&roster, node(3), &described(3)), Err(refused));

    let anew = join(&mut roster, &application(&invitation, key(3), 30)).expect("a good ticket");
    assert_eq!((anew.node, anew.replaces), (node(4), None));
    assert_eq!(roster.standing(key(3)), Standing::Member(node(4)));
}

#[test]
fn leaving_takes_two_steps() {
    let mut roster = voters(3);
    assert_eq!(finish_leaving(&roster, node(3)), Err(Refused::NotLeaving { node: node(3) }));
    let change = leave(&roster, node(3), &BTreeSet::new()).expect("there are others");
    commit(&mut roster, &change);
    assert!(leave(&roster, node(3), &BTreeSet::new()).expect("it is leaving").is_empty());
    assert_eq!(roster.standing(key(3)), Standing::Member(node(3)));
    assert!(!roster.wanted(GroupId::META).unwrap().members.contains_key(&node(3)));
    let again = roster.clone();
    let known = again.invitations().map(|(id, at)| at.ticketed(id)).next().expect("the first");
    assert_eq!(
        join(&mut roster, &application(&known, key(3), 3)),
        Err(Refused::Leaving { node: node(3) })
    );
    let change = finish_leaving(&roster, node(3)).expect("it is leaving");
    commit(&mut roster, &change);
    assert_eq!(roster.standing(key(3)), Standing::Removed(node(3)));
    assert_eq!(
        leave(&roster, node(9), &BTreeSet::new()),
        Err(Refused::UnknownNode { node: node(9) })
    );
}

#[test]
fn who_leaves_hears_where_its_shards_go_and_votes_no_more() {
    let mut roster = voters(3);
    let meta = |roster: &Roster| roster.wanted(GroupId::META).unwrap().members;
    let change = leave(&roster, node(1), &BTreeSet::new()).expect("there are others");
    commit(&mut roster, &change);
    let held: Vec<GroupId> = roster.shards().map(|(group, ..)| group).collect();
    assert!(!held.is_empty());
    for group in held {
        assert_eq!(meta(&roster).get(&node(1)), Some(&Role::Learner));
        let mut change = Change::default();
        let aim = Aim { leader: Some(node(2)), replicas: BTreeSet::from([node(2)]) };
        let (_, as_of) = roster.shard(group).expect("a shard");
        settle(&roster, &mut change, group, as_of).expect("as it is");
        commit(&mut roster, &change);
        let mut change = Change::default();
        place(&roster, &mut change, group, &aim).expect("node 2 takes it");
        commit(&mut roster, &change);
        assert_eq!(meta(&roster).get(&node(1)), Some(&Role::Learner), "it is on its way");
        let mut change = Change::default();
        let (_, as_of) = roster.shard(group).expect("a shard");
        settle(&roster, &mut change, group, as_of).expect("it has come");
        commit(&mut roster, &change);
    }
    assert_eq!(meta(&roster).get(&node(1)), None);
}

#[test]
fn nobody_leaves_while_all_that_could_take_over_are_away() {
    let mut roster = voters(3);
    let away = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
    let refused = Refused::HeirAway { node: node(1), away: node(2) };
    assert_eq!(leave(&roster, node(1), &away(&[2, 3])), Err(refused));
    let change = leave(&roster, node(1), &away(&[3])).expect("node 2 is there");
    commit(&mut roster, &change);
    // It goes on, whoever is away then.
    assert!(leave(&roster, node(1), &away(&[2, 3])).expect("it is leaving").is_empty());
}

#[test]
fn nobody_is_removed_whose_vote_a_group_needs() {
    let roster = voters(5);
    let nodes = |nodes: &[u64]| nodes.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
    let group = GroupId(3);
    let check_votes = |away: &[u64], votes| {
        let votes = BTreeMap::from([(group, votes), (GroupId(4), Votes::of(nodes(&[3, 4, 5])))]);
        check_not_needed(&roster, node(1), &nodes(away), &votes)
    };
    let check = |away: &[u64], voters: &[u64]| check_votes(away, Votes::of(nodes(voters)));
    let (needed, never) = (
        Err(Refused::StillNeeded { node: node(1), group }),
        Err(Refused::NeverAgain { node: node(1), group }),
    );
    assert_eq!(check(&[], &[1, 2, 3]), Ok(()));
    assert_eq!(check(&[], &[2]), Ok(()), "it follows without a vote");
    assert_eq!(check(&[], &[1]), needed);
    assert_eq!(check(&[1], &[1]), never);
    assert_eq!(check(&[3], &[1, 2, 3]), needed, "two are there, and one would be left");
    assert_eq!(check(&[4], &[1, 2, 3, 4, 5]), Ok(()));
    assert_eq!(check(&[1, 3], &[1, 2, 3]), Ok(()), "node 3 may come back");
    assert_eq!(
        check(&[1], &[1, 2, 8]),
        never,
        "node 8 was removed, and the group has not followed"
    );
    assert_eq!(check(&[], &[1, 2, 8]), needed);
    // Node 8, which was removed, votes until the shard has come to where it is on its way to.
    let shard = |replicas: &[u64], leaving: &[u64]| {
        let (replicas, leaving) = (nodes(replicas), nodes(leaving));
        Votes::of_shard(&Shard { stage: Stage::Moving, replicas, leaving, leader: None })
    };
    assert_eq!(check_votes(&[1], shard(&[1, 2, 3], &[8])), never);
    assert_eq!(check_votes(&[1], shard(&[1, 2, 3], &[4])), Ok(()));
    assert_eq!(
        check_votes(&[1], shard(&[1, 2], &[])),
        never,
        "which of the two votes is not known"
    );
    // Whoever has nothing of the group is taken in by a majority of others.
    let lacked = |votes: Votes, lacking: u64| votes.lacked_by(|member| member == node(lacking));
    let three = Votes::of(nodes(&[1, 2, 3]));
    let lacking = |lacks| Err(Refused::Lacking { node: node(1), group, lacks: node(lacks) });
    assert_eq!(check_votes(&[1], lacked(three.clone(), 2)), lacking(2));
    assert_eq!(check_votes(&[], lacked(three.clone(), 2)), lacking(2));
    assert_eq!(check_votes(&[1], lacked(three, 1)), Ok(()), "what it lacks itself is not missed");
    assert_eq!(check_votes(&[1], lacked(Votes::of(nodes(&[1, 2, 3, 4, 5])), 2)), Ok(()));
    let moving = shard(&[1, 2, 5], &[4]).lacked_by(|member| [4, 5].contains(&member.0));
    assert_eq!(check_votes(&[1], moving), lacking(4), "node 5 is on its way, and 4 has nothing");
    let moving = lacked(shard(&[1, 2, 5], &[4]), 5);
    assert_eq!(check_votes(&[1], moving), Ok(()), "4 votes until node 5 does");
}

#[test]
fn a_removal_and_a_place_do_not_pass_each_other_by() {
    let mut roster = voters(3);
    let change = {
        let new = NewKeyspace { name: "k".parse().expect("a name"), shards: 1, replicas: 2 };
        create(&roster, &new, NOW_S).expect("there is none").1
    };
    commit(&mut roster, &change);
    let group = roster.shards().map(|(group, ..)| group).max().expect("it has a shard");
    let aim = Aim { leader: None, replicas: BTreeSet::from([node(2), node(3)]) };
    let mut placing = Change::default();
    place(&roster, &mut placing, group, &aim).expect("both are there");
    let removing = remove(&roster, node(2), &BTreeSet::new()).expect("nothing needs it yet");
    for (first, second) in [(&placing, &removing), (&removing, &placing)] {
        let mut roster = roster.clone();
        commit(&mut roster, first);
        assert_eq!(roster.commit(second), Ok(false), "it was decided on what is no more");
    }
}

#[test]
fn the_last_voter_stays() {
    let mut roster = voters(2);
    let learner = invited(&mut roster, 2, Role::Learner, 9);
    join(&mut roster, &application(&learner, key(3), 3)).expect("a good ticket");
    let change = leave(&roster, node(1), &BTreeSet::new()).expect("node 2 stays");
    commit(&mut roster, &change);
    let refused = Refused::LastVoter { node: node(2) };
    assert_eq!(leave(&roster, node(2), &BTreeSet::new()), Err(refused.clone()));
    assert_eq!(remove(&roster, node(2), &BTreeSet::new()), Err(refused));
    // If it is lost, the one that was leaving stays, and is the last.
    let mut other = roster.clone();
    let lost = BTreeSet::from([node(2)]);
    commit(&mut other, &remove(&roster, node(2), &lost).expect("node 1 stays"));
    assert!(other.member(node(1)).is_some_and(|member| member.may_vote()));
    let refused = Refused::LastVoter { node: node(1) };
    assert_eq!(leave(&other, node(1), &BTreeSet::new()), Err(refused.clone()));
    assert_eq!(remove(&other, node(1), &BTreeSet::new()), Err(refused));
    remove(&roster, node(1), &BTreeSet::new()).expect("a leaving one can be removed");
    remove(&roster, node(3), &BTreeSet::new()).expect("a learner can be removed");
}

/// Its data is lost, and with a ticket for a learner its return would leave nobody who votes.
#[test]
fn the_last_voter_does_not_return_as_a_learner() {
    let mut roster = founded();
    let learner = invited(&mut roster, 1, Role::Learner, 9);
    join(&mut roster, &application(&learner, key(2), 2)).expect("a good ticket");
    let refused = Refused::LastVoter { node: node(1) };
    assert_eq!(join(&mut roster, &application(&learner, key(1), 10)), Err(refused));
    let voter = invited(&mut roster, 2, Role::Voter, 9);
    let back = join(&mut roster, &application(&voter, key(1), 10)).expect("it votes itself");
    assert_eq!((back.node, back.replaces), (node(3), Some(node(1))));
}

#[test]
fn numbers_can_be_asked_for_and_are_never_given_twice() {
    let mut roster = founded();
    let invitation = invited(&mut roster, 1, Role::Voter, USES_ANY);
    let mut ask = |number: u8, wanted: Option<u64>| {
        let asked = application(&invitation, key(number), number.into());
        let asked = Application { wanted: wanted.map(NodeId), ..asked };
        join(&mut roster, &asked).map(|admitted| admitted.node.0)
    };
    assert_eq!(ask(2, Some(3)), Ok(3));
    assert_eq!(ask(3, None), Ok(2));
    assert_eq!(ask(4, None), Ok(4), "3 was asked for before");
    assert_eq!(ask(5, Some(3)), Err(Refused::NodeTaken { node: node(3) }));
    assert_eq!(ask(5, Some(0)), Err(Refused::NodeOutOfBounds { node: node(0) }));
    let far = NODE_NUMBER_MAX + 1;
    assert_eq!(ask(5, Some(far)), Err(Refused::NodeOutOfBounds { node: node(far) }));
    assert_eq!(ask(5, Some(NODE_NUMBER_MAX)), Ok(NODE_NUMBER_MAX));
    assert_eq!(ask(6, None), Ok(5));
}

#[test]
fn old_tombstones_are_forgotten_and_their_numbers_stay_used() {
    let mut roster = founded();
    let invitation = invited(&mut roster, 1, Role::Voter, USES_ANY);
    for round in 0..=TOMBSTONES_MAX as u64 {
        let admitted = join(&mut roster, &application(&invitation, key(2), u128::from(round) + 2));
        assert_eq!(admitted.map(|admitted| admitted.node), Ok(node(round + 2)));
        let change = remove(&roster, node(round + 2), &BTreeSet::new()).expect("the founder stays");
        commit(&mut roster, &change);
    }
    let tombstones = roster.members().filter(|member| !member.is_present()).count();
    assert_eq!(tombstones, TOMBSTONES_MAX);
    assert_eq!(roster.member(node(2)), None, "the oldest is forgotten");
    let asked = application(&invitation, key(3), 3);
    let asked = Application { wanted: Some(node(2)), ..asked };
    assert_eq!(join(&mut roster, &asked), Err(Refused::NodeTaken { node: node(2) }));
}

#[test]
fn a_full_cluster_admits_nobody_new() {
    let mut roster = founded();
    let invitation = invited(&mut roster, 1, Role::Learner, USES_ANY);
    let endpoint = |number: u32| {
        let mut bytes = [0xee; 32];
        bytes[..4].copy_from_slice(&number.to_le_bytes());
        aspen::types::EndpointId(bytes)
    };
    for number in 1..MEMBERS_MAX as u32 {
        join(&mut roster, &application(&invitation, endpoint(number), 1)).expect("there is room");
    }
    assert_eq!(
        join(&mut roster, &application(&invitation, endpoint(0), 1)),
        Err(Refused::ClusterFull)
    );
    let known = join(&mut roster, &application(&invitation, endpoint(1), 1));
    assert!(known.expect("it is a member").again);
    let lost = join(&mut roster, &application(&invitation, endpoint(1), 2));
    assert!(lost.expect("it takes its own place").replaces.is_some());
}

#[test]
fn tokens_are_bounded_good_until_they_end_and_known_by_their_hash() {
    let mut roster = founded();
    let token = |id: usize| Token::new(id as u128, [7; 32]);
    let access = Access { name: "a".into(), scope: Scope::All, verbs: Verbs::ALL };
    let create = |roster: &Roster, id, life_s, now_s| {
        tokens::create(roster, &token(id), &access, life_s, now_s).map(|(record, change)| {
            assert_eq!(record.expires_s, life_s.map(|life_s| now_s + life_s));
            change
        })
    };
    for id in 1..=TOKENS_MAX {
        let change = create(&roster, id, Some(60), NOW_S).expect("there is room");
        assert_eq!(change.needs.as_ref().map(|needs| needs.level), Some(LEVEL_TOKENS));
        commit(&mut roster, &change);
    }
    let full = Refused::TooManyTokens { limit: TOKENS_MAX as u64 };
    assert_eq!(create(&roster, 0, None, NOW_S + 59), Err(full));
    assert_eq!(create(&roster, 1, None, NOW_S), Err(Refused::TicketExists));
    for life_s in [0, TICKET_LIFE_S_MAX + 1, u64::MAX] {
        assert_eq!(create(&roster, 0, Some(life_s), NOW_S), Err(Refused::LifeOutOfBounds));
    }
    let holder = |roster: &Roster, token: &Token, now_s| {
        tokens::holder(roster, token.text().as_bytes(), now_s).map(|(permit, _)| permit.grant)
    };
    assert_eq!(holder(&roster, &token(1), NOW_S + 59), Some(1));
    assert_eq!(holder(&roster, &token(1), NOW_S + 60), None);
    assert_eq!(holder(&roster, &Token::new(1, [8; 32]), NOW_S), None);
    assert_eq!(holder(&roster, &token(0), NOW_S), None);
    assert_eq!(tokens::holder(&roster, b"aspentoken", NOW_S), None);

    let change = create(&roster, 0, None, NOW_S + 60).expect("they expired");
    assert!(change.writes.len() + change.guards.len() <= TXN_OPS_MAX);
    commit(&mut roster, &change);
    assert_eq!(roster.tokens().count(), TOKENS_MAX - ROSTER_DROPS_MAX + 1);
    let (permit, name) = tokens::holder(&roster, token(0).text().as_bytes(), u64::MAX).unwrap();
    assert_eq!(name, "a");
    assert!(tokens::still(&roster, &permit, u64::MAX));
    assert_eq!(roster.token(0).map(|token| token.expires_s), Some(None));
    let kept = format!("{:?}", roster.tokens().next());
    assert!(!kept.contains("[7, 7, 7, 7"), "{kept}");
    let change = tokens::revoke(&roster, 0).expect("it is there");
    commit(&mut roster, &change);
    assert!(!tokens::still(&roster, &permit, NOW_S));
    assert_eq!(tokens::revoke(&roster, 0), Err(Refused::UnknownToken));
}

#[test]
fn tickets_are_bounded_and_expired_ones_make_room() {
    let mut roster = founded();
    let new = |id| NewTicket { id, life_s: 60, uses: 1, issuer: key(1), what: Role::Voter };
    let refused = |roster: &Roster, new, now_s| invite(roster, &new, now_s).map(drop);
    for id in 1..=INVITATIONS_MAX as u128 {
        let (_, change) = invite(&roster, &new(id), NOW_S).expect("there is room");
        commit(&mut roster, &change);
    }
    let full = Refused::TooManyTickets { limit: INVITATIONS_MAX as u64 };
    assert_eq!(refused(&roster, new(0), NOW_S + 59), Err(full));
    let (_, change) = invite(&roster, &new(0), NOW_S + 60).expect("they expired");
    assert!(change.writes.len() + change.guards.len() <= TXN_OPS_MAX);
    commit(&mut roster, &change);
    assert_eq!(roster.invitations().count(), INVITATIONS_MAX - ROSTER_DROPS_MAX + 1);

    assert_eq!(refused(&roster, new(0), NOW_S + 60), Err(Refused::TicketExists));
    let what = Access { name: String::new(), scope: Scope::All, verbs: Verbs::ALL };
    let same = NewTicket { id: 0, life_s: 60, uses: 1, issuer: key(1), what };
    assert_eq!(grant(&roster, &same, NOW_S).map(drop), Err(Refused::TicketExists));
    let stranger = NewTicket { issuer: key(9), ..new(5_000) };
    assert_eq!(refused(&roster, stranger, NOW_S), Err(Refused::NotMember));
    for life_s in [0, TICKET_LIFE_S_MAX + 1, u64::MAX] {
        let new = NewTicket { life_s, ..new(5_000) };
        assert_eq!(refused(&roster, new, NOW_S), Err(Refused::LifeOutOfBounds));
    }
    let none = NewTicket { uses: 0, ..new(5_000) };
    assert_eq!(refused(&roster, none, NOW_S), Err(Refused::UsesOutOfBounds { limit: u32::MAX }));
}

#[test]
fn a_clients_ticket_counts_keys_not_connections() {
    let mut roster = founded();
    let twice = granted(&mut roster, 1, 2);
    assert_eq!(present(&mut roster, &presented(&twice, 11), NOW_S), Ok(true));
    assert_eq!(present(&mut roster, &presented(&twice, 11), NOW_S), Ok(false));
    assert_eq!(present(&mut roster, &presented(&twice, 12), NOW_S), Ok(true));
    assert_eq!(
        present(&mut roster, &presented(&twice, 13), NOW_S),
        Err(Refused::UsedUp { uses: 2 })
    );
    assert_eq!(present(&mut roster, &presented(&twice, 12), NOW_S), Ok(false));
    assert_eq!(roster.clients_of(1).count(), 2);

    let any = granted(&mut roster, 2, USES_ANY);
    assert_eq!(present(&mut roster, &presented(&any, 13), NOW_S), Ok(false));
}

#[test]
fn every_way_a_clients_ticket_can_be_bad_has_its_own_refusal() {
    let mut roster = voters(2);
    let ticket = granted(&mut roster, 2, USES_ANY);
    let good = presented(&ticket, 11);
    let (permit, _) = authorise(&roster, &good, NOW_S, &verify).expect("a good ticket");
    assert_eq!(check(&roster, &permit, NOW_S), Ok(()));

    let other = Presented { cluster: ClusterId(78), ..good.clone() };
    let refused = Refused::OtherCluster { ours: CLUSTER, theirs: ClusterId(78) };
    assert_eq!(present(&mut roster, &other, NOW_S), Err(refused));
    let mut tampered = good.clone();
    tampered.grant.uses = 1;
    assert_eq!(present(&mut roster, &tampered, NOW_S), Err(Refused::Tampered));
    tampered.signature = signed(&tampered.grant);
    assert_eq!(present(&mut roster, &tampered, NOW_S), Err(Refused::Tampered));
    let unknown = presented(&Grant { id: 9, ..ticket.clone() }, 11);
    assert_eq!(present(&mut roster, &unknown, NOW_S), Err(Refused::UnknownTicket));
    let expired = Refused::Expired { ago_s: 1 };
    assert_eq!(present(&mut roster, &good, NOW_S + 61), Err(expired.clone()));
    assert_eq!(check(&roster, &permit, NOW_S + 61), Err(expired));

    let mut after = roster.clone();
    commit(&mut after, &revoke(&roster, 2).expect("it is there"));
    assert_eq!(present(&mut after, &good, NOW_S), Err(Refused::Revoked));
    assert_eq!(check(&after, &permit, NOW_S), Err(Refused::Revoked));
    let mut after = roster.clone();
    commit(&mut after, &remove(&roster, node(1), &BTreeSet::new()).expect("node 2 stays"));
    assert_eq!(present(&mut after, &good, NOW_S), Err(Refused::IssuerGone));
    assert_eq!(check(&after, &permit, NOW_S), Err(Refused::IssuerGone));
}

#[test]
fn grants_are_bounded_and_go_with_their_clients() {
    let mut roster = founded();
    let what = Access { name: "app".into(), scope: Scope::All, verbs: Verbs::ALL };
    let many = NewTicket { id: 1, life_s: 60, uses: GRANT_USES_MAX + 1, issuer: key(1), what };
    let refused = Refused::UsesOutOfBounds { limit: GRANT_USES_MAX };
    assert_eq!(grant(&roster, &many, NOW_S).map(drop), Err(refused));
    let mut named = NewTicket { uses: 1, ..many };
    named.what.name = "\u{7}".into();
    let refused = grant(&roster, &named, NOW_S).map(drop);
    assert!(matches!(refused, Err(Refused::Malformed { .. })));

    let ticket = granted(&mut roster, 1, GRANT_USES_MAX);
    for client in 0..=u8::MAX {
        assert_eq!(present(&mut roster, &presented(&ticket, client), NOW_S), Ok(true));
    }
    named.what.name.clear();
    let (_, change) = grant(&roster, &NewTicket { id: 2, ..named }, NOW_S + 60).expect("room");
    assert!(change.writes.len() + change.guards.len() <= TXN_OPS_MAX);
    commit(&mut roster, &change);
    assert_eq!((roster.grants().count(), roster.clients_of(1).count()), (1, 0));
}

/// Whatever is decided on the same records, only one of two is committed where both together would
/// break a promise; where they would not, both are.
#[test]
fn of_two_decisions_on_the_same_records_one_is_decided_again() {
    let mut roster = voters(3);
    let once = invited(&mut roster, 2, Role::Voter, 1);
    let admit =
        |endpoint| admit(&roster, &application(&once, key(endpoint), 9), NOW_S, &verify).unwrap().1;
    let conflicts = [
        ("one use for two", admit(8), admit(9)),
        ("a use after the revocation", revoke(&roster, 2).unwrap(), admit(9)),
        (
            "two that leave",
            leave(&roster, node(1), &BTreeSet::new()).unwrap(),
            leave(&roster, node(2), &BTreeSet::new()).unwrap(),
        ),
        (
            "two removed",
            remove(&roster, node(1), &BTreeSet::new()).unwrap(),
            remove(&roster, node(2), &BTreeSet::new()).unwrap(),
        ),
        (
            "an issuer's last invitation",
            remove(&roster, node(1), &BTreeSet::new()).unwrap(),
            admit(9),
        ),
    ];
    for (what, first, second) in conflicts {
        let mut roster = roster.clone();
        assert_eq!(roster.commit(&first), Ok(true), "{what}");
        let after = roster.clone();
        assert_eq!(roster.commit(&second), Ok(false), "{what}");
        assert_eq!(roster, after, "{what}");
    }
    let moved = |number| Description { name: "moved".into(), ..described(number) };
    let (second, third) =
        (update(&roster, node(2), &moved(2)), update(&roster, node(3), &moved(3)));
    let ninth = admit(9);
    for change in [second.unwrap(), third.unwrap(), ninth] {
        commit(&mut roster, &change);
    }
}
