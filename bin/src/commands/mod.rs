//! The commands that talk to a running node, and `config`, `relay`, `recover`, `completions` and `man`,
//! which need none.
//!
//! Each of the former is: arguments to one request, the request's answer to output. What the
//! answers mean is the HTTP API's business.

mod access;
pub(crate) mod bench;
pub(crate) mod compact;
pub(crate) mod config;
pub(crate) mod doctor;
pub(crate) mod drain;
pub(crate) mod keyspace;
pub(crate) mod kv;
pub(crate) mod lease;
pub(crate) mod members;
pub(crate) mod operations;
pub(crate) mod range;
pub(crate) mod recover;
pub(crate) mod relay;
pub(crate) mod repair;
pub(crate) mod settings;
pub(crate) mod shell;
pub(crate) mod status;
pub(crate) mod ticket;
pub(crate) mod token;
pub(crate) mod txn;
pub(crate) mod watch;
