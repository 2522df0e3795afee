//! The HTTP door: decode, call the client, map errors. No logic.
//!
//! [`HttpDoor`] is the door as the node knows it; `docs/http.md` is the contract that this folder
//! keeps.
//!
//! - `door`: its address and life. `serve`: connections, and their bounds and end. `body`: request
//!   bodies, and theirs.
//! - `decode`, `etag`, `json`, `cursor`: the forms that endpoints share, read and written.
//! - `problem`: every error that a client can see, in one table.
//! - `kv`, `range`, `txn`, `watch`, `leases`, `node`: the endpoints.

mod body;
mod cursor;
mod decode;
mod door;
mod etag;
mod json;
mod kv;
mod leases;
mod node;
mod problem;
mod range;
mod serve;
mod txn;
mod watch;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post, put};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::limits::HTTP_BODIES_BYTES_MAX;
use crate::node::DoorContext;
use crate::seams::Tasks;

pub use decode::key_from_path;
pub use door::HttpDoor;
pub use problem::{KINDS, Kind, Problem, TYPE_PREFIX};

/// What the endpoints share.
#[derive(Debug)]
struct Shared {
    door: DoorContext,
    /// One permit for each byte of request bodies that may be held at once.
    bodies: Arc<Semaphore>,
    /// Connections, and what is left to do for refused bodies.
    tasks: Tasks,
    /// Cancelled when the door is told to stop: watches end then, all else finishes.
    closing: CancellationToken,
}

type App = Arc<Shared>;

impl Shared {
    fn new(door: DoorContext) -> App {
        Arc::new(Shared {
            door,
            bodies: Arc::new(Semaphore::new(HTTP_BODIES_BYTES_MAX)),
            tasks: Tasks::new(),
            closing: CancellationToken::new(),
        })
    }
}

fn router(app: App) -> Router {
    Router::new()
        .route("/v1/kv", get(range::list))
        .route("/v1/kv/", get(kv::empty_key).put(kv::empty_key).delete(kv::empty_key))
        .route("/v1/kv/{*key}", put(kv::put).get(kv::get).delete(kv::delete))
        .route("/v1/txn", post(txn::run))
        .route("/v1/watch", get(watch::watch))
        .route("/v1/leases", post(leases::grant).get(leases::list))
        .route("/v1/leases/{id}", get(leases::show).delete(leases::revoke))
        .route("/v1/leases/{id}/keep-alive", post(leases::keep_alive))
        .route("/v1/compact", post(node::compact))
        .route("/v1/cluster", get(node::cluster))
        .route("/livez", get(node::livez))
        .route("/readyz", get(node::readyz))
        .route("/health", get(node::health))
        .route("/version", get(node::version))
        .fallback(problem::path_not_found)
        .method_not_allowed_fallback(problem::method_not_allowed)
        .with_state(app)
}
