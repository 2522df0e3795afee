//! What operators do with values, through every node of a cluster and so through those that lead
//! nothing: over HTTP, whatever the key, its value, and how many do it at once.

use std::time::Duration;

use futures_util::future::join_all;
use hyper::{Method, StatusCode};
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::http::{Answer, Http};
use crate::shards::Nodes;

const NODES: usize = 3;

fn path(key: &[u8]) -> String {
    format!("/v1/kv/{}", percent_encode(key, NON_ALPHANUMERIC))
}

/// The nodes, and a connection to each.
struct Cluster {
    nodes: Nodes,
    runtime: Runtime,
    doors: Vec<Http>,
}

impl Cluster {
    fn start() -> Self {
        let nodes = Nodes::start(NODES, &[]);
        let doors = nodes.all().map(|node| Http::to(node.url())).collect();
        Cluster { nodes, runtime: Runtime::new().expect("a runtime"), doors }
    }

    fn ask(&mut self, through: usize, method: Method, path: &str, body: &[u8]) -> Answer {
        let asked = self.doors[through % NODES].send(method, path, None, body.to_vec());
        self.runtime.block_on(asked).unwrap_or_else(|broken| panic!("{path}: {broken}"))
    }

    /// Writes, and says at which revision.
    #[track_caller]
    fn put(&mut self, through: usize, path: &str, value: &[u8], status: StatusCode) -> u64 {
        let answer = self.ask(through, Method::PUT, path, value);
        assert_eq!(answer.status, status, "{path} through {through}: {answer}");
        number_of(&answer, "aspen-revision")
    }

    /// Deletes, and says how many.
    #[track_caller]
    fn delete(&mut self, through: usize, path: &str) -> u64 {
        let answer = self.ask(through, Method::DELETE, path, b"");
        assert_eq!(answer.status, StatusCode::OK, "{path} through {through}: {answer}");
        json_of(&answer)["deleted"].as_u64().expect("a number")
    }

    #[track_caller]
    fn is_everywhere(&mut self, path: &str, value: &[u8], revision: u64) {
        for through in 0..NODES {
            let answer = self.ask(through, Method::GET, path, b"");
            assert_eq!(answer.status, StatusCode::OK, "{path} through {through}");
            assert!(answer.body == value, "{path} through {through} is another");
            assert_eq!(number_of(&answer, "aspen-mod-revision"), revision, "{path}");
        }
    }

    #[track_caller]
    fn is_nowhere(&mut self, path: &str) {
        for through in 0..NODES {
            let answer = self.ask(through, Method::GET, path, b"");
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path} through {through}: {answer}");
            assert_eq!(answer.headers["content-type"], "application/problem+json");
            let problem = json_of(&answer);
            assert!(problem["type"].is_string() && problem.get("value").is_none(), "{problem}");
        }
    }
}

fn number_of(answer: &Answer, header: &str) -> u64 {
    let number = answer.headers.get(header).and_then(|value| value.to_str().ok()?.parse().ok());
    number.unwrap_or_else(|| panic!("no {header}: {answer}"))
}

fn json_of(answer: &Answer) -> Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer}"))
}

#[test]
fn what_one_node_stores_overwrites_and_deletes_is_so_through_every_node() {
    let mut cluster = Cluster::start();
    for first in 0..NODES {
        let path = path(format!("key/{first}").as_bytes());
        cluster.is_nowhere(&path);
        assert_eq!(cluster.delete(first, &path), 0);
        let stored = cluster.put(first, &path, b"one", StatusCode::CREATED);
        cluster.is_everywhere(&path, b"one", stored);
        let overwritten = cluster.put(first + 1, &path, b"another", StatusCode::OK);
        assert!(overwritten > stored, "{overwritten} after {stored}");
        cluster.is_everywhere(&path, b"another", overwritten);
        assert_eq!(cluster.delete(first + 2, &path), 1);
        cluster.is_nowhere(&path);
        for through in 0..NODES {
            assert_eq!(cluster.delete(through, &path), 0, "through {through}");
        }
    }
}

