//! Leases over HTTP.

use super::Node;
use serde_json::json;

#[tokio::test]
async fn a_lease_is_granted_shown_kept_alive_and_revoked() {
    let node = Node::start().await;
    let granted = node.post("/v1/leases", r#"{"ttl_ms": 60000, "id": "ab"}"#).await;
    assert_eq!(granted.status, 201);
    assert_eq!(granted.header("location"), "/v1/leases/00000000000000ab");
    let form = granted.json();
    assert_eq!(form["id"], "00000000000000ab");
    assert_eq!(form["ttl_ms"], 60_000);
    assert_eq!(form["revision"], granted.revision());

    node.put("/v1/kv/one?lease=ab", "1").await;
    node.put("/v1/kv/two?lease=ab", "2").await;
    let shown = node.get("/v1/leases/ab").await.json();
    assert_eq!(shown["ttl_ms"], 60_000);
    assert!((1..=60_000).contains(&shown["left_ms"].as_u64().unwrap()));
    assert!(shown.get("keys").is_none());
    let shown = node.get("/v1/leases/00000000000000AB?keys").await.json();
    assert_eq!(shown["keys"], json!(["one", "two"]));

    let kept = node.post("/v1/leases/ab/keep-alive", "").await;
    assert_eq!(kept.status, 200);
    assert_eq!(kept.json()["id"], "00000000000000ab");
    assert!(kept.json()["left_ms"].as_u64().unwrap() > 50_000);

    let revoked = node.delete("/v1/leases/ab").await;
    assert_eq!(revoked.status, 200);
    assert_eq!(revoked.json()["revision"], revoked.revision());
    node.get("/v1/kv/one").await.problem(404, "key-not-found");
    node.get("/v1/leases/ab").await.problem(404, "lease-not-found");
    node.post("/v1/leases/ab/keep-alive", "").await.problem(404, "lease-not-found");
    node.delete("/v1/leases/ab").await.problem(404, "lease-not-found");
    node.stop().await;
}

#[tokio::test]
async fn leases_are_listed_page_by_page() {
    let node = Node::start().await;
    assert_eq!(node.get("/v1/leases").await.json()["leases"], json!([]));
    for id in 1..=5 {
        let grant = format!(r#"{{"ttl_ms": {}, "id": "{id}"}}"#, id * 10_000);
        assert_eq!(node.post("/v1/leases", grant).await.status, 201);
    }
    node.put("/v1/kv/k?lease=2", "").await;
    let all = node.get("/v1/leases").await.json();
    assert_eq!(all["leases"].as_array().unwrap().len(), 5);
    assert_eq!(all["more"], false);
    let second = json!({"id": "0000000000000002", "ttl_ms": 20_000, "keys": 1});
    assert_eq!(all["leases"][1], second);

    let page = node.get("/v1/leases?limit=2").await.json();
    assert_eq!((&page["more"], page["leases"].as_array().unwrap().len()), (&json!(true), 2));
    let rest = node.get("/v1/leases?limit=3&after=0000000000000002").await.json();
    assert_eq!((&rest["more"], rest["leases"].as_array().unwrap().len()), (&json!(false), 3));
    assert_eq!(node.get("/v1/leases?consistency=stale&after=5").await.json()["more"], false);
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_lease_is_refused() {
    let node = Node::start().await;
    let grant = async |body: &str| node.post("/v1/leases", body.to_owned()).await;
    grant(r#"{"ttl_ms": 999}"#).await.problem(400, "lease-ttl");
    grant(r#"{"ttl_ms": 9999999999999}"#).await.problem(400, "lease-ttl");
    grant(r#"{}"#).await.problem(400, "bad-json");
    grant(r#"{"ttl_ms": "10s"}"#).await.problem(400, "bad-json");
    grant(r#"{"ttl_ms": 5000, "id": 5}"#).await.problem(400, "bad-json");
    grant(r#"{"ttl_ms": 5000, "id": "0"}"#).await.problem(400, "bad-json");
    assert_eq!(grant(r#"{"ttl_ms": 5000, "id": "7"}"#).await.status, 201);
    grant(r#"{"ttl_ms": 5000, "id": "7"}"#).await.problem(409, "lease-exists");
    node.get("/v1/leases/xyz").await.problem(400, "invalid");
    node.delete("/v1/leases/0").await.problem(400, "invalid");
    node.get("/v1/leases?limit=0").await.problem(400, "bad-query");
    node.get("/v1/leases?after=-").await.problem(400, "bad-query");
    node.stop().await;
}
