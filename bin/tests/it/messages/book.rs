//! A book of what people see: lines as they are typed, each with what the command prints and how it
//! ends, held against a file that is checked in.
//!
//! Each line is run by bash in a directory of the book's own, with the command found first and with
//! nothing of the surroundings that could configure it. What varies from run to run stands in the
//! book as a fixed word: those that a theme names ([`Book::word`]), which may be typed too, and those
//! of [`plain`]. Everything else must be the same each time.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;

use tempfile::TempDir;

use super::diff::diff;
use super::plain::plain;
use crate::support::{Following, Run, aspen, run, until, write_file};

/// The variable by which books are written anew.
const VARIABLE: &str = "ASPEN_MESSAGES";
/// Where a node serves HTTP unless told otherwise.
const PORT_DEFAULT: u16 = 4680;

/// One theme: a file of `bin/tests/messages`.
pub(super) struct Book {
    name: &'static str,
    text: String,
    dir: TempDir,
    /// The node that is asked, where a line names no other.
    node: Option<String>,
    /// How many nodes there are so far.
    met: u16,
    /// What stands for what, the longest first.
    words: Vec<(String, String)>,
}

impl Book {
    /// A book that begins by saying what it is about.
    pub(super) fn of(name: &'static str, about: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let text =
            format!("{about}\n\n$ what is typed   | what is printed   ! what is told beside\n");
        let mut book = Book { name, text, dir, node: None, met: 0, words: Vec::new() };
        let path = book.dir().canonicalize().expect("it is there").display().to_string();
        book.word("/home/ann", path);
        book.word("VERSION", env!("CARGO_PKG_VERSION"));
        book
    }

