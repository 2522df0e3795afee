//! Conditions and transactions.

use std::future::IntoFuture;

use bytes::Bytes;
use futures_util::future::BoxFuture;

use super::{IntoKeyRange, KvClient, unexpected};
use crate::error::{Error, Result};
use crate::machine::ops::{
    self as machine, Action, AnswerBody, CompareKeys, CompareTarget, Is, KeyRange, KeyRecord, Page,
    PutLease,
};
use crate::types::{Key, LeaseId, Record, Revision, Value};

pub(super) fn key_of<K: TryInto<Key, Error: Into<Error>>>(key: K) -> Result<Key> {
    key.try_into().map_err(Into::into)
}

pub(super) fn value_of<V: TryInto<Value, Error: Into<Error>>>(value: V) -> Result<Value> {
    value.try_into().map_err(Into::into)
}

impl KvClient {
    /// A transaction: if all conditions hold, one list of operations, otherwise the other; all
    /// that is written has one revision.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// use aspen::{Compare, Op};
    ///
    /// let done = kv
    ///     .txn()
    ///     .when(Compare::version("k").eq(0))
    ///     .then(Op::put("k", "w"))
    ///     .or_else(Op::get("k"))
    ///     .await?;
    /// assert!(done.succeeded);
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn txn(&self) -> Txn {
        Txn { client: self.clone(), txn: Ok(machine::Txn::default()) }
    }
}

/// The left side of a condition: which key, and what of it. End it with a comparison.
#[derive(Debug)]
#[must_use = "a condition needs a comparison"]
pub struct Compare<T> {
    key: Result<Key>,
    target: fn(T) -> CompareTarget,
}

/// A condition.
#[derive(Debug)]
#[must_use = "a condition does nothing until it is part of a transaction"]
pub struct CompareOf(Result<machine::Compare>);

impl Compare<u64> {
    /// How often the key was written since it was created; 0 if it does not exist.
    pub fn version<K: TryInto<Key, Error: Into<Error>>>(key: K) -> Self {
        Compare { key: key_of(key), target: CompareTarget::Version }
    }

    /// The revision that created the key; 0 if it does not exist.
    pub fn create_revision<K: TryInto<Key, Error: Into<Error>>>(key: K) -> Self {
        Compare { key: key_of(key), target: CompareTarget::Create }
    }

    /// The revision that last wrote the key; 0 if it does not exist.
    pub fn mod_revision<K: TryInto<Key, Error: Into<Error>>>(key: K) -> Self {
        Compare { key: key_of(key), target: CompareTarget::Mod }
    }

    /// The lease that the key is attached to; 0 for none.
    pub fn lease<K: TryInto<Key, Error: Into<Error>>>(key: K) -> Self {
        Compare { key: key_of(key), target: CompareTarget::Lease }
    }

    /// Holds if they are equal.
    pub fn eq(self, number: u64) -> CompareOf {
        self.is(Is::Equal, number)
    }

    /// Holds if they differ.
    pub fn ne(self, number: u64) -> CompareOf {
        self.is(Is::NotEqual, number)
    }

    /// Holds if the key's is greater.
    pub fn gt(self, number: u64) -> CompareOf {
        self.is(Is::Greater, number)
    }

    /// Holds if the key's is less.
    pub fn lt(self, number: u64) -> CompareOf {
        self.is(Is::Less, number)
    }
}

impl Compare<Value> {
    /// The value's bytes; a key that does not exist fails every comparison.
    pub fn value<K: TryInto<Key, Error: Into<Error>>>(key: K) -> Self {
        Compare { key: key_of(key), target: CompareTarget::Value }
    }

    /// Holds if they are equal.
    pub fn eq<V: TryInto<Value, Error: Into<Error>>>(self, value: V) -> CompareOf {
        self.with(Is::Equal, value)
    }

    /// Holds if they differ.
    pub fn ne<V: TryInto<Value, Error: Into<Error>>>(self, value: V) -> CompareOf {
        self.with(Is::NotEqual, value)
    }

