//! Errors as RFC 9457 problem documents: one table of every kind, and what maps to it.
//!
//! A kind's name and status are part of the API: a program matches on `type`, which is
//! [`TYPE_PREFIX`] and the name. The `detail` is for people, one sentence that says what to do,
//! and names lengths and limits, never a stored key or value. Keys that the request names and that
//! do not go together are told again, as `keys`. The table in `docs/http.md` is
//! compared with [`KINDS`] by a test.

use axum::body::Body;
use axum::http::header::{self, HeaderValue};
use axum::http::{HeaderName, Response, StatusCode};
use axum::response::IntoResponse;
use bytes::Bytes;
use serde::ser::{Serialize, SerializeMap, Serializer};

use super::json::Blob;
use crate::error::{Denied, Error, Invalid, Refusal};
use crate::types::Revision;

/// What every problem's `type` begins with.
pub const TYPE_PREFIX: &str = "urn:aspen:problem:";

/// The shard's revision, on every answer that has one.
pub(super) const ASPEN_REVISION: HeaderName = HeaderName::from_static("aspen-revision");

/// One kind of problem: its stable name and status, and a title for people.
#[derive(Debug, PartialEq, Eq)]
pub struct Kind {
    /// What follows [`TYPE_PREFIX`].
    pub name: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// The same sentence for every problem of the kind.
    pub title: &'static str,
}

macro_rules! kinds {
    ($($constant:ident = $status:literal $name:literal $title:literal;)*) => {
        $(pub(super) static $constant: Kind =
            Kind { name: $name, status: $status, title: $title };)*

        /// Every kind of problem, in the order of their statuses.
        pub static KINDS: &[&Kind] = &[$(&$constant),*];
    };
}

