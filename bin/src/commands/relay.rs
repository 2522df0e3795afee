//! `relay`: where nodes meet that can't reach each other, without anybody else's machines.
//!
//! It is iroh's own relay: what it passes on is encrypted between the nodes' keys, so that it need
//! not know who they are, and everybody may use it. On one port number it serves the relay over
//! HTTPS, and over QUIC tells nodes by which address they are seen.
//!
//! Nobody vouches for its certificate, which is its own. Nodes know it by the hash in the fragment
//! of the relay's URL, so the certificate is made once and stays; whoever has its key is the relay.

use std::error::Error;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::num::NonZeroU32;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aspen::seams::disk::{Disk, OpenMode, RealDisk};
use data_encoding::BASE32_NOPAD;
use iroh_relay::server::{
    CertConfig, ClientRateLimit, QuicConfig, RelayConfig, Server, ServerConfig, SpawnError,
    TlsConfig,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde::Serialize;
use tokio::time::timeout;

use crate::args::{Public, RelayArgs};
use crate::config::LogFormat;
use crate::exit::{Exit, Failure};
use crate::input;
use crate::logs;
use crate::output;
use crate::signals::Signals;

/// The key and the certificate, as PEM. One file, so that they are never of two minds.
const FILE: &str = "relay.pem";
/// Far more than the two have; what is longer is another file.
const FILE_BYTES_MAX: usize = 64 << 10;
/// The name in the certificate. Nodes look at the hash of the whole, so it means nothing, and is not
/// the relay's host: the certificate outlives that.
const NAME: &str = "aspen-relay";
/// How much each node may send a second, in bytes; what it sends faster waits in its connection. It
/// is more than a leader sends two followers under the heaviest load of `docs/benchmarks.md`, and
/// an eighth of a gigabit line: who copies data leaves something for the others. iroh's server has
/// no limit unless told.
const CLIENT_RATE: NonZeroU32 = NonZeroU32::new(16 << 20).expect("it is not 0");
/// How often a free port is looked for that is free for TCP and UDP alike.
const PORT_TRIES: usize = 16;
/// How long an orderly stop may take.
const STOP_MAX: Duration = Duration::from_secs(4);

/// What is logged: of the server what is wrong with it, without a stranger's every broken handshake,
/// which it calls an error and of which a machine on the internet sees many.
const LOG: &str = "warn,aspen=info,iroh_relay::server::http_server=off";

/// Runs a relay until it is told to stop.
pub(crate) fn run(args: &RelayArgs, json: bool) -> Result<(), Failure> {
    let public = public(args)?;
    logs::start(LOG, LogFormat::Text, None);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::refused(format!("the relay can't run: {error}")))?;
    let outcome = runtime.block_on(live(args, &public, json));
    // The relay has stopped, or is to be cut off: nothing that is left is worth waiting for.
    runtime.shutdown_background();
    outcome
}

/// How others reach the relay, which it can't find out for itself.
fn public(args: &RelayArgs) -> Result<Public, Failure> {
    args.public.clone().or_else(|| Public::of(args.listen)).ok_or_else(|| {
        Failure::usage(format!(
            "others can't be told to come to {}; say with --public HOST how they reach this machine",
            args.listen.ip()
        ))
    })
}

async fn live(args: &RelayArgs, public: &Public, json: bool) -> Result<(), Failure> {
    let mut signals = Signals::catch()
        .map_err(|error| Failure::refused(format!("signals can't be caught: {error}")))?;
    let disk = RealDisk;
    let _lock = lock(&disk, &args.data_dir)?;
    let identity = Identity::load_or_make(&disk, &args.data_dir)?;
    let tls = identity.tls()?;
    let mut server = tokio::select! {
        biased;
        asked = signals.next() => {
            tracing::info!(signal = asked.name(), "stopping before the relay has started");
            return Ok(());
        }
        started = serve(args.listen, &tls) => started?,
    };
    let address = server.https_addr().unwrap_or(args.listen);
    let url = public.url(address.port(), &identity.pin()).map_err(Failure::usage)?;
    if announce(&url, address, json).is_err() {
        tracing::warn!("nobody reads what the relay prints; it serves all the same");
    }
    tokio::select! {
        asked = signals.next() => tracing::info!(signal = asked.name(), "stopping"),
        ended = server.join() => {
            let reason = match ended {
                Ok(Ok(())) => "one of its parts has ended".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            };
            return Err(Failure::refused(format!("the relay has stopped by itself: {reason}")));
        }
    }
    tokio::select! {
        stopped = timeout(STOP_MAX, server.shutdown()) => match stopped {
            Ok(Ok(())) => tracing::info!("stopped"),
            // Nothing is lost with it: nodes that are connected find another way, or wait.
            Ok(Err(error)) => tracing::warn!(%error, "stopped, and not in order"),
            Err(_) => tracing::warn!("stopped while connections were still open"),
        },
        asked = signals.next() => {
            let sentence = format!("ended at once by a second signal, {}", asked.name());
            return Err(Failure::new(Exit::Signal(asked.number()), sentence));
        }
    }
    Ok(())
}

/// The one line of a relay that serves.
#[derive(Debug, Serialize)]
struct Ready<'a> {
    event: &'static str,
    url: &'a str,
    listen: SocketAddr,
}

/// Prints what comes next, now that the relay serves.
fn announce(url: &str, listen: SocketAddr, json: bool) -> Result<(), Failure> {
    if json {
        return output::json_line(&Ready { event: "ready", url, listen });
    }
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    output::line(&output::table(&[
        row("relay", url.to_owned()),
        row("listen", format!("{listen}, TCP and UDP")),
        row("use", format!("aspen start --reach internet --relay {url}")),
        row("stop", "Ctrl-C".to_owned()),
    ]))
}

