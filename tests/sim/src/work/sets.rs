//! Keys that are added, and never taken away, and read page by page.

use aspen::Consistency;
use futures_util::future::BoxFuture;

use super::client::{Client, Effect};
use super::{History, Stage, Work};
use crate::check::Violation;
use crate::check::sets::{self, Answer, Asked};

/// How many records a page has: so few that sets have several.
const PAGE: u64 = 32;

pub(super) struct Sets {
    prefix: String,
    history: History<Asked, Answer>,
}

impl Sets {
    pub(super) fn new(stage: &Stage, prefix: &str) -> Self {
        Sets { prefix: format!("{prefix}/"), history: History::new(stage) }
    }

    async fn add(&self, client: &Client) {
        let element = client.stage.value();
        // In no particular order.
        let name = format!("{}{:02}/{element}", self.prefix, element % 7);
        let add = async { client.kv.put(name, "").if_absent().await.map(|_| Answer::Added) };
        client.call(&self.history, Asked::Add(element), Effect::Writes, add).await;
    }

    async fn read(&self, client: &Client, how: Consistency) {
        let read = self.pages(client, how);
        client.calls(&self.history, Asked::Read, Effect::Reads, read).await;
    }

    async fn pages(&self, client: &Client, how: Consistency) -> aspen::Result<Answer> {
        let range = || client.kv.range(..).prefix(&self.prefix).limit(PAGE).consistency(how);
        let mut elements = Vec::new();
        let mut page = client.in_time(range()).await?;
        loop {
            elements.extend(page.records.iter().map(|found| element_of(found.key.as_bytes())));
            if !page.more {
                return Ok(Answer::Saw(elements));
            }
            page = client.in_time(range().after_page(&page)).await?;
        }
    }
}

/// The element that a key stands for; one that nobody added if it stands for none.
fn element_of(key: &[u8]) -> u64 {
    let element =
        std::str::from_utf8(key).ok().and_then(|key| key.rsplit('/').next()?.parse().ok());
    element.unwrap_or(u64::MAX)
}

impl Work for Sets {
    fn run<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            while client.thinks().await {
                match client.dice.below(100) {
                    0..70 => self.add(client).await,
                    70..90 => self.read(client, Consistency::Linearizable).await,
                    _ => self.read(client, Consistency::Lease).await,
                }
            }
        })
    }

    fn close<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(self.read(client, Consistency::Linearizable))
    }

    fn judge(&self) -> Result<(), Violation> {
        sets::check(&self.history.calls())
    }

    fn calls(&self) -> usize {
        self.history.count()
    }
}
