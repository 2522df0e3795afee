//! Listings: bounds, order, pages and cursors.

use super::Node;
use aspen::limits::{RANGE_BYTES_MAX, VALUE_BYTES_MAX};
use serde_json::{Value as Json, json};

/// The keys of a listing.
fn keys(listing: &Json) -> Vec<&str> {
    listing["records"].as_array().unwrap().iter().map(|r| r["key"].as_str().unwrap()).collect()
}

async fn filled() -> Node {
    let node = Node::start().await;
    for key in ["a", "a/1", "a/2", "a/3", "b", "c"] {
        node.write(key, &format!("v {key}")).await;
    }
    node
}

#[tokio::test]
async fn a_listing_has_bounds_an_order_and_a_revision() {
    let node = filled().await;
    let list = async |query: &str| node.get(&format!("/v1/kv{query}")).await.json();
    assert_eq!(keys(&list("").await), ["a", "a/1", "a/2", "a/3", "b", "c"]);
    assert_eq!(keys(&list("?prefix=").await).len(), 6);
    assert_eq!(keys(&list("?prefix=a/").await), ["a/1", "a/2", "a/3"]);
    assert_eq!(keys(&list("?start=a/2&end=c").await), ["a/2", "a/3", "b"]);
    assert_eq!(keys(&list("?start=b").await), ["b", "c"]);
    assert_eq!(keys(&list("?end=a/1").await), ["a"]);
    assert_eq!(keys(&list("?start=b&end=b").await), [""; 0]);
    assert_eq!(keys(&list("?prefix=a/&order=desc").await), ["a/3", "a/2", "a/1"]);
    assert_eq!(keys(&list("?prefix=a/&order=asc&limit=1000000").await).len(), 3);

    let listing = list("?prefix=b").await;
    let revision = listing["revision"].as_u64().unwrap();
    let record = json!({
        "key": "b", "value": "v b", "create_revision": revision - 1, "mod_revision": revision - 1,
        "version": 1, "lease": null
    });
    let expected = json!({"revision": revision, "count": 1, "more": false, "records": [record]});
    assert_eq!(listing, expected);
    assert_eq!(node.get("/v1/kv").await.revision(), revision);

    let past = list(&format!("?revision={}", revision - 3)).await;
    assert_eq!(keys(&past), ["a", "a/1", "a/2"]);
    assert_eq!(past["revision"], revision - 3);
    node.stop().await;
}

#[tokio::test]
async fn a_listing_of_keys_or_of_their_number() {
    let node = filled().await;
    let listing = node.get("/v1/kv?prefix=a/&keys_only&limit=1").await.json();
    let record = listing["records"][0].as_object().unwrap();
    assert_eq!(record["key"], "a/1");
    assert!(!record.contains_key("value"));
    assert_eq!((&listing["count"], &listing["more"]), (&json!(3), &json!(true)));

    let count = node.get("/v1/kv?prefix=a&count_only=true").await.json();
    assert_eq!(count["count"], 4);
    assert_eq!(count["records"], json!([]));
    assert!(count.get("cursor").is_none());
    node.stop().await;
}

