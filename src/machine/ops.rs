//! The vocabulary of the machine: commands, queries, answers and events.
//!
//! Commands are what the log replicates; their encoding is the on-disk and wire format of log
//! entries, so a variant or field is only ever added at the end, together with a new version in
//! `wire`. What needs no state to be refused is in `validate` ([`Action::validate`]); what depends
//! on the state is refused by `apply`.

use std::ops::Bound;

use bytes::Bytes;
use serde::{Deserialize, Serialize};

use super::nesting::nested;
use crate::error::{Invalid, Refusal};
use crate::types::{Key, LeaseId, Record, Revision, SessionId, Value};

/// What is proposed to a group and applied by every replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Command {
    /// Makes the command apply once, however often it is proposed.
    pub session: Option<SessionSeq>,
    /// What to do.
    pub action: Action,
}

/// A command's place in its client's session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionSeq {
    /// The session.
    pub id: SessionId,
    /// The command's number in the session, from 1.
    pub seq: u64,
    /// All commands of the session below this number are answered and their answers can be
    /// forgotten.
    pub acked_below: u64,
}

/// A change to a shard's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Opens a client session; its id is the command's log index.
    SessionOpen,
    /// Ends a session and forgets its answers.
    SessionClose {
        /// The session; one that is not open is passed over.
        id: SessionId,
    },
    /// Writes one key.
    Put(Put),
    /// Deletes the keys of a range.
    Delete(Delete),
    /// A transaction.
    Txn(Txn),
    /// Makes a lease. Without an id the machine picks one.
    LeaseGrant {
        /// The id wanted; refused if there is a lease with it.
        id: Option<LeaseId>,
        /// How long it lives unless it is kept alive, in milliseconds.
        ttl_ms: u64,
    },
    /// Ends a lease and deletes its keys.
    LeaseRevoke {
        /// The lease.
        id: LeaseId,
    },
    /// Proposed by the leader when time is up. Leases that are gone are passed over; those whose
    /// keys are too many for one command stay, and are proposed again.
    LeaseExpire {
        /// The leases, in the order in which they end.
        ids: Vec<LeaseId>,
    },
    /// Queues for a lock or an election under a lease; see [`Claim`].
    Claim(Claim),
    /// Replaces the value of a claim that holds (an election's leader proclaims). Answered with
    /// [`AnswerBody::Done`].
    Proclaim {
        /// The lock's or election's name.
        name: Key,
        /// The lease whose claim holds.
        lease: LeaseId,
        /// The claim's new value.
        value: Value,
    },
    /// Gives up a claim, held or waiting. Answered with [`AnswerBody::Deleted`], whose count says
    /// whether there was one.
    Release {
        /// The lock's or election's name.
        name: Key,
        /// The lease whose claim is given up.
        lease: LeaseId,
    },
    /// Drops history up to a revision, this one excluded; a first step now, the rest by
    /// [`Action::CompactStep`].
    Compact {
        /// The oldest revision that can be read afterwards.
        revision: Revision,
    },
    /// Proposed by the leader while a compaction has rows left to remove.
    CompactStep,
}

/// Writes one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    /// The key.
    pub key: Key,
    /// The new value; `None` keeps the present one and is refused if there is none.
    pub value: Option<Value>,
    /// The lease that the key is attached to from now on.
    pub lease: PutLease,
    /// Answer with the record as it was before.
    pub prev: bool,
}

/// What a put does with the key's lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PutLease {
    /// The key has no lease afterwards.
    #[default]
    Detach,
    /// The key keeps the lease it has; refused if there is no key.
    Keep,
    /// The key is attached to this lease.
    Attach(LeaseId),
}

/// Deletes the keys of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delete {
    /// Which keys.
    pub range: KeyRange,
    /// Answer with the records as they were before.
    pub prev: bool,
}

/// A range of keys, as bounds on their bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRange {
    /// The lower bound.
    pub start: Bound<Bytes>,
    /// The upper bound.
    pub end: Bound<Bytes>,
}

