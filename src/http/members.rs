//! Members leave, are removed, are drained and maintained, and groups get other leaders and sound
//! replicas.

use std::collections::BTreeSet;

use aspen_tickets::Verb;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::AtNode;
use super::auth::Need;
use super::body;
use super::decode::{Params, Path};
use super::json;
use super::openapi::CLUSTER;
use super::operation::*;
use super::problem::*;
use crate::limits::{HTTP_LEAVE_LOOK, HTTP_LEAVE_MAX};
use crate::node::Departure;
use crate::roster::Roster;
use crate::roster::undertakings::What;
use crate::types::{Form, GroupId, NodeId};

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Departure")]
struct DepartureForm {
    node: NodeId,
    state: &'static str,
    /// How many replicas it has still to give to others, while it leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<usize>,
    /// What tells how far it is, while there is more to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
}

impl DepartureForm {
    fn removed(node: NodeId) -> Self {
        DepartureForm { node, state: "removed", replicas: None, operation: None }
    }
}

const MEMBER: &[Param] = &[Param::needed::<NodeId>("node", "the member's number", "3")];
const GROUP: &[Param] = &[Param::needed::<GroupId>("group", "the group's number", "1")];
/// What is in the way of a change of members.
const OF_MEMBERS: &[&Kind] = &[
    &CHANGE_REFUSED,
    &INVALID,
    &LAST_VOTER,
    &MAJORITY_AWAY,
    &NODE_LEAVING,
    &NODE_NOT_FOUND,
    &NODE_NOT_LEAVING,
    &NODE_REMOVED,
];
/// What is in the way of a change of a group.
const OF_GROUP: &[&Kind] = &[
    &CHANGE_REFUSED,
    &GROUP_NOT_FOUND,
    &INVALID,
    &MAJORITY_AWAY,
    &NO_REPLICA,
    &NODE_NOT_FOUND,
    &NOTHING_TO_TAKE_FROM,
    &REPAIR_UNDER_WAY,
    &SHARD_CHANGED,
];

pub(super) static REMOVE: Operation = Operation {
    id: "removeMember",
    part: CLUSTER,
    about: "Removes a member that will not come back",
    need: Need::All(Verb::Admin),
    path: MEMBER,
    answers: &[Reply::json::<DepartureForm>(200, "it is removed")],
    problems: &[ANY, OF_CLUSTER, OF_MEMBERS],
    ..Operation::NEW
};

pub(super) async fn remove(
    State(node): State<AtNode>,
    Path(member): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let member = NodeId(number(&member, "a node")?);
    node.door.cluster.remove(member).await?;
    // The groups follow.
    let operation = Some(What::Remove(member).to_string());
    let form = DepartureForm { operation, ..DepartureForm::removed(member) };
    Ok(json::answer(StatusCode::OK, &form))
}

pub(super) static LEAVE: Operation = Operation {
    id: "leave",
    part: CLUSTER,
    about: "This node leaves the cluster",
    need: Need::All(Verb::Admin),
    answers: &[
        Reply::json::<DepartureForm>(200, "it has left"),
        Reply::json::<DepartureForm>(202, "it leaves; ask again how far it is"),
    ],
    problems: &[ANY, OF_CLUSTER, OF_MEMBERS],
    ..Operation::NEW
};

/// Handing over can take long, so the answer after a while is that it goes on; asking again asks
/// how far it is.
pub(super) async fn leave(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    node.app.awaited.send_replace(false);
    let cluster = &node.door.cluster;
    let (me, before) = (cluster.me(), held_by(&cluster.roster(), cluster.me()));
    let progress = async {
        loop {
            sleep(HTTP_LEAVE_LOOK).await;
            if (1..before).contains(&held_by(&cluster.roster(), me)) {
                return;
            }
        }
    };
    // Before it is decided there is nothing that could go on.
    let has_left = match cluster.begin_to_leave().await? {
        Departure::Over => true,
        Departure::UnderWay => tokio::select! {
            left = cluster.left() => left.map(|()| true)?,
            _ = timeout(HTTP_LEAVE_MAX, progress) => false,
        },
    };
    if has_left {
        return Ok(json::answer(StatusCode::OK, &DepartureForm::removed(me)));
    }
    let replicas = Some(held_by(&cluster.roster(), me));
    let operation = Some(What::Leave(me).to_string());
    let form = DepartureForm { node: me, state: "leaving", replicas, operation };
    node.app.awaited.send_replace(true);
    Ok(json::answer(StatusCode::ACCEPTED, &form))
}

