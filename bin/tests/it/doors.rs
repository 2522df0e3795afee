//! The HTTP door as it can be configured: over TCP or a Unix socket, spoken to by the command and
//! by curl.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Node, aspen, run, write_file};

/// What curl prints when it is asked this.
#[track_caller]
fn curl(arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "--max-time", "60"]).args(arguments).output();
    let output = output.expect("curl runs");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "curl {arguments:?}: {told}");
    String::from_utf8(output.stdout).expect("text")
}

/// Starts a node whose door is a socket in its directory.
fn start_at_socket(dir: &Path) -> Node {
    let http = format!("unix:{}", dir.join("http.sock").display());
    Node::start_with(dir, |command| {
        command.args(["--http", &http]);
    })
}

#[test]
fn curl_speaks_either_http() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let key = format!("{}/v1/kv/greeting", node.url());
    let versions = ["-w", "%{http_version}", "-o", "/dev/null"];
    for (flag, version) in [("--http1.1", "1.1"), ("--http2-prior-knowledge", "2")] {
        let put = [&versions[..], &[flag, "-X", "PUT", "-d", version, &key]].concat();
        assert_eq!(curl(&put), version);
        assert_eq!(curl(&[flag, &key]), version);
    }
}

#[test]
fn a_node_serves_at_a_socket_of_its_own() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("http.sock");
    let path = socket.to_str().expect("text");
    let mut node = start_at_socket(dir.path());
    assert_eq!(node.url(), format!("unix:{path}"));
    let mode = std::fs::metadata(&socket).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    node.printed(&["put", "greeting", "hello"]);
    assert_eq!(node.printed(&["get", "greeting"]), "hello");
    assert!(node.printed(&["status"]).contains("healthy"));
    assert!(node.printed(&["members"]).contains("voter"));
    let of_curl = ["--unix-socket", path, "http://node/v1/kv/greeting"];
    assert_eq!(curl(&of_curl), "hello");
    assert_eq!(curl(&[&["--http2-prior-knowledge"][..], &of_curl].concat()), "hello");
    let mut watch = node.following(&["watch", "--prefix", "", "--from", "1"]);
    assert!(watch.line().contains("greeting"));

    // Somebody else finds it taken.
    let other = tempfile::tempdir().expect("a directory");
    let mut second = aspen(["start", "--reach", "loopback", "--log", "off", "--http"]);
    second.arg(format!("unix:{path}")).arg("--data-dir").arg(other.path());
    run(&mut second).failed_with(
        1,
        &format!(
            "can't listen for HTTP on the socket {path}: another process serves it; stop that or \
             choose another path"
        ),
    );
    node.signal("TERM");
    assert_eq!(node.code(), 0);
    assert!(!socket.exists(), "it is removed");
    run(&mut node.command(&["get", "greeting"])).failed_with(
        3,
        &format!(
            "no node answers at unix:{path} (no such file or directory); start one with `aspen \
             start`, or name another with --node"
        ),
    );
}

#[test]
fn a_dead_nodes_socket_is_taken_over_and_nothing_else_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let socket = dir.path().join("http.sock");
    let node = start_at_socket(dir.path());
    node.printed(&["put", "greeting", "hello"]);
    node.kill();
    assert!(socket.exists());
    let node = start_at_socket(dir.path());
    assert_eq!(node.printed(&["get", "greeting"]), "hello");
    drop(node);

    let file = dir.path().join("notes");
    write_file(&file, "mine");
    let mut start = aspen(["start", "--reach", "loopback", "--log", "off", "--http"]);
    start.arg(format!("unix:{}", file.display())).arg("--data-dir").arg(dir.path().join("data"));
    run(&mut start).refused_as("there is a file of another kind; choose another path");
    assert_eq!(std::fs::read_to_string(&file).expect("it is there"), "mine");
}
