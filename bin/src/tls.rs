//! TLS of the command as a client: a node shows a certificate that a named file vouches for.
//!
//! The file, in PEM, has the certificates of those who sign, or the node's own. The latter is taken
//! also where it says that it may sign others, which the usual checks refuse: that is what
//! `openssl req -x509` makes. The node's name must be in its certificate either way.

use std::io;
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_name;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::input::{self, reason};

/// Largest file of certificates that is read: far above any real one.
const FILE_BYTES_MAX: usize = 1024 * 1024;

/// Whom to believe.
#[derive(Clone)]
pub(crate) struct Trust(Arc<ClientConfig>);

impl std::fmt::Debug for Trust {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trust")
    }
}

impl Trust {
    /// Believes those whose certificates are in a file.
    pub(crate) fn in_file(path: &Path) -> Result<Self, String> {
        let shown = path.display();
        let pem = input::read_file(path, FILE_BYTES_MAX)?;
        let known: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&pem)
            .collect::<Result<_, _>>()
            .map_err(|error| format!("{shown} is not PEM: {error}"))?;
        if known.is_empty() {
            return Err(format!("{shown} has no certificate in PEM"));
        }
        let bad = |error: &dyn std::fmt::Display| {
            format!("the certificates in {shown} can't be used: {error}")
        };
        let mut roots = RootCertStore::empty();
        for certificate in &known {
            roots.add(certificate.clone()).map_err(|error| bad(&error))?;
        }
        let provider = Arc::new(ring::default_provider());
        let signed = WebPkiServerVerifier::builder_with_provider(roots.into(), provider.clone())
            .build()
            .map_err(|error| bad(&error))?;
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| bad(&error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Known { known, signed }))
            .with_no_client_auth();
        Ok(Trust(Arc::new(config)))
    }

    /// Greets whoever is at the other end, as this host.
    pub(crate) async fn greet(
        &self,
        stream: TcpStream,
        host: &str,
    ) -> io::Result<TlsStream<TcpStream>> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        TlsConnector::from(self.0.clone()).connect(name, stream).await
    }
}

/// Why there was no TLS with a node and what to do, as the end of a sentence.
pub(crate) fn told(error: &io::Error) -> String {
    let by_tls = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
    let why = match by_tls {
        Some(Error::InvalidCertificate(wrong)) => match wrong {
            // What has the name of one in the file and is not of it, has a wrong signature.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                "its certificate is signed by nobody in the file of --ca; name the file of whoever \
                 vouches for it"
            }
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another name; use a URL with the name that it is for"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
                "its certificate has expired; give the node a new one"
            }
            _ => return format!("its certificate is not accepted ({error})"),
        },
        Some(Error::InvalidMessage(_)) => {
            "it does not speak TLS; if it serves plain HTTP, name it with http://"
        }
        _ => return format!("{}; try again", reason(error)),
    };
    why.to_owned()
}

/// Certificates that are believed as they are, or signed by one of them.
#[derive(Debug)]
struct Known {
    known: Vec<CertificateDer<'static>>,
    signed: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for Known {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        if self.known.contains(end_entity) {
            let parsed = ParsedCertificate::try_from(end_entity)?;
            verify_server_name(&parsed, server_name)?;
            return Ok(ServerCertVerified::assertion());
        }
        self.signed.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.signed.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.signed.supported_verify_schemes()
    }
}
