//! What a client asks a node, and what the node answers: the same within one process, between
//! members, and over a client's link.
//!
//! A [`Request`] is answered by the node that gets it, from its own replica; a node that can't answer
//! says who can, and passes it on only for who does not reach that one. On the wire everything is one
//! version byte and postcard; a message of another version, with bytes left over or past its limit is
//! malformed. Errors travel by kind, so that a remote client decides as a local one does.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::RequestId;
use crate::error::{Corrupt, Denied, Error, Invalid, Refusal};
use crate::limits::{CLIENT_PLACE_ADDRESSES_MAX, CLIENT_REASON_BYTES_MAX};
use crate::machine::ops::{Answer, Command, KeyRange, Query};
use crate::raft::{LeaseTtl, WatchEvent, WatchRequest};
use crate::roster::records::Keyspace;
use crate::types::{
    Address, Consistency, EndpointId, GroupId, Key, KeyspaceName, LeaseId, NodeId, Record, Revision,
};
use crate::wire::envelope::{self, Unreadable};

/// The version that this build writes and reads.
const VERSION: u8 = 1;
/// The same for a request with a name, which comes last; [`LEVEL_NAMED`] says who reads it.
const VERSION_NAMED: u8 = 2;
/// The level of builds that read requests with names.
pub(super) const LEVEL_NAMED: u32 = 2;

/// Shows that a session was opened by the key that uses it; see `scope`.
pub type Proof = [u8; 16];

/// One operation on one group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// Changes the state; only the leader can.
    Propose {
        /// The group.
        group: GroupId,
        /// The change.
        command: Command,
        /// What the session's opening was answered with, if it was over a client's link.
        proof: Option<Proof>,
    },
    /// Reads the state; any replica can, but for [`Consistency::Lease`].
    Query {
        /// The group.
        group: GroupId,
        /// What to read.
        query: Query,
        /// How fresh.
        consistency: Consistency,
    },
    /// Gives a lease its full time again; only the leader can.
    KeepAlive {
        /// The group.
        group: GroupId,
        /// The lease.
        lease: LeaseId,
    },
    /// How much of a lease's time is left; only the leader knows.
    LeaseTtl {
        /// The group.
        group: GroupId,
        /// The lease.
        lease: LeaseId,
    },
    /// Where the shards of a keyspace are; any member knows.
    Locate {
        /// The keyspace.
        keyspace: KeyspaceName,
    },
}

/// Which nodes can answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aim {
    /// The group's leader alone.
    Leader,
    /// Any replica.
    Replica,
}

impl Request {
    /// The group that it is about.
    pub fn group(&self) -> GroupId {
        match self {
            Request::Propose { group, .. }
            | Request::Query { group, .. }
            | Request::KeepAlive { group, .. }
            | Request::LeaseTtl { group, .. } => *group,
            Request::Locate { .. } => GroupId::META,
        }
    }

    /// Whether a request without an answer may have been done.
    pub(super) fn is_write(&self) -> bool {
        matches!(self, Request::Propose { .. })
    }

    /// Whether it changes what somebody has stored, or may.
    pub(super) fn is_users_write(&self) -> bool {
        match self {
            Request::Propose { group, command, .. } => {
                command.action.is_users() && *group != GroupId::META
            }
            _ => false,
        }
    }

    pub(super) fn aim(&self) -> Aim {
        match self {
            Request::Query {
                consistency: Consistency::Linearizable | Consistency::Stale, ..
            }
            | Request::Locate { .. } => Aim::Replica,
            Request::Query { consistency: Consistency::Lease, .. }
            | Request::Propose { .. }
            | Request::KeepAlive { .. }
            | Request::LeaseTtl { .. } => Aim::Leader,
        }
    }
}

/// A request as it is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// How long the client waits; the node does not work on it for longer.
    pub within_ms: u32,
    /// What is asked.
    pub request: Request,
    /// What it is called in log lines.
    pub id: Option<RequestId>,
}

