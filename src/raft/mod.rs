//! openraft, bound to our types, store and network: one group's handle.
//!
//! The only module that names openraft. [`Replica`] is what the layers above use: propose, read,
//! watch, keep a lease alive, change members, hand the lead over. [`Inbound`] takes what other
//! replicas say to those on this node; who they are is asked of a [`Directory`].
//!
//! - `replica`, `members`: the handle; `origin`: what one begins with; `settings`: how Raft is set;
//!   `runtime`: what it runs on.
//! - `log`, `machine`, `types`: openraft's storage on ours.
//! - `network`, `append`, `sending`, `contacts`: to other replicas. `inbound`, `receiving`: from
//!   them. `messages`: what they say, as bytes.
//! - `proposals`, `rounds`, `reads`, `company`, `watch`, `hub`, `leases`, `keeper`, `vital`, `rest`:
//!   what a replica does for its callers and by itself; `counts`: what it has done.

mod anew;
mod append;
mod claims;
mod company;
mod contacts;
mod counts;
mod hub;
mod inbound;
mod keeper;
mod leases;
mod log;
mod machine;
mod members;
mod messages;
mod network;
mod origin;
mod proposals;
mod pulse;
mod reads;
mod receiving;
mod remains;
mod replica;
mod rest;
mod rounds;
mod runtime;
mod sending;
mod settings;
mod types;
mod vital;
mod watch;

pub use anew::progress_of;
pub use contacts::{Directory, SnapshotTurns, Transport};
pub use counts::{Counts, GroupCounts};
pub use inbound::{FindReplica, Inbound};
pub use machine::SnapshotData;
pub use members::{ChangeFailed, Dropped, GroupMembers, Pace};
#[doc(hidden)]
pub use messages::FORMS;
pub use origin::Origin;
pub use remains::{Remains, act_alone, begin_alone, query_alone};
pub use replica::{Failed, Leadership, LeaseTtl, Replica, ReplicaSpec};
pub use rest::Quiet;
pub use rounds::Rounds;
pub use settings::RaftTimes;
pub use watch::{GroupWatch, WatchBatch, WatchEvent, WatchRequest};
