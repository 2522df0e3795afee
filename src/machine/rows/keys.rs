//! The `Keys` and `Past` tables: where a key's present version, and its earlier ones, are in
//! history.
//!
//! ```text
//! Keys   key                              → revision · sub · create · version · lease
//! Past   escaped key · revision u64 · sub u32 → create · version · lease       superseded
//! Past   escaped key · revision u64 · sub u32 → (empty)                        deleted here
//! ```
//!
//! All numbers in rows are varints, the lease 0 for none. In a `Past` key each zero byte of the
//! key becomes `00 ff` and the key ends with `00 01`: no escaped key is the beginning of another,
//! and escaped keys are ordered as the keys are.

use std::ops::Bound;

use super::history::{Place, Version, lease_from_number, lease_number};
use super::{Reader, corrupt, write_varint};
use crate::machine::tables::{Table, TableError};

/// Ends an escaped key.
const END: [u8; 2] = [0x00, 0x01];
/// Comes after every row of a key and before the rows of every greater key.
const AFTER: [u8; 2] = [0x00, 0x02];

/// Writes the `Keys` row of a version.
pub(crate) fn encode_present(out: &mut Vec<u8>, version: &Version) {
    out.clear();
    write_varint(out, version.place.revision);
    write_varint(out, version.place.sub.into());
    write_counters(out, version);
}

pub(crate) fn decode_present(row: &[u8]) -> Result<Version, TableError> {
    let mut reader = Reader::new(Table::Keys, row);
    let revision = reader.varint()?;
    let sub =
        u32::try_from(reader.varint()?).map_err(|_| reader.corrupt("a place is too large"))?;
    read_counters(reader, Place { revision, sub })
}

/// Writes the `Past` row of a superseded version.
pub(crate) fn encode_past(out: &mut Vec<u8>, version: &Version) {
    out.clear();
    write_counters(out, version);
}

/// The version in a `Past` row; `None` if the key was deleted there.
pub(crate) fn decode_past(place: Place, row: &[u8]) -> Result<Option<Version>, TableError> {
    if row.is_empty() {
        return Ok(None);
    }
    Ok(Some(read_counters(Reader::new(Table::Past, row), place)?))
}

fn write_counters(out: &mut Vec<u8>, version: &Version) {
    write_varint(out, version.create);
    write_varint(out, version.version);
    write_varint(out, lease_number(version.lease));
}

fn read_counters(mut reader: Reader<'_>, place: Place) -> Result<Version, TableError> {
    let version = Version {
        place,
        create: reader.varint()?,
        version: reader.varint()?,
        lease: lease_from_number(reader.varint()?),
    };
    reader.end()?;
    Ok(version)
}

fn escape(out: &mut Vec<u8>, key: &[u8], end: [u8; 2]) {
    out.clear();
    out.reserve(key.len() + end.len() + Place::BYTES);
    for &byte in key {
        out.push(byte);
        if byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&end);
}

/// Writes the key of a `Past` row.
pub(crate) fn encode_past_key(out: &mut Vec<u8>, key: &[u8], place: Place) {
    escape(out, key, END);
    out.extend_from_slice(&place.encode());
}

/// The key and the place in the key of a `Past` row.
pub(crate) fn decode_past_key(row_key: &[u8]) -> Result<(Vec<u8>, Place), TableError> {
    let mut key = Vec::with_capacity(row_key.len());
    let mut bytes = row_key.iter();
    loop {
        match bytes.next() {
            Some(0) => match bytes.next() {
                Some(0xff) => key.push(0),
                Some(0x01) => break,
                _ => return Err(corrupt(Table::Past, "a key is not escaped as it should be")),
            },
            Some(&byte) => key.push(byte),
            None => return Err(corrupt(Table::Past, "a key has no end")),
        }
    }
    Ok((key, Place::decode(Table::Past, bytes.as_slice())?))
}

