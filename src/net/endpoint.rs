//! The iroh endpoint: one UDP socket, or one a protocol family, for everything between nodes.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use iroh::RelayMode;
use iroh::endpoint::presets::Minimal;
use tokio::time::timeout;

use super::key::NodeKey;

/// How long closing may take: iroh waits for peers that may be gone.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// How far a node reaches out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Reach {
    /// This machine only: 127.0.0.1.
    Loopback,
    /// Every interface of the machine.
    #[default]
    Lan,
    /// Beyond the local network.
    Internet,
}

impl FromStr for Reach {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "loopback" => Ok(Reach::Loopback),
            "lan" => Ok(Reach::Lan),
            "internet" => Ok(Reach::Internet),
            _ => Err("reach is one of: loopback, lan, internet".into()),
        }
    }
}

impl fmt::Display for Reach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Reach::Loopback => "loopback",
            Reach::Lan => "lan",
            Reach::Internet => "internet",
        })
    }
}

/// The node's place on the network.
#[derive(Clone, Debug)]
pub struct Endpoint {
    inner: iroh::Endpoint,
}

impl Endpoint {
    /// Binds where `listen` says, or where the reach allows on a free port. Accepts no protocol,
    /// so every connection is turned away in its handshake; sends nothing by itself.
    pub async fn bind(
        key: &NodeKey,
        reach: Reach,
        listen: Option<SocketAddr>,
    ) -> Result<Self, String> {
        let addresses: Vec<SocketAddr> = match (listen, reach) {
            (Some(address), Reach::Loopback) if !address.ip().is_loopback() => {
                return Err(format!(
                    "the address {address} is not on this machine's loopback; choose 127.0.0.1 or \
                     a wider reach"
                ));
            }
            (Some(address), _) => vec![address],
            (None, Reach::Loopback) => vec![(Ipv4Addr::LOCALHOST, 0).into()],
            (None, Reach::Lan | Reach::Internet) => {
                vec![(Ipv4Addr::UNSPECIFIED, 0).into(), (Ipv6Addr::UNSPECIFIED, 0).into()]
            }
        };
        let mut builder = iroh::Endpoint::builder(Minimal)
            .relay_mode(RelayMode::Disabled)
            .secret_key(key.secret().clone())
            .clear_ip_transports();
        for address in &addresses {
            builder = builder
                .bind_addr(*address)
                .map_err(|error| format!("the address {address} can't be used: {error}"))?;
        }
        let inner = builder.bind().await.map_err(|error| {
            let addresses: Vec<String> = addresses.iter().map(SocketAddr::to_string).collect();
            format!("can't listen on {}: {error}", addresses.join(" and "))
        })?;
        Ok(Endpoint { inner })
    }

    /// Where it listens.
    pub fn listen(&self) -> Vec<SocketAddr> {
        self.inner.bound_sockets()
    }

    /// Closes it, not waiting long for peers.
    pub async fn close(&self) {
        if timeout(CLOSE_MAX, self.inner.close()).await.is_err() {
            tracing::debug!("the endpoint did not close in time and was dropped");
        }
    }
}
