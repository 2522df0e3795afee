//! Compares ways to lay a shard's state out: what a put costs in each.
//!
//! `cargo layouts` writes a million keys of 20 bytes with values of 256 bytes, then puts keys at
//! random, 50 a commit, and makes the state durable every 50,000 puts, as a node does. Each layout
//! runs in a process of its own, so that memory can be told apart; `cargo layouts counters` runs
//! one of them. All stand on the same checked file and the same cache. docs/benchmarks.md holds
//! the last table, docs/decisions/0005-the-layout-of-the-state.md what was made of it.

use std::collections::BTreeMap;
use std::error::Error;
use std::path::Path;
use std::process::Command as Process;
use std::sync::Arc;
use std::time::Duration;

use aspen::limits::STATE_CACHE_BYTES;
use aspen::machine::ops::{Action, Command, Put};
use aspen::machine::{self};
use aspen::seams::disk::{Disk, OpenMode, RealDisk};
use aspen::store::checked::CheckedFile;
use aspen::store::log::EntryId;
use aspen::store::state::State;
use aspen::types::{GroupId, Key, Value};
use rand::rngs::SmallRng;
use rand::{Rng, RngExt, SeedableRng};
use redb::{Database, Durability, ReadableTable, Table, TableDefinition};
use tokio::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const KEYS: u64 = 1_000_000;
const KEY_BYTES: usize = 20;
const VALUE_BYTES: usize = 256;
const PUTS: u64 = 500_000;
const PUTS_A_COMMIT: u64 = 50;
/// How many puts lie between two durable commits.
const PUTS_A_CHECKPOINT: u64 = 50_000;

/// The layouts by name, and what the table calls them.
const LAYOUTS: [(&str, &str); 4] = [
    ("both", "key → value; history: revision → key, value again"),
    ("counters", "key → counters; value once, in history"),
    ("memory", "the keys' index in memory; value once, in history"),
    ("machine", "the second, as the machine and the store have it"),
];

/// Clock ticks a second in `/proc/self/stat`: always this many on Linux.
const TICKS_A_SECOND: f64 = 100.0;

fn main() -> Result<()> {
    let asked: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).collect();
    if let [name] = &asked[..] {
        let (_, title) =
            LAYOUTS.iter().find(|(layout, _)| layout == name).ok_or("there is no such layout")?;
        return measure(name, title);
    }
    println!(
        "| layout | processor a put | resident | on disk | durable commit, median and longest |\n\
         |---|---|---|---|---|"
    );
    for (name, _) in LAYOUTS {
        let status = Process::new(std::env::current_exe()?).arg(name).status()?;
        if !status.success() {
            return Err(format!("{name} ended with {status}").into());
        }
    }
    Ok(())
}

/// A state that can be written.
trait Layout {
    /// Writes keys in one commit that is not durable.
    fn put(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<()>;
    /// Makes all of it durable.
    fn checkpoint(&mut self) -> Result<()>;
}

fn measure(name: &str, title: &str) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut layout: Box<dyn Layout> = match name {
        "both" => Box::new(Stored { file: File::create(dir.path())?, repeats: true }),
        "counters" => Box::new(Stored { file: File::create(dir.path())?, repeats: false }),
        "memory" => Box::new(Indexed { file: File::create(dir.path())?, index: BTreeMap::new() }),
        _ => Box::new(Real::create(dir.path())?),
    };
    let mut random = SmallRng::seed_from_u64(1);
    write(layout.as_mut(), KEYS, |number, _| number, &mut random)?;
    let (processor, mut checkpoints) =
        write(layout.as_mut(), PUTS, |_, random| random.random_range(0..KEYS), &mut random)?;
    checkpoints.sort_unstable();
    println!(
        "| {title} | {:.1} µs | {:.0} MiB | {:.0} MiB | {} ms, {} ms |",
        processor * 1e6 / PUTS as f64,
        resident_mib()?,
        disk_mib(dir.path())?,
        checkpoints[checkpoints.len() / 2].as_millis(),
        checkpoints[checkpoints.len() - 1].as_millis(),
    );
    Ok(())
}

/// Answers the processor time in seconds that the puts took, durable commits left out, and the
/// time of each durable commit.
fn write(
    layout: &mut dyn Layout,
    count: u64,
    pick: impl Fn(u64, &mut SmallRng) -> u64,
    random: &mut SmallRng,
) -> Result<(f64, Vec<Duration>)> {
    let (mut processor, mut checkpoints) = (0.0, Vec::new());
    for first in (0..count).step_by(PUTS_A_CHECKPOINT as usize) {
        let before = processor_seconds()?;
        let last = count.min(first + PUTS_A_CHECKPOINT);
        for first in (first..last).step_by(PUTS_A_COMMIT as usize) {
            let rows: Vec<_> = (first..last.min(first + PUTS_A_COMMIT))
                .map(|number| (key(pick(number, random)), value(random)))
                .collect();
            layout.put(&rows)?;
        }
        processor += processor_seconds()? - before;
        let began = Instant::now();
        layout.checkpoint()?;
        checkpoints.push(began.elapsed());
    }
    Ok((processor, checkpoints))
}

fn key(number: u64) -> Vec<u8> {
    let key = format!("measured/{number:011}").into_bytes();
    debug_assert_eq!(key.len(), KEY_BYTES);
    key
}

fn value(random: &mut SmallRng) -> Vec<u8> {
    let mut value = vec![0; VALUE_BYTES];
    random.fill_bytes(&mut value);
    value
}

// --- the layouts ---

