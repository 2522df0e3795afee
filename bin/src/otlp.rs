//! Spans for a collector of OpenTelemetry: OTLP in its JSON encoding, by `POST` over HTTP.
//!
//! The library says what is a part of which request (`aspen::client::trace`); here it is gathered and
//! sent. Nothing waits for it: a span that finds the queue full is lost, a batch that the collector does
//! not take after some tries is lost, and a warning a minute says how many were. What is held is at most
//! the queue and one batch.

use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aspen::client::trace::TARGET;
use aspen::seams::{Here, SystemClock, Tasks, WallClock, version};
use bytes::Bytes;
use http_body_util::Full;
use hyper::Uri;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

/// Spans that wait to be sent: some seconds of a node that has much to do, in a few megabytes.
const WAITING_MAX: usize = 4_096;
/// Spans of one request to the collector, which takes 4 MiB unless it is told otherwise.
const BATCH_MAX: usize = 512;
/// How long a span waits for others.
const GATHER: Duration = Duration::from_millis(200);
/// How long the collector may take for a batch.
const POST_MAX: Duration = Duration::from_secs(5);
/// The pauses before a batch is sent once more; after the last it is lost.
const AGAIN: [Duration; 3] =
    [Duration::from_secs(1), Duration::from_secs(2), Duration::from_secs(4)];
/// How long a node that stops waits for its last spans to go.
const END_MAX: Duration = Duration::from_secs(2);
/// The pause between warnings.
const WARN_AGAIN: Duration = Duration::from_secs(60);
/// Where collectors take OTLP over HTTP.
const PORT_DEFAULT: u16 = 4318;
const PATH: &str = "/v1/traces";

/// Where spans go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Collector {
    /// As it was given.
    shown: String,
    host: String,
    port: u16,
    path: String,
}

impl FromStr for Collector {
    type Err = ();

    /// `http://host:port`, with what stands before `/v1/traces` there, if anything.
    fn from_str(text: &str) -> Result<Self, ()> {
        let rest = text.strip_prefix("http://").ok_or(())?;
        let uri: Uri = text.parse().map_err(|_| ())?;
        let (authority, before) = (uri.authority().ok_or(())?, uri.path().trim_end_matches('/'));
        let is_plain = !rest.contains(['@', '?', '#']) && !authority.host().is_empty();
        let port = match authority.port() {
            Some(port) => port.as_str().parse().ok().filter(|port| *port != 0).ok_or(())?,
            None if authority.as_str() == authority.host() => PORT_DEFAULT,
            None => return Err(()),
        };
        let path = match before.ends_with(PATH) {
            true => before.to_owned(),
            false => format!("{before}{PATH}"),
        };
        let host = authority.host().to_owned();
        is_plain.then(|| Collector { shown: text.to_owned(), host, port, path }).ok_or(())
    }
}

impl std::fmt::Display for Collector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.shown)
    }
}

/// Spans on their way from the threads that end them.
#[derive(Debug)]
struct Queue {
    spans: mpsc::Sender<Span>,
    lost: Arc<AtomicU64>,
}

/// What takes in spans, and what sends them.
pub(crate) fn to(collector: Collector) -> (Taking, Sending) {
    let (spans, waiting) = mpsc::channel(WAITING_MAX);
    let lost = Arc::new(AtomicU64::new(0));
    let taking = Taking(Queue { spans, lost: lost.clone() });
    (taking, Sending { collector, waiting, lost, warned: None })
}

/// The layer that takes in the spans of the library's traces.
#[derive(Debug)]
pub(crate) struct Taking(Queue);

