//! The JSON of transactions: what is read, what is refused and where, what is answered.

use super::*;
use crate::machine::ops::{KeyRecord, Page};
use crate::types::{LeaseId, Record};

fn parse(json: &str) -> Result<Txn, Problem> {
    json::read::<TxnForm>(json.as_bytes())?.into_txn()
}

/// Where a transaction is refused, and why.
fn refused(json: &str) -> String {
    let problem = parse(json).expect_err(json);
    let document: serde_json::Value = serde_json::from_str(&problem.to_json()).unwrap();
    let at = document["at"].as_str().unwrap_or("the whole");
    format!("{}: {at}: {}", problem.name(), problem.detail())
}

fn key(text: &str) -> Key {
    Key::try_from(text).unwrap()
}

fn value(text: &str) -> Value {
    Value::try_from(text).unwrap()
}

#[test]
fn an_empty_transaction_is_one() {
    assert_eq!(parse("{}").unwrap(), Txn::default());
    assert_eq!(parse(r#"{"when":[],"then":[],"or_else":[]}"#).unwrap(), Txn::default());
}

#[test]
fn every_operation_is_read() {
    let txn = parse(
        r#"{"then": [
            {"put": {"key": "a", "value": "1"}},
            {"put": {"key": "b", "keep_value": true, "lease": "ab", "prev": true}},
            {"put": {"key": "c", "value": {"base64": "/w=="}, "keep_lease": true}},
            {"get": {"key": "d", "revision": 7}},
            {"range": {"prefix": "e/", "limit": 5, "order": "desc", "keys_only": true}},
            {"range": {"start": "f", "end": "g", "revision": 9, "count_only": true}},
            {"delete": {"key": "h"}},
            {"delete": {"prefix": "", "prev": true}},
            {"txn": {"or_else": [{"delete": {"start": "i", "end": "j"}}]}}
        ]}"#,
    )
    .unwrap();
    let range = Range::of;
    let expected = vec![
        Op::Put(Put::new(key("a"), value("1"))),
        Op::Put(Put {
            key: key("b"),
            value: None,
            lease: PutLease::Attach(LeaseId(0xab)),
            prev: true,
        }),
        Op::Put(Put {
            lease: PutLease::Keep,
            ..Put::new(key("c"), Value::try_from(b"\xff").unwrap())
        }),
        Op::Range(Range { revision: Some(7), ..range(KeyRange::one(&key("d"))) }),
        Op::Range(Range {
            limit: Some(5),
            order: Order { by: OrderBy::Key, descending: true },
            select: Select::Keys,
            ..range(KeyRange::prefix("e/"))
        }),
        Op::Range(Range {
            revision: Some(9),
            select: Select::Count,
            ..range(json::range_of(None, Some("f".into()), Some("g".into())).unwrap())
        }),
        Op::Delete(Delete { range: KeyRange::one(&key("h")), prev: false }),
        Op::Delete(Delete { range: KeyRange::all(), prev: true }),
        Op::Txn(Txn {
            or_else: vec![Op::Delete(Delete {
                range: json::range_of(None, Some("i".into()), Some("j".into())).unwrap(),
                prev: false,
            })],
            ..Txn::default()
        }),
    ];
    assert_eq!(txn.then, expected);
}

#[test]
fn every_condition_is_read() {
    let txn = parse(
        r#"{"when": [
            {"key": "a", "version": 0},
            {"key": "a", "is": "!=", "value": "x"},
            {"key": "a", "is": ">", "create_revision": 3},
            {"key": "a", "is": "<", "mod_revision": 9},
            {"key": "a", "is": "=", "lease": "0"},
            {"prefix": "p/", "lease": "00000000000000ff"}
        ]}"#,
    )
    .unwrap();
    let one = |is, target| Compare { range: CompareKeys::One(key("a")), target, is };
    let expected = vec![
        one(Is::Equal, CompareTarget::Version(0)),
        one(Is::NotEqual, CompareTarget::Value(value("x"))),
        one(Is::Greater, CompareTarget::Create(3)),
        one(Is::Less, CompareTarget::Mod(9)),
        one(Is::Equal, CompareTarget::Lease(0)),
        Compare {
            range: CompareKeys::All(KeyRange::prefix("p/")),
            target: CompareTarget::Lease(255),
            is: Is::Equal,
        },
    ];
    assert_eq!(txn.when, expected);
}

