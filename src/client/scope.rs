//! What a client's ticket allows, checked against each request that comes over its link.
//!
//! Pure: a request goes in, a verdict comes out. Everything that a request reads or writes must
//! lie within the ticket's keys: each operation of a transaction in both branches, each condition,
//! what a lock's name makes, what an answer shows. A range must lie within one prefix.
//!
//! Two things in a shard have no key, and are bound to their owner in another way.
//!
//! - A **lease** deletes the keys attached to it. The leases of a ticket that is limited to some
//!   keys carry the ticket's mark in the upper half of their ids, which are made here, and such a
//!   ticket can use those leases and no others. The numbers that the machine gives are the log's
//!   indexes and have no mark. Whoever attaches a key to a lease of a limited ticket trusts its
//!   holder with the key.
//! - A **session** remembers answers, and its numbers say which writes were done. It is opened
//!   with a proof, keyed by a secret of the cluster, that only the key that opened it can use; so
//!   sessions go on at any node, and nobody can write in the place of another.

use std::ops::Bound;

use aspen_tickets::Verb;

use super::request::{Proof, Request};
use crate::error::Denied;
use crate::machine::ops::{
    Action, Command, Compare, CompareKeys, CompareTarget, Delete, Is, KeyRange, Op, Put, PutLease,
    Query, Txn,
};
use crate::roster::clients::Permit;
use crate::types::{EndpointId, GroupId, Key, KeyspaceName, LeaseId, SessionId};

/// Refuses what a ticket does not allow, and gives a new lease of a limited ticket its id.
pub(super) fn check(
    permit: &Permit,
    keyspace: Option<&KeyspaceName>,
    request: &mut Request,
) -> Result<(), Denied> {
    if let Request::Locate { keyspace } = request {
        return Scope { permit, keyspace }.locate();
    }
    let scope = Scope::of(permit, keyspace)?;
    // Nobody has anything to do in a keyspace of which nothing is theirs.
    scope.locate()?;
    match request {
        Request::Propose { command, .. } => scope.command(command),
        Request::Query { query, .. } => scope.query(query),
        Request::KeepAlive { lease, .. } => {
            scope.verb(Verb::Write)?;
            scope.lease(*lease)
        }
        Request::LeaseTtl { lease, .. } => {
            scope.any_of([Verb::Read, Verb::Write])?;
            scope.lease(*lease)
        }
        // Answered above.
        Request::Locate { .. } => Ok(()),
    }
}

/// Refuses a watch of keys that the ticket does not show.
pub(super) fn check_watch(
    permit: &Permit,
    keyspace: Option<&KeyspaceName>,
    range: &KeyRange,
) -> Result<(), Denied> {
    Scope::of(permit, keyspace)?.may(Verb::Read, range)
}

/// What a ticket allows in one keyspace.
struct Scope<'a> {
    permit: &'a Permit,
    keyspace: &'a KeyspaceName,
}

impl<'a> Scope<'a> {
    /// The cluster's own records are in a group that no ticket opens.
    fn of(permit: &'a Permit, keyspace: Option<&'a KeyspaceName>) -> Result<Self, Denied> {
        keyspace.map(|keyspace| Scope { permit, keyspace }).ok_or(Denied::Internal)
    }

    /// Where its shards are is for whoever may do anything with any of its keys.
    fn locate(&self) -> Result<(), Denied> {
        let verbs = [Verb::Read, Verb::Write, Verb::Admin];
        let any = |verb| self.permit.allows_some(verb, self.keyspace.as_str());
        if verbs.into_iter().any(any) { Ok(()) } else { Err(Denied::Outside) }
    }

