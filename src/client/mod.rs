//! [`KvClient`]: the store as a program sees it.
//!
//! Key → shard → group → leader, retries and sessions; local and remote alike. This file holds
//! the two calls that everything else is made of, [`KvClient::execute`] and [`KvClient::query`];
//! the chains of options are in `requests`, conditions and transactions in `txn`, leases and
//! locks in `leases`, watches in `watch`. `keyspace` knows the shards and which of them is meant,
//! `fan` does what goes over several of them.
//!
//! Below them is [`GroupClient`], which asks one group. An operation is a [`Request`], the same
//! whoever answers it.
//! `retry` repeats it inside one deadline, `route` says which node is next, and [`nodes::Nodes`]
//! asks one node once: its own process's replicas or a member over the network ([`Member`]), or
//! members over links that a ticket opens ([`Client`]; `places` knows where they are). The other
//! side of these is [`Desk`], which answers from its node's own replicas, passes a request on to the
//! leader once for who can't reach it, and counts what it is asked (`counts`); what comes over a
//! client's link is held against its ticket first (`guests`, `scope`), and what a door asks for the
//! holder of a token against that (`guarded`).

mod counts;
mod desk;
mod fan;
mod group;
mod guarded;
mod guests;
mod keyspace;
mod leases;
mod links;
mod many;
mod member;
pub mod nodes;
mod places;
mod remote;
pub mod request;
mod request_id;
mod requests;
mod retry;
mod route;
mod scope;
mod session;
mod shown;
pub mod trace;
mod txn;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::limits::CLIENT_DEADLINE;
use crate::machine::ops::{Action, Answer, AnswerBody, Query, Status};
use crate::seams::Random;
use crate::types::{Consistency, EndpointId, Form, GroupId, Key, KeyspaceName, Revision};
use keyspace::{Keyspace, Shards};
use nodes::Nodes;
#[cfg(doc)]
use request::Request;

pub use crate::raft::{LeaseTtl, WatchBatch, WatchEvent, WatchRequest};
pub use counts::{OperationFacts, Operations};
pub use desk::{Desk, Hop};
pub use fan::{Position, Scanned};
pub use group::GroupClient;
pub use guarded::{Guarded, Tokens};
pub use guests::{Authorise, NotPermitted};
pub use leases::{Lease, Lock};
pub use member::Member;
pub use remote::Client;
pub use request_id::RequestId;
pub use requests::{Delete, Deleted, Get, IntoKeyRange, Put, PutDone, Range, RangePage};
pub use txn::{Compare, CompareOf, Op, OpAnswer, Txn, TxnDone};
pub use watch::{Watch, WatchBuilder};

/// A handle on the store: on one keyspace of it; clones share sessions and what is known of the
/// nodes.
#[derive(Clone, Debug)]
pub struct KvClient {
    keyspace: Arc<Keyspace>,
    /// How long one operation may take, its retries included.
    within: Duration,
    /// A key of the only shard that is meant.
    near: Option<Key>,
}

impl KvClient {
    /// A client of a keyspace that asks these nodes, in sessions of its own.
    pub fn over(nodes: Arc<dyn Nodes>, keyspace: KeyspaceName, random: Random) -> Self {
        let keyspace = Keyspace::new(nodes, keyspace, random);
        KvClient { keyspace, within: CLIENT_DEADLINE, near: None }
    }

    /// A client of another keyspace, which need not be there yet.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// service.cluster().create_keyspace("logs", 4, 3).await?;
    /// let logs = service.client().keyspace("logs")?;
    /// logs.put("2026-11-22/1", "started").await?;
    /// assert_eq!(service.client().get("2026-11-22/1").await?, None);
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn keyspace(&self, name: &str) -> Result<Self> {
        let keyspace = self.keyspace.another(name.parse()?);
        Ok(KvClient { keyspace, within: self.within, near: None })
    }

    /// A client of the same keyspace for the one shard that has a key: what belongs to a shard as a
    /// whole, as leases and revisions do, needs to know which. Keys with the same part in `{braces}`
    /// are in one shard; where there is only one, any key will do, and none is needed.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .with_shards(8)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// use std::time::Duration;
    ///
    /// let jobs = kv.near("{jobs}")?;
    /// let lease = jobs.lease_grant(Duration::from_secs(60)).await?;
    /// kv.put("{jobs}/7", "mine").lease(lease.id).await?;
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn near<K: TryInto<Key, Error: Into<Error>>>(&self, key: K) -> Result<Self> {
        Ok(KvClient { near: Some(txn::key_of(key)?), ..self.clone() })
    }

