//! `/v1/settings`: what holds for the whole cluster.

use aspen_tickets::Verb;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::AtNode;
use super::auth::Need;
use super::body;
use super::decode::{Params, Path};
use super::json;
use super::openapi::CLUSTER;
use super::operation::*;
use super::problem::*;
use crate::roster::builds::split;
use crate::roster::settings::known;
use crate::seams::version;
use crate::types::{Form, NodeId, Revision};

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Settings")]
struct ListForm<'a> {
    /// The revision of the roster that says so.
    epoch: Revision,
    settings: Vec<SettingForm<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Setting")]
struct SettingForm<'a> {
    name: &'static str,
    value: &'a str,
    default: &'static str,
    help: &'static str,
}

pub(super) static LIST: Operation = Operation {
    id: "listSettings",
    part: CLUSTER,
    about: "What holds for the whole cluster",
    need: Need::All(Verb::Read),
    answers: &[Reply::json::<ListForm<'static>>(200, "all settings")],
    problems: &[ANY],
    ..Operation::NEW
};

pub(super) async fn list(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let roster = node.door.cluster.fresh_or_known().await;
    let settings = known(split(version()).1).map(|setting| SettingForm {
        name: setting.name,
        value: roster.setting(setting),
        default: setting.default,
        help: setting.help,
    });
    let form = ListForm { epoch: roster.revision(), settings: settings.collect() };
    Ok(json::answer(StatusCode::OK, &form))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SettingValue")]
struct SetForm {
    /// `null` goes back to the default.
    value: Option<String>,
}

pub(super) const FORM: Form = json::form::<SetForm>("setting");

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "SettingSet")]
struct WasSetForm {
    name: String,
    epoch: Revision,
    members: Vec<KnowsForm>,
}

/// Whether a member follows the setting by now.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MemberEpoch")]
struct KnowsForm {
    node: NodeId,
    /// The epoch that it knows; `null` if it did not answer.
    epoch: Option<Revision>,
}

pub(super) static SET: Operation = Operation {
    id: "setSetting",
    part: CLUSTER,
    about: "Sets one, or goes back to its default",
    need: Need::All(Verb::Admin),
    path: &[Param::needed::<String>("name", "the setting's name", "lost-after")],
    body: Some(Content::json::<SetForm>(r#"{"value": "10m"}"#)),
    answers: &[Reply::json::<WasSetForm>(200, "it is set, and so far the members know")],
    problems: &[ANY, WITH_BODY, OF_CLUSTER, &[&SETTING_NOT_FOUND, &SETTING_VALUE]],
    ..Operation::NEW
};

pub(super) async fn set(
    State(node): State<AtNode>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let (SetForm { value }, _held) = body::read_json(&node.app, request.into_body()).await?;
    let cluster = &node.door.cluster;
    let epoch = cluster.set(&name, value.as_deref()).await?;
    let members = cluster.acknowledged(epoch).await.into_iter();
    let members = members.map(|(node, epoch)| KnowsForm { node, epoch }).collect();
    Ok(json::answer(StatusCode::OK, &WasSetForm { name, epoch, members }))
}
