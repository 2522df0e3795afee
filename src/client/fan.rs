//! What goes over several shards: a scan, a delete of a range, a watch, the sum of counters.
//!
//! Each shard answers by itself. A scan is a merge of one snapshot a shard, each as of a revision of
//! its own, and goes on as of the same ones; a watch shows each shard's changes in that shard's
//! order. Nothing here is atomic over shards. Memory is bounded by some shards' pages at a time.

use std::cmp::Ordering;

use futures_util::{StreamExt, TryStreamExt, stream};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::group::GroupClient;
use super::keyspace::Shards;
use super::{KvClient, unexpected};
use crate::error::{Error, Result};
use crate::limits::{
    CLIENT_SHARDS_AT_ONCE, DELETE_PREV_KEYS_MAX, RANGE_BYTES_MAX, RANGE_RECORDS_MAX,
};
use crate::machine::ops::{
    Action, Answer, AnswerBody, Delete, KeyRecord, Order, OrderBy, Page, Query, Range, Select,
    Status,
};
use crate::types::{Consistency, GroupId, Revision};

/// Where each shard of a keyspace is: what a scan or a watch that goes over several is continued
/// with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// The keyspace's first group, which no other keyspace ever has, also none of the same name;
    /// `None` if the position was kept without it.
    pub keyspace: Option<GroupId>,
    /// The revision of each shard, in their order.
    pub revisions: Vec<Revision>,
}

/// What a scan found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scanned {
    /// The records. The next page begins after the last of them.
    pub page: Page,
    /// The revision that they are of; `None` if they are of several shards.
    pub revision: Option<Revision>,
    /// The position that they are of.
    pub position: Position,
}

impl KvClient {
    /// Reads a range at a freshness, or goes on as of a position.
    pub async fn scan(
        &self,
        range: Range,
        as_of: Option<&Position>,
        consistency: Consistency,
    ) -> Result<Scanned> {
        let query = Query::Range(range.clone());
        query.validate()?;
        let deadline = self.until();
        let shards = self.shards(deadline).await?;
        as_of.map_or(Ok(()), |position| shards.check(position))?;
        if let Some(shard) = shards.of_query(self, &query)? {
            let at = shards.place_of(shard);
            let revision = as_of.map(|position| position.revisions[at]).or(range.revision);
            let query = Query::Range(Range { revision, ..range });
            let answer = self.explained(shard.query(query, consistency, deadline).await)?;
            let AnswerBody::Range(page) = answer.body else { return Err(unexpected(&answer.body)) };
            // Of the others nothing is read, whatever they are at.
            let mut revisions = vec![0; shards.count() as usize];
            revisions[at] = revision.unwrap_or(answer.revision);
            let revision = Some(revisions[at]);
            return Ok(Scanned { page, revision, position: shards.position(revisions) });
        }
        let scanned = scan(&shards, &range, as_of, consistency, deadline).await;
        let (page, position) = self.explained(scanned)?;
        Ok(Scanned { page, revision: None, position })
    }
}

/// Reads a range in all shards.
async fn scan(
    shards: &Shards,
    range: &Range,
    as_of: Option<&Position>,
    consistency: Consistency,
    deadline: Instant,
) -> Result<(Page, Position)> {
    let ask = |(at, shard): (usize, GroupClient)| {
        let revision = as_of.map(|position| position.revisions[at]);
        let query = Query::Range(Range { revision, ..range.clone() });
        async move {
            let answer = shard.query(query, consistency, deadline).await?;
            match answer.body {
                AnswerBody::Range(page) => Ok((at, revision.unwrap_or(answer.revision), page)),
                other => Err(unexpected(&other)),
            }
        }
    };
    let all: Vec<_> = shards.all().cloned().enumerate().collect();
    let mut pages = stream::iter(all).map(ask).buffer_unordered(CLIENT_SHARDS_AT_ONCE);
    let mut merged = Merged::new(range);
    let mut revisions = vec![0; shards.count() as usize];
    while let Some((at, revision, page)) = pages.try_next().await? {
        revisions[at] = revision;
        merged.add(page);
    }
    Ok((merged.page, shards.position(revisions)))
}

/// Pages of several shards as one.
struct Merged<'a> {
    range: &'a Range,
    limit: usize,
    page: Page,
}

impl<'a> Merged<'a> {
    fn new(range: &'a Range) -> Self {
        let limit = range.limit.map_or(RANGE_RECORDS_MAX, |limit| {
            usize::try_from(limit).unwrap_or(usize::MAX).min(RANGE_RECORDS_MAX)
        });
        Merged { range, limit, page: Page::default() }
    }

