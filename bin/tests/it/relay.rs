//! A relay: the URL by which it is known, what it serves there, and what stops it.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use aspen_tickets::Address;
use data_encoding::BASE32_NOPAD;
use iroh::endpoint::presets::Minimal;
use iroh::tls::CaTlsConfig;
use iroh::{Endpoint, EndpointAddr, RelayConfig, RelayMap, RelayMode, RelayUrl};
use iroh_relay::RelayQuicConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, ClientConnection, DigitallySignedStruct};
use rustls::{SignatureScheme, StreamOwned};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::support::{Following, aspen, run, write_file};

const ALPN: &[u8] = b"relay-test";
const DEADLINE: Duration = Duration::from_secs(30);
/// How long an orderly stop may take, and a little for the process around it.
const STOP_MAX: Duration = Duration::from_secs(6);

/// A relay that serves.
struct Relay {
    process: Following,
    url: String,
    listen: SocketAddr,
}

impl Relay {
    #[track_caller]
    fn start(dir: &Path, listen: &str) -> Self {
        let log = dir.join("log.txt");
        let mut command = aspen(["relay", "--json", "--listen", listen, "--data-dir"]);
        command.arg(dir.join("relay")).stderr(File::create(log).expect("a log"));
        let mut process = Following::spawn(&mut command);
        let ready: Value = serde_json::from_str(&process.line()).expect("JSON");
        assert_eq!(ready["event"], "ready");
        let url = ready["url"].as_str().expect("a URL").to_owned();
        let listen = ready["listen"].as_str().expect("an address").parse().expect("an address");
        Relay { process, url, listen }
    }

    fn pin(&self) -> &str {
        self.url.split_once('#').expect("a pin").1
    }
}

