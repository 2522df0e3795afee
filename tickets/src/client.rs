//! The ticket by which a program uses a cluster: which keys, and what it may do with them.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::form::{self, Form, bounded, encode};
use crate::parts::{self, Cluster, Peer, Signature};
use crate::{
    CLIENT_TICKET_BYTES_MAX, KEYSPACE_BYTES_MAX, PEERS_MAX, PREFIX_BYTES_MAX, SCOPE_ENTRIES_MAX,
    TicketError,
};

/// A grant to use a cluster, with the peers that serve it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientTicket {
    pub(crate) cluster: Cluster,
    #[serde(deserialize_with = "bounded::<_, _, PEERS_MAX>")]
    pub(crate) peers: Vec<Peer>,
    pub(crate) grant: Grant,
    pub(crate) signature: Signature,
}

/// What the holder of a client ticket may do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// Its random id, by which uses are counted and by which it is revoked.
    pub id: u128,
    /// Which keys.
    pub scope: Scope,
    /// What may be done with them.
    pub verbs: Verbs,
    /// When it ends, in seconds since 1970.
    pub expires_s: u64,
    /// How many client keys it serves; at least 1, and [`crate::USES_ANY`] for any number.
    pub uses: u32,
    /// The public key of the member that made and signed it.
    pub issuer: [u8; 32],
}

/// The keys that a grant is about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Scope {
    /// Every keyspace, those that are made later included.
    All,
    /// All keys of these keyspaces; 1 to [`SCOPE_ENTRIES_MAX`].
    Keyspaces(#[serde(deserialize_with = "bounded::<_, _, SCOPE_ENTRIES_MAX>")] Vec<String>),
    /// The keys that begin with one of these; 1 to [`SCOPE_ENTRIES_MAX`].
    Prefixes(#[serde(deserialize_with = "bounded::<_, _, SCOPE_ENTRIES_MAX>")] Vec<Prefix>),
}

/// The keys of one keyspace that begin alike. A prefix alone would reach into keyspaces that are
/// made after the grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefix {
    /// The keyspace's name, 1 to [`KEYSPACE_BYTES_MAX`] bytes.
    pub keyspace: String,
    /// How the keys begin, 1 to [`PREFIX_BYTES_MAX`] bytes.
    #[serde(deserialize_with = "bounded::<_, _, PREFIX_BYTES_MAX>")]
    pub prefix: Vec<u8>,
}

/// One kind of thing that a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verb {
    /// Reads and watches.
    Read = 1,
    /// Writes. One that answers with what was there, or depends on it, is a read too.
    Write = 2,
    /// Sees and changes the cluster: members, tickets, keyspaces.
    Admin = 4,
}

/// A set of verbs. None implies another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Verbs(u8);

/// What the issuer signs; as [`crate::signed_bytes`] under another name.
pub fn grant_signed_bytes(cluster_id: u128, grant: &Grant) -> Vec<u8> {
    encode(&("aspen grant 1", cluster_id, grant))
}

impl ClientTicket {
    /// A ticket from its parts, which must be within the limits.
    pub fn new(
        cluster: Cluster,
        peers: Vec<Peer>,
        grant: Grant,
        signature: Signature,
    ) -> Result<Self, TicketError> {
        let ticket = ClientTicket { cluster, peers, grant, signature };
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

    /// What its holder may do.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The issuer's signature of [`grant_signed_bytes`]; see [`ClientTicket::verify`].
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Whether the issuer signed what the ticket says. That it is a member, only the cluster knows.
    pub fn verify(&self) -> Result<(), TicketError> {
        let bytes = grant_signed_bytes(self.cluster.id, &self.grant);
        self.signature.verify(&self.grant.issuer, &bytes)
    }
}

impl Form for ClientTicket {
    const BYTES_MAX: usize = CLIENT_TICKET_BYTES_MAX;

    fn check(&self) -> Result<(), TicketError> {
        parts::check(&self.cluster, &self.peers)?;
        self.grant.check()
    }
}

form::string_form!(ClientTicket, "aspenclient");

impl Grant {
    /// Whether every part is within its limits.
    pub fn check(&self) -> Result<(), TicketError> {
        if self.uses == 0 {
            return Err(TicketError::OutOfBounds("serves nobody"));
        }
        if self.verbs.is_empty() || self.verbs.0 > Verbs::ALL.0 {
            return Err(TicketError::OutOfBounds("allows nothing, or what is not known"));
        }
        self.scope.check()
    }
}

impl Scope {
    fn check(&self) -> Result<(), TicketError> {
        let (entries, keyspaces): (usize, Vec<&String>) = match self {
            Scope::All => return Ok(()),
            Scope::Keyspaces(names) => (names.len(), names.iter().collect()),
            Scope::Prefixes(list) => (list.len(), list.iter().map(|at| &at.keyspace).collect()),
        };
        if entries == 0 || entries > SCOPE_ENTRIES_MAX {
            return Err(TicketError::OutOfBounds("is for no or too many parts of the data"));
        }
        if keyspaces.iter().any(|name| name.is_empty() || name.len() > KEYSPACE_BYTES_MAX) {
            return Err(TicketError::OutOfBounds("names a keyspace with no or too many bytes"));
        }
        if keyspaces.iter().any(|name| name.chars().any(char::is_control)) {
            return Err(TicketError::OutOfBounds("names a keyspace with control characters"));
        }
        if let Scope::Prefixes(list) = self
            && list.iter().any(|at| at.prefix.is_empty() || at.prefix.len() > PREFIX_BYTES_MAX)
        {
            return Err(TicketError::OutOfBounds("has a prefix with no or too many bytes"));
        }
        Ok(())
    }
}

impl Verbs {
    /// All of them.
    pub const ALL: Verbs = Verbs(Verb::Read as u8 | Verb::Write as u8 | Verb::Admin as u8);

    /// Whether `verb` is one of them.
    pub fn allow(self, verb: Verb) -> bool {
        self.0 & verb as u8 != 0
    }

    /// Whether there is none, which no ticket may have.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl FromIterator<Verb> for Verbs {
    fn from_iter<I: IntoIterator<Item = Verb>>(verbs: I) -> Self {
        Verbs(verbs.into_iter().fold(0, |set, verb| set | verb as u8))
    }
}

const NAMES: [(Verb, &str); 3] =
    [(Verb::Read, "read"), (Verb::Write, "write"), (Verb::Admin, "admin")];

/// `read,write`
impl fmt::Display for Verbs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = NAMES.iter().filter(|(verb, _)| self.allow(*verb)).map(|(_, name)| *name);
        f.write_str(&names.collect::<Vec<_>>().join(","))
    }
}

impl FromStr for Verbs {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let verb = |word: &str| NAMES.iter().find(|(_, name)| *name == word.trim());
        let verbs: Option<Verbs> = text.split(',').map(|word| Some(verb(word)?.0)).collect();
        verbs.ok_or("verbs are one or more of: read, write, admin; with commas between them")
    }
}
