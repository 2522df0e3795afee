//! The key-value machine: what a committed command does to a shard's tables.
//!
//! Pure: no async, clock, randomness or IO. A command and the tables go in; an answer, events and
//! changed rows come out, the same on every replica. The semantics are those of etcd v3 where
//! etcd has the operation.
//!
//! - [`ops`]: the vocabulary: commands, queries, answers, events; `validate`: what is wrong with
//!   one whatever the state; `nesting`: how deep one may be when it is decoded.
//! - [`tables`]: the ordered tables the machine stands on, as a trait, and in memory; `rows`: what
//!   a row of each looks like.
//! - [`apply()`]: a command on the state. `session` sees that it is applied once; `write` (puts,
//!   deletes, transactions), `lease` and `claim` decide on a `draft` what changes, which is then
//!   written whole; `compact` removes history.
//! - [`query()`]: a read. `view` is the keys at the present or a past revision, `range` a page.
//! - [`history()`] and [`record_before`]: what watchers that are behind read.
//! - [`hash()`]: one number for a whole state.

mod apply;
mod claim;
mod compact;
mod draft;
mod growth;
mod hash;
mod history;
mod lease;
mod nesting;
pub mod ops;
mod query;
mod range;
mod rows;
mod session;
mod stop;
pub mod tables;
mod validate;
mod view;
mod write;

pub use apply::{Applied, LeaseChanges, apply};
pub(crate) use claim::CLAIM_SUFFIX_BYTES;
pub use hash::hash;
pub use history::{HistoryPage, history, record_before};
pub use query::query;
#[doc(hidden)]
pub use rows::FORMS;
