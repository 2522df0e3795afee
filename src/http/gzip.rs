//! Answers in fewer bytes, for clients that say that they read gzip.
//!
//! Only text is: JSON, its lines and pages, above a size at which it pays. Values are their owners'
//! bytes and go out as they are, and a watch has events that must not wait for others. It is done
//! piece by piece as the client takes the answer, so that no thread is held for long, and for so
//! many answers at once; what comes beside those goes out as it is.

use std::io::Write;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::{Body, Bytes, HttpBody};
use axum::http::header::{self, HeaderMap, HeaderValue};
use axum::http::{HeaderName, Response};
use flate2::Compression;
use flate2::write::GzEncoder;
use hyper::body::Frame;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::HTTP_GZIP_BYTES_MIN;
use crate::types::{Form, Spelt};

/// How much is made smaller before others get a turn.
const PIECE_BYTES: usize = 32 * 1024;

/// Whether a client reads gzip, by its `Accept-Encoding`.
pub(super) fn is_wanted(headers: &HeaderMap) -> bool {
    let (mut named, mut any) = (None, false);
    let values = headers.get_all(header::ACCEPT_ENCODING).iter();
    for coding in values.filter_map(|value| value.to_str().ok()).flat_map(|list| list.split(',')) {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        let is_refused = weight.trim().strip_prefix("q=").is_some_and(|q| q.parse() == Ok(0.0_f32));
        match name.trim() {
            name if name.eq_ignore_ascii_case("gzip") => named = Some(!is_refused),
            "*" => any = !is_refused,
            _ => {}
        }
    }
    named.unwrap_or(any)
}

pub(super) const FORM: Form = Form {
    name: "encodings",
    again: |bytes| {
        let value = HeaderValue::from_bytes(bytes).ok()?;
        is_wanted(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, value)]));
        Some(Vec::new())
    },
    spelt: Spelt::Elsewhere,
};

/// What is text and may be long.
fn is_text(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(|kind| {
        kind.starts_with("application/json")
            || kind.starts_with("application/problem+json")
            || kind.starts_with("application/x-ndjson")
            || (kind.starts_with("text/") && !kind.starts_with("text/event-stream"))
    })
}

/// An answer as it goes out; in gzip if its client wants that and there is a place among those that
/// are made smaller.
pub(super) fn answer(
    mut response: Response<Body>,
    places: Option<&Arc<Semaphore>>,
) -> Response<Body> {
    let is_short =
        response.body().size_hint().upper().is_some_and(|len| len < HTTP_GZIP_BYTES_MIN as u64);
    let headers = response.headers_mut();
    if is_short || !is_text(headers) || headers.contains_key(header::CONTENT_ENCODING) {
        return response;
    }
    vary(headers, header::ACCEPT_ENCODING);
    let Some(place) = places.and_then(|places| places.clone().try_acquire_owned().ok()) else {
        return response;
    };
    headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.remove(header::CONTENT_LENGTH);
    response.map(|body| Body::new(Gzip::of(body, place)))
}

/// Says that answers to the same request differ by this header of it.
pub(super) fn vary(headers: &mut HeaderMap, by: HeaderName) {
    headers.append(header::VARY, by.into());
}

/// A body in gzip.
struct Gzip {
    body: Body,
    /// What is still to be made smaller of what the body gave last.
    given: Bytes,
    /// None once the end has gone out.
    encoder: Option<GzEncoder<Vec<u8>>>,
    /// Whether something was taken that may not have gone out.
    holds: bool,
    _place: OwnedSemaphorePermit,
}

impl Gzip {
    fn of(body: Body, place: OwnedSemaphorePermit) -> Self {
        let encoder = Some(GzEncoder::new(Vec::new(), Compression::fast()));
        Gzip { body, given: Bytes::new(), encoder, holds: false, _place: place }
    }
}

/// What is ready to go out.
fn made(encoder: &mut GzEncoder<Vec<u8>>) -> Option<Bytes> {
    let made = std::mem::take(encoder.get_mut());
    (!made.is_empty()).then(|| Bytes::from(made))
}

