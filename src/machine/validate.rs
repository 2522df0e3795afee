//! What is wrong with a command or query whatever the state: found before it is proposed or
//! asked, in the client and again where it enters a group.
//!
//! The keys that a transaction writes are checked as in etcd: on one path no key is put twice,
//! and none is both put and deleted, at any level; the two branches of one transaction are
//! different paths. etcd lets a nested delete pass that comes after a nested put of the same key
//! in another transaction; here the order makes no difference, and it is refused.

use std::collections::BTreeSet;

use super::claim::{CLAIM_SUFFIX_BYTES, name_fits};
use super::ops::{
    Action, Command, Compare, CompareKeys, CompareTarget, KeyRange, Op, Put, PutLease, Query, Txn,
};
use super::tables::is_empty_range;
use crate::error::Invalid;
use crate::limits::{
    LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN, LEASES_EXPIRED_MAX, TXN_BYTES_MAX, TXN_DEPTH_MAX,
    TXN_OPS_MAX,
};
use crate::types::{Key, LeaseId};

impl Command {
    /// Refuses what no state could satisfy.
    pub fn validate(&self) -> Result<(), Invalid> {
        if let Some(place) = &self.session {
            if place.seq == 0 {
                return Err(Invalid::Other("a session's first command has number 1".into()));
            }
            if place.acked_below > place.seq {
                return Err(Invalid::Other("a command can't acknowledge its own answer".into()));
            }
        }
        self.action.validate()
    }
}

impl Action {
    /// Refuses what no state could satisfy.
    pub fn validate(&self) -> Result<(), Invalid> {
        match self {
            Action::SessionOpen
            | Action::SessionClose { .. }
            | Action::Compact { .. }
            | Action::CompactStep => Ok(()),
            Action::Put(put) => put.validate(),
            Action::Delete(delete) => delete.range.validate(),
            Action::Txn(txn) => txn.validate(),
            Action::LeaseGrant { id, ttl_ms } => {
                if let Some(id) = id {
                    lease(*id)?;
                }
                if !(LEASE_TTL_MS_MIN..=LEASE_TTL_MS_MAX).contains(ttl_ms) {
                    return Err(Invalid::LeaseTtl { ttl_ms: *ttl_ms });
                }
                Ok(())
            }
            Action::LeaseRevoke { id } => lease(*id),
            Action::LeaseExpire { ids } if ids.len() > LEASES_EXPIRED_MAX => {
                Err(Invalid::Other(format!("one command ends at most {LEASES_EXPIRED_MAX} leases")))
            }
            Action::LeaseExpire { .. } => Ok(()),
            Action::Claim(claim) => lease(claim.lease).and_then(|()| name(&claim.name)),
            Action::Proclaim { name: of, lease: id, .. }
            | Action::Release { name: of, lease: id } => lease(*id).and_then(|()| name(of)),
        }
    }
}

impl Query {
    /// Refuses what no state could satisfy.
    pub fn validate(&self) -> Result<(), Invalid> {
        match self {
            Query::Range(range) => range.range.validate(),
            Query::Lease { id, .. } => lease(*id),
            Query::Holder { name: of } => name(of),
            Query::Get(_) | Query::Leases { .. } | Query::Status => Ok(()),
        }
    }
}

impl Put {
    fn validate(&self) -> Result<(), Invalid> {
        match self.lease {
            PutLease::Attach(id) => lease(id),
            PutLease::Detach | PutLease::Keep => Ok(()),
        }
    }
}

fn lease(id: LeaseId) -> Result<(), Invalid> {
    if id.0 == 0 { Err(Invalid::LeaseId) } else { Ok(()) }
}

fn name(name: &Key) -> Result<(), Invalid> {
    if name_fits(name) {
        Ok(())
    } else {
        Err(Invalid::KeyTooLong { len: name.as_bytes().len() + CLAIM_SUFFIX_BYTES })
    }
}

/// What a transaction comes to, nested ones counted.
#[derive(Default)]
struct Size {
    ops: usize,
    bytes: usize,
    depth: usize,
}

