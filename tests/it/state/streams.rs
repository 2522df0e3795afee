//! The stream of a snapshot: its bytes, what it holds while writes go on, and every way in which
//! it can be broken.

use aspen::limits::{SNAPSHOT_CHUNK_BYTES, SNAPSHOT_MARK_BYTES_MAX, SNAPSHOT_ROW_BYTES_MAX};
use aspen::machine::tables::Table;
use aspen::store::snapshot::SnapshotError;
use aspen::store::state::State;
use aspen::types::GroupId;

use super::{GROUP, entry, fill, hash, names, open, put, receive, stream};
use crate::crash_disk::CrashDisk;
use crate::machine::dice::Dice;

/// The bytes of version 1.
#[test]
fn the_bytes_of_a_snapshot_are_fixed() {
    let state = open(&CrashDisk::new());
    put(&state, 300, &[(Table::Answers, b"k", b""), (Table::Meta, b"", b"row")]).unwrap();
    state
        .write(|writer| {
            writer.set_membership(entry(2), b"xyz".to_vec());
            Ok(())
        })
        .unwrap();
    let expected = b"ASPNSNAP\x01\x07\0\0\0\0\0\0\0\x0d\0\0\0\
        \x01\x01\x01\xac\x02\x01\x01\x01\x02\x03xyz\
        \0\0\0\0\0\x03\0\0\0row\
        \x07\x01\0\0\0\0\0\0\0k\
        \xff";
    // Some(1, 1, 300), Some(1, 1, 2), then three bytes of membership.
    let bytes = stream(&state);
    let (body, end) = bytes.split_at(bytes.len() - 32);
    assert_eq!(body.escape_ascii().to_string(), expected.escape_ascii().to_string());
    assert_eq!(end, blake3::hash(expected).as_bytes());
}

#[test]
fn a_snapshot_is_the_state_at_its_mark_while_writes_go_on() {
    let state = open(&CrashDisk::new());
    fill(&state, 1, 900);
    let (marked, marked_hash) = (state.applied(), hash(&state));
    let mut source = state.snapshot().unwrap();
    assert_eq!(*source.mark(), marked);
    let follower = open(&CrashDisk::new());
    let mut sink = follower.receive_snapshot(9).unwrap();
    let (mut index, mut chunks) = (1, 0);
    while let Some(chunk) = source.next_chunk().unwrap() {
        assert!(chunk.len() < SNAPSHOT_CHUNK_BYTES + 301 * 1024, "{}", chunk.len());
        sink.write(&chunk).unwrap();
        chunks += 1;
        index += 1;
        fill(&state, index, 500);
        if index % 2 == 0 {
            state.checkpoint().unwrap();
        }
    }
    assert!(source.next_chunk().unwrap().is_none(), "nothing follows the end");
    assert!(chunks >= 4, "{chunks} chunks");
    let received = sink.finish().unwrap();
    assert_eq!(*received.mark(), marked);
    follower.install(&received).unwrap();
    assert_eq!((follower.applied(), hash(&follower)), (marked, marked_hash));
    assert_ne!(hash(&state), marked_hash);
}

/// A follower that serves something, and the disk it is on.
fn follower() -> (CrashDisk, State) {
    let disk = CrashDisk::new();
    let state = open(&disk);
    put(&state, 5, &[(Table::Keys, b"old", b"row")]).unwrap();
    state.checkpoint().unwrap();
    (disk, state)
}

/// The stream is refused with these words, and the old state goes on.
fn is_refused(disk: &CrashDisk, state: &State, bytes: &[u8], words: &str, place: &str) {
    let old = (state.applied(), hash(state));
    match receive(state, bytes, 4_096) {
        Err(SnapshotError::Refused(what)) => assert!(what.contains(words), "{place}: {what}"),
        other => panic!("{place}: {other:?}"),
    }
    assert!((state.applied(), hash(state)) == old, "{place}: the state has changed");
    assert_eq!(names(disk), ["state.redb"], "{place}");
}

#[test]
fn a_stream_that_is_cut_anywhere_is_refused() {
    let leader = open(&CrashDisk::new());
    put(&leader, 9, &[(Table::Keys, b"a", b"1"), (Table::History, b"b", &[7; 200])]).unwrap();
    let whole = stream(&leader);
    let (disk, state) = follower();
    for len in 0..whole.len() {
        is_refused(&disk, &state, &whole[..len], "", &format!("cut at {len}"));
        let mut gap = whole.clone();
        gap.remove(len);
        is_refused(&disk, &state, &gap, "", &format!("without byte {len}"));
        let mut more = whole.clone();
        more.insert(len, 0x55);
        is_refused(&disk, &state, &more, "", &format!("with a byte more at {len}"));
    }
    let doubled = [&whole[..], &whole[..]].concat();
    is_refused(&disk, &state, &doubled, "", "twice");
    state.install(&receive(&state, &whole, 3).unwrap()).unwrap();
    assert_eq!(hash(&state), hash(&leader));
}

#[test]
fn a_stream_with_a_flipped_bit_is_refused() {
    let leader = open(&CrashDisk::new());
    fill(&leader, 3, 40);
    let whole = stream(&leader);
    let (disk, state) = follower();
    let mut dice = Dice::new(1);
    for round in 0..400 {
        // Half of them near the edges, where the form is.
        let byte = match round % 4 {
            0 => round / 2,
            1 => whole.len() - 1 - round / 4,
            _ => dice.below(whole.len() as u64) as usize,
        };
        let mut flipped = whole.clone();
        flipped[byte] ^= 1 << dice.below(8);
        is_refused(&disk, &state, &flipped, "", &format!("flipped at {byte}"));
    }
}

