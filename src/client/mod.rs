//! `KvClient`: the store as a program sees it.
//!
//! Key → shard → group → leader, retries, breaker and sessions; local and remote alike. The
//! options chain of each operation is in its own file.

use crate::error::{Error, Result};
use crate::machine::ops::{Action, Answer, Query};
use crate::types::{Consistency, GroupId};

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
}
