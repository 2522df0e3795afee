//! [`KvClient`]: the store as a program sees it.
//!
//! Key → shard → group → leader, retries and sessions; local and remote alike. This file holds
//! the two calls that everything else is made of, [`KvClient::execute`] and [`KvClient::query`];
//! the chains of options are in `requests`, conditions and transactions in `txn`, leases and
//! locks in `leases`, watches in `watch`.

mod leases;
mod requests;
mod session;
mod txn;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::actors::Groups;
use crate::error::{Error, Refusal, Result};
use crate::limits::{CLIENT_BACKOFF_MAX, CLIENT_BACKOFF_MIN, CLIENT_DEADLINE, CLIENT_WRITES_MAX};
use crate::machine::ops::{Action, Answer, AnswerBody, Command, Query, Status};
use crate::raft::{Failed, Replica};
use crate::types::{Consistency, GroupId, NodeId};
use session::Session;

pub use crate::raft::{LeaseTtl, WatchBatch, WatchEvent, WatchRequest};
pub use leases::{Lease, Lock};
pub use requests::{Delete, Deleted, Get, IntoKeyRange, Put, PutDone, Range, RangePage};
pub use txn::{Compare, CompareOf, Op, OpAnswer, Txn, TxnDone};
pub use watch::{Watch, WatchBuilder};

/// A handle on the store; clones share one session.
#[derive(Clone, Debug)]
pub struct KvClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    groups: Groups,
    /// The group of the one shard there is.
    group: GroupId,
    session: Session,
    /// Fewer than the answers that a session may have outstanding.
    writes: Arc<Semaphore>,
}

/// Waits between tries, longer each time.
struct Backoff {
    deadline: Instant,
    next: Duration,
}

impl Backoff {
    fn new(deadline: Instant) -> Self {
        Backoff { deadline, next: CLIENT_BACKOFF_MIN }
    }

    /// Waits for the next try; false if the time is up.
    async fn wait(&mut self) -> bool {
        let until = Instant::now() + self.next;
        self.next = (self.next * 2).min(CLIENT_BACKOFF_MAX);
        sleep_until(until.min(self.deadline)).await;
        until < self.deadline
    }
}

impl KvClient {
    pub(crate) fn new(groups: Groups) -> Self {
        KvClient {
            inner: Arc::new(Inner {
                groups,
                group: GroupId::FIRST_SHARD,
                session: Session::default(),
                writes: Arc::new(Semaphore::new(CLIENT_WRITES_MAX)),
            }),
        }
    }

    async fn replica(&self, deadline: Instant) -> Result<Replica> {
        self.inner.groups.replica(self.inner.group, deadline).await
    }

    fn no_leader(&self, leader: Option<NodeId>) -> Error {
        let reason = match leader {
            Some(node) => format!("node {node} leads it and can't be reached from here"),
            None => "it has no leader at the moment".into(),
        };
        Error::Unavailable { group: self.inner.group, reason }
    }

    /// Does an action once, however often it has to be sent, and answers when it is applied and
    /// durable. Only after [`Error::OutcomeUnknown`] may it have been done nevertheless; and
    /// [`Refusal::AnswerForgotten`] says that it was done and its answer is too large to be had
    /// again.
    pub async fn execute(&self, action: Action) -> Result<Answer> {
        action.validate()?;
        let deadline = Instant::now() + CLIENT_DEADLINE;
        let _place = match timeout_at(deadline, self.inner.writes.acquire()).await {
            Ok(Ok(place)) => place,
            _ => return Err(busy()),
        };
        let mut backoff = Backoff::new(deadline);
        // Why an earlier try may have been done.
        let mut uncertain: Option<String> = None;
        let mut turn = self.inner.session.turn(self, deadline).await?;
        loop {
            let replica = match self.replica(deadline).await {
                Ok(replica) => replica,
                Err(error) => return Err(self.what_is_known(error, uncertain)),
            };
            let command = Command { session: Some(turn.place()), action: action.clone() };
            let error = match self.propose(&replica, command, deadline).await {
                Ok(answer) => return Ok(answer),
                Err(Failed::Final(error @ Error::Refused(Refusal::SessionExpired))) => {
                    self.inner.session.forget(turn.place().id);
                    if uncertain.is_some() {
                        return Err(self.what_is_known(error, uncertain));
                    }
                    // Never done: the command gets a turn in a new session.
                    turn = self.inner.session.turn(self, deadline).await?;
                    continue;
                }
                // Decided by the machine, for all tries at once.
                Err(Failed::Final(error @ Error::Refused(_))) => return Err(error),
                Err(Failed::Unknown { reason }) => {
                    uncertain = Some(reason.clone());
                    self.outcome_unknown(reason)
                }
                // This try did nothing, an earlier one may have.
                Err(Failed::NotLeader { leader }) => self.no_leader(leader),
                Err(Failed::Final(error @ Error::Unavailable { .. })) => error,
                Err(Failed::Final(error)) if uncertain.is_none() => return Err(error),
                Err(Failed::Final(error)) => error,
            };
            if !backoff.wait().await {
                return Err(self.what_is_known(error, uncertain));
            }
        }
    }