/// Queues for a lock or an election: creates the key `name/lease` (16 hexadecimal digits) under
/// the lease unless it is there. The claim with the lowest create revision under `name/` holds;
/// that revision is its fencing token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// The lock's or election's name.
    pub name: Key,
    /// The lease: when it ends, so does the claim.
    pub lease: LeaseId,
    /// What the claim's key holds (an election's leader is found by it).
    pub value: Value,
}

/// Conditions on the state before, then one of two lists of operations; all that is written has
/// one revision.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Txn {
    /// All must hold for `then`; otherwise `or_else` is done.
    pub when: Vec<Compare>,
    /// Done in order if all conditions hold.
    pub then: Vec<Op>,
    /// Done in order if one does not.
    pub or_else: Vec<Op>,
}

/// One operation of a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    /// Writes one key.
    Put(Put),
    /// Reads a range; sees what operations before it in the transaction wrote.
    Range(Range),
    /// Deletes the keys of a range.
    Delete(Delete),
    /// A transaction within; its conditions look at the state before the outermost one.
    Txn(#[serde(deserialize_with = "nested")] Txn),
}

/// A condition on a key, or on every key of a range. A key that does not exist has version and
/// revisions 0 and no lease; a condition on its value does not hold. As in etcd, a range without
/// keys is like a key that does not exist.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compare {
    /// Which keys.
    pub range: CompareKeys,
    /// What is compared, and with what.
    pub target: CompareTarget,
    /// How.
    pub is: Is,
}

/// The keys a condition is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareKeys {
    /// One key, there or not.
    One(Key),
    /// Every key of a range.
    All(KeyRange),
}

/// What a condition compares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompareTarget {
    /// The value's bytes.
    Value(Value),
    /// The version.
    Version(u64),
    /// The create revision.
    Create(Revision),
    /// The modification revision.
    Mod(Revision),
    /// The lease, 0 for none.
    Lease(u64),
}

/// How a condition compares the stored with the given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Is {
    /// Stored = given.
    Equal,
    /// Stored ≠ given.
    NotEqual,
    /// Stored > given.
    Greater,
    /// Stored < given.
    Less,
}

/// Reads the keys of a range.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Range {
    /// Which keys.
    pub range: KeyRange,
    /// The state as of this revision; `None` is the present.
    pub revision: Option<Revision>,
    /// Most records to answer; `None` or more than the limit means the limit.
    pub limit: Option<u64>,
    /// The order of the records.
    pub order: Order,
    /// What of them to answer.
    pub select: Select,
    /// Only records whose counters lie in these bounds.
    pub filter: Filter,
}

/// The order of a range's records. Orders other than by key look at the whole range before they
/// cut it to the limit, and can't be continued.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// By what.
    pub by: OrderBy,
    /// Greatest first.
    pub descending: bool,
}

/// What a range is ordered by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum OrderBy {
    /// The key's bytes.
    #[default]
    Key,
    /// The version.
    Version,
    /// The create revision.
    Create,
    /// The modification revision.
    Mod,
    /// The value's bytes.
    Value,
}

/// What a range answers of each record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Select {
    /// Keys, values and counters.
    #[default]
    Records,
    /// Keys and counters; values are empty.
    Keys,
    /// How many there are, and nothing of them.
    Count,
}

/// Inclusive bounds on revisions; the default lets everything through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Least modification revision.
    pub mod_min: Option<Revision>,
    /// Greatest modification revision.
    pub mod_max: Option<Revision>,
    /// Least create revision.
    pub create_min: Option<Revision>,
    /// Greatest create revision.
    pub create_max: Option<Revision>,
}

