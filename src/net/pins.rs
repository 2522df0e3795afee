//! The certificates that relays of one's own show, which nobody has signed: known by their hash.
//!
//! The hash, the *pin*, is in the fragment of a relay's URL, so that who knows the URL knows the relay.
//! A verifier is told the host and not the URL, so that all pins of a node count for all its relays:
//! what goes over one is encrypted between nodes anyhow.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use data_encoding::BASE32_NOPAD;
use iroh::tls::CaTlsConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use crate::limits::PINS_MAX;
use crate::types::Address;

/// The hash of a certificate.
pub(super) type Pin = [u8; 32];

/// The pin in a relay's URL.
pub(super) fn pin_of(url: &str) -> Option<Pin> {
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