type Rows<'a> = TableDefinition<'a, &'static [u8], &'static [u8]>;
const KEY_ROWS: Rows<'_> = TableDefinition::new("keys");
/// Superseded versions by key and revision, without which a key can't be read at a past revision.
const PAST_ROWS: Rows<'_> = TableDefinition::new("past");
const HISTORY_ROWS: Rows<'_> = TableDefinition::new("history");

/// The revisions of a key's creation and last change, and its version.
const COUNTERS_BYTES: usize = 24;
type Counters = [u64; 3];

fn encode([create, modified, version]: Counters) -> [u8; COUNTERS_BYTES] {
    let mut bytes = [0; COUNTERS_BYTES];
    for (place, number) in bytes.chunks_exact_mut(8).zip([create, modified, version]) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    bytes
}

fn decode(row: &[u8]) -> Counters {
    let mut numbers = row
        .chunks_exact(8)
        .map(|number| number.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)));
    std::array::from_fn(|_| numbers.next().unwrap_or(0))
}

fn next(before: Option<Counters>, revision: u64) -> Counters {
    before.map_or([revision, revision, 1], |[create, _, version]| [create, revision, version + 1])
}

fn put_history(
    history: &mut Table<'_, &'static [u8], &'static [u8]>,
    counters: Counters,
    key: &[u8],
    value: &[u8],
) -> Result<()> {
    let row = [&encode(counters), key, value].concat();
    history.insert(&counters[1].to_be_bytes()[..], &row[..])?;
    Ok(())
}

/// A database on the file that the store uses.
struct File {
    database: Database,
    revision: u64,
}

impl File {
    fn create(dir: &Path) -> Result<File> {
        let path = dir.join("state.redb");
        let file = RealDisk.open(&path, OpenMode::CreateNew)?;
        let database = redb::Builder::new()
            .set_cache_size(STATE_CACHE_BYTES)
            .create_with_backend(CheckedFile::new(file, &path)?)?;
        Ok(File { database, revision: 0 })
    }

    fn begin(&self) -> Result<redb::WriteTransaction> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::None)?;
        Ok(transaction)
    }

    fn checkpoint(&self) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(Durability::Immediate)?;
        transaction.set_quick_repair(true);
        transaction
            .open_table(KEY_ROWS)?
            .insert(&b"checkpoint"[..], &self.revision.to_be_bytes()[..])?;
        transaction.commit()?;
        Ok(())
    }
}

/// Keys in a table: with their counters, and with their values if it repeats them.
struct Stored {
    file: File,
    repeats: bool,
}

impl Layout for Stored {
    fn put(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let transaction = self.file.begin()?;
        {
            let mut keys = transaction.open_table(KEY_ROWS)?;
            let mut past = transaction.open_table(PAST_ROWS)?;
            let mut history = transaction.open_table(HISTORY_ROWS)?;
            for (key, value) in rows {
                self.file.revision += 1;
                let before = keys.get(&key[..])?.map(|row| decode(row.value()));
                if let Some(before) = before {
                    let place = [&key[..], &before[1].to_be_bytes()].concat();
                    past.insert(&place[..], &encode(before)[..])?;
                }
                let counters = next(before, self.file.revision);
                let repeated: &[u8] = if self.repeats { value } else { &[] };
                keys.insert(&key[..], &[&encode(counters), repeated].concat()[..])?;
                put_history(&mut history, counters, key, value)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.file.checkpoint()
    }
}

/// All versions of all keys in memory, to be read from history at a start.
struct Indexed {
    file: File,
    index: BTreeMap<Vec<u8>, Vec<Counters>>,
}

impl Layout for Indexed {
    fn put(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let transaction = self.file.begin()?;
        {
            let mut history = transaction.open_table(HISTORY_ROWS)?;
            for (key, value) in rows {
                self.file.revision += 1;
                let versions = self.index.entry(key.clone()).or_default();
                let counters = next(versions.last().copied(), self.file.revision);
                versions.push(counters);
                put_history(&mut history, counters, key, value)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.file.checkpoint()
    }
}

/// What the node runs: commands, applied by the machine to the store's tables.
struct Real {
    state: State,
    index: u64,
}

impl Real {
    fn create(dir: &Path) -> Result<Real> {
        let state = State::open(Arc::new(RealDisk), dir, GroupId::FIRST_SHARD)?;
        Ok(Real { state, index: 0 })
    }
}

impl Layout for Real {
    fn put(&mut self, rows: &[(Vec<u8>, Vec<u8>)]) -> Result<()> {
        let commands: Vec<Command> = rows
            .iter()
            .map(|(key, value)| {
                let put = Put::new(Key::new(key.clone())?, Value::new(value.clone())?);
                Ok(Command { session: None, action: Action::Put(put) })
            })
            .collect::<Result<_>>()?;
        self.state.write(|writer| {
            for command in &commands {
                self.index += 1;
                writer.set_applied(EntryId { term: 1, node: 1, index: self.index });
                machine::apply(writer, self.index, command)?;
            }
            Ok(())
        })?;
        Ok(())
    }

    fn checkpoint(&mut self) -> Result<()> {
        self.state.checkpoint()?;
        Ok(())
    }
}

// --- what it cost ---

/// The processor time that this process has used, in seconds.
fn processor_seconds() -> Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let (_, rest) = stat.rsplit_once(')').ok_or("/proc/self/stat has no name in it")?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    Ok((fields[11].parse::<u64>()? + fields[12].parse::<u64>()?) as f64 / TICKS_A_SECOND)
}

/// What of this process is in memory.
fn resident_mib() -> Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .ok_or("/proc/self/status has no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}

/// The files of a directory, as long as they are.
fn disk_mib(dir: &Path) -> Result<f64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(dir)? {
        bytes += entry?.metadata()?.len();
    }
    Ok(bytes as f64 / (1024.0 * 1024.0))
}
