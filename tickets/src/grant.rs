//! What a client ticket carries: which keys a program may use, and for what.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::bounded::bounded;
use crate::*;

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
    /// How many client keys it serves; at least 1, and [`USES_ANY`] for any number.
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

impl ClientTicket {
    /// What its holder may do.
    pub fn grant(&self) -> &Grant {
        &self.body
    }
}

impl Body for Grant {
    const KIND: &'static str = "aspenclient";
    const BYTES_MAX: usize = CLIENT_TICKET_BYTES_MAX;
    const SIGNED_AS: &'static str = "aspen grant 1";

    fn issuer(&self) -> &[u8; 32] {
        &self.issuer
    }

    fn check(&self) -> Result<(), TicketError> {
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
        let keyspaces: Vec<&String> = match self {
            Scope::All => return Ok(()),
            Scope::Keyspaces(names) => names.iter().collect(),
            Scope::Prefixes(list) => list.iter().map(|entry| &entry.keyspace).collect(),
        };
        if keyspaces.is_empty() || keyspaces.len() > SCOPE_ENTRIES_MAX {
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
