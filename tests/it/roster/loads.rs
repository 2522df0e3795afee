//! How loads are measured and remembered, and what they have leads do: exchanged until nobody has much
//! more to do than need be, and then left where they are.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aspen::limits::{LOAD_KEPT, LOAD_MIN, LOAD_REST, LOAD_SMOOTH, LOAD_STEADY};
use aspen::roster::announcement::GroupLoad;
use aspen::roster::balance::{Why, plan, plan_with_reasons};
use aspen::roster::keyspaces::place;
use aspen::roster::load::{Loads, Meter, Work, is_news};
use aspen::types::GroupId;
use proptest::prelude::*;

use super::balance::{Cluster, Event, gap};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn of(members: u8, shards: u32, replicas: u8) -> Cluster {
    let mut cluster = Cluster::new();
    (1..members).for_each(|_| cluster.befall(&Event::Join));
    cluster.befall(&Event::Create { shards, replicas });
    cluster.converge();
    cluster
}

fn leaders(cluster: &Cluster) -> BTreeMap<GroupId, NodeId> {
    let shards = cluster.roster.shards();
    shards.filter_map(|(group, shard, _)| Some((group, shard.leader?))).collect()
}

/// What each member that could lead has to do.
fn busy(cluster: &Cluster) -> BTreeMap<NodeId, u64> {
    let mut busy: BTreeMap<NodeId, u64> =
        cluster.roster.members().map(|member| (member.node, 0)).collect();
    for (group, leader) in leaders(cluster) {
        let load = cluster.facts.loads.get(&group).copied().unwrap_or(0);
        *busy.entry(leader).or_default() += load;
    }
    busy
}

/// Groups of one member's leads, the first of it first.
fn led_by_one(cluster: &Cluster) -> Vec<GroupId> {
    let leaders = leaders(cluster);
    let of_one = *leaders.values().next().expect("a leader");
    leaders.into_iter().filter(|(_, leader)| *leader == of_one).map(|(group, _)| group).collect()
}

/// Of each exchange the greater load of both: it becomes less by a fifth.
fn step_for_load(cluster: &mut Cluster) -> bool {
    let before = busy(cluster);
    let plan = plan_with_reasons(&cluster.roster, &cluster.facts);
    assert!(plan.iter().all(|(_, _, why)| *why == Why::Load), "{plan:?}");
    assert!(plan.len() <= 2, "one exchange at a time: {plan:?}");
    let was = leaders(cluster);
    let concerned: Vec<NodeId> =
        plan.iter().flat_map(|(group, aim, _)| [was[group], aim.leader.expect("one")]).collect();
    let moved = cluster.step();
    assert_eq!(moved, 0, "no replica is moved for a load");
    let after = busy(cluster);
    let greatest =
        |busy: &BTreeMap<NodeId, u64>| concerned.iter().map(|node| busy[node]).max().unwrap_or(0);
    assert!(
        plan.is_empty() || 5 * greatest(&after) <= 4 * greatest(&before),
        "{before:?}: {plan:?}"
    );
    !plan.is_empty()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]
    #[test]
    fn whatever_the_loads_leads_are_exchanged_for_them_and_come_to_rest_evenly(
        members in 1..7_u8,
        shards in 1..30_u32,
        replicas in 1..6_u8,
        loads in proptest::collection::vec((0..30_usize, 50..10_000_u64), 0..20),
    ) {
        let mut cluster = of(members, shards, replicas);
        let groups: Vec<GroupId> = leaders(&cluster).into_keys().collect();
        let even = |cluster: &Cluster| gap(&cluster.counts(|shard| shard.leader.into_iter().collect()));
        let gap_before = even(&cluster);
        let loads = loads.into_iter().map(|(at, load)| (groups[at % groups.len()], load));
        cluster.facts.loads = loads.collect();
        let mut exchanges = 0;
        while step_for_load(&mut cluster) {
            exchanges += 1;
            prop_assert!(exchanges < 100, "it goes on and on");
            prop_assert!(even(&cluster) <= gap_before.max(1));
        }
        prop_assert!(gap_before > 1 || even(&cluster) <= 1);
        // What is at rest stays there, and without load, too.
        prop_assert_eq!(plan(&cluster.roster, &cluster.facts), vec![]);
        cluster.facts.loads.clear();
        prop_assert_eq!(plan(&cluster.roster, &cluster.facts), vec![]);
    }

    /// Members come and go under load: all is even again by count, and nothing goes on for ever.
    #[test]
    fn members_that_come_and_go_under_load_leave_it_at_rest(
        members in 2..6_u8, shards in 1..20_u32,
        loads in proptest::collection::vec((0..20_usize, 50..10_000_u64), 0..12),
        lost in 0..6_usize,
    ) {
        let mut cluster = of(members, shards, 3);
        let groups: Vec<GroupId> = leaders(&cluster).into_keys().collect();
        let loads = loads.into_iter().map(|(at, load)| (groups[at % groups.len()], load));
        cluster.facts.loads = loads.collect();
        cluster.converge();
        for event in [Event::Join, Event::Lose(lost), Event::Join, Event::Return(0)] {
            cluster.befall(&event);
            cluster.converge();
        }
        prop_assert_eq!(plan(&cluster.roster, &cluster.facts), vec![]);
    }
}

