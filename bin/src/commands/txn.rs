//! `txn`: several operations as one, in the JSON of the HTTP API.

use aspen::limits::HTTP_JSON_BYTES_MAX;
use hyper::Method;
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
    serde_json::from_slice::<serde::de::IgnoredAny>(&body)
        .map_err(|error| Failure::usage(format!("the transaction is not JSON: {error}")))?;
    let request = Request::write(Method::POST, "/v1/txn")
        .header("content-type", "application/json")
        .body(body);
    let answer = node.ask(request).await?;
    output::json_line(&answer.json::<Value>()?)
}
