//! `/v1/cluster`: the members and the groups, as they look from this node; `/v1/nodes/{node}`: one of
//! the members.
//!
//! It is answered from what the node has at hand, so it is there when no majority is.

use std::time::Duration;

use aspen_tickets::Verb;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::AtNode;
use super::auth::Need;
use super::decode::{Params, Path as PathPart};
use super::json;
use super::members::number;
use super::openapi::CLUSTER;
use super::operation::*;
use super::problem::*;
use crate::actors::Told;
use crate::error::Corrupt;
use crate::net::KnownAddress;
use crate::node::{GroupFacts, MemberFacts};
use crate::roster::Roster;
use crate::roster::announcement::Part;
use crate::roster::builds::split;
use crate::roster::records::{Duty, RepairStage, Shard, State as Standing};
use crate::roster::refused::Refused;
use crate::seams::network::Path;
use crate::seams::version;
use crate::types::{NodeId, Revision};

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Cluster")]
struct ClusterForm<'a> {
    id: String,
    name: &'a str,
    /// The revision of the members and tickets that this node has seen.
    revision: Revision,
    now_s: u64,
    node: NodeForm<'a>,
    members: Vec<MemberForm>,
    groups: Vec<GroupForm>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ThisNode")]
struct NodeForm<'a> {
    id: NodeId,
    endpoint_id: &'a str,
    listen: Vec<String>,
    version: &'static str,
    level: u32,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Member")]
struct MemberForm {
    node: NodeId,
    name: String,
    endpoint_id: String,
    role: String,
    state: &'static str,
    addresses: Vec<String>,
    version: String,
    level: u32,
    connected: bool,
    health: &'static str,
    capacity: u32,
    draining: bool,
    maintenance: bool,
    /// Of how many shards it is to hold replicas, and how many it is to lead.
    replicas: usize,
    leads: usize,
    heard_ms: Option<u64>,
    reached_at: Option<String>,
    path: Option<PathForm>,
    unreached: Option<String>,
    known: Vec<KnownForm>,
    told: Option<ToldForm>,
    offences: u64,
}

/// Where a node would look for a member.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "KnownAddress")]
struct KnownForm {
    address: String,
    source: &'static str,
    noted_s: u64,
}

impl KnownForm {
    fn of(known: KnownAddress) -> Self {
        let KnownAddress { address, source, noted_s } = known;
        KnownForm { address: address.to_string(), source: source.as_str(), noted_s }
    }
}

/// How a member is reached.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Path")]
struct PathForm {
    kind: &'static str,
    address: String,
    round_trip_ms: f64,
    packets: u64,
    lost: u64,
}

impl PathForm {
    fn of(path: Path) -> Self {
        PathForm {
            kind: if path.address.relay().is_some() { "relayed" } else { "direct" },
            address: path.address.to_string(),
            round_trip_ms: path.round_trip.as_micros() as f64 / 1_000.0,
            packets: path.sent,
            lost: path.lost,
        }
    }
}

/// What a member says of itself to all others.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Told")]
struct ToldForm {
    age_ms: u64,
    version: String,
    writes_per_second: u32,
    free_percent: u8,
    groups: Vec<PartForm>,
}

/// What it is to a group.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "MemberGroup")]
struct PartForm {
    id: u64,
    role: &'static str,
    applied_index: u64,
}