/// Scenario 33: the lead of the hot shard ends where least is done besides.
#[test]
fn two_busy_shards_of_one_leader_are_led_by_two() {
    let mut cluster = of(3, 6, 3);
    let led = led_by_one(&cluster);
    cluster.facts.loads = BTreeMap::from([(led[0], 1_000), (led[1], 400)]);
    assert!(step_for_load(&mut cluster));
    let after = leaders(&cluster);
    assert_ne!(after[&led[0]], after[&led[1]]);
    assert!(!step_for_load(&mut cluster));
}

#[test]
fn what_is_gained_by_little_is_not_moved_and_neither_is_what_rests() {
    let mut cluster = of(3, 6, 3);
    let led = led_by_one(&cluster);
    cluster.facts.loads = BTreeMap::from([(led[0], 1_000)]);
    assert_eq!(plan(&cluster.roster, &cluster.facts), vec![], "it is as busy elsewhere");
    cluster.facts.loads.insert(led[1], 200);
    assert_eq!(plan(&cluster.roster, &cluster.facts), vec![], "a sixth is no fifth");
    cluster.facts.loads.insert(led[1], 250);
    assert_ne!(plan(&cluster.roster, &cluster.facts), vec![]);
    cluster.facts.resting.extend(led);
    assert_eq!(plan(&cluster.roster, &cluster.facts), vec![]);
}

/// Whoever does not answer seems to have nothing to do.
#[test]
fn who_is_silent_is_given_no_lead() {
    let mut cluster = of(3, 9, 3);
    let busiest = led_by_one(&cluster);
    let silent =
        *leaders(&cluster).values().find(|l| **l != leaders(&cluster)[&busiest[0]]).unwrap();
    cluster.facts.loads = busiest.iter().map(|group| (*group, 300)).collect();
    cluster.facts.silent.insert(silent);
    let led = |cluster: &Cluster| -> BTreeSet<GroupId> {
        let of_it = leaders(cluster).into_iter().filter(|(_, leader)| *leader == silent);
        of_it.map(|(group, _)| group).collect()
    };
    let before = led(&cluster);
    while step_for_load(&mut cluster) {
        assert!(led(&cluster).is_subset(&before), "{:?}", leaders(&cluster));
    }
    let share = busy(&cluster).values().filter(|load| **load > 0).count();
    assert_eq!(share, 2, "the others share it");
}

/// Scenario 17, and what is said of it.
#[test]
fn whose_disk_is_full_leads_nothing_that_another_can() {
    let mut cluster = of(3, 6, 3);
    let full = NodeId(2);
    cluster.facts.full.insert(full);
    let plan = plan_with_reasons(&cluster.roster, &cluster.facts);
    let led: Vec<GroupId> =
        leaders(&cluster).into_iter().filter(|(_, l)| *l == full).map(|(group, _)| group).collect();
    assert!(!led.is_empty());
    for group in led {
        let (_, aim, why) = plan.iter().find(|(planned, ..)| *planned == group).expect("planned");
        assert_eq!((*why, aim.leader == Some(full)), (Why::Space, false));
    }
    cluster.converge();
    assert!(leaders(&cluster).values().all(|leader| *leader != full));
    cluster.facts.full.extend([NodeId(1), NodeId(3)]);
    let before = leaders(&cluster);
    cluster.converge();
    assert_eq!(leaders(&cluster), before, "nobody can do better");
    cluster.facts.full.clear();
    let back = plan_with_reasons(&cluster.roster, &cluster.facts);
    assert!(!back.is_empty() && back.iter().all(|(_, _, why)| *why == Why::Count), "{back:?}");
}

