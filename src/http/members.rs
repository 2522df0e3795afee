//! Members leave, are removed, are drained and maintained, and groups get other leaders and sound
//! replicas.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{Response, StatusCode};
use serde::{Deserialize, Serialize};
use tokio::time::{sleep, timeout};

use super::AtNode;
use super::body;
use super::decode::Params;
use super::json;
use super::problem::{self, Problem};
use crate::limits::{HTTP_LEAVE_LOOK, HTTP_LEAVE_MAX};
use crate::roster::Roster;
use crate::types::{GroupId, NodeId};

#[derive(Serialize)]
struct DepartureForm {
    node: NodeId,
    state: &'static str,
    /// How many replicas it has still to give to others, while it leaves.
    #[serde(skip_serializing_if = "Option::is_none")]
    replicas: Option<usize>,
}

impl DepartureForm {
    fn removed(node: NodeId) -> Self {
        DepartureForm { node, state: "removed", replicas: None }
    }
}

pub(super) async fn remove(
    State(node): State<AtNode>,
    Path(member): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let member = NodeId(number(&member, "a node")?);
    node.door.cluster.remove(member).await?;
    Ok(json::answer(StatusCode::OK, &DepartureForm::removed(member)))
}

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
    tokio::select! {
        left = cluster.leave() => {
            left?;
            return Ok(json::answer(StatusCode::OK, &DepartureForm::removed(me)));
        }
        _ = timeout(HTTP_LEAVE_MAX, progress) => {}
    }
    let replicas = Some(held_by(&cluster.roster(), me));
    let form = DepartureForm { node: me, state: "leaving", replicas };
    node.app.awaited.send_replace(true);
    Ok(json::answer(StatusCode::ACCEPTED, &form))
}

/// How many replicas of shards a member holds, or has still to give to others.
fn held_by(roster: &Roster, member: NodeId) -> usize {
    roster.shards().filter(|(_, shard, _)| shard.is_held_by(member)).count()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DrainForm {
    on: bool,
}

#[derive(Serialize)]
struct DrainedForm {
    node: NodeId,
    draining: bool,
    /// How many replicas it has still to give to others.
    replicas: usize,
}

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
    Ok(json::answer(StatusCode::OK, &DrainedForm { node: member, draining: on, replicas }))
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct MaintenanceForm {
    nodes: BTreeSet<NodeId>,
    on: bool,
}

pub(super) async fn maintenance(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let (form, _held) = body::read_json::<MaintenanceForm>(&node.app, request.into_body()).await?;
    node.door.cluster.maintain(&form.nodes, form.on).await?;
    Ok(json::answer(StatusCode::OK, &form))
}

#[derive(Serialize)]
struct PlanForm {
    moves: Vec<MoveForm>,
}

#[derive(Serialize)]
struct MoveForm {
    group: GroupId,
    from: Vec<NodeId>,
    to: Vec<NodeId>,
    leader: Option<NodeId>,
    why: &'static str,
}

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferForm {
    to: NodeId,
}

#[derive(Serialize)]
struct TransferredForm {
    group: GroupId,
    leader: NodeId,
}

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

#[derive(Serialize)]
struct RepairForm {
    group: GroupId,
    node: NodeId,
    state: &'static str,
}

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
    Ok(json::answer(StatusCode::ACCEPTED, &RepairForm { group, node: cluster.me(), state }))
}

/// A number in a path: digits only, so that each thing has one path.
pub(super) fn number(text: &str, whose: &str) -> Result<u64, Problem> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit()).then_some(text);
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or_else(|| {
        Problem::new(&problem::INVALID, format!("{whose} is named by its number in the path"))
    })
}
