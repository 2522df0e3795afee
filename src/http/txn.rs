//! `POST /v1/txn`: a transaction in JSON.
//!
//! The forms here are the API; they are turned into the machine's operations as they are, and a
//! form that says two things at once is refused with its place. The answers mirror the
//! operations, one for one.

use std::cell::Cell;
use std::fmt;
use std::marker::PhantomData;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::de::{self, Deserializer, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::App;
use super::auth::Store;
use super::body;
use super::decode::Params;
use super::json::{self, Given, GivenLease, KeyRecordForm, Object, RecordForm};
use super::openapi::KEYS;
use super::operation::*;
use super::problem::*;
use super::range::{Direction, PageForm, check_limit, selection};
use super::schemas::KeyBytes;
use crate::limits::{HTTP_ITEMS_MAX, TXN_OPS_MAX};
use crate::machine::ops::{
    Action, Answer, AnswerBody, Compare, CompareKeys, CompareTarget, Delete, Is, KeyRange, Op,
    Order, OrderBy, Put, PutLease, Range, Select, Txn,
};
use crate::types::{Form, Key, Revision, Spelt, Value};

/// What is in the way of a transaction.
pub(super) const OF_TXN: &[&Kind] = &[
    &ANSWER_TOO_LARGE,
    &COMPACTED,
    &DELETE_TOO_LARGE,
    &FUTURE_REVISION,
    &KEY_NOT_FOUND,
    &RANGE_BACKWARD,
    &TXN_DUPLICATE_KEY,
    &TXN_TOO_DEEP,
    &TXN_TOO_LARGE,
    &TXN_TOO_MANY_OPS,
    &UNCLEAR,
    &VALUE_TOO_LONG,
];

pub(super) static RUN: Operation = Operation {
    id: "runTransaction",
    part: KEYS,
    about: "If all conditions hold one list of operations, else the other, at one revision",
    query: &[KEYSPACE, NEAR],
    body: Some(Content::json::<TxnForm>(
        r#"{
            "when": [{"key": "lock", "version": 0}],
            "then": [{"put": {"key": "lock", "value": "me"}}],
            "or_else": [{"get": {"key": "lock"}}]
        }"#,
    )),
    answers: &[
        Reply::json::<OutcomeForm<'static>>(200, "what the operations answer").with(AT_REVISION)
    ],
    problems: &[ANY, OF_STORE, WITH_BODY, WRITES, WITH_LEASE, OF_TXN],
    ..Operation::NEW
};

pub(super) async fn run(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let (_, client) = Params::of_store(request.uri().query(), RUN.query, &store)?;
    let (form, _held) = body::read_data::<TxnForm>(&app, request.into_body()).await?;
    let shape = Shape::of(&form);
    let txn = form.into_txn()?;
    let Answer { revision, body } = client.execute(Action::Txn(txn)).await?;
    let AnswerBody::Txn { succeeded, answers } = &body else {
        return Err(Problem::contradiction("a transaction"));
    };
    let answers = shape
        .answers(*succeeded, answers)
        .ok_or_else(|| Problem::contradiction("an operation of a transaction"))?;
    let form = OutcomeForm { revision, succeeded: *succeeded, answers };
    Ok(json::answer_at(StatusCode::OK, revision, &form))
}

