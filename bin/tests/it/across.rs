//! What goes over several shards of a keyspace, through every node: listings, page by page, while other
//! keys are written; and transactions, which are refused and say of which keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use crate::http::Http;
use crate::shards::Nodes;
use crate::support::{Node, until};

/// Keys that are there all along.
const KEPT: usize = 150;
const PAGE: usize = 7;

fn kept() -> Vec<String> {
    (0..KEPT).map(|number| format!("p/{number:03}")).collect()
}

/// Three nodes with four shards, and a way to ask each.
struct Cluster {
    nodes: Nodes,
    runtime: Runtime,
    doors: Vec<Http>,
}

impl Cluster {
    #[track_caller]
    fn start() -> Self {
        let nodes = Nodes::start(3, &["--shards", "4"]);
        nodes.wait_for_spread(&[1, 2, 3], 3);
        let doors = nodes.all().map(|node| Http::to(node.url())).collect();
        Cluster { nodes, runtime: Runtime::new().expect("a runtime"), doors }
    }

    /// Asks one node after the other, by this number.
    #[track_caller]
    fn ask(
        &mut self,
        through: usize,
        method: Method,
        path: &str,
        body: String,
    ) -> (StatusCode, Value) {
        let door = through % self.doors.len();
        let asked = self.doors[door].send(method, path, None, body);
        let answer = self.runtime.block_on(asked).unwrap_or_else(|broken| panic!("{broken}"));
        (answer.status, serde_json::from_slice(&answer.body).unwrap_or_default())
    }

    #[track_caller]
    fn get(&mut self, through: usize, path: &str) -> Value {
        let (status, answer) = self.ask(through, Method::GET, path, String::new());
        assert_eq!(status, StatusCode::OK, "{path}: {answer}");
        answer
    }

    #[track_caller]
    fn put(&mut self, through: usize, key: &str) {
        let path = format!("/v1/kv/{key}");
        let (status, answer) = self.ask(through, Method::PUT, &path, "v".to_owned());
        assert!(status.is_success(), "{path}: {answer}");
    }

    /// A listing to its end, each page through another node than the one before. All pages are as of
    /// the first, so each says how many keys are left.
    #[track_caller]
    fn list(&mut self, query: &str) -> Vec<Value> {
        let mut listed: Vec<Value> = Vec::new();
        let (mut cursor, mut count) = (String::new(), None);
        for through in 0.. {
            let path = format!("/v1/kv?{query}&limit={PAGE}{cursor}");
            let page = self.get(through, &path);
            let left = page["count"].as_u64().expect("a number");
            let records = page["records"].as_array().expect("a list");
            let all = *count.get_or_insert(left);
            assert_eq!(left, all - listed.len() as u64, "of a page of another moment: {path}");
            let is_last = left == records.len() as u64;
            assert_eq!(page["more"], !is_last, "{path}");
            assert!(records.len() <= PAGE && (is_last || !records.is_empty()), "{path}");
            listed.extend(records.iter().cloned());
            match page["cursor"].as_str() {
                Some(text) => cursor = format!("&cursor={text}"),
                None => {
                    assert!(is_last, "no cursor: {path}");
                    break;
                }
            }
        }
        listed
    }
}

fn keys_of(listed: &[Value]) -> Vec<&str> {
    listed.iter().map(|record| record["key"].as_str().expect("text")).collect()
}

/// Writes and deletes keys between those that are kept, at each node.
struct Churn {
    tasks: Vec<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    written: Arc<AtomicU64>,
}

impl Churn {
    fn begin(cluster: &Cluster) -> Self {
        let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let writer = |node: &Node| {
            let (stop, written) = (stop.clone(), written.clone());
            let (mut http, node) = (Http::to(node.url()), node.id());
            cluster.runtime.spawn(async move {
                for round in 0.. {
                    // Each key is there for a round, and then is not.
                    let path = format!("/v1/kv/p/{:03}+{node}", round / 2 % KEPT);
                    let method = [Method::PUT, Method::DELETE][round % 2].clone();
                    let answer = http.send(method, &path, None, "w").await;
                    let answer = answer.unwrap_or_else(|broken| panic!("{broken}"));
                    assert!(answer.status.is_success(), "{answer}");
                    written.fetch_add(1, Ordering::SeqCst);
                    if stop.load(Ordering::SeqCst) && round % 2 == 1 {
                        return;
                    }
                }
            })
        };
        let tasks = cluster.nodes.all().map(writer).collect();
        Churn { tasks, stop, written }
    }

