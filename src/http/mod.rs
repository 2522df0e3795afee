//! The HTTP door: decode, call the client, map errors. No logic.
//!
//! [`HttpDoor`] is the door as the node knows it; `docs/http.md` is the contract that this folder
//! keeps.
//!
//! - `door`: its address and life. `serve`: connections, and their bounds and end. `body`: request
//!   bodies, and theirs.
//! - `counts`: the routes, and what was asked of them. `metrics`: the page of all that is counted.
//! - `decode`, `etag`, `json`, `cursor`: the forms that endpoints share, read and written.
//! - `problem`: every error that a client can see, in one table.
//! - `kv`, `many`, `range` with `lines`, `txn`, `watch`, `leases`, `claims`, `compact`: the endpoints of
//!   the store, which need a client and no node ([`serve_client`]). `node`, `cluster`, `members`,
//!   `tickets`, `keyspaces`, `settings`: those of a node.

mod body;
mod claims;
mod cluster;
mod compact;
mod counts;
mod cursor;
mod decode;
mod door;
mod etag;
mod json;
mod keyspaces;
mod kv;
mod leases;
mod lines;
mod many;
mod members;
mod metrics;
mod node;
mod problem;
mod range;
mod refused;
mod serve;
mod settings;
mod tickets;
mod txn;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::extract::FromRef;
use axum::routing::{delete, get, post, put};
use tokio::sync::{self, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::client::KvClient;
use crate::limits::HTTP_BODIES_BYTES_MAX;
use crate::node::{Cluster, DoorContext};
use crate::seams::Tasks;
use counts::{HttpCounts, Routes};

pub use decode::key_from_path;
pub use door::HttpDoor;
pub use metrics::{FAMILIES, Family, Shape};
pub use problem::{KINDS, Kind, Problem, TYPE_PREFIX};
pub use serve::serve_client;

/// What all endpoints share.
#[derive(Debug)]
struct Shared {
    client: KvClient,
    /// The cluster, at a node.
    cluster: Option<Cluster>,
    /// One permit for each byte of request bodies that may be held at once.
    bodies: Arc<Semaphore>,
    /// What was asked.
    counts: Arc<HttpCounts>,
    /// Connections, and what is left to do for refused bodies.
    tasks: Tasks,
    /// Cancelled when the door is told to stop: watches end then, all else finishes.
    closing: CancellationToken,
    /// Whether somebody was told that the node is leaving, and has not asked again yet.
    awaited: sync::watch::Sender<bool>,
}

type App = Arc<Shared>;

impl Shared {
    fn new(client: KvClient, cluster: Option<Cluster>, counts: Arc<HttpCounts>) -> App {
        Arc::new(Shared {
            client,
            cluster,
            counts,
            bodies: Arc::new(Semaphore::new(HTTP_BODIES_BYTES_MAX)),
            tasks: Tasks::new(),
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
fn node_router(app: App, door: DoorContext) -> Router {
    store_routes(Routes::counted_by(&app.counts))
        .route("/v1/cluster", get(cluster::show))
        .route("/v1/nodes/{node}", get(cluster::show_node))
        .route("/v1/members/{node}", delete(members::remove))
        .route("/v1/keyspaces", post(keyspaces::create).get(keyspaces::list))
        .route("/v1/keyspaces/{name}", get(keyspaces::show).delete(keyspaces::delete))
        .route("/v1/shards", get(keyspaces::shards))
        .route("/v1/settings", get(settings::list))
        .route("/v1/settings/{name}", put(settings::set))
        .route("/v1/maintenance", post(members::maintenance))
        .route("/v1/members/{node}/drain", post(members::drain))
        .route("/v1/rebalance", get(members::rebalance))
        .route("/v1/leave", post(members::leave))
        .route("/v1/groups/{group}/transfer", post(members::transfer))
        .route("/v1/groups/{group}/repair", post(members::repair))
        .route("/v1/tickets", post(tickets::create).get(tickets::list))
        .route("/v1/tickets/{id}", delete(tickets::revoke))
        .route("/livez", get(node::livez))
        .route("/readyz", get(node::readyz))
        .route("/health", get(node::health))
        .route("/version", get(node::version))
        .route("/metrics", get(metrics::show))
        .router()
        .with_state(AtNode { app, door: Arc::new(door) })
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
    routes
        .route("/v1/kv", get(range::list).delete(range::delete))
        .route("/v1/kv/", get(kv::empty_key).put(kv::empty_key).delete(kv::empty_key))
        .route("/v1/kv/{*key}", put(kv::put).get(kv::get).delete(kv::delete))
        // What is not asked for so is a key of this name.
        .route("/v1/kv/mget", post(many::get).put(kv::put).get(kv::get).delete(kv::delete))
        .route("/v1/kv/batch", post(many::write).put(kv::put).get(kv::get).delete(kv::delete))
        .route("/v1/txn", post(txn::run))
        .route("/v1/watch", get(watch::watch))
        .route("/v1/leases", post(leases::grant).get(leases::list))
        .route("/v1/leases/{id}", get(leases::show).delete(leases::revoke))
        .route("/v1/leases/{id}/keep-alive", post(leases::keep_alive))
        .route("/v1/locks/{*name}", post(claims::lock).get(claims::show).delete(claims::give_up))
        .route(
            "/v1/elections/{*name}",
            post(claims::campaign).put(claims::proclaim).get(claims::show).delete(claims::give_up),
        )
        .route("/v1/compact", post(compact::compact))
}