/// What a request comes to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reply {
    /// To a proposal or a query.
    Answer {
        /// The machine's answer.
        answer: Answer,
        /// If it opened a session over a client's link: what the session is used with.
        proof: Option<Proof>,
    },
    /// To [`Request::KeepAlive`] and [`Request::LeaseTtl`].
    Lease {
        /// The lease.
        id: LeaseId,
        /// Its full time to live.
        ttl_ms: u64,
        /// What is left of it.
        left_ms: u64,
    },
    /// To [`Request::Locate`].
    Located(Located),
}

/// Where the shards of a keyspace are, as the node that answers knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Located {
    /// The revision of the roster that says so.
    pub as_of: Revision,
    /// The keyspace; `None` if there is none of this name.
    pub keyspace: Option<Keyspace>,
    /// All that hold shards of it.
    pub nodes: Vec<EndpointId>,
    /// Of each shard, which of those hold it, by their places in the list.
    pub holders: Vec<Vec<u16>>,
}

impl Reply {
    /// It answers another question than was asked: a bug, told as such rather than by a panic.
    pub(super) fn unexpected(&self) -> Error {
        Error::Fatal(match self {
            Reply::Answer { answer, .. } => return super::unexpected(&answer.body),
            Reply::Lease { .. } => "an operation was answered with a lease".into(),
            Reply::Located(_) => "an operation was answered with the places of shards".into(),
        })
    }
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Reply::Answer { answer, proof: None }
    }
}

impl From<LeaseTtl> for Reply {
    fn from(LeaseTtl { id, ttl_ms, left_ms }: LeaseTtl) -> Self {
        Reply::Lease { id, ttl_ms, left_ms }
    }
}

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Its key.
    pub endpoint: EndpointId,
    /// Where it may be dialled, best first; for clients that have no address book.
    pub addresses: Vec<Address>,
}

/// Why a node did not answer a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing was done: another node leads the group, or none is known to.
    NotLeader {
        /// Who leads, if known.
        leader: Option<Place>,
    },
    /// Nothing was done: the node holds no replica of the group, by the roster of this revision.
    NotHere {
        /// The revision.
        as_of: Revision,
    },
    /// The write may or may not have been done.
    Unknown {
        /// Why.
        reason: String,
    },
    /// The error is the answer.
    Final(Error),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Failure::Final(error)
    }
}

/// The answer to a request.
pub type Response = Result<Reply, Failure>;

/// A failure as it is sent. Variants are only ever added, at the end.
#[derive(Serialize, Deserialize)]
enum Told {
    NotLeader(Option<Place>),
    Unknown(String),
    Invalid(String),
    Refused(Refusal),
    Denied(Denied),
    Busy { retry_after_ms: u64 },
    NoSpace { node: NodeId, free_percent: u64 },
    Unavailable { group: GroupId, reason: String },
    OutcomeUnknown { group: GroupId, reason: String },
    Corrupt(Corrupt),
    Fatal(String),
    NotHere { as_of: Revision },
    UnknownKeyspace(KeyspaceName),
}

/// Text from elsewhere is for people, and a line is enough.
fn clipped(mut text: String) -> String {
    if text.len() > CLIENT_REASON_BYTES_MAX {
        let end = (0..=CLIENT_REASON_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end));
        text.truncate(end.unwrap_or(0));
    }
    text
}