kinds! {
    BAD_BODY = 400 "bad-body" "The body could not be read";
    BAD_ESCAPE = 400 "bad-escape" "A percent escape in the address is malformed";
    BAD_HEADER = 400 "bad-header" "A header is malformed";
    BAD_JSON = 400 "bad-json" "The body is not the JSON that is expected";
    BAD_QUERY = 400 "bad-query" "A query parameter is unknown or malformed";
    INVALID = 400 "invalid" "The request can't be satisfied in any state";
    KEY_EMPTY = 400 "key-empty" "A key is empty";
    KEY_TOO_LONG = 400 "key-too-long" "A key is over its limit";
    KEYSPACE_NAME = 400 "keyspace-name" "A keyspace's name is malformed";
    KEYSPACE_OUT_OF_BOUNDS = 400 "keyspace-out-of-bounds" "A keyspace's shards or replicas are out of bounds";
    LEASE_TTL = 400 "lease-ttl" "A lease's time to live is out of bounds";
    MALFORMED = 400 "malformed" "The request is malformed";
    NODE_OUT_OF_BOUNDS = 400 "node-out-of-bounds" "A number of a node is out of bounds";
    TICKET_LIFE = 400 "ticket-life" "A ticket's time is out of bounds";
    TICKET_USES = 400 "ticket-uses" "A ticket's uses are out of bounds";
    WEIGHT_OUT_OF_BOUNDS = 400 "weight-out-of-bounds" "A node's capacity is out of bounds";
    UNAUTHENTICATED = 401 "unauthenticated" "A token is needed, and a good one";
    DENIED = 403 "denied" "The token or ticket does not allow it; nothing was done";
    READ_ONLY = 403 "read-only" "Nothing may be changed here now";
    TICKET_EXPIRED = 403 "ticket-expired" "The ticket has expired";
    TICKET_ISSUER_GONE = 403 "ticket-issuer-gone" "The member that made the ticket is no longer one";
    TICKET_OTHER_CLUSTER = 403 "ticket-other-cluster" "The ticket is for another cluster";
    TICKET_REVOKED = 403 "ticket-revoked" "The ticket was revoked";
    TICKET_TAMPERED = 403 "ticket-tampered" "The ticket's signature does not fit";
    TICKET_USED_UP = 403 "ticket-used-up" "The ticket was used as often as it may be";
    GROUP_NOT_FOUND = 404 "group-not-found" "There is no such group";
    KEY_NOT_FOUND = 404 "key-not-found" "There is no such key";
    KEYSPACE_NOT_FOUND = 404 "keyspace-not-found" "There is no such keyspace";
    LEASE_NOT_FOUND = 404 "lease-not-found" "There is no such lease";
    NODE_NOT_FOUND = 404 "node-not-found" "There is no such node";
    OPERATION_NOT_FOUND = 404 "operation-not-found" "There is no such operation";
    PATH_NOT_FOUND = 404 "path-not-found" "There is nothing at this path";
    SETTING_NOT_FOUND = 404 "setting-not-found" "There is no such setting";
    TICKET_NOT_FOUND = 404 "ticket-not-found" "There is no such ticket";
    TOKEN_NOT_FOUND = 404 "token-not-found" "There is no such token";
    METHOD_NOT_ALLOWED = 405 "method-not-allowed" "The path does not take this method";
    BODY_TIMEOUT = 408 "body-timeout" "The body did not arrive in time";
    ALREADY_DONE = 409 "already-done" "The write was done before; its answer is gone";
    ALREADY_FOUNDED = 409 "already-founded" "The cluster exists already";
    BUILD_APART = 409 "build-apart" "The build is too far from a member's";
    BUILD_TOO_OLD = 409 "build-too-old" "The build is too old for the cluster";
    CHANGE_REFUSED = 409 "change-refused" "A group's members or leader can't be changed so";
    CLUSTER_FULL = 409 "cluster-full" "The cluster has as many members as it may have";
    FUTURE_REVISION = 409 "future-revision" "The revision has not been yet";
    KEYSPACE_EXISTS = 409 "keyspace-exists" "A keyspace with this name exists";
    KEYSPACE_STAYS = 409 "keyspace-stays" "The keyspace can't be deleted";
    LAST_VOTER = 409 "last-voter" "Without this node nobody could vote";
    LEASE_EXISTS = 409 "lease-exists" "A lease with this id exists";
    LEASE_FULL = 409 "lease-full" "The lease holds as many keys as it may";
    LOCK_HELD = 409 "lock-held" "Another lease holds the lock or leads the election";
    MAJORITY_AWAY = 409 "majority-away" "A group would have no majority left";
    MEMBER_TOO_OLD = 409 "member-too-old" "A member does not know it yet";
    NO_REPLICA = 409 "no-replica" "This node holds no replica of the group";
    NODE_LEAVING = 409 "node-leaving" "The node is leaving the cluster";
    NODE_NOT_LEAVING = 409 "node-not-leaving" "The node is not leaving";
    NODE_REMOVED = 409 "node-removed" "The node was removed from the cluster";
    NODE_TAKEN = 409 "node-taken" "The number is or was another node's";
    NOT_HOLDER = 409 "not-holder" "The lock or election is not held by this lease";
    NOT_MEMBER = 409 "not-member" "This node is not an active member";
    NOTHING_TO_TAKE_FROM = 409 "nothing-to-take-from" "No other node holds the group";
    REPAIR_UNDER_WAY = 409 "repair-under-way" "Another replica of the group is being repaired";
    SHARD_CHANGED = 409 "shard-changed" "The shard was changed in between";
    TICKET_EXISTS = 409 "ticket-exists" "A ticket with this id exists";
    TOO_MANY_CLIENTS = 409 "too-many-clients" "There are as many counted clients as there may be";
    TOO_MANY_KEYSPACES = 409 "too-many-keyspaces" "There are as many keyspaces as there may be";
    TOO_MANY_LEASES = 409 "too-many-leases" "There are as many leases as there may be";
    TOO_MANY_SHARDS = 409 "too-many-shards" "There are as many shards as there may be";
    TOO_MANY_TICKETS = 409 "too-many-tickets" "There are as many tickets as there may be";
    TOO_MANY_TOKENS = 409 "too-many-tokens" "There are as many tokens as there may be";
    COMPACTED = 410 "compacted" "The history asked for was compacted";
    CONDITION_FAILED = 412 "condition-failed" "The condition does not hold";
    BODY_TOO_LARGE = 413 "body-too-large" "The body is over its limit";
    TXN_TOO_LARGE = 413 "txn-too-large" "A transaction has too many bytes";
    VALUE_TOO_LONG = 413 "value-too-long" "A value is over its limit";
    ANSWER_TOO_LARGE = 422 "answer-too-large" "The answer would be over its limit";
    BAD_CURSOR = 422 "bad-cursor" "The cursor is not one that this query answered";
    CROSS_SHARD = 422 "cross-shard" "The keys are in different shards";
    DELETE_TOO_LARGE = 422 "delete-too-large" "The range holds more keys than one delete removes";
    NEEDS_SHARD = 422 "needs-shard" "It belongs to one shard, and the keyspace has several";
    RANGE_BACKWARD = 422 "range-backward" "A range ends before it starts";
    SETTING_VALUE = 422 "setting-value" "A setting can't be that";
    TXN_DUPLICATE_KEY = 422 "txn-duplicate-key" "A transaction writes a key twice";
    TXN_TOO_DEEP = 422 "txn-too-deep" "Transactions are nested too deep";
    TXN_TOO_MANY_OPS = 422 "txn-too-many-ops" "A transaction has too many operations";
    UNCLEAR = 422 "unclear" "What is asked for is left open or contradicts itself";
    BUSY = 429 "busy" "A limit is met; nothing was done";
    CORRUPT = 500 "corrupt" "Stored data is damaged; nothing was served from it";
    FATAL = 500 "fatal" "The node can't go on";
    INTERNAL = 500 "internal" "The node contradicts itself; this is a bug";
    NOT_FOUNDED = 503 "not-founded" "The cluster is not founded yet; nothing was done";
    UNAVAILABLE = 503 "unavailable" "The group can't answer now; nothing was done";
    OUTCOME_UNKNOWN = 504 "outcome-unknown" "The write may or may not have been done";
    NO_SPACE = 507 "no-space" "The disk is nearly full; nothing was done";
}