/// A read outside the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Query {
    /// Reads one key at the present; the quick path of [`Query::Range`].
    Get(Key),
    /// Reads a range.
    Range(Range),
    /// All leases, in the order of their ids, from the one after `after`.
    Leases {
        /// Where to go on; `None` is the beginning.
        after: Option<LeaseId>,
        /// Most leases to answer; lowered to the limit of records in a range.
        limit: u64,
    },
    /// One lease, with its keys if asked for.
    Lease {
        /// The lease.
        id: LeaseId,
        /// Answer with its keys too.
        keys: bool,
    },
    /// Who holds a lock or election.
    Holder {
        /// The lock's or election's name.
        name: Key,
    },
    /// Revision, compacted revision and counts.
    Status,
}

/// What applying a command, or a query, answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The shard's revision when it was answered.
    pub revision: Revision,
    /// The answer itself.
    pub body: AnswerBody,
}

/// The body of an [`Answer`], by what was asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnswerBody {
    /// Nothing to say but that it was done.
    Done,
    /// To [`Action::SessionOpen`].
    Session(SessionId),
    /// To a put.
    Put {
        /// The record before, if it was asked for and there was one.
        prev: Option<Record>,
    },
    /// To a delete, and to [`Action::Release`].
    Deleted {
        /// How many keys were deleted.
        count: u64,
        /// The records before, if they were asked for, in the order of their keys.
        prev: Vec<KeyRecord>,
    },
    /// To [`Query::Get`].
    Record(Option<Record>),
    /// To a range.
    Range(Page),
    /// To a transaction.
    Txn {
        /// All conditions held, and `then` was done; otherwise `or_else` was.
        succeeded: bool,
        /// The answers to the operations, in their order.
        #[serde(deserialize_with = "nested")]
        answers: Vec<AnswerBody>,
    },
    /// To [`Action::LeaseGrant`].
    Lease {
        /// The lease.
        id: LeaseId,
        /// Its time to live.
        ttl_ms: u64,
    },
    /// To [`Query::Leases`].
    Leases(Vec<LeaseInfo>),
    /// To [`Query::Lease`].
    LeaseInfo {
        /// The lease.
        info: LeaseInfo,
        /// Its keys in order, if they were asked for.
        keys: Vec<Key>,
    },
    /// To [`Action::Claim`] and [`Query::Holder`].
    Claim(ClaimState),
    /// To [`Action::Compact`] and [`Action::CompactStep`]: whether rows are left to remove.
    Compacted {
        /// The compacted revision.
        revision: Revision,
        /// Rows are left to remove.
        pending: bool,
    },
    /// To [`Query::Status`].
    Status(Status),
}

/// A record with its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyRecord {
    /// The key.
    pub key: Key,
    /// What is stored under it.
    pub record: Record,
}

/// One answer to a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// The records, in the order asked for.
    pub records: Vec<KeyRecord>,
    /// How many keys the range holds in all, before limit and filter (as in etcd).
    pub count: u64,
    /// More records passed the filter than were answered.
    pub more: bool,
}

/// A lease as the tables have it; how much time is left only the group's leader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseInfo {
    /// The lease.
    pub id: LeaseId,
    /// Its full time to live.
    pub ttl_ms: u64,
    /// How many keys are attached to it.
    pub keys: u64,
}

/// A lock or election, seen by one claim or by nobody in particular.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClaimState {
    /// The asking claim's own key and fencing token.
    pub own: Option<(Key, Revision)>,
    /// The claim that holds: its key, lease, fencing token and value.
    pub holder: Option<Holder>,
    /// How many claims wait behind the holder.
    pub waiting: u64,
}

/// The claim that holds a lock or election.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The claim's key.
    pub key: Key,
    /// Its lease.
    pub lease: LeaseId,
    /// Its fencing token, the key's create revision: greater than that of any earlier holder.
    pub token: Revision,
    /// What it proclaims.
    pub value: Value,
}

/// A shard's counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The present revision.
    pub revision: Revision,
    /// History up to and without this revision is gone.
    pub compacted: Revision,
    /// A compaction has rows left to remove.
    pub compacting: bool,
    /// How many keys there are.
    pub keys: u64,
    /// How many leases there are.
    pub leases: u64,
    /// How many sessions are open.
    pub sessions: u64,
}

