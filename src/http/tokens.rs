//! `/v1/tokens`: tokens are made, listed and revoked.
//!
//! A token is answered once, where it is made: the cluster keeps a hash of it.

use std::time::Duration;

use aspen_tickets::{SCOPE_ENTRIES_MAX, Verb, Verbs};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AtNode;
use super::access::{self, AccessForm, AccessId, PrefixForm, RevokedForm};
use super::auth::Need;
use super::body;
use super::decode::{Params, Path};
use super::json;
use super::openapi::CLUSTER;
use super::operation::*;
use super::problem::*;
use super::schemas::{Name, VerbName};
use crate::limits::TICKET_LIFE_S_MAX;
use crate::roster::refused::Refused;
use crate::roster::tickets::Access;
use crate::types::{Form, KeyspaceName};

/// What a token is asked for with.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewToken")]
struct CreateForm {
    #[serde(deserialize_with = "access::verbs")]
    #[schemars(with = "Vec<VerbName>", length(min = 1))]
    allow: Verbs,
    #[schemars(length(min = 1, max = SCOPE_ENTRIES_MAX))]
    keyspaces: Option<Vec<KeyspaceName>>,
    #[schemars(length(min = 1, max = SCOPE_ENTRIES_MAX))]
    prefixes: Option<Vec<PrefixForm>>,
    #[serde(default)]
    #[schemars(with = "Name")]
    name: String,
    /// Until it is revoked unless it says otherwise.
    #[schemars(range(min = 1, max = TICKET_LIFE_S_MAX))]
    life_s: Option<u64>,
}

pub(super) const FORM: Form = json::form::<CreateForm>("new token");

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Token")]
struct CreatedForm {
    id: AccessId,
    token: String,
    expires_s: Option<u64>,
}

pub(super) static CREATE: Operation = Operation {
    id: "createToken",
    part: CLUSTER,
    about: "Makes a token for HTTP, which is told this once",
    need: Need::All(Verb::Admin),
    body: Some(Content::json::<CreateForm>(
        r#"{"allow": ["read"], "prefixes": [{"prefix": "app/"}], "name": "dashboard"}"#,
    )),
    answers: &[Reply::json::<CreatedForm>(201, "the token").with(&[LOCATION])],
    problems: &[
        ANY,
        WITH_BODY,
        OF_CLUSTER,
        &[&INVALID, &MALFORMED, &TICKET_EXISTS, &TICKET_LIFE, &TOO_MANY_TOKENS, &UNCLEAR],
    ],
    ..Operation::NEW
};

pub(super) async fn create(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let (form, _held) = body::read_json::<CreateForm>(&node.app, request.into_body()).await?;
    let scope = access::scope(form.keyspaces, form.prefixes)?;
    let access = Access { name: form.name, scope, verbs: form.allow };
    let cluster = &node.door.cluster;
    let life = form.life_s.map(Duration::from_secs);
    let (token, record) = cluster.create_token(access, life).await?;
    let id = AccessId(token.id());
    let form = CreatedForm { id, token: token.text(), expires_s: record.expires_s };
    Ok(json::created(format!("/v1/tokens/{id}"), &form))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Tokens")]
struct ListForm<'a> {
    now_s: u64,
    tokens: Vec<ListedForm<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ListedToken")]
struct ListedForm<'a> {
    id: AccessId,
    #[serde(flatten)]
    what: AccessForm<'a>,
    state: &'static str,
    created_s: u64,
    expires_s: Option<u64>,
}

pub(super) static LIST: Operation = Operation {
    id: "listTokens",
    part: CLUSTER,
    about: "All tokens, without what makes them good",
    need: Need::All(Verb::Admin),
    answers: &[Reply::json::<ListForm<'static>>(200, "the tokens")],
    problems: &[ANY, OF_CLUSTER],
    ..Operation::NEW
};

pub(super) async fn list(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let roster = node.door.cluster.fresh().await?;
    let now_s = node.door.cluster.now_s();
    let tokens = roster.tokens().map(|(id, token)| ListedForm {
        id: AccessId(id),
        what: AccessForm::of(&token.name, &token.scope, token.verbs),
        state: if token.is_expired(now_s) { "expired" } else { "good" },
        created_s: token.created_s,
        expires_s: token.expires_s,
    });
    Ok(json::answer(StatusCode::OK, &ListForm { now_s, tokens: tokens.collect() }))
}

pub(super) static REVOKE: Operation = Operation {
    id: "revokeToken",
    part: CLUSTER,
    about: "Ends a token, and the watches of its holder",
    need: Need::All(Verb::Admin),
    path: &[Param::needed::<AccessId>("id", "the token", "00000000000000000000000000000001")],
    answers: &[Reply::json::<RevokedForm>(200, "it is revoked")],
    problems: &[ANY, OF_CLUSTER, &[&TOKEN_NOT_FOUND]],
    ..Operation::NEW
};

pub(super) async fn revoke(
    State(node): State<AtNode>,
    Path(token): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let token = AccessId::read(&token).ok_or(Refused::UnknownToken)?;
    node.door.cluster.revoke_token(token.0).await?;
    Ok(json::answer(StatusCode::OK, &RevokedForm::of(token)))
}
