//! A client's ticket is held against the records, and its requests against the ticket's scope.
//!
//! A grant with limited uses counts client keys, not connections: a key that was counted comes
//! again as often as it likes. The check is made when a client connects, and [`check`] again
//! whenever the records change, so that what was revoked ends for those who are connected too.

use std::ops::Bound;

use aspen_tickets::{
    Body as _, ClientTicket, Scope, Signature, USES_ANY, Verb, Verbs, signed_bytes,
};
use serde::{Deserialize, Serialize};

use super::admit::Verify;
use super::change::Change;
use super::records::{Client, Grant, Record};
use super::refused::Refused;
use super::tickets::still_good;
use super::{At, Roster};
use crate::limits::GRANT_CLIENTS_MAX;
use crate::types::{ClusterId, EndpointId};

/// A client presents its ticket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Presented {
    /// The cluster that the ticket leads to.
    pub cluster: ClusterId,
    /// What it grants.
    pub grant: aspen_tickets::Grant,
    /// Its signature.
    pub signature: Signature,
    /// The client's key: the one its connection has proven, never one that it only names.
    pub endpoint: EndpointId,
}

impl Presented {
    /// A ticket in the hands of a client.
    pub fn new(ticket: &ClientTicket, endpoint: EndpointId) -> Self {
        Presented {
            cluster: ClusterId(ticket.cluster().id),
            grant: ticket.grant().clone(),
            signature: *ticket.signature(),
            endpoint,
        }
    }
}

/// What a client may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The grant it rests on, for [`check`].
    pub grant: u128,
    /// Which keys.
    pub scope: Scope,
    /// What may be done with them.
    pub verbs: Verbs,
    /// When it ends, in seconds since 1970.
    pub expires_s: u64,
}

/// Decides what a client may do. The change is empty unless the client is to be counted.
pub fn authorise(
    roster: &Roster,
    presented: &Presented,
    now_s: u64,
    verify: Verify<'_>,
) -> Result<(Permit, Change), Refused> {
    let Presented { cluster, grant: asked, signature, endpoint } = presented;
    let ours = roster.founded()?.record.id;
    if *cluster != ours {
        return Err(Refused::OtherCluster { ours, theirs: *cluster });
    }
    let bytes = signed_bytes(cluster.0, asked);
    if asked.check().is_err() || !verify(EndpointId(asked.issuer), &bytes, &signature.0) {
        return Err(Refused::Tampered);
    }
    still_good(roster, EndpointId(asked.issuer), asked.expires_s, now_s)?;
    let at = roster.grants.get(&asked.id).ok_or(Refused::UnknownTicket)?;
    if at.record.ticketed(asked.id) != *asked {
        return Err(Refused::Tampered);
    }
    if at.record.revoked {
        return Err(Refused::Revoked);
    }
    let change = count(roster, asked.id, at, *endpoint, now_s)?;
    let Grant { scope, verbs, expires_s, .. } = at.record.clone();
    Ok((Permit { grant: asked.id, scope, verbs, expires_s }, change))
}

/// Whether what was permitted still is.
pub fn check(roster: &Roster, permit: &Permit, now_s: u64) -> Result<(), Refused> {
    let at = roster.grants.get(&permit.grant);
    let issuer = at.map(|at| at.record.issuer);
    match (at, issuer) {
        (Some(at), Some(issuer)) => {
            still_good(roster, issuer, permit.expires_s, now_s)?;
            if at.record.revoked { Err(Refused::Revoked) } else { Ok(()) }
        }
        _ => Err(Refused::UnknownTicket),
    }
}

fn count(
    roster: &Roster,
    id: u128,
    at: &At<Grant>,
    endpoint: EndpointId,
    now_s: u64,
) -> Result<Change, Refused> {
    let grant = &at.record;
    if grant.uses == USES_ANY || roster.clients.contains_key(&(id, endpoint)) {
        return Ok(Change::default());
    }
    if grant.used >= grant.uses {
        return Err(Refused::UsedUp { uses: grant.uses });
    }
    if roster.clients.len() >= GRANT_CLIENTS_MAX {
        return Err(Refused::TooManyClients);
    }
    let mut change = roster.change_in_sequence()?;
    let used = Grant { used: grant.used + 1, ..grant.clone() };
    change.replace(Record::Grant(id, used), at.mod_revision);
    change.create(Record::Client(id, endpoint, Client { since_s: now_s }));
    Ok(change)
}

impl Permit {
    /// Whether this may be done with one key.
    pub fn allows_key(&self, verb: Verb, keyspace: &str, key: &[u8]) -> bool {
        self.verbs.allow(verb) && covers(&self.scope, keyspace, |prefix| key.starts_with(prefix))
    }

    /// Whether this may be done with all keys of a range: one entry of the scope must hold all of
    /// it, however few keys there are.
    pub fn allows_range(
        &self,
        verb: Verb,
        keyspace: &str,
        start: Bound<&[u8]>,
        end: Bound<&[u8]>,
    ) -> bool {
        self.verbs.allow(verb)
            && covers(&self.scope, keyspace, |prefix| {
                begins_within(start, prefix) && ends_within(end, prefix)
            })
    }

    /// Whether this may be done with some keys of a keyspace.
    pub fn allows_some(&self, verb: Verb, keyspace: &str) -> bool {
        self.verbs.allow(verb) && covers(&self.scope, keyspace, |_| true)
    }

    /// Whether this may be done with all there is: for what no key limits.
    pub fn allows_all(&self, verb: Verb) -> bool {
        self.verbs.allow(verb) && self.scope == Scope::All
    }
}

fn covers(scope: &Scope, keyspace: &str, within: impl Fn(&[u8]) -> bool) -> bool {
    match scope {
        Scope::All => true,
        Scope::Keyspaces(names) => names.iter().any(|name| name == keyspace),
        Scope::Prefixes(list) => {
            list.iter().any(|entry| entry.keyspace == keyspace && within(&entry.prefix))
        }
    }
}

/// No key from `start` on is below those of the prefix. A start above them leaves a range with
/// nothing in it or one that [`ends_within`] refuses.
fn begins_within(start: Bound<&[u8]>, prefix: &[u8]) -> bool {
    match start {
        Bound::Included(key) | Bound::Excluded(key) => key >= prefix,
        Bound::Unbounded => prefix.is_empty(),
    }
}

/// No key up to `end` is above those of the prefix.
pub(super) fn ends_within(end: Bound<&[u8]>, prefix: &[u8]) -> bool {
    let past = past_prefix(prefix);
    match (end, past) {
        (_, None) => true,
        (Bound::Included(key), Some(past)) => key < &past[..],
        (Bound::Excluded(key), Some(past)) => key <= &past[..],
        (Bound::Unbounded, Some(_)) => false,
    }
}

/// The first key above all that begin with `prefix`; `None` if there is none.
fn past_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte != u8::MAX)?;
    let mut past = prefix[..=kept].to_vec();
    past[kept] += 1;
    Some(past)
}

impl Roster {
    /// The client keys that a grant has counted.
    pub fn clients_of(&self, grant: u128) -> impl Iterator<Item = EndpointId> {
        let (first, last) = ((grant, EndpointId([0; 32])), (grant, EndpointId([u8::MAX; 32])));
        self.clients.range(first..=last).map(|((_, endpoint), _)| *endpoint)
    }
}