#[tokio::test]
async fn pages_are_of_one_revision_whatever_is_written_meanwhile() {
    let node = filled().await;
    for order in ["asc", "desc"] {
        let mut seen = Vec::new();
        let mut query = format!("/v1/kv?limit=2&order={order}");
        let revision = node.get(&query).await.json()["revision"].clone();
        loop {
            let page = node.get(&query).await.json();
            assert_eq!(page["revision"], revision);
            seen.extend(keys(&page).into_iter().map(str::to_owned));
            let Some(cursor) = page.get("cursor") else {
                assert_eq!(page["more"], false);
                break;
            };
            assert_eq!(page["more"], true);
            query = format!("/v1/kv?limit=2&order={order}&cursor={}", cursor.as_str().unwrap());
            node.write(&format!("a/2/{}", seen.len()), "new").await;
            node.delete("/v1/kv/a/3").await;
        }
        let mut expected = vec!["a", "a/1", "a/2", "a/3", "b", "c"];
        if order == "desc" {
            // What the first round wrote is there in the second, and what it deleted is not.
            expected = vec!["c", "b", "a/2/4", "a/2/2", "a/2", "a/1", "a"];
        }
        assert_eq!(seen, expected);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_cursor_continues_its_own_listing_only() {
    let node = filled().await;
    let page = node.get("/v1/kv?prefix=a&limit=1").await.json();
    let cursor = page["cursor"].as_str().unwrap();
    for query in [
        "?prefix=b&cursor=",
        "?prefix=a&order=desc&cursor=",
        "?prefix=a&revision=1&cursor=",
        "?prefix=a&cursor=A",
        "?prefix=a&cursor=%00",
    ] {
        let reply = node.get(&format!("/v1/kv{query}{cursor}")).await;
        reply.problem(422, "bad-cursor");
    }
    node.get("/v1/kv?cursor=").await.problem(422, "bad-cursor");
    // Compaction ends a listing that is under way.
    let last = node.write("z", "").await;
    node.post("/v1/compact", format!(r#"{{"revision": {last}}}"#)).await;
    let reply = node.get(&format!("/v1/kv?prefix=a&cursor={cursor}")).await;
    reply.problem(410, "compacted");
    node.stop().await;
}

#[tokio::test]
async fn a_listing_that_makes_no_sense_is_refused() {
    let node = Node::start().await;
    for (query, status, name) in [
        ("?limit=0", 400, "bad-query"),
        ("?limit=ten", 400, "bad-query"),
        ("?order=up", 400, "bad-query"),
        ("?prefix=a&start=b", 422, "unclear"),
        ("?keys_only&count_only", 422, "unclear"),
        ("?keys=1", 400, "bad-query"),
        ("?prefix=%f", 400, "bad-query"),
        ("?revision=99", 409, "future-revision"),
        ("?start=b&end=a", 422, "range-backward"),
    ] {
        node.get(&format!("/v1/kv{query}")).await.problem(status, name);
    }
    let long = "k".repeat(10_000);
    node.get(&format!("/v1/kv?start={long}")).await.problem(400, "key-too-long");
    node.stop().await;
}

#[tokio::test]
async fn lines_are_all_records_of_one_moment_in_their_order() {
    let node = Node::start().await;
    let wide = json!({"name": "wide", "shards": 4}).to_string();
    assert_eq!(node.post("/v1/keyspaces", wide).await.status, 201);
    // More than fit one page, by their bytes.
    let large = vec![b'v'; VALUE_BYTES_MAX / 4];
    let count = 2 * RANGE_BYTES_MAX / large.len() + 3;
    let lines = async |query: &str| {
        let request = node.request(reqwest::Method::GET, &format!("/v1/kv?{query}"));
        let reply = super::Reply::to(request.header("accept", "application/x-ndjson")).await;
        assert_eq!(reply.header("content-type"), "application/x-ndjson");
        let lines = reply.text().lines().map(|line| serde_json::from_str(line).expect("JSON"));
        lines.collect::<Vec<Json>>()
    };
    for keyspace in ["default", "wide"] {
        let mut expected: Vec<String> = (0..count).map(|number| format!("k/{number:03}")).collect();
        for key in &expected {
            node.put(&format!("/v1/kv/{key}?keyspace={keyspace}"), large.clone()).await;
        }
        let keys = |lines: &[Json]| -> Vec<String> {
            lines.iter().map(|line| line["key"].as_str().expect("text").to_owned()).collect()
        };
        let query = format!("prefix=k/&keyspace={keyspace}");
        let all = lines(&query).await;
        assert_eq!(keys(&all), expected);
        assert!(all.iter().all(|line| line["value"].as_str().map(str::len) == Some(large.len())));
        let some = lines(&format!("{query}&limit=16&keys_only")).await;
        assert_eq!((keys(&some), some[0].get("value")), (expected[..16].to_vec(), None));
        expected.reverse();
        assert_eq!(keys(&lines(&format!("{query}&order=desc")).await), expected);
        assert_eq!(lines(&format!("prefix=none/&keyspace={keyspace}")).await, [] as [Json; 0]);
    }
    let refused = node.request(reqwest::Method::GET, "/v1/kv?start=b&end=a");
    let refused = super::Reply::to(refused.header("accept", "text/html, application/x-ndjson"));
    refused.await.problem(422, "range-backward");
    node.stop().await;
}
