//! Where a node can be dialled: a socket, or the relay where it can be met.
//!
//! As bytes and as text an address has one form only. The bytes of a socket are those that
//! `std::net::SocketAddr` has, which is what stood in tickets and records before there were relays.

use std::fmt;
use std::net::{SocketAddr, SocketAddrV4, SocketAddrV6};
use std::str::FromStr;

use serde::de::{Error as _, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{RELAY_URL_BYTES_MAX, RELAYS_MAX};

/// Where a node can be dialled. Sockets are in order before relays, and those of IPv4 first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A socket.
    Ip(SocketAddr),
    /// The relay where it can be met.
    Relay(RelayUrl),
}

/// The URL of a relay: http or https, at most [`RELAY_URL_BYTES_MAX`] bytes. Its text is the one
/// that every other way to write it comes to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelayUrl(iroh_base::RelayUrl);

/// Why a text is no address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// It is of no known kind.
    #[error(
        "neither a socket such as 203.0.113.5:4433 nor a relay's URL such as https://relay.example"
    )]
    Unreadable,
    /// It is a URL that is too long.
    #[error("a relay's URL has at most {RELAY_URL_BYTES_MAX} bytes")]
    TooLong,
    /// It is a relay's URL that would be written otherwise.
    #[error("a relay's URL is not in its one form")]
    OtherForm,
}

impl Address {
    /// The relay at a URL, in whichever form it is written.
    pub fn relay_at(url: &str) -> Result<Self, AddressError> {
        url.parse().map(Address::Relay)
    }

    /// The socket, if it is one.
    pub fn ip(&self) -> Option<SocketAddr> {
        match self {
            Address::Ip(socket) => Some(*socket),
            Address::Relay(_) => None,
        }
    }

    /// The relay's URL, if it is one.
    pub fn relay(&self) -> Option<&str> {
        match self {
            Address::Ip(_) => None,
            Address::Relay(url) => Some(url.as_str()),
        }
    }

    /// Whether of one node's addresses at most `max` are there, and at most [`RELAYS_MAX`] relays.
    pub fn are_few(addresses: &[Address], max: usize) -> bool {
        let relays = addresses.iter().filter(|address| address.relay().is_some());
        addresses.len() <= max && relays.count() <= RELAYS_MAX
    }

    /// Drops the last of one node's addresses until they [`are_few`](Address::are_few). A relay
    /// stays before a socket does: it can be reached from where no socket can.
    pub fn keep_few<T: AsRef<Address>>(addresses: &mut Vec<T>, max: usize) {
        let is_relay = |address: &T| address.as_ref().relay().is_some();
        let relays = addresses.iter().filter(|address| is_relay(address)).count();
        let mut relays_left = relays.min(RELAYS_MAX).min(max);
        let mut sockets_left = max - relays_left;
        addresses.retain(|address| {
            let left = if is_relay(address) { &mut relays_left } else { &mut sockets_left };
            let stays = *left > 0;
            *left -= usize::from(stays);
            stays
        });
    }
}

impl AsRef<Address> for Address {
    fn as_ref(&self) -> &Address {
        self
    }
}

impl From<SocketAddr> for Address {
    fn from(socket: SocketAddr) -> Self {
        Address::Ip(socket)
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Address::Ip(socket) => socket.fmt(f),
            Address::Relay(url) => url.fmt(f),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        text.parse().map(Address::Ip).or_else(|_| Address::relay_at(text))
    }
}

impl RelayUrl {
    /// Its text.
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// As iroh has it.
    pub fn as_iroh(&self) -> &iroh_base::RelayUrl {
        &self.0
    }

    /// Reads the one form only, so that equal bytes and equal relays are the same.
    fn from_one_form(text: &str) -> Result<Self, AddressError> {
        // Before it is looked at, for it may be much longer.
        if text.len() > RELAY_URL_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        let url: RelayUrl = text.parse()?;
        if url.as_str() == text { Ok(url) } else { Err(AddressError::OtherForm) }
    }
}

impl TryFrom<iroh_base::RelayUrl> for RelayUrl {
    type Error = AddressError;

    fn try_from(url: iroh_base::RelayUrl) -> Result<Self, AddressError> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(AddressError::Unreadable);
        }
        if url.as_str().len() > RELAY_URL_BYTES_MAX {
            return Err(AddressError::TooLong);
        }
        Ok(RelayUrl(url))
    }
}

impl FromStr for RelayUrl {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let url: iroh_base::RelayUrl = text.parse().map_err(|_| AddressError::Unreadable)?;
        url.try_into()
    }
}

impl fmt::Display for RelayUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An address as bytes. The number of the variant is the first of them.
#[derive(Serialize, Deserialize)]
enum Form {
    V4(SocketAddrV4),
    V6(SocketAddrV6),
    Relay(RelayUrl),
}

/// As text where people read it, otherwise as bytes.
impl Serialize for Address {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if serializer.is_human_readable() {
            return serializer.collect_str(self);
        }
        let form = match self {
            Address::Ip(SocketAddr::V4(socket)) => Form::V4(*socket),
            Address::Ip(SocketAddr::V6(socket)) => Form::V6(*socket),
            Address::Relay(url) => Form::Relay(url.clone()),
        };
        form.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Address {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return String::deserialize(deserializer)?.parse().map_err(D::Error::custom);
        }
        Ok(match Form::deserialize(deserializer)? {
            Form::V4(socket) => Address::Ip(socket.into()),
            Form::V6(socket) => Address::Ip(socket.into()),
            Form::Relay(url) => Address::Relay(url),
        })
    }
}

impl Serialize for RelayUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for RelayUrl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_str(OneForm)
    }
}

/// Sees the text where it stands, so that one that is too long is never copied.
struct OneForm;

impl Visitor<'_> for OneForm {
    type Value = RelayUrl;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the URL of a relay")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<RelayUrl, E> {
        RelayUrl::from_one_form(text).map_err(E::custom)
    }
}
