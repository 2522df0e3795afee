//! Every client command against a real node.

use std::io::Write;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Node, Run, aspen, run};

fn node() -> (tempfile::TempDir, Node) {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &["--storage", "memory"]);
    (dir, node)
}

fn json_lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

#[test]
fn a_value_is_stored_read_overwritten_and_deleted() {
    let (_dir, node) = node();
    assert_eq!(node.printed(&["put", "greeting", "hello"]), "created at revision 1\n");
    assert_eq!(node.printed(&["get", "greeting"]), "hello");
    assert_eq!(
        node.printed(&["put", "greeting", "hi", "--prev"]),
        "updated at revision 2\nprevious value: hello\n"
    );
    assert_eq!(node.printed(&["get", "greeting", "--revision", "1"]), "hello");
    assert_eq!(
        json_lines(&node.printed(&["get", "greeting", "--json"])),
        [json!({
            "key": "greeting", "value": "hi", "create_revision": 1, "mod_revision": 2,
            "version": 2, "lease": null, "revision": 2
        })]
    );
    assert_eq!(
        node.printed(&["get", "greeting", "--meta"]),
        "create revision  1\nmod revision     2\nversion          2\nlease            none\n\
         revision         2\n"
    );
    assert_eq!(node.printed(&["del", "greeting"]), "deleted 1 key at revision 3\n");
    assert_eq!(node.printed(&["del", "greeting"]), "nothing was there\n");
    for gone in [&["get", "greeting"][..], &["get", "greeting", "--meta"]] {
        let gone = node.run(gone);
        assert_eq!(gone.code, 1, "{gone:?}");
        assert!(gone.stderr.contains("does not exist"), "{gone:?}");
    }
    for kind in ["linearizable", "lease", "stale"] {
        node.printed(&["range", "--consistency", kind]);
    }
}

