//! openraft, bound to our types; and how an entry's payload is encoded in the log.

use std::fmt;

use bytes::Bytes;
use openraft::alias::{CommittedLeaderIdOf, EntryOf, LogIdOf, StoredMembershipOf, VoteOf};
use openraft::entry::RaftEntry;
use openraft::{EmptyNode, EntryPayload};
use serde::{Deserialize, Serialize};

use super::runtime::Runtime;
use crate::machine::ops::{Command, Outcome};
use crate::store::log::{EntryId, LogEntry, Vote};
use crate::types::{Form, Spelt};

openraft::declare_raft_types!(
    /// What openraft is parameterised with. A group's members are bare numbers: who they are and
    /// where they live is the roster's business.
    pub(super) TypeConfig:
        D = Proposal,
        R = Response,
        NodeId = u64,
        Node = EmptyNode,
        AsyncRuntime = Runtime,
);

/// A node in the term in which it leads.
pub(super) type LeaderId = CommittedLeaderIdOf<TypeConfig>;

/// A command on its way through Raft, as the log keeps it. It is encoded once, where it is
/// proposed, and decoded once on each replica, where it is applied; between them logs and streams
/// pass the same bytes on. Its text shows nothing of keys or values.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Proposal(Bytes);

impl Proposal {
    /// Encodes a command.
    pub(super) fn new(command: &Command) -> Result<Self, postcard::Error> {
        let payload = postcard::to_extend(command, vec![PAYLOAD_VERSION, KIND_COMMAND])?;
        Ok(Proposal(payload.into()))
    }

    /// Decodes the command; the error says what is wrong with it.
    pub(super) fn command(&self) -> Result<Command, String> {
        match self.0.as_ref() {
            [PAYLOAD_VERSION, KIND_COMMAND, command @ ..] => {
                postcard::from_bytes(command).map_err(|error| error.to_string())
            }
            _ => Err("the entry holds no command".into()),
        }
    }

    /// How many bytes it has.
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl fmt::Debug for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Proposal({} bytes)", self.0.len())
    }
}

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("command")
    }
}

/// What applying an entry answers: nothing for Raft's own entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Response(pub(super) Option<Outcome>);

type Payload = EntryPayload<Proposal, u64, EmptyNode>;

/// The version of an entry's payload; it stands in its first byte.
const PAYLOAD_VERSION: u8 = 1;
/// What the second byte says of the rest, as postcard numbers the variants of a payload: nothing,
/// a command, a membership.
const KIND_BLANK: u8 = 0;
const KIND_COMMAND: u8 = 1;
const KIND_MEMBERSHIP: u8 = 2;

/// Encodes an entry for the log and for other replicas.
pub(super) fn encode_entry(entry: &EntryOf<TypeConfig>) -> Result<LogEntry, postcard::Error> {
    let payload = match &entry.payload {
        EntryPayload::Blank => Bytes::from_static(&[PAYLOAD_VERSION, KIND_BLANK]),
        EntryPayload::Normal(proposal) => proposal.0.clone(),
        EntryPayload::Membership(membership) => {
            postcard::to_extend(membership, vec![PAYLOAD_VERSION, KIND_MEMBERSHIP])?.into()
        }
    };
    Ok(LogEntry { id: entry_id(&entry.log_id), payload })
}

/// Decodes an entry from the log or from another replica; the error says what is wrong with it.
/// A command stays as it is until it is applied.
pub(super) fn decode_entry(entry: &LogEntry) -> Result<EntryOf<TypeConfig>, String> {
    let with = |payload: Payload| Ok(EntryOf::<TypeConfig>::new(log_id(entry.id), payload));
    match entry.payload.as_ref() {
        [PAYLOAD_VERSION, KIND_BLANK] => with(EntryPayload::Blank),
        [PAYLOAD_VERSION, KIND_COMMAND, ..] => {
            with(EntryPayload::Normal(Proposal(entry.payload.clone())))
        }
        [PAYLOAD_VERSION, KIND_MEMBERSHIP, membership @ ..] => {
            let membership = postcard::from_bytes(membership).map_err(|error| error.to_string())?;
            with(EntryPayload::Membership(membership))
        }
        [PAYLOAD_VERSION, ..] => Err("the entry is of no known kind".into()),
        [newer, ..] => Err(format!(
            "the entry has version {newer}; this build reads {PAYLOAD_VERSION}: use a newer one"
        )),
        [] => Err("the entry is empty".into()),
    }
}

/// Our id of an entry from openraft's.
pub(super) fn entry_id(id: &LogIdOf<TypeConfig>) -> EntryId {
    EntryId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

/// openraft's id of an entry from ours.
pub(super) fn log_id(id: EntryId) -> LogIdOf<TypeConfig> {
    let leader = LeaderId { term: id.term, node_id: id.node };
    LogIdOf::<TypeConfig>::new(leader, id.index)
}

/// Our form of a vote.
pub(super) fn vote_out(vote: &VoteOf<TypeConfig>) -> Vote {
    Vote { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

/// openraft's form of a vote.
pub(super) fn vote_in(vote: Vote) -> VoteOf<TypeConfig> {
    if vote.committed {
        VoteOf::<TypeConfig>::new_committed(vote.term, vote.node)
    } else {
        VoteOf::<TypeConfig>::new(vote.term, vote.node)
    }
}

/// A membership as the state file keeps it.
pub(super) fn encode_membership(
    membership: &openraft::Membership<u64, EmptyNode>,
) -> Result<Vec<u8>, postcard::Error> {
    postcard::to_stdvec(membership)
}

/// The membership that the state file keeps.
pub(super) fn decode_membership(
    id: Option<EntryId>,
    bytes: &[u8],
) -> Result<StoredMembershipOf<TypeConfig>, postcard::Error> {
    if bytes.is_empty() {
        return Ok(StoredMembershipOf::<TypeConfig>::default());
    }
    let membership = postcard::from_bytes(bytes)?;
    Ok(StoredMembershipOf::<TypeConfig>::new(id.map(log_id), membership))
}

/// The form of a membership in the state file.
pub(super) const MEMBERSHIP: Form = Form {
    name: "membership",
    again: |bytes| {
        let stored = decode_membership(None, bytes).ok()?;
        Some(encode_membership(stored.membership()).expect("what was decoded is encoded"))
    },
    spelt: Spelt::Freely,
};
