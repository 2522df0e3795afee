//! A key whose version is how often it was put. The client repeats what it has no answer to, so
//! this shows whether anything is done twice.

use aspen::Consistency;
use futures_util::future::BoxFuture;

use super::client::{Client, Effect};
use super::{History, Stage, Work};
use crate::check::counters::{self, Asked, Count};
use crate::check::{Told, Violation};

pub(super) struct Counters {
    key: String,
    history: History<Asked, Count>,
}

impl Counters {
    pub(super) fn new(stage: &Stage, prefix: &str) -> Self {
        Counters { key: format!("{prefix}/count"), history: History::new(stage) }
    }

    async fn add(&self, client: &Client) -> Told<Count> {
        let put = client.kv.put(&self.key, "").prev();
        let add = async {
            let before = put.await?.prev;
            Ok(Count(before.map_or(0, |record| record.version) + 1))
        };
        client.call(&self.history, Asked::Add, Effect::Writes, add).await
    }

    async fn read(&self, client: &Client, how: Consistency) -> Told<Count> {
        let get = client.kv.get(&self.key).consistency(how);
        let read = async { Ok(Count(get.await?.map_or(0, |record| record.version))) };
        client.call(&self.history, Asked::Read, Effect::Reads, read).await
    }
}

impl Work for Counters {
    fn run<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            while client.thinks().await {
                match client.dice.below(100) {
                    0..70 => self.add(client).await,
                    70..90 => self.read(client, Consistency::Linearizable).await,
                    _ => self.read(client, Consistency::Lease).await,
                };
            }
        })
    }

    fn close<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.read(client, Consistency::Linearizable).await;
        })
    }

    fn judge(&self) -> Result<(), Violation> {
        counters::check(&self.history.calls())
    }

    fn calls(&self) -> usize {
        self.history.count()
    }
}
