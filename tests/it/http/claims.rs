//! Locks and elections over HTTP.

use serde_json::{Value as Json, json};
use tokio::time::timeout;

use super::Node;

const LOCK: &str = "/v1/locks/printer%2F1";
const ELECTION: &str = "/v1/elections/leader";

async fn lease(node: &Node, id: &str) {
    let form = json!({"ttl_ms": 60_000, "id": id});
    assert_eq!(node.post("/v1/leases", form.to_string()).await.status, 201);
}

fn of(lease: &str) -> Json {
    json!(format!("{lease:0>16}"))
}

#[tokio::test]
async fn a_lock_goes_from_one_to_the_next_in_the_order_of_the_line() {
    let node = Node::start().await;
    for id in ["a", "b", "c"] {
        lease(&node, id).await;
    }
    assert_eq!(node.get(LOCK).await.json(), json!({"holder": null}));
    let take = async |lease: &str, wait_ms: u64| {
        node.post(LOCK, json!({"lease": lease, "wait_ms": wait_ms}).to_string()).await
    };
    let first = take("a", 0).await;
    assert_eq!(first.status, 200);
    let first = first.json();
    assert_eq!((&first["held"], &first["holder"]["lease"]), (&json!(true), &of("a")));
    // Asked again it is the same.
    assert_eq!(take("a", 1_000).await.json(), first);
    assert_eq!(node.get(LOCK).await.json(), json!({"holder": first["holder"]}));

    // Who does not wait keeps no place; who waits does, also between two askings.
    take("b", 0).await.problem(409, "lock-held");
    let waits = take("c", 50).await;
    assert_eq!(waits.status, 202);
    assert_eq!(waits.json(), json!({"held": false, "holder": first["holder"]}));
    let waits = take("b", 50).await;
    assert_eq!(waits.status, 202);

    let unlock = format!("{LOCK}?lease=a");
    let (next, released) = tokio::join!(take("c", 30_000), node.delete(&unlock));
    assert_eq!(released.json()["released"], true);
    let next = next.json();
    assert_eq!((&next["held"], &next["holder"]["lease"]), (&json!(true), &of("c")));
    assert!(next["holder"]["token"].as_u64() > first["holder"]["token"].as_u64());
    let again = node.delete(&format!("{LOCK}?lease=a")).await.json();
    assert_eq!(again["released"], false);

    // A lease that ends hands over, too.
    let (last, revoked) = tokio::join!(take("b", 30_000), node.delete("/v1/leases/c"));
    assert_eq!(revoked.status, 200);
    assert_eq!(last.status, 200);
    assert_eq!(last.json()["holder"]["lease"], of("b"));
    node.delete("/v1/leases/b").await;
    assert_eq!(node.get(LOCK).await.json(), json!({"holder": null}));
    take("b", 0).await.problem(404, "lease-not-found");
    node.stop().await;
}

#[tokio::test]
async fn who_is_elected_says_who_it_is_until_it_resigns() {
    let node = Node::start().await;
    for id in ["a", "b"] {
        lease(&node, id).await;
    }
    let campaign = async |lease: &str, value: &str| {
        let form = json!({"lease": lease, "value": value, "wait_ms": 30_000});
        node.post(ELECTION, form.to_string()).await.json()
    };
    assert_eq!(campaign("a", "first").await["holder"]["value"], "first");
    // Asked again it is the claim that it was.
    assert_eq!(campaign("a", "another").await["holder"]["value"], "first");
    let says = async || node.get(ELECTION).await.json()["holder"]["value"].clone();
    assert_eq!(says().await, "first");
    let proclaim = async |lease: &str| {
        node.request(reqwest::Method::PUT, ELECTION)
            .body(json!({"lease": lease, "value": "still first"}).to_string())
    };
    assert_eq!(super::Reply::to(proclaim("a").await).await.status, 200);
    assert_eq!(says().await, "still first");
    super::Reply::to(proclaim("b").await).await.problem(409, "not-holder");

    let resign = format!("{ELECTION}?lease=a");
    let (second, resigned) = tokio::join!(campaign("b", "second"), node.delete(&resign));
    assert_eq!(resigned.json()["released"], true);
    assert_eq!(second["holder"]["value"], "second");
    assert_eq!(says().await, "second");
    node.stop().await;
}

#[tokio::test]
async fn who_waits_is_told_that_the_node_stops() {
    let node = Node::start().await;
    for id in ["a", "b"] {
        lease(&node, id).await;
    }
    assert_eq!(node.post(LOCK, json!({"lease": "a"}).to_string()).await.status, 200);
    let form = json!({"lease": "b", "wait_ms": 50_000}).to_string();
    let waits = super::Reply::to(node.request(reqwest::Method::POST, LOCK).body(form));
    let (waited, ()) = tokio::join!(waits, async {
        timeout(super::PATIENCE, async {
            while node.get("/v1/kv?prefix=printer/1/&count_only").await.json()["count"] != 2 {}
        })
        .await
        .expect("it waits in the line");
        node.stop().await;
    });
    assert_eq!(waited.status, 202);
}

#[tokio::test]
async fn what_is_no_claim_is_refused() {
    let node = Node::start().await;
    node.post(LOCK, "{}").await.problem(400, "bad-json");
    node.post(ELECTION, r#"{"lease": "a"}"#).await.problem(400, "bad-json");
    node.post(LOCK, r#"{"lease": "a"}"#).await.problem(404, "lease-not-found");
    node.delete(LOCK).await.problem(400, "bad-query");
    node.delete(&format!("{LOCK}?lease=x")).await.problem(400, "bad-query");
    node.get("/v1/locks/").await.problem(404, "path-not-found");
    node.stop().await;
}
