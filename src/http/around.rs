//! What is done around every request, whichever it is: it has a name in log lines and in its answer,
//! a page in a browser may read the answer or not, and what is long and text goes out in gzip.

use std::convert::Infallible;
use std::future::{Future, ready};
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::http::header::{HeaderMap, HeaderValue};
use axum::http::{HeaderName, Method, Response, Version};
use axum::response::IntoResponse;
use futures_util::future::Either;
use hyper::body::Incoming;
use hyper::service::{Service, service_fn};
use hyper_util::service::TowerToHyperService;
use tokio::time::Instant;
use tracing::Level;

use super::counts::Limit;
use super::gate::Visitor;
use super::problem::{Failed, Problem};
use super::{App, body, gzip};
use crate::client::RequestId;
use crate::client::trace::{Part, TraceParent};
use crate::limits::HTTP2_REQUESTS_MAX;
use crate::seams::Random;

/// What a request is called, asked and answered.
const ASPEN_REQUEST_ID: HeaderName = HeaderName::from_static("aspen-request-id");

/// Where a request is in the trace of who sends it, as W3C has it.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// The names of requests that come without one.
#[derive(Debug)]
pub(super) struct Names {
    /// Of this door since it was opened.
    door: u64,
    next: AtomicU64,
}

impl Names {
    pub(super) fn new(random: &Random) -> Self {
        Names { door: random.next_u64(), next: AtomicU64::new(1) }
    }

    /// The name that a request came with, or one of ours.
    fn of(&self, headers: &HeaderMap) -> RequestId {
        let given = headers.get(ASPEN_REQUEST_ID);
        let given = given.and_then(|value| RequestId::given(value.as_bytes().to_vec()));
        given.unwrap_or_else(|| {
            let next = self.next.fetch_add(1, Ordering::Relaxed);
            let name = format!("{:016x}-{next:x}", self.door);
            RequestId::new(name).expect("digits and a dash are a name")
        })
    }
}

/// The router as what answers a connection's requests.
pub(super) fn routed(
    app: &App,
    visitor: Visitor,
    router: Router,
) -> impl Service<
    hyper::Request<Incoming>,
    Response = Response<Body>,
    Error = Infallible,
    Future: Send + 'static,
> + use<> {
    let (app, router) = (app.clone(), TowerToHyperService::new(router));
    service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(visitor.visit());
        request.extensions_mut().insert(app.keeper.clone());
        let id = app.names.of(request.headers());
        let origin = app.origins.allowed(request.headers());
        let is_gzip_wanted = gzip::is_wanted(request.headers());
        let answered = match refused(&app, &request).or_else(|| app.origins.preflight(&request)) {
            Some(response) => Either::Left(ready(Ok(response))),
            None => {
                let method = request.method().clone();
                let parent = request.headers().get(TRACEPARENT);
                let parent = parent.and_then(|parent| TraceParent::read(parent.as_bytes()));
                let part = Part::at_door(parent, &id, method.as_str());
                if part.is_recorded() {
                    request.extensions_mut().insert(part.clone());
                }
                let answered = router.call(body::lingering(request, &app.tasks));
                Either::Right(logged(&id, &method, part, answered))
            }
        };
        let app = app.clone();
        async move {
            let mut response = answered.await?;
            if let Some(Failed { problem, detail }) = response.extensions_mut().remove() {
                tracing::warn!(request_id = %id, problem, detail, "request failed");
            }
            name(response.headers_mut(), id);
            app.origins.tell(response.headers_mut(), origin);
            Ok(gzip::answer(response, is_gzip_wanted.then_some(&app.gzips)))
        }
    })
}

/// The answer to a request past what the door takes over HTTP/2.
fn refused(app: &App, request: &hyper::Request<Incoming>) -> Option<Response<Body>> {
    let is_too_much = app.streams.load(Ordering::Relaxed) >= HTTP2_REQUESTS_MAX;
    let is_refused = is_too_much && request.version() == Version::HTTP_2;
    is_refused.then(|| {
        app.counts.refuses(Limit::Streams);
        Problem::streams_full().into_response()
    })
}

/// Works on a request under its name, which its log lines have ([`RequestId::present`]).
fn logged<F>(
    id: &RequestId,
    method: &Method,
    part: Part,
    answered: F,
) -> impl Future<Output = F::Output> + Send + 'static + use<F>
where
    F: Future<Output = Result<Response<Body>, Infallible>> + Send + 'static,
{
    // Of the request no more is told than this: what is in its path is its sender's.
    let told = tracing::enabled!(Level::DEBUG).then(|| (Instant::now(), method.clone()));
    part.clone().scope(id.clone(), async move {
        let response = answered.await?;
        part.answered(response.status().as_u16());
        if let Some((begun, method)) = told {
            let status = response.status().as_u16();
            tracing::debug!(%method, status, took = ?begun.elapsed(), "a request was answered");
        }
        Ok(response)
    })
}

fn name(headers: &mut HeaderMap, id: RequestId) {
    let value = HeaderValue::from_maybe_shared(id.as_bytes().clone());
    headers.insert(ASPEN_REQUEST_ID, value.expect("visible ASCII is a header's value"));
}
