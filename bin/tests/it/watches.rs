//! Watches over a keyspace of several shards, while keys in all of them are written, overwritten and
//! deleted through every node and each node is killed once: every change of every key is shown, once,
//! in the order of the key's revisions, however often the watch is cut off and goes on elsewhere.
//!
//! Every key has one writer, which keeps what it was told of each write: its revision, and what it
//! wrote. That is what each watch must have shown of the key, no more and no less. Where an answer was
//! lost with its node the write may have been done; the key is then written no more.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aspen::client::{Watch, WatchBatch, WatchRequest};
use aspen::machine::ops::KeyRange;
use aspen::{Client, KvClient};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderName;
use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::http::{Answer, Broken, Http};
use crate::shards::Nodes;
use crate::support::{Following, Node, until};

const SHARDS: usize = 4;
/// The keys that are watched; others are written too.
const WATCHED: &str = "w/";
/// What is written until all watches show it, and have begun.
const FIRST: &str = "w/first";
/// What is written last of all, so many keys that every shard has some. A shard's changes are shown
/// in order, so whoever has seen these has seen all.
const LAST: &str = "w/last/";
const LAST_KEYS: usize = 32;
/// Keys that a writer has in hand at once, and writers at each node.
const KEYS_IN_HAND: u64 = 6;
const WRITERS: u64 = 2;
/// How long anything may take on a machine with other work to do.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long to wait before a node that was not there is asked again.
const LOOK: Duration = Duration::from_millis(2);

/// A change of a key: its revision, and the value unless it was deleted.
type Change = (u64, Option<String>);

/// Where the nodes are now.
#[derive(Clone, Default)]
struct Doors(Arc<Mutex<BTreeMap<u64, String>>>);

impl Doors {
    fn set(&self, node: &Node) {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doors.insert(node.id(), node.url().to_owned());
    }

    fn of(&self, node: u64) -> Http {
        Http::to(&self.0.lock().unwrap_or_else(PoisonError::into_inner)[&node])
    }
}

/// A key, as its only writer knows it.
struct Written {
    key: String,
    acknowledged: Vec<Change>,
    /// The last write, if nobody knows whether it was done.
    unknown: Option<Option<String>>,
}

