//! Running the command, and nodes, and saying what they did.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Read, Seek, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout};

use crate::costs;
use crate::http::Http;

/// How long anything here may take on a machine with other work to do.
const DEADLINE: Duration = Duration::from_secs(60);
/// The file, next to a node's data, that says at which step the node ends itself.
pub(crate) const FAILPOINTS: &str = "failpoints";
/// How long to wait between two looks at what is waited for.
const LOOK: Duration = Duration::from_millis(2);

/// A run that has ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// The command, with nothing of the surroundings that could configure it and nothing piped in.
pub(crate) fn aspen<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aspen"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ASPEN_") {
            command.env_remove(name);
        }
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// Runs a command to its end, which must come in time.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> Run {
    // Files and not pipes: nobody need read along.
    let (mut stdout, mut stderr) = (temporary(), temporary());
    command.stdout(stdout.try_clone().expect("a file"));
    command.stderr(stderr.try_clone().expect("a file"));
    let mut child = command.spawn().expect("the command runs");
    let mut ended = None;
    until(|| {
        ended = child.try_wait().expect("a child");
        ended.is_some()
    });
    let Some(status) = ended else {
        let _ = child.kill();
        let _ = child.wait();
        let printed = text(&mut stdout) + &text(&mut stderr);
        panic!("{command:?} does not end; it printed:\n{printed}");
    };
    let code = status.code().expect("the command ends by itself");
    Run { code, stdout: text(&mut stdout), stderr: text(&mut stderr) }
}

/// Runs a command at a terminal of so many columns; once a text is drawn, if there is one, Ctrl-C is
/// typed. What was drawn is on its stdout.
#[track_caller]
pub(crate) fn at_terminal(columns: usize, command: &Command, typed_at: &str) -> Run {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/terminal.py");
    let mut outer = Command::new("python3");
    outer.arg(script).args([&columns.to_string(), typed_at]);
    outer.arg(command.get_program()).args(command.get_args());
    outer.env("TERM", "xterm").env_remove("NO_COLOR").stdin(Stdio::null());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    run(&mut outer)
}

fn temporary() -> File {
    tempfile::tempfile().expect("a file")
}

fn text(file: &mut File) -> String {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a file can be read");
    String::from_utf8(bytes).expect("text")
}

/// Looks until something is so, or the deadline has passed.
pub(crate) fn until(mut is_so: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + DEADLINE;
    while !is_so() {
        if Instant::now() > deadline {
            return false;
        }
        thread::sleep(LOOK);
    }
    true
}

impl Run {
    /// Asserts that the run was refused, with one sentence that says this among other things.
    #[track_caller]
    pub(crate) fn refused_as(&self, part: &str) {
        let is_one = self.stderr.starts_with("aspen: ") && self.stderr.lines().count() == 1;
        assert!(is_one && self.stderr.contains(part), "{self:?}");
        assert_eq!(self.code, 1, "{self:?}");
    }

    /// Asserts that the run failed with a code and this one sentence, and printed nothing else.
    #[track_caller]
    pub(crate) fn failed_with(&self, code: i32, sentence: &str) {
        assert_eq!(self.stderr, format!("aspen: {sentence}\n"));
        assert_eq!((self.code, self.stdout.as_str()), (code, ""));
    }

    /// Asserts that the run was well and gives what it printed.
    #[track_caller]
    pub(crate) fn printed(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""));
        self.stdout
    }
}

/// Writes a file.
pub(crate) fn write_file(path: &Path, text: &str) {
    File::create(path).and_then(|mut file| file.write_all(text.as_bytes())).expect("written");
}

/// Lines of a process's output, with a deadline for each.
#[derive(Debug)]
pub(crate) struct Lines(Receiver<String>);

impl Lines {
    pub(crate) fn of(output: impl Read + Send + 'static) -> Self {
        let (lines, receiver) = sync_channel(64);
        aspen::seams::spawn_thread("output".to_owned(), move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if lines.send(line).is_err() {
                    break;
                }
            }
        })
        .expect("a thread");
        Lines(receiver)
    }

    #[track_caller]
    pub(crate) fn next(&self) -> String {
        self.0.recv_timeout(DEADLINE).expect("a line in time")
    }
}

/// A process that goes on until it is dropped.
#[derive(Debug)]
pub(crate) struct Following {
    child: Child,
    lines: Lines,
}