/// Listens. Any port is one that is free for TCP; if it is not so for UDP, another is looked for.
async fn serve(listen: SocketAddr, tls: &rustls::ServerConfig) -> Result<Server, Failure> {
    let mut tries = 0;
    loop {
        tries += 1;
        let address = match listen.port() {
            0 => free_port(listen).map_err(|error| not_served(listen, &error))?,
            _ => listen,
        };
        match Server::spawn(configuration(address, tls.clone())).await {
            Ok(server) => return Ok(server),
            Err(error) if listen.port() == 0 && is_taken(&error) && tries < PORT_TRIES => {}
            Err(error) => return Err(not_served(address, &error)),
        }
    }
}

/// The address with a port that was free for TCP a moment ago.
fn free_port(listen: SocketAddr) -> io::Result<SocketAddr> {
    TcpListener::bind(listen)?.local_addr()
}

fn configuration(address: SocketAddr, tls: rustls::ServerConfig) -> ServerConfig {
    // What it serves without TLS tells browsers of captive portals, which nobody asks a node's
    // relay: where nobody comes.
    let mut relay = RelayConfig::new((Ipv4Addr::LOCALHOST, 0));
    relay.tls = Some(TlsConfig::new(address, CertConfig::Manual { server_config: tls }));
    relay.limits.client_rx = Some(ClientRateLimit::new(CLIENT_RATE));
    let mut config = ServerConfig::default();
    config.relay = Some(relay);
    config.quic = Some(QuicConfig::new(address));
    config
}

/// What the operating system said, if it was that.
fn cause<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a io::Error> {
    std::iter::successors(Some(error), |&error| error.source())
        .find_map(|error| error.downcast_ref::<io::Error>())
}

fn is_taken(error: &SpawnError) -> bool {
    cause(error).is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
}

fn not_served(address: SocketAddr, error: &(dyn Error + 'static)) -> Failure {
    let reason = match cause(error) {
        Some(error) if error.kind() == io::ErrorKind::AddrInUse => {
            "another process has its port, for TCP or UDP".to_owned()
        }
        Some(error) => input::reason(error),
        None => error.to_string(),
    };
    Failure::refused(format!("{address} can't be listened on: {reason}"))
}

/// Two relays may not make two certificates in one place.
fn lock(disk: &dyn Disk, dir: &Path) -> Result<impl Sized + use<>, Failure> {
    disk.create_dir_all(dir).map_err(|error| unusable(dir, &error))?;
    disk.lock(&dir.join("lock")).map_err(|error| match error.kind() {
        io::ErrorKind::WouldBlock => Failure::refused(format!(
            "the data directory {} is in use by another process; stop that one or choose another \
             directory",
            dir.display()
        )),
        _ => unusable(dir, &error),
    })
}

fn unusable(dir: &Path, error: &io::Error) -> Failure {
    let (dir, reason) = (dir.display(), input::reason(error));
    Failure::refused(format!("the data directory {dir} can't be used: {reason}"))
}

/// What a relay is known by.
struct Identity {
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
}

impl Identity {
    /// Reads it, or makes it if there is none.
    fn load_or_make(disk: &dyn Disk, dir: &Path) -> Result<Self, Failure> {
        let path = dir.join(FILE);
        if !disk.exists(&path).map_err(|error| unusable(dir, &error))? {
            let made = make().map_err(|error| {
                Failure::refused(format!("the relay's certificate can't be made: {error}"))
            })?;
            keep(disk, dir, &path, &made).map_err(|error| unusable(dir, &error))?;
        }
        let pem = input::read_file(&path, FILE_BYTES_MAX).map_err(Failure::refused)?;
        let read = || {
            let certificate = CertificateDer::from_pem_slice(&pem)?;
            let key = PrivateKeyDer::from_pem_slice(&pem)?;
            Ok::<_, rustls::pki_types::pem::Error>(Identity { certificate, key })
        };
        read().map_err(|error| {
            Failure::refused(format!("{} is not a relay's certificate: {error}", path.display()))
        })
    }

    /// The hash by which nodes know the relay.
    fn pin(&self) -> String {
        let hash = blake3::hash(&self.certificate);
        BASE32_NOPAD.encode(hash.as_bytes()).to_ascii_lowercase()
    }

    /// How it shows itself, over HTTPS and QUIC. TLS 1.3 only, as QUIC has it and iroh speaks it.
    fn tls(&self) -> Result<rustls::ServerConfig, Failure> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .and_then(|builder| {
                let chain = vec![self.certificate.clone()];
                builder.with_no_client_auth().with_single_cert(chain, self.key.clone_key())
            })
            .map_err(|error| Failure::refused(format!("the relay's {FILE} can't be used: {error}")))
    }
}

/// A new key and its certificate, as PEM. rcgen has it good from 1975 to 4096: a node whose clock is
/// wrong can still reach its relay.
fn make() -> Result<String, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = CertificateParams::new([NAME.to_owned()])?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, NAME);
    let certificate = params.self_signed(&key)?;
    Ok(certificate.pem() + &key.serialize_pem())
}

/// Writes the file, for its owner's eyes only; it is whole and durable before it has its name.
fn keep(disk: &dyn Disk, dir: &Path, path: &Path, pem: &str) -> io::Result<()> {
    let unfinished = path.with_extension("new");
    if disk.exists(&unfinished)? {
        disk.remove(&unfinished)?;
    }
    let file = disk.open(&unfinished, OpenMode::CreateNewPrivate)?;
    file.write_at(pem.as_bytes(), 0)?;
    file.sync_data()?;
    disk.rename(&unfinished, path)?;
    disk.sync_dir(dir)
}
