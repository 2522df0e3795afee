//! A checked file behaves as a plain one, and finds every flipped bit of what it wrote.

use std::io;
use std::path::Path;
use std::sync::Arc;

use aspen::seams::Random;
use aspen::seams::disk::{Disk, OpenMode};
use aspen::store::checked::{CheckedFile, DamagedBlock};
use proptest::prelude::*;
use redb::StorageBackend;

use crate::crash_disk::{CrashDisk, below};

const BLOCK: usize = 4096;
const GROUP: usize = 1025 * BLOCK;

fn path() -> &'static Path {
    Path::new("data/state.redb")
}

fn open(disk: &CrashDisk) -> io::Result<CheckedFile> {
    CheckedFile::new(disk.open(path(), OpenMode::Create)?, path())
}

#[derive(Clone, Debug)]
enum Act {
    Write(usize, Vec<u8>),
    Read(usize, usize),
    SetLen(usize),
    Sync,
    Reopen,
}

/// Places around the edges of blocks and groups, in a file of up to three groups.
fn place() -> impl Strategy<Value = usize> {
    let edge = prop_oneof![
        (0..5_usize).prop_map(|block| block * BLOCK),
        (1020..1030_usize).prop_map(|block| block * BLOCK),
        (2046..2050_usize).prop_map(|block| block * BLOCK),
    ];
    (edge, 0..2 * BLOCK).prop_map(|(edge, more)| edge + more.saturating_sub(BLOCK))
}

