//! Talking to a node over HTTP/1.1, by TCP or a Unix socket: one connection a request, or one that
//! is held for many.
//!
//! With a client ticket there is no node to name: the library finds one, and the requests are
//! answered within this process by the same code that answers them in a node. What a command sends
//! and gets is the same either way.
//!
//! Written on hyper's connection and not on a larger client, for three things those hide: the
//! path goes out as it was encoded (URL libraries fold `.` and `..`, which are keys like any
//! other); a connection that was never made is told from one that broke after a write went out;
//! and no proxy, redirect or certificate store stands between a person and a node.
//!
//! Answers are bounded; every wait has a deadline.

mod held;

use std::fmt::Write as _;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aspen::roster::tokens::Token;
use aspen::seams::Tasks;
use aspen::types::KeyspaceName;
use aspen::{DoorAddress, KvClient};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper::header::HeaderMap;
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncWrite, duplex};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{self, Instant};

use aspen_tickets::{Body as _, ClientTicket, Grant, Invitation, TOKEN_KIND};

pub(crate) use held::Held;

use crate::config::Config;
use crate::exit::{Exit, Failure};
use crate::input;
use crate::output;
use crate::tls::{self, Trust};

/// Largest answer that is taken: a page of records of the largest size, in base64 and JSON, twice.
const ANSWER_BYTES_MAX: usize = 4 * aspen::limits::RANGE_BYTES_MAX;

/// Longest wait for a connection alone, so that a command whose write was never sent can say so
/// well before its deadline.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// What stays as it is in a path: unreserved characters, and `/`, which is a byte of a key.
const PATH: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// What stays as it is in a query: unreserved characters.
const QUERY: &AsciiSet = &PATH.add(b'/');

/// Where a node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// As the Host header has it.
    authority: String,
    /// As people have it.
    shown: String,
    place: Place,
}

/// What to connect to.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    Tcp { host: String, port: u16, is_tls: bool },
    Unix(PathBuf),
}

impl Address {
    /// Reads `http://host:port` or `https://host:port`, where the port may be left out and is 4680
    /// then, and nothing may follow but a slash; or `unix:path`.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        if let Ok(DoorAddress::Unix(path)) = text.parse() {
            let authority = "localhost".to_owned();
            return Some(Address { authority, shown: text.to_owned(), place: Place::Unix(path) });
        }
        let (is_tls, rest) = match text.strip_prefix("https://") {
            Some(rest) => (true, rest),
            None => (false, text.strip_prefix("http://")?),
        };
        let authority: hyper::http::uri::Authority =
            rest.strip_suffix('/').unwrap_or(rest).parse().ok()?;
        if authority.as_str().contains('@') || authority.host().is_empty() {
            return None;
        }
        let port = match authority.port() {
            Some(port) => port.as_str().parse().ok().filter(|&port| port != 0)?,
            None if authority.as_str() == authority.host() => PORT_DEFAULT,
            None => return None,
        };
        let host = authority.host();
        let authority = format!("{host}:{port}");
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        let shown = format!("{}://{authority}", if is_tls { "https" } else { "http" });
        Some(Address { authority, shown, place: Place::Tcp { host, port, is_tls } })
    }
}

/// Bytes both ways.
trait Duplex: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Duplex for S {}

/// Where a node serves HTTP unless told otherwise.
const PORT_DEFAULT: u16 = 4680;

/// One request.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    method: Method,
    target: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    writes: bool,
}

impl Request {
    /// A request that changes nothing.
    pub(crate) fn read(method: Method, path: &str) -> Self {
        let target = path.to_owned();
        Request { method, target, headers: Vec::new(), body: Bytes::new(), writes: false }
    }

    /// A request that may change something: if its answer is lost, its outcome is unknown.
    pub(crate) fn write(method: Method, path: &str) -> Self {
        Request { writes: true, ..Request::read(method, path) }
    }

    /// Adds a parameter to the query.
    pub(crate) fn parameter(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        let separator = if self.target.contains('?') { '&' } else { '?' };
        self.target.push(separator);
        self.target.push_str(name);
        self.target.push('=');
        self.target.extend(percent_encoding::percent_encode(value.as_ref(), QUERY));
        self
    }

    /// The same, if there is a value.
    pub(crate) fn maybe(self, name: &str, value: Option<impl AsRef<[u8]>>) -> Self {
        match value {
            Some(value) => self.parameter(name, value),
            None => self,
        }
    }

