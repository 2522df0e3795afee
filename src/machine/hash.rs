//! One number for a whole state, to compare replicas by.

use std::ops::{Bound, ControlFlow};

use super::tables::{ReadTables, Table, TableError};

/// BLAKE3 over all rows of all tables, in the order of [`Table::ALL`].
///
/// Each table is its number, its rows, and an end mark; each row is its key and its content, both
/// after their length in eight bytes. No other rows in no other tables give the same bytes.
pub fn hash<T: ReadTables + ?Sized>(tables: &T) -> Result<[u8; 32], TableError> {
    const END: [u8; 8] = [0xff; 8];
    let mut hasher = blake3::Hasher::new();
    for table in Table::ALL {
        hasher.update(&[table as u8]);
        tables.scan(table, Bound::Unbounded, Bound::Unbounded, false, &mut |key, row| {
            for bytes in [key, row] {
                hasher.update(&(bytes.len() as u64).to_le_bytes());
                hasher.update(bytes);
            }
            Ok(ControlFlow::Continue(()))
        })?;
        hasher.update(&END);
    }
    Ok(hasher.finalize().into())
}
