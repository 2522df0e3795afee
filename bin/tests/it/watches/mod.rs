//! Watches over a keyspace of several shards and one of a single shard, while keys in all of them are
//! written, overwritten and deleted through every node, and leaders are killed: every change of every
//! key is shown, once, with what it replaced, in the order of each shard's revisions, however often the
//! watch is cut off and goes on elsewhere.
//!
//! Every key has one writer, which keeps what it was told of each write: its revision, and what it
//! wrote. That is what each watch must have shown of the key, no more and no less. Where an answer was
//! lost with its node the write may have been done; the key is then written no more.
//!
//! `ASPEN_WATCH_WRITES` and `ASPEN_WATCH_KILLS` set how many writes and kills there are.

mod idle;
mod oracle;
mod writers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aspen::client::{Watch, WatchRequest};
use aspen::machine::ops::KeyRange;
use aspen::{Client, KvClient};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::header::HeaderName;
use hyper::{Method, StatusCode};
use tokio::runtime::{Handle, Runtime};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use self::oracle::{FIRST, LAST, LAST_KEYS, Seen, Watched};
use self::writers::{Doors, Writing};
use crate::cluster::cluster;
use crate::dice::number;
use crate::shards::{Nodes, shards};
use crate::support::{Following, Node, until};

const KILLS: u64 = 3;
/// Least writes that are acknowledged.
const WRITES: u64 = 6_000;
/// The keyspaces, and how many shards they have.
const KEYSPACES: [(&str, usize); 2] = [("default", 4), ("single", 1)];
/// How keys begin; those of the last are watched by nobody.
const PREFIXES: [&str; 3] = ["w/", "v/", "other/"];
/// What most watch.
const SEVERAL: Watched = Watched { keyspace: "default", shards: 4, prefix: "w/" };
const SINGLE: Watched = Watched { keyspace: "single", shards: 1, prefix: "w/" };
/// How long anything may take on a machine with other work to do.
const DEADLINE: Duration = Duration::from_secs(60);
/// How long to wait before a node that was not there is asked again.
const LOOK: Duration = Duration::from_millis(2);

/// How a watch over HTTP begins.
#[derive(Clone, Copy)]
struct Begin {
    /// At which node.
    at: u64,
    /// Whether it leaves by itself, or only when it is cut off.
    leaves: bool,
}

/// Watches over HTTP, at one node after the other: it leaves each when the node is gone, or by itself
/// after a while, and goes on at the next with the id of the last event.
async fn over_http(doors: Doors, watched: Watched, begin: Begin, mut seen: Seen) -> Seen {
    let Watched { keyspace, prefix, shards } = watched;
    let path = format!("/v1/watch?keyspace={keyspace}&prefix={prefix}&prev");
    let mut at: Option<String> = None;
    let mut failures = 0;
    for turn in 0_u64.. {
        let id = at.as_deref().map(|id| (HeaderName::from_static("last-event-id"), id));
        let mut http = doors.of((begin.at + turn) % 3 + 1);
        let watch = http.begin(Method::GET, &path, id, Bytes::new());
        let body = match timeout(DEADLINE, watch).await.expect("an answer in time") {
            Ok((_, answer)) if answer.status() == StatusCode::OK => answer.into_body(),
            Ok((_, answer)) if answer.status() == StatusCode::SERVICE_UNAVAILABLE => continue,
            Ok((_, answer)) => panic!("a watch after {at:?} is answered {}", answer.status()),
            Err(_) => {
                failures += 1;
                sleep(LOOK).await;
                continue;
            }
        };
        seen.resumed += u32::from(at.is_some());
        let most = if begin.leaves { 1 + turn * 37 % 200 } else { u64::MAX };
        read_events(body, most, shards, &mut at, &mut seen).await;
        if seen.is_whole() {
            return seen;
        }
    }
    unreachable!("there is always another turn, after {failures} that failed")
}

/// Reads so many events of a stream, or up to its end.
async fn read_events(
    mut body: Incoming,
    most: u64,
    shards: usize,
    at: &mut Option<String>,
    seen: &mut Seen,
) {
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
                assert_eq!(id.split('.').count(), shards, "{id}");
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
        seen.add_batch(watch.shard() as u64, batch.expect("a watch goes on"));
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
    WatchRequest { range: KeyRange::prefix(SEVERAL.prefix), from: None, prev: true }
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
    /// Whether it goes on elsewhere; where that is not said, if it has to.
    moves: Option<bool>,
}

impl Watcher {
    fn begin<W>(
        runtime: &Runtime,
        who: &'static str,
        seen: Seen,
        watch: impl FnOnce(Seen) -> W,
    ) -> Self
    where
        W: Future<Output = Seen> + Send + 'static,
    {
        let count = seen.count.clone();
        Watcher { who, task: runtime.spawn(watch(seen)), count, moves: Some(true) }
    }

    fn moves(self, moves: Option<bool>) -> Self {
        Watcher { moves, ..self }
    }
}

