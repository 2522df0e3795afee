//! The network: this node's key, its place on it, and its peers. The only module that names iroh.
//!
//! [`Endpoint`] carries [`seams::network`](crate::seams::network) on QUIC. [`Peers`] stands on that
//! seam alone, so that a simulator runs it unchanged: one link to each peer whoever dialled it,
//! dialled again with growing pauses; calls, streams and lanes over it; and what peers send is
//! handed to [`Serve`]. Who may speak at all is asked of a [`Gate`](crate::seams::network::Gate)
//! before a byte is looked at.
//!
//! Nothing here knows what the bytes mean, and nothing is kept of a message once its link is gone:
//! who sends again is decided above.

mod book;
mod door;
mod endpoint;
mod gossip;
mod internet;
mod key;
mod link;
mod lookup;
mod message;
mod neighbours;
mod peers;
mod pins;
mod quic;

pub use book::{AddressBook, AddressSource, KnownAddress, SharedBook};
pub use door::Shut;
pub use endpoint::{Endpoint, Listen, Reach, on_interfaces};
pub use gossip::Gossip;
pub use internet::{Choice, Directory, Entrances, Internet, Relays};
pub use key::{NodeKey, verify};
pub use lookup::Lookup;
pub use message::{
    MessageError, open_stream, read_body, read_length, read_message, read_preface, write_message,
};
pub use neighbours::{Neighbour, Neighbourhood, Neighbours};
pub use peers::{
    CallFailed, Lane, LaneEnded, PeerFacts, PeerTraffic, Peers, Refused, RefusedCode, Serve,
    WeakPeers,
};

use crate::types::Form;

/// What is known of peers, and what they refuse.
#[doc(hidden)]
pub const FORMS: &[Form] = &[book::FORM, peers::REFUSED];
