//! Nodes that find each other on a link by a name and a secret, and are one cluster.

use std::collections::BTreeSet;
use std::thread::sleep;
use std::time::Duration;

use tokio::time::Instant;

use super::lan::{Host, Lan};
use super::node::{Node, logs};
use crate::support::{until, write_file};

const SECRET: &str = "known in this room only";
/// What a node says that founds the cluster.
const FOUNDS: &str = "this node founds the mesh's cluster";
/// What is said of one with another secret.
const ANOTHER_SECRET: &str = "another secret";
/// How long a founder that was killed stays away: longer than anybody dials it, and than a link is
/// thought to live without a word.
const AWAY: Duration = Duration::from_secs(8);

/// Begins to start a node of the mesh of this secret.
#[track_caller]
pub(super) fn starting<'a>(host: &'a Host, secret: &str, more: &[&str]) -> Node<'a> {
    let file = host.disk().path().join("secret");
    write_file(&file, &format!("{secret}\n"));
    let file = file.display().to_string();
    host.starting(&[&["--lan", "lab", "--lan-secret-file", &file], more].concat())
}

/// A node of the mesh on each host, started at once; ready.
#[track_caller]
pub(super) fn room(hosts: &[Host]) -> Vec<Node<'_>> {
    until_ready(hosts.iter().map(|host| starting(host, SECRET, &[])).collect())
}