fn work(operations: u64, bytes: u64) -> BTreeMap<GroupId, Work> {
    BTreeMap::from([(GroupId(1), Work { operations, bytes })])
}

#[test]
fn a_burst_is_no_load_and_what_goes_on_is() {
    let mut meter = Meter::default();
    meter.look(&work(1_000_000, 0), SECOND);
    assert_eq!(meter.loads(), [], "what was done before it was looked at");
    meter.look(&work(1_000_100, 0), SECOND);
    assert_eq!(meter.loads(), [], "100 in one second");
    let smooth = LOAD_SMOOTH.as_secs();
    for second in 2..=4 * smooth {
        meter.look(&work(1_000_000 + 100 * second, 8_192 * second), SECOND);
    }
    let [load] = meter.loads()[..] else { panic!("{:?}", meter.loads()) };
    assert!((95..=102).contains(&load.weight()), "{load:?}");
    // It is over at once when it is led elsewhere, and soon when it ends.
    let mut elsewhere = meter.clone();
    elsewhere.look(&BTreeMap::new(), SECOND);
    assert_eq!(elsewhere.loads(), []);
    let end = work(1_000_000 + 400 * smooth, 8_192 * 4 * smooth);
    (0..smooth).for_each(|_| meter.look(&end, SECOND));
    assert_eq!(meter.loads(), []);
    // A replica that was opened anew counts from nothing.
    meter.look(&work(10, 0), SECOND);
    assert_eq!(meter.loads(), []);
}

#[test]
fn twice_or_half_as_much_is_news() {
    let load = |operations| vec![GroupLoad { group: GroupId(1), operations, bytes: 0 }];
    assert!(!is_news(&[], &[]));
    assert!(is_news(&[], &load(60)) && is_news(&load(60), &[]));
    assert!(!is_news(&load(60), &load(120)) && is_news(&load(60), &load(121)));
}

#[test]
fn what_the_last_leader_said_counts_until_the_next_has_measured() {
    let mut cluster = of(3, 3, 3);
    let group = GroupId(3);
    let said = |node, operations| {
        BTreeMap::from([(node, vec![GroupLoad { group, operations, bytes: 0 }])])
    };
    let first = leaders(&cluster)[&group];
    let other = NodeId(if first == NodeId(1) { 2 } else { 1 });
    let mut loads = Loads::default();
    loads.hear(&cluster.roster, &said(first, 500), SECOND);
    assert_eq!(loads.weights(), BTreeMap::from([(group, 500)]));
    loads.hear(&cluster.roster, &said(first, LOAD_MIN as u32 - 1), SECOND);
    assert!(loads.weights().is_empty());
    loads.hear(&cluster.roster, &said(first, 500), SECOND);
    assert!(loads.resting(SECOND).is_empty());

    let (shard, _) = cluster.roster.shard(group).expect("a shard");
    let replicas = shard.replicas.clone();
    let aim = aspen::roster::keyspaces::Aim { replicas, leader: Some(other) };
    let mut change = Change::default();
    place(&cluster.roster, &mut change, group, &aim).expect("it may");
    commit(&mut cluster.roster, &change);
    let moved = 2 * SECOND;
    loads.hear(&cluster.roster, &said(other, 60), moved);
    assert_eq!(loads.weights(), BTreeMap::from([(group, 500)]));
    let later = moved + LOAD_KEPT;
    assert!(loads.resting(later).contains(&group));
    loads.hear(&cluster.roster, &said(other, 60), later);
    assert_eq!(loads.weights(), BTreeMap::from([(group, 60)]));
    assert!(loads.resting(moved + LOAD_REST).is_empty());
}

#[test]
fn a_lead_is_moved_for_its_load_when_that_was_wanted_without_a_break() {
    let mut loads = Loads::default();
    assert!(!loads.is_steady(true, SECOND));
    assert!(!loads.is_steady(true, LOAD_STEADY));
    assert!(!loads.is_steady(false, LOAD_STEADY));
    assert!(!loads.is_steady(true, 2 * LOAD_STEADY));
    assert!(loads.is_steady(true, 3 * LOAD_STEADY));
    assert!(!loads.is_steady(true, 3 * LOAD_STEADY), "the next waits as long");
}
