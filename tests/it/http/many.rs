//! Many keys in one request.

use aspen::limits::{RANGE_BYTES_MAX, TXN_OPS_MAX, VALUE_BYTES_MAX};
use serde_json::{Value as Json, json};

use super::Node;

const MGET: &str = "/v1/kv/mget";
const BATCH: &str = "/v1/kv/batch";

async fn made(node: &Node, keyspace: &str, shards: u32) {
    let form = json!({"name": keyspace, "shards": shards});
    assert_eq!(node.post("/v1/keyspaces", form.to_string()).await.status, 201);
}

#[tokio::test]
async fn many_keys_are_written_and_read_in_their_order_whatever_their_shards() {
    let node = Node::start().await;
    made(&node, "wide", 4).await;
    for query in ["", "?keyspace=wide"] {
        let put = |number: u32| json!({"put": {"key": format!("k/{number}"), "value": format!("{number}")}});
        let writes = json!({"ops": (0..40).map(put).collect::<Vec<_>>()});
        let written = node.post(&format!("{BATCH}{query}"), writes.to_string()).await.json();
        assert_eq!(written["failed"], 0);
        let answers = written["answers"].as_array().expect("a list");
        assert_eq!(answers.len(), 40);
        assert!(answers.iter().all(|answer| answer["put"] == json!({"prev": null})), "{written}");
        let of_one = answers.iter().all(|answer| answer["revision"] == answers[0]["revision"]);
        assert!(of_one || !query.is_empty(), "those of a shard are of one revision: {written}");

        let keys = ["k/7", "none", "k/7", "k/39", "k/0"];
        let read =
            node.post(&format!("{MGET}{query}"), json!({"keys": keys}).to_string()).await.json();
        let values: Vec<&Json> = read["records"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|found| &found["value"])
            .collect();
        assert_eq!(values, [&json!("7"), &Json::Null, &json!("7"), &json!("39"), &json!("0")]);
        assert_eq!(read["more"], false);
        assert_eq!(read["records"][0]["key"], "k/7");

        let delete = |key: &str| json!({"delete": {"key": key, "prev": true}});
        let again = json!({"ops": [delete("k/7"), delete("none"), {"put": {"key": "k/8", "value": "new"}}]});
        let done = node.post(&format!("{BATCH}{query}"), again.to_string()).await.json();
        let deleted = |at: usize| &done["answers"][at]["delete"];
        assert_eq!(deleted(0)["prev"][0]["value"], "7");
        assert_eq!(*deleted(1), json!({"deleted": 0, "prev": []}));
        let read = node
            .post(&format!("{MGET}{query}"), json!({"keys": ["k/7", "k/8"]}).to_string())
            .await
            .json();
        assert_eq!(
            (&read["records"][0], &read["records"][1]["value"]),
            (&Json::Null, &json!("new"))
        );
    }
    node.stop().await;
}

#[tokio::test]
async fn what_one_shard_refuses_keeps_the_others_from_nothing() {
    let node = Node::start().await;
    made(&node, "wide", 4).await;
    let batch = format!("{BATCH}?keyspace=wide");
    // There is no such lease, in any shard.
    let with_lease = |key: &str| json!({"put": {"key": key, "value": "v", "lease": "2a"}});
    let put = |key: &str| json!({"put": {"key": key, "value": "v"}});
    let both = json!({"ops": [put("{a}/1"), with_lease("{b}/1"), put("{a}/2"), put("{b}/2")]});
    let done = node.post(&batch, both.to_string()).await.json();
    assert_eq!(done["failed"], 2, "{done}");
    for at in [1, 3] {
        assert_eq!(done["answers"][at]["problem"]["type"], "urn:aspen:problem:lease-not-found");
    }
    let keys = json!({"keys": ["{a}/1", "{b}/1", "{a}/2", "{b}/2"]});
    let read = node.post(&format!("{MGET}?keyspace=wide"), keys.to_string()).await.json();
    let is_there: Vec<bool> =
        read["records"].as_array().expect("a list").iter().map(|found| !found.is_null()).collect();
    assert_eq!(is_there, [true, false, true, false], "all of a shard's or none");

    let none = json!({"ops": [with_lease("{b}/1")]});
    node.post(&batch, none.to_string()).await.problem(404, "lease-not-found");
    node.stop().await;
}

#[tokio::test]
async fn more_values_than_an_answer_holds_are_asked_for_again() {
    let node = Node::start().await;
    let large = vec![b'v'; VALUE_BYTES_MAX];
    let count = RANGE_BYTES_MAX / VALUE_BYTES_MAX + 1;
    let keys: Vec<String> = (0..count).map(|number| format!("large/{number}")).collect();
    for key in &keys {
        assert_eq!(node.put(&format!("/v1/kv/{key}"), large.clone()).await.status, 201);
    }
    let read = node.post(MGET, json!({"keys": keys}).to_string()).await.json();
    assert_eq!(read["records"].as_array().expect("a list").len(), count - 1);
    assert_eq!(read["more"], true);
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_list_of_keys_or_writes_is_refused_with_its_place() {
    let node = Node::start().await;
    for (path, body, problem, at) in [
        (MGET, json!({}), (400, "bad-json"), Json::Null),
        (MGET, json!({"keys": ["a", ""]}), (400, "key-empty"), json!("keys[1]")),
        (MGET, json!({"keys": vec!["k"; TXN_OPS_MAX + 1]}), (400, "bad-json"), json!("keys")),
        (BATCH, json!({"ops": [{"get": {"key": "a"}}]}), (422, "unclear"), json!("ops[0]")),
        (BATCH, json!({"ops": [{"put": {"key": "a"}}]}), (422, "unclear"), json!("ops[0].put")),
        (BATCH, json!({"ops": [{"delete": {}}]}), (422, "unclear"), json!("ops[0].delete")),
    ] {
        let (status, name) = problem;
        let problem = node.post(path, body.to_string()).await.problem(status, name);
        assert_eq!(problem.get("at").cloned().unwrap_or_default(), at, "{path} {body}");
    }
    let nothing = node.post(BATCH, r#"{"ops": []}"#).await.json();
    assert_eq!(nothing, json!({"answers": [], "failed": 0}));
    // They are keys like others, too.
    for key in [MGET, BATCH] {
        assert_eq!(node.put(key, "v").await.status, 201);
        assert_eq!(node.get(key).await.body, b"v");
        assert_eq!(node.delete(key).await.status, 200);
    }
    node.stop().await;
}
