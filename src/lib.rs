//! Aspen: a peer-to-peer, strongly consistent key-value store in one library.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! use aspen::{KvServiceBuilder, Reach, StorageBackend};
//!
//! let service = KvServiceBuilder::new(1, "./data/node-1")
//!     .with_storage(StorageBackend::Memory)
//!     .with_reach(Reach::Loopback)
//!     .start()
//!     .await?;
//! let kv = service.client();
//! kv.put("greeting", "hello").await?;
//! let got = kv.get("greeting").await?.expect("it was just written");
//! assert_eq!(got.value.as_bytes(), b"hello");
//! service.shutdown().await?;
//! # Ok(()) })
//! # }
//! ```
//!
//! # The map
//!
//! Each layer uses those below it and none above; `tests/it/walls` keeps it so.
//!
//! | where | what |
//! |---|---|
//! | [`http`] | the HTTP door: decode, call the client, map errors |
//! | [`node`] | the builder, the running service, its doors, shutdown |
//! | [`client`] | [`KvClient`]: requests, sessions, retries, locks, watches |
//! | [`actors`] | the supervised parts: store, groups, health, doors; restarts and breakers |
//! | [`raft`] | openraft bound to our types, store and network: propose, read, watch, members, snapshots |
//! | [`store`] | the shared log, the state files, snapshots, checksums, free space |
//! | [`net`] | the node's key, its iroh endpoint, its peers: links, calls, streams, lanes |
//! | [`wire`] | pure: what stands on the wire between nodes, as bytes |
//! | [`machine`] | pure: what a command does to a shard's tables |
//! | [`roster`] | pure: members, tickets, what each group's membership becomes next, what members say of themselves, how busy groups are |
//! | [`health`], [`status`], [`metrics`] | plain facts that parts report or count and doors show |
//! | [`types`], [`limits`], [`error`] | the nouns, every bound, every way to fail |
//! | [`seams`] | files, clock, randomness, tasks: what a simulator replaces |

pub mod actors;
pub mod client;
pub mod error;
pub mod health;
pub mod http;
pub mod limits;
pub mod machine;
pub mod metrics;
pub mod net;
pub mod node;
pub mod raft;
pub mod roster;
pub mod seams;
pub mod status;
pub mod store;
pub mod types;
pub mod wire;

/// What tickets are made of.
pub use aspen_tickets as tickets;
pub use aspen_tickets::{ClientTicket, JoinTicket, Role as MemberRole};
pub use client::{Client, Compare, KvClient, Op};
pub use error::{Error, Result};
pub use net::{Internet, Reach};
pub use node::{
    Cluster, DoorAddress, KvService, KvServiceBuilder, Mesh, MeshError, StorageBackend,
};
pub use types::{Consistency, Key, LeaseId, NodeId, Record, Revision, Value};

/// The examples of the README are compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
