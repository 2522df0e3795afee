//! The `History` table: every change that is not compacted, in the order in which it was made.
//! A value stands here and nowhere else.
//!
//! ```text
//! revision u64 · sub u32 → 0 · key                                        deleted
//! revision u64 · sub u32 → 1 · create · version · lease · key length · key · value    put
//! ```
//!
//! The first byte of a row is the kind; create, version, lease (0 for none) and key length are
//! varints; the value is what is left, so that it is shared out without copying it.

use bytes::Bytes;

use super::{Reader, corrupt, write_varint};
use crate::machine::tables::{Table, TableError};
use crate::types::{Key, LeaseId, Record, Revision, Value};

const DELETED: u8 = 0;
const PUT: u8 = 1;

/// Where a change stands in history: the revision, and its number within the revision.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) revision: Revision,
    pub(crate) sub: u32,
}

impl Place {
    pub(crate) const BYTES: usize = 12;

    /// The last place that a revision can have.
    pub(crate) fn last_of(revision: Revision) -> Place {
        Place { revision, sub: u32::MAX }
    }

    /// The first place of a revision.
    pub(crate) fn first_of(revision: Revision) -> Place {
        Place { revision, sub: 0 }
    }

    pub(crate) fn encode(self) -> [u8; Place::BYTES] {
        let mut bytes = [0; Place::BYTES];
        bytes[..8].copy_from_slice(&self.revision.to_be_bytes());
        bytes[8..].copy_from_slice(&self.sub.to_be_bytes());
        bytes
    }

    pub(crate) fn decode(table: Table, bytes: &[u8]) -> Result<Place, TableError> {
        let mut reader = Reader::new(table, bytes);
        let place = Place { revision: reader.u64_be()?, sub: reader.u32_be()? };
        reader.end()?;
        Ok(place)
    }
}

/// A version of a key, without its value: what is needed to count, filter, order and compare it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Version {
    pub(crate) place: Place,
    pub(crate) create: Revision,
    pub(crate) version: u64,
    pub(crate) lease: Option<LeaseId>,
}

impl Version {
    /// The record that this version and its value make.
    pub(crate) fn record(&self, value: Value) -> Record {
        Record::new(value, self.create, self.place.revision, self.version, self.lease)
    }
}

pub(crate) fn lease_number(lease: Option<LeaseId>) -> u64 {
    lease.map_or(0, |lease| lease.0)
}

pub(crate) fn lease_from_number(number: u64) -> Option<LeaseId> {
    (number != 0).then_some(LeaseId(number))
}

/// One change, as it is read back.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Change {
    pub(crate) place: Place,
    pub(crate) key: Key,
    /// What was put, or `None` for a deletion.
    pub(crate) put: Option<(Version, Value)>,
}

/// Writes the row of a put.
pub(crate) fn encode_put(out: &mut Vec<u8>, key: &Key, version: &Version, value: &Value) {
    let (key, value) = (key.as_bytes(), value.as_bytes());
    out.clear();
    out.reserve(1 + 4 * 10 + key.len() + value.len());
    out.push(PUT);
    write_varint(out, version.create);
    write_varint(out, version.version);
    write_varint(out, lease_number(version.lease));
    write_varint(out, key.len() as u64);
    out.extend_from_slice(key);
    out.extend_from_slice(value);
}

/// Writes the row of a deletion.
pub(crate) fn encode_delete(out: &mut Vec<u8>, key: &Key) {
    out.clear();
    out.push(DELETED);
    out.extend_from_slice(key.as_bytes());
}

/// A change taken apart, its bytes borrowed from the row.
pub(crate) struct ChangeRef<'a> {
    pub(crate) place: Place,
    pub(crate) key: &'a [u8],
    /// What was put, or `None` for a deletion.
    pub(crate) put: Option<(Version, &'a [u8])>,
}

