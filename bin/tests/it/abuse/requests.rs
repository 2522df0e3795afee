//! Whole requests that a node can read and mostly refuses: every method at every path, queries, keys and
//! documents of all kinds.

use super::attack::{Attack, Expected, Step};
use crate::dice::Dice;

const METHODS: &[&str] = &[
    "GET",
    "HEAD",
    "PUT",
    "POST",
    "DELETE",
    "PATCH",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "QUERY",
    "PROPFIND",
    "get",
    "X",
    "M-SEARCH",
    "!#$%&'*+-.^_`|~",
];

/// What there is, and what there nearly is. The keyspace of the others is in none of them, nor what
/// takes a node out of service on purpose.
const PATHS: &[&str] = &[
    "/",
    "//",
    "/v1",
    "/v1/",
    "/v1/kv",
    "/v1/kv/",
    "/v1/kv/abuse",
    "/v1/kv/mget",
    "/v1/kv/batch",
    "/v1/kv/a/../b",
    "/v1/kv/a//b",
    "/v1/txn",
    "/v1/txn/",
    "/v1/watch",
    "/v1/leases",
    "/v1/leases/",
    "/v1/leases/000000000000002a",
    "/v1/leases/x",
    "/v1/leases/2a/keep-alive",
    "/v1/leases/2a/x",
    "/v1/locks/l",
    "/v1/locks/",
    "/v1/elections/e",
    "/v1/elections/",
    "/v1/compact",
    "/v1/cluster",
    "/v1/nodes/1",
    "/v1/nodes/x",
    "/v1/nodes/18446744073709551616",
    "/v1/members/1",
    "/v1/members/9",
    "/v1/members/-1",
    "/v1/keyspaces",
    "/v1/keyspaces/default",
    "/v1/keyspaces/%00",
    "/v1/keyspaces/none",
    "/v1/shards",
    "/v1/settings",
    "/v1/settings/lost-after",
    "/v1/settings/none",
    "/v1/maintenance",
    "/v1/members/9/drain",
    "/v1/rebalance",
    "/v1/leave/now",
    "/v1/groups/1/transfer",
    "/v1/groups/0/transfer",
    "/v1/groups/9/repair",
    "/v1/groups/x/repair",
    "/v1/tickets",
    "/v1/tickets/00000000000000000000000000000000",
    "/v1/tickets/x",
    "/livez",
    "/readyz",
    "/health",
    "/version",
    "/metrics",
    "/favicon.ico",
    "/v2/kv/k",
    "/V1/kv/k",
    "/v1/kv/k;x",
    "*",
    "v1/kv/k",
    "http://other/v1/kv/abuse",
    "http://",
    "other:80",
    "/v1/watch/x",
];

const NAMES: &[&str] = &[
    "keyspace",
    "near",
    "consistency",
    "revision",
    "explain",
    "lease",
    "prev",
    "prefix",
    "start",
    "end",
    "limit",
    "cursor",
    "keys_only",
    "count_only",
    "order",
    "key",
    "from",
    "after",
    "keys",
    "none",
    "",
    "%70refix",
    "prefix[]",
];

const VALUES: &[&str] = &[
    "",
    "0",
    "1",
    "2",
    "-1",
    "+1",
    "1.5",
    "1e3",
    "18446744073709551615",
    "18446744073709551616",
    "true",
    "false",
    "yes",
    "default",
    "none",
    "linearizable",
    "lease",
    "stale",
    "LEASE",
    "asc",
    "desc",
    "a",
    "%61",
    "%",
    "%2",
    "%zz",
    "%00",
    "%ff%fe",
    "%F0%9F%8C%B1",
    "a+b",
    "%2B",
    "AwEBAQkAAWE",
    "AwEFAawCAAJhYg",
    "=",
    "a=b",
    "%E2%80%AE",
    "..",
    "x'--",
    "{}",
    "[]",
    "\"",
];

