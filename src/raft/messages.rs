//! What replicas of a group say to each other, as bytes.
//!
//! Every message is a version byte and postcard. Entries travel as the log keeps them, so that
//! neither side decodes them on the way. Nothing here decides anything: a message that was
//! understood is checked by whoever takes it ([`super::inbound`]).

use bytes::Bytes;
use openraft::alias::{EntryOf, LogIdOf};
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::types::{TypeConfig, decode_entry, encode_entry, entry_id, log_id, vote_in, vote_out};
use crate::store::log::{EntryId, LogEntry, Vote};
use crate::store::state::AppliedMark;
use crate::types::{Form, GroupId, NodeId, Spelt};
use crate::wire::envelope;

/// The version of every message; its first byte.
const VERSION: u8 = 1;

/// Why a message was not understood.
pub(super) type Garbled = String;

/// Encodes a message.
pub(super) fn encode(message: &impl Serialize) -> Bytes {
    envelope::seal(VERSION, message)
}

/// Decodes a message, all of it.
pub(super) fn decode<'a, M: Deserialize<'a>>(bytes: &'a [u8]) -> Result<M, Garbled> {
    envelope::open(VERSION, bytes).map_err(|error| error.to_string())
}

/// What is read from other replicas, and of the log.
pub const FORMS: &[Form] = &[
    form::<Route>("route"),
    form::<Ask>("question"),
    form::<Vec<Ask>>("questions"),
    form::<Answer>("answer"),
    form::<Vec<Answer>>("answers"),
    form::<Appended>("what became of entries"),
    form::<Offer>("offer of a snapshot"),
    form::<Receipt>("receipt of a snapshot"),
    Form {
        name: "entries",
        again: |bytes| {
            let request = decode_append(&Bytes::copy_from_slice(bytes)).ok()?;
            Some(encode_append(&request).expect("what was decoded is encoded").into())
        },
        spelt: Spelt::Freely,
    },
    super::types::MEMBERSHIP,
];

const fn form<M: Serialize + DeserializeOwned>(name: &'static str) -> Form {
    envelope::form::<M, VERSION>(name)
}

/// From which replica of a group to which. A key that came back under another number is another
/// node, so both numbers are said and checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Route {
    pub(super) group: GroupId,
    pub(super) from: NodeId,
    pub(super) to: NodeId,
}

/// A question in one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ask {
    pub(super) route: Route,
    pub(super) what: Question,
}

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Question {
    /// For the replica's vote.
    Vote(Ballot),
    /// Whether it would give its vote.
    PreVote(Ballot),
    /// Whether it follows.
    Heartbeat(Beat),
    /// To stand for election.
    Transfer(Handover),
    /// For the index that a read must wait for.
    ReadIndex,
}

/// A candidate and what it has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Ballot {
    pub(super) vote: Vote,
    pub(super) last: Option<EntryId>,
    /// The leader hands over, so its lease is no reason to refuse.
    pub(super) handed_over: bool,
}

/// A leader and how far its group is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Beat {
    pub(super) vote: Vote,
    pub(super) prev: Option<EntryId>,
    pub(super) commit: Option<EntryId>,
}

/// Leadership on its way from one replica to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Handover {
    pub(super) vote: Vote,
    pub(super) to: NodeId,
    pub(super) last: Option<EntryId>,
}

/// The answer to a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// What became of a vote or a pre-vote.
    Voted { vote: Vote, granted: bool, last: Option<EntryId> },
    /// What became of a heartbeat.
    Appended(Appended),
    /// What became of a transfer.
    Transferred(Transferred),
    /// A read at or after this entry is fresh.
    ReadIndex(EntryId),
    /// The replica does not lead.
    NotLeader(Option<NodeId>),
    /// It could not be done now.
    Unavailable(String),
}

/// What a follower answers to entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Appended {
    /// Its log is the leader's up to here, on disk.
    Upto(Option<EntryId>),
    /// It does not have this entry.
    Conflict(EntryId),
    /// It knows a later leader or candidate.
    HigherVote(Vote),
}