/// How long a client should wait before it tries again when nothing better is known: an election
/// takes about this long.
const RETRY_UNAVAILABLE_MS: u64 = 1_000;

/// The same when something is full that empties with every answer.
const RETRY_FULL_MS: u64 = 100;

/// A number beside a problem's sentence, for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Member {
    /// How long to wait before the next try; also `Retry-After`, in seconds.
    RetryAfterMs,
    /// The shard's revision; also `Aspen-Revision`.
    Revision,
    /// The key's or the shard's present revision, by kind.
    Present,
    /// The last compacted revision.
    Compacted,
    /// The limit that was exceeded.
    Limit,
}

impl Member {
    fn name(self) -> &'static str {
        match self {
            Member::RetryAfterMs => "retry_after_ms",
            Member::Revision => "revision",
            Member::Present => "present",
            Member::Compacted => "compacted",
            Member::Limit => "limit",
        }
    }
}

/// A problem on its way to a client.
#[derive(Debug, PartialEq, Eq)]
pub struct Problem {
    kind: &'static Kind,
    detail: String,
    /// Where in the body's JSON it is, as `then[0].put`.
    at: Option<String>,
    members: Vec<(Member, u64)>,
    /// What of the request does not go together.
    keys: Vec<Bytes>,
}

impl Problem {
    /// A problem of a kind, and the sentence that says what to do.
    pub(super) fn new(kind: &'static Kind, detail: impl Into<String>) -> Self {
        Problem { kind, detail: detail.into(), at: None, members: Vec::new(), keys: Vec::new() }
    }

    fn with(mut self, member: Member, number: u64) -> Self {
        self.members.push((member, number));
        self
    }

    /// There is no such key at this revision of the shard.
    pub(super) fn key_not_found(revision: Revision) -> Self {
        let detail = "the key does not exist; check its spelling and escapes";
        Problem::new(&KEY_NOT_FOUND, detail).with(Member::Revision, revision)
    }

    /// A condition header does not hold: the key's present revision is 0 if it does not exist.
    pub(super) fn condition_failed(present: Revision, revision: Revision) -> Self {
        let detail = match present {
            0 => "the key does not exist; drop the condition to create it".to_owned(),
            _ => format!("the key is at revision {present}; read it again before you decide"),
        };
        Problem::new(&CONDITION_FAILED, detail)
            .with(Member::Present, present)
            .with(Member::Revision, revision)
    }

    /// It can't be done now; nothing was.
    pub(super) fn for_now(detail: String) -> Self {
        Problem::new(&UNAVAILABLE, detail).with(Member::RetryAfterMs, RETRY_UNAVAILABLE_MS)
    }

    /// More requests are under way than the door holds bodies for.
    pub(super) fn bodies_full() -> Self {
        let error =
            Error::Busy { what: "memory for request bodies", retry_after_ms: RETRY_FULL_MS };
        Problem::from(error)
    }

