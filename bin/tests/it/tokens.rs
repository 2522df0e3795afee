//! Tokens through the real command: the owner's, those that are made with it, and nodes and clusters
//! that change nothing.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde_json::Value;

use crate::support::{Node, aspen, run, until, write_file};

const ASKS: &[&str] = &["--auth", "required"];

/// A cluster of three nodes that ask for tokens, and where the first one's owner's is.
fn three(dir: &Path) -> ([Node; 3], String) {
    let at = |name: &str| {
        let dir = dir.join(name);
        fs::create_dir(&dir).expect("a directory");
        dir
    };
    let first = Node::start(&at("1"), ASKS);
    let file = first.ready()["token_file"].as_str().expect("it says where it is").to_owned();
    let owned = ["--token-file", &file];
    let join = |name: &str| {
        let ticket = first.printed(&[&owned[..], &["ticket", "create"]].concat());
        Node::join(&at(name), ticket.trim(), ASKS)
    };
    let (second, third) = (join("2"), join("3"));
    ([first, second, third], file)
}

#[test]
fn a_token_is_good_at_every_node_at_once_until_it_is_revoked() {
    let dir = tempfile::tempdir().expect("a directory");
    let (nodes, file) = three(dir.path());
    let [first, second, third] = &nodes;
    let mode = fs::metadata(&file).expect("the owner's token").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    second.run(&["put", "k", "v"]).refused_as("this node asks for a token");
    // The owner of one node is not that of another.
    second
        .run(&["--token-file", &file, "put", "k", "v"])
        .refused_as("the token is not one of this");

    let owner = ["--token-file", &file];
    let create = ["token", "create", "--allow", "read", "--prefix", "app/", "--name", "dashboard"];
    first.printed(&[&owner[..], &["put", "app/a", "1"]].concat());
    for _ in 0..10 {
        let token = first.printed(&[&owner[..], &create].concat());
        let token = ["--token", token.trim()];
        // Made a moment ago elsewhere.
        for node in [third, second] {
            assert_eq!(node.printed(&[&token[..], &["get", "app/a"]].concat()), "1");
        }
        second
            .run(&[&token[..], &["put", "app/a", "2"]].concat())
            .refused_as("does not allow to write");
        third.run(&[&token[..], &["get", "b"]].concat()).refused_as("is for other keys");
        third.run(&[&token[..], &["members"]].concat()).refused_as("may read everything");
    }
    let list = first.printed(&[&owner[..], &["token", "list"]].concat());
    assert_eq!(list.matches("read in default:app/").count(), 10, "{list}");
    let made = first.printed(&[&owner[..], &["--json"], &create].concat());
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let token = ["--token", made["token"].as_str().expect("a token")];
    let id = made["id"].as_str().expect("an id");
    assert_eq!(third.printed(&[&token[..], &["get", "app/a"]].concat()), "1");
    first.printed(&[&owner[..], &["token", "revoke", id]].concat());
    let get = [&token[..], &["get", "app/a"]].concat();
    assert!(until(|| third.run(&get).code == 1), "a revoked token goes on");
    third.run(&get).refused_as("was revoked");
    third.wait_for_log("aspen::audit");
    let log = third.log();
    assert!(log.contains("(dashboard)") && log.contains("getKey"), "{log}");
    assert!(!log.contains("app/a") && !log.contains(token[1]), "{log}");
}

#[test]
fn a_change_whose_asker_leaves_before_the_answer_is_told_all_the_same() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let first = Node::start(dirs[0].path(), &[]);
    let second = Node::join(dirs[1].path(), &first.ticket(), &[]);
    // Without the one whose vote counts nothing is answered soon.
    first.kill();
    let body = r#"{"allow": ["read"]}"#;
    let head = format!(
        "POST /v1/tokens HTTP/1.1\r\nhost: node\r\nexpect: 100-continue\r\n\
         aspen-request-id: given-up\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    let mut asker = TcpStream::connect(second.address()).expect("connected");
    asker.write_all(head.as_bytes()).expect("sent");
    // From then on it is worked on.
    let mut told = [0; "HTTP/1.1 100 Continue\r\n\r\n".len()];
    asker.read_exact(&mut told).expect("it goes on");
    asker.write_all(body.as_bytes()).expect("sent");
    drop(asker);
    second.wait_for_log("gone before the answer");
    let log = second.log();
    let line = log.lines().find(|line| line.contains("gone before")).expect("it is there");
    for part in ["aspen::audit", "anybody", "createToken", "/v1/tokens", "given-up"] {
        assert!(line.contains(part), "{part} is not in {line}");
    }
    assert!(!log.contains("a change of the cluster was asked for"), "{log}");
}

