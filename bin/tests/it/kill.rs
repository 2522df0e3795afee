//! Kills a node with SIGKILL at random moments while eight clients write, and looks afterwards.
//!
//! After every restart each acknowledged write is there, overwritten ones at their revision too;
//! no refused one is, and one whose outcome is unknown was applied once or not at all. Some
//! restarts are killed as well, in the middle of recovery.
//!
//! `ASPEN_KILL_ROUNDS` sets how often it is killed, `ASPEN_KILL_SEED` repeats a run's choices. What
//! a killed process leaves to the kernel survives it: losing that is the business of the crash
//! images.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::future::join_all;
use reqwest::{Client, Response, StatusCode};
use tokio::time::sleep;

use crate::running::Node;

const CLIENTS: usize = 8;
/// Few, so that they are overwritten, deleted and made again all the time.
const KEYS_OF_A_CLIENT: usize = 6;
const ROUNDS: usize = 5;

#[tokio::test]
async fn every_acknowledged_write_outlives_a_kill_and_no_refused_one_does() {
    let rounds = number("ASPEN_KILL_ROUNDS").map_or(ROUNDS, |rounds| rounds as usize);
    let seed = number("ASPEN_KILL_SEED").unwrap_or(1);
    let mut dice = Dice(seed);
    let data = tempfile::tempdir().expect("a directory for the test");
    let repeat = format!("repeat with ASPEN_KILL_SEED={seed} ASPEN_KILL_ROUNDS={rounds}");

    let mut clients: Vec<Writer> = (0..CLIENTS).map(|id| Writer::new(id, dice.next())).collect();
    let mut node = Node::start(data.path()).await.expect("the first start");
    let (mut acknowledged, mut refused, mut unknown) = (0, 0, 0);
    for round in 1..=rounds {
        let url = node.url.clone();
        let writing = join_all(clients.iter_mut().map(|client| client.write_until_gone(&url)));
        let killing = async {
            sleep(Duration::from_millis(20 + dice.below(400))).await;
            let running = matches!(node.child.try_wait(), Ok(None));
            assert!(running, "round {round}: it ended by itself: {node}; {repeat}");
            node.kill();
        };
        tokio::join!(writing, killing);
        drop(node);

        if dice.below(4) == 0 {
            let mut starting = Node::spawn(data.path());
            sleep(Duration::from_millis(dice.below(150))).await;
            starting.kill();
        }
        node = Node::start(data.path())
            .await
            .unwrap_or_else(|why| panic!("round {round}: no restart: {why}; {repeat}"));
        let mut revisions = BTreeSet::new();
        for client in &mut clients {
            for written in &client.written {
                assert!(
                    revisions.insert(written.revision),
                    "round {round}: revision {} was given twice; {repeat}",
                    written.revision
                );
            }
            acknowledged += client.written.len();
            refused += client.refused;
            unknown += client.keys.iter().filter(|key| key.maybe.is_some()).count();
            if let Err(why) = client.look(&node.url).await {
                panic!("round {round}: {why}; {repeat}");
            }
        }
    }
    node.stop().await;
    println!(
        "{rounds} kills: {acknowledged} acknowledged writes, {refused} refused, {unknown} unknown"
    );
    assert!(acknowledged > rounds && refused > 0, "hardly anything was written; {repeat}");
}

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} is a whole number, not {text}")))
}

/// A seeded sequence (SplitMix64): a failure is repeated as far as the scheduler lets it.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}

/// One client: the only writer of its keys, so that it knows what must be there.
struct Writer {
    id: usize,
    dice: Dice,
    http: Client,
    /// Numbers its values, so that each is written once.
    count: u64,
    keys: Vec<KeyState>,
    /// The acknowledged writes of this round.
    written: Vec<Written>,
    /// How many writes of this round were refused.
    refused: usize,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct KeyState {
    present: Stored,
    /// What is there if the write whose outcome is unknown was done.
    maybe: Option<Stored>,
}

/// What is stored under a key; version 0 is nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Stored {
    value: String,
    version: u64,
}

/// An acknowledged write of a value.
#[derive(Debug)]
struct Written {
    key: usize,
    value: String,
    revision: u64,
}

/// What came of one write.
enum Fate {
    Done { revision: u64 },
    Refused,
    Unknown,
    NotDone,
}

impl Writer {
    fn new(id: usize, seed: u64) -> Self {
        Writer {
            id,
            dice: Dice(seed),
            http: Client::builder().no_proxy().build().expect("a plain client"),
            count: 0,
            keys: vec![KeyState::default(); KEYS_OF_A_CLIENT],
            written: Vec::new(),
            refused: 0,
        }
    }