#[track_caller]
fn until_ready(nodes: Vec<Node<'_>>) -> Vec<Node<'_>> {
    nodes.into_iter().map(Node::until_ready).collect()
}

/// Asserts that the nodes, and nobody else, are one cluster, of which each takes a put that all
/// read.
#[track_caller]
fn are_one_cluster(nodes: &[Node<'_>]) {
    let clusters: BTreeSet<&str> = nodes.iter().map(Node::cluster_id).collect();
    assert_eq!(clusters.len(), 1, "{}", logs(nodes));
    let numbers: BTreeSet<u64> = nodes.iter().map(Node::id).collect();
    assert_eq!(numbers.len(), nodes.len(), "each has its own: {}", logs(nodes));
    for node in nodes {
        let all = until(|| members(node) == nodes.len());
        assert!(all, "it knows of {} members; its log:\n{node}", members(node));
    }
    for node in nodes {
        let key = format!("put/{}", node.id());
        node.printed(&["put", &key, "here"]);
        for reader in nodes {
            assert_eq!(reader.printed(&["get", &key]), "here");
        }
    }
}

/// How many members a node knows of.
fn members(node: &Node<'_>) -> usize {
    node.run(&["members", "--json"]).stdout.lines().count()
}

#[test]
fn three_hosts_of_one_secret_are_a_cluster_without_a_ticket_or_an_address() {
    let Some(lan) = Lan::new(3) else { return };
    let starting = lan.hosts.iter().map(|host| starting(host, SECRET, &[])).collect();
    let started = Instant::now();
    let nodes = until_ready(starting);
    println!("{:?} from the last start to the last ready line", started.elapsed());
    are_one_cluster(&nodes);
}

#[test]
fn a_fourth_that_comes_later_joins() {
    let Some(lan) = Lan::new(4) else { return };
    let mut nodes = room(&lan.hosts[..3]);
    nodes[0].printed(&["put", "k", "before"]);
    let fourth = starting(&lan.hosts[3], SECRET, &[]);
    let started = Instant::now();
    nodes.push(fourth.until_ready());
    println!("{:?} from its start to its ready line", started.elapsed());
    assert_eq!(nodes[3].printed(&["get", "k"]), "before");
    are_one_cluster(&nodes);
}

#[test]
fn three_hosts_of_an_open_mesh_are_a_cluster() {
    let Some(lan) = Lan::new(3) else { return };
    let start = |host| Host::starting(host, &["--lan", "lab", "--open"]);
    are_one_cluster(&until_ready(lan.hosts.iter().map(start).collect()));
}

/// A cluster with a secret, and a stranger that says the same name.
#[track_caller]
fn a_stranger_stays_out(strange: impl FnOnce(&Host) -> Node<'_>) {
    let Some(lan) = Lan::new(4) else { return };
    let nodes = room(&lan.hosts[..3]);
    let mut stranger = strange(&lan.hosts[3]);
    stranger.wait_for_log(&["lab", ANOTHER_SECRET]);
    for node in &nodes {
        node.wait_for_log(&["lab", ANOTHER_SECRET]);
    }
    are_one_cluster(&nodes);
    assert!(!stranger.is_ready() && !stranger.has_ended(), "it looks on; its log:\n{stranger}");
}

#[test]
fn who_has_another_secret_stays_out_and_both_sides_are_told() {
    a_stranger_stays_out(|host| starting(host, "known in the next room only", &[]));
}

#[test]
fn who_is_open_stays_out_where_there_is_a_secret_and_both_sides_are_told() {
    a_stranger_stays_out(|host| host.starting(&["--lan", "lab", "--open"]));
}

#[test]
fn clusters_that_began_apart_stay_apart_and_are_told_of() {
    let Some(lan) = Lan::new(5) else { return };
    lan.cut_before(2);
    let expecting = |host| starting(host, SECRET, &["--expect", "2"]);
    let mut left = until_ready(lan.hosts[..4].iter().map(expecting).collect());
    let right = left.split_off(2);
    are_one_cluster(&left);
    are_one_cluster(&right);
    let ids = [&left, &right].map(|nodes| nodes[0].cluster_id().to_owned());
    assert_ne!(ids[0], ids[1], "they can't have heard each other");

    lan.mend();
    for node in left.iter().chain(&right) {
        node.wait_for_log(&["the mesh has another cluster", &ids[0], &ids[1]]);
    }
    let mut newcomer = expecting(&lan.hosts[4]);
    newcomer.wait_for_log(&["the mesh has more than one cluster", &ids[0], &ids[1]]);
    are_one_cluster(&left);
    are_one_cluster(&right);
    assert!(!newcomer.is_ready() && !newcomer.has_ended(), "it waits; its log:\n{newcomer}");

    // What it waits for is that there is one only.
    drop(right);
    left.push(newcomer.until_ready());
    assert_eq!(left[2].cluster_id(), ids[0]);
    are_one_cluster(&left);
}

/// Kills the founder once it is so far, and starts it again.
#[track_caller]
fn a_founder_dies(is_so_far: impl Fn(&mut Node<'_>) -> bool) {
    let Some(lan) = Lan::new(3) else { return };
    let start = |host| starting(host, SECRET, &[]);
    let mut nodes: Vec<_> = lan.hosts.iter().map(start).collect();
    let mut founder = None;
    until(|| {
        founder = nodes.iter_mut().position(|node| node.has_logged(&[FOUNDS]) && is_so_far(node));
        founder.is_some()
    });
    let founder = founder.unwrap_or_else(|| panic!("nobody founds a cluster: {}", logs(&nodes)));
    drop(nodes.remove(founder));
    sleep(AWAY);
    for node in &mut nodes {
        assert!(!node.has_ended(), "it gives up; its log:\n{node}");
    }
    nodes.insert(founder, start(&lan.hosts[founder]));
    are_one_cluster(&until_ready(nodes));
}

#[test]
fn a_founder_killed_while_it_founds_is_one_of_the_cluster_when_it_is_back() {
    a_founder_dies(|_| true);
}

#[test]
fn a_founder_killed_when_it_lets_others_in_is_one_of_the_cluster_when_it_is_back() {
    a_founder_dies(|founder| founder.has_logged(&["let a node of the mesh in"]));
}

#[test]
fn a_founder_killed_when_it_is_ready_is_one_of_the_cluster_when_it_is_back() {
    a_founder_dies(|founder| founder.is_ready());
}

#[test]
fn a_member_is_one_without_the_mesh_by_which_it_became_one() {
    let Some(lan) = Lan::new(3) else { return };
    let mut nodes = room(&lan.hosts);
    let (cluster, number) = (nodes[2].cluster_id().to_owned(), nodes[2].id());
    drop(nodes.pop());
    nodes.push(lan.hosts[2].start(&[]));
    assert_eq!((nodes[2].cluster_id(), nodes[2].id()), (cluster.as_str(), number));
    are_one_cluster(&nodes);
}
