//! Nodes behind NATs, which meet at a relay of their own, and go direct where the NATs allow it.

use std::fs::{self, File};
use std::process::{Child, Stdio};

use serde_json::Value;

use super::lan::{Host, Lan, Masquerade};
use super::node::Node;
use crate::support::until;

/// The relay of `aspen relay` on a host; killed when dropped.
struct Relay {
    child: Child,
    url: String,
}

impl Relay {
    #[track_caller]
    fn start(host: &Host) -> Relay {
        let (dir, output) =
            (host.disk().path().join("relay"), host.disk().path().join("relay-says"));
        let public = host.address().to_string();
        let dir = dir.display().to_string();
        let arguments = ["relay", "--json", "--public", &public, "--data-dir", &dir];
        let mut command = host.aspen(&arguments);
        command.stdin(Stdio::null()).stdout(File::create(&output).expect("a file"));
        let child = command.spawn().expect("the command runs");
        let mut url = String::new();
        let serves = until(|| {
            let said = fs::read_to_string(&output).unwrap_or_default();
            let ready: Value = serde_json::from_str(&said).unwrap_or_default();
            url = ready["url"].as_str().unwrap_or_default().to_owned();
            !url.is_empty()
        });
        assert!(serves, "the relay does not serve");
        Relay { child, url }
    }

    /// A cluster of two nodes that know this relay and nothing else beyond their LANs; the first has
    /// these flags, too.
    #[track_caller]
    fn cluster<'a>(&self, one: &'a Host, two: &'a Host, flags: &[&str]) -> (Node<'a>, Node<'a>) {
        let by = [
            "--reach",
            "internet",
            "--relay",
            &self.url,
            "--directory",
            "off",
            "--port-mapping",
            "off",
        ];
        let one = one.start(&[&by[..], flags].concat());
        let two = two.join(one.ticket(), &by);
        (one, two)
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How many rounds the way to a direct path may take: each is at least ten milliseconds.
const ROUNDS_MAX: usize = 1_000;

/// An internet with a host for the relay, and two LANs behind NATs, with a host each.
#[track_caller]
fn apart(masquerade: Masquerade) -> Option<[Lan; 3]> {
    let lans = [Lan::internet(1)?, Lan::new(1)?, Lan::new(1)?];
    for lan in &lans[1..] {
        lan.connect(&lans[0], masquerade);
    }
    Some(lans)
}

/// How a node reaches the only other one.
fn way(node: &Node) -> String {
    let said = node.printed(&["doctor", "--json"]);
    let line = said.lines().next().expect("there is another member");
    let facts: Value = serde_json::from_str(line).expect("JSON");
    facts["path"].as_str().expect("a path").to_owned()
}

/// Writes at one node what the other then reads, for as long as told: the latest, each time.
#[track_caller]
fn write_and_read(one: &Node, two: &Node, mut goes_on: impl FnMut(usize) -> bool) {
    let mut number = 0;
    while goes_on(number / 2) {
        number += 1;
        one.printed(&["put", "number", &number.to_string()]);
        assert_eq!(two.printed(&["get", "number"]), number.to_string());
        number += 1;
        two.printed(&["put", "number", &number.to_string()]);
        assert_eq!(one.printed(&["get", "number"]), number.to_string());
    }
}

#[test]
fn nodes_whose_nats_hide_their_ports_join_and_work_through_a_relay_that_may_come_back() {
    let Some([internet, here, there]) = apart(Masquerade::EachItsOwn) else { return };
    let relay = Relay::start(&internet.hosts[0]);
    let (one, two) = relay.cluster(&here.hosts[0], &there.hosts[0], &[]);
    write_and_read(&one, &two, |rounds| rounds < 10);
    assert_eq!((way(&one), way(&two)), ("relayed".to_owned(), "relayed".to_owned()));
    let advice = two.printed(&["doctor"]);
    assert!(advice.contains("NATs"), "{advice}");

    // Without it they are apart; with it, as before.
    drop(relay);
    let apart = until(|| two.run(&["--timeout", "1s", "get", "number"]).code != 0);
    assert!(apart, "they can't reach each other");
    one.printed(&["put", "number", "alone"]);
    let _relay = Relay::start(&internet.hosts[0]);
    let together = until(|| {
        let read = two.run(&["--timeout", "2s", "get", "number"]);
        read.code == 0 && read.printed() == "alone"
    });
    assert!(together, "they don't meet again; the log:\n{two}");
}

#[test]
fn where_nats_allow_it_a_relayed_path_becomes_direct_without_a_failed_operation() {
    let Some([internet, here, there]) = apart(Masquerade::SamePort) else { return };
    let relay = Relay::start(&internet.hosts[0]);
    let (one, two) = relay.cluster(&here.hosts[0], &there.hosts[0], &[]);
    let mut direct_since = None;
    write_and_read(&one, &two, |rounds| {
        if direct_since.is_none() && way(&one) == "direct" {
            direct_since = Some(rounds);
        }
        // For a while after the switch, too.
        rounds < direct_since.map_or(ROUNDS_MAX, |since| since + 25)
    });
    assert!(direct_since.is_some(), "it stays relayed: {}", one.printed(&["doctor"]));
}

#[test]
fn a_node_that_is_reached_by_its_relay_only_tells_no_address() {
    let Some(internet) = Lan::internet(3) else { return };
    let relay = Relay::start(&internet.hosts[0]);
    let (one, two) = relay.cluster(&internet.hosts[1], &internet.hosts[2], &["--relay-only"]);
    write_and_read(&one, &two, |rounds| rounds < 5);
    assert_eq!(way(&two), "relayed");
    let known = two.printed(&["members", "--addresses"]);
    assert!(!known.contains(&internet.hosts[1].address().to_string()), "{known}");
}

#[test]
fn a_link_goes_over_to_the_relay_and_back_without_a_restart() {
    let Some(internet) = Lan::internet(1) else { return };
    let Some(room) = Lan::new(2) else { return };
    room.connect(&internet, Masquerade::EachItsOwn);
    let relay = Relay::start(&internet.hosts[0]);
    let (one, two) = relay.cluster(&room.hosts[0], &room.hosts[1], &[]);
    assert!(until(|| way(&one) == "direct"), "they are on one link: {}", one.printed(&["doctor"]));
    let serves = |what: &str| {
        let value = format!("written {what}");
        let put = until(|| one.run(&["--timeout", "1s", "put", "key", &value]).code == 0);
        let read = until(|| two.run(&["--timeout", "1s", "get", "key"]).stdout == value);
        let status = |node: &Node| node.run(&["status", "--json"]).stdout;
        assert!(
            put && read,
            "nothing goes {what}, put: {put}, read: {read}; {}{}the logs:\n{one}\n{two}",
            status(&one),
            status(&two)
        );
    };
    for round in 1..=2 {
        room.isolate(true);
        serves(&format!("by the relay, {round}"));
        assert!(until(|| way(&one) == "relayed"), "{}", one.printed(&["doctor"]));
        room.isolate(false);
        serves(&format!("on the LAN, {round}"));
        assert!(until(|| way(&one) == "direct"), "{}", one.printed(&["doctor"]));
    }
}