// --- what is asked ---

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Transaction")]
pub(super) struct TxnForm {
    #[serde(default, deserialize_with = "bounded")]
    #[schemars(length(max = TXN_OPS_MAX))]
    when: Vec<Object<CompareForm>>,
    #[serde(default, deserialize_with = "bounded")]
    #[schemars(length(max = TXN_OPS_MAX))]
    then: Vec<OpForm>,
    #[serde(default, deserialize_with = "bounded")]
    #[schemars(length(max = TXN_OPS_MAX))]
    or_else: Vec<OpForm>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Operation")]
pub(super) enum OpForm {
    Put(Object<PutForm>),
    Get(Object<GetForm>),
    Range(Object<RangeForm>),
    Delete(Object<DeleteForm>),
    Txn(Object<TxnForm>),
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Put")]
pub(super) struct PutForm {
    #[schemars(with = "KeyBytes")]
    key: Given,
    value: Option<Given>,
    #[serde(default)]
    keep_value: bool,
    lease: Option<GivenLease>,
    #[serde(default)]
    keep_lease: bool,
    #[serde(default)]
    prev: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Get")]
pub(super) struct GetForm {
    #[schemars(with = "KeyBytes")]
    key: Given,
    revision: Option<Revision>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Range")]
pub(super) struct RangeForm {
    prefix: Option<Given>,
    start: Option<Given>,
    end: Option<Given>,
    revision: Option<Revision>,
    #[schemars(range(min = 1))]
    limit: Option<u64>,
    order: Option<Direction>,
    #[serde(default)]
    keys_only: bool,
    #[serde(default)]
    count_only: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Delete")]
pub(super) struct DeleteForm {
    #[schemars(with = "Option<KeyBytes>")]
    key: Option<Given>,
    prefix: Option<Given>,
    start: Option<Given>,
    end: Option<Given>,
    #[serde(default)]
    prev: bool,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Condition")]
struct CompareForm {
    #[schemars(with = "Option<KeyBytes>")]
    key: Option<Given>,
    prefix: Option<Given>,
    start: Option<Given>,
    end: Option<Given>,
    #[serde(default)]
    is: IsForm,
    version: Option<u64>,
    create_revision: Option<Revision>,
    mod_revision: Option<Revision>,
    value: Option<Given>,
    lease: Option<LeaseOrNone>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[schemars(rename = "Comparison")]
enum IsForm {
    #[default]
    #[serde(rename = "=")]
    Equal,
    #[serde(rename = "!=")]
    NotEqual,
    #[serde(rename = ">")]
    Greater,
    #[serde(rename = "<")]
    Less,
}

/// A lease's id to compare with, `"0"` for none.
#[derive(Clone, Copy, Debug)]
pub(super) struct LeaseOrNone(u64);

impl<'de> Deserialize<'de> for LeaseOrNone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        if text == "0" {
            return Ok(LeaseOrNone(0));
        }
        let lease: crate::types::LeaseId = text
            .parse()
            .map_err(|error| de::Error::custom(format!("{error}; \"0\" stands for no lease")))?;
        Ok(LeaseOrNone(lease.0))
    }
}

thread_local! {
    /// In how many lists of a body what is being read is, and how much was read of them.
    static READ: Cell<(usize, usize)> = const { Cell::new((0, 0)) };
}

/// A list that is being read; a body is read without a pause, on one thread.
struct InList;

impl InList {
    fn begin() -> Self {
        let (depth, items) = READ.get();
        // The first list of a body is in none.
        READ.set((depth + 1, if depth == 0 { 0 } else { items }));
        InList
    }

    /// One more; false if there are too many in all lists together.
    fn has_one_more(&self) -> bool {
        let (depth, items) = READ.get();
        READ.set((depth, items + 1));
        items < HTTP_ITEMS_MAX
    }
}

impl Drop for InList {
    fn drop(&mut self) {
        let (depth, items) = READ.get();
        READ.set((depth - 1, items));
    }
}

/// Reads a list that no transaction may exceed, and stops at its bound, or where it and what it is
/// nested in have too many together: what is read takes more memory than its JSON.
pub(super) fn bounded<'de, D, T>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct BoundedVisitor<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for BoundedVisitor<T> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {TXN_OPS_MAX}")
        }

        fn visit_seq<S: SeqAccess<'de>>(self, mut seq: S) -> Result<Vec<T>, S::Error> {
            let in_list = InList::begin();
            let mut list = Vec::new();
            while let Some(item) = seq.next_element()? {
                if list.len() == TXN_OPS_MAX {
                    return Err(de::Error::invalid_length(TXN_OPS_MAX + 1, &self));
                }
                if !in_list.has_one_more() {
                    let detail = format!(
                        "at most {TXN_OPS_MAX} operations and conditions, nested ones counted"
                    );
                    return Err(de::Error::custom(detail));
                }
                list.push(item);
            }
            Ok(list)
        }
    }

