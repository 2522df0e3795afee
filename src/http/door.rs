//! The HTTP door as the node knows it: an address that is taken once and served until the end.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, OnceLock};

use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::serve::serve;
use crate::node::{Door, DoorContext, KvService, KvServiceBuilder};

const NAME: &str = "http";

/// The HTTP door.
#[derive(Debug)]
pub struct HttpDoor {
    wanted: SocketAddr,
    /// Kept open for as long as the node runs, so that a restarted door has its address.
    listener: OnceLock<TcpListener>,
}

impl HttpDoor {
    /// A door at an address; port 0 takes a free one.
    pub fn new(address: SocketAddr) -> Self {
        HttpDoor { wanted: address, listener: OnceLock::new() }
    }

    fn listener(&self) -> io::Result<tokio::net::TcpListener> {
        let Some(listener) = self.listener.get() else {
            return Err(io::Error::new(io::ErrorKind::NotConnected, "the door is not open"));
        };
        tokio::net::TcpListener::from_std(listener.try_clone()?)
    }
}

impl Door for HttpDoor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn open(&self) -> Result<(), String> {
        let address = self.wanted;
        let listener = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok(listener)
        });
        match listener {
            Ok(listener) => self.listener.set(listener).map_err(|_| "it is open already".into()),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(format!(
                "the HTTP address {address} is taken; stop what listens there or choose another \
                 one with --http (port 0 takes a free one)"
            )),
            Err(error) => Err(format!("can't listen for HTTP on {address}: {error}")),
        }
    }

    fn address(&self) -> Option<SocketAddr> {
        self.listener.get()?.local_addr().ok()
    }

    fn serve(
        &self,
        context: DoorContext,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), String>> {
        match self.listener() {
            Ok(listener) => Box::pin(async move {
                serve(listener, context, stop.cancelled()).await;
                Ok(())
            }),
            Err(error) => Box::pin(async move { Err(error.to_string()) }),
        }
    }
}

impl KvServiceBuilder {
    /// Opens an HTTP door at an address; port 0 takes a free one, which [`KvService::http`] tells.
    pub fn with_http(self, address: SocketAddr) -> Self {
        self.with_door(Arc::new(HttpDoor::new(address)))
    }
}

impl KvService {
    /// Where the HTTP door is, if there is one.
    pub fn http(&self) -> Option<SocketAddr> {
        self.door(NAME)
    }
}
