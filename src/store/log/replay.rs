//! What the records of a log mean, one after the other.
//!
//! Owns the rebuilding of the index from records that were read, and where damage in them leads.
//! It reads no file. Rules: an entry that can't be read, or that should be there and is not, is a
//! missing place in its group; what is missing and neither purged nor taken back by the end is
//! the group's damage. Any other record that can't be read damages its group until a head tells
//! its marks again. A head stands twice and one of them is enough; where nothing was lost before
//! it, it says nothing new and none is needed.

use std::collections::{BTreeMap, BTreeSet};

use super::format::{self, Head, RECORD_HEADER_BYTES, Record, RecordHeader, kind};
use super::index::{Index, Place};
use super::{EntryId, GroupMarks};
use crate::error::Corrupt;
use crate::types::GroupId;

/// Most missing entries of a group that are kept as places; with more, the group is damaged at
/// once. Only dropped segments and damage leave any.
const MISSING_MAX: u64 = 1 << 22;
/// The least that an entry takes of a segment.
const ENTRY_BYTES_MIN: u64 = RECORD_HEADER_BYTES as u64 + 3;
/// Longest text of a group's damage, so that a head has a largest size.
const WHAT_BYTES_MAX: usize = 256;

/// One record of a frame.
struct Item<'a> {
    /// From the beginning of the frame's body.
    offset: u32,
    header: RecordHeader,
    record: Result<Record<'a>, &'static str>,
}

/// The records of a frame.
pub(super) struct Parsed<'a> {
    items: Vec<Item<'a>>,
    healed: u64,
    /// Where the rest can't be told apart.
    lost: Option<u32>,
}

/// Takes a frame's body apart. `body_bytes` is how long it should be.
pub(super) fn parse(body: &[u8], body_bytes: u32) -> Parsed<'_> {
    let mut parsed = Parsed { items: Vec::new(), healed: 0, lost: None };
    let mut at = 0;
    while at < body.len() {
        let Some(header) = RecordHeader::decode_healed(&body[at..]) else {
            parsed.lost = Some(at as u32);
            return parsed;
        };
        let end = at as u64 + header.record_bytes();
        if end > body.len() as u64 {
            parsed.lost = Some(at as u32);
            return parsed;
        }
        let end = end as usize;
        parsed.healed += u64::from(RecordHeader::decode(&body[at..]).is_none());
        let record = format::decode_body(&header, &body[at + RECORD_HEADER_BYTES..end]);
        parsed.items.push(Item { offset: at as u32, header, record });
        at = end;
    }
    if body.len() as u64 != u64::from(body_bytes) {
        parsed.lost = Some(at as u32);
    }
    parsed
}

impl Parsed<'_> {
    /// Whether every record can be read.
    pub(super) fn is_whole(&self) -> bool {
        self.lost.is_none() && self.items.iter().all(|item| item.record.is_ok())
    }
}

/// The state of a replay.
pub(super) struct Replay {
    pub(super) index: Index,
    /// Damage that did no harm.
    pub(super) healed: u64,
    /// The segments that should exist.
    segments: BTreeSet<u32>,
    /// Whether segments may have been dropped without a record of it that can be read.
    drop_lost: bool,
    last_segment: Option<u32>,
    /// Whether the marks are those that a head would tell now.
    exact: bool,
    /// Why a head can't be read, until its second copy is.
    head_lost: Option<String>,
    /// Damage of marks, until a head tells them again.
    marks_damage: BTreeMap<GroupId, Corrupt>,
    /// Why an entry is missing, where it is known.
    missing: BTreeMap<(GroupId, u64), String>,
    /// The damaged groups that the newest head names, and what it says of unknown ones.
    known_damage: BTreeSet<GroupId>,
    known_taint: bool,
    /// How many missing entries were given a place.
    padded: u64,
    /// How large segments are.
    segment_bytes: u64,
}

impl Replay {
    pub(super) fn new(index: Index, segment_bytes: u64) -> Self {
        Replay {
            index,
            healed: 0,
            segments: BTreeSet::new(),
            drop_lost: false,
            last_segment: None,
            exact: false,
            head_lost: None,
            marks_damage: BTreeMap::new(),
            missing: BTreeMap::new(),
            known_damage: BTreeSet::new(),
            known_taint: false,
            padded: 0,
            segment_bytes,
        }
    }

    pub(super) fn begin_segment(&mut self, number: u32) {
        let follows = match self.last_segment {
            Some(last) => self.exact && last.checked_add(1) == Some(number),
            None => number == 1,
        };
        self.exact = follows;
        self.last_segment = Some(number);
        self.segments.insert(number);
    }

