//! `GET /v1/watch`: changes as server-sent events, one event a revision.
//!
//! An event's id is which keyspace it is of, and its revision, or with several shards what was shown of
//! each; so `Last-Event-ID`, which browsers and libraries send by themselves when they connect again,
//! goes on there: nothing is missed and nothing is seen twice. A client that reads slowly holds up its
//! own watch and no other.

use std::convert::Infallible;
use std::future::ready;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures_util::{Stream, StreamExt, stream};
use serde::Serialize;

use super::App;
use super::auth::Store;
use super::decode::Params;
use super::gate::Visit;
use super::json::{self, Blob, RecordForm};
use super::openapi::WATCHES;
use super::operation::*;
use super::problem::*;
use super::schemas::{EventId, KeyText};
use crate::client::{Position, Watch, WatchBatch, WatchEvent, WatchRequest};
use crate::error::Error;
use crate::limits::HTTP_HEARTBEAT;
use crate::machine::ops::KeyRange;
use crate::types::{Form, GroupId, Key, Revision, Spelt};

pub(super) static WATCH: Operation = Operation {
    id: "watch",
    part: WATCHES,
    about: "Changes as they come: an event for each revision that changed something in the range",
    query: &[
        Param::of::<KeyText>("key", "this key alone"),
        PREFIX,
        START,
        END,
        Param::of::<Revision>("from", "the first revision to show; without it, what comes next"),
        Param::of::<bool>("prev", "whether to show what each change replaced"),
        KEYSPACE,
        NEAR,
    ],
    headers: &[Param::of::<EventId>("Last-Event-ID", "the last event seen: goes on after it")],
    answers: &[Reply::of(
        200,
        "events `progress`, `change`, and at the end `compacted` or `error`",
        Content::of::<String>("text/event-stream"),
    )],
    problems: &[
        ANY,
        OF_STORE,
        &[&BAD_HEADER, &COMPACTED, &FUTURE_REVISION, &NEEDS_SHARD, &RANGE_BACKWARD, &UNCLEAR],
    ],
    ..Operation::NEW
};

/// The header with which a client that lost its connection says what it saw last.
const LAST_EVENT_ID: &str = "last-event-id";

pub(super) async fn watch(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response, Problem> {
    let (params, client) = Params::of_store(request.uri().query(), WATCH.query, &store)?;
    let lasting = Visit::of(&request).map(|visit| visit.last()).transpose()?;
    let request_headers = request.headers();
    let unclear = |detail| Problem::new(&UNCLEAR, detail);
    let ranged = ["prefix", "start", "end"].map(|name| params.bytes(name));
    let range = match (params.bytes("key"), ranged) {
        (None, [prefix, start, end]) => json::range_of(prefix, start, end).map_err(unclear)?,
        (Some(key), [None, None, None]) => KeyRange::one(&Key::new(key)?),
        (Some(_), _) => return Err(unclear("watch a key or a range, not both")),
    };
    let (from, prev) = (params.number("from")?, params.flag("prev")?);
    let request = WatchRequest { range, from, prev };
    let changes = match last_seen(request_headers)? {
        Some(seen) => client.watch_after(WatchRequest { from: None, ..request }, &seen).await?,
        None => client.watch_as(request).await?,
    };
    let begun = stream::iter([Ok(begun(changes.position()))]);
    let events = begun.chain(events(batches(changes)));
    let events = events.take_until(app.closing.clone().cancelled_owned());
    Ok(respond(events.inspect(move |_| {
        let _until_it_ends = &lasting;
    })))
}

/// Sends events as they come, and a comment when none has come for long.
fn respond(events: impl Stream<Item = Result<Event, Infallible>> + Send + 'static) -> Response {
    let heartbeat = KeepAlive::new().interval(HTTP_HEARTBEAT);
    Sse::new(events).keep_alive(heartbeat).into_response()
}

fn last_seen(headers: &HeaderMap) -> Result<Option<Position>, Problem> {
    let Some(value) = headers.get(LAST_EVENT_ID) else { return Ok(None) };
    let seen = value.to_str().ok().and_then(position);
    let bad = "Last-Event-ID is the id of an event of a watch, such as 1-9";
    seen.map(Some).ok_or_else(|| Problem::new(&BAD_HEADER, bad))
}

/// What [`id`] is the text of. Of no keyspace in particular are ids of before they said so, and
/// revisions that somebody has by other ways.
fn position(id: &str) -> Option<Position> {
    let number = |text: &str| {
        text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u64>().ok())?
    };
    let (keyspace, revisions) = match id.split_once('-') {
        Some((keyspace, revisions)) => (Some(GroupId(number(keyspace)?)), revisions),
        None => (None, id),
    };
    let revisions = revisions.split('.').map(number).collect::<Option<_>>()?;
    Some(Position { keyspace, revisions })
}