    /// Waits until more was written.
    #[track_caller]
    fn goes_on(&self) {
        let count = || self.written.load(Ordering::SeqCst);
        let before = count();
        let failed = || self.tasks.iter().any(JoinHandle::is_finished);
        assert!(until(|| count() > before + 10 || failed()), "writes stand still");
        assert!(!failed(), "a writer has failed");
    }

    #[track_caller]
    fn end(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::SeqCst);
        self.tasks.into_iter().for_each(|task| {
            cluster.runtime.block_on(task).expect("no panic");
        });
    }
}

#[test]
fn a_listing_of_several_shards_has_each_key_once_in_order_while_others_are_written() {
    let mut cluster = Cluster::start();
    for (through, key) in kept().iter().enumerate() {
        cluster.put(through, key);
    }
    let kept = kept();
    let with_prefix = |prefix: &str| -> Vec<&str> {
        kept.iter().map(String::as_str).filter(|key| key.starts_with(prefix)).collect()
    };
    let between = |start: &str, end: &str| -> Vec<&str> {
        kept.iter().map(String::as_str).filter(|key| (start..end).contains(key)).collect()
    };
    let cases = [
        ("prefix=p/", with_prefix("p/")),
        ("prefix=p/1", with_prefix("p/1")),
        ("start=p/030&end=p/090", between("p/030", "p/090")),
        ("prefix=p/&keys_only", with_prefix("p/")),
    ];

    let churn = Churn::begin(&cluster);
    for (query, mut expected) in cases {
        for order in ["asc", "desc"] {
            churn.goes_on();
            let listed = cluster.list(&format!("{query}&order={order}"));
            let keys = keys_of(&listed);
            let is_in_order = |a: &&str, b: &&str| if order == "asc" { a < b } else { a > b };
            assert!(keys.is_sorted_by(is_in_order), "{query} {order}: {keys:?}");
            let of_kept: Vec<&str> =
                keys.iter().copied().filter(|key| !key.contains('+')).collect();
            assert_eq!(of_kept, expected, "{query} {order}");
            let has_values = listed.iter().all(|record| record.get("value").is_some());
            assert_eq!(has_values, !query.contains("keys_only"), "{query}");
            expected.reverse();
        }
    }
    churn.goes_on();
    let counted = cluster.get(0, "/v1/kv?prefix=p/&count_only");
    assert!(counted["count"].as_u64() >= Some(KEPT as u64), "{counted}");
    churn.end(&cluster);

    for (through, node) in cluster.nodes.all().enumerate() {
        let printed = node.printed(&["range", "p/", "--keys-only", "--reverse"]);
        assert!(printed.lines().eq(kept.iter().rev()), "through {through}: {printed}");
        assert_eq!(node.printed(&["range", "p/", "--count"]), format!("{KEPT}\n"));
    }
    for through in 0..3 {
        let counted = cluster.get(through, "/v1/kv?prefix=p/&count_only");
        assert_eq!(counted, json!({"count": KEPT, "more": false, "records": []}));
    }
}

#[test]
fn a_cursor_of_another_keyspace_is_refused_whatever_its_name_and_shards() {
    let mut cluster = Cluster::start();
    let create = |cluster: &Cluster, name: &str, shards: &str| {
        cluster.nodes.any().printed(&["keyspace", "create", name, "--shards", shards]);
    };
    let fill = |cluster: &mut Cluster, keyspace: &str| {
        for number in 0..40 {
            cluster.put(number, &format!("p/{number:02}?keyspace={keyspace}"));
        }
    };
    let path = |keyspace: &str| format!("/v1/kv?prefix=p/&limit={PAGE}&keyspace={keyspace}");
    let cursor = |cluster: &mut Cluster, keyspace: &str| {
        let page = cluster.get(0, &path(keyspace));
        page["cursor"].as_str().expect("there is more").to_owned()
    };
    for (name, shards) in [("same", "4"), ("one", "1"), ("more", "5")] {
        create(&cluster, name, shards);
        fill(&mut cluster, name);
    }
    fill(&mut cluster, "default");
    let refused = |cluster: &mut Cluster, keyspace: &str, cursor: &str| {
        let path = format!("{}&cursor={cursor}", path(keyspace));
        for through in 0..3 {
            let (status, problem) = cluster.ask(through, Method::GET, &path, String::new());
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}: {problem}");
            assert_eq!(problem["type"], "urn:aspen:problem:bad-cursor", "{problem}");
            let detail = "the cursor does not continue this query: it is of another keyspace, or of \
                          an earlier one of this name; start again without a cursor";
            assert_eq!(problem["detail"], detail);
        }
    };
    let of_default = cursor(&mut cluster, "default");
    for keyspace in ["same", "one", "more"] {
        refused(&mut cluster, keyspace, &of_default);
    }
    cluster.get(1, &format!("{}&cursor={of_default}", path("default")));

    // One that is made anew is another.
    for (name, shards) in [("same", "4"), ("one", "1")] {
        let of_former = cursor(&mut cluster, name);
        cluster.nodes.any().printed(&["keyspace", "delete", name]);
        create(&cluster, name, shards);
        fill(&mut cluster, name);
        refused(&mut cluster, name, &of_former);
    }
}