/// Who leads a shard, by what the nodes say of themselves.
#[track_caller]
fn leader_of(nodes: &Nodes, keyspace: &str, shard: usize) -> u64 {
    let group = shards(nodes.any(), keyspace)[shard]["group"].clone();
    let leads = |node: &&Node| {
        let groups = cluster(node)["groups"].take();
        let mut groups = groups.as_array().into_iter().flatten();
        groups.any(|of| of["id"] == group && of["role"] == "leader")
    };
    let mut leader = None;
    let found = until(|| {
        leader = nodes.all().find(leads).map(Node::id);
        leader.is_some()
    });
    assert!(found, "nobody leads shard {shard} of {keyspace}");
    leader.unwrap_or_default()
}

#[test]
fn a_watch_shows_each_change_once_wherever_it_goes_on_and_however_often_leaders_are_killed() {
    let kills = number("ASPEN_WATCH_KILLS").unwrap_or(KILLS);
    let writes = number("ASPEN_WATCH_WRITES").unwrap_or(WRITES);
    let mut nodes = Nodes::start(3, &["--shards", &SEVERAL.shards.to_string()]);
    nodes.any().printed(&["keyspace", "create", SINGLE.keyspace]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let doors = Doors::default();
    nodes.all().for_each(|node| doors.set(node));
    let ticket = nodes.any().printed(&["ticket", "create", "--client"]);
    let ticket = ticket.trim();
    let runtime = Runtime::new().expect("a runtime");
    let client = runtime.block_on(Client::connect(&ticket.parse().expect("a ticket")));
    let client = client.expect("a client");
    let begin = || runtime.block_on(client.watch_as(request())).expect("a watch");

    let arguments = ["watch", "--prefix", SEVERAL.prefix, "--json", "--ticket", ticket];
    let followed = nodes.any().following(&arguments);
    let http = |who, of, at, leaves| {
        let watch = |seen| over_http(doors.clone(), of, Begin { at, leaves }, seen);
        let watcher = Watcher::begin(&runtime, who, Seen::of(of, true), watch);
        watcher.moves(leaves.then_some(true))
    };
    let library = |who, most, moves| {
        let watch = |seen| in_library(client.kv(), begin(), most, seen);
        Watcher::begin(&runtime, who, Seen::of(SEVERAL, true), watch).moves(Some(moves))
    };
    let command = |seen| by_the_command(followed, seen);
    let watchers = [
        http("over HTTP", SEVERAL, 0, true),
        http("over HTTP at node 1", SEVERAL, 0, false),
        http("over HTTP at node 2", Watched { prefix: "v/", ..SEVERAL }, 1, false),
        http("over HTTP at node 3", SINGLE, 2, false),
        http("over HTTP, of one shard", SINGLE, 1, true),
        library("in the library", None, false),
        library("in the library, cut off", Some(20), true),
        Watcher::begin(&runtime, "by the command", Seen::of(SEVERAL, false), command)
            .moves(Some(false)),
    ];
    // What comes before a watch has begun is not shown by it.
    let put = |keyspace: &str, key: String| {
        let kv = client.kv().keyspace(keyspace).expect("a keyspace");
        runtime.block_on(kv.put(key, "v").into_future()).expect("a write");
    };
    let put_all = |name: &str| {
        for (keyspace, _) in KEYSPACES {
            PREFIXES.iter().for_each(|prefix| put(keyspace, format!("{prefix}{name}")));
        }
    };
    let begun = || {
        put_all(FIRST);
        watchers.iter().all(|watcher| watcher.count.load(Ordering::SeqCst) > 0)
    };
    assert!(until(begun), "the watches don't begin");

    let writing = Writing::begin(&runtime, &doors);
    let share = writes / (2 * kills + 1) + 1;
    for kill in 0..kills {
        writing.goes_on(&watchers, share);
        let (keyspace, shards) = KEYSPACES[kill as usize % KEYSPACES.len()];
        let leader = leader_of(&nodes, keyspace, kill as usize % shards);
        let (dir, node) = nodes.take(leader);
        node.kill();
        writing.goes_on(&watchers, share);
        let back = Node::start(dir.path(), &[]);
        doors.set(&back);
        nodes.0.insert(leader, (dir, back));
    }
    writing.goes_on(&watchers, share);
    let (written, acknowledged) = writing.end(&runtime);
    assert!(acknowledged >= writes, "only {acknowledged} writes were acknowledged");
    (0..LAST_KEYS).for_each(|key| put_all(&format!("{LAST}{key}")));

    let mut cut_off = 0;
    for Watcher { who, task, moves, .. } in watchers {
        let seen = runtime.block_on(async { timeout(DEADLINE, task).await });
        let seen = seen.expect("it shows all in time").expect("no panic");
        let shown = seen.is_what_was(who, &written);
        println!("{who}: {shown} changes of {acknowledged}, went on {} times", seen.resumed);
        match moves {
            Some(moves) => assert_eq!(seen.resumed > 0, moves, "{who}: {}", seen.resumed),
            None => cut_off += seen.resumed,
        }
    }
    assert!(cut_off > 0, "no kill cut a watch off");
    runtime.block_on(client.close());
}
