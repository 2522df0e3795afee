//! What was written, as its only writers know it, and what a watch has shown of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aspen::client::WatchBatch;
use serde_json::Value;

/// What is written until all watches show it, and have begun.
pub(super) const FIRST: &str = "first";
/// What is written last of all, so many keys that every shard has some. A shard's changes are shown
/// in order, so whoever has seen these has seen all.
pub(super) const LAST: &str = "last/";
pub(super) const LAST_KEYS: usize = 32;

/// What is watched: the keys of a keyspace that begin so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Watched {
    pub(super) keyspace: &'static str,
    pub(super) shards: usize,
    pub(super) prefix: &'static str,
}

/// A change of a key: its revision, and the value unless it was deleted.
pub(super) type Change = (u64, Option<String>);

/// A key, as its only writer knows it.
pub(super) struct Written {
    pub(super) keyspace: &'static str,
    pub(super) key: String,
    pub(super) acknowledged: Vec<Change>,
    /// The last write, if nobody knows whether it was done.
    pub(super) unknown: Option<Option<String>>,
}

/// What a watch has shown.
pub(super) struct Seen {
    watched: Watched,
    /// Whether it shows what each change replaced.
    with_prev: bool,
    changes: BTreeMap<String, Vec<Change>>,
    last: BTreeSet<String>,
    /// The last revision of each shard.
    revisions: BTreeMap<u64, u64>,
    /// From how many places it was gone on.
    pub(super) resumed: u32,
    /// How much was seen, for others to follow.
    pub(super) count: Arc<AtomicU64>,
}

impl Seen {
    pub(super) fn of(watched: Watched, with_prev: bool) -> Self {
        Seen {
            watched,
            with_prev,
            changes: BTreeMap::new(),
            last: BTreeSet::new(),
            revisions: BTreeMap::new(),
            resumed: 0,
            count: Arc::default(),
        }
    }

    fn add(&mut self, revision: u64, key: &str, value: Option<String>, prev: Option<String>) {
        let of_these = key.strip_prefix(self.watched.prefix);
        let name = of_these.unwrap_or_else(|| panic!("{key} is not watched by {:?}", self.watched));
        if name == FIRST {
            // Whoever begins later is shown it less often.
        } else if name.starts_with(LAST) {
            assert!(self.last.insert(key.to_owned()), "{key} is shown twice");
        } else {
            let changes = self.changes.entry(key.to_owned()).or_default();
            let before = changes.last().and_then(|(_, value)| value.clone());
            assert!(
                !self.with_prev || prev == before,
                "{key} at {revision} replaces {prev:?}, and was {before:?}"
            );
            changes.push((revision, value));
        }
        self.count.fetch_add(1, Ordering::SeqCst);
    }

    /// A shard shows a revision once, after all before it.
    fn goes_on(&mut self, shard: u64, revision: u64) {
        let before = self.revisions.insert(shard, revision);
        assert!(
            before.is_none_or(|before| before < revision),
            "shard {shard} shows {revision} after {before:?}"
        );
    }

    pub(super) fn add_batch(&mut self, shard: u64, batch: WatchBatch) {
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("text");
        for of_revision in batch.events.chunk_by(|a, b| a.revision == b.revision) {
            self.goes_on(shard, of_revision[0].revision);
            for event in of_revision {
                let value = event.record.as_ref().map(|record| text(record.value.as_bytes()));
                let prev = event.prev.as_ref().map(|record| text(record.value.as_bytes()));
                self.add(event.revision, &text(event.key.as_bytes()), value, prev);
            }
        }
    }

    /// What the HTTP interface and the command tell of one revision, as JSON.
    pub(super) fn add_json(&mut self, change: &str) {
        let change: Value = serde_json::from_str(change).expect("JSON");
        let revision = change["revision"].as_u64().expect("a revision");
        // Of one shard it is not said.
        let is_said = self.watched.shards > 1;
        assert_eq!(change["shard"].is_u64(), is_said, "{change}");
        self.goes_on(change["shard"].as_u64().unwrap_or(0), revision);
        for event in change["events"].as_array().expect("a list") {
            let key = event["key"].as_str().expect("a key");
            let value = |of: &str| event[of]["value"].as_str().map(str::to_owned);
            let kind = if event["record"].is_null() { "delete" } else { "put" };
            assert_eq!(event["type"], kind, "{event}");
            self.add(revision, key, value("record"), value("prev"));
        }
    }

    pub(super) fn is_whole(&self) -> bool {
        self.last.len() == LAST_KEYS
    }

    /// Holds what was shown against what was written; gives how much that is.
    #[track_caller]
    pub(super) fn is_what_was(&self, who: &str, written: &[Written]) -> usize {
        let Watched { keyspace, shards, prefix } = self.watched;
        assert_eq!(self.revisions.len(), shards, "{who}: {:?}", self.revisions);
        let (mut keys, mut count) = (0, 0);
        for Written { key, acknowledged, unknown, .. } in
            written.iter().filter(|of| of.keyspace == keyspace)
        {
            let shown = self.changes.get(key).map_or(&[][..], Vec::as_slice);
            if !key.starts_with(prefix) {
                assert!(shown.is_empty(), "{who} was shown {key}");
                continue;
            }
            keys += usize::from(!shown.is_empty());
            count += shown.len();
            let (shown_of_these, more) = shown.split_at(shown.len().min(acknowledged.len()));
            assert_eq!(shown_of_these, acknowledged, "{who}, {key}");
            match (more, unknown) {
                ([], _) => {}
                ([(revision, value)], Some(unknown)) => {
                    let before = acknowledged.last().map_or(0, |(revision, _)| *revision);
                    assert!(value == unknown && *revision > before, "{who}, {key}: {more:?}");
                }
                _ => panic!("{who} was shown what nobody wrote to {key}: {more:?}"),
            }
        }
        assert_eq!(keys, self.changes.len(), "{who} was shown keys that nobody wrote");
        count
    }
}