    /// The same, as `name=true`, if it is so.
    pub(crate) fn flag(self, name: &str, set: bool) -> Self {
        self.maybe(name, set.then_some("true"))
    }

    /// Adds a header.
    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    /// Sets the body.
    pub(crate) fn body(mut self, body: impl Into<Bytes>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a JSON value.
    pub(crate) fn json(self, value: &serde_json::Value) -> Self {
        self.header("content-type", "application/json").body(value.to_string())
    }
}

/// Where the store is: what is asked there is about a keyspace.
const STORE_PATHS: &[&str] = &["/v1/kv", "/v1/txn", "/v1/watch", "/v1/leases", "/v1/compact"];

/// The path of a key: `/v1/kv/` and its bytes.
pub(crate) fn key_path(key: &[u8]) -> String {
    let mut path = String::from("/v1/kv/");
    path.extend(percent_encoding::percent_encode(key, PATH));
    path
}

/// A name as one segment of a path.
pub(crate) fn segment(name: &str) -> String {
    percent_encoding::percent_encode(name.as_bytes(), QUERY).to_string()
}

/// An answer that came whole. Not every one says yes: see [`Answer::accepted`].
#[derive(Debug)]
pub(crate) struct Answer {
    /// The status.
    pub(crate) status: StatusCode,
    /// The headers.
    pub(crate) headers: HeaderMap,
    /// The body.
    pub(crate) body: Bytes,
    writes: bool,
}

impl Answer {
    /// The answer if the node did what was asked, its refusal otherwise.
    pub(crate) fn accepted(self) -> Result<Self, Failure> {
        if self.status.is_success() {
            return Ok(self);
        }
        Err(refusal(self.status, &self.body, self.writes))
    }

    /// The body as JSON of a known form.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body).map_err(not_understood)
    }

    /// A header's text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// A header's number.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        self.header(name)?.parse().ok()
    }
}

/// An answer of another form than `docs/http.md` has: most likely of another version. It came
/// with a status that says what was done, so the outcome is not unknown.
pub(crate) fn not_understood(error: serde_json::Error) -> Failure {
    Failure::refused(format!("the node's answer is not understood ({error}); is it an aspen node?"))
}

/// The part of a problem body (RFC 9457) that a person needs.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Problem {
    r#type: String,
    detail: String,
    title: String,
    /// Where in the request's JSON it is.
    at: Option<String>,
    /// What of the request is in different shards.
    keys: Vec<Value>,
}

/// What is shown of a key at most in a sentence, in characters: its beginning tells it from others.
const KEY_CHARS_MAX: usize = 64;

/// Says which keys don't go together: two of them, or where a range begins that alone is in several
/// shards.
fn apart(keys: &[Value]) -> Option<String> {
    let shown = |key: &Value| {
        let text = output::bytes_text(&output::bytes_from_json(key)?);
        Some(match text.char_indices().nth(KEY_CHARS_MAX) {
            Some((end, _)) => format!("\"{}…\"", &text[..end]),
            None => format!("\"{text}\""),
        })
    };
    match keys {
        [one, other] => Some(format!("{} and {} are not", shown(one)?, shown(other)?)),
        [one] if output::bytes_from_json(one)?.is_empty() => {
            Some("a range of all keys is not".into())
        }
        [one] => Some(format!("what begins at {} is not", shown(one)?)),
        _ => None,
    }
}

/// Why nothing was reached at a place.
fn unreached(place: &Place, error: &io::Error) -> String {
    match (place, error.kind()) {
        (Place::Unix(path), io::ErrorKind::ConnectionRefused) if !is_socket(path) => {
            "there is a file of another kind".to_owned()
        }
        // The name was not looked up by a call of the system's, so the error has no number.
        (Place::Tcp { host, .. }, _) if error.raw_os_error().is_none() => {
            format!("the name {host} is not known")
        }
        _ => input::reason(error),
    }
}

fn is_socket(path: &Path) -> bool {
    path.metadata().is_ok_and(|file| file.file_type().is_socket())
}

