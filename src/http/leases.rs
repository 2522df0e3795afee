//! `/v1/leases`: granting, listing, looking at, keeping alive and revoking.

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::App;
use super::auth::Store;
use super::body;
use super::decode::{Params, Path};
use super::json::{self, Blob, GivenLease, Hex};
use super::openapi::LEASES;
use super::operation::*;
use super::problem::*;
use super::schemas::Limit;
use crate::client::LeaseTtl;
use crate::limits::{HTTP_LEASES_PAGE_MAX, LEASE_TTL_MS_MAX, LEASE_TTL_MS_MIN};
use crate::machine::ops::{Action, Answer, AnswerBody, LeaseInfo, Query};
use crate::types::{Consistency, Form, LeaseId, Revision};

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "NewLease")]
struct GrantForm {
    #[schemars(range(min = LEASE_TTL_MS_MIN, max = LEASE_TTL_MS_MAX))]
    ttl_ms: u64,
    id: Option<GivenLease>,
}

pub(super) const FORM: Form = json::form::<GrantForm>("new lease");

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "GrantedLease")]
struct GrantedForm {
    revision: Revision,
    id: Hex,
    ttl_ms: u64,
}

const LEASE: &[Param] = &[Param::needed::<GivenLease>("id", "the lease", "2a")];
/// A lease belongs to one shard.
const OF_SHARD: &[&Kind] = &[&NEEDS_SHARD];

