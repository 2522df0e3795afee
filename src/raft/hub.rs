//! What watchers see of one group: published revisions and recent changes.
//!
//! A watcher pulls. It is told that there is something newer, reads recent changes from memory or
//! older ones from history, and never makes the group wait: one that lags reads history, and one
//! that lags beyond compaction is told so. Changes are published after they are committed, and kept
//! in memory while somebody watches.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, watch};

use crate::error::Refusal;
use crate::limits::{WATCH_BATCH_EVENTS_MAX, WATCH_RECENT_BYTES_MAX};
use crate::machine::ops::{AnswerBody, Event, KeyRange, Outcome, Query, Status};
use crate::machine::tables::TableError;
use crate::machine::{self, HistoryPage};
use crate::store::state::State;
use crate::types::Revision;

/// The changes of one group, for its watchers.
#[derive(Debug)]
pub(super) struct Hub {
    recent: Mutex<Recent>,
    /// The last revision that watchers may see; closed when the group stops.
    published: watch::Sender<Revision>,
    /// Told when a compaction has rows left to remove, which this replica goes on with when it leads.
    pub(super) compacting: Notify,
    /// Whether one has, on this replica.
    is_compacting: AtomicBool,
}

/// The newest changes, one item a revision, without gaps.
#[derive(Debug, Default)]
struct Recent {
    changes: VecDeque<Arc<[Event]>>,
    bytes: usize,
    /// The revision of the last change, or of the state when there is none in memory.
    last: Revision,
}

impl Recent {
    fn first(&self) -> Revision {
        self.last + 1 - self.changes.len() as Revision
    }

    fn push(&mut self, events: Vec<Event>, is_watched: bool) {
        debug_assert_eq!(events[0].revision, self.last + 1, "revisions have no gaps");
        self.last = events[0].revision;
        if !is_watched {
            self.changes.clear();
            self.bytes = 0;
            return;
        }
        self.bytes += weight(&events);
        self.changes.push_back(events.into());
        while self.bytes > WATCH_RECENT_BYTES_MAX && self.changes.len() > 1 {
            let oldest = self.changes.pop_front().unwrap_or_default();
            self.bytes -= weight(&oldest);
        }
    }
}

fn weight(events: &[Event]) -> usize {
    let value = |event: &Event| event.record.as_ref().map_or(0, |r| r.value.as_bytes().len());
    events.iter().map(|e| size_of::<Event>() + e.key.as_bytes().len() + value(e)).sum()
}

/// Reads the state's counters.
fn status(state: &State) -> Result<Status, TableError> {
    match machine::query(&state.view(), &Query::Status)?.map(|answer| answer.body) {
        Ok(AnswerBody::Status(status)) => Ok(status),
        other => Err(TableError::corrupt(format!("the state's counters read as {other:?}"))),
    }
}

impl Hub {
    pub(super) fn new(state: &State) -> Result<Self, TableError> {
        let hub = Hub {
            recent: Mutex::default(),
            published: watch::Sender::new(0),
            compacting: Notify::new(),
            is_compacting: AtomicBool::new(false),
        };
        hub.reset(state)?;
        Ok(hub)
    }

    fn recent(&self) -> MutexGuard<'_, Recent> {
        self.recent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts anew from a state: at start, and after a snapshot replaced it.
    pub(super) fn reset(&self, state: &State) -> Result<(), TableError> {
        let status = status(state)?;
        *self.recent() = Recent { last: status.revision, ..Recent::default() };
        self.published.send_replace(status.revision);
        self.is_compacting.store(status.compacting, Ordering::Relaxed);
        if status.compacting {
            self.compacting.notify_one();
        }
        Ok(())
    }

    /// Takes what one command did; [`Hub::publish`] shows it.
    pub(super) fn applied(&self, outcome: &Outcome, events: Vec<Event>) {
        if !events.is_empty() {
            self.recent().push(events, self.published.receiver_count() > 0);
        }
        if let Ok(answer) = outcome
            && let AnswerBody::Compacted { pending, .. } = answer.body
        {
            self.is_compacting.store(pending, Ordering::Relaxed);
            if pending {
                self.compacting.notify_one();
            }
        }
    }

    /// Whether a compaction has rows left to remove.
    pub(super) fn is_compacting(&self) -> bool {
        self.is_compacting.load(Ordering::Relaxed)
    }

    /// Shows watchers everything taken so far.
    pub(super) fn publish(&self) {
        let last = self.recent().last;
        self.published.send_if_modified(|published| {
            let is_newer = *published != last;
            *published = last;
            is_newer
        });
    }

    /// About how many bytes of changes are kept in memory.
    pub(super) fn held_bytes(&self) -> usize {
        self.recent().bytes
    }

    /// Whether the changes from a revision on are in memory.
    pub(super) fn is_recent(&self, from: Revision) -> bool {
        from >= self.recent().first()
    }

    /// The last published revision.
    pub(super) fn revision(&self) -> Revision {
        *self.published.borrow()
    }

    /// A receiver that is told of each publication.
    pub(super) fn follow(&self) -> watch::Receiver<Revision> {
        self.published.subscribe()
    }

    /// The changes in a range of keys from one revision to another, both included, or a first
    /// part of them that ends between two revisions.
    pub(super) fn read(
        &self,
        state: &State,
        range: &KeyRange,
        from: Revision,
        to: Revision,
    ) -> Result<Result<HistoryPage, Refusal>, TableError> {
        let recent: Option<Vec<Arc<[Event]>>> = {
            let recent = self.recent();
            (from >= recent.first()).then(|| {
                let skip = (from - recent.first()) as usize;
                let take = (to + 1).saturating_sub(from) as usize;
                recent.changes.iter().skip(skip).take(take).cloned().collect()
            })
        };
        let Some(recent) = recent else {
            return machine::history(&state.view(), from, to, range, WATCH_BATCH_EVENTS_MAX);
        };
        let mut page = HistoryPage { events: Vec::new(), next: from };
        for events in recent {
            if page.events.len() >= WATCH_BATCH_EVENTS_MAX {
                return Ok(Ok(page));
            }
            page.events.extend(
                events.iter().filter(|event| range.contains(event.key.as_bytes())).cloned(),
            );
            page.next += 1;
        }
        page.next = page.next.max(to + 1);
        Ok(Ok(page))
    }
}
