//! What `/metrics` says is what was done, seen from outside: every counter that should have moved
//! has, by as much as is known, none went backwards, and the page is what its format demands.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use aspen::http::{FAMILIES, Shape};
use hyper::header::{CONTENT_TYPE, IF_NONE_MATCH};
use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::time::{Instant, timeout};

use crate::http::Http;
use crate::shards::Nodes;
use crate::support::{Node, until};

mod slow;
mod trouble;

/// Longer than any answer takes.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// Counters that every node moves when a bit of everything is done.
const MOVED_BY_EACH: &[&str] = &[
    "aspen_mailbox_messages_total",
    "aspen_operations_total",
    "aspen_raft_leader_changes_total",
    "aspen_raft_group_leader_changes_total",
    "aspen_raft_checkpoints_total",
    "aspen_log_written_bytes_total",
    "aspen_peer_links_total",
    "aspen_peer_sent_bytes_total",
    "aspen_peer_received_bytes_total",
    "aspen_peer_sent_packets_total",
    "aspen_http_requests_total",
];
/// Those that whoever leads moves then.
const MOVED_BY_LEADERS: &[&str] =
    &["aspen_raft_proposals_total", "aspen_raft_group_proposals_total"];
/// Those that move where somebody watches what is written.
const MOVED_BY_WATCHERS: &[&str] = &["aspen_watch_events_total"];
/// Those that move where a watcher is slow: it is shown older changes, and then finds them gone.
const MOVED_BY_SLOWNESS: &[&str] =
    &["aspen_watch_history_reads_total", "aspen_watches_compacted_total"];
/// Those that move where a door is asked for more than its operator lets in.
const MOVED_BY_REFUSALS: &[&str] = &["aspen_http_refused_total"];
/// Those that move where a snapshot is needed.
const MOVED_BY_SNAPSHOTS: &[&str] =
    &["aspen_raft_snapshots_sent_total", "aspen_raft_snapshots_received_total"];
/// Those that move where something goes wrong.
const MOVED_BY_TROUBLE: &[&str] = &["aspen_part_restarts_total", "aspen_client_retries_total"];
/// What moves when a cable is out for a while; `netns` has cables.
pub(crate) const MOVED_BY_A_HICCUP: &str = "aspen_peer_lost_packets_total";
/// Those that stay at 0 while nothing goes wrong, with why.
const STILL: &[(&str, &str)] = &[
    ("aspen_part_restarts_total", "no part fails"),
    (
        "aspen_raft_proposals_refused_total",
        "nothing that is asked here fills a queue; the library's test of callers past the limit does, and \
         knows how many are counted then",
    ),
    ("aspen_http_refused_total", "nothing is asked for that is more than a door has"),
    (
        "aspen_http_connection_waits_total",
        "there are places for more connections than a test makes; one with few files open fills them",
    ),
    ("aspen_watches_compacted_total", "nothing is compacted that somebody has yet to be shown"),
    (
        "aspen_mailbox_waits_total",
        "a mailbox has room for more than its actor's own part ever says, and requests go through none; \
         its own test fills one",
    ),
];

type Labels = BTreeMap<String, String>;

/// The series of a page, by name and labels.
#[derive(Debug, Default)]
pub(crate) struct Page {
    series: BTreeMap<(String, Labels), f64>,
    shapes: BTreeMap<String, String>,
}

/// Reads names, strings and marks of a line, from left to right.
struct Reader<'a> {
    line: &'a str,
    rest: &'a str,
}

impl<'a> Reader<'a> {
    #[track_caller]
    fn expect(&mut self, mark: &str) {
        let rest = self.rest.strip_prefix(mark);
        self.rest =
            rest.unwrap_or_else(|| panic!("no {mark:?} at {:?} of {:?}", self.rest, self.line));
    }

    fn takes(&mut self, mark: &str) -> bool {
        let rest = self.rest.strip_prefix(mark);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    /// `[a-zA-Z_:][a-zA-Z0-9_:]*`, the colons only where they may be.
    #[track_caller]
    fn name(&mut self, colons: bool) -> &'a str {
        let may = |at: usize, c: char| {
            c.is_ascii_alphabetic()
                || c == '_'
                || colons && c == ':'
                || at > 0 && c.is_ascii_digit()
        };
        let end = self.rest.char_indices().find(|(at, c)| !may(*at, *c));
        let (name, rest) = self.rest.split_at(end.map_or(self.rest.len(), |(at, _)| at));
        assert!(!name.is_empty(), "no name at {:?} of {:?}", self.rest, self.line);
        self.rest = rest;
        name
    }

