//! Whom the door lets in, and how much of what there may be at once: requests of one address or token a
//! second, operations under way, what lasts (watches, and claims that wait), and bytes of answers.
//!
//! Whoever is refused is told when to come again, and nothing was done. How the node is may be asked at
//! any time: who looks after it must hear that it has too much to do.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::{Body, HttpBody, to_bytes};
use axum::extract::Request;
use axum::http::{Method, Response};
use axum::middleware::Next;
use axum::response::IntoResponse;
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout};

use super::auth::{Asker, Keeper, Need};
use super::buckets::{Buckets, Origin};
use super::counts::{HttpCounts, Limit};
use super::operation::Operation;
use super::problem::Problem;
use crate::limits::{
    HTTP_ANSWER_SMALL_BYTES, HTTP_ANSWERS_BYTES_MAX, HTTP_AT_ONCE, HTTP_CONNECTION_LASTING_MAX,
    HTTP_LASTING_MAX, HTTP_STALL_MAX,
};

/// What is asked of the node itself.
const ALWAYS: [&str; 5] = ["/livez", "/readyz", "/health", "/version", "/metrics"];
/// When to come again where something is full that empties with every answer.
const AGAIN: Duration = Duration::from_millis(100);
/// When to come again where something is full that lasts.
const AGAIN_LASTING: Duration = Duration::from_secs(1);

/// What an operator sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DoorLimits {
    /// Most requests of one client address in a second; `None` is any number. An IPv6 network of 64
    /// bits counts as one address.
    pub rate: Option<NonZeroU32>,
    /// Most operations under way at once; `None` is as many as there are connections.
    pub at_once: Option<NonZeroU32>,
}

impl DoorLimits {
    /// Each by the name of its setting.
    pub(super) fn named(&self) -> [(&'static str, Option<NonZeroU32>); 2] {
        [("http-rate", self.rate), ("http-at-once", self.at_once)]
    }

    /// Says which are off.
    pub(super) fn log(&self) {
        for (name, _) in self.named().into_iter().filter(|(_, most)| most.is_none()) {
            tracing::info!("{name} is off: what HTTP clients ask of this node has no such limit");
        }
    }
}

impl Default for DoorLimits {
    fn default() -> Self {
        DoorLimits { rate: None, at_once: NonZeroU32::new(HTTP_AT_ONCE) }
    }
}

/// What all of a door's connections share.
#[derive(Debug)]
pub(super) struct Gate {
    pub(super) limits: DoorLimits,
    buckets: Option<Mutex<Buckets>>,
    at_once: Option<Arc<Semaphore>>,
    lasting: Arc<Semaphore>,
    /// One permit for each byte of large answers.
    answers: Arc<Semaphore>,
    counts: Arc<HttpCounts>,
}

impl Gate {
    pub(super) fn new(limits: DoorLimits, counts: Arc<HttpCounts>) -> Arc<Self> {
        let places = |most: NonZeroU32| Arc::new(Semaphore::new(most.get() as usize));
        Arc::new(Gate {
            limits,
            buckets: limits.rate.map(|rate| Mutex::new(Buckets::new(rate))),
            at_once: limits.at_once.map(places),
            lasting: Arc::new(Semaphore::new(HTTP_LASTING_MAX)),
            answers: Arc::new(Semaphore::new(HTTP_ANSWERS_BYTES_MAX)),
            counts,
        })
    }

    /// Refuses for want of this.
    fn busy(&self, limit: Limit, what: &'static str, again: Duration) -> Problem {
        self.counts.refuses(limit);
        let again = u64::try_from(again.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX);
        crate::error::Error::Busy { what, retry_after_ms: again }.into()
    }

