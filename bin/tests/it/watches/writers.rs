//! Writers at all nodes: each puts, overwrites and deletes keys of its own, some of them two at once.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::oracle::Written;
use super::{DEADLINE, KEYSPACES, LOOK, PREFIXES, Watcher};
use crate::http::{Answer, Broken, Http};
use crate::support::{Node, until};

/// Pairs of keys that a writer has in hand at once, and writers at each node in each keyspace.
const PAIRS_IN_HAND: usize = 4;
const WRITERS: u64 = 2;

/// Where the nodes are now.
#[derive(Clone, Default)]
pub(super) struct Doors(Arc<Mutex<BTreeMap<u64, String>>>);

impl Doors {
    pub(super) fn set(&self, node: &Node) {
        let mut doors = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        doors.insert(node.id(), node.url().to_owned());
    }

    pub(super) fn of(&self, node: u64) -> Http {
        Http::to(&self.0.lock().unwrap_or_else(PoisonError::into_inner)[&node])
    }
}

/// Two keys of one shard, which are written one by one and now and then together.
type Pair = [Written; 2];

/// Writes keys of its own through one node, as long as the node is there.
struct Writer {
    doors: Doors,
    node: u64,
    keyspace: &'static str,
    name: String,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Writer {
    async fn run(self) -> Vec<Written> {
        let mut http = self.doors.of(self.node);
        let mut done: Vec<Written> = Vec::new();
        let mut made = 0;
        let mut new = || -> Pair {
            made += 1;
            // The braces keep both in one shard.
            let prefix = PREFIXES[made % PREFIXES.len()];
            ["a", "b"].map(|which| Written {
                keyspace: self.keyspace,
                key: format!("{prefix}{{{}-{made}}}{which}", self.name),
                acknowledged: Vec::new(),
                unknown: None,
            })
        };
        let mut in_hand: Vec<Pair> = (0..PAIRS_IN_HAND).map(|_| new()).collect();
        let mut round = 0;
        while !self.stop.load(Ordering::SeqCst) {
            for pair in &mut in_hand {
                let whose = [&[0_usize][..], &[1], &[0, 1]][round % 3];
                self.write_once(&mut http, pair, whose).await;
                if pair.iter().any(|written| written.unknown.is_some()) {
                    done.extend(std::mem::replace(pair, new()));
                }
            }
            round += 1;
        }
        done.extend(in_hand.into_iter().flatten());
        done
    }

    /// Puts these keys of the pair, or deletes them every third time.
    async fn write_once(&self, http: &mut Http, pair: &mut Pair, whose: &[usize]) {
        let changes: Vec<(usize, Option<String>)> = whose
            .iter()
            .map(|at| {
                let round = pair[*at].acknowledged.len();
                (*at, (round % 3 != 2).then(|| format!("{}-{round}", self.name)))
            })
            .collect();
        let (method, path, body) = self.request(pair, &changes);
        while !self.stop.load(Ordering::SeqCst) {
            let sending = http.send(method.clone(), &path, None, body.clone());
            let is_unknown = match timeout(DEADLINE, sending).await.expect("an answer in time") {
                Ok(answer) if answer.status.is_success() => {
                    let revision = revision_of(&answer);
                    for (at, value) in changes {
                        pair[at].acknowledged.push((revision, value));
                    }
                    self.acknowledged.fetch_add(whose.len() as u64, Ordering::SeqCst);
                    return;
                }
                Ok(answer) if answer.status == StatusCode::GATEWAY_TIMEOUT => true,
                // Nothing was done.
                Ok(answer) if answer.status == StatusCode::SERVICE_UNAVAILABLE => false,
                Ok(answer) => panic!("{method} {path}: {answer}"),
                Err(Broken::Unknown(_)) => true,
                Err(Broken::NotSent(_)) => {
                    sleep(LOOK).await;
                    *http = self.doors.of(self.node);
                    false
                }
            };
            if is_unknown {
                for (at, value) in changes {
                    pair[at].unknown = Some(value);
                }
                return;
            }
        }
    }

    fn request(
        &self,
        pair: &Pair,
        changes: &[(usize, Option<String>)],
    ) -> (Method, String, String) {
        let keyspace = format!("keyspace={}", self.keyspace);
        if let [(at, value)] = changes {
            let path = format!(
                "/v1/kv/{}?{keyspace}",
                pair[*at].key.replace('{', "%7B").replace('}', "%7D")
            );
            return match value {
                Some(value) => (Method::PUT, path, value.clone()),
                None => (Method::DELETE, path, String::new()),
            };
        }
        let ops: Vec<_> = changes
            .iter()
            .map(|(at, value)| match value {
                Some(value) => json!({ "put": { "key": pair[*at].key, "value": value } }),
                None => json!({ "delete": { "key": pair[*at].key } }),
            })
            .collect();
        (Method::POST, format!("/v1/txn?{keyspace}"), json!({ "then": ops }).to_string())
    }
}

fn revision_of(answer: &Answer) -> u64 {
    let revision = answer.headers.get("aspen-revision").and_then(|value| value.to_str().ok());
    revision.and_then(|text| text.parse().ok()).unwrap_or_else(|| panic!("no revision: {answer}"))
}

/// The writers at all nodes.
pub(super) struct Writing {
    tasks: Vec<JoinHandle<Vec<Written>>>,
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU64>,
}

impl Writing {
    pub(super) fn begin(runtime: &Runtime, doors: &Doors) -> Self {
        let (stop, acknowledged): (Arc<AtomicBool>, Arc<AtomicU64>) = Default::default();
        let mut tasks = Vec::new();
        for (keyspace, _) in KEYSPACES {
            for (node, number) in (1..=3).flat_map(|node| (0..WRITERS).map(move |of| (node, of))) {
                let writer = Writer {
                    doors: doors.clone(),
                    node,
                    keyspace,
                    name: format!("{node}-{number}"),
                    stop: stop.clone(),
                    acknowledged: acknowledged.clone(),
                };
                tasks.push(runtime.spawn(writer.run()));
            }
        }
        Writing { tasks, stop, acknowledged }
    }