impl From<Failure> for Told {
    fn from(failure: Failure) -> Self {
        let error = match failure {
            Failure::NotLeader { leader } => return Told::NotLeader(leader),
            Failure::NotHere { as_of } => return Told::NotHere { as_of },
            Failure::Unknown { reason } => return Told::Unknown(clipped(reason)),
            Failure::Final(error) => error,
        };
        match error {
            Error::Invalid(invalid) => Told::Invalid(clipped(invalid.to_string())),
            Error::Refused(refusal) => Told::Refused(refusal),
            Error::Denied(denied) => Told::Denied(denied),
            Error::Busy { retry_after_ms, .. } => Told::Busy { retry_after_ms },
            Error::NoSpace { node, free_percent } => Told::NoSpace { node, free_percent },
            Error::Unavailable { group, reason } => {
                Told::Unavailable { group, reason: clipped(reason) }
            }
            Error::OutcomeUnknown { group, reason } => {
                Told::OutcomeUnknown { group, reason: clipped(reason) }
            }
            Error::Corrupt(Corrupt { group, index, what }) => {
                Told::Corrupt(Corrupt { group, index, what: clipped(what) })
            }
            Error::Fatal(reason) => Told::Fatal(clipped(reason)),
            Error::UnknownKeyspace { name } => Told::UnknownKeyspace(name),
        }
    }
}

impl From<Told> for Failure {
    fn from(told: Told) -> Self {
        Failure::Final(match told {
            Told::NotLeader(leader) => {
                let within =
                    |place: &Place| Address::are_few(&place.addresses, CLIENT_PLACE_ADDRESSES_MAX);
                return Failure::NotLeader { leader: leader.filter(within) };
            }
            Told::NotHere { as_of } => return Failure::NotHere { as_of },
            Told::Unknown(reason) => return Failure::Unknown { reason: clipped(reason) },
            // Every request is checked before it is sent, so this is another version's opinion.
            Told::Invalid(text) => Error::Invalid(Invalid::Other(clipped(text))),
            Told::Refused(refusal) => Error::Refused(refusal),
            Told::Denied(denied) => Error::Denied(denied),
            Told::Busy { retry_after_ms } => {
                Error::Busy { what: "the node that was asked", retry_after_ms }
            }
            Told::NoSpace { node, free_percent } => Error::NoSpace { node, free_percent },
            Told::Unavailable { group, reason } => {
                Error::Unavailable { group, reason: clipped(reason) }
            }
            Told::OutcomeUnknown { group, reason } => {
                Error::OutcomeUnknown { group, reason: clipped(reason) }
            }
            Told::Corrupt(corrupt) => Error::Corrupt(corrupt),
            Told::Fatal(reason) => Error::Fatal(clipped(reason)),
            Told::UnknownKeyspace(name) => Error::UnknownKeyspace { name },
        })
    }
}

fn encode(message: &impl Serialize) -> Bytes {
    envelope::seal(VERSION, message)
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Unreadable> {
    envelope::open(VERSION, bytes)
}

fn encode_named(message: &impl Serialize, id: &Option<RequestId>) -> Bytes {
    match id {
        None => encode(message),
        Some(id) => envelope::seal(VERSION_NAMED, &(message, id)),
    }
}

fn decode_named<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Option<RequestId>), Unreadable> {
    if bytes.first() == Some(&VERSION) {
        return Ok((decode(bytes)?, None));
    }
    let (message, id) = envelope::open(VERSION_NAMED, bytes)?;
    Ok((message, Some(id)))
}

impl Asked {
    /// A request whose client waits until a deadline.
    pub fn by(deadline: Instant, request: Request, id: Option<RequestId>) -> Self {
        let within = deadline.saturating_duration_since(Instant::now()).as_millis();
        Asked { within_ms: within.try_into().unwrap_or(u32::MAX), request, id }
    }

    /// As it is sent.
    pub fn encode(&self) -> Bytes {
        encode_named(&(self.within_ms, &self.request), &self.id)
    }

    /// Reads what a client sent.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let ((within_ms, request), id) = decode_named(bytes)?;
        Ok(Asked { within_ms, request, id })
    }
}

/// A response as it is sent.
pub fn encode_response(response: Response) -> Bytes {
    encode(&response.map_err(Told::from))
}

/// Reads what a node answered.
pub fn decode_response(bytes: &[u8]) -> Result<Response, Unreadable> {
    Ok(decode::<Result<Reply, Told>>(bytes)?.map_err(Failure::from))
}

