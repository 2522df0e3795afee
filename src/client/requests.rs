//! Put, get, range and delete, with their options as chains that end in `.await`.
//!
//! A key or value that breaks a limit is reported by the await, not by the call that took it.

use std::future::IntoFuture;
use std::ops::{self, Bound};

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::fan::{Position, Scanned};
use super::txn::{CompareOf, key_of, value_of};
use super::{Compare, KvClient, Op, OpAnswer, unexpected};
use crate::error::{Error, Refusal, Result};
use crate::machine::ops::{
    self as machine, Action, AnswerBody, Filter, KeyRange, KeyRecord, Order, OrderBy, PutLease,
    Query, Select,
};
use crate::types::{Consistency, Key, LeaseId, Record, Revision, Value};

impl KvClient {
    /// Writes a key.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// let done = kv.put("greeting", "hello").await?;
    /// assert_eq!(done.revision, 1);
    ///
    /// // Only if nobody wrote it since.
    /// kv.put("greeting", "hello again").if_revision(done.revision).await?;
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn put<K, V>(&self, key: K, value: V) -> Put
    where
        K: TryInto<Key, Error: Into<Error>>,
        V: TryInto<Value, Error: Into<Error>>,
    {
        let put = key_of(key).and_then(|key| Ok(machine::Put::new(key, value_of(value)?)));
        Put { client: self.clone(), put, conditions: Vec::new() }
    }

    /// Reads a key.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// kv.put("greeting", "hello").await?;
    /// let got = kv.get("greeting").await?.expect("it was just written");
    /// assert_eq!(got.value.as_bytes(), b"hello");
    /// assert_eq!(kv.get("nobody").await?, None);
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn get<K: TryInto<Key, Error: Into<Error>>>(&self, key: K) -> Get {
        Get {
            client: self.clone(),
            key: key_of(key),
            revision: None,
            consistency: Consistency::default(),
        }
    }

    /// Reads a range of keys, in order: `..`, `"a".."b"`, `"a"..`, `"a"..="b"`.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// for key in ["app/a", "app/b", "other"] {
    ///     kv.put(key, "x").await?;
    /// }
    /// let page = kv.range(..).prefix("app/").limit(1).await?;
    /// assert_eq!((page.count, page.more), (2, true));
    ///
    /// // The next page, as of the same moment.
    /// let page = kv.range(..).prefix("app/").after_page(&page).await?;
    /// assert_eq!(page.records[0].key.as_bytes(), b"app/b");
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn range(&self, range: impl IntoKeyRange) -> Range {
        Range {
            client: self.clone(),
            range: machine::Range::of(range.into_key_range()),
            as_of: None,
            consistency: Consistency::default(),
        }
    }

    /// Deletes a key.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// kv.put("greeting", "hello").await?;
    /// assert_eq!(kv.delete("greeting").await?.count, 1);
    /// assert_eq!(kv.delete("greeting").await?.count, 0);
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete<K: TryInto<Key, Error: Into<Error>>>(&self, key: K) -> Delete {
        let range = key_of(key).map(|key| KeyRange::one(&key));
        Delete { client: self.clone(), range, prev: false, conditions: Vec::new() }
    }

    /// Deletes a range of keys: at once, with one revision, where it is in one shard, and else in one
    /// shard after the other.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// for key in ["a", "b", "c"] {
    ///     kv.put(key, "x").await?;
    /// }
    /// assert_eq!(kv.delete_range("a".."c").await?.count, 2);
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete_range(&self, range: impl IntoKeyRange) -> Delete {
        let range = Ok(range.into_key_range());
        Delete { client: self.clone(), range, prev: false, conditions: Vec::new() }
    }

    /// Deletes every key that begins with these bytes; as [`KvClient::delete_range`] does.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// kv.put("app/a", "x").await?;
    /// let gone = kv.delete_prefix("app/").prev().await?;
    /// assert_eq!(gone.prev[0].key.as_bytes(), b"app/a");
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn delete_prefix(&self, prefix: impl AsRef<[u8]>) -> Delete {
        let range = Ok(KeyRange::prefix(Bytes::copy_from_slice(prefix.as_ref())));
        Delete { client: self.clone(), range, prev: false, conditions: Vec::new() }
    }
}