#[test]
fn a_key_of_any_kind_is_the_same_through_every_node() {
    let mut cluster = Cluster::start();
    let keys: [&[u8]; 12] = [
        b"simple",
        b"user@host",
        b"a/b//c/",
        b"with space",
        "你好".as_bytes(),
        "🌱".as_bytes(),
        b"a:b:c",
        b"%2F",
        b"/",
        b"?#&=+",
        b"tab\tline\n",
        b"\xff\x00\xfe",
    ];
    let stored: Vec<u64> = (0..keys.len())
        .map(|n| cluster.put(n, &path(keys[n]), keys[n], StatusCode::CREATED))
        .collect();
    for (key, revision) in keys.iter().zip(stored) {
        cluster.is_everywhere(&path(key), key, revision);
    }
    // A slash is one however it is written, and the sign that is written for it is another key.
    let slash = cluster.put(1, "/v1/kv/a%2Fb", b"a slash", StatusCode::CREATED);
    cluster.is_everywhere("/v1/kv/a/b", b"a slash", slash);
    cluster.is_nowhere("/v1/kv/a%252Fb");
}

#[test]
fn values_up_to_the_limit_are_the_same_through_every_node_and_a_longer_one_changes_nothing() {
    let mut cluster = Cluster::start();
    let limit = aspen::limits::VALUE_BYTES_MAX;
    let bytes = |length: usize| -> Vec<u8> { (0..length).map(|n| (n * n / 7) as u8).collect() };
    for through in 0..NODES {
        let path = path(format!("large/{through}").as_bytes());
        let stored = cluster.put(through, &path, &bytes(1 << 20), StatusCode::CREATED);
        cluster.is_everywhere(&path, &bytes(1 << 20), stored);
        let stored = cluster.put(through, &path, &bytes(limit), StatusCode::OK);
        cluster.is_everywhere(&path, &bytes(limit), stored);
        let new = self::path(format!("new/{through}").as_bytes());
        for longer in [&path, &new] {
            let refused = cluster.ask(through, Method::PUT, longer, &bytes(limit + 1));
            assert_eq!(refused.status, StatusCode::PAYLOAD_TOO_LARGE, "{refused}");
            assert!(json_of(&refused)["detail"].is_string(), "{refused}");
        }
        cluster.is_everywhere(&path, &bytes(limit), stored);
        cluster.is_nowhere(&new);
    }
}

/// What each of many clients does in turns: it writes a key of its own and reads it.
const TURNS: usize = 10;
/// How much longer the slowest client may take than half of them do.
const SLOWEST: u32 = 5;

/// Reads its writes through one node, and says how long that took.
async fn client(url: String, number: usize) -> Duration {
    let mut http = Http::to(&url);
    let path = path(format!("client/{number}").as_bytes());
    let began = Instant::now();
    for turn in 0..TURNS {
        let value = format!("{number} in turn {turn}");
        for (method, body) in [(Method::PUT, value.as_str()), (Method::GET, "")] {
            let answer = http.send(method.clone(), &path, None, body.to_owned()).await;
            let answer = answer.unwrap_or_else(|broken| panic!("client {number}: {broken}"));
            assert!(answer.status.is_success(), "client {number}: {answer}");
            let is_read = method == Method::GET;
            assert!(!is_read || answer.body == value, "client {number} reads {answer}");
        }
    }
    began.elapsed()
}

#[test]
fn ten_a_hundred_and_a_thousand_clients_at_once_are_answered_right_and_none_starves() {
    let cluster = Cluster::start();
    let urls: Vec<String> = cluster.nodes.all().map(|node| node.url().to_owned()).collect();
    for clients in [10, 100, 1_000] {
        let all = (0..clients).map(|number| client(urls[number % NODES].clone(), number));
        let mut times = cluster.runtime.block_on(join_all(all));
        times.sort_unstable();
        let (median, slowest) = (times[clients / 2], times[clients - 1]);
        println!("{clients} clients: half within {median:?}, all within {slowest:?}");
        assert!(slowest <= median * SLOWEST, "{clients} clients: {median:?}, {slowest:?}");
    }
}
