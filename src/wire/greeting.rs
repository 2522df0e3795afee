//! The greeting of a link between members: whoever dialled says hello, the other welcomes it.
//!
//! It proves that the peer lets this node in before anything depends on the link, and tells both
//! enough to agree on one link when each has dialled the other ([`crate::net`] decides).
//!
//! ```text
//! hello    incarnation u64 · link u64 · gave_up u64
//! welcome  incarnation u64
//! ```

use super::{Malformed, split_u64};

/// What the dialling node says first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hello {
    /// A number that the node's process drew when it started.
    pub incarnation: u64,
    /// A number drawn for this link.
    pub link: u64,
    /// The link between the two that this node had last and has given up; 0 if none.
    pub gave_up: u64,
}

impl Hello {
    /// Its length.
    pub const BYTES: usize = 24;

    /// As bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (place, number) in
            bytes.chunks_exact_mut(8).zip([self.incarnation, self.link, self.gave_up])
        {
            place.copy_from_slice(&number.to_le_bytes());
        }
        bytes
    }

    /// From bytes, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        let (incarnation, rest) = split_u64(bytes)?;
        let (link, rest) = split_u64(rest)?;
        let (gave_up, rest) = split_u64(rest)?;
        match rest {
            [] => Ok(Hello { incarnation, link, gave_up }),
            _ => Err(Malformed::Other("a hello is too long")),
        }
    }
}

/// What the dialled node answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Welcome {
    /// A number that the node's process drew when it started.
    pub incarnation: u64,
}

impl Welcome {
    /// Its length.
    pub const BYTES: usize = 8;

    /// As bytes.
    pub fn encode(&self) -> [u8; Self::BYTES] {
        self.incarnation.to_le_bytes()
    }

    /// From bytes, all of them.
    pub fn decode(bytes: &[u8]) -> Result<Self, Malformed> {
        match split_u64(bytes)? {
            (incarnation, []) => Ok(Welcome { incarnation }),
            _ => Err(Malformed::Other("a welcome is too long")),
        }
    }
}
