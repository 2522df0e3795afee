//! Transactions in JSON.

use super::Node;
use aspen::limits::{HTTP_JSON_BYTES_MAX, TXN_DEPTH_MAX, TXN_OPS_MAX};
use serde_json::json;

#[tokio::test]
async fn one_branch_is_done_at_one_revision() {
    let node = Node::start().await;
    let txn = json!({
        "when": [{"key": "lock", "version": 0}],
        "then": [
            {"put": {"key": "lock", "value": "me"}},
            {"put": {"key": "count", "value": {"base64": "AAE="}, "prev": true}},
            {"get": {"key": "lock"}}
        ],
        "or_else": [{"get": {"key": "lock"}}, {"range": {"prefix": "", "keys_only": true}}]
    });
    let done = node.post("/v1/txn", txn.to_string()).await;
    assert_eq!(done.status, 200);
    let revision = done.revision();
    let record = json!({
        "value": "me", "create_revision": revision, "mod_revision": revision, "version": 1,
        "lease": null
    });
    let expected = json!({
        "revision": revision,
        "succeeded": true,
        "answers": [{"put": {"prev": null}}, {"put": {"prev": null}}, {"get": {"record": record}}]
    });
    assert_eq!(done.json(), expected);

    let refused = node.post("/v1/txn", txn.to_string()).await.json();
    assert_eq!(refused["revision"], revision);
    assert_eq!(refused["succeeded"], false);
    assert_eq!(refused["answers"][0], json!({"get": {"record": record}}));
    let range = &refused["answers"][1]["range"];
    assert_eq!((&range["count"], &range["more"]), (&json!(2), &json!(false)));
    assert_eq!(range["records"][0]["key"], "count");
    assert_eq!(node.get("/v1/kv/count").await.body, [0, 1]);
    node.stop().await;
}

