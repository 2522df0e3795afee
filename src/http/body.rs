//! Request bodies: bounded in bytes, in time and in memory together.
//!
//! A body that declares more than its limit is refused before it is read; one that turns out
//! longer, at the first byte too many. Whatever the reason, a body that was not read to its end is
//! read and dropped for a short while ([`Lingering`]), because closing a socket with unread bytes
//! resets the connection and can take the answer with it.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, BodyDataStream, Bytes, HttpBody};
use axum::http::{Request, header};
use bytes::BytesMut;
use futures_util::StreamExt;
use hyper::body::{Frame, Incoming, SizeHint};
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::App;
use super::counts::Limit;
use super::json;
use super::problem::{self, Kind, Problem};
use crate::limits::{
    HTTP_ASK_BYTES_MAX, HTTP_BODY_MAX, HTTP_JSON_BYTES_MAX, HTTP_LINGER_BYTES_MAX, HTTP_LINGER_MAX,
};
use crate::seams::{Tasks, blocking};

/// Bodies up to this size are copied out of the connection's read buffer, so that a small value
/// that is kept does not keep a whole buffer.
const COPIED_BYTES_MAX: usize = 4 * 1024;

/// A whole body, and its share of the memory for bodies until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) bytes: Bytes,
    _share: Option<OwnedSemaphorePermit>,
}

/// Reads a whole body of at most `limit` bytes; a longer one is a problem of kind `too_large`.
pub(super) async fn read(
    app: &App,
    body: Body,
    limit: usize,
    too_large: &'static Kind,
) -> Result<Held, Problem> {
    let declared = body.size_hint().lower();
    if declared > limit as u64 {
        return Err(Problem::too_large(too_large, limit));
    }
    let mut stream = body.into_data_stream();
    let gathered = gather(&app.bodies, &mut stream, limit, declared);
    match timeout(HTTP_BODY_MAX, gathered).await {
        Ok(Ok(held)) => Ok(held),
        Ok(Err(Fault::TooLarge)) => Err(Problem::too_large(too_large, limit)),
        Ok(Err(Fault::Full)) => {
            app.counts.refuses(Limit::Bodies);
            Err(Problem::bodies_full())
        }
        Ok(Err(Fault::Broken)) => Err(Problem::new(
            &problem::BAD_BODY,
            "the body broke off or is malformed; send it again",
        )),
        Err(_elapsed) => {
            let seconds = HTTP_BODY_MAX.as_secs();
            let detail = format!("the body did not arrive within {seconds} s; send it faster");
            Err(Problem::new(&problem::BODY_TIMEOUT, detail))
        }
    }
}

/// Reads a whole body of JSON that holds no values; what is held is its memory, for as long as what
/// was read is.
pub(super) async fn read_json<T: DeserializeOwned>(
    app: &App,
    body: Body,
) -> Result<(T, Held), Problem> {
    let held = read(app, body, HTTP_ASK_BYTES_MAX, &problem::BODY_TOO_LARGE).await?;
    Ok((json::read(&held.bytes)?, held))
}

/// The same of one that holds keys and values: its lists are read up to a bound only. A long one takes
/// tens of milliseconds, in which nobody else is to wait.
pub(super) async fn read_data<T: DeserializeOwned + Send + 'static>(
    app: &App,
    body: Body,
) -> Result<(T, Held), Problem> {
    let held = read(app, body, HTTP_JSON_BYTES_MAX, &problem::BODY_TOO_LARGE).await?;
    if held.bytes.len() <= HTTP_ASK_BYTES_MAX {
        return Ok((json::read(&held.bytes)?, held));
    }
    let read = move || json::read(&held.bytes).map(|read| (read, held));
    blocking(read).await
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    TooLarge,
    Full,
    Broken,
}

async fn gather(
    bodies: &Arc<Semaphore>,
    stream: &mut BodyDataStream,
    limit: usize,
    declared: u64,
) -> Result<Held, Fault> {
    let mut share: Option<OwnedSemaphorePermit> = None;
    let mut first = Bytes::new();
    let mut rest = BytesMut::new();
    let mut len = 0;
    while let Some(frame) = stream.next().await {
        let frame = frame.map_err(|_| Fault::Broken)?;
        len += frame.len();
        if len > limit {
            return Err(Fault::TooLarge);
        }
        let weight = u32::try_from(frame.len()).map_err(|_| Fault::TooLarge)?;
        let more = bodies.clone().try_acquire_many_owned(weight).map_err(|_| Fault::Full)?;
        match &mut share {
            Some(share) => share.merge(more),
            None => share = Some(more),
        }
        // Nearly every body is one frame, which is then taken as it is.
        if first.is_empty() {
            first = frame;
        } else {
            if rest.is_empty() {
                let declared = usize::try_from(declared).unwrap_or(limit);
                rest.reserve(declared.max(first.len() + frame.len()));
                rest.extend_from_slice(&first);
            }
            rest.extend_from_slice(&frame);
        }
    }
    let bytes = match (rest.is_empty(), first.len() <= COPIED_BYTES_MAX) {
        (true, true) => Bytes::copy_from_slice(&first),
        (true, false) => first,
        (false, _) => rest.freeze(),
    };
    Ok(Held { bytes, _share: share })
}