impl Taking {
    /// It, and what it is shown.
    pub(crate) fn layer<S>(self) -> impl Layer<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        self.with_filter(Targets::new().with_target(TARGET, Level::DEBUG))
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Taking {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut span = Span::begin();
        attributes.record(&mut span);
        if let Some(of) = context.span(id) {
            of.extensions_mut().insert(span);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(of) = context.span(id)
            && let Some(span) = of.extensions_mut().get_mut::<Span>()
        {
            values.record(span);
        }
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let ended = context.span(&id).and_then(|of| of.extensions_mut().remove::<Span>());
        if let Some(mut span) = ended {
            span.took = span.begun.elapsed();
            if self.0.spans.try_send(span).is_err() {
                self.0.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// A part of a trace.
#[derive(Debug)]
struct Span {
    name: String,
    kind: u8,
    is_failed: bool,
    trace: u128,
    part: u64,
    parent: Option<u64>,
    begun_at: Duration,
    begun: Instant,
    took: Duration,
    attributes: Vec<(&'static str, Value)>,
}

impl Span {
    fn begin() -> Self {
        Span {
            name: String::new(),
            kind: 1,
            is_failed: false,
            trace: 0,
            part: 0,
            parent: None,
            begun_at: SystemClock.since_epoch(),
            begun: Instant::now(),
            took: Duration::ZERO,
            attributes: Vec::new(),
        }
    }

    /// As OTLP has it: ids in hexadecimal, and times as text, which is how its JSON writes 64 bits.
    fn to_json(&self) -> Value {
        let attributes = self.attributes.iter();
        let ended_at = self.begun_at + self.took;
        let mut span = json!({
            "traceId": format!("{:032x}", self.trace),
            "spanId": format!("{:016x}", self.part),
            "name": self.name,
            "kind": self.kind,
            "startTimeUnixNano": self.begun_at.as_nanos().to_string(),
            "endTimeUnixNano": ended_at.as_nanos().to_string(),
            "attributes": attributes.map(|(key, value)| attribute(key, value)).collect::<Value>(),
            "status": if self.is_failed { json!({ "code": 2 }) } else { json!({}) },
        });
        if let Some(parent) = self.parent {
            span["parentSpanId"] = format!("{parent:016x}").into();
        }
        span
    }
}

fn attribute(key: &str, value: &Value) -> Value {
    let value = match value {
        Value::Number(number) => json!({ "intValue": number.to_string() }),
        other => json!({ "stringValue": other.as_str().unwrap_or_default() }),
    };
    json!({ "key": key, "value": value })
}

impl Visit for Span {
    fn record_u64(&mut self, field: &Field, value: u64) {
        match field.name() {
            "part" => self.part = value,
            "parent" => self.parent = Some(value),
            name => self.attributes.push((name, value.into())),
        }
    }

    fn record_u128(&mut self, field: &Field, value: u128) {
        if field.name() == "trace" {
            self.trace = value;
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "otel.name" => self.name = value.to_owned(),
            "otel.kind" => {
                self.kind = match value {
                    "server" => 2,
                    "client" => 3,
                    _ => 1,
                }
            }
            "otel.status_code" => self.is_failed = value == "ERROR",
            name => self.attributes.push((name, value.into())),
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// Why a batch did not go.
struct NotTaken {
    why: String,
    /// The collector may take it another time.
    again: bool,
}

impl NotTaken {
    fn again(why: impl Into<String>) -> Self {
        NotTaken { why: why.into(), again: true }
    }
}

/// What sends spans.
#[derive(Debug)]
pub(crate) struct Sending {
    collector: Collector,
    waiting: mpsc::Receiver<Span>,
    lost: Arc<AtomicU64>,
    warned: Option<Instant>,
}

/// A sending under way.
#[derive(Debug)]
pub(crate) struct Sent {
    stop: oneshot::Sender<()>,
    tasks: Tasks,
}

impl Sent {
    /// Sends what waits, for a moment at most.
    pub(crate) async fn end(self) {
        let _ = self.stop.send(());
        let _ = timeout(END_MAX, self.tasks.ended()).await;
        self.tasks.abort();
    }
}

impl Sending {
    /// Sends from now on.
    pub(crate) fn begin(self) -> Sent {
        let (stop, stopped) = oneshot::channel();
        let tasks = Tasks::new();
        tasks.spawn(self.run(stopped));
        Sent { stop, tasks }
    }

    async fn run(mut self, mut stopped: oneshot::Receiver<()>) {
        let mut is_stopped = false;
        loop {
            let mut batch = Vec::new();
            if !is_stopped {
                tokio::select! {
                    biased;
                    _ = &mut stopped => is_stopped = true,
                    _ = self.waiting.recv_many(&mut batch, BATCH_MAX) => {
                        let is_short = batch.len() < BATCH_MAX;
                        tokio::select! {
                            _ = &mut stopped, if is_short => is_stopped = true,
                            () = sleep(GATHER), if is_short => {}
                            else => {}
                        }
                    }
                }
            }
            while batch.len() < BATCH_MAX
                && let Ok(span) = self.waiting.try_recv()
            {
                batch.push(span);
            }
            match batch.is_empty() {
                true if is_stopped => return,
                true => {}
                false => self.send(&batch).await,
            }
        }
    }

    /// Sends a batch, or says that it is lost.
    async fn send(&mut self, batch: &[Span]) {
        let body = Bytes::from(document(batch).to_string());
        let mut pauses = AGAIN.into_iter();
        let mut why = String::new();
        loop {
            let again = match self.post(body.clone()).await {
                Ok(()) => break,
                Err(not) => {
                    why = not.why;
                    not.again
                }
            };
            // If the queue is full, more spans are lost meanwhile than this saves.
            let is_worth_it = again && self.waiting.len() < WAITING_MAX;
            let pause = pauses.next().filter(|_| is_worth_it);
            match pause {
                Some(pause) => {
                    self.warn(&why);
                    sleep(pause).await;
                }
                None => {
                    self.lost.fetch_add(batch.len() as u64, Ordering::Relaxed);
                    break;
                }
            }
        }
        if self.lost.load(Ordering::Relaxed) > 0 {
            self.warn(if why.is_empty() { "there are more than it takes" } else { &why });
        }
    }

    fn warn(&mut self, why: &str) {
        if self.warned.is_some_and(|warned| warned.elapsed() < WARN_AGAIN) {
            return;
        }
        self.warned = Some(Instant::now());
        let lost = self.lost.swap(0, Ordering::Relaxed);
        let collector = &self.collector.shown;
        tracing::warn!(collector, why, lost, "spans do not go to their collector");
    }

    async fn post(&self, body: Bytes) -> Result<(), NotTaken> {
        // A connection whose answer nobody waits for goes, too.
        let connection = Tasks::new();
        let _cut = connection.abort_on_drop();
        let posted = timeout(POST_MAX, self.exchange(body, &connection)).await;
        posted.unwrap_or_else(|_| Err(NotTaken::again("it does not answer in time")))
    }

    async fn exchange(&self, body: Bytes, tasks: &Tasks) -> Result<(), NotTaken> {
        let Collector { host, port, path, .. } = &self.collector;
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let stream = TcpStream::connect((bare, *port)).await;
        let stream = stream.map_err(|error| NotTaken::again(error.to_string()))?;
        let made = http1::handshake(TokioIo::new(stream)).await;
        let (mut sender, connection) = made.map_err(|error| NotTaken::again(error.to_string()))?;
        tasks.spawn(async move {
            // How it ends is told to whoever waits for the answer.
            let _ = connection.await;
        });
        let request = hyper::Request::post(path.as_str())
            .header("host", format!("{host}:{port}"))
            .header("user-agent", concat!("aspen/", env!("CARGO_PKG_VERSION")))
            .header("content-type", "application/json")
            .body(Full::new(body))
            .map_err(|error| NotTaken { why: error.to_string(), again: false })?;
        let answer = sender.send_request(request).await;
        let status = answer.map_err(|error| NotTaken::again(error.to_string()))?.status();
        match status.as_u16() {
            200..=299 => Ok(()),
            other => Err(NotTaken {
                why: format!("it answers {status}"),
                again: matches!(other, 429 | 502..=504),
            }),
        }
    }
}

/// The request with these spans.
fn document(batch: &[Span]) -> Value {
    let mut resource = vec![
        attribute("service.name", &"aspen".into()),
        attribute("service.version", &version().into()),
    ];
    if let Some(node) = Here::present().node() {
        resource.push(attribute("service.instance.id", &node.to_string().into()));
        resource.push(attribute("aspen.node", &node.0.into()));
    }
    json!({ "resourceSpans": [{
        "resource": { "attributes": resource },
        "scopeSpans": [{
            "scope": { "name": TARGET, "version": version() },
            "spans": batch.iter().map(Span::to_json).collect::<Vec<_>>(),
        }],
    }] })
}