    fn command(&self, command: &mut Command) -> Result<(), Denied> {
        let place = command.session;
        match &mut command.action {
            Action::SessionOpen => self.any_of([Verb::Write, Verb::Admin]),
            Action::Put(put) => self.put(put),
            Action::Delete(delete) => self.delete(delete),
            Action::Txn(txn) => self.txn(txn),
            Action::LeaseGrant { id, .. } => {
                self.verb(Verb::Write)?;
                match (*id, self.mark()) {
                    (Some(id), _) => self.lease(id),
                    (None, None) => Ok(()),
                    (None, Some(mark)) => {
                        // The same for each try of the same command.
                        let place = place.map_or((0, 0), |place| (place.id.0, place.seq));
                        *id = Some(marked(mark, place));
                        Ok(())
                    }
                }
            }
            Action::LeaseRevoke { id } => {
                self.verb(Verb::Write)?;
                self.lease(*id)
            }
            Action::Claim(claim) => {
                // Its answer shows who holds.
                self.may(Verb::Read, &claims(&claim.name))?;
                self.may(Verb::Write, &claims(&claim.name))?;
                self.lease(claim.lease)
            }
            Action::Proclaim { name, lease, .. } | Action::Release { name, lease } => {
                self.may(Verb::Write, &claims(name))?;
                self.lease(*lease)
            }
            Action::Compact { .. } => {
                self.verb(Verb::Admin)?;
                self.whole()
            }
            // Sessions end by themselves, and who may end one can't be told.
            Action::SessionClose { .. } | Action::LeaseExpire { .. } | Action::CompactStep => {
                Err(Denied::Internal)
            }
        }
    }

    fn query(&self, query: &Query) -> Result<(), Denied> {
        match query {
            Query::Get(key) => self.may(Verb::Read, &KeyRange::one(key)),
            Query::Range(range) => self.may(Verb::Read, &range.range),
            Query::Leases { .. } => {
                self.verb(Verb::Read)?;
                self.whole()
            }
            Query::Lease { id, .. } => {
                self.verb(Verb::Read)?;
                self.lease(*id)
            }
            Query::Holder { name } => self.may(Verb::Read, &claims(name)),
            Query::Status => {
                self.any_of([Verb::Read, Verb::Admin])?;
                self.whole()
            }
        }
    }

    fn put(&self, put: &Put) -> Result<(), Denied> {
        let key = KeyRange::one(&put.key);
        self.may(Verb::Write, &key)?;
        if put.prev {
            self.may(Verb::Read, &key)?;
        }
        match put.lease {
            PutLease::Attach(id) => self.lease(id),
            PutLease::Detach | PutLease::Keep => Ok(()),
        }
    }

    fn delete(&self, delete: &Delete) -> Result<(), Denied> {
        self.may(Verb::Write, &delete.range)?;
        if delete.prev { self.may(Verb::Read, &delete.range) } else { Ok(()) }
    }

    /// Nesting is bounded where transactions are decoded.
    fn txn(&self, txn: &Txn) -> Result<(), Denied> {
        for Compare { range, is, target } in &txn.when {
            match range {
                // A delete tells whether there was a key, so whoever may write may ask that.
                CompareKeys::One(key) if is_existence(*is, target) => {
                    let key = KeyRange::one(key);
                    self.may(Verb::Write, &key).or_else(|_| self.may(Verb::Read, &key))?;
                }
                CompareKeys::One(key) => self.may(Verb::Read, &KeyRange::one(key))?,
                CompareKeys::All(range) => self.may(Verb::Read, range)?,
            }
        }
        for op in txn.then.iter().chain(&txn.or_else) {
            match op {
                Op::Put(put) => self.put(put)?,
                Op::Range(range) => self.may(Verb::Read, &range.range)?,
                Op::Delete(delete) => self.delete(delete)?,
                Op::Txn(txn) => self.txn(txn)?,
            }
        }
        Ok(())
    }

    fn may(&self, verb: Verb, range: &KeyRange) -> Result<(), Denied> {
        self.verb(verb)?;
        let (start, end) = range.bounds();
        if self.permit.allows_range(verb, self.keyspace.as_str(), start, end) {
            Ok(())
        } else {
            Err(Denied::Outside)
        }
    }