    /// Something was lost that can't be attributed: all groups that are known are damaged, and
    /// any that is not known may be.
    pub(super) fn taint(&mut self, what: String) {
        self.exact = false;
        self.known_taint = false;
        let what = shortened(what);
        let groups: Vec<GroupId> = self.index.groups.keys().copied().collect();
        for group in groups {
            self.damage(group, None, what.clone());
        }
        self.index.tainted.get_or_insert(what);
    }

    fn damage(&mut self, group: GroupId, index: Option<u64>, what: String) {
        let known = self.index.groups.entry(group).or_default();
        if known.damage.is_none() {
            known.damage = Some(Corrupt { group, index, what: shortened(what) });
            self.known_damage.remove(&group);
        }
    }

    /// Replays the records of a frame whose body begins at an offset of a segment.
    pub(super) fn apply(&mut self, segment: u32, body_offset: u32, parsed: Parsed<'_>) {
        self.healed += parsed.healed;
        for Item { offset, header, record } in parsed.items {
            let offset = body_offset + offset;
            if header.kind != kind::HEAD {
                self.no_head_comes();
            }
            if header.is_of_group() && header.kind != kind::REMOVE {
                self.meet(header.group);
            }
            match record {
                Ok(record) => {
                    let place = Place { segment, offset, body_bytes: header.body_bytes };
                    self.record(header.group, record, place);
                }
                Err(why) => {
                    let what = format!("{why} (log segment {segment:08x}, byte {offset})");
                    self.unreadable(&header, what);
                }
            }
        }
        if let Some(at) = parsed.lost {
            let offset = body_offset + at;
            self.taint(format!("no record can be read (log segment {segment:08x}, byte {offset})"));
        }
    }

    /// A group that is first met after something was lost may have lost its beginning.
    fn meet(&mut self, group: GroupId) {
        if let Some(what) = &self.index.tainted
            && !self.index.groups.contains_key(&group)
        {
            let what = what.clone();
            self.damage(group, None, what);
        }
    }

    /// What a head should have told is not told.
    fn no_head_comes(&mut self) {
        if let Some(what) = self.head_lost.take() {
            self.taint(what);
        }
    }

    fn unreadable(&mut self, header: &RecordHeader, what: String) {
        match header.kind {
            kind::HEAD if self.exact => self.healed += 1,
            kind::DROP => {
                self.healed += 1;
                self.drop_lost = true;
            }
            kind::HEAD => self.head_lost = Some(what),
            kind::ENTRY => {
                let (group, index) = (header.group, header.index);
                let end = self.index.groups.get(&group).map_or(0, |known| known.end());
                if index < end || !self.pad(group, index.saturating_add(1)) {
                    self.damage(group, Some(index), what);
                } else {
                    self.missing.insert((group, index), what);
                }
            }
            _ => {
                self.exact = false;
                let corrupt = Corrupt { group: header.group, index: None, what: shortened(what) };
                self.index.groups.entry(header.group).or_default();
                self.marks_damage.entry(header.group).or_insert(corrupt);
            }
        }
    }

    fn record(&mut self, group: GroupId, record: Record<'_>, place: Place) {
        match record {
            Record::Entry(id, _) => self.entry(group, id, place),
            Record::Vote(vote) => {
                self.index.groups.entry(group).or_default().marks.vote = Some(vote);
            }
            Record::Committed(id) => {
                self.index.groups.entry(group).or_default().marks.committed = Some(id);
            }
            Record::Truncate(last) => self.settle(group, last),
            Record::Purge(through) => {
                self.index.purge(group, through);
            }
            Record::Remove => {
                self.index.remove(group);
                self.marks_damage.remove(&group);
                self.known_damage.remove(&group);
            }
            Record::Head(head) => self.head(head),
            Record::Drop(segments) => {
                for number in segments {
                    self.segments.remove(&number);
                }
            }
        }
    }

    fn entry(&mut self, group: GroupId, id: EntryId, place: Place) {
        let end = self.index.groups.entry(group).or_default().end();
        if id.index < end {
            let what = format!("entry {} was written twice", id.index);
            self.damage(group, Some(id.index), what);
            // The newer stays, for what follows it.
            if self.index.truncate(group, id.index.checked_sub(1)).is_err() {
                return;
            }
        } else if !self.pad(group, id.index) {
            return;
        }
        self.index.push_written(group, id, place);
    }

    /// Extends a group with missing entries up to an index; false if they are too many, or more than
    /// all segments that there ever were had room for.
    fn pad(&mut self, group: GroupId, end: u64) -> bool {
        let present = self.index.groups.entry(group).or_default().end();
        let missing = end.saturating_sub(present);
        let segments = u64::from(self.last_segment.unwrap_or(1));
        let room = segments.saturating_mul(self.segment_bytes) / ENTRY_BYTES_MIN;
        self.padded = self.padded.saturating_add(missing.min(MISSING_MAX + 1));
        if missing > MISSING_MAX || self.padded > room {
            self.damage(group, Some(present), format!("entries {present} to {end} are missing"));
            return false;
        }
        self.index.push_missing(group, end);
        true
    }

