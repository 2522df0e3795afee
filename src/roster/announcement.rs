//! What a member says of itself to all others, and its bytes.
//!
//! ```text
//! version u8 · postcard of the announcement · postcard of the rest · Ed25519 signature, 64 bytes
//! ```
//!
//! The rest is what was added later. Builds from before it leave it out, and what may stand behind it
//! in a later build's is passed over.
//!
//! The author signs a fixed prefix and everything before the signature: the version, then the
//! cluster's id, then the rest. An announcement has one form: bytes that decode but would be encoded
//! otherwise are refused, as is every part out of bounds.
//!
//! Nothing here knows whether the author is a member or its announcement new: [`super::hearsay`]
//! does.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::admit::Verify;
use super::records::check_description;
use crate::limits::{
    ANNOUNCEMENT_BYTES_MAX, ANNOUNCEMENT_GROUPS_MAX, ANNOUNCEMENT_LOADS_MAX,
    LOAD_BYTES_PER_OPERATION, MEMBER_ADDRESSES_MAX,
};
use crate::types::{Address, ClusterId, EndpointId, GroupId, NodeId};

/// The version of all announcements, their first byte.
const VERSION: u8 = 1;
/// What stands before an announcement where it is signed, so that no other signature of the same
/// key can stand for it.
const SIGNED_AS: &[u8] = b"aspen announcement 1\0";
const SIGNATURE_BYTES: usize = 64;
const TOPIC: &str = "aspen 2026-11 topic of the members' announcements";

/// The gossip topic on which the members of a cluster announce themselves.
pub fn topic(gossip_secret: &[u8; 32]) -> [u8; 32] {
    blake3::derive_key(TOPIC, gossip_secret)
}

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Announcement {
    /// The cluster it is a member of.
    pub cluster: ClusterId,
    /// Its public key.
    pub endpoint: EndpointId,
    /// Its number.
    pub node: NodeId,
    /// How often the node of its data directory has started: kept on disk, and grows.
    pub start: u64,
    /// Counts its announcements since it started.
    pub number: u64,
    /// Where it can be dialled, best first.
    pub addresses: Vec<Address>,
    /// How many entries the groups that it leads have applied in one second, lately.
    pub writes_per_second: u32,
    /// How much of its disk is free, in hundredths.
    pub free_percent: u8,
    /// The version of Aspen that it runs.
    pub version: String,
    /// It is in more groups than stand here.
    pub groups_cut: bool,
    /// What it does in its groups: those it leads, then those it votes in, then the others; of the
    /// same role the one with the lower number first.
    pub groups: Vec<Part>,
    /// What builds from before it don't say.
    #[serde(skip)]
    pub rest: Rest,
}

/// What was added to announcements since their first form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rest {
    /// Its disk is full, or was and has little more room since: it should lead nothing, and be given
    /// nothing.
    pub is_full: bool,
    /// What is done in the groups that it leads, the busiest first; those in which little is done are
    /// left out.
    pub loads: Vec<GroupLoad>,
}

/// What is done in a group, as its leader measures it over some seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupLoad {
    /// The group.
    pub group: GroupId,
    /// Operations in one second.
    pub operations: u32,
    /// Bytes that the writes among them have to say, in one second.
    pub bytes: u32,
}

/// What a member does in one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The group.
    pub group: GroupId,
    /// What the member is to it.
    pub role: PartRole,
    /// The index of the last entry of the group's log that the member has applied.
    pub applied: u64,
}

impl GroupLoad {
    /// Both in one number, in operations: so many bytes take about as long as one more.
    pub fn weight(&self) -> u64 {
        u64::from(self.operations) + u64::from(self.bytes) / LOAD_BYTES_PER_OPERATION
    }
}

/// What a member is to a group, in the order in which others want to know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum PartRole {
    /// Orders the group's commands.
    Leader,
    /// Votes and follows.
    Voter,
    /// Follows without a vote.
    Learner,
}

impl PartRole {
    /// The word for it, as doors show it.
    pub fn as_str(self) -> &'static str {
        match self {
            PartRole::Leader => "leader",
            PartRole::Voter => "voter",
            PartRole::Learner => "learner",
        }
    }
}

/// Bytes are no announcement that this build can read.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub enum BadAnnouncement {
    /// It is too long to be one.
    #[error("an announcement has {bytes} bytes; at most {ANNOUNCEMENT_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It is of another version.
    #[error("an announcement has version {0}; this build knows {VERSION}")]
    Version(u8),
    /// Anything else.
    #[error("an announcement makes no sense: {0}")]
    Malformed(&'static str),
}

