//! Groups of several replicas, over real links on loopback: elections, replication, reads, changes
//! of members, snapshots, and what is left of them when the network or a node fails.

mod anew;
mod elections;
mod nowhere;
mod pace;
mod partitions;
mod rig;
mod snapshots;
mod strangers;
mod transfers;
mod weather;

pub use nowhere::nowhere;