    #[track_caller]
    fn string(&mut self) -> String {
        self.expect("\"");
        let mut text = String::new();
        let mut characters = self.rest.chars();
        loop {
            match characters.next() {
                Some('"') => break,
                Some('\\') => match characters.next() {
                    Some('n') => text.push('\n'),
                    Some(escaped @ ('\\' | '"')) => text.push(escaped),
                    other => panic!("no escape is {other:?} in {:?}", self.line),
                },
                Some(character) => text.push(character),
                None => panic!("a string without an end in {:?}", self.line),
            }
        }
        self.rest = characters.as_str();
        text
    }
}

impl Page {
    /// Reads a page as strictly as the format can be read: families one after the other, each with
    /// its help, its type and then its series, none of them twice.
    #[track_caller]
    fn parse(text: &str) -> Page {
        assert!(text.ends_with('\n'), "the last line has no end");
        let mut page = Page::default();
        let mut lines = text.lines().peekable();
        while let Some(line) = lines.next() {
            let mut help = Reader { line, rest: line };
            help.expect("# HELP ");
            let name = help.name(true);
            help.expect(" ");
            assert!(!help.rest.is_empty(), "no help: {line:?}");
            let line = lines.next().expect("a type after the help");
            let shape = line.strip_prefix(&format!("# TYPE {name} "));
            let shape = shape.unwrap_or_else(|| panic!("no type of {name}: {line:?}"));
            assert!(["counter", "gauge", "histogram"].contains(&shape), "{line:?}");
            let before = page.shapes.insert(name.to_owned(), shape.to_owned());
            assert_eq!(before, None, "{name} comes twice");
            while let Some(line) = lines.next_if(|line| !line.starts_with('#')) {
                page.line(name, shape, line);
            }
        }
        page.check_histograms();
        page
    }

    #[track_caller]
    fn line(&mut self, family: &str, shape: &str, line: &str) {
        let mut reader = Reader { line, rest: line };
        let name = reader.name(true);
        let suffix = name.strip_prefix(family);
        let suffix = suffix.unwrap_or_else(|| panic!("{line:?} is not of {family}"));
        let is_of = match shape {
            "histogram" => ["_bucket", "_sum", "_count"].contains(&suffix),
            _ => suffix.is_empty(),
        };
        assert!(is_of, "{line:?} is not of the {shape} {family}");
        let mut labels = Labels::new();
        if reader.takes("{") {
            loop {
                let label = reader.name(false).to_owned();
                reader.expect("=");
                let before = labels.insert(label, reader.string());
                assert_eq!(before, None, "a label comes twice: {line:?}");
                if !reader.takes(",") {
                    break;
                }
            }
            reader.expect("}");
        }
        assert_eq!(suffix == "_bucket", labels.contains_key("le"), "{line:?}");
        reader.expect(" ");
        let value: f64 = reader.rest.parse().unwrap_or_else(|_| panic!("no number: {line:?}"));
        assert!(value.is_finite() && (value >= 0.0), "{line:?}");
        let before = self.series.insert((name.to_owned(), labels), value);
        assert_eq!(before, None, "a series comes twice: {line:?}");
    }

    /// Buckets rise up to the count, and the last has no bound.
    #[track_caller]
    fn check_histograms(&self) {
        let mut spreads: BTreeMap<(&str, Labels), Vec<(f64, f64)>> = BTreeMap::new();
        for ((name, labels), value) in &self.series {
            let Some(family) = name.strip_suffix("_bucket") else { continue };
            let mut labels = labels.clone();
            let bound = labels.remove("le").expect("a bucket has a bound");
            let bound = bound.parse().expect("a bound is a number");
            spreads.entry((family, labels)).or_default().push((bound, *value));
        }
        assert!(!spreads.is_empty());
        for ((family, labels), mut buckets) in spreads {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{family} {labels:?}: {buckets:?}");
            let count = self.series[&(format!("{family}_count"), labels.clone())];
            assert_eq!(buckets.last(), Some(&(f64::INFINITY, count)), "{family} {labels:?}");
            assert!(self.series.contains_key(&(format!("{family}_sum"), labels)));
        }
    }

