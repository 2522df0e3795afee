//! How a node reaches beyond its LAN: relays where it can be met, and services where it is found by
//! its key.
//!
//! A relay passes on what is encrypted between the keys of two nodes, so that whoever runs one sees
//! who talks to whom and how much, and nothing else.

use std::fmt;
use std::str::FromStr;

use iroh::{RelayConfig, RelayMap, RelayMode};
use iroh_relay::RelayQuicConfig;

use super::pins::pin_of;
use crate::types::Address;

/// Beyond the LAN, by what. The default is what works for everybody: iroh's public relays and its
/// public directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Internet {
    /// Where nodes meet that can't reach each other.
    pub relays: Choice<Relays>,
    /// Never reached but by a relay: the node's addresses are told to nobody.
    pub relay_only: bool,
    /// Where the node is found by its key.
    pub directory: Choice<Directory>,
    /// By which nodes the mainline DHT is entered, where it is found and finds others, too.
    pub dht: Choice<Entrances>,
    /// Whether the router is asked to let others in.
    pub port_mapping: bool,
}

impl Default for Internet {
    fn default() -> Self {
        Internet {
            relays: Choice::Public,
            relay_only: false,
            directory: Choice::Public,
            dht: Choice::Off,
            port_mapping: true,
        }
    }
}

impl Internet {
    /// By these relays and nothing else, as a program does that only visits; `None` if there are
    /// none.
    pub fn to_visit<'a>(addresses: impl IntoIterator<Item = &'a Address>) -> Option<Self> {
        let relays = addresses.into_iter().filter(|address| address.relay().is_some());
        let relays: Vec<Address> = relays.cloned().collect();
        (!relays.is_empty()).then(|| Internet {
            relays: Choice::Own(Relays(relays)),
            directory: Choice::Off,
            port_mapping: false,
            ..Internet::default()
        })
    }
}

/// What everybody uses, nothing, or one's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice<T> {
    /// What is there for everybody: iroh's makers run relays and a directory, and the DHT is there by
    /// itself.
    Public,
    /// Nothing.
    Off,
    /// One's own.
    Own(T),
}

impl<T> Choice<T> {
    /// One's own, if that is the choice.
    pub fn own(&self) -> Option<&T> {
        match self {
            Choice::Own(own) => Some(own),
            Choice::Public | Choice::Off => None,
        }
    }
}

const PUBLIC: &str = "public";
const OFF: &str = "off";

impl<T: FromStr> FromStr for Choice<T> {
    type Err = T::Err;

    /// `public`, `off`, or what one's own is.
    fn from_str(text: &str) -> Result<Self, T::Err> {
        match text {
            PUBLIC => Ok(Choice::Public),
            OFF => Ok(Choice::Off),
            own => own.parse().map(Choice::Own),
        }
    }
}

impl<T: fmt::Display> fmt::Display for Choice<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Choice::Public => f.write_str(PUBLIC),
            Choice::Off => f.write_str(OFF),
            Choice::Own(own) => own.fmt(f),
        }
    }
}

/// Relays, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Relays(Vec<Address>);

impl FromStr for Relays {
    type Err = String;

    /// URLs with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let relay = |url: &str| Address::relay_at(url.trim()).map_err(|error| error.to_string());
        text.split(',').map(relay).collect::<Result<_, _>>().map(Relays)
    }
}

impl fmt::Display for Relays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<String> = self.0.iter().map(Address::to_string).collect();
        f.write_str(&urls.join(","))
    }
}

impl Relays {
    /// Where they are; each an [`Address::Relay`].
    pub fn addresses(&self) -> &[Address] {
        &self.0
    }
}

/// A directory of nodes, told and asked by HTTP as pkarr relays are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Directory(iroh::RelayUrl);

impl FromStr for Directory {
    type Err = String;

    /// Its URL.
    fn from_str(text: &str) -> Result<Self, String> {
        // What a URL of a server is, is the same for both.
        match Address::relay_at(text).map_err(|error| error.to_string())? {
            Address::Relay(url) => Ok(Directory(url.as_iroh().clone())),
            Address::Ip(_) => Err("a directory is at a URL".to_owned()),
        }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Directory {
    pub(super) fn url(&self) -> &iroh::RelayUrl {
        &self.0
    }
}

/// Nodes of a DHT by which it is entered, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entrances(Vec<String>);

impl FromStr for Entrances {
    type Err = String;

    /// Each `host:port`, with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        let nodes: Vec<String> = text.split(',').map(|node| node.trim().to_owned()).collect();
        let is_node = |node: &String| {
            let parts = node.rsplit_once(':').map(|(host, port)| (host, port.parse()));
            matches!(parts, Some((host, Ok(1..=u16::MAX))) if !host.is_empty())
        };
        match nodes.iter().all(is_node) {
            true => Ok(Entrances(nodes)),
            false => Err("a node of the DHT is host:port".to_owned()),
        }
    }
}

impl fmt::Display for Entrances {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join(","))
    }
}

impl Entrances {
    pub(super) fn nodes(&self) -> &[String] {
        &self.0
    }
}

/// The relays of a choice, as iroh takes them.
pub(super) fn relay_mode(relays: &Choice<Relays>) -> RelayMode {
    match relays {
        Choice::Public => RelayMode::Default,
        Choice::Off => RelayMode::Disabled,
        Choice::Own(Relays(relays)) => {
            let urls = relays.iter().filter_map(|relay| match relay {
                Address::Relay(url) => Some(url.as_iroh().clone()),
                Address::Ip(_) => None,
            });
            RelayMode::Custom(urls.map(described).collect::<RelayMap>())
        }
    }
}

/// A relay of ours tells addresses on the port where it relays; others where iroh's do.
fn described(url: iroh::RelayUrl) -> RelayConfig {
    let quic = match (pin_of(url.as_str()), url.port_or_known_default()) {
        (Some(_), Some(port)) => Some(RelayQuicConfig::new(port)),
        _ if url.scheme() == "http" => None,
        _ => Some(RelayQuicConfig::default()),
    };
    RelayConfig::new(url, quic)
}
