//! A lock that clients hold for a while, sometimes for longer than its lease, and what it protects.

use std::time::Duration;

use aspen::client::{Lock, OpAnswer, TxnDone};
use aspen::error::Refusal;
use aspen::{Compare, Error, KvClient, LeaseId, Op};
use futures_util::future::BoxFuture;
use tokio::time::{sleep, timeout};

use super::client::{Client, Effect, number_in};
use super::{History, Stage, Work};
use crate::check::locks::{self, Answer, Asked, Guard};
use crate::check::{Told, Violation};

const TTL_MS: [u64; 2] = [1_000, 2_000];
/// The longest wait for the lock.
const WAIT_MS: [u64; 2] = [200, 5_000];
/// What somebody does who forgets that the lease ends.
const SLEEP_MS: [u64; 2] = [500, 2_500];
/// Most writes of one holder.
const WRITES_MAX: u64 = 4;

pub(super) struct Locks {
    /// The lock's name, and how all other keys begin.
    name: String,
    history: History<Asked, Answer>,
}

/// A lease's id as text, for the trace.
struct Granted(LeaseId);

impl std::fmt::Display for Granted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "lease {}", self.0)
    }
}

/// A token so that greater ones are greater as bytes.
fn text_of(token: u64) -> String {
    format!("{token:020}")
}

fn between(client: &Client, [least, most]: [u64; 2]) -> Duration {
    Duration::from_millis(client.dice.between(least, most))
}

impl Locks {
    pub(super) fn new(stage: &Stage, prefix: &str) -> Self {
        Locks { name: format!("{{{prefix}}}"), history: History::new(stage) }
    }

    /// Leases and locks are in the shard of the lock's name.
    fn near(&self, client: &Client) -> KvClient {
        client.kv.near(&self.name).expect("the name is a key")
    }

    /// Comes, perhaps holds the lock for a while, and goes.
    async fn visit(&self, client: &Client) {
        let kv = self.near(client);
        let ttl = between(client, TTL_MS);
        let grant = async { kv.lease_grant(ttl).await.map(|lease| Granted(lease.id)) };
        let granted = client.ask(&"a lease", Effect::Writes, client.in_time(grant)).await;
        let Told::Done(Granted(lease)) = granted else { return };
        if let Some(lock) = self.acquire(client, lease).await {
            self.hold(client, lease, &lock).await;
        }
        // Those that are not revoked end by themselves.
        if client.dice.percent(80) {
            let revoke = async {
                match kv.lease_revoke(lease).await {
                    Err(Error::Refused(Refusal::LeaseNotFound { .. })) => Ok("it had ended"),
                    revoked => revoked.map(|()| "done"),
                }
            };
            let asked = format!("revoke lease {lease}");
            client.ask(&asked, Effect::Writes, client.in_time(revoke)).await;
        }
    }

    async fn acquire(&self, client: &Client, lease: LeaseId) -> Option<Lock> {
        let kv = self.near(client);
        let (waits, patience) = (client.dice.percent(70), between(client, WAIT_MS));
        let mut held = None;
        let acquire = async {
            let lock = async {
                if waits {
                    kv.lock(&self.name, lease).await.map(Some)
                } else {
                    kv.try_lock(&self.name, lease).await
                }
            };
            held = match timeout(patience, lock).await {
                Ok(Err(Error::Refused(Refusal::LeaseNotFound { .. }))) => None,
                Ok(lock) => lock?,
                Err(_out_of_patience) => None,
            };
            Ok(held.as_ref().map_or(Answer::HoldsNot, |lock| Answer::Holds(lock.token)))
        };
        let told = client.call(&self.history, Asked::Acquire, Effect::Writes, acquire).await;
        matches!(told, Told::Done(_)).then_some(held)?
    }

    async fn hold(&self, client: &Client, lease: LeaseId, lock: &Lock) {
        for _ in 0..client.dice.between(1, WRITES_MAX) {
            if client.dice.percent(10) {
                sleep(between(client, SLEEP_MS)).await;
            }
            if client.dice.percent(50) {
                self.keep_alive(client, lease).await;
            }
            self.write(client, lock).await;
        }
        let gives_up = client.dice.percent(70);
        if gives_up {
            self.release(client, lease, lock.token).await;
        }
        // An old holder that does not know it.
        if client.dice.percent(30) {
            if !gives_up {
                sleep(between(client, SLEEP_MS)).await;
            }
            self.write(client, lock).await;
        }
    }

    async fn keep_alive(&self, client: &Client, lease: LeaseId) {
        let kv = self.near(client);
        let keep = async {
            match kv.lease_keep_alive(lease).await {
                Err(Error::Refused(Refusal::LeaseNotFound { .. })) => Ok("it has ended"),
                kept => kept.map(|_| "done"),
            }
        };
        let asked = format!("keep lease {lease} alive");
        client.ask(&asked, Effect::Reads, client.in_time(keep)).await;
    }

    async fn release(&self, client: &Client, lease: LeaseId, token: u64) {
        let kv = self.near(client);
        let release = async { kv.unlock(&self.name, lease).await.map(|()| Answer::Released) };
        let release = async {
            match release.await {
                Err(Error::Refused(Refusal::LeaseNotFound { .. })) => Ok(Answer::Released),
                released => released,
            }
        };
        client.call(&self.history, Asked::Release { token }, Effect::Writes, release).await;
    }

    async fn write(&self, client: &Client, lock: &Lock) {
        let guard = *client.dice.pick(&[Guard::Claim, Guard::Fence]);
        let token = lock.token;
        let asked = Asked::Write { token, guard };
        let write = async {
            match guard {
                Guard::Claim => self.write_by_claim(client, lock).await,
                Guard::Fence => self.write_by_fence(client, token).await,
            }
        };
        client.call(&self.history, asked, Effect::Writes, write).await;
    }

    async fn write_by_claim(&self, client: &Client, lock: &Lock) -> aspen::Result<Answer> {
        let key = format!("{}claimed", self.name);
        let is_held = Compare::create_revision(&lock.key).eq(lock.token);
        let txn = client.kv.txn().when(is_held);
        let txn = txn.then(Op::get(&key)).then(Op::put(&key, text_of(lock.token)));
        let done = txn.await?;
        Ok(if done.succeeded { wrote(&done) } else { Answer::Refused })
    }

    async fn write_by_fence(&self, client: &Client, token: u64) -> aspen::Result<Answer> {
        let key = format!("{}fenced", self.name);
        // What is not there is not greater.
        let is_older = Compare::value(&key).gt(text_of(token));
        let txn = client.kv.txn().when(is_older);
        let txn = txn.or_else(Op::get(&key)).or_else(Op::put(&key, text_of(token)));
        let done = txn.await?;
        Ok(if done.succeeded { Answer::Refused } else { wrote(&done) })
    }
}

/// What a transaction did that read what it replaced.
fn wrote(done: &TxnDone) -> Answer {
    let over = match done.answers.first() {
        Some(OpAnswer::Get(Some(record))) => number_in(&record.value).unwrap_or(u64::MAX),
        _ => 0,
    };
    Answer::Wrote { revision: done.revision, over }
}

impl Work for Locks {
    fn run<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            while client.thinks().await {
                self.visit(client).await;
            }
        })
    }

    fn close<'a>(&'a self, _client: &'a Client) -> BoxFuture<'a, ()> {
        // Every write says what it found.
        Box::pin(async {})
    }

    fn judge(&self) -> Result<(), Violation> {
        locks::check(&self.history.calls())
    }

    fn calls(&self) -> usize {
        self.history.count()
    }
}
