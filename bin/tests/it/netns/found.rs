//! Nodes that find each other by their keys alone, where nothing else tells where they are.

use std::fs;

use super::lan::Lan;
use super::servers::Server;
use crate::support::until;

/// Beyond the LAN, by nothing but what is added.
const BARE: [&str; 6] = ["--reach", "internet", "--relay", "off", "--port-mapping", "off"];

/// Two nodes move, with all that they know of where others are gone or wrong, and meet again.
#[track_caller]
fn meet_by_key_alone(lan: &Lan, flags: &[&str]) {
    let flags: Vec<&str> = BARE.iter().chain(flags).copied().collect();
    // Neighbours can't hear each other by multicast DNS here.
    lan.silence_multicast();
    let [_, first, second] = lan.hosts.as_slice() else { panic!("three hosts") };
    {
        let one = first.start(&flags);
        let two = second.join(one.ticket(), &flags);
        one.printed(&["put", "greeting", "hello"]);
        assert_eq!(two.printed(&["get", "greeting"]), "hello");
    }
    for (host, last) in [(first, 61), (second, 62)] {
        // A node that was ended so soon may not have kept its address book yet.
        let _ = fs::remove_file(host.disk().path().join("data/peers"));
        host.move_to(last);
    }
    let (one, two) = (first.start(&flags), second.start(&flags));
    for node in [&one, &two] {
        let reads = until(|| node.run(&["get", "greeting"]).code == 0);
        assert!(reads, "nobody is found; the log:\n{node}");
    }
    two.printed(&["put", "greeting", "again"]);
    assert_eq!(one.printed(&["get", "greeting"]), "again");
}

#[test]
fn nodes_are_found_by_key_alone_in_a_directory() {
    let Some(lan) = Lan::new(3) else { return };
    let server = Server::directory(&lan.hosts[0]);
    meet_by_key_alone(&lan, &["--directory", &server.url()]);
}

#[test]
fn nodes_are_found_by_key_alone_in_a_dht() {
    let Some(lan) = Lan::new(3) else { return };
    let server = Server::dht(&lan.hosts[0]);
    let entrance = format!("--dht={}", server.entrance());
    meet_by_key_alone(&lan, &["--directory", "off", &entrance]);
}