/// What can be read as a range of keys.
pub trait IntoKeyRange {
    /// The range's bounds.
    fn into_key_range(self) -> KeyRange;
}

fn bytes(key: impl AsRef<[u8]>) -> Bytes {
    Bytes::copy_from_slice(key.as_ref())
}

impl IntoKeyRange for KeyRange {
    fn into_key_range(self) -> KeyRange {
        self
    }
}

impl IntoKeyRange for ops::RangeFull {
    fn into_key_range(self) -> KeyRange {
        KeyRange::all()
    }
}

impl<K: AsRef<[u8]>> IntoKeyRange for ops::Range<K> {
    fn into_key_range(self) -> KeyRange {
        KeyRange {
            start: Bound::Included(bytes(self.start)),
            end: Bound::Excluded(bytes(self.end)),
        }
    }
}

impl<K: AsRef<[u8]>> IntoKeyRange for ops::RangeInclusive<K> {
    fn into_key_range(self) -> KeyRange {
        let (start, end) = self.into_inner();
        KeyRange { start: Bound::Included(bytes(start)), end: Bound::Included(bytes(end)) }
    }
}

impl<K: AsRef<[u8]>> IntoKeyRange for ops::RangeFrom<K> {
    fn into_key_range(self) -> KeyRange {
        KeyRange { start: Bound::Included(bytes(self.start)), end: Bound::Unbounded }
    }
}

impl<K: AsRef<[u8]>> IntoKeyRange for ops::RangeTo<K> {
    fn into_key_range(self) -> KeyRange {
        KeyRange { start: Bound::Unbounded, end: Bound::Excluded(bytes(self.end)) }
    }
}

impl<K: AsRef<[u8]>> IntoKeyRange for ops::RangeToInclusive<K> {
    fn into_key_range(self) -> KeyRange {
        KeyRange { start: Bound::Unbounded, end: Bound::Included(bytes(self.end)) }
    }
}

/// A write of one key, not yet sent.
#[derive(Debug)]
#[must_use = "a put does nothing until it is awaited"]
pub struct Put {
    client: KvClient,
    put: Result<machine::Put>,
    conditions: Vec<CompareOf>,
}

/// What a put did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutDone {
    /// The revision of the write.
    pub revision: Revision,
    /// What was there before, if it was asked for.
    pub prev: Option<Record>,
}

impl Put {
    /// Attaches the key to a lease: when the lease ends, the key is deleted.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        if let Ok(put) = &mut self.put {
            put.lease = PutLease::Attach(lease);
        }
        self
    }

    /// Leaves the key attached to the lease that it has.
    pub fn keep_lease(mut self) -> Self {
        if let Ok(put) = &mut self.put {
            put.lease = PutLease::Keep;
        }
        self
    }

    /// Answers with what was there before.
    pub fn prev(mut self) -> Self {
        if let Ok(put) = &mut self.put {
            put.prev = true;
        }
        self
    }

    /// Writes only if the key has this version; 0 means that it does not exist.
    pub fn if_version(self, version: u64) -> Self {
        self.when(|key| Compare::version(key).eq(version))
    }

    /// Writes only if the key was last written by this revision; 0 means that it does not exist.
    pub fn if_revision(self, revision: Revision) -> Self {
        self.when(|key| Compare::mod_revision(key).eq(revision))
    }

    /// Writes only if the key holds this value.
    pub fn if_value<V: TryInto<Value, Error: Into<Error>>>(self, value: V) -> Self {
        self.when(|key| Compare::value(key).eq(value))
    }

    /// Writes only if the key does not exist.
    pub fn if_absent(self) -> Self {
        self.if_version(0)
    }

    fn when(mut self, condition: impl FnOnce(Key) -> CompareOf) -> Self {
        if let Ok(put) = &self.put {
            self.conditions.push(condition(put.key.clone()));
        }
        self
    }

    async fn send(self) -> Result<PutDone> {
        let put = self.put?;
        if self.conditions.is_empty() {
            let answer = self.client.execute(Action::Put(put)).await?;
            return match answer.body {
                AnswerBody::Put { prev } => Ok(PutDone { revision: answer.revision, prev }),
                other => Err(unexpected(&other)),
            };
        }
        let key = put.key.clone();
        let (revision, answer) =
            when(&self.client, self.conditions, key, machine::Op::Put(put)).await?;
        match answer {
            OpAnswer::Put { prev } => Ok(PutDone { revision, prev }),
            other => Err(Error::Fatal(format!("a put was answered with {other:?}"))),
        }
    }
}

