//! The HTTP door: decode, call the client, map errors. No logic.
//!
//! [`HttpDoor`] is the door as the node knows it; `docs/http.md` is the contract that this folder
//! keeps.
//!
//! - `door`: its address and life; `listen`: its sockets. `serve`: connections, and their bounds and
//!   end; `preface`: which HTTP they speak, `tls`: the certificate they are shown, `http2`: those of
//!   HTTP/2, `patient`: how long they may stall.
//! - `gate`: whom the door lets in, `auth`: who that is and what they may do, `audit`: what is told of
//!   it, `buckets`: how often.
//! - `around`, `cors`, `gzip`: what is done around every request. `body`: request bodies, and their
//!   bounds.
//! - `counts`: the routes, and what was asked of them. `metrics`: the page of all that is counted.
//! - `decode`, `etag`, `json`, `cursor`: the forms that endpoints share, read and written.
//! - `operation`: what each endpoint takes and answers; `openapi`: the document of them all, from the
//!   `schemas` of their forms.
//! - `problem`: every error that a client can see, in one table.
//! - `kv`, `many`, `range` with `lines`, `txn`, `watch`, `leases`, `claims`, `compact`: the endpoints of
//!   the store, which need a client and no node ([`serve_client`]). `node`, `cluster`, `members`,
//!   `tickets` and `tokens` with `access`, `keyspaces`, `settings`, `undertakings` (what takes long):
//!   those of a node.

