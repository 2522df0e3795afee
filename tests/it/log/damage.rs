//! Damage in a log that was synced: it is named, or it does no harm; never a wrong answer.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};

use aspen::error::Corrupt;
use aspen::seams::Random;
use aspen::store::log::format::{
    FRAME_HEADER_BYTES, FrameHeader, RECORD_HEADER_BYTES, RecordHeader, SECTOR, kind,
};
use aspen::store::log::{GroupLog, LogError};
use aspen::types::GroupId;

use super::crashes::run;
use super::rig::{Model, Rig, drive, now, open_on};
use super::{entry, small};
use crate::crash_disk::{CrashDisk, below};

/// What stands at a byte of a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// A header, which is read around a flipped bit.
    Header,
    /// The body of a record of some kind, group and index.
    Body(u8, GroupId, u64),
    /// Nothing that is read.
    Nothing,
}

/// The parts of an undamaged segment; what is in none of them is nothing.
fn parts(segment: &[u8]) -> Vec<(Range<usize>, Part)> {
    let mut parts = vec![(0..36, Part::Header)];
    let mut frame = SECTOR;
    while let Some(header) = segment.get(frame..).and_then(FrameHeader::decode) {
        let mut at = frame + FRAME_HEADER_BYTES;
        parts.push((frame..at, Part::Header));
        let body_end = at + header.body_bytes as usize;
        while at < body_end {
            let record = RecordHeader::decode(&segment[at..]).unwrap();
            let body = at + RECORD_HEADER_BYTES;
            parts.push((at..body, Part::Header));
            at += record.record_bytes() as usize;
            parts.push((body..at, Part::Body(record.kind, record.group, record.index)));
        }
        frame += header.frame_bytes() as usize;
    }
    parts
}

/// Names the part that a byte of an undamaged segment belongs to.
fn part(segment: &[u8], byte: usize) -> Part {
    let parts = parts(segment);
    let found = parts.iter().find(|(range, _)| range.contains(&byte));
    found.map_or(Part::Nothing, |(_, part)| *part)
}

/// A byte of a record that is not an entry.
fn some_mark(disk: &CrashDisk, random: &Random) -> Option<(PathBuf, usize)> {
    let mut marks = Vec::new();
    for (path, _) in disk.files() {
        for (range, part) in parts(&disk.bytes(&path)) {
            if matches!(part, Part::Body(kind, ..) if kind != kind::ENTRY) && !range.is_empty() {
                let byte = range.start + below(random, range.len() as u64) as usize;
                marks.push((path.clone(), byte));
            }
        }
    }
    let at = below(random, marks.len().max(1) as u64) as usize;
    marks.into_iter().nth(at)
}

/// The place of the last frame of the last segment.
fn last_frame(disk: &CrashDisk) -> (PathBuf, usize) {
    let (path, _) = disk.files().pop().unwrap();
    let bytes = disk.bytes(&path);
    let (mut frame, mut next) = (SECTOR, SECTOR);
    while let Some(header) = bytes.get(next..).and_then(FrameHeader::decode) {
        frame = next;
        next += header.frame_bytes() as usize;
    }
    (path, frame)
}

/// A run that ended well: all of it is proven durable.
fn synced_run(seed: u64) -> Rig {
    let mut rig = run(seed, 60 + seed as usize % 90);
    rig.reopen();
    rig
}

/// A run that was killed after its last sync, which only the sync itself proves.
fn killed_run(seed: u64) -> Rig {
    run(seed, 10 + seed as usize % 50)
}

/// A place to damage: in what was written, mostly, and not in zeros.
fn some_byte(disk: &CrashDisk, random: &Random) -> (PathBuf, usize) {
    let files = disk.files();
    loop {
        let (path, len) = &files[below(random, files.len() as u64) as usize];
        let byte = below(random, *len as u64) as usize;
        let sector = byte / SECTOR * SECTOR;
        let bytes = disk.bytes(path);
        if bytes[sector..sector + SECTOR].iter().any(|byte| *byte != 0) || below(random, 20) == 0 {
            return (path.clone(), byte);
        }
    }
}