/// Does one operation if conditions on one key hold; refuses with the key's present revision
/// otherwise.
async fn when(
    client: &KvClient,
    conditions: Vec<CompareOf>,
    key: Key,
    op: machine::Op,
) -> Result<(Revision, OpAnswer)> {
    let mut txn = client.txn().then(Op::raw(op)).or_else(Op::get(key));
    for condition in conditions {
        txn = txn.when(condition);
    }
    let mut done = txn.await?;
    match (done.succeeded, done.answers.pop()) {
        (true, Some(answer)) => Ok((done.revision, answer)),
        (false, Some(OpAnswer::Get(record))) => {
            let mod_revision = record.map_or(0, |record| record.mod_revision);
            Err(Refusal::ConditionFailed { mod_revision }.into())
        }
        (_, other) => Err(Error::Fatal(format!("a condition was answered with {other:?}"))),
    }
}

/// A read of one key, not yet sent.
#[derive(Debug)]
#[must_use = "a get does nothing until it is awaited"]
pub struct Get {
    client: KvClient,
    key: Result<Key>,
    revision: Option<Revision>,
    consistency: Consistency,
}

impl Get {
    /// Reads the key as it was at a past revision.
    pub fn at(mut self, revision: Revision) -> Self {
        self.revision = Some(revision);
        self
    }

    /// How fresh the answer must be; linearizable unless said otherwise.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    async fn send(self) -> Result<Option<Record>> {
        let key = self.key?;
        let query = match self.revision {
            None => Query::Get(key),
            Some(_) => Query::Range(machine::Range {
                revision: self.revision,
                ..machine::Range::of(KeyRange::one(&key))
            }),
        };
        match self.client.query(query, self.consistency).await?.body {
            AnswerBody::Record(record) => Ok(record),
            AnswerBody::Range(page) => {
                Ok(page.records.into_iter().next().map(|found| found.record))
            }
            other => Err(unexpected(&other)),
        }
    }
}

/// A read of a range of keys, not yet sent.
#[derive(Debug)]
#[must_use = "a range does nothing until it is awaited"]
pub struct Range {
    client: KvClient,
    range: machine::Range,
    as_of: Option<Position>,
    consistency: Consistency,
}

/// One page of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RangePage {
    /// The revision that the page is of; 0 if it is of several shards.
    pub revision: Revision,
    /// The records, in the order asked for.
    pub records: Vec<KeyRecord>,
    /// How many keys the range holds in all.
    pub count: u64,
    /// There are more records than are here: see [`Range::after_page`].
    pub more: bool,
    /// What revision of each shard it is of.
    pub position: Position,
}

impl Range {
    /// Only keys that begin with these bytes.
    pub fn prefix(mut self, prefix: impl AsRef<[u8]>) -> Self {
        self.range.range = KeyRange::prefix(bytes(prefix));
        self
    }

    /// Only keys after this one.
    pub fn after(mut self, key: &Key) -> Self {
        self.range.range.start = Bound::Excluded(key.clone().into_bytes());
        self
    }

    /// At most so many records.
    pub fn limit(mut self, records: u64) -> Self {
        self.range.limit = Some(records);
        self
    }

    /// As it was at a past revision.
    pub fn at(mut self, revision: Revision) -> Self {
        self.range.revision = Some(revision);
        self
    }

    /// The greatest key first.
    pub fn descending(mut self) -> Self {
        self.range.order.descending = true;
        self
    }

    /// Ordered by something else than the key; looks at the whole range.
    pub fn order_by(mut self, by: OrderBy) -> Self {
        self.range.order = Order { by, ..self.range.order };
        self
    }