/// The bounds of the `Past` rows of the keys between two bounds.
pub(crate) fn past_bounds(
    start: Bound<&[u8]>,
    end: Bound<&[u8]>,
) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let escaped = |key: &[u8], end| {
        let mut out = Vec::new();
        escape(&mut out, key, end);
        out
    };
    let start = match start {
        Bound::Included(key) => Bound::Included(escaped(key, END)),
        Bound::Excluded(key) => Bound::Included(escaped(key, AFTER)),
        Bound::Unbounded => Bound::Unbounded,
    };
    let end = match end {
        Bound::Included(key) => Bound::Excluded(escaped(key, AFTER)),
        Bound::Excluded(key) => Bound::Excluded(escaped(key, END)),
        Bound::Unbounded => Bound::Unbounded,
    };
    (start, end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::LeaseId;

    #[test]
    fn present_and_past_have_this_layout() {
        let place = Place { revision: 300, sub: 1 };
        let version = Version { place, create: 7, version: 2, lease: Some(LeaseId(128)) };
        let mut row = Vec::new();
        encode_present(&mut row, &version);
        assert_eq!(row, [0xac, 0x02, 1, 7, 2, 0x80, 0x01]);
        assert_eq!(decode_present(&row), Ok(version));
        encode_past(&mut row, &version);
        assert_eq!(row, [7, 2, 0x80, 0x01]);
        assert_eq!(decode_past(place, &row), Ok(Some(version)));
        assert_eq!(decode_past(place, b""), Ok(None));
        encode_past_key(&mut row, b"a\0b", place);
        assert_eq!(row, b"a\x00\xffb\x00\x01\0\0\0\0\0\0\x01\x2c\0\0\0\x01");
        assert_eq!(decode_past_key(&row), Ok((b"a\0b".to_vec(), place)));
    }

    #[test]
    fn damaged_rows_are_refused() {
        for row in [
            &b""[..],
            &[1, 0, 1, 1],
            &[1, 0, 1, 1, 0, 0],
            &[1, 0xff, 0xff, 0xff, 0xff, 0x7f, 1, 1, 0],
        ] {
            assert!(decode_present(row).is_err(), "{row:?}");
        }
        for key in [
            &b""[..],
            b"ab",
            b"a\0",
            b"a\0\x02",
            b"a\0\x01",
            b"a\0\x01\0\0\0\0\0\0\0\x01\0\0\0\0\0",
        ] {
            assert!(decode_past_key(key).is_err(), "{key:?}");
        }
    }

    fn key() -> impl Strategy<Value = Vec<u8>> {
        prop::collection::vec(prop::sample::select(vec![0u8, 1, 2, 0x61, 0xfe, 0xff]), 0..5)
    }

    fn place() -> impl Strategy<Value = Place> {
        (prop::sample::select(vec![0, 1, 0xff, u64::MAX]), prop::sample::select(vec![0, u32::MAX]))
            .prop_map(|(revision, sub)| Place { revision, sub })
    }

    proptest! {
        #[test]
        fn past_keys_are_ordered_as_their_parts(a in key(), p in place(), b in key(), q in place()) {
            let (mut first, mut second) = (Vec::new(), Vec::new());
            encode_past_key(&mut first, &a, p);
            encode_past_key(&mut second, &b, q);
            prop_assert_eq!(first.cmp(&second), (&a, p).cmp(&(&b, q)));
            prop_assert_eq!(decode_past_key(&first), Ok((a, p)));
        }

        #[test]
        fn past_bounds_hold_what_the_keys_bounds_hold(
            row in key(), p in place(), a in key(), b in key(), kinds in 0..9u8,
        ) {
            let bound = |kind: u8, key: &[u8]| match kind {
                0 => Bound::Included(key.to_vec()),
                1 => Bound::Excluded(key.to_vec()),
                _ => Bound::Unbounded,
            };
            let (start, end) = (bound(kinds / 3, &a), bound(kinds % 3, &b));
            let (start, end) =
                (start.as_ref().map(|k| &k[..]), end.as_ref().map(|k| &k[..]));
            let mut past_key = Vec::new();
            encode_past_key(&mut past_key, &row, p);
            let past = past_bounds(start, end);
            prop_assert_eq!(
                std::ops::RangeBounds::<Vec<u8>>::contains(&past, &past_key),
                std::ops::RangeBounds::<[u8]>::contains(&(start, end), &row[..])
            );
        }
    }
}
