//! [`KvClient`]: the store as a program sees it.
//!
//! Key → shard → group → leader, retries and sessions; local and remote alike. This file holds
//! the two calls that everything else is made of, [`KvClient::execute`] and [`KvClient::query`];
//! the chains of options are in `requests`, conditions and transactions in `txn`, leases and
//! locks in `leases`, watches in `watch`.
//!
//! Below them, an operation is a [`Request`], the same whoever answers it.
//! `retry` repeats it inside one deadline, `route` says which node is next, and [`nodes::Nodes`]
//! asks one node once: its own process's replicas or a member over the network ([`Member`]), or
//! members over links that a ticket opens ([`Client`]; `places` knows where they are). The other
//! side of these is [`Desk`], which answers from its node's own replicas and never passes a request
//! on; what comes over a client's link is held against its ticket first (`guests`, `scope`).

mod desk;
mod guests;
mod leases;
mod links;
mod member;
pub mod nodes;
mod places;
mod remote;
pub mod request;
mod requests;
mod retry;
mod route;
mod scope;
mod session;
mod shown;
mod txn;
mod watch;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::error::{Error, Refusal, Result};
use crate::limits::{CLIENT_DEADLINE, CLIENT_WRITES_MAX};
use crate::machine::ops::{Action, Answer, AnswerBody, Command, Query, Status};
use crate::seams::Random;
use crate::types::{Consistency, GroupId};
use nodes::Nodes;
use request::{Reply, Request};
use route::Route;
use session::Session;

pub use crate::raft::{LeaseTtl, WatchBatch, WatchEvent, WatchRequest};
pub use desk::Desk;
pub use guests::{Authorise, NotPermitted};
pub use leases::{Lease, Lock};
pub use member::Member;
pub use remote::Client;
pub use requests::{Delete, Deleted, Get, IntoKeyRange, Put, PutDone, Range, RangePage};
pub use txn::{Compare, CompareOf, Op, OpAnswer, Txn, TxnDone};
pub use watch::{Watch, WatchBuilder};

/// A handle on the store; clones share one session and what is known of the nodes.
#[derive(Clone, Debug)]
pub struct KvClient {
    inner: Arc<Inner>,
    /// How long one operation may take, its retries included.
    within: Duration,
}

#[derive(Debug)]
struct Inner {
    nodes: Arc<dyn Nodes>,
    /// The group of the one shard there is.
    group: GroupId,
    session: Session,
    route: Mutex<Route>,
    random: Random,
    /// Fewer than the answers that a session may have outstanding.
    writes: Arc<Semaphore>,
}

impl KvClient {
    /// A client of one group that asks these nodes, in a session of its own.
    pub fn over(nodes: Arc<dyn Nodes>, group: GroupId, random: Random) -> Self {
        let inner = Inner {
            nodes,
            group,
            session: Session::default(),
            route: Mutex::default(),
            random,
            writes: Arc::new(Semaphore::new(CLIENT_WRITES_MAX)),
        };
        KvClient { inner: Arc::new(inner), within: CLIENT_DEADLINE }
    }

    /// The same client with another deadline for each operation, retries included; without this
    /// it is [`CLIENT_DEADLINE`].
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// use std::time::Duration;
    ///
    /// let kv = service.client().with_deadline(Duration::from_secs(30));
    /// kv.put("patience", "helps").await?;
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn with_deadline(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    fn route(&self) -> MutexGuard<'_, Route> {
        self.inner.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// When an operation that begins now must end.
    fn until(&self) -> Instant {
        Instant::now() + self.within
    }

    /// Does an action once, however often it has to be sent, and answers when it is applied and
    /// durable. Only after [`Error::OutcomeUnknown`] may it have been done nevertheless; and
    /// [`Refusal::AnswerForgotten`] says that it was done and its answer is too large to be had
    /// again.
    pub async fn execute(&self, action: Action) -> Result<Answer> {
        action.validate()?;
        let deadline = self.until();
        let _place = match timeout_at(deadline, self.inner.writes.acquire()).await {
            Ok(Ok(place)) => place,
            _ => return Err(busy()),
        };
        // Why an earlier try may have been done.
        let mut uncertain: Option<String> = None;
        loop {
            let turn = self.inner.session.turn(self, deadline).await?;
            let command = Command { session: Some(turn.place()), action: action.clone() };
            let request =
                Request::Propose { group: self.inner.group, command, proof: turn.proof() };
            match self.send(&request, deadline, &mut uncertain).await {
                Ok(reply) => return answer(reply),
                Err(Error::Refused(Refusal::SessionExpired)) if uncertain.is_none() => {
                    // Never done: the command gets a turn in a new session.
                    self.inner.session.forget(turn.place().id);
                }
                Err(error) => {
                    if error == Error::Refused(Refusal::SessionExpired) {
                        self.inner.session.forget(turn.place().id);
                    } else if matches!(error, Error::Refused(_)) {
                        // Decided by the machine, for all tries at once.
                        return Err(error);
                    }
                    return Err(self.what_is_known(error, uncertain));
                }
            }
        }
    }

    /// The error of the last try, unless an earlier one may have been done.
    fn what_is_known(&self, error: Error, uncertain: Option<String>) -> Error {
        match uncertain {
            Some(reason) => Error::OutcomeUnknown { group: self.inner.group, reason },
            None => error,
        }
    }

    /// Reads at a freshness.
    pub async fn query(&self, query: Query, consistency: Consistency) -> Result<Answer> {
        query.validate()?;
        let request = Request::Query { group: self.inner.group, query, consistency };
        answer(self.send(&request, self.until(), &mut None).await?)
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

fn answer(reply: Reply) -> Result<Answer> {
    match reply {
        Reply::Answer { answer, .. } => Ok(answer),
        Reply::Lease { .. } => Err(Error::Fatal("an operation was answered with a lease".into())),
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
