//! A state file in which any bytes were changed opens and has the rows that it had, or is refused.
//!
//! Four bytes of the input are a change: where, and what is flipped there.

use std::ops::{Bound, ControlFlow};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use aspen::machine::tables::{ReadTables, Table, TableError, WriteTables};
use aspen::seams::disk::{Disk, MemDisk, OpenMode};
use aspen::store::log::EntryId;
use aspen::store::state::State;
use aspen::types::GroupId;

const DIR: &str = "state";
const FILE: &str = "state/state.redb";

type Rows = Vec<(Table, Vec<u8>, Vec<u8>)>;

pub fn run(bytes: &[u8]) {
    static WHOLE: OnceLock<(Vec<u8>, Rows)> = OnceLock::new();
    let (file, rows) = WHOLE.get_or_init(|| written().expect("nothing is damaged yet"));
    let mut file = file.clone();
    for change in bytes.chunks_exact(4) {
        let at =
            usize::from(change[0]) << 16 | usize::from(change[1]) << 8 | usize::from(change[2]);
        let at = at % file.len();
        file[at] ^= change[3];
    }
    let disk = Arc::new(MemDisk::default());
    disk.create_dir_all(Path::new(DIR)).expect("memory");
    let to = disk.open(Path::new(FILE), OpenMode::CreateNew).expect("memory");
    to.write_at(&file, 0).expect("memory");
    if let Ok(found) = open(disk).and_then(|state| all(&state)) {
        assert!(found == *rows, "rows that were never written");
    }
}

fn open(disk: Arc<dyn Disk>) -> Result<State, TableError> {
    State::open(disk, Path::new(DIR), GroupId(1))
}

/// A file, and what stands in it.
fn written() -> Result<(Vec<u8>, Rows), TableError> {
    let disk = Arc::new(MemDisk::default());
    let state = open(disk.clone())?;
    for index in 1..=3u8 {
        state.write(|writer| {
            for table in Table::ALL {
                for key in 0..8 {
                    writer.put(table, &[key, index], &vec![index; 60 * usize::from(key)])?;
                }
            }
            writer.set_applied(EntryId { term: 1, node: 1, index: index.into() });
            Ok(())
        })?;
        state.checkpoint()?;
    }
    let rows = all(&state)?;
    drop(state);
    let file = disk.open(Path::new(FILE), OpenMode::Existing).expect("memory");
    let mut bytes = vec![0; file.len().expect("memory") as usize];
    file.read_at(&mut bytes, 0).expect("memory");
    Ok((bytes, rows))
}

fn all(state: &State) -> Result<Rows, TableError> {
    let view = state.view();
    let mut rows = Rows::new();
    for table in Table::ALL {
        view.scan(table, Bound::Unbounded, Bound::Unbounded, false, &mut |key, row| {
            rows.push((table, key.to_vec(), row.to_vec()));
            Ok(ControlFlow::Continue(()))
        })?;
    }
    Ok(rows)
}
