//! What the door was asked: requests by route, method and status.
//!
//! A route is the pattern of a path, never the path: there are as many as are declared, and what
//! fits none is counted together. A request is counted when the head of its answer is there; one
//! whose client has gone by then is counted with the status 0.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::routing::MethodRouter;

use super::operation::{Methods, Operation};
use super::{gate, problem};
use crate::client::trace::Part;
use crate::metrics::Counter;

/// Paths that fit no route, methods that a route does not take, statuses that are not listed.
const OTHER: &str = "other";
const METHODS: [&str; 6] = ["GET", "HEAD", "PUT", "POST", "DELETE", OTHER];
/// The statuses that there are problems and answers of; 0 is none, or another.
const STATUSES: [u16; 21] = [
    200, 201, 202, 304, 400, 401, 403, 404, 405, 408, 409, 410, 412, 413, 422, 429, 500, 503, 504,
    507, 0,
];

/// What a door has only so much of, and refuses for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Limit {
    /// Requests a second of one address.
    Rate,
    /// Operations under way.
    AtOnce,
    /// Watches and waits.
    Lasting,
    /// Bytes of answers.
    Answers,
    /// Bytes of request bodies.
    Bodies,
    /// Requests over HTTP/2.
    Streams,
}

/// Their names, in the same order.
const LIMITS: [&str; 6] = ["rate", "at-once", "lasting", "answers", "bodies", "streams"];

/// What a door was asked, for as long as there is one.
#[derive(Debug, Default)]
pub(super) struct HttpCounts {
    routes: Mutex<BTreeMap<String, Arc<RouteCounts>>>,
    opened: Counter,
    closed: Counter,
    refused: [Counter; LIMITS.len()],
    /// How often there was no place for a further connection.
    pub(super) connection_waits: Counter,
}

#[derive(Debug)]
struct RouteCounts {
    begun: Counter,
    /// By method, and then by status.
    cells: Vec<Counter>,
}

impl Default for RouteCounts {
    fn default() -> Self {
        let cells = (0..METHODS.len() * STATUSES.len()).map(|_| Counter::default()).collect();
        RouteCounts { begun: Counter::default(), cells }
    }
}

/// How many requests of one kind there were.
#[derive(Debug)]
pub(super) struct RequestFacts {
    pub(super) route: String,
    pub(super) method: &'static str,
    pub(super) status: u16,
    pub(super) count: u64,
}

impl HttpCounts {
    fn routes(&self) -> MutexGuard<'_, BTreeMap<String, Arc<RouteCounts>>> {
        self.routes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a route counts; a door that is started again goes on where it was.
    fn route(&self, path: &str) -> Arc<RouteCounts> {
        self.routes().entry(documented(path)).or_default().clone()
    }

    /// A connection begins; it ends when what this gives is dropped.
    pub(super) fn connection(self: &Arc<Self>) -> Open {
        self.opened.one();
        Open(self.clone())
    }

    /// How many connections there are, about.
    pub(super) fn connections(&self) -> u64 {
        let closed = self.closed.get();
        self.opened.get().saturating_sub(closed)
    }

    /// Somebody was refused for want of this.
    pub(super) fn refuses(&self, limit: Limit) {
        self.refused[limit as usize].one();
    }

    /// How often, for want of what.
    pub(super) fn refused(&self) -> impl Iterator<Item = (&'static str, u64)> {
        LIMITS.into_iter().zip(self.refused.iter().map(Counter::get))
    }

    /// How many requests wait for their answers, about.
    pub(super) fn in_flight(&self) -> u64 {
        let in_flight = |route: &Arc<RouteCounts>| {
            let ended: u64 = route.cells.iter().map(Counter::get).sum();
            route.begun.get().saturating_sub(ended)
        };
        self.routes().values().map(in_flight).sum()
    }

    /// All that were answered; kinds of which there were none are left out.
    pub(super) fn read(&self) -> Vec<RequestFacts> {
        let mut facts = Vec::new();
        for (route, counts) in self.routes().iter() {
            for (at, cell) in counts.cells.iter().enumerate() {
                let (method, status) =
                    (METHODS[at / STATUSES.len()], STATUSES[at % STATUSES.len()]);
                let count = cell.get();
                if count > 0 {
                    facts.push(RequestFacts { route: route.clone(), method, status, count });
                }
            }
        }
        facts
    }
}

