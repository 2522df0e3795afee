//! The HTTP API as a program in another language finds it: `bin/tests/conformance.py`, against three
//! processes.

use std::path::Path;
use std::process::Command;

use crate::shards::Nodes;
use crate::support::run;

#[test]
fn every_endpoint_is_as_it_is_documented() {
    let nodes = Nodes::start(3, &[]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut script = Command::new("python3");
    script.arg(root.join("tests/conformance.py")).arg(root.join("../docs/http.md"));
    script.args(nodes.all().map(|node| node.url()));
    let done = run(&mut script);
    assert_eq!(done.code, 0, "{}{}", done.stdout, done.stderr);
    println!("{}", done.stdout);
}
