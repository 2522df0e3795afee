//! `token`: made, listed and revoked by a node.

use hyper::Method;
use serde::Deserialize;
use serde_json::{Value, json};

use super::access::{self, Access, until};
use crate::args::CreateTokenArgs;
use crate::client::{self, Node, Request};
use crate::exit::Failure;
use crate::output;

/// Makes a token and prints it, alone: `token=$(aspen token create)`.
pub(crate) async fn create(node: Node, args: CreateTokenArgs, json: bool) -> Result<(), Failure> {
    let mut body = access::asked(&args.scope)?;
    if let Some(expires) = args.expires {
        body["life_s"] = json!(expires.as_secs());
    }
    let answer = node.ask(Request::write(Method::POST, "/v1/tokens").json(&body)).await?;
    let made: Value = answer.json()?;
    if json {
        return output::json_line(&made);
    }
    output::line(made["token"].as_str().unwrap_or_default())
}

#[derive(Debug, Deserialize)]
struct Tokens {
    now_s: u64,
    tokens: Vec<Value>,
}

/// What is shown of a token in the list.
#[derive(Debug, Deserialize)]
struct Listed {
    id: String,
    state: String,
    expires_s: Option<u64>,
    #[serde(flatten)]
    access: Access,
}

/// Lists the tokens that the cluster knows.
pub(crate) async fn list(node: Node, json: bool) -> Result<(), Failure> {
    let answer = node.ask(Request::read(Method::GET, "/v1/tokens")).await?;
    let Tokens { now_s, tokens } = answer.json()?;
    if json {
        return tokens.iter().try_for_each(output::json_line);
    }
    let heading = ["TOKEN", "FOR", "STATE", "EXPIRES", "NAME"];
    let mut rows = vec![heading.map(str::to_owned).to_vec()];
    for token in &tokens {
        let token = Listed::deserialize(token).map_err(client::not_understood)?;
        let expires = match token.expires_s {
            Some(expires_s) => until(expires_s, now_s),
            None => "never".to_owned(),
        };
        let (what, name) = (token.access.what(), token.access.name.unwrap_or_default());
        rows.push(vec![token.id, what, token.state, expires, name]);
    }
    output::line(&output::table(&rows))
}

/// Makes a token good for nothing.
pub(crate) async fn revoke(node: Node, id: u128, json: bool) -> Result<(), Failure> {
    let path = format!("/v1/tokens/{id:032x}");
    let answer = node.ask(Request::write(Method::DELETE, &path)).await?;
    if json {
        return output::json_line(&answer.json::<Value>()?);
    }
    output::line(&format!("revoked {id:032x}"))
}