    /// Waits until so much more is written, and some of it seen by each of these.
    #[track_caller]
    pub(super) fn goes_on(&self, watchers: &[Watcher], more: u64) {
        let count = |of: &AtomicU64| of.load(Ordering::SeqCst);
        let counts = || {
            let seen = watchers.iter().map(|watcher| count(&watcher.count));
            seen.chain([count(&self.acknowledged)]).collect::<Vec<u64>>()
        };
        let before = counts();
        // A watch sees the keys of one prefix in one keyspace only.
        let share = more / (2 * (KEYSPACES.len() * PREFIXES.len()) as u64);
        let wanted = |at| if at == watchers.len() { more } else { share.max(1) };
        let moved = || {
            let now = counts();
            now.iter().zip(&before).enumerate().all(|(at, (now, then))| *now >= then + wanted(at))
        };
        let failed = || watchers.iter().any(|watcher| watcher.task.is_finished());
        let mut last = counts();
        // It may take long as long as it goes on.
        while !moved() && !failed() {
            let is_on = until(|| counts() != last || failed());
            assert!(is_on, "from {before:?} to {:?}, and no further", counts());
            last = counts();
        }
        assert!(!failed(), "a watch has ended");
    }

    /// Ends it, and gives what was written, and how much was acknowledged.
    #[track_caller]
    pub(super) fn end(self, runtime: &Runtime) -> (Vec<Written>, u64) {
        self.stop.store(true, Ordering::SeqCst);
        let all = self.tasks.into_iter().map(|task| runtime.block_on(task).expect("no panic"));
        let all = all.flatten().collect();
        (all, self.acknowledged.load(Ordering::SeqCst))
    }
}
