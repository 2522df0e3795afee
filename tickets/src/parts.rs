//! The parts that all kinds of ticket have: the cluster, the peers to dial, a signature.

use std::fmt;
use std::net::SocketAddr;

use iroh_base::PublicKey;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::form::bounded;
use crate::{CLUSTER_NAME_BYTES_MAX, PEER_ADDRESSES_MAX, PEERS_MAX, TicketError};

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

/// The issuer's Ed25519 signature. Who has it can use the ticket, so it is never shown by
/// accident.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Signature(pub [u8; 64]);

impl Signature {
    /// Whether `issuer` signed these bytes.
    pub(crate) fn verify(&self, issuer: &[u8; 32], bytes: &[u8]) -> Result<(), TicketError> {
        let key = PublicKey::from_bytes(issuer).map_err(|_| TicketError::Tampered)?;
        let signature = iroh_base::Signature::from_bytes(&self.0);
        key.verify(bytes, &signature).map_err(|_| TicketError::Tampered)
    }
}

pub(crate) fn check(cluster: &Cluster, peers: &[Peer]) -> Result<(), TicketError> {
    if cluster.name.is_empty() || cluster.name.len() > CLUSTER_NAME_BYTES_MAX {
        return Err(TicketError::OutOfBounds("names its cluster with no or too many bytes"));
    }
    if cluster.name.chars().any(char::is_control) {
        return Err(TicketError::OutOfBounds("names its cluster with control characters"));
    }
    if peers.is_empty() || peers.len() > PEERS_MAX {
        return Err(TicketError::OutOfBounds("has no or too many peers"));
    }
    if peers.iter().any(|peer| peer.addresses.len() > PEER_ADDRESSES_MAX) {
        return Err(TicketError::OutOfBounds("has a peer with too many addresses"));
    }
    Ok(())
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