pub(super) const FORM: Form = Form {
    name: "id of an event",
    again: |bytes| Some(id(&position(str::from_utf8(bytes).ok()?)?).into_bytes()),
    spelt: Spelt::Freely,
};

/// Changes of one shard, and where the watch was before them.
struct Batch {
    changes: WatchBatch,
    shard: usize,
    before: Position,
}

/// A watch's batches, each with where it was before.
fn batches(watch: Watch) -> impl Stream<Item = Result<Batch, Error>> {
    stream::unfold(watch, |mut watch| async move {
        let before = watch.position().clone();
        let changes = StreamExt::next(&mut watch).await?;
        let shard = watch.shard();
        Some((changes.map(|changes| Batch { changes, shard, before }), watch))
    })
}

/// The watch's batches as events; the first error is the last event.
fn events(
    changes: impl Stream<Item = Result<Batch, Error>>,
) -> impl Stream<Item = Result<Event, Infallible>> {
    changes
        .scan(false, |ended, batch| {
            let last = std::mem::replace(ended, batch.is_err());
            ready((!last).then_some(batch))
        })
        .flat_map(|batch| {
            stream::iter(match batch {
                Ok(batch) => batch_events(&batch),
                Err(error) => vec![last_event(error)],
            })
        })
        .map(Ok)
}

fn batch_events(batch: &Batch) -> Vec<Event> {
    let Batch { changes, shard, before } = batch;
    let mut at = before.clone();
    let of_several = (at.revisions.len() > 1).then_some(*shard);
    let of_revision = |events: &[WatchEvent]| {
        let revision = events[0].revision;
        if let Some(seen) = at.revisions.get_mut(*shard) {
            *seen = revision;
        }
        let events = events.iter().map(ChangeForm::of).collect();
        event("change", &at, &RevisionForm { shard: of_several, revision, events })
    };
    changes.events.chunk_by(|a, b| a.revision == b.revision).map(of_revision).collect()
}

/// The first event says where the watch begins: who loses it before a change goes on from there.
fn begun(at: &Position) -> Event {
    Event::default().id(id(at)).event("progress").data("{}")
}

/// The keyspace, by its first group, and what was seen of each shard, in their order.
fn id(Position { keyspace, revisions }: &Position) -> String {
    let revisions: Vec<String> = revisions.iter().map(Revision::to_string).collect();
    let revisions = revisions.join(".");
    keyspace.map_or_else(|| revisions.clone(), |GroupId(first)| format!("{first}-{revisions}"))
}

fn event(name: &str, at: &Position, form: &impl Serialize) -> Event {
    let data = serde_json::to_string(form)
        .expect("a watch's forms are structs of strings and numbers, which are always JSON");
    Event::default().id(id(at)).event(name).data(data)
}

fn last_event(error: Error) -> Event {
    let problem = Problem::from(error);
    let name = if problem.is(&COMPACTED) { "compacted" } else { "error" };
    Event::default().event(name).data(problem.to_json())
}

#[derive(Serialize)]
struct RevisionForm<'a> {
    /// Which of several shards it is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    shard: Option<usize>,
    revision: Revision,
    events: Vec<ChangeForm<'a>>,
}

#[derive(Serialize)]
struct ChangeForm<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    key: Blob<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<RecordForm<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<RecordForm<'a>>,
}

