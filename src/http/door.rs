//! The HTTP door as the node knows it: an address that is taken once and served until the end.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::counts::HttpCounts;
use super::serve::serve;
use crate::node::{Door, DoorContext, KvService, KvServiceBuilder};

const NAME: &str = "http";

/// The HTTP door.
#[derive(Debug)]
pub struct HttpDoor {
    wanted: SocketAddr,
    taken: OnceLock<SocketAddr>,
    listener: Arc<Held>,
    counts: Arc<HttpCounts>,
}

/// The listening socket, kept from a failure to the next run so that the door has its address
/// again; closed once the door is told to stop, so that nobody waits for an answer any more.
#[derive(Debug, Default)]
struct Held(Mutex<Option<TcpListener>>);

impl Held {
    fn set(&self, listener: Option<TcpListener>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = listener;
    }

    fn share(&self) -> Result<TcpListener, String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(listener) => listener.try_clone().map_err(|error| error.to_string()),
            None => Err("the door is not open".into()),
        }
    }
}

impl HttpDoor {
    /// A door at an address; port 0 takes a free one.
    pub fn new(address: SocketAddr) -> Self {
        HttpDoor {
            wanted: address,
            taken: OnceLock::new(),
            listener: Arc::default(),
            counts: Arc::default(),
        }
    }
}

impl Door for HttpDoor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn open(&self) -> Result<(), String> {
        let address = self.wanted;
        let bound = TcpListener::bind(address).and_then(|listener| {
            listener.set_nonblocking(true)?;
            Ok((listener.local_addr()?, listener))
        });
        let (taken, listener) = bound.map_err(|error| match error.kind() {
            std::io::ErrorKind::AddrInUse => format!(
                "the HTTP address {address} is taken; stop what listens there or choose another \
                 one with --http (port 0 takes a free one)"
            ),
            _ => format!("can't listen for HTTP on {address}: {error}"),
        })?;
        self.taken.set(taken).map_err(|_| "the HTTP door is open already".to_owned())?;
        self.listener.set(Some(listener));
        Ok(())
    }

    fn address(&self) -> Option<SocketAddr> {
        self.taken.get().copied()
    }

    fn serve(
        &self,
        context: DoorContext,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), String>> {
        let (held, counts) = (self.listener.clone(), self.counts.clone());
        async move {
            let listener = tokio::net::TcpListener::from_std(held.share()?)
                .map_err(|error| error.to_string())?;
            let stopped = stop.cancelled_owned().inspect(|()| held.set(None));
            serve(listener, context, counts, stopped).await;
            Ok(())
        }
        .boxed()
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