#[test]
fn a_flipped_bit_is_named_or_does_no_harm() {
    let mut outcomes: BTreeMap<&str, u64> = BTreeMap::new();
    for seed in 0..60 {
        let rig = if seed % 2 == 0 { synced_run(seed) } else { killed_run(seed) };
        for flip in 0..40 {
            let random = Random::from_seed(seed << 16 | flip);
            let disk = rig.disk.copy();
            let mark = some_mark(&disk, &random).filter(|_| flip % 4 == 0);
            let (path, byte) = mark.unwrap_or_else(|| some_byte(&disk, &random));
            let bit = below(&random, 8) as u8;
            let part = part(&disk.bytes(&path), byte);
            disk.flip(&path, byte, bit);
            let place =
                format!("seed {seed}, {}, byte {byte}, bit {bit}: {part:?}", path.display());

            // The one case that can't be told from a tear, in what was written last: all that a
            // sector held was this bit.
            let sector = byte / SECTOR * SECTOR;
            let gone = disk.bytes(&path)[sector..sector + SECTOR].iter().all(|byte| *byte == 0);
            if gone && part != Part::Nothing {
                continue;
            }

            let (log, _core, recovery) = open_on(&disk, small()).unwrap();
            // Ahead of the log are zeros, and what is not is made so.
            assert!(recovery.cut.is_none() || part == Part::Nothing, "{place}: {recovery:?}");
            assert_eq!(recovery.tainted, None, "{place}");
            if let Err(difference) = rig.model.compare(&log, &random) {
                panic!("{place}: {difference}");
            }
            let outcome = match (part, &recovery.damaged[..]) {
                (Part::Nothing, []) => "nothing there",
                (Part::Header, []) if recovery.healed > 0 => "header read around",
                (Part::Body(kind::HEAD | kind::DROP, ..), []) => "head or drop not needed",
                (Part::Body(kind::ENTRY, group, index), []) => {
                    let live = rig.model.groups.get(&group).is_some_and(|group| {
                        group.entries.iter().any(|entry| entry.id.index == index)
                    });
                    // An entry of that index lives, but another one than this.
                    let replaced = live && rig.model.compare(&log, &random).is_ok();
                    assert!(!live || replaced, "{place}");
                    "entry that was gone"
                }
                (Part::Body(..), []) => "mark that a head told again",
                (Part::Body(kind::ENTRY, group, index), [damaged]) => {
                    assert_eq!((damaged.group, damaged.index), (group, Some(index)), "{place}");
                    "entry named"
                }
                (Part::Body(_, group, _), [damaged]) => {
                    assert_eq!(damaged.group, group, "{place}");
                    "mark named"
                }
                (_, damaged) => panic!("{place}: {damaged:?}"),
            };
            *outcomes.entry(outcome).or_default() += 1;
        }
    }
    for outcome in ["header read around", "entry named", "mark named", "entry that was gone"] {
        assert!(outcomes.get(outcome).is_some_and(|count| *count > 5), "{outcomes:?}");
    }
}

/// Damages whole sectors of what is proven durable: anything but the last frame.
#[test]
fn lost_sectors_are_never_a_wrong_answer() {
    let mut damaged = 0;
    for seed in 0..60 {
        let rig = synced_run(seed);
        let (last_path, last) = last_frame(&rig.disk);
        for number in 0..20 {
            let random = Random::from_seed(seed << 16 | number);
            let disk = rig.disk.copy();
            let (path, byte) = some_byte(&disk, &random);
            let begin = byte / SECTOR * SECTOR;
            let sectors = 1 + below(&random, 8) as usize;
            let end = (begin + sectors * SECTOR).min(disk.bytes(&path).len());
            if path == last_path && end > last {
                continue;
            }
            let mut lost = vec![0; end - begin];
            if below(&random, 2) == 0 {
                random.fill(&mut lost);
            }
            disk.put(&path, begin, &lost);
            let place = format!("seed {seed}, {}, bytes {begin}..{end}", path.display());
            let (log, core, recovery) = open_on(&disk, small()).unwrap();
            assert_eq!(recovery.cut, None, "{place}");
            if let Err(difference) = rig.model.compare(&log, &random) {
                panic!("{place}: {difference}");
            }
            damaged += usize::from(!recovery.damaged.is_empty());
            drop((log, core));
            damage_stays_until_the_group_is_removed(&rig, &disk, &place);
        }
    }
    assert!(damaged > 100, "{damaged} logs were damaged");
}

