//! One node, embedded: what a program that uses the library sees, with restarts in between.

mod crash;
mod damage;
pub(crate) mod disk;
mod gossip;
mod keyspaces;
mod lines;
mod locks;
mod once;
mod pressure;
mod stopping;
mod store;
mod watches;

use std::path::Path;

use aspen::{KvService, KvServiceBuilder, Reach};

/// A node on the real disk, for as long as the test keeps it.
async fn start(dir: &Path) -> KvService {
    builder(dir).start().await.expect("the node starts")
}

fn builder(dir: &Path) -> KvServiceBuilder {
    KvServiceBuilder::new(1, dir).with_reach(Reach::Loopback)
}

fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}
