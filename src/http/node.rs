//! The node itself: its health, identity and version; and compaction.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use serde::{Deserialize, Serialize};

use super::App;
use super::body;
use super::decode::Params;
use super::json;
use super::problem::{self, Problem};
use crate::health::{HealthReport, PartState};
use crate::limits::HTTP_JSON_BYTES_MAX;
use crate::machine::ops::{Action, Answer, AnswerBody};
use crate::status::GroupStatus;
use crate::types::Revision;

#[derive(Serialize)]
struct AliveForm {
    alive: bool,
}

/// Answers for as long as the process runs its requests, whatever the state of its parts.
pub(super) async fn livez() -> Response<Body> {
    json::answer(StatusCode::OK, &AliveForm { alive: true })
}

#[derive(Serialize)]
struct HealthForm<'a> {
    state: &'static str,
    ready: bool,
    parts: Vec<PartForm<'a>>,
}

#[derive(Serialize)]
struct PartForm<'a> {
    name: &'a str,
    state: &'static str,
    reason: Option<&'a str>,
}

fn health_response(report: &HealthReport, well: bool) -> Response<Body> {
    let form = HealthForm {
        state: report.state().as_str(),
        ready: report.ready,
        parts: report
            .parts
            .iter()
            .map(|part| PartForm {
                name: &part.name,
                state: part.state.as_str(),
                reason: part.reason.as_deref(),
            })
            .collect(),
    };
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json::answer(status, &form)
}

fn readiness_of(report: &HealthReport) -> Response<Body> {
    health_response(report, report.ready)
}

fn health_of(report: &HealthReport) -> Response<Body> {
    health_response(report, report.state() != PartState::Unhealthy)
}

pub(super) async fn readyz(State(app): State<App>) -> Response<Body> {
    readiness_of(&app.door.health.borrow())
}

pub(super) async fn health(State(app): State<App>) -> Response<Body> {
    health_of(&app.door.health.borrow())
}

#[derive(Serialize)]
struct VersionForm {
    name: &'static str,
    version: &'static str,
}

const VERSION: VersionForm = VersionForm { name: "aspen", version: env!("CARGO_PKG_VERSION") };

pub(super) async fn version() -> Response<Body> {
    json::answer(StatusCode::OK, &VERSION)
}

#[derive(Serialize)]
struct ClusterForm<'a> {
    id: String,
    name: &'a str,
    node: NodeForm<'a>,
    groups: Vec<GroupForm>,
}

#[derive(Serialize)]
struct NodeForm<'a> {
    id: u64,
    endpoint_id: &'a str,
    listen: Vec<String>,
    version: &'static str,
}

#[derive(Serialize)]
struct GroupForm {
    id: u64,
    role: &'static str,
    term: u64,
    leader: Option<u64>,
    last_log_index: u64,
    applied_index: u64,
}

impl GroupForm {
    fn of(status: &GroupStatus) -> Self {
        GroupForm {
            id: status.group.0,
            role: status.role.as_str(),
            term: status.term,
            leader: status.leader.map(|leader| leader.0),
            last_log_index: status.last_log_index,
            applied_index: status.applied_index,
        }
    }
}

pub(super) async fn cluster(
    State(app): State<App>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let identity = &app.door.node;
    let form = ClusterForm {
        id: identity.cluster_id.to_string(),
        name: &identity.cluster_name,
        node: NodeForm {
            id: identity.node_id.0,
            endpoint_id: &identity.endpoint_id,
            listen: identity.listen.iter().map(ToString::to_string).collect(),
            version: VERSION.version,
        },
        groups: app.door.groups.borrow().iter().map(GroupForm::of).collect(),
    };
    Ok(json::answer(StatusCode::OK, &form))
}

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
    Params::parse(request.uri().query(), &[])?;
    let held = body::read(&app, request.into_body(), HTTP_JSON_BYTES_MAX, &problem::BODY_TOO_LARGE)
        .await?;
    let CompactForm { revision } = json::read(&held.bytes)?;
    let Answer { revision: present, body } =
        app.door.client.execute(Action::Compact { revision }).await?;
    let AnswerBody::Compacted { revision: compacted, pending } = body else {
        return Err(Problem::contradiction("a compaction"));
    };
    let form = CompactedForm { revision: present, compacted, pending };
    Ok(json::answer_at(StatusCode::OK, present, &form))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::health::Part;
    use futures_util::FutureExt;

    /// The status of an answer and its document.
    fn sent(response: Response<Body>) -> (StatusCode, serde_json::Value) {
        let status = response.status();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).now_or_never().unwrap();
        (status, serde_json::from_slice(&body.unwrap()).unwrap())
    }

    #[test]
    fn an_unwell_node_says_which_part_and_why() {
        let mut report = HealthReport { ready: true, parts: vec![Part::healthy("store")] };
        report.parts.push(Part::degraded("disk", "12 % of the disk is free"));
        let expected = serde_json::json!({"state": "degraded", "ready": true, "parts": [
            {"name": "store", "state": "healthy", "reason": null},
            {"name": "disk", "state": "degraded", "reason": "12 % of the disk is free"}
        ]});
        assert_eq!(sent(health_of(&report)), (StatusCode::OK, expected.clone()));
        assert_eq!(sent(readiness_of(&report)), (StatusCode::OK, expected));

        report.parts[0] = Part::unhealthy("store", "it can't be written");
        assert_eq!(sent(health_of(&report)).0, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(sent(readiness_of(&report)).0, StatusCode::OK);
        report.ready = false;
        let (status, document) = sent(readiness_of(&report));
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!((&document["ready"], &document["state"]), (&false.into(), &"unhealthy".into()));
    }
}
