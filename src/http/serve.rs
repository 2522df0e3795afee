//! Connections: accepting, bounding, timing out and shutting down in an orderly way.
//!
//! A client speaks HTTP/1.1 or HTTP/2, as it likes, at the same address.

use std::future::Future;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::around::routed;
use super::cors::Origins;
use super::counts::HttpCounts;
use super::listen::{Listener, Stream};
use super::patient::Patient;
use super::preface::{self, Version};
use super::tls::Tls;
use super::{App, Shared, http2, node_router, store_router};
use crate::client::KvClient;
use crate::limits::{
    HTTP_CONNECTIONS_MAX, HTTP_DRAIN_MAX, HTTP_HEAD_BYTES_MAX, HTTP_HEAD_MAX, HTTP_LEAVE_AGAIN,
    HTTP_TLS_MAX,
};
use crate::node::DoorContext;

/// The wait before accepting again after an error that is not one connection's own: most often
/// the process has no file descriptor left, and one must be given back first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection that has not said anything may take to, once the door closes: what was
/// sent before may be on its way still.
const BEGUN_MAX: Duration = Duration::from_millis(100);

/// How the door is served.
pub(super) struct Way {
    /// What was asked of it.
    pub(super) counts: Arc<HttpCounts>,
    /// The certificate that clients are shown, if there is TLS.
    pub(super) tls: Option<Arc<Tls>>,
    /// Whose pages may use it.
    pub(super) origins: Origins,
}

/// Serves the door on a listening socket until `shutdown` resolves, then lets the requests that
/// are under way, and one that asks whether the node has left, finish for a bounded time
/// ([`HTTP_DRAIN_MAX`]) and returns. Dropping the future ends all of it at once.
pub(super) async fn serve(
    listener: Listener,
    door: DoorContext,
    way: Way,
    shutdown: impl Future<Output = ()>,
) {
    let app = Shared::new(door.client.clone(), Some(door.cluster.clone()), way.counts, way.origins);
    // Cancelled when this future is dropped: connections never outlive it.
    let cut = CancellationToken::new();
    let cut_on_drop = cut.clone().drop_guard();
    if let Some(tls) = &way.tls {
        let board = door.instruments.board.clone();
        app.tasks.spawn(tls.clone().follow(board, app.closing.clone()));
    }
    let router = node_router(app.clone(), door);
    let connections = Arc::new(Semaphore::new(HTTP_CONNECTIONS_MAX));
    let mut awaited = app.awaited.subscribe();
    let mut shutdown = pin!(async {
        shutdown.await;
        // Whoever asks how far the leaving is between two answers is to hear that it is done.
        let asks_again = awaited.wait_for(|awaited| !awaited);
        if timeout(HTTP_LEAVE_AGAIN, asks_again).await.is_err() {
            tracing::debug!("nobody asks again whether the node has left");
        }
    });
    loop {
        let accepted = tokio::select! {
            biased;
            () = &mut shutdown => break,
            accepted = accept(&listener, &connections) => accepted,
        };
        if let Some((stream, permit)) = accepted {
            let served = greeted(stream, way.tls.clone(), app.clone(), router.clone());
            let cut = cut.clone();
            let open = app.counts.connection();
            app.tasks.spawn(async move {
                let (_permit, _open) = (permit, open);
                tokio::select! {
                    () = served => {}
                    () = cut.cancelled() => {}
                }
            });
        }
    }
    drop(listener);
    app.closing.cancel();
    if timeout(HTTP_DRAIN_MAX, app.tasks.ended()).await.is_err() {
        tracing::warn!("requests were under way for too long after the stop and are cut off");
    }
    drop(cut_on_drop);
    app.tasks.ended().await;
}

/// Speaks the store's part of the API on one stream, to its end, from a client: for a program that
/// has the API's other end and no node to talk to.
///
/// The limits are those of a node's door, and so is every answer.
pub async fn serve_client(
    client: KvClient,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) {
    let app = Shared::new(client, None, Arc::default(), Origins::default());
    connection(Box::new(stream), app.clone(), store_router(app.clone())).await;
    app.tasks.ended().await;
}

/// Waits for a place among the connections, then for a connection; none if accepting failed.
async fn accept(
    listener: &Listener,
    connections: &Arc<Semaphore>,
) -> Option<(Stream, OwnedSemaphorePermit)> {
    let permit = connections
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore of connections is never closed");
    match listener.accept().await {
        Ok(stream) => Some((stream, permit)),
        Err(error) => {
            if !is_connections_own(&error) {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
            None
        }
    }
}

/// Errors that only mean that a peer was gone before it was accepted.
fn is_connections_own(error: &io::Error) -> bool {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset};
    matches!(error.kind(), ConnectionAborted | ConnectionRefused | ConnectionReset)
}

/// Agrees on TLS with a client, if there is to be any, and serves it; whoever accepts does not wait
/// for that.
async fn greeted(stream: Stream, tls: Option<Arc<Tls>>, app: App, router: Router) {
    let stream = match tls {
        None => stream,
        Some(tls) => match timeout(HTTP_TLS_MAX, tls.greet(stream)).await {
            Ok(Ok(stream)) => Box::new(stream),
            Ok(Err(error)) => {
                tracing::debug!(%error, "a client and the door do not agree on TLS");
                return;
            }
            Err(_) => return,
        },
    };
    connection(stream, app, router).await;
}

/// Serves one connection to its end; once the door closes, to the end of its present requests.
async fn connection(stream: Stream, app: App, router: Router) {
    let told = tokio::select! {
        told = timeout(HTTP_HEAD_MAX, preface::version(stream)) => told,
        () = async { app.closing.cancelled().await; sleep(BEGUN_MAX).await } => return,
    };
    let ended = match told {
        Ok(Ok((Version::One, stream))) => http1(stream, &app, router).await,
        Ok(Ok((Version::Two, stream))) => http2::serve(stream, &app, routed(&app, router)).await,
        // Whoever says nothing for long, or is gone, is told nothing.
        Ok(Err(_)) | Err(_) => Ok(()),
    };
    if let Err(error) = ended {
        // What peers do wrong is told to them and not to the operator.
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn http1(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    app: &App,
    router: Router,
) -> hyper::Result<()> {
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HTTP_HEAD_MAX)
            .max_buf_size(HTTP_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(Patient::new(stream)), routed(app, router))
    );
    tokio::select! {
        ended = &mut served => ended,
        () = app.closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    }
}
