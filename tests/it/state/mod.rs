//! A group's state and its snapshots: the same machine as in memory, through reopening, crashes,
//! failing disks, broken streams and damaged files.

mod files;
mod install;
mod replicas;
mod space;
mod streams;

use std::path::Path;
use std::sync::Arc;

use aspen::limits::STATE_CACHE_BYTES;
use aspen::machine::ops::Command;
use aspen::machine::tables::{Table, TableError, WriteTables};
use aspen::machine::{self, Applied};
use aspen::store::log::EntryId;
use aspen::store::snapshot::{ReceivedSnapshot, SnapshotError};
use aspen::store::state::State;
use aspen::types::GroupId;

use crate::crash_disk::CrashDisk;

const DIR: &str = "data/groups/7";
const GROUP: GroupId = GroupId(7);

fn try_open(disk: &CrashDisk) -> Result<State, TableError> {
    State::open(Arc::new(disk.clone()), Path::new(DIR), GROUP)
}

fn open(disk: &CrashDisk) -> State {
    try_open(disk).expect("the state opens")
}

fn entry(index: u64) -> EntryId {
    EntryId { term: 1, node: 1, index }
}

fn index_of(id: Option<EntryId>) -> u64 {
    id.map_or(0, |id| id.index)
}

/// Applies the commands of a log from an index on, in one transaction.
fn apply(state: &State, from: u64, commands: &[Command]) -> Vec<Applied> {
    let written = state.write(|writer| {
        let mut applied = Vec::new();
        for (index, command) in (from..).zip(commands) {
            writer.set_applied(entry(index));
            applied.push(machine::apply(writer, index, command)?);
        }
        Ok(applied)
    });
    written.expect("the commands are applied")
}

/// Puts rows, and notes an entry as the one that did.
fn put(state: &State, index: u64, rows: &[(Table, &[u8], &[u8])]) -> Result<(), TableError> {
    state.write(|writer| {
        for (table, key, row) in rows {
            writer.put(*table, key, row)?;
        }
        writer.set_applied(entry(index));
        Ok(())
    })
}

/// A state of some size: rows in every table, some longer than a chunk of a snapshot.
fn fill(state: &State, index: u64, rows: u64) {
    let long = vec![index as u8; 300 * 1024];
    let all = state.write(|writer| {
        for n in 0..rows {
            let table = Table::ALL[n as usize % Table::ALL.len()];
            writer.put(table, &(n * index).to_be_bytes(), &long[..(n as usize * 37) % 2000])?;
        }
        writer.put(Table::History, b"long", &long)?;
        writer.set_applied(entry(index));
        writer.set_membership(entry(1), b"everybody".to_vec());
        Ok(())
    });
    all.expect("the rows are written");
}

/// More than the state keeps in memory, so that reading all of it reads from the disk.
fn fill_beyond_memory(state: &State) {
    let long = vec![9; 1024 * 1024];
    for n in 0..STATE_CACHE_BYTES / long.len() + 8 {
        put(state, 1 + n as u64, &[(Table::History, &n.to_be_bytes(), &long)]).expect("a row");
    }
}

fn hash(state: &State) -> [u8; 32] {
    machine::hash(&state.view()).expect("the rows are read")
}

/// All of a snapshot of a state.
fn stream(state: &State) -> Vec<u8> {
    let mut source = state.snapshot().expect("a snapshot");
    let mut bytes = Vec::new();
    while let Some(chunk) = source.next_chunk().expect("a chunk") {
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

/// Receives a stream in pieces.
fn receive(state: &State, bytes: &[u8], piece: usize) -> Result<ReceivedSnapshot, SnapshotError> {
    let mut sink = state.receive_snapshot(1)?;
    for (at, chunk) in bytes.chunks(piece).enumerate() {
        assert_eq!(sink.received(), (at * piece) as u64);
        sink.write(chunk)?;
    }
    sink.finish()
}

/// The names of the files in the state's directory.
fn names(disk: &CrashDisk) -> Vec<String> {
    let files = disk.files();
    files.iter().map(|(path, _)| path.file_name().unwrap().to_str().unwrap().to_owned()).collect()
}
