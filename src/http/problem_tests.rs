//! Every error that a client of the library can get, as a problem.

use std::collections::BTreeSet;

use axum::body::to_bytes;
use futures_util::FutureExt;

use super::*;
use crate::error::{Corrupt, Denied};
use crate::types::{GroupId, LeaseId, NodeId};

const GROUP: GroupId = GroupId(1);
const ID: LeaseId = LeaseId(0xab);

/// One of each. A new variant does not compile without a place in `From`; this list is for what
/// it says there.
fn errors() -> Vec<(Error, &'static str)> {
    let invalid = [
        (Invalid::KeyEmpty, "key-empty"),
        (Invalid::KeyTooLong { len: 5_000 }, "key-too-long"),
        (Invalid::ValueTooLong { len: 5_000_000 }, "value-too-long"),
        (Invalid::TxnTooManyOps { count: 2_000 }, "txn-too-many-ops"),
        (Invalid::TxnTooLarge { len: 9_000_000 }, "txn-too-large"),
        (Invalid::TxnTooDeep { depth: 9 }, "txn-too-deep"),
        (Invalid::TxnDuplicateKey { len: 3 }, "txn-duplicate-key"),
        (Invalid::RangeBackward, "range-backward"),
        (Invalid::LeaseTtl { ttl_ms: 1 }, "lease-ttl"),
        (Invalid::LeaseId, "invalid"),
        (Invalid::ClusterId, "invalid"),
        (Invalid::EndpointId, "invalid"),
        (Invalid::Consistency, "invalid"),
        (Invalid::OtherKeyspace, "invalid"),
        (Invalid::Other("it makes no sense".into()), "invalid"),
    ];
    let refused = [
        (Refusal::FutureRevision { asked: 9, present: 7 }, "future-revision"),
        (Refusal::Compacted { asked: 2, compacted: 5 }, "compacted"),
        (Refusal::LeaseNotFound { id: ID }, "lease-not-found"),
        (Refusal::LeaseExists { id: ID }, "lease-exists"),
        (Refusal::TooManyLeases, "too-many-leases"),
        (Refusal::LeaseTooManyKeys { id: ID }, "lease-full"),
        (Refusal::KeyNotFound, "key-not-found"),
        (Refusal::ConditionFailed { mod_revision: 4 }, "condition-failed"),
        (Refusal::SessionExpired, "outcome-unknown"),
        (Refusal::SessionFull, "busy"),
        (Refusal::AnswerAcknowledged, "already-done"),
        (Refusal::AnswerForgotten { revision: 8 }, "already-done"),
        (Refusal::AnswerTooLarge, "answer-too-large"),
        (Refusal::DeleteTooLarge, "delete-too-large"),
        (Refusal::KeptTooLarge, "txn-too-large"),
        (Refusal::NameTooLong { len: 4_090 }, "key-too-long"),
        (Refusal::NotHolder { id: ID }, "not-holder"),
    ];
    let reason = || "it has no leader".to_owned();
    let corrupt = Corrupt { group: GROUP, index: Some(3), what: "a checksum".into() };
    let others = [
        (Error::Denied(Denied::Outside), "denied"),
        (Error::Busy { what: "the queue", retry_after_ms: 1_500 }, "busy"),
        (Error::NoSpace { node: NodeId(1), free_percent: 2 }, "no-space"),
        (Error::Unavailable { group: GROUP, reason: reason() }, "unavailable"),
        (Error::OutcomeUnknown { group: GROUP, reason: reason() }, "outcome-unknown"),
        (Error::Corrupt(corrupt), "corrupt"),
        (Error::Fatal("the log can't be written".into()), "fatal"),
    ];
    let invalid = invalid.into_iter().map(|(error, name)| (Error::Invalid(error), name));
    let refused = refused.into_iter().map(|(error, name)| (Error::Refused(error), name));
    invalid.chain(refused).chain(others).collect()
}

/// A response's status, headers and document.
fn sent(problem: Problem) -> (StatusCode, axum::http::HeaderMap, serde_json::Value) {
    let (head, body) = problem.into_response().into_parts();
    let body = to_bytes(body, 1 << 20).now_or_never().expect("the body is whole").unwrap();
    (head.status, head.headers, serde_json::from_slice(&body).unwrap())
}

#[test]
fn every_error_is_a_problem_with_its_sentence() {
    for (error, name) in errors() {
        let sentence = error.to_string();
        let (status, headers, document) = sent(error.into());
        let kind = KINDS.iter().find(|kind| kind.name == name).expect(name);
        assert_eq!(status, kind.status);
        assert_eq!(headers[header::CONTENT_TYPE], "application/problem+json");
        assert_eq!(document["type"], format!("urn:aspen:problem:{name}"));
        assert_eq!(document["title"], kind.title);
        assert_eq!(document["status"], kind.status);
        assert_eq!(document["detail"], sentence);
    }
}

#[test]
fn what_a_program_needs_is_beside_the_sentence() {
    let document = |refusal: Refusal| sent(refusal.into()).2;
    assert_eq!(document(Refusal::FutureRevision { asked: 9, present: 7 })["present"], 7);
    assert_eq!(document(Refusal::Compacted { asked: 2, compacted: 5 })["compacted"], 5);
    assert_eq!(document(Refusal::ConditionFailed { mod_revision: 4 })["present"], 4);
    assert_eq!(document(Refusal::AnswerForgotten { revision: 8 })["revision"], 8);

    let (_, headers, busy) = sent(Error::Busy { what: "the queue", retry_after_ms: 1_500 }.into());
    assert_eq!(busy["retry_after_ms"], 1_500);
    assert_eq!(headers[header::RETRY_AFTER], "2");
    let unavailable = Error::Unavailable { group: GROUP, reason: "it is stopped".into() };
    assert!(sent(unavailable.into()).1.contains_key(header::RETRY_AFTER));
    // A write whose fate is unknown is never to be repeated by itself.
    let unknown = Error::OutcomeUnknown { group: GROUP, reason: "it timed out".into() };
    assert!(!sent(unknown.into()).1.contains_key(header::RETRY_AFTER));

    let (_, headers, missing) = sent(Problem::key_not_found(12));
    assert_eq!(
        (&headers[ASPEN_REVISION], &missing["revision"]),
        (&"12".parse().unwrap(), &12.into())
    );
}

#[test]
fn names_are_unique_and_ordered_by_status() {
    let names: BTreeSet<_> = KINDS.iter().map(|kind| kind.name).collect();
    assert_eq!(names.len(), KINDS.len());
    assert!(KINDS.is_sorted_by_key(|kind| (kind.status, kind.name)));
    assert!(KINDS.iter().all(|kind| (400..600).contains(&kind.status)));
    assert!(names.iter().all(|name| name.bytes().all(|b| b.is_ascii_lowercase() || b == b'-')));
}

#[test]
fn a_place_is_told_from_the_outside_in() {
    let problem = Problem::new(&BAD_JSON, "no").within("put").within("then[0]").within("txn");
    assert_eq!(sent(problem).2["at"], "txn.then[0].put");
}