    /// Holds if the key's is greater.
    pub fn gt<V: TryInto<Value, Error: Into<Error>>>(self, value: V) -> CompareOf {
        self.with(Is::Greater, value)
    }

    /// Holds if the key's is less.
    pub fn lt<V: TryInto<Value, Error: Into<Error>>>(self, value: V) -> CompareOf {
        self.with(Is::Less, value)
    }

    fn with<V: TryInto<Value, Error: Into<Error>>>(self, is: Is, value: V) -> CompareOf {
        match value_of(value) {
            Ok(value) => self.is(is, value),
            Err(error) => CompareOf(Err(error)),
        }
    }
}

impl<T> Compare<T> {
    fn is(self, is: Is, with: T) -> CompareOf {
        let target = (self.target)(with);
        let compare = |key| machine::Compare { range: CompareKeys::One(key), target, is };
        CompareOf(self.key.map(compare))
    }
}

impl CompareOf {
    /// The same condition on every key of a range; it holds if there is none.
    pub fn on_range(self, range: impl IntoKeyRange) -> Self {
        let range = CompareKeys::All(range.into_key_range());
        CompareOf(self.0.map(|compare| machine::Compare { range, ..compare }))
    }
}

/// One operation of a transaction.
#[derive(Debug)]
#[must_use = "an operation does nothing until it is part of a transaction"]
pub struct Op(Result<machine::Op>);

impl Op {
    /// Writes a key.
    pub fn put<K, V>(key: K, value: V) -> Self
    where
        K: TryInto<Key, Error: Into<Error>>,
        V: TryInto<Value, Error: Into<Error>>,
    {
        let put = key_of(key).and_then(|key| Ok(machine::Put::new(key, value_of(value)?)));
        Op(put.map(machine::Op::Put))
    }

    /// Reads a key, as operations before it left it.
    pub fn get<K: TryInto<Key, Error: Into<Error>>>(key: K) -> Self {
        let range = |key: Key| machine::Range::of(KeyRange::one(&key));
        Op(key_of(key).map(range).map(machine::Op::Range))
    }

    /// Reads a range of keys.
    pub fn range(range: impl IntoKeyRange) -> Self {
        Op(Ok(machine::Op::Range(machine::Range::of(range.into_key_range()))))
    }

    /// Deletes a key.
    pub fn delete<K: TryInto<Key, Error: Into<Error>>>(key: K) -> Self {
        let delete = |key: Key| machine::Delete { range: KeyRange::one(&key), prev: false };
        Op(key_of(key).map(delete).map(machine::Op::Delete))
    }

    /// Deletes every key that begins with these bytes.
    pub fn delete_prefix(prefix: impl AsRef<[u8]>) -> Self {
        let range = KeyRange::prefix(Bytes::copy_from_slice(prefix.as_ref()));
        Op(Ok(machine::Op::Delete(machine::Delete { range, prev: false })))
    }

    /// Attaches the key that is put to a lease.
    pub fn lease(mut self, lease: LeaseId) -> Self {
        if let Ok(machine::Op::Put(put)) = &mut self.0 {
            put.lease = PutLease::Attach(lease);
        }
        self
    }

    /// Answers a put or delete with what was there before.
    pub fn prev(mut self) -> Self {
        match &mut self.0 {
            Ok(machine::Op::Put(put)) => put.prev = true,
            Ok(machine::Op::Delete(delete)) => delete.prev = true,
            _ => {}
        }
        self
    }

    /// A transaction within a transaction; its conditions look at the state before both.
    pub fn txn(txn: Txn) -> Self {
        Op(txn.txn.map(machine::Op::Txn))
    }

    pub(super) fn raw(op: machine::Op) -> Self {
        Op(Ok(op))
    }
}

/// A transaction, not yet sent.
#[derive(Debug)]
#[must_use = "a transaction does nothing until it is awaited"]
pub struct Txn {
    client: KvClient,
    txn: Result<machine::Txn>,
}

/// What a transaction did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TxnDone {
    /// The shard's revision afterwards: the transaction's own if it wrote.
    pub revision: Revision,
    /// Whether all conditions held.
    pub succeeded: bool,
    /// An answer to each operation that was done, in order.
    pub answers: Vec<OpAnswer>,
}

