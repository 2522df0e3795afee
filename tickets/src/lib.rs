//! What an Aspen ticket is: its parts, its string form, its checks.
//!
//! A ticket tells where to dial and carries a signed invitation to a role. It is one string,
//! `aspen` followed by base32, that a person can copy. This crate encodes and checks its shape;
//! whether the invitation is signed by a member, unexpired, unused and not revoked is decided by
//! the cluster, which this crate knows nothing of.
//!
//! A ticket has exactly one encoding: the bytes are postcard of a version and its fields, each
//! bound is checked before anything is allocated for it, and bytes that another encoding of the
//! same ticket would have are refused.
//!
//! ```
//! use aspen_tickets::{JoinTicket, Ticket};
//!
//! assert!(JoinTicket::decode_string("aspenaaaa").is_err());
//! ```

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

pub use iroh_tickets::{ParseError, Ticket};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Longest name of a cluster, in bytes: a line for people.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;
/// Most peers in a ticket. Any one that answers is enough, and the string stays short enough to
/// be pasted into a chat.
pub const PEERS_MAX: usize = 8;
/// Most addresses of one peer: the networks of a well-connected machine, in both families.
pub const PEER_ADDRESSES_MAX: usize = 8;
/// Longest ticket, in bytes. The largest that keeps the limits above has fewer; past it nothing
/// is decoded.
pub const TICKET_BYTES_MAX: usize = 2_048;
/// Longest ticket as a string.
pub const TICKET_CHARS_MAX: usize = JoinTicket::KIND.len() + (TICKET_BYTES_MAX * 8).div_ceil(5);

/// An invitation to a cluster, with the peers that can admit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTicket {
    cluster: Cluster,
    #[serde(deserialize_with = "bounded::<_, _, PEERS_MAX>")]
    peers: Vec<Peer>,
    invitation: Invitation,
    signature: Signature,
}

/// The cluster that a ticket leads to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its random 128-bit id.
    pub id: u128,
    /// Its name, for people: 1 to [`CLUSTER_NAME_BYTES_MAX`] bytes.
    pub name: String,
}

/// A member to dial.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its public key.
    pub endpoint: [u8; 32],
    /// Where it was last seen, best first; up to [`PEER_ADDRESSES_MAX`]. Without any it is found
    /// by its key, where a lookup service is there.
    #[serde(deserialize_with = "bounded::<_, _, PEER_ADDRESSES_MAX>")]
    pub addresses: Vec<SocketAddr>,
}

/// What the holder of a ticket is invited to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// Its random id, by which uses are counted and by which it is revoked.
    pub id: u128,
    /// What the invited node may become.
    pub role: Role,
    /// When it ends, in seconds since 1970.
    pub expires_s: u64,
    /// How many nodes it admits; at least 1.
    pub uses: u32,
    /// The public key of the member that made and signed it.
    pub issuer: [u8; 32],
}

/// What a node may become in its groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// It counts for the majority.
    Voter,
    /// It follows and serves reads, and never counts.
    Learner,
}