/// What a method does; `HEAD` is answered by what answers `GET`.
fn operation_of(
    operations: &[(Method, &'static Operation)],
    method: &Method,
) -> Option<&'static Operation> {
    let method = if *method == Method::HEAD { &Method::GET } else { method };
    operations.iter().find(|(of, _)| of == method).map(|(_, operation)| *operation)
}

/// A pattern of paths as people read it: whether a name takes slashes is said elsewhere.
fn documented(path: &str) -> String {
    path.replace("{*", "{")
}

/// An open connection.
#[derive(Debug)]
pub(super) struct Open(Arc<HttpCounts>);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.closed.one();
    }
}

/// A request under way.
struct Counted {
    route: Arc<RouteCounts>,
    method: usize,
    status: u16,
}

impl Counted {
    fn begin(route: Arc<RouteCounts>, method: &Method) -> Self {
        route.begun.one();
        let other = METHODS.len() - 1;
        let method = METHODS.iter().position(|name| *name == method.as_str()).unwrap_or(other);
        Counted { route, method, status: 0 }
    }

    fn answered(mut self, status: StatusCode) {
        self.status = status.as_u16();
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let other = STATUSES.len() - 1;
        let status = STATUSES.iter().position(|status| *status == self.status).unwrap_or(other);
        self.route.cells[self.method * STATUSES.len() + status].one();
    }
}

/// An operation, and where it is.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) path: String,
    pub(super) method: Method,
    pub(super) operation: &'static Operation,
}

/// The routes of a door, each of which counts what it is asked.
pub(super) struct Routes<S> {
    router: Router<S>,
    counts: Arc<HttpCounts>,
    described: Vec<Described>,
}

impl<S: Clone + Send + Sync + 'static> Routes<S> {
    pub(super) fn counted_by(counts: &Arc<HttpCounts>) -> Self {
        Routes { router: Router::new(), counts: counts.clone(), described: Vec::new() }
    }

    pub(super) fn route(mut self, path: &str, methods: Methods<S>) -> Self {
        let Methods { router, operations } = methods;
        for (method, operation) in operations.iter().cloned() {
            let path = documented(path);
            self.described.push(Described { path, method, operation });
        }
        self.add(path, router, operations)
    }

    /// A route of which the document says nothing, because it is an exception of another.
    pub(super) fn undescribed(self, path: &str, methods: MethodRouter<S>) -> Self {
        self.add(path, methods, Vec::new())
    }

    fn add(
        self,
        path: &str,
        methods: MethodRouter<S>,
        operations: Vec<(Method, &'static Operation)>,
    ) -> Self {
        let (route, pattern) = (self.counts.route(path), documented(path));
        // Whoever is refused is counted.
        let needed = operations.clone();
        let methods = methods.layer(from_fn(move |request: Request, next: Next| {
            let operation = operation_of(&needed, request.method());
            gate::pass(operation, request, next)
        }));
        let methods = methods.layer(from_fn(move |request: Request, next: Next| {
            let counted = Counted::begin(route.clone(), request.method());
            if let Some(part) = request.extensions().get::<Part>() {
                part.takes(request.method().as_str(), &pattern);
            }
            let operation = operation_of(&operations, request.method());
            async move {
                let response = next.run(request).await;
                counted.answered(response.status());
                if let Some(operation) = operation {
                    operation.check(&response);
                }
                response
            }
        }));
        Routes { router: self.router.route(path, methods), ..self }
    }

    /// All that are described.
    pub(super) fn described(self) -> Vec<Described> {
        self.described
    }

    /// All of them, with what answers everything else.
    pub(super) fn router(self) -> Router<S> {
        let route = self.counts.route(OTHER);
        let counting = from_fn(move |request: Request, next: Next| {
            let counted = Counted::begin(route.clone(), request.method());
            async move {
                let response = next.run(request).await;
                counted.answered(response.status());
                response
            }
        });
        self.router
            .fallback(problem::path_not_found.layer(counting.clone()))
            .method_not_allowed_fallback(problem::method_not_allowed.layer(counting))
    }
}
