//! `aspen bench` at real nodes: its figures are those of what was done, it keeps its rate, and tells of
//! what went wrong.

use std::process::Stdio;

use serde_json::Value;

use crate::support::{Lines, Node, Run, aspen, at_terminal, run};

fn object(run: Run) -> Value {
    serde_json::from_str(&run.printed()).expect("one JSON object")
}

fn keys(node: &Node, prefix: &str) -> u64 {
    let counted = node.printed(&["range", prefix, "--count", "--json"]);
    let counted: Value = serde_json::from_str(&counted).expect("JSON");
    counted["count"].as_u64().expect("a count")
}

#[test]
fn a_benchs_figures_are_those_of_what_is_stored() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    node.printed(&["put", "aspen-bench/mine", "stays"]);

    // Each write has a key of its own.
    let told = object(node.run(&[
        "bench",
        "--reads",
        "0",
        "--for",
        "1s",
        "--clients",
        "8",
        "--keys",
        "100000000",
        "--keep",
        "--json",
        "--value-size",
        "1KiB",
    ]));
    let done = told["done"].as_u64().expect("a number");
    assert!(done > 0 && told["puts"]["done"] == done && told["gets"]["done"] == 0, "{told}");
    assert_eq!((&told["failed"], &told["puts"]["unknown"]), (&0.into(), &0.into()), "{told}");
    let prefix = told["prefix"].as_str().expect("a prefix");
    assert!(prefix.starts_with("aspen-bench/"), "{prefix}");
    assert_eq!(keys(&node, prefix), done);
    let value = node.printed(&["get", &format!("{prefix}0000000000")]);
    assert_eq!(value.len(), 1_024);
    let rows = told["histogram"].as_array().expect("rows");
    assert_eq!(rows.iter().filter_map(|row| row["count"].as_u64()).sum::<u64>(), done, "{told}");
    let times = &told["puts"]["latency_ms"];
    let order = ["p50", "p90", "p99", "p99_9", "max"].map(|name| times[name].as_f64());
    assert!(order.iter().all(Option::is_some) && order.is_sorted(), "{times}");
    assert!(told["gets"]["latency_ms"].is_null(), "{told}");
    node.printed(&["del", "--prefix", prefix]);

    // Reads find what they ask for, and nothing is left but what was there.
    let told = object(node.run(&[
        "bench",
        "--reads",
        "90",
        "--for",
        "1s",
        "--clients",
        "8",
        "--keys",
        "2000",
        "--json",
    ]));
    let share =
        told["gets"]["done"].as_f64().expect("a number") / told["done"].as_f64().expect("a number");
    assert!((0.75..0.98).contains(&share), "{told}");
    assert_eq!(told["failed"], 0, "{told}");
    assert_eq!(keys(&node, "aspen-bench/"), 1);
    assert_eq!(node.printed(&["get", "aspen-bench/mine"]), "stays");
}

#[test]
fn a_bench_for_people_has_a_line_a_second_and_a_table_and_fits_a_terminal() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    node.printed(&["keyspace", "create", "many", "--shards", "4"]);
    let arguments = ["bench", "--keyspace", "many", "--for", "2500ms", "--clients", "4"];
    let told = node.run(&arguments);
    assert_eq!(told.code, 0, "{told:?}");
    // On a machine that is busy a second may pass without a word.
    let is_line = |line: &str| line.contains(" s  ") && line.contains("/s  p50 ");
    assert!(!told.stderr.is_empty() && told.stderr.lines().all(is_line), "{told:?}");
    assert!(told.stderr.lines().all(|line| line.ends_with(" 0 errors")), "{told:?}");
    for part in ["4 clients, 50 % reads, 10000 keys of 256 bytes for ", "P99.9", "puts", "to "] {
        assert!(told.stdout.contains(part), "{part}: {told:?}");
    }
    assert!(!told.stdout.contains('\u{1b}') && !told.stderr.contains('\u{1b}'), "{told:?}");
    assert_eq!(node.printed(&["range", "--count", "--keyspace", "many"]).trim(), "0");

    // By a ticket, the same without a node's URL.
    let ticket = node.printed(&["ticket", "create", "--client"]);
    let by_ticket =
        run(&mut aspen(["bench", "--for", "1s", "--clients", "4", "--ticket", ticket.trim()]));
    assert_eq!(by_ticket.code, 0, "{by_ticket:?}");

    // At a terminal a bar, which is gone when Ctrl-C has ended the run.
    let drawn =
        at_terminal(80, &node.command(&["bench", "--for", "1h", "--clients", "4"]), "errors");
    assert_eq!(drawn.code, 0, "{drawn:?}");
    assert!(drawn.stdout.contains("[=") || drawn.stdout.contains("[>"), "{drawn:?}");
    assert!(drawn.stdout.contains("interrupted"), "{drawn:?}");
    assert_eq!(keys(&node, "aspen-bench/"), 0);
    let dumb = at_terminal(80, node.command(&["bench", "--for", "1s"]).env("TERM", "dumb"), "");
    assert!(dumb.code == 0 && !dumb.stdout.contains('\u{1b}'), "{dumb:?}");
}

#[test]
fn a_bench_keeps_its_rate() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let told =
        object(node.run(&["bench", "--rate", "50", "--for", "3s", "--clients", "16", "--json"]));
    let done = told["done"].as_u64().expect("a number");
    let not_begun = told["not_begun"].as_u64().expect("a number");
    assert_eq!((done + not_begun, &told["failed"]), (150, &0.into()), "{told}");
    assert!(not_begun < 50, "a store that does nothing else is as fast as that: {told}");

    // One client can't keep this one: what was due and not begun is told, and waiting counts.
    let told =
        object(node.run(&["bench", "--rate", "100000", "--for", "1s", "--clients", "1", "--json"]));
    let due = told["done"].as_u64().zip(told["not_begun"].as_u64()).map(|(done, not)| done + not);
    assert_eq!(due, Some(100_000), "{told}");
    assert!(told["latency_ms"]["max"].as_f64() > Some(500.0), "{told}");
}

#[test]
fn a_bench_tells_of_a_node_that_dies_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    let mut command = node.command(&["bench", "--for", "4s", "--reads", "0", "--timeout", "2s"]);
    command.stderr(Stdio::piped());
    let mut child = command.stdout(Stdio::piped()).spawn().expect("the command runs");
    let lines = Lines::of(child.stderr.take().expect("it is piped"));
    while !lines.next().contains("1 s  ") {}
    node.kill();
    let output = child.wait_with_output().expect("it ends");
    let told = String::from_utf8(output.stdout).expect("text");
    assert!(told.contains("no-connection"), "{told}");
    let code = output.status.code();
    let is_unknown = told.contains("may or may not have been done");
    assert_eq!(code, Some(if is_unknown { 4 } else { 3 }), "{told}");
    let mut said = String::new();
    while !said.contains("aspen del --prefix aspen-bench/") {
        said = lines.next();
    }
}

#[test]
fn a_bench_that_can_not_begin_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    let node = Node::start(dir.path(), &[]);
    node.run(&["bench", "--keyspace", "absent"]).refused_as("absent");
    let long = "p".repeat(aspen::limits::KEY_BYTES_MAX);
    assert_eq!(node.run(&["bench", "--prefix", &long]).code, 2);
    assert_eq!(node.run(&["bench", "--clients", "0"]).code, 2);
    assert_eq!(node.run(&["bench", "--value-size", "5MiB"]).code, 2);
}