impl<'a> ChangeRef<'a> {
    pub(crate) fn decode(row_key: &[u8], row: &'a [u8]) -> Result<ChangeRef<'a>, TableError> {
        let place = Place::decode(Table::History, row_key)?;
        let mut reader = Reader::new(Table::History, row);
        match reader.byte()? {
            DELETED => Ok(ChangeRef { place, key: reader.rest(), put: None }),
            PUT => {
                let version = Version {
                    place,
                    create: reader.varint()?,
                    version: reader.varint()?,
                    lease: lease_from_number(reader.varint()?),
                };
                let key_len = reader.varint()?;
                let key = reader.bytes(key_len)?;
                Ok(ChangeRef { place, key, put: Some((version, reader.rest())) })
            }
            _ => Err(reader.corrupt("a change of an unknown kind")),
        }
    }

    /// Copies the key and the value.
    pub(crate) fn to_owned(&self) -> Result<Change, TableError> {
        let put = match self.put {
            Some((version, value)) => {
                Some((version, checked_value(Bytes::copy_from_slice(value))?))
            }
            None => None,
        };
        Ok(Change { place: self.place, key: checked_key(Table::History, self.key)?, put })
    }
}

/// The value of a put row, shared with the row's bytes. The key must be the one expected: a row
/// that is reached from another key's row is damage.
pub(crate) fn value_of(place: Place, row: &Bytes, key: &[u8]) -> Result<Value, TableError> {
    let change = ChangeRef::decode(&place.encode(), row)?;
    match change.put {
        Some((_, value)) if change.key == key => checked_value(row.slice_ref(value)),
        _ => Err(corrupt(Table::History, "a key's row points to another change")),
    }
}

/// A key read from a row.
pub(crate) fn checked_key(table: Table, bytes: &[u8]) -> Result<Key, TableError> {
    Key::new(Bytes::copy_from_slice(bytes))
        .map_err(|_| corrupt(table, "a key of a length that can't be"))
}

fn checked_value(bytes: Bytes) -> Result<Value, TableError> {
    Value::new(bytes).map_err(|_| corrupt(Table::History, "a value over the limit"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_have_this_layout() {
        let place = Place { revision: 0x0102, sub: 3 };
        assert_eq!(place.encode(), [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 3]);

        let key = Key::try_from("k\0y").unwrap();
        let value = Value::try_from("val").unwrap();
        let version = Version { place, create: 200, version: 2, lease: Some(LeaseId(5)) };
        let mut row = Vec::new();
        encode_put(&mut row, &key, &version, &value);
        assert_eq!(row, b"\x01\xc8\x01\x02\x05\x03k\0yval");
        let change = ChangeRef::decode(&place.encode(), &row).unwrap().to_owned().unwrap();
        assert_eq!(change, Change { place, key: key.clone(), put: Some((version, value.clone())) });
        let shared = Bytes::from(row.clone());
        assert_eq!(value_of(place, &shared, b"k\0y"), Ok(value));
        assert!(value_of(place, &shared, b"k").is_err(), "another key");

        encode_delete(&mut row, &key);
        assert_eq!(row, b"\x00k\0y");
        let change = ChangeRef::decode(&place.encode(), &row).unwrap().to_owned().unwrap();
        assert_eq!(change, Change { place, key, put: None });
        assert!(value_of(place, &Bytes::from(row), b"k\0y").is_err(), "a deletion has no value");
    }

    #[test]
    fn damaged_changes_are_refused() {
        let place = Place { revision: 1, sub: 0 }.encode();
        for row in [&b""[..], b"\x02k", b"\x01\x01\x01\x00\x05k", b"\x01\x01"] {
            assert!(ChangeRef::decode(&place, row).is_err(), "{row:?}");
        }
        assert!(ChangeRef::decode(&place, b"\x00").unwrap().to_owned().is_err(), "no key");
        assert!(ChangeRef::decode(&place[1..], b"\x00k").is_err());
    }
}
