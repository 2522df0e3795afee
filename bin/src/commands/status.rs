//! `status`: who a node is, what it holds, and how well it is.

use hyper::Method;
use serde_json::{Value, json};

use crate::client::{Node, Request};
use crate::exit::Failure;
use crate::output;

/// Prints a node's status. A node that is not well is shown, not refused.
pub(crate) async fn run(node: Node, json: bool) -> Result<(), Failure> {
    let cluster: Value = node.ask(Request::read(Method::GET, "/v1/cluster")).await?.json()?;
    // An unhealthy node answers with its health under another status.
    let health: Value = node.send(Request::read(Method::GET, "/health")).await?.json()?;
    if json {
        return output::json_line(&json!({ "cluster": cluster, "health": health }));
    }
    output::line(&cluster.to_string())?;
    output::line(&health.to_string())
}