    /// Only keys and counters; values are empty.
    pub fn keys_only(mut self) -> Self {
        self.range.select = Select::Keys;
        self
    }

    /// Only how many there are.
    pub fn count_only(mut self) -> Self {
        self.range.select = Select::Count;
        self
    }

    /// Only records whose revisions lie in bounds.
    pub fn filter(mut self, filter: Filter) -> Self {
        self.range.filter = filter;
        self
    }

    /// How fresh the answer must be; linearizable unless said otherwise.
    pub fn consistency(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// Goes on after a page, as of the same moment.
    pub fn after_page(mut self, page: &RangePage) -> Self {
        if let Some(last) = page.records.last() {
            let last = last.key.clone().into_bytes();
            match self.range.order.descending {
                false => self.range.range.start = Bound::Excluded(last),
                true => self.range.range.end = Bound::Excluded(last),
            }
        }
        self.as_of = Some(page.position.clone());
        self
    }

    async fn send(self) -> Result<RangePage> {
        let scanned = self.client.scan(self.range, self.as_of.as_ref(), self.consistency).await?;
        let Scanned { page, revision, position } = scanned;
        Ok(RangePage {
            revision: revision.unwrap_or(0),
            records: page.records,
            count: page.count,
            more: page.more,
            position,
        })
    }
}

/// A delete, not yet sent.
#[derive(Debug)]
#[must_use = "a delete does nothing until it is awaited"]
pub struct Delete {
    client: KvClient,
    range: Result<KeyRange>,
    prev: bool,
    conditions: Vec<CompareOf>,
}

/// What a delete did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Deleted {
    /// The shard's revision afterwards: the delete's own if there was something to delete. 0 if it
    /// was in several shards.
    pub revision: Revision,
    /// How many keys it removed.
    pub count: u64,
    /// What they held, if it was asked for.
    pub prev: Vec<KeyRecord>,
}

impl Delete {
    /// Answers with what was there.
    pub fn prev(mut self) -> Self {
        self.prev = true;
        self
    }

    /// Deletes only if the key was last written by this revision. For one key.
    pub fn if_revision(mut self, revision: Revision) -> Self {
        if let Some(key) = self.key() {
            self.conditions.push(Compare::mod_revision(key).eq(revision));
        } else if self.range.is_ok() {
            let what = "a condition on a delete needs one key, not a range".to_owned();
            self.range = Err(crate::error::Invalid::Other(what).into());
        }
        self
    }

    fn key(&self) -> Option<Key> {
        let range = self.range.as_ref().ok()?;
        Key::new(Bytes::copy_from_slice(range.as_one()?)).ok()
    }

    async fn send(self) -> Result<Deleted> {
        let key = self.key();
        let delete = machine::Delete { range: self.range?, prev: self.prev };
        if self.conditions.is_empty() {
            let answer = self.client.execute(Action::Delete(delete)).await?;
            return match answer.body {
                AnswerBody::Deleted { count, prev } => {
                    Ok(Deleted { revision: answer.revision, count, prev })
                }
                other => Err(unexpected(&other)),
            };
        }
        let Some(key) = key else {
            return Err(Error::Fatal("a conditional delete lost its key".into()));
        };
        let (revision, answer) =
            when(&self.client, self.conditions, key, machine::Op::Delete(delete)).await?;
        match answer {
            OpAnswer::Deleted { count, prev } => Ok(Deleted { revision, count, prev }),
            other => Err(Error::Fatal(format!("a delete was answered with {other:?}"))),
        }
    }
}

/// Lets each request be awaited as it is.
macro_rules! awaitable {
    ($($request:ty => $answer:ty),*) => {$(
        impl IntoFuture for $request {
            type Output = Result<$answer>;
            type IntoFuture = BoxFuture<'static, Self::Output>;

            fn into_future(self) -> Self::IntoFuture {
                Box::pin(self.send())
            }
        }
    )*};
}

awaitable!(Put => PutDone, Get => Option<Record>, Range => RangePage, Delete => Deleted);