/// A watch as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchAsked {
    /// The group.
    pub group: GroupId,
    /// Which keys.
    pub range: KeyRange,
    /// The first revision to show; `None` is whatever comes next.
    pub from: Option<Revision>,
    /// Show what each change replaced.
    pub prev: bool,
    /// What it is called in log lines.
    pub id: Option<RequestId>,
}

impl WatchAsked {
    pub(super) fn new(group: GroupId, request: &WatchRequest, id: Option<RequestId>) -> Self {
        let WatchRequest { range, from, prev } = request.clone();
        WatchAsked { group, range, from, prev, id }
    }

    pub(super) fn request(&self) -> WatchRequest {
        WatchRequest { range: self.range.clone(), from: self.from, prev: self.prev }
    }

    /// As it is sent.
    pub fn encode(&self) -> Bytes {
        encode_named(&(self.group, &self.range, self.from, self.prev), &self.id)
    }

    /// Reads what a client sent.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        let ((group, range, from, prev), id) = decode_named(bytes)?;
        Ok(WatchAsked { group, range, from, prev, id })
    }
}

/// One change as it is sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    revision: Revision,
    key: Key,
    record: Option<Record>,
    prev: Option<Record>,
}

impl From<WatchEvent> for Change {
    fn from(WatchEvent { revision, key, record, prev }: WatchEvent) -> Self {
        Change { revision, key, record, prev }
    }
}

impl From<Change> for WatchEvent {
    fn from(Change { revision, key, record, prev }: Change) -> Self {
        WatchEvent { revision, key, record, prev }
    }
}

impl Change {
    /// About how many bytes it takes on the wire.
    pub(super) fn weight(&self) -> usize {
        let value = |record: &Option<Record>| {
            record.as_ref().map_or(0, |record| record.value.as_bytes().len() + 32)
        };
        self.key.as_bytes().len() + value(&self.record) + value(&self.prev) + 16
    }
}

/// What a node sends over a watch's stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shown {
    /// Changes; those of the last revision may go on in the next message.
    Changes(Vec<Change>),
    /// Everything up to this revision was shown: the first message, after each batch, and now and
    /// then so that a dead stream is noticed.
    Upto(Revision),
    /// It ended, and why.
    Ended(Failure),
}

/// As above, on the wire. Variants are only ever added, at the end.
#[derive(Serialize, Deserialize)]
enum ShownWire {
    Changes(Vec<Change>),
    Upto(Revision),
    Ended(Told),
}

impl Shown {
    /// As it is sent.
    pub fn encode(self) -> Bytes {
        encode(&match self {
            Shown::Changes(changes) => ShownWire::Changes(changes),
            Shown::Upto(revision) => ShownWire::Upto(revision),
            Shown::Ended(failure) => ShownWire::Ended(failure.into()),
        })
    }

    /// Reads what a node sent.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        Ok(match decode(bytes)? {
            ShownWire::Changes(changes) => Shown::Changes(changes),
            ShownWire::Upto(revision) => Shown::Upto(revision),
            ShownWire::Ended(told) => Shown::Ended(told.into()),
        })
    }
}

/// The first message over a client's link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The client's ticket, as text.
    pub ticket: String,
}

/// Where the members are: the answer to a ticket that is accepted, and again whenever it changes. A
/// ticket that is not is answered by closing the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Whereabouts {
    /// The revision of the roster that says so.
    pub as_of: Revision,
    /// Members that the client may ask too, at most
    /// [`CLIENT_NODES_MAX`](crate::limits::CLIENT_NODES_MAX).
    pub members: Vec<Place>,
}

impl Hello {
    /// As it is sent.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads what a client sent.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        decode(bytes)
    }
}

impl Whereabouts {
    /// As it is sent.
    pub fn encode(&self) -> Bytes {
        encode(self)
    }

    /// Reads what a node sent.
    pub fn decode(bytes: &[u8]) -> Result<Self, Unreadable> {
        decode(bytes)
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
