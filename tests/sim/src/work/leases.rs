//! Leases that are kept alive for a while and then end, and a key of each, at which its client
//! looks until it is gone.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aspen::error::Refusal;
use aspen::{Error, KvClient, LeaseId};
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep};

use super::Work;
use super::client::{Client, Effect};
use crate::check::leases::{self, Event, LATE_MS_MAX, Life, Told};
use crate::check::{self, Violation};

const TTL_MS: [u64; 2] = [1_000, 3_000];
/// Most times that a lease is kept alive.
const KEPT_MAX: u64 = 4;
/// The longest that its client waits before it looks again.
const LOOK: Duration = Duration::from_millis(300);

pub(super) struct Leases {
    prefix: String,
    lives: Mutex<Vec<Life>>,
    /// How many calls have begun: lives are known once they are over.
    asked: AtomicUsize,
}

/// What was found, as text for the trace.
struct Found<T>(T);

impl<T: fmt::Debug> fmt::Display for Found<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The client of one lease.
struct Holder<'a> {
    client: &'a Client,
    asked: &'a AtomicUsize,
    /// Near the lease's key.
    kv: KvClient,
    key: String,
    began: Instant,
    life: Life,
}

impl Leases {
    pub(super) fn new(prefix: &str) -> Self {
        Leases { prefix: prefix.into(), lives: Mutex::default(), asked: AtomicUsize::new(0) }
    }

    fn lives(&self) -> MutexGuard<'_, Vec<Life>> {
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One lease from its beginning to its end.
    async fn live(&self, client: &Client) {
        let key = format!("{}/{}", self.prefix, client.stage.value());
        let ttl_ms = client.dice.between(TTL_MS[0], TTL_MS[1]);
        let kv = client.kv.near(&key).expect("it is short");
        let (client_number, events) = (client.number, Vec::new());
        let life = Life { client: client_number, ttl_ms, calm_ms: None, events };
        let (asked, began) = (&self.asked, Instant::now());
        let mut holder = Holder { client, asked, kv, key, began, life };
        if let Some(lease) = holder.grant().await {
            holder.hold(lease).await;
            self.lives().push(holder.life);
        }
    }
}