    /// Takes another shard's page in. What comes after the end of a page that was cut is not known
    /// of that shard, so nothing after it is shown of any.
    fn add(&mut self, other: Page) {
        let order = &self.range.order;
        let last = |page: &Page| page.records.last().filter(|_| page.more).cloned();
        let ends = [last(&self.page), last(&other)];
        let end = ends.into_iter().flatten().min_by(|a, b| in_order(order, a, b));
        self.page.count += other.count;
        self.page.more |= other.more;
        self.page.records.extend(other.records);
        self.page.records.sort_by(|a, b| in_order(order, a, b));
        let weight = |found: &KeyRecord| {
            let value = match self.range.select {
                Select::Records => found.record.value.as_bytes().len(),
                Select::Keys | Select::Count => 0,
            };
            found.key.as_bytes().len() + value
        };
        let (mut kept, mut bytes) = (0, 0);
        for found in self.page.records.iter().take(self.limit) {
            bytes += weight(found);
            let is_past = end.as_ref().is_some_and(|end| in_order(order, found, end).is_gt());
            if is_past || bytes > RANGE_BYTES_MAX && kept > 0 {
                break;
            }
            kept += 1;
        }
        self.page.more |= kept < self.page.records.len();
        self.page.records.truncate(kept);
    }
}

fn in_order(order: &Order, a: &KeyRecord, b: &KeyRecord) -> Ordering {
    let (x, y) = (&a.record, &b.record);
    let by = match order.by {
        OrderBy::Key => a.key.cmp(&b.key),
        OrderBy::Version => x.version.cmp(&y.version),
        OrderBy::Create => x.create_revision.cmp(&y.create_revision),
        OrderBy::Mod => x.mod_revision.cmp(&y.mod_revision),
        OrderBy::Value => x.value.cmp(&y.value),
    };
    let by = if order.descending { by.reverse() } else { by };
    by.then_with(|| a.key.cmp(&b.key))
}

/// Reads what is in several shards.
pub(super) async fn query(
    shards: &Shards,
    query: Query,
    consistency: Consistency,
    deadline: Instant,
) -> Result<Answer> {
    let body = match query {
        Query::Range(range) => {
            let (page, _) = scan(shards, &range, None, consistency, deadline).await?;
            AnswerBody::Range(page)
        }
        Query::Status => AnswerBody::Status(status(shards, consistency, deadline).await?),
        _ => return Err(Error::Fatal("a query of one shard has come to several".into())),
    };
    Ok(Answer { revision: 0, body })
}

async fn status(shards: &Shards, consistency: Consistency, deadline: Instant) -> Result<Status> {
    let all: Vec<_> = shards.all().cloned().collect();
    let ask = |shard: GroupClient| async move {
        match shard.query(Query::Status, consistency, deadline).await?.body {
            AnswerBody::Status(status) => Ok(status),
            other => Err(unexpected(&other)),
        }
    };
    let statuses = stream::iter(all).map(ask).buffer_unordered(CLIENT_SHARDS_AT_ONCE);
    let add = |sum: Status, one: Status| async move {
        Ok::<_, Error>(Status {
            keys: sum.keys + one.keys,
            leases: sum.leases + one.leases,
            sessions: sum.sessions + one.sessions,
            compacting: sum.compacting || one.compacting,
            ..sum
        })
    };
    statuses.try_fold(Status::default(), add).await
}

/// Deletes a range in each shard, one after the other. An error says what became of the delete in
/// that shard; it is done in those before.
pub(super) async fn delete(shards: &Shards, action: Action, deadline: Instant) -> Result<Answer> {
    let Action::Delete(Delete { range, prev }) = action else {
        return Err(Error::Fatal("an action on one shard has come to several".into()));
    };
    let (mut count, mut gone) = (0, Vec::new());
    for shard in shards.all() {
        let delete = Action::Delete(Delete { range: range.clone(), prev });
        let answer = shard.execute(delete, deadline).await;
        let answer = answer.map_err(|error| match count {
            0 => error,
            _ => Error::OutcomeUnknown {
                group: shard.group(),
                reason: format!("{count} keys of other shards are deleted, and then: {error}"),
            },
        })?;
        let AnswerBody::Deleted { count: here, prev: records } = answer.body else {
            return Err(unexpected(&answer.body));
        };
        count += here;
        gone.extend(records);
        gone.truncate(DELETE_PREV_KEYS_MAX);
    }
    gone.sort_by(|a: &KeyRecord, b| a.key.cmp(&b.key));
    Ok(Answer { revision: 0, body: AnswerBody::Deleted { count, prev: gone } })
}