/// The first block is only for a header.
fn act() -> impl Strategy<Value = Act> {
    let header = proptest::collection::vec(any::<u8>(), 1..320);
    prop_oneof![
        1 => (0..188_usize, header).prop_map(|(at, data)| Act::Write(at, data)),
        4 => (place(), proptest::collection::vec(any::<u8>(), 1..9000))
            .prop_map(|(at, data)| Act::Write(at.max(BLOCK), data)),
        2 => (place(), 1..4_usize).prop_map(|(at, blocks)| {
            Act::Write(at.max(BLOCK) / BLOCK * BLOCK, vec![at as u8; blocks * BLOCK])
        }),
        4 => (place(), 1..20_000_usize).prop_map(|(at, len)| Act::Read(at, len)),
        2 => place().prop_map(|len| Act::SetLen(if len < BLOCK { 0 } else { len })),
        1 => Just(Act::Sync),
        1 => Just(Act::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]
    #[test]
    fn a_checked_file_is_a_file(acts in proptest::collection::vec(act(), 1..30)) {
        let disk = CrashDisk::new();
        let mut file = open(&disk).unwrap();
        let mut model: Vec<u8> = Vec::new();
        for act in acts {
            match act {
                Act::Write(at, _) if at < BLOCK && model.len() < BLOCK => {
                    prop_assert!(file.write(at as u64, &[1]).is_err());
                }
                Act::Write(at, data) => {
                    file.write(at as u64, &data).unwrap();
                    if model.len() < at + data.len() {
                        model.resize(at + data.len(), 0);
                    }
                    model[at..at + data.len()].copy_from_slice(&data);
                }
                Act::Read(at, len) => {
                    let mut read = vec![1; len];
                    let result = file.read(at as u64, &mut read);
                    match model.get(at..at + len) {
                        Some(expected) => {
                            result.unwrap();
                            prop_assert!(read == expected);
                        }
                        None => prop_assert!(result.is_err()),
                    }
                }
                Act::SetLen(len) => {
                    file.set_len(len as u64).unwrap();
                    model.resize(len, 0);
                }
                Act::Sync => file.sync_data().unwrap(),
                Act::Reopen => {
                    file.sync_data().unwrap();
                    file = open(&disk).unwrap();
                }
            }
            prop_assert_eq!(file.len().unwrap(), model.len() as u64);
        }
        file.sync_data().unwrap();
        let mut read = vec![0; model.len()];
        open(&disk).unwrap().read(0, &mut read).unwrap();
        prop_assert!(read == model);
    }
}

#[test]
fn a_flipped_bit_is_named_when_its_block_is_read() {
    let disk = CrashDisk::new();
    let file = open(&disk).unwrap();
    let random = Random::from_seed(1);
    let blocks = 1030;
    let mut data = vec![0; blocks * BLOCK];
    random.fill(&mut data);
    data[320..BLOCK].fill(0);
    file.set_len(data.len() as u64).unwrap();
    file.write(0, &data).unwrap();
    file.sync_data().unwrap();
    for flip in 0..200 {
        let len = if flip % 8 == 0 { 3 * BLOCK } else { disk.bytes(path()).len() };
        let byte = below(&random, len as u64) as usize;
        disk.flip(path(), byte, 4);
        let (group, within) = (byte / GROUP, byte % GROUP);
        // Blocks whose data or checksum was hit.
        let hit = match within.checked_sub(BLOCK) {
            Some(data) => group * 1024 + data / BLOCK,
            None => group * 1024 + within / 4,
        };
        let opened = open(&disk);
        if byte < 4 {
            let _ = opened.unwrap_err();
        } else {
            let file = opened.unwrap();
            for block in 0..blocks {
                let mut read = vec![0; BLOCK];
                match file.read((block * BLOCK) as u64, &mut read) {
                    Ok(()) => {
                        // Of the first block only a sector is used.
                        let unused = (BLOCK + 512..2 * BLOCK).contains(&byte);
                        assert!(block != hit || unused, "byte {byte}: block {block}");
                        assert!(read == data[block * BLOCK..(block + 1) * BLOCK]);
                    }
                    Err(error) => {
                        assert_eq!(block, hit, "byte {byte}");
                        let offset = (group * GROUP + BLOCK + block % 1024 * BLOCK) as u64;
                        let damaged = DamagedBlock { file: path().to_owned(), offset };
                        assert_eq!(DamagedBlock::of(&error), Some(&damaged));
                    }
                }
            }
        }
        disk.flip(path(), byte, 4);
    }
}

#[test]
fn a_file_of_another_version_is_refused() {
    let disk = CrashDisk::new();
    let file = open(&disk).unwrap();
    file.write(BLOCK as u64, &[1; BLOCK]).unwrap();
    file.sync_data().unwrap();
    assert_eq!(&disk.bytes(path())[..4], b"ACF1");
    disk.put(path(), 0, b"ACF2");
    assert_eq!(open(&disk).unwrap_err().kind(), io::ErrorKind::Unsupported);
    disk.put(path(), 0, b"redb");
    assert_eq!(open(&disk).unwrap_err().kind(), io::ErrorKind::InvalidData);
}

/// The bytes of version 1.
#[test]
fn the_bytes_of_a_checked_file_are_fixed() {
    let disk = CrashDisk::new();
    let file = open(&disk).unwrap();
    file.set_len(3 * BLOCK as u64).unwrap();
    file.write(0, b"header").unwrap();
    file.write(BLOCK as u64, b"hello").unwrap();
    file.sync_data().unwrap();
    let mut expected = b"ACF1".to_vec();
    expected.extend([0x01, 0xae, 0x4d, 0xb3]); // CRC32 of "hello" and 4,091 zeros
    expected.resize(BLOCK, 0);
    expected.extend(b"header");
    expected.resize(BLOCK + 508, 0);
    expected.extend([0x74, 0xf9, 0x0c, 0xa8]); // CRC32 of "header" and 502 zeros
    expected.resize(2 * BLOCK, 0);
    expected.extend(b"hello");
    expected.resize(4 * BLOCK, 0);
    assert!(disk.bytes(path()) == expected);
}

#[test]
fn reads_and_writes_from_many_threads_see_whole_blocks() {
    let disk = CrashDisk::new();
    let file = Arc::new(open(&disk).unwrap());
    file.set_len(64 * BLOCK as u64).unwrap();
    std::thread::scope(|scope| {
        for writer in 0..2_u8 {
            let file = file.clone();
            scope.spawn(move || {
                for round in 0..200_usize {
                    let block = 1 + (round * 7 + usize::from(writer)) % 60;
                    file.write((block * BLOCK) as u64, &[writer + 1; 2 * BLOCK]).unwrap();
                }
                file.sync_data().unwrap();
            });
        }
        for _ in 0..2 {
            scope.spawn(|| {
                for round in 0..400_usize {
                    let mut read = vec![0; BLOCK];
                    file.read(((1 + round % 60) * BLOCK) as u64, &mut read).unwrap();
                    assert!(read.iter().all(|byte| *byte == read[0]));
                }
            });
        }
    });
}
