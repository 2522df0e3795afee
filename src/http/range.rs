//! `/v1/kv`: many keys, listed as JSON page by page, or deleted.
//!
//! All pages of a listing are of one revision of each shard: the first page's, which its cursor
//! carries on.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;
use std::fmt;
use std::str::FromStr;

use super::App;
use super::auth::Store;
use super::cursor::{self, Cursor};
use super::decode::Params;
use super::json::{self, KeyRecordForm};
use super::lines::{self, Listing};
use super::openapi::KEYS;
use super::operation::*;
use super::problem::*;
use super::schemas::Limit;
use crate::client::Scanned;
use crate::error::{Error, Invalid};
use crate::machine::ops::{Action, AnswerBody, Delete, Order, OrderBy, Page, Range, Select};
use crate::types::{Consistency, Revision};

pub(super) static LIST: Operation = Operation {
    id: "listKeys",
    part: KEYS,
    about: "Keys in their order, page by page, or as lines of JSON to the end",
    query: &[
        PREFIX,
        START,
        END,
        Param::of::<Limit>("limit", "how many at most"),
        Param::of::<String>("cursor", "where the page before has ended"),
        Param::of::<Revision>("revision", "the keys as they were at this revision"),
        Param::of::<bool>("keys_only", "no values"),
        Param::of::<bool>("count_only", "only how many there are"),
        Param::of::<Direction>("order", "the order of keys; `asc` without it"),
        CONSISTENCY,
        KEYSPACE,
        NEAR,
    ],
    answers: &[Reply {
        or: Some(Content::of::<KeyRecordForm<'static>>(lines::LINES)),
        ..Reply::json::<ListForm<'static>>(200, "a page; or lines, of a record each")
    }
    .with(AT_REVISION)],
    problems: &[
        ANY,
        OF_STORE,
        &[&BAD_CURSOR, &COMPACTED, &FUTURE_REVISION, &NEEDS_SHARD, &RANGE_BACKWARD, &UNCLEAR],
    ],
    ..Operation::NEW
};

pub(super) async fn list(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let (params, client) = Params::of_store(request.uri().query(), LIST.query, &store)?;
    let consistency = params.parsed::<Consistency>("consistency")?.unwrap_or_default();
    let unclear = |detail| Problem::new(&UNCLEAR, detail);
    let select =
        selection(params.flag("keys_only")?, params.flag("count_only")?).map_err(unclear)?;
    let limit = params.number("limit")?;
    check_limit(limit).map_err(|detail| Problem::new(&BAD_QUERY, detail))?;
    let descending = params.parsed::<Direction>("order")? == Some(Direction::Descending);

    let revision = params.number("revision")?;
    let mut range =
        json::range_of(params.bytes("prefix"), params.bytes("start"), params.bytes("end"))
            .map_err(unclear)?;
    let mut as_of = None;
    if let Some(text) = params.bytes("cursor") {
        let cursor = Cursor::from_text(&text)?;
        as_of = Some(cursor.position.clone());
        range = cursor.rest_of(range, descending, revision)?;
    }

    let order = Order { by: OrderBy::Key, descending };
    // A cursor says of which revisions it is.
    let revision = revision.filter(|_| as_of.is_none());
    let range = Range { revision, limit, order, select, ..Range::of(range) };
    let lines = select != Select::Count && lines::are_wanted(request.headers());
    let scanned = client.scan(range.clone(), as_of.as_ref(), consistency).await.map_err(
        |error| match error {
            Error::Invalid(Invalid::OtherKeyspace) => cursor::of_another_keyspace(),
            error => error.into(),
        },
    )?;
    if lines {
        let listing = Listing { client, range, consistency, scanned };
        return Ok(lines::answer(listing, app.closing.clone()));
    }
    let Scanned { page, revision, position } = scanned;
    let last = page.records.last().filter(|_| page.more);
    let cursor = last.map(|found| Cursor { position, descending, last: found.key.clone() });
    let form = ListForm {
        revision,
        cursor: cursor.map(|cursor| cursor.to_text()),
        page: PageForm::of(&page, select),
    };
    Ok(match revision {
        Some(revision) => json::answer_at(StatusCode::OK, revision, &form),
        None => json::answer(StatusCode::OK, &form),
    })
}

pub(super) static DELETE: Operation = Operation {
    id: "deleteKeys",
    part: KEYS,
    about: "Deletes the keys of a range",
    query: &[Param { example: Some("a"), ..PREFIX }, START, END, KEYSPACE, NEAR],
    answers: &[Reply::json::<DeletedForm>(200, "how many there were").with(AT_REVISION)],
    problems: &[ANY, OF_STORE, WRITES, &[&DELETE_TOO_LARGE, &RANGE_BACKWARD, &UNCLEAR]],
    ..Operation::NEW
};

/// Deletes a range: at once where it is in one shard, else in one shard after the other.
pub(super) async fn delete(
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let (params, client) = Params::of_store(request.uri().query(), DELETE.query, &store)?;
    let unclear = |detail| Problem::new(&UNCLEAR, detail);
    let bounds = ["prefix", "start", "end"].map(|name| params.bytes(name));
    if bounds.iter().all(Option::is_none) {
        return Err(unclear("name a prefix or bounds; an empty prefix is every key"));
    }
    let [prefix, start, end] = bounds;
    let range = json::range_of(prefix, start, end).map_err(unclear)?;
    let answer = client.execute(Action::Delete(Delete { range, prev: false })).await?;
    let AnswerBody::Deleted { count, .. } = answer.body else {
        return Err(Problem::contradiction("a delete"));
    };
    // Of several shards it has none.
    let revision = Some(answer.revision).filter(|revision| *revision > 0 || count == 0);
    Ok(match revision {
        Some(revision) => {
            let form = DeletedForm { revision: Some(revision), deleted: count };
            json::answer_at(StatusCode::OK, revision, &form)
        }
        None => json::answer(StatusCode::OK, &DeletedForm { revision, deleted: count }),
    })
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedKeys")]
struct DeletedForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    deleted: u64,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Listing")]
struct ListForm<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    revision: Option<Revision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cursor: Option<String>,
    #[serde(flatten)]
    page: PageForm<'a>,
}

/// A page of a range, in a listing and in a transaction's answers alike.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Page")]
pub(super) struct PageForm<'a> {
    count: u64,
    more: bool,
    records: Vec<KeyRecordForm<'a>>,
}

