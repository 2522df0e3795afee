//! A ticket: the cluster, the peers to dial, what was signed. To bytes and back, to a string and
//! back, in one form only.

use std::fmt;
use std::str::FromStr;

use data_encoding::BASE32_NOPAD;
use iroh_base::PublicKey;
use iroh_tickets::{ParseError, Ticket};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::bounded::bounded;
use crate::*;

/// What a member signs and a ticket carries: an [`Invitation`] or a [`Grant`].
pub trait Body: Serialize + DeserializeOwned {
    /// How a ticket with it begins.
    const KIND: &'static str;
    /// The largest ticket with it, in bytes.
    const BYTES_MAX: usize;
    /// What stands before it where it is signed, so that no other signature of the same key can
    /// stand for it.
    const SIGNED_AS: &'static str;

    /// The public key of the member that made and signed it.
    fn issuer(&self) -> &[u8; 32];

    /// Whether every part is within its limits.
    fn check(&self) -> Result<(), TicketError>;
}

/// How a token begins, which is no ticket and is taken for one easily.
pub const TOKEN_KIND: &str = "aspentoken";

/// The beginnings of all kinds. One is the beginning of the others: the longest that fits counts.
/// What follows `aspen` in a ticket to join is its version in base32, which for the first sixteen
/// versions is neither the `c` of `client` nor the `t` of `token`.
const KINDS: [&str; 3] = [Invitation::KIND, Grant::KIND, TOKEN_KIND];

/// A ticket of either kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signed<B> {
    pub(crate) cluster: Cluster,
    #[serde(deserialize_with = "bounded::<_, _, PEERS_MAX>")]
    pub(crate) peers: Vec<Peer>,
    pub(crate) body: B,
    pub(crate) signature: Signature,
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
    /// Where it was last seen, best first; up to [`PEER_ADDRESSES_MAX`], and [`RELAYS_MAX`] relays
    /// among them. Without any it is found by its key, where a lookup service is there.
    #[serde(deserialize_with = "bounded::<_, _, PEER_ADDRESSES_MAX>")]
    pub addresses: Vec<Address>,
}

/// The issuer's Ed25519 signature of [`signed_bytes`]. Who has it can use the ticket, so it is
/// never shown by accident.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

/// What the issuer signs: the body and the cluster it is for.
pub fn signed_bytes<B: Body>(cluster_id: u128, body: &B) -> Vec<u8> {
    encode(&(B::SIGNED_AS, cluster_id, body))
}

/// The versions of a ticket; the number of the variant is the first byte.
#[derive(Deserialize)]
enum Versioned<T> {
    V1(T),
}

/// The same, borrowed.
#[derive(Serialize)]
enum VersionedRef<'a, T> {
    V1(&'a T),
}

impl<B: Body> Signed<B> {
    /// A ticket from its parts, which must be within the limits.
    pub fn new(
        cluster: Cluster,
        peers: Vec<Peer>,
        body: B,
        signature: Signature,
    ) -> Result<Self, TicketError> {
        let ticket = Signed { cluster, peers, body, signature };
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

    /// The issuer's signature; see [`Signed::verify`].
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Whether the issuer signed what the ticket says. That it is a member, only the cluster knows.
    pub fn verify(&self) -> Result<(), TicketError> {
        let key = PublicKey::from_bytes(self.body.issuer()).map_err(|_| TicketError::Tampered)?;
        let signature = iroh_base::Signature::from_bytes(&self.signature.0);
        key.verify(&signed_bytes(self.cluster.id, &self.body), &signature)
            .map_err(|_| TicketError::Tampered)
    }

    fn check(&self) -> Result<(), TicketError> {
        if self.cluster.name.is_empty() || self.cluster.name.len() > CLUSTER_NAME_BYTES_MAX {
            return Err(TicketError::OutOfBounds("names its cluster with no or too many bytes"));
        }
        if self.cluster.name.chars().any(char::is_control) {
            return Err(TicketError::OutOfBounds("names its cluster with control characters"));
        }
        if self.peers.is_empty() || self.peers.len() > PEERS_MAX {
            return Err(TicketError::OutOfBounds("has no or too many peers"));
        }
        if !self.peers.iter().all(|peer| Address::are_few(&peer.addresses, PEER_ADDRESSES_MAX)) {
            return Err(TicketError::OutOfBounds("has a peer with too many addresses"));
        }
        self.body.check()
    }

    fn read(bytes: &[u8]) -> Result<Self, TicketError> {
        if bytes.len() > B::BYTES_MAX {
            return Err(TicketError::TooLong);
        }
        match bytes.first() {
            Some(0) => {}
            Some(variant) => return Err(TicketError::Version(u16::from(*variant) + 1)),
            None => return Err(TicketError::Garbled("it is empty")),
        }
        let Ok(Versioned::V1(ticket)) = postcard::from_bytes::<Versioned<Self>>(bytes) else {
            return Err(TicketError::Garbled("its parts can't be read"));
        };
        ticket.check()?;
        if ticket.encode_bytes() != bytes {
            return Err(TicketError::Garbled("it is not in its one form"));
        }
        Ok(ticket)
    }
}

impl<B: Body> Ticket for Signed<B> {
    const KIND: &'static str = B::KIND;

    fn encode_bytes(&self) -> Vec<u8> {
        encode(&VersionedRef::V1(self))
    }

    fn decode_bytes(bytes: &[u8]) -> Result<Self, ParseError> {
        Ok(Signed::read(bytes)?)
    }
}

impl<B: Body> fmt::Display for Signed<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.encode_string())
    }
}

/// Reads a ticket as it was pasted: white space around it is no part of it.
impl<B: Body> FromStr for Signed<B> {
    type Err = TicketError;

    fn from_str(text: &str) -> Result<Self, TicketError> {
        let text = text.trim();
        let kind = KINDS.into_iter().filter(|kind| text.starts_with(kind)).max_by_key(|k| k.len());
        match kind {
            Some(kind) if kind == B::KIND => {}
            Some(TOKEN_KIND) => return Err(TicketError::Token { expected: B::KIND }),
            Some(found) => return Err(TicketError::WrongKind { expected: B::KIND, found }),
            None => return Err(TicketError::NotATicket { expected: B::KIND }),
        }
        let letters = &text[B::KIND.len()..];
        if letters.len() > (B::BYTES_MAX * 8).div_ceil(5) {
            return Err(TicketError::TooLong);
        }
        let bytes = BASE32_NOPAD.decode(letters.to_ascii_uppercase().as_bytes());
        Signed::read(&bytes.map_err(|_| TicketError::Garbled("letters are missing or wrong"))?)
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
