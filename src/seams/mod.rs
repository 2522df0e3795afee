//! Everything that is not a decision: files and how many there may be, the network, the wall clock,
//! randomness, tasks and threads, and for whom they work.
//!
//! Production and the simulator run the same node on different seams. There is one of each, as
//! small as it can be, and all code above goes through them: no `std::fs`, no `SystemTime`, no
//! `tokio::spawn` elsewhere (`clippy.toml` keeps that). Monotonic time is tokio's own clock, which
//! the simulator pauses and steps.

pub mod disk;
pub mod failpoint;
mod here;
mod named;
pub mod network;
mod open_files;
mod random;
pub mod socket;
mod tasks;
mod version;

pub use here::Here;
pub use named::read_named;
pub use open_files::{open_files_max, raise_open_files_max};
pub use random::{EnteredRandom, Random, ThreadRandom};
pub use tasks::{Tasks, blocking, run_in_place, runs_in_place, spawn_for_library, spawn_thread};
pub use version::version;

use std::fmt::Debug;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use disk::Disk;
use network::Fabric;

/// What a node stands on.
#[derive(Clone, Debug)]
pub struct Seams {
    /// Files.
    pub disk: Arc<dyn Disk>,
    /// What time people say it is; for logs, certificates and tickets, never for decisions about
    /// order.
    pub wall: Arc<dyn WallClock>,
    /// Randomness, from one seed a node.
    pub random: Random,
    /// What the node is on in place of the machine's own network.
    pub fabric: Option<Arc<dyn Fabric>>,
}

/// An error of the operating system as the rest of a sentence, without its number.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((reason, _)) => reason.to_ascii_lowercase(),
        None => text,
    }
}

/// The time of day.
pub trait WallClock: Debug + Send + Sync + 'static {
    /// Time since 1970.
    fn since_epoch(&self) -> Duration;
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl WallClock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam")]
    fn since_epoch(&self) -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}

impl Seams {
    /// The real disk, clock and randomness.
    pub fn real() -> Self {
        Seams {
            disk: Arc::new(disk::RealDisk),
            wall: Arc::new(SystemClock),
            random: Random::from_entropy(),
            fabric: None,
        }
    }

    /// Files in memory, gone with the last handle; the real clock and randomness.
    pub fn in_memory() -> Self {
        Seams { disk: Arc::new(disk::MemDisk::default()), ..Seams::real() }
    }
}