/// What a status and a problem body mean for the caller.
fn refusal(status: StatusCode, body: &[u8], writes: bool) -> Failure {
    let problem: Problem = serde_json::from_slice(body).unwrap_or_default();
    let name = problem.r#type.rsplit(':').next().unwrap_or_default();
    let exit = match status {
        _ if name == "outcome-unknown" => Exit::Unknown,
        StatusCode::GATEWAY_TIMEOUT if writes => Exit::Unknown,
        StatusCode::GATEWAY_TIMEOUT
        | StatusCode::SERVICE_UNAVAILABLE
        | StatusCode::TOO_MANY_REQUESTS => Exit::Unreachable,
        _ => Exit::Refused,
    };
    let mut sentence = match (problem.detail, problem.title) {
        (detail, _) if !detail.is_empty() => detail,
        (_, title) if !title.is_empty() => title,
        _ => format!("the node answered {status}"),
    };
    // What to type, where the sentence says it for programs.
    match name {
        "key-not-found" => sentence = NO_KEY.to_owned(),
        "needs-shard" => sentence.push_str(", with --near KEY"),
        "unavailable" => sentence.push_str("; try again, `aspen members` shows who is away"),
        "outcome-unknown" => sentence.push_str("; read before you repeat it"),
        "cross-shard" => {
            if let Some(apart) = apart(&problem.keys) {
                let _ = write!(sentence, "; {apart}");
            }
        }
        _ => {}
    }
    if let Some(at) = problem.at {
        sentence = format!("{at}: {sentence}");
    }
    if name == "unauthenticated" {
        sentence.push_str("; a command takes it from --token-file FILE or ASPEN_TOKEN");
    }
    if exit == Exit::Unknown && name != "outcome-unknown" {
        let _ = write!(sentence, "; {UNKNOWN_REMEDY}");
    }
    Failure::new(exit, sentence)
}

/// What a problem means that comes as the last event of a stream.
pub(crate) fn told_in_stream(problem: &str) -> Failure {
    #[derive(Deserialize)]
    struct Status {
        status: u16,
    }
    let status = serde_json::from_str::<Status>(problem).ok();
    let status = status.and_then(|problem| StatusCode::from_u16(problem.status).ok());
    refusal(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), problem.as_bytes(), false)
}

/// What to do when there is no such key.
pub(crate) const NO_KEY: &str =
    "the key does not exist; check its spelling, or list those that do with `aspen range`";

/// What to do when a write's answer is missing.
const UNKNOWN_REMEDY: &str =
    "the write may or may not have been done, so read before you repeat it";

/// A node to talk to, or whichever node of a cluster can answer.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    way: Way,
    /// What of the store is meant, for requests on it.
    keyspace: KeyspaceName,
    near: Option<String>,
    timeout: Duration,
    /// What it is shown, if it asks for a token.
    token: Option<String>,
    connections: Tasks,
}

/// How a node is reached.
#[derive(Clone, Debug)]
enum Way {
    /// Over HTTP.
    Http(Address, Option<Trust>),
    /// By a client ticket.
    Ticket(KvClient),
}

/// The token of a configuration, itself or in its file.
fn token(config: &Config) -> Result<Option<String>, Failure> {
    let is_token = |text: &str| Token::read(text.as_bytes()).is_some();
    let file = match (&config.token, &config.token_file) {
        (Some(token), _) if !is_token(token) => {
            let cut = "the token is not a whole one: copy all of it, from aspentoken on";
            return Err(Failure::usage(a_ticket(token).unwrap_or(cut)));
        }
        (None, Some(file)) => file,
        (token, _) => return Ok(token.clone()),
    };
    let bytes = input::read_file(file, TOKEN_FILE_BYTES_MAX).map_err(Failure::usage)?;
    let text = String::from_utf8(bytes).ok().map(|text| text.trim().to_owned());
    match text {
        Some(text) if is_token(&text) => Ok(Some(text)),
        text => {
            let ticket = text.as_deref().and_then(a_ticket);
            let why = ticket.unwrap_or("there is no token in it");
            Err(Failure::usage(format!("{}: {why}", file.display())))
        }
    }
}

/// What to say of a ticket that was given for a token, if it looks like one.
fn a_ticket(text: &str) -> Option<&'static str> {
    if text.starts_with(TOKEN_KIND) {
        None
    } else if text.starts_with(Grant::KIND) {
        Some("this is a client's ticket, which --ticket takes; `aspen token create` makes a token")
    } else if text.starts_with(Invitation::KIND) {
        Some(
            "this is a ticket for nodes, which `aspen join` takes; `aspen token create` makes a token",
        )
    } else {
        None
    }
}

/// Largest file that is read for a token.
const TOKEN_FILE_BYTES_MAX: usize = 4_096;

