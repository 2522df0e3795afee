//! What the log has in memory: where each entry stands, recent payloads, what each segment holds.
//!
//! Owns the readable state of all groups. It changes when an operation is called, before it is
//! written; the places of entries follow when the writer has written them. Invariants: a group's
//! entries are contiguous; an entry that is not written has its payload in memory; a segment's
//! count of live entries is the number of entries here that stand in it. Nothing here does IO.

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use super::format::entry_body_bytes;
use super::{EntryId, GroupMarks, LogEntry};
use crate::error::Corrupt;
use crate::seams::disk::File;
use crate::types::GroupId;

/// No segment has this number: the entry is not written, or (in recovery) was not found.
const NOWHERE: u32 = 0;

/// Where an entry's record stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) segment: u32,
    pub(super) offset: u32,
    pub(super) body_bytes: u32,
}

/// One entry: 32 bytes. Its index follows from its position.
#[derive(Clone, Copy, Debug)]
struct Slot {
    term: u64,
    node: u64,
    place: Place,
}

/// A payload in memory. The stamp counts appended entries over all groups: it tells an entry from
/// another one that took its index later.
#[derive(Debug)]
struct Recent {
    stamp: u64,
    payload: Bytes,
}

#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) marks: GroupMarks,
    pub(super) damage: Option<Corrupt>,
    /// The index of the first slot.
    first: u64,
    slots: VecDeque<Slot>,
    body_bytes: u64,
    /// Payloads of the last entries, as many as are here.
    recent: VecDeque<Recent>,
}

#[derive(Debug)]
struct Segment {
    file: Arc<dyn File>,
    live: u64,
}

/// An entry to be read: from memory, or from a place in a file.
#[derive(Debug)]
pub(super) enum Found {
    Here(LogEntry),
    At(EntryId, Place, Arc<dyn File>),
}

#[derive(Debug)]
pub(super) struct Index {
    pub(super) groups: BTreeMap<GroupId, Group>,
    /// Damage that could not be attributed: an unknown group may have been lost by it.
    pub(super) tainted: Option<String>,
    segments: BTreeMap<u32, Segment>,
    /// The group of each oldest payload in memory, by its stamp.
    oldest: BTreeMap<u64, GroupId>,
    recent_bytes: usize,
    recent_bytes_max: usize,
    next_stamp: u64,
}