/// Writes to the groups that are whole, removes those that are not, and opens again.
fn damage_stays_until_the_group_is_removed(rig: &Rig, disk: &CrashDisk, place: &str) {
    let mut model = Model::default();
    model.groups.clone_from(&rig.model.groups);
    let (log, mut core, first) = open_on(disk, small()).unwrap();
    let damaged: Vec<GroupId> = first.damaged.iter().map(|corrupt| corrupt.group).collect();
    let whole = GroupId(77);
    if log.group(whole).is_err() {
        assert!(first.tainted.is_some(), "{place}");
        remove(&log, &mut core, whole);
    }
    append(&log.group(whole).unwrap(), 0);
    drive(&mut core).unwrap();
    drop((log, core));

    let (log, mut core, second) = open_on(disk, small()).unwrap();
    let still: Vec<GroupId> = second.damaged.iter().map(|corrupt| corrupt.group).collect();
    assert_eq!(damaged, still, "{place}");
    assert_eq!(first.tainted.is_some(), second.tainted.is_some(), "{place}");
    assert_eq!(log.group(whole).unwrap().read(0..9, 1).unwrap(), [entry(0, "whole")], "{place}");
    for group in &damaged {
        remove(&log, &mut core, *group);
        model.groups.remove(group);
        assert_eq!(log.group(*group).unwrap().last_id(), None, "{place}");
        append(&log.group(*group).unwrap(), 0);
    }
    drive(&mut core).unwrap();
    drop((log, core));

    let (log, _core, third) = open_on(disk, small()).unwrap();
    assert_eq!(third.damaged, [], "{place}");
    for group in damaged.iter().chain([&whole]) {
        let read = log.group(*group).unwrap().read(0..9, 1).unwrap();
        assert_eq!(read, [entry(0, "whole")], "{place}");
    }
    for (id, expected) in &model.groups {
        if !log.groups().contains(id) {
            // All that told of it was lost.
            assert!(third.tainted.is_some() && log.group(*id).is_err(), "{place}");
            continue;
        }
        let group = log.group(*id).unwrap_or_else(|corrupt| panic!("{place}: {corrupt}"));
        let end = expected.first + expected.entries.len() as u64;
        let read = group.read(expected.first..end, usize::MAX).unwrap();
        assert_eq!(read, expected.entries, "{place}");
    }
}

fn append(group: &GroupLog, index: u64) {
    let done = |result: std::io::Result<()>| result.unwrap();
    now(group.append(vec![entry(index, "whole")], Box::new(done))).unwrap();
}

fn remove(log: &aspen::store::log::Log, core: &mut aspen::store::log::LogCore, group: GroupId) {
    let mut removing = Box::pin(log.remove_group(group));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    assert!(std::future::Future::poll(removing.as_mut(), &mut cx).is_pending());
    drive(core).unwrap();
    now(removing).unwrap();
}

#[test]
fn damage_after_the_log_was_opened_is_found_when_it_is_read() {
    for seed in 0..30 {
        let rig = synced_run(seed);
        let random = Random::from_seed(seed);
        let disk = rig.disk.copy();
        let (log, _core, _) = open_on(&disk, small()).unwrap();
        for _ in 0..10 {
            let (path, byte) = some_byte(&disk, &random);
            let part = part(&rig.disk.bytes(&path), byte);
            disk.flip(&path, byte, 3);
            for (id, expected) in &rig.model.groups {
                for wanted in &expected.entries {
                    let index = wanted.id.index;
                    match log.group(*id).unwrap().read(index..index + 1, 1) {
                        Ok(read) => assert_eq!(read.first(), Some(wanted)),
                        Err(LogError::Corrupt(Corrupt { group, index: found, .. })) => {
                            assert_eq!((group, found), (*id, Some(index)));
                            if let Part::Body(_, group, found) = part {
                                assert_eq!((group, found), (*id, index));
                            }
                        }
                        Err(other) => panic!("{other}"),
                    }
                }
            }
            disk.flip(&path, byte, 3);
        }
    }
}

#[test]
fn a_segment_that_is_gone_is_noticed() {
    let mut noticed = 0;
    for seed in 0..30 {
        let rig = synced_run(seed);
        let files = rig.disk.files();
        for (path, _) in &files[..files.len() - 1] {
            let disk = rig.disk.copy();
            aspen::seams::disk::Disk::remove(&disk, Path::new(path)).unwrap();
            let (log, _core, recovery) = open_on(&disk, small()).unwrap();
            assert!(recovery.tainted.is_some(), "seed {seed}, {}", path.display());
            for group in log.groups() {
                assert!(log.group(group).is_err(), "seed {seed}, {}", path.display());
            }
            noticed += 1;
        }
    }
    assert!(noticed > 10, "{noticed}");
}

#[test]
fn a_log_of_another_version_is_refused() {
    let disk = CrashDisk::new();
    drop(open_on(&disk, small()).unwrap());
    let (path, _) = disk.files().remove(0);
    let mut header = disk.bytes(&path)[..36].to_vec();
    header[8..12].copy_from_slice(&9_u32.to_le_bytes());
    let crc = crc32fast::hash(&header[..32]);
    header[32..].copy_from_slice(&crc.to_le_bytes());
    disk.put(&path, 0, &header);
    let error = open_on(&disk, small()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("of version 9; this program knows version 1"), "{error}");
}