/// A connection's body, and what happens to the part of it that nobody reads.
struct Lingering {
    /// Taken only when this is dropped.
    body: Option<Incoming>,
    tasks: Tasks,
}

/// Lets the request's body linger, unless its sender waits for leave to send it and so sends
/// nothing once the request is refused.
pub(super) fn lingering(request: Request<Incoming>, tasks: &Tasks) -> Request<Body> {
    if request.body().is_end_stream() || request.headers().contains_key(header::EXPECT) {
        return request.map(Body::new);
    }
    request.map(|body| Body::new(Lingering { body: Some(body), tasks: tasks.clone() }))
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match &mut self.body {
            Some(body) => Pin::new(body).poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map(HttpBody::size_hint).unwrap_or_default()
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        // A runtime that is itself being dropped has no connection left to be kind to.
        if tokio::runtime::Handle::try_current().is_err() {
            return;
        }
        self.tasks.spawn(async move {
            let mut stream = Body::new(body).into_data_stream();
            let dropping = async {
                let mut dropped = 0;
                while let Some(Ok(frame)) = stream.next().await {
                    dropped += frame.len();
                    if dropped > HTTP_LINGER_BYTES_MAX {
                        break;
                    }
                }
            };
            // Past the time the connection is cut, which is all there is to do.
            let _ = timeout(HTTP_LINGER_MAX, dropping).await;
        });
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use futures_util::stream;

    use super::*;

    /// Gathers frames with a limit of 10 bytes, while this many may be held by all.
    async fn gathered(frames: Vec<io::Result<Bytes>>, bodies: usize) -> Result<Held, Fault> {
        let bodies = Arc::new(Semaphore::new(bodies));
        let mut stream = Body::from_stream(stream::iter(frames)).into_data_stream();
        gather(&bodies, &mut stream, 10, 0).await
    }

    fn frame(text: &'static str) -> io::Result<Bytes> {
        Ok(Bytes::from_static(text.as_bytes()))
    }

    #[tokio::test]
    async fn frames_are_joined() {
        assert_eq!(gathered(vec![], 0).await.unwrap().bytes, "");
        assert_eq!(gathered(vec![frame("abc")], 10).await.unwrap().bytes, "abc");
        let frames = vec![frame("abc"), frame(""), frame("d"), frame("efghij")];
        assert_eq!(gathered(frames, 10).await.unwrap().bytes, "abcdefghij");
    }

    #[tokio::test]
    async fn a_limit_is_met_at_the_first_byte_too_many() {
        let fault = |frames, bodies| async move { gathered(frames, bodies).await.unwrap_err() };
        assert_eq!(fault(vec![frame("0123456789"), frame("0")], 99).await, Fault::TooLarge);
        assert_eq!(fault(vec![frame("abc"), frame("d")], 3).await, Fault::Full);
        let broken = Err(io::ErrorKind::UnexpectedEof.into());
        assert_eq!(fault(vec![frame("abc"), broken], 99).await, Fault::Broken);
    }

    #[tokio::test]
    async fn a_body_has_its_share_until_it_is_dropped() {
        let bodies = Arc::new(Semaphore::new(10));
        let mut stream = Body::from("abc").into_data_stream();
        let held = gather(&bodies, &mut stream, 10, 3).await.unwrap();
        assert_eq!(bodies.available_permits(), 7);
        drop(held);
        assert_eq!(bodies.available_permits(), 10);
    }

    #[tokio::test]
    async fn a_large_frame_is_taken_as_it_is_and_a_small_one_leaves_its_buffer() {
        for (len, same) in [(COPIED_BYTES_MAX, false), (COPIED_BYTES_MAX + 1, true)] {
            let buffer = Bytes::from(vec![7; len]);
            let mut stream = Body::from(buffer.clone()).into_data_stream();
            let bodies = Arc::new(Semaphore::new(len));
            let held = gather(&bodies, &mut stream, len, len as u64).await.unwrap();
            assert_eq!(held.bytes, buffer);
            assert_eq!(held.bytes.as_ptr() == buffer.as_ptr(), same);
        }
    }
}
