//! `/v1/locks/{name}` and `/v1/elections/{name}`: taking them, waiting for them, giving them up.
//!
//! Both are claims of leases on a name, held in the order in which they were made. A request waits only
//! so long; the claim keeps its place in the line while its lease lives, and who asks again with the
//! same lease goes on there.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, Uri};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::App;
use super::auth::Store;
use super::body;
use super::decode::{Params, key_from_path};
use super::gate::Visit;
use super::json::{self, Blob, Given, GivenLease, Hex};
use super::openapi::CLAIMS;
use super::operation::*;
use super::problem::*;
use super::schemas::ClaimName;
use crate::client::{KvClient, Lock};
use crate::limits::HTTP_CLAIM_WAIT_MAX;
use crate::machine::ops::{Action, Answer, AnswerBody, Holder};
use crate::types::{Form, Key, LeaseId, Revision, Value};

/// What stands before the name in the paths.
const LOCKS: &str = "/v1/locks/";
const ELECTIONS: &str = "/v1/elections/";

/// A lock's or an election's name.
fn name_of(uri: &Uri) -> Result<Key, Problem> {
    let path = uri.path();
    key_from_path(
        path.strip_prefix(LOCKS).or_else(|| path.strip_prefix(ELECTIONS)).unwrap_or_default(),
    )
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "LockClaim")]
struct LockForm {
    lease: GivenLease,
    #[serde(default)]
    wait_ms: u64,
}

pub(super) const LOCK_FORM: Form = json::form::<LockForm>("lock");

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Campaign")]
struct CampaignForm {
    lease: GivenLease,
    value: Given,
    #[serde(default)]
    wait_ms: u64,
}

pub(super) const CAMPAIGN_FORM: Form = json::form::<CampaignForm>("campaign");

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "Proclamation")]
struct ProclaimForm {
    lease: GivenLease,
    value: Given,
}

pub(super) const PROCLAIM_FORM: Form = json::form::<ProclaimForm>("proclamation");

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Claim")]
struct ClaimForm<'a> {
    held: bool,
    /// Of who holds it, this lease or another.
    holder: Option<HolderForm<'a>>,
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Holder")]
struct HolderForm<'a> {
    key: Blob<'a>,
    lease: Hex,
    /// The fencing token.
    token: Revision,
    value: Blob<'a>,
}

impl<'a> HolderForm<'a> {
    fn of(holder: &'a Holder) -> Self {
        HolderForm {
            key: Blob(holder.key.as_bytes()),
            lease: Hex(holder.lease),
            token: holder.token,
            value: Blob(holder.value.as_bytes()),
        }
    }
}

/// A claim as it is asked for.
struct Claim {
    name: Key,
    lease: LeaseId,
    value: Value,
    wait: Duration,
}

const NAME: &[Param] =
    &[Param::needed::<ClaimName>("name", "its name; slashes belong to it", "door")];
const OFFICE: &[Param] =
    &[Param::needed::<ClaimName>("name", "its name; slashes belong to it", "boss")];
const LEASE: Param = Param::needed::<GivenLease>("lease", "the lease that claims it", "2a");
/// What is in the way of a claim.
const OF_CLAIM: &[&Kind] = &[&LOCK_HELD, &NEEDS_SHARD, &VALUE_TOO_LONG];

