//! `POST /v1/kv/mget` and `POST /v1/kv/batch`: many keys in one request, which need nothing of each
//! other and may be in different shards.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::auth::Store;
use super::body;
use super::decode::Params;
use super::json::{self, Given, KeyRecordForm};
use super::openapi::KEYS;
use super::operation::*;
use super::problem::*;
use super::schemas::KeyBytes;
use super::txn::{AnswerForm, OF_TXN, OpForm, Shape, bounded, each, unclear};
use crate::limits::TXN_OPS_MAX;
use crate::machine::ops::{Answer, KeyRecord, Op};
use crate::types::{Consistency, Form, Key, Revision};

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Keys")]
struct KeysForm {
    #[serde(deserialize_with = "bounded")]
    #[schemars(with = "Vec<KeyBytes>", length(max = TXN_OPS_MAX))]
    keys: Vec<Given>,
}

pub(super) const KEYS_FORM: Form = json::form::<KeysForm>("keys");

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Records")]
struct FoundForm<'a> {
    /// One for each key, in their order: null where there is none.
    records: Vec<Option<KeyRecordForm<'a>>>,
    /// Whether there are keys left, which are to be asked for again.
    more: bool,
}

pub(super) static MGET: Operation = Operation {
    id: "getKeys",
    part: KEYS,
    about: "The records of many keys, each as it is when it is read",
    query: &[CONSISTENCY, KEYSPACE, NEAR],
    body: Some(Content::json::<KeysForm>(r#"{"keys": ["greeting", "nothing"]}"#)),
    answers: &[Reply::json::<FoundForm<'static>>(200, "the records, null where there is none")],
    problems: &[ANY, OF_STORE, WITH_BODY],
    ..Operation::NEW
};

pub(super) async fn get(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let (params, client) = Params::of_store(request.uri().query(), MGET.query, &store)?;
    let consistency = params.parsed::<Consistency>("consistency")?.unwrap_or_default();
    let (form, _held) = body::read_data::<KeysForm>(&app, request.into_body()).await?;
    let keys: Vec<Key> = each("keys", form.keys, |key| Ok(Key::new(key.0)?))?;
    let found = client.get_many(&keys, consistency).await?;
    let more = found.len() < keys.len();
    let found: Vec<Option<KeyRecord>> = found
        .into_iter()
        .zip(keys)
        .map(|(record, key)| record.map(|record| KeyRecord { key, record }))
        .collect();
    let records =
        found.iter().map(|found| found.as_ref().map(|found| KeyRecordForm::of(found, false)));
    Ok(json::answer(StatusCode::OK, &FoundForm { records: records.collect(), more }))
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Writes")]
struct WritesForm {
    #[serde(deserialize_with = "bounded")]
    #[schemars(length(max = TXN_OPS_MAX))]
    ops: Vec<OpForm>,
}

pub(super) const WRITES_FORM: Form = json::form::<WritesForm>("writes");

/// A write, as a transaction has it; its other operations are of no use by themselves.
fn write_of(form: OpForm) -> Result<Op, Problem> {
    match form {
        OpForm::Put(_) | OpForm::Delete(_) => form.into_op(),
        OpForm::Get(_) | OpForm::Range(_) | OpForm::Txn(_) => {
            Err(unclear("a batch is of puts and deletes; read by mget, or in a transaction"))
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "WritesDone")]
struct WrittenForm<'a> {
    /// One for each write, in their order.
    answers: Vec<EachForm<'a>>,
    /// How many of them are problems.
    failed: usize,
}

#[derive(Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(rename = "WriteDone")]
enum EachForm<'a> {
    Done {
        #[serde(flatten)]
        answer: AnswerForm<'a>,
        revision: Revision,
    },
    Failed {
        problem: &'a Problem,
    },
}

impl<'a> EachForm<'a> {
    fn of(shape: &Shape, done: &'a Result<Answer, Problem>) -> Result<Self, Problem> {
        match done {
            Ok(Answer { revision, body }) => {
                let answer = shape.answer(body).ok_or_else(|| Problem::contradiction("a write"))?;
                Ok(EachForm::Done { answer, revision: *revision })
            }
            Err(problem) => Ok(EachForm::Failed { problem }),
        }
    }
}

pub(super) static BATCH: Operation = Operation {
    id: "writeKeys",
    part: KEYS,
    about: "Many writes: those of one shard together, those of several at the same time",
    query: &[KEYSPACE, NEAR],
    body: Some(Content::json::<WritesForm>(
        r#"{"ops": [{"put": {"key": "a", "value": "1"}}, {"delete": {"key": "b"}}]}"#,
    )),
    answers: &[Reply::json::<WrittenForm<'static>>(200, "what became of each")],
    problems: &[ANY, OF_STORE, WITH_BODY, WRITES, WITH_LEASE, OF_TXN],
    ..Operation::NEW
};

pub(super) async fn write(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let (_, client) = Params::of_store(request.uri().query(), BATCH.query, &store)?;
    let (form, _held) = body::read_data::<WritesForm>(&app, request.into_body()).await?;
    let shapes: Vec<Shape> = form.ops.iter().map(Shape::of_op).collect();
    let ops = each("ops", form.ops, write_of)?;
    let done = client.write_many(ops).await?;
    let mut done: Vec<Result<Answer, Problem>> =
        done.into_iter().map(|done| done.map_err(Problem::from)).collect();
    let failed = done.iter().filter(|done| done.is_err()).count();
    if failed == done.len()
        && let Some(Err(problem)) = done.pop()
    {
        // Nothing was done: why is the answer.
        return Err(problem);
    }
    let answers: Result<Vec<_>, Problem> =
        shapes.iter().zip(&done).map(|(shape, done)| EachForm::of(shape, done)).collect();
    Ok(json::answer(StatusCode::OK, &WrittenForm { answers: answers?, failed }))
}