fn refused(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

impl Group {
    /// The index after the last entry.
    pub(super) fn end(&self) -> u64 {
        self.first.saturating_add(self.slots.len() as u64)
    }

    pub(super) fn first(&self) -> u64 {
        self.first
    }

    pub(super) fn len(&self) -> u64 {
        self.slots.len() as u64
    }

    pub(super) fn body_bytes(&self) -> u64 {
        self.body_bytes
    }

    /// The oldest segment that its entries keep from being removed.
    fn oldest_segment(&self) -> Option<u32> {
        self.slots.front().map(|slot| slot.place.segment).filter(|segment| *segment != NOWHERE)
    }

    fn slot(&self, index: u64) -> Option<&Slot> {
        self.slots.get(usize::try_from(index.checked_sub(self.first)?).ok()?)
    }

    pub(super) fn entry_id(&self, index: u64) -> Option<EntryId> {
        self.slot(index).map(|slot| EntryId { term: slot.term, node: slot.node, index })
    }

    /// The last entry, or the purge point if there is none.
    pub(super) fn last(&self) -> Option<EntryId> {
        match self.end().checked_sub(1) {
            Some(index) => self.entry_id(index).or(self.marks.purged),
            None => self.marks.purged,
        }
    }

    /// The first index whose entry was not found, for recovery.
    pub(super) fn first_missing(&self) -> Option<u64> {
        let at = self.slots.iter().position(|slot| slot.place.segment == NOWHERE)?;
        Some(self.first + at as u64)
    }

    fn recent_at(&self, index: u64) -> Option<&Recent> {
        let first = self.end() - self.recent.len() as u64;
        self.recent.get(usize::try_from(index.checked_sub(first)?).ok()?)
    }
}

impl Index {
    pub(super) fn new(recent_bytes_max: usize) -> Self {
        Index {
            groups: BTreeMap::new(),
            tainted: None,
            segments: BTreeMap::new(),
            oldest: BTreeMap::new(),
            recent_bytes: 0,
            recent_bytes_max,
            next_stamp: 0,
        }
    }

    // --- groups ---

    /// Adds entries at the end of a group; gives the stamp of the first of them.
    pub(super) fn append(&mut self, id: GroupId, entries: &[LogEntry]) -> io::Result<u64> {
        let end = self.groups.get(&id).map_or(0, Group::end);
        for (entry, expected) in entries.iter().zip(end..) {
            if entry.id.index != expected {
                return Err(refused(format!(
                    "entry {} of group {id} does not follow: entry {expected} comes next",
                    entry.id.index
                )));
            }
        }
        let group = self.groups.entry(id).or_default();
        let stamp = self.next_stamp;
        self.next_stamp += entries.len() as u64;
        if group.recent.is_empty() && !entries.is_empty() {
            self.oldest.insert(stamp, id);
        }
        for (entry, stamp) in entries.iter().zip(stamp..) {
            let body_bytes = entry_body_bytes(entry) as u32;
            let place = Place { segment: NOWHERE, offset: 0, body_bytes };
            group.slots.push_back(Slot { term: entry.id.term, node: entry.id.node, place });
            group.body_bytes += u64::from(body_bytes);
            group.recent.push_back(Recent { stamp, payload: entry.payload.clone() });
            self.recent_bytes += entry.payload.len();
        }
        Ok(stamp)
    }

    /// Takes back all entries after `after`, or all if none; gives the entry that is last now.
    pub(super) fn truncate(
        &mut self,
        id: GroupId,
        after: Option<u64>,
    ) -> io::Result<Option<EntryId>> {
        let group = self.groups.entry(id).or_default();
        let end = after.map_or(0, |index| index.saturating_add(1));
        if end < group.first {
            return Err(refused(format!(
                "the log of group {id} can't be cut before entry {}, which is purged",
                group.first
            )));
        }
        while group.end() > end {
            if let Some(recent) = group.recent.pop_back() {
                self.recent_bytes -= recent.payload.len();
                if group.recent.is_empty() {
                    self.oldest.remove(&recent.stamp);
                }
            }
            if let Some(slot) = group.slots.pop_back() {
                group.body_bytes -= u64::from(slot.place.body_bytes);
                leave(&mut self.segments, slot.place);
            }
        }
        Ok(group.last())
    }

    /// Gives up all entries up to `through`; the log goes on after it. False if they were gone.
    pub(super) fn purge(&mut self, id: GroupId, through: EntryId) -> bool {
        let group = self.groups.entry(id).or_default();
        let next = through.index.saturating_add(1);
        if group.marks.purged.is_some_and(|purged| purged.index >= through.index) {
            return false;
        }
        if let Some(recent) = group.recent.front() {
            self.oldest.remove(&recent.stamp);
        }
        while group.first < next {
            let Some(slot) = group.slots.pop_front() else {
                group.first = next;
                break;
            };
            if group.recent.len() > group.slots.len()
                && let Some(recent) = group.recent.pop_front()
            {
                self.recent_bytes -= recent.payload.len();
            }
            group.first += 1;
            group.body_bytes -= u64::from(slot.place.body_bytes);
            leave(&mut self.segments, slot.place);
        }
        if let Some(recent) = group.recent.front() {
            self.oldest.insert(recent.stamp, id);
        }
        group.marks.purged = Some(through);
        true
    }

    /// Forgets a group. Where unknown groups may have been lost, it stays known and is empty.
    pub(super) fn remove(&mut self, id: GroupId) {
        if let Some(group) = self.groups.remove(&id) {
            if let Some(recent) = group.recent.front() {
                self.oldest.remove(&recent.stamp);
            }
            self.recent_bytes -= group.recent.iter().map(|r| r.payload.len()).sum::<usize>();
            for slot in group.slots {
                leave(&mut self.segments, slot.place);
            }
        }
        if self.tainted.is_some() {
            self.groups.insert(id, Group::default());
        }
    }

    // --- places and payloads ---

    /// Notes where the writer put an entry, unless the entry is gone by now.
    pub(super) fn place(&mut self, id: GroupId, index: u64, stamp: u64, place: Place) {
        let Some(group) = self.groups.get_mut(&id) else { return };
        if group.recent_at(index).is_none_or(|recent| recent.stamp != stamp) {
            return;
        }
        let at = (index - group.first) as usize;
        if let Some(slot) = group.slots.get_mut(at) {
            slot.place = place;
            join(&mut self.segments, place);
        }
    }

    /// Lets the oldest payloads go until the rest fits; those of unwritten entries stay.
    pub(super) fn evict(&mut self) {
        while self.recent_bytes > self.recent_bytes_max
            && let Some((stamp, id)) = self.oldest.first_key_value().map(|(s, g)| (*s, *g))
            && let Some(group) = self.groups.get_mut(&id)
        {
            let at = group.slots.len() - group.recent.len();
            if group.slots[at].place.segment == NOWHERE {
                return;
            }
            self.oldest.remove(&stamp);
            if let Some(recent) = group.recent.pop_front() {
                self.recent_bytes -= recent.payload.len();
            }
            if let Some(recent) = group.recent.front() {
                self.oldest.insert(recent.stamp, id);
            }
        }
    }

    /// The entries of a range that exist, up to a count of payload bytes but at least one.
    pub(super) fn find(&self, id: GroupId, range: Range<u64>, bytes_max: usize) -> Vec<Found> {
        let Some(group) = self.groups.get(&id) else { return Vec::new() };
        let mut found = Vec::new();
        let mut bytes = 0;
        for index in range.start.max(group.first)..range.end.min(group.end()) {
            let (Some(slot), Some(entry_id)) = (group.slot(index), group.entry_id(index)) else {
                break;
            };
            bytes += slot.place.body_bytes as usize;
            if bytes > bytes_max && !found.is_empty() {
                break;
            }
            if let Some(recent) = group.recent_at(index) {
                let payload = recent.payload.clone();
                found.push(Found::Here(LogEntry { id: entry_id, payload }));
            } else if let Some(segment) = self.segments.get(&slot.place.segment) {
                found.push(Found::At(entry_id, slot.place, segment.file.clone()));
            } else {
                break;
            }
        }
        found
    }

    // --- segments ---

    pub(super) fn add_segment(&mut self, number: u32, file: Arc<dyn File>) {
        self.segments.insert(number, Segment { file, live: 0 });
    }

    pub(super) fn remove_segment(&mut self, number: u32) {
        self.segments.remove(&number);
    }

    /// How many segments were begun since the oldest that a group keeps from being removed.
    pub(super) fn age(&self, group: &Group) -> u32 {
        let newest = self.segments.last_key_value().map_or(0, |(number, _)| *number);
        group.oldest_segment().map_or(0, |oldest| newest.saturating_sub(oldest))
    }

    pub(super) fn segments(&self) -> Vec<u32> {
        self.segments.keys().copied().collect()
    }

    /// The segments before `current` in which no entry stands.
    pub(super) fn dead_segments(&self, current: u32) -> Vec<u32> {
        let before = self.segments.range(..current);
        before.filter(|(_, segment)| segment.live == 0).map(|(number, _)| *number).collect()
    }

    // --- recovery: entries that are written already ---

    /// Adds a written entry; false if it does not follow.
    pub(super) fn push_written(&mut self, id: GroupId, entry: EntryId, place: Place) -> bool {
        let group = self.groups.entry(id).or_default();
        if group.end() != entry.index {
            return false;
        }
        group.slots.push_back(Slot { term: entry.term, node: entry.node, place });
        group.body_bytes += u64::from(place.body_bytes);
        join(&mut self.segments, place);
        true
    }

    /// Extends a group with places whose entries were not found, up to `end`.
    pub(super) fn push_missing(&mut self, id: GroupId, end: u64) {
        let group = self.groups.entry(id).or_default();
        let place = Place { segment: NOWHERE, offset: 0, body_bytes: 0 };
        while group.end() < end {
            group.slots.push_back(Slot { term: 0, node: 0, place });
        }
    }
}

fn join(segments: &mut BTreeMap<u32, Segment>, place: Place) {
    if let Some(segment) = segments.get_mut(&place.segment) {
        segment.live += 1;
    }
}

fn leave(segments: &mut BTreeMap<u32, Segment>, place: Place) {
    if let Some(segment) = segments.get_mut(&place.segment) {
        segment.live -= 1;
    }
}
