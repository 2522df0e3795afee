//! `/v1/compact`: history that nobody needs any more.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::App;
use super::body;
use super::decode::Params;
use super::json;
use super::problem::Problem;
use crate::machine::ops::{Action, Answer, AnswerBody};
use crate::types::Revision;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CompactForm {
    revision: Revision,
}

#[derive(Serialize)]
struct CompactedForm {
    revision: Revision,
    compacted: Revision,
    pending: bool,
}

pub(super) async fn compact(
    State(app): State<App>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let (_, client) = Params::of_store(request.uri().query(), &[], &app.client)?;
    let (CompactForm { revision }, _held) = body::read_json(&app, request.into_body()).await?;
    let Answer { revision: present, body } = client.execute(Action::Compact { revision }).await?;
    let AnswerBody::Compacted { revision: compacted, pending } = body else {
        return Err(Problem::contradiction("a compaction"));
    };
    let form = CompactedForm { revision: present, compacted, pending };
    Ok(json::answer_at(StatusCode::OK, present, &form))
}