/// Takes the certificate with this hash, whatever name it was asked for, and no other.
#[derive(Debug)]
struct Pinned {
    pin: String,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    fn new(pin: &str) -> Arc<Self> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Arc::new(Pinned { pin: pin.to_owned(), provider })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let hash = blake3::hash(certificate);
        let is_it = BASE32_NOPAD.encode(hash.as_bytes()).to_ascii_lowercase() == self.pin;
        is_it.then(ServerCertVerified::assertion).ok_or(rustls::Error::InvalidCertificate(
            CertificateError::ApplicationVerificationFailure,
        ))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Asks for a page of whoever has the certificate with this hash.
fn page(address: SocketAddr, pin: &str, path: &str) -> std::io::Result<String> {
    let pinned = Pinned::new(pin);
    let config = ClientConfig::builder_with_provider(pinned.provider.clone())
        .with_safe_default_protocol_versions()
        .expect("the provider has them")
        .dangerous()
        .with_custom_certificate_verifier(pinned)
        .with_no_client_auth();
    let name = ServerName::from(address.ip());
    let connection = ClientConnection::new(Arc::new(config), name).expect("a name");
    let mut stream = StreamOwned::new(connection, TcpStream::connect(address)?);
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

#[test]
fn a_ready_relay_says_by_which_url_it_is_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let relay = Relay::start(dir.path(), "127.0.0.1:0");
    assert_eq!(relay.url, format!("https://{}/#{}", relay.listen, relay.pin()));
    assert_eq!(relay.pin().len(), 52);
    let address: Address = relay.url.parse().expect("an address");
    assert_eq!(address.relay(), Some(relay.url.as_str()));

    let health = page(relay.listen, relay.pin(), "/healthz").expect("it has that certificate");
    assert!(health.starts_with("HTTP/1.1 200 OK"), "{health}");
    let other = page(relay.listen, &"a".repeat(52), "/healthz").expect_err("it is another");
    assert!(other.to_string().contains("certificate"), "{other}");
    // The same port, for UDP.
    UdpSocket::bind(relay.listen).expect_err("it is taken");

    let kept = fs::metadata(dir.path().join("relay/relay.pem")).expect("it is kept");
    assert_eq!(kept.permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_relay_told_to_stop_ends_in_order_and_is_the_same_when_it_starts_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut relay = Relay::start(dir.path(), "127.0.0.1:0");
    let (url, listen) = (relay.url.clone(), relay.listen.to_string());
    for signal in ["TERM", "INT", "TERM"] {
        // Somebody who is there does not keep it.
        let there = TcpStream::connect(relay.listen).expect("connected");
        relay.process.signal(signal);
        assert_eq!(relay.process.code(), Some(0));
        drop(there);
        relay = Relay::start(dir.path(), &listen);
        assert_eq!(relay.url, url);
    }
}

#[test]
fn another_data_directory_is_another_relay() {
    let dirs = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
    let [one, other] = [0, 1].map(|at: usize| Relay::start(dirs[at].path(), "127.0.0.1:0"));
    assert_ne!(one.pin(), other.pin());
}

#[test]
fn a_person_is_told_how_to_use_it() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut command = aspen(["relay", "--listen", "127.0.0.1:0", "--public", "Relay.Example:8443"]);
    command.arg("--data-dir").arg(dir.path().join("relay"));
    let mut relay = Following::spawn(&mut command);
    let told = [relay.line(), relay.line(), relay.line(), relay.line()];
    let url = told[0].strip_prefix("relay   ").expect("a URL");
    assert!(url.starts_with("https://relay.example:8443/#"), "{told:?}");
    assert!(told[1].starts_with("listen  127.0.0.1:"), "{told:?}");
    assert_eq!(told[2], format!("use     aspen start --reach internet --relay {url}"));
    assert_eq!(told[3], "stop    Ctrl-C");
}

#[test]
fn what_stops_a_relay_from_starting_is_one_sentence() {
    let dir = tempfile::tempdir().expect("a directory");
    let relay = Relay::start(dir.path(), "127.0.0.1:0");
    let start = |listen: SocketAddr, data: &Path| {
        let listen = listen.to_string();
        run(aspen(["relay", "--listen", &listen, "--data-dir"]).arg(data))
    };
    let other = dir.path().join("other");
    let taken = |address: SocketAddr| {
        format!("{address} can't be listened on: another process has its port, for TCP or UDP")
    };
    start(relay.listen, &other).failed_with(1, &taken(relay.listen));
    let udp = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = udp.local_addr().expect("an address");
    start(address, &other).failed_with(1, &taken(address));
    let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = tcp.local_addr().expect("an address");
    start(address, &other).failed_with(1, &taken(address));

    let any = "127.0.0.1:0".parse().expect("an address");
    let data = dir.path().join("relay");
    let shown = data.display();
    start(any, &data).failed_with(
        1,
        &format!(
            "the data directory {shown} is in use by another process; stop that one or choose \
             another directory"
        ),
    );
    drop(relay);
    write_file(&data.join("relay.pem"), "nothing of the kind");
    let broken = start(any, &data);
    assert_eq!(broken.code, 1, "{broken:?}");
    let begin = format!("aspen: {shown}/relay.pem is not a relay's certificate: ");
    assert!(broken.stderr.starts_with(&begin), "{broken:?}");
    let blocked = start(any, &data.join("relay.pem"));
    assert_eq!(blocked.code, 1, "{blocked:?}");
    assert!(blocked.stderr.contains("can't be used"), "{blocked:?}");
}

#[test]
fn wrong_arguments_are_one_sentence_and_leave_nothing_behind() {
    let dir = tempfile::tempdir().expect("a directory");
    let needed = |address: &str| {
        format!(
            "others can't be told to come to {address}; say with --public HOST how they reach this \
             machine"
        )
    };
    let form = "use a name or an IPv4 address, such as relay.example or 203.0.113.5:3340; see \
                `aspen relay --help`";
    let cases: &[(&[&str], String)] = &[
        (&[], needed("0.0.0.0")),
        (&["--listen", "[::]:3340"], needed("::")),
        (&["--listen", "[::1]:3340"], needed("::1")),
        (
            &["--listen", "localhost"],
            "invalid value 'localhost' for '--listen <ADDR:PORT>': use an address and a port, such \
             as 0.0.0.0:3340; see `aspen relay --help`"
                .to_owned(),
        ),
        (
            &["--public", "a/b"],
            format!("invalid value 'a/b' for '--public <HOST[:PORT]>': {form}"),
        ),
        (
            &["--public", "[2001:db8::1]:3340"],
            "invalid value '[2001:db8::1]:3340' for '--public <HOST[:PORT]>': iroh can't dial a \
             relay by an IPv6 address; use a name for it; see `aspen relay --help`"
                .to_owned(),
        ),
        (
            &["--node", "http://127.0.0.1:1"],
            "--node is for commands that talk to a running node, such as put and get".to_owned(),
        ),
    ];
    for (arguments, sentence) in cases {
        run(aspen(["relay"]).args(*arguments).current_dir(dir.path())).failed_with(2, sentence);
    }
    assert_eq!(fs::read_dir(dir.path()).expect("a directory").count(), 0);
}

/// An endpoint that knows this relay by its pin, on loopback.
async fn endpoint(url: &RelayUrl) -> Endpoint {
    let pin = url.fragment().expect("a pin").to_owned();
    let tls = CaTlsConfig::custom_server_cert_verifier(Arc::new(move |_| Ok(Pinned::new(&pin))));
    // Asked over QUIC on the same port.
    let quic = url.port().map(RelayQuicConfig::new);
    let relay = RelayConfig::new(url.clone(), quic);
    Endpoint::builder(Minimal)
        .relay_mode(RelayMode::Custom(RelayMap::from_iter([relay])))
        .ca_tls_config(tls)
        .alpns(vec![ALPN.to_vec()])
        .clear_ip_transports()
        .bind_addr("127.0.0.1:0")
        .expect("an address")
        .bind()
        .await
        .expect("bound")
}

#[tokio::test]
async fn nodes_that_know_its_url_meet_there() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut relay = Relay::start(dir.path(), "127.0.0.1:0");
    let url: RelayUrl = relay.url.parse().expect("iroh reads it");
    let (one, other) = (endpoint(&url).await, endpoint(&url).await);
    timeout(DEADLINE, one.online()).await.expect("the relay takes it in");
    // The pin travels with the URL wherever iroh takes that.
    assert_eq!(one.addr().relay_urls().collect::<Vec<_>>(), [&url]);

    let there = EndpointAddr::new(one.id()).with_relay_url(url);
    let met = async {
        let (dialled, taken) = tokio::join!(other.connect(there, ALPN), async {
            one.accept().await.expect("it is up").await
        });
        let (dialled, taken) = (dialled.expect("dialled"), taken.expect("taken"));
        assert!(taken.paths().iter().any(|path| path.is_relay()), "{:?}", taken.paths());
        let mut out = dialled.open_uni().await.expect("a stream");
        out.write_all(b"hello").await.expect("sent");
        out.finish().expect("sent");
        let mut come = taken.accept_uni().await.expect("a stream");
        come.read_to_end(16).await.expect("read")
    };
    assert_eq!(timeout(DEADLINE, met).await.expect("in time"), b"hello");

    // Nodes that are there, and at the moment don't answer, do not keep it either.
    let asked = Instant::now();
    relay.process.signal("TERM");
    assert_eq!(relay.process.code(), Some(0));
    assert!(asked.elapsed() < STOP_MAX, "it took {:?}", asked.elapsed());
}