#[test]
fn the_owners_token_stays_until_its_file_is_deleted() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("data/owner.token");
    let token = || fs::read_to_string(&file).expect("it is there");
    let node = Node::start(dir.path(), ASKS);
    let before = token();
    node.kill();
    let node = Node::start(dir.path(), ASKS);
    assert_eq!(token(), before);
    node.kill();
    fs::remove_file(&file).expect("it was there");
    let node = Node::start(dir.path(), ASKS);
    assert_ne!(token(), before);
    node.run(&["--token", before.trim(), "get", "k"]).refused_as("not one of this cluster");
    node.printed(&["--token-file", &file.display().to_string(), "put", "k", "v"]);
}

#[test]
fn a_token_that_is_none_is_told_without_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut given = aspen(["get", "k", "--token", "aspentokenabc"]);
    run(&mut given)
        .failed_with(2, "the token is not a whole one: copy all of it, from aspentoken on");
    let file = dir.path().join("token");
    write_file(&file, "aspentokenabc");
    let mut in_file = aspen(["get", "k", "--token-file"]);
    in_file.arg(&file);
    run(&mut in_file).failed_with(2, &format!("{}: there is no token in it", file.display()));
    let mut both = aspen(["get", "k", "--token", "a", "--token-file", "b"]);
    run(&mut both).failed_with(2, "--token and --token-file are both given; give one of them");
}

#[test]
fn http_that_others_reach_asks_for_tokens_or_says_that_it_does_not() {
    let start =
        |flags: &[&str]| run(&mut aspen([&["start", "--reach", "loopback"], flags].concat()));
    start(&["--http", "0.0.0.0:0"]).failed_with(
        2,
        "http is at an address that others reach, and asks nobody who they are: ask for tokens with \
         --auth required, or let everybody in with --insecure",
    );
    start(&["--auth", "required", "--insecure"])
        .failed_with(2, "auth asks for tokens and insecure does not: drop one of the two");
}

#[test]
fn a_node_or_a_cluster_that_is_read_only_shows_everything_and_changes_nothing() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let first = Node::start(dirs[0].path(), &[]);
    let second = Node::join(dirs[1].path(), &first.ticket(), &["--read-only"]);
    first.printed(&["put", "k", "v"]);
    let of_node = "this node is read-only; ask another one";
    for change in [
        &["put", "k", "w"][..],
        &["del", "k"],
        &["lease", "grant", "10s"],
        &["settings", "set", "lost-after", "10m"],
        &["ticket", "create"],
        &["keyspace", "create", "more"],
        &["leave"],
    ] {
        second.run(change).refused_as(of_node);
    }
    assert_eq!(second.printed(&["get", "k"]), "v");
    second.printed(&["members"]);
    let ticket = first.printed(&["ticket", "create", "--client"]);
    first.printed(&["settings", "set", "read-only", "on"]);
    let of_cluster = "the cluster is read-only; `aspen settings set read-only off` ends that";
    for change in [&["put", "k", "w"][..], &["del", "--prefix", ""], &["lease", "grant", "10s"]] {
        first.run(change).refused_as(of_cluster);
    }
    let mut by_ticket = aspen(["put", "k", "w", "--ticket", ticket.trim()]);
    run(&mut by_ticket).refused_as("read-only");
    assert_eq!(first.printed(&["get", "k"]), "v");
    first.printed(&["settings", "set", "read-only", "off"]);
    first.printed(&["put", "k", "w"]);
}
