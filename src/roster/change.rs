//! What a decision writes, and on which condition.
//!
//! A change is committed as a whole or not at all. Each record that it replaces is guarded by its
//! revision, each that it creates by its absence. A change that nothing is written by says only
//! that its guards held: its decision may be answered without committing it, on a roster that is
//! known to be fresh.

use super::records::{Cluster, Record, RecordKey};
use super::refused::Refused;
use super::{At, Roster};
use crate::types::Revision;

/// One guarded transaction on the meta group's key space.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Keys and the mod revision that each must have; 0 means that it must not be there.
    pub guards: Vec<(Vec<u8>, Revision)>,
    /// Keys and what each is to hold; `None` deletes. No key stands twice.
    pub writes: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// What members have to know first, where that is more than the first build did.
    pub needs: Option<Needs>,
}

/// What whoever reads a change has to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The level at which it was introduced.
    pub level: u32,
    /// What it is, for people.
    pub what: String,
}

impl Change {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.writes.is_empty()
    }

    /// A change that is one of a sequence: it rewrites the cluster's record, so that whatever it
    /// has seen of all records still holds when it is committed.
    pub(super) fn in_sequence(before: &At<Cluster>, after: Cluster) -> Change {
        let mut change = Change::default();
        change.replace(Record::Cluster(after), before.mod_revision);
        change
    }

    /// Becomes one of the sequence.
    pub(super) fn put_in_sequence(&mut self, cluster: &At<Cluster>) {
        let key = RecordKey::Cluster.encode();
        if self.writes.iter().all(|(written, _)| *written != key) {
            self.replace(Record::Cluster(cluster.record.clone()), cluster.mod_revision);
        }
    }

    pub(super) fn create(&mut self, record: Record) {
        self.replace(record, 0);
    }

    pub(super) fn replace(&mut self, record: Record, mod_revision: Revision) {
        let key = record.key().encode();
        self.guards.push((key.clone(), mod_revision));
        self.writes.push((key, Some(record.encode())));
    }

    /// Writes a record whatever is there.
    pub(super) fn write(&mut self, record: Record) {
        self.writes.push((record.key().encode(), Some(record.encode())));
    }

    /// Deletes a record as it was seen.
    pub(super) fn delete(&mut self, key: RecordKey, mod_revision: Revision) {
        self.guards.push((key.encode(), mod_revision));
        self.forget(key);
    }

    /// Deletes a record that no decision needs any longer, whatever it says by now.
    pub(super) fn forget(&mut self, key: RecordKey) {
        self.writes.push((key.encode(), None));
    }
}

impl Roster {
    /// Begins a change of the sequence that leaves the cluster's record as it is.
    pub(super) fn change_in_sequence(&self) -> Result<Change, Refused> {
        let cluster = self.founded()?;
        Ok(Change::in_sequence(cluster, cluster.record.clone()))
    }
}