impl<'a> PageForm<'a> {
    pub(super) fn of(page: &'a Page, select: Select) -> Self {
        let form = |found| KeyRecordForm::of(found, select == Select::Keys);
        PageForm {
            count: page.count,
            more: page.more,
            records: page.records.iter().map(form).collect(),
        }
    }
}

/// What of the records is asked for.
pub(super) fn selection(keys_only: bool, count_only: bool) -> Result<Select, &'static str> {
    match (keys_only, count_only) {
        (false, false) => Ok(Select::Records),
        (true, false) => Ok(Select::Keys),
        (false, true) => Ok(Select::Count),
        (true, true) => Err("keys_only and count_only exclude each other; give one of them"),
    }
}

/// A page has at least one record: without that, no cursor could go on from it.
pub(super) fn check_limit(limit: Option<u64>) -> Result<(), &'static str> {
    match limit {
        Some(0) => Err("a limit is at least 1; ask for count_only to get no records"),
        _ => Ok(()),
    }
}

/// The order of keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
pub(super) enum Direction {
    /// Least key first.
    #[serde(rename = "asc")]
    Ascending,
    /// Greatest key first.
    #[serde(rename = "desc")]
    Descending,
}

/// Not an order.
#[derive(Debug)]
pub(super) struct NotADirection;

impl fmt::Display for NotADirection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the order is asc or desc")
    }
}

impl FromStr for Direction {
    type Err = NotADirection;

    fn from_str(text: &str) -> Result<Self, NotADirection> {
        match text {
            "asc" => Ok(Direction::Ascending),
            "desc" => Ok(Direction::Descending),
            _ => Err(NotADirection),
        }
    }
}
