//! One key: storing, reading, deleting, conditions.

use super::{Node, Reply};
use aspen::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};
use reqwest::{Method, RequestBuilder};
use serde_json::json;

async fn on(request: RequestBuilder, name: &str, value: &str) -> Reply {
    Reply::to(request.header(name, value)).await
}

#[tokio::test]
async fn a_key_is_stored_overwritten_and_deleted() {
    let node = Node::start().await;
    let path = "/v1/kv/greeting";

    let created = node.put(path, "hello").await;
    let first = created.revision();
    let form = json!({"revision": first, "created": true});
    assert_eq!((created.status.as_u16(), created.json()), (201, form));
    assert_eq!(created.header("etag"), format!("\"{first}\""));

    let overwritten = node.put(path, "hello again").await;
    let form = json!({"revision": first + 1, "created": false});
    assert_eq!((overwritten.status.as_u16(), overwritten.json()), (200, form));
    let second = overwritten.revision();
    assert!(second > first);

    let read = node.get(path).await;
    assert_eq!((read.status.as_u16(), read.text()), (200, "hello again"));
    assert_eq!(read.revision(), second);
    assert_eq!(read.header("content-type"), "application/octet-stream");
    assert_eq!(read.header("etag"), format!("\"{second}\""));
    assert_eq!(read.header("aspen-create-revision"), first.to_string());
    assert_eq!(read.header("aspen-mod-revision"), second.to_string());
    assert_eq!(read.header("aspen-version"), "2");
    assert_eq!(read.header("aspen-lease"), "");

    let head = Reply::to(node.request(Method::HEAD, path)).await;
    assert_eq!((head.status.as_u16(), head.text()), (200, ""));
    assert_eq!(head.header("content-length"), "11");
    assert_eq!(head.header("etag"), read.header("etag"));

    let deleted = node.delete(path).await;
    assert_eq!(deleted.status, 200);
    assert_eq!(deleted.json(), json!({"revision": second + 1, "deleted": 1}));
    let again = node.delete(path).await;
    assert_eq!(again.status, 200);
    assert_eq!(again.json(), json!({"revision": second + 1, "deleted": 0}));

    let gone = node.get(path).await;
    assert_eq!(gone.revision(), second + 1);
    let problem = gone.problem(404, "key-not-found");
    assert_eq!(problem["revision"], second + 1);
    assert!(!gone.text().contains("hello"));
    let head = Reply::to(node.request(Method::HEAD, path)).await;
    assert_eq!((head.status.as_u16(), head.text()), (404, ""));
    node.stop().await;
}

