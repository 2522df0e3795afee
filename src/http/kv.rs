//! `/v1/kv/{key}`: one key, its value as the raw body. The quick path of the door.
//!
//! A write is always one transaction, so that its condition, its effect and what it says about
//! the key as it was are of one moment.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{self, HeaderMap, HeaderName, HeaderValue};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::App;
use super::auth::Store;
use super::body;
use super::decode::{Params, key_from_path};
use super::etag::{self, Condition, Tags};
use super::json::{self, GivenLease, RecordForm};
use super::openapi::KEYS;
use super::operation::*;
use super::problem::*;
use super::schemas::{KeyText, TagList, ValueBytes};
use crate::client::KvClient;
use crate::limits::VALUE_BYTES_MAX;
use crate::machine::ops::{
    Action, Answer, AnswerBody, Compare, CompareKeys, CompareTarget, Delete, Is, KeyRange, Op, Put,
    PutLease, Query, Range, Select, Txn,
};
use crate::types::{
    Consistency, GroupId, Key, KeyspaceName, LeaseId, NodeId, Record, Revision, Value,
};

const ASPEN_CREATE_REVISION: HeaderName = HeaderName::from_static("aspen-create-revision");
const ASPEN_MOD_REVISION: HeaderName = HeaderName::from_static("aspen-mod-revision");
const ASPEN_VERSION: HeaderName = HeaderName::from_static("aspen-version");
const ASPEN_LEASE: HeaderName = HeaderName::from_static("aspen-lease");

/// What stands before the key in the path.
const PREFIX: &str = "/v1/kv/";

/// The key of a request. The router has matched the prefix; its own capture is not used because
/// it must be UTF-8.
fn key_of(request: &Request) -> Result<Key, Problem> {
    key_from_path(request.uri().path().strip_prefix(PREFIX).unwrap_or_default())
}

const KEY: &[Param] =
    &[Param::needed::<KeyText>("key", "the key; slashes belong to it", "greeting")];
const IF_MATCH: Param = Param {
    example: Some("*"),
    ..Param::of::<TagList>("If-Match", "only if the key has one of these tags; `*` if it exists")
};
const IF_NONE_MATCH: Param = Param {
    example: Some("\"12\""),
    ..Param::of::<TagList>(
        "If-None-Match",
        "only if it has none of these tags; `*` if it does not exist",
    )
};
const CONDITIONS: &[Param] = &[IF_MATCH, IF_NONE_MATCH];
const ETAG: Param = Param::of::<String>("ETag", "the key's modification revision in double quotes");
const RECORD: &[Param] = &[
    ETAG,
    REVISION,
    Param::of::<Revision>("Aspen-Create-Revision", "when the key was created"),
    Param::of::<Revision>("Aspen-Mod-Revision", "when it was written last"),
    Param::of::<u64>("Aspen-Version", "how often it was written since it was created"),
    Param::of::<GivenLease>("Aspen-Lease", "the lease that it is attached to"),
];
const WRITTEN: &[Param] = &[ETAG, REVISION];
/// What is in the way of a condition.
const CONDITIONAL: &[&Kind] = &[&BAD_HEADER, &CONDITION_FAILED, &UNCLEAR];

