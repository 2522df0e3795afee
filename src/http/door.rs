//! The HTTP door as the node knows it: an address that is taken once and served until the end.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio_util::sync::CancellationToken;

use super::auth::Auth;
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
    auth: Auth,
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
            auth: Auth::default(),
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

    /// The same, which asks for tokens or does not. One that does takes besides the cluster's the
    /// token of the node's owner ([`Cluster::owner_token`](crate::node::Cluster::owner_token)).
    pub fn with_auth(self, auth: Auth) -> Self {
        HttpDoor { auth, ..self }
    }

    /// Refuses to let everybody in from beyond this machine, unless that is meant.
    fn check(&self) -> Result<(), String> {
        match self.auth {
            Auth::Off if self.wanted.is_reached_by_others() => Err(format!(
                "HTTP at {} would ask nobody who they are, and others reach it: ask for tokens with \
                 Auth::Required, or let everybody in with Auth::Insecure",
                self.wanted
            )),
            _ => Ok(()),
        }
    }

    /// Says what goes beyond this machine and had better not.
    fn warn(&self) {
        let taken = self.taken.get().filter(|taken| taken.is_reached_by_others());
        let Some(address) = taken else { return };
        match self.auth {
            Auth::Off | Auth::Insecure => tracing::warn!(
                %address, "HTTP asks nobody who they are: whoever reaches it may do everything"
            ),
            Auth::Required if self.files.is_none() => tracing::warn!(
                %address,
                "tokens go over the network as they are: give --http-tls-cert and --http-tls-key"
            ),
            Auth::Required => {}
        }
    }
}

impl Door for HttpDoor {
    fn name(&self) -> &'static str {
        NAME
    }

    fn open(&self) -> Result<(), String> {
        self.check()?;
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
            auth: self.auth,
            owner: None,
        };
        self.limits.log();
        self.warn();
        async move {
            let listener = held.share()?;
            let way = match way.auth {
                Auth::Off | Auth::Insecure => way,
                Auth::Required => {
                    let owner = context.cluster.owner_token().await;
                    let owner = owner.map_err(|error| format!("the owner's token: {error}"))?;
                    Way { owner: Some(owner), ..way }
                }
            };
            let stopped = stop.cancelled_owned().inspect(|()| held.set(None));
            serve(listener, context, way, stopped).await;
            Ok(())
        }
        .boxed()
    }
}

impl KvServiceBuilder {
    /// Opens an HTTP door at an address; port 0 takes a free one, which [`KvService::http`] tells. It
    /// asks for no token, so the address is one of this machine only; others need
    /// [`HttpDoor::with_auth`].
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
