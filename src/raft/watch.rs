//! One watcher of one group.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio_util::sync::CancellationToken;

use super::counts::GroupCounts;
use super::hub::Hub;
use super::vital::Vital;
use crate::error::{Error, Result};
use crate::machine;
use crate::machine::ops::KeyRange;
use crate::store::state::{State, WeakState};
use crate::types::{Key, Record, Revision};

/// What to watch.
#[derive(Clone, Debug)]
pub struct WatchRequest {
    /// Which keys.
    pub range: KeyRange,
    /// The first revision to show; `None` is whatever comes next.
    pub from: Option<Revision>,
    /// Show what each change replaced.
    pub prev: bool,
}

/// Changes of one or more whole revisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchBatch {
    /// Everything up to this revision has been shown: a watch resumes at the next one.
    pub revision: Revision,
    /// The changes, in order.
    pub events: Vec<WatchEvent>,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchEvent {
    /// The revision that made the change.
    pub revision: Revision,
    /// The key.
    pub key: Key,
    /// What was written, or `None` if the key was deleted.
    pub record: Option<Record>,
    /// What was there before, if it was asked for and is not compacted.
    pub prev: Option<Record>,
}

/// A watcher's place in the changes of one group.
#[derive(Debug)]
pub struct GroupWatch {
    pub(super) hub: Arc<Hub>,
    /// Weak: a watcher that is not looked after must not keep a stopped group's files open.
    pub(super) state: WeakState,
    pub(super) published: watch::Receiver<Revision>,
    pub(super) stopped: CancellationToken,
    pub(super) vital: Vital,
    pub(super) counts: Arc<GroupCounts>,
    pub(super) request: WatchRequest,
    pub(super) next: Revision,
    pub(super) _place: OwnedSemaphorePermit,
}

impl GroupWatch {
    /// The first revision that was not shown yet.
    pub fn next_revision(&self) -> Revision {
        self.next
    }

    /// The next changes in the range, waiting for them; `None` when the group stops, after which
    /// a watch that begins at [`GroupWatch::next_revision`] misses nothing.
    pub async fn next(&mut self) -> Result<Option<WatchBatch>> {
        loop {
            let last = *self.published.borrow_and_update();
            while self.next <= last {
                let Some(state) = self.state.upgrade() else { return Ok(None) };
                let batch = self.read(&state, last)?;
                if !batch.events.is_empty() {
                    return Ok(Some(batch));
                }
            }
            tokio::select! {
                biased;
                () = self.stopped.cancelled() => return Ok(None),
                changed = self.published.changed() => {
                    if changed.is_err() {
                        return Ok(None);
                    }
                }
            }
        }
    }

    /// Takes a step towards the last published revision.
    fn read(&mut self, state: &State, last: Revision) -> Result<WatchBatch> {
        let failure = |error| self.vital.damage(error);
        if !self.hub.is_recent(self.next) {
            self.counts.watch_history_reads.one();
        }
        let page = self.hub.read(state, &self.request.range, self.next, last).map_err(failure)?;
        let page = page.map_err(|refusal| {
            self.counts.watches_lost.one();
            Error::Refused(refusal)
        })?;
        self.counts.watch_events.add(page.events.len() as u64);
        let view =
            if self.request.prev && !page.events.is_empty() { Some(state.view()) } else { None };
        let mut events = Vec::with_capacity(page.events.len());
        for event in page.events {
            let prev = match &view {
                Some(view) => {
                    machine::record_before(view, &event.key, event.revision).map_err(failure)?
                }
                None => None,
            };
            let machine::ops::Event { revision, key, record } = event;
            events.push(WatchEvent { revision, key, record, prev });
        }
        self.next = page.next;
        Ok(WatchBatch { revision: page.next - 1, events })
    }
}
