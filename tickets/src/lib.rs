//! What an Aspen ticket is: its parts, its string form, its checks.
//!
//! A ticket tells where to dial and carries what a member of the cluster signed: a [`JoinTicket`]
//! an invitation to become a node, a [`ClientTicket`] a grant to use some of the data. It is one
//! string, its kind followed by base32, that a person can copy. This crate encodes it, checks its
//! shape and its issuer's signature; whether the issuer is a member, and whether the ticket is
//! unused and not revoked, is decided by the cluster, which this crate knows nothing of.
//!
//! A ticket has exactly one encoding: the bytes are postcard of a version and its fields, each
//! bound is checked before anything is allocated for it, and bytes that another encoding of the
//! same ticket would have are refused.
//!
//! ```
//! use aspen_tickets::{ClientTicket, JoinTicket, TicketError};
//!
//! fn show(text: &str) -> Result<String, TicketError> {
//!     let ticket: JoinTicket = text.parse()?;
//!     ticket.verify()?;
//!     Ok(format!("{} with {} peers", ticket.cluster().name, ticket.peers().len()))
//! }
//!
//! assert!(matches!(show("hello"), Err(TicketError::NotATicket { .. })));
//! assert!(matches!(show("aspenaaaa"), Err(TicketError::Garbled(_))));
//! assert!(matches!(show("aspenclientaaaa"), Err(TicketError::WrongKind { .. })));
//! ```

mod address;
mod bounded;
mod grant;
mod invitation;
mod ticket;

pub use address::{Address, AddressError, RelayUrl};
pub use grant::{Grant, Prefix, Scope, Verb, Verbs};
pub use invitation::{Invitation, Role};
pub use iroh_tickets::{ParseError, Ticket};
pub use ticket::{Body, Cluster, Peer, Signature, Signed, TOKEN_KIND, signed_bytes};

/// An invitation to a cluster, with the peers that can admit.
pub type JoinTicket = Signed<Invitation>;
/// A grant to use a cluster, with the peers that serve it.
pub type ClientTicket = Signed<Grant>;

/// Longest name of a cluster, in bytes: a line for people.
pub const CLUSTER_NAME_BYTES_MAX: usize = 64;
/// Most peers in a ticket. Any one that answers is enough, and the string stays short enough to
/// be pasted into a chat.
pub const PEERS_MAX: usize = 8;
/// Most addresses of one peer: the networks of a well-connected machine, in both families.
pub const PEER_ADDRESSES_MAX: usize = 8;
/// Most relays among the addresses of one node: the one where it is, and the one where it was.
pub const RELAYS_MAX: usize = 2;
/// Longest URL of a relay, in bytes: the name of a host and what stands around it.
pub const RELAY_URL_BYTES_MAX: usize = 250;
/// What the addresses of one node take at most, in bytes: their number; of each relay its kind, its
/// length and its URL; of each socket its kind, 16 bytes of IPv6 and a port.
pub const ADDRESSES_BYTES_MAX: usize = 1
    + RELAYS_MAX * (1 + 2 + RELAY_URL_BYTES_MAX)
    + (PEER_ADDRESSES_MAX - RELAYS_MAX) * (1 + 16 + 3);
/// Most keyspaces, or prefixes, in the scope of a client ticket; every request is held against
/// each.
pub const SCOPE_ENTRIES_MAX: usize = 8;
/// Longest name of a keyspace in a scope, in bytes.
pub const KEYSPACE_BYTES_MAX: usize = 64;
/// Longest prefix of keys in a scope, in bytes.
pub const PREFIX_BYTES_MAX: usize = 256;
/// Longest ticket to join, in bytes. The largest that keeps the limits above has fewer; past it
/// nothing is decoded.
pub const TICKET_BYTES_MAX: usize = 6 * 1_024;
/// Longest client ticket, in bytes; as above.
pub const CLIENT_TICKET_BYTES_MAX: usize = 8 * 1_024 + 512;
/// Longest ticket to join as a string.
pub const TICKET_CHARS_MAX: usize =
    <JoinTicket as Ticket>::KIND.len() + (TICKET_BYTES_MAX * 8).div_ceil(5);
/// Longest client ticket as a string.
pub const CLIENT_TICKET_CHARS_MAX: usize =
    <ClientTicket as Ticket>::KIND.len() + (CLIENT_TICKET_BYTES_MAX * 8).div_ceil(5);
/// The number of uses that stands for any number of them.
pub const USES_ANY: u32 = u32::MAX;

const _: () = {
    let peers = PEERS_MAX * (32 + ADDRESSES_BYTES_MAX);
    let scope = SCOPE_ENTRIES_MAX * (KEYSPACE_BYTES_MAX + PREFIX_BYTES_MAX);
    assert!(peers < TICKET_BYTES_MAX);
    assert!(peers + scope < CLIENT_TICKET_BYTES_MAX);
};

/// Why a text, some bytes or some parts are no ticket that can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TicketError {
    /// The text does not begin as any ticket of Aspen does.
    #[error("this is not a ticket of Aspen: one begins with `{expected}`; copy all of it")]
    NotATicket {
        /// How the wanted kind begins.
        expected: &'static str,
    },
    /// It is a ticket of another kind.
    #[error(
        "this ticket begins with `{found}`, and one that begins with `{expected}` is needed here; \
         {} makes it",
        command_for(expected)
    )]
    WrongKind {
        /// How the wanted kind begins.
        expected: &'static str,
        /// How this one does.
        found: &'static str,
    },
    /// It is a token.
    #[error(
        "this is a token, which commands take with --token, and a ticket is needed here; {} makes one",
        command_for(expected)
    )]
    Token {
        /// How the wanted kind begins.
        expected: &'static str,
    },
    /// The text is longer than any ticket.
    #[error("this is longer than any ticket; copy the ticket alone")]
    TooLong,
    /// Letters are missing, added or changed.
    #[error("the ticket is garbled: {0}; copy it again, all of it")]
    Garbled(&'static str),
    /// Its version is not known here.
    #[error(
        "the ticket has version {0}, made by a newer Aspen or garbled; update, or copy it again"
    )]
    Version(u16),
    /// A part is past its limit.
    #[error("the ticket {0}; ask for a new one")]
    OutOfBounds(&'static str),
    /// The signature is not the issuer's over what the ticket says.
    #[error("the ticket was tampered with: its signature does not fit; ask for a new one")]
    Tampered,
}

/// What makes a ticket that begins so.
fn command_for(kind: &str) -> &'static str {
    match kind == ClientTicket::KIND {
        true => "`aspen ticket create --client`",
        false => "`aspen ticket create`",
    }
}

/// For those who come through [`Ticket`].
impl From<TicketError> for ParseError {
    fn from(error: TicketError) -> Self {
        match error {
            TicketError::NotATicket { expected }
            | TicketError::WrongKind { expected, .. }
            | TicketError::Token { expected } => ParseError::wrong_prefix(expected),
            TicketError::Garbled(what) | TicketError::OutOfBounds(what) => {
                ParseError::verification_failed(what)
            }
            TicketError::TooLong => ParseError::verification_failed("the ticket is too long"),
            TicketError::Version(_) => ParseError::verification_failed("its version is not known"),
            TicketError::Tampered => ParseError::verification_failed("its signature does not fit"),
        }
    }
}

#[cfg(test)]
mod tests;
