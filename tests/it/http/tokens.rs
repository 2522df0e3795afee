//! Tokens: what each lets its holder do, at every operation that there is; and one that is wrong.

use std::collections::BTreeSet;

use aspen::http::{Auth, document};
use aspen::node::Door;
use aspen::roster::tickets::Access;
use aspen_tickets::{Prefix, Scope, Verb, Verbs};
use tokio::time::Instant;

use super::*;

/// What a request asks for, as the test sees it.
#[derive(Clone, Copy, Debug)]
enum Asks {
    /// What anybody may have.
    Nothing,
    /// To have a token.
    Token,
    /// To do so with all there is.
    Everything(Verb),
    /// To do these with keys of the default keyspace.
    Keys(&'static [Verb], Extent),
    /// To do any of these with some of its keys.
    Some(&'static [Verb]),
    /// To do these with a lease that is nobody's in particular.
    Lease(&'static [Verb]),
    /// How much time such a lease has left.
    LeaseTime,
    /// To do these with keys and with such a lease.
    KeysAndLease(&'static [Verb], Extent),
}

/// Which keys.
#[derive(Clone, Copy, Debug)]
enum Extent {
    /// Those that begin with `app/`, or one of them.
    App,
    /// One that does not.
    Other,
    /// All.
    All,
}

use Asks::{Everything, Keys, KeysAndLease, Lease, LeaseTime, Nothing, Token};
use Extent::{All, App, Other};
use Verb::{Admin, Read, Write};

/// Operation, method, path, body, and what it asks for. What is allowed is done: so it must leave the
/// node as it was, or be refused for another reason.
#[rustfmt::skip]
const ROWS: &[(&str, &str, &str, &str, Asks)] = &[
    ("showDocs", "GET", "/docs", "", Nothing),
    ("showDocument", "GET", "/openapi.json", "", Nothing),
    ("isAlive", "GET", "/livez", "", Nothing),
    ("isReady", "GET", "/readyz", "", Nothing),
    ("showHealth", "GET", "/health", "", Token),
    ("showVersion", "GET", "/version", "", Token),
    ("showMetrics", "GET", "/metrics", "", Token),
    ("showCluster", "GET", "/v1/cluster", "", Everything(Read)),
    ("showMember", "GET", "/v1/nodes/9", "", Everything(Read)),
    ("planMoves", "GET", "/v1/rebalance", "", Everything(Read)),
    ("listOperations", "GET", "/v1/operations", "", Everything(Read)),
    ("showOperation", "GET", "/v1/operations/drain-9", "", Everything(Read)),
    ("listShards", "GET", "/v1/shards", "", Everything(Read)),
    ("listSettings", "GET", "/v1/settings", "", Everything(Read)),
    ("listKeyspaces", "GET", "/v1/keyspaces", "", Everything(Read)),
    ("showKeyspace", "GET", "/v1/keyspaces/none", "", Everything(Read)),
    ("createKeyspace", "POST", "/v1/keyspaces", r#"{"name": "default"}"#, Everything(Admin)),
    ("deleteKeyspace", "DELETE", "/v1/keyspaces/none", "", Everything(Admin)),
    ("setSetting", "PUT", "/v1/settings/none", r#"{"value": "1"}"#, Everything(Admin)),
    ("leave", "POST", "/v1/leave", "", Everything(Admin)),
    ("maintainMembers", "POST", "/v1/maintenance", r#"{"nodes": [9], "on": true}"#, Everything(Admin)),
    ("removeMember", "DELETE", "/v1/members/9", "", Everything(Admin)),
    ("drainMember", "POST", "/v1/members/9/drain", r#"{"on": true}"#, Everything(Admin)),
    ("transferLead", "POST", "/v1/groups/1/transfer", r#"{"to": 9}"#, Everything(Admin)),
    ("repairReplica", "POST", "/v1/groups/9/repair", "", Everything(Admin)),
    ("createTicket", "POST", "/v1/tickets", r#"{"kind": "node", "life_s": 0}"#, Everything(Admin)),
    ("listTickets", "GET", "/v1/tickets", "", Everything(Admin)),
    ("revokeTicket", "DELETE", "/v1/tickets/00000000000000000000000000000009", "", Everything(Admin)),
    ("createToken", "POST", "/v1/tokens", r#"{"allow": ["read"], "life_s": 0}"#, Everything(Admin)),
    ("listTokens", "GET", "/v1/tokens", "", Everything(Admin)),
    ("revokeToken", "DELETE", "/v1/tokens/00000000000000000000000000000009", "", Everything(Admin)),
    ("compact", "POST", "/v1/compact", r#"{"revision": 1}"#, Keys(&[Admin], All)),
    ("getKey", "GET", "/v1/kv/app/a", "", Keys(&[Read], App)),
    ("getKey", "GET", "/v1/kv/b", "", Keys(&[Read], Other)),
    ("getKey", "GET", "/v1/kv/app", "", Keys(&[Read], Other)),
    ("putKey", "PUT", "/v1/kv/app/a", "v", Keys(&[Write], App)),
    ("putKey", "PUT", "/v1/kv/b", "v", Keys(&[Write], Other)),
    ("putKey", "PUT", "/v1/kv/app/a?prev", "v", Keys(&[Read, Write], App)),
    ("putKey", "PUT", "/v1/kv/app/a?lease=7", "v", KeysAndLease(&[Write], App)),
    ("deleteKey", "DELETE", "/v1/kv/app/none", "", Keys(&[Write], App)),
    ("deleteKey", "DELETE", "/v1/kv/none", "", Keys(&[Write], Other)),
    ("deleteKey", "DELETE", "/v1/kv/app/none?prev", "", Keys(&[Read, Write], App)),
    ("listKeys", "GET", "/v1/kv", "", Keys(&[Read], All)),
    ("listKeys", "GET", "/v1/kv?prefix=app/", "", Keys(&[Read], App)),
    ("listKeys", "GET", "/v1/kv?prefix=ap", "", Keys(&[Read], All)),
    ("listKeys", "GET", "/v1/kv?start=app/a&end=app/b", "", Keys(&[Read], App)),
    ("listKeys", "GET", "/v1/kv?count_only", "", Keys(&[Read], All)),
    ("deleteKeys", "DELETE", "/v1/kv?prefix=app/none", "", Keys(&[Write], App)),
    ("deleteKeys", "DELETE", "/v1/kv?prefix=none", "", Keys(&[Write], Other)),
    ("getKeys", "POST", "/v1/kv/mget", r#"{"keys": ["app/a"]}"#, Keys(&[Read], App)),
    ("getKeys", "POST", "/v1/kv/mget", r#"{"keys": ["app/a", "b"]}"#, Keys(&[Read], All)),
    ("writeKeys", "POST", "/v1/kv/batch", r#"{"ops": [{"put": {"key": "app/a", "value": "v"}}]}"#, Keys(&[Write], App)),
    ("writeKeys", "POST", "/v1/kv/batch", r#"{"ops": [{"put": {"key": "b", "value": "v"}}]}"#, Keys(&[Write], Other)),
    ("getKeyMget", "GET", "/v1/kv/mget", "", Keys(&[Read], Other)),
    ("putKeyMget", "PUT", "/v1/kv/mget", "v", Keys(&[Write], Other)),
    ("deleteKeyMget", "DELETE", "/v1/kv/mget", "", Keys(&[Write], Other)),
    ("getKeyBatch", "GET", "/v1/kv/batch", "", Keys(&[Read], Other)),
    ("putKeyBatch", "PUT", "/v1/kv/batch", "v", Keys(&[Write], Other)),
    ("deleteKeyBatch", "DELETE", "/v1/kv/batch", "", Keys(&[Write], Other)),
    ("runTransaction", "POST", "/v1/txn", r#"{"then": [{"put": {"key": "app/a", "value": "v"}}]}"#, Keys(&[Write], App)),
    ("runTransaction", "POST", "/v1/txn", r#"{"or_else": [{"put": {"key": "b", "value": "v"}}]}"#, Keys(&[Write], Other)),
    ("runTransaction", "POST", "/v1/txn", r#"{"when": [{"key": "app/a", "mod_revision": 9}], "then": [{"delete": {"key": "app/none"}}]}"#, Keys(&[Read, Write], App)),
    ("watch", "GET", "/v1/watch?prefix=app/&from=900", "", Keys(&[Read], App)),
    ("watch", "GET", "/v1/watch?from=900", "", Keys(&[Read], All)),
    ("grantLease", "POST", "/v1/leases", r#"{"ttl_ms": 5000}"#, Asks::Some(&[Write])),
    ("grantLease", "POST", "/v1/leases", r#"{"ttl_ms": 5000, "id": "8"}"#, Lease(&[Write])),
    ("listLeases", "GET", "/v1/leases", "", Keys(&[Read], All)),
    ("showLease", "GET", "/v1/leases/a", "", LeaseTime),
    ("showLease", "GET", "/v1/leases/a?keys", "", Lease(&[Read])),
    ("revokeLease", "DELETE", "/v1/leases/7", "", Lease(&[Write])),
    ("keepLeaseAlive", "POST", "/v1/leases/7/keep-alive", "", Lease(&[Write])),
    ("lock", "POST", "/v1/locks/app/l", r#"{"lease": "7"}"#, KeysAndLease(&[Read, Write], App)),
    ("lock", "POST", "/v1/locks/l", r#"{"lease": "7"}"#, KeysAndLease(&[Read, Write], Other)),
    ("showLock", "GET", "/v1/locks/app/l", "", Keys(&[Read], App)),
    ("showLock", "GET", "/v1/locks/l", "", Keys(&[Read], Other)),
    ("unlock", "DELETE", "/v1/locks/app/l?lease=7", "", KeysAndLease(&[Write], App)),
    ("campaign", "POST", "/v1/elections/app/e", r#"{"lease": "7", "value": "me"}"#, KeysAndLease(&[Read, Write], App)),
    ("showElection", "GET", "/v1/elections/app/e", "", Keys(&[Read], App)),
    ("proclaim", "PUT", "/v1/elections/app/e", r#"{"lease": "7", "value": "me"}"#, KeysAndLease(&[Write], App)),
    ("resign", "DELETE", "/v1/elections/app/e?lease=7", "", KeysAndLease(&[Write], App)),
];

/// The places that tokens of the test are for.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Place {
    Everything,
    Default,
    Elsewhere,
    AppOnly,
}

impl Place {
    const ALL: [Place; 4] = [Place::Everything, Place::Default, Place::Elsewhere, Place::AppOnly];

    fn scope(self) -> Scope {
        match self {
            Place::Everything => Scope::All,
            Place::Default => Scope::Keyspaces(vec!["default".into()]),
            Place::Elsewhere => Scope::Keyspaces(vec!["elsewhere".into()]),
            Place::AppOnly => Scope::Prefixes(vec![Prefix {
                keyspace: "default".into(),
                prefix: b"app/".to_vec(),
            }]),
        }
    }

    fn has(self, extent: Extent) -> bool {
        match (self, extent) {
            (Place::Everything | Place::Default, _) | (Place::AppOnly, App) => true,
            (Place::AppOnly, _) | (Place::Elsewhere, _) => false,
        }
    }

    fn has_any_lease(self) -> bool {
        matches!(self, Place::Everything | Place::Default)
    }
}

/// What the table says: written down apart from the code that it is held against.
fn may(verbs: &BTreeSet<Verb>, place: Place, asks: Asks) -> bool {
    let all = |needed: &[Verb]| needed.iter().all(|verb| verbs.contains(verb));
    match asks {
        Nothing | Token => true,
        Everything(Read) => {
            place == Place::Everything && (verbs.contains(&Read) || verbs.contains(&Admin))
        }
        Everything(verb) => place == Place::Everything && verbs.contains(&verb),
        Keys(needed, extent) => all(needed) && place.has(extent),
        Asks::Some(needed) => all(needed) && place != Place::Elsewhere,
        Lease(needed) => all(needed) && place.has_any_lease(),
        LeaseTime => (all(&[Read]) || all(&[Write])) && place.has_any_lease(),
        KeysAndLease(needed, extent) => all(needed) && place.has(extent) && place.has_any_lease(),
    }
}

impl Node {
    async fn asked(
        &self,
        (method, path, body): (&str, &str, &str),
        token: Option<&str>,
    ) -> (StatusCode, String) {
        let mut request = self.request(method.parse().unwrap(), path).body(body.to_owned());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        let status = response.status();
        // A watch that is shown has no end.
        let is_told = !status.is_success();
        (status, if is_told { response.text().await.unwrap() } else { String::new() })
    }
}

async fn asking() -> Node {
    let door = HttpDoor::new("127.0.0.1:0".parse().unwrap()).with_auth(Auth::Required);
    Node::start_at(door).await
}

#[tokio::test]
async fn each_token_is_let_do_what_it_is_for_at_every_operation_and_nothing_else() {
    let described: Json = serde_json::from_str(&document()).unwrap();
    let described: BTreeSet<&str> = described["paths"]
        .as_object()
        .unwrap()
        .values()
        .flat_map(|methods| methods.as_object().unwrap().values())
        .map(|operation| operation["operationId"].as_str().unwrap())
        .collect();
    let tried: BTreeSet<&str> = ROWS.iter().map(|row| row.0).collect();
    assert_eq!(tried, described, "the table has a row for each operation");

    let node = asking().await;
    let cluster = node.service.cluster();
    cluster.create_keyspace("elsewhere", 1, 1).await.unwrap();
    let lease = Some("a".parse().unwrap());
    let life = Duration::from_secs(3_600);
    node.service.client().lease_grant_as(lease, life).await.unwrap();
    let mut tokens = Vec::new();
    for place in Place::ALL {
        for chosen in 1..8_u8 {
            let verbs = [Read, Write, Admin].into_iter().enumerate();
            let verbs: BTreeSet<Verb> =
                verbs.filter(|(bit, _)| chosen >> bit & 1 == 1).map(|(_, verb)| verb).collect();
            let name = format!("{verbs:?} {place:?}");
            let allow: Verbs = verbs.iter().copied().collect();
            let access = Access { name, scope: place.scope(), verbs: allow };
            let token = cluster.create_token(access, None).await.unwrap().0.text();
            tokens.push((verbs, place, token));
        }
    }
    let mut wrong = Vec::new();
    for &(operation, method, path, body, asks) in ROWS {
        let anybody = node.asked((method, path, body), None).await;
        let is_let_in = anybody.0 != StatusCode::UNAUTHORIZED;
        if is_let_in != matches!(asks, Nothing) {
            wrong.push(format!("{operation} {path}, without a token: {anybody:?}"));
        }
        for (verbs, place, token) in &tokens {
            let (status, told) = node.asked((method, path, body), Some(token)).await;
            let is_let_in = status != StatusCode::UNAUTHORIZED && status != StatusCode::FORBIDDEN;
            // One that is not understood would pass for one that is let in.
            let is_understood = !told.contains("problem:bad-") && !told.contains("path-not-found");
            let is_right = is_let_in == may(verbs, *place, asks);
            if !is_right || !is_understood || status.is_server_error() {
                wrong.push(format!("{operation} {path}, {verbs:?} {place:?}: {status} {told}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
    node.stop().await;
}

#[tokio::test]
async fn a_token_is_shown_once_listed_without_its_secret_and_good_for_nothing_once_revoked() {
    let node = asking().await;
    let owner = node.service.cluster().owner_token().await.unwrap().text();
    let form = r#"{"allow": ["read", "write"], "prefixes": [{"prefix": "app/"}], "name": "a", "life_s": 60}"#;
    let made = node.request(Method::POST, "/v1/tokens").bearer_auth(&owner).body(form);
    let made = Reply::to(made).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let form = made.json();
    let (id, token) = (form["id"].as_str().unwrap(), form["token"].as_str().unwrap());
    assert_eq!(made.header("location"), format!("/v1/tokens/{id}"));

    let list = node.request(Method::GET, "/v1/tokens").bearer_auth(&owner);
    let list = Reply::to(list).await;
    assert!(!list.text().contains(&token[40..]), "{}", list.text());
    let listed = &list.json()["tokens"][0];
    assert_eq!((&listed["id"], &listed["state"]), (&form["id"], &"good".into()));
    assert_eq!(listed["prefixes"][0]["prefix"], "app/");
    // What is told when it is made is what is kept of it.
    let created_s = listed["created_s"].as_u64().unwrap();
    assert_eq!(listed["expires_s"], created_s + 60);
    assert_eq!(form["expires_s"], listed["expires_s"]);

    // An id has one form.
    for form in [format!("0{id}"), format!("+{id}")] {
        let path = format!("/v1/tokens/{form}");
        let other = node.request(Method::DELETE, &path).bearer_auth(&owner);
        Reply::to(other).await.problem(404, "token-not-found");
    }

    // What a holder is shown ends when the token does.
    let watch = node.request(Method::GET, "/v1/watch?prefix=app/").bearer_auth(token);
    let mut watch = watch.send().await.unwrap();
    assert_eq!(watch.status(), 200);
    let gone = node.request(Method::DELETE, &format!("/v1/tokens/{id}")).bearer_auth(&owner);
    assert_eq!(Reply::to(gone).await.status, 200);
    let put = node.request(Method::PUT, "/v1/kv/app/a").bearer_auth(&owner).body("secret");
    assert_eq!(Reply::to(put).await.status, 201);
    let mut shown = Vec::new();
    while let Some(chunk) = watch.chunk().await.unwrap() {
        shown.extend_from_slice(&chunk);
    }
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.contains("the token is good no longer") && !shown.contains("secret"), "{shown}");
    let get = node.request(Method::GET, "/v1/kv/app/a").bearer_auth(token);
    Reply::to(get).await.problem(401, "unauthenticated");
    let again = node.request(Method::DELETE, &format!("/v1/tokens/{id}")).bearer_auth(&owner);
    Reply::to(again).await.problem(404, "token-not-found");
    node.stop().await;
}

#[tokio::test]
async fn a_token_ends_by_itself_at_its_time() {
    let node = asking().await;
    let access = Access { name: String::new(), scope: Scope::All, verbs: Verbs::ALL };
    let life = Some(Duration::from_secs(1));
    let token = node.service.cluster().create_token(access, life).await.unwrap().0.text();
    let begun = Instant::now();
    while node.asked(("GET", "/v1/kv", ""), Some(&token)).await.0 != StatusCode::UNAUTHORIZED {
        assert!(begun.elapsed() < PATIENCE, "it goes on for ever");
    }
    node.stop().await;
}

#[tokio::test]
async fn a_limited_holder_has_leases_and_locks_of_its_own() {
    let node = asking().await;
    let cluster = node.service.cluster();
    let scope = Place::AppOnly.scope();
    let access = Access { name: String::new(), scope, verbs: Verbs::ALL };
    let token = cluster.create_token(access, None).await.unwrap().0.text();
    let request = |method, path: &str| node.request(method, path).bearer_auth(&token);
    let lease = Reply::to(request(Method::POST, "/v1/leases").body(r#"{"ttl_ms": 60000}"#)).await;
    let lease = lease.json()["id"].as_str().unwrap().to_owned();
    let body = format!(r#"{{"lease": "{lease}"}}"#);
    let lock = Reply::to(request(Method::POST, "/v1/locks/app/l").body(body.clone())).await;
    assert_eq!(lock.json()["held"], true, "{}", lock.text());
    let other = Reply::to(request(Method::POST, "/v1/locks/l").body(body)).await;
    other.problem(403, "denied");
    let unlock =
        Reply::to(request(Method::DELETE, &format!("/v1/locks/app/l?lease={lease}"))).await;
    assert_eq!(unlock.status, 200, "{}", unlock.text());
    node.stop().await;
}

#[test]
fn a_door_that_others_reach_opens_if_it_asks_for_tokens_or_is_told_not_to() {
    // No machine has this address, so nobody is let in.
    let opened = |auth| {
        let door = HttpDoor::new("192.0.2.1:4680".parse().unwrap()).with_auth(auth);
        door.open().unwrap_err()
    };
    let refused = opened(Auth::default());
    assert!(
        refused.contains("Auth::Required, or let everybody in with Auth::Insecure"),
        "{refused}"
    );
    for auth in [Auth::Required, Auth::Insecure] {
        let looked_for = opened(auth);
        assert!(looked_for.contains("this machine has no such address"), "{looked_for}");
    }
}

/// Whatever is wrong with a token, the same is answered, in the same time.
#[tokio::test]
async fn how_wrong_a_token_is_can_be_told_neither_from_the_answer_nor_from_its_time() {
    const ROUNDS: usize = 300;
    let node = asking().await;
    let access = Access { name: String::new(), scope: Scope::All, verbs: Verbs::ALL };
    let good = node.service.cluster().create_token(access, None).await.unwrap().0.text();
    let changed = |at: usize| {
        let other = if good.as_bytes()[at] == b'a' { "b" } else { "a" };
        format!("{}{other}{}", &good[..at], &good[at + 1..])
    };
    let tokens = [
        // Nothing like one, another's id, and a secret that is wrong early and late.
        "x".repeat(good.len()),
        changed("aspentoken".len()),
        changed(good.len() - 50),
        changed(good.len() - 2),
    ];
    let mut answers = BTreeSet::new();
    let mut times = vec![Vec::with_capacity(ROUNDS); tokens.len()];
    for _ in 0..ROUNDS {
        for (token, times) in tokens.iter().zip(&mut times) {
            let begun = Instant::now();
            let answer = node.asked(("GET", "/v1/kv/a", ""), Some(token)).await;
            times.push(begun.elapsed());
            answers.insert(answer);
        }
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    // The machine's noise is above: the quickest tenth is the work itself.
    let quick: Vec<Duration> = times
        .iter_mut()
        .map(|times| {
            times.sort_unstable();
            times[ROUNDS / 10]
        })
        .collect();
    let (least, most) = (quick.iter().min().unwrap(), quick.iter().max().unwrap());
    assert!(most.as_secs_f64() < 1.25 * least.as_secs_f64(), "{quick:?}");
    node.stop().await;
}
