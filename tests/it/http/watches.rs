//! Watches as server-sent events.

use super::{Node, PATIENCE};
use reqwest::{Method, RequestBuilder, Response};
use serde_json::{Value as Json, json};

/// An open watch.
struct Watching {
    response: Response,
    read: String,
    /// What was seen when it began.
    begun: u64,
}

/// One event of it.
#[derive(Debug, PartialEq)]
struct Event {
    id: Option<u64>,
    name: String,
    data: Json,
}

impl Watching {
    async fn open(request: RequestBuilder) -> Watching {
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        let mut watching = Watching { response, read: String::new(), begun: 0 };
        let first = watching.next().await.expect("where it begins");
        assert_eq!((&*first.name, first.data), ("progress", json!({})));
        watching.begun = first.id.expect("where it begins");
        watching
    }

    async fn on(node: &Node, query: &str) -> Watching {
        Watching::open(node.request(Method::GET, &format!("/v1/watch{query}"))).await
    }

    /// The next event; none if the stream has ended.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((block, rest)) = self.read.split_once("\n\n") {
                let event = parse(block);
                self.read = rest.to_owned();
                match event {
                    Some(event) => return Some(event),
                    None => continue,
                }
            }
            let chunk = tokio::time::timeout(PATIENCE, self.response.chunk())
                .await
                .expect("an event or the end comes in time");
            self.read += std::str::from_utf8(&chunk.unwrap()?).unwrap();
        }
    }
}

/// A block of lines; none if it is only a comment.
fn parse(block: &str) -> Option<Event> {
    let field =
        |name: &str| block.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
    Some(Event {
        // The default keyspace is the first.
        id: field("id").map(|id| id.strip_prefix("1-").unwrap().parse().unwrap()),
        name: field("event")?.to_owned(),
        data: serde_json::from_str(field("data")?).unwrap(),
    })
}

#[tokio::test]
async fn each_revision_is_one_event() {
    let node = Node::start().await;
    let before = node.write("app/old", "x").await;
    let mut watching = Watching::on(&node, "?prefix=app/").await;
    assert_eq!(watching.begun, before);
    let txn = json!({"then": [
        {"put": {"key": "app/1", "value": "one"}},
        {"put": {"key": "other", "value": "unseen"}},
        {"delete": {"key": "app/old"}}
    ]});
    node.post("/v1/txn", txn.to_string()).await;
    node.write("other", "unseen").await;
    let last = node.write("app/1", "two").await;

    let record = |value: &str, revision: u64, version: u64| {
        json!({
            "value": value, "create_revision": before + 1, "mod_revision": revision,
            "version": version, "lease": null
        })
    };
    let first = watching.next().await.unwrap();
    assert_eq!((first.id, &*first.name), (Some(before + 1), "change"));
    let expected = json!({"revision": before + 1, "events": [
        {"type": "put", "key": "app/1", "record": record("one", before + 1, 1)},
        {"type": "delete", "key": "app/old"}
    ]});
    assert_eq!(first.data, expected);
    let second = watching.next().await.unwrap();
    assert_eq!(second.id, Some(last));
    let expected = json!({"revision": last, "events": [
        {"type": "put", "key": "app/1", "record": record("two", last, 2)}
    ]});
    assert_eq!(second.data, expected);
    node.stop().await;
}

#[tokio::test]
async fn a_watch_begins_in_the_past_and_goes_on_after_the_last_seen() {
    let node = Node::start().await;
    let first = node.write("k", "1").await;
    let second = node.write("k", "2").await;
    node.write("other", "").await;
    let third = node.write("k", "3").await;

    let mut from = Watching::on(&node, &format!("?key=k&from={second}&prev")).await;
    let event = from.next().await.unwrap();
    assert_eq!(event.id, Some(second));
    assert_eq!(event.data["events"][0]["prev"]["value"], "1");
    assert_eq!(from.next().await.unwrap().id, Some(third));

    for seen in [format!("1-{second}"), second.to_string()] {
        let again = node
            .request(Method::GET, &format!("/v1/watch?key=k&from={first}"))
            .header("last-event-id", seen);
        let mut again = Watching::open(again).await;
        let event = again.next().await.unwrap();
        assert_eq!(event.id, Some(third));
        assert!(event.data["events"][0].get("prev").is_none());
    }
    node.stop().await;
}

#[tokio::test]
async fn a_watch_of_compacted_history_is_refused() {
    let node = Node::start().await;
    let first = node.write("k", "1").await;
    let last = node.write("k", "2").await;
    node.post("/v1/compact", format!(r#"{{"revision": {last}}}"#)).await;
    let refused = node.get(&format!("/v1/watch?from={first}")).await;
    assert_eq!(refused.problem(410, "compacted")["compacted"], last);
    node.stop().await;
}

#[tokio::test]
async fn what_is_no_watch_is_refused() {
    let node = Node::start().await;
    for query in ["?key=a&prefix=b", "?prefix=a&end=b"] {
        node.get(&format!("/v1/watch{query}")).await.problem(422, "unclear");
    }
    for query in ["?from=x", "?since=1", "?key=%"] {
        node.get(&format!("/v1/watch{query}")).await.problem(400, "bad-query");
    }
    node.get("/v1/watch?key=").await.problem(400, "key-empty");
    for (seen, problem) in [
        ("x", "bad-header"),
        ("-1", "bad-header"),
        ("", "bad-header"),
        // Of another keyspace, or of one with more shards.
        ("2-1", "invalid"),
        ("1-1.1", "invalid"),
    ] {
        let request = node.request(Method::GET, "/v1/watch").header("last-event-id", seen);
        super::Reply::to(request).await.problem(400, problem);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_watch_ends_when_the_node_stops() {
    let node = Node::start().await;
    let mut watching = Watching::on(&node, "").await;
    node.stop().await;
    assert_eq!(watching.next().await, None);
}
