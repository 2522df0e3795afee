//! Runs every shell line of README.md, in order, in one shell.
//!
//! The lines of a ```` ```sh ```` block are executed as they stand, and a ```` ```text ```` block
//! after it is what they must have printed, where `…` stands for anything within a line. A line
//! that starts a node is put in the background and waited for until the node is ready; at the end
//! it is stopped by SIGTERM and must end well. The line that is the test command is passed over:
//! it is what runs this.
//!
//! In an ordinary test run the release build of the README is exchanged for the one under test,
//! its port for a free one, and its data directory for one of the test's own. With
//! `ASPEN_README=exact` the lines run literally, at the root of the workspace, in a data directory
//! of the test's own.

use std::fmt::Write;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::Instant;

/// Literally run, the README builds the release first.
const DEADLINE: Duration = Duration::from_secs(900);

const TEST_COMMAND: &str = "cargo test";
const START_BUILD: &str = "cargo run --release --";
const DEFAULT_ADDRESS: &str = "127.0.0.1:4680";

/// What the shell lines stand on: a failure names the line of the README, for the script has the
/// README's own line numbers.
const PREAMBLE: &str = r#"
set -Eeuo pipefail
node=
trap 'echo "README.md:$LINENO: exit status $?" >&2' ERR
trap '[ -z "$node" ] || kill -KILL "$node" 2>/dev/null || true' EXIT
started() {
    until curl -fs -o /dev/null "http://$README_ADDRESS/readyz"; do
        kill -0 "$node" || { echo "the node ended before it was ready" >&2; return 1; }
        sleep 0.05
    done
}
stopped() {
    [ -n "$node" ] || return 0
    kill -TERM "$node"
    wait "$node"
    node=
}
"#;

#[derive(Debug, PartialEq, Eq)]
struct Block {
    /// `sh`, `text`, …
    language: String,
    /// The line of its opening fence, from 1.
    line: usize,
    lines: Vec<String>,
}

fn blocks(readme: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut open: Option<Block> = None;
    for (at, line) in readme.lines().enumerate() {
        match (line.strip_prefix("```"), &mut open) {
            (Some(language), None) => {
                let language = language.trim().to_owned();
                open = Some(Block { language, line: at + 1, lines: Vec::new() });
            }
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some(block)) => block.lines.push(line.to_owned()),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "README.md: a block is not closed: {open:?}");
    blocks
}

/// A script with the line numbers of the README, which announces each block before it.
fn script(blocks: &[Block]) -> String {
    let mut script = String::new();
    let mut line = 1;
    for block in blocks.iter().filter(|block| block.language == "sh") {
        while line < block.line {
            script.push('\n');
            line += 1;
        }
        writeln!(script, "printf '\\n{}\\n'", marker(block)).expect("a string takes all");
        line += 1;
        for text in &block.lines {
            if text == TEST_COMMAND {
                script.push(':');
            } else if text.ends_with(" start") || text.contains(" start ") {
                write!(script, "{text} >\"$README_LOG\" 2>&1 & node=$!; started")
                    .expect("a string takes all");
            } else {
                script.push_str(text);
            }
            script.push('\n');
            line += 1;
        }
    }
    script.push_str("stopped\n");
    script
}

fn marker(block: &Block) -> String {
    format!("== README.md:{}", block.line)
}

/// What the block printed, out of all that was.
fn printed<'a>(output: &'a str, block: &Block) -> &'a str {
    let marker = format!("\n{}\n", marker(block));
    let from = output.find(&marker).map_or(output.len(), |at| at + marker.len());
    let rest = &output[from..];
    &rest[..rest.find("\n== README.md:").unwrap_or(rest.len())]
}

/// Whether a line is as expected; `…` stands for anything.
fn line_fits(expected: &str, line: &str) -> bool {
    let mut pieces = expected.split('…');
    let first = pieces.next().unwrap_or_default();
    let Some(mut rest) = line.strip_prefix(first) else { return false };
    let pieces: Vec<&str> = pieces.collect();
    let Some((last, between)) = pieces.split_last() else { return rest.is_empty() };
    for piece in between {
        let Some(at) = rest.find(piece) else { return false };
        rest = &rest[at + piece.len()..];
    }
    rest.ends_with(last)
}

fn fits(expected: &[String], printed: &str) -> bool {
    let printed: Vec<&str> = printed.trim_end().lines().map(str::trim_end).collect();
    printed.len() == expected.len()
        && expected.iter().zip(printed).all(|(expected, line)| line_fits(expected, line))
}

/// Ends with all that it started, however the test ends.
struct Shell(Child);

