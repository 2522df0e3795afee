//! A node's life: what it prints, what stops it from starting, and how it stops.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use serde_json::json;
use tokio::time::Instant;

use crate::http::Http;
use crate::metrics::counted;
use crate::support::{Asking, Node, aspen, run, until, write_file};

/// How long an orderly stop may take, and a little for the process around it.
const STOP_MAX: Duration = Duration::from_secs(6);

#[test]
fn a_ready_node_says_where_it_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &["--node-id", "3", "--name", "lab"]);
    let ready = node.ready();
    assert!(node.told().starts_with("{\"event\":\"ready\",\"node_id\":3,"), "{}", node.told());
    assert_eq!(ready["node_id"], 3);
    assert!(ready["http"].as_str().expect("a URL").starts_with("http://127.0.0.1:"), "{ready}");
    assert_eq!(ready["cluster_id"].as_str().expect("an id").len(), 32, "{ready}");
    assert!(!ready["endpoint_id"].as_str().expect("an id").is_empty(), "{ready}");
    assert!(ready["data_dir"].as_str().expect("a path").ends_with("data"), "{ready}");
    let status = node.printed(&["status"]);
    // How full the disk of the machine is decides between healthy and degraded.
    assert!(status.contains("lab (") && status.contains(", ready"), "{status}");
}

#[test]
fn a_node_told_to_stop_ends_in_order_and_starts_again_with_its_data() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut identity = None;
    for (round, signal) in ["TERM", "INT", "TERM"].into_iter().enumerate() {
        let mut node = Node::start(dir.path(), &[]);
        let ready = node.ready();
        let same = (ready["endpoint_id"].clone(), ready["cluster_id"].clone());
        assert_eq!(identity.get_or_insert_with(|| same.clone()), &same);
        node.printed(&["put", &format!("round/{round}"), signal]);
        let kept = node.printed(&["range", "round/", "--count"]);
        assert_eq!(kept, format!("{}\n", round + 1));
        let asked = Instant::now();
        node.signal(signal);
        assert_eq!(node.code(), 0);
        assert!(asked.elapsed() < STOP_MAX, "it took {:?}", asked.elapsed());
    }
}

#[test]
fn what_clients_may_ask_is_set_and_what_is_off_is_said() {
    let dir = tempfile::tempdir().expect("a directory");
    let asking = Asking::new();
    let node = Node::start(dir.path(), &["--http-at-once", "off"]);
    for name in ["http-rate", "http-at-once"] {
        node.wait_for_log(&format!("{name} is off"));
    }
    let limits = asking.get(&node, "/health")["limits"].take();
    assert_eq!(limits, json!({"http-rate": null, "http-at-once": null}));
    drop(node);
    let node = Node::start(dir.path(), &["--http-rate", "1"]);
    let mut told = node.run(&["get", "k"]);
    // One a second, and this takes less.
    assert!(until(|| {
        told = node.run(&["put", "k", "v", "--timeout", "1s"]);
        told.code != 0
    }));
    assert!(told.stderr.contains("the rate of requests of your address"), "{told:?}");
    assert!(counted(&node, "aspen_http_refused_total") >= 1.0);
    assert!(!node.log().contains("http-rate is off"));
}

#[test]
fn clients_leave_a_node_the_files_that_it_needs() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_with_files(dir.path(), 256);
    node.wait_for_log("so few HTTP connections are taken; let it have 17408");
    let mut first = Http::to(node.url());
    let asking = Asking::new();
    asking.put(&mut first, "/v1/kv/k", "before");
    // More than it may have files; those that find no place wait.
    let strangers: Vec<TcpStream> =
        (0..300).map(|_| TcpStream::connect(node.address()).expect("connected")).collect();
    for round in 0..20 {
        asking.put(&mut first, &format!("/v1/kv/{round}"), "meanwhile");
    }
    assert!(!node.log().contains("could not be accepted"), "{}", node.log());
    drop(strangers);
    node.printed(&["put", "k", "afterwards"]);
    assert!(counted(&node, "aspen_http_connection_waits_total") >= 1.0);
}

