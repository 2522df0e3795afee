//! Aspen: a peer-to-peer, strongly consistent key-value store in one library.
//!
//! Where to find what, from what a program touches down to what everything stands on; a module
//! uses those below it and never one above (`tests/it/walls` keeps that):
//!
//! | module | what it owns |
//! |---|---|
//! | [`http`] | the HTTP door: decode, call the client, map errors |
//! | [`client`] | `KvClient`: the store as a program sees it |
//! | [`machine`] | what a committed command does to a shard's tables; pure |
//! | [`types`] | ids, keys, values, records, and how fresh a read must be |
//! | [`limits`] | every limit, its reason, and what happens at it |
//! | [`error`] | what can go wrong, sorted by what the caller should do |
//! | [`health`] | how well the parts of a node are, as the doors show it |
//! | [`status`] | who a node is and what its groups do, as the doors show it |
//! | [`seams`] | files, clock, randomness, tasks: everything that is not a decision |

pub mod client;
pub mod error;
pub mod health;
pub mod http;
pub mod limits;
pub mod machine;
pub mod seams;
pub mod status;
pub mod types;

/// The examples of the README are compiled and run with the documentation's.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
