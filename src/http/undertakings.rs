//! `/v1/operations`: what is under way in the cluster and takes long; `/v1/operations/{id}`: one of
//! them.
//!
//! They are not kept, but follow from the roster and what nodes say
//! ([`crate::roster::undertakings`]), so any node tells of them, whichever was asked to begin.

use aspen_tickets::Verb;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::Serialize;

use super::AtNode;
use super::auth::Need;
use super::decode::{Params, Path};
use super::json;
use super::openapi::CLUSTER;
use super::operation::*;
use super::problem::*;
use crate::roster::undertakings::{Undertaking, What};
use crate::types::{GroupId, KeyspaceName, NodeId};

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LongOperation")]
struct UndertakingForm {
    id: String,
    /// `drain`, `leave`, `remove`, `repair`, `create`, `move`, `catch-up`, `erase` or `compact`.
    kind: &'static str,
    /// What it is about, as far as that is a node, a group or a keyspace.
    node: Option<NodeId>,
    group: Option<GroupId>,
    keyspace: Option<KeyspaceName>,
    /// `waiting`, `running` or `done`.
    state: &'static str,
    /// How much of it is done; null where nobody counts it.
    done: Option<u64>,
    of: Option<u64>,
    unit: Option<&'static str>,
    /// Why it can't go on, while it waits.
    why: Option<String>,
}

impl UndertakingForm {
    fn of(undertaking: Undertaking) -> Self {
        let Undertaking { what, standing, progress, why } = undertaking;
        UndertakingForm {
            id: what.to_string(),
            kind: what.kind(),
            node: what.node(),
            group: what.group(),
            state: standing.as_str(),
            done: progress.map(|(done, ..)| done),
            of: progress.map(|(_, of, _)| of),
            unit: progress.map(|(.., unit)| unit),
            why,
            keyspace: match what {
                What::Create(name) => Some(name),
                _ => None,
            },
        }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LongOperations")]
struct UndertakingsForm {
    operations: Vec<UndertakingForm>,
}

pub(super) static LIST: Operation = Operation {
    id: "listOperations",
    part: CLUSTER,
    about: "What is under way and takes long, as far as this node can tell",
    need: Need::All(Verb::Read),
    answers: &[Reply::json::<UndertakingsForm>(200, "the operations; none if all is done")],
    problems: &[ANY],
    ..Operation::NEW
};

pub(super) async fn list(
    State(node): State<AtNode>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let under_way = node.door.cluster.undertakings().await;
    let operations = under_way.into_iter().map(UndertakingForm::of).collect();
    Ok(json::answer(StatusCode::OK, &UndertakingsForm { operations }))
}

pub(super) static SHOW: Operation = Operation {
    id: "showOperation",
    part: CLUSTER,
    about: "How far an operation is that takes long; one that is done is known as long as what it \
            was about",
    need: Need::All(Verb::Read),
    path: &[Param::needed::<String>("id", "the operation's id", "create-default")],
    answers: &[Reply::json::<UndertakingForm>(200, "the operation")],
    problems: &[ANY, &[&OPERATION_NOT_FOUND]],
    ..Operation::NEW
};

pub(super) async fn show(
    State(node): State<AtNode>,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    Params::parse(request.uri().query(), &[])?;
    let unknown = || {
        Problem::new(
            &OPERATION_NOT_FOUND,
            "no operation of this id is under way or was; `aspen operations` lists those that are",
        )
    };
    let what: What = id.parse().map_err(|_| unknown())?;
    let found = node.door.cluster.undertaking(&what).await.ok_or_else(unknown)?;
    Ok(json::answer(StatusCode::OK, &UndertakingForm::of(found)))
}