    /// The sum of the series of a name that have these labels among theirs.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let has = |of: &Labels| {
            labels.iter().all(|(name, value)| of.get(*name).map(String::as_str) == Some(*value))
        };
        let series = self.series.iter().filter(|((of, its), _)| of == name && has(its));
        series.map(|(_, value)| value).sum()
    }

    /// Whether a series must not go backwards.
    fn only_rises(&self, name: &str) -> bool {
        let is =
            |family: &str, shape: &str| self.shapes.get(family).map(String::as_str) == Some(shape);
        let of_histogram = ["_bucket", "_sum", "_count"]
            .iter()
            .filter_map(|suffix| name.strip_suffix(suffix))
            .any(|family| is(family, "histogram"));
        of_histogram || is(name, "counter")
    }

    #[track_caller]
    fn comes_after(&self, before: &Page) {
        for (series, value) in
            before.series.iter().filter(|(series, _)| before.only_rises(&series.0))
        {
            // One of a group's that fell asleep is shown no more.
            if let Some(now) = self.series.get(series) {
                assert!(now >= value, "{series:?} went from {value} to {now}");
            }
        }
    }
}

/// Nodes that are asked, in order, and their pages.
pub(crate) struct Scraping {
    pub(crate) runtime: Runtime,
}

impl Scraping {
    #[track_caller]
    pub(crate) fn send(
        &self,
        node: &Node,
        method: Method,
        path: &str,
        body: &'static str,
    ) -> (StatusCode, Value) {
        let mut http = Http::to(node.url());
        self.runtime.block_on(async {
            let answer = timeout(ANSWER_MAX, http.send(method, path, None, body)).await;
            let answer =
                answer.expect("in time").unwrap_or_else(|broken| panic!("{path}: {broken}"));
            (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
        })
    }

    #[track_caller]
    pub(crate) fn page(&self, node: &Node) -> Page {
        let mut http = Http::to(node.url());
        let answer = self.runtime.block_on(async {
            let answer = timeout(ANSWER_MAX, http.send(Method::GET, "/metrics", None, "")).await;
            answer.expect("in time").unwrap_or_else(|broken| panic!("{broken}"))
        });
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(answer.headers[CONTENT_TYPE], "text/plain; version=0.0.4; charset=utf-8");
        Page::parse(std::str::from_utf8(&answer.body).expect("text"))
    }

    /// Waits for three replicas of the one shard, and nothing on its way.
    #[track_caller]
    fn wait_until_settled(&self, nodes: &Nodes) {
        let settled = |node: &Node| {
            let shards = self.send(node, Method::GET, "/v1/shards", "").1;
            let shard = &shards["shards"][0];
            shard["stage"] == "settled" && shard["replicas"] == json!([1, 2, 3])
        };
        assert!(until(|| nodes.all().all(settled)));
    }

    #[track_caller]
    pub(crate) fn pages(&self, nodes: &Nodes) -> Vec<Page> {
        nodes.all().map(|node| self.page(node)).collect()
    }
}

#[test]
fn every_counter_is_one_that_is_known_to_move_or_to_stand_still() {
    let still = STILL.iter().map(|(name, _)| *name);
    let moved = [
        MOVED_BY_EACH,
        MOVED_BY_LEADERS,
        MOVED_BY_WATCHERS,
        MOVED_BY_SLOWNESS,
        MOVED_BY_REFUSALS,
        MOVED_BY_SNAPSHOTS,
        MOVED_BY_TROUBLE,
    ];
    let moved = moved.into_iter().flatten().copied().chain([MOVED_BY_A_HICCUP]);
    let known: BTreeSet<&str> = moved.chain(still).collect();
    let counters = FAMILIES.iter().filter(|family| family.shape == Shape::Counter);
    let all: BTreeSet<&str> = counters.map(|family| family.name).collect();
    assert_eq!(known, all);
}

/// What a node has counted of this.
#[track_caller]
pub(crate) fn counted(node: &Node, name: &str) -> f64 {
    let scraping = Scraping { runtime: Runtime::new().expect("a runtime") };
    scraping.page(node).sum(name, &[])
}

/// How much a counter has risen, over all nodes.
fn risen(name: &str, labels: &[(&str, &str)], before: &[Page], after: &[Page]) -> f64 {
    let sum = |pages: &[Page]| pages.iter().map(|page| page.sum(name, labels)).sum::<f64>();
    sum(after) - sum(before)
}

/// A bit of everything, through every node; says how many puts there were.
#[track_caller]
fn do_everything(nodes: &Nodes, scraping: &Scraping) -> f64 {
    let mut puts = 0.0;
    for (at, node) in (0..).zip(nodes.all()) {
        let key = format!("/v1/kv/key/{at}");
        for _ in 0..3 {
            assert_eq!(scraping.send(node, Method::PUT, &key, "v").0.as_u16() / 100, 2);
            puts += 1.0;
        }
        for consistency in ["linearizable", "lease", "stale"] {
            // What is stale may be older than the key.
            let path = format!("{key}?consistency={consistency}");
            assert!(until(|| scraping.send(node, Method::GET, &path, "").0 == StatusCode::OK));
        }
        assert_eq!(scraping.send(node, Method::GET, "/v1/kv/none", "").0, StatusCode::NOT_FOUND);
        assert_eq!(scraping.send(node, Method::GET, "/nowhere", "").0, StatusCode::NOT_FOUND);
        assert_eq!(scraping.send(node, Method::GET, "/v1/kv", "").0, StatusCode::OK);
        let txn = r#"{"then": [{"delete": {"prefix": "none/"}}, {"get": {"key": "a"}},
            {"put": {"key": "b", "value": "1"}}]}"#;
        assert_eq!(scraping.send(node, Method::POST, "/v1/txn", txn).0, StatusCode::OK);
        assert_eq!(scraping.send(node, Method::DELETE, &key, "").0, StatusCode::OK);
        let (status, lease) =
            scraping.send(node, Method::POST, "/v1/leases", r#"{"ttl_ms": 60000}"#);
        assert_eq!(status, StatusCode::CREATED, "{lease}");
        let lease = format!("/v1/leases/{}", lease["id"].as_str().expect("an id"));
        let kept = scraping.send(node, Method::POST, &format!("{lease}/keep-alive"), "");
        assert_eq!(kept.0, StatusCode::OK);
        assert_eq!(scraping.send(node, Method::DELETE, &lease, "").0, StatusCode::OK);
        // There is none any more.
        assert_eq!(scraping.send(node, Method::DELETE, &lease, "").0, StatusCode::NOT_FOUND);
    }
    // Refused: it is there.
    let mut http = Http::to(nodes.any().url());
    let refused = scraping.runtime.block_on(async {
        http.send(Method::PUT, "/v1/kv/b", Some((IF_NONE_MATCH, "*")), "2").await
    });
    assert_eq!(refused.ok().map(|answer| answer.status), Some(StatusCode::PRECONDITION_FAILED));
    nodes.any().printed(&["keyspace", "create", "logs", "--shards", "2"]);
    puts
}

