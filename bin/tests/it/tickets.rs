//! Tickets through the command: made, read, listed, revoked, used, and every way to be bad.

use std::path::Path;

use aspen_tickets::{Invitation, JoinTicket, Role};
use serde_json::Value;
use tempfile::TempDir;

use crate::cluster::members;
use crate::support::{Node, Run, aspen, run, until};

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

fn first() -> (TempDir, Node) {
    let dir = dir();
    let node = Node::start(dir.path(), &["--name", "lab"]);
    (dir, node)
}

/// Tries to join with a new node, which is expected to end by itself.
fn try_join(ticket: &str) -> Run {
    let dir = dir();
    try_join_in(dir.path(), ticket)
}

fn try_join_in(dir: &Path, ticket: &str) -> Run {
    let mut command = aspen(["join", "--json", "--reach", "loopback", "--http", "off"]);
    run(command.args(["--log", "off", "--data-dir"]).arg(dir.join("data")).arg("--").arg(ticket))
}

fn create(node: &Node, flags: &[&str]) -> String {
    let words: Vec<&str> = ["ticket", "create"].iter().chain(flags).copied().collect();
    node.printed(&words).trim().to_owned()
}

/// The tickets in the list whose state is this.
fn listed(node: &Node, state: &str) -> Vec<Value> {
    let lines = node.printed(&["ticket", "list", "--json"]);
    let tickets = lines.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    tickets.filter(|ticket| ticket["state"] == state).collect()
}

fn id_of(ticket: &str) -> String {
    let shown = run(&mut aspen(["ticket", "show", "--json", ticket])).printed();
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    shown["id"].as_str().expect("an id").to_owned()
}

#[test]
fn what_is_no_ticket_is_told_before_anything_is_made() {
    let (_dir, node) = first();
    let ticket = node.ticket();
    let cut = &ticket[..ticket.len() - 5];
    let client = create(&node, &["--client"]);
    let data = dir();
    let said = |ticket: &str| {
        let tried = try_join_in(data.path(), ticket);
        assert_eq!((tried.code, tried.stdout.as_str()), (2, ""), "{tried:?}");
        assert_eq!(tried.stderr.lines().count(), 1, "{tried:?}");
        tried.stderr
    };
    assert!(said("hello").contains("this is not a ticket of Aspen"));
    assert!(said(cut).contains("the ticket is garbled"));
    assert!(said(&ticket.replace(&ticket[20..24], "!!!!")).contains("the ticket is garbled"));
    assert!(said(&client).contains("this ticket begins with `aspenclient`"));
    assert_eq!(data.path().read_dir().expect("a directory").count(), 0, "nothing was made");
}

#[test]
fn a_ticket_that_was_changed_is_refused_without_asking() {
    let (_dir, node) = first();
    let ticket: JoinTicket = create(&node, &["--role", "learner"]).parse().expect("a ticket");
    let promoted = Invitation { role: Role::Voter, ..*ticket.invitation() };
    let (cluster, peers) = (ticket.cluster().clone(), ticket.peers().to_vec());
    let forged = JoinTicket::new(cluster, peers, promoted, *ticket.signature()).expect("in form");
    try_join(&forged.to_string()).failed_with(
        1,
        "the ticket was tampered with: its signature does not fit; ask for a new one",
    );
    let shown = run(&mut aspen(["ticket", "show", &forged.to_string()]));
    assert_eq!(shown.code, 1, "{shown:?}");
    assert!(shown.stdout.contains("signature  does not fit"), "{shown:?}");
}

#[test]
fn a_ticket_past_its_time_its_uses_or_its_maker_is_refused() {
    let (_dir, node) = first();
    let revoked = create(&node, &[]);
    let once = create(&node, &["--role", "learner"]);
    assert_eq!(
        node.printed(&["ticket", "revoke", &id_of(&revoked)]),
        format!("revoked {}\n", id_of(&revoked))
    );
    try_join(&revoked).failed_with(1, "the ticket was revoked; ask for a new one");

    let second_dir = dir();
    let second = Node::join(second_dir.path(), &once, &[]);
    assert_eq!(second.id(), 2);
    try_join(&once).failed_with(1, "the ticket is used up (1 of 1 uses); ask for a new one");

    // Making another ticket would drop it from the records once its time is over.
    let short = create(&node, &["--expires", "1s"]);
    assert!(until(|| !listed(&node, "expired").is_empty()));
    let late = try_join(&short);
    assert_eq!(late.code, 1, "{late:?}");
    assert!(late.stderr.contains("the ticket expired "), "{late:?}");

    let orphan = create(&second, &[]);
    second.kill();
    node.printed(&["remove", "2"]);
    try_join(&orphan).failed_with(
        1,
        "the member that made the ticket is no longer one; ask another member for a ticket",
    );
    assert_eq!(members(&node), [1]);
}

#[test]
fn a_ticket_for_another_cluster_or_for_nobody_is_refused() {
    let (here_dir, here) = first();
    let (_there_dir, there) = first();
    // A node of one cluster, and the other's ticket.
    let ticket = there.ticket();
    let address = here.address().to_owned();
    let data = here_dir.path().join("data").display().to_string();
    let others: JoinTicket = ticket.parse().expect("a ticket");
    let ours: JoinTicket = here.ticket().parse().expect("a ticket");
    // The other cluster's invitation with our peers: our nodes are asked, and turn it down.
    let mixed = JoinTicket::new(
        others.cluster().clone(),
        ours.peers().to_vec(),
        *others.invitation(),
        *others.signature(),
    );
    let (ours, theirs) = (ours.cluster().id, others.cluster().id);
    try_join(&mixed.expect("in form").to_string()).failed_with(
        1,
        &format!(
            "the ticket is for the cluster {theirs:032x}, and this is {ours:032x}; ask a member \
             for a ticket"
        ),
    );
    drop(here);
    try_join_in(here_dir.path(), &ticket).failed_with(
        1,
        &format!(
            "the data directory {data} belongs to a node of the cluster {ours:032x}, and the \
             ticket is for {theirs:032x}; use another directory"
        ),
    );
    there.kill();
    let nobody = try_join(&ticket);
    assert_eq!(nobody.code, 3, "{nobody:?} {address}");
    assert!(nobody.stderr.contains("can be reached"), "{nobody:?}");
}

