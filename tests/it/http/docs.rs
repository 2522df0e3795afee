//! `docs/http.md` against the code.

use aspen::http::{KINDS, document};
use aspen::limits::*;

const DOCS: &str = include_str!("../../../docs/http.md");

/// The table of problems is the one in the code, line for line.
#[test]
fn the_documented_problems_are_the_problems() {
    let table: String = KINDS
        .iter()
        .map(|kind| format!("| `{}` | {} | {} |\n", kind.name, kind.status, kind.title))
        .collect();
    assert!(DOCS.contains(&table), "the table in docs/http.md should be\n\n{table}");
}

#[test]
fn the_documented_limits_are_the_limits() {
    let mib = |bytes: usize| format!("{} MiB", bytes >> 20);
    for line in [
        format!("| key | {KEY_BYTES_MAX} bytes |"),
        format!("| value | {} |", mib(VALUE_BYTES_MAX)),
        format!("or an election | {} |", mib(HTTP_JSON_BYTES_MAX)),
        format!("| any other JSON body | {} KiB |", HTTP_ASK_BYTES_MAX >> 10),
        format!("all clients together | {} |", mib(HTTP_BODIES_BYTES_MAX)),
        format!("| request head | {} KiB |", HTTP_HEAD_BYTES_MAX >> 10),
        format!("between requests on a connection | {} s |", HTTP_HEAD_MAX.as_secs()),
        format!("| time to agree on TLS | {} s |", HTTP_TLS_MAX.as_secs()),
        format!("| time to send a body | {} s |", HTTP_BODY_MAX.as_secs()),
        format!("nothing of an answer is taken | {} s |", HTTP_STALL_MAX.as_secs()),
        format!("requests at once on a connection of HTTP/2 | {HTTP2_STREAMS_MAX} |"),
        format!("requests at once over HTTP/2, all connections together | {HTTP2_REQUESTS_MAX} |"),
        format!(
            "asked every {} s whether it is there | {} s |",
            HTTP2_PING_EVERY.as_secs(),
            HTTP2_PING_MAX.as_secs()
        ),
        format!("by `http-at-once` | {HTTP_AT_ONCE} unless"),
        format!("that wait, on one connection | {HTTP_CONNECTION_LASTING_MAX} |"),
        format!("| all of them together | {HTTP_LASTING_MAX} |"),
        format!("answers of more than {} KiB", HTTP_ANSWER_SMALL_BYTES >> 10),
        format!("wait to be sent, all clients together | {} |", mib(HTTP_ANSWERS_BYTES_MAX)),
        format!("| connections | {HTTP_CONNECTIONS_MAX}, "),
        format!("| stop of the node | {} s ", HTTP_DRAIN_MAX.as_secs()),
        format!("at most {RANGE_RECORDS_MAX})"),
        format!("A page also ends at {}.", mib(RANGE_BYTES_MAX)),
        format!("A comment is sent every {} s ", HTTP_HEARTBEAT.as_secs()),
        format!("{HTTP_LEASES_PAGE_MAX} leases at most"),
    ] {
        assert!(DOCS.contains(&line), "docs/http.md should say {line:?}");
    }
}

/// `docs/openapi.json` is what a node answers: `curl http://127.0.0.1:4680/openapi.json` makes it anew.
#[test]
fn the_documented_operations_are_the_operations() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/openapi.json");
    let kept = std::fs::read_to_string(path).unwrap_or_default();
    assert!(kept == document(), "docs/openapi.json is not what a node answers at /openapi.json");
}
