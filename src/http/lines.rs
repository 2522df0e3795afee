//! A listing as lines of JSON, one record each: all pages in one answer, of which one at a time is in
//! memory. It goes on as fast as its reader reads.

use std::convert::Infallible;

use axum::body::Body;
use axum::http::Response;
use axum::http::header::{self, HeaderMap, HeaderValue};
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use serde::Serialize;
use tokio_util::sync::CancellationToken;

use super::cursor::Cursor;
use super::json::KeyRecordForm;
use super::problem::{self, Problem};
use crate::client::{KvClient, Scanned};
use crate::machine::ops::{Range, Select};
use crate::types::Consistency;

pub(super) const LINES: &str = "application/x-ndjson";

/// Whether lines are asked for.
pub(super) fn are_wanted(headers: &HeaderMap) -> bool {
    let mut accepted =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| {
        value.split(',').any(|one| one.split(';').next().map(str::trim) == Some(LINES))
    })
}

/// A listing that may go on.
pub(super) struct Listing {
    pub(super) client: KvClient,
    pub(super) range: Range,
    pub(super) consistency: Consistency,
    /// What was read of it last.
    pub(super) scanned: Scanned,
}

/// A listing on its way to its reader.
struct Lines {
    listing: Listing,
    /// Whether what was read last is still to be sent.
    is_new: bool,
    closing: CancellationToken,
}

#[derive(Serialize)]
struct FailedForm {
    problem: Problem,
}

/// Answers with what was read, and then page by page with the rest. What goes wrong on the way is the
/// last line.
pub(super) fn answer(listing: Listing, closing: CancellationToken) -> Response<Body> {
    let lines = Lines { listing, is_new: true, closing };
    let pages = stream::unfold(Some(lines), async |lines| lines?.next().await);
    let mut response = Response::new(Body::from_stream(pages.map(Ok::<_, Infallible>)));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(LINES));
    response
}

impl Lines {
    /// The lines of the next page, and what is left; none at the end.
    async fn next(mut self) -> Option<(Bytes, Option<Self>)> {
        if !self.is_new {
            let closing = self.closing.clone();
            let read = tokio::select! {
                read = self.listing.read_on() => read,
                () = closing.cancelled() => Err(Problem::new(
                    &problem::UNAVAILABLE,
                    "the node stops; ask another for what comes after the last record",
                )),
            };
            match read {
                Ok(true) => {}
                Ok(false) => return None,
                Err(problem) => {
                    let mut last = Vec::new();
                    add(&mut last, &FailedForm { problem });
                    return Some((last.into(), None));
                }
            }
        }
        self.is_new = false;
        let Listing { range, scanned, .. } = &self.listing;
        let mut lines = Vec::new();
        for found in &scanned.page.records {
            add(&mut lines, &KeyRecordForm::of(found, range.select == Select::Keys));
        }
        Some((lines.into(), Some(self)))
    }
}

fn add(lines: &mut Vec<u8>, form: &impl Serialize) {
    serde_json::to_writer(&mut *lines, form)
        .expect("lines are structs of strings and numbers, which are always JSON");
    lines.push(b'\n');
}

impl Listing {
    /// Reads the page after the last one; false if there is none, or if as many as are wanted were
    /// read.
    async fn read_on(&mut self) -> Result<bool, Problem> {
        let Listing { client, range, consistency, scanned: Scanned { page, position, .. } } = self;
        let read = page.records.len() as u64;
        range.limit = range.limit.map(|limit| limit.saturating_sub(read));
        let (true, Some(last)) = (page.more && range.limit != Some(0), page.records.last()) else {
            return Ok(false);
        };
        let (descending, last) = (range.order.descending, last.key.clone());
        let cursor = Cursor { position: position.clone(), descending, last };
        range.range = cursor.rest_of(range.range.clone(), descending, None)?;
        range.revision = None;
        self.scanned = client.scan(range.clone(), Some(&*position), *consistency).await?;
        Ok(true)
    }
}