    /// Which keyspace.
    pub fn name(&self) -> &KeyspaceName {
        self.keyspace.name()
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

    /// When an operation that begins now must end.
    fn until(&self) -> Instant {
        Instant::now() + self.within
    }

    /// Does an action once, however often it has to be sent, and answers when it is applied and
    /// durable. Only after [`Error::OutcomeUnknown`] may it have been done nevertheless; and
    /// [`Refusal::AnswerForgotten`] says that it was done and its answer is too large to be had
    /// again.
    ///
    /// A delete of a range that is in several shards is one of its own in each: what it answers has
    /// no revision.
    ///
    /// [`Refusal::AnswerForgotten`]: crate::error::Refusal::AnswerForgotten
    pub async fn execute(&self, action: Action) -> Result<Answer> {
        action.validate()?;
        let deadline = self.until();
        let shards = self.shards(deadline).await?;
        match shards.of_action(self, &action)? {
            Some(shard) => self.explained(shard.execute(action, deadline).await),
            None => self.explained(fan::delete(&shards, action, deadline).await),
        }
    }

    /// The group of the shard that is meant where nothing has a key: the only one, or the one that the
    /// client is near.
    pub async fn group_meant(&self) -> Result<GroupId> {
        let shards = self.shards(self.until()).await?;
        Ok(shards.only(self, "what has no key")?.group())
    }

    /// Reads at a freshness. What is read of several shards has no revision.
    pub async fn query(&self, query: Query, consistency: Consistency) -> Result<Answer> {
        query.validate()?;
        let deadline = self.until();
        let shards = self.shards(deadline).await?;
        match shards.of_query(self, &query)? {
            Some(shard) => self.explained(shard.query(query, consistency, deadline).await),
            None => self.explained(fan::query(&shards, query, consistency, deadline).await),
        }
    }

    /// The keyspace's shards, as they are known now.
    async fn shards(&self, deadline: Instant) -> Result<Arc<Shards>> {
        self.keyspace.shards(deadline).await
    }

    /// The one shard that is meant; an error if there are several.
    async fn shard(&self, what: &'static str, deadline: Instant) -> Result<GroupClient> {
        let shards = self.shards(deadline).await?;
        Ok(shards.only(self, what)?.clone())
    }

    /// A group that does not answer may be one of a keyspace that was deleted.
    fn explained<T>(&self, outcome: Result<T>) -> Result<T> {
        match outcome {
            Err(Error::Unavailable { .. }) if self.keyspace.is_gone() => {
                Err(Error::UnknownKeyspace { name: self.name().clone() })
            }
            outcome => outcome,
        }
    }

    /// The counters of the keyspace: of its shard, or the sums of all its shards', which then have
    /// no revisions.
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

    /// Where a key lives, as the leader of its shard says.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// let place = kv.explain("greeting").await?;
    /// assert_eq!((place.shard, place.revision), (0, 0));
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn explain<K: TryInto<Key, Error: Into<Error>>>(&self, key: K) -> Result<Explained> {
        let key = txn::key_of(key)?;
        let deadline = self.until();
        let shards = self.shards(deadline).await?;
        let shard = shards.of_key(&key);
        let group = shards.at(shard);
        // Only the leader answers under its lease.
        let status = group.query(Query::Status, Consistency::Lease, deadline).await;
        let revision = self.explained(status)?.revision;
        Ok(Explained { shard, group: group.group(), leader: group.leader(), revision })
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
    pub async fn compact(&self, revision: Revision) -> Result<()> {
        self.execute(Action::Compact { revision }).await.map(drop)
    }
}

/// Where a key lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Explained {
    /// Which of the keyspace's shards it is in.
    pub shard: u32,
    /// The shard's group.
    pub group: GroupId,
    /// Who leads the group.
    pub leader: Option<EndpointId>,
    /// The shard's revision.
    pub revision: Revision,
}

/// What goes with a request.
#[doc(hidden)]
pub const FORMS: &[Form] = &[trace::FORM, request_id::FORM];

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
