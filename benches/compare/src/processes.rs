//! Servers as processes of their own: started, killed, and what they cost.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;

/// Clock ticks a second in `/proc/<pid>/stat`: always this many on Linux.
const TICKS_A_SECOND: f64 = 100.0;

/// A server, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
    /// What it prints.
    pub(crate) output: PathBuf,
}

impl Process {
    /// Starts a server that prints into its directory.
    pub(crate) fn start<S: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
        dir: &Path,
    ) -> Result<Process> {
        let (output, errors) = (dir.join("stdout"), dir.join("stderr"));
        let program = program.as_ref();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(&output)?)
            .stderr(File::create(errors)?)
            .spawn()
            .map_err(|error| format!("{} can't be started: {error}", program.display()))?;
        Ok(Process { child, output })
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself; whoever speaks to it then says so.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> Option<String> {
        self.child.try_wait().ok().flatten().map(|status| status.to_string())
    }

    /// How much processor time it has used.
    pub(crate) fn time(&self) -> Result<Duration> {
        time_of(&self.child.id().to_string())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How much processor time this process has used.
pub(crate) fn own_time() -> Result<Duration> {
    time_of("self")
}

fn time_of(process: &str) -> Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let tick =
        |place: usize| fields.split_whitespace().nth(place).and_then(|ticks| ticks.parse().ok());
    let (Some(user), Some(system)) = (tick(11), tick(12)) else {
        return Err(format!("/proc/{process}/stat is not as it should be: {stat}").into());
    };
    let (user, system): (f64, f64) = (user, system);
    Ok(Duration::from_secs_f64((user + system) / TICKS_A_SECOND))
}

/// Builds Aspen's command as it is released, beside this program.
pub(crate) fn build_the_command() -> Result<()> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked", "-p", "aspen-cli", "--bin", "aspen"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()?;
    if built.success() { Ok(()) } else { Err("aspen can't be built".into()) }
}

/// Aspen's command.
pub(crate) fn command() -> Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("aspen");
    match beside.exists() {
        true => Ok(beside),
        false => {
            Err(format!("there is no {}; run this by `cargo run --release`", beside.display())
                .into())
        }
    }
}

/// Ports of loopback that nothing uses at the moment.
pub(crate) fn free_ports<const N: usize>() -> Result<[u16; N]> {
    let mut ports = [0; N];
    let mut held = Vec::new();
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}
