//! What the library promises, tried from outside: one program, a module for each subject.

#![allow(clippy::disallowed_methods, reason = "tests stand outside the seams")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(unreachable_pub, reason = "modules of a test program are used by each other")]

mod checked;
mod client;
mod cluster;
mod corpus;
mod crash_disk;
mod docs;
mod http;
mod log;
mod machine;
mod net;
mod node;
mod raft;
mod roster;
mod state;
mod wait;
mod walls;