/// One change of one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// The revision that made the change; all events of one revision are shown together.
    pub revision: Revision,
    /// The key.
    pub key: Key,
    /// The record written, or `None` if the key was deleted.
    pub record: Option<Record>,
}

impl KeyRange {
    /// Every key.
    pub fn all() -> Self {
        KeyRange { start: Bound::Unbounded, end: Bound::Unbounded }
    }

    /// Exactly one key.
    pub fn one(key: &Key) -> Self {
        let bytes = key.clone().into_bytes();
        KeyRange { start: Bound::Included(bytes.clone()), end: Bound::Included(bytes) }
    }

    /// Every key above one.
    pub fn after(key: &Key) -> Self {
        let start = Bound::Excluded(Bytes::copy_from_slice(key.as_bytes()));
        KeyRange { start, end: Bound::Unbounded }
    }

    /// Every key that begins with these bytes.
    pub fn prefix(prefix: impl Into<Bytes>) -> Self {
        let prefix = prefix.into();
        if prefix.is_empty() {
            return KeyRange::all();
        }
        let end = match prefix_end(&prefix) {
            Some(end) => Bound::Excluded(end),
            None => Bound::Unbounded,
        };
        KeyRange { start: Bound::Included(prefix), end }
    }

    /// The bounds, borrowed.
    pub fn bounds(&self) -> (Bound<&[u8]>, Bound<&[u8]>) {
        (self.start.as_ref().map(|b| &b[..]), self.end.as_ref().map(|b| &b[..]))
    }

    /// Whether a key lies in the range.
    pub fn contains(&self, key: &[u8]) -> bool {
        std::ops::RangeBounds::<[u8]>::contains(&self.bounds(), key)
    }

    /// The key, if the range was made for exactly one.
    pub fn as_one(&self) -> Option<&[u8]> {
        match (&self.start, &self.end) {
            (Bound::Included(start), Bound::Included(end)) if start == end => Some(start),
            _ => None,
        }
    }

    /// How many bytes the bounds have.
    pub(crate) fn bytes(&self) -> usize {
        let len = |bound: &Bound<Bytes>| match bound {
            Bound::Included(bytes) | Bound::Excluded(bytes) => bytes.len(),
            Bound::Unbounded => 0,
        };
        len(&self.start) + len(&self.end)
    }

    pub(crate) fn validate(&self) -> Result<(), Invalid> {
        let (start, end) = self.bounds();
        for bound in [start, end] {
            if let Bound::Included(bytes) | Bound::Excluded(bytes) = bound {
                // An exclusive end just past the greatest key of full length is one byte longer.
                if bytes.len() > crate::limits::KEY_BYTES_MAX + 1 {
                    return Err(Invalid::KeyTooLong { len: bytes.len() });
                }
            }
        }
        match (start, end) {
            (Bound::Included(s) | Bound::Excluded(s), Bound::Included(e) | Bound::Excluded(e))
                if s > e =>
            {
                Err(Invalid::RangeBackward)
            }
            _ => Ok(()),
        }
    }
}

/// The least bytes greater than everything that begins with `prefix`; none if it is all 0xff.
fn prefix_end(prefix: &[u8]) -> Option<Bytes> {
    let last = prefix.iter().rposition(|&byte| byte != 0xff)?;
    let mut end = prefix[..=last].to_vec();
    end[last] += 1;
    Some(end.into())
}

impl Range {
    /// The records of a range at the present, in key order, up to the limit.
    pub fn of(range: KeyRange) -> Self {
        Range {
            range,
            revision: None,
            limit: None,
            order: Order::default(),
            select: Select::default(),
            filter: Filter::default(),
        }
    }
}

impl Put {
    /// Writes a key, without a lease.
    pub fn new(key: Key, value: Value) -> Self {
        Put { key, value: Some(value), lease: PutLease::Detach, prev: false }
    }
}

/// What applying a command comes to: an answer, or a refusal that changed nothing.
pub type Outcome = Result<Answer, Refusal>;
