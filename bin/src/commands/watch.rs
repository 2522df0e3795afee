//! `watch`: changes as they happen, gap-free across lost connections.
//!
//! Every event of the stream says what it was shown with, the first one where the watch begins; after
//! a loss the stream is opened again from there. History that was compacted
//! meanwhile ends the watch with a sentence, never with a gap.

use std::time::Duration;

use http_body_util::BodyExt;
use hyper::Method;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;
use tokio::time;

use crate::args::WatchArgs;
use crate::client::{self, Node, Request};
use crate::exit::{Exit, Failure};
use crate::output;
use crate::sse::{EVENT_BYTES_MAX, Event, Parser, TooLarge};

/// A stream that says nothing for so long is lost: a node sends a comment every 15 s.
const SILENCE_MAX: Duration = Duration::from_secs(45);
/// The first wait before the stream is opened again; it doubles up to [`RETRY_MAX`].
const RETRY_MIN: Duration = Duration::from_millis(100);
/// The longest wait before the stream is opened again.
const RETRY_MAX: Duration = Duration::from_secs(5);

/// Prints changes until interrupted.
pub(crate) async fn run(node: Node, args: WatchArgs, json: bool) -> Result<(), Failure> {
    let base = request(&args)?;
    let mut watch = Watch { seen: None, json };
    // The first time, a node that is not there is the answer; later, it is waited for.
    let mut body = watch.open(&node, &base).await?;
    loop {
        watch.print_all(&mut body).await?;
        output::note("the connection was lost; trying again");
        body = watch.reopen(&node, &base).await?;
    }
}

fn request(args: &WatchArgs) -> Result<Request, Failure> {
    let encoding = args.keys.encoding;
    let request = Request::read(Method::GET, "/v1/watch");
    let request = match (&args.key, &args.prefix) {
        (Some(key), _) => request.parameter("key", encoding.key(key)?),
        (None, Some(prefix)) => request.parameter("prefix", encoding.bytes(prefix)?),
        (None, None) => request.parameter("prefix", ""),
    };
    let request =
        request.maybe("from", args.from.map(|from| from.to_string())).flag("prev", args.prev);
    Ok(request.header("accept", "text/event-stream"))
}

struct Watch {
    /// Up to where everything was printed: revisions of the shards, as the node wrote them.
    seen: Option<String>,
    json: bool,
}

impl Watch {
    async fn open(&self, node: &Node, base: &Request) -> Result<Incoming, Failure> {
        let request = match &self.seen {
            Some(seen) => base.clone().header("last-event-id", seen),
            None => base.clone(),
        };
        node.stream(request).await
    }

    async fn reopen(&self, node: &Node, base: &Request) -> Result<Incoming, Failure> {
        let mut wait = RETRY_MIN;
        loop {
            time::sleep(wait).await;
            match self.open(node, base).await {
                Err(failure) if failure.exit() == Exit::Unreachable => {
                    wait = (wait * 2).min(RETRY_MAX);
                }
                opened_or_refused => return opened_or_refused,
            }
        }
    }

    /// Prints events until the connection is lost.
    async fn print_all(&mut self, body: &mut Incoming) -> Result<(), Failure> {
        let mut parser = Parser::default();
        let mut events = Vec::new();
        while let Ok(Some(Ok(frame))) = time::timeout(SILENCE_MAX, body.frame()).await {
            let Some(piece) = frame.data_ref() else { continue };
            parser.push(piece, &mut events).map_err(|TooLarge| {
                Failure::refused(format!("an event has more than {EVENT_BYTES_MAX} bytes"))
            })?;
            for event in events.drain(..) {
                if self.print(&event)? == Goes::Over {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    fn print(&mut self, event: &Event) -> Result<Goes, Failure> {
        match event.event.as_str() {
            "change" if self.json => output::line(&event.data)?,
            "change" => {
                let change: Change = serde_json::from_str(&event.data).map_err(|error| {
                    Failure::refused(format!("an event is not understood: {error}"))
                })?;
                change.lines().iter().try_for_each(|line| output::line(line))?;
            }
            "compacted" | "error" => {
                let failure = client::told_in_stream(&event.data);
                return match failure.exit() {
                    Exit::Unreachable => Ok(Goes::Over),
                    _ => Err(failure),
                };
            }
            // `progress`, which only says what was seen, and kinds of a later version.
            _ => {}
        }
        if event.id.is_some() {
            self.seen.clone_from(&event.id);
        }
        Ok(Goes::On)
    }
}

/// Whether a stream goes on after an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Goes {
    On,
    /// It is over, and another can be opened.
    Over,
}

/// All changes of one revision.
#[derive(Debug, Deserialize)]
struct Change {
    revision: u64,
    events: Vec<Value>,
}

impl Change {
    /// One line a change: revision, what happened, key, value, and the previous value if asked
    /// for, between tabs.
    fn lines(&self) -> Vec<String> {
        let text = |value: Option<&Value>| {
            value.and_then(output::bytes_from_json).map(|bytes| output::bytes_text(&bytes))
        };
        let revision = self.revision.to_string();
        let lines = self.events.iter().map(|event| {
            let record = event.get("record").filter(|record| !record.is_null());
            let prev = event.get("prev").filter(|record| !record.is_null());
            let mut cells = vec![
                revision.clone(),
                if record.is_some() { "put" } else { "delete" }.to_owned(),
                text(event.get("key")).unwrap_or_default(),
            ];
            cells.extend(record.map(|record| text(record.get("value")).unwrap_or_default()));
            cells.extend(
                text(prev.and_then(|prev| prev.get("value"))).map(|was| format!("was {was}")),
            );
            cells.join("\t")
        });
        lines.collect()
    }
}
