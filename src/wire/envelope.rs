//! Envelopes: how a message that modules send each other becomes bytes. The version of what it
//! holds is the first byte, the rest is postcard, and nothing may be left over.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::types::{Form, Spelt};

/// A message can't be read.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Unreadable {
    /// It is of another version.
    #[error(
        "the message has version {found}; this build speaks {speaks}: run the same version of both"
    )]
    Version {
        /// The version of the message.
        found: u8,
        /// The version of this build.
        speaks: u8,
    },
    /// Its bytes make no sense.
    #[error("the message can't be understood")]
    Garbled,
}

/// The bytes of a message.
pub fn seal(version: u8, message: &impl Serialize) -> Bytes {
    let bytes = postcard::to_extend(message, vec![version]);
    bytes.expect("plain fields always encode into memory").into()
}

/// The message in bytes, which are all of it.
pub fn open<'a, M: Deserialize<'a>>(version: u8, bytes: &'a [u8]) -> Result<M, Unreadable> {
    let (&found, message) = bytes.split_first().ok_or(Unreadable::Garbled)?;
    if found != version {
        return Err(Unreadable::Version { found, speaks: version });
    }
    match postcard::take_from_bytes(message) {
        Ok((message, [])) => Ok(message),
        _ => Err(Unreadable::Garbled),
    }
}

/// The form of a message of a version.
pub(crate) const fn form<M: Serialize + DeserializeOwned, const VERSION: u8>(
    name: &'static str,
) -> Form {
    let again = |bytes: &[u8]| Some(seal(VERSION, &open::<M>(VERSION, bytes).ok()?).into());
    Form { name, again, spelt: Spelt::Freely }
}
