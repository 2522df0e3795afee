//! Watches: every change of a range of keys, in order, without a gap.

use std::fmt;
use std::future::IntoFuture;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt, stream};
use tokio::time::sleep;

use super::nodes::Changes;
use super::{IntoKeyRange, KvClient, WatchBatch, WatchRequest};
use crate::error::{Error, Result};
use crate::limits::CLIENT_BACKOFF_MIN;
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

    /// Watches as a request says.
    pub async fn watch_as(&self, request: WatchRequest) -> Result<Watch> {
        Watch::begin(self.clone(), request).await
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
        Box::pin(Watch::begin(self.client, self.request))
    }
}

/// Changes as they come: a stream of batches, each of whole revisions. It goes on across restarts
/// of the group, and at another node when the one that shows it is lost; it ends after an error, such as history that is gone.
pub struct Watch {
    batches: BoxStream<'static, Result<WatchBatch>>,
}

impl fmt::Debug for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Watch")
    }
}

impl Stream for Watch {
    type Item = Result<WatchBatch>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.batches.poll_next_unpin(cx)
    }
}

impl Watch {
    async fn begin(client: KvClient, request: WatchRequest) -> Result<Self> {
        let attached = client.attach(client.inner.group, &request).await?;
        let place = Some(Standing { client, request, attached, is_new: true });
        let batches = stream::unfold(place, |place| async move {
            let mut place = place?;
            match place.next().await {
                Ok(batch) => Some((Ok(batch), Some(place))),
                Err(error) => Some((Err(error), None)),
            }
        });
        Ok(Watch { batches: batches.boxed() })
    }

    /// The next changes, waiting for them.
    pub async fn next(&mut self) -> Result<WatchBatch> {
        match self.batches.next().await {
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

/// A watch's place, which outlives the replica that serves it.
struct Standing {
    client: KvClient,
    request: WatchRequest,
    attached: Box<dyn Changes>,
    /// Nothing was shown since it was attached.
    is_new: bool,
}

impl Standing {
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
            self.attached = self.client.attach(self.client.inner.group, &self.request).await?;
        }
    }
}
