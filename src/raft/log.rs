//! openraft's log storage on one group of the node's shared log.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::{Stream, stream};
use openraft::alias::{EntryOf, LogIdOf, VoteOf};
use openraft::storage::{IOFlushed, RaftLogStorage};
use openraft::{EntryPayload, LogState, OptionalSend, RaftLogReader};

use super::types::{TypeConfig, decode_entry, encode_entry, entry_id, log_id, vote_in, vote_out};
use crate::error::Corrupt;
use crate::limits::{APPEND_BYTES_MAX, LOG_READ_BYTES_MAX};
use crate::seams::failpoint::Failpoint;
use crate::store::log::GroupLog;

/// The log of one group, as openraft wants it.
#[derive(Clone, Debug)]
pub(super) struct LogStore {
    log: GroupLog,
    /// Set when a command is logged.
    is_used: Arc<AtomicBool>,
}

impl LogStore {
    pub(super) fn new(log: GroupLog, is_used: Arc<AtomicBool>) -> Self {
        LogStore { log, is_used }
    }

    /// The entries of a range, as many as one read may return.
    fn read(&self, start: u64, end: u64) -> io::Result<Vec<EntryOf<TypeConfig>>> {
        self.read_up_to(start, end, LOG_READ_BYTES_MAX)
    }

    /// The first entries of a range, of so many bytes or one entry.
    fn read_up_to(
        &self,
        start: u64,
        end: u64,
        bytes: usize,
    ) -> io::Result<Vec<EntryOf<TypeConfig>>> {
        let found = self.log.read(start..end, bytes).map_err(io::Error::other)?;
        found
            .iter()
            .map(|entry| {
                decode_entry(entry).map_err(|what| {
                    let group = self.log.group();
                    io::Error::other(Corrupt { group, index: Some(entry.id.index), what })
                })
            })
            .collect()
    }

    /// The indexes of a range that the log has.
    fn clamp(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before + 1,
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last + 1,
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        let after_last = self.log.last_id().map_or(0, |id| id.index + 1);
        (start.max(self.log.first_index()), end.min(after_last))
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(
        &mut self,
        range: RB,
    ) -> Result<Vec<EntryOf<TypeConfig>>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (mut next, end) = self.clamp(&range);
        let mut entries = Vec::new();
        while next < end {
            let found = self.read(next, end)?;
            next += found.len() as u64;
            if found.is_empty() {
                break;
            }
            entries.extend(found);
        }
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<VoteOf<TypeConfig>>, io::Error> {
        Ok(self.log.marks().vote.map(vote_in))
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<EntryOf<TypeConfig>>, io::Error> {
        let (start, end) = self.clamp(&(start..end));
        if start >= end {
            return Ok(Vec::new());
        }
        self.read_up_to(start, end, APPEND_BYTES_MAX)
    }

    async fn entries_stream<RB>(
        &mut self,
        range: RB,
    ) -> impl Stream<Item = Result<EntryOf<TypeConfig>, io::Error>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.clamp(&range);
        let log = self.clone();
        let batches = stream::unfold((log, start), move |(log, next)| async move {
            if next >= end {
                return None;
            }
            let (found, next) = match log.read(next, end) {
                Ok(found) if found.is_empty() => return None,
                Ok(found) => {
                    let next = next + found.len() as u64;
                    (found.into_iter().map(Ok).collect(), next)
                }
                Err(error) => (vec![Err(error)], end),
            };
            Some((stream::iter(found), (log, next)))
        });
        futures_util::StreamExt::flatten(batches)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let purged = self.log.marks().purged;
        Ok(LogState {
            last_purged_log_id: purged.map(log_id),
            last_log_id: self.log.last_id().or(purged).map(log_id),
        })
    }

    async fn get_log_reader(&mut self) -> Self::LogReader {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &VoteOf<TypeConfig>) -> Result<(), io::Error> {
        Failpoint::BeforeVote.check()?;
        self.log.save_vote(vote_out(vote)).await?;
        Failpoint::AfterVote.pass();
        Ok(())
    }

    async fn save_committed(
        &mut self,
        committed: Option<LogIdOf<TypeConfig>>,
    ) -> Result<(), io::Error> {
        if let Some(committed) = committed {
            Failpoint::BeforeCommitted.check()?;
            self.log.save_committed(entry_id(&committed));
        }
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogIdOf<TypeConfig>>, io::Error> {
        Ok(self.log.marks().committed.map(log_id))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: IOFlushed<TypeConfig>,
    ) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = EntryOf<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        Failpoint::BeforeAppend.check()?;
        let entries = entries
            .into_iter()
            .map(|entry| {
                if matches!(entry.payload, EntryPayload::Normal(_)) {
                    self.is_used.store(true, Ordering::Relaxed);
                }
                encode_entry(&entry).map_err(io::Error::other)
            })
            .collect::<io::Result<Vec<_>>>()?;
        self.log.append(entries, Box::new(move |result| callback.io_completed(result))).await?;
        Failpoint::AfterAppend.pass();
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogIdOf<TypeConfig>>) -> Result<(), io::Error> {
        self.log.truncate_after(last.map(|id| id.index)).await
    }

    async fn purge(&mut self, upto: LogIdOf<TypeConfig>) -> Result<(), io::Error> {
        Failpoint::BeforePurge.check()?;
        self.log.purge(entry_id(&upto)).await?;
        Failpoint::AfterPurge.pass();
        Ok(())
    }
}