    /// A connection from this address, if it has one.
    pub(super) fn visitor(self: &Arc<Self>, address: Option<IpAddr>) -> Visitor {
        let lasting = Arc::new(Semaphore::new(HTTP_CONNECTION_LASTING_MAX));
        Visitor { gate: self.clone(), origin: Origin::of(address), lasting }
    }
}

/// One connection.
#[derive(Clone, Debug)]
pub(super) struct Visitor {
    gate: Arc<Gate>,
    origin: Origin,
    lasting: Arc<Semaphore>,
}

impl Visitor {
    /// One of its requests, which goes with it as an extension.
    pub(super) fn visit(&self) -> Visit {
        Visit { visitor: self.clone(), place: Arc::default() }
    }
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Visit {
    visitor: Visitor,
    /// Its place among the operations under way, until it is answered or lasts.
    place: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
}

/// Something that lasts, until this is dropped.
#[derive(Debug)]
pub(super) struct Lasting {
    _of_connection: OwnedSemaphorePermit,
    _of_door: OwnedSemaphorePermit,
}

impl Visit {
    /// What came with a request; none where nobody counts.
    pub(super) fn of(request: &Request) -> Option<Self> {
        request.extensions().get::<Visit>().cloned()
    }

    fn set_place(&self, place: Option<OwnedSemaphorePermit>) {
        *self.place.lock().unwrap_or_else(PoisonError::into_inner) = place;
    }

    /// Whether this address, or the holder of this token, may ask once more.
    fn take(&self, origin: Origin, what: &'static str) -> Result<(), Problem> {
        let Visitor { gate, .. } = &self.visitor;
        let Some(buckets) = &gate.buckets else { return Ok(()) };
        let mut buckets = buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let full = |wait| gate.busy(Limit::Rate, what, wait);
        buckets.take(origin, Instant::now()).map_err(full)
    }

    fn enter(&self) -> Result<(), Problem> {
        let Visitor { gate, .. } = &self.visitor;
        if let Some(at_once) = &gate.at_once {
            let place = at_once.clone().try_acquire_owned();
            let full =
                |_| gate.busy(Limit::AtOnce, "the number of operations under way here", AGAIN);
            self.set_place(Some(place.map_err(full)?));
        }
        Ok(())
    }

    /// It lasts: it is no longer an operation under way, and there may be so many on a connection and
    /// in all.
    pub(super) fn last(&self) -> Result<Lasting, Problem> {
        let Visitor { gate, lasting, .. } = &self.visitor;
        let of_connection = lasting.clone().try_acquire_owned();
        let full = |what| gate.busy(Limit::Lasting, what, AGAIN_LASTING);
        let of_connection = of_connection
            .map_err(|_| full("the number of watches and waits on your connection"))?;
        let of_door = gate.lasting.clone().try_acquire_owned();
        let of_door = of_door.map_err(|_| full("the number of watches and waits here"))?;
        self.set_place(None);
        Ok(Lasting { _of_connection: of_connection, _of_door: of_door })
    }

