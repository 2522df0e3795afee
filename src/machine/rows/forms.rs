//! The forms of rows, and of their keys where those are read, too.

use super::history::{ChangeRef, Place, encode_delete, encode_put};
use super::keys::encode_present;
use super::keys::{decode_past, decode_past_key, decode_present, encode_past, encode_past_key};
use super::leases::{LeaseRow, decode_lease_id, decode_lease_key, encode_lease_key};
use super::meta::{COMPACTION, COUNTERS, Counters, compaction, save_compaction};
use super::sessions::{SessionRow, decode_answer, decode_use_key, encode_answer, use_key};
use crate::limits::SESSION_ANSWER_BYTES_MAX;
use crate::machine::tables::{MemTables, ReadTables, Table, WriteTables};
use crate::types::{Form, LeaseId, Spelt};

/// What stands in a state's tables.
pub const FORMS: &[Form] = &[
    form("change", |bytes| {
        let (place, row) = bytes.split_at_checked(Place::BYTES)?;
        let change = ChangeRef::decode(place, row).ok()?.to_owned().ok()?;
        let mut written = Vec::new();
        match &change.put {
            Some((version, value)) => encode_put(&mut written, &change.key, version, value),
            None => encode_delete(&mut written, &change.key),
        }
        Some([&change.place.encode()[..], &written].concat())
    }),
    form("present version", |row| {
        let mut written = Vec::new();
        encode_present(&mut written, &decode_present(row).ok()?);
        Some(written)
    }),
    form("past version", |row| {
        let mut written = Vec::new();
        if let Some(version) = decode_past(Place::first_of(1), row).ok()? {
            encode_past(&mut written, &version);
        }
        Some(written)
    }),
    form("key of a past version", |row_key| {
        let (key, place) = decode_past_key(row_key).ok()?;
        let mut written = Vec::new();
        encode_past_key(&mut written, &key, place);
        Some(written)
    }),
    form("lease", |row| Some(LeaseRow::decode(row).ok()?.encode())),
    form("key of a lease", |row_key| Some(decode_lease_id(row_key).ok()?.0.to_be_bytes().into())),
    form("key of a lease's key", |row_key| {
        let key = decode_lease_key(row_key).ok()?;
        let (lease, _) = row_key.split_first_chunk()?;
        let mut written = Vec::new();
        encode_lease_key(&mut written, LeaseId(u64::from_be_bytes(*lease)), key);
        Some(written)
    }),
    form("session", |row| Some(SessionRow::decode(row).ok()?.encode())),
    form("key of a session's use", |row_key| {
        let session = decode_use_key(row_key).ok()?;
        let (used, _) = row_key[1..].split_first_chunk()?;
        Some(use_key(u64::from_be_bytes(*used), session).into())
    }),
    // postcard takes numbers that are longer than needed; and of an answer that was too large to be
    // kept only the refusal is left.
    Form {
        name: "answer",
        again: |row| {
            let answer = decode_answer(row).ok()?;
            (row.len() <= SESSION_ANSWER_BYTES_MAX).then(|| encode_answer(&answer, 0))
        },
        spelt: Spelt::Freely,
    },
    form("counters", |row| {
        let counters = Counters::load(&holding(COUNTERS, row)?).ok()?;
        let mut tables = MemTables::default();
        counters.save(&mut tables).ok()?;
        Some(tables.get(Table::Meta, COUNTERS).ok()??.into())
    }),
    form("compaction", |row| {
        let done = compaction(&holding(COMPACTION, row)?).ok()??;
        let mut tables = MemTables::default();
        save_compaction(&mut tables, done).ok()?;
        Some(tables.get(Table::Meta, COMPACTION).ok()??.into())
    }),
];

const fn form(name: &'static str, again: fn(&[u8]) -> Option<Vec<u8>>) -> Form {
    Form { name, again, spelt: Spelt::InOneWay }
}

fn holding(key: &[u8], row: &[u8]) -> Option<MemTables> {
    let mut tables = MemTables::default();
    tables.put(Table::Meta, key, row).ok()?;
    Some(tables)
}
