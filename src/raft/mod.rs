//! openraft, bound to our types, store and network: one group's handle.
//!
//! The only module that names openraft. [`Replica`] is what the layers above use: propose, read,
//! watch, keep a lease alive.

mod hub;
mod keeper;
mod leases;
mod log;
mod machine;
mod network;
mod proposals;
mod reads;
mod replica;
mod types;
mod vital;
mod watch;

pub use machine::SnapshotData;
pub use replica::{Failed, Leadership, LeaseTtl, RaftTimes, Replica, ReplicaSpec};
pub use watch::{GroupWatch, WatchBatch, WatchEvent, WatchRequest};
