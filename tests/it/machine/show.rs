//! Outcomes and events as text, for the golden scripts.

use aspen::machine::Applied;
use aspen::machine::ops::*;
use aspen::types::{Key, Record, Value};

/// More of a list than this is told by its number.
const SHOWN_MAX: usize = 8;
/// Longer keys and values are told by their length.
const BYTES_SHOWN_MAX: usize = 40;

fn bytes(bytes: &[u8]) -> String {
    match bytes.len() {
        0 => "''".into(),
        len if len > BYTES_SHOWN_MAX => format!("<{len} bytes>"),
        _ => bytes.escape_ascii().to_string().replace("\\x00", "\\0"),
    }
}

fn key(key: &Key) -> String {
    bytes(key.as_bytes())
}

fn value(value: &Value) -> String {
    bytes(value.as_bytes())
}

fn record(record: &Record) -> String {
    let Record { create_revision, mod_revision, version, lease, .. } = record;
    let lease = lease.map_or(String::new(), |lease| format!(", lease {}", lease.0));
    format!(
        "{} (create {create_revision}, mod {mod_revision}, version {version}{lease})",
        value(&record.value)
    )
}

fn list<A>(out: &mut Vec<String>, indent: &str, items: &[A], show: impl Fn(&A) -> String) {
    for item in items.iter().take(SHOWN_MAX) {
        out.push(format!("{indent}{}", show(item)));
    }
    if items.len() > SHOWN_MAX {
        out.push(format!("{indent}… and {} more", items.len() - SHOWN_MAX));
    }
}

pub(crate) fn outcome(out: &mut Vec<String>, outcome: &Outcome) {
    match outcome {
        Ok(answer) => {
            let at = out.len();
            body(out, "", &answer.body);
            out[at] = format!("@{} {}", answer.revision, out[at]);
        }
        Err(refusal) => {
            let name = format!("{refusal:?}");
            let name = name.split([' ', '{']).next().unwrap_or_default();
            out.push(format!("refused {name}: {refusal}"));
        }
    }
}

fn body(out: &mut Vec<String>, indent: &str, body: &AnswerBody) {
    let deeper = format!("{indent}  ");
    let key_record = |found: &KeyRecord| format!("{} = {}", key(&found.key), record(&found.record));
    match body {
        AnswerBody::Done => out.push(format!("{indent}done")),
        AnswerBody::Session(id) => out.push(format!("{indent}session {id}")),
        AnswerBody::Put { prev: None } => out.push(format!("{indent}put")),
        AnswerBody::Put { prev: Some(prev) } => {
            out.push(format!("{indent}put, was {}", record(prev)));
        }
        AnswerBody::Deleted { count, prev } => {
            out.push(format!("{indent}deleted {count}"));
            list(out, &deeper, prev, |found| format!("was {}", key_record(found)));
        }
        AnswerBody::Record(None) => out.push(format!("{indent}no record")),
        AnswerBody::Record(Some(found)) => out.push(format!("{indent}{}", record(found))),
        AnswerBody::Range(page) => {
            let more = if page.more { ", more" } else { "" };
            let shown = page.records.len();
            out.push(format!("{indent}{shown} of {}{more}", page.count));
            list(out, &deeper, &page.records, key_record);
        }
        AnswerBody::Txn { succeeded, answers } => {
            out.push(format!("{indent}{}", if *succeeded { "then" } else { "else" }));
            for answer in answers.iter().take(SHOWN_MAX) {
                self::body(out, &deeper, answer);
            }
        }
        AnswerBody::Lease { id, ttl_ms } => {
            out.push(format!("{indent}lease {} lives {ttl_ms} ms", id.0));
        }
        AnswerBody::Leases(leases) => {
            out.push(format!("{indent}{} leases", leases.len()));
            list(out, &deeper, leases, lease);
        }
        AnswerBody::LeaseInfo { info, keys } => {
            out.push(format!("{indent}{}", lease(info)));
            list(out, &deeper, keys, key);
        }
        AnswerBody::Claim(ClaimState { own, holder, waiting }) => {
            let own = match own {
                Some((own, token)) => format!("claimed {} with token {token}", key(own)),
                None => "no claim asked".into(),
            };
            let holder = match holder {
                Some(Holder { key: of, lease, token, value: of_value }) => format!(
                    "{} holds by lease {} with token {token}: {}",
                    key(of),
                    lease.0,
                    value(of_value)
                ),
                None => "nobody holds".into(),
            };
            out.push(format!("{indent}{own}; {holder}; {waiting} wait"));
        }
        AnswerBody::Compacted { revision, pending } => {
            let rest = if *pending { ", rows are left" } else { "" };
            out.push(format!("{indent}compacted to {revision}{rest}"));
        }
        AnswerBody::Status(Status { revision, compacted, compacting, keys, leases, sessions }) => {
            let rest = if *compacting { ", rows are left" } else { "" };
            out.push(format!(
                "{indent}revision {revision}, compacted to {compacted}{rest}, {keys} keys, \
                 {leases} leases, {sessions} sessions"
            ));
        }
    }
}

fn lease(info: &LeaseInfo) -> String {
    format!("lease {} lives {} ms, {} keys", info.id.0, info.ttl_ms, info.keys)
}

pub(crate) fn events(out: &mut Vec<String>, events: &[Event]) {
    list(out, "  ", events, |event| match &event.record {
        Some(put) => format!("event {}: {} = {}", event.revision, key(&event.key), record(put)),
        None => format!("event {}: {} deleted", event.revision, key(&event.key)),
    });
}

pub(crate) fn applied(out: &mut Vec<String>, applied: &Applied) {
    outcome(out, &applied.outcome);
    events(out, &applied.events);
    list(out, "  ", &applied.leases.granted, |(id, ttl_ms)| {
        format!("lease {} granted for {ttl_ms} ms", id.0)
    });
    list(out, "  ", &applied.leases.ended, |id| format!("lease {} ended", id.0));
}

pub(crate) fn before(out: &mut Vec<String>, found: &Option<Record>) {
    out.push(found.as_ref().map_or("no record".into(), record));
}
