//! The library's example of a mesh, as the program that it is.

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::lan::{Host, Lan};
use crate::support::until;

const SECRET: &str = "known in this room only";

/// Builds the example, as `cargo test` of the workspace does in any case, and gives its path.
#[track_caller]
fn built() -> PathBuf {
    let aspen = Path::new(env!("CARGO_BIN_EXE_aspen"));
    let outcome = aspen.parent().expect("a directory of a profile");
    let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "--locked", "--example", "lan_mesh", "--target-dir"]);
    cargo.arg(outcome.parent().expect("a target directory"));
    if outcome.ends_with("release") {
        cargo.arg("--release");
    }
    // What cargo tells this test of its package is not for those that are built.
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|of_package| name.starts_with(of_package)) {
            cargo.env_remove(name);
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let done = cargo.current_dir(root).status().expect("cargo runs");
    assert!(done.success(), "the example is not built");
    outcome.join("examples/lan_mesh")
}

/// A copy that runs; killed when dropped.
struct Copy {
    child: Child,
    output: PathBuf,
}

impl Copy {
    #[track_caller]
    fn start(example: &Path, host: &Host, name: &str) -> Self {
        let output = host.disk().path().join("output");
        let mut command = host.space().inside(Command::new(example).args([name, SECRET]));
        command.current_dir(host.disk()).stdin(Stdio::null());
        let file = File::create(&output).expect("a file");
        command.stderr(file.try_clone().expect("a file")).stdout(file);
        Copy { child: command.spawn().expect("the example runs"), output }
    }

    fn printed(&self) -> String {
        fs::read_to_string(&self.output).unwrap_or_default()
    }

    #[track_caller]
    fn wait_for(&self, line: &str) {
        let in_time = until(|| self.printed().lines().any(|printed| printed == line));
        assert!(in_time, "{line:?} is not in what it printed:\n{}", self.printed());
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn copies_of_the_example_greet_each_other_and_come_back() {
    let Some(lan) = Lan::new(3) else { return };
    let example = built();
    let names = ["ada", "ben", "cat"];
    let start = |at: usize| Copy::start(&example, &lan.hosts[at], names[at]);
    let mut copies: Vec<Copy> = (0..3).map(start).collect();
    for (copy, name) in copies.iter().zip(names) {
        copy.wait_for(&format!("{name} looks for the others; 3 are expected"));
        names.iter().for_each(|other| copy.wait_for(&format!("hello from {other}")));
    }
    drop(copies.remove(1));
    copies.insert(1, start(1));
    names.iter().for_each(|other| copies[1].wait_for(&format!("hello from {other}")));
}
