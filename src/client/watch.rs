//! Watches: every change of a range of keys, in order, without a gap.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, TryStreamExt, stream};
use tokio::time::{Instant, sleep};

use super::fan::Position;
use super::group::GroupClient;
use super::nodes::Changes;
use super::{IntoKeyRange, KvClient, WatchBatch, WatchRequest};
use crate::error::{Error, Result};
use crate::limits::{CLIENT_BACKOFF_MIN, CLIENT_SHARDS_AT_ONCE};
use crate::machine::ops::KeyRange;
use crate::types::{Key, Revision};

impl KvClient {
    /// Watches every key that begins with these bytes.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// let first = kv.put("app/a", "1").await?;
    /// let mut changes = kv.watch("app/").from(first.revision).await?;
    /// kv.delete("app/a").await?;
    ///
    /// let mut seen = Vec::new();
    /// while seen.len() < 2 {
    ///     seen.extend(changes.next().await?.events);
    /// }
    /// assert!(seen[0].record.is_some());
    /// assert!(seen[1].record.is_none());
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn watch(&self, prefix: impl AsRef<[u8]>) -> WatchBuilder {
        self.watch_range(KeyRange::prefix(Bytes::copy_from_slice(prefix.as_ref())))
    }

    /// Watches a range of keys.
    pub fn watch_range(&self, range: impl IntoKeyRange) -> WatchBuilder {
        let range = range.into_key_range();
        let request = WatchRequest { range, from: None, prev: false };
        WatchBuilder { client: self.clone(), request }
    }

    /// Watches as a request says. Where the range is in several shards no revision can be named: such
    /// a watch goes on from a position.
    pub async fn watch_as(&self, request: WatchRequest) -> Result<Watch> {
        self.watch_on(request, None).await
    }

    /// Watches as a request says, from what was not shown yet at a position.
    pub async fn watch_after(&self, request: WatchRequest, position: &Position) -> Result<Watch> {
        self.watch_on(request, Some(position)).await
    }

    async fn watch_on(&self, request: WatchRequest, after: Option<&Position>) -> Result<Watch> {
        let deadline = self.until();
        let shards = self.shards(deadline).await?;
        after.map_or(Ok(()), |position| shards.check(position))?;
        let of = shards.of_range(self, &request.range)?;
        if of.is_none() && request.from.is_some() {
            shards.only(self, "a revision")?;
        }
        let of: Vec<(usize, GroupClient)> = match of {
            Some(group) => vec![(shards.place_of(group), group.clone())],
            None => shards.all().cloned().enumerate().collect(),
        };
        let begin = |(at, group): (usize, GroupClient)| {
            let seen = after.map(|position| position.revisions[at]);
            let from = seen.map(|seen| seen + 1).or(request.from);
            let request = WatchRequest { from, ..request.clone() };
            let within = self.within;
            async move { Ok::<_, Error>((at, Standing::begin(group, request, within).await?)) }
        };
        let standing = stream::iter(of).map(begin).buffer_unordered(CLIENT_SHARDS_AT_ONCE);
        let standing: Vec<(usize, Standing)> = self.explained(standing.try_collect().await)?;
        let mut revisions = match after {
            Some(position) => position.revisions.clone(),
            None => vec![0; shards.count() as usize],
        };
        for (at, standing) in &standing {
            revisions[*at] = standing.attached.next_revision() - 1;
        }
        Ok(Watch::new(standing, shards.position(revisions)))
    }
}

/// A watch, not yet begun.
#[derive(Debug)]
#[must_use = "a watch does nothing until it is awaited"]
pub struct WatchBuilder {
    client: KvClient,
    request: WatchRequest,
}

impl WatchBuilder {
    /// Begins with the changes of this revision; without it, with whatever comes next.
    pub fn from(mut self, revision: Revision) -> Self {
        self.request.from = Some(revision);
        self
    }

    /// Shows what each change replaced.
    pub fn prev(mut self) -> Self {
        self.request.prev = true;
        self
    }
}

impl IntoFuture for WatchBuilder {
    type Output = Result<Watch>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async move { self.client.watch_as(self.request).await })
    }
}

/// Changes as they come: a stream of batches, each of whole revisions of one shard. It goes on across
/// restarts of the group, and at another node when the one that shows it is lost; it ends after an
/// error, such as history that is gone.
pub struct Watch {
    batches: BoxStream<'static, (usize, Result<WatchBatch>)>,
    position: Position,
    /// Which shard the last batch is of.
    shard: usize,
    has_ended: bool,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Stream for Watch {
    type Item = Result<WatchBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.has_ended {
            return Poll::Ready(None);
        }
        let next = ready!(self.batches.poll_next_unpin(cx));
        Poll::Ready(next.map(|(at, batch)| {
            match &batch {
                Ok(batch) => {
                    self.position.revisions[at] = batch.revision;
                    self.shard = at;
                }
                Err(_) => self.has_ended = true,
            }
            batch
        }))
    }
}

impl Watch {
    fn new(standing: Vec<(usize, Standing)>, position: Position) -> Self {
        let one = |(at, standing): (usize, Standing)| {
            let place = Some(standing);
            let batches = stream::unfold(place, move |place| async move {
                let mut place = place?;
                match place.next().await {
                    Ok(batch) => Some(((at, Ok(batch)), Some(place))),
                    Err(error) => Some(((at, Err(error)), None)),
                }
            });
            batches.boxed()
        };
        let batches = stream::select_all(standing.into_iter().map(one)).boxed();
        Watch { batches, position, shard: 0, has_ended: false }
    }

    /// Up to where each shard was shown: a watch that goes on from here misses nothing and shows
    /// nothing twice.
    pub fn position(&self) -> &Position {
        &self.position
    }

    /// Which shard the last batch is of.
    pub fn shard(&self) -> usize {
        self.shard
    }

    /// The next changes, waiting for them.
    pub async fn next(&mut self) -> Result<WatchBatch> {
        match StreamExt::next(self).await {
            Some(batch) => batch,
            None => Err(Error::Fatal("the watch has ended".into())),
        }
    }

    /// Waits until a key of interest is deleted.
    pub(super) async fn until_deleted(&mut self, is_it: impl Fn(&Key) -> bool) -> Result<()> {
        loop {
            let batch = self.next().await?;
            if batch.events.iter().any(|event| event.record.is_none() && is_it(&event.key)) {
                return Ok(());
            }
        }
    }
}

/// A watch's place in one group, which outlives the replica that serves it.
struct Standing {
    group: GroupClient,
    request: WatchRequest,
    attached: Box<dyn Changes>,
    /// How long it looks for a node that shows it.
    within: Duration,
    /// Nothing was shown since it was attached.
    is_new: bool,
}

impl Standing {
    async fn begin(group: GroupClient, request: WatchRequest, within: Duration) -> Result<Self> {
        let attached = group.attach(&request, Instant::now() + within).await?;
        Ok(Standing { group, request, attached, within, is_new: true })
    }

    async fn next(&mut self) -> Result<WatchBatch> {
        loop {
            if let Some(batch) = self.attached.next().await? {
                self.is_new = false;
                return Ok(batch);
            }
            // A node that ends watches as soon as they begin is not asked in a tight loop.
            if std::mem::replace(&mut self.is_new, true) {
                sleep(CLIENT_BACKOFF_MIN).await;
            }
            // That replica is lost: go on with another where this one ended.
            self.request.from = Some(self.attached.next_revision());
            let deadline = Instant::now() + self.within;
            self.attached = self.group.attach(&self.request, deadline).await?;
        }
    }
}