/// How many replicas of shards a member holds, or has still to give to others.
fn held_by(roster: &Roster, member: NodeId) -> usize {
    roster.shards().filter(|(_, shard, _)| shard.is_held_by(member)).count()
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Drain")]
struct DrainForm {
    on: bool,
}

pub(super) const DRAIN_FORM: Form = json::form::<DrainForm>("drain");

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Drained")]
struct DrainedForm {
    node: NodeId,
    draining: bool,
    /// How many replicas it has still to give to others.
    replicas: usize,
    /// What tells how far it is; null if the drain has ended.
    operation: Option<String>,
}

pub(super) static DRAIN: Operation = Operation {
    id: "drainMember",
    part: CLUSTER,
    about: "Has a member give its replicas and leads to others, or take its share again",
    need: Need::All(Verb::Admin),
    path: MEMBER,
    body: Some(Content::json::<DrainForm>(r#"{"on": true}"#)),
    answers: &[Reply::json::<DrainedForm>(200, "how far it is")],
    problems: &[ANY, WITH_BODY, OF_CLUSTER, OF_MEMBERS],
    ..Operation::NEW
};

pub(super) async fn drain(
    State(node): State<AtNode>,
    Path(member): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let member = NodeId(number(&member, "a node")?);
    let (DrainForm { on }, _held) = body::read_json(&node.app, request.into_body()).await?;
    let cluster = &node.door.cluster;
    cluster.drain(member, on).await?;
    let roster = cluster.fresh().await?;
    let replicas = held_by(&roster, member);
    let operation = on.then(|| What::Drain(member).to_string());
    let form = DrainedForm { node: member, draining: on, replicas, operation };
    Ok(json::answer(StatusCode::OK, &form))
}

#[derive(Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Maintenance")]
struct MaintenanceForm {
    nodes: BTreeSet<NodeId>,
    on: bool,
}

pub(super) const MAINTENANCE_FORM: Form = json::form::<MaintenanceForm>("maintenance");

pub(super) static MAINTENANCE: Operation = Operation {
    id: "maintainMembers",
    part: CLUSTER,
    about: "Has members lead nothing and be waited for, or not any more",
    need: Need::All(Verb::Admin),
    body: Some(Content::json::<MaintenanceForm>(r#"{"nodes": [3], "on": true}"#)),
    answers: &[Reply::json::<MaintenanceForm>(200, "what was asked for")],
    problems: &[ANY, WITH_BODY, OF_CLUSTER, OF_MEMBERS],
    ..Operation::NEW
};

pub(super) async fn maintenance(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let (form, _held) = body::read_json::<MaintenanceForm>(&node.app, request.into_body()).await?;
    node.door.cluster.maintain(&form.nodes, form.on).await?;
    Ok(json::answer(StatusCode::OK, &form))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Plan")]
struct PlanForm {
    moves: Vec<MoveForm>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Move")]
struct MoveForm {
    group: GroupId,
    from: Vec<NodeId>,
    to: Vec<NodeId>,
    leader: Option<NodeId>,
    why: &'static str,
}

pub(super) static REBALANCE: Operation = Operation {
    id: "planMoves",
    part: CLUSTER,
    about: "What would be moved next, and why",
    need: Need::All(Verb::Read),
    answers: &[Reply::json::<PlanForm>(200, "the moves; none if all is in its place")],
    problems: &[ANY, OF_CLUSTER],
    ..Operation::NEW
};

/// Where shards would be put next; nothing is done.
pub(super) async fn rebalance(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let cluster = &node.door.cluster;
    let plan = cluster.plan().await?;
    let roster = cluster.roster();
    let moves = plan.into_iter().map(|(group, aim, why)| MoveForm {
        group,
        from: roster
            .shard(group)
            .map(|(shard, _)| shard.replicas.iter().copied().collect())
            .unwrap_or_default(),
        to: aim.replicas.into_iter().collect(),
        leader: aim.leader,
        why: why.as_str(),
    });
    Ok(json::answer(StatusCode::OK, &PlanForm { moves: moves.collect() }))
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Transfer")]
struct TransferForm {
    to: NodeId,
}

pub(super) const TRANSFER_FORM: Form = json::form::<TransferForm>("transfer");

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Transferred")]
struct TransferredForm {
    group: GroupId,
    leader: NodeId,
}

pub(super) static TRANSFER: Operation = Operation {
    id: "transferLead",
    part: CLUSTER,
    about: "Gives a group's lead to another of its voters",
    need: Need::All(Verb::Admin),
    path: GROUP,
    body: Some(Content::json::<TransferForm>(r#"{"to": 2}"#)),
    answers: &[Reply::json::<TransferredForm>(200, "it leads")],
    problems: &[ANY, WITH_BODY, OF_CLUSTER, OF_GROUP],
    ..Operation::NEW
};

pub(super) async fn transfer(
    State(node): State<AtNode>,
    Path(group): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let group = GroupId(number(&group, "a group")?);
    let (TransferForm { to }, _held) = body::read_json(&node.app, request.into_body()).await?;
    node.door.cluster.transfer(group, to).await?;
    Ok(json::answer(StatusCode::OK, &TransferredForm { group, leader: to }))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Repair")]
struct RepairForm {
    group: GroupId,
    node: NodeId,
    state: &'static str,
    /// What tells how far it is.
    operation: String,
}

pub(super) static REPAIR: Operation = Operation {
    id: "repairReplica",
    part: CLUSTER,
    about: "Takes this node's replica of a group again from the others",
    need: Need::All(Verb::Admin),
    path: GROUP,
    answers: &[Reply::json::<RepairForm>(202, "it goes on; the cluster tells how far it is")],
    problems: &[ANY, OF_CLUSTER, OF_GROUP],
    ..Operation::NEW
};

/// It goes on after the answer: `GET /v1/cluster` tells how far it is.
pub(super) async fn repair(
    State(node): State<AtNode>,
    Path(group): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let group = GroupId(number(&group, "a group")?);
    let cluster = &node.door.cluster;
    let state = cluster.repair(group).await?.as_str();
    let operation = What::Repair(group, cluster.me()).to_string();
    let form = RepairForm { group, node: cluster.me(), state, operation };
    Ok(json::answer(StatusCode::ACCEPTED, &form))
}

/// A number in a path: digits only, so that each thing has one path.
pub(super) fn number(text: &str, whose: &str) -> Result<u64, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text);
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| {
        Problem::new(&INVALID, format!("{whose} is named by its number in the path"))
    })
}