    fn url(&self, node: &str, key: usize) -> String {
        format!("{node}/v1/kv/kill/{}/{key}", self.id)
    }

    /// Writes until the node does not answer.
    async fn write_until_gone(&mut self, node: &str) {
        self.written.clear();
        self.refused = 0;
        loop {
            let key = self.dice.below(KEYS_OF_A_CLIENT as u64) as usize;
            self.count += 1;
            let value = format!("{}-{}", self.id, self.count);
            let url = self.url(node, key);
            let present = self.keys[key].present.clone();
            let exists = present.version > 0;
            // Each write with the condition it has, and whether that condition holds.
            let (request, holds) = match self.dice.below(10) {
                0 => (self.http.delete(url), true),
                1..=3 => {
                    (self.http.put(url).header("If-None-Match", "*").body(value.clone()), !exists)
                }
                4 => (
                    // No key is ever at this revision.
                    self.http.put(url).header("If-Match", "\"9000000000\"").body(value.clone()),
                    false,
                ),
                5 => (self.http.put(url).header("If-Match", "*").body(value.clone()), exists),
                _ => (self.http.put(url).body(value.clone()), true),
            };
            let request = request.build().expect("the request is well-formed");
            let deleting = request.method() == reqwest::Method::DELETE;
            let after = match deleting {
                true => Stored::default(),
                false => Stored { value: value.clone(), version: present.version + 1 },
            };
            match send(&self.http, request).await {
                Fate::Done { revision } => {
                    assert!(holds, "a write was done whose condition does not hold: {value}");
                    self.keys[key].present = after;
                    if !deleting {
                        self.written.push(Written { key, value, revision });
                    }
                }
                Fate::Refused => {
                    assert!(!holds, "a write was refused whose condition holds: {value}");
                    self.refused += 1;
                }
                Fate::Unknown => {
                    if holds {
                        self.keys[key].maybe = Some(after);
                    }
                    return;
                }
                Fate::NotDone => return,
            }
        }
    }

    /// Compares what is there with what must be, and takes what is there for the next round.
    async fn look(&mut self, node: &str) -> Result<(), String> {
        for (at, key) in self.keys.iter().enumerate() {
            let found = read(&self.http, &self.url(node, at)).await?;
            if found != key.present && key.maybe.as_ref() != Some(&found) {
                return Err(format!("client {} key {at}: {found:?} where {key:?}", self.id));
            }
        }
        for written in &self.written {
            let url = format!("{}?revision={}", self.url(node, written.key), written.revision);
            let found = read(&self.http, &url).await?;
            if found.value != written.value {
                return Err(format!("client {}: {found:?} where {written:?}", self.id));
            }
        }
        for at in 0..self.keys.len() {
            let present = read(&self.http, &self.url(node, at)).await?;
            self.keys[at] = KeyState { present, maybe: None };
        }
        Ok(())
    }
}

async fn send(http: &Client, request: reqwest::Request) -> Fate {
    let response = match http.execute(request).await {
        Ok(response) => response,
        Err(error) if error.is_connect() => return Fate::NotDone,
        Err(_) => return Fate::Unknown,
    };
    match response.status() {
        StatusCode::OK | StatusCode::CREATED => match header(&response, "aspen-revision") {
            Some(revision) => Fate::Done { revision },
            None => panic!("a write's answer has no revision: {response:?}"),
        },
        StatusCode::PRECONDITION_FAILED => Fate::Refused,
        StatusCode::GATEWAY_TIMEOUT => Fate::Unknown,
        // Not admitted, and so without effect: the node is on its way down.
        StatusCode::SERVICE_UNAVAILABLE => Fate::NotDone,
        status => panic!("a write was answered {status}"),
    }
}

async fn read(http: &Client, url: &str) -> Result<Stored, String> {
    let response = http.get(url).send().await.map_err(|error| format!("{url}: {error}"))?;
    match response.status() {
        StatusCode::NOT_FOUND => Ok(Stored::default()),
        StatusCode::OK => {
            let version = header(&response, "aspen-version").ok_or("no version was answered")?;
            let value = response.text().await.map_err(|error| format!("{url}: {error}"))?;
            Ok(Stored { value, version })
        }
        status => Err(format!("{url} was answered {status}")),
    }
}

fn header(response: &Response, name: &str) -> Option<u64> {
    response.headers().get(name)?.to_str().ok()?.parse().ok()
}
