//! The HTTP door as it can be configured: over TCP or a Unix socket, spoken to by the command and
//! by curl.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Node, aspen, run, until, write_file};

/// What curl prints when it is asked this.
#[track_caller]
pub(crate) fn curl(arguments: &[&str]) -> String {
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

#[test]
fn long_text_is_sent_in_gzip_to_those_who_read_it_and_nothing_else_is() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let long = "0123456789".repeat(1_000);
    for n in 0..300 {
        node.printed(&["put", &format!("k{n}"), &long]);
    }
    let coded = |path: &str, accept: &[&str]| {
        let url = format!("{}{path}", node.url());
        let asked = [&["-D", "-", "-o", "/dev/null"][..], accept, &[&url]].concat();
        let head = curl(&asked).to_ascii_lowercase();
        (head.contains("content-encoding: gzip"), head.contains("vary: accept-encoding"))
    };
    let gzip = ["-H", "Accept-Encoding: br, gzip"];
    for path in ["/v1/kv", "/v1/kv?keys_only", "/metrics"] {
        assert_eq!(coded(path, &gzip), (true, true), "{path}");
        assert_eq!(coded(path, &[]), (false, true), "{path}");
        assert_eq!(coded(path, &["-H", "Accept-Encoding: gzip;q=0"]), (false, true), "{path}");
    }
    for path in ["/v1/kv/k1", "/livez", "/v1/kv?limit=1&keys_only", "/v1/kv/none"] {
        assert_eq!(coded(path, &gzip), (false, false), "{path}");
    }
    for (path, accept) in
        [("/v1/kv", "application/json"), ("/v1/kv", "application/x-ndjson"), ("/v1/kv/k1", "*/*")]
    {
        let (url, accept) = (format!("{}{path}", node.url()), format!("Accept: {accept}"));
        let plain = curl(&["-H", &accept, &url]);
        assert!(plain.len() >= long.len());
        for version in ["--http1.1", "--http2-prior-knowledge"] {
            assert!(plain == curl(&[version, "--compressed", "-H", &accept, &url]), "{accept}");
        }
    }
}

#[test]
fn pages_of_no_origin_but_those_that_are_named_may_use_the_door() {
    let dir = tempfile::tempdir().expect("a directory");
    let allowing = |flags: &[&str], origin: &str| {
        let node = Node::start(dir.path(), flags);
        let key = format!("{}/v1/kv/k", node.url());
        let origin = format!("Origin: {origin}");
        let page = ["-D", "-", "-o", "/dev/null", "-H", &origin];
        let get = curl(&[&page[..], &[&key]].concat()).to_ascii_lowercase();
        let method = "Access-Control-Request-Method: PUT";
        let before = curl(&[&page[..], &["-X", "OPTIONS", "-H", method, &key]].concat());
        let before = before.to_ascii_lowercase();
        let is_allowed = get.contains("access-control-allow-origin: ");
        assert_eq!(is_allowed, before.starts_with("http/1.1 204"), "{before}");
        assert_eq!(is_allowed, before.contains("access-control-allow-methods: get, head, put,"));
        let told = |head: &str| {
            let line =
                head.lines().find_map(|line| line.strip_prefix("access-control-allow-origin: "));
            line.map(str::to_owned)
        };
        assert_eq!(told(&get), told(&before));
        (told(&get), get.contains("vary: origin"))
    };
    let (app, other) = ("https://app.example", "https://other.example");
    assert_eq!(allowing(&[], app), (None, false));
    let named = ["--http-cors", app, "--http-cors", "http://localhost:3000"];
    assert_eq!(allowing(&named, app), (Some(app.to_owned()), true));
    let local = "http://localhost:3000";
    assert_eq!(allowing(&named, local), (Some(local.to_owned()), true));
    assert_eq!(allowing(&named, other), (None, true));
    assert_eq!(allowing(&["--http-cors", "*"], other), (Some("*".to_owned()), false));
    for bad in [&["--http-cors", "*", "--http-cors", app][..], &["--http-cors", "app.example"]] {
        let run = run(&mut aspen([&["start"], bad].concat()));
        assert!(run.stderr.contains("--http-cors can't be"), "{run:?}");
        assert!(run.stderr.contains("or * alone for all"), "{run:?}");
        assert_eq!(run.code, 2);
    }
}

