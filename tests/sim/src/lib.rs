//! What clients of a cluster do, and who judges what they were told.
//!
//! - `work`: the workloads. Each drives a [`KvClient`](aspen::KvClient), wherever its nodes run.
//! - `check`: the judges, one a kind of workload.
//! - `dice`: choices from a seed.
//! - `shrink`: which of many things a failure needs.
//!
//! Nothing here knows of the simulator, which is the binary of this package (`main.rs`): whoever
//! runs real processes drives the same clients. So time is tokio's, and the order of events is
//! that of a counter.

#![allow(clippy::disallowed_methods, reason = "tests stand outside the seams")]

pub mod check;
pub mod dice;
pub mod shrink;
pub mod work;
