//! What a target's binary calls: the target, with an eye on the memory that it takes.

mod memory;
mod targets;

use targets::{MEMORY_PER_BYTE, TARGETS};

/// Runs a target on any bytes. Panics unless what must hold does, within the target's memory.
pub fn run(name: &str, bytes: &[u8]) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target of this name");
    let most = memory::most_of(|| _ = target.run(bytes));
    let allowed = target.memory_bytes_max + bytes.len() * MEMORY_PER_BYTE;
    assert!(most <= allowed, "{name} takes {most} bytes for {}", bytes.len());
}
