//! Traces as a collector of OpenTelemetry gets them: of requests that cross nodes, and what a collector
//! that hangs, refuses or is away does to a node, which is nothing.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use aspen::seams::spawn_thread;
use serde_json::Value;
use tokio::time::Instant;

use crate::doors::curl;
use crate::support::{Node, aspen, run, until};

/// What a collector does with a request.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Manner {
    Takes,
    Refuses,
    Hangs,
}

/// A collector that keeps what it is sent.
struct Collector {
    url: String,
    told: Arc<Mutex<Vec<Value>>>,
}

impl Collector {
    fn new(manner: Manner) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("an address"));
        let told: Arc<Mutex<Vec<Value>>> = Arc::default();
        let keeps = told.clone();
        // It ends with the test's process.
        let serving = spawn_thread("collector".into(), move || {
            let mut held = Vec::new();
            for stream in listener.incoming() {
                let stream = stream.expect("a connection");
                if manner == Manner::Hangs {
                    held.push(stream);
                    continue;
                }
                if let Some(request) = take(stream, manner == Manner::Takes) {
                    keeps.lock().expect("no panic").push(request);
                }
            }
        });
        serving.expect("a thread");
        Collector { url, told }
    }

    /// Every span so far, with the attributes of where it comes from.
    fn spans(&self) -> Vec<Span> {
        let told = self.told.lock().expect("no panic");
        let list = |value: &Value| value.as_array().expect("a list").clone();
        let mut spans = Vec::new();
        for resource in told.iter().flat_map(|told| list(&told["resourceSpans"])) {
            let of = attributes(&resource["resource"]["attributes"]);
            for scope in list(&resource["scopeSpans"]) {
                assert_eq!(scope["scope"]["name"], "aspen::trace");
                for span in list(&scope["spans"]) {
                    spans.push(Span { of: of.clone(), has: attributes(&span["attributes"]), span });
                }
            }
        }
        spans
    }

    /// Those of a trace, once all of these are there, by node and name.
    #[track_caller]
    fn trace(&self, id: &str, parts: &[(u64, &str)]) -> BTreeMap<(u64, String), Span> {
        let mut found = BTreeMap::new();
        let are_there = until(|| {
            let spans = self.spans().into_iter();
            let spans = spans.filter(|span| span.text("traceId") == id);
            found = spans.map(|span| ((span.node(), span.text("name")), span)).collect();
            parts.iter().all(|(node, name)| found.contains_key(&(*node, (*name).to_owned())))
        });
        assert!(are_there, "{parts:?} in {:?}", found.keys());
        found
    }
}