#[tokio::test]
async fn every_operation_and_comparison_is_done() {
    let node = Node::start().await;
    let lease = node.post("/v1/leases", r#"{"ttl_ms": 60000, "id": "2a"}"#).await.json();
    let first = node.write("a/1", "one").await;
    let second = node.write("a/2", "two").await;
    let txn = json!({
        "when": [
            {"key": "a/1", "value": "one"},
            {"key": "a/1", "is": "!=", "value": "two"},
            {"key": "a/1", "create_revision": first},
            {"key": "a/2", "is": ">", "mod_revision": first},
            {"key": "a/2", "is": "<", "mod_revision": second + 1},
            {"prefix": "a/", "version": 1},
            {"key": "a/1", "lease": "0"}
        ],
        "then": [
            {"put": {"key": "a/1", "keep_value": true, "lease": lease["id"]}},
            {"put": {"key": "a/3", "value": "three"}},
            {"delete": {"key": "a/2", "prev": true}},
            {"txn": {
                "when": [{"key": "a/3", "is": ">", "version": 0}],
                "or_else": [{"delete": {"start": "b", "end": "c"}}]
            }},
            {"range": {"prefix": "a/", "order": "desc", "limit": 1}},
            {"range": {"start": "a/", "count_only": true}}
        ]
    });
    let done = node.post("/v1/txn", txn.to_string()).await.json();
    assert_eq!(done["succeeded"], true, "{done}");
    let answers = &done["answers"];
    assert_eq!(answers[2]["delete"]["deleted"], 1);
    assert_eq!(answers[2]["delete"]["prev"][0]["key"], "a/2");
    assert_eq!(answers[2]["delete"]["prev"][0]["value"], "two");
    // Conditions within look at the state before the whole transaction.
    let within = json!({"txn": {
        "succeeded": false, "answers": [{"delete": {"deleted": 0, "prev": []}}]
    }});
    assert_eq!(answers[3], within);
    assert_eq!(answers[4]["range"]["records"][0]["key"], "a/3");
    assert_eq!(answers[4]["range"]["more"], true);
    assert_eq!(answers[5]["range"], json!({"count": 2, "more": false, "records": []}));
    let kept = node.get("/v1/kv/a/1").await;
    assert_eq!((kept.text(), kept.header("aspen-lease")), ("one", "000000000000002a"));
    node.stop().await;
}

#[tokio::test]
async fn what_is_not_a_transaction_is_refused_with_its_place() {
    let node = Node::start().await;
    let refused =
        async |body: &str| node.post("/v1/txn", body.to_owned()).await.problem(400, "bad-json");
    let unknown = refused(r#"{"then": [{"put": {"key": "k", "value": "v", "ttl": 5}}]}"#).await;
    assert_eq!(unknown["at"], "then[0].put.ttl");
    assert!(unknown["detail"].as_str().unwrap().contains("expected one of `key`, `value`"));
    assert_eq!(
        refused(r#"{"when": [{"key": "k", "version": "1"}]}"#).await["at"],
        "when[0].version"
    );
    refused("").await;
    refused("nonsense").await;
    refused("[]").await;
    refused("{} trailing").await;
    let bad_utf8 = node.post("/v1/txn", &b"{\"then\": [{\"get\": {\"key\": \"\xff\"}}]}"[..]).await;
    bad_utf8.problem(400, "bad-json");
    node.post("/v1/txn?prev", "{}").await.problem(400, "bad-query");
    node.stop().await;
}

#[tokio::test]
async fn a_transaction_past_a_limit_is_refused_whole() {
    let node = Node::start().await;
    let refused = async |txn: String, status: u16, name: &str| {
        node.post("/v1/txn", txn).await.problem(status, name);
    };
    let put = |key: String, len: usize| json!({"put": {"key": key, "value": "v".repeat(len)}});
    let puts = |count: usize, len: usize| {
        let puts: Vec<_> = (0..count).map(|i| put(format!("k{i}"), len)).collect();
        json!({"then": puts}).to_string()
    };
    refused(puts(TXN_OPS_MAX + 1, 0), 400, "bad-json").await;
    let spread = json!({
        "when": vec![json!({"key": "k", "version": 0}); TXN_OPS_MAX / 2],
        "then": vec![json!({"get": {"key": "k"}}); TXN_OPS_MAX / 2 + 1]
    });
    refused(spread.to_string(), 422, "txn-too-many-ops").await;
    refused(puts(3, 3 * 1024 * 1024), 413, "txn-too-large").await;
    refused(puts(1, 4 * 1024 * 1024 + 1), 413, "value-too-long").await;
    let twice = json!({"then": [put("k".into(), 1), put("k".into(), 2)]});
    refused(twice.to_string(), 422, "txn-duplicate-key").await;
    let mut deep = json!({});
    for _ in 0..TXN_DEPTH_MAX {
        deep = json!({"then": [{"txn": deep}]});
    }
    refused(deep.to_string(), 422, "txn-too-deep").await;
    refused(r#"{"then": [{"put": {"key": "", "value": ""}}]}"#.into(), 400, "key-empty").await;
    refused(" ".repeat(HTTP_JSON_BYTES_MAX + 1), 413, "body-too-large").await;
    assert_eq!(node.get("/v1/kv").await.json()["count"], 0);

    let done = node.post("/v1/txn", puts(TXN_OPS_MAX, 1)).await.json();
    assert_eq!(done["answers"].as_array().unwrap().len(), TXN_OPS_MAX);
    node.stop().await;
}

#[tokio::test]
async fn a_transaction_that_the_state_refuses_changes_nothing() {
    let node = Node::start().await;
    let last = node.write("k", "v").await;
    for (op, status, name) in [
        (json!({"put": {"key": "new", "keep_value": true}}), 404, "key-not-found"),
        (json!({"put": {"key": "new", "value": "", "lease": "77"}}), 404, "lease-not-found"),
        (json!({"get": {"key": "k", "revision": last + 5}}), 409, "future-revision"),
    ] {
        let txn = json!({"then": [{"put": {"key": "k", "value": "changed"}}, op]});
        node.post("/v1/txn", txn.to_string()).await.problem(status, name);
        let read = node.get("/v1/kv/k").await;
        assert_eq!((read.text(), read.revision()), ("v", last));
    }
    node.stop().await;
}
