//! `range`: records in the order of keys, page by page, all from one revision.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::args::RangeArgs;
use crate::client::{Node, Request};
use crate::exit::Failure;
use crate::output;

/// Records asked for at a time: few enough that the first come at once, enough that the number
/// of requests does not matter.
const PAGE_RECORDS: u64 = 1_000;

/// One page of an answer.
#[derive(Debug, Deserialize)]
struct Page {
    /// Missing if the range is in several shards.
    revision: Option<u64>,
    count: u64,
    more: bool,
    cursor: Option<String>,
    #[serde(default)]
    records: Vec<Value>,
}

/// Prints a range.
pub(crate) async fn run(node: Node, args: RangeArgs, json: bool) -> Result<(), Failure> {
    let base = request(&args)?;
    if args.count {
        let page: Page = node.ask(base.flag("count_only", true)).await?.json()?;
        return match json {
            true => output::json_line(&json!({ "count": page.count, "revision": page.revision })),
            false => output::line(&page.count.to_string()),
        };
    }
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut cursor: Option<String> = None;
    while left > 0 {
        let limit = left.min(PAGE_RECORDS).to_string();
        let next = base.clone().parameter("limit", limit).maybe("cursor", cursor.as_deref());
        let page: Page = node.ask(next).await?.json()?;
        for record in &page.records {
            print(record, args.keys_only, json)?;
        }
        left = left.saturating_sub(page.records.len() as u64);
        cursor = page.cursor;
        if !page.more || cursor.is_none() {
            break;
        }
    }
    Ok(())
}

fn request(args: &RangeArgs) -> Result<Request, Failure> {
    let bytes = |text: &Option<String>| {
        text.as_ref().map(|text| args.keys.encoding.bytes(text)).transpose()
    };
    Ok(Request::read(Method::GET, "/v1/kv")
        .maybe("prefix", bytes(&args.prefix)?)
        .maybe("start", bytes(&args.start)?)
        .maybe("end", bytes(&args.end)?)
        .maybe("revision", args.revision.map(|revision| revision.to_string()))
        .maybe("consistency", args.read.consistency.map(|kind| kind.to_string()))
        .maybe("order", args.reverse.then_some("desc"))
        .flag("keys_only", args.keys_only))
}

fn print(record: &Value, keys_only: bool, json: bool) -> Result<(), Failure> {
    if json {
        return output::json_line(record);
    }
    let text = |field: &str| {
        let bytes = record.get(field).and_then(output::bytes_from_json).unwrap_or_default();
        output::bytes_text(&bytes)
    };
    match keys_only {
        true => output::line(&text("key")),
        false => output::line(&format!("{}\t{}", text("key"), text("value"))),
    }
}
