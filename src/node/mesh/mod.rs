//! The mesh: nodes on one LAN that share a name, and mostly a secret, and so find each other and
//! become one cluster without a ticket.
//!
//! - Whoever is near is heard by [`Neighbours`](crate::net::Neighbours); a neighbour that says the
//!   same mesh is dialled.
//! - The two prove to each other that they know the secret before anything else is said
//!   ([`introduction`]).
//! - Those that belong to no cluster yet agree on who founds one ([`search`], decided in
//!   [`roster::mesh`](crate::roster::mesh)); who is in one lets the others in by an ordinary ticket
//!   ([`host`]).
//!
//! A node that is a member needs its mesh no longer to be one: it only tells newcomers the way.

mod host;
mod introduction;
mod noted;
mod search;

use std::collections::BTreeSet;
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

pub(super) use host::{Host, HostParts};
pub(super) use introduction::{NONCE, PROOF, SAID};
pub(super) use search::{Searching, search};

use crate::limits::{
    MEMBERS_MAX, MESH_EXPECTED, MESH_NAME_BYTES_MAX, MESH_SECRET_BYTES_MAX, MESH_SECRET_BYTES_MIN,
    NEIGHBOUR_WORD_BYTES_MAX,
};
use crate::net::Neighbour;
use crate::roster::mesh::Stand;
use crate::types::{ClusterId, Form, Spelt};

/// Why something is no mesh.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum MeshError {
    /// The name.
    #[error("a mesh has a name of 1 to {MESH_NAME_BYTES_MAX} bytes")]
    Name,
    /// The secret could be guessed.
    #[error(
        "a mesh's secret has at least {MESH_SECRET_BYTES_MIN} bytes, and this has {0}; make one with: head -c 24 /dev/urandom | base64"
    )]
    ShortSecret(usize),
    /// The secret is a file of something else.
    #[error("a mesh's secret has at most {MESH_SECRET_BYTES_MAX} bytes")]
    LongSecret,
    /// So many can't be in one cluster.
    #[error("a mesh expects 1 to {MEMBERS_MAX} nodes")]
    Expected,
}

/// A mesh that a node belongs to. Its text shows no secret.
#[derive(Clone)]
pub struct Mesh {
    name: String,
    /// What its nodes prove that they know.
    key: [u8; 32],
    is_open: bool,
    expected: usize,
}

impl fmt::Debug for Mesh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Mesh({:?})", self.name)
    }
}

impl Mesh {
    /// The mesh of this name whose nodes know this secret.
    pub fn with_secret(name: &str, secret: &[u8]) -> Result<Self, MeshError> {
        match secret.len() {
            short if short < MESH_SECRET_BYTES_MIN => Err(MeshError::ShortSecret(short)),
            long if long > MESH_SECRET_BYTES_MAX => Err(MeshError::LongSecret),
            _ => Mesh::new(name, Some(secret)),
        }
    }

    /// The mesh of this name that everybody on the LAN may join.
    pub fn open(name: &str) -> Result<Self, MeshError> {
        Mesh::new(name, None)
    }

    fn new(name: &str, secret: Option<&[u8]>) -> Result<Self, MeshError> {
        if name.is_empty() || name.len() > MESH_NAME_BYTES_MAX {
            return Err(MeshError::Name);
        }
        let mut hasher = blake3::Hasher::new_derive_key("aspen 2026-11 key of a mesh");
        hasher.update(&[u8::from(secret.is_some()), name.len() as u8]);
        hasher.update(name.as_bytes());
        hasher.update(secret.unwrap_or_default());
        let key = *hasher.finalize().as_bytes();
        let is_open = secret.is_none();
        Ok(Mesh { name: name.to_owned(), key, is_open, expected: MESH_EXPECTED })
    }

    /// Founds the cluster once so many nodes have met; three unless said otherwise.
    pub fn expecting(mut self, nodes: usize) -> Result<Self, MeshError> {
        if nodes == 0 || nodes > MEMBERS_MAX {
            return Err(MeshError::Expected);
        }
        self.expected = nodes;
        Ok(self)
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What its nodes say on the link: a mark of the name and, from a member, of its cluster.
    fn word(&self, cluster: Option<ClusterId>) -> String {
        let word = match cluster {
            Some(cluster) => format!("{} {cluster}", self.mark()),
            None => self.mark(),
        };
        assert!(word.len() <= NEIGHBOUR_WORD_BYTES_MAX, "a mark and a cluster's id are short");
        word
    }

    /// Whether a neighbour says that it is of this mesh, and of which cluster if it is in one. It
    /// may say anything.
    fn hint(&self, neighbour: &Neighbour) -> Option<Option<ClusterId>> {
        let rest = neighbour.word.strip_prefix(&self.mark())?;
        match rest.strip_prefix(' ') {
            Some(cluster) => u128::from_str_radix(cluster, 16).ok().map(|id| Some(ClusterId(id))),
            None => rest.is_empty().then_some(None),
        }
    }

    fn mark(&self) -> String {
        let hash = blake3::derive_key("aspen 2026-11 mark of a mesh", self.name.as_bytes());
        data_encoding::HEXLOWER.encode(&hash[..8])
    }
}

/// What a neighbour says, after the mark of its mesh.
pub(super) const WORD: Form = Form {
    name: "word of a neighbour",
    again: |bytes| {
        let mesh = Mesh::open("lab").expect("a short name");
        let word = mesh.mark() + str::from_utf8(bytes).ok()?;
        let said = mesh.word(mesh.hint(&Neighbour { word, ..Neighbour::default() })?);
        Some(said.strip_prefix(&mesh.mark())?.as_bytes().to_vec())
    },
    spelt: Spelt::Freely,
};

/// What two nodes of a mesh say to each other once they are introduced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Said {
    /// Where the speaker stands; the latest word counts.
    Stand(Stand),
    /// Let me in.
    Ask,
    /// Come in by this ticket.
    Ticket(String),
    /// Not now.
    NotNow(String),
    /// Not as long as the mesh has all these clusters.
    Divided(BTreeSet<ClusterId>),
}
