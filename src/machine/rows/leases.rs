//! The `Leases` and `LeaseKeys` tables.
//!
//! ```text
//! Leases     lease u64        → ttl in ms · number of keys    (varints)
//! LeaseKeys  lease u64 · key  → (empty)
//! ```
//!
//! The number of keys stands in the lease's row so that its limit is checked without counting.

use std::ops::Bound;

use super::{Reader, write_varint};
use crate::machine::tables::{ReadTables, Table, TableError};
use crate::types::LeaseId;

/// A lease's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LeaseRow {
    pub(crate) ttl_ms: u64,
    pub(crate) keys: u64,
}

impl LeaseRow {
    pub(crate) fn load<T: ReadTables + ?Sized>(
        tables: &T,
        id: LeaseId,
    ) -> Result<Option<LeaseRow>, TableError> {
        match tables.get(Table::Leases, &id.0.to_be_bytes())? {
            Some(row) => Ok(Some(LeaseRow::decode(&row)?)),
            None => Ok(None),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::new();
        write_varint(&mut row, self.ttl_ms);
        write_varint(&mut row, self.keys);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Result<LeaseRow, TableError> {
        let mut reader = Reader::new(Table::Leases, row);
        let lease = LeaseRow { ttl_ms: reader.varint()?, keys: reader.varint()? };
        reader.end()?;
        Ok(lease)
    }
}

/// The lease of a `Leases` row.
pub(crate) fn decode_lease_id(row_key: &[u8]) -> Result<LeaseId, TableError> {
    let mut reader = Reader::new(Table::Leases, row_key);
    let id = LeaseId(reader.u64_be()?);
    reader.end()?;
    Ok(id)
}

/// Writes the key of a `LeaseKeys` row.
pub(crate) fn encode_lease_key(out: &mut Vec<u8>, id: LeaseId, key: &[u8]) {
    out.clear();
    out.extend_from_slice(&id.0.to_be_bytes());
    out.extend_from_slice(key);
}

/// The key in the key of a `LeaseKeys` row.
pub(crate) fn decode_lease_key(row_key: &[u8]) -> Result<&[u8], TableError> {
    let mut reader = Reader::new(Table::LeaseKeys, row_key);
    reader.u64_be()?;
    Ok(reader.rest())
}

/// The bounds of one lease's rows in `LeaseKeys`.
pub(crate) fn lease_key_bounds(id: LeaseId) -> (Bound<[u8; 8]>, Bound<[u8; 8]>) {
    let end = match id.0.checked_add(1) {
        Some(next) => Bound::Excluded(next.to_be_bytes()),
        None => Bound::Unbounded,
    };
    (Bound::Included(id.0.to_be_bytes()), end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_have_this_layout() {
        let lease = LeaseRow { ttl_ms: 60_000, keys: 2 };
        assert_eq!(lease.encode(), [0xe0, 0xd4, 0x03, 2]);
        assert_eq!(LeaseRow::decode(&lease.encode()), Ok(lease));
        for row in [&b""[..], &[1], &[1, 1, 1]] {
            assert!(LeaseRow::decode(row).is_err(), "{row:?}");
        }
        let mut row_key = Vec::new();
        encode_lease_key(&mut row_key, LeaseId(0x10), b"k");
        assert_eq!(row_key, b"\0\0\0\0\0\0\0\x10k");
        assert_eq!(decode_lease_key(&row_key), Ok(&b"k"[..]));
        assert_eq!(decode_lease_id(&row_key[..8]), Ok(LeaseId(0x10)));
        assert!(decode_lease_id(&row_key).is_err());
        assert!(decode_lease_key(&row_key[..7]).is_err());
    }
}