pub(super) static GET: Operation = Operation {
    id: "getKey",
    part: KEYS,
    about: "The value of a key",
    path: KEY,
    query: &[
        CONSISTENCY,
        Param::of::<Revision>("revision", "the key as it was at this revision"),
        Param::of::<bool>("explain", "where the key lives, in place of its value"),
        KEYSPACE,
        NEAR,
    ],
    headers: CONDITIONS,
    answers: &[
        Reply {
            or: Some(Content::of::<ExplainForm<'static>>("application/json")),
            ..Reply::of(200, "the value", Content::of::<ValueBytes>("application/octet-stream"))
        }
        .with(RECORD),
        Reply::empty(304, "the value has the tag that was named").with(RECORD),
    ],
    problems: &[ANY, OF_STORE, CONDITIONAL, &[&KEY_NOT_FOUND, &COMPACTED, &FUTURE_REVISION]],
    ..Operation::NEW
};

pub(super) async fn get(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let key = key_of(&request)?;
    let (params, client) = Params::of_store(request.uri().query(), GET.query, &store)?;
    if params.flag("explain")? {
        return explain(&app, &client, key).await;
    }
    let consistency = params.parsed::<Consistency>("consistency")?.unwrap_or_default();
    let condition = Condition::of(request.headers())?;
    let query = match params.number("revision")? {
        None => Query::Get(key),
        Some(revision) => {
            Query::Range(Range { revision: Some(revision), ..Range::of(KeyRange::one(&key)) })
        }
    };
    let Answer { revision, body } = client.query(query, consistency).await?;
    let record = match body {
        AnswerBody::Record(record) => record,
        AnswerBody::Range(page) => page.records.into_iter().next().map(|found| found.record),
        _ => return Err(Problem::contradiction("a get")),
    };
    let present = record.as_ref().map_or(0, |record| record.mod_revision);
    match condition {
        Some(condition @ Condition::Match(_)) if !condition.holds(present) => {
            return Err(Problem::condition_failed(present, revision));
        }
        _ => {}
    }
    let record = record.ok_or_else(|| Problem::key_not_found(revision))?;
    let same = matches!(&condition, Some(c @ Condition::NoneMatch(_)) if !c.holds(present));
    Ok(record_response(record, revision, same))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KeyPlace")]
struct ExplainForm<'a> {
    keyspace: &'a KeyspaceName,
    shard: u32,
    group: GroupId,
    leader: Option<NodeId>,
    revision: Revision,
}

/// Where a key lives, in place of its value.
async fn explain(app: &App, client: &KvClient, key: Key) -> Result<Response<Body>, Problem> {
    let place = client.explain(key).await?;
    let node = |endpoint| app.cluster.as_ref()?.roster().member_of(endpoint).map(|m| m.node);
    let form = ExplainForm {
        keyspace: client.name(),
        shard: place.shard,
        group: place.group,
        leader: place.leader.and_then(node),
        revision: place.revision,
    };
    Ok(json::answer_at(StatusCode::OK, place.revision, &form))
}

/// A record as an answer: its value the body, its counters headers; without the value if the
/// client has it already.
fn record_response(record: Record, revision: Revision, same: bool) -> Response<Body> {
    let mut headers = HeaderMap::with_capacity(8);
    counters(&mut headers, &record);
    headers.insert(ASPEN_REVISION, revision.into());
    let mut response = Response::new(if same {
        Body::empty()
    } else {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/octet-stream"));
        Body::from(record.value.into_bytes())
    });
    *response.headers_mut() = headers;
    if same {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    response
}

fn counters(headers: &mut HeaderMap, record: &Record) {
    headers.insert(header::ETAG, etag::tag(record.mod_revision));
    headers.insert(ASPEN_CREATE_REVISION, record.create_revision.into());
    headers.insert(ASPEN_MOD_REVISION, record.mod_revision.into());
    headers.insert(ASPEN_VERSION, record.version.into());
    if let Some(lease) = record.lease {
        let lease = HeaderValue::try_from(lease.to_string())
            .expect("hexadecimal digits are a header value");
        headers.insert(ASPEN_LEASE, lease);
    }
}

pub(super) static PUT: Operation = Operation {
    id: "putKey",
    part: KEYS,
    about: "Stores a value under a key",
    path: KEY,
    query: &[
        Param::of::<GivenLease>("lease", "the lease that the key is attached to; none without it"),
        PREV,
        KEYSPACE,
        NEAR,
    ],
    headers: CONDITIONS,
    body: Some(Content::of::<ValueBytes>("application/octet-stream")),
    answers: &[
        Reply::json::<PutForm<'static>>(200, "it was overwritten").with(WRITTEN),
        Reply::json::<PutForm<'static>>(201, "it was created").with(WRITTEN),
    ],
    problems: &[
        ANY,
        OF_STORE,
        WRITES,
        CONDITIONAL,
        WITH_LEASE,
        &[&BAD_BODY, &BODY_TIMEOUT, &VALUE_TOO_LONG],
    ],
    ..Operation::NEW
};

pub(super) async fn put(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let key = key_of(&request)?;
    let (params, client) = Params::of_store(request.uri().query(), PUT.query, &store)?;
    let lease = match params.parsed::<LeaseId>("lease")? {
        Some(lease) => PutLease::Attach(lease),
        None => PutLease::Detach,
    };
    let prev = params.flag("prev")?;
    let condition = Condition::of(request.headers())?;
    let body = request.into_body();
    let held = body::read(&app, body, VALUE_BYTES_MAX, &VALUE_TOO_LONG).await?;
    let value = Value::new(held.bytes.clone())?;

    let put = Put { key: key.clone(), value: Some(value), lease, prev };
    let absent = compare(&key, Is::Equal, CompareTarget::Version(0));
    let probe = Txn { when: vec![absent], ..Txn::default() };
    let written = write(&client, &key, condition, vec![Op::Txn(probe), Op::Put(put)]).await?;
    let [AnswerBody::Txn { succeeded: created, .. }, AnswerBody::Put { prev: before }] =
        &written.answers[..]
    else {
        return Err(Problem::contradiction("a put"));
    };

    let status = if *created { StatusCode::CREATED } else { StatusCode::OK };
    let revision = written.revision;
    let before = before.as_ref().map(RecordForm::of);
    let form = PutForm { revision, created: *created, prev: prev.then_some(before) };
    let mut response = json::answer_at(status, revision, &form);
    response.headers_mut().insert(header::ETAG, etag::tag(revision));
    Ok(response)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WrittenKey")]
struct PutForm<'a> {
    revision: Revision,
    created: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<Option<RecordForm<'a>>>,
}

pub(super) static DELETE: Operation = Operation {
    id: "deleteKey",
    part: KEYS,
    about: "Deletes a key",
    path: KEY,
    query: &[PREV, KEYSPACE, NEAR],
    headers: CONDITIONS,
    answers: &[Reply::json::<DeleteForm<'static>>(200, "whether there was one").with(AT_REVISION)],
    problems: &[ANY, OF_STORE, WRITES, CONDITIONAL],
    ..Operation::NEW
};

pub(super) async fn delete(
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let key = key_of(&request)?;
    let (params, client) = Params::of_store(request.uri().query(), DELETE.query, &store)?;
    let prev = params.flag("prev")?;
    let condition = Condition::of(request.headers())?;

    let delete = Delete { range: KeyRange::one(&key), prev };
    let written = write(&client, &key, condition, vec![Op::Delete(delete)]).await?;
    let [AnswerBody::Deleted { count, prev: before }] = &written.answers[..] else {
        return Err(Problem::contradiction("a delete"));
    };
    let before = before.first().map(|found| RecordForm::of(&found.record));
    let form =
        DeleteForm { revision: written.revision, deleted: *count, prev: prev.then_some(before) };
    Ok(json::answer_at(StatusCode::OK, written.revision, &form))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedKey")]
struct DeleteForm<'a> {
    revision: Revision,
    deleted: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<Option<RecordForm<'a>>>,
}

/// The key that is called as a path of many keys is.
pub(super) struct Namesake {
    pub(super) get: Operation,
    pub(super) put: Operation,
    pub(super) delete: Operation,
}

pub(super) static MGET: Namesake = Namesake {
    get: GET.at_one_path("getKeyMget", "The value of the key `mget`"),
    put: PUT.at_one_path("putKeyMget", "Stores a value under the key `mget`"),
    delete: DELETE.at_one_path("deleteKeyMget", "Deletes the key `mget`"),
};
pub(super) static BATCH: Namesake = Namesake {
    get: GET.at_one_path("getKeyBatch", "The value of the key `batch`"),
    put: PUT.at_one_path("putKeyBatch", "Stores a value under the key `batch`"),
    delete: DELETE.at_one_path("deleteKeyBatch", "Deletes the key `batch`"),
};

/// What a write answered.
struct Written {
    revision: Revision,
    answers: Vec<AnswerBody>,
}

/// Does the operations on the key if the condition holds, and otherwise says where the key is.
async fn write(
    client: &KvClient,
    key: &Key,
    condition: Option<Condition>,
    ops: Vec<Op>,
) -> Result<Written, Problem> {
    let (txn, expected) = guard(key, condition, ops);
    let Answer { revision, body } = client.execute(Action::Txn(txn)).await?;
    let AnswerBody::Txn { succeeded, answers } = body else {
        return Err(Problem::contradiction("a transaction"));
    };
    if succeeded == expected {
        return Ok(Written { revision, answers });
    }
    match answers.into_iter().next() {
        Some(AnswerBody::Range(page)) => {
            let present = page.records.first().map_or(0, |found| found.record.mod_revision);
            Err(Problem::condition_failed(present, revision))
        }
        _ => Err(Problem::contradiction("a conditional write")),
    }
}

/// The transaction that does `ops` if the condition holds and else reads the key's counters, and
/// which of its branches does `ops`.
///
/// A transaction's conditions must all hold, and tags are alternatives: "one of them" is the
/// negation of "none of them", so a match goes into the other branch.
fn guard(key: &Key, condition: Option<Condition>, ops: Vec<Op>) -> (Txn, bool) {
    let look = || vec![Op::Range(Range { select: Select::Keys, ..Range::of(KeyRange::one(key)) })];
    let none_of = |tags: Tags| match tags {
        Tags::Any => vec![compare(key, Is::Equal, CompareTarget::Version(0))],
        Tags::These(revisions) => revisions
            .into_iter()
            .map(|revision| compare(key, Is::NotEqual, CompareTarget::Mod(revision)))
            .collect(),
    };
    match condition {
        None => (Txn { when: Vec::new(), then: ops, or_else: Vec::new() }, true),
        Some(Condition::NoneMatch(tags)) => {
            (Txn { when: none_of(tags), then: ops, or_else: look() }, true)
        }
        Some(Condition::Match(tags)) => {
            (Txn { when: none_of(tags), then: look(), or_else: ops }, false)
        }
    }
}

fn compare(key: &Key, is: Is, target: CompareTarget) -> Compare {
    Compare { range: CompareKeys::One(key.clone()), target, is }
}

/// `/v1/kv/` names no key.
pub(super) async fn empty_key() -> Problem {
    Problem::from(crate::error::Invalid::KeyEmpty)
}
