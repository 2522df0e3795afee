//! The node itself: its health and version.

use std::collections::BTreeMap;

use axum::body::Body;
use axum::extract::State;
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Serialize, Serializer};

use super::AtNode;
use super::auth::Need;
use super::gate::DoorLimits;
use super::json;
use super::openapi::NODE;
use super::operation::*;
use crate::health::{HealthReport, PartState};
use crate::roster::builds::split;
use crate::seams;

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Alive")]
struct AliveForm {
    alive: bool,
}

pub(super) static LIVEZ: Operation = Operation {
    id: "isAlive",
    part: NODE,
    about: "Whether the process answers",
    need: Need::Nothing,
    answers: &[Reply::json::<AliveForm>(200, "it does")],
    ..Operation::NEW
};

/// Answers for as long as the process runs its requests, whatever the state of its parts.
pub(super) async fn livez() -> Response<Body> {
    json::answer(StatusCode::OK, &AliveForm { alive: true })
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Health")]
struct HealthForm<'a> {
    state: &'static str,
    ready: bool,
    parts: Vec<PartForm<'a>>,
    #[schemars(with = "BTreeMap<String, Option<u32>>")]
    limits: LimitsForm,
}

/// What the door lets in, by the names of the settings; `null` is off.
struct LimitsForm(DoorLimits);

impl Serialize for LimitsForm {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.named())
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Part")]
struct PartForm<'a> {
    name: &'a str,
    state: &'static str,
    reason: Option<&'a str>,
}

fn health_response(
    report: &HealthReport,
    limits: DoorLimits,
    tells_why: bool,
    well: bool,
) -> Response<Body> {
    let form = HealthForm {
        state: report.state().as_str(),
        ready: report.ready,
        parts: report
            .parts
            .iter()
            .map(|part| PartForm {
                name: &part.name,
                state: part.state.as_str(),
                reason: part.reason.as_deref().filter(|_| tells_why),
            })
            .collect(),
        limits: LimitsForm(limits),
    };
    let status = if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    json::answer(status, &form)
}

/// Where it is asked who asks, the reasons are not for everybody.
fn readiness_of(report: &HealthReport, limits: DoorLimits, tells_why: bool) -> Response<Body> {
    health_response(report, limits, tells_why, report.ready)
}

fn health_of(report: &HealthReport, limits: DoorLimits) -> Response<Body> {
    health_response(report, limits, true, report.state() != PartState::Unhealthy)
}

pub(super) static READYZ: Operation = Operation {
    id: "isReady",
    part: NODE,
    about: "Whether the node can serve",
    need: Need::Nothing,
    answers: &[
        Reply::json::<HealthForm<'static>>(200, "it can"),
        Reply::json::<HealthForm<'static>>(503, "it can't, and why"),
    ],
    ..Operation::NEW
};

pub(super) async fn readyz(State(node): State<AtNode>) -> Response<Body> {
    let tells_why = !node.app.keeper.is_asking();
    readiness_of(&node.door.health.borrow(), node.app.gate.limits, tells_why)
}

pub(super) static HEALTH: Operation = Operation {
    id: "showHealth",
    part: NODE,
    about: "How each part of the node is",
    answers: &[
        Reply::json::<HealthForm<'static>>(200, "no part is unhealthy"),
        Reply::json::<HealthForm<'static>>(503, "a part is unhealthy, and why"),
    ],
    problems: &[OF_TOKEN],
    ..Operation::NEW
};

pub(super) async fn health(State(node): State<AtNode>) -> Response<Body> {
    health_of(&node.door.health.borrow(), node.app.gate.limits)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Version")]
struct VersionForm {
    name: &'static str,
    version: &'static str,
}

pub(super) static VERSION: Operation = Operation {
    id: "showVersion",
    part: NODE,
    about: "The node's version",
    answers: &[Reply::json::<VersionForm>(200, "the version")],
    problems: &[OF_TOKEN],
    ..Operation::NEW
};

pub(super) async fn version() -> Response<Body> {
    let (version, _) = split(seams::version());
    json::answer(StatusCode::OK, &VersionForm { name: "aspen", version })
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
        ], "limits": {"http-rate": null, "http-at-once": 4096}});
        let limits = DoorLimits::default();
        let health_of = |report: &_| health_of(report, limits);
        let readiness_of = |report: &_| readiness_of(report, limits, true);
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