/// Writes keys of its own through one node, as long as the node is there.
struct Writer {
    doors: Doors,
    node: u64,
    name: String,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Writer {
    async fn run(self) -> Vec<Written> {
        let mut http = self.doors.of(self.node);
        let mut done = Vec::new();
        let mut made = 0;
        let mut new = || {
            made += 1;
            // Of three keys two are watched.
            let prefix = if made % 3 == 0 { "other/" } else { WATCHED };
            let key = format!("{prefix}{}-{made}", self.name);
            Written { key, acknowledged: Vec::new(), unknown: None }
        };
        let mut in_hand: Vec<Written> = (0..KEYS_IN_HAND).map(|_| new()).collect();
        while !self.stop.load(Ordering::SeqCst) {
            for written in &mut in_hand {
                self.write_once(&mut http, written).await;
                if written.unknown.is_some() {
                    done.push(std::mem::replace(written, new()));
                }
            }
        }
        done.extend(in_hand);
        done
    }

    /// Writes the key, or deletes it every third time.
    async fn write_once(&self, http: &mut Http, written: &mut Written) {
        let round = written.acknowledged.len();
        let value = (round % 3 != 2).then(|| round.to_string());
        let path = format!("/v1/kv/{}", written.key);
        let method = if value.is_some() { Method::PUT } else { Method::DELETE };
        let body = value.clone().unwrap_or_default();
        while !self.stop.load(Ordering::SeqCst) {
            let sending = http.send(method.clone(), &path, None, body.clone());
            match timeout(DEADLINE, sending).await.expect("an answer in time") {
                Ok(answer) if answer.status.is_success() => {
                    written.acknowledged.push((revision_of(&answer), value));
                    self.acknowledged.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                Ok(answer) if answer.status == StatusCode::GATEWAY_TIMEOUT => {
                    written.unknown = Some(value);
                    return;
                }
                // Nothing was done.
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => {}
                Ok(answer) => panic!("{method} {path}: {answer}"),
                Err(Broken::Unknown(_)) => {
                    written.unknown = Some(value);
                    return;
                }
                Err(Broken::NotSent(_)) => {
                    sleep(LOOK).await;
                    *http = self.doors.of(self.node);
                }
            }
        }
    }
}

fn revision_of(answer: &Answer) -> u64 {
    let revision = answer.headers.get("aspen-revision").and_then(|value| value.to_str().ok());
    revision.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no revision: {answer}"))
}

/// What a watch has shown.
#[derive(Default)]
struct Seen {
    changes: BTreeMap<String, Vec<Change>>,
    last: BTreeSet<String>,
    /// The shards of all that, where they are told.
    shards: BTreeSet<u64>,
    /// From how many places it was gone on.
    resumed: u32,
    /// How much was seen, for others to follow.
    count: Arc<AtomicU64>,
}

impl Seen {
    fn add(&mut self, revision: u64, key: String, value: Option<String>) {
        if key == FIRST {
            // Whoever begins later is shown it less often.
        } else if key.starts_with(LAST) {
            assert!(self.last.insert(key.clone()), "{key} is shown twice");
        } else {
            assert!(key.starts_with(WATCHED), "{key} is not watched");
            self.changes.entry(key).or_default().push((revision, value));
        }
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    fn add_batch(&mut self, batch: WatchBatch) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        for event in batch.events {
            let value = event.record.map(|record| text(record.value.as_bytes()));
            self.add(event.revision, text(event.key.as_bytes()), value);
        }
    }

    /// What the HTTP interface and the command tell of one revision, as JSON.
    fn add_json(&mut self, change: &str) {
        let change: Value = serde_json::from_str(change).expect("JSON");
        let revision = change["revision"].as_u64().expect("a revision");
        self.shards.insert(change["shard"].as_u64().expect("a shard"));
        for event in change["events"].as_array().expect("a list") {
            let key = event["key"].as_str().expect("a key").to_owned();
            let value = event["record"]["value"].as_str().map(str::to_owned);
            assert_eq!(event["type"], if value.is_some() { "put" } else { "delete" }, "{event}");
            self.add(revision, key, value);
        }
    }

    fn is_whole(&self) -> bool {
        self.last.len() == LAST_KEYS
    }

    /// Holds what was shown against what was written.
    #[track_caller]
    fn is_what_was(&self, who: &str, written: &[Written]) {
        let mut keys = 0;
        for Written { key, acknowledged, unknown } in written {
            let shown = self.changes.get(key).map_or(&[][..], Vec::as_slice);
            if !key.starts_with(WATCHED) {
                assert!(shown.is_empty(), "{who} was shown {key}");
                continue;
            }
            keys += usize::from(!shown.is_empty());
            let (shown_of_these, more) = shown.split_at(shown.len().min(acknowledged.len()));
            assert_eq!(shown_of_these, acknowledged, "{who}, {key}");
            match (more, unknown) {
                ([], _) => {}
                ([(revision, value)], Some(unknown)) => {
                    let before = acknowledged.last().map_or(0, |(revision, _)| *revision);
                    assert!(value == unknown && *revision > before, "{who}, {key}: {more:?}");
                }
                _ => panic!("{who} was shown what nobody wrote to {key}: {more:?}"),
            }
        }
        assert_eq!(keys, self.changes.len(), "{who} was shown keys that nobody wrote");
    }
}

/// Watches over HTTP, at one node after the other: it leaves each by itself after a while, or when the
/// node is gone, and goes on at the next with the id of the last event.
async fn over_http(doors: Doors, mut seen: Seen) -> Seen {
    let path = format!("/v1/watch?prefix={WATCHED}");
    let mut at: Option<String> = None;
    for turn in 1_u64.. {
        let id = at.as_deref().map(|id| (HeaderName::from_static("last-event-id"), id));
        let mut http = doors.of(turn % 3 + 1);
        let watch = http.begin(Method::GET, &path, id, Bytes::new());
        let body = match timeout(DEADLINE, watch).await.expect("an answer in time") {
            Ok((_, answer)) if answer.status() == StatusCode::OK => answer.into_body(),
            Ok((_, answer)) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => continue,
            Ok((_, answer)) => panic!("a watch after {at:?} is answered {}", answer.status()),
            Err(_) => {
                sleep(LOOK).await;
                continue;
            }
        };
        seen.resumed += u32::from(at.is_some());
        read_events(body, 1 + turn * 37 % 200, &mut at, &mut seen).await;
        if seen.is_whole() {
            return seen;
        }
    }
    unreachable!("there is always another turn")
}

/// Reads so many events of a stream, or up to its end.
async fn read_events(mut body: Incoming, most: u64, at: &mut Option<String>, seen: &mut Seen) {
    let (mut text, mut read) = (String::new(), 0);
    while read < most && !seen.is_whole() {
        let frame = timeout(DEADLINE, body.frame()).await.expect("an event or a comment in time");
        let Some(Ok(frame)) = frame else { return };
        let Ok(data) = frame.into_data() else { continue };
        text.push_str(std::str::from_utf8(&data).expect("text"));
        while let Some((event, rest)) = text.split_once("\n\n") {
            let field = |name| event.lines().find_map(|line| line.strip_prefix(name));
            match field("event: ") {
                Some("change") => seen.add_json(field("data: ").expect("data")),
                Some("progress") => {}
                // The node can't go on with it.
                Some("error") => return,
                Some(other) => panic!("{other}: {event}"),
                None => assert!(event.starts_with(':'), "{event}"),
            }
            if let Some(id) = field("id: ") {
                assert_eq!(id.split('.').count(), SHARDS, "{id}");
                *at = Some(id.to_owned());
            }
            read += 1;
            text = rest.to_owned();
            if read >= most {
                // What else has come is thrown away with the connection.
                return;
            }
        }
    }
}

/// Watches as a program with a ticket. One that is given up goes on from its position.
async fn in_library(kv: KvClient, mut watch: Watch, most: Option<usize>, mut seen: Seen) -> Seen {
    let mut read = 0;
    while !seen.is_whole() {
        let batch = timeout(DEADLINE, watch.next()).await.expect("a change in time");
        seen.add_batch(batch.expect("a watch goes on"));
        read += 1;
        if Some(read) == most {
            read = 0;
            seen.resumed += 1;
            let position = watch.position().clone();
            drop(watch);
            watch = kv.watch_after(request(), &position).await.expect("it goes on");
        }
    }
    seen
}

fn request() -> WatchRequest {
    WatchRequest { range: KeyRange::prefix(WATCHED), from: None, prev: false }
}

/// Follows the command, which finds the nodes by a ticket.
async fn by_the_command(mut watch: Following, mut seen: Seen) -> Seen {
    let read = move || {
        while !seen.is_whole() {
            seen.add_json(&watch.line());
        }
        seen
    };
    Handle::current().spawn_blocking(read).await.expect("no panic")
}

/// A watch that runs, and how much it has seen.
struct Watcher {
    who: &'static str,
    task: JoinHandle<Seen>,
    count: Arc<AtomicU64>,
}

impl Watcher {
    fn begin<W>(runtime: &Runtime, who: &'static str, watch: impl FnOnce(Seen) -> W) -> Self
    where
        W: Future<Output = Seen> + Send + 'static,
    {
        let seen = Seen::default();
        let count = seen.count.clone();
        Watcher { who, task: runtime.spawn(watch(seen)), count }
    }
}

/// The writers at all nodes.
struct Writing {
    tasks: Vec<JoinHandle<Vec<Written>>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Writing {
    fn begin(runtime: &Runtime, doors: &Doors) -> Self {
        let (stop, acknowledged) = (Arc::default(), Arc::default());
        let writers = (1..=3).flat_map(|node| (0..WRITERS).map(move |number| (node, number)));
        let tasks = writers.map(|(node, number)| {
            let name = format!("{node}-{number}");
            let (doors, stop) = (doors.clone(), Arc::clone(&stop));
            let acknowledged = Arc::clone(&acknowledged);
            runtime.spawn(Writer { doors, node, name, stop, acknowledged }.run())
        });
        Writing { tasks: tasks.collect(), stop, acknowledged }
    }

    /// Waits until so much more is written, and seen by each of these.
    #[track_caller]
    fn goes_on(&self, watchers: &[Watcher], more: u64) {
        let counts = || {
            let seen = watchers.iter().map(|watcher| watcher.count.load(Ordering::SeqCst));
            let acknowledged = self.acknowledged.load(Ordering::SeqCst);
            seen.chain([acknowledged]).collect::<Vec<u64>>()
        };
        let before = counts();
        let moved = || counts().iter().zip(&before).all(|(now, before)| *now >= before + more);
        let failed = || watchers.iter().any(|watcher| watcher.task.is_finished());
        assert!(until(|| moved() || failed()), "from {before:?} to {:?}", counts());
        assert!(!failed(), "a watch has ended");
    }

    /// Ends it, and gives what was written.
    #[track_caller]
    fn end(self, runtime: &Runtime) -> Vec<Written> {
        self.stop.store(true, Ordering::SeqCst);
        let all = self.tasks.into_iter().map(|task| runtime.block_on(task).expect("no panic"));
        all.flatten().collect()
    }
}

#[test]
fn a_watch_of_several_shards_shows_each_change_once_wherever_it_goes_on_and_whoever_is_killed() {
    let mut nodes = Nodes::start(3, &["--shards", &SHARDS.to_string()]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let doors = Doors::default();
    nodes.all().for_each(|node| doors.set(node));
    let ticket = nodes.any().printed(&["ticket", "create", "--client"]);
    let ticket = ticket.trim();
    let runtime = Runtime::new().expect("a runtime");
    let client = runtime.block_on(Client::connect(&ticket.parse().expect("a ticket")));
    let client = client.expect("a client");
    let begin = || runtime.block_on(client.watch_as(request())).expect("a watch");

    let arguments = ["watch", "--prefix", WATCHED, "--json", "--ticket", ticket];
    let followed = nodes.any().following(&arguments);
    let watchers = [
        Watcher::begin(&runtime, "over HTTP", |seen| over_http(doors.clone(), seen)),
        Watcher::begin(&runtime, "in the library", |seen| {
            in_library(client.kv(), begin(), None, seen)
        }),
        Watcher::begin(&runtime, "in the library, cut off", |seen| {
            in_library(client.kv(), begin(), Some(20), seen)
        }),
        Watcher::begin(&runtime, "by the command", |seen| by_the_command(followed, seen)),
    ];
    // What comes before a watch has begun is not shown by it.
    let begun = || {
        nodes.any().printed(&["put", FIRST, "v"]);
        watchers.iter().all(|watcher| watcher.count.load(Ordering::SeqCst) > 0)
    };
    assert!(until(begun), "the watches don't begin");

    let writing = Writing::begin(&runtime, &doors);
    for number in 1..=3 {
        writing.goes_on(&watchers, 300);
        // It serves one of the watches, and leads a shard.
        let (dir, node) = nodes.take(number);
        node.kill();
        writing.goes_on(&watchers, 300);
        let back = Node::start(dir.path(), &[]);
        doors.set(&back);
        nodes.0.insert(number, (dir, back));
        nodes.wait_for_spread(&[1, 2, 3], 3);
    }
    writing.goes_on(&watchers, 300);
    let written = writing.end(&runtime);
    (0..LAST_KEYS).for_each(|key| {
        let put = client.put(format!("{LAST}{key}"), "v").into_future();
        runtime.block_on(put).expect("a write");
    });

    for watcher in watchers {
        let seen = runtime.block_on(async { timeout(DEADLINE, watcher.task).await });
        let seen = seen.expect("it shows all in time").expect("no panic");
        seen.is_what_was(watcher.who, &written);
        let is_cut_off = ["over HTTP", "in the library, cut off"].contains(&watcher.who);
        assert_eq!(seen.resumed > 3, is_cut_off, "{} went on {} times", watcher.who, seen.resumed);
        let shards = if seen.shards.is_empty() { SHARDS } else { seen.shards.len() };
        assert_eq!(shards, SHARDS, "{}", watcher.who);
    }
    runtime.block_on(client.close());
}
