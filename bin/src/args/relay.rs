//! The arguments of `relay`.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use aspen_tickets::{Address, AddressError};
use clap::Args;
use rustls::pki_types::ServerName;

use super::MisplacedSettings;

/// What stands in a URL for a pin when only the rest of it is looked at.
const ANY_PIN: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Arguments of `relay`.
///
/// They are no settings: `ASPEN_LISTEN` and the like mean a node, which may well run beside it.
#[derive(Debug, Args)]
pub(crate) struct RelayArgs {
    // The port is the one that iroh's own relay takes when tried out: it needs no privileges, and
    // leaves 443 to a web server.
    /// Where to listen, for TCP and UDP alike; port 0 is any that is free.
    #[arg(
        long,
        value_name = "ADDR:PORT",
        default_value = "0.0.0.0:3340",
        value_parser = socket
    )]
    pub(crate) listen: SocketAddr,
    /// How others reach this machine; without a port, by the one that is listened on.
    #[arg(long, value_name = "HOST[:PORT]")]
    pub(crate) public: Option<Public>,
    /// Where the relay keeps its key and certificate.
    #[arg(long, value_name = "DIR", default_value = "./relay")]
    pub(crate) data_dir: PathBuf,
    #[command(flatten)]
    pub(crate) misplaced: MisplacedSettings,
}

fn socket(text: &str) -> Result<SocketAddr, String> {
    text.parse().map_err(|_| "use an address and a port, such as 0.0.0.0:3340".to_owned())
}

/// Where others reach a relay: a host that iroh can dial, and a port if it is not the relay's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Public {
    host: String,
    port: Option<u16>,
}

impl Public {
    /// The address that is listened on, if it is one that others can be told.
    pub(crate) fn of(listen: SocketAddr) -> Option<Self> {
        let told = listen.is_ipv4() && !listen.ip().is_unspecified();
        told.then(|| Public { host: listen.ip().to_string(), port: None })
    }

    /// The one URL that nodes need, in iroh's own form, which is the same however often it is read
    /// and written.
    pub(crate) fn url(&self, port: u16, pin: &str) -> Result<String, AddressError> {
        let Public { host, port: given } = self;
        let port = given.unwrap_or(port);
        let text = format!("https://{host}:{port}/#{pin}");
        let Address::Relay(url) = Address::relay_at(&text)? else {
            return Err(AddressError::Unreadable);
        };
        // A host of which a part was read as something else is none; nor is what iroh's client
        // can't ask for in TLS.
        let parts = url.as_iroh();
        let whole = parts.host_str().is_some_and(|host| ServerName::try_from(host).is_ok())
            && parts.path() == "/"
            && parts.query().is_none()
            && parts.fragment() == Some(pin)
            && parts.username().is_empty()
            && parts.password().is_none()
            && parts.port_or_known_default() == Some(port);
        if whole { Ok(url.to_string()) } else { Err(AddressError::Unreadable) }
    }
}

impl FromStr for Public {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let form = || "use a name or an IPv4 address, such as relay.example or 203.0.113.5:3340";
        let (host, port) = match text.split_once(':') {
            // iroh's client takes the brackets for a part of the name that TLS is to show.
            Some((_, more)) if text.starts_with('[') || more.contains(':') => {
                return Err("iroh can't dial a relay by an IPv6 address; use a name for it".into());
            }
            Some((host, port)) => (host, Some(port.parse().map_err(|_| form())?)),
            None => (text, None),
        };
        let public = Public { host: host.to_owned(), port };
        // The longest port there is, so that what is taken here stays good with any.
        let url = public.url(u16::MAX, ANY_PIN).map_err(|error| match error {
            AddressError::TooLong => error.to_string(),
            _ => form().to_owned(),
        })?;
        let nobody = format!("https://{}:", Ipv4Addr::UNSPECIFIED);
        let is_dialled = port != Some(0) && !url.starts_with(&nobody);
        is_dialled.then_some(public).ok_or_else(|| form().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn url(public: &str) -> String {
        let public: Public = public.parse().expect("a host");
        public.url(3340, ANY_PIN).expect("a URL")
    }

    #[test]
    fn a_host_becomes_a_url_in_one_form() {
        let told = [
            ("relay.example", "https://relay.example:3340/#"),
            ("Relay.Example.:8443", "https://relay.example.:8443/#"),
            ("203.0.113.5", "https://203.0.113.5:3340/#"),
            ("localhost:443", "https://localhost/#"),
        ];
        for (public, expected) in told {
            let url = url(public);
            assert_eq!(url, format!("{expected}{ANY_PIN}"));
            assert_eq!(Address::relay_at(&url).expect("a URL").relay(), Some(url.as_str()));
        }
    }

    #[test]
    fn what_is_no_host_is_refused() {
        let long = "a.".repeat(100);
        let refused =
            ["", ":1", "a:", "a:0", "a:65536", "a/b", "a?b", "a#b", "b@a", "a b", "0.0.0.0", "0"];
        for text in refused.into_iter().chain(["::1", "[::1]", "[::1]:3340", "::", &long]) {
            assert!(text.parse::<Public>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_address_that_is_listened_on_may_be_the_one_to_tell() {
        let of = |text: &str| Public::of(text.parse().expect("an address"));
        let told = of("127.0.0.1:0").expect("a host").url(4680, ANY_PIN);
        assert_eq!(told, Ok(format!("https://127.0.0.1:4680/#{ANY_PIN}")));
        assert_eq!([of("0.0.0.0:3340"), of("[::]:3340"), of("[::1]:3340")], [None, None, None]);
    }
}