    deserializer.deserialize_seq(BoundedVisitor(PhantomData))
}

// --- into the machine's words ---

impl TxnForm {
    fn into_txn(self) -> Result<Txn, Problem> {
        let ops = |branch: &'static str, ops: Vec<OpForm>| each(branch, ops, OpForm::into_op);
        Ok(Txn {
            when: each("when", self.when, |form| form.0.into_compare())?,
            then: ops("then", self.then)?,
            or_else: ops("or_else", self.or_else)?,
        })
    }
}

/// Converts each item of a list; a problem says which one it is.
pub(super) fn each<T, U>(
    list: &str,
    items: Vec<T>,
    convert: impl Fn(T) -> Result<U, Problem>,
) -> Result<Vec<U>, Problem> {
    let convert = |(index, item)| {
        convert(item).map_err(|problem: Problem| problem.within(format!("{list}[{index}]")))
    };
    items.into_iter().enumerate().map(convert).collect()
}

pub(super) const FORM: Form = Form {
    name: "transaction",
    again: |body| {
        let txn = json::read::<TxnForm>(body).and_then(TxnForm::into_txn).ok()?;
        let _ = Action::Txn(txn).validate();
        Some(Vec::new())
    },
    spelt: Spelt::Elsewhere,
};

impl OpForm {
    pub(super) fn into_op(self) -> Result<Op, Problem> {
        match self {
            OpForm::Put(Object(form)) => form.into_put().map(Op::Put).map_err(|p| p.within("put")),
            OpForm::Get(Object(form)) => {
                form.into_range().map(Op::Range).map_err(|p| p.within("get"))
            }
            OpForm::Range(Object(form)) => {
                form.into_range().map(Op::Range).map_err(|p| p.within("range"))
            }
            OpForm::Delete(Object(form)) => {
                form.into_delete().map(Op::Delete).map_err(|p| p.within("delete"))
            }
            OpForm::Txn(Object(form)) => form.into_txn().map(Op::Txn).map_err(|p| p.within("txn")),
        }
    }
}

impl PutForm {
    fn into_put(self) -> Result<Put, Problem> {
        let value = match (self.value, self.keep_value) {
            (Some(value), false) => Some(Value::new(value.0)?),
            (None, true) => None,
            _ => return Err(unclear("give either a value or \"keep_value\": true")),
        };
        let lease = match (self.lease, self.keep_lease) {
            (Some(lease), false) => PutLease::Attach(lease.0),
            (None, true) => PutLease::Keep,
            (None, false) => PutLease::Detach,
            (Some(_), true) => return Err(unclear("give a lease or \"keep_lease\", not both")),
        };
        Ok(Put { key: Key::new(self.key.0)?, value, lease, prev: self.prev })
    }
}

impl GetForm {
    fn into_range(self) -> Result<Range, Problem> {
        let key = Key::new(self.key.0)?;
        Ok(Range { revision: self.revision, ..Range::of(KeyRange::one(&key)) })
    }
}

impl RangeForm {
    fn select(&self) -> Result<Select, Problem> {
        selection(self.keys_only, self.count_only).map_err(unclear)
    }

