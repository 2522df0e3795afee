//! What nodes do on such networks.

use std::thread::sleep;
use std::time::Duration;

use tokio::time::Instant;

use super::lan::Lan;
use super::node::Node;

/// How long a node is watched in peace. Nothing shows that nothing was sent but time.
const WATCHED: Duration = Duration::from_secs(4);
/// Longer than any election takes, and than a link is thought to live without a word.
const UNPLUGGED: Duration = Duration::from_secs(5);

/// A node on each host, the first of which was started with these flags and gave the others its
/// ticket.
#[track_caller]
pub(super) fn cluster<'a>(lan: &'a Lan, flags: &[&str]) -> Vec<Node<'a>> {
    let (first, others) = lan.hosts.split_first().expect("a host");
    let first = first.start(&[&["--reach", "lan"], flags].concat());
    let ticket = first.ticket().to_owned();
    let mut nodes = vec![first];
    nodes.extend(others.iter().map(|host| host.join(&ticket, &["--reach", "lan"])));
    nodes
}

#[test]
fn three_hosts_are_a_cluster_by_one_ticket() {
    let Some(lan) = Lan::new(3) else { return };
    let nodes = cluster(&lan, &[]);
    for (node, key) in nodes.iter().zip(["one", "two", "three"]) {
        node.printed(&["put", key, "here"]);
        for reader in &nodes {
            assert_eq!(reader.printed(&["get", key]), "here");
        }
    }
}

#[test]
fn a_node_that_reaches_for_loopback_sends_nothing() {
    let Some(lan) = Lan::new(1) else { return };
    let host = &lan.hosts[0];
    let watch = host.watch();
    let node = host.start(&["--reach", "loopback"]);
    node.printed(&["put", "k", "v"]);
    sleep(WATCHED);
    assert_eq!(node.printed(&["get", "k"]), "v");
    assert_eq!(watch.sent(), 0, "{watch}");
}

#[test]
fn nodes_that_reach_for_the_lan_send_nothing_beyond_it() {
    let Some(lan) = Lan::new(2) else { return };
    let watches: Vec<_> = lan.hosts.iter().map(|host| host.watch()).collect();
    let nodes = cluster(&lan, &[]);
    nodes[0].printed(&["put", "k", "v"]);
    sleep(WATCHED);
    assert_eq!(nodes[1].printed(&["get", "k"]), "v");
    for watch in &watches {
        assert!(watch.sent() > 0, "{watch}");
        assert_eq!(watch.beyond(), 0, "{watch}");
    }
}

#[test]
fn a_host_that_was_unplugged_catches_up() {
    let Some(lan) = Lan::new(3) else { return };
    let mut nodes = cluster(&lan, &[]);
    nodes[0].printed(&["put", "k", "before"]);
    assert_eq!(nodes[2].printed(&["get", "k"]), "before");

    lan.hosts[2].unplug();
    let unplugged = Instant::now();
    // Whoever led, the two others go on.
    assert!(crate::support::until(|| nodes[0].run(&["put", "k", "meanwhile"]).code == 0));
    let mut puts = 0;
    while unplugged.elapsed() < UNPLUGGED {
        puts += 1;
        nodes[puts % 2].printed(&["put", "k", &puts.to_string()]);
    }
    assert_eq!(nodes[2].run(&["--timeout", "200ms", "get", "k"]).code, 3, "{}", nodes[2]);

    lan.hosts[2].plug();
    let plugged = Instant::now();
    let reads = || nodes[2].run(&["get", "k"]).stdout == puts.to_string();
    assert!(crate::support::until(reads), "it does not catch up; its log:\n{}", nodes[2]);
    println!("it read {:?} after it was plugged, {puts} puts later", plugged.elapsed());
    nodes[2].printed(&["put", "k", "after"]);
    assert_eq!(nodes[0].printed(&["get", "k"]), "after");
    assert!(!nodes[2].has_ended());
}

/// By how much a start may take longer because there is no internet.
const START_LONGER_MAX: Duration = Duration::from_millis(100);
const STARTS: usize = 7;

#[test]
fn a_start_does_not_wait_for_an_internet_that_is_not_there() {
    let Some(lan) = Lan::new(2 * STARTS as u8) else { return };
    let took = |host: &super::lan::Host, reach| {
        let begun = Instant::now();
        let _node = host.start(&["--reach", reach]);
        begun.elapsed()
    };
    // In turns, so that both have the same hours of the machine; the middle one of each counts.
    let mut starts: Vec<(Duration, Duration)> =
        lan.hosts.chunks(2).map(|two| (took(&two[0], "lan"), took(&two[1], "internet"))).collect();
    starts.sort_by_key(|start| start.0);
    let lan_took = starts[STARTS / 2].0;
    starts.sort_by_key(|start| start.1);
    let internet_took = starts[STARTS / 2].1;
    println!("half of the starts within {lan_took:?}, reaching for the internet {internet_took:?}");
    assert!(internet_took < lan_took + START_LONGER_MAX, "{lan_took:?}, {internet_took:?}");
}
