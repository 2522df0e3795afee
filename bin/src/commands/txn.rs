//! `txn`: several operations as one, in the JSON of the HTTP API.

use aspen::limits::HTTP_JSON_BYTES_MAX;
use hyper::Method;
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::args::TxnArgs;
use crate::client::{Node, Request};
use crate::exit::Failure;
use crate::input::Source;
use crate::output;

/// Sends a transaction and prints its answer, which is JSON with or without `--json`: what it
/// holds depends on what was asked.
pub(crate) async fn run(node: Node, args: TxnArgs) -> Result<(), Failure> {
    let body = Source::of(args.txn, args.file, "the transaction")?.read(HTTP_JSON_BYTES_MAX)?;
    // A slip in the JSON is the caller's and is told before anything is sent.
    serde_json::from_slice::<IgnoredAny>(&body)
        .map_err(|error| Failure::usage(slip(&body, &error)))?;
    let request = Request::write(Method::POST, "/v1/txn")
        .header("content-type", "application/json")
        .body(body);
    let answer = node.ask(request).await?;
    output::json_line(&answer.json::<Value>()?)
}

/// What is wrong with a text that is no JSON, and where.
fn slip(body: &[u8], error: &serde_json::Error) -> String {
    if body.trim_ascii().is_empty() {
        return "the transaction is empty; `aspen txn --help` shows one".to_owned();
    }
    if error.is_eof() {
        let (line, column) = (error.line(), error.column());
        return format!(
            "the transaction is not JSON: it ends early, at line {line} column {column}"
        );
    }
    format!("the transaction is not JSON: {error}")
}
