//! How a node reaches beyond its LAN: relays where it can be met, and services where it is found by
//! its key.
//!
//! A relay passes on what is encrypted between the keys of two nodes, so that whoever runs one sees
//! who talks to whom and how much, and nothing else. That is why a relay of one's own may show a
//! certificate that nobody has signed: its URL then carries the certificate's hash, its *pin*, and
//! who knows the URL knows the relay.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::BASE32_NOPAD;
use iroh::tls::CaTlsConfig;
use iroh::{RelayConfig, RelayMap, RelayMode};
use iroh_relay::RelayQuicConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::limits::PINS_MAX;
use crate::types::Address;

/// Beyond the LAN, by what. The default is what works for everybody: iroh's public relays and its
/// public directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Internet {
    /// Where nodes meet that can't reach each other.
    pub relays: Relays,
    /// Never reached but by a relay: the node's addresses are told to nobody.
    pub relay_only: bool,
    /// Where the node is found by its key.
    pub directory: Directory,
    /// Whether the node is found, and finds others, in the mainline DHT, too.
    pub dht: Dht,
    /// Whether the router is asked to let others in.
    pub port_mapping: bool,
}

impl Default for Internet {
    fn default() -> Self {
        Internet {
            relays: Relays::default(),
            relay_only: false,
            directory: Directory::default(),
            dht: Dht::default(),
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
            relays: Relays::These(relays),
            directory: Directory::Off,
            port_mapping: false,
            ..Internet::default()
        })
    }
}

/// Which relays.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Relays {
    /// Those that the makers of iroh run for everybody.
    #[default]
    Public,
    /// None.
    Off,
    /// These; each an [`Address::Relay`].
    These(Vec<Address>),
}

/// Which directory of nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Directory {
    /// The one that the makers of iroh run for everybody, asked by DNS.
    #[default]
    Public,
    /// None.
    Off,
    /// The one at this URL, told and asked by HTTP as pkarr relays are.
    At(String),
}

/// Whether the mainline DHT is used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Dht {
    /// It is not.
    #[default]
    Off,
    /// It is, entered by the nodes that everybody enters it by.
    Public,
    /// It is, entered by these, each `host:port`.
    By(Vec<String>),
}

impl FromStr for Relays {
    type Err = String;

    /// `public`, `off`, or URLs with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            PUBLIC => Ok(Relays::Public),
            OFF => Ok(Relays::Off),
            urls => {
                let relay = |url: &str| Address::relay_at(url.trim()).map_err(|e| e.to_string());
                urls.split(',').map(relay).collect::<Result<_, _>>().map(Relays::These)
            }
        }
    }
}

impl fmt::Display for Relays {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Relays::Public => f.write_str(PUBLIC),
            Relays::Off => f.write_str(OFF),
            Relays::These(relays) => {
                let urls: Vec<String> = relays.iter().map(Address::to_string).collect();
                f.write_str(&urls.join(","))
            }
        }
    }
}

impl FromStr for Directory {
    type Err = String;

    /// `public`, `off`, or a URL.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            PUBLIC => Ok(Directory::Public),
            OFF => Ok(Directory::Off),
            url => match Address::relay_at(url) {
                Ok(_) => Ok(Directory::At(url.to_owned())),
                Err(error) => Err(error.to_string()),
            },
        }
    }
}

impl fmt::Display for Directory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Directory::Public => PUBLIC,
            Directory::Off => OFF,
            Directory::At(url) => url,
        })
    }
}

impl FromStr for Dht {
    type Err = String;

    /// `public`, `off`, or nodes with commas between them.
    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            PUBLIC => Ok(Dht::Public),
            OFF => Ok(Dht::Off),
            nodes => {
                let nodes: Vec<String> = nodes.split(',').map(|n| n.trim().to_owned()).collect();
                let is_node = |node: &String| {
                    let port = node.rsplit_once(':').map(|(host, port)| (host, port.parse()));
                    matches!(port, Some((host, Ok(1..=u16::MAX))) if !host.is_empty())
                };
                match nodes.iter().all(is_node) {
                    true => Ok(Dht::By(nodes)),
                    false => Err("a node of the DHT is host:port".to_owned()),
                }
            }
        }
    }
}

impl fmt::Display for Dht {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Dht::Public => f.write_str(PUBLIC),
            Dht::Off => f.write_str(OFF),
            Dht::By(nodes) => f.write_str(&nodes.join(",")),
        }
    }
}

/// How the choices of everybody and of nobody are written.
const PUBLIC: &str = "public";
const OFF: &str = "off";

impl Relays {
    /// Those that the user has named.
    pub(super) fn named(&self) -> Vec<Address> {
        match self {
            Relays::These(relays) => relays.clone(),
            Relays::Public | Relays::Off => Vec::new(),
        }
    }

    pub(super) fn mode(&self) -> RelayMode {
        match self {
            Relays::Public => RelayMode::Default,
            Relays::Off => RelayMode::Disabled,
            Relays::These(relays) => {
                let urls = relays.iter().filter_map(|relay| match relay {
                    Address::Relay(url) => Some(url.as_iroh().clone()),
                    Address::Ip(_) => None,
                });
                RelayMode::Custom(urls.map(described).collect::<RelayMap>())
            }
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

type Pin = [u8; 32];

/// The pin in a relay's URL.
fn pin_of(url: &str) -> Option<Pin> {
    let (_, pin) = url.rsplit_once('#')?;
    let bytes = BASE32_NOPAD.decode(pin.to_ascii_uppercase().as_bytes()).ok()?;
    bytes.try_into().ok()
}

/// The certificates that relays may show although nobody has signed them; clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Pins(Arc<Mutex<BTreeSet<Pin>>>);

impl Pins {
    /// Takes the pins of relays over, as many as are kept.
    pub(super) fn note<'a>(&self, addresses: impl IntoIterator<Item = &'a Address>) {
        let pins = addresses.into_iter().filter_map(|address| pin_of(address.relay()?));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for pin in pins {
            if known.len() < PINS_MAX {
                known.insert(pin);
            }
        }
    }

    fn has(&self, certificate: &CertificateDer<'_>) -> bool {
        let pin = blake3::hash(certificate);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(pin.as_bytes())
    }

    /// Trusts what everybody trusts, and pinned certificates.
    pub(super) fn trust(&self) -> CaTlsConfig {
        let pins = self.clone();
        CaTlsConfig::custom_server_cert_verifier(Arc::new(move |provider| {
            let roots = CaTlsConfig::embedded().server_cert_verifier(provider.clone())?;
            Ok(Arc::new(Pinned { pins: pins.clone(), roots, provider }))
        }))
    }
}

#[derive(Debug)]
struct Pinned {
    pins: Pins,
    roots: Arc<dyn ServerCertVerifier>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        match self.pins.has(certificate) {
            true => Ok(ServerCertVerified::assertion()),
            false => self.roots.verify_server_cert(certificate, between, name, ocsp, now),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, known)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let known = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, known)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