#[test]
fn conditions_are_kept_or_refused() {
    let (_dir, node) = node();
    node.printed(&["put", "k", "1", "--if-absent"]);
    let refused = node.run(&["put", "k", "2", "--if-absent"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.stderr.contains("the key is at revision 1"), "{refused:?}");
    node.printed(&["put", "k", "2", "--if-revision", "1"]);
    assert_eq!(node.run(&["put", "k", "3", "--if-revision", "1"]).code, 1);
    assert_eq!(node.run(&["put", "k", "3", "--if-revision", "0"]).code, 1);
    assert_eq!(node.printed(&["get", "k"]), "2");
}

#[test]
fn keys_and_values_of_every_kind_go_in_and_come_out() {
    let (_dir, node) = node();
    let keys = [
        "simple",
        "user@host",
        "a/b//c/",
        "/",
        ".",
        "..",
        "a/../b",
        "with space",
        "你好",
        "🌱",
        "a:b:c",
        "%2F",
        "?#&=+",
        "-dash",
        "tab\tline\n",
    ];
    for key in keys {
        node.printed(&["put", "--", key, key]);
    }
    for key in keys {
        assert_eq!(node.printed(&["get", "--", key]), key);
    }
    assert_eq!(node.printed(&["range", "--count"]), format!("{}\n", keys.len()));
    assert_eq!(node.printed(&["range", "tab"]), "tab\\tline\\n\ttab\\tline\\n\n");

    let value: Vec<u8> = (0..=255).collect();
    let piped = node.piped(&["put", "ff00", "--encoding", "hex"], &value);
    assert_eq!(piped.code, 0, "{piped:?}");
    let got = node.command(&["get", "/wA=", "--encoding", "base64"]).output().expect("it runs");
    assert_eq!(got.stdout, value);
    let listed = node.printed(&["range", "ff", "--encoding", "hex", "--json", "--keys-only"]);
    assert_eq!(json_lines(&listed)[0]["key"], json!({ "base64": "/wA=" }));
}

#[test]
fn values_come_from_arguments_files_and_pipes_up_to_the_limit() {
    let (dir, node) = node();
    let path = dir.path().join("value");
    let whole = "v".repeat(aspen::limits::VALUE_BYTES_MAX);
    crate::support::write_file(&path, &whole);
    let file = path.to_str().expect("text");
    node.printed(&["put", "file", "--file", file]);
    assert!(node.printed(&["get", "file"]) == whole, "all of it");
    assert_eq!(node.piped(&["put", "pipe", "-"], b"piped\n").code, 0);
    assert_eq!(node.printed(&["get", "pipe"]), "piped\n");
    node.printed(&["put", "number", "-5"]);
    assert_eq!(node.printed(&["get", "number"]), "-5");
    node.printed(&["put", "nothing", ""]);
    assert_eq!(node.printed(&["get", "nothing"]), "");
    let over = node.piped(&["put", "over"], &vec![0; whole.len() + 1]);
    over.failed_with(2, "standard input has more than 4194304 bytes, which is the limit");
}

#[test]
fn a_range_is_read_page_by_page() {
    let (_dir, node) = node();
    let put = |n: usize| json!({ "put": { "key": format!("k/{n:04}"), "value": n.to_string() } });
    for start in [0, 900, 1_800] {
        let txn = json!({ "then": (start..start + 900).map(put).collect::<Vec<_>>() });
        assert_eq!(node.piped(&["txn"], txn.to_string().as_bytes()).code, 0);
    }
    let all = node.printed(&["range", "k/", "--keys-only"]);
    let expected: String = (0..2_700).map(|n| format!("k/{n:04}\n")).collect();
    assert!(all == expected, "2,700 keys in order");
    let last = node.printed(&["range", "k/", "--reverse", "--limit", "2"]);
    assert_eq!(last, "k/2699\t2699\nk/2698\t2698\n");
    let some = node.printed(&["range", "--start", "k/0001", "--end", "k/0003"]);
    assert_eq!(some, "k/0001\t1\nk/0002\t2\n");
    assert_eq!(node.printed(&["range", "k/", "--revision", "1", "--count"]), "900\n");
    assert_eq!(
        node.printed(&["del", "--range", "k/0001", "k/0003"]),
        "deleted 2 keys at revision 4\n"
    );
    assert_eq!(
        node.printed(&["del", "--prefix", "k/", "--json"]),
        "{\"deleted\":2698,\"revision\":5}\n"
    );
    assert_eq!(node.printed(&["range"]), "");
}

#[test]
fn a_transaction_is_all_or_nothing() {
    let (_dir, node) = node();
    let txn = r#"{"when":[{"key":"k","version":0}],
        "then":[{"put":{"key":"k","value":"v"}}],"or_else":[{"get":{"key":"k"}}]}"#;
    let first = json_lines(&node.printed(&["txn", txn]));
    assert_eq!((&first[0]["succeeded"], &first[0]["revision"]), (&json!(true), &json!(1)));
    let second = json_lines(&node.printed(&["txn", txn]));
    assert_eq!(second[0]["succeeded"], json!(false));
    assert_eq!(second[0]["answers"][0]["get"]["record"]["value"], json!("v"));
    let wrong = node.run(&["txn", r#"{"than":[]}"#]);
    assert_eq!(wrong.code, 1, "{wrong:?}");
    assert!(wrong.stderr.contains("unknown field `than`"), "{wrong:?}");
}

#[test]
fn a_lease_ends_with_its_keys() {
    let (_dir, node) = node();
    let id = node.printed(&["lease", "grant", "1h"]);
    let id = id.trim_end();
    node.printed(&["put", "worker/1", "up", "--lease", id]);
    let shown = node.printed(&["lease", "show", id]);
    assert!(shown.contains("1h") && shown.contains("worker/1"), "{shown}");
    assert!(node.printed(&["lease", "list"]).contains(&format!("{id}  1h   1")));
    let kept = node.printed(&["lease", "keep-alive", id, "--once"]);
    assert_eq!(kept, format!("{id} lives for another 1h\n"));
    assert_eq!(node.printed(&["lease", "revoke", id]), format!("revoked {id}\n"));
    assert_eq!(node.run(&["get", "worker/1"]).code, 1);
    let gone = node.run(&["lease", "keep-alive", id]);
    gone.failed_with(
        1,
        &format!(
            "lease {id} does not exist or has ended; `aspen lease list` shows those there are"
        ),
    );
    assert_eq!(node.run(&["lease", "grant", "10ms"]).code, 1);
}

#[test]
fn a_watch_prints_changes_in_order_across_a_restart() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let address = node.address().to_owned();
    node.printed(&["put", "a/1", "one"]);
    node.printed(&["put", "b", "elsewhere"]);
    let mut watch = node.following(&["watch", "--prefix", "a/", "--from", "1", "--prev"]);
    assert_eq!(watch.line(), "1\tput\ta/1\tone");
    node.printed(&["put", "a/1", "two"]);
    assert_eq!(watch.line(), "3\tput\ta/1\ttwo\twas one");
    drop(node);
    let node = Node::start_with(dir.path(), |command| {
        command.args(["--http", &address]);
    });
    node.printed(&["del", "a/1"]);
    assert_eq!(watch.line(), "4\tdelete\ta/1\twas two");
}

#[test]
fn history_is_dropped_on_request() {
    let (_dir, node) = node();
    for value in ["1", "2", "3"] {
        node.printed(&["put", "k", value]);
    }
    let done = node.printed(&["compact", "3"]);
    assert_eq!(done, "compacted; history begins at revision 3\n");
    let gone: Run = node.run(&["get", "k", "--revision", "1"]);
    assert_eq!(gone.code, 1, "{gone:?}");
    assert!(gone.stderr.contains("revision 1 was compacted"), "{gone:?}");
    assert_eq!(node.run(&["watch", "--from", "1"]).code, 1);
    assert_eq!(node.run(&["get", "k", "--revision", "99"]).code, 1);
    assert_eq!(node.printed(&["get", "k"]), "3");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_failure() {
    let (_dir, node) = node();
    for n in 0..3 {
        node.printed(&["put", &n.to_string(), &"v".repeat(100_000)]);
    }
    let mut range = node.command(&["range"]);
    let mut child = range.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    drop(child.stdout.take());
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), &ended.stderr[..]), (Some(0), &b""[..]));
}

impl Node {
    /// Runs a client command with these bytes piped in.
    fn piped(&self, arguments: &[&str], input: &[u8]) -> Run {
        let mut command = aspen(arguments);
        command.env("ASPEN_NODE", self.url());
        let path = tempfile::NamedTempFile::new().expect("a file");
        path.as_file().write_all(input).expect("written");
        run(command.stdin(path.reopen().expect("the same file")))
    }
}
