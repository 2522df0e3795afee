//! Answering a query: a read of one consistent view, outside the log.

use super::ops::{Answer, AnswerBody, Outcome, Query, Status};
use super::rows::meta::Counters;
use super::stop::{Stop, settle};
use super::tables::{ReadTables, TableError};
use super::view::View;
use super::{claim, compact, lease, range};

/// Answers a query. Reading one key takes three rows: the counters, the key's, and its value's.
pub fn query<T: ReadTables + ?Sized>(tables: &T, query: &Query) -> Result<Outcome, TableError> {
    let counters = Counters::load(tables)?;
    let body = settle(body(tables, &counters, query))?;
    Ok(body.map(|body| Answer { revision: counters.revision, body }))
}

fn body<T: ReadTables + ?Sized>(
    tables: &T,
    counters: &Counters,
    query: &Query,
) -> Result<AnswerBody, Stop> {
    let view = View::stored(tables, *counters);
    Ok(match query {
        Query::Get(key) => {
            let key = key.as_bytes();
            let record = match view.version(key)? {
                Some(version) => Some(view.record(key, &version)?),
                None => None,
            };
            AnswerBody::Record(record)
        }
        Query::Range(range) => AnswerBody::Range(range::range(&view, range)?),
        Query::Leases { after, limit } => lease::list(tables, counters, *after, *limit)?,
        Query::Lease { id, keys } => lease::info(tables, *id, *keys)?,
        Query::Holder { name } => claim::holder(&view, name)?,
        Query::Status => AnswerBody::Status(Status {
            revision: counters.revision,
            compacted: counters.compacted,
            compacting: compact::is_pending(tables, counters)?,
            keys: counters.keys,
            leases: counters.leases,
            sessions: counters.sessions,
        }),
    })
}