/// The answer to one operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpAnswer {
    /// To [`Op::put`].
    Put {
        /// What was there before, if it was asked for.
        prev: Option<Record>,
    },
    /// To [`Op::get`].
    Get(Option<Record>),
    /// To [`Op::range`].
    Range(Page),
    /// To [`Op::delete`] and [`Op::delete_prefix`].
    Deleted {
        /// How many keys it removed.
        count: u64,
        /// What they held, if it was asked for.
        prev: Vec<KeyRecord>,
    },
    /// To [`Op::txn`].
    Txn {
        /// Whether its conditions held.
        succeeded: bool,
        /// An answer to each of its operations that was done.
        answers: Vec<OpAnswer>,
    },
}

impl Txn {
    /// Adds a condition; all must hold.
    pub fn when(self, condition: CompareOf) -> Self {
        self.add(condition.0, |txn, condition| txn.when.push(condition))
    }

    /// Adds an operation for when all conditions hold.
    pub fn then(self, op: Op) -> Self {
        self.add(op.0, |txn, op| txn.then.push(op))
    }

    /// Adds an operation for when one does not.
    pub fn or_else(self, op: Op) -> Self {
        self.add(op.0, |txn, op| txn.or_else.push(op))
    }

    fn add<T>(mut self, part: Result<T>, add: impl FnOnce(&mut machine::Txn, T)) -> Self {
        match (&mut self.txn, part) {
            (Ok(txn), Ok(part)) => add(txn, part),
            // The first mistake is the one reported.
            (Ok(_), Err(error)) => self.txn = Err(error),
            (Err(_), _) => {}
        }
        self
    }

    async fn send(self) -> Result<TxnDone> {
        let txn = self.txn?;
        let shape = Shape::of(&txn);
        let answer = self.client.execute(Action::Txn(txn)).await?;
        let AnswerBody::Txn { succeeded, answers } = answer.body else {
            return Err(unexpected(&answer.body));
        };
        let answers = shape.name(succeeded, answers)?;
        Ok(TxnDone { revision: answer.revision, succeeded, answers })
    }
}

impl IntoFuture for Txn {
    type Output = Result<TxnDone>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.send())
    }
}

/// Which reads of a transaction were of one key: the machine answers all reads as ranges.
#[derive(Debug)]
struct Shape {
    then: Vec<OpShape>,
    or_else: Vec<OpShape>,
}

#[derive(Debug)]
enum OpShape {
    Get,
    Other,
    Txn(Shape),
}

impl Shape {
    fn of(txn: &machine::Txn) -> Self {
        let shapes = |ops: &[machine::Op]| {
            let shape = |op: &machine::Op| match op {
                machine::Op::Range(range) if range.range.as_one().is_some() => OpShape::Get,
                machine::Op::Txn(inner) => OpShape::Txn(Shape::of(inner)),
                _ => OpShape::Other,
            };
            ops.iter().map(shape).collect()
        };
        Shape { then: shapes(&txn.then), or_else: shapes(&txn.or_else) }
    }

    fn name(self, succeeded: bool, answers: Vec<AnswerBody>) -> Result<Vec<OpAnswer>> {
        let shapes = if succeeded { self.then } else { self.or_else };
        let named = shapes.into_iter().zip(answers).map(|(shape, answer)| match (shape, answer) {
            (OpShape::Get, AnswerBody::Range(page)) => {
                Ok(OpAnswer::Get(page.records.into_iter().next().map(|found| found.record)))
            }
            (OpShape::Txn(shape), AnswerBody::Txn { succeeded, answers }) => {
                Ok(OpAnswer::Txn { succeeded, answers: shape.name(succeeded, answers)? })
            }
            (_, AnswerBody::Range(page)) => Ok(OpAnswer::Range(page)),
            (_, AnswerBody::Put { prev }) => Ok(OpAnswer::Put { prev }),
            (_, AnswerBody::Deleted { count, prev }) => Ok(OpAnswer::Deleted { count, prev }),
            (_, other) => Err(unexpected(&other)),
        });
        named.collect()
    }
}
