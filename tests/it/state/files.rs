//! State files that are left over, damaged, cut, in use or of another version.

use std::path::{Path, PathBuf};

use aspen::machine;
use aspen::machine::tables::TableError;
use aspen::seams::disk::{Disk, OpenMode};
use aspen::store::checked::CheckedFile;
use redb::TableDefinition;

use super::{DIR, fill, fill_beyond_memory, hash, index_of, names, open, try_open};
use crate::crash_disk::CrashDisk;

fn path() -> PathBuf {
    Path::new(DIR).join("state.redb")
}

/// A disk with a state that was closed in an orderly way, or whose process was killed.
fn filled(is_killed: bool) -> CrashDisk {
    let disk = CrashDisk::new();
    let state = open(&disk);
    fill(&state, 1, 200);
    fill(&state, 2, 300);
    state.checkpoint().unwrap();
    if is_killed {
        disk.kill();
    }
    drop(state);
    disk
}

#[test]
fn what_a_crash_left_over_is_swept_at_start() {
    let disk = filled(false);
    let before = hash(&open(&disk));
    for name in ["snapshot-1.part", "snapshot-77.part", "state.redb.new", "notes.txt"] {
        let file = disk.open(&Path::new(DIR).join(name), OpenMode::CreateNew).unwrap();
        file.write_at(b"half of it", 0).unwrap();
    }
    let state = open(&disk);
    assert_eq!(names(&disk), ["notes.txt", "state.redb"], "only what is ours to sweep");
    assert_eq!((index_of(state.applied_id()), hash(&state)), (2, before));
}

#[test]
fn a_state_is_open_once() {
    let disk = CrashDisk::new();
    let state = open(&disk);
    let weak = state.downgrade();
    let error = try_open(&disk).unwrap_err();
    let says = "the state in data/groups/7 is still open";
    assert_eq!(error, TableError::io(says));
    assert!(weak.upgrade().is_some());
    drop(state);
    assert!(weak.upgrade().is_none());
    open(&disk);
}

/// Writes the row that says what was applied, as another program might.
fn set_applied_row(disk: &CrashDisk, row: Option<&[u8]>) {
    const APPLIED: TableDefinition<'static, &'static str, &'static [u8]> =
        TableDefinition::new("applied");
    let file = disk.open(&path(), OpenMode::Existing).unwrap();
    let file = CheckedFile::new(file, &path()).unwrap();
    let database = redb::Builder::new().create_with_backend(file).unwrap();
    let mut transaction = database.begin_write().unwrap();
    transaction.set_quick_repair(true);
    match row {
        Some(row) => {
            transaction.open_table(APPLIED).unwrap().insert("applied", row).unwrap();
        }
        None => assert!(transaction.delete_table(APPLIED).unwrap()),
    }
    transaction.commit().unwrap();
}

#[test]
fn a_file_of_a_newer_version_is_refused_in_a_sentence() {
    let disk = filled(false);
    set_applied_row(&disk, Some(&[2, 0, 0, 0]));
    let error = try_open(&disk).unwrap_err();
    let says = "the state file has version 2, this program reads 1: use a newer one";
    assert_eq!(error, TableError::io(says));

    let disk = filled(false);
    disk.put(&path(), 0, b"ACF2");
    let error = try_open(&disk).unwrap_err();
    let says = "data/groups/7/state.redb is of a version that this program does not know";
    assert_eq!(error, TableError::io(says));
}

/// The bytes of version 1: the version, the applied entry, the membership's entry, its bytes.
#[test]
fn the_bytes_of_the_applied_mark_are_fixed() {
    let disk = filled(false);
    let expected = open(&disk).applied();
    let row = b"\x01\x01\x01\x01\x02\x01\x01\x01\x01\x09everybody";
    set_applied_row(&disk, Some(row));
    assert_eq!(open(&disk).applied(), expected);
}

#[test]
fn a_file_that_does_not_say_what_was_applied_is_corrupt() {
    let rows: [Option<&[u8]>; 4] = [None, Some(&[]), Some(&[1, 1]), Some(&[1, 0, 0, 0, 0])];
    for row in rows {
        let disk = filled(false);
        set_applied_row(&disk, row);
        let error = try_open(&disk).unwrap_err();
        assert!(error.corrupt, "{row:?}: {error}");
    }
}

#[test]
fn damage_is_called_so_however_often_one_looks() {
    let disk = CrashDisk::new();
    let state = open(&disk);
    fill_beyond_memory(&state);
    state.checkpoint().unwrap();
    let len = disk.bytes(&path()).len();
    for block in (len / 4096 / 8..len / 4096).step_by(50) {
        disk.flip(&path(), block * 4096 + 1_000, 5);
    }
    let view = state.view();
    let mut source = state.snapshot().unwrap();
    let mut sent = 0;
    let first = loop {
        match source.next_chunk() {
            Ok(chunk) => sent += chunk.expect("it does not come to its end").len(),
            Err(error) => break error,
        }
    };
    assert!(first.corrupt && first.what.contains("is damaged"), "{first}");
    // A stream without the chunk that failed would have a hash that fits.
    for _ in 0..3 {
        let _ = source.next_chunk().unwrap_err();
    }
    // redb takes nothing more, and would say only that.
    assert_eq!(machine::hash(&view).unwrap_err(), first, "after {sent} bytes");
    assert_eq!(state.write(|_| Ok(())).unwrap_err(), first);
    assert_eq!(state.checkpoint().unwrap_err(), first);
}

#[test]
fn a_file_that_was_cut_is_corrupt_or_whole() {
    for is_killed in [false, true] {
        let whole = filled(is_killed);
        let expected = hash(&open(&whole.copy()));
        let bytes = whole.bytes(&path());
        let mut corrupt = 0;
        let edges = (0..bytes.len()).step_by(4096 * 5);
        for len in
            edges.flat_map(|edge| [edge, edge + 1, edge + 2_000]).filter(|len| *len < bytes.len())
        {
            let disk = whole.copy();
            disk.open(&path(), OpenMode::Existing).unwrap().set_len(len as u64).unwrap();
            let read = try_open(&disk).and_then(|state| machine::hash(&state.view()));
            match read {
                Ok(found) => assert_eq!(found, expected, "cut at {len}, killed {is_killed}"),
                Err(error) => {
                    assert!(error.corrupt, "cut at {len}, killed {is_killed}: {error}");
                    corrupt += 1;
                }
            }
        }
        assert!(corrupt > 30, "{corrupt} cuts were found");
    }
}
