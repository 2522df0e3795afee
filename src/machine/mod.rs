//! The key-value machine: what a committed command does to a shard's tables.
//!
//! Pure: no async, clock, randomness or IO. A command and the tables go in; an answer, events and
//! changed rows come out, the same on every replica. The semantics are those of etcd v3 where
//! etcd has the operation.
//!
//! - [`ops`]: the vocabulary: commands, queries, answers, events, and their validation.
//! - [`tables`]: the ordered tables the machine stands on, as a trait, and an in-memory one.
//! - `apply`, `read`, … : filled in by the machine itself.

pub mod ops;
pub mod tables;