impl Txn {
    /// Refuses what no state could satisfy.
    pub fn validate(&self) -> Result<(), Invalid> {
        let mut size = Size::default();
        self.measure(&mut size, 1);
        if size.depth > TXN_DEPTH_MAX {
            return Err(Invalid::TxnTooDeep { depth: size.depth });
        }
        if size.ops > TXN_OPS_MAX {
            return Err(Invalid::TxnTooManyOps { count: size.ops });
        }
        if size.bytes > TXN_BYTES_MAX {
            return Err(Invalid::TxnTooLarge { len: size.bytes });
        }
        self.check_parts()?;
        Written::of(&self.then)?;
        Written::of(&self.or_else)?;
        Ok(())
    }

    fn measure(&self, size: &mut Size, depth: usize) {
        size.depth = size.depth.max(depth);
        size.ops += self.when.len() + self.then.len() + self.or_else.len();
        for compare in &self.when {
            size.bytes += match &compare.range {
                CompareKeys::One(key) => key.as_bytes().len(),
                CompareKeys::All(range) => range.bytes(),
            };
            if let CompareTarget::Value(value) = &compare.target {
                size.bytes += value.as_bytes().len();
            }
        }
        for op in self.then.iter().chain(&self.or_else) {
            match op {
                Op::Put(put) => {
                    let value = put.value.as_ref().map_or(0, |value| value.as_bytes().len());
                    size.bytes += put.key.as_bytes().len() + value;
                }
                Op::Range(range) => size.bytes += range.range.bytes(),
                Op::Delete(delete) => size.bytes += delete.range.bytes(),
                Op::Txn(txn) => txn.measure(size, depth + 1),
            }
        }
    }

    fn check_parts(&self) -> Result<(), Invalid> {
        for Compare { range, .. } in &self.when {
            if let CompareKeys::All(range) = range {
                range.validate()?;
            }
        }
        for op in self.then.iter().chain(&self.or_else) {
            match op {
                Op::Put(put) => put.validate()?,
                Op::Range(range) => range.range.validate()?,
                Op::Delete(delete) => delete.range.validate()?,
                Op::Txn(txn) => txn.check_parts()?,
            }
        }
        Ok(())
    }
}

/// The keys that a list of operations puts, and the ranges that it deletes.
#[derive(Default)]
struct Written<'a> {
    puts: BTreeSet<&'a [u8]>,
    deletes: Vec<&'a KeyRange>,
}

impl<'a> Written<'a> {
    fn of(ops: &'a [Op]) -> Result<Written<'a>, Invalid> {
        let mut all = Written::default();
        for op in ops {
            match op {
                Op::Put(put) if !all.puts.insert(put.key.as_bytes()) => {
                    return Err(duplicate(put.key.as_bytes()));
                }
                Op::Delete(delete) => all.deletes.push(&delete.range),
                Op::Put(_) | Op::Range(_) | Op::Txn(_) => {}
            }
        }
        all.meets(&all)?;
        for op in ops {
            if let Op::Txn(txn) = op {
                // One of its branches is done, not both: each is checked against the rest only.
                let (then, or_else) = (Written::of(&txn.then)?, Written::of(&txn.or_else)?);
                for branch in [&then, &or_else] {
                    if let Some(key) = branch.puts.intersection(&all.puts).next() {
                        return Err(duplicate(key));
                    }
                    branch.meets(&all)?;
                    all.meets(branch)?;
                }
                for branch in [then, or_else] {
                    all.puts.extend(branch.puts);
                    all.deletes.extend(branch.deletes);
                }
            }
        }
        Ok(all)
    }

    /// Refuses if one of these keys is in one of the other's deleted ranges.
    fn meets(&self, other: &Written<'_>) -> Result<(), Invalid> {
        for range in &other.deletes {
            let (start, end) = range.bounds();
            if !is_empty_range(start, end)
                && let Some(key) = self.puts.range::<[u8], _>((start, end)).next()
            {
                return Err(duplicate(key));
            }
        }
        Ok(())
    }
}

fn duplicate(key: &[u8]) -> Invalid {
    Invalid::TxnDuplicateKey { len: key.len() }
}
