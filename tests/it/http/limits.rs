//! What the door bears: bodies, slow clients, and its own end.

use std::num::NonZeroU32;

use super::{Node, PATIENCE};
use aspen::http::DoorLimits;
use aspen::limits::{HTTP_ANSWERS_BYTES_MAX, HTTP_STALL_MAX, VALUE_BYTES_MAX};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// An open connection to a node.
struct Line(TcpStream);

impl Line {
    async fn open(node: &Node) -> Line {
        Line(TcpStream::connect(node.address).await.unwrap())
    }

    async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.0.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Reads until the answer holds this text.
    async fn until(&mut self, text: &str) -> String {
        let mut answer = String::new();
        while !answer.contains(text) {
            let mut buffer = [0; 4096];
            let read = tokio::time::timeout(PATIENCE, self.0.read(&mut buffer));
            let len = read.await.expect("an answer comes in time").unwrap();
            assert_ne!(len, 0, "the connection ended after {answer:?}, without {text:?}");
            answer += std::str::from_utf8(&buffer[..len]).unwrap();
        }
        answer
    }

    /// Reads to the end of the connection.
    async fn rest(mut self) -> String {
        let mut answer = Vec::new();
        self.0.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused_before_it_is_sent() {
    let node = Node::start().await;
    let mut line = Line::open(&node).await;
    let len = VALUE_BYTES_MAX + 1;
    let head = format!("PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nContent-Length: {len}\r\n");
    line.send(format!("{head}Expect: 100-continue\r\n\r\n")).await;
    let answer = line.until("value-too-long").await;
    assert!(answer.starts_with("HTTP/1.1 413"), "{answer}");
    // Nor does a client that sends at once, and much more than that, have to be read out.
    let mut line = Line::open(&node).await;
    line.send("PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nContent-Length: 1000000000000\r\n\r\nabc").await;
    assert!(line.until("value-too-long").await.starts_with("HTTP/1.1 413"));
    node.stop().await;
}

#[tokio::test]
async fn a_body_without_a_length_is_read_up_to_the_limit() {
    let node = Node::start().await;
    let chunk = [&b"100000\r\n"[..], &vec![b'x'; 0x10_0000], b"\r\n"].concat();
    let head = "PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nTransfer-Encoding: chunked\r\n\r\n";
    let mut line = Line::open(&node).await;
    line.send(head).await;
    for _ in 0..4 {
        line.send(&chunk).await;
    }
    line.send("0\r\n\r\n").await;
    assert!(line.until("\r\n\r\n").await.starts_with("HTTP/1.1 201"));
    assert_eq!(node.get("/v1/kv/k").await.body.len(), VALUE_BYTES_MAX);
    line.send(head).await;
    for _ in 0..5 {
        line.send(&chunk).await;
    }
    line.send("0\r\n\r\n").await;
    assert!(line.until("value-too-long").await.starts_with("HTTP/1.1 413"));
    node.stop().await;
}

#[tokio::test]
async fn a_refused_body_does_not_cost_the_connection() {
    let node = Node::start().await;
    let mut line = Line::open(&node).await;
    let body = "x".repeat(1_000_000);
    line.send(format!("PUT /v1/kv/ HTTP/1.1\r\nHost: n\r\nContent-Length: 1000000\r\n\r\n{body}"))
        .await;
    assert!(line.until("key-empty").await.starts_with("HTTP/1.1 400"));
    line.send("GET /livez HTTP/1.1\r\nHost: n\r\n\r\n").await;
    assert!(line.until("alive").await.starts_with("HTTP/1.1 200"));
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_no_head_is_cut() {
    let node = Node::start().await;
    // With the clock paused, time passes as soon as everybody waits.
    tokio::time::pause();
    for sent in ["", "GET /livez HTTP/1.1\r\nHos"] {
        let mut line = Line::open(&node).await;
        line.send(sent).await;
        let answer = line.rest().await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 408"), "{answer}");
    }
    tokio::time::resume();
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut() {
    let node = Node::start().await;
    node.put("/v1/kv/k", vec![b'v'; VALUE_BYTES_MAX]).await;
    let mut line = Line::open(&node).await;
    // More than the sockets between the two hold.
    line.send("GET /v1/kv/k HTTP/1.1\r\nHost: n\r\n\r\n".repeat(16)).await;
    line.until("200 OK").await;
    tokio::time::pause();
    tokio::time::sleep(HTTP_STALL_MAX + std::time::Duration::from_secs(1)).await;
    tokio::time::resume();
    let mut taken = 0;
    let mut buffer = vec![0; 1 << 20];
    // It ends in the middle of an answer, orderly or not.
    while let Ok(len @ 1..) = line.0.read(&mut buffer).await {
        taken += len;
    }
    assert!(taken < 16 * VALUE_BYTES_MAX, "all was sent to somebody who took nothing");
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_no_body_is_told_and_cut() {
    let node = Node::start().await;
    tokio::time::pause();
    let mut line = Line::open(&node).await;
    line.send("PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nContent-Length: 10\r\n\r\nabc").await;
    let answer = line.rest().await;
    assert!(answer.starts_with("HTTP/1.1 408") && answer.contains("body-timeout"), "{answer}");
    tokio::time::resume();
    node.stop().await;
}

#[tokio::test]
async fn a_request_under_way_is_finished_before_the_node_stops() {
    let node = Node::start().await;
    let mut line = Line::open(&node).await;
    line.send(
        "PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    )
    .await;
    // The request is under way once its body is asked for.
    line.until("100 Continue").await;
    let address = node.address;
    let finish = async {
        // Nobody else gets in once the stop has begun.
        while TcpStream::connect(address).await.is_ok() {
            tokio::task::yield_now().await;
        }
        line.send("abc").await;
        line.rest().await
    };
    let ((), answer) = tokio::join!(node.stop(), finish);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
}

#[tokio::test]
async fn a_client_that_stalls_does_not_hold_up_the_stop() {
    let node = Node::start().await;
    let mut line = Line::open(&node).await;
    line.send(
        "PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
    )
    .await;
    line.until("100 Continue").await;
    let before = tokio::time::Instant::now();
    node.stop().await;
    assert!(before.elapsed() < aspen::limits::SHUTDOWN_MAX);
}

#[tokio::test]
async fn an_address_that_asks_too_often_is_told_when_to_come_again() {
    let limits = DoorLimits { rate: NonZeroU32::new(2), ..DoorLimits::default() };
    let node = Node::start_with(limits).await;
    // What comes in a second is there at once; nothing comes in between but by and by.
    let mut refused = node.get("/v1/kv/k").await;
    for _ in 0..200 {
        if refused.status == 429 {
            break;
        }
        refused = node.get("/v1/kv/k").await;
    }
    let again = refused.problem(429, "busy")["retry_after_ms"].as_u64().unwrap();
    assert!((1..=500).contains(&again) && refused.header("retry-after") == "1", "{again}");
    assert!(refused.text().contains("the rate of requests of your address"));
    for path in ["/livez", "/readyz", "/health", "/version", "/metrics"] {
        assert_eq!(node.get(path).await.status, 200, "{path}");
    }
    let limits = node.get("/health").await.json()["limits"].clone();
    assert_eq!(limits, serde_json::json!({"http-rate": 2, "http-at-once": 4096}));
    tokio::time::sleep(std::time::Duration::from_millis(again)).await;
    node.get("/v1/kv/k").await.problem(404, "key-not-found");
    node.stop().await;
}

#[tokio::test]
async fn as_many_operations_are_under_way_as_may_be_and_what_lasts_is_none() {
    let limits = DoorLimits { at_once: NonZeroU32::new(1), ..DoorLimits::default() };
    let node = Node::start_with(limits).await;
    let mut watching = Line::open(&node).await;
    watching.send("GET /v1/watch?prefix= HTTP/1.1\r\nHost: n\r\n\r\n").await;
    watching.until("progress").await;
    let mut putting = Line::open(&node).await;
    let put =
        "PUT /v1/kv/k HTTP/1.1\r\nHost: n\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n";
    putting.send(put).await;
    putting.until("100 Continue").await;
    let refused = node.get("/v1/kv/k").await;
    refused.problem(429, "busy");
    assert!(refused.text().contains("operations under way here"), "{}", refused.text());
    assert_eq!(node.get("/health").await.status, 200);
    putting.send("abc").await;
    putting.until("\r\n\r\n").await;
    watching.until("change").await;
    assert_eq!(node.get("/v1/kv/k").await.text(), "abc");
    node.stop().await;
}

#[tokio::test]
async fn answers_that_nobody_takes_are_held_up_to_a_bound() {
    let node = Node::start().await;
    node.put("/v1/kv/k", vec![b'v'; VALUE_BYTES_MAX]).await;
    let mut lines = Vec::new();
    let get = "GET /v1/kv/k HTTP/1.1\r\nHost: n\r\n\r\n";
    // What the sockets hold is not counted.
    for _ in 0..3 * HTTP_ANSWERS_BYTES_MAX / VALUE_BYTES_MAX {
        let mut line = Line::open(&node).await;
        line.send(get.repeat(4)).await;
        lines.push(line);
    }
    let mut refused = node.get("/v1/kv/k").await;
    for _ in 0..1_000 {
        if refused.status == 429 {
            break;
        }
        refused = node.get("/v1/kv/k").await;
    }
    refused.problem(429, "busy");
    assert!(refused.text().contains("memory for answers"), "{}", refused.text());
    drop(lines);
    while node.get("/v1/kv/k").await.status != 200 {
        tokio::task::yield_now().await;
    }
    node.stop().await;
}