/// A stream whose hash fits, whatever is in it.
fn hashed(body: &[u8]) -> Vec<u8> {
    [body, blake3::hash(body).as_bytes()].concat()
}

fn head(group: GroupId, mark: &[u8]) -> Vec<u8> {
    let mut bytes = b"ASPNSNAP\x01".to_vec();
    bytes.extend(group.0.to_le_bytes());
    bytes.extend((mark.len() as u32).to_le_bytes());
    bytes.extend(mark);
    bytes
}

fn row(table: u8, key: &[u8], row: &[u8]) -> Vec<u8> {
    let mut bytes = vec![table];
    bytes.extend((key.len() as u32).to_le_bytes());
    bytes.extend((row.len() as u32).to_le_bytes());
    bytes.extend(key);
    bytes.extend(row);
    bytes
}

#[test]
fn a_stream_whose_hash_fits_is_refused_for_what_it_says() {
    let (disk, state) = follower();
    let ours = head(GROUP, &[0, 0, 0]);
    let with = |rows: &[Vec<u8>]| [ours.clone(), rows.concat(), vec![0xff]].concat();
    let (a, b) = (row(1, b"a", b"1"), row(1, b"b", b"1"));
    let huge = |key: u32, row: u32| {
        [&[1][..], &key.to_le_bytes(), &row.to_le_bytes(), b"only this"].concat()
    };
    let mut newer = with(&[]);
    newer[8] = 2;
    let mut long_mark = ours.clone();
    long_mark[17..21].copy_from_slice(&u32::MAX.to_le_bytes());
    let mut other = with(&[]);
    other[7] = b'!';
    let row_max = SNAPSHOT_ROW_BYTES_MAX as u32;
    let longest_mark = vec![0; SNAPSHOT_MARK_BYTES_MAX + 1];
    let broken = [
        ("of another group", "of group 8, not 7", head(GroupId(8), &[0, 0, 0])),
        ("of a newer version", "version 2, this program reads 1", newer),
        ("something else", "does not begin", other),
        ("nothing", "ends early", vec![]),
        ("no rows and no end", "ends early", ours.clone()),
        ("no end", "ends early", [ours.clone(), a.clone()].concat()),
        ("a mark that claims 4 GiB", "mark is too long", long_mark),
        ("a mark of a byte too many", "mark is too long", head(GROUP, &longest_mark)),
        ("a mark that does not decode", "mark", head(GROUP, &[1, 0xff])),
        ("a mark with something left over", "left over", head(GROUP, &[0, 0, 0, 0])),
        ("a membership that claims 2^63 bytes", "mark", {
            head(GROUP, &[0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f])
        }),
        ("an unknown table", "table 8", with(&[row(8, b"a", b"1")])),
        ("a row that claims 8 GiB", "row that is too long", with(&[huge(u32::MAX, u32::MAX)])),
        ("a key that claims too much", "row that is too long", with(&[huge(row_max, 1)])),
        ("a row that claims more than there is", "ends early", with(&[huge(9, row_max - 9)])),
        ("a row twice", "not in order", with(&[a.clone(), a.clone()])),
        ("rows that go back", "not in order", with(&[b.clone(), a.clone()])),
        ("tables that go back", "not in order", with(&[a.clone(), row(0, b"z", b"1")])),
        ("an end in the middle", "behind its end", with(&[a.clone(), vec![0xff], b.clone()])),
        ("an empty row behind the end", "behind its end", with(&[vec![0xff]])),
    ];
    for (name, words, body) in broken {
        is_refused(&disk, &state, &hashed(&body), words, name);
    }
    // The same, unbroken.
    let good = hashed(&with(&[a, b, row(2, b"", b"")]));
    state.install(&receive(&state, &good, 7).unwrap()).unwrap();
    assert!(stream(&state) == good);
}

#[test]
fn a_part_that_is_damaged_after_it_arrived_is_not_installed() {
    let leader = open(&CrashDisk::new());
    fill(&leader, 3, 40);
    let (disk, state) = follower();
    let received = receive(&state, &stream(&leader), 10_000).unwrap();
    let (path, len) =
        disk.files().into_iter().find(|(path, _)| path.ends_with("snapshot-1.part")).unwrap();
    let old = hash(&state);
    for byte in (0..len).step_by(len / 40) {
        disk.flip(&path, byte, 3);
        let error = state.install(&received).unwrap_err();
        assert!(error.what.contains("refused") && !error.corrupt, "byte {byte}: {error}");
        assert_eq!(hash(&state), old, "byte {byte}");
        assert_eq!(names(&disk), ["snapshot-1.part", "state.redb"], "byte {byte}");
        disk.flip(&path, byte, 3);
    }
    put(&state, 6, &[(Table::Keys, b"old", b"goes on")]).unwrap();
    state.checkpoint().unwrap();
    state.install(&received).unwrap();
    drop(received);
    assert_eq!(hash(&state), hash(&leader));
    assert_eq!(names(&disk), ["state.redb"]);
}
