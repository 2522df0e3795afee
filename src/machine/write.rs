//! Puts, deletes and transactions: what they change, decided on a [`Draft`].

use std::cmp::Ordering;
use std::ops::ControlFlow;

use super::draft::Draft;
use super::ops::{
    AnswerBody, Compare, CompareKeys, CompareTarget, Delete, Is, KeyRange, KeyRecord, Op, Put,
    PutLease, Txn,
};
use super::range::range;
use super::rows::history::{Version, lease_number};
use super::stop::Stop;
use super::tables::{ReadTables, TableError};
use super::view::{At, View, visited_key};
use crate::error::Refusal;
use crate::limits::DELETE_PREV_KEYS_MAX;
use crate::types::{Key, LeaseId};

/// Writes one key.
pub(crate) fn put<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &mut Draft,
    put: &Put,
) -> Result<AnswerBody, Stop> {
    let key = put.key.as_bytes();
    let view = View::drafted(tables, draft);
    let before = view.version(key)?;
    let lease = match put.lease {
        PutLease::Detach => None,
        PutLease::Keep => before.ok_or(Refusal::KeyNotFound)?.lease,
        PutLease::Attach(id) => Some(existing(tables, draft, id)?),
    };
    let before_record = match &before {
        Some(version) if put.prev || put.value.is_none() => Some(view.record(key, version)?),
        _ => None,
    };
    let value = match (&put.value, &before_record) {
        (Some(value), _) => value.clone(),
        (None, Some(record)) => {
            draft.charge_kept(&record.value)?;
            record.value.clone()
        }
        (None, None) => return Err(Refusal::KeyNotFound.into()),
    };
    let prev = before_record.filter(|_| put.prev);
    if let Some(record) = &prev {
        draft.charge_answer(key, record)?;
    }
    draft.put(tables, put.key.clone(), before, false, value, lease)?;
    Ok(AnswerBody::Put { prev })
}

/// The lease, if it exists.
pub(crate) fn existing<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &Draft,
    id: LeaseId,
) -> Result<LeaseId, Stop> {
    match draft.lease(tables, id)? {
        Some(_) => Ok(id),
        None => Err(Refusal::LeaseNotFound { id }.into()),
    }
}

/// Deletes the keys of a range.
pub(crate) fn delete<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &mut Draft,
    delete: &Delete,
) -> Result<AnswerBody, Stop> {
    let view = View::drafted(tables, draft);
    let mut found: Vec<(Key, Version)> = Vec::new();
    let mut bytes = 0;
    let mut too_large = false;
    view.visit(&delete.range, At::Present, false, &mut |key, version| {
        bytes += key.len();
        too_large = !draft.has_room_to_delete(found.len() + 1, bytes)
            || (delete.prev && found.len() == DELETE_PREV_KEYS_MAX);
        if too_large {
            return Ok(ControlFlow::Break(()));
        }
        found.push((visited_key(key)?, *version));
        Ok(ControlFlow::Continue(()))
    })?;
    if too_large {
        return Err(Refusal::DeleteTooLarge.into());
    }
    let mut prev = Vec::new();
    let count = found.len() as u64;
    for (key, version) in found {
        if delete.prev {
            let record = View::drafted(tables, draft).record(key.as_bytes(), &version)?;
            draft.charge_answer(key.as_bytes(), &record)?;
            prev.push(KeyRecord { key: key.clone(), record });
        }
        draft.delete(tables, key, version)?;
    }
    Ok(AnswerBody::Deleted { count, prev })
}

/// Does one of a transaction's two lists of operations.
pub(crate) fn txn<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &mut Draft,
    txn: &Txn,
) -> Result<AnswerBody, Stop> {
    // A draft writes nothing, so the tables are the state before the outermost transaction.
    let before = View::stored(tables, draft.counters);
    let mut succeeded = true;
    for compare in &txn.when {
        if !holds(&before, compare)? {
            succeeded = false;
            break;
        }
    }
    let ops = if succeeded { &txn.then } else { &txn.or_else };
    let mut answers = Vec::with_capacity(ops.len());
    for op in ops {
        answers.push(match op {
            Op::Put(op) => put(tables, draft, op)?,
            Op::Delete(op) => delete(tables, draft, op)?,
            Op::Txn(op) => self::txn(tables, draft, op)?,
            Op::Range(op) => {
                let page = range(&View::drafted(tables, draft), op)?;
                for KeyRecord { key, record } in &page.records {
                    draft.charge_answer(key.as_bytes(), record)?;
                }
                AnswerBody::Range(page)
            }
        });
    }
    Ok(AnswerBody::Txn { succeeded, answers })
}

/// Whether a condition holds for its key, or for all keys of its range. As in etcd, where there
/// is no key the condition is about one whose counters are 0 and which has no value.
fn holds<T: ReadTables + ?Sized>(
    view: &View<'_, T>,
    compare: &Compare,
) -> Result<bool, TableError> {
    let one;
    let range = match &compare.range {
        CompareKeys::One(key) => {
            one = KeyRange::one(key);
            &one
        }
        CompareKeys::All(range) => range,
    };
    let (mut any, mut all) = (false, true);
    view.visit(range, At::Present, false, &mut |key, version| {
        any = true;
        let order = match &compare.target {
            CompareTarget::Value(given) => view.value(key, version)?.cmp(given),
            target => counter(target, Some(version)),
        };
        all = compare.is.holds(order);
        Ok(if all { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(match &compare.target {
        _ if any => all,
        CompareTarget::Value(_) => false,
        target => compare.is.holds(counter(target, None)),
    })
}

/// How a version's counter stands to the one given; a value has none and is compared elsewhere.
fn counter(target: &CompareTarget, version: Option<&Version>) -> Ordering {
    let (stored, given) = match target {
        CompareTarget::Value(_) => return Ordering::Equal,
        CompareTarget::Version(given) => (version.map(|v| v.version), given),
        CompareTarget::Create(given) => (version.map(|v| v.create), given),
        CompareTarget::Mod(given) => (version.map(|v| v.place.revision), given),
        CompareTarget::Lease(given) => (version.map(|v| lease_number(v.lease)), given),
    };
    stored.unwrap_or(0).cmp(given)
}

impl Is {
    fn holds(self, order: Ordering) -> bool {
        match self {
            Is::Equal => order.is_eq(),
            Is::NotEqual => order.is_ne(),
            Is::Greater => order.is_gt(),
            Is::Less => order.is_lt(),
        }
    }
}