pub(super) static GRANT: Operation = Operation {
    id: "grantLease",
    part: LEASES,
    about: "Grants a lease",
    query: &[KEYSPACE, NEAR],
    body: Some(Content::json::<GrantForm>(r#"{"ttl_ms": 60000, "id": "2a"}"#)),
    answers: &[Reply::json::<GrantedForm>(201, "the lease").with(&[REVISION, LOCATION])],
    problems: &[
        ANY,
        OF_STORE,
        WITH_BODY,
        WRITES,
        OF_SHARD,
        &[&LEASE_EXISTS, &LEASE_TTL, &TOO_MANY_LEASES],
    ],
    ..Operation::NEW
};

pub(super) async fn grant(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let (_, client) = Params::of_store(request.uri().query(), GRANT.query, &store)?;
    let (GrantForm { ttl_ms, id }, _held) = body::read_json(&app, request.into_body()).await?;
    let grant = Action::LeaseGrant { id: id.map(|id| id.0), ttl_ms };
    let Answer { revision, body } = client.execute(grant).await?;
    let AnswerBody::Lease { id, ttl_ms } = body else {
        return Err(Problem::contradiction("a lease grant"));
    };
    let form = GrantedForm { revision, id: Hex(id), ttl_ms };
    let mut response = json::created(format!("/v1/leases/{id}"), &form);
    response.headers_mut().insert(ASPEN_REVISION, revision.into());
    Ok(response)
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Leases")]
struct ListForm {
    revision: Revision,
    more: bool,
    leases: Vec<ListedForm>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "ListedLease")]
struct ListedForm {
    id: Hex,
    ttl_ms: u64,
    keys: u64,
}

pub(super) static LIST: Operation = Operation {
    id: "listLeases",
    part: LEASES,
    about: "The leases in the order of their ids",
    query: &[
        Param::of::<GivenLease>("after", "the last one of the page before"),
        Param::of::<Limit>("limit", "how many at most"),
        CONSISTENCY,
        KEYSPACE,
        NEAR,
    ],
    answers: &[Reply::json::<ListForm>(200, "a page").with(AT_REVISION)],
    problems: &[ANY, OF_STORE, OF_SHARD],
    ..Operation::NEW
};

pub(super) async fn list(Store(store): Store, request: Request) -> Result<Response<Body>, Problem> {
    let (params, client) = Params::of_store(request.uri().query(), LIST.query, &store)?;
    let consistency = params.parsed::<Consistency>("consistency")?.unwrap_or_default();
    let after = params.parsed::<LeaseId>("after")?;
    let limit = match params.number("limit")? {
        Some(0) => return Err(Problem::new(&BAD_QUERY, "a limit is at least 1")),
        Some(limit) => limit.min(HTTP_LEASES_PAGE_MAX),
        None => HTTP_LEASES_PAGE_MAX,
    };
    // One more than is answered tells whether there are more.
    let query = Query::Leases { after, limit: limit + 1 };
    let Answer { revision, body } = client.query(query, consistency).await?;
    let AnswerBody::Leases(leases) = body else {
        return Err(Problem::contradiction("a listing of leases"));
    };
    let more = leases.len() as u64 > limit;
    let form =
        |info: LeaseInfo| ListedForm { id: Hex(info.id), ttl_ms: info.ttl_ms, keys: info.keys };
    let leases = leases.into_iter().take(limit as usize).map(form).collect();
    Ok(json::answer_at(StatusCode::OK, revision, &ListForm { revision, more, leases }))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "LeaseTime")]
struct TtlForm {
    id: Hex,
    ttl_ms: u64,
    left_ms: u64,
}

impl TtlForm {
    fn of(LeaseTtl { id, ttl_ms, left_ms }: LeaseTtl) -> Self {
        TtlForm { id: Hex(id), ttl_ms, left_ms }
    }
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Lease")]
struct LeaseForm<'a> {
    #[serde(flatten)]
    ttl: TtlForm,
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<Blob<'a>>>,
}

pub(super) static SHOW: Operation = Operation {
    id: "showLease",
    part: LEASES,
    about: "A lease, and how long it has still to live",
    path: LEASE,
    query: &[Param::of::<bool>("keys", "with the keys that are attached to it"), KEYSPACE, NEAR],
    answers: &[Reply::json::<LeaseForm<'static>>(200, "the lease").with(AT_REVISION)],
    problems: &[ANY, OF_STORE, OF_SHARD, &[&LEASE_NOT_FOUND]],
    ..Operation::NEW
};

pub(super) async fn show(
    Store(store): Store,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let id: LeaseId = id.parse()?;
    let (params, client) = Params::of_store(request.uri().query(), SHOW.query, &store)?;
    let with_keys = params.flag("keys")?;
    let ttl = TtlForm::of(client.lease_ttl(id).await?);
    if !with_keys {
        return Ok(json::answer(StatusCode::OK, &LeaseForm { ttl, keys: None }));
    }
    let query = Query::Lease { id, keys: true };
    let Answer { revision, body } = client.query(query, Consistency::Linearizable).await?;
    let AnswerBody::LeaseInfo { keys, .. } = &body else {
        return Err(Problem::contradiction("a look at a lease"));
    };
    let keys = Some(keys.iter().map(|key| Blob(key.as_bytes())).collect());
    Ok(json::answer_at(StatusCode::OK, revision, &LeaseForm { ttl, keys }))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RevokedLease")]
struct RevokedForm {
    revision: Revision,
}

pub(super) static REVOKE: Operation = Operation {
    id: "revokeLease",
    part: LEASES,
    about: "Ends a lease; its keys are deleted",
    path: LEASE,
    query: &[KEYSPACE, NEAR],
    answers: &[Reply::json::<RevokedForm>(200, "it is gone").with(AT_REVISION)],
    problems: &[ANY, OF_STORE, WRITES, OF_SHARD, &[&LEASE_NOT_FOUND]],
    ..Operation::NEW
};

pub(super) async fn revoke(
    Store(store): Store,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let id: LeaseId = id.parse()?;
    let (_, client) = Params::of_store(request.uri().query(), REVOKE.query, &store)?;
    let Answer { revision, .. } = client.execute(Action::LeaseRevoke { id }).await?;
    Ok(json::answer_at(StatusCode::OK, revision, &RevokedForm { revision }))
}

pub(super) static KEEP_ALIVE: Operation = Operation {
    id: "keepLeaseAlive",
    part: LEASES,
    about: "Gives a lease its time in full again",
    path: LEASE,
    query: &[KEYSPACE, NEAR],
    answers: &[Reply::json::<TtlForm>(200, "the lease")],
    problems: &[ANY, OF_STORE, WRITES, OF_SHARD, &[&LEASE_NOT_FOUND]],
    ..Operation::NEW
};

pub(super) async fn keep_alive(
    Store(store): Store,
    Path(id): Path<String>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let id: LeaseId = id.parse()?;
    let (_, client) = Params::of_store(request.uri().query(), KEEP_ALIVE.query, &store)?;
    let ttl = client.lease_keep_alive(id).await?;
    Ok(json::answer(StatusCode::OK, &TtlForm::of(ttl)))
}