impl HttpBody for Gzip {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        loop {
            let this = &mut *self;
            let Some(encoder) = &mut this.encoder else { return Poll::Ready(None) };
            if !this.given.is_empty() {
                let piece = this.given.split_to(this.given.len().min(PIECE_BYTES));
                encoder.write_all(&piece).map_err(axum::Error::new)?;
                this.holds = true;
                if let Some(made) = made(encoder) {
                    return Poll::Ready(Some(Ok(Frame::data(made))));
                }
                if !this.given.is_empty() {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
            match Pin::new(&mut this.body).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => {
                    // No answer has trailers.
                    this.given = frame.into_data().unwrap_or_default();
                }
                Poll::Ready(Some(Err(error))) => return Poll::Ready(Some(Err(error))),
                Poll::Ready(None) => {
                    let encoder = this.encoder.take();
                    let last = encoder.map(GzEncoder::finish).transpose();
                    let last = last.map_err(axum::Error::new)?.unwrap_or_default();
                    return Poll::Ready(Some(Ok(Frame::data(last.into()))));
                }
                Poll::Pending if std::mem::take(&mut this.holds) => {
                    // The reader is to have what there is while it waits for more.
                    encoder.flush().map_err(axum::Error::new)?;
                    return match made(encoder) {
                        Some(made) => Poll::Ready(Some(Ok(Frame::data(made)))),
                        None => Poll::Pending,
                    };
                }
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use flate2::read::GzDecoder;
    use futures_util::{StreamExt, stream};

    use super::*;

    fn accepting(value: &str) -> bool {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT_ENCODING, value.parse().unwrap());
        is_wanted(&headers)
    }

    #[test]
    fn what_a_client_reads_is_told_by_its_header() {
        for yes in ["gzip", "br, gzip", "GZIP;q=0.5", "*", "deflate, *;q=0.1", "gzip , br;q=0"] {
            assert!(accepting(yes), "{yes}");
        }
        for no in ["", "br", "identity", "gzip;q=0", "*;q=0", "*, gzip;q=0.0", "gzipped", "xgzip"] {
            assert!(!accepting(no), "{no}");
        }
        assert!(!is_wanted(&HeaderMap::new()));
    }

    fn response(kind: &'static str, body: Body) -> Response<Body> {
        let mut response = Response::new(body);
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        response
    }

    #[test]
    fn only_long_text_is_made_smaller_and_only_in_its_turn() {
        let places = Arc::new(Semaphore::new(1));
        let long = "x".repeat(HTTP_GZIP_BYTES_MIN);
        let coded = |kind, text: &str| {
            let response = answer(response(kind, Body::from(text.to_owned())), Some(&places));
            response.headers().contains_key(header::CONTENT_ENCODING)
        };
        for kind in ["application/json", "application/problem+json", "text/plain; version=0.0.4"] {
            assert!(coded(kind, &long), "{kind}");
            assert!(!coded(kind, &long[1..]), "{kind}");
        }
        for kind in ["application/octet-stream", "text/event-stream", "image/png"] {
            assert!(!coded(kind, &long), "{kind}");
        }
        let first = answer(response("application/json", Body::from(long.clone())), Some(&places));
        let second = answer(response("application/json", Body::from(long)), Some(&places));
        assert!(first.headers().contains_key(header::CONTENT_ENCODING));
        assert!(!second.headers().contains_key(header::CONTENT_ENCODING));
        assert_eq!(second.headers()[header::VARY], "accept-encoding");
    }

    #[tokio::test]
    async fn what_was_made_smaller_is_what_it_was_and_comes_as_it_is_there() {
        let places = Arc::new(Semaphore::new(1));
        let (send, receive) = tokio::sync::mpsc::channel::<Bytes>(8);
        let pieces = stream::unfold(receive, |mut receive| async move {
            receive.recv().await.map(|piece| (Ok::<_, std::io::Error>(piece), receive))
        });
        let response = response("application/x-ndjson", Body::from_stream(pieces));
        let mut read = answer(response, Some(&places)).into_body().into_data_stream();
        let (mut sent, mut got) = (Vec::new(), Vec::new());
        for (n, len) in [10, 200_000, 0, 1, 1_000_000].into_iter().enumerate() {
            let piece: Vec<u8> = (0..len).map(|at: usize| (at * (n + 1) / 7) as u8).collect();
            sent.extend_from_slice(&piece);
            send.send(piece.into()).await.unwrap();
            let decoded = |got: &[u8]| {
                let mut text = vec![0; sent.len()];
                GzDecoder::new(got).read_exact(&mut text).is_ok_and(|()| text == sent)
            };
            while !decoded(&got) {
                got.extend_from_slice(&read.next().await.expect("it goes on").unwrap());
            }
        }
        drop(send);
        while let Some(frame) = read.next().await {
            got.extend_from_slice(&frame.unwrap());
        }
        let mut text = Vec::new();
        GzDecoder::new(&got[..]).read_to_end(&mut text).unwrap();
        assert!(text == sent);
        drop(read);
        assert_eq!(places.available_permits(), 1);
    }
}