pub(super) static LOCK: Operation = Operation {
    id: "lock",
    part: CLAIMS,
    about: "Takes a lock, or waits for it in line",
    path: NAME,
    query: &[KEYSPACE, NEAR],
    body: Some(Content::json::<LockForm>(r#"{"lease": "2a", "wait_ms": 1000}"#)),
    answers: &[
        Reply::json::<ClaimForm<'static>>(200, "it is held"),
        Reply::json::<ClaimForm<'static>>(202, "another holds it; the place in the line is kept"),
    ],
    problems: &[ANY, OF_STORE, WITH_BODY, WRITES, WITH_LEASE, OF_CLAIM],
    ..Operation::NEW
};

pub(super) async fn lock(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let name = name_of(request.uri())?;
    let (_, client) = Params::of_store(request.uri().query(), LOCK.query, &store)?;
    let visit = Visit::of(&request);
    let (LockForm { lease, wait_ms }, _held) = body::read_json(&app, request.into_body()).await?;
    let wait = Duration::from_millis(wait_ms);
    let claim = Claim { name, lease: lease.0, value: Value::default(), wait };
    take(&app, &client, claim, visit).await
}

pub(super) static CAMPAIGN: Operation = Operation {
    id: "campaign",
    part: CLAIMS,
    about: "Takes the lead, or waits for it in line",
    path: OFFICE,
    query: &[KEYSPACE, NEAR],
    body: Some(Content::json::<CampaignForm>(r#"{"lease": "2a", "value": "me", "wait_ms": 1000}"#)),
    answers: &[
        Reply::json::<ClaimForm<'static>>(200, "this lease leads"),
        Reply::json::<ClaimForm<'static>>(202, "another leads; the place in the line is kept"),
    ],
    problems: &[ANY, OF_STORE, WITH_BODY, WRITES, WITH_LEASE, OF_CLAIM],
    ..Operation::NEW
};

pub(super) async fn campaign(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let name = name_of(request.uri())?;
    let (_, client) = Params::of_store(request.uri().query(), CAMPAIGN.query, &store)?;
    let visit = Visit::of(&request);
    let (CampaignForm { lease, value, wait_ms }, _held) =
        body::read_data(&app, request.into_body()).await?;
    let (value, wait) = (Value::new(value.0)?, Duration::from_millis(wait_ms));
    take(&app, &client, Claim { name, lease: lease.0, value, wait }, visit).await
}

/// Claims, and waits for as long as is asked for. Whoever does not wait keeps no place in the line.
async fn take(
    app: &App,
    client: &KvClient,
    claim: Claim,
    visit: Option<Visit>,
) -> Result<Response<Body>, Problem> {
    let Claim { name, lease, value, wait } = claim;
    let won = match wait {
        Duration::ZERO => client.try_campaign(name.clone(), lease, value).await?,
        wait => {
            let _lasting = visit.map(|visit| visit.last()).transpose()?;
            let waiting = client.campaign(name.clone(), lease, value);
            let waiting = timeout(wait.min(HTTP_CLAIM_WAIT_MAX), waiting);
            tokio::select! {
                won = waiting => won.ok().transpose()?,
                () = app.closing.cancelled() => None,
            }
        }
    };
    if won.is_none() && wait.is_zero() {
        let detail = "another lease has it, or was before this one; wait for it with \"wait_ms\"";
        return Err(Problem::new(&LOCK_HELD, detail));
    }
    // A claim that was there already has the value that it was made with.
    let holder = client.holder(name).await?;
    let is_it = |Lock { key, .. }: Lock| holder.as_ref().is_some_and(|holder| holder.key == key);
    let held = won.is_some_and(is_it);
    let form = ClaimForm { held, holder: holder.as_ref().map(HolderForm::of) };
    Ok(json::answer(if held { StatusCode::OK } else { StatusCode::ACCEPTED }, &form))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Held")]
struct ShownForm<'a> {
    holder: Option<HolderForm<'a>>,
}

pub(super) static SHOW_LOCK: Operation =
    Operation { id: "showLock", about: "Who holds a lock", ..SHOW };
pub(super) static SHOW_ELECTION: Operation =
    Operation { id: "showElection", about: "Who leads", path: OFFICE, ..SHOW };
const SHOW: Operation = Operation {
    part: CLAIMS,
    path: NAME,
    query: &[KEYSPACE, NEAR],
    answers: &[Reply::json::<ShownForm<'static>>(200, "the holder; null if there is none")],
    problems: &[ANY, OF_STORE],
    ..Operation::NEW
};

pub(super) async fn show(Store(store): Store, uri: Uri) -> Result<Response<Body>, Problem> {
    let name = name_of(&uri)?;
    let (_, client) = Params::of_store(uri.query(), SHOW.query, &store)?;
    let holder = client.holder(name).await?;
    Ok(json::answer(StatusCode::OK, &ShownForm { holder: holder.as_ref().map(HolderForm::of) }))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Released")]
struct ReleasedForm {
    revision: Revision,
    /// Whether there was a claim to give up.
    released: bool,
}

pub(super) static UNLOCK: Operation =
    Operation { id: "unlock", about: "Gives up a lock, or the place in its line", ..GIVE_UP };
pub(super) static RESIGN: Operation = Operation {
    id: "resign",
    about: "Gives up the lead, or the place in its line",
    path: OFFICE,
    ..GIVE_UP
};
const GIVE_UP: Operation = Operation {
    part: CLAIMS,
    path: NAME,
    query: &[LEASE, KEYSPACE, NEAR],
    answers: &[Reply::json::<ReleasedForm>(200, "whether there was a claim").with(AT_REVISION)],
    problems: &[ANY, OF_STORE, WRITES],
    ..Operation::NEW
};

/// Gives up what is held, or the place in the line.
pub(super) async fn give_up(Store(store): Store, uri: Uri) -> Result<Response<Body>, Problem> {
    let name = name_of(&uri)?;
    let (params, client) = Params::of_store(uri.query(), GIVE_UP.query, &store)?;
    let unnamed = || Problem::new(&BAD_QUERY, "name the lease that gives it up: lease=ID");
    let lease = params.parsed::<LeaseId>("lease")?.ok_or_else(unnamed)?;
    let Answer { revision, body } = client.execute(Action::Release { name, lease }).await?;
    let AnswerBody::Deleted { count, .. } = body else {
        return Err(Problem::contradiction("a release"));
    };
    Ok(json::answer_at(StatusCode::OK, revision, &ReleasedForm { revision, released: count > 0 }))
}

#[derive(Serialize, JsonSchema)]
#[schemars(rename = "Proclaimed")]
struct ProclaimedForm {
    revision: Revision,
}

pub(super) static PROCLAIM: Operation = Operation {
    id: "proclaim",
    part: CLAIMS,
    about: "Says something else as the one who leads",
    path: OFFICE,
    query: &[KEYSPACE, NEAR],
    body: Some(Content::json::<ProclaimForm>(r#"{"lease": "2a", "value": "still me"}"#)),
    answers: &[Reply::json::<ProclaimedForm>(200, "it is said").with(AT_REVISION)],
    problems: &[ANY, OF_STORE, WITH_BODY, WRITES, WITH_LEASE, &[&NOT_HOLDER, &VALUE_TOO_LONG]],
    ..Operation::NEW
};

pub(super) async fn proclaim(
    State(app): State<App>,
    Store(store): Store,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let name = name_of(request.uri())?;
    let (_, client) = Params::of_store(request.uri().query(), PROCLAIM.query, &store)?;
    let (ProclaimForm { lease, value }, _held) = body::read_data(&app, request.into_body()).await?;
    let proclaim = Action::Proclaim { name, lease: lease.0, value: Value::new(value.0)? };
    let Answer { revision, .. } = client.execute(proclaim).await?;
    Ok(json::answer_at(StatusCode::OK, revision, &ProclaimedForm { revision }))
}
