//! Few keys that are put, got, swapped and deleted, so that clients get in each other's way.

use std::collections::BTreeMap;

use aspen::error::Refusal;
use aspen::{Consistency, Error};
use futures_util::future::BoxFuture;

use super::client::{Client, Effect, number_in};
use super::{History, Stage, Work};
use crate::check::linear::{self, Answer, Asked, Op};
use crate::check::{Told, Violation};

/// How many keys there are.
const KEYS: u64 = 4;

pub(super) struct Registers {
    prefix: String,
    history: History<Asked, Answer>,
}

/// What a client last saw of each key: what a swap is likely to find.
type Seen = BTreeMap<u64, Option<u64>>;

impl Registers {
    pub(super) fn new(stage: &Stage, prefix: &str) -> Self {
        Registers { prefix: prefix.into(), history: History::new(stage) }
    }

    fn choose(client: &Client, seen: &Seen) -> Asked {
        let key = client.dice.below(KEYS);
        let op = match client.dice.below(100) {
            0..40 => Op::Get,
            40..65 => Op::Put(client.stage.value()),
            65..95 => Op::Swap(seen.get(&key).copied().flatten(), client.stage.value()),
            _ => Op::Delete,
        };
        Asked { key, op }
    }

    async fn call(&self, client: &Client, asked: Asked) -> Told<Answer> {
        let is_read = asked.op == Op::Get;
        let effect = if is_read { Effect::Reads } else { Effect::Writes };
        client.call(&self.history, asked, effect, self.ask(client, asked)).await
    }

    async fn ask(&self, client: &Client, Asked { key, op }: Asked) -> aspen::Result<Answer> {
        let kv = &client.kv;
        let key = format!("{}/{key}", self.prefix);
        let wrote = match op {
            Op::Get => {
                let lease = client.dice.percent(30);
                let how = if lease { Consistency::Lease } else { Consistency::Linearizable };
                let got = kv.get(key).consistency(how).await?;
                return Ok(Answer::Saw(got.and_then(|record| number_in(&record.value))));
            }
            Op::Delete => return kv.delete(key).await.map(|_| Answer::Wrote),
            Op::Put(value) => kv.put(key, value.to_string()).await,
            Op::Swap(None, value) => kv.put(key, value.to_string()).if_absent().await,
            Op::Swap(Some(expected), value) => {
                kv.put(key, value.to_string()).if_value(expected.to_string()).await
            }
        };
        match wrote {
            Err(Error::Refused(Refusal::ConditionFailed { .. })) => Ok(Answer::Differs),
            wrote => wrote.map(|_| Answer::Wrote),
        }
    }
}

impl Work for Registers {
    fn run<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            let mut seen = Seen::new();
            while client.thinks().await {
                let asked = Self::choose(client, &seen);
                match (asked.op, self.call(client, asked).await) {
                    (_, Told::Done(Answer::Saw(value))) => drop(seen.insert(asked.key, value)),
                    (Op::Put(value) | Op::Swap(_, value), Told::Done(Answer::Wrote)) => {
                        seen.insert(asked.key, Some(value));
                    }
                    _ => {}
                }
            }
        })
    }

    fn close<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            for key in 0..KEYS {
                self.call(client, Asked { key, op: Op::Get }).await;
            }
        })
    }

    fn judge(&self) -> Result<(), Violation> {
        linear::check(&self.history.calls())
    }

    fn calls(&self) -> usize {
        self.history.count()
    }
}