#[test]
fn a_second_signal_ends_a_stop_that_takes_its_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start(dir.path(), &[]);
    // A request that never ends keeps an orderly stop waiting.
    let mut slow = TcpStream::connect(node.address()).expect("connected");
    let head = "PUT /v1/kv/k HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\nhalf";
    slow.write_all(head.as_bytes()).expect("sent");
    node.printed(&["status"]);
    node.signal("INT");
    node.wait_for_log("stopping");
    node.signal("TERM");
    assert_eq!(node.code(), 128 + 15);
}

#[test]
fn what_stops_a_start_is_one_sentence() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let data = dir.path().join("data");
    let start = |data: &std::path::Path, http: &str, more: &[&str]| {
        let mut command = aspen(["start", "--reach", "loopback", "--log", "off", "--http", http]);
        run(command.arg("--data-dir").arg(data).args(more))
    };
    start(&data, "off", &[]).failed_with(
        1,
        &format!(
            "the data directory {} is in use by another node; stop that one or choose another \
             directory",
            data.display()
        ),
    );
    let other = dir.path().join("other");
    let taken = start(&other, node.address(), &[]);
    assert_eq!(taken.code, 1, "{taken:?}");
    assert!(taken.stderr.contains(node.address()), "{taken:?}");
    assert_eq!(taken.stderr.lines().count(), 1, "{taken:?}");

    let file = dir.path().join("file");
    write_file(&file, "not a directory");
    let blocked = start(&file.join("data"), "off", &[]);
    assert_eq!(blocked.code, 1, "{blocked:?}");
    assert!(blocked.stderr.contains("can't be used"), "{blocked:?}");
    assert_eq!(blocked.stderr.lines().count(), 1, "{blocked:?}");

    drop(node);
    start(&data, "off", &["--node-id", "4"]).failed_with(
        1,
        &format!(
            "the data directory {} belongs to node 1, not 4; use node 1 or another directory",
            data.display()
        ),
    );
}

#[test]
fn a_person_is_told_what_to_do_next() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_for_people(dir.path(), &[]);
    let told = node.told();
    let lines: Vec<&str> = told.lines().collect();
    let [cluster, id, endpoint, http, data, join, next, stop] = lines[..] else { panic!("{told}") };
    assert!(cluster.starts_with("cluster   aspen ("), "{told}");
    assert_eq!(id, "node      1");
    assert!(endpoint.starts_with("endpoint  "), "{told}");
    let url = http.strip_prefix("http      ").expect("a URL");
    let kept = std::path::absolute(dir.path().join("data")).expect("a path");
    assert_eq!(data, format!("data      {}", kept.display()));
    assert!(join.starts_with("join      aspen join aspen"), "{told}");
    assert_eq!(next, format!("try       aspen --node {url} put greeting hello"));
    assert_eq!(stop, "stop      Ctrl-C");
    let done = run(&mut aspen(["--node", url, "put", "greeting", "hello"]));
    assert_eq!(done.printed(), "created at revision 1\n");
}

#[test]
fn settings_of_the_file_reach_the_node() {
    let dir = tempfile::tempdir().expect("a directory");
    let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a port");
    let file = dir.path().join("aspen.toml");
    write_file(&file, &format!("storage = \"memory\"\nhttp = \"{free}\"\nname = \"lab\"\n"));
    let node = Node::start_with(dir.path(), |command| {
        command.arg("--config").arg(&file).args(["--log-format", "json"]).env("ASPEN_LOG", "info");
    });
    assert_eq!(node.address(), free.to_string());
    assert!(node.printed(&["status"]).contains("lab ("));
    assert!(node.ready()["data_dir"].is_null(), "nothing is kept: {}", node.told());
    node.wait_for_log("{\"timestamp\":");
}