/// The node that leads a group, once all agree.
#[track_caller]
fn leader(nodes: &Nodes, group: u64) -> u64 {
    let mut leader = None;
    let agree = until(|| {
        let led = nodes.all().map(|node| {
            let shown = node.printed(&["status", "--json"]);
            let shown: Value = serde_json::from_str(&shown).expect("JSON");
            let groups = shown["cluster"]["groups"].as_array().cloned().unwrap_or_default();
            let group = groups.iter().find(|one| one["id"] == json!(group)).cloned();
            group.and_then(|group| group["leader"].as_u64())
        });
        let led: BTreeSet<Option<u64>> = led.collect();
        leader = led.first().copied().flatten();
        led.len() == 1 && leader.is_some()
    });
    assert!(agree, "nobody leads group {group}");
    leader.expect("they agree")
}

#[test]
fn every_counter_that_should_move_does_and_none_goes_backwards() {
    let nodes = Nodes::start(3, &[]);
    let scraping = Scraping { runtime: Runtime::new().expect("a runtime") };
    scraping.wait_until_settled(&nodes);
    let first = scraping.pages(&nodes);
    for page in &first {
        let names: Vec<(&str, &str)> =
            FAMILIES.iter().map(|f| (f.name, f.shape.as_str())).collect();
        let shown: BTreeMap<&str, &str> = names.iter().copied().collect();
        let is: BTreeMap<&str, &str> =
            page.shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_str())).collect();
        assert_eq!(is, shown);
        assert_eq!(shown.len(), names.len(), "a name is there twice");
        for family in FAMILIES.iter().filter(|family| family.shape == Shape::Counter) {
            assert!(family.name.ends_with("_total"), "{}", family.name);
        }
    }

    let mut watch = nodes.any().following(&["watch", "--prefix", "key/"]);
    let watching = |page: &Page| page.sum("aspen_watches", &[]);
    let at_rest: f64 = first.iter().map(watching).sum();
    assert!(until(|| scraping.pages(&nodes).iter().map(watching).sum::<f64>() > at_rest));
    let puts = do_everything(&nodes, &scraping);
    watch.line();

    let led = leader(&nodes, 1);
    let to = if led == 1 { "2" } else { "1" };
    nodes.any().printed(&["transfer", "1", to]);
    // A large log makes its group checkpoint, and the checkpoint lets go of the log.
    let large = tempfile::NamedTempFile::new().expect("a file");
    let bytes = vec![b'x'; 4 << 20];
    std::io::Write::write_all(&mut large.as_file(), &bytes).expect("written");
    let path = large.path().to_str().expect("a path");
    let (mut large, mut unknown) = (0.0, 0.0);
    let checkpoints = |page: &Page| page.sum("aspen_raft_checkpoints_total", &[]);
    let deadline = Instant::now() + Duration::from_secs(60);
    let had: Vec<f64> = first.iter().map(checkpoints).collect();
    let has_more = |(page, had): (&Page, &f64)| checkpoints(page) > *had;
    while !scraping.pages(&nodes).iter().zip(&had).all(has_more) {
        assert!(Instant::now() < deadline, "no checkpoint after {large} large values");
        // On a busy machine it may take longer than its deadline.
        match nodes.any().run(&["put", "large", "--file", path]).code {
            0 => large += 1.0,
            _ => unknown += 1.0,
        }
    }
    let second = scraping.pages(&nodes);

    for (before, after) in first.iter().zip(&second) {
        after.comes_after(before);
        let rises =
            |name, labels: &[(&str, &str)]| after.sum(name, labels) > before.sum(name, labels);
        // What each node was asked, and did.
        for labels in [
            &[("route", "/v1/kv/{key}"), ("method", "PUT")][..],
            &[("route", "/v1/kv/{key}"), ("method", "GET"), ("status", "200")],
            &[("route", "/v1/kv/{key}"), ("method", "GET"), ("status", "404")],
            &[("route", "/v1/kv/{key}"), ("method", "DELETE"), ("status", "200")],
            &[("route", "/v1/txn"), ("method", "POST"), ("status", "200")],
            &[("route", "/v1/leases/{id}"), ("method", "DELETE"), ("status", "404")],
            &[("route", "/metrics"), ("method", "GET"), ("status", "200")],
            &[("route", "other"), ("method", "GET"), ("status", "404")],
        ] {
            assert!(rises("aspen_http_requests_total", labels), "{labels:?}");
        }
        for name in [
            "aspen_log_sync_seconds_count",
            "aspen_log_sync_seconds_sum",
            "aspen_log_batch_operations_count",
        ] {
            assert!(rises(name, &[]), "{name}");
        }
        for name in MOVED_BY_EACH {
            // The links were made before anybody looked.
            let is_moved = match *name {
                "aspen_peer_links_total" => after.sum(name, &[]) >= 2.0,
                _ => rises(name, &[]),
            };
            assert!(is_moved, "{name} of {:?}", after.series.keys());
        }
        // All hear of whom the lead was transferred to.
        assert!(rises("aspen_raft_group_leader_changes_total", &[("group", "1")]));
        for (name, why) in STILL {
            assert_eq!(after.sum(name, &[]), 0.0, "{name}: {why}");
        }
        assert_eq!(after.sum("aspen_http_requests_in_flight", &[]), 1.0);
        assert!(after.sum("aspen_http_connections", &[]) >= 1.0);
        assert_eq!(after.sum("aspen_peer_connected", &[]), 2.0);
        assert_eq!(after.sum("aspen_peer_path", &[("kind", "direct")]), 2.0);
        assert!(after.sum("aspen_peer_round_trip_seconds", &[]) > 0.0);
        assert_eq!(after.sum("aspen_ready", &[]), 1.0);
        assert_eq!(after.sum("aspen_parts", &[("state", "unhealthy")]), 0.0);
        for name in ["aspen_disk_free_bytes", "aspen_log_size_bytes", "aspen_state_size_bytes"] {
            assert!(after.sum(name, &[]) > 0.0, "{name}");
        }
        assert!(after.sum("aspen_raft_group_applied_index", &[("group", "1")]) > 30.0);
    }
    // What all of them did together is what was asked of them.
    let risen = |name, labels: &[(&str, &str)]| risen(name, labels, &first, &second);
    let ok = |kind| {
        let labels = [("group", "shard"), ("kind", kind), ("outcome", "ok")];
        risen("aspen_operations_total", &labels)
    };
    // What was asked again after its answer was lost is answered twice.
    let retries = risen("aspen_client_retries_total", &[]);
    let is_as_often = |kind, times: f64, at_most: f64| {
        let counted = ok(kind);
        assert!(
            (times..=at_most + retries).contains(&counted),
            "{kind}: {counted}, {times} to {at_most}, {retries}"
        );
    };
    is_as_often("put", puts + large, puts + large + unknown);
    for kind in ["txn", "delete", "lease-grant", "lease-revoke", "lease-keep-alive"] {
        is_as_often(kind, 3.0, 3.0);
    }
    assert!(ok("range") >= 3.0 && ok("watch") >= 1.0, "{} {}", ok("range"), ok("watch"));
    for consistency in ["linearizable", "lease", "stale"] {
        let labels = [("kind", "get"), ("consistency", consistency), ("outcome", "ok")];
        assert!(risen("aspen_operations_total", &labels) >= 3.0, "{consistency}");
    }
    let refused = |kind| risen("aspen_operations_total", &[("kind", kind), ("outcome", "refused")]);
    assert!((1.0..=1.0 + retries).contains(&refused("put")), "{}", refused("put"));
    assert!((3.0..=3.0 + retries).contains(&refused("lease-revoke")));
    // The keyspace, if nothing else.
    assert!(risen("aspen_operations_total", &[("group", "meta"), ("outcome", "ok")]) > 0.0);
    let answered = risen("aspen_operations_total", &[("kind", "put")]);
    let abandoned = risen("aspen_operations_total", &[("kind", "put"), ("outcome", "abandoned")]);
    let timed = risen("aspen_operation_seconds_count", &[("kind", "put")]);
    assert_eq!(answered - abandoned, timed);
    // The watcher was shown all that was put, and each node's own watch of the roster the transfer.
    for name in MOVED_BY_WATCHERS {
        assert!(risen(name, &[]) > 0.0, "{name}");
    }
    for name in MOVED_BY_LEADERS {
        assert!(risen(name, &[]) >= puts + large + 15.0, "{name}: {}", risen(name, &[]));
    }
    // The group sleeps on no node, so nothing of it is left out.
    let proposed = risen("aspen_raft_group_proposals_total", &[("group", "1")]);
    assert!(proposed >= puts + large + 15.0, "{proposed}");
    assert_eq!(risen("aspen_http_requests_total", &[("status", "412")]), 1.0);
    let in_use: f64 =
        second.iter().map(|page| page.sum("aspen_raft_group_leads", &[("group", "1")])).sum();
    assert_eq!(in_use, 1.0);
}

#[test]
fn a_snapshot_is_counted_where_it_comes_from_and_where_it_arrives() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = Node::start(dir.path(), &[]);
    let scraping = Scraping { runtime: Runtime::new().expect("a runtime") };
    let large = tempfile::NamedTempFile::new().expect("a file");
    let bytes = vec![b'x'; 4 << 20];
    std::io::Write::write_all(&mut large.as_file(), &bytes).expect("written");
    let path = large.path().to_str().expect("a path");
    // The log up to the checkpoint before the last is let go of.
    let checkpoints = || scraping.page(&first).sum("aspen_raft_checkpoints_total", &[]);
    while checkpoints() < 2.0 {
        first.printed(&["put", "large", "--file", path]);
    }
    let other = tempfile::tempdir().expect("a directory");
    let second = Node::join(other.path(), &first.ticket(), &[]);
    let count = |node: &Node, name: &str| scraping.page(node).sum(name, &[]);
    let [sent, received] = MOVED_BY_SNAPSHOTS else { panic!("one for either end") };
    assert!(until(|| count(&second, received) >= 1.0));
    assert!(until(|| count(&first, sent) >= 1.0));
    assert_eq!((count(&first, received), count(&second, sent)), (0.0, 0.0));
}