    /// More requests are under way over HTTP/2 than the door takes.
    pub(super) fn streams_full() -> Self {
        Problem::from(Error::Busy { what: "requests", retry_after_ms: RETRY_FULL_MS })
    }

    /// A body is over this limit.
    pub(super) fn too_large(kind: &'static Kind, limit: usize) -> Self {
        let detail = format!("the body has more than {limit} bytes, which is the limit; send less");
        Problem::new(kind, detail).with(Member::Limit, limit as u64)
    }

    /// The client answered something else than it was asked.
    pub(super) fn contradiction(what: &str) -> Self {
        Problem::new(&INTERNAL, format!("{what} got an answer of another kind; please report it"))
    }

    /// Says where in the body's JSON the problem is; called from the inside out.
    pub(super) fn within(mut self, place: impl Into<String>) -> Self {
        let place = place.into();
        self.at = Some(match self.at {
            Some(inner) => format!("{place}.{inner}"),
            None => place,
        });
        self
    }

    /// Whether it is of this kind.
    pub(super) fn is(&self, kind: &'static Kind) -> bool {
        self.kind == kind
    }

    /// The kind's stable name.
    pub fn name(&self) -> &'static str {
        self.kind.name
    }

    /// The sentence that says what to do.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The document.
    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).expect("a map of strings and numbers is always JSON")
    }
}

impl Serialize for Problem {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("type", &format_args!("{TYPE_PREFIX}{}", self.kind.name))?;
        map.serialize_entry("title", self.kind.title)?;
        map.serialize_entry("status", &self.kind.status)?;
        map.serialize_entry("detail", &self.detail)?;
        if let Some(at) = &self.at {
            map.serialize_entry("at", at)?;
        }
        for (member, number) in &self.members {
            map.serialize_entry(member.name(), number)?;
        }
        if !self.keys.is_empty() {
            let keys: Vec<_> = self.keys.iter().map(|key| Blob(key)).collect();
            map.serialize_entry("keys", &keys)?;
        }
        map.end()
    }
}

/// Beside an answer: what the log is to say of it, with the request's name.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    /// The kind's name.
    pub(super) problem: &'static str,
    /// The sentence.
    pub(super) detail: String,
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response<Body> {
        let status = StatusCode::from_u16(self.kind.status)
            .expect("the statuses of the table are between 400 and 599");
        let mut response = Response::new(Body::from(self.to_json()));
        if status.is_server_error() {
            let (problem, detail) = (self.kind.name, self.detail);
            response.extensions_mut().insert(Failed { problem, detail });
        }
        *response.status_mut() = status;
        response.extensions_mut().insert(self.kind);
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            let scheme = HeaderValue::from_static("Bearer realm=\"aspen\"");
            headers.insert(header::WWW_AUTHENTICATE, scheme);
        }
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        for (member, number) in self.members {
            match member {
                Member::RetryAfterMs => {
                    headers.insert(header::RETRY_AFTER, number.div_ceil(1_000).into());
                }
                Member::Revision => {
                    headers.insert(ASPEN_REVISION, number.into());
                }
                Member::Present | Member::Compacted | Member::Limit => {}
            }
        }
        response
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let detail = error.to_string();
        match error {
            Error::Invalid(invalid) => invalid.into(),
            Error::Refused(refusal) => refusal.into(),
            Error::Denied(Denied::NodeReadOnly | Denied::ClusterReadOnly) => {
                Problem::new(&READ_ONLY, detail)
            }
            Error::Denied(_) => Problem::new(&DENIED, detail),
            Error::Busy { retry_after_ms, .. } => {
                Problem::new(&BUSY, detail).with(Member::RetryAfterMs, retry_after_ms)
            }
            Error::NoSpace { .. } => Problem::new(&NO_SPACE, detail),
            Error::Unavailable { .. } => Problem::for_now(detail),
            Error::OutcomeUnknown { .. } => Problem::new(&OUTCOME_UNKNOWN, detail),
            Error::UnknownKeyspace { .. } => Problem::new(&KEYSPACE_NOT_FOUND, detail),
            Error::Corrupt(_) => Problem::new(&CORRUPT, detail),
            Error::Fatal(_) => Problem::new(&FATAL, detail),
        }
    }
}

