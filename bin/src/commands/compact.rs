//! `compact`: gives up history that nobody needs any more.

use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Node, Request};
use crate::exit::Failure;
use crate::output;

/// Drops the history before a revision.
pub(crate) async fn run(node: Node, revision: u64, json: bool) -> Result<(), Failure> {
    let request =
        Request::write(Method::POST, "/v1/compact").json(&json!({ "revision": revision }));
    let answer = node.ask(request).await?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    output::line(&format!("compacted; history begins at revision {revision}"))
}
