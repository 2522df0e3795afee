//! Where a door is: at an address of the network, or at a path of this machine.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;

/// What a path of a socket begins with, in text.
const UNIX: &str = "unix:";

/// Where a door is to be, or is. As text it is an address and port, or `unix:` and a path:
///
/// ```
/// use aspen::DoorAddress;
///
/// let over_tcp: DoorAddress = "127.0.0.1:4680".parse()?;
/// let on_this_machine: DoorAddress = "unix:/run/aspen.sock".parse()?;
/// # Ok::<_, aspen::node::AddressError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum DoorAddress {
    /// Over TCP; port 0 takes a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A text is no address of a door.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("use an address and port such as 127.0.0.1:4680, or unix: and a path")]
pub struct AddressError;

impl DoorAddress {
    /// The address, if it is over TCP.
    pub fn tcp(&self) -> Option<SocketAddr> {
        match self {
            DoorAddress::Tcp(address) => Some(*address),
            DoorAddress::Unix(_) => None,
        }
    }

    /// Whether it can be reached from beyond this machine.
    pub fn is_reached_by_others(&self) -> bool {
        self.tcp().is_some_and(|address| !address.ip().is_loopback())
    }
}

impl From<SocketAddr> for DoorAddress {
    fn from(address: SocketAddr) -> Self {
        DoorAddress::Tcp(address)
    }
}

impl FromStr for DoorAddress {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix(UNIX) {
            Some("") => Err(AddressError),
            Some(path) => Ok(DoorAddress::Unix(PathBuf::from(path))),
            None => text.parse().map(DoorAddress::Tcp).map_err(|_| AddressError),
        }
    }
}

impl fmt::Display for DoorAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DoorAddress::Tcp(address) => write!(f, "{address}"),
            DoorAddress::Unix(path) => write!(f, "{UNIX}{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for text in ["127.0.0.1:4680", "[::1]:0", "unix:/run/aspen.sock", "unix:here"] {
            assert_eq!(text.parse::<DoorAddress>().unwrap().to_string(), text);
        }
        for text in ["", "unix:", "/run/aspen.sock", "127.0.0.1", "localhost:4680"] {
            assert_eq!(text.parse::<DoorAddress>(), Err(AddressError), "{text}");
        }
    }
}
