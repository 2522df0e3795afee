//! What a process costs, as Linux says in `/proc`.

use std::fs;
use std::io::{Error, Result};
use std::time::Duration;

/// Clock ticks a second in `/proc/<pid>/stat`: always this many on Linux, whatever the kernel's own.
const TICKS_A_SECOND: f64 = 100.0;

/// The processor time that a process has used.
pub(crate) fn processor_time(process: u32) -> Result<Duration> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name, in parentheses, is the second field and may contain anything.
    let fields = stat.rsplit_once(')').map_or("", |(_, fields)| fields);
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    let ticks: Vec<u64> = ticks.collect::<std::result::Result<_, _>>().map_err(Error::other)?;
    match ticks[..] {
        [user, system] => Ok(Duration::from_secs_f64((user + system) as f64 / TICKS_A_SECOND)),
        _ => Err(Error::other(format!("/proc/{process}/stat is not as it should be: {stat}"))),
    }
}

/// A figure of a process's memory in MiB: `VmRSS` is what is resident, `VmHWM` the most that was.
pub(crate) fn memory_mib(process: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status"))?;
    let figure = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    let kib = figure.and_then(|figure| figure.trim().strip_suffix("kB")?.trim().parse().ok());
    let missing = || Error::other(format!("/proc/{process}/status has no {name} in kB"));
    kib.map(|kib: f64| kib / 1024.0).ok_or_else(missing)
}
