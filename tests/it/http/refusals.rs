//! What is no request of this API, down to what is no HTTP.

use super::{Node, Reply};
use aspen::limits::HTTP_ASK_BYTES_MAX;
use reqwest::Method;

#[tokio::test]
async fn an_unknown_path_is_a_problem() {
    let node = Node::start().await;
    for path in ["/", "/v1", "/v1/", "/v2/kv/a", "/v1/txn/", "/favicon.ico", "/v1/leases/1/x"] {
        node.get(path).await.problem(404, "path-not-found");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let node = Node::start().await;
    for (method, path, allowed) in [
        (Method::POST, "/v1/kv/a", "DELETE,GET,HEAD,PUT"),
        (Method::PATCH, "/v1/kv/a", "DELETE,GET,HEAD,PUT"),
        (Method::PUT, "/v1/kv", "DELETE,GET,HEAD"),
        (Method::GET, "/v1/txn", "POST"),
        (Method::POST, "/v1/watch", "GET,HEAD"),
        (Method::DELETE, "/v1/leases", "GET,HEAD,POST"),
        (Method::POST, "/v1/leases/1", "DELETE,GET,HEAD"),
        (Method::GET, "/v1/leases/1/keep-alive", "POST"),
        (Method::GET, "/v1/compact", "POST"),
        (Method::POST, "/health", "GET,HEAD"),
    ] {
        let reply = Reply::to(node.request(method.clone(), path)).await;
        reply.problem(405, "method-not-allowed");
        let mut given: Vec<_> = reply.header("allow").split(',').map(str::trim).collect();
        given.sort_unstable();
        assert_eq!(given.join(","), allowed, "{method} {path}");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_name_in_a_path_that_is_no_text_is_a_problem() {
    let node = Node::start().await;
    for (method, path) in [
        (Method::GET, "/v1/keyspaces/%ff"),
        (Method::DELETE, "/v1/keyspaces/a%C0%AF"),
        (Method::GET, "/v1/leases/%ff"),
        (Method::POST, "/v1/leases/%ff/keep-alive"),
        (Method::PUT, "/v1/settings/%ff"),
        (Method::GET, "/v1/nodes/%ff"),
        (Method::DELETE, "/v1/members/%ff"),
        (Method::POST, "/v1/groups/%ff/repair"),
        (Method::DELETE, "/v1/tickets/%ff"),
    ] {
        Reply::to(node.request(method, path)).await.problem(400, "bad-escape");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_body_that_holds_no_values_is_refused_long_before_one_that_does() {
    let node = Node::start().await;
    let body = |len| format!("{}{{}}", " ".repeat(len - 2));
    for path in ["/v1/leases", "/v1/tickets", "/v1/keyspaces", "/v1/locks/l", "/v1/maintenance"] {
        node.post(path, body(HTTP_ASK_BYTES_MAX)).await.problem(400, "bad-json");
        node.post(path, body(HTTP_ASK_BYTES_MAX + 1)).await.problem(413, "body-too-large");
    }
    node.post("/v1/elections/e", body(HTTP_ASK_BYTES_MAX + 1)).await.problem(400, "bad-json");
    assert_eq!(node.post("/v1/txn", body(HTTP_ASK_BYTES_MAX + 1)).await.status, 200);
    node.stop().await;
}

#[tokio::test]
async fn an_unknown_parameter_is_told_the_known_ones() {
    let node = Node::start().await;
    let detail =
        async |reply: Reply| reply.problem(400, "bad-query")["detail"].as_str().unwrap().to_owned();
    let get = detail(node.get("/v1/kv/a?rev=5").await).await;
    let known = "consistency, revision, explain, keyspace, near";
    assert_eq!(get, format!("there is no parameter \"rev\"; the allowed ones are: {known}"));
    let put = detail(node.put("/v1/kv/a?ttl=5", "x").await).await;
    assert!(put.ends_with("the allowed ones are: lease, prev, keyspace, near"), "{put}");
    detail(node.delete("/v1/kv/a?lease=1").await).await;
    detail(node.post("/v1/leases?ttl=5", "{}").await).await;
    detail(node.get("/v1/kv/a?revision=1&revision=2").await).await;
    node.stop().await;
}

#[tokio::test]
async fn nonsense_on_the_socket_is_answered_or_cut_and_harms_nobody() {
    let node = Node::start().await;
    node.write("k", "v").await;
    for bytes in [
        &b""[..],
        b"\r\n\r\n",
        b"\0\0\0\0\0\0\0\0",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET /v1/kv/k HTTP/9.9\r\n\r\n",
        b"GET v1/kv/k HTTP/1.1\r\nHost: n\r\n\r\n",
        b"GET /v1/kv/k HTTP/1.1\r\nHost: n\r\nbad header\r\n\r\n",
        b"GET /v1/kv/\xff\xfe HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n",
        b"GET /v1/kv/a b HTTP/1.1\r\n\r\n",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nContent-Length: -1\r\n\r\n",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: gzip\r\n\r\nx",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nx",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nContent-Length: 10\r\n\r\nshort",
    ] {
        let answer = node.shut(bytes).await;
        let answered = answer.is_empty() || answer.starts_with("HTTP/1.1 4");
        assert!(answered, "{:?} got {answer}", bytes.escape_ascii().to_string());
    }
    let huge = format!("GET /v1/kv/{} HTTP/1.1\r\nHost: n\r\n\r\n", "k".repeat(100_000));
    assert!(node.shut(huge.as_bytes()).await.starts_with("HTTP/1.1 4"));
    let headers = "X-A: b\r\n".repeat(10_000);
    let many = format!("GET /livez HTTP/1.1\r\nHost: n\r\n{headers}\r\n");
    assert!(node.shut(many.as_bytes()).await.starts_with("HTTP/1.1 4"));
    assert_eq!(node.get("/v1/kv/k").await.text(), "v");
    node.stop().await;
}
