//! Servers of others as processes: started, killed, and what they cost.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::Result;
use crate::costs::processor_time;

/// A server, killed when it is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    child: Child,
}

impl Process {
    /// Starts a server that prints into its directory.
    pub(crate) fn start<S: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: impl IntoIterator<Item = S>,
        dir: &Path,
    ) -> Result<Process> {
        let program = program.as_ref();
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(File::create(dir.join("stdout"))?)
            .stderr(File::create(dir.join("stderr"))?)
            .spawn()
            .map_err(|error| format!("{} can't be started: {error}", program.display()))?;
        Ok(Process { child })
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
        Ok(processor_time(self.child.id())?)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// How much processor time this process has used.
pub(crate) fn own_time() -> Result<Duration> {
    Ok(processor_time(std::process::id())?)
}

/// Builds Aspen's command as it is released, beside this program: as whoever installs it does, without
/// what the comparison would have its libraries do.
pub(crate) fn build_the_command() -> Result<()> {
    let cargo = option_env!("CARGO").unwrap_or("cargo");
    let built = Command::new(cargo)
        .args(["build", "--release", "--locked"])
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
        .status()?;
    if built.success() { Ok(()) } else { Err("aspen can't be built".into()) }
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
