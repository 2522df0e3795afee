//! What every line of a log says besides: which node it is from, and which group and request it is
//! about. Of a cluster through its life: a join, requests, an election, a stop.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Map, Value};

use crate::doors::curl;
use crate::support::{Node, until};

/// All of Aspen, and of the libraries below it whatever they tell from tasks of their own.
const LEVELS: &str = "aspen=debug,openraft=info,iroh=debug,noq=info";

fn start(dir: &Path, format: &str) -> Node {
    Node::start_with(dir, |command| {
        command.args(["--http", "127.0.0.1:0", "--log", LEVELS, "--log-format", format]);
    })
}

/// The lines of a log in JSON, whole ones only: another may be on its way.
fn lines(log: &str) -> Vec<Map<String, Value>> {
    let end = log.rfind('\n').map_or(0, |at| at + 1);
    let line = |line| match serde_json::from_str(line) {
        Ok(Value::Object(line)) => line,
        other => panic!("{line:?} is {other:?}"),
    };
    log[..end].lines().map(line).collect()
}

fn is_of_raft(line: &Map<String, Value>) -> bool {
    let target = line["target"].as_str().expect("a target");
    ["aspen::raft::", "openraft::"].iter().any(|part| target.starts_with(part))
}

/// Whether a node tells of a request that was called so, and each such line at the top.
fn tells_of(node: &Node, id: &str, message: &str) -> bool {
    let log = lines(&node.log());
    let mut about =
        log.iter().filter(|line| Value::Object((*line).clone()).to_string().contains(id));
    about.any(|line| {
        assert_eq!(line.get("request_id"), Some(&id.into()), "{line:?}");
        line.get("message") == Some(&message.into())
    })
}

#[test]
fn every_line_names_its_node_and_the_group_and_the_request_that_it_is_about() {
    let dirs: Vec<_> = (0..3).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let mut nodes = vec![start(dirs[0].path(), "json")];
    for dir in &dirs[1..] {
        let node = Node::joining_with(dir.path(), &nodes[0].ticket(), |command| {
            command.args(["--log", LEVELS, "--log-format", "json"]);
        });
        nodes.push(node.until_ready());
    }
    let url = |node: &Node, key: &str| format!("{}/v1/kv/{key}", node.url());
    let voters = || curl(&[&format!("{}/health", nodes[1].url())]);
    let is_spread =
        || curl(&[&format!("{}?explain", url(&nodes[1], "k"))]).contains("\"leader\":1,");
    assert!(until(is_spread), "{}", voters());
    let named = |id: &str| format!("Aspen-Request-Id: {id}");
    curl(&["-f", "-X", "PUT", "-d", "v", "-H", &named("stored-1"), &url(&nodes[1], "k")]);
    curl(&["-H", &named("missing-1"), &url(&nodes[1], "nowhere")]);
    assert!(until(|| tells_of(&nodes[1], "stored-1", "a request was answered")));
    assert!(until(|| tells_of(&nodes[1], "missing-1", "a request was answered")));
    let answered = "a request of another node was answered";
    assert!(until(|| tells_of(&nodes[0], "stored-1", answered)), "{}", nodes[0].log());

    nodes.remove(0).kill();
    for node in &nodes {
        let put = || {
            let status = ["-X", "PUT", "-d", "v", "-o", "/dev/null", "-w", "%{http_code}"];
            curl(&[&status[..], &[&url(node, "k")]].concat()).starts_with('2')
        };
        assert!(until(put), "{}", node.log());
    }
    let led = || -> BTreeSet<u64> {
        let elected = Value::from("leadership changed");
        let lines = nodes.iter().flat_map(|node| lines(&node.log()));
        let elections = lines.filter(|line| line.get("message") == Some(&elected));
        elections.filter_map(|line| line.get("group").and_then(Value::as_u64)).collect()
    };
    assert!(
        until(|| led() == BTreeSet::from([0, 1])),
        "each group has another leader: {:?}",
        led()
    );
    nodes.iter().for_each(|node| node.signal("TERM"));
    for (at, mut node) in nodes.into_iter().enumerate() {
        let number = at as u64 + 2;
        assert_eq!(node.code(), 0, "{}", node.log());
        let lines = lines(&node.log());
        let known = lines.iter().position(|line| line.contains_key("node")).expect("a number");
        for line in &lines[known..] {
            assert_eq!(line.get("node"), Some(&number.into()), "{line:?}");
        }
        for line in lines.iter().filter(|line| is_of_raft(line)) {
            assert!(line.get("group").is_some_and(Value::is_u64), "{line:?}");
        }
        let has = |target: &str| {
            let is_of = |line: &&Map<String, Value>| {
                line["target"].as_str().is_some_and(|of| of.starts_with(target))
            };
            lines[known..].iter().any(|line| is_of(&line))
        };
        for target in
            ["aspen::raft", "aspen::net", "aspen::http", "openraft", "iroh", "aspen::start"]
        {
            assert!(has(target), "nothing of {target} in {}", node.log());
        }
    }
}

#[test]
fn lines_for_people_name_the_same() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = start(dir.path(), "text");
    let url = format!("{}/v1/kv/k", node.url());
    curl(&["-f", "-X", "PUT", "-d", "v", "-H", "Aspen-Request-Id: mine", &url]);
    node.wait_for_log("request_id=mine");
    node.signal("TERM");
    assert_eq!(node.code(), 0, "{}", node.log());
    let log = node.log();
    let known = log.lines().skip_while(|line| !line.contains(" node=1"));
    for line in known {
        assert_eq!(line.matches(" node=1").count(), 1, "{line:?}");
        if line.contains("aspen::raft::") || line.contains("openraft::") {
            assert_eq!(line.matches(" group=").count(), 1, "{line:?}");
        }
    }
    assert!(log.lines().last().is_some_and(|line| line.contains("stopped node=1")), "{log}");
}