/// Bytes between this process's two ends of a connection.
const DUPLEX_BYTES: usize = 64 * 1024;

/// How much longer than the store's own deadline an answer is waited for within this process: the
/// store's own says what became of the request.
const GRACE: Duration = Duration::from_millis(500);

impl Node {
    /// The node that a configuration names by its URL.
    pub(crate) fn of(config: &Config) -> Result<Self, Failure> {
        let address = Address::parse(&config.node)
            .ok_or_else(|| Failure::usage(format!("{:?} is not a node's URL", config.node)))?;
        let is_tls = matches!(address.place, Place::Tcp { is_tls: true, .. });
        let trust = match (&config.ca, is_tls) {
            (Some(file), true) => Some(Trust::in_file(file).map_err(Failure::usage)?),
            (None, true) => {
                let sentence = "a node at https is known by its certificate: name the file of \
                                whoever vouches for it with --ca FILE";
                return Err(Failure::usage(sentence));
            }
            (_, false) => None,
        };
        Ok(Node { token: token(config)?, ..Node::by(Way::Http(address, trust), config) })
    }

    fn by(way: Way, config: &Config) -> Self {
        let (keyspace, near) = (config.keyspace.clone(), config.near.clone());
        let (timeout, connections) = (config.timeout, Tasks::new());
        Node { way, keyspace, near, timeout, token: None, connections }
    }

    /// The request as it is sent: one on the store says which keyspace and shard it is about.
    fn aimed(&self, request: Request) -> Request {
        let is_on_store = STORE_PATHS.iter().any(|path| request.target.starts_with(path));
        if !is_on_store {
            return request;
        }
        let is_named = self.keyspace != KeyspaceName::default();
        let request = request.maybe("keyspace", is_named.then(|| self.keyspace.as_str()));
        request.maybe("near", self.near.as_deref())
    }

    /// The nodes of the cluster that a ticket is for.
    pub(crate) async fn by_ticket(text: String, config: &Config) -> Result<Self, Failure> {
        let timeout = config.timeout;
        let ticket: ClientTicket = input::ticket(&input::ticket_text(text)?)?;
        let connecting = aspen::Client::connect(&ticket);
        let client = match time::timeout(timeout, connecting).await {
            Ok(connected) => connected.map_err(Failure::of_store)?,
            Err(_) => {
                let waited = input::duration_text(timeout);
                return Err(Failure::unreachable(format!(
                    "the cluster of the ticket did not answer within {waited}; check that one of \
                     its nodes can be reached from here, then try again"
                )));
            }
        };
        let way = Way::Ticket(client.kv().with_deadline(timeout));
        Ok(Node { timeout: timeout + GRACE, ..Node::by(way, config) })
    }

