//! The integration tests of the library, in one program.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "modules of a test program are used by each other")]

mod checked;
mod crash_disk;
mod log;