impl Following {
    pub(crate) fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the command runs");
        let lines = Lines::of(child.stdout.take().expect("it is piped"));
        Following { child, lines }
    }

    /// Its next line.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.lines.next()
    }

    /// Sends it a signal by name.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        let process = self.child.id().to_string();
        let sent = Command::new("kill").args(["-s", name, &process]).status().expect("kill runs");
        assert!(sent.success());
    }

    /// Waits for its end and gives its exit code, if it ends in time; as a shell tells it of what a
    /// signal ended.
    #[track_caller]
    pub(crate) fn code(&mut self) -> Option<i32> {
        let mut ended = None;
        until(|| {
            ended = self.child.try_wait().expect("a child");
            ended.is_some()
        });
        let of_signal = |status: ExitStatus| status.signal().map(|number| 128 + number);
        ended.map(|status| status.code().or_else(|| of_signal(status)).expect("it has ended"))
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A node on a port of its own; killed when dropped.
#[derive(Debug)]
pub(crate) struct Node {
    process: Following,
    events: Vec<Value>,
    told: String,
    url: String,
    log: PathBuf,
}

impl Node {
    /// Joins a cluster with a node whose data and log are in this directory, and waits until it is
    /// ready; what it told before that are its events.
    #[track_caller]
    pub(crate) fn join(dir: &Path, ticket: &str, flags: &[&str]) -> Self {
        let node = Node::spawn(dir, &["join", ticket], |command| {
            command.args(["--json", "--http", "127.0.0.1:0", "--log", "info"]).args(flags);
        });
        node.until_ready()
    }

    /// Joins as above, configured by the caller.
    #[track_caller]
    pub(crate) fn start_joining(
        dir: &Path,
        ticket: &str,
        configure: impl FnOnce(&mut Command),
    ) -> Self {
        let node = Node::spawn(dir, &["join", ticket], |command| {
            command.args(["--json", "--http", "127.0.0.1:0", "--log", "info"]);
            configure(command);
        });
        node.until_ready()
    }

    /// Waits until a node that was started or joins is ready.
    #[track_caller]
    pub(crate) fn until_ready(mut self) -> Self {
        while self.told.is_empty() {
            let line = self.next_line();
            let event: Value = serde_json::from_str(&line).expect("JSON");
            match event["event"] == "ready" {
                true => self.told = line,
                false => self.events.push(event),
            }
        }
        self.url = self.ready()["http"].as_str().unwrap_or_default().to_owned();
        self
    }

    /// Joins as above, with the data on a disk of its own that holds so much: one that nobody else
    /// sees, and that is gone with the process.
    #[track_caller]
    pub(crate) fn join_on_disk_of(dir: &Path, mib: u32, ticket: &str) -> Self {
        let data = dir.join("data");
        fs::create_dir(&data).expect("a directory");
        let mut inner = aspen(["join", ticket, "--reach", "loopback", "--data-dir"]);
        inner.arg(&data).args(["--json", "--http", "127.0.0.1:0", "--log", "info"]);
        let script = format!(r#"mount -t tmpfs -o size={mib}m tmpfs "$1" && shift && exec "$@""#);
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(&data);
        Node::within(dir, command, &inner).until_ready()
    }

    /// Starts a node whose process may have so many files open and no more.
    #[track_caller]
    pub(crate) fn start_with_files(dir: &Path, most: u32) -> Self {
        let mut inner = aspen(["start", "--reach", "loopback", "--data-dir"]);
        inner.arg(dir.join("data")).args(["--json", "--http", "127.0.0.1:0", "--log", "info"]);
        let mut command = Command::new("sh");
        command.args(["-c", &format!(r#"ulimit -n {most} && exec "$@""#), "sh"]);
        Node::within(dir, command, &inner).until_ready()
    }

    /// A node by a command that runs the one that it is given.
    fn within(dir: &Path, mut command: Command, inner: &Command) -> Self {
        command.arg(inner.get_program()).args(inner.get_args()).stdin(Stdio::null());
        for (name, value) in inner.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        let log = dir.join("log.txt");
        command.stderr(File::create(&log).expect("a log"));
        Node::follow(&mut command, log)
    }

    /// A file or directory as the node sees it, on whichever disk.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        let root = format!("/proc/{}/root", self.process.child.id());
        Path::new(&root).join(path.strip_prefix("/").expect("an absolute path"))
    }

    /// A start that nobody waits for.
    pub(crate) fn starting(dir: &Path) -> Self {
        Node::spawn(dir, &["start"], |command| {
            command.args(["--json", "--http", "127.0.0.1:0", "--log", "info"]);
        })
    }

    /// A join that nobody waits for.
    pub(crate) fn joining(dir: &Path, ticket: &str, flags: &[&str]) -> Self {
        Node::spawn(dir, &["join", ticket], |command| {
            command.args(["--json", "--http", "127.0.0.1:0", "--log", "info"]).args(flags);
        })
    }

    /// A join that nobody waits for, with its lines as the caller says.
    pub(crate) fn joining_with(
        dir: &Path,
        ticket: &str,
        configure: impl FnOnce(&mut Command),
    ) -> Self {
        Node::spawn(dir, &["join", ticket], |command| {
            configure(command.args(["--json", "--http", "127.0.0.1:0"]));
        })
    }

    /// Starts a node with its data and log in this directory, and waits until it serves.
    #[track_caller]
    pub(crate) fn start(dir: &Path, flags: &[&str]) -> Self {
        Node::start_with(dir, |command| {
            command.args(["--http", "127.0.0.1:0", "--log", "info"]).args(flags);
        })
    }

    /// The same, configured by the caller.
    #[track_caller]
    pub(crate) fn start_with(dir: &Path, configure: impl FnOnce(&mut Command)) -> Self {
        let mut node = Node::spawn(dir, &["start"], |command| configure(command.arg("--json")));
        node.told = node.next_line();
        node.url = node.ready()["http"].as_str().unwrap_or_default().to_owned();
        node
    }

    /// Starts a node that speaks to people.
    #[track_caller]
    pub(crate) fn start_for_people(dir: &Path, flags: &[&str]) -> Self {
        let mut node = Node::spawn(dir, &["start"], |command| {
            command.args(["--http", "127.0.0.1:0"]).args(flags);
        });
        while !node.told.contains("stop ") {
            let line = node.next_line();
            node.told.push_str(&line);
            node.told.push('\n');
        }
        node
    }

    fn spawn(dir: &Path, words: &[&str], configure: impl FnOnce(&mut Command)) -> Self {
        let log = dir.join("log.txt");
        let mut command = aspen(words);
        command.args(["--reach", "loopback", "--data-dir"]).arg(dir.join("data"));
        command.stderr(File::create(&log).expect("a log"));
        command.env("FAILPOINTS", dir.join(FAILPOINTS));
        configure(&mut command);
        Node::follow(&mut command, log)
    }

    fn follow(command: &mut Command, log: PathBuf) -> Self {
        let process = Following::spawn(command);
        Node { process, events: Vec::new(), told: String::new(), url: String::new(), log }
    }

    #[track_caller]
    fn next_line(&self) -> String {
        let line = self.process.lines.0.recv_timeout(DEADLINE);
        line.unwrap_or_else(|_| panic!("the node does not serve; its log:\n{}", self.log()))
    }

    /// The line with which it said that it serves.
    #[track_caller]
    pub(crate) fn ready(&self) -> Value {
        serde_json::from_str(&self.told).expect("JSON")
    }

    /// The ticket by which others join.
    #[track_caller]
    pub(crate) fn ticket(&self) -> String {
        self.ready()["ticket"].as_str().expect("a ticket").to_owned()
    }

    /// How many files of this name its process holds open.
    #[track_caller]
    pub(crate) fn open_files(&self, name: &str) -> usize {
        let files = std::fs::read_dir(format!("/proc/{}/fd", self.process.child.id()));
        let files =
            files.expect("it runs").filter_map(|file| std::fs::read_link(file.ok()?.path()).ok());
        files.filter(|file| file.ends_with(name)).count()
    }

    /// How many sockets its process holds open.
    #[track_caller]
    pub(crate) fn open_sockets(&self) -> usize {
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.child.id()));
        let files =
            files.expect("it runs").filter_map(|file| fs::read_link(file.ok()?.path()).ok());
        files.filter(|file| file.to_string_lossy().starts_with("socket:")).count()
    }

    /// A figure of its process's memory in MiB: `VmRSS` is what is resident, `VmHWM` the most that was.
    #[track_caller]
    pub(crate) fn memory_mib(&self, name: &str) -> f64 {
        costs::memory_mib(self.process.child.id(), name).expect("it runs")
    }

    /// Its number.
    #[track_caller]
    pub(crate) fn id(&self) -> u64 {
        self.ready()["node_id"].as_u64().expect("a number")
    }

    /// What it told while it joined, by the names of the events.
    pub(crate) fn events(&self) -> Vec<&str> {
        self.events.iter().filter_map(|event| event["event"].as_str()).collect()
    }

    /// Waits for its next event of this name.
    #[track_caller]
    pub(crate) fn wait_for_event(&mut self, name: &str) {
        while !self.events().contains(&name) {
            let line = self.next_line();
            self.events.push(serde_json::from_str(&line).expect("JSON"));
        }
    }

    /// Ends it at once, by SIGKILL.
    pub(crate) fn kill(mut self) {
        // It may have ended by itself.
        let _ = self.process.child.kill();
        let _ = self.process.child.wait();
    }

    /// Whether it has ended, in whatever way.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.process.child.try_wait().expect("a child").is_some()
    }

    /// Whether it has ended, and with which code.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.process.child.try_wait().expect("a child").and_then(|status| status.code())
    }

    /// Whether it has said that it serves.
    pub(crate) fn has_begun(&mut self) -> bool {
        while self.told.is_empty()
            && let Ok(line) = self.process.lines.0.try_recv()
        {
            if line.contains("\"ready\"") {
                self.told = line;
                self.url = self.ready()["http"].as_str().unwrap_or_default().to_owned();
            }
        }
        !self.told.is_empty()
    }

    /// What it told a person.
    pub(crate) fn told(&self) -> &str {
        &self.told
    }

    /// Where it serves HTTP.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The same as an address and port.
    pub(crate) fn address(&self) -> &str {
        self.url.strip_prefix("http://").expect("a URL")
    }

    /// A client command for this node.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = aspen(arguments);
        command.env("ASPEN_NODE", &self.url);
        command
    }

    /// Runs a client command for this node.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        run(&mut self.command(arguments))
    }

    /// Runs a client command that must go well, and gives what it printed.
    #[track_caller]
    pub(crate) fn printed(&self, arguments: &[&str]) -> String {
        self.run(arguments).printed()
    }

    /// A client command that goes on.
    pub(crate) fn following(&self, arguments: &[&str]) -> Following {
        Following::spawn(self.command(arguments).stderr(Stdio::null()))
    }

    /// Sends it a signal by name.
    #[track_caller]
    pub(crate) fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for its end and gives its exit code.
    #[track_caller]
    pub(crate) fn code(&mut self) -> i32 {
        let code = self.process.code();
        code.unwrap_or_else(|| panic!("the node does not end; its log:\n{}", self.log()))
    }

    /// Waits until its log has this text.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, text: &str) {
        let in_time = until(|| self.log().contains(text));
        assert!(in_time, "{text:?} is not in its log:\n{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Sends a request, which must be answered in time.
pub(crate) async fn send(
    http: &mut Http,
    method: Method,
    path: &str,
    body: &'static str,
) -> (StatusCode, Value) {
    let sending = timeout(DEADLINE, http.send(method, path, None, body));
    let answer = sending.await.unwrap_or_else(|_| panic!("no answer to {path}"));
    let answer = answer.unwrap_or_else(|broken| panic!("{path}: {broken}"));
    (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
}

/// Asks one node after the other and waits for each answer.
pub(crate) struct Asking(Runtime);

impl Asking {
    pub(crate) fn new() -> Self {
        Asking(Runtime::new().expect("a runtime"))
    }

    /// Puts a key over a connection that stays.
    #[track_caller]
    pub(crate) fn put(&self, http: &mut Http, path: &str, value: &'static str) {
        let (status, answer) = self.0.block_on(send(http, Method::PUT, path, value));
        assert!(status.is_success(), "{path}: {status} {answer}");
    }

    #[track_caller]
    pub(crate) fn get(&self, node: &Node, path: &str) -> Value {
        let mut http = Http::to(node.url());
        let (status, answer) = self.0.block_on(send(&mut http, Method::GET, path, ""));
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }
}
