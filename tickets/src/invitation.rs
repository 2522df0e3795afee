//! What a ticket to join carries: an invitation to become a node of the cluster.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Body, JoinTicket, TICKET_BYTES_MAX, TicketError};

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

impl JoinTicket {
    /// What its holder is invited to.
    pub fn invitation(&self) -> &Invitation {
        &self.body
    }
}

impl Body for Invitation {
    const KIND: &'static str = "aspen";
    const BYTES_MAX: usize = TICKET_BYTES_MAX;
    const SIGNED_AS: &'static str = "aspen invitation 1";

    fn issuer(&self) -> &[u8; 32] {
        &self.issuer
    }

    fn check(&self) -> Result<(), TicketError> {
        if self.uses == 0 { Err(TicketError::OutOfBounds("admits nobody")) } else { Ok(()) }
    }
}

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
