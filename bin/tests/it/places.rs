//! Where shards get their places, and how they get there: in proportion to capacities, after a first
//! wait for as many nodes as are wanted, and no faster than snapshots may be sent.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aspen::limits::{PLACE_WAIT, SNAPSHOT_RATE_MIN, VALUE_BYTES_MAX};
use serde_json::Value;
use tempfile::NamedTempFile;
use tokio::time::Instant;

use crate::metrics::counted;
use crate::shards::{Nodes, nodes_of, shards, spread};
use crate::support::{Asking, Node, until, write_file};

const NOTHING_TO_DO: &str = "every shard is where it is to be\n";

fn planned(node: &Node) -> String {
    node.printed(&["rebalance", "--dry-run"])
}

/// Waits until nothing is on its way, nor to be.
#[track_caller]
fn wait_until_placed(nodes: &Nodes) {
    let is_done = || nodes.all().all(|node| planned(node) == NOTHING_TO_DO);
    assert!(until(is_done), "there is more to do: {}", planned(nodes.any()));
}

const CAPACITIES: [usize; 4] = [100, 100, 100, 20];
const REPLICAS: usize = 3;

/// All shards of these keyspaces have all of their replicas, and each node holds what is its share by
/// its capacity, to within one.
#[track_caller]
fn are_in_proportion(nodes: &Nodes, keyspaces: &[&str]) -> BTreeMap<u64, usize> {
    wait_until_placed(nodes);
    let all = || keyspaces.iter().flat_map(|keyspace| shards(nodes.any(), keyspace));
    let is_settled =
        |shard: Value| shard["stage"] == "settled" && nodes_of(&shard).len() == REPLICAS;
    assert!(until(|| all().all(is_settled)), "{:?}", all().collect::<Vec<_>>());
    let all: Vec<Value> = all().collect();
    let held: BTreeMap<u64, usize> =
        spread(&all, 1..=4).into_iter().map(|(node, (holds, _))| (node, holds)).collect();
    let total: usize = CAPACITIES.iter().sum();
    for (holds, capacity) in held.values().zip(CAPACITIES) {
        // Of whole replicas, so that nothing is rounded.
        let share = all.len() * REPLICAS * capacity;
        assert!((holds * total).abs_diff(share) <= total, "{held:?} of {} shards", all.len());
    }
    held
}

/// Scenario 17, as far as it is about capacity.
#[test]
fn replicas_are_in_proportion_to_capacities_and_who_has_its_share_is_given_nothing_more() {
    let mut nodes = Nodes::start(1, &["--shards", "16", "--capacity", "100"]);
    for capacity in &CAPACITIES[1..] {
        let dir = tempfile::tempdir().expect("a directory");
        let ticket = nodes.any().printed(&["ticket", "create"]);
        let flags = ["--capacity", &capacity.to_string()];
        let node = Node::join(dir.path(), ticket.trim(), &flags);
        nodes.0.insert(node.id(), (dir, node));
    }
    let had = are_in_proportion(&nodes, &["default"]);
    assert_eq!(had[&4], 3, "{had:?}");

    // It has its share, and these few would give it more.
    nodes.node(4).printed(&["keyspace", "create", "few", "--shards", "3"]);
    assert_eq!(are_in_proportion(&nodes, &["default", "few"])[&4], 3);
    let few = shards(nodes.node(1), "few");
    let is_without = |shard: &Value| nodes_of(shard).into_iter().eq([1, 2, 3]);
    assert!(few.iter().all(is_without), "{few:?}");
    // To have all that it is to have is no trouble: its health says nothing of it.
    let asking = Asking::new();
    let health = asking.get(nodes.node(4), "/health");
    // How much of its disk is free is the machine's affair.
    let is_well = |part: &Value| part["state"] == "healthy" || part["name"] == "disk";
    let parts = health["parts"].as_array().cloned().unwrap_or_default();
    assert!(!parts.is_empty() && parts.iter().all(is_well), "{health}");

    // There is more for all, and it has its part in that.
    nodes.node(4).printed(&["keyspace", "create", "more", "--shards", "13"]);
    let has = are_in_proportion(&nodes, &["default", "few", "more"]);
    assert_eq!(has[&4], 6, "{has:?}");
}

/// Whoever holds a keyspace's one shard at first.
#[track_caller]
fn first_place(node: &Node, keyspace: &str) -> BTreeSet<u64> {
    let mut place = BTreeSet::new();
    let is_placed = until(|| {
        place = nodes_of(&shards(node, keyspace)[0]);
        !place.is_empty()
    });
    assert!(is_placed, "{keyspace} waits on");
    place
}