/// Documents that some endpoint takes.
const DOCUMENTS: &[(&str, &str)] = &[
    (
        "/v1/txn",
        r#"{"when":[{"key":"a","version":0}],"then":[{"put":{"key":"a","value":"1"}}],"or_else":[{"get":{"key":"a"}}]}"#,
    ),
    (
        "/v1/txn",
        r#"{"then":[{"range":{"prefix":"a","limit":2,"order":"desc","keys_only":true}},{"delete":{"key":"a","prev":true}},{"txn":{"then":[]}}]}"#,
    ),
    (
        "/v1/txn",
        r#"{"when":[{"prefix":"a","mod_revision":3,"is":"<"},{"key":{"base64":"AA=="},"lease":"0"}],"then":[{"put":{"key":{"base64":"/w=="},"value":{"base64":"AA=="},"keep_lease":true}}]}"#,
    ),
    ("/v1/kv/mget", r#"{"keys":["a","b",{"base64":"AA=="}]}"#),
    ("/v1/kv/batch", r#"{"ops":[{"put":{"key":"a","value":"1"}},{"delete":{"key":"b"}}]}"#),
    ("/v1/leases", r#"{"ttl_ms":5000,"id":"2a"}"#),
    ("/v1/locks/l", r#"{"lease":"2a","wait_ms":20}"#),
    ("/v1/elections/e", r#"{"lease":"2a","value":"me","wait_ms":20}"#),
    ("/v1/compact", r#"{"revision":2}"#),
    ("/v1/settings/lost-after", r#"{"value":"10m"}"#),
    ("/v1/groups/1/transfer", r#"{"to":1}"#),
    ("/v1/members/9/drain", r#"{"on":true}"#),
    ("/v1/tickets", r#"{"kind":"node","role":"voter","life_s":3600,"uses":1}"#),
    (
        "/v1/tickets",
        r#"{"kind":"client","allow":["read","write"],"prefixes":[{"keyspace":"default","prefix":"app/"}],"name":"d","life_s":60,"uses":null}"#,
    ),
];

/// What stands in documents in place of what should.
const ODDITIES: &[&str] = &[
    "null",
    "true",
    "[]",
    "{}",
    "\"\"",
    "-0",
    "-1",
    "0.5",
    "1e999",
    "-1e999",
    "1E400",
    "00",
    "01",
    "+1",
    "NaN",
    "Infinity",
    "18446744073709551615",
    "18446744073709551616",
    "99999999999999999999999999999999999999",
    r#""\u0000""#,
    r#""\ud800""#,
    r#""\udc00\ud800""#,
    r#""\x41""#,
    "\"\u{202e}\"",
    "\u{feff}{}",
    "'a'",
    "// a\n1",
    "{\"a\":1,}",
    "[1,]",
    "{\"a\" 1}",
    "{a:1}",
    "\"a\nb\"",
    "\"\\",
    "{\"base64\":\"YQ\"}",
    "{\"base64\":\"!!\"}",
    "{\"base64\":1}",
    "{\"base64\":\"YQ==\",\"x\":1}",
    "[[[]]]",
    "tru",
    "",
];

/// A key with a large value, which nobody overwrites.
pub(super) const LARGE: &str = "/v1/kv/large?keyspace=others";

/// A request in the usual form.
pub(super) fn whole(method: &str, target: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let mut request = format!("{method} {target} HTTP/1.1\r\nhost: n\r\n{headers}").into_bytes();
    if !body.is_empty() || matches!(method, "PUT" | "POST") {
        request.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    request.extend_from_slice(b"\r\n");
    request.extend_from_slice(body);
    request
}

/// Every method at every path in turn, with a body or without.
pub(super) fn method_at_path(dice: &mut Dice, number: usize) -> Attack {
    let method = METHODS[number % METHODS.len()];
    let path = PATHS[number / METHODS.len() % PATHS.len()];
    // What goes on without end is left once it has begun.
    let body = match dice.below(4) {
        0 => dice.pick(ODDITIES).as_bytes().to_vec(),
        1 => document(dice).1,
        2 => {
            let len = dice.index(300);
            dice.bytes(len)
        }
        _ => Vec::new(),
    };
    let bytes = whole(method, path, "", &body);
    let mut attack = Attack::request("a method at a path", bytes);
    // Whether these are heads at all is a matter of taste.
    if method == "CONNECT" || matches!(path, "v1/kv/k" | "http://" | "other:80") {
        attack.expected = Expected::Whatever;
    }
    attack
}

pub(super) fn query(dice: &mut Dice) -> Attack {
    let method = dice.pick(&["GET", "GET", "PUT", "POST", "DELETE", "HEAD"]);
    let mut target = dice.pick(PATHS).to_owned();
    if !target.starts_with('/') {
        target = "/v1/kv".to_owned();
    }
    target.push('?');
    for _ in 0..dice.below(5) {
        let (name, value) = (dice.pick(NAMES), dice.pick(VALUES));
        target.push_str(name);
        target.push_str(dice.pick(&["=", "=", "=", "", "=="]));
        target.push_str(value);
        target.push_str(dice.pick(&["&", "&", "&&", ";", "?"]));
    }
    if dice.once_in(40) {
        target.push_str(&"prefix=a&".repeat(dice.index(5_000)));
    }
    if dice.once_in(40) {
        target.push_str("start=");
        target.push_str(&"%41".repeat(dice.index(15_000)));
    }
    // A quotation mark is no part of a target, nor are braces to all.
    let mut attack = Attack::request("a query", whole(method, &target, "", b""));
    if target.contains(['"', '{', '[']) {
        attack.expected = Expected::Whatever;
    }
    attack
}

pub(super) fn path(dice: &mut Dice) -> Attack {
    let method = dice.pick(&["GET", "PUT", "DELETE", "POST", "HEAD"]);
    let places = &["/v1/kv/", "/v1/leases/", "/v1/keyspaces/", "/v1/locks/", "/v1/elections/"];
    let more = &["/v1/settings/", "/v1/nodes/", "/v1/members/", "/v1/tickets/", "/v1/groups/", "/"];
    let mut target = dice.pick(&[&places[..], &more[..]].concat()).as_bytes().to_vec();
    let is_raw = dice.once_in(4);
    for _ in 0..dice.below(12) {
        match dice.below(9) {
            0 => target.extend_from_slice(b"%"),
            1 => target.extend_from_slice(b"%zz"),
            2 => target.extend_from_slice(b"%ff"),
            3 => target.extend_from_slice(b"%C0%AF"),
            4 => target.extend_from_slice(b"%00"),
            5 => target.extend_from_slice(b"/../"),
            6 => target.extend_from_slice(b"%2F"),
            7 if is_raw => target.push(dice.next() as u8),
            7 => target.extend_from_slice(b"k+~!$&'()*,;=:@"),
            _ => target.extend_from_slice(format!("%{:02x}", dice.next() as u8).as_bytes()),
        }
    }
    if dice.once_in(30) {
        target.extend(std::iter::repeat_n(b'k', dice.index(60_000)));
    }
    target.extend_from_slice(
        dice.pick(&["", "", "/keep-alive", "/drain", "/repair", "/transfer"]).as_bytes(),
    );
    let head =
        [method.as_bytes(), b" ", &target, b" HTTP/1.1\r\nhost: n\r\ncontent-length: 0\r\n\r\n"];
    let mut attack = Attack::request("a path", head.concat());
    if is_raw {
        attack.expected = Expected::Whatever;
    }
    attack
}

/// A document, and where it belongs.
fn document(dice: &mut Dice) -> (&'static str, Vec<u8>) {
    let (path, text) = DOCUMENTS[dice.index(DOCUMENTS.len())];
    (path, text.as_bytes().to_vec())
}

pub(super) fn json(dice: &mut Dice) -> Attack {
    let (mut path, mut body) = document(dice);
    for _ in 0..=dice.below(3) {
        body = mutated(dice, body);
    }
    if dice.once_in(20) {
        path = "/v1/keyspaces";
        body = dice.pick(ODDITIES).as_bytes().to_vec();
    }
    if dice.once_in(20) {
        body = deep(dice);
    }
    if dice.once_in(100) {
        body = bomb(dice, 1 << 20);
    }
    let kind =
        dice.pick(&["", "content-type: application/json\r\n", "content-type: text/html\r\n"]);
    let method = if path == "/v1/settings/lost-after" { "PUT" } else { "POST" };
    Attack::request("a document", whole(method, path, kind, &body))
}

fn mutated(dice: &mut Dice, mut body: Vec<u8>) -> Vec<u8> {
    if body.is_empty() {
        return body;
    }
    let at = dice.index(body.len());
    match dice.below(8) {
        0 => body.truncate(at),
        1 => body[at] = dice.next() as u8,
        2 => body.insert(
            at,
            dice.pick(&["{", "}", "[", "]", "\"", ",", ":", "\\", "\0", "\u{e9}"]).as_bytes()[0],
        ),
        3 => {
            let slice = body[at..].to_vec();
            body.extend_from_slice(&slice);
        }
        4 => {
            body.remove(at);
        }
        5 => body.extend_from_slice(dice.pick(&[" ", "\n{}", "]", "x"]).as_bytes()),
        // Some value becomes another one.
        _ => {
            if let Some(colon) = body.iter().skip(at).position(|byte| *byte == b':') {
                let from = at + colon + 1;
                let end = body[from..].iter().position(|byte| matches!(byte, b',' | b'}'));
                let to = end.map_or(body.len(), |end| from + end);
                body.splice(from..to, dice.pick(ODDITIES).bytes());
            }
        }
    }
    body
}

fn deep(dice: &mut Dice) -> Vec<u8> {
    let depth = dice.index(5_000);
    let (open, close) = match dice.below(4) {
        0 => ("[", "]"),
        1 => (r#"{"a":"#, "}"),
        2 => (r#"{"then":[{"txn":"#, "}]}"),
        _ => (r#"{"or_else":[{"txn":"#, "}]}"),
    };
    let middle = dice.pick(&["{}", "1", ""]);
    format!("{}{middle}{}", open.repeat(depth), close.repeat(depth)).into_bytes()
}

/// What becomes larger when it is read: it takes a few bytes for each of many things.
fn bomb(dice: &mut Dice, len: usize) -> Vec<u8> {
    let list = |head: &str, item: &str, tail: &str| {
        let count = len / (item.len() + 1);
        format!("{head}{}{item}{tail}", format!("{item},").repeat(count)).into_bytes()
    };
    match dice.below(6) {
        0 => list(r#"{"then":["#, r#"{"txn":{"then":[{"txn":{}}]}}"#, "]}"),
        1 => {
            let inner = r#"{"txn":{}},"#.repeat(1_000);
            let branch = format!(r#"{{"txn":{{"then":[{inner}{{"txn":{{}}}}]}}}}"#);
            list(r#"{"then":["#, &branch, "]}")
        }
        2 => list(r#"{"keys":["#, "\"\"", "]}"),
        3 => list(r#"{"kind":"client","x":["#, "0", "]}"),
        4 => list(r#"{"when":["#, r#"{"key":"","version":0}"#, "]}"),
        _ => list(r#"{"nodes":["#, "1", "],\"on\":2}"),
    }
}

/// Few of them, for they are as large as bodies may be, and larger.
pub(super) fn large(dice: &mut Dice) -> Attack {
    const MIB: usize = 1 << 20;
    let bytes = match dice.below(6) {
        // Not to be stored: what is stored may be kept in memory.
        0 => whole("PUT", LARGE, "if-match: \"9\"\r\n", &vec![b'v'; 4 * MIB + dice.index(2)]),
        1 => whole("PUT", LARGE, "", &vec![b'v'; 5 * MIB]),
        2 => whole("POST", "/v1/txn", "", &vec![b'['; 15 * MIB + dice.index(2 * MIB)]),
        3 => whole("POST", "/v1/tickets", "", &bomb(dice, 12 * MIB)),
        4 => whole("POST", "/v1/kv/mget", "", &bomb(dice, 12 * MIB)),
        _ => whole("POST", "/v1/txn", "", &bomb(dice, 15 * MIB)),
    };
    Attack::request("something large", bytes)
}

/// Watches, and claims that wait: what goes on until somebody leaves.
pub(super) fn lasting(dice: &mut Dice) -> Attack {
    let ids = [
        "",
        "0",
        "1",
        "1-0",
        "5-1.2.3",
        "1-99999",
        "x",
        "-",
        "1-",
        "\u{e9}",
        "18446744073709551616",
    ];
    let mut attack = match dice.below(3) {
        0 => {
            let id = format!("last-event-id: {}\r\n", dice.pick(&ids));
            let target = format!("/v1/watch?prefix={}", dice.pick(VALUES).replace('"', ""));
            Attack::request("a watch", whole("GET", &target, &id, b""))
        }
        1 => {
            let body = br#"{"lease":"2a","wait_ms":40000}"#;
            Attack::request("a lock", whole("POST", "/v1/locks/lasting", "", body))
        }
        _ => {
            let lines = "accept: application/x-ndjson\r\n";
            Attack::request("lines", whole("GET", "/v1/kv?prefix=", lines, b""))
        }
    };
    attack.expected = Expected::Whatever;
    attack.steps.push(Step::Wait(std::time::Duration::from_millis(dice.below(30))));
    attack.steps.push(if dice.once_in(2) { Step::Close } else { Step::Reset });
    attack
}