#[test]
fn a_transaction_over_several_shards_is_refused_with_its_keys_and_nothing_of_it_is_done() {
    let mut cluster = Cluster::start();
    let shard = |cluster: &mut Cluster, key: &str| {
        cluster.get(0, &format!("/v1/kv/{key}?explain"))["shard"].as_u64().expect("a number")
    };
    // Two of one shard, and one of another whose name is no text.
    let first = "k/0".to_owned();
    let home = shard(&mut cluster, &first);
    let near = (1..).map(|n| format!("k/{n}")).find(|key| shard(&mut cluster, key) == home);
    let near = near.expect("one of a few is there");
    let far = (0..16).map(|n| format!("k/%FF{n:x}"));
    let far = { far }.find(|key| shard(&mut cluster, key) != home).expect("one of a few is not");
    let last = *far.as_bytes().last().expect("a digit");
    let far_json = json!({"base64": data_encoding::BASE64.encode(&[b'k', b'/', 0xff, last])});

    let put = |key: Value| json!({"put": {"key": key, "value": "v"}});
    let (a, b, c) = (json!(first), json!(near), far_json);
    let when = json!([{"key": c, "version": 0}]);
    let across = [
        json!({"then": [put(a.clone()), put(b.clone()), put(c.clone())]}),
        json!({"when": when, "then": [put(a.clone())]}),
        json!({"then": [put(a.clone())], "or_else": [{"get": {"key": c}}]}),
        json!({"then": [put(a.clone()), {"txn": {"then": [put(b.clone())], "or_else": [put(c.clone())]}}]}),
    ];
    let revisions = |cluster: &mut Cluster| -> Vec<Value> {
        let of = [&first, &far].map(|key| cluster.get(1, &format!("/v1/kv/{key}?explain")));
        of.into_iter().map(|mut place| place["revision"].take()).collect()
    };
    let before = revisions(&mut cluster);
    for txn in &across {
        for through in 0..3 {
            let (status, problem) = cluster.ask(through, Method::POST, "/v1/txn", txn.to_string());
            assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{txn}: {problem}");
            assert_eq!(problem["type"], "urn:aspen:problem:cross-shard", "{problem}");
            let mut keys = problem["keys"].as_array().expect("a list").clone();
            keys.sort_by_key(|key| *key == c);
            assert_eq!(keys, [a.clone(), c.clone()], "{txn}");
        }
    }
    // A range that may be in all of them is named by where it begins.
    let wide = json!({"then": [put(a.clone()), {"range": {"prefix": "k/"}}]}).to_string();

    let (status, problem) = cluster.ask(0, Method::POST, "/v1/txn", wide.clone());
    assert_eq!(
        (status, &problem["keys"]),
        (StatusCode::UNPROCESSABLE_ENTITY, &json!(["k/"])),
        "{problem}"
    );
    for through in 0..3 {
        for key in [&first, &near, &far] {
            let (status, _) =
                cluster.ask(through, Method::GET, &format!("/v1/kv/{key}"), String::new());
            assert_eq!(status, StatusCode::NOT_FOUND, "{key}");
        }
    }
    assert_eq!(revisions(&mut cluster), before, "something was written");

    let sentence = "the keys are in different shards of the keyspace default; keys that have the \
                    same part in {braces} are in one; ";
    let run = |txn: &str| cluster.nodes.node(2).run(&["txn", txn]);
    let apart = format!("{sentence}\"{first}\" and \"k/\\xff{}\" are not", last as char);
    run(&across[0].to_string()).failed_with(1, &apart);
    run(&wide).failed_with(1, &format!("{sentence}what begins at \"k/\" is not"));
    // However long a key is, the sentence is not.
    let long = |n: usize| put(json!(format!("{n}{}", "long".repeat(1_000))));
    let longs: Vec<Value> = (0..16).map(long).collect();
    let refused = run(&json!({ "then": longs }).to_string());
    refused.refused_as("…\" and \"");
    assert!(refused.stderr.len() < 400, "{}", refused.stderr);
    assert_eq!(cluster.get(0, "/v1/kv")["records"], json!([]));
}
