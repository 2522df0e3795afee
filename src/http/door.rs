//! The HTTP door as the node knows it: an address that is taken once and served until the end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::cors::Origins;
use super::counts::HttpCounts;
use super::gate::DoorLimits;
use super::listen::{Listener, Taken};
use super::serve::{Way, serve};
use super::tls::Tls;
use crate::node::{Door, DoorAddress, DoorContext, KvService, KvServiceBuilder};

const NAME: &str = "http";

/// The HTTP door.
#[derive(Debug)]
pub struct HttpDoor {
    wanted: DoorAddress,
    /// Where the certificate and its key are, if there is to be TLS.
    files: Option<(PathBuf, PathBuf)>,
    origins: Origins,
    taken: OnceLock<DoorAddress>,
    listener: Arc<Held>,
    counts: Arc<HttpCounts>,
    tls: OnceLock<Arc<Tls>>,
    limits: DoorLimits,
}

/// The listening socket, kept from a failure to the next run so that the door has its address
/// again; closed once the door is told to stop, so that nobody waits for an answer any more, and a
/// socket's file is gone then.
#[derive(Debug, Default)]
struct Held(Mutex<Option<Taken>>);

impl Held {
    fn set(&self, taken: Option<Taken>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = taken;
    }

    fn share(&self) -> Result<Listener, String> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(taken) => taken.listener().map_err(|error| error.to_string()),
            None => Err("the door is not open".into()),
        }
    }
}

impl HttpDoor {
    /// A door at an address; port 0 takes a free one.
    pub fn new(address: DoorAddress) -> Self {
        HttpDoor {
            wanted: address,
            files: None,
            origins: Origins::default(),
            taken: OnceLock::new(),
            listener: Arc::default(),
            counts: Arc::default(),
            tls: OnceLock::new(),
            limits: DoorLimits::default(),
        }
    }

    /// The same with TLS: with a certificate, followed by those that vouch for it, and its key, in
    /// PEM. The files may be exchanged while the node runs, which is noticed after some seconds.
    pub fn with_tls(self, certificate: impl Into<PathBuf>, key: impl Into<PathBuf>) -> Self {
        HttpDoor { files: Some((certificate.into(), key.into())), ..self }
    }

    /// The same for pages of these origins too, in browsers; without it for those of none.
    pub fn with_origins(self, origins: Origins) -> Self {
        HttpDoor { origins, ..self }
    }

    /// The same, which lets in so much.
    pub fn with_limits(self, limits: DoorLimits) -> Self {
        HttpDoor { limits, ..self }
    }
}

impl Door for HttpDoor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn open(&self) -> Result<(), String> {
        if let Some((certificate, key)) = &self.files {
            let tls = Tls::of(certificate, key)?;
            self.tls.set(Arc::new(tls)).map_err(|_| "the HTTP door is open already".to_owned())?;
        }
        let (listener, taken) = Taken::at(&self.wanted)?;
        self.taken.set(taken).map_err(|_| "the HTTP door is open already".to_owned())?;
        self.listener.set(Some(listener));
        Ok(())
    }

    fn address(&self) -> Option<DoorAddress> {
        self.taken.get().cloned()
    }

    fn serve(
        &self,
        context: DoorContext,
        stop: CancellationToken,
    ) -> BoxFuture<'static, Result<(), String>> {
        let held = self.listener.clone();
        let way = Way {
            counts: self.counts.clone(),
            tls: self.tls.get().cloned(),
            origins: self.origins.clone(),
            limits: self.limits,
        };
        self.limits.log();
        async move {
            let listener = held.share()?;
            let stopped = stop.cancelled_owned().inspect(|()| held.set(None));
            serve(listener, context, way, stopped).await;
            Ok(())
        }
        .boxed()
    }
}

impl KvServiceBuilder {
    /// Opens an HTTP door at an address; port 0 takes a free one, which [`KvService::http`] tells.
    ///
    /// A Unix socket is its owner's alone, is taken over from a node that is no more, and is removed
    /// when the node stops.
    pub fn with_http(self, address: DoorAddress) -> Self {
        self.with_door(Arc::new(HttpDoor::new(address)))
    }
}

impl KvService {
    /// Where the HTTP door is, if there is one.
    pub fn http(&self) -> Option<DoorAddress> {
        self.door(NAME)
    }
}