    /// A large answer has its share of what may wait to be sent, until it is sent. What was only read
    /// can be read again; for anything else there is a wait, and none is refused.
    async fn send(&self, is_read: bool, response: Response<Body>) -> Response<Body> {
        let len = response.body().size_hint().exact().unwrap_or(0);
        let Some(len) = usize::try_from(len).ok().filter(|len| *len > HTTP_ANSWER_SMALL_BYTES)
        else {
            return response;
        };
        let gate = &self.visitor.gate;
        let answers = &gate.answers;
        let weight = u32::try_from(len.min(HTTP_ANSWERS_BYTES_MAX)).unwrap_or(u32::MAX);
        let share = match answers.clone().try_acquire_many_owned(weight) {
            Ok(share) => Some(share),
            Err(_) if is_read => {
                return gate.busy(Limit::Answers, "memory for answers", AGAIN).into_response();
            }
            Err(_) => {
                let waiting = answers.clone().acquire_many_owned(weight);
                timeout(HTTP_STALL_MAX, waiting).await.ok().and_then(Result::ok)
            }
        };
        let (head, body) = response.into_parts();
        match to_bytes(body, len).await {
            Ok(bytes) => {
                let sent = Bytes::from_owner(Shared { bytes, _share: share });
                Response::from_parts(head, Body::from(sent))
            }
            Err(_) => Problem::contradiction("an answer").into_response(),
        }
    }
}

/// Bytes and their share.
struct Shared {
    bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Lets a request pass that is for this operation, or refuses it.
pub(super) async fn pass(
    operation: Option<&'static Operation>,
    mut request: Request,
    next: Next,
) -> Response<Body> {
    let keeper = request.extensions().get::<Arc<Keeper>>().cloned();
    let (Some(visit), Some(keeper)) = (Visit::of(&request), keeper) else {
        return Problem::contradiction("the door").into_response();
    };
    let is_bounded = !ALWAYS.contains(&request.uri().path());
    let origin = visit.visitor.origin;
    if is_bounded && let Err(problem) = visit.take(origin, "the rate of requests of your address") {
        return problem.into_response();
    }
    // What is not described is for who has a token at least.
    let need = operation.map_or(Need::Token, |operation| operation.need);
    let asker = match keeper.admit((request.method(), request.headers()), need).await {
        Ok(asker) => asker,
        Err((asker, problem)) => {
            let response = problem.into_response();
            keeper.audit.asked((&asker, origin), operation, &request).answered(&response);
            return response;
        }
    };
    if is_bounded {
        let of_token = match &asker {
            Asker::Holder(holder) => {
                visit.take(Origin::Token(holder.permit.grant), "the rate of requests of your token")
            }
            Asker::Anybody | Asker::Owner => Ok(()),
        };
        if let Err(problem) = of_token.and_then(|()| visit.enter()) {
            return problem.into_response();
        }
    }
    let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
    request.extensions_mut().insert(asker.clone());
    let asked = keeper.audit.asked((&asker, origin), operation, &request);
    let response = next.run(request).await;
    asked.answered(&response);
    if is_bounded { visit.send(is_read, response).await } else { response }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::StatusCode;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[test]
    fn what_lasts_is_bounded_on_a_connection_and_in_all_and_has_no_place_among_operations() {
        let limits = DoorLimits { at_once: NonZeroU32::new(1), ..DoorLimits::default() };
        let counts = Arc::new(HttpCounts::default());
        let gate = Gate::new(limits, counts.clone());
        let mut lasting = Vec::new();
        for _ in 0..HTTP_LASTING_MAX / HTTP_CONNECTION_LASTING_MAX {
            let visitor = gate.visitor(address(1));
            for _ in 0..HTTP_CONNECTION_LASTING_MAX {
                let visit = visitor.visit();
                visit.enter().unwrap();
                // The only place is taken as long as it does not last.
                assert_eq!(visitor.visit().enter().unwrap_err().name(), "busy");
                lasting.push(visit.last().unwrap());
            }
            let refused = visitor.visit().last().unwrap_err();
            assert!(refused.detail().contains("on your connection"), "{refused:?}");
        }
        let visitor = gate.visitor(address(2));
        let refused = visitor.visit().last().unwrap_err();
        assert!(refused.detail().contains("waits here"), "{refused:?}");
        lasting.pop();
        assert!(visitor.visit().last().is_ok());
        let refused: Vec<_> = counts.refused().filter(|(_, count)| *count > 0).collect();
        let full = HTTP_LASTING_MAX / HTTP_CONNECTION_LASTING_MAX;
        assert_eq!(refused, [("at-once", HTTP_LASTING_MAX as u64), ("lasting", full as u64 + 1)]);
    }

    #[tokio::test]
    async fn a_large_answer_has_its_share_until_it_is_sent() {
        let gate = Gate::new(DoorLimits::default(), Arc::default());
        let visit = gate.visitor(None).visit();
        let large = || Response::new(Body::from(vec![7; HTTP_ANSWERS_BYTES_MAX / 2 + 1]));
        let sent = visit.send(true, large()).await;
        let bytes = to_bytes(sent.into_body(), usize::MAX).await.unwrap();
        assert_eq!(bytes.len(), HTTP_ANSWERS_BYTES_MAX / 2 + 1);
        let refused = visit.send(true, large()).await;
        assert_eq!(refused.status(), StatusCode::TOO_MANY_REQUESTS);
        let small = Response::new(Body::from(vec![7; HTTP_ANSWER_SMALL_BYTES]));
        assert_eq!(visit.send(true, small).await.status(), StatusCode::OK);
        // Somebody holds a part of it: it is still to be sent.
        let part = bytes.slice(5..9);
        drop(bytes);
        assert_eq!(visit.send(true, large()).await.status(), StatusCode::TOO_MANY_REQUESTS);
        drop(part);
        assert_eq!(visit.send(true, large()).await.status(), StatusCode::OK);
    }
}
