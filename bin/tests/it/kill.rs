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
use hyper::header::{HeaderName, IF_MATCH, IF_NONE_MATCH};
use hyper::{Method, StatusCode};
use tokio::time::sleep;

use crate::dice::{Dice, number};
use crate::http::{Answer, Broken, Http};
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
            // When it is killed is what a round tries out.
            sleep(Duration::from_millis(20 + dice.below(400))).await;
            let running = matches!(node.child.try_wait(), Ok(None));
            assert!(running, "round {round}: it ended by itself: {node}; {repeat}");
            node.kill();
        };
        tokio::join!(writing, killing);
        drop(node);

        if dice.below(4) == 0 {
            // The same, anywhere in a start.
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

/// One client: the only writer of its keys, so that it knows what must be there.
struct Writer {
    id: usize,
    dice: Dice,
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
            count: 0,
            keys: vec![KeyState::default(); KEYS_OF_A_CLIENT],
            written: Vec::new(),
            refused: 0,
        }
    }

    fn path(&self, key: usize) -> String {
        format!("/v1/kv/kill/{}/{key}", self.id)
    }

    /// Writes until the node does not answer.
    async fn write_until_gone(&mut self, node: &str) {
        self.written.clear();
        self.refused = 0;
        let mut http = Http::to(node);
        loop {
            let key = self.dice.below(KEYS_OF_A_CLIENT as u64) as usize;
            self.count += 1;
            let value = format!("{}-{}", self.id, self.count);
            let path = self.path(key);
            let present = self.keys[key].present.clone();
            let exists = present.version > 0;
            // Each write with the condition it has, and whether that condition holds.
            let (method, condition, holds) = match self.dice.below(10) {
                0 => (Method::DELETE, None, true),
                1..=3 => (Method::PUT, Some((IF_NONE_MATCH, "*")), !exists),
                // No key is ever at this revision.
                4 => (Method::PUT, Some((IF_MATCH, "\"9000000000\"")), false),
                5 => (Method::PUT, Some((IF_MATCH, "*")), exists),
                _ => (Method::PUT, None, true),
            };
            let deleting = method == Method::DELETE;
            let after = match deleting {
                true => Stored::default(),
                false => Stored { value: value.clone(), version: present.version + 1 },
            };
            let body = if deleting { String::new() } else { value.clone() };
            match write(&mut http, method, &path, condition, body).await {
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
        let mut http = Http::to(node);
        for (at, key) in self.keys.iter().enumerate() {
            let found = read(&mut http, &self.path(at)).await?;
            if found != key.present && key.maybe.as_ref() != Some(&found) {
                return Err(format!("client {} key {at}: {found:?} where {key:?}", self.id));
            }
        }
        for written in &self.written {
            let path = format!("{}?revision={}", self.path(written.key), written.revision);
            let found = read(&mut http, &path).await?;
            if found.value != written.value {
                return Err(format!("client {}: {found:?} where {written:?}", self.id));
            }
        }
        for at in 0..self.keys.len() {
            let present = read(&mut http, &self.path(at)).await?;
            self.keys[at] = KeyState { present, maybe: None };
        }
        Ok(())
    }
}

async fn write(
    http: &mut Http,
    method: Method,
    path: &str,
    condition: Option<(HeaderName, &str)>,
    body: String,
) -> Fate {
    let answer = match http.send(method, path, condition, body).await {
        Ok(answer) => answer,
        Err(Broken::NotSent(_)) => return Fate::NotDone,
        Err(Broken::Unknown(_)) => return Fate::Unknown,
    };
    match answer.status {
        StatusCode::OK | StatusCode::CREATED => match number_of(&answer, "aspen-revision") {
            Some(revision) => Fate::Done { revision },
            None => panic!("a write's answer has no revision: {answer}"),
        },
        StatusCode::PRECONDITION_FAILED => Fate::Refused,
        StatusCode::GATEWAY_TIMEOUT => Fate::Unknown,
        _ => panic!("a write was answered {answer}"),
    }
}

async fn read(http: &mut Http, path: &str) -> Result<Stored, String> {
    let answer = http.send(Method::GET, path, None, "").await;
    let answer = answer.map_err(|broken| format!("{path}: {broken}"))?;
    match answer.status {
        StatusCode::NOT_FOUND => Ok(Stored::default()),
        StatusCode::OK => {
            let version = number_of(&answer, "aspen-version").ok_or("no version was answered")?;
            let value = String::from_utf8_lossy(&answer.body).into_owned();
            Ok(Stored { value, version })
        }
        _ => Err(format!("{path} was answered {answer}")),
    }
}

/// A header that is a number.
fn number_of(answer: &Answer, name: &str) -> Option<u64> {
    answer.headers.get(name)?.to_str().ok()?.parse().ok()
}