#[test]
fn a_keyspace_waits_for_as_many_nodes_as_it_wants_replicas_or_until_its_time_is_up() {
    const ROUNDS: usize = 10;
    let nodes = Nodes::start(3, &[]);
    let (first, second) = (nodes.node(1), nodes.node(2));
    let waits = |keyspace: &str| shards(first, keyspace)[0]["stage"] == "waiting";
    wait_until_placed(&nodes);
    first.printed(&["drain", "3"]);
    wait_until_placed(&nodes);

    // Its time is up: it takes the two that are there. What is to be done is told meanwhile.
    let told = (0..ROUNDS).find_map(|round| {
        let keyspace = format!("two-{round}");
        let made = Instant::now();
        second.printed(&["keyspace", "create", &keyspace]);
        let group = shards(first, &keyspace)[0]["group"].clone();
        let told = planned(second);
        let is_told = waits(&keyspace);
        assert_eq!(first_place(first, &keyspace), BTreeSet::from([1, 2]));
        assert!(made.elapsed() >= PLACE_WAIT, "after {:?}", made.elapsed());
        assert!(until(|| second.run(&["put", "k", "v", "--keyspace", &keyspace]).code == 0));
        wait_until_placed(&nodes);
        is_told.then_some((group, told))
    });
    let (group, told) = told.expect("a look at it while it waits");
    let rows: Vec<Vec<&str>> = told.lines().map(|row| row.split_whitespace().collect()).collect();
    let [head, row] = &rows[..] else { panic!("{told}") };
    assert_eq!(*head, ["GROUP", "FROM", "TO", "TO", "LEAD", "WHY"], "{told}");
    let [of, from, to, leader, why] = row[..] else { panic!("{told}") };
    assert_eq!((of, from, to, why), (&*group.to_string(), "-", "1,2", "place"), "{told}");
    assert!(["1", "2"].contains(&leader), "{told}");

    // There are as many as it wants before that: it takes them, and does not wait on.
    let is_at_once = (0..ROUNDS).any(|round| {
        let keyspace = format!("three-{round}");
        let made = Instant::now();
        second.printed(&["keyspace", "create", &keyspace]);
        first.printed(&["drain", "3", "--off"]);
        let place = first_place(first, &keyspace);
        let took = made.elapsed();
        let has_all = place == BTreeSet::from([1, 2, 3]);
        // On a busy machine its time may be up before the third is there.
        assert!(has_all || took >= PLACE_WAIT, "{place:?} after {took:?}");
        wait_until_placed(&nodes);
        assert_eq!(nodes_of(&shards(first, &keyspace)[0]), BTreeSet::from([1, 2, 3]));
        first.printed(&["drain", "3"]);
        wait_until_placed(&nodes);
        has_all && took < PLACE_WAIT
    });
    assert!(is_at_once, "it waits for its time in any case");
}

/// How long it takes to move the one replica of the default keyspace away from a node, from when that
/// is asked for until the other node has it, as a snapshot.
#[track_caller]
fn moved(nodes: &Nodes, from: u64, to: u64, rate: u64) -> Duration {
    let received = || counted(nodes.node(to), "aspen_raft_snapshots_received_total");
    let had = received();
    let set = ["settings", "set", "snapshot-rate", &format!("{}MiB", rate >> 20)];
    assert!(nodes.any().printed(&set).starts_with("set; known to 2 of 2 nodes"));
    let asked = Instant::now();
    nodes.any().printed(&["drain", &from.to_string()]);
    let in_time = until(|| received() > had) || until(|| received() > had);
    let took = asked.elapsed();
    let logs = || nodes.all().map(|node| format!("{}\n", node.log())).collect::<String>();
    assert!(in_time, "no snapshot arrives, and to do is {}; {}", planned(nodes.any()), logs());
    let is_moved = || nodes_of(&shards(nodes.any(), "default")[0]) == BTreeSet::from([to]);
    assert!(until(is_moved));
    wait_until_placed(nodes);
    // What it still had it would not be sent again.
    let left = nodes.0[&from].0.path().join("data/groups/1");
    assert!(until(|| !left.exists()), "it is not erased: {}", nodes.node(from).log());
    nodes.any().printed(&["drain", &from.to_string(), "--off"]);
    wait_until_placed(nodes);
    took
}

#[test]
fn what_is_moved_is_moved_as_fast_as_the_snapshot_rate_says() {
    const ROUNDS: usize = 3;
    let nodes = Nodes::start(2, &["--replicas", "1"]);
    wait_until_placed(&nodes);
    let large = NamedTempFile::new().expect("a file");
    write_file(large.path(), &"v".repeat(VALUE_BYTES_MAX));
    let path = large.path().to_str().expect("a path");
    // The log up to the checkpoint before the last is let go of, so that only a snapshot has all.
    let checkpoints = || counted(nodes.node(1), "aspen_raft_checkpoints_total");
    let (before, mut bytes) = (checkpoints(), 0);
    while checkpoints() < before + 2.0 {
        let key = format!("large/{bytes}");
        assert!(until(|| nodes.any().run(&["put", &key, "--file", path]).code == 0));
        bytes += VALUE_BYTES_MAX as u64;
    }

    let at_least = Duration::from_secs(bytes / SNAPSHOT_RATE_MIN);
    let mut seen = Vec::new();
    let is_limited = (0..ROUNDS).any(|_| {
        let slow = moved(&nodes, 1, 2, SNAPSHOT_RATE_MIN);
        let fast = moved(&nodes, 2, 1, 256 * SNAPSHOT_RATE_MIN);
        seen.push((slow, fast));
        // A second or so may be sent ahead of its time.
        assert!(slow.mul_f64(1.25) >= at_least, "{slow:?} for {bytes} bytes");
        // Whatever else the machine has to do: it is the rate that makes the difference.
        slow > fast * 2
    });
    assert!(is_limited, "slow and fast: {seen:?}");
    println!("slow and fast: {seen:?}");
}
