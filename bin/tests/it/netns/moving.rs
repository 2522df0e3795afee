//! Members whose hosts change their addresses while they run.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use super::lan::Lan;
use super::mesh::room;
use super::node::{Node, logs};
use crate::metrics::MOVED_BY_A_HICCUP;
use crate::support::until;

/// How long after a move everybody is served again: what is promised to the user.
const SERVED_AGAIN_MAX: Duration = Duration::from_secs(10);
/// The last byte of the first address that a host moves to; the others follow.
const MOVED: u8 = 51;

/// Waits until each node takes a put that all others read, and asserts that it came in time.
#[track_caller]
fn serve_again(nodes: &mut [Node<'_>], moved: Instant, value: &str) {
    for node in &*nodes {
        let (key, puts) = (format!("put/{}", node.id()), ["--timeout", "1s", "put"]);
        let done = until(|| node.run(&[&puts[..], &[&key, value]].concat()).code == 0);
        assert!(done, "it takes no put; its log:\n{node}");
        for reader in &*nodes {
            let reads = ["--timeout", "1s", "get", "--consistency", "linearizable", &key];
            let done = until(|| reader.run(&reads).stdout == value);
            assert!(done, "it does not read {key}; its log:\n{reader}");
        }
    }
    let took = moved.elapsed();
    println!("{value}: all serve {took:?} after the move");
    assert!(
        took < SERVED_AGAIN_MAX,
        "{value}: all serve only {took:?} after the move: {}",
        logs(nodes)
    );
    // It is the same process all along.
    assert!(nodes.iter_mut().all(|node| !node.has_ended()));
}

/// Waits until the others know where a node is now.
#[track_caller]
fn is_known_at_its_address(nodes: &[Node<'_>], lan: &Lan, mover: usize) {
    let (number, address) = (nodes[mover].id().to_string(), lan.hosts[mover].address());
    let place = format!("{address}:");
    for node in nodes.iter().filter(|node| node.id() != nodes[mover].id()) {
        let shows = |row: &str| row.split_whitespace().next() == Some(&number);
        let listed = || node.run(&["members", "--addresses"]).stdout;
        let known = until(|| listed().lines().any(|row| shows(row) && row.contains(&place)));
        assert!(known, "node {number} is at {address}, and not in:\n{}", listed());
    }
}

/// Which of the nodes leads the group of the keys.
#[track_caller]
fn leader(nodes: &[Node<'_>]) -> usize {
    let mut leader = None;
    until(|| {
        let status = nodes[0].run(&["status", "--json"]).stdout;
        let status = serde_json::from_str::<Value>(&status).unwrap_or_default();
        let number = status["cluster"]["groups"][1]["leader"].as_u64();
        leader = nodes.iter().position(|node| Some(node.id()) == number);
        leader.is_some()
    });
    leader.expect("somebody leads")
}

#[test]
fn a_host_that_changes_its_address_is_served_and_serves_again_within_10_s() {
    let Some(lan) = Lan::new(3) else { return };
    let mut nodes = room(&lan.hosts);
    let mut address = MOVED;
    for round in ["first", "second"] {
        // Then that of a follower, whatever the first move has made of the leader.
        for is_led_from_it in [true, false] {
            let leader = leader(&nodes);
            let mover = if is_led_from_it { leader } else { (leader + 1) % nodes.len() };
            lan.hosts[mover].move_to(address);
            let moved = Instant::now();
            let value = format!("{round} move, leads: {is_led_from_it}");
            serve_again(&mut nodes, moved, &value);
            is_known_at_its_address(&nodes, &lan, mover);
            address += 1;
        }
    }
}

#[test]
fn hosts_that_change_their_addresses_all_at_once_serve_again_within_10_s() {
    let Some(lan) = Lan::new(3) else { return };
    let mut nodes = room(&lan.hosts);
    let mut addresses = MOVED..;
    for round in ["first", "second"] {
        for (host, address) in lan.hosts.iter().zip(&mut addresses) {
            host.move_to(address);
        }
        let moved = Instant::now();
        serve_again(&mut nodes, moved, &format!("{round} move of all"));
        for mover in 0..nodes.len() {
            is_known_at_its_address(&nodes, &lan, mover);
        }
    }
}

/// The terms of the groups, once all nodes know the same: one that was just let in has not heard of
/// some yet.
#[track_caller]
fn terms(nodes: &[Node<'_>]) -> BTreeMap<u64, u64> {
    let as_known_to = |node: &Node<'_>| -> BTreeMap<u64, u64> {
        let status = node.run(&["status", "--json"]).stdout;
        let status = serde_json::from_str::<Value>(&status).unwrap_or_default();
        let groups = status["cluster"]["groups"].as_array().cloned().unwrap_or_default();
        let terms = groups.iter().filter_map(|g| Some((g["id"].as_u64()?, g["term"].as_u64()?)));
        terms.collect()
    };
    let mut known = BTreeSet::new();
    let agree = until(|| {
        known = nodes.iter().map(as_known_to).collect();
        let first = known.first().expect("a node");
        known.len() == 1 && first.len() == 2 && first.values().all(|term| *term > 0)
    });
    assert!(agree, "they know of different terms: {known:?}; {}", logs(nodes));
    known.pop_first().expect("they agree")
}

/// How long cables are out: well under the second for which a leader is not replaced, of which the
/// pause between its heartbeats and the time that a packet is sent again in have their part.
const HICCUP: Duration = Duration::from_millis(500);

#[test]
fn a_hiccup_costs_no_leader() {
    let Some(lan) = Lan::new(3) else { return };
    let mut nodes = room(&lan.hosts);
    let before = terms(&nodes);
    for host in &lan.hosts {
        host.unplug();
        // That time passes is the subject.
        std::thread::sleep(HICCUP);
        host.plug();
        serve_again(&mut nodes, Instant::now(), "a hiccup");
    }
    assert_eq!(terms(&nodes), before, "somebody was elected: {}", logs(&nodes));
    // What was under way while a cable was out is counted as lost.
    let is_counted = |node: &Node<'_>| {
        let page = node.metrics();
        let series = page.lines().filter(|line| line.starts_with(MOVED_BY_A_HICCUP));
        series.filter_map(|line| line.rsplit(' ').next()).any(|count| count != "0")
    };
    assert!(until(|| nodes.iter().any(is_counted)), "{}", nodes[0].metrics());
}
