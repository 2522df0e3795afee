//! Locks and elections. A claim is a key `name/lease`, the lease in 16 hexadecimal digits, that
//! is attached to that lease; other keys under `name/` are none and are passed over. Of all claims
//! of a name the one with the lowest create revision holds, and that revision is its fencing
//! token: it is greater than the token of any earlier holder.

use std::ops::ControlFlow;

use super::draft::Draft;
use super::ops::{AnswerBody, Claim, ClaimState, Holder, KeyRange};
use super::rows::history::Version;
use super::stop::Stop;
use super::tables::{ReadTables, TableError};
use super::view::{At, View, visited_key};
use super::write::existing;
use crate::error::Refusal;
use crate::limits::KEY_BYTES_MAX;
use crate::types::{Key, LeaseId, Value};

/// Bytes that a claim's key has besides the name.
pub(crate) const CLAIM_SUFFIX_BYTES: usize = 1 + 16;

/// The key of a claim. A name that leaves no room for the lease is refused before it is proposed;
/// here it is refused again, so that applying one is no damage.
fn claim_key(name: &Key, lease: LeaseId) -> Result<Key, Refusal> {
    let mut key = Vec::with_capacity(name.as_bytes().len() + CLAIM_SUFFIX_BYTES);
    key.extend_from_slice(name.as_bytes());
    key.extend_from_slice(format!("/{lease}").as_bytes());
    debug_assert_eq!(key.len(), name.as_bytes().len() + CLAIM_SUFFIX_BYTES);
    let len = name.as_bytes().len();
    Key::new(key).map_err(|_| Refusal::NameTooLong { len })
}

/// The lease of a claim, if the key is one.
fn claimant(name: &Key, key: &[u8], version: &Version) -> Option<LeaseId> {
    let lease = version.lease?;
    let suffix = key.strip_prefix(name.as_bytes())?;
    (suffix == format!("/{lease}").as_bytes()).then_some(lease)
}

/// The claim with the lowest create revision, and how many there are besides.
struct Queue {
    first: Option<(Key, LeaseId, Version)>,
    waiting: u64,
}

fn queue<T: ReadTables + ?Sized>(view: &View<'_, T>, name: &Key) -> Result<Queue, TableError> {
    let mut queue = Queue { first: None, waiting: 0 };
    let mut claims = 0u64;
    let under = KeyRange::prefix([name.as_bytes(), b"/"].concat());
    view.visit(&under, At::Present, false, &mut |key, version| {
        if let Some(lease) = claimant(name, key, version) {
            claims += 1;
            let first = queue.first.as_ref();
            if first.is_none_or(|(_, _, first)| version.create < first.create) {
                queue.first = Some((visited_key(key)?, lease, *version));
            }
        }
        Ok(ControlFlow::Continue(()))
    })?;
    queue.waiting = claims.saturating_sub(1);
    Ok(queue)
}

fn state<T: ReadTables + ?Sized>(
    view: &View<'_, T>,
    name: &Key,
    own: Option<Key>,
) -> Result<AnswerBody, TableError> {
    let Queue { first, waiting } = queue(view, name)?;
    let own = match own {
        Some(key) => view.version(key.as_bytes())?.map(|version| (key, version.create)),
        None => None,
    };
    let holder = match first {
        Some((key, lease, version)) => {
            let value = view.value(key.as_bytes(), &version)?;
            Some(Holder { key, lease, token: version.create, value })
        }
        None => None,
    };
    Ok(AnswerBody::Claim(ClaimState { own, holder, waiting }))
}

/// Who holds.
pub(crate) fn holder<T: ReadTables + ?Sized>(
    view: &View<'_, T>,
    name: &Key,
) -> Result<AnswerBody, TableError> {
    state(view, name, None)
}

/// Queues a claim. A lease that has one keeps it, its place and its value.
pub(crate) fn claim<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &mut Draft,
    claim: &Claim,
) -> Result<AnswerBody, Stop> {
    let lease = existing(tables, draft, claim.lease)?;
    let key = claim_key(&claim.name, lease)?;
    let before = View::drafted(tables, draft).version(key.as_bytes())?;
    let claimed = before.is_some_and(|before| before.lease == Some(lease));
    if !claimed {
        // A key of that name that is no claim has no place in the queue: the claim starts anew,
        // as if the key had been deleted, or its token could be lower than the holder's.
        draft.put(tables, key.clone(), before, true, claim.value.clone(), Some(lease))?;
    }
    Ok(state(&View::drafted(tables, draft), &claim.name, Some(key))?)
}

/// Replaces the value of the claim that holds, if it is this lease's.
pub(crate) fn proclaim<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &mut Draft,
    name: &Key,
    lease: LeaseId,
    value: &Value,
) -> Result<AnswerBody, Stop> {
    match queue(&View::drafted(tables, draft), name)?.first {
        Some((key, holder, before)) if holder == lease => {
            draft.put(tables, key, Some(before), false, value.clone(), Some(lease))?;
            Ok(AnswerBody::Done)
        }
        _ => Err(Refusal::NotHolder { id: lease }.into()),
    }
}

/// Deletes a claim, held or waiting; says whether there was one.
pub(crate) fn release<T: ReadTables + ?Sized>(
    tables: &T,
    draft: &mut Draft,
    name: &Key,
    lease: LeaseId,
) -> Result<AnswerBody, Stop> {
    let key = claim_key(name, lease)?;
    let version = View::drafted(tables, draft).version(key.as_bytes())?;
    let claim = version.filter(|version| version.lease == Some(lease));
    let count = u64::from(claim.is_some());
    if let Some(version) = claim {
        draft.delete(tables, key, version)?;
    }
    Ok(AnswerBody::Deleted { count, prev: Vec::new() })
}

/// Whether a name leaves room for the lease in a claim's key.
pub(crate) fn name_fits(name: &Key) -> bool {
    name.as_bytes().len() + CLAIM_SUFFIX_BYTES <= KEY_BYTES_MAX
}