    /// Where its lines are run.
    pub(super) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file of the directory.
    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.dir().join(name)
    }

    /// Writes a file into the directory.
    pub(super) fn file(&self, name: &str, text: &str) {
        write_file(&self.path(name), text);
    }

    /// Takes note of a node: the first stands in the book where nodes are unless told otherwise, and
    /// is the one that is asked; the others at the ports after it.
    pub(super) fn meet(&mut self, address: &str) {
        self.word(&format!("127.0.0.1:{}", PORT_DEFAULT + self.met), address);
        if self.met == 0 {
            self.node = Some(format!("http://{address}"));
        }
        self.met += 1;
    }

    /// From now on this node is the one that is asked.
    pub(super) fn turns_to(&mut self, node: &Going) {
        self.node = node.address.as_ref().map(|address| format!("http://{address}"));
    }

    /// A word that stands for something that varies, in what is typed and in what is printed.
    pub(super) fn word(&mut self, word: &str, real: impl Into<String>) {
        self.words.push((real.into(), word.to_owned()));
        self.words.sort_by_key(|(real, word)| std::cmp::Reverse((real.len(), word.len())));
    }

    /// Begins a part of the book.
    pub(super) fn part(&mut self, title: &str) {
        write!(self.text, "\n== {title}\n").expect("a string takes all");
    }

    /// Types lines, one after the other.
    pub(super) fn types(&mut self, lines: &[&str]) {
        for line in lines {
            let seen = self.try_out(line);
            self.note(line, &seen);
        }
    }

    /// Types lines at once, which wait for the same, and notes them in their order, with what this
    /// makes of what they tell.
    pub(super) fn types_at_once(&mut self, lines: &[&str], steady: impl Fn(&str) -> String) {
        let book = &*self;
        let seen: Vec<Run> = thread::scope(|scope| {
            let runs: Vec<_> =
                lines.iter().map(|line| scope.spawn(move || book.try_out(line))).collect();
            runs.into_iter().map(|run| run.join().expect("it was run")).collect()
        });
        for (line, mut seen) in lines.iter().zip(seen) {
            seen.stderr = steady(&seen.stderr);
            self.note(line, &seen);
        }
    }

    /// Types a line that may tell this beside, or may not, which is left out.
    pub(super) fn types_without(&mut self, line: &str, part: &str) {
        let mut seen = self.try_out(line);
        seen.stderr =
            seen.stderr.split_inclusive('\n').filter(|told| !told.contains(part)).collect();
        self.note(line, &seen);
    }

    /// Types a line until it prints all of these, for what takes a while to be so.
    pub(super) fn types_until(&mut self, line: &str, parts: &[&str]) {
        let mut seen = None;
        let is_so = until(|| {
            let run = seen.insert(self.try_out(line));
            parts.iter().all(|part| run.stdout.contains(part) || run.stderr.contains(part))
        });
        assert!(is_so, "{line}: never {parts:?} in {seen:?}");
        self.note(line, &seen.expect("it was run"));
    }

    /// Types a line whose answer is noted as this makes of it.
    pub(super) fn types_as(&mut self, line: &str, steady: impl Fn(&str) -> String) {
        let mut seen = self.try_out(line);
        seen.stdout = steady(&seen.stdout);
        self.note(line, &seen);
    }

    /// Types a line that goes on, until it has printed a line that begins so.
    pub(super) fn begins(&mut self, line: &str, last: &str) -> Going {
        let log = self.path(&format!(".beside-{}", self.text.len()));
        let mut command = self.command(&format!("exec {line} 2>{}", log.display()));
        let mut following = Following::spawn(&mut command);
        let mut stdout = String::new();
        loop {
            let next = following.line();
            stdout.push_str(&next);
            stdout.push('\n');
            if next.starts_with(last) {
                break;
            }
        }
        let row = |name: &str| {
            stdout.lines().find_map(|line| Some(line.strip_prefix(name)?.trim().to_owned()))
        };
        let address = row("http ").and_then(|url| Some(url.split_once("://")?.1.to_owned()));
        if let Some(address) = &address {
            self.meet(address);
        }
        let ticket =
            row("join ").and_then(|join| Some(join.strip_prefix("aspen join ")?.to_owned()));
        write!(self.text, "\n$ {line}\n").expect("a string takes all");
        // How far a node is when it is looked at is chance.
        let is_kept = |line: &&str| {
            !(line.starts_with("learner of ")
                || line.starts_with("voter")
                || line.contains(" % of "))
        };
        let kept: String = stdout.split_inclusive('\n').filter(is_kept).collect();
        self.lines('|', &kept);
        Going { following, log, ticket, address }
    }

    /// Ends what goes on by a signal, as a key of a terminal does, and notes all that it has told
    /// beside.
    pub(super) fn ends(&mut self, going: Going, key: &str, signal: &str) {
        going.following.signal(signal);
        writeln!(self.text, "{key}").expect("a string takes all");
        self.ended(going, |_| true);
    }

    /// The same of a node, without what it told of its groups before it stopped.
    pub(super) fn stops(&mut self, going: Going) {
        going.following.signal("INT");
        self.text.push_str("\n… in the terminal of that node\n^C\n");
        self.ended(going, |line| line.contains("aspen::start: "));
    }

    /// Waits until a node ends by itself, and notes its last words.
    pub(super) fn ends_by_itself(&mut self, going: Going) {
        self.text.push_str("\n… in the terminal of that node\n");
        self.ended(going, |line| line.starts_with("aspen: "));
    }

    fn ended(&mut self, mut going: Going, is_kept: impl Fn(&str) -> bool) {
        let code = going.following.code().expect("it ends");
        let told = fs::read_to_string(&going.log).expect("text");
        let told: String = told.split_inclusive('\n').filter(|line| is_kept(line)).collect();
        self.lines('!', &told);
        writeln!(self.text, "exit {code}").expect("a string takes all");
    }

    /// What a line prints and how it ends.
    pub(super) fn try_out(&self, line: &str) -> Run {
        run(&mut self.command(line))
    }

    fn command(&self, line: &str) -> Command {
        let mut line = line.to_owned();
        let mut words: Vec<_> = self.words.iter().collect();
        words.sort_by_key(|(_, word)| std::cmp::Reverse(word.len()));
        for (real, word) in words {
            line = line.replace(word.as_str(), real);
        }
        let aspen = aspen::<&str>([]);
        let folder = Path::new(aspen.get_program()).parent().expect("a program is in a folder");
        let path = std::env::var("PATH").unwrap_or_default();
        // Whoever started the tests in the background may have had Ctrl-C ignored.
        let mut command = Command::new("env");
        command.args(["--default-signal=INT", "bash"]);
        for (name, value) in aspen.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command
            .args(["-c", &line])
            .current_dir(self.dir())
            .env("PATH", format!("{}:{path}", folder.display()))
            .env("ASPEN_REACH", "loopback")
            .env("LC_ALL", "C")
            .env_remove("COLUMNS")
            .stdin(std::process::Stdio::null());
        if let Some(node) = &self.node {
            command.env("ASPEN_NODE", node);
        }
        command
    }

    fn note(&mut self, line: &str, seen: &Run) {
        write!(self.text, "\n$ {line}\n").expect("a string takes all");
        self.lines('|', &seen.stdout);
        self.lines('!', &seen.stderr);
        writeln!(self.text, "exit {}", seen.code).expect("a string takes all");
    }

    fn lines(&mut self, mark: char, printed: &str) {
        let mut printed = printed.to_owned();
        for (real, word) in &self.words {
            printed = printed.replace(real.as_str(), word);
        }
        for line in plain(&printed).lines() {
            let line = format!("{mark} {line}");
            writeln!(self.text, "{}", line.trim_end()).expect("a string takes all");
        }
        if !printed.is_empty() && !printed.ends_with('\n') {
            writeln!(self.text, "{mark}(no line end)").expect("a string takes all");
        }
    }

    /// Holds the book against the file that is checked in, or writes it.
    #[track_caller]
    pub(super) fn close(self) {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/messages")
            .join(format!("{}.txt", self.name));
        if std::env::var(VARIABLE).is_ok_and(|value| value == "write") {
            write_file(&path, &self.text);
            return;
        }
        let kept = fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == self.text,
            "what people see is no longer as in bin/tests/messages/{name}.txt (- kept, + seen):\n\
             {}\nif it is as it should be: {VARIABLE}=write cargo test -p aspen-cli --test it \
             messages::{name}\n",
            diff(&kept, &self.text),
            name = self.name,
        );
    }
}

/// A command that goes on.
pub(super) struct Going {
    following: Following,
    log: PathBuf,
    /// The ticket by which others join, if it is a node that has made one.
    pub(super) ticket: Option<String>,
    pub(super) address: Option<String>,
}

impl Going {
    /// Sends it a signal by name.
    pub(super) fn signal(&self, name: &str) {
        self.following.signal(name);
    }
}
