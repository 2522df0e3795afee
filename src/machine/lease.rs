//! Granting and ending leases. How much time a lease has left is not here: the group's leader
//! keeps it on its clock and proposes the end.

use std::ops::{Bound, ControlFlow};

use super::draft::Draft;
use super::ops::{AnswerBody, LeaseInfo};
use super::rows::history::checked_key;
use super::rows::leases::{LeaseRow, decode_lease_id, decode_lease_key, lease_key_bounds};
use super::rows::{corrupt, meta::Counters};
use super::stop::Stop;
use super::tables::{ReadTables, Table, TableError};
use super::view::View;
use crate::error::Refusal;
use crate::limits::RANGE_RECORDS_MAX;
use crate::types::{Key, LeaseId};

/// Makes a lease. Without an id it takes the command's log index, or the next number that is
/// free.
pub(crate) fn grant<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &mut Draft,
    index: u64,
    id: Option<LeaseId>,
    ttl_ms: u64,
) -> Result<AnswerBody, Stop> {
    let id = match id.filter(|id| id.0 != 0) {
        Some(id) if draft.lease(tables, id)?.is_some() => {
            return Err(Refusal::LeaseExists { id }.into());
        }
        Some(id) => id,
        None => free_id(tables, index.max(1))?,
    };
    draft.grant(id, ttl_ms)?;
    Ok(AnswerBody::Lease { id, ttl_ms })
}

/// The least number from `wanted` on that is no lease's.
fn free_id<T: ReadTables + ?Sized>(tables: &T, wanted: u64) -> Result<LeaseId, TableError> {
    let mut free = wanted;
    let start = wanted.to_be_bytes();
    let mut taken = |row_key: &[u8], _: &[u8]| {
        if decode_lease_id(row_key)? != LeaseId(free) {
            return Ok(ControlFlow::Break(()));
        }
        free = free.checked_add(1).ok_or_else(|| corrupt(Table::Leases, "no id is free"))?;
        Ok(ControlFlow::Continue(()))
    };
    tables.scan(Table::Leases, Bound::Included(&start), Bound::Unbounded, false, &mut taken)?;
    Ok(LeaseId(free))
}

/// Ends a lease and deletes its keys.
pub(crate) fn revoke<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &mut Draft,
    id: LeaseId,
) -> Result<AnswerBody, Stop> {
    if draft.lease(tables, id)?.is_none() {
        return Err(Refusal::LeaseNotFound { id }.into());
    }
    let keys = keys_of(tables, id)?;
    end(tables, draft, id, keys)?;
    Ok(AnswerBody::Done)
}

/// Ends those of the leases that exist, in the order given and as many as one command may, judged
/// by their keys; the first always. What was ended is told in the lease changes; the leader
/// proposes the rest again.
pub(crate) fn expire<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &mut Draft,
    ids: &[LeaseId],
) -> Result<AnswerBody, Stop> {
    for &id in ids {
        if draft.lease(tables, id)?.is_none() {
            continue;
        }
        let keys = keys_of(tables, id)?;
        let bytes = keys.iter().map(|key| key.as_bytes().len()).sum();
        if !draft.has_room_to_delete(keys.len(), bytes) {
            break;
        }
        end(tables, draft, id, keys)?;
    }
    Ok(AnswerBody::Done)
}

fn end<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &mut Draft,
    id: LeaseId,
    keys: Vec<Key>,
) -> Result<(), Stop> {
    for key in keys {
        let version = View::drafted(tables, draft).version(key.as_bytes())?;
        match version.filter(|version| version.lease == Some(id)) {
            Some(version) => draft.delete(tables, key, version)?,
            None => {
                return Err(corrupt(Table::LeaseKeys, "a lease has a key that is not its").into());
            }
        }
    }
    draft.end(id);
    Ok(())
}

/// The keys attached to a lease, in order. Their number is limited when they are attached.
fn keys_of<T: ReadTables + ?Sized>(tables: &T, id: LeaseId) -> Result<Vec<Key>, TableError> {
    let mut keys = Vec::new();
    let (start, end) = lease_key_bounds(id);
    tables.scan(
        Table::LeaseKeys,
        start.as_ref().map(|bytes| &bytes[..]),
        end.as_ref().map(|bytes| &bytes[..]),
        false,
        &mut |row_key, _| {
            keys.push(checked_key(Table::LeaseKeys, decode_lease_key(row_key)?)?);
            Ok(ControlFlow::Continue(()))
        },
    )?;
    Ok(keys)
}

/// One lease, with its keys if asked for.
pub(crate) fn info<T: ReadTables + ?Sized>(
    tables: &T,
    id: LeaseId,
    with_keys: bool,
) -> Result<AnswerBody, Stop> {
    let LeaseRow { ttl_ms, keys } =
        LeaseRow::load(tables, id)?.ok_or(Refusal::LeaseNotFound { id })?;
    let info = LeaseInfo { id, ttl_ms, keys };
    let keys = if with_keys { keys_of(tables, id)? } else { Vec::new() };
    Ok(AnswerBody::LeaseInfo { info, keys })
}

/// The leases after `after`, in order of their ids.
pub(crate) fn list<T: ReadTables + ?Sized>(
    tables: &T,
    counters: &Counters,
    after: Option<LeaseId>,
    limit: u64,
) -> Result<AnswerBody, TableError> {
    let limit = limit.min(RANGE_RECORDS_MAX as u64).min(counters.leases) as usize;
    let mut leases = Vec::with_capacity(limit.min(RANGE_RECORDS_MAX));
    let after = after.map(|id| id.0.to_be_bytes());
    let start = match &after {
        Some(after) => Bound::Excluded(&after[..]),
        None => Bound::Unbounded,
    };
    tables.scan(Table::Leases, start, Bound::Unbounded, false, &mut |row_key, row| {
        if leases.len() == limit {
            return Ok(ControlFlow::Break(()));
        }
        let LeaseRow { ttl_ms, keys } = LeaseRow::decode(row)?;
        leases.push(LeaseInfo { id: decode_lease_id(row_key)?, ttl_ms, keys });
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(AnswerBody::Leases(leases))
}
