//! redb on a checked file: crash images open with every durable commit, damage is named.

use std::collections::BTreeMap;
use std::path::Path;

use aspen::seams::Random;
use aspen::seams::disk::{Disk, OpenMode};
use aspen::store::checked::{CheckedFile, DamagedBlock};
use redb::{
    Database, DatabaseError, Durability, ReadableDatabase, ReadableTable, StorageError,
    TableDefinition,
};

use crate::crash_disk::{CrashDisk, Op, below};

const TABLE: TableDefinition<u64, &[u8]> = TableDefinition::new("data");

fn path() -> &'static Path {
    Path::new("state.redb")
}

fn open(disk: &CrashDisk) -> Result<Database, DatabaseError> {
    let file = disk.open(path(), OpenMode::Create).map_err(StorageError::from)?;
    let file = CheckedFile::new(file, path()).map_err(StorageError::from)?;
    // A small cache, so that pages leave it before they are committed.
    Database::builder().set_cache_size(64 * 1024).create_with_backend(file)
}

type Contents = BTreeMap<u64, Vec<u8>>;

/// Everything in the table.
fn scan(database: &Database) -> Result<Contents, redb::Error> {
    let read = database.begin_read()?;
    let table = match read.open_table(TABLE) {
        Err(redb::TableError::TableDoesNotExist(_)) => return Ok(Contents::new()),
        table => table?,
    };
    let mut contents = Contents::new();
    for row in table.iter()? {
        let (key, value) = row?;
        contents.insert(key.value(), value.value().to_vec());
    }
    Ok(contents)
}

/// One transaction of random changes, applied to the contents too. Durable ones are two-phase.
fn transact(database: &Database, contents: &mut Contents, durable: bool, random: &Random) {
    let mut write = database.begin_write().unwrap();
    let durability = if durable { Durability::Immediate } else { Durability::None };
    write.set_durability(durability).unwrap();
    write.set_two_phase_commit(true);
    if durable && below(random, 4) == 0 {
        write.set_quick_repair(true);
    }
    {
        let mut table = write.open_table(TABLE).unwrap();
        for _ in 0..1 + below(random, 20) {
            let key = below(random, 300);
            if below(random, 4) == 0 {
                table.remove(key).unwrap();
                contents.remove(&key);
            } else {
                let mut value = vec![0; below(random, 2000) as usize];
                random.fill(&mut value);
                table.insert(key, &value[..]).unwrap();
                contents.insert(key, value);
            }
        }
    }
    write.commit().unwrap();
}

#[test]
fn a_crash_image_opens_with_every_durable_commit() {
    let mut images = 0;
    for seed in 0..6 {
        let random = Random::from_seed(seed);
        let created = CrashDisk::new();
        drop(open(&created).unwrap());
        let disk = created.copy().recorded();
        // What was durable when the history had some length.
        let mut durable = vec![(0, Contents::new())];
        let mut states = vec![Contents::new()];
        {
            let database = open(&disk).unwrap();
            let mut contents = Contents::new();
            for _ in 0..40 {
                let is_durable = below(&random, 3) == 0;
                transact(&database, &mut contents, is_durable, &random);
                states.push(contents.clone());
                if is_durable {
                    durable.push((disk.position(), contents.clone()));
                }
            }
        }
        let mut replay = disk.replay();
        let mut number = 0;
        while let Some(op) = replay.step() {
            let synced = matches!(op, Op::Sync(_));
            number += 1;
            // Between syncs, every few writes.
            if !synced && number % 7 != 0 {
                continue;
            }
            let at = replay.position();
            for image in 0..if synced { 2 } else { 1 } {
                let random = Random::from_seed((seed << 32) + (at as u64 * 2) + image);
                let place = format!("seed {seed}, position {at}, image {image}");
                let disk = replay.image(&random);
                let database = open(&disk).unwrap_or_else(|error| panic!("{place}: {error}"));
                let found = scan(&database).unwrap_or_else(|error| panic!("{place}: {error}"));
                let (_, least) = durable.iter().rfind(|(position, _)| *position <= at).unwrap();
                let first = states.iter().position(|state| state == least).unwrap();
                assert!(states[first..].contains(&found), "{place}: a state that never was");
                // The database goes on from there.
                let mut contents = found;
                transact(&database, &mut contents, true, &random);
                assert_eq!(scan(&database).unwrap(), contents, "{place}");
                images += 1;
            }
        }
    }
    assert!(images > 300, "{images} images");
}

fn damage_of(error: &redb::Error) -> Option<&DamagedBlock> {
    match error {
        redb::Error::Io(error) => DamagedBlock::of(error),
        _ => None,
    }
}

#[test]
fn every_flip_in_a_block_that_is_read_is_named() {
    let random = Random::from_seed(7);
    let disk = CrashDisk::new();
    let mut contents = Contents::new();
    {
        let database = open(&disk).unwrap();
        for _ in 0..30 {
            transact(&database, &mut contents, true, &random);
        }
    }
    let len = disk.bytes(path()).len() as u64;
    let (mut named, mut harmless) = (0, 0);
    for flip in 0..500 {
        let random = Random::from_seed(flip);
        let copy = disk.copy();
        let byte = if flip % 10 == 0 { 4096 + below(&random, 512) } else { below(&random, len) };
        copy.flip(path(), byte as usize, below(&random, 8) as u8);
        let opened = open(&copy).map_err(redb::Error::from);
        match opened.and_then(|database| scan(&database)) {
            Ok(found) => {
                assert_eq!(found, contents, "byte {byte}");
                harmless += 1;
            }
            Err(error) => {
                let damaged = damage_of(&error).unwrap_or_else(|| panic!("byte {byte}: {error}"));
                let data = byte >= 4096;
                assert!(!data || damaged.offset == byte / 4096 * 4096, "byte {byte}: {error}");
                named += 1;
            }
        }
    }
    assert!(named > 50 && harmless > 50, "{named} flips were named, {harmless} harmless");
}
