//! What can go wrong, sorted by what the caller should do about it.
//!
//! [`Invalid`] and [`Refusal`] are deterministic: the same request on the same state is refused
//! again. The other kinds of [`enum@Error`] depend on the moment. A text names groups, nodes, limits
//! and lengths, and never a key's or a value's bytes.

use aspen_tickets::KEYSPACE_BYTES_MAX;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::*;
use crate::types::{GroupId, KeyspaceName, LeaseId, NodeId, Revision};

/// The result of an operation on the store.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation has no answer.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// The request is wrong in itself; it was not sent. Change it.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The request was decided and refused; it had no effect. The state must change first.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The ticket does not allow it; it had no effect. Ask for a ticket that does.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A limit was met; the request had no effect. Wait, then try again.
    #[error("{what} is at its limit; try again in {retry_after_ms} ms")]
    Busy {
        /// Which limit.
        what: &'static str,
        /// A good time to wait.
        retry_after_ms: u64,
    },
    /// The disk is nearly full: writes are refused and had no effect; reads and deletes go on.
    #[error(
        "node {node} has {free_percent} % of its disk free, below the {SPACE_FREE_PERCENT_MIN} % \
         that writes need; free some space or delete keys and compact"
    )]
    NoSpace {
        /// The node that refused.
        node: NodeId,
        /// What is left of its disk.
        free_percent: u64,
    },
    /// No leader, or no majority, or the part is stopped; the request had no effect. Try again.
    #[error("group {group} is unavailable: {reason}")]
    Unavailable {
        /// The group that was asked.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// The request may or may not have been done: read before you repeat it.
    #[error("the outcome of the write to group {group} is unknown: {reason}")]
    OutcomeUnknown {
        /// The group that was asked.
        group: GroupId,
        /// Why.
        reason: String,
    },
    /// There is no such keyspace; the request had no effect. Create it, or name another.
    #[error(
        "there is no keyspace {name}; `aspen keyspace list` shows those there are, `aspen keyspace \
         create {name}` makes it"
    )]
    UnknownKeyspace {
        /// The name that was asked for.
        name: KeyspaceName,
    },
    /// Stored data is damaged; nothing was served from it.
    #[error("{0}")]
    Corrupt(#[from] Corrupt),
    /// The node can't go on; its log says more.
    #[error("{0}")]
    Fatal(String),
}

/// Damage found in stored data, named as closely as it can be.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[error(
    "group {group} is damaged{}: {what}; `aspen repair {group}` at its node takes it again from the \
     others",
    .index.map(|i| format!(" at entry {i}")).unwrap_or_default()
)]
pub struct Corrupt {
    /// The group whose data is damaged.
    pub group: GroupId,
    /// The log entry, where one is known.
    pub index: Option<u64>,
    /// Which file and place, and what is wrong with it.
    pub what: String,
}

/// What a client's ticket does not allow. A text names no key.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Denied {
    /// The ticket itself is not accepted.
    #[error("the ticket is not accepted: {reason}")]
    Ticket {
        /// Why.
        reason: String,
    },
    /// The ticket shows nothing.
    #[error("the ticket or token does not allow to read; ask for one that does")]
    Read,
    /// The ticket changes nothing.
    #[error("the ticket or token does not allow to write; ask for one that does")]
    Write,
    /// The ticket is for using the store, not for keeping it.
    #[error("the ticket or token does not allow to administer; ask for one that does")]
    Admin,
    /// A key or range lies outside the ticket's keyspaces and prefixes. A range must lie within
    /// one prefix.
    #[error("the ticket or token is for other keys; stay within one of its prefixes")]
    Outside,
    /// The lease was not granted under this ticket.
    #[error("lease {id} was not granted under this ticket or token; grant one for these keys")]
    ForeignLease {
        /// The lease.
        id: LeaseId,
    },
    /// The session was opened by another key.
    #[error("the session was opened by another client; open one")]
    ForeignSession,
    /// It concerns a whole shard, and the ticket is for a part.
    #[error("the ticket or token is for some keys, and this concerns all of them")]
    WholeShard,
    /// Only a group's leader does this, by itself.
    #[error("this is done by the cluster itself and can't be asked for")]
    Internal,
    /// The token was good and is no longer.
    #[error("the token is good no longer; ask for a new one")]
    Token,
    /// This node changes nothing for anybody.
    #[error("this node is read-only; ask another one")]
    NodeReadOnly,
    /// No node does.
    #[error("the cluster is read-only; `aspen settings set read-only off` ends that")]
    ClusterReadOnly,
}

