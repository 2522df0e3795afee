//! One network namespace: made, configured, run in, and removed with whatever still runs in it.
//!
//! Its name carries the process that made it, so that tests run side by side and what a killed run
//! left behind is known for it.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

/// How names begin; the process's id and a number follow.
const PREFIX: &str = "aspen";
/// Where `ip` keeps the names.
const NAMES: &str = "/run/netns";
/// Addresses are usable at once: IPv6 would first look for a second or two whether somebody else
/// has them, and its neighbour discovery would be counted as something the node sent.
const NO_IPV6: &str = "for all in /proc/sys/net/ipv6/conf/*/disable_ipv6; do \
                       [ ! -e \"$all\" ] || echo 1 > \"$all\"; done";

/// A namespace; removed when dropped.
#[derive(Debug)]
pub(super) struct Space {
    name: String,
}

impl Space {
    /// A new one, with nothing but its loopback.
    #[track_caller]
    pub(super) fn new(role: &str) -> Self {
        Space::try_new(role).expect("a network namespace")
    }

    pub(super) fn try_new(role: &str) -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{PREFIX}-{}-{number}-{role}", std::process::id());
        feed(Command::new("ip").args(["netns", "add", &name]), "")?;
        let space = Space { name };
        space.try_shell(NO_IPV6)?;
        space.try_ip(&["link set lo up"])?;
        Ok(space)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The same command, inside. `ip` becomes the program, so that the child is the program.
    pub(super) fn inside(&self, command: &Command) -> Command {
        let mut inside = Command::new("ip");
        inside.args(["netns", "exec", &self.name]).arg(command.get_program());
        inside.args(command.get_args()).stdin(Stdio::null());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => inside.env(name, value),
                None => inside.env_remove(name),
            };
        }
        inside
    }

    /// What a thread enters it by.
    #[track_caller]
    #[expect(clippy::disallowed_methods, reason = "it is no file of the product's")]
    pub(super) fn file(&self) -> File {
        File::open(Path::new(NAMES).join(&self.name)).expect("the namespace")
    }

    /// Does what these lines of `ip` say.
    #[track_caller]
    pub(super) fn ip(&self, lines: &[&str]) {
        self.try_ip(lines).expect("ip does it");
    }

    pub(super) fn try_ip(&self, lines: &[&str]) -> Result<(), String> {
        let mut command = Command::new("ip");
        command.args(["-n", &self.name, "-batch", "-"]);
        feed(&mut command, &(lines.join("\n") + "\n")).map(drop)
    }

    /// Does what a script for nftables says.
    #[track_caller]
    pub(super) fn nft(&self, script: &str) {
        self.try_nft(script).expect("nft does it");
    }

    pub(super) fn try_nft(&self, script: &str) -> Result<(), String> {
        feed(&mut self.inside(Command::new("nft").args(["-f", "-"])), script).map(drop)
    }

    /// What nftables lists, in words or as JSON, by its own arguments.
    #[track_caller]
    pub(super) fn nft_list(&self, arguments: &[&str]) -> String {
        let mut command = self.inside(Command::new("nft").arg("-n").args(arguments));
        feed(&mut command, "").expect("nft lists it")
    }

    #[track_caller]
    pub(super) fn shell(&self, script: &str) {
        self.try_shell(script).expect("the shell does it");
    }

    fn try_shell(&self, script: &str) -> Result<(), String> {
        feed(&mut self.inside(Command::new("bash").args(["-c", script])), "").map(drop)
    }
}

impl Drop for Space {
    fn drop(&mut self) {
        // As long as a process is inside, the namespace lives on without its name.
        let inside = feed(Command::new("ip").args(["netns", "pids", &self.name]), "");
        for process in inside.unwrap_or_default().split_whitespace() {
            let _ = feed(Command::new("kill").args(["-s", "KILL", process]), "");
        }
        let _ = feed(Command::new("ip").args(["netns", "delete", &self.name]), "");
    }
}

/// Removes what runs left behind whose process is no more.
pub(super) fn sweep() {
    for entry in Path::new(NAMES).read_dir().into_iter().flatten().flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        let mut words = name.split('-');
        if words.next() != Some(PREFIX) {
            continue;
        }
        let process = words.next().and_then(|id| id.parse::<u32>().ok());
        if process.is_some_and(|id| !Path::new(&format!("/proc/{id}")).exists()) {
            drop(Space { name });
        }
    }
}

/// Runs a command to its end, with this to read, and gives what it printed. The first line of an
/// error is what the command said.
fn feed(command: &mut Command, input: &str) -> Result<String, String> {
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|error| format!("{command:?}: {error}"))?;
    if let Some(mut pipe) = child.stdin.take() {
        // One that ends without reading says why.
        let _ = pipe.write_all(input.as_bytes());
    }
    let done = child.wait_with_output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() {
        return Ok(String::from_utf8_lossy(&done.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&done.stderr);
    Err(format!("{}\n{command:?}\n{input}", said.trim()))
}