    /// Sends a request and waits for its whole answer, whatever it says.
    pub(crate) async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let deadline = Instant::now() + self.timeout;
        let writes = request.writes;
        let (status, headers, mut body) = self.open(request, deadline).await?;
        let mut bytes = BytesMut::new();
        loop {
            let frame = match time::timeout_at(deadline, body.frame()).await {
                Ok(None) => break,
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => return Err(self.lost(writes, &error)),
                Err(_) => return Err(self.late(writes)),
            };
            if let Some(data) = frame.data_ref() {
                if bytes.len() + data.len() > ANSWER_BYTES_MAX {
                    let exit = if writes { Exit::Unknown } else { Exit::Refused };
                    let sentence =
                        format!("the node's answer has more than {ANSWER_BYTES_MAX} bytes");
                    return Err(Failure::new(exit, sentence));
                }
                bytes.extend_from_slice(data);
            }
        }
        Ok(Answer { status, headers, body: bytes.freeze(), writes })
    }

    /// Sends a request and gives its answer if the node did what was asked.
    pub(crate) async fn ask(&self, request: Request) -> Result<Answer, Failure> {
        self.send(request).await?.accepted()
    }

    /// Sends a request whose answer goes on; gives its body once the node
    /// has said yes.
    pub(crate) async fn stream(&self, request: Request) -> Result<Incoming, Failure> {
        let deadline = Instant::now() + self.timeout;
        let writes = request.writes;
        let (status, _, body) = self.open(request, deadline).await?;
        if status.is_success() {
            return Ok(body);
        }
        let limited = http_body_util::Limited::new(body, ANSWER_BYTES_MAX);
        let bytes = match time::timeout_at(deadline, limited.collect()).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(_)) | Err(_) => Bytes::new(),
        };
        Err(refusal(status, &bytes, writes))
    }

    /// Connects, sends, and waits for the head of the answer.
    async fn open(
        &self,
        request: Request,
        deadline: Instant,
    ) -> Result<(StatusCode, HeaderMap, Incoming), Failure> {
        let writes = request.writes;
        let request = self.prepare(self.aimed(request))?;
        let mut sender = self.connect(deadline).await?;
        match time::timeout_at(deadline, sender.send_request(request)).await {
            Ok(Ok(response)) => {
                let (head, body) = response.into_parts();
                Ok((head.status, head.headers, body))
            }
            Ok(Err(error)) => Err(self.lost(writes, &error)),
            Err(_) => Err(self.late(writes)),
        }
    }

    /// Makes a connection, whichever way the node is reached.
    async fn connect(&self, deadline: Instant) -> Result<SendRequest<Full<Bytes>>, Failure> {
        match &self.way {
            Way::Http(address, trust) => {
                self.speak(self.dial(address, trust.as_ref(), deadline).await?).await
            }
            Way::Ticket(client) => {
                let (near, far) = duplex(DUPLEX_BYTES);
                self.connections.spawn(aspen::http::serve_client(client.clone(), far));
                self.speak(Box::new(near)).await
            }
        }
    }

    async fn dial(
        &self,
        address: &Address,
        trust: Option<&Trust>,
        deadline: Instant,
    ) -> Result<Box<dyn Duplex>, Failure> {
        let connect_deadline = deadline.min(Instant::now() + CONNECT_MAX);
        let connecting = async {
            let absent = |error: io::Error| self.absent(&unreached(&address.place, &error));
            let (stream, host) = match &address.place {
                Place::Unix(path) => {
                    return Ok(Box::new(UnixStream::connect(path).await.map_err(absent)?) as _);
                }
                Place::Tcp { host, port, .. } => {
                    let connecting = TcpStream::connect((host.as_str(), *port));
                    (connecting.await.map_err(absent)?, host)
                }
            };
            // Small requests leave at once; a failure to say so costs time and nothing else.
            let _ = stream.set_nodelay(true);
            let Some(trust) = trust else { return Ok(Box::new(stream) as _) };
            match trust.greet(stream, host).await {
                Ok(stream) => Ok(Box::new(stream) as _),
                Err(error) => Err(Failure::unreachable(format!(
                    "no TLS with the node at {}: {}",
                    address.shown,
                    tls::told(&error)
                ))),
            }
        };
        let connected = time::timeout_at(connect_deadline, connecting).await;
        connected.map_err(|_| self.absent("it did not accept a connection in time"))?
    }

    /// Begins HTTP on a stream.
    async fn speak(&self, stream: Box<dyn Duplex>) -> Result<SendRequest<Full<Bytes>>, Failure> {
        let (sender, connection) = http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.absent(&error.to_string()))?;
        self.connections.spawn(async move {
            // How the connection ends is told to whoever waits for the answer.
            let _ = connection.await;
        });
        Ok(sender)
    }

    fn authority(&self) -> &str {
        match &self.way {
            Way::Http(address, _) => &address.authority,
            Way::Ticket(_) => "aspen",
        }
    }

    /// Whom a person knows it as.
    fn name(&self) -> String {
        match &self.way {
            Way::Http(address, _) => format!("the node at {}", address.shown),
            Way::Ticket(_) => "the cluster of the ticket".to_owned(),
        }
    }

    fn prepare(&self, request: Request) -> Result<hyper::Request<Full<Bytes>>, Failure> {
        let mut builder = hyper::Request::builder()
            .method(request.method)
            .uri(request.target)
            .header("host", self.authority())
            .header("user-agent", concat!("aspen/", env!("CARGO_PKG_VERSION")));
        if let Some(token) = &self.token {
            builder = builder.header("authorization", format!("Bearer {token}"));
        }
        for (name, value) in request.headers {
            builder = builder.header(name, value);
        }
        builder
            .body(Full::new(request.body))
            .map_err(|error| Failure::usage(format!("the request can't be sent: {error}")))
    }

    /// No connection was made.
    fn absent(&self, reason: &str) -> Failure {
        let shown = match &self.way {
            Way::Http(address, _) => &address.shown,
            Way::Ticket(_) => "this process",
        };
        Failure::unreachable(format!(
            "no node answers at {shown} ({reason}); start one with `aspen start`, or name another \
             with --node"
        ))
    }

    /// The connection ended before the answer did.
    fn lost(&self, writes: bool, error: &hyper::Error) -> Failure {
        if !error.is_parse() {
            return self.unanswered(writes, "closed the connection before it had answered".into());
        }
        let sentence = format!(
            "{} answered what no node of Aspen does; if it serves HTTPS, name it with https:// and \
             --ca FILE",
            self.name()
        );
        match writes {
            true => Failure::new(Exit::Unknown, format!("{sentence}; {UNKNOWN_REMEDY}")),
            false => Failure::unreachable(sentence),
        }
    }

    /// Time was up before the answer came.
    fn late(&self, writes: bool) -> Failure {
        let waited = input::duration_text(self.timeout);
        self.unanswered(writes, format!("did not answer within {waited}"))
    }

    fn unanswered(&self, writes: bool, what: String) -> Failure {
        let name = self.name();
        if writes {
            return Failure::new(Exit::Unknown, format!("{name} {what}; {UNKNOWN_REMEDY}"));
        }
        Failure::unreachable(format!("{name} {what}; try again"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_of_a_key_reaches_the_path() {
        assert_eq!(key_path(b"app/users/1"), "/v1/kv/app/users/1");
        assert_eq!(key_path(b"../a b%2F?#"), "/v1/kv/../a%20b%252F%3F%23");
        assert_eq!(key_path(b"\x00\xff"), "/v1/kv/%00%FF");
        assert_eq!(key_path("日".as_bytes()), "/v1/kv/%E6%97%A5");
    }

    #[test]
    fn parameters_are_joined_and_encoded() {
        let request = Request::read(Method::GET, "/v1/kv")
            .parameter("prefix", b"a/b&c=\xff")
            .maybe("limit", None::<&str>)
            .flag("keys_only", true);
        assert_eq!(request.target, "/v1/kv?prefix=a%2Fb%26c%3D%FF&keys_only=true");
    }

    #[test]
    fn a_nodes_address_is_plain_http_with_or_without_a_port() {
        let parsed = |text: &str| Address::parse(text).map(|address| address.authority);
        assert_eq!(parsed("http://127.0.0.1:4680").as_deref(), Some("127.0.0.1:4680"));
        assert_eq!(parsed("http://node.example/").as_deref(), Some("node.example:4680"));
        assert_eq!(parsed("http://[::1]:99").as_deref(), Some("[::1]:99"));
        let place = |text: &str| Address::parse(text).map(|address| address.place);
        let host = "::1".to_owned();
        let is_tls = false;
        assert_eq!(place("http://[::1]:99"), Some(Place::Tcp { host, port: 99, is_tls }));
        assert_eq!(parsed("https://a").as_deref(), Some("a:4680"));
        assert_eq!(place("unix:/a b"), Some(Place::Unix("/a b".into())));
        for text in [
            "",
            "127.0.0.1:4680",
            "ftp://a",
            "unix:",
            "http://",
            "http://a/b",
            "http://a:0",
            "http://a:",
            "http://a:99999",
            "http://u@a",
        ] {
            assert_eq!(parsed(text), None, "{text}");
        }
    }

    #[test]
    fn what_the_node_says_decides_how_the_command_ends() {
        let body = |name: &str| {
            format!(r#"{{"type":"urn:aspen:problem:{name}","title":"t","detail":"d"}}"#)
        };
        let exit = |status: u16, name: &str, writes| {
            let status = StatusCode::from_u16(status).expect("a status");
            refusal(status, body(name).as_bytes(), writes).exit()
        };
        assert_eq!(exit(404, "not-found", false), Exit::Refused);
        assert_eq!(exit(412, "condition-failed", true), Exit::Refused);
        assert_eq!(exit(507, "no-space", true), Exit::Refused);
        assert_eq!(exit(503, "unavailable", true), Exit::Unreachable);
        assert_eq!(exit(429, "busy", true), Exit::Unreachable);
        assert_eq!(exit(504, "outcome-unknown", true), Exit::Unknown);
        assert_eq!(exit(504, "", true), Exit::Unknown);
        assert_eq!(exit(504, "", false), Exit::Unreachable);
        let failure = refusal(StatusCode::BAD_GATEWAY, b"<html>", false);
        assert!(format!("{failure:?}").contains("the node answered 502 Bad Gateway"));
    }
}