/// A request that no state could satisfy.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invalid {
    /// A key has no bytes.
    #[error("a key must have at least one byte")]
    KeyEmpty,
    /// A key is over its limit.
    #[error("the key has {len} bytes; the limit is {KEY_BYTES_MAX}")]
    KeyTooLong {
        /// Its length.
        len: usize,
    },
    /// A value is over its limit.
    #[error("the value has {len} bytes; the limit is {VALUE_BYTES_MAX}")]
    ValueTooLong {
        /// Its length.
        len: usize,
    },
    /// A transaction has too many operations.
    #[error("the transaction has {count} operations and conditions; the limit is {TXN_OPS_MAX}")]
    TxnTooManyOps {
        /// How many, nested ones counted.
        count: usize,
    },
    /// A transaction has too many bytes.
    #[error("the transaction has {len} bytes of keys and values; the limit is {TXN_BYTES_MAX}")]
    TxnTooLarge {
        /// How many bytes.
        len: usize,
    },
    /// Transactions are nested too deep.
    #[error("transactions are nested {depth} deep; the limit is {TXN_DEPTH_MAX}")]
    TxnTooDeep {
        /// How deep.
        depth: usize,
    },
    /// One transaction writes a key twice on one path.
    #[error("the transaction writes one key (of {len} bytes) twice; write each key once")]
    TxnDuplicateKey {
        /// The key's length.
        len: usize,
    },
    /// A range ends before it starts.
    #[error("the range ends before it starts")]
    RangeBackward,
    /// A lease's time to live is out of bounds.
    #[error(
        "a lease lives between {} s and {} days, and not {ttl_ms} ms",
        LEASE_TTL_MS_MIN / 1_000,
        LEASE_TTL_MS_MAX / 86_400_000
    )]
    LeaseTtl {
        /// What was asked for.
        ttl_ms: u64,
    },
    /// Not a lease's id.
    #[error("a lease id is 1 to 16 hexadecimal digits and not 0")]
    LeaseId,
    /// Not a keyspace's name.
    #[error(
        "a keyspace's name is 1 to {KEYSPACE_BYTES_MAX} letters, digits, `.`, `_` and `-`, the \
         first a letter or a digit"
    )]
    KeyspaceName,
    /// One operation, or what it is asked together with, is about keys of different shards.
    #[error(
        "the keys are in different shards of the keyspace {keyspace}; keys that have the same part \
         in {{braces}} are in one"
    )]
    CrossShard {
        /// The keyspace.
        keyspace: KeyspaceName,
        /// Two keys, or beginnings of ranges, that are not in one shard; the second is missing if
        /// the first is a range that is in several.
        keys: Vec<Bytes>,
    },
    /// What is asked is about one shard, and the keyspace has several.
    #[error(
        "{what} belongs to one shard, and the keyspace {keyspace} has {shards}; name a key that is \
         in the shard"
    )]
    NeedsShard {
        /// What is asked for.
        what: &'static str,
        /// The keyspace.
        keyspace: KeyspaceName,
        /// How many shards it has.
        shards: u32,
    },
    /// Not a cluster's id.
    #[error("a cluster id is 32 hexadecimal digits")]
    ClusterId,
    /// Not a node's public key.
    #[error("an endpoint id is 64 hexadecimal digits")]
    EndpointId,
    /// Not a kind of read.
    #[error("consistency is one of: linearizable, lease, stale")]
    Consistency,
    /// A put that keeps the present value or lease names a new one too.
    #[error("{0}")]
    Other(String),
    /// What is continued was begun in another keyspace, perhaps an earlier one of the same name.
    #[error("the position is of another keyspace; begin again without it")]
    OtherKeyspace,
}

