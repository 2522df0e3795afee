//! The nouns every layer shares: who a node is, which group, which key, which revision.
//!
//! Keys and values are validated once, here, when they are made; everything below takes them as
//! given. Nothing in this file knows how a value is stored, sent or agreed upon.

mod form;

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

pub use aspen_tickets::Address;
use aspen_tickets::KEYSPACE_BYTES_MAX;
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::error::Invalid;
use crate::limits::{KEY_BYTES_MAX, VALUE_BYTES_MAX};

#[doc(hidden)]
pub use form::{Form, Spelt};

/// A node's short number, given by the cluster at admission or asked for by the user. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

/// One Raft group. Group 0 is the meta group; every shard of every keyspace has a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct GroupId(pub u64);

impl GroupId {
    /// The group that knows the members, and where everything else is.
    pub const META: GroupId = GroupId(0);
    /// The group of the default keyspace's first shard.
    pub const FIRST_SHARD: GroupId = GroupId(1);
}

/// The name of a keyspace: 1 to [`KEYSPACE_BYTES_MAX`] letters,
/// digits, `.`, `_` and `-` of ASCII, the first a letter or a digit.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct KeyspaceName(Arc<str>);

impl KeyspaceName {
    /// The keyspace that is meant where none is named.
    pub const DEFAULT: &str = "default";

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for KeyspaceName {
    fn default() -> Self {
        KeyspaceName(KeyspaceName::DEFAULT.into())
    }
}

impl FromStr for KeyspaceName {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        if begins && text.len() <= KEYSPACE_BYTES_MAX && text.bytes().all(is_inner) {
            Ok(KeyspaceName(text.into()))
        } else {
            Err(Invalid::KeyspaceName)
        }
    }
}

impl<'de> Deserialize<'de> for KeyspaceName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for KeyspaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyspaceName({self})")
    }
}

/// A cluster's random 128-bit name for itself.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ClusterId(pub u128);

/// A node's public key, by which it is dialled and known on the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EndpointId(pub [u8; 32]);

/// A shard's counter: one for each applied command that changed a key. 0 before the first.
pub type Revision = u64;

/// A lease: keys attached to it are deleted when it ends. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseId(pub u64);

/// A client session within one group: the log index at which it was opened. Never 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointId({self})")
    }
}

impl FromStr for EndpointId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes());
        let bytes = bytes.ok().and_then(|bytes| bytes.try_into().ok());
        bytes.map(EndpointId).ok_or(Invalid::EndpointId)
    }
}

impl fmt::Display for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for ClusterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ClusterId({self})")
    }
}

impl FromStr for ClusterId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        u128::from_str_radix(text, 16).map(ClusterId).map_err(|_| Invalid::ClusterId)
    }
}

/// A lease is shown and read as hexadecimal, as in the keys that locks make.
impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for LeaseId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match u64::from_str_radix(text, 16) {
            Ok(id) if id != 0 => Ok(LeaseId(id)),
            _ => Err(Invalid::LeaseId),
        }
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key: 1 to [`KEY_BYTES_MAX`] bytes of any kind, ordered as bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Key(Bytes);

impl Key {
    /// Checks the length; any bytes are a key.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, Invalid> {
        let bytes = bytes.into();
        if bytes.is_empty() {
            return Err(Invalid::KeyEmpty);
        }
        if bytes.len() > KEY_BYTES_MAX {
            return Err(Invalid::KeyTooLong { len: bytes.len() });
        }
        Ok(Key(bytes))
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, without copying them.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl AsRef<[u8]> for Key {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Shows text as text and other bytes escaped. Log lines and errors name only a key's length;
/// this is for people who asked to see the key.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.0.escape_ascii())
    }
}

impl<'de> Deserialize<'de> for Key {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Key::new(Bytes::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// A value: up to [`VALUE_BYTES_MAX`] bytes of any kind, empty included.
#[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Value(Bytes);

impl Value {
    /// Checks the length; any bytes are a value.
    pub fn new(bytes: impl Into<Bytes>) -> Result<Self, Invalid> {
        let bytes = bytes.into();
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(Invalid::ValueTooLong { len: bytes.len() });
        }
        Ok(Value(bytes))
    }

    /// The bytes themselves.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The bytes, without copying them.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }
}

impl AsRef<[u8]> for Value {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Value({} bytes)", self.0.len())
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Value::new(Bytes::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Implements conversion from what programs have at hand; too long or empty is told at the call.
macro_rules! try_from_bytes {
    ($target:ident: $($source:ty),*) => {$(
        impl TryFrom<$source> for $target {
            type Error = Invalid;
            fn try_from(bytes: $source) -> Result<Self, Invalid> {
                $target::new(bytes)
            }
        }
    )*};
}

try_from_bytes!(Key: Bytes, Vec<u8>, String);
try_from_bytes!(Value: Bytes, Vec<u8>, String);

/// Implements conversion from borrowed bytes, which are copied once.
macro_rules! try_from_borrowed {
    ($target:ident: $($source:ty),*) => {$(
        impl TryFrom<$source> for $target {
            type Error = Invalid;
            fn try_from(bytes: $source) -> Result<Self, Invalid> {
                $target::new(Bytes::copy_from_slice(bytes.as_ref()))
            }
        }
    )*};
}

try_from_borrowed!(Key: &str, &[u8], &String, &Vec<u8>);
try_from_borrowed!(Value: &str, &[u8], &String, &Vec<u8>);

impl<const N: usize> TryFrom<&[u8; N]> for Key {
    type Error = Invalid;
    fn try_from(bytes: &[u8; N]) -> Result<Self, Invalid> {
        Key::new(Bytes::copy_from_slice(bytes))
    }
}

impl<const N: usize> TryFrom<&[u8; N]> for Value {
    type Error = Invalid;
    fn try_from(bytes: &[u8; N]) -> Result<Self, Invalid> {
        Value::new(Bytes::copy_from_slice(bytes))
    }
}

impl TryFrom<&Key> for Key {
    type Error = Invalid;
    fn try_from(key: &Key) -> Result<Self, Invalid> {
        Ok(key.clone())
    }
}

/// What is stored under a key, with the counters that conditions compare.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Record {
    /// The value's bytes.
    pub value: Value,
    /// The revision that created the key (since its last deletion).
    pub create_revision: Revision,
    /// The revision that last wrote the key.
    pub mod_revision: Revision,
    /// How many times the key was written since it was created; 1 for a new key.
    pub version: u64,
    /// The lease that the key is attached to.
    pub lease: Option<LeaseId>,
}

impl Record {
    /// A record from its parts; `machine` is the only writer of records.
    pub fn new(
        value: Value,
        create_revision: Revision,
        mod_revision: Revision,
        version: u64,
        lease: Option<LeaseId>,
    ) -> Self {
        Record { value, create_revision, mod_revision, version, lease }
    }
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Consistency {
    /// Sees every write that was acknowledged before the read began; one round to a majority,
    /// shared by all who wait.
    #[default]
    Linearizable,
    /// As fresh as linearizable while clocks run at like rates; answered by the leader alone.
    Lease,
    /// What this replica has, possibly old; the answer's revision says how old.
    Stale,
}

impl FromStr for Consistency {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            "linearizable" => Ok(Consistency::Linearizable),
            "lease" => Ok(Consistency::Lease),
            "stale" => Ok(Consistency::Stale),
            _ => Err(Invalid::Consistency),
        }
    }
}

impl fmt::Display for Consistency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Consistency::Linearizable => "linearizable",
            Consistency::Lease => "lease",
            Consistency::Stale => "stale",
        })
    }
}