/// The name of a request in the head of its answer.
fn name_of(head: &str) -> String {
    let named = head.lines().filter_map(|line| line.split_once(": "));
    let mut named = named.filter(|(name, _)| name.eq_ignore_ascii_case("aspen-request-id"));
    let (_, id) = named.next().unwrap_or_else(|| panic!("no name in {head}"));
    assert!(named.next().is_none(), "{head}");
    id.trim().to_owned()
}

#[test]
fn a_request_has_a_name_in_its_answer_and_in_the_log() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start_with(dir.path(), |command| {
        command.args(["--http", "127.0.0.1:0", "--log", "aspen=debug", "--log-format", "json"]);
    });
    let head = |arguments: &[&str], path: &str| {
        let url = format!("{}{path}", node.url());
        curl(&[&["-D", "-", "-o", "/dev/null"][..], arguments, &[&url]].concat())
    };
    let long = "x".repeat(128);
    for given in ["mine", "~{!}", &long] {
        let header = format!("Aspen-Request-Id: {given}");
        for path in ["/livez", "/v1/kv/distinctive", "/nowhere", "/v1/kv?limit=0"] {
            assert_eq!(name_of(&head(&["-H", &header], path)), given, "{path}");
        }
        assert_eq!(name_of(&head(&["-H", &header, "-X", "PATCH"], "/livez")), given);
    }
    let (long, mut made) = (format!("Aspen-Request-Id: {long}x"), Vec::new());
    for bad in ["X: y", "Aspen-Request-Id: a b", "Aspen-Request-Id: ä", "Aspen-Request-Id;", &long]
    {
        made.push(name_of(&head(&["-H", bad], "/livez")));
        made.push(name_of(&head(&["--http2-prior-knowledge", "-H", bad], "/livez")));
    }
    assert!(made.iter().all(|id| id.len() < 40 && id.bytes().all(|byte| byte.is_ascii_graphic())));
    made.sort();
    made.dedup();
    assert_eq!(made.len(), 10, "each is another one");
    let line = || {
        let log = node.log();
        let lines = log.lines().filter(|line| line.contains("\"mine\"")).collect::<Vec<_>>();
        lines
            .iter()
            .any(|line| line.contains("a request was answered") && line.contains("\"status\":404"))
    };
    assert!(until(line), "{}", node.log());
    assert!(!node.log().contains("distinctive"), "what is asked for is not told");
}

/// Starts a node that logs all, as this build or another, and one that joins it; asks the latter, again
/// and again until the former has answered in its place, and says whether that knew the name.
fn is_named_at_the_leader(build: Option<&str>) -> bool {
    let (first, second) = (tempfile::tempdir().expect("one"), tempfile::tempdir().expect("other"));
    let leader = Node::start_with(first.path(), |command| {
        command.args(["--http", "127.0.0.1:0", "--log", "aspen=debug", "--log-format", "json"]);
        if let Some(build) = build {
            command.env("FAILPOINT_VERSION", build);
        }
    });
    let other = Node::join(second.path(), &leader.ticket(), &[]);
    let (key, header) = (format!("{}/v1/kv/k", other.url()), "Aspen-Request-Id: across-1");
    let is_led = || curl(&[&format!("{key}?explain")]).contains("\"leader\":1,");
    for _ in 0..10 {
        assert!(until(is_led), "{}", leader.log());
        curl(&["-f", "-X", "PUT", "-d", "v", "-H", header, &key]);
    }
    assert!(is_led());
    let log = leader.log();
    let mut lines = log.lines().filter(|line| line.contains("across-1"));
    lines.any(|line| line.contains("a request of another node was answered"))
}

#[test]
fn a_requests_name_goes_along_to_the_leader_if_its_build_reads_names() {
    assert!(is_named_at_the_leader(None));
    assert!(!is_named_at_the_leader(Some("0.1.0")));
}
