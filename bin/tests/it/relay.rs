//! A relay: the URL by which it is known, what it serves there, and what stops it.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use aspen::net::{Endpoint, Internet, Listen, NodeKey, Reach};
use aspen::seams::Random;
use aspen::seams::network::{CloseCode, Gate, Network, Protocol};
use aspen::types::{Address, EndpointId};
use serde_json::Value;
use tokio::time::{Instant, timeout};

use crate::support::{Following, aspen, run, write_file};

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

/// A page of the relay, whoever it says it is.
fn page(address: SocketAddr, path: &str) -> String {
    let url = format!("https://{address}{path}");
    let done = Command::new("curl").args(["-k", "-s", "-i", &url]).output().expect("curl is there");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

/// Lets in whoever comes.
#[derive(Debug)]
struct Open;

impl Gate for Open {
    fn admit(&self, _: EndpointId, _: Protocol) -> Result<(), (CloseCode, String)> {
        Ok(())
    }
}

/// A node's endpoint that is reached by the relay at this URL and in no other way.
async fn endpoint(relay: &Address) -> Endpoint {
    let key = NodeKey::generate(&Random::from_entropy());
    let internet = Internet::to_visit([relay]).expect("it is a relay");
    let internet = Internet { relay_only: true, ..internet };
    let bound =
        Endpoint::bind_with(&key, Reach::Internet, Listen::Anywhere, &internet, Arc::new(Open));
    bound.await.expect("it needs no socket")
}

#[test]
fn a_ready_relay_says_by_which_url_it_is_known() {
    let dir = tempfile::tempdir().expect("a directory");
    let relay = Relay::start(dir.path(), "127.0.0.1:0");
    assert_eq!(relay.url, format!("https://{}/#{}", relay.listen, relay.pin()));
    assert_eq!(relay.pin().len(), 52);
    let address: Address = relay.url.parse().expect("an address");
    assert_eq!(address.relay(), Some(relay.url.as_str()));

    let health = page(relay.listen, "/healthz");
    assert!(health.lines().next().is_some_and(|line| line.contains("200")), "{health}");
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

#[tokio::test]
async fn nodes_that_know_its_url_meet_there_and_who_has_another_pin_does_not() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut relay = Relay::start(dir.path(), "127.0.0.1:0");
    let there = [relay.url.parse().expect("an address")];
    let mistaken = relay.url.replace(relay.pin(), &"a".repeat(52)).parse().expect("an address");
    let (one, other) = (endpoint(&there[0]).await, endpoint(&there[0]).await);
    let stranger = endpoint(&mistaken).await;
    // The pin travels with the URL.
    assert_eq!(one.addresses(), there);

    // It is there once it has a link to the relay; until then nobody answers.
    let dialled = async {
        loop {
            if let Ok(link) = other.connect(one.id(), &there, Protocol::Join).await {
                return link;
            }
        }
    };
    let dialled = timeout(DEADLINE, dialled).await.expect("they meet");
    let taken = timeout(DEADLINE, one.accept()).await.expect("in time").expect("it is open");
    assert_eq!((dialled.peer(), taken.peer()), (one.id(), other.id()));
    assert_eq!(taken.address().as_ref(), Some(&there[0]));
    let lost = stranger.connect(one.id(), &[mistaken], Protocol::Join).await;
    assert!(lost.is_err(), "it is another relay's pin");

    // Nodes that are there, and at the moment don't answer, do not keep it either.
    let asked = Instant::now();
    relay.process.signal("TERM");
    assert_eq!(relay.process.code(), Some(0));
    assert!(asked.elapsed() < STOP_MAX, "it took {:?}", asked.elapsed());
}
