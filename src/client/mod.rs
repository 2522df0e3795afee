//! `KvClient`: the store as a program sees it.
//!
//! Key → shard → group → leader, retries, breaker and sessions; local and remote alike. The
//! options chain of each operation is in its own file.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_util::Stream;

use crate::error::{Error, Result};
use crate::machine::ops::{Action, Answer, KeyRange, Query};
use crate::types::{Consistency, GroupId, Key, LeaseId, Record, Revision};

/// What to watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchRequest {
    /// Which keys.
    pub range: KeyRange,
    /// The first revision to see; `None` is the next one.
    pub from: Option<Revision>,
    /// See each change's record as it was before, too.
    pub prev: bool,
}

/// Changes that are seen together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Everything up to this revision has been seen.
    pub revision: Revision,
    /// The changes, in order.
    pub events: Vec<WatchEvent>,
}

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The revision that made it.
    pub revision: Revision,
    /// The key.
    pub key: Key,
    /// What was written, `None` if the key was deleted.
    pub record: Option<Record>,
    /// What was there before.
    pub prev: Option<Record>,
}

/// A stream of changes.
#[derive(Debug)]
pub struct Watch {}

impl Stream for Watch {
    type Item = Result<WatchBatch>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(None)
    }
}

/// A lease's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseTtl {
    /// The lease.
    pub id: LeaseId,
    /// Its full time.
    pub ttl_ms: u64,
    /// What is left of it.
    pub left_ms: u64,
}

/// A handle on the store; clones share one session.
#[derive(Clone, Debug)]
pub struct KvClient {}

impl KvClient {
    /// Proposes an action and answers once it is applied. The action is applied at most once,
    /// however often it had to be sent.
    pub async fn execute(&self, _action: Action) -> Result<Answer> {
        Err(Error::Unavailable { group: GroupId::FIRST_SHARD, reason: "not started".into() })
    }

    /// Reads at a freshness.
    pub async fn query(&self, _query: Query, _consistency: Consistency) -> Result<Answer> {
        Err(Error::Unavailable { group: GroupId::FIRST_SHARD, reason: "not started".into() })
    }

    /// Watches.
    pub async fn watch(&self, _request: WatchRequest) -> Result<Watch> {
        Err(not_started())
    }

    /// Keeps a lease alive.
    pub async fn lease_keep_alive(&self, _id: LeaseId) -> Result<LeaseTtl> {
        Err(not_started())
    }

    /// A lease's time.
    pub async fn lease_ttl(&self, _id: LeaseId) -> Result<LeaseTtl> {
        Err(not_started())
    }
}

fn not_started() -> Error {
    Error::Unavailable { group: GroupId::FIRST_SHARD, reason: "not started".into() }
}
