//! Connections: accepting, bounding, timing out and shutting down in an orderly way.
//!
//! A client speaks HTTP/1.1 or HTTP/2, as it likes, at the same address.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::IpAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::Response;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::around::routed;
use super::auth::{Auth, Keeper};
use super::cors::Origins;
use super::counts::HttpCounts;
use super::gate::{DoorLimits, Visitor};
use super::listen::{Listener, Stream};
use super::patient::Patient;
use super::preface::{self, Version};
use super::tls::Tls;
use super::{App, Shared, http2, node_router, store_router};
use crate::client::KvClient;
use crate::limits::{
    HTTP_CONNECTIONS_MAX, HTTP_DRAIN_MAX, HTTP_FILES_LEFT, HTTP_HEAD_BYTES_MAX, HTTP_HEAD_MAX,
    HTTP_LEAVE_AGAIN, HTTP_TLS_MAX,
};
use crate::node::DoorContext;
use crate::roster::tokens::Token;
use crate::seams::open_files_max;

/// The wait before accepting again after an error that is not one connection's own: most often
/// the process has no file descriptor left, and one must be given back first.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How long a connection that has not said anything may take to, once the door closes: what was
/// sent before may be on its way still.
const BEGUN_MAX: Duration = Duration::from_millis(100);

/// How the door is served.
#[derive(Debug, Default)]
pub(super) struct Way {
    /// What was asked of it.
    pub(super) counts: Arc<HttpCounts>,
    /// The certificate that clients are shown, if there is TLS.
    pub(super) tls: Option<Arc<Tls>>,
    /// Whose pages may use it.
    pub(super) origins: Origins,
    /// How much it lets in.
    pub(super) limits: DoorLimits,
    /// Whether it asks for tokens.
    pub(super) auth: Auth,
    /// The token of the node's owner.
    pub(super) owner: Option<Token>,
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
    let tls = way.tls.clone();
    let (cluster, client) = (door.cluster.clone(), door.client.clone());
    let keeper = Keeper::of(cluster.clone(), client, way.auth, way.owner.as_ref());
    let app = Shared::new(keeper, Some(cluster), way);
    // Cancelled when this future is dropped: connections never outlive it.
    let cut = CancellationToken::new();
    let cut_on_drop = cut.clone().drop_guard();
    if let Some(tls) = &tls {
        let board = door.instruments.board.clone();
        app.tasks.spawn(tls.clone().follow(board, app.closing.clone()));
    }
    let router = node_router(app.clone(), door);
    let connections = Arc::new(Semaphore::new(connections_max(open_files_max())));
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
            accepted = accept(&listener, &connections, &app.counts) => accepted,
        };
        if let Some((stream, address, permit)) = accepted {
            let visitor = app.gate.visitor(address);
            // In a box: what goes on around it would hold it again and again.
            let served =
                Box::pin(greeted(stream, tls.clone(), visitor, app.clone(), router.clone()));
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
    let app = Shared::new(Keeper::open(client), None, Way::default());
    let (visitor, router) = (app.gate.visitor(None), store_router(app.clone()));
    connection(Box::new(stream), visitor, app.clone(), router).await;
    app.tasks.ended().await;
}

/// How many connections there may be where a process may have so many files open.
fn connections_max(files: Option<u64>) -> usize {
    let Some(files) = files else { return HTTP_CONNECTIONS_MAX };
    let most = usize::try_from(files - HTTP_FILES_LEFT.min(files / 2)).unwrap_or(usize::MAX);
    if most < HTTP_CONNECTIONS_MAX {
        let wanted = HTTP_CONNECTIONS_MAX as u64 + HTTP_FILES_LEFT;
        tracing::warn!(
            files,
            connections = most,
            "the process may have few files open, so few HTTP connections are taken; let it have \
             {wanted} (ulimit -n, or LimitNOFILE of its service)"
        );
    }
    most.min(HTTP_CONNECTIONS_MAX)
}

/// Waits for a place among the connections, then for a connection; none if accepting failed.
async fn accept(
    listener: &Listener,
    connections: &Arc<Semaphore>,
    counts: &HttpCounts,
) -> Option<(Stream, Option<IpAddr>, OwnedSemaphorePermit)> {
    if connections.available_permits() == 0 {
        counts.connection_waits.one();
    }
    let permit = connections
        .clone()
        .acquire_owned()
        .await
        .expect("the semaphore of connections is never closed");
    match listener.accept().await {
        Ok((stream, address)) => Some((stream, address, permit)),
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
async fn greeted(
    stream: Stream,
    tls: Option<Arc<Tls>>,
    visitor: Visitor,
    app: App,
    router: Router,
) {
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
    connection(stream, visitor, app, router).await;
}

/// Serves one connection to its end; once the door closes, to the end of its present requests.
async fn connection(stream: Stream, visitor: Visitor, app: App, router: Router) {
    let told = tokio::select! {
        told = timeout(HTTP_HEAD_MAX, preface::version(stream)) => told,
        () = async { app.closing.cancelled().await; sleep(BEGUN_MAX).await } => return,
    };
    let ended = match told {
        Ok(Ok((Version::One, stream))) => http1(stream, &app, routed(&app, visitor, router)).await,
        Ok(Ok((Version::Two, stream))) => {
            http2::serve(stream, &app, routed(&app, visitor, router)).await
        }
        // Whoever says nothing for long, or is gone, is told nothing.
        Ok(Err(_)) | Err(_) => Ok(()),
    };
    if let Err(error) = ended {
        // What peers do wrong is told to them and not to the operator.
        tracing::debug!(%error, "a connection ended early");
    }
}

async fn http1<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    app: &App,
    service: S,
) -> hyper::Result<()>
where
    S: Service<hyper::Request<Incoming>, Response = Response<Body>, Error = Infallible>,
{
    let mut served = pin!(
        http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HTTP_HEAD_MAX)
            .max_buf_size(HTTP_HEAD_BYTES_MAX)
            .serve_connection(TokioIo::new(Patient::new(stream)), service)
    );
    tokio::select! {
        ended = &mut served => ended,
        () = app.closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            served.await
        }
    }
}