impl Drop for Shell {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(Some(_))) {
            return;
        }
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args(["-KILL", "--", &group]).status();
        let _ = self.0.wait();
    }
}

#[test]
fn every_shell_line_of_the_readme_works() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("bin/ is in the workspace");
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md is there");
    let exact = std::env::var("ASPEN_README").is_ok_and(|mode| mode == "exact");
    let work = tempfile::tempdir().expect("a directory for the test");
    let blocks = blocks(&readme);

    let mut lines = script(&blocks);
    let mut address = DEFAULT_ADDRESS.to_owned();
    if !exact {
        let built = Path::new(env!("CARGO_BIN_EXE_aspen"));
        let folder = built.parent().expect("a program is in a folder").display().to_string();
        address = free_address();
        lines = lines
            .replace(START_BUILD, &built.display().to_string())
            .replace("$PWD/target/release", &folder)
            .replace(DEFAULT_ADDRESS, &address);
    }

    let script = work.path().join("readme.sh");
    write(&script, &lines);
    let output = work.path().join("output");
    let errors = work.path().join("errors");
    let log = work.path().join("node.log");
    let mut command = Command::new("bash");
    // What the outer cargo tells a test would make the inner one build everything anew, and what
    // tests are told is no setting of a node.
    for (name, _) in std::env::vars() {
        if ["CARGO_PKG_", "CARGO_BIN_", "CARGO_MANIFEST_", "ASPEN_"]
            .iter()
            .any(|prefix| name.starts_with(prefix))
        {
            command.env_remove(name);
        }
    }
    command
        .args(["-c", &format!("{PREAMBLE}\nsource \"$0\""), &script.display().to_string()])
        .current_dir(if exact { root } else { work.path() })
        .env("README_ADDRESS", &address)
        .env("README_LOG", &log)
        .env("ASPEN_REACH", "loopback")
        .env("ASPEN_DATA_DIR", work.path().join("data"))
        .stdin(Stdio::null())
        .stdout(std::fs::File::create(&output).expect("a file for the output"))
        .stderr(std::fs::File::create(&errors).expect("a file for the errors"))
        .process_group(0);
    if !exact {
        command.env("ASPEN_HTTP", &address).env("ASPEN_NODE", format!("http://{address}"));
    }

    let mut shell = Shell(command.spawn().expect("bash is there"));
    let deadline = Instant::now() + DEADLINE;
    let status = loop {
        if let Some(status) = shell.0.try_wait().expect("a child can be asked") {
            break Some(status);
        }
        if Instant::now() > deadline {
            break None;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    let read = |path: &Path| std::fs::read_to_string(path).unwrap_or_default();
    let (output, errors, log) = (read(&output), read(&errors), read(&log));
    assert!(
        status.is_some_and(|status| status.success()),
        "ended with {status:?}\n{errors}\nprinted:\n{output}\nthe node:\n{log}"
    );
    for pair in blocks.windows(2) {
        let [block, expected] = pair else { unreachable!("a window of two has two") };
        if block.language == "sh" && expected.language == "text" {
            let printed = printed(&output, block);
            assert!(
                fits(&expected.lines, printed),
                "README.md:{}: expected\n{}\nbut it printed\n{printed}\n{errors}",
                expected.line,
                expected.lines.join("\n"),
            );
        }
    }
}

/// An address that was free a moment ago.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has free ports");
    listener.local_addr().expect("a listener has an address").to_string()
}

fn write(path: &Path, text: &str) {
    use std::io::Write as _;
    let mut file = std::fs::File::create(path).expect("a file in the test's own directory");
    file.write_all(text.as_bytes()).expect("a file in the test's own directory");
}

#[test]
fn a_script_has_the_line_numbers_of_its_readme() {
    let readme =
        "text\n\n```sh\naspen start\necho one\n```\n\n```text\none\n```\n\n```sh\nx\n```\n";
    let blocks = blocks(readme);
    let script = script(&blocks);
    let lines: Vec<&str> = script.lines().collect();
    assert_eq!(lines[4], "echo one");
    assert_eq!(lines[12], "x");
    assert!(lines[3].contains("started"), "{script}");
    assert_eq!(printed("\n== README.md:3\none\n\n== README.md:12\ntwo\n", &blocks[0]), "one\n");
}

#[test]
fn an_ellipsis_stands_for_anything_within_a_line() {
    assert!(line_fits("node …, revision …", "node 1, revision 17"));
    assert!(line_fits("a…", "a"));
    assert!(!line_fits("a…c", "abd"));
    assert!(!line_fits("plain", "plain and more"));
    assert!(fits(&["a …".to_owned(), "b".to_owned()], "a 1\nb\n"));
    assert!(!fits(&["a".to_owned()], "a\nb\n"));
}