/// The issuer's Ed25519 signature of [`signed_bytes`]. Who has it can use the ticket, so it is
/// never shown by accident.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// The parts do not make a ticket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the ticket {0}")]
pub struct TicketError(&'static str);

/// What the issuer signs: the invitation and the cluster it is for, under a name of their own so
/// that no other signature of the same key can stand for it.
pub fn signed_bytes(cluster_id: u128, invitation: &Invitation) -> Vec<u8> {
    encode(&("aspen invitation 1", cluster_id, invitation))
}

/// The versions of a ticket; the number of the variant is the first byte.
#[derive(Deserialize)]
enum Versioned {
    V1(JoinTicket),
}

/// The same, borrowed.
#[derive(Serialize)]
enum VersionedRef<'a> {
    V1(&'a JoinTicket),
}

impl JoinTicket {
    /// A ticket from its parts, which must be within the limits.
    pub fn new(
        cluster: Cluster,
        peers: Vec<Peer>,
        invitation: Invitation,
        signature: Signature,
    ) -> Result<Self, TicketError> {
        let ticket = JoinTicket { cluster, peers, invitation, signature };
        ticket.check()?;
        Ok(ticket)
    }

    /// The cluster it leads to.
    pub fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// The members to dial; at least one.
    pub fn peers(&self) -> &[Peer] {
        &self.peers
    }

    /// What its holder is invited to.
    pub fn invitation(&self) -> &Invitation {
        &self.invitation
    }

    /// The issuer's signature of [`signed_bytes`], not checked here.
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    fn check(&self) -> Result<(), TicketError> {
        if self.cluster.name.is_empty() || self.cluster.name.len() > CLUSTER_NAME_BYTES_MAX {
            return Err(TicketError("names its cluster with no or too many bytes"));
        }
        if self.cluster.name.chars().any(char::is_control) {
            return Err(TicketError("names its cluster with control characters"));
        }
        if self.peers.is_empty() || self.peers.len() > PEERS_MAX {
            return Err(TicketError("has no or too many peers"));
        }
        if self.peers.iter().any(|peer| peer.addresses.len() > PEER_ADDRESSES_MAX) {
            return Err(TicketError("has a peer with too many addresses"));
        }
        if self.invitation.uses == 0 {
            return Err(TicketError("admits nobody"));
        }
        Ok(())
    }
}

impl Ticket for JoinTicket {
    const KIND: &'static str = "aspen";

    fn encode_bytes(&self) -> Vec<u8> {
        encode(&VersionedRef::V1(self))
    }

    fn decode_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        if bytes.len() > TICKET_BYTES_MAX {
            return Err(ParseError::verification_failed("the ticket is too long"));
        }
        let Versioned::V1(ticket) = postcard::from_bytes(bytes)?;
        if let Err(TicketError(what)) = ticket.check() {
            return Err(ParseError::verification_failed(what));
        }
        if ticket.encode_bytes() != bytes {
            return Err(ParseError::verification_failed("the ticket is not in its one form"));
        }
        Ok(ticket)
    }
}

impl fmt::Display for JoinTicket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encode_string())
    }
}

/// Reads a ticket as it was pasted: white space around it is no part of it.
impl FromStr for JoinTicket {
    type Err = ParseError;

    fn from_str(text: &str) -> Result<Self, ParseError> {
        let text = text.trim();
        if text.len() > TICKET_CHARS_MAX {
            return Err(ParseError::verification_failed("the ticket is too long"));
        }
        JoinTicket::decode_string(text)
    }
}

impl fmt::Debug for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signature(..)")
    }
}

/// As two halves, for serde has arrays of up to 32 only.
impl Serialize for Signature {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (first, second) = self.0.split_at(32);
        let half = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).map_err(serde::ser::Error::custom);
        (half(first)?, half(second)?).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Signature {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let halves = <([u8; 32], [u8; 32])>::deserialize(deserializer)?;
        let mut bytes = [0; 64];
        bytes[..32].copy_from_slice(&halves.0);
        bytes[32..].copy_from_slice(&halves.1);
        Ok(Signature(bytes))
    }
}

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("plain fields always encode into memory")
}

/// A list that may have at most `MAX` elements; a longer one is refused before it is read.
fn bounded<'de, D, T, const MAX: usize>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Bounded<T, const MAX: usize>(std::marker::PhantomData<T>);

    impl<'de, T: Deserialize<'de>, const MAX: usize> Visitor<'de> for Bounded<T, MAX> {
        type Value = Vec<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "a list of at most {MAX}")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Vec<T>, A::Error> {
            if let Some(length) = list.size_hint()
                && length > MAX
            {
                return Err(A::Error::invalid_length(length, &self));
            }
            let mut elements = Vec::new();
            while let Some(element) = list.next_element()? {
                if elements.len() == MAX {
                    return Err(A::Error::invalid_length(MAX + 1, &self));
                }
                elements.push(element);
            }
            Ok(elements)
        }
    }

    deserializer.deserialize_seq(Bounded::<T, MAX>(std::marker::PhantomData))
}

#[cfg(test)]
mod tests;