impl ToldForm {
    fn of(Told { announcement, age }: Told) -> Self {
        let part = |part: Part| PartForm {
            id: part.group.0,
            role: part.role.as_str(),
            applied_index: part.applied,
        };
        ToldForm {
            age_ms: millis(age),
            version: split(&announcement.version).0.to_owned(),
            writes_per_second: announcement.writes_per_second,
            free_percent: announcement.free_percent,
            groups: announcement.groups.into_iter().map(part).collect(),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl MemberForm {
    fn of(facts: MemberFacts, roster: &Roster) -> Self {
        let health = facts.health(roster.lost_after()).as_str();
        let MemberFacts {
            member,
            is_connected,
            heard,
            reached_at,
            path,
            unreached,
            known,
            told,
            offences,
            ..
        } = facts;
        let Duty { weight, draining, maintenance } = roster.duty(member.node);
        let replicas = |(_, shard, _): &(_, &Shard, _)| shard.replicas.contains(&member.node);
        let leads = |(_, shard, _): &(_, &Shard, _)| shard.leader == Some(member.node);
        MemberForm {
            health,
            capacity: weight,
            draining,
            maintenance,
            replicas: roster.shards().filter(replicas).count(),
            leads: roster.shards().filter(leads).count(),
            node: member.node,
            name: member.name,
            endpoint_id: member.endpoint.to_string(),
            role: member.role.to_string(),
            state: match member.state {
                Standing::Active => "active",
                Standing::Leaving => "leaving",
                Standing::Removed => "removed",
            },
            addresses: member.addresses.iter().map(ToString::to_string).collect(),
            version: split(&member.version).0.to_owned(),
            level: split(&member.version).1,
            connected: is_connected,
            heard_ms: heard.map(millis),
            reached_at: reached_at.map(|address| address.to_string()),
            path: path.map(PathForm::of),
            unreached,
            known: known.into_iter().map(KnownForm::of).collect(),
            told: told.map(ToldForm::of),
            offences,
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Group")]
struct GroupForm {
    id: u64,
    role: &'static str,
    asleep: bool,
    term: u64,
    leader: Option<NodeId>,
    last_log_index: u64,
    applied_index: u64,
    revision: Revision,
    voters: Vec<NodeId>,
    learners: Vec<NodeId>,
    replicas: Vec<ReplicaForm>,
    damage: Option<DamageForm>,
    repair: Option<&'static str>,
}

/// What has stopped a replica for good.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Damage")]
struct DamageForm {
    entry: Option<u64>,
    what: String,
}

/// A replica elsewhere, as far as the group's leader knows.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Replica")]
struct ReplicaForm {
    node: NodeId,
    stored_index: u64,
}

impl GroupForm {
    fn of(facts: GroupFacts) -> Self {
        let GroupFacts { status, stored, is_asleep, damage, repair, .. } = facts;
        GroupForm {
            id: status.group.0,
            role: status.role.as_str(),
            asleep: is_asleep,
            term: status.term,
            leader: status.leader,
            last_log_index: status.last_log_index,
            applied_index: status.applied_index,
            revision: status.revision,
            voters: status.voters.into_iter().collect(),
            learners: status.learners.into_iter().collect(),
            replicas: stored
                .into_iter()
                .map(|(node, stored_index)| ReplicaForm { node, stored_index })
                .collect(),
            damage: damage.map(|Corrupt { index, what, .. }| DamageForm { entry: index, what }),
            repair: repair.map(RepairStage::as_str),
        }
    }
}

pub(super) static SHOW: Operation = Operation {
    id: "showCluster",
    part: CLUSTER,
    about: "The members and groups as this node sees them; it needs no majority",
    need: Need::All(Verb::Read),
    answers: &[Reply::json::<ClusterForm<'static>>(200, "the cluster")],
    problems: &[ANY],
    ..Operation::NEW
};

pub(super) async fn show(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let (identity, cluster) = (&node.door.node, &node.door.cluster);
    let roster = cluster.roster();
    let form = ClusterForm {
        id: identity.cluster_id.to_string(),
        name: &identity.cluster_name,
        revision: roster.revision(),
        now_s: cluster.now_s(),
        node: NodeForm {
            id: identity.node_id,
            endpoint_id: &identity.endpoint_id.to_string(),
            listen: identity.listen.iter().map(ToString::to_string).collect(),
            version: split(version()).0,
            level: split(version()).1,
        },
        members: cluster
            .members()
            .into_iter()
            .map(|facts| MemberForm::of(facts, &roster))
            .collect(),
        groups: cluster.groups().into_iter().map(GroupForm::of).collect(),
    };
    Ok(json::answer(StatusCode::OK, &form))
}

pub(super) static SHOW_NODE: Operation = Operation {
    id: "showMember",
    part: CLUSTER,
    about: "One of the members",
    need: Need::All(Verb::Read),
    path: &[Param::needed::<NodeId>("node", "the member's number", "1")],
    answers: &[Reply::json::<MemberForm>(200, "the member")],
    problems: &[ANY, &[&INVALID, &NODE_NOT_FOUND]],
    ..Operation::NEW
};

pub(super) async fn show_node(
    State(node): State<AtNode>,
    PathPart(member): PathPart<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let member = NodeId(number(&member, "a node")?);
    let cluster = &node.door.cluster;
    let facts = cluster.member(member).ok_or(Refused::UnknownNode { node: member })?;
    Ok(json::answer(StatusCode::OK, &MemberForm::of(facts, &cluster.roster())))
}