impl From<Invalid> for Problem {
    fn from(invalid: Invalid) -> Self {
        use crate::limits::*;
        let problem = |kind| Problem::new(kind, invalid.to_string());
        let over = |kind, limit: usize| problem(kind).with(Member::Limit, limit as u64);
        match &invalid {
            Invalid::KeyspaceName => problem(&KEYSPACE_NAME),
            Invalid::NeedsShard { .. } => problem(&NEEDS_SHARD),
            Invalid::CrossShard { keys, .. } => {
                Problem { keys: keys.clone(), ..problem(&CROSS_SHARD) }
            }
            Invalid::KeyEmpty => problem(&KEY_EMPTY),
            Invalid::KeyTooLong { .. } => over(&KEY_TOO_LONG, KEY_BYTES_MAX),
            Invalid::ValueTooLong { .. } => over(&VALUE_TOO_LONG, VALUE_BYTES_MAX),
            Invalid::TxnTooManyOps { .. } => over(&TXN_TOO_MANY_OPS, TXN_OPS_MAX),
            Invalid::TxnTooLarge { .. } => over(&TXN_TOO_LARGE, TXN_BYTES_MAX),
            Invalid::TxnTooDeep { .. } => over(&TXN_TOO_DEEP, TXN_DEPTH_MAX),
            Invalid::TxnDuplicateKey { .. } => problem(&TXN_DUPLICATE_KEY),
            Invalid::RangeBackward => problem(&RANGE_BACKWARD),
            Invalid::LeaseTtl { .. } => problem(&LEASE_TTL),
            Invalid::LeaseId
            | Invalid::ClusterId
            | Invalid::EndpointId
            | Invalid::Consistency
            | Invalid::OtherKeyspace
            | Invalid::Other(_) => problem(&INVALID),
        }
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        use crate::limits::*;
        let problem = |kind| Problem::new(kind, refusal.to_string());
        let over = |kind, limit: u64| problem(kind).with(Member::Limit, limit);
        match refusal {
            Refusal::FutureRevision { present, .. } => {
                problem(&FUTURE_REVISION).with(Member::Present, present)
            }
            Refusal::Compacted { compacted, .. } => {
                problem(&COMPACTED).with(Member::Compacted, compacted)
            }
            Refusal::LeaseNotFound { .. } => problem(&LEASE_NOT_FOUND),
            Refusal::LeaseExists { .. } => problem(&LEASE_EXISTS),
            Refusal::TooManyLeases => over(&TOO_MANY_LEASES, LEASES_MAX),
            Refusal::LeaseTooManyKeys { .. } => over(&LEASE_FULL, LEASE_KEYS_MAX),
            Refusal::KeyNotFound => problem(&KEY_NOT_FOUND),
            Refusal::ConditionFailed { mod_revision } => {
                problem(&CONDITION_FAILED).with(Member::Present, mod_revision)
            }
            // The door's own session is the client's business; a request that meets its end
            // learns only that its fate is unknown.
            Refusal::SessionExpired => problem(&OUTCOME_UNKNOWN),
            Refusal::SessionFull => problem(&BUSY).with(Member::RetryAfterMs, RETRY_FULL_MS),
            Refusal::AnswerAcknowledged => problem(&ALREADY_DONE),
            Refusal::AnswerForgotten { revision } => {
                problem(&ALREADY_DONE).with(Member::Revision, revision)
            }
            Refusal::AnswerTooLarge => over(&ANSWER_TOO_LARGE, TXN_ANSWER_BYTES_MAX as u64),
            Refusal::DeleteTooLarge => problem(&DELETE_TOO_LARGE),
            Refusal::KeptTooLarge => over(&TXN_TOO_LARGE, TXN_BYTES_MAX as u64),
            Refusal::NameTooLong { .. } => over(&KEY_TOO_LONG, KEY_BYTES_MAX as u64),
            Refusal::NotHolder { .. } => problem(&NOT_HOLDER),
        }
    }
}

/// For paths that nothing is at.
pub(super) async fn path_not_found() -> Problem {
    Problem::new(&PATH_NOT_FOUND, "there is nothing at this path; the keys are under /v1/kv/")
}

/// For methods that a path does not take; the router adds `Allow`.
pub(super) async fn method_not_allowed() -> Problem {
    Problem::new(&METHOD_NOT_ALLOWED, "this path takes only the methods that Allow names")
}

#[cfg(test)]
#[path = "problem_tests.rs"]
mod tests;
