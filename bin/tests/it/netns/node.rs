//! The real command as a node on a host: started, asked, read and ended.

use std::fmt;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::lan::Host;
use crate::support::{Run, run, until};

/// A node that runs; killed when dropped. It shows itself as its log.
#[derive(Debug)]
pub(super) struct Node<'a> {
    host: &'a Host,
    child: Child,
    output: PathBuf,
    log: PathBuf,
    ready: Value,
}

impl Host {
    /// Starts the node of this host's disk and waits until it is ready.
    #[track_caller]
    pub(super) fn start(&self, flags: &[&str]) -> Node<'_> {
        self.starting(flags).until_ready()
    }

    /// The same without waiting.
    #[track_caller]
    pub(super) fn starting(&self, flags: &[&str]) -> Node<'_> {
        Node::spawn(self, &["start"], flags)
    }

    /// Joins by a ticket and waits until the node is ready.
    #[track_caller]
    pub(super) fn join(&self, ticket: &str, flags: &[&str]) -> Node<'_> {
        Node::spawn(self, &["join", ticket], flags).until_ready()
    }
}

impl<'a> Node<'a> {
    #[track_caller]
    fn spawn(host: &'a Host, words: &[&str], flags: &[&str]) -> Self {
        Node::spawn_with(host, words, flags, [])
    }

    /// The same with variables besides.
    #[track_caller]
    pub(super) fn spawn_with<'v>(
        host: &'a Host,
        words: &[&str],
        flags: &[&str],
        variables: impl IntoIterator<Item = &'v (&'static str, String)>,
    ) -> Self {
        let disk = host.disk().path();
        let (output, log) = (disk.join("output"), disk.join("log"));
        let data = disk.join("data").display().to_string();
        let mut arguments = words.to_vec();
        arguments.extend(["--json", "--data-dir", &data]);
        for (flag, value) in [("--http", "127.0.0.1:0"), ("--log", "info")] {
            if !flags.contains(&flag) {
                arguments.extend([flag, value]);
            }
        }
        arguments.extend(flags);
        let mut command = host.aspen(&arguments);
        command.envs(variables.into_iter().map(|(name, value)| (name, value)));
        command.stdin(Stdio::null());
        command.stdout(File::create(&output).expect("a file"));
        command.stderr(File::create(&log).expect("a file"));
        let child = command.spawn().expect("the command runs");
        Node { host, child, output, log, ready: Value::Null }
    }

    #[track_caller]
    pub(super) fn until_ready(mut self) -> Self {
        let in_time = until(|| self.is_ready() || self.has_ended());
        assert!(in_time && !self.ready.is_null(), "the node does not serve; its log:\n{self}");
        self
    }

    /// Whether it has said that it serves.
    pub(super) fn is_ready(&mut self) -> bool {
        self.ready = self.event("ready").unwrap_or_default();
        !self.ready.is_null()
    }

    /// The event of this name, once it has told it.
    fn event(&self, name: &str) -> Option<Value> {
        let output = fs::read_to_string(&self.output).unwrap_or_default();
        let lines = output.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        let mut events = lines.map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        events.find(|event| event["event"] == name)
    }

    /// Kills its process.
    #[track_caller]
    pub(super) fn kill(&mut self) {
        self.child.kill().expect("it runs");
        self.child.wait().expect("a child");
    }

    /// Sends its process a signal.
    #[track_caller]
    pub(super) fn signal(&self, name: &str) {
        let mut kill = Command::new("kill");
        kill.args(["-s", name, &self.child.id().to_string()]);
        assert_eq!(run(&mut kill).code, 0, "SIG{name}");
    }

    pub(super) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("a child").is_some()
    }

    /// The ticket by which others join.
    #[track_caller]
    pub(super) fn ticket(&self) -> &str {
        self.ready["ticket"].as_str().expect("a ticket")
    }

    /// Its number, once it is ready.
    #[track_caller]
    pub(super) fn id(&self) -> u64 {
        self.ready["node_id"].as_u64().expect("a number")
    }

    /// Its cluster's id, once it is ready.
    #[track_caller]
    pub(super) fn cluster_id(&self) -> &str {
        self.ready["cluster_id"].as_str().expect("an id")
    }

    /// Where it serves HTTP, as seen from its host.
    #[track_caller]
    pub(super) fn url(&self) -> &str {
        self.ready["http"].as_str().expect("a URL")
    }

    /// A client command for it on its host.
    pub(super) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.host.aspen(arguments);
        command.env("ASPEN_NODE", self.url());
        command
    }

    /// Runs a client command for it on its host.
    pub(super) fn run(&self, arguments: &[&str]) -> Run {
        run(&mut self.command(arguments))
    }

    /// The same, which must go well, and gives what it printed.
    #[track_caller]
    pub(super) fn printed(&self, arguments: &[&str]) -> String {
        let done = self.run(arguments);
        assert_eq!(done.code, 0, "{arguments:?}: {done:?}; the node's log:\n{self}");
        done.printed()
    }

    /// The page of its metrics, as seen from its host.
    #[track_caller]
    pub(super) fn metrics(&self) -> String {
        let mut curl = Command::new("curl");
        curl.args(["--silent", &format!("{}/metrics", self.url())]);
        run(&mut self.host.space().inside(&curl)).printed()
    }

    /// Waits until a line of its log has all these texts.
    #[track_caller]
    pub(super) fn wait_for_log(&self, texts: &[&str]) {
        let in_time = until(|| self.has_logged(texts));
        assert!(in_time, "no line of its log has all of {texts:?}:\n{self}");
    }

    /// Whether a line of its log has all these texts.
    pub(super) fn has_logged(&self, texts: &[&str]) -> bool {
        self.log().lines().any(|line| texts.iter().all(|text| line.contains(text)))
    }

    pub(super) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Node<'_> {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl fmt::Display for Node<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.log())
    }
}

/// All that they have logged, one after the other.
pub(super) fn logs(nodes: &[Node<'_>]) -> String {
    nodes.iter().map(|node| format!("\n-- {:?}\n{node}", node.host.address())).collect()
}