#[tokio::test]
async fn a_key_is_any_bytes() {
    let node = Node::start().await;
    let longest = "k".repeat(KEY_BYTES_MAX);
    let longest_escaped = "%6B".repeat(KEY_BYTES_MAX);
    // As sent in the path; as the listing shows it.
    let keys = [
        ("simple", json!("simple")),
        ("user@host", json!("user@host")),
        ("a/b/c", json!("a/b/c")),
        ("a//b/", json!("a//b/")),
        ("/leading", json!("/leading")),
        ("with%20space", json!("with space")),
        ("a+b", json!("a+b")),
        ("%E4%BD%A0%E5%A5%BD", json!("你好")),
        ("%F0%9F%8C%B1/%F0%9F%8C%B3", json!("🌱/🌳")),
        ("a:b:c", json!("a:b:c")),
        ("what%3Fnot%23this", json!("what?not#this")),
        ("100%25", json!("100%")),
        ("%FF%FE", json!({"base64": "//4="})),
        ("nul%00", json!({"base64": "bnVsAA=="})),
        ("&=;,'%22%5B%5D", json!("&=;,'\"[]")),
        (&longest, json!(longest)),
    ];
    for (index, (path, _)) in keys.iter().enumerate() {
        let put = node.put(&format!("/v1/kv/{path}"), format!("{index}")).await;
        assert_eq!(put.status, 201, "{path}");
    }
    for (index, (path, _)) in keys.iter().enumerate() {
        let read = node.get(&format!("/v1/kv/{path}")).await;
        assert_eq!((read.status.as_u16(), read.text()), (200, &*index.to_string()), "{path}");
    }
    let listed = node.get("/v1/kv").await.json();
    assert_eq!(listed["count"], keys.len());
    for (index, (path, shown)) in keys.iter().enumerate() {
        let found = listed["records"].as_array().unwrap().iter().find(|r| r["key"] == *shown);
        assert_eq!(found.expect(path)["value"], index.to_string());
    }
    // An escape and the byte it stands for are the same key.
    assert_eq!(node.get("/v1/kv/a%2Fb%2fc").await.text(), "2");
    assert_eq!(node.get(&format!("/v1/kv/{longest_escaped}")).await.text(), "15");
    // Clients tidy dots away before they send; the node does not.
    let head = "Host: node\r\nConnection: close\r\nContent-Length: 1\r\n\r\n";
    let put = node.raw(format!("PUT /v1/kv/a/../b HTTP/1.1\r\n{head}x")).await;
    assert!(put.starts_with("HTTP/1.1 201"), "{put}");
    assert_eq!(node.get("/v1/kv?prefix=a/../b").await.json()["count"], 1);
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_key_is_refused() {
    let node = Node::start().await;
    node.get("/v1/kv/").await.problem(400, "key-empty");
    node.put("/v1/kv/", "x").await.problem(400, "key-empty");
    node.delete("/v1/kv/").await.problem(400, "key-empty");
    let long = format!("/v1/kv/{}", "k".repeat(KEY_BYTES_MAX + 1));
    assert_eq!(node.get(&long).await.problem(400, "key-too-long")["limit"], KEY_BYTES_MAX);
    node.put(&long, "x").await.problem(400, "key-too-long");
    for bad in ["%", "a%2", "%zz", "%2g/x", "%%41"] {
        let answer = node.raw(format!("GET /v1/kv/{bad} HTTP/1.0\r\n\r\n")).await;
        assert!(answer.starts_with("HTTP/1.0 400") && answer.contains("bad-escape"), "{answer}");
    }
    assert_eq!(node.get("/v1/kv").await.json()["count"], 0);
    node.stop().await;
}

#[tokio::test]
async fn a_value_is_any_bytes_up_to_its_limit() {
    let node = Node::start().await;
    let bytes = |len: usize| (0..len).map(|i| (i * 7 + i / 251) as u8).collect::<Vec<u8>>();
    for len in [0, 1, 4096, 4097, 1024 * 1024, VALUE_BYTES_MAX] {
        assert!(node.put("/v1/kv/k", bytes(len)).await.status.is_success(), "{len}");
        assert_eq!(node.get("/v1/kv/k").await.body, bytes(len), "{len}");
    }
    let before = node.get("/v1/kv/k").await;
    let refused = node.put("/v1/kv/k", bytes(VALUE_BYTES_MAX + 1)).await;
    let problem = refused.problem(413, "value-too-long");
    assert_eq!(problem["limit"], VALUE_BYTES_MAX);
    let after = node.get("/v1/kv/k").await;
    assert_eq!(after.header("etag"), before.header("etag"));
    assert_eq!(after.body, before.body);
    node.stop().await;
}

#[tokio::test]
async fn a_put_on_a_condition_is_done_only_if_it_holds() {
    let node = Node::start().await;
    let put = |value: &'static str| node.request(Method::PUT, "/v1/kv/k").body(value);

    // There is no key yet.
    let missing = on(put("x"), "if-match", "*").await;
    assert_eq!(missing.problem(412, "condition-failed")["present"], 0);
    on(put("x"), "if-match", "\"1\"").await.problem(412, "condition-failed");

    let created = on(put("1"), "if-none-match", "*").await;
    assert_eq!(created.status, 201);
    let first = created.header("etag").to_owned();
    let exists = on(put("x"), "if-none-match", "*").await;
    assert_eq!(exists.problem(412, "condition-failed")["present"], created.revision());
    assert_eq!(exists.revision(), created.revision());

    let changed = on(put("2"), "if-match", &first).await;
    assert_eq!(changed.status, 200);
    let second = changed.header("etag").to_owned();
    let stale = on(put("x"), "if-match", &first).await;
    assert_eq!(stale.problem(412, "condition-failed")["present"], changed.revision());
    assert_eq!(on(put("3"), "if-match", &format!("{first}, {second}")).await.status, 200);
    assert_eq!(on(put("4"), "if-match", "*").await.status, 200);
    // A tag that is not one of ours is the tag of nothing.
    on(put("x"), "if-match", "\"abc\"").await.problem(412, "condition-failed");
    assert_eq!(on(put("5"), "if-none-match", &second).await.status, 200);
    let fifth = node.get("/v1/kv/k").await.header("etag").to_owned();
    on(put("x"), "if-none-match", &fifth).await.problem(412, "condition-failed");

    on(put("x"), "if-match", "5").await.problem(400, "bad-header");
    let both = put("x").header("if-match", "*");
    on(both, "if-none-match", "*").await.problem(422, "unclear");

    assert_eq!(node.get("/v1/kv/k").await.text(), "5");
    assert_eq!(node.get("/v1/kv/k").await.header("aspen-version"), "5");
    node.stop().await;
}

#[tokio::test]
async fn a_delete_on_a_condition_is_done_only_if_it_holds() {
    let node = Node::start().await;
    let delete = || node.request(Method::DELETE, "/v1/kv/k");
    on(delete(), "if-match", "*").await.problem(412, "condition-failed");
    let first = node.write("k", "1").await;
    let second = node.write("k", "2").await;
    let stale = on(delete(), "if-match", &format!("\"{first}\"")).await;
    assert_eq!(stale.problem(412, "condition-failed")["present"], second);
    let deleted = on(delete(), "if-match", &format!("\"{second}\"")).await;
    assert_eq!(deleted.json()["deleted"], 1);
    node.stop().await;
}

#[tokio::test]
async fn a_get_on_a_condition_saves_the_body() {
    let node = Node::start().await;
    let get = || node.request(Method::GET, "/v1/kv/k");
    let revision = node.write("k", "value").await;
    let (tag, other) = (format!("\"{revision}\""), "\"999\"");

    let same = on(get(), "if-none-match", &tag).await;
    assert_eq!((same.status.as_u16(), same.text()), (304, ""));
    assert_eq!(same.header("etag"), tag);
    assert_eq!(same.revision(), revision);
    assert_eq!(on(get(), "if-none-match", &format!("W/{tag}")).await.status, 304);
    assert_eq!(on(get(), "if-none-match", other).await.text(), "value");
    assert_eq!(on(get(), "if-match", &tag).await.text(), "value");
    let failed = on(get(), "if-match", other).await;
    assert_eq!(failed.problem(412, "condition-failed")["present"], revision);

    let missing = node.request(Method::GET, "/v1/kv/other");
    on(missing, "if-none-match", "*").await.problem(404, "key-not-found");
    node.stop().await;
}

#[tokio::test]
async fn a_write_tells_what_was_there_before() {
    let node = Node::start().await;
    let created = node.put("/v1/kv/k?prev", "1").await;
    assert_eq!(created.status, 201);
    let first = created.revision();
    assert_eq!(created.json(), json!({"revision": first, "created": true, "prev": null}));

    let changed = node.put("/v1/kv/k?prev=true", "2").await;
    assert_eq!(changed.status, 200);
    let second = changed.revision();
    let prev = json!({
        "value": "1", "create_revision": first, "mod_revision": first, "version": 1, "lease": null
    });
    assert_eq!(changed.json(), json!({"revision": second, "created": false, "prev": prev}));
    assert_eq!(changed.header("etag"), format!("\"{second}\""));
    let untold = node.put("/v1/kv/k?prev=false", "2").await.json();
    assert_eq!(untold, json!({"revision": second + 1, "created": false}));

    let deleted = node.delete("/v1/kv/k?prev=true").await.json();
    assert_eq!(deleted["prev"]["value"], "2");
    let again = node.delete("/v1/kv/k?prev").await.json();
    assert_eq!(again["deleted"], 0);
    assert_eq!(again.as_object().unwrap()["prev"], json!(null));
    node.stop().await;
}

#[tokio::test]
async fn a_key_is_read_as_it_was_until_it_is_compacted() {
    let node = Node::start().await;
    let first = node.write("k", "1").await;
    let second = node.write("k", "2").await;
    node.delete("/v1/kv/k").await;
    let last = node.write("other", "x").await;

    let at = |revision: u64| format!("/v1/kv/k?revision={revision}");
    let then = node.get(&at(first)).await;
    assert_eq!((then.text(), then.header("aspen-version")), ("1", "1"));
    assert_eq!(then.revision(), last);
    assert_eq!(node.get(&at(second)).await.text(), "2");
    node.get(&at(second + 1)).await.problem(404, "key-not-found");
    let future = node.get(&at(last + 1)).await;
    assert_eq!(future.problem(409, "future-revision")["present"], last);

    let compacted = node.post("/v1/compact", format!(r#"{{"revision": {second}}}"#)).await;
    assert_eq!(compacted.json()["compacted"], second);
    let gone = node.get(&at(first)).await;
    assert_eq!(gone.problem(410, "compacted")["compacted"], second);
    assert_eq!(node.get(&at(second)).await.text(), "2");
    node.stop().await;
}

#[tokio::test]
async fn a_read_is_as_fresh_as_it_asks_for() {
    let node = Node::start().await;
    let revision = node.write("k", "v").await;
    for consistency in ["linearizable", "lease", "stale"] {
        let read = node.get(&format!("/v1/kv/k?consistency={consistency}")).await;
        assert_eq!((read.text(), read.revision()), ("v", revision), "{consistency}");
        let listed = node.get(&format!("/v1/kv?consistency={consistency}")).await;
        assert_eq!(listed.json()["count"], 1);
    }
    let problem = node.get("/v1/kv/k?consistency=eventual").await.problem(400, "bad-query");
    assert!(problem["detail"].as_str().unwrap().contains("linearizable, lease, stale"));
    node.stop().await;
}

#[tokio::test]
async fn a_key_is_attached_to_a_lease_and_detached() {
    let node = Node::start().await;
    let lease = node.post("/v1/leases", r#"{"ttl_ms": 60000}"#).await.json()["id"].clone();
    let lease = lease.as_str().unwrap();
    assert_eq!(node.put(&format!("/v1/kv/k?lease={lease}"), "v").await.status, 201);
    assert_eq!(node.get("/v1/kv/k").await.header("aspen-lease"), lease);
    node.write("k", "v").await;
    assert_eq!(node.get("/v1/kv/k").await.header("aspen-lease"), "");
    node.put("/v1/kv/k?lease=dead", "v").await.problem(404, "lease-not-found");
    for bad in ["0", "", "xyz", "11111111111111111"] {
        let problem = node.put(&format!("/v1/kv/k?lease={bad}"), "v").await;
        problem.problem(400, "bad-query");
    }
    node.stop().await;
}