#[test]
fn a_ticket_is_made_read_listed_and_revoked() {
    let (_dir, node) = first();
    let made = node.printed(&[
        "--json",
        "ticket",
        "create",
        "--role",
        "learner",
        "--uses",
        "3",
        "--expires",
        "10m",
    ]);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let ticket = made["ticket"].as_str().expect("a ticket");
    assert_eq!((&made["kind"], &made["uses"]), (&"node".into(), &3.into()));

    let shown = run(&mut aspen(["ticket", "show", ticket])).printed();
    assert!(shown.contains("for        a node that becomes a learner"), "{shown}");
    assert!(shown.contains("uses       3\n"), "{shown}");
    let soon = ["expires    in 10m\n", "expires    in 9m\n"];
    assert!(soon.iter().any(|soon| shown.contains(soon)), "{shown}");
    assert!(shown.contains("cluster    lab ("), "{shown}");
    assert!(shown.ends_with("signature  fits\n"), "{shown}");
    assert_eq!(id_of(ticket), made["id"]);

    let list = node.printed(&["ticket", "list"]);
    assert!(list.contains("a learner  good ") && list.contains(" 0 of 3"), "{list}");
    assert!(!list.contains(ticket), "the list is no place for secrets: {list}");
    // The one that the node made when it was ready.
    assert!(list.contains("a voter    good ") && list.contains(" 0, any number"), "{list}");
    node.printed(&["ticket", "revoke", &id_of(ticket)]);
    assert_eq!(listed(&node, "revoked").len(), 1);
    node.run(&["ticket", "revoke", &"0".repeat(32)])
        .refused_as("`aspen ticket list` shows those there are");
    assert_eq!(node.run(&["ticket", "create", "--expires", "999999d"]).code, 1);
    assert_eq!(node.run(&["ticket", "create", "--prefix", "a"]).code, 2);
}

/// Runs a client command by a ticket.
fn by(ticket: &str, arguments: &[&str]) -> Run {
    run(aspen(arguments).env("ASPEN_TICKET", ticket))
}

#[test]
fn a_client_ticket_stands_in_for_a_node() {
    let (_dir, node) = first();
    let ticket = create(&node, &["--client", "--name", "dash"]);
    assert_eq!(by(&ticket, &["put", "a/1", "one"]).printed(), "created at revision 1\n");
    assert_eq!(by(&ticket, &["get", "a/1"]).printed(), "one");
    assert_eq!(by(&ticket, &["range", "a/"]).printed(), "a/1\tone\n");
    let txn = r#"{"then":[{"put":{"key":"a/2","value":"two"}}]}"#;
    assert!(by(&ticket, &["txn", txn]).printed().contains("\"succeeded\":true"));
    let lease = by(&ticket, &["lease", "grant", "1h"]).printed();
    let shown = by(&ticket, &["lease", "show", lease.trim()]).printed();
    assert!(shown.contains("1h"), "{shown}");
    assert_eq!(by(&ticket, &["get", "nothing"]).code, 1);
    assert_eq!(by(&ticket, &["del", "a/1"]).printed(), "deleted 1 key at revision 3\n");
    assert_eq!(node.printed(&["get", "a/2"]), "two");
    let flag = run(&mut aspen(["--ticket", &ticket, "get", "a/2"]));
    assert_eq!(flag.printed(), "two");

    let list = node.printed(&["ticket", "list"]);
    assert!(list.contains("clients: read,write in everything"), "{list}");
    assert!(list.contains("dash"), "{list}");
    run(&mut aspen(["--ticket", &ticket, "members"])).failed_with(
        2,
        "--ticket is for commands on keys, such as put and get; name a node with --node",
    );
    run(&mut aspen(["--ticket", &ticket, "--node", "http://127.0.0.1:1", "get", "a"]))
        .failed_with(2, "give --node or --ticket, not both");
    assert_eq!(by(&node.ticket(), &["get", "a"]).code, 2, "another kind");

    node.printed(&["ticket", "revoke", &id_of(&ticket)]);
    let revoked = by(&ticket, &["get", "a/2"]);
    assert_eq!(revoked.code, 1, "{revoked:?}");
    assert!(revoked.stderr.contains("revoked"), "{revoked:?}");
}

#[test]
fn a_client_ticket_opens_its_keys_and_no_others() {
    let (_dir, node) = first();
    node.printed(&["put", "app/secret", "1"]);
    node.printed(&["put", "other", "2"]);
    let read = create(&node, &["--client", "--prefix", "app/", "--allow", "read"]);
    assert_eq!(by(&read, &["get", "app/secret"]).printed(), "1");
    for denied in [
        &["get", "other"][..],
        &["range"],
        &["put", "app/secret", "3"],
        &["del", "app/secret"],
        &["watch", "--from", "1"],
        &["compact", "1"],
    ] {
        let run = by(&read, denied);
        assert_eq!((run.code, run.stdout.as_str()), (1, ""), "{denied:?}: {run:?}");
        assert!(run.stderr.contains("the ticket "), "{denied:?}: {run:?}");
    }
    assert_eq!(node.printed(&["get", "app/secret"]), "1");
}
