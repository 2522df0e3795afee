//! The ticket by which a node joins a cluster.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::form::{self, Form, bounded, encode};
use crate::parts::{self, Cluster, Peer, Signature};
use crate::{PEERS_MAX, TICKET_BYTES_MAX, TicketError};

/// An invitation to a cluster, with the peers that can admit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinTicket {
    pub(crate) cluster: Cluster,
    #[serde(deserialize_with = "bounded::<_, _, PEERS_MAX>")]
    pub(crate) peers: Vec<Peer>,
    pub(crate) invitation: Invitation,
    pub(crate) signature: Signature,
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
    /// How many nodes it admits; at least 1, and [`crate::USES_ANY`] for any number.
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

/// What the issuer signs: the invitation and the cluster it is for, under a name of their own so
/// that no other signature of the same key can stand for it.
pub fn signed_bytes(cluster_id: u128, invitation: &Invitation) -> Vec<u8> {
    encode(&("aspen invitation 1", cluster_id, invitation))
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

    /// The issuer's signature of [`signed_bytes`]; see [`JoinTicket::verify`].
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Whether the issuer signed what the ticket says. That it is a member, only the cluster knows.
    pub fn verify(&self) -> Result<(), TicketError> {
        let bytes = signed_bytes(self.cluster.id, &self.invitation);
        self.signature.verify(&self.invitation.issuer, &bytes)
    }
}

impl Form for JoinTicket {
    const BYTES_MAX: usize = TICKET_BYTES_MAX;

    fn check(&self) -> Result<(), TicketError> {
        parts::check(&self.cluster, &self.peers)?;
        if self.invitation.uses == 0 {
            return Err(TicketError::OutOfBounds("admits nobody"));
        }
        Ok(())
    }
}

form::string_form!(JoinTicket, "aspen");

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Role::Voter => "voter",
            Role::Learner => "learner",
        })
    }
}

impl FromStr for Role {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        match text {
            "voter" => Ok(Role::Voter),
            "learner" => Ok(Role::Learner),
            _ => Err("a role is one of: voter, learner"),
        }
    }
}