mod access;
mod around;
mod audit;
mod auth;
mod body;
mod buckets;
mod claims;
mod cluster;
mod compact;
mod cors;
mod counts;
mod cursor;
mod decode;
mod door;
mod etag;
mod gate;
mod gzip;
mod http2;
mod json;
mod keyspaces;
mod kv;
mod leases;
mod lines;
mod listen;
mod many;
mod members;
mod metrics;
mod node;
mod openapi;
mod operation;
mod patient;
mod preface;
mod problem;
mod range;
mod refused;
mod schemas;
mod serve;
mod settings;
mod tickets;
mod tls;
mod tokens;
mod txn;
mod undertakings;
mod watch;

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use axum::Router;
use axum::extract::FromRef;
use axum::routing::put;
use tokio::sync::{self, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::limits::{HTTP_BODIES_BYTES_MAX, HTTP_GZIPS_MAX};
use crate::node::{Cluster, DoorContext};
use crate::seams::{Random, Tasks};
use crate::types::Form;
use around::Names;
use auth::Keeper;
use counts::{Described, HttpCounts, Routes};
use gate::Gate;
use operation::Methods;
use serve::Way;

pub use auth::Auth;
pub use cors::{Origins, OriginsError};
pub use decode::key_from_path;
pub use door::HttpDoor;
pub use gate::DoorLimits;
pub use metrics::{FAMILIES, Family, Shape};
pub use openapi::document;
pub use problem::{KINDS, Kind, Problem, TYPE_PREFIX};
pub use serve::serve_client;

/// What is read of requests, without the router.
#[doc(hidden)]
pub const FORMS: &[Form] = &[
    cursor::FORM,
    etag::FORM,
    decode::FORM,
    watch::FORM,
    gzip::FORM,
    json::BYTES,
    txn::FORM,
    many::KEYS_FORM,
    many::WRITES_FORM,
    claims::LOCK_FORM,
    claims::CAMPAIGN_FORM,
    claims::PROCLAIM_FORM,
    leases::FORM,
    compact::FORM,
    keyspaces::FORM,
    members::DRAIN_FORM,
    members::MAINTENANCE_FORM,
    members::TRANSFER_FORM,
    settings::FORM,
    tickets::FORM,
    tokens::FORM,
];

/// What all endpoints share.
#[derive(Debug)]
struct Shared {
    /// The cluster, at a node.
    cluster: Option<Cluster>,
    /// One permit for each byte of request bodies that may be held at once.
    bodies: Arc<Semaphore>,
    /// Whom the door lets in.
    gate: Arc<Gate>,
    /// Who knows who asks.
    keeper: Arc<Keeper>,
    /// What was asked.
    counts: Arc<HttpCounts>,
    /// Connections, and what is left to do for refused bodies.
    tasks: Tasks,
    /// One permit for each answer that may be made smaller at once.
    gzips: Arc<Semaphore>,
    /// What requests are called that come without a name.
    names: Names,
    /// Whose pages may use the door.
    origins: Origins,
    /// Requests under way over HTTP/2.
    streams: AtomicUsize,
    /// Cancelled when the door is told to stop: watches end then, all else finishes.
    closing: CancellationToken,
    /// Whether somebody was told that the node is leaving, and has not asked again yet.
    awaited: sync::watch::Sender<bool>,
}

type App = Arc<Shared>;

impl Shared {
    fn new(
        keeper: Keeper,
        cluster: Option<Cluster>,
        Way { counts, origins, limits, .. }: Way,
    ) -> App {
        Arc::new(Shared {
            cluster,
            gate: Gate::new(limits, counts.clone()),
            keeper: Arc::new(keeper),
            counts,
            bodies: Arc::new(Semaphore::new(HTTP_BODIES_BYTES_MAX)),
            tasks: Tasks::new(),
            gzips: Arc::new(Semaphore::new(HTTP_GZIPS_MAX)),
            names: Names::new(&Random::from_entropy()),
            origins,
            streams: AtomicUsize::new(0),
            closing: CancellationToken::new(),
            awaited: sync::watch::Sender::new(false),
        })
    }
}

/// What the endpoints of a node have besides.
#[derive(Clone, Debug)]
struct AtNode {
    app: App,
    door: Arc<DoorContext>,
}

impl FromRef<AtNode> for App {
    fn from_ref(node: &AtNode) -> App {
        node.app.clone()
    }
}

/// Everything that a node answers.
fn node_routes(counts: &Arc<HttpCounts>) -> Routes<AtNode> {
    store_routes(Routes::counted_by(counts))
        .route("/v1/cluster", at().get(&cluster::SHOW, cluster::show))
        .route("/v1/nodes/{node}", at().get(&cluster::SHOW_NODE, cluster::show_node))
        .route("/v1/members/{node}", at().delete(&members::REMOVE, members::remove))
        .route(
            "/v1/keyspaces",
            at().post(&keyspaces::CREATE, keyspaces::create).get(&keyspaces::LIST, keyspaces::list),
        )
        .route(
            "/v1/keyspaces/{name}",
            at().get(&keyspaces::SHOW, keyspaces::show)
                .delete(&keyspaces::DELETE, keyspaces::delete),
        )
        .route("/v1/shards", at().get(&keyspaces::SHARDS, keyspaces::shards))
        .route("/v1/settings", at().get(&settings::LIST, settings::list))
        .route("/v1/settings/{name}", at().put(&settings::SET, settings::set))
        .route("/v1/maintenance", at().post(&members::MAINTENANCE, members::maintenance))
        .route("/v1/members/{node}/drain", at().post(&members::DRAIN, members::drain))
        .route("/v1/operations", at().get(&undertakings::LIST, undertakings::list))
        .route("/v1/operations/{id}", at().get(&undertakings::SHOW, undertakings::show))
        .route("/v1/rebalance", at().get(&members::REBALANCE, members::rebalance))
        .route("/v1/leave", at().post(&members::LEAVE, members::leave))
        .route("/v1/groups/{group}/transfer", at().post(&members::TRANSFER, members::transfer))
        .route("/v1/groups/{group}/repair", at().post(&members::REPAIR, members::repair))
        .route(
            "/v1/tickets",
            at().post(&tickets::CREATE, tickets::create).get(&tickets::LIST, tickets::list),
        )
        .route("/v1/tickets/{id}", at().delete(&tickets::REVOKE, tickets::revoke))
        .route(
            "/v1/tokens",
            at().post(&tokens::CREATE, tokens::create).get(&tokens::LIST, tokens::list),
        )
        .route("/v1/tokens/{id}", at().delete(&tokens::REVOKE, tokens::revoke))
        .route("/livez", at().get(&node::LIVEZ, node::livez))
        .route("/readyz", at().get(&node::READYZ, node::readyz))
        .route("/health", at().get(&node::HEALTH, node::health))
        .route("/version", at().get(&node::VERSION, node::version))
        .route("/metrics", at().get(&metrics::METRICS, metrics::show))
        .route("/openapi.json", at().get(&openapi::DOCUMENT, openapi::show))
        .route("/docs", at().get(&openapi::DOCS, openapi::docs))
}

fn node_router(app: App, door: DoorContext) -> Router {
    node_routes(&app.counts).router().with_state(AtNode { app, door: Arc::new(door) })
}

/// All operations of a node.
fn described() -> Vec<Described> {
    node_routes(&Arc::default()).described()
}

/// What a client alone can answer.
fn store_router(app: App) -> Router {
    store_routes::<App>(Routes::counted_by(&app.counts)).router().with_state(app)
}

fn store_routes<S>(routes: Routes<S>) -> Routes<S>
where
    S: Clone + Send + Sync + 'static,
    App: FromRef<S>,
{
    // What is not asked for as many keys is a key of this name.
    let or_key = |methods: Methods<S>, key: &'static kv::Namesake| {
        let methods = methods.put(&key.put, kv::put).get(&key.get, kv::get);
        methods.delete(&key.delete, kv::delete)
    };
    routes
        .route("/v1/kv", at().get(&range::LIST, range::list).delete(&range::DELETE, range::delete))
        .undescribed("/v1/kv/", put(kv::empty_key).get(kv::empty_key).delete(kv::empty_key))
        .route(
            "/v1/kv/{*key}",
            at().put(&kv::PUT, kv::put).get(&kv::GET, kv::get).delete(&kv::DELETE, kv::delete),
        )
        .route("/v1/kv/mget", or_key(at().post(&many::MGET, many::get), &kv::MGET))
        .route("/v1/kv/batch", or_key(at().post(&many::BATCH, many::write), &kv::BATCH))
        .route("/v1/txn", at().post(&txn::RUN, txn::run))
        .route("/v1/watch", at().get(&watch::WATCH, watch::watch))
        .route(
            "/v1/leases",
            at().post(&leases::GRANT, leases::grant).get(&leases::LIST, leases::list),
        )
        .route(
            "/v1/leases/{id}",
            at().get(&leases::SHOW, leases::show).delete(&leases::REVOKE, leases::revoke),
        )
        .route("/v1/leases/{id}/keep-alive", at().post(&leases::KEEP_ALIVE, leases::keep_alive))
        .route(
            "/v1/locks/{*name}",
            at().post(&claims::LOCK, claims::lock)
                .get(&claims::SHOW_LOCK, claims::show)
                .delete(&claims::UNLOCK, claims::give_up),
        )
        .route(
            "/v1/elections/{*name}",
            at().post(&claims::CAMPAIGN, claims::campaign)
                .put(&claims::PROCLAIM, claims::proclaim)
                .get(&claims::SHOW_ELECTION, claims::show)
                .delete(&claims::RESIGN, claims::give_up),
        )
        .route("/v1/compact", at().post(&compact::COMPACT, compact::compact))
}

/// A path of which nothing is said yet.
fn at<S: Clone + Send + Sync + 'static>() -> Methods<S> {
    Methods::new()
}