impl<'a> ChangeForm<'a> {
    fn of(change: &'a WatchEvent) -> Self {
        ChangeForm {
            kind: if change.record.is_some() { "put" } else { "delete" },
            key: Blob(change.key.as_bytes()),
            record: change.record.as_ref().map(RecordForm::of),
            prev: change.prev.as_ref().map(RecordForm::of),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Refusal;
    use crate::types::{Record, Value};

    fn change(revision: Revision, key: &str, value: Option<&str>) -> WatchEvent {
        let record =
            value.map(|value| Record::new(Value::try_from(value).unwrap(), 1, revision, 1, None));
        WatchEvent { revision, key: Key::try_from(key).unwrap(), record, prev: None }
    }

    fn at(revisions: &[Revision]) -> Position {
        Position { keyspace: Some(GroupId(5)), revisions: revisions.to_vec() }
    }

    /// What a client reads, to the end of the stream.
    async fn read(batches: Vec<Result<WatchBatch, Error>>) -> String {
        let batch = |changes| Batch { changes, shard: 0, before: at(&[0]) };
        let batches: Vec<_> = batches.into_iter().map(|changes| changes.map(batch)).collect();
        let response = respond(events(stream::iter(batches)));
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        String::from_utf8(body.to_vec()).unwrap()
    }

    #[tokio::test]
    async fn a_revision_is_one_event_however_batches_are_cut() {
        let record =
            r#"{"value":"x","create_revision":1,"mod_revision":7,"version":1,"lease":null}"#;
        let events = vec![change(7, "a", Some("x")), change(7, "b", None), change(8, "a\n", None)];
        let read = read(vec![Ok(WatchBatch { revision: 8, events })]).await;
        let first = format!(
            "id: 5-7\nevent: change\ndata: {{\"revision\":7,\"events\":[\
             {{\"type\":\"put\",\"key\":\"a\",\"record\":{record}}},\
             {{\"type\":\"delete\",\"key\":\"b\"}}]}}\n\n"
        );
        let second = "id: 5-8\nevent: change\n\
             data: {\"revision\":8,\"events\":[{\"type\":\"delete\",\"key\":\"a\\n\"}]}\n\n";
        assert_eq!(read, first + second);
    }

    #[test]
    fn an_id_is_read_as_it_is_written_and_without_its_keyspace() {
        for (text, keyspace, revisions) in [
            ("5-7", Some(GroupId(5)), vec![7]),
            ("5-3.7.9", Some(GroupId(5)), vec![3, 7, 9]),
            ("7", None, vec![7]),
            ("3.7.9", None, vec![3, 7, 9]),
        ] {
            let at = Position { keyspace, revisions };
            assert_eq!((position(text), &*id(&at)), (Some(at.clone()), text));
        }
        for bad in ["", "-", "5-", "-7", "5-7-9", "5-7.", "5-+7", "x-7", "18446744073709551616"] {
            assert_eq!(position(bad), None, "{bad}");
        }
    }

    #[tokio::test]
    async fn an_error_is_the_last_event() {
        let batch = WatchBatch { revision: 7, events: vec![change(7, "a", None)] };
        let gone = Error::Refused(Refusal::Compacted { asked: 2, compacted: 5 });
        let read_on = read(vec![Err(gone), Ok(batch)]).await;
        assert!(read_on.starts_with("event: compacted\ndata: {\"type\":\"urn:aspen:problem:"));
        assert!(read_on.contains("\"compacted\":5") && !read_on.contains("change"));

        let batch = WatchBatch { revision: 7, events: vec![change(7, "a", None)] };
        let batch = Batch { changes: batch, shard: 1, before: at(&[3, 6, 9]) };
        let response = respond(events(stream::iter(vec![Ok(batch)])));
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        assert!(
            body.starts_with(b"id: 5-3.7.9\nevent: change\ndata: {\"shard\":1,\"revision\":7,")
        );

        let down = Error::Unavailable { group: GroupId(1), reason: "it is stopped".into() };
        assert!(read(vec![Err(down)]).await.starts_with("event: error\ndata: {"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_quiet_watch_sends_a_comment_now_and_then() {
        let mut body = respond(stream::pending()).into_body().into_data_stream();
        for _ in 0..3 {
            let before = tokio::time::Instant::now();
            assert_eq!(body.next().await.unwrap().unwrap(), ":\n\n");
            assert_eq!(before.elapsed(), HTTP_HEARTBEAT);
        }
    }
}
