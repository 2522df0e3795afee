//! HTTP/2 beside HTTP/1.1: the same answers, many at once on one connection, and the same ends.

use std::future::Future;

use aspen::limits::{HTTP_HEAD_BYTES_MAX, HTTP2_STREAMS_MAX, SHUTDOWN_MAX, VALUE_BYTES_MAX};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::body::{Frame, Incoming};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper::{Method, Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::{Node, PATIENCE};

type Body = BoxBody<Bytes, std::convert::Infallible>;

/// What HTTP/2 begins with, and settings that say nothing.
const BEGIN: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A connection of HTTP/2.
struct Connection {
    sender: SendRequest<Body>,
    ended: JoinHandle<hyper::Result<()>>,
}

impl Connection {
    async fn open(node: &Node) -> Connection {
        let stream = TcpStream::connect(node.address).await.unwrap();
        let begun = handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (sender, connection) = begun.unwrap();
        Connection { sender, ended: tokio::spawn(connection) }
    }

    /// Asks, and has the head of the answer.
    fn ask(
        &self,
        method: Method,
        path: &str,
        body: Body,
    ) -> impl Future<Output = hyper::Result<Response<Incoming>>> + use<> {
        let mut sender = self.sender.clone();
        let uri = format!("http://node{path}");
        let request = Request::builder().method(method).uri(uri).body(body).unwrap();
        async move {
            sender.ready().await?;
            sender.send_request(request).await
        }
    }

    /// Asks, and has all of the answer.
    async fn whole(&self, method: Method, path: &str, body: Body) -> (u16, Bytes) {
        let answer =
            timeout(PATIENCE, self.ask(method, path, body)).await.expect("in time").unwrap();
        assert_eq!(answer.version(), Version::HTTP_2);
        let status = answer.status().as_u16();
        (status, answer.into_body().collect().await.unwrap().to_bytes())
    }

    async fn get(&self, path: &str) -> (u16, Bytes) {
        self.whole(Method::GET, path, full("")).await
    }

    /// Waits for its end.
    async fn end(self) -> hyper::Result<()> {
        timeout(PATIENCE, self.ended).await.expect("it ends in time").unwrap()
    }
}

fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// A body of these pieces that then goes on when it is told to.
fn slow(
    first: &'static str,
    rest: impl Future<Output = &'static str> + Send + Sync + 'static,
) -> Body {
    use futures_util::{FutureExt, StreamExt, stream};
    let frame = |text: &'static str| Ok(Frame::data(Bytes::from_static(text.as_bytes())));
    let rest = Box::pin(rest).into_stream();
    BodyExt::boxed(StreamBody::new(stream::iter([first]).chain(rest).map(frame)))
}

/// Reads until this text was there.
async fn until(body: &mut Incoming, text: &str) {
    let mut read = Vec::new();
    while !String::from_utf8_lossy(&read).contains(text) {
        let frame = timeout(PATIENCE, body.frame()).await.expect("in time");
        read.extend_from_slice(frame.expect("it goes on").unwrap().data_ref().unwrap());
    }
}

#[tokio::test]
async fn both_are_answered_at_one_address_and_alike() {
    let node = Node::start().await;
    let connection = Connection::open(&node).await;
    assert_eq!(connection.whole(Method::PUT, "/v1/kv/a", full("1")).await.0, 201);
    assert_eq!(node.get("/v1/kv/a").await.text(), "1");
    assert_eq!(connection.get("/v1/kv/a").await, (200, Bytes::from_static(b"1")));
    let (status, problem) = connection.get("/v1/kv/none").await;
    assert_eq!(status, 404);
    assert_eq!(problem, node.get("/v1/kv/none").await.body);
    let whole = vec![7; VALUE_BYTES_MAX];
    assert_eq!(connection.whole(Method::PUT, "/v1/kv/large", full(whole.clone())).await.0, 201);
    assert_eq!(connection.get("/v1/kv/large").await.1, whole);
    // A body that is refused costs its own request and nothing else.
    let more = vec![7; VALUE_BYTES_MAX + 1];
    let (status, problem) = connection.whole(Method::PUT, "/v1/kv/large", full(more)).await;
    assert_eq!(status, 413, "{problem:?}");
    assert_eq!(connection.get("/v1/kv/large").await.1, whole);
    node.stop().await;
}

#[tokio::test]
async fn many_requests_share_a_connection_up_to_a_limit() {
    let node = Node::start().await;
    let connection = Connection::open(&node).await;
    let writes = (0..1_000).map(|n| {
        let (path, value) = (format!("/v1/kv/{n}"), full(n.to_string()));
        connection.whole(Method::PUT, Box::leak(path.into_boxed_str()), value)
    });
    let statuses = futures_util::future::join_all(writes).await;
    assert!(statuses.iter().all(|(status, _)| *status == 201));
    let (_, listing) = connection.get("/v1/kv?count_only").await;
    assert!(String::from_utf8_lossy(&listing).contains("\"count\":1000"), "{listing:?}");

    let mut watches = Vec::new();
    for _ in 0..HTTP2_STREAMS_MAX {
        let mut watch =
            connection.ask(Method::GET, "/v1/watch", full("")).await.unwrap().into_body();
        until(&mut watch, "progress").await;
        watches.push(watch);
    }
    let mut next = std::pin::pin!(connection.get("/livez"));
    assert!(futures_util::poll!(&mut next).is_pending());
    // Another connection has requests of its own, and this one again when a watch ends.
    assert_eq!(node.get("/livez").await.status, 200);
    assert!(futures_util::poll!(&mut next).is_pending(), "there are too many already");
    drop(watches.pop());
    assert_eq!(next.await.0, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_head_over_the_limit_is_refused_and_the_connection_goes_on() {
    let node = Node::start().await;
    let connection = Connection::open(&node).await;
    let request = Request::get("http://node/livez").header("x", "y".repeat(HTTP_HEAD_BYTES_MAX));
    let answer = connection.sender.clone().send_request(request.body(full("")).unwrap());
    assert_eq!(timeout(PATIENCE, answer).await.expect("in time").unwrap().status(), 431);
    assert_eq!(connection.get("/livez").await.0, 200);
    node.stop().await;
}

#[tokio::test]
async fn a_node_that_stops_says_so_finishes_requests_and_ends_watches() {
    let node = Node::start().await;
    let connection = Connection::open(&node).await;
    let mut watch = connection.ask(Method::GET, "/v1/watch", full("")).await.unwrap().into_body();
    until(&mut watch, "progress").await;
    let (tell, told) = tokio::sync::oneshot::channel();
    let body = slow("half ", async { told.await.unwrap() });
    let put = tokio::spawn(connection.ask(Method::PUT, "/v1/kv/k", body));
    // It is under way once it is counted among those that are.
    loop {
        let metrics = node.get("/metrics").await;
        // The page itself, and the write: the head of the watch is answered.
        if metrics.text().contains("aspen_http_requests_in_flight 2") {
            break;
        }
    }
    let finish = async {
        while watch.frame().await.is_some_and(|frame| frame.is_ok()) {}
        tell.send("and half").unwrap();
        put.await.unwrap().unwrap().status()
    };
    let before = tokio::time::Instant::now();
    let ((), status) = tokio::join!(node.stop(), finish);
    assert_eq!(status, 201);
    connection.end().await.expect("it ends in order");
    assert!(before.elapsed() < SHUTDOWN_MAX);
}

#[tokio::test]
async fn a_client_that_stalls_does_not_hold_up_the_stop() {
    let node = Node::start().await;
    let mut silent = TcpStream::connect(node.address).await.unwrap();
    silent.write_all(BEGIN).await.unwrap();
    let connection = Connection::open(&node).await;
    let body = slow("half ", std::future::pending());
    let put = tokio::spawn(connection.ask(Method::PUT, "/v1/kv/k", body));
    assert_eq!(connection.get("/livez").await.0, 200);
    let before = tokio::time::Instant::now();
    node.stop().await;
    assert!(before.elapsed() < SHUTDOWN_MAX);
    assert!(put.await.unwrap().is_err());
}

#[tokio::test]
async fn a_connection_without_requests_is_ended_in_order() {
    let node = Node::start().await;
    let connection = Connection::open(&node).await;
    assert_eq!(connection.get("/livez").await.0, 200);
    // With the clock paused, time passes as soon as everybody waits.
    tokio::time::pause();
    connection.ended.await.unwrap().expect("the node says that it ends it");
    tokio::time::resume();
    node.stop().await;
}

#[tokio::test]
async fn a_client_that_sends_no_body_is_told() {
    let node = Node::start().await;
    let connection = Connection::open(&node).await;
    let put = connection.ask(Method::PUT, "/v1/kv/k", slow("half ", std::future::pending()));
    tokio::time::pause();
    let answer = put.await.unwrap();
    assert_eq!(answer.status(), 408);
    let problem = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(String::from_utf8_lossy(&problem).contains("body-timeout"), "{problem:?}");
    tokio::time::resume();
    node.stop().await;
}

#[tokio::test]
async fn nonsense_after_the_preface_is_cut_and_harms_nobody() {
    let node = Node::start().await;
    for frame in [
        &b"\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
        b"GET /livez HTTP/1.1\r\nHost: n\r\n\r\n",
        // Data of a stream that is not there, and headers that are none.
        b"\0\0\x01\0\x01\0\0\0\x01x",
        b"\0\0\x02\x01\x05\0\0\0\x01\xff\xff",
    ] {
        let answer = node.raw([BEGIN, frame].concat()).await;
        assert!(!answer.contains("200"), "{answer:?}");
    }
    assert_eq!(node.get("/livez").await.status, 200);
    node.stop().await;
}

/// A watch of everything, as its frame of headers.
fn watch_frame() -> Vec<u8> {
    let (path, authority) = (b"/v1/watch", b"node");
    let mut block = vec![0x82, 0x86, 0x44, path.len() as u8];
    block.extend_from_slice(path);
    block.extend([0x41, authority.len() as u8]);
    block.extend_from_slice(authority);
    // All of the headers and of the stream, the first.
    let mut frame = vec![0, 0, block.len() as u8, 1, 5, 0, 0, 0, 1];
    frame.extend(block);
    frame
}

#[tokio::test]
async fn whoever_says_nothing_for_long_is_cut() {
    let node = Node::start().await;
    let headers = [BEGIN, &[0, 0, 100, 1, 4, 0, 0, 0, 1, 0x82]].concat();
    // The last is there and then gone: it takes none of the events, nor says that it is there.
    let watch = [BEGIN, &watch_frame()].concat();
    for sent in [&b"PRI * HTTP"[..], BEGIN, &headers, &watch] {
        let mut stream = TcpStream::connect(node.address).await.unwrap();
        stream.write_all(sent).await.unwrap();
        tokio::time::pause();
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut answer).await;
        let is_watch = String::from_utf8_lossy(&answer).contains("event: progress");
        assert_eq!(is_watch, sent == watch);
        tokio::time::resume();
    }
    node.stop().await;
}