impl Announcement {
    /// Its bytes, with its author's signature. Addresses and groups past what an announcement
    /// holds are left out; of the groups it says so.
    ///
    /// Panics if the node has no number, its version is out of bounds, or more than all of its disk
    /// is free.
    pub fn seal(mut self, sign: impl FnOnce(&[u8]) -> [u8; SIGNATURE_BYTES]) -> Vec<u8> {
        self.fit();
        if let Err(what) = self.check() {
            panic!("this node would announce nonsense: {what}");
        }
        let mut bytes = self.encode();
        let signature = sign(&signed(&bytes));
        bytes.extend(signature);
        assert!(bytes.len() <= ANNOUNCEMENT_BYTES_MAX, "it was made to fit");
        bytes
    }

    /// What bytes announce; whether their author has said so, [`is_signed`] tells.
    pub fn read(bytes: &[u8]) -> Result<Self, BadAnnouncement> {
        if bytes.len() > ANNOUNCEMENT_BYTES_MAX {
            return Err(BadAnnouncement::TooLong { bytes: bytes.len() });
        }
        match bytes.first() {
            Some(&VERSION) => {}
            Some(&version) => return Err(BadAnnouncement::Version(version)),
            None => return Err(BadAnnouncement::Malformed("it is empty")),
        }
        let malformed = BadAnnouncement::Malformed;
        let (said, _) =
            bytes.split_last_chunk::<SIGNATURE_BYTES>().ok_or(malformed("it has no signature"))?;
        let body = said.get(1..).ok_or(malformed("it says nothing"))?;
        let unreadable = |_| malformed("it can't be read");
        let (mut announcement, rest) =
            postcard::take_from_bytes::<Announcement>(body).map_err(unreadable)?;
        if !rest.is_empty() {
            (announcement.rest, _) = postcard::take_from_bytes(rest).map_err(unreadable)?;
        }
        announcement.check().map_err(malformed)?;
        let is_short = rest.is_empty() && announcement.encode_first() == said;
        if !is_short && (rest.is_empty() || !said.starts_with(&announcement.encode())) {
            return Err(malformed("it is not in its one form"));
        }
        Ok(announcement)
    }

    /// Its place among its author's announcements.
    pub fn order(&self) -> (u64, u64) {
        (self.start, self.number)
    }

    /// The groups and the roles in them, without the progress.
    pub(super) fn roles(&self) -> impl Iterator<Item = (GroupId, PartRole)> {
        self.groups.iter().map(|part| (part.group, part.role))
    }

    fn encode(&self) -> Vec<u8> {
        postcard::to_extend(&self.rest, self.encode_first())
            .expect("plain fields always encode into memory")
    }

    /// What stands before the rest.
    fn encode_first(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).expect("plain fields always encode into memory")
    }

    /// Leaves out what does not fit.
    fn fit(&mut self) {
        Address::keep_few(&mut self.addresses, MEMBER_ADDRESSES_MAX);
        self.rest.loads.sort_by_key(|load| (std::cmp::Reverse(load.weight()), load.group));
        self.rest.loads.truncate(ANNOUNCEMENT_LOADS_MAX);
        let mut parts = std::mem::take(&mut self.groups);
        parts.sort_unstable_by_key(|part| (part.group, part.role, part.applied));
        parts.dedup_by_key(|part| part.group);
        parts.sort_unstable_by_key(|part| (part.role, part.group));
        // The number of no groups takes one byte, that of some hundred takes two.
        let mut room =
            ANNOUNCEMENT_BYTES_MAX.saturating_sub(SIGNATURE_BYTES + self.encode().len() + 1);
        for part in parts.iter().take(ANNOUNCEMENT_GROUPS_MAX) {
            let bytes = postcard::to_stdvec(part).expect("as above").len();
            if bytes > room {
                break;
            }
            room -= bytes;
            self.groups.push(*part);
        }
        self.groups_cut |= self.groups.len() < parts.len();
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.node.0 == 0 {
            return Err("a node's number is 0");
        }
        check_description("", &self.version, &self.addresses)?;
        if self.free_percent > 100 {
            return Err("more than all of a disk is free");
        }
        if self.groups.len() > ANNOUNCEMENT_GROUPS_MAX {
            return Err("it has too many groups");
        }
        if self.rest.loads.len() > ANNOUNCEMENT_LOADS_MAX {
            return Err("it has too many loads");
        }
        if !self.groups.is_sorted_by_key(|part| (part.role, part.group)) {
            return Err("its groups are out of order");
        }
        let groups: BTreeSet<GroupId> = self.groups.iter().map(|part| part.group).collect();
        if groups.len() < self.groups.len() {
            return Err("it names a group twice");
        }
        Ok(())
    }
}

/// Whether `author` has signed the bytes of an announcement.
pub fn is_signed(bytes: &[u8], author: EndpointId, verify: Verify<'_>) -> bool {
    bytes
        .split_last_chunk::<SIGNATURE_BYTES>()
        .is_some_and(|(said, signature)| verify(author, &signed(said), signature))
}

/// What is signed of what is said.
fn signed(said: &[u8]) -> Vec<u8> {
    [SIGNED_AS, said].concat()
}
