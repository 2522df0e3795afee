//! `/v1/locks/{name}` and `/v1/elections/{name}`: taking them, waiting for them, giving them up.
//!
//! Both are claims of leases on a name, held in the order in which they were made. A request waits only
//! so long; the claim keeps its place in the line while its lease lives, and who asks again with the
//! same lease goes on there.

use std::time::Duration;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Response, StatusCode, Uri};
use serde::{Deserialize, Serialize};
use tokio::time::timeout;

use super::App;
use super::body;
use super::decode::{Params, key_from_path};
use super::json::{self, Blob, Given, GivenLease, Hex};
use super::problem::{self, Problem};
use crate::client::{KvClient, Lock};
use crate::limits::HTTP_CLAIM_WAIT_MAX;
use crate::machine::ops::{Action, Answer, AnswerBody, Holder};
use crate::types::{Key, LeaseId, Revision, Value};

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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LockForm {
    lease: GivenLease,
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CampaignForm {
    lease: GivenLease,
    value: Given,
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ProclaimForm {
    lease: GivenLease,
    value: Given,
}

#[derive(Serialize)]
struct ClaimForm<'a> {
    held: bool,
    /// Of who holds it, this lease or another.
    holder: Option<HolderForm<'a>>,
}

#[derive(Serialize)]
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

pub(super) async fn lock(
    State(app): State<App>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let name = name_of(request.uri())?;
    let (_, client) = Params::of_store(request.uri().query(), &[], &app.client)?;
    let (LockForm { lease, wait_ms }, _held) = body::read_json(&app, request.into_body()).await?;
    let wait = Duration::from_millis(wait_ms);
    take(&app, &client, Claim { name, lease: lease.0, value: Value::default(), wait }).await
}

pub(super) async fn campaign(
    State(app): State<App>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let name = name_of(request.uri())?;
    let (_, client) = Params::of_store(request.uri().query(), &[], &app.client)?;
    let (CampaignForm { lease, value, wait_ms }, _held) =
        body::read_json(&app, request.into_body()).await?;
    let (value, wait) = (Value::new(value.0)?, Duration::from_millis(wait_ms));
    take(&app, &client, Claim { name, lease: lease.0, value, wait }).await
}

/// Claims, and waits for as long as is asked for. Whoever does not wait keeps no place in the line.
async fn take(app: &App, client: &KvClient, claim: Claim) -> Result<Response<Body>, Problem> {
    let Claim { name, lease, value, wait } = claim;
    let won = match wait {
        Duration::ZERO => client.try_campaign(name.clone(), lease, value).await?,
        wait => {
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
        return Err(Problem::new(&problem::LOCK_HELD, detail));
    }
    // A claim that was there already has the value that it was made with.
    let holder = client.holder(name).await?;
    let is_it = |Lock { key, .. }: Lock| holder.as_ref().is_some_and(|holder| holder.key == key);
    let held = won.is_some_and(is_it);
    let form = ClaimForm { held, holder: holder.as_ref().map(HolderForm::of) };
    Ok(json::answer(if held { StatusCode::OK } else { StatusCode::ACCEPTED }, &form))
}

#[derive(Serialize)]
struct ShownForm<'a> {
    holder: Option<HolderForm<'a>>,
}

pub(super) async fn show(State(app): State<App>, uri: Uri) -> Result<Response<Body>, Problem> {
    let name = name_of(&uri)?;
    let (_, client) = Params::of_store(uri.query(), &[], &app.client)?;
    let holder = client.holder(name).await?;
    Ok(json::answer(StatusCode::OK, &ShownForm { holder: holder.as_ref().map(HolderForm::of) }))
}

#[derive(Serialize)]
struct ReleasedForm {
    revision: Revision,
    /// Whether there was a claim to give up.
    released: bool,
}

/// Gives up what is held, or the place in the line.
pub(super) async fn give_up(State(app): State<App>, uri: Uri) -> Result<Response<Body>, Problem> {
    let name = name_of(&uri)?;
    let (params, client) = Params::of_store(uri.query(), &["lease"], &app.client)?;
    let unnamed = || Problem::new(&problem::BAD_QUERY, "name the lease that gives it up: lease=ID");
    let lease = params.parsed::<LeaseId>("lease")?.ok_or_else(unnamed)?;
    let Answer { revision, body } = client.execute(Action::Release { name, lease }).await?;
    let AnswerBody::Deleted { count, .. } = body else {
        return Err(Problem::contradiction("a release"));
    };
    Ok(json::answer_at(StatusCode::OK, revision, &ReleasedForm { revision, released: count > 0 }))
}

#[derive(Serialize)]
struct ProclaimedForm {
    revision: Revision,
}

pub(super) async fn proclaim(
    State(app): State<App>,
    request: Request,
) -> Result<Response<Body>, Problem> {
    let name = name_of(request.uri())?;
    let (_, client) = Params::of_store(request.uri().query(), &[], &app.client)?;
    let (ProclaimForm { lease, value }, _held) = body::read_json(&app, request.into_body()).await?;
    let proclaim = Action::Proclaim { name, lease: lease.0, value: Value::new(value.0)? };
    let Answer { revision, .. } = client.execute(proclaim).await?;
    Ok(json::answer_at(StatusCode::OK, revision, &ProclaimedForm { revision }))
}
