//! Health, version and compaction.

use super::Node;
use serde_json::json;

#[tokio::test]
async fn a_node_says_how_it_is() {
    let node = Node::start().await;
    assert_eq!(node.get("/livez").await.json(), json!({"alive": true}));
    for path in ["/readyz", "/health"] {
        let reply = node.get(path).await;
        assert_eq!(reply.status, 200);
        let health = reply.json();
        assert_eq!((&health["state"], &health["ready"]), (&json!("healthy"), &json!(true)));
        let part = &health["parts"][0];
        assert_eq!((&part["state"], &part["reason"]), (&json!("healthy"), &json!(null)));
    }
    let version = node.get("/version").await.json();
    assert_eq!(version, json!({"name": "aspen", "version": env!("CARGO_PKG_VERSION")}));
    node.stop().await;
}

#[tokio::test]
async fn history_is_compacted_forwards_only() {
    let node = Node::start().await;
    node.write("k", "1").await;
    let last = node.write("k", "2").await;
    let compact = async |body: String| node.post("/v1/compact", body).await;
    let done = compact(format!(r#"{{"revision": {last}}}"#)).await;
    assert_eq!(done.status, 200);
    assert_eq!(done.json()["revision"], last);
    assert_eq!(done.json()["compacted"], last);
    let again = compact(format!(r#"{{"revision": {last}}}"#)).await.json();
    assert_eq!((&again["compacted"], &again["pending"]), (&last.into(), &false.into()));
    compact(format!(r#"{{"revision": {}}}"#, last - 1)).await.problem(410, "compacted");
    let future = compact(format!(r#"{{"revision": {}}}"#, last + 1)).await;
    assert_eq!(future.problem(409, "future-revision")["present"], last);
    compact("{}".into()).await.problem(400, "bad-json");
    compact(r#"{"revision": 1, "physical": true}"#.into()).await.problem(400, "bad-json");
    node.stop().await;
}