/// A request that the present state refuses. Part of the machine: the same on every replica.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refusal {
    /// A read asked for a revision that has not been.
    #[error("revision {asked} is in the future; the present one is {present}")]
    FutureRevision {
        /// What was asked for.
        asked: Revision,
        /// What is.
        present: Revision,
    },
    /// A read, watch or compaction asked for history that is gone.
    #[error("revision {asked} was compacted; ask for one after {compacted}")]
    Compacted {
        /// What was asked for.
        asked: Revision,
        /// The last compacted revision; it and all later ones can be read.
        compacted: Revision,
    },
    /// No such lease, or it has ended.
    #[error("lease {id} does not exist or has ended; `aspen lease list` shows those there are")]
    LeaseNotFound {
        /// The lease.
        id: LeaseId,
    },
    /// A lease with this id exists.
    #[error("lease {id} exists already; use it, or another id")]
    LeaseExists {
        /// The lease.
        id: LeaseId,
    },
    /// The lease table is full.
    #[error("there are {LEASES_MAX} leases already; revoke some")]
    TooManyLeases,
    /// The lease holds as many keys as it may.
    #[error("lease {id} has {LEASE_KEYS_MAX} keys already; use another lease")]
    LeaseTooManyKeys {
        /// The lease.
        id: LeaseId,
    },
    /// A put that keeps the present value or lease found no key.
    #[error("the key does not exist, so there is no value or lease to keep")]
    KeyNotFound,
    /// A write on a condition whose condition does not hold.
    #[error("the condition does not hold: the key is at revision {mod_revision}")]
    ConditionFailed {
        /// The key's present modification revision, 0 if it does not exist.
        mod_revision: Revision,
    },
    /// The session is not known: it was never opened, or it was idle while many others worked.
    #[error("the session has ended; whether its unanswered writes were done is unknown")]
    SessionExpired,
    /// The session has too many unacknowledged answers.
    #[error("the session has {SESSION_ANSWERS_MAX} unacknowledged commands; wait for answers")]
    SessionFull,
    /// The command's answer was acknowledged before: it was done, and its answer is gone.
    #[error("the command was done and its answer acknowledged before")]
    AnswerAcknowledged,
    /// The command was done at this revision; its answer was too large to keep.
    #[error("the command was done at revision {revision}; its answer was too large to keep")]
    AnswerForgotten {
        /// When it was done.
        revision: Revision,
    },
    /// A transaction would answer more than fits.
    #[error("the answer is over {TXN_ANSWER_BYTES_MAX} bytes; read smaller ranges")]
    AnswerTooLarge,
    /// A ranged delete would remove more keys than one command may.
    #[error("the range holds more keys than one delete removes; delete smaller ranges")]
    DeleteTooLarge,
    /// The lock or election is not held by this lease.
    #[error("lease {id} does not hold it")]
    NotHolder {
        /// The lease that claimed to.
        id: LeaseId,
    },
    /// The puts of a transaction that keep the present values keep more than it may write.
    #[error("the values that the transaction keeps are over {TXN_BYTES_MAX} bytes; keep fewer")]
    KeptTooLarge,
    /// The name of a lock or election leaves no room for the lease in a claim's key.
    #[error("the name has {len} bytes; with a lease it would be over {KEY_BYTES_MAX}")]
    NameTooLong {
        /// The name's length.
        len: usize,
    },
}

/// A short word for the kind of an error: what a caller should do, for metrics, exit codes and
/// HTTP statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Change the request.
    Invalid,
    /// The state refuses it.
    Refused,
    /// Ask for another ticket.
    Denied,
    /// Wait and try again; nothing was done.
    Busy,
    /// Wait and try again; nothing was done.
    Unavailable,
    /// Read before you repeat it.
    OutcomeUnknown,
    /// Repair the replica.
    Corrupt,
    /// The node is lost.
    Fatal,
}

impl Error {
    /// What the caller should do about it.
    pub fn kind(&self) -> Kind {
        match self {
            Error::Invalid(_) => Kind::Invalid,
            Error::Refused(_) | Error::UnknownKeyspace { .. } => Kind::Refused,
            Error::Denied(_) => Kind::Denied,
            Error::Busy { .. } => Kind::Busy,
            Error::NoSpace { .. } | Error::Unavailable { .. } => Kind::Unavailable,
            Error::OutcomeUnknown { .. } => Kind::OutcomeUnknown,
            Error::Corrupt(_) => Kind::Corrupt,
            Error::Fatal(_) => Kind::Fatal,
        }
    }
}

/// So that any argument convertible to a key or a value, infallibly or not, can be taken.
impl From<std::convert::Infallible> for Error {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}