    fn into_range(self) -> Result<Range, Problem> {
        let select = self.select()?;
        check_limit(self.limit).map_err(|detail| Problem::new(&BAD_JSON, detail))?;
        let bytes = |given: Option<Given>| given.map(|given| given.0);
        let range = json::range_of(bytes(self.prefix), bytes(self.start), bytes(self.end))
            .map_err(unclear)?;
        let descending = matches!(self.order, Some(Direction::Descending));
        Ok(Range {
            revision: self.revision,
            limit: self.limit,
            order: Order { by: OrderBy::Key, descending },
            select,
            ..Range::of(range)
        })
    }
}

impl DeleteForm {
    fn into_delete(self) -> Result<Delete, Problem> {
        let range = match keys_of(self.key, self.prefix, self.start, self.end)? {
            CompareKeys::One(key) => KeyRange::one(&key),
            CompareKeys::All(range) => range,
        };
        Ok(Delete { range, prev: self.prev })
    }
}

impl CompareForm {
    fn into_compare(self) -> Result<Compare, Problem> {
        let mut targets = [
            self.version.map(CompareTarget::Version),
            self.create_revision.map(CompareTarget::Create),
            self.mod_revision.map(CompareTarget::Mod),
            self.value.map(|value| Value::new(value.0)).transpose()?.map(CompareTarget::Value),
            self.lease.map(|lease| CompareTarget::Lease(lease.0)),
        ]
        .into_iter()
        .flatten();
        let (Some(target), None) = (targets.next(), targets.next()) else {
            return Err(unclear(
                "a condition compares exactly one of version, create_revision, mod_revision, \
                 value and lease",
            ));
        };
        let is = match self.is {
            IsForm::Equal => Is::Equal,
            IsForm::NotEqual => Is::NotEqual,
            IsForm::Greater => Is::Greater,
            IsForm::Less => Is::Less,
        };
        Ok(Compare { range: keys_of(self.key, self.prefix, self.start, self.end)?, target, is })
    }
}

/// The keys that a delete or a condition names; unlike a read, it must name some, so that all keys
/// are never meant by leaving something out.
fn keys_of(
    key: Option<Given>,
    prefix: Option<Given>,
    start: Option<Given>,
    end: Option<Given>,
) -> Result<CompareKeys, Problem> {
    let bytes = |given: Option<Given>| given.map(|given| given.0);
    match (key, prefix, start, end) {
        (Some(key), None, None, None) => Ok(CompareKeys::One(Key::new(key.0)?)),
        (None, None, None, None) => {
            Err(unclear("name a key, a prefix (\"\" for all keys), or start and end"))
        }
        (None, prefix, start, end) => {
            let range = json::range_of(bytes(prefix), bytes(start), bytes(end));
            range.map(CompareKeys::All).map_err(unclear)
        }
        (Some(_), ..) => Err(unclear("name a key or a range, not both")),
    }
}

pub(super) fn unclear(detail: &'static str) -> Problem {
    Problem::new(&UNCLEAR, detail)
}

// --- what is answered ---

/// What an operation's answer looks like; the machine's answers alone don't tell a get from a
/// range.
pub(super) enum Shape {
    Put,
    Get,
    Range(Select),
    Delete,
    Txn { then: Vec<Shape>, or_else: Vec<Shape> },
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Outcome")]
struct OutcomeForm<'a> {
    revision: Revision,
    succeeded: bool,
    answers: Vec<AnswerForm<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Answer")]
pub(super) enum AnswerForm<'a> {
    Put { prev: Option<RecordForm<'a>> },
    Get { record: Option<RecordForm<'a>> },
    Range(PageForm<'a>),
    Delete { deleted: u64, prev: Vec<KeyRecordForm<'a>> },
    Txn { succeeded: bool, answers: Vec<AnswerForm<'a>> },
}

impl Shape {
    fn of(form: &TxnForm) -> Self {
        let shapes = |ops: &[OpForm]| ops.iter().map(Shape::of_op).collect();
        Shape::Txn { then: shapes(&form.then), or_else: shapes(&form.or_else) }
    }

    pub(super) fn of_op(form: &OpForm) -> Self {
        match form {
            OpForm::Put(_) => Shape::Put,
            OpForm::Get(_) => Shape::Get,
            // A range that asks for both is refused before it is answered.
            OpForm::Range(Object(range)) => Shape::Range(range.select().unwrap_or_default()),
            OpForm::Delete(_) => Shape::Delete,
            OpForm::Txn(Object(txn)) => Shape::of(txn),
        }
    }

    /// The forms of a transaction's answers; none if they are not of this shape.
    fn answers<'a>(
        &self,
        succeeded: bool,
        answers: &'a [AnswerBody],
    ) -> Option<Vec<AnswerForm<'a>>> {
        let Shape::Txn { then, or_else } = self else { return None };
        let shapes = if succeeded { then } else { or_else };
        if shapes.len() != answers.len() {
            return None;
        }
        shapes.iter().zip(answers).map(|(shape, answer)| shape.answer(answer)).collect()
    }

    pub(super) fn answer<'a>(&self, answer: &'a AnswerBody) -> Option<AnswerForm<'a>> {
        match (self, answer) {
            (Shape::Put, AnswerBody::Put { prev }) => {
                Some(AnswerForm::Put { prev: prev.as_ref().map(RecordForm::of) })
            }
            (Shape::Get, AnswerBody::Range(page)) => {
                let record = page.records.first().map(|found| RecordForm::of(&found.record));
                Some(AnswerForm::Get { record })
            }
            (Shape::Range(select), AnswerBody::Range(page)) => {
                Some(AnswerForm::Range(PageForm::of(page, *select)))
            }
            (Shape::Delete, AnswerBody::Deleted { count, prev }) => {
                let prev = prev.iter().map(|found| KeyRecordForm::of(found, false)).collect();
                Some(AnswerForm::Delete { deleted: *count, prev })
            }
            (Shape::Txn { .. }, AnswerBody::Txn { succeeded, answers }) => {
                let answers = self.answers(*succeeded, answers)?;
                Some(AnswerForm::Txn { succeeded: *succeeded, answers })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "txn_tests.rs"]
mod tests;