/// What the chosen one answers to a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Transferred {
    /// It stands for election, or will not hinder who does.
    Taken,
    /// It follows another vote.
    VoteChanged { expected: Vote, actual: Vote },
    /// Its log ends too early.
    NotFlushed { expected: Option<EntryId>, actual: Option<EntryId> },
}

/// Entries for a follower; the first message of a lane is its [`Route`].
#[derive(Debug, Serialize, Deserialize)]
struct Append<'a> {
    vote: Vote,
    prev: Option<EntryId>,
    commit: Option<EntryId>,
    #[serde(borrow)]
    entries: Vec<(EntryId, Raw<'a>)>,
}

/// Bytes that are copied as a whole.
#[derive(Debug)]
struct Raw<'a>(&'a [u8]);

impl Serialize for Raw<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Raw<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Raw<'de>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Raw<'de>, E> {
                Ok(Raw(bytes))
            }
        }
        deserializer.deserialize_bytes(Borrowed)
    }
}

/// A snapshot that its sender offers, or goes on with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Offer {
    pub(super) route: Route,
    /// The leader that sends it.
    pub(super) vote: Vote,
    /// Tells this sending from every other.
    pub(super) sending: u128,
    /// What the snapshot holds.
    pub(super) mark: AppliedMark,
    /// About how many bytes it has: to show how far it is, and nothing else.
    pub(super) about_bytes: u64,
}

/// What the receiver of a snapshot says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Receipt {
    /// This many bytes of it have arrived.
    Has(u64),
    /// All of it has arrived and is being checked and installed.
    Installing,
    /// It is installed; the receiver's vote.
    Installed(Vote),
    /// The sender no longer leads.
    HigherVote(Vote),
    /// It is discarded, and may be sent anew.
    Refused(String),
}

/// Most bytes that a message takes beside its entries' payloads: ids and lengths, three of them
/// for the head, and as many for each entry.
const ENTRY_OVERHEAD_BYTES: usize = 40;

/// Encodes a request to append.
pub(super) fn encode_append(request: &AppendEntriesRequest<TypeConfig>) -> Result<Bytes, Garbled> {
    let entries = request
        .entries
        .iter()
        .map(|entry| encode_entry(entry).map_err(|error| error.to_string()))
        .collect::<Result<Vec<LogEntry>, _>>()?;
    let bytes: usize = entries.iter().map(|entry| entry.payload.len() + ENTRY_OVERHEAD_BYTES).sum();
    let append = Append {
        vote: vote_out(&request.vote),
        prev: request.prev_log_id.as_ref().map(entry_id),
        commit: request.leader_commit.as_ref().map(entry_id),
        entries: entries.iter().map(|entry| (entry.id, Raw(&entry.payload))).collect(),
    };
    let mut message = Vec::with_capacity(bytes + 3 * ENTRY_OVERHEAD_BYTES);
    message.push(VERSION);
    let message = postcard::to_extend(&append, message).map_err(|error| error.to_string())?;
    Ok(message.into())
}

/// Decodes a request to append. The entries' payloads are parts of the message, not copies.
pub(super) fn decode_append(message: &Bytes) -> Result<AppendEntriesRequest<TypeConfig>, Garbled> {
    let Append { vote, prev, commit, entries } = decode(message)?;
    let entries = entries.into_iter().map(|(id, Raw(payload))| {
        decode_entry(&LogEntry { id, payload: message.slice_ref(payload) })
    });
    Ok(AppendEntriesRequest {
        vote: vote_in(vote),
        prev_log_id: prev.map(log_id),
        leader_commit: commit.map(log_id),
        entries: entries.collect::<Result<Vec<EntryOf<TypeConfig>>, _>>()?,
    })
}

