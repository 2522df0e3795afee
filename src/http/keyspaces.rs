//! `/v1/keyspaces`: making, listing and deleting them; `/v1/shards`: where their shards are.
//!
//! What is listed is what this node knows, so it is there when no majority is.

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
use super::openapi::KEYSPACES;
use super::operation::*;
use super::problem::*;
use crate::limits::{KEYSPACE_REPLICAS, KEYSPACE_SHARDS_MAX, VOTERS_MAX};
use crate::roster::Roster;
use crate::roster::records::{Keyspace, Shard, Stage};
use crate::roster::refused::Refused;
use crate::roster::undertakings::What;
use crate::types::{Form, GroupId, KeyspaceName, NodeId};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewKeyspace")]
struct CreateForm {
    #[schemars(with = "KeyspaceName")]
    name: String,
    #[schemars(range(min = 1, max = KEYSPACE_SHARDS_MAX))]
    shards: Option<u32>,
    #[schemars(range(min = 1, max = VOTERS_MAX))]
    replicas: Option<u8>,
}

pub(super) const FORM: Form = json::form::<CreateForm>("new keyspace");

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Keyspace")]
struct KeyspaceForm<'a> {
    name: &'a KeyspaceName,
    shards: u32,
    replicas: u8,
    created_s: u64,
    first_group: GroupId,
    /// How many of its shards are where they are to be.
    settled: usize,
    /// What tells how far its shards are, when it was just made.
    #[serde(skip_serializing_if = "Option::is_none")]
    operation: Option<String>,
}

impl<'a> KeyspaceForm<'a> {
    fn of(name: &'a KeyspaceName, keyspace: &Keyspace, roster: &Roster) -> Self {
        let Keyspace { first, shards, replicas, created_s, .. } = *keyspace;
        let is_settled = |group: &GroupId| {
            roster.shard(*group).is_some_and(|(shard, _)| shard.stage == Stage::Settled)
        };
        let settled = keyspace.groups().filter(is_settled).count();
        let operation = None;
        KeyspaceForm { name, shards, replicas, created_s, first_group: first, settled, operation }
    }
}

const NAME: &[Param] = &[Param::needed::<KeyspaceName>("name", "the keyspace's name", "logs")];

