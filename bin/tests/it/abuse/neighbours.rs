//! Others that use the node meanwhile, in a keyspace that no stranger names: they measure how long they
//! wait, and afterwards look for what they were promised.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use aspen::limits::VALUE_BYTES_MAX;
use bytes::Bytes;
use hyper::Method;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

use super::PARTS;
use super::requests::LARGE;
use crate::http::Http;

const OTHERS: u64 = 4;
/// Keys of each.
const KEYS: u64 = 50;
/// What they do beside their requests.
const PAUSE: Duration = Duration::from_millis(3);
/// How long anything may take on a machine with other work to do.
const DEADLINE: Duration = Duration::from_secs(60);

/// How long each request took, by parts; the first is what was before.
type Times = Arc<Mutex<Vec<Vec<Duration>>>>;
/// What is there by acknowledged writes.
type Written = BTreeMap<String, String>;

pub(super) struct Neighbours {
    tasks: Vec<JoinHandle<(u64, Written)>>,
    stop: Arc<AtomicBool>,
    times: Times,
}

impl Neighbours {
    /// Lets them begin; each has done something when this returns.
    pub(super) fn begin(runtime: &Runtime, url: &str, part: &Arc<AtomicUsize>) -> Self {
        runtime.block_on(async {
            let mut http = Http::to(url);
            let large = Bytes::from(vec![b'v'; VALUE_BYTES_MAX]);
            for (method, path, body) in [
                (Method::POST, "/v1/keyspaces", Bytes::from_static(br#"{"name":"others"}"#)),
                (Method::PUT, LARGE, large),
            ] {
                match timeout(DEADLINE, http.send(method, path, None, body)).await {
                    Ok(Ok(answer)) if answer.status == 201 => {}
                    Ok(Ok(answer)) => panic!("{path}: {answer}"),
                    Ok(Err(broken)) => panic!("{path}: {broken}"),
                    Err(_) => panic!("{path} is not answered in time"),
                }
            }
        });
        let stop: Arc<AtomicBool> = Arc::default();
        let times: Times = Arc::new(Mutex::new(vec![Vec::new(); PARTS + 1]));
        let begin = |number| {
            let one =
                Neighbour { number, stop: stop.clone(), times: times.clone(), part: part.clone() };
            runtime.spawn(one.live(Http::to(url)))
        };
        let tasks = (0..OTHERS).map(begin).collect();
        let begun =
            || times.lock().unwrap_or_else(PoisonError::into_inner)[0].len() as u64 > 10 * OTHERS;
        assert!(crate::support::until(begun), "nobody is served");
        Neighbours { tasks, stop, times }
    }

    /// What was up to now is not measured.
    pub(super) fn forget(&self) {
        self.times.lock().unwrap_or_else(PoisonError::into_inner)[0].clear();
    }

    /// Ends them, looks for all that was acknowledged, and gives how long they waited.
    pub(super) fn end(self, runtime: &Runtime, url: &str) -> Waits {
        self.stop.store(true, Ordering::SeqCst);
        let mut acknowledged = 0;
        for task in self.tasks {
            let (writes, written) = runtime.block_on(task).expect("no panic");
            acknowledged += writes;
            let mut http = Http::to(url);
            for (path, value) in written {
                let reading =
                    async { timeout(DEADLINE, http.send(Method::GET, &path, None, "")).await };
                match runtime.block_on(reading).expect("an answer in time") {
                    Ok(answer) => assert_eq!(answer.body, value.as_bytes(), "{path}: {answer}"),
                    Err(broken) => panic!("{path}: {broken}"),
                }
            }
        }
        let times = std::mem::take(&mut *self.times.lock().unwrap_or_else(PoisonError::into_inner));
        let mut most = times.into_iter().map(|mut times| {
            times.sort_unstable();
            let most = times.get(times.len() * 99 / 100).copied();
            most.filter(|_| times.len() >= 100)
        });
        let calm = most.next().flatten().expect("something was measured before");
        Waits { calm, meanwhile: most.collect(), acknowledged }
    }
}

/// How long others waited: 99 of 100 requests no longer than this.
pub(super) struct Waits {
    pub(super) calm: Duration,
    /// In each part since, unless there was too little to measure.
    pub(super) meanwhile: Vec<Option<Duration>>,
    /// How many of their writes were acknowledged.
    pub(super) acknowledged: u64,
}

struct Neighbour {
    number: u64,
    stop: Arc<AtomicBool>,
    times: Times,
    part: Arc<AtomicUsize>,
}

impl Neighbour {
    async fn live(self, mut http: Http) -> (u64, Written) {
        let mut written = Written::new();
        let mut round = 0;
        while !self.stop.load(Ordering::SeqCst) {
            let path = format!("/v1/kv/n{}/{}?keyspace=others", self.number, round % KEYS);
            let value = round.to_string();
            self.ask(&mut http, Method::PUT, &path, &value).await;
            let read = self.ask(&mut http, Method::GET, &path, "").await;
            assert_eq!(read, value, "{path}");
            written.insert(path, value);
            round += 1;
            sleep(PAUSE).await;
        }
        (round, written)
    }

    async fn ask(&self, http: &mut Http, method: Method, path: &str, body: &str) -> String {
        let began = Instant::now();
        let asking = timeout(DEADLINE, http.send(method, path, None, body.to_owned()));
        let answer = match asking.await.expect("an answer in time") {
            Ok(answer) if answer.status.is_success() => answer,
            Ok(answer) => panic!("{path}: {answer}"),
            Err(broken) => panic!("{path}: {broken}"),
        };
        let took = began.elapsed();
        let part = self.part.load(Ordering::Relaxed).min(PARTS);
        self.times.lock().unwrap_or_else(PoisonError::into_inner)[part].push(took);
        String::from_utf8(answer.body.to_vec()).expect("text")
    }
}