    fn verb(&self, verb: Verb) -> Result<(), Denied> {
        match verb {
            _ if self.permit.verbs.allow(verb) => Ok(()),
            Verb::Read => Err(Denied::Read),
            Verb::Write => Err(Denied::Write),
            Verb::Admin => Err(Denied::Admin),
        }
    }

    fn any_of(&self, verbs: [Verb; 2]) -> Result<(), Denied> {
        self.verb(verbs[0]).or_else(|denied| self.verb(verbs[1]).map_err(|_| denied))
    }

    /// Whether the ticket is for all keys of the keyspace.
    fn is_whole(&self) -> bool {
        let verbs = [Verb::Read, Verb::Write, Verb::Admin];
        let keyspace = self.keyspace.as_str();
        let whole =
            |verb| self.permit.allows_range(verb, keyspace, Bound::Unbounded, Bound::Unbounded);
        verbs.into_iter().any(whole)
    }

    fn whole(&self) -> Result<(), Denied> {
        if self.is_whole() { Ok(()) } else { Err(Denied::WholeShard) }
    }

    fn lease(&self, id: LeaseId) -> Result<(), Denied> {
        match self.mark() {
            Some(mark) if id.0 >> 32 != u64::from(mark) => Err(Denied::ForeignLease { id }),
            _ => Ok(()),
        }
    }

    /// The upper half of a limited ticket's lease ids; never 0, which the machine's have.
    fn mark(&self) -> Option<u32> {
        let mark = || first_word(&blake3::hash(&self.permit.grant.to_be_bytes())).max(1);
        (!self.is_whole()).then(mark)
    }
}

/// Whether a condition asks of a key no more than whether it is there.
fn is_existence(is: Is, target: &CompareTarget) -> bool {
    matches!((is, target), (Is::Equal | Is::NotEqual, CompareTarget::Version(0)))
}

fn first_word(digest: &blake3::Hash) -> u32 {
    let [a, b, c, d, ..] = *digest.as_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// A lease id for a command's place in its session.
fn marked(mark: u32, (session, seq): (u64, u64)) -> LeaseId {
    let place = [session.to_be_bytes(), seq.to_be_bytes()].concat();
    LeaseId(u64::from(mark) << 32 | u64::from(first_word(&blake3::hash(&place))))
}

/// Where the claims on a lock or election are.
fn claims(name: &Key) -> KeyRange {
    KeyRange::prefix([name.as_bytes(), b"/"].concat())
}

/// What shows that a session of a group belongs to a client. Each group numbers its own.
pub(super) fn prove(
    secret: &[u8; 32],
    group: GroupId,
    session: SessionId,
    client: EndpointId,
) -> Proof {
    let mut hasher = blake3::Hasher::new_keyed(secret);
    hasher.update(&group.0.to_be_bytes());
    hasher.update(&session.0.to_be_bytes());
    hasher.update(&client.0);
    let mut proof = Proof::default();
    hasher.finalize_xof().fill(&mut proof);
    proof
}

/// Refuses the use of a session that another client opened, and a write without a session: sent
/// twice it would be done twice.
pub(super) fn check_session(
    secret: &[u8; 32],
    request: &Request,
    client: EndpointId,
) -> Result<(), Denied> {
    let Request::Propose { group, command, proof } = request else { return Ok(()) };
    match (&command.session, proof, &command.action) {
        (None, _, Action::SessionOpen) => Ok(()),
        // Compared as hashes are, in constant time.
        (Some(place), Some(proof), _)
            if blake3::hash(&prove(secret, *group, place.id, client)) == blake3::hash(proof) =>
        {
            Ok(())
        }
        _ => Err(Denied::ForeignSession),
    }
}

#[cfg(test)]
#[path = "scope_tests.rs"]
mod tests;