impl Beat {
    pub(super) fn new(request: &AppendEntriesRequest<TypeConfig>) -> Self {
        Beat {
            vote: vote_out(&request.vote),
            prev: request.prev_log_id.as_ref().map(entry_id),
            commit: request.leader_commit.as_ref().map(entry_id),
        }
    }

    pub(super) fn request(&self) -> AppendEntriesRequest<TypeConfig> {
        AppendEntriesRequest {
            vote: vote_in(self.vote),
            prev_log_id: self.prev.map(log_id),
            leader_commit: self.commit.map(log_id),
            entries: Vec::new(),
        }
    }
}

impl From<StreamAppendResult<TypeConfig>> for Appended {
    fn from(result: StreamAppendResult<TypeConfig>) -> Self {
        match result {
            Ok(upto) => Appended::Upto(upto.as_ref().map(entry_id)),
            Err(StreamAppendError::Conflict(id)) => Appended::Conflict(entry_id(&id)),
            Err(StreamAppendError::HigherVote(vote)) => Appended::HigherVote(vote_out(&vote)),
        }
    }
}

impl From<Appended> for StreamAppendResult<TypeConfig> {
    fn from(appended: Appended) -> Self {
        match appended {
            Appended::Upto(upto) => Ok(upto.map(log_id)),
            Appended::Conflict(id) => Err(StreamAppendError::Conflict(log_id(id))),
            Appended::HigherVote(vote) => Err(StreamAppendError::HigherVote(vote_in(vote))),
        }
    }
}

impl Ballot {
    pub(super) fn new(request: &VoteRequest<TypeConfig>) -> Self {
        Ballot {
            vote: vote_out(&request.vote),
            last: request.last_log_id.as_ref().map(entry_id),
            handed_over: request.leadership_transfer,
        }
    }

    pub(super) fn request(&self) -> VoteRequest<TypeConfig> {
        VoteRequest {
            vote: vote_in(self.vote),
            last_log_id: self.last.map(log_id),
            leadership_transfer: self.handed_over,
        }
    }
}

impl Answer {
    pub(super) fn voted(response: &VoteResponse<TypeConfig>) -> Self {
        Answer::Voted {
            vote: vote_out(&response.vote),
            granted: response.vote_granted,
            last: response.last_log_id.as_ref().map(entry_id),
        }
    }
}

impl Handover {
    pub(super) fn new(request: &TransferLeaderRequest<TypeConfig>) -> Self {
        Handover {
            vote: vote_out(request.from_leader()),
            to: NodeId(*request.to_node_id()),
            last: request.last_log_id().map(entry_id),
        }
    }

    pub(super) fn request(&self) -> TransferLeaderRequest<TypeConfig> {
        TransferLeaderRequest::new(vote_in(self.vote), self.to.0, self.last.map(log_id))
    }
}

impl From<TransferLeaderResponse<TypeConfig>> for Transferred {
    fn from(response: TransferLeaderResponse<TypeConfig>) -> Self {
        let id = |id: Option<LogIdOf<TypeConfig>>| id.as_ref().map(entry_id);
        match response {
            Ok(()) => Transferred::Taken,
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                Transferred::VoteChanged {
                    expected: vote_out(&expected),
                    actual: vote_out(&actual),
                }
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                Transferred::NotFlushed { expected: id(expected), actual: id(actual) }
            }
        }
    }
}

impl From<Transferred> for TransferLeaderResponse<TypeConfig> {
    fn from(transferred: Transferred) -> Self {
        match transferred {
            Transferred::Taken => Ok(()),
            Transferred::VoteChanged { expected, actual } => {
                let (expected, actual) = (vote_in(expected), vote_in(actual));
                Err(TransferLeaderError::VoteChanged { expected, actual })
            }
            Transferred::NotFlushed { expected, actual } => {
                let (expected, actual) = (expected.map(log_id), actual.map(log_id));
                Err(TransferLeaderError::LogNotFlushed { expected, actual })
            }
        }
    }
}

#[cfg(test)]
#[path = "messages_tests.rs"]
mod tests;
