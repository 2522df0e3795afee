//! Many keys at once that need nothing of each other: what is read is of no one moment, and what is
//! written is of one moment in each shard, and in each by itself.

use std::collections::BTreeMap;

use futures_util::{StreamExt, TryStreamExt, stream};

use super::{KvClient, unexpected};
use crate::error::{Error, Result};
use crate::limits::{CLIENT_SHARDS_AT_ONCE, RANGE_BYTES_MAX};
use crate::machine::ops::{Action, Answer, AnswerBody, Op, Query, Txn};
use crate::types::{Consistency, Key, Record};

impl KvClient {
    /// Reads keys. Answers are in the order of the keys, and end before those whose values are more
    /// than [`RANGE_BYTES_MAX`] together; the first is always among them.
    pub async fn get_many(
        &self,
        keys: &[Key],
        consistency: Consistency,
    ) -> Result<Vec<Option<Record>>> {
        let deadline = self.until();
        let shards = self.shards(deadline).await?;
        let read = async |key: &Key| {
            let query = Query::Get(key.clone());
            let shard = shards.of_query(self, &query)?.unwrap_or_else(|| shards.at(0));
            match self.explained(shard.query(query, consistency, deadline).await)?.body {
                AnswerBody::Record(record) => Ok(record),
                other => Err(unexpected(&other)),
            }
        };
        let mut reads = stream::iter(keys).map(read).buffered(CLIENT_SHARDS_AT_ONCE);
        let (mut found, mut bytes) = (Vec::with_capacity(keys.len()), 0);
        while let Some(record) = reads.try_next().await? {
            bytes += record.as_ref().map_or(0, |record: &Record| record.value.as_bytes().len());
            if bytes > RANGE_BYTES_MAX && !found.is_empty() {
                break;
            }
            found.push(record);
        }
        Ok(found)
    }

    /// Does writes: those of one shard together, in their order, all or none of them and at one
    /// revision, and those of several shards at the same time. What one shard refuses or can't do
    /// keeps the others from nothing. Answers are in the order of the writes.
    pub async fn write_many(&self, writes: Vec<Op>) -> Result<Vec<Result<Answer>>> {
        let deadline = self.until();
        let shards = self.shards(deadline).await?;
        let mut by_shard: BTreeMap<usize, (Vec<usize>, Vec<Op>)> = BTreeMap::new();
        let count = writes.len();
        for (at, write) in writes.into_iter().enumerate() {
            let alone = Txn { then: vec![write], ..Txn::default() };
            let shard = shards.of_txn(self, &alone)?;
            let (places, together) = by_shard.entry(shards.place_of(shard)).or_default();
            places.push(at);
            together.extend(alone.then);
        }
        let shards = &shards;
        let write = async |(shard, (places, together)): (usize, (Vec<usize>, Vec<Op>))| {
            let action = Action::Txn(Txn { then: together, ..Txn::default() });
            let shard = shards.all().nth(shard).expect("a place is that of a shard");
            let done = match action.validate() {
                Ok(()) => self.explained(shard.execute(action, deadline).await),
                Err(invalid) => Err(invalid.into()),
            };
            (places, done)
        };
        let mut done = stream::iter(by_shard).map(write).buffer_unordered(CLIENT_SHARDS_AT_ONCE);
        let mut answers: Vec<Option<Result<Answer>>> = vec![None; count];
        while let Some((places, outcome)) = done.next().await {
            let each = each(outcome, places.len());
            for (at, answer) in places.into_iter().zip(each) {
                answers[at] = Some(answer);
            }
        }
        drop(done);
        let missing =
            || Err(Error::Fatal("a shard answered fewer writes than it was asked".into()));
        Ok(answers.into_iter().map(|answer| answer.unwrap_or_else(missing)).collect())
    }
}

/// What a shard's transaction came to, write by write.
fn each(outcome: Result<Answer>, writes: usize) -> Vec<Result<Answer>> {
    match outcome {
        Ok(Answer { revision, body: AnswerBody::Txn { answers, .. } }) => {
            answers.into_iter().map(|body| Ok(Answer { revision, body })).collect()
        }
        Ok(Answer { body, .. }) => vec![Err(unexpected(&body)); writes],
        Err(error) => vec![Err(error); writes],
    }
}