#[test]
fn what_is_not_a_transaction_is_refused_with_its_place_and_what_is_allowed() {
    for (json, expected) in [
        ("", "bad-json: the whole: EOF while parsing a value at line 1 column 0"),
        ("[]", "bad-json: the whole: invalid type: sequence, expected an object"),
        (
            r#"{"if": []}"#,
            "bad-json: if: unknown field `if`, expected one of `when`, `then`, `or_else`",
        ),
        (
            r#"{"then": [{"put": ["a", "b"]}]}"#,
            "bad-json: then[0].put: invalid type: sequence, expected an object",
        ),
        (r#"{"then": {}}"#, "bad-json: then: invalid type: map, expected a list of at most 1024"),
        (
            r#"{"then": [{"putt": {}}]}"#,
            "bad-json: then[0]: unknown variant `putt`, expected one of `put`, `get`, `range`, `delete`, `txn`",
        ),
        (r#"{"then": [{"put": {}}]}"#, "bad-json: then[0].put: missing field `key`"),
        (
            r#"{"then": [{"put": {"key": 5}}]}"#,
            "bad-json: then[0].put.key: invalid type: integer `5`, expected a string or {\"base64\"",
        ),
        (
            r#"{"then": [{"put": {"key": "a", "value": "", "ttl": 1}}]}"#,
            "bad-json: then[0].put.ttl: unknown field `ttl`, expected one of `key`, `value`, `keep_value`, `lease`, `keep_lease`, `prev`",
        ),
        (
            r#"{"then": [{"put": {"key": "a"}}]}"#,
            "unclear: then[0].put: give either a value or \"keep_value\": true",
        ),
        (
            r#"{"then": [{"put": {"key": "a", "value": "", "keep_value": true}}]}"#,
            "unclear: then[0].put: give either a value or",
        ),
        (
            r#"{"then": [{"put": {"key": "a", "value": "", "lease": "1", "keep_lease": true}}]}"#,
            "unclear: then[0].put: give a lease or \"keep_lease\", not both",
        ),
        (
            r#"{"then": [{"put": {"key": "a", "value": "", "lease": "xyz"}}]}"#,
            "bad-json: then[0].put.lease: a lease id is 1 to 16 hexadecimal digits and not 0",
        ),
        (
            r#"{"or_else": [{"get": {"key": "a"}}, {"get": {"key": ""}}]}"#,
            "key-empty: or_else[1].get: a key must have at least one byte",
        ),
        (
            r#"{"then": [{"range": {"limit": 0}}]}"#,
            "bad-json: then[0].range: a limit is at least 1",
        ),
        (
            r#"{"then": [{"range": {"prefix": "a", "start": "b"}}]}"#,
            "unclear: then[0].range: a range is given by prefix, or by start and end, not by both",
        ),
        (
            r#"{"then": [{"range": {"keys_only": true, "count_only": true}}]}"#,
            "unclear: then[0].range: keys_only and count_only exclude each other",
        ),
        (
            r#"{"then": [{"range": {"order": "up"}}]}"#,
            "bad-json: then[0].range.order: unknown variant `up`, expected `asc` or `desc`",
        ),
        (
            r#"{"then": [{"txn": {"then": [{"delete": {}}]}}]}"#,
            "unclear: then[0].txn.then[0].delete: name a key, a prefix (\"\" for all keys)",
        ),
        (
            r#"{"then": [{"delete": {"key": "a", "prefix": "b"}}]}"#,
            "unclear: then[0].delete: name a key or a range, not both",
        ),
        (
            r#"{"when": [{"key": "a"}]}"#,
            "unclear: when[0]: a condition compares exactly one of version",
        ),
        (
            r#"{"when": [{"key": "a", "version": 1, "value": "x"}]}"#,
            "unclear: when[0]: a condition compares exactly one of version",
        ),
        (
            r#"{"when": [{"key": "a", "version": 1, "is": "=="}]}"#,
            "bad-json: when[0].is: unknown variant `==`, expected one of `=`, `!=`, `>`, `<`",
        ),
        (
            r#"{"when": [{"key": "a", "version": -1}]}"#,
            "bad-json: when[0].version: invalid value: integer `-1`, expected a whole number",
        ),
        (
            r#"{"when": [{"key": "a", "lease": 5}]}"#,
            "bad-json: when[0].lease: invalid type: integer `5`, expected a string",
        ),
        ("{} {}", "bad-json: the whole: trailing characters"),
    ] {
        let refused = refused(json);
        assert!(refused.starts_with(expected), "{json}\n  is {refused}\n  not {expected}");
    }
}

#[test]
fn a_list_is_read_only_up_to_its_bound() {
    let list = |count| format!(r#"{{"then": [{}]}}"#, vec![r#"{"range":{}}"#; count].join(","));
    assert!(parse(&list(TXN_OPS_MAX)).is_ok());
    let refused = refused(&list(TXN_OPS_MAX + 1));
    assert!(refused.contains("invalid length 1025, expected a list of at most 1024"), "{refused}");
}

#[test]
fn lists_within_lists_are_read_up_to_a_bound_of_all_together() {
    let list = |count, item: &str| format!(r#"{{"then": [{}]}}"#, vec![item; count].join(","));
    let inner = |count| format!(r#"{{"txn": {}}}"#, list(count, r#"{"txn":{}}"#));
    assert!(parse(&list(3, &inner(1_000))).is_ok());
    let refused = refused(&list(5, &inner(1_000)));
    assert!(refused.contains("at most 1024 operations and conditions"), "{refused}");
    // What one body had too many of is nothing to the next.
    assert!(parse(&list(3, &inner(1_000))).is_ok());
}

#[test]
fn deep_nesting_ends_in_a_complaint() {
    let depth = 10_000;
    let json = r#"{"then":[{"txn":"#.repeat(depth) + "{}" + &"}]}".repeat(depth);
    assert!(refused(&json).contains("recursion limit"));
}

#[test]
fn answers_mirror_the_operations() {
    let form: TxnForm = json::read(
        br#"{"then": [
            {"put": {"key": "a", "value": "1", "prev": true}},
            {"get": {"key": "a"}},
            {"get": {"key": "z"}},
            {"range": {"keys_only": true}},
            {"delete": {"prefix": "p", "prev": true}},
            {"txn": {"or_else": [{"delete": {"key": "q"}}]}}
        ], "or_else": [{"get": {"key": "a"}}]}"#,
    )
    .unwrap();
    let shape = Shape::of(&form);
    let record = Record::new(value("v"), 1, 2, 3, None);
    let found = KeyRecord { key: key("a"), record: record.clone() };
    let page = Page { records: vec![found.clone()], count: 1, more: false };
    let answers = [
        AnswerBody::Put { prev: Some(record) },
        AnswerBody::Range(page.clone()),
        AnswerBody::Range(Page::default()),
        AnswerBody::Range(page),
        AnswerBody::Deleted { count: 1, prev: vec![found] },
        AnswerBody::Txn {
            succeeded: false,
            answers: vec![AnswerBody::Deleted { count: 0, prev: vec![] }],
        },
    ];
    let forms = serde_json::to_value(shape.answers(true, &answers).unwrap()).unwrap();
    let counters = |mut json: serde_json::Value| {
        let extra = serde_json::json!({
            "create_revision": 1, "mod_revision": 2, "version": 3, "lease": null
        });
        json.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        json
    };
    let expected = serde_json::json!([
        {"put": {"prev": counters(serde_json::json!({"value": "v"}))}},
        {"get": {"record": counters(serde_json::json!({"value": "v"}))}},
        {"get": {"record": null}},
        {"range": {"count": 1, "more": false, "records": [counters(serde_json::json!({"key": "a"}))]}},
        {"delete": {"deleted": 1, "prev": [counters(serde_json::json!({"key": "a", "value": "v"}))]}},
        {"txn": {"succeeded": false, "answers": [{"delete": {"deleted": 0, "prev": []}}]}},
    ]);
    assert_eq!(forms, expected);
    // Answers of another shape are a contradiction, not a panic.
    assert!(shape.answers(true, &answers[..2]).is_none());
    assert!(shape.answers(false, &answers[..1]).is_none());
}
