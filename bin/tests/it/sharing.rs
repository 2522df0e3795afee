//! What all groups of a node share, counted from outside: one log with one fsync for what is queued of
//! all, and one message a member with the heartbeats of all.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use hyper::{Method, StatusCode};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::cluster::cluster;
use crate::http::Http;
use crate::metrics::Scraping;
use crate::shards::Nodes;
use crate::support::{Node, until};

#[test]
fn an_fsync_is_for_what_many_writers_wrote_to_many_shards() {
    const WRITERS: usize = 64;
    const SHARDS: u32 = 32;
    const WRITES: u64 = 3_000;
    // Two writers are at a shard, each with one write under way: a sync for more is for several shards.
    const WRITES_A_SYNC: f64 = 3.0;
    let nodes = Nodes::start(1, &["--shards", &SHARDS.to_string()]);
    let node = nodes.any();
    let scraping = Scraping { runtime: Runtime::new().expect("a runtime") };
    let (stop, written) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let writer = |number: usize| {
        let (mut http, stop, written) = (Http::to(node.url()), stop.clone(), written.clone());
        scraping.runtime.spawn(async move {
            for round in 0_u64.. {
                if stop.load(Ordering::SeqCst) {
                    break;
                }
                let path = format!("/v1/kv/{number}/{}", round % 16);
                let answer = http.send(Method::PUT, &path, None, "v").await;
                let answer = answer.unwrap_or_else(|broken| panic!("{broken}"));
                assert!(answer.status.is_success(), "{answer}");
                written.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    let tasks: Vec<_> = (0..WRITERS).map(writer).collect();
    let count = || written.load(Ordering::SeqCst);
    let reaches = |count_to: u64| {
        let is_there = || count() >= count_to || tasks.iter().any(|task| task.is_finished());
        assert!(until(is_there) && count() >= count_to, "{} of {count_to} writes", count());
    };
    // Sessions are opened and states are made by then.
    reaches(WRITES);
    // Whatever was written between the two looks at the count was synced between the two at the page.
    let syncs = || scraping.page(node).sum("aspen_log_sync_seconds_count", &[]);
    let syncs_before = syncs();
    let before = count();
    reaches(before + WRITES);
    let writes = (count() - before) as f64;
    let syncs = syncs() - syncs_before;
    stop.store(true, Ordering::SeqCst);
    for task in tasks {
        scraping.runtime.block_on(task).expect("no panic");
    }
    assert!(writes >= WRITES_A_SYNC * syncs, "{writes} writes took {syncs} syncs");
}

/// Packets that all nodes together send each other in a second, while it is counted to so many.
#[track_caller]
fn packets_a_second(nodes: &Nodes, scraping: &Scraping, packets: f64) -> f64 {
    let sent = || -> f64 {
        let pages = scraping.pages(nodes);
        pages.iter().map(|page| page.sum("aspen_peer_sent_packets_total", &[])).sum()
    };
    let (before, began) = (sent(), Instant::now());
    let mut more = 0.0;
    let in_time = until(|| {
        more = sent() - before;
        more >= packets
    });
    assert!(in_time, "{more} packets of {packets}");
    more / began.elapsed().as_secs_f64()
}

/// Asks until the node is not too busy to do it.
#[track_caller]
fn answered(
    node: &Node,
    scraping: &Scraping,
    method: Method,
    path: &str,
    body: &'static str,
) -> Value {
    let mut last = (StatusCode::OK, Value::Null);
    let in_time = until(|| {
        last = scraping.send(node, method.clone(), path, body);
        last.0.is_success()
    });
    assert!(in_time, "{path}: {last:?}");
    last.1
}

/// Grants a lease in each shard of a keyspace: a group with a lease does not sleep, and nothing happens
/// in it.
#[track_caller]
fn keep_awake(node: &Node, scraping: &Scraping, keyspace: &str, shards: usize) {
    let mut leased = BTreeSet::new();
    for number in 0.. {
        let path = format!("/v1/kv/{number}?keyspace={keyspace}&explain");
        let place = answered(node, scraping, Method::GET, &path, "");
        if leased.insert(place["shard"].as_u64()) {
            let path = format!("/v1/leases?keyspace={keyspace}&near={number}");
            // One more than asked for, where an answer was lost, does as well.
            answered(node, scraping, Method::POST, &path, r#"{"ttl_ms": 3600000}"#);
        }
        if leased.len() == shards {
            return;
        }
    }
}

#[test]
fn heartbeats_of_many_groups_are_few_packets() {
    const FEW: usize = 2;
    const MANY: usize = 32;
    const PACKETS: f64 = 600.0;
    // Eleven times the groups, with the meta group, and each by itself would send as much more. Clocks
    // of groups tick together, five or six times a heartbeat, and each group's heartbeat is due at one
    // of these: so often at most a node tells a member of all that it leads, however many they are.
    const TIMES_MAX: f64 = 6.0;
    let nodes = Nodes::start(3, &[]);
    nodes.wait_for_spread(&[1, 2, 3], 3);
    let scraping = Scraping { runtime: Runtime::new().expect("a runtime") };
    let steps = [("few", FEW), ("many", MANY - FEW)];
    for (name, shards) in steps {
        nodes.any().printed(&["keyspace", "create", name, "--shards", &shards.to_string()]);
    }
    let are_settled = || {
        let (_, answer) = scraping.send(nodes.any(), Method::GET, "/v1/keyspaces", "");
        let keyspaces = answer["keyspaces"].as_array().cloned().unwrap_or_default();
        keyspaces.iter().all(|keyspace| keyspace["settled"] == keyspace["shards"])
    };
    assert!(until(are_settled), "not all shards are in their places");
    // Beside these the meta group is, which never sleeps.
    let are_awake = |awake: usize| {
        let awake_on = |node: &Node| {
            let groups = cluster(node)["groups"].take();
            let groups = groups.as_array().cloned().unwrap_or_default();
            (groups.len(), groups.iter().filter(|group| group["asleep"] == false).count())
        };
        let is_so = |node: &Node| awake_on(node) == (2 + MANY, awake + 1);
        let all = || nodes.all().map(awake_on).collect::<Vec<_>>();
        // Groups that were made a moment ago have elections before they sleep.
        let in_time = || until(|| nodes.all().all(is_so));
        assert!(in_time() || in_time(), "not {awake} and one are awake: {:?}", all());
    };
    let mut awake = 0;
    let [of_few, of_many] = steps.map(|(name, shards)| {
        keep_awake(nodes.any(), &scraping, name, shards);
        awake += shards;
        are_awake(awake);
        let rate = packets_a_second(&nodes, &scraping, PACKETS);
        are_awake(awake);
        rate
    });
    assert!(of_many <= of_few * TIMES_MAX, "from {of_few} to {of_many} packets a second");
}
