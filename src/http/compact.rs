//! `/v1/compact`: history that nobody needs any more.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::auth::Store;
use super::body;
use super::decode::Params;
use super::json;
use super::openapi::KEYS;
use super::operation::*;
use super::problem::*;
use crate::machine::ops::{Action, Answer, AnswerBody};
use crate::roster::undertakings::What;
use crate::types::{Form, Revision};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Compact")]
struct CompactForm {
    revision: Revision,
}

pub(super) const FORM: Form = json::form::<CompactForm>("compaction");

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Compacted")]
struct CompactedForm {
    revision: Revision,
    compacted: Revision,
    pending: bool,
    /// What tells when it is gone, while rows are still being removed; at a node that holds the group.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
}

pub(super) static COMPACT: Operation = Operation {
    id: "compact",
    part: KEYS,
    about: "Forgets the history before a revision",
    query: &[KEYSPACE, NEAR],
    body: Some(Content::json::<CompactForm>(r#"{"revision": 1}"#)),
    answers: &[Reply::json::<CompactedForm>(200, "it is gone, or will be soon").with(AT_REVISION)],
    problems: &[ANY, OF_STORE, WITH_BODY, WRITES, &[&COMPACTED, &FUTURE_REVISION, &NEEDS_SHARD]],
    ..Operation::NEW
};

pub(super) async fn compact(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let (_, client) = Params::of_store(request.uri().query(), COMPACT.query, &store)?;
    let (CompactForm { revision }, _held) = body::read_json(&app, request.into_body()).await?;
    let Answer { revision: present, body } = client.execute(Action::Compact { revision }).await?;
    let AnswerBody::Compacted { revision: compacted, pending } = body else {
        return Err(Problem::contradiction("a compaction"));
    };
    let operation = match pending && app.cluster.is_some() {
        // It is done, whether its name can be told or not.
        true => client.group_meant().await.ok().map(|group| What::Compact(group).to_string()),
        false => None,
    };
    let form = CompactedForm { revision: present, compacted, pending, operation };
    Ok(json::answer_at(StatusCode::OK, present, &form))
}
