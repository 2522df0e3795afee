//! What stands on the wire between nodes, as bytes: the head of a stream, its kind, messages and
//! their bounds, the greeting of a link, the frames of lanes.
//!
//! Pure: bytes in, typed values or a reason out. Every number is little-endian and of fixed width,
//! every length is checked before anything is allocated for it, and every stream begins with
//! [`VERSION`], so that a later build can change all of this. What the messages of one kind hold
//! is the business of the module that sends them.

pub mod envelope;
pub mod frame;
mod greeting;
mod kind;

pub use greeting::{Hello, Welcome};
pub use kind::StreamKind;

use thiserror::Error;

/// The version of everything here: the first byte of every stream.
pub const VERSION: u8 = 1;

/// Bytes at the head of every stream: [`VERSION`] and the [`StreamKind`].
pub const PREFACE_BYTES: usize = 2;

/// Bytes in front of every message: its length.
pub const LENGTH_BYTES: usize = 4;

/// What was received can't be understood; the link it came by is closed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Malformed {
    /// A stream of another version.
    #[error(
        "the stream has version {0}; this build speaks {VERSION}: run the same version of both"
    )]
    Version(u8),
    /// A stream of a kind this build does not know.
    #[error("the stream has kind {0}, which this build does not know")]
    Kind(u8),
    /// A message or frame that is too long for its kind.
    #[error("{bytes} bytes are announced where at most {max} are allowed")]
    TooLong {
        /// What was announced.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Anything else.
    #[error("{0}")]
    Other(&'static str),
}

/// The head of a stream.
pub fn preface(kind: StreamKind) -> [u8; PREFACE_BYTES] {
    [VERSION, kind as u8]
}

/// What a stream is for, from its head.
pub fn read_preface(bytes: [u8; PREFACE_BYTES]) -> Result<StreamKind, Malformed> {
    let [version, kind] = bytes;
    if version != VERSION {
        return Err(Malformed::Version(version));
    }
    StreamKind::from_number(kind).ok_or(Malformed::Kind(kind))
}

/// The length in front of a message, if it is within the bound.
pub fn read_length(bytes: [u8; LENGTH_BYTES], max: usize) -> Result<usize, Malformed> {
    let bytes = u32::from_le_bytes(bytes) as usize;
    if bytes > max { Err(Malformed::TooLong { bytes, max }) } else { Ok(bytes) }
}

/// The first `N` bytes and the rest.
fn split<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8]), Malformed> {
    let (head, rest) =
        bytes.split_first_chunk::<N>().ok_or(Malformed::Other("a message is cut short"))?;
    Ok((*head, rest))
}

/// A number and the rest.
fn split_u64(bytes: &[u8]) -> Result<(u64, &[u8]), Malformed> {
    let (number, rest) = split::<8>(bytes)?;
    Ok((u64::from_le_bytes(number), rest))
}