    /// Makes an entry the last one. If it is not there, or another is in its place, what should
    /// be there was in a segment that is gone.
    fn settle(&mut self, group: GroupId, last: Option<EntryId>) {
        let end = last.map_or(0, |last| last.index.saturating_add(1));
        let known = self.index.groups.entry(group).or_default();
        if end < known.first() {
            let what = format!("its log was cut before entry {}, which is purged", known.first());
            self.damage(group, None, what);
            return;
        }
        let cut = |index: &mut Index, end: u64| index.truncate(group, end.checked_sub(1)).is_ok();
        if cut(&mut self.index, end)
            && self.index.groups.get(&group).and_then(|known| known.last()) != last
        {
            let first = self.index.groups.get(&group).map_or(0, |known| known.first());
            let kept = end.saturating_sub(1).max(first);
            if self.index.groups.get(&group).is_some_and(|known| known.end() > kept) {
                cut(&mut self.index, kept);
            }
            self.pad(group, end);
        }
    }

    fn head(&mut self, head: Head) {
        self.healed += u64::from(self.head_lost.take().is_some());
        self.segments = head.segments.into_iter().collect();
        self.drop_lost = false;
        self.known_taint = head.tainted.is_some();
        self.index.tainted = None;
        let listed: BTreeSet<GroupId> = head.groups.iter().map(|known| known.group).collect();
        let unlisted: Vec<GroupId> =
            self.index.groups.keys().filter(|group| !listed.contains(group)).copied().collect();
        for group in unlisted {
            self.index.remove(group);
        }
        self.index.tainted = head.tainted;
        self.marks_damage.clear();
        self.known_damage.clear();
        for known in head.groups {
            let purged = |marks: &GroupMarks| marks.purged.map(|purged| purged.index);
            let present = self.index.groups.get(&known.group);
            if present.is_some_and(|group| purged(&group.marks) > purged(&known.marks)) {
                // It was removed and began anew in a segment that is gone.
                self.index.remove(known.group);
            }
            if let Some(purged) = known.marks.purged {
                self.index.purge(known.group, purged);
            }
            self.settle(known.group, known.last);
            let group = self.index.groups.entry(known.group).or_default();
            group.marks = known.marks;
            if known.damage.is_some() {
                group.damage = known.damage;
                self.known_damage.insert(known.group);
            }
        }
        self.exact = true;
    }

    /// Ends the replay: what is still missing is damage.
    pub(super) fn end(&mut self, present: &BTreeSet<u32>) {
        self.no_head_comes();
        if let Some(number) = self.segments.difference(present).next()
            && !self.drop_lost
        {
            self.taint(format!("log segment {number:08x} is missing"));
        }
        for (group, corrupt) in std::mem::take(&mut self.marks_damage) {
            self.damage(group, corrupt.index, corrupt.what);
        }
        let missing: Vec<(GroupId, u64)> = self
            .index
            .groups
            .iter()
            .filter_map(|(group, known)| Some((*group, known.first_missing()?)))
            .collect();
        for (group, index) in missing {
            let why = self.missing.remove(&(group, index));
            let what = why.unwrap_or_else(|| "the entry is missing from the log".to_owned());
            self.damage(group, Some(index), what);
        }
    }

    /// Whether there is damage that the newest head does not tell.
    pub(super) fn has_new_damage(&self) -> bool {
        let taint = self.index.tainted.is_some() && !self.known_taint;
        let damaged = |(group, known): (&GroupId, &super::index::Group)| {
            known.damage.is_some() && !self.known_damage.contains(group)
        };
        taint || self.index.groups.iter().any(damaged)
    }
}

/// Cuts a text to its largest size.
fn shortened(mut text: String) -> String {
    let mut end = WHAT_BYTES_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_entries_are_missing_than_segments_had_room_for() {
        let place = Place { segment: 1, offset: 0, body_bytes: 0 };
        let id = |index| EntryId { term: 1, node: 1, index };
        let mut replay = Replay::new(Index::new(0), 100 * ENTRY_BYTES_MIN);
        replay.begin_segment(1);
        for (group, index) in [(1, 60), (2, 40), (3, 1)] {
            replay.record(GroupId(group), Record::Entry(id(index), b""), place);
        }
        let held = |group| replay.index.groups[&GroupId(group)].end();
        assert_eq!([1, 2, 3].map(held), [61, 41, 0]);
        let damage = replay.index.groups[&GroupId(3)].damage.clone().expect("it is told");
        assert_eq!(damage.what, "entries 0 to 1 are missing");
    }
}