impl Holder<'_> {
    fn now_ms(&self) -> u64 {
        self.began.elapsed().as_millis() as u64
    }

    /// Asks, and keeps what it was told, if that says something.
    async fn ask<T: fmt::Debug>(
        &mut self,
        what: &str,
        effect: Effect,
        asking: impl Future<Output = aspen::Result<T>>,
        says: impl FnOnce(&check::Told<Found<T>>) -> Option<Told>,
    ) -> check::Told<Found<T>> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let asked_ms = self.now_ms();
        let asked = format!("{what} of {}", self.key);
        let answer = async { self.client.in_time(asking).await.map(Found) };
        let answer = self.client.ask(&asked, effect, answer).await;
        let told_ms = self.now_ms();
        self.life.events.extend(says(&answer).map(|told| Event { asked_ms, told_ms, told }));
        if self.life.calm_ms.is_none() && self.client.stage.is_calm() {
            self.life.calm_ms = Some(told_ms);
        }
        answer
    }

    async fn grant(&mut self) -> Option<LeaseId> {
        let ttl = Duration::from_millis(self.life.ttl_ms);
        let kv = self.kv.clone();
        let grant = async { kv.lease_grant(ttl).await.map(|lease| lease.id) };
        let says =
            |told: &check::Told<_>| matches!(told, check::Told::Done(_)).then_some(Told::Kept);
        match self.ask("the lease", Effect::Writes, grant, says).await {
            check::Told::Done(Found(lease)) => Some(lease),
            _ => None,
        }
    }

    async fn hold(&mut self, lease: LeaseId) {
        if !self.put(lease).await {
            return;
        }
        for _ in 0..self.client.dice.below(KEPT_MAX + 1) {
            sleep(self.client.dice.time_below(Duration::from_millis(self.life.ttl_ms / 2))).await;
            if !self.keep_alive(lease).await {
                break;
            }
        }
        if self.client.dice.percent(20) {
            self.revoke(lease).await;
        }
        // Once more after it is gone: it may not come back.
        while self.looks().await {}
        self.looks().await;
    }

    /// Attaches the key. Answers whether it is known to be there.
    async fn put(&mut self, lease: LeaseId) -> bool {
        let kv = self.kv.clone();
        let put = kv.put(&self.key, "").lease(lease);
        let put = async { unless_ended(put.await.map(drop)) };
        let says = |told: &check::Told<Found<bool>>| match told {
            check::Told::Done(Found(false)) => Some(Told::Gone),
            _ => None,
        };
        let told = self.ask("the key", Effect::Writes, put, says).await;
        matches!(told, check::Told::Done(Found(true)))
    }

    /// Answers whether the lease is there, as far as is known.
    async fn keep_alive(&mut self, lease: LeaseId) -> bool {
        let kv = self.kv.clone();
        let keep = async { unless_ended(kv.lease_keep_alive(lease).await.map(drop)) };
        let says = |told: &check::Told<Found<bool>>| {
            Some(match told {
                check::Told::Done(Found(true)) => Told::Kept,
                check::Told::Done(Found(false)) => Told::Ending,
                // It is not a command: that it was not answered does not say that it was not done.
                check::Told::Not | check::Told::Unknown => Told::MaybeKept,
            })
        };
        let told = self.ask("more time", Effect::Reads, keep, says).await;
        !matches!(told, check::Told::Done(Found(false)))
    }

    async fn revoke(&mut self, lease: LeaseId) {
        let kv = self.kv.clone();
        let revoke = async { unless_ended(kv.lease_revoke(lease).await) };
        let says = |told: &check::Told<Found<bool>>| match told {
            check::Told::Done(Found(false)) => Some(Told::Gone),
            check::Told::Not => None,
            check::Told::Done(Found(true)) | check::Told::Unknown => Some(Told::Revoked),
        };
        self.ask("the end", Effect::Writes, revoke, says).await;
    }

    /// Looks at the key after a while. Answers whether to go on: until it is gone, or, if that
    /// takes too long, for long enough to show it.
    async fn looks(&mut self) -> bool {
        sleep(self.client.dice.time_below(LOOK)).await;
        let kv = self.kv.clone();
        let get = kv.get(&self.key);
        let look = async { get.await.map(|found| found.is_some()) };
        let says = |told: &check::Told<Found<bool>>| match told {
            check::Told::Done(Found(true)) => Some(Told::There),
            check::Told::Done(Found(false)) => Some(Told::Gone),
            _ => None,
        };
        let told = self.ask("the key is there", Effect::Reads, look, says).await;
        let is_gone = matches!(told, check::Told::Done(Found(false)));
        let calm_for_ms = self.life.calm_ms.map(|calm_ms| self.now_ms() - calm_ms);
        let enough_ms = self.life.ttl_ms + LATE_MS_MAX + 1_000;
        !is_gone && calm_for_ms.is_none_or(|ms| ms <= enough_ms)
    }
}

/// Whether it was done; false if the lease had ended.
fn unless_ended(answer: aspen::Result<()>) -> aspen::Result<bool> {
    match answer {
        Err(Error::Refused(Refusal::LeaseNotFound { .. })) => Ok(false),
        answer => answer.map(|()| true),
    }
}

impl Work for Leases {
    fn run<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            while client.thinks().await {
                self.live(client).await;
            }
        })
    }

    fn close<'a>(&'a self, _client: &'a Client) -> BoxFuture<'a, ()> {
        // Each lease was looked at until its end.
        Box::pin(async {})
    }

    fn judge(&self) -> Result<(), Violation> {
        leases::check(&self.lives())
    }

    fn calls(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}
