//! The audit log: who was refused, and what was done to the cluster and by whom.
//!
//! Its lines have a target of their own, `aspen::audit`, so that they can be kept apart. Of the store
//! they say which operation was refused, never a key. Whoever is refused can't fill a disk with it:
//! past so many lines a second they are counted and told together.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, Response, StatusCode};
use tokio::time::Instant;

use super::auth::{Asker, Need};
use super::buckets::Origin;
use super::operation::Operation;
use super::problem::Kind;
use crate::limits::AUDIT_REFUSALS_PER_SECOND;

const TARGET: &str = "aspen::audit";

/// The audit log of one door.
#[derive(Debug, Default)]
pub(super) struct Audit {
    told: Mutex<Told>,
}

/// What was told in the present second.
#[derive(Debug, Default)]
struct Told {
    since: Option<Instant>,
    lines: u32,
    untold: u64,
}

/// A request that is told of if it is to be: with its answer, or, if it would change the cluster and
/// whoever asked is gone before there is an answer, when this is dropped.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    audit: &'a Audit,
    asker: &'a Asker,
    from: Origin,
    what: &'static str,
    /// Of one that would change the cluster, until it was told.
    path: Option<String>,
}

impl Asked<'_> {
    /// Tells of it, now that there is an answer.
    pub(super) fn answered(mut self, response: &Response<Body>) {
        let Asked { audit, asker, from, what, .. } = self;
        let (path, status) = (self.path.take(), response.status());
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            let Some(untold) = audit.may_tell(Instant::now()) else { return };
            let untold = (untold > 0).then_some(untold);
            let why = response.extensions().get::<&'static Kind>().map_or("", |kind| kind.name);
            tracing::info!(
                target: TARGET, %asker, %from, what, why, untold, "a request was refused"
            );
        } else if let Some(path) = path {
            let status = status.as_u16();
            tracing::info!(
                target: TARGET, %asker, %from, what, path, status, "a change of the cluster was asked for"
            );
        }
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let Some(path) = self.path.take() else { return };
        let Asked { asker, from, what, .. } = self;
        tracing::info!(
            target: TARGET, %asker, %from, what, path,
            "whoever asked for a change of the cluster was gone before the answer; it may have been made"
        );
    }
}

impl Audit {
    /// A request that somebody has come with.
    pub(super) fn asked<'a>(
        &'a self,
        (asker, from): (&'a Asker, Origin),
        operation: Option<&'static Operation>,
        request: &Request,
    ) -> Asked<'a> {
        let is_read = matches!(*request.method(), Method::GET | Method::HEAD);
        let is_change = operation.is_some_and(|operation| matches!(operation.need, Need::All(_)));
        let path = (is_change && !is_read).then(|| request.uri().path().to_owned());
        let what = operation.map_or("", |operation| operation.id);
        Asked { audit: self, asker, from, what, path }
    }

    /// Whether there may be one more line, and how many there were not since the last.
    fn may_tell(&self, now: Instant) -> Option<u64> {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        if told.since.is_none_or(|since| now >= since + Duration::from_secs(1)) {
            (told.since, told.lines) = (Some(now), 0);
        }
        if told.lines >= AUDIT_REFUSALS_PER_SECOND {
            told.untold += 1;
            return None;
        }
        told.lines += 1;
        Some(std::mem::take(&mut told.untold))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn past_so_many_refusals_a_second_the_others_are_told_by_their_number() {
        let (audit, now) = (Audit::default(), Instant::now());
        for _ in 0..AUDIT_REFUSALS_PER_SECOND {
            assert_eq!(audit.may_tell(now), Some(0));
        }
        assert_eq!((audit.may_tell(now), audit.may_tell(now)), (None, None));
        let later = now + Duration::from_secs(1);
        assert_eq!((audit.may_tell(later), audit.may_tell(later)), (Some(2), Some(0)));
    }
}
