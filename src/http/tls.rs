//! TLS at the door: a certificate and its key, from two files that may be exchanged while the node
//! runs.
//!
//! What is wrong with them is said in one sentence that names the file: at the start, which it
//! fails; later in the log and in the node's health, while the pair that was good goes on. No files
//! are exchanged at one moment, so a bad pair is only that when it is there at two looks. Whose a
//! certificate is, and whether it is good for today, is for clients to see; who they are themselves
//! is not asked.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustls::crypto::ring;
use rustls::pki_types::pem::{Error as PemError, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{Error, InconsistentKeys, ServerConfig};
use tokio::time::sleep;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;

use super::listen::Stream;
use crate::actors::HealthBoard;
use crate::health::Part;
use crate::limits::{HTTP_TLS_FILE_BYTES_MAX, HTTP_TLS_LOOK};
use crate::seams::{blocking, read_named, reason};

/// What the pair of files is called in the node's health.
const PART: &str = "http certificate";

/// What is spoken within, the better first.
const PROTOCOLS: [&[u8]; 2] = [b"h2", b"http/1.1"];

/// Where the door's certificate is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

/// The certificate of a door, as it is at the moment.
pub(super) struct Tls {
    files: Files,
    now: Mutex<Pair>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.files.fmt(f)
    }
}

/// What two files held, and what is made of it.
#[derive(Clone)]
struct Pair {
    hash: blake3::Hash,
    config: Arc<ServerConfig>,
}

/// What was found at a look.
enum Look {
    Same,
    Good(Pair),
    /// What is wrong, in a sentence.
    Bad(String),
}

impl Tls {
    /// Reads the two files, in PEM.
    pub(super) fn of(certificate: &Path, key: &Path) -> Result<Self, String> {
        let files = Files { certificate: certificate.to_owned(), key: key.to_owned() };
        match files.look(None) {
            Look::Good(pair) => Ok(Tls { files, now: Mutex::new(pair) }),
            Look::Bad(why) => Err(why),
            Look::Same => unreachable!("nothing was seen before"),
        }
    }

    /// Greets a client; how long it may take is for the caller to say.
    pub(super) async fn greet(&self, stream: Stream) -> std::io::Result<TlsStream<Stream>> {
        let config = self.now().config.clone();
        TlsAcceptor::from(config).accept(stream).await
    }

    fn now(&self) -> Pair {
        self.now.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Looks now and then whether there is another pair, until the door closes.
    pub(super) async fn follow(self: Arc<Self>, board: HealthBoard, closing: CancellationToken) {
        board.say(Part::healthy(PART));
        let mut bad_before = None;
        while closing.run_until_cancelled(sleep(HTTP_TLS_LOOK)).await.is_some() {
            let tls = self.clone();
            match blocking(move || tls.files.look(Some(tls.now().hash))).await {
                Look::Same => {
                    board.say(Part::healthy(PART));
                    bad_before = None;
                }
                Look::Good(pair) => {
                    *self.now.lock().unwrap_or_else(PoisonError::into_inner) = pair;
                    tracing::info!(
                        certificate = %self.files.certificate.display(),
                        "another certificate is shown to HTTP clients from now on"
                    );
                    board.say(Part::healthy(PART));
                    bad_before = None;
                }
                Look::Bad(why) => {
                    // Said once, and only of what stays so.
                    if bad_before.as_ref() == Some(&why) {
                        let reason = format!("{why}; the certificate before it is shown");
                        let part = Part::degraded(PART, reason);
                        let is_news = !board.reports().borrow().parts.contains(&part);
                        if is_news {
                            tracing::warn!(
                                reason = part.reason,
                                "the certificate is not exchanged"
                            );
                        }
                        board.say(part);
                    }
                    bad_before = Some(why);
                }
            }
        }
    }
}

impl Files {
    fn look(&self, before: Option<blake3::Hash>) -> Look {
        let read = |path: &Path| {
            read_named(path, HTTP_TLS_FILE_BYTES_MAX)
                .map_err(|error| format!("{} can't be read: {}", path.display(), reason(&error)))
        };
        let (certificate, key) = match (read(&self.certificate), read(&self.key)) {
            (Ok(certificate), Ok(key)) => (certificate, key),
            (Err(why), _) | (_, Err(why)) => return Look::Bad(why),
        };
        let parts = [*blake3::hash(&certificate).as_bytes(), *blake3::hash(&key).as_bytes()];
        let hash = blake3::hash(parts.as_flattened());
        if before == Some(hash) {
            return Look::Same;
        }
        match self.config(&certificate, &key) {
            Ok(config) => Look::Good(Pair { hash, config }),
            Err(why) => Look::Bad(why),
        }
    }

    fn config(&self, certificate: &[u8], key: &[u8]) -> Result<Arc<ServerConfig>, String> {
        let (of, key_of) = (self.certificate.display(), self.key.display());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{of} is not PEM: {error}"))?;
        if chain.is_empty() {
            return Err(format!("{of} has no certificate in PEM"));
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| match error {
            PemError::NoItemsFound => format!(
                "{key_of} has no private key in PEM, or one that is encrypted; give it as it is"
            ),
            error => format!("{key_of} is not PEM: {error}"),
        })?;
        let builder = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_no_client_auth();
        let mut config = builder.with_single_cert(chain, key).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                format!("{key_of} is not the key of the certificate in {of}")
            }
            Error::InvalidCertificate(error) => {
                format!("the certificate in {of} can't be used: {error}")
            }
            error => format!("the key in {key_of} can't be used: {error}"),
        })?;
        config.alpn_protocols = PROTOCOLS.map(<[u8]>::to_vec).to_vec();
        Ok(Arc::new(config))
    }
}
