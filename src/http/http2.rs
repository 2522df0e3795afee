//! A connection of HTTP/2: its requests, each a task of its own, and its bounds and end.
//!
//! What ends a connection of HTTP/1.1 ends this one: silence between requests, a head that does not
//! come, the door. It is told so first (GOAWAY), and what is under way finishes. A peer that is not
//! there any more is found by pings, also while a watch of it goes on.

use std::convert::Infallible;
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use axum::body::Body;
use axum::http::Response;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::Service;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::App;
use crate::limits::{
    HTTP_HEAD_BYTES_MAX, HTTP_HEAD_MAX, HTTP_LINGER_MAX, HTTP2_CONNECTION_WINDOW_BYTES,
    HTTP2_ERRORS_MAX, HTTP2_PING_EVERY, HTTP2_PING_MAX, HTTP2_RESETS_MAX, HTTP2_SEND_BUFFER_BYTES,
    HTTP2_STREAM_WINDOW_BYTES, HTTP2_STREAMS_MAX,
};

/// Serves one connection to its end; once the door closes, to the end of its present requests.
pub(super) async fn serve<S>(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send,
    app: &App,
    service: S,
) -> hyper::Result<()>
where
    S: Service<hyper::Request<Incoming>, Response = Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    let streams = Streams::new(app.clone());
    let _gone_with_this = streams.gone.clone().drop_guard();
    let mut served = pin!(
        http2::Builder::new(streams.clone())
            .timer(TokioTimer::new())
            .max_concurrent_streams(HTTP2_STREAMS_MAX)
            .max_header_list_size(HTTP_HEAD_BYTES_MAX as u32)
            .initial_stream_window_size(HTTP2_STREAM_WINDOW_BYTES)
            .initial_connection_window_size(HTTP2_CONNECTION_WINDOW_BYTES)
            .max_send_buf_size(HTTP2_SEND_BUFFER_BYTES)
            .max_pending_accept_reset_streams(HTTP2_RESETS_MAX)
            .max_local_error_reset_streams(HTTP2_ERRORS_MAX)
            .keep_alive_interval(HTTP2_PING_EVERY)
            .keep_alive_timeout(HTTP2_PING_MAX)
            .serve_connection(TokioIo::new(stream), service)
    );
    tokio::select! {
        ended = &mut served => return ended,
        () = app.closing.cancelled() => {
            served.as_mut().graceful_shutdown();
            // Whoever closes the door says for how long.
            return served.await;
        }
        () = streams.idle() => served.as_mut().graceful_shutdown(),
    }
    loop {
        // A request that was on its way when it was told is answered still.
        tokio::select! {
            ended = &mut served => return ended,
            () = sleep(HTTP_LINGER_MAX) => {
                if streams.under_way() == 0 {
                    return Ok(());
                }
            }
        }
    }
}

/// The requests of one connection, as tasks that end with it.
#[derive(Clone)]
struct Streams {
    app: App,
    facts: Arc<Facts>,
    /// Cancelled when the connection is no more.
    gone: CancellationToken,
}

struct Facts {
    begun: Instant,
    under_way: AtomicUsize,
    /// When the last request ended, in milliseconds since the connection began.
    quiet_since_ms: AtomicU64,
}

/// A request under way.
struct UnderWay(Streams);

impl Streams {
    fn new(app: App) -> Self {
        let (under_way, quiet_since_ms) = Default::default();
        let facts = Facts { begun: Instant::now(), under_way, quiet_since_ms };
        Streams { app, facts: Arc::new(facts), gone: CancellationToken::new() }
    }

    fn under_way(&self) -> usize {
        self.facts.under_way.load(Ordering::Relaxed)
    }

    /// Resolves when there was no request for as long as one may take to come. It looks when that
    /// can first be so, and costs requests nothing.
    async fn idle(&self) {
        loop {
            let quiet_since_ms = self.facts.quiet_since_ms.load(Ordering::Relaxed);
            let quiet_since = match self.under_way() {
                0 => self.facts.begun + std::time::Duration::from_millis(quiet_since_ms),
                _ => Instant::now(),
            };
            if quiet_since.elapsed() >= HTTP_HEAD_MAX {
                return;
            }
            sleep_until(quiet_since + HTTP_HEAD_MAX).await;
        }
    }
}

impl<F> Executor<F> for Streams
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, stream: F) {
        self.facts.under_way.fetch_add(1, Ordering::Relaxed);
        self.app.streams.fetch_add(1, Ordering::Relaxed);
        let under_way = UnderWay(self.clone());
        self.app.tasks.spawn(async move {
            under_way.0.gone.run_until_cancelled(stream).await;
            drop(under_way);
        });
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Streams { app, facts, .. } = &self.0;
        let now_ms = u64::try_from(facts.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        facts.quiet_since_ms.store(now_ms, Ordering::Relaxed);
        facts.under_way.fetch_sub(1, Ordering::Relaxed);
        app.streams.fetch_sub(1, Ordering::Relaxed);
    }
}