    /// The error of the last try, unless an earlier one may have been done.
    fn what_is_known(&self, error: Error, uncertain: Option<String>) -> Error {
        match uncertain {
            Some(reason) => self.outcome_unknown(reason),
            None => error,
        }
    }

    fn outcome_unknown(&self, reason: String) -> Error {
        Error::OutcomeUnknown { group: self.inner.group, reason }
    }

    /// One try, on the replica of this node.
    async fn propose(
        &self,
        replica: &Replica,
        command: Command,
        deadline: Instant,
    ) -> Result<Answer, Failed> {
        match timeout_at(deadline, replica.propose(command)).await {
            Ok(answer) => answer,
            Err(_) => Err(Failed::Unknown { reason: "no answer came in time".into() }),
        }
    }

    /// Reads at a freshness.
    pub async fn query(&self, query: Query, consistency: Consistency) -> Result<Answer> {
        query.validate()?;
        self.retry(|replica| {
            let query = query.clone();
            async move { replica.query(&query, consistency).await }
        })
        .await
    }

    /// Repeats what changes nothing until it succeeds, is refused, or the time is up.
    async fn retry<T, F>(&self, attempt: impl Fn(Replica) -> F) -> Result<T>
    where
        F: Future<Output = Result<T, Failed>> + Send,
    {
        let deadline = Instant::now() + CLIENT_DEADLINE;
        let mut backoff = Backoff::new(deadline);
        loop {
            let replica = self.replica(deadline).await?;
            let error = match timeout_at(deadline, attempt(replica)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(Failed::NotLeader { leader })) => self.no_leader(leader),
                Ok(Err(Failed::Unknown { reason })) => {
                    Error::Unavailable { group: self.inner.group, reason }
                }
                Ok(Err(Failed::Final(error @ Error::Unavailable { .. }))) => error,
                Ok(Err(Failed::Final(error))) => return Err(error),
                Err(_) => {
                    let reason = "no answer came in time".into();
                    return Err(Error::Unavailable { group: self.inner.group, reason });
                }
            };
            if !backoff.wait().await {
                return Err(error);
            }
        }
    }

    /// The shard's counters.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// kv.put("k", "1").await?;
    /// assert_eq!(kv.status().await?.keys, 1);
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn status(&self) -> Result<Status> {
        match self.query(Query::Status, Consistency::Linearizable).await?.body {
            AnswerBody::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    }

    /// Drops history before a revision; reads at it and later ones go on. Answers the revision.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// kv.put("k", "1").await?;
    /// let now = kv.put("k", "2").await?.revision;
    /// kv.compact(now).await?;
    /// assert!(kv.get("k").at(now - 1).await.is_err());
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn compact(&self, revision: crate::types::Revision) -> Result<()> {
        self.execute(Action::Compact { revision }).await.map(drop)
    }
}

/// The client has as many writes under way as it may.
fn busy() -> Error {
    Error::Busy { what: "the client", retry_after_ms: 100 }
}

/// The machine answered another question: a bug, told as such rather than by a panic.
fn unexpected(answer: &AnswerBody) -> Error {
    let kind = format!("{answer:?}");
    let kind = kind.split(['(', ' ', '{']).next().unwrap_or_default();
    Error::Fatal(format!("the machine gave an answer of another kind: {kind}"))
}
