//! The real command as a running node, started and ended from the outside.

use std::fmt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::time::{Instant, sleep};

/// A restart recovers at most a log segment or two; this is for a machine that is busy.
const READY_MAX: Duration = Duration::from_secs(60);

/// The command that was built for this, or that lies beside it.
pub(crate) fn program() -> PathBuf {
    let beside = || std::env::current_exe().expect("it runs").with_file_name("aspen");
    option_env!("CARGO_BIN_EXE_aspen").map_or_else(beside, PathBuf::from)
}

/// A running node; killed when it is dropped. It shows itself as what it has logged.
pub(crate) struct Node {
    /// Its process.
    pub(crate) child: Child,
    /// Where its HTTP door is.
    pub(crate) url: String,
    output: PathBuf,
    errors: PathBuf,
}

impl Node {
    /// Starts a node and does not wait for it.
    pub(crate) fn spawn(data: &Path) -> Node {
        Node::run(data, &["start"])
    }

    /// Runs one of the commands that start a node.
    pub(crate) fn run(data: &Path, command: &[&str]) -> Node {
        let output = data.join("stdout");
        let errors = data.join("stderr");
        let mut process = Command::new(program());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("ASPEN_")) {
            process.env_remove(name);
        }
        let file = |path| std::fs::File::create(path).expect("a file in the test's own directory");
        let child = process
            .args(command)
            .args(["--json", "--reach", "loopback", "--http", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(data.join("node"))
            .stdin(Stdio::null())
            .stdout(file(&output))
            .stderr(file(&errors))
            .spawn()
            .expect("the command was built");
        Node { child, url: String::new(), output, errors }
    }

    /// Starts a node and waits until it serves.
    pub(crate) async fn start(data: &Path) -> Result<Node, String> {
        Node::spawn(data).until_ready().await
    }

    /// Waits until it serves.
    pub(crate) async fn until_ready(mut self) -> Result<Node, String> {
        let ready = self.until_event("ready").await?;
        let url = ready["http"].as_str().ok_or_else(|| format!("no address in {ready}"))?;
        self.url = url.to_owned();
        Ok(self)
    }

    /// Waits for one of the lines that a node prints as it starts.
    async fn until_event(&mut self, name: &str) -> Result<serde_json::Value, String> {
        let deadline = Instant::now() + READY_MAX;
        loop {
            let output = std::fs::read_to_string(&self.output).unwrap_or_default();
            for line in output.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                let event: serde_json::Value =
                    serde_json::from_str(line).map_err(|error| format!("{error} in {line}"))?;
                if event["event"] == name {
                    return Ok(event);
                }
            }
            if let Ok(Some(status)) = self.child.try_wait() {
                return Err(format!("it ended with {status}: {self}"));
            }
            if Instant::now() > deadline {
                return Err(format!("not {name} after {READY_MAX:?}: {self}"));
            }
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; that shows when it is looked at.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Stops it as a person would, and expects it to end well.
    pub(crate) async fn stop(mut self) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args(["-TERM", &id]).status().expect("kill is there");
        assert!(sent.success(), "the node ended before it was told to: {self}");
        let deadline = Instant::now() + READY_MAX;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().expect("a child can be asked") {
                assert!(status.success(), "it ended with {status}: {self}");
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("it did not stop: {self}");
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl fmt::Display for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&std::fs::read_to_string(&self.errors).unwrap_or_default())
    }
}
