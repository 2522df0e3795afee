//! The state file itself: a redb database on checked blocks, and what it says was applied.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, StorageBackend, TableDefinition,
    TableError as OpenError, WriteTransaction,
};

use super::AppliedMark;
use crate::limits::STATE_CACHE_BYTES;
use crate::machine::tables::TableError;
use crate::seams::disk::{Disk, OpenMode};
use crate::store::checked::{CheckedFile, DamagedBlock};

/// The state file's own version; one more for each change of the tables' meaning.
const FORMAT: u8 = 1;

/// How far the log was applied, and the membership then; not part of the machine's state.
const APPLIED: TableDefinition<'static, &'static str, &'static [u8]> =
    TableDefinition::new("applied");
const APPLIED_ROW: &str = "applied";

/// An open state file.
pub(super) struct StateFile {
    database: Database,
    /// The first damage that was found in it. redb names it once, and then refuses everything
    /// without a reason.
    damage: Arc<OnceLock<DamagedBlock>>,
}

impl StateFile {
    /// Opens a file that is there, or makes a new one.
    pub(super) fn open(disk: &dyn Disk, path: &Path, mode: OpenMode) -> Result<Self, TableError> {
        let file = disk.open(path, mode).map_err(|error| io_error(path, &error))?;
        let checked = CheckedFile::new(file, path).map_err(|error| open_error(path, &error))?;
        let len = checked.len().map_err(|error| io_error(path, &error))?;
        if mode == OpenMode::Existing && len == 0 {
            // redb would take it for a new one.
            return Err(TableError::corrupt(format!("{} is empty", path.display())));
        }
        let damage = checked.first_damage();
        // redb asserts what its allocator says of the file, which a file that was cut does not
        // keep; nothing but the file has been touched then.
        let opened = catch_unwind(AssertUnwindSafe(|| {
            redb::Builder::new().set_cache_size(STATE_CACHE_BYTES).create_with_backend(checked)
        }));
        match opened {
            Ok(Ok(database)) => Ok(StateFile { database, damage }),
            Ok(Err(error)) => Err(storage_error(error)),
            Err(_) => Err(TableError::corrupt(format!(
                "{} is damaged: its pages are not those that it says it has",
                path.display()
            ))),
        }
    }

    /// Reports damage for an error that only follows from it.
    pub(super) fn explain(&self, error: TableError) -> TableError {
        match self.damage.get() {
            Some(damage) if !error.corrupt => TableError::corrupt(damage.to_string()),
            _ => error,
        }
    }

    /// An error if damage was found in it.
    pub(super) fn is_sound(&self) -> Result<(), TableError> {
        match self.damage.get() {
            Some(damage) => Err(TableError::corrupt(damage.to_string())),
            None => Ok(()),
        }
    }

    /// A view of everything written so far.
    pub(super) fn begin_read(&self) -> Result<ReadTransaction, TableError> {
        self.database.begin_read().map_err(storage_error)
    }

    /// A transaction that is visible when it is committed, and not yet durable.
    pub(super) fn begin_write(&self) -> Result<WriteTransaction, TableError> {
        let mut transaction = self.database.begin_write().map_err(storage_error)?;
        transaction.set_durability(Durability::None).map_err(storage_error)?;
        Ok(transaction)
    }

    /// A transaction whose commit makes everything durable, in the two phases that
    /// [`CheckedFile`] needs. Quick repair is two-phase and writes down which pages are free, so
    /// that opening after a crash does not read the whole file.
    pub(super) fn begin_durable(&self) -> Result<WriteTransaction, TableError> {
        let mut transaction = self.database.begin_write().map_err(storage_error)?;
        transaction.set_durability(Durability::Immediate).map_err(storage_error)?;
        transaction.set_quick_repair(true);
        Ok(transaction)
    }

    /// Makes everything written so far durable, with this mark.
    pub(super) fn make_durable(&self, applied: &AppliedMark) -> Result<(), TableError> {
        let transaction = self.begin_durable()?;
        // The row makes this a commit with content, which carries all before it.
        put_applied(&transaction, applied)?;
        transaction.commit().map_err(storage_error)
    }

    /// The mark that the file holds.
    pub(super) fn applied(&self) -> Result<AppliedMark, TableError> {
        applied_in(&self.begin_read()?)
    }
}

/// Writes the mark as part of a transaction.
pub(super) fn put_applied(
    transaction: &WriteTransaction,
    applied: &AppliedMark,
) -> Result<(), TableError> {
    let mut row = vec![FORMAT];
    row.extend(applied.encode()?);
    let mut table = transaction.open_table(APPLIED).map_err(storage_error)?;
    table.insert(APPLIED_ROW, row.as_slice()).map_err(storage_error)?;
    Ok(())
}

/// The mark in a view.
pub(super) fn applied_in(transaction: &ReadTransaction) -> Result<AppliedMark, TableError> {
    let missing = || TableError::corrupt("the state file does not say what was applied");
    let table = transaction.open_table(APPLIED).map_err(|error| match error {
        OpenError::TableDoesNotExist(_) => missing(),
        error => storage_error(error),
    })?;
    let row = table.get(APPLIED_ROW).map_err(storage_error)?.ok_or_else(missing)?;
    match row.value() {
        [FORMAT, mark @ ..] => AppliedMark::decode(mark)
            .map_err(|error| TableError::corrupt(format!("the applied mark: {error}"))),
        [other, ..] => Err(TableError::io(format!(
            "the state file has version {other}, this program reads {FORMAT}: use a newer one"
        ))),
        [] => Err(TableError::corrupt("the applied mark is empty")),
    }
}

fn open_error(path: &Path, error: &std::io::Error) -> TableError {
    match error.kind() {
        std::io::ErrorKind::InvalidData => TableError::corrupt(error.to_string()),
        std::io::ErrorKind::Unsupported => TableError::io(error.to_string()),
        _ => io_error(path, error),
    }
}

/// A disk that refused.
pub(super) fn io_error(path: &Path, error: &std::io::Error) -> TableError {
    TableError::io(format!("{}: {error}", path.display()))
}

/// Sorts what redb reports into damage and failure.
pub(super) fn storage_error(error: impl Into<redb::Error>) -> TableError {
    use std::io::ErrorKind;
    match error.into() {
        redb::Error::Corrupted(what) => TableError::corrupt(what),
        redb::Error::Io(error) => match error.kind() {
            // A damaged block, a file that is not redb's, or one that is too short.
            ErrorKind::InvalidData => TableError::corrupt(error.to_string()),
            ErrorKind::UnexpectedEof => TableError::corrupt("the state file ends early"),
            _ => TableError::io(error.to_string()),
        },
        error => TableError::io(error.to_string()),
    }
}