/// Reads one request and answers it; nothing if its sender has gone.
fn take(mut stream: TcpStream, takes: bool) -> Option<Value> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let (mut line, mut length, mut is_json) = (String::new(), 0, false);
    reader.read_line(&mut line).ok()?;
    assert_eq!(line, "POST /v1/traces HTTP/1.1\r\n");
    loop {
        line.clear();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim().split_once(": ") else { break };
        match name {
            "content-length" => length = value.parse().expect("a length"),
            "content-type" => is_json = value == "application/json",
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    assert!(is_json);
    let status = if takes { "200 OK" } else { "400 Bad Request" };
    let _ = write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\n{{}}");
    Some(serde_json::from_slice(&body).expect("JSON"))
}

fn attributes(list: &Value) -> BTreeMap<String, String> {
    let list = list.as_array().expect("a list").iter();
    let attribute = |attribute: &Value| {
        let value = &attribute["value"];
        let value = value["stringValue"].as_str().or(value["intValue"].as_str()).expect("a value");
        (attribute["key"].as_str().expect("a key").to_owned(), value.to_owned())
    };
    list.map(attribute).collect()
}

#[derive(Clone, Debug)]
struct Span {
    of: BTreeMap<String, String>,
    has: BTreeMap<String, String>,
    span: Value,
}

impl Span {
    fn text(&self, name: &str) -> String {
        self.span[name].as_str().unwrap_or_default().to_owned()
    }

    fn node(&self) -> u64 {
        assert_eq!(self.of["service.name"], "aspen");
        assert_eq!(self.of["service.instance.id"], self.of["aspen.node"]);
        self.of["aspen.node"].parse().expect("a number")
    }

    /// When it began and ended, in nanoseconds.
    fn times(&self) -> (u64, u64) {
        let time = |name| self.text(name).parse().expect("a time");
        (time("startTimeUnixNano"), time("endTimeUnixNano"))
    }

    #[track_caller]
    fn is_part_of(&self, parent: &Span) {
        assert_eq!(self.text("parentSpanId"), parent.text("spanId"));
        let ((began, ended), (first, last)) = (self.times(), parent.times());
        // One machine, and one clock that may be set between two looks at it.
        let slack = 1_000_000;
        assert!(first <= began + slack && ended <= last + slack, "{self:?} {parent:?}");
    }
}

fn start(dir: &Path, url: &str) -> Node {
    Node::start(dir, &["--otlp", url])
}

#[test]
fn a_request_is_one_trace_on_all_nodes_that_have_to_do_with_it() {
    let collector = Collector::new(Manner::Takes);
    let dirs: Vec<_> = (0..2).map(|_| tempfile::tempdir().expect("a directory")).collect();
    let first = start(dirs[0].path(), &collector.url);
    let second = Node::join(dirs[1].path(), &first.ticket(), &["--otlp", &collector.url]);
    let key = format!("{}/v1/kv/k", second.url());
    assert!(until(|| curl(&[&format!("{key}?explain")]).contains("\"leader\":1,")));

    // A client that is traced says so.
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    let told = format!("traceparent: 00-{trace}-{parent}-01");
    let put = |headers: &[&str]| {
        let headers: Vec<&str> = headers.iter().flat_map(|header| ["-H", header]).collect();
        let arguments = [&["-f", "-X", "PUT", "-d", "v"][..], &headers, &[&key]].concat();
        curl(&arguments)
    };
    put(&[&told, "Aspen-Request-Id: mine"]);
    let route = "PUT /v1/kv/{key}";
    let parts = [(2, route), (2, "ask another node"), (1, "put")];
    let spans = collector.trace(trace, &parts);
    let [door, asks, does] = parts.map(|(node, name)| &spans[&(node, name.to_owned())]);
    assert_eq!(door.text("parentSpanId"), parent);
    asks.is_part_of(door);
    does.is_part_of(asks);
    assert_eq!([door, asks, does].map(|span| span.span["kind"].as_u64()), [2, 3, 2].map(Some));
    for span in [door, asks, does] {
        assert_eq!(span.has["aspen.request_id"], "mine");
    }
    assert_eq!(door.has["http.request.method"], "PUT");
    assert_eq!(door.has["http.route"], "/v1/kv/{key}");
    assert_eq!(door.has["http.response.status_code"], "201");
    assert_eq!(asks.has["aspen.peer"], first.ready()["endpoint_id"].as_str().expect("a key"));
    assert_eq!((&*does.has["aspen.group"], &*does.has["aspen.outcome"]), ("1", "ok"));

    // One that is not gets a trace of its own, and one that wants none is left alone.
    let unwanted = told.replace("-01", "-00").replace("4bf9", "0bf9");
    put(&[&unwanted, "Aspen-Request-Id: unwanted"]);
    put(&["Aspen-Request-Id: own"]);
    let of = |id: &str| -> Vec<Span> {
        let spans = collector.spans().into_iter();
        spans.filter(|span| span.has.get("aspen.request_id").is_some_and(|of| of == id)).collect()
    };
    assert!(until(|| of("own").len() >= 3), "{:?}", collector.spans());
    let own: Vec<Span> = of("own");
    assert!(own.iter().all(|span| span.text("traceId") == own[0].text("traceId")));
    assert_eq!(own.iter().filter(|span| span.text("parentSpanId").is_empty()).count(), 1);
    assert_eq!(of("unwanted").len(), 0);

    // A node that stops sends what it has.
    let (mut second, last) = (second, "Aspen-Request-Id: last");
    put(&[last]);
    second.signal("TERM");
    assert_eq!(second.code(), 0, "{}", second.log());
    let door = |span: &Span| span.node() == 2 && span.text("name") == route;
    assert!(until(|| of("last").iter().any(door)), "{:?}", of("last"));
    let spans = collector.spans();
    assert!(spans.iter().all(|span| span.text("spanId").len() == 16));
    let value = serde_json::to_string(&spans.iter().map(|span| &span.span).collect::<Vec<_>>());
    assert!(!value.expect("JSON").contains("/v1/kv/k\""), "keys are not told");
}

/// How long a request takes, of many: the one in the middle.
fn median(node: &Node, requests: usize) -> Duration {
    let livez = format!("{}/v1/kv/k", node.url());
    let mut times: Vec<Duration> = Vec::new();
    while times.len() < requests {
        // One connection for a hundred, so that curl's own start is not what is measured.
        let urls = vec![livez.as_str(); 100];
        let form = ["-o", "/dev/null", "-w", "%{time_total}\n"];
        let arguments: Vec<&str> =
            urls.into_iter().flat_map(|url| form.into_iter().chain([url])).collect();
        let seconds = curl(&arguments);
        let seconds = seconds.lines().map(|line| line.parse().expect("seconds"));
        times.extend(seconds.map(Duration::from_secs_f64));
    }
    times.sort();
    times[times.len() / 2]
}

#[test]
fn a_collector_that_is_away_hangs_or_refuses_costs_a_node_nothing() {
    let away = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        format!("http://{}", listener.local_addr().expect("an address"))
    };
    let (hangs, refuses) = (Collector::new(Manner::Hangs), Collector::new(Manner::Refuses));
    let dir = tempfile::tempdir().expect("a directory");
    let plain = Node::start(dir.path(), &[]);
    let rest = median(&plain, 1_000);
    for (name, url) in [("away", &away), ("hangs", &hangs.url), ("refuses", &refuses.url)] {
        let data = dir.path().join(name);
        std::fs::create_dir_all(&data).expect("a directory");
        let mut node = start(&data, url);
        // More spans than are held: each request has two or more.
        let took = median(&node, 3_000);
        let before = node.memory_mib("VmRSS");
        median(&node, 3_000);
        let after = node.memory_mib("VmRSS");
        assert!(after - before < 16.0, "{name}: {before} MiB became {after} MiB");
        assert!(took < rest * 5 + Duration::from_millis(5), "{name}: {took:?}, else {rest:?}");
        node.wait_for_log("spans do not go to their collector");
        let began = Instant::now();
        node.signal("TERM");
        assert_eq!(node.code(), 0, "{}", node.log());
        assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
        let warned = node.log().matches("spans do not go to their collector").count();
        assert!(warned <= 1 + began.elapsed().as_secs() as usize / 60 + 1, "{}", node.log());
    }
}

#[test]
fn a_collector_is_named_by_an_http_url() {
    for bad in ["collector", "https://collector.example", "http://", "http://a:0", "http://a?b", ""]
    {
        let refused = run(&mut aspen(["start", "--otlp", bad]));
        let sentence = format!(
            "--otlp can't be {bad:?}; use off, or the http URL of a collector such as \
             http://127.0.0.1:4318"
        );
        assert!(refused.stderr.contains(&sentence), "{refused:?}");
        assert_eq!(refused.code, 2);
    }
}