pub(super) static CREATE: Operation = Operation {
    id: "createKeyspace",
    part: KEYSPACES,
    about: "Makes a keyspace",
    need: Need::All(Verb::Admin),
    body: Some(Content::json::<CreateForm>(r#"{"name": "logs", "shards": 2, "replicas": 3}"#)),
    answers: &[Reply::json::<KeyspaceForm<'static>>(201, "the keyspace").with(&[LOCATION])],
    problems: &[
        ANY,
        WITH_BODY,
        OF_CLUSTER,
        &[
            &KEYSPACE_EXISTS,
            &KEYSPACE_NAME,
            &KEYSPACE_OUT_OF_BOUNDS,
            &TOO_MANY_KEYSPACES,
            &TOO_MANY_SHARDS,
        ],
    ],
    ..Operation::NEW
};

pub(super) async fn create(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let (CreateForm { name, shards, replicas }, _held) =
        body::read_json(&node.app, request.into_body()).await?;
    let (shards, replicas) = (shards.unwrap_or(1), replicas.unwrap_or(KEYSPACE_REPLICAS));
    let cluster = &node.door.cluster;
    let keyspace = cluster.create_keyspace(&name, shards, replicas).await?;
    let name: KeyspaceName = name.parse()?;
    let operation = Some(What::Create(name.clone()).to_string());
    let form = KeyspaceForm { operation, ..KeyspaceForm::of(&name, &keyspace, &cluster.roster()) };
    // A keyspace's name is a segment of a path as it is.
    Ok(json::created(format!("/v1/keyspaces/{name}"), &form))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Keyspaces")]
struct ListForm<'a> {
    keyspaces: Vec<KeyspaceForm<'a>>,
}

pub(super) static LIST: Operation = Operation {
    id: "listKeyspaces",
    part: KEYSPACES,
    about: "All keyspaces",
    need: Need::All(Verb::Read),
    answers: &[Reply::json::<ListForm<'static>>(200, "the keyspaces, by their names")],
    problems: &[ANY],
    ..Operation::NEW
};

pub(super) async fn list(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let roster = node.door.cluster.fresh_or_known().await;
    let form = |(name, keyspace)| KeyspaceForm::of(name, keyspace, &roster);
    let keyspaces = roster.keyspaces().map(form).collect();
    Ok(json::answer(StatusCode::OK, &ListForm { keyspaces }))
}

pub(super) static SHOW: Operation = Operation {
    id: "showKeyspace",
    part: KEYSPACES,
    about: "A keyspace",
    need: Need::All(Verb::Read),
    path: NAME,
    answers: &[Reply::json::<KeyspaceForm<'static>>(200, "the keyspace")],
    problems: &[ANY, &[&KEYSPACE_NAME, &KEYSPACE_NOT_FOUND]],
    ..Operation::NEW
};

pub(super) async fn show(
    State(node): State<AtNode>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let name: KeyspaceName = name.parse()?;
    let roster = node.door.cluster.fresh_or_known().await;
    match roster.keyspace(&name) {
        Some(keyspace) => {
            Ok(json::answer(StatusCode::OK, &KeyspaceForm::of(&name, keyspace, &roster)))
        }
        None => Err(Refused::UnknownKeyspace { name }.into()),
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "DeletedKeyspace")]
struct DeletedForm {
    name: KeyspaceName,
    /// What tells how far this node is with erasing what it had of it.
    operation: String,
}

pub(super) static DELETE: Operation = Operation {
    id: "deleteKeyspace",
    part: KEYSPACES,
    about: "Deletes a keyspace with all that is in it",
    need: Need::All(Verb::Admin),
    path: NAME,
    answers: &[Reply::json::<DeletedForm>(200, "it is gone")],
    problems: &[ANY, OF_CLUSTER, &[&KEYSPACE_NAME, &KEYSPACE_NOT_FOUND, &KEYSPACE_STAYS]],
    ..Operation::NEW
};

pub(super) async fn delete(
    State(node): State<AtNode>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let cluster = &node.door.cluster;
    cluster.delete_keyspace(&name).await?;
    let operation = What::Erase(cluster.me()).to_string();
    Ok(json::answer(StatusCode::OK, &DeletedForm { name: name.parse()?, operation }))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Shards")]
struct ShardsForm<'a> {
    /// The revision of the roster that says so.
    epoch: u64,
    shards: Vec<ShardForm<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Shard")]
struct ShardForm<'a> {
    keyspace: &'a KeyspaceName,
    shard: u32,
    group: GroupId,
    stage: &'static str,
    replicas: Vec<NodeId>,
    leaving: Vec<NodeId>,
    wanted_leader: Option<NodeId>,
}

pub(super) static SHARDS: Operation = Operation {
    id: "listShards",
    part: KEYSPACES,
    about: "Where shards are, and where they are to be",
    need: Need::All(Verb::Read),
    query: &[Param::of::<KeyspaceName>("keyspace", "of this one only")],
    answers: &[Reply::json::<ShardsForm<'static>>(200, "the shards, by their groups")],
    problems: &[ANY, &[&KEYSPACE_NAME, &KEYSPACE_NOT_FOUND]],
    ..Operation::NEW
};

pub(super) async fn shards(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let params = Params::parse(request.uri().query(), SHARDS.query)?;
    let only = params.parsed::<KeyspaceName>("keyspace")?;
    let roster = node.door.cluster.fresh_or_known().await;
    if let Some(name) = &only
        && roster.keyspace(name).is_none()
    {
        return Err(Refused::UnknownKeyspace { name: name.clone() }.into());
    }
    let form = |(group, shard, _): (GroupId, &Shard, u64)| {
        let (keyspace, of) = roster.keyspace_of(group)?;
        Some(ShardForm {
            keyspace,
            shard: of.shard(group)?,
            group,
            stage: shard.stage.as_str(),
            replicas: shard.replicas.iter().copied().collect(),
            leaving: shard.leaving.iter().copied().collect(),
            wanted_leader: shard.leader,
        })
    };
    let is_asked = |form: &ShardForm<'_>| only.as_ref().is_none_or(|name| name == form.keyspace);
    let shards = roster.shards().filter_map(form).filter(is_asked).collect();
    Ok(json::answer(StatusCode::OK, &ShardsForm { epoch: roster.revision(), shards }))
}
