//! Programs that come with a ticket: what they can do, what they can't, and that the loss of a
//! node does not stop them. Real nodes, real links, all on loopback.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aspen::client::Op;
use aspen::client::request::{Asked, Failure, Hello, Reply, Request, Whereabouts, decode_response};
use aspen::error::{Denied, Error};
use aspen::limits::{CALL_BYTES_MAX, GUEST_REQUESTS_MAX};
use aspen::machine::ops::{Action, AnswerBody, Command, Put, SessionSeq};
use aspen::net::{Endpoint, Listen, NodeKey, open_stream, read_message, write_message};
use aspen::roster::tickets::Access;
use aspen::seams::network::{CloseCode, Gate, Link, LinkLost, Network, Protocol};
use aspen::seams::{Random, Seams, SystemClock, WallClock};
use aspen::types::{EndpointId, GroupId, Key, Value};
use aspen::wire::StreamKind;
use aspen::{Client, ClientTicket, KvService, KvServiceBuilder, MemberRole, Reach, StorageBackend};
use aspen_tickets::{Prefix, Scope, Verb, Verbs};
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, timeout};

use crate::wait::{PATIENCE, until};

const HOUR: Duration = Duration::from_secs(3_600);

/// A clock that a test moves.
#[derive(Debug)]
struct Clock(AtomicU64);

impl Clock {
    fn new() -> Arc<Self> {
        Arc::new(Clock(AtomicU64::new(0)))
    }

    fn advance(&self, by: Duration) {
        self.0.fetch_add(by.as_secs(), Ordering::SeqCst);
    }
}

impl WallClock for Clock {
    fn since_epoch(&self) -> Duration {
        SystemClock.since_epoch() + Duration::from_secs(self.0.load(Ordering::SeqCst))
    }
}

fn builder(clock: &Arc<Clock>) -> KvServiceBuilder {
    KvServiceBuilder::auto("node")
        .with_storage(StorageBackend::Memory)
        .with_reach(Reach::Loopback)
        .with_seams(Seams { wall: clock.clone(), ..Seams::in_memory() })
}

async fn one(clock: &Arc<Clock>) -> KvService {
    builder(clock).start().await.expect("a node")
}

async fn three(clock: &Arc<Clock>) -> Vec<KvService> {
    let first = one(clock).await;
    let ticket = first.cluster().invite(MemberRole::Voter, HOUR, None).await.expect("a ticket");
    let mut nodes = vec![first];
    for _ in 0..2 {
        nodes.push(builder(clock).join(ticket.clone()).start().await.expect("a member"));
    }
    let all: BTreeSet<u64> = [1, 2, 3].into();
    let votes = |node: &KvService| {
        let of = |voters: &BTreeSet<aspen::NodeId>| voters.iter().map(|node| node.0).collect();
        node.groups().iter().all(|group| -> bool { all == of(&group.voters) })
    };
    until("all three vote", async || nodes.iter().all(votes)).await;
    nodes
}

fn everything() -> Access {
    Access { name: "all".into(), scope: Scope::All, verbs: Verbs::ALL }
}

fn prefix(prefix: &str, verbs: &[Verb]) -> Access {
    let prefix = Prefix { keyspace: "default".into(), prefix: prefix.as_bytes().into() };
    let scope = Scope::Prefixes(vec![prefix]);
    Access { name: "some".into(), scope, verbs: verbs.iter().copied().collect() }
}

async fn grant(node: &KvService, access: Access) -> ClientTicket {
    node.cluster().grant(access, HOUR, None).await.expect("a ticket")
}

async fn refusal(ticket: &ClientTicket) -> String {
    match Client::connect(ticket).await {
        Err(Error::Denied(Denied::Ticket { reason })) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_is_enough_for_all_that_a_store_does() {
    let clock = Clock::new();
    let node = one(&clock).await;
    let ticket = grant(&node, everything()).await;
    let client = Client::connect(&ticket).await.expect("the ticket is good");
    let first = client.put("app/a", "1").await.expect("put");
    assert_eq!(client.get("app/a").await.expect("get").expect("it is there").version, 1);
    let mut changes = client.watch("app/").from(first.revision).await.expect("watch");
    let done = client.txn().then(Op::put("app/b", "2")).then(Op::get("app/a")).await.expect("txn");
    assert!(done.succeeded);
    let mut seen = Vec::new();
    while seen.len() < 2 {
        seen.extend(changes.next().await.expect("it goes on").events);
    }
    let lease = client.lease_grant(Duration::from_secs(60)).await.expect("lease");
    let lock = client.lock("printer", lease.id).await.expect("lock");
    assert!(lock.token > done.revision);
    assert!(client.lease_ttl(lease.id).await.expect("ttl").left_ms > 0);
    client.lease_keep_alive(lease.id).await.expect("keep alive");
    client.lease_revoke(lease.id).await.expect("revoke");
    client.compact(done.revision).await.expect("compact");
    assert_eq!(client.status().await.expect("status").keys, 2);
    // The largest there may be goes through, both ways.
    let large = vec![7; aspen::limits::VALUE_BYTES_MAX];
    client.put("large", large.clone()).await.expect("put");
    assert_eq!(
        client.get("large").await.expect("get").expect("it is there").value.as_bytes(),
        large
    );
    assert_eq!(node.client().get("app/b").await.expect("get").expect("it is there").version, 1);
    client.close().await;
    let error = client.get("app/a").await.expect_err("it is closed");
    assert!(matches!(error, Error::Unavailable { .. }), "{error}");
    node.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limited_ticket_reaches_nothing_else() {
    let clock = Clock::new();
    let node = one(&clock).await;
    let kv = node.client();
    kv.put("secret", "x").await.expect("put");
    let foreign = kv.lease_grant(Duration::from_secs(60)).await.expect("lease");
    kv.put("kept", "x").lease(foreign.id).await.expect("put");

    let ticket = grant(&node, prefix("app/", &[Verb::Read, Verb::Write])).await;
    let client = Client::connect(&ticket).await.expect("the ticket is good");
    client.put("app/a", "1").await.expect("its own");
    client.get("app/a").await.expect("its own");
    client.range(..).prefix("app/").await.expect("its own");
    let own = client.lease_grant(Duration::from_secs(60)).await.expect("a lease of its own");
    client.lock("app/lock", own.id).await.expect("a lock of its own");
    client.lease_revoke(own.id).await.expect("its own");

    let outside = Error::Denied(Denied::Outside);
    assert_eq!(client.get("secret").await.expect_err("read"), outside);
    assert_eq!(client.put("secret", "y").await.expect_err("write"), outside);
    assert_eq!(client.range(..).await.expect_err("range"), outside);
    assert_eq!(client.range(..).count_only().await.expect_err("count"), outside);
    assert_eq!(client.delete_prefix("").await.expect_err("delete"), outside);
    assert_eq!(client.watch("").await.expect_err("watch"), outside);
    assert_eq!(client.holder("printer").await.expect_err("holder"), outside);
    let txn = client.txn().then(Op::put("app/b", "1")).or_else(Op::get("secret"));
    assert_eq!(txn.await.expect_err("txn"), outside);
    let foreign_lease = Error::Denied(Denied::ForeignLease { id: foreign.id });
    assert_eq!(client.lease_revoke(foreign.id).await.expect_err("revoke"), foreign_lease);
    assert_eq!(client.lease_keep_alive(foreign.id).await.expect_err("keep alive"), foreign_lease);
    assert_eq!(client.lease_keys(foreign.id).await.expect_err("keys"), foreign_lease);
    let attach = client.put("app/c", "1").lease(foreign.id);
    assert_eq!(attach.await.expect_err("attach"), foreign_lease);
    let whole = Error::Denied(Denied::WholeShard);
    assert_eq!(client.leases(None, 10).await.expect_err("leases"), whole);
    assert_eq!(client.status().await.expect_err("status"), whole);
    assert_eq!(client.compact(1).await.expect_err("compact"), Error::Denied(Denied::Admin));

    assert_eq!(kv.get("secret").await.expect("get").expect("it is there").version, 1);
    assert!(kv.get("kept").await.expect("get").is_some());
    assert!(kv.get("app/b").await.expect("get").is_none());

    let ticket = grant(&node, prefix("app/", &[Verb::Read])).await;
    let reader = Client::connect(&ticket).await.expect("the ticket is good");
    reader.get("app/a").await.expect("it may read");
    assert_eq!(reader.put("app/a", "2").await.expect_err("write"), Error::Denied(Denied::Write));
    client.close().await;
    reader.close().await;
    node.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_way_a_ticket_is_bad_has_its_own_word() {
    let clock = Clock::new();
    let (node, other) = (one(&clock).await, one(&clock).await);
    let cluster = node.cluster();
    let good = grant(&node, everything()).await;

    let join = cluster.invite(MemberRole::Voter, HOUR, None).await.expect("a ticket").to_string();
    let wrong_kind = join.parse::<ClientTicket>().expect_err("it is for nodes");
    let mut garbled = good.to_string();
    let last = if garbled.pop() == Some('a') { 'b' } else { 'a' };
    garbled.insert(garbled.len() / 2, last);
    let garbled = garbled.parse::<ClientTicket>().expect_err("letters are changed");

    // As many uses as one likes, says who may not say it.
    let mut grant_more = good.grant().clone();
    grant_more.expires_s += 1;
    let tampered = ClientTicket::new(
        good.cluster().clone(),
        good.peers().to_vec(),
        grant_more,
        *good.signature(),
    );
    let tampered = refusal(&tampered.expect("its shape is right")).await;

    let elsewhere = grant(&other, everything()).await;
    let elsewhere = ClientTicket::new(
        elsewhere.cluster().clone(),
        good.peers().to_vec(),
        elsewhere.grant().clone(),
        *elsewhere.signature(),
    );
    let elsewhere = refusal(&elsewhere.expect("its shape is right")).await;

    let once = cluster.grant(everything(), HOUR, Some(1)).await.expect("a ticket");
    let random = Random::from_seed(7);
    let key = NodeKey::generate(&random);
    for _ in 0..2 {
        let same = Client::connect_as(&key, &once, random.clone()).await;
        same.expect("the same key is one use").close().await;
    }
    let used_up = refusal(&once).await;

    let revoked = grant(&node, everything()).await;
    cluster.revoke(revoked.grant().id).await.expect("revoke");
    let revoked = refusal(&revoked).await;

    let short = cluster.grant(everything(), Duration::from_secs(60), None).await.expect("a ticket");
    clock.advance(Duration::from_secs(61));
    let expired = refusal(&short).await;

    let told = [
        wrong_kind.to_string(),
        garbled.to_string(),
        tampered,
        elsewhere,
        used_up,
        revoked,
        expired,
    ];
    let words = ["begins with", "garbled", "tampered", "cluster", "used up", "revoked", "expired"];
    for (told, word) in told.iter().zip(words) {
        assert!(told.contains(word), "{word}: {told}");
    }
    assert_eq!(told.iter().collect::<BTreeSet<_>>().len(), told.len(), "{told:#?}");

    node.shutdown().await.expect("shutdown");
    other.shutdown().await.expect("shutdown");
    match Client::connect(&good).await {
        Err(Error::Unavailable { reason, .. }) => assert!(reason.contains("no member"), "{reason}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_goes_with_the_member_that_made_it() {
    let clock = Clock::new();
    let mut nodes = three(&clock).await;
    let issuer = nodes.pop().expect("the third");
    let ticket = grant(&issuer, everything()).await;
    let invited = issuer.cluster().invite(MemberRole::Voter, HOUR, None).await.expect("a ticket");
    issuer.cluster().leave().await.expect("the others go on");
    issuer.shutdown().await.expect("shutdown");
    let told = refusal(&ticket).await;
    assert!(told.contains("the member that made the ticket is no longer one"), "{told}");
    let told = builder(&clock).join(invited).start().await.expect_err("nobody answers for it");
    assert!(
        told.to_string().contains("the member that made the ticket is no longer one"),
        "{told}"
    );
    for node in nodes {
        node.shutdown().await.expect("shutdown");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_ticket_that_is_revoked_ends_what_its_holder_has_under_way() {
    let clock = Clock::new();
    let node = one(&clock).await;
    let ticket = grant(&node, everything()).await;
    let client = Client::connect(&ticket).await.expect("the ticket is good");
    client.put("a", "1").await.expect("put");
    let mut changes = client.watch("").await.expect("watch");
    node.cluster().revoke(ticket.grant().id).await.expect("revoke");
    until("a write is refused", async || {
        matches!(client.put("a", "2").await, Err(Error::Denied(Denied::Ticket { .. })))
    })
    .await;
    let ended = timeout(PATIENCE, async { while changes.next().await.is_ok() {} });
    ended.await.expect("the watch ends too");
    client.close().await;
    node.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_goes_away_is_no_error_to_a_client() {
    let clock = Clock::new();
    let mut nodes = three(&clock).await;
    let ticket = grant(&nodes[0], everything()).await;
    assert_eq!(ticket.peers().len(), 3);
    let client = Client::connect(&ticket).await.expect("the ticket is good");
    let kv = client.kv();
    let first = kv.put("n", "0").await.expect("put").revision;
    let mut changes = kv.watch("n").from(first).await.expect("watch");
    let counting = tokio::spawn({
        let kv = kv.clone();
        async move {
            let mut longest = Duration::ZERO;
            for n in 1..=300 {
                let begun = Instant::now();
                kv.put("n", n.to_string()).await.expect("nothing reaches the caller");
                longest = longest.max(begun.elapsed());
            }
            longest
        }
    });
    until("it counts", async || {
        kv.get("n").await.expect("get").is_some_and(|found| found.version > 50)
    })
    .await;
    let group = GroupId::FIRST_SHARD;
    let status = nodes[0].groups().into_iter().find(|status| status.group == group);
    let leader = status.and_then(|status| status.leader).expect("somebody leads");
    let at = nodes.iter().position(|node| node.node().node_id == leader).expect("one of them");
    drop(nodes.remove(at));
    let longest = counting.await.expect("all are counted");
    println!("the longest write took {longest:?}");
    assert_eq!(kv.get("n").await.expect("get").expect("it is there").version, 301);
    let mut seen = Vec::new();
    while seen.len() < 301 {
        let batch = timeout(PATIENCE, changes.next()).await.expect("in time").expect("it goes on");
        seen.extend(batch.events.into_iter().filter_map(|event| event.record));
    }
    let versions: Vec<u64> = seen.iter().map(|record| record.version).collect();
    assert_eq!(versions, (1..=301).collect::<Vec<_>>(), "each change once and in order");
    client.close().await;
    for node in nodes {
        node.shutdown().await.expect("shutdown");
    }
}

#[derive(Debug)]
struct Nobody;

impl Gate for Nobody {
    fn admit(&self, _: EndpointId, _: Protocol) -> Result<(), (CloseCode, String)> {
        Err((CloseCode::NotMember, "nobody".into()))
    }
}

/// An endpoint of our own, to say what no client says.
async fn raw(seed: u64) -> Endpoint {
    let key = NodeKey::generate(&Random::from_seed(seed));
    Endpoint::bind(&key, Reach::Loopback, Listen::Anywhere, Arc::new(Nobody))
        .await
        .expect("an endpoint")
}

async fn dial(endpoint: &Endpoint, ticket: &ClientTicket) -> Arc<dyn Link> {
    let peer = &ticket.peers()[0];
    let link = endpoint.connect(EndpointId(peer.endpoint), &peer.addresses, Protocol::Client);
    link.await.expect("a link")
}

async fn end_of(link: &Arc<dyn Link>) -> LinkLost {
    timeout(PATIENCE, link.closed()).await.expect("the node closes it")
}

async fn say(link: &Arc<dyn Link>, kind: StreamKind, message: &[u8]) -> Option<bytes::Bytes> {
    let (mut out, mut input) = open_stream(&**link, kind).await.ok()?;
    write_message(&mut out, message).await.ok()?;
    out.shutdown().await.ok()?;
    read_message(&mut input, CALL_BYTES_MAX).await.ok()
}

fn put(session: Option<SessionSeq>, proof: Option<[u8; 16]>) -> Vec<u8> {
    let put = Put::new(Key::try_from("k").unwrap(), Value::try_from("forged").unwrap());
    let command = Command { session, action: Action::Put(put) };
    let request = Request::Propose { group: GroupId::FIRST_SHARD, command, proof };
    Asked { within_ms: 5_000, request, id: None }.encode().into()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_show_a_ticket_first_is_closed_without_data() {
    let clock = Clock::new();
    let node = one(&clock).await;
    let ticket = grant(&node, everything()).await;
    let endpoint = raw(1).await;
    let hello = |ticket: &str| Hello { ticket: ticket.into() }.encode();
    for (kind, message, code) in [
        (StreamKind::Request, put(None, None), CloseCode::BadTicket),
        (StreamKind::Watch, vec![1, 0, 0], CloseCode::BadTicket),
        (StreamKind::Lanes, vec![], CloseCode::BadTicket),
        (StreamKind::Ticket, hello("aspenclientaaaa").into(), CloseCode::BadTicket),
        (StreamKind::Ticket, hello("").into(), CloseCode::BadTicket),
        (StreamKind::Ticket, vec![9, 9, 9], CloseCode::Malformed),
    ] {
        let link = dial(&endpoint, &ticket).await;
        assert_eq!(say(&link, kind, &message).await, None, "{kind:?}");
        assert_eq!(end_of(&link).await.code, Some(code), "{kind:?}");
    }
    assert!(node.client().get("k").await.expect("get").is_none());
    endpoint.close().await;
    node.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_can_be_used_by_nobody_else() {
    let clock = Clock::new();
    let node = one(&clock).await;
    let ticket = grant(&node, everything()).await;
    let hello = Hello { ticket: ticket.to_string() }.encode();
    let (owner, thief) = (raw(1).await, raw(2).await);
    let (owner_link, thief_link) = (dial(&owner, &ticket).await, dial(&thief, &ticket).await);
    for link in [&owner_link, &thief_link] {
        let welcome = say(link, StreamKind::Ticket, &hello).await.expect("a welcome");
        assert_eq!(Whereabouts::decode(&welcome).expect("a welcome").members.len(), 1);
    }
    let ask = async |link, message: Vec<u8>| {
        let response = say(link, StreamKind::Request, &message).await.expect("an answer");
        decode_response(&response).expect("a response")
    };
    let command = Command { session: None, action: Action::SessionOpen };
    let request = Request::Propose { group: GroupId::FIRST_SHARD, command, proof: None };
    let opened =
        ask(&owner_link, Asked { within_ms: 5_000, request, id: None }.encode().into()).await;
    let Ok(Reply::Answer { answer, proof }) = opened else { panic!("{opened:?}") };
    let AnswerBody::Session(id) = answer.body else { panic!("{answer:?}") };
    let place = Some(SessionSeq { id, seq: 1, acked_below: 1 });

    let foreign = Err(Failure::Final(Denied::ForeignSession.into()));
    assert_eq!(ask(&thief_link, put(place, None)).await, foreign);
    assert_eq!(ask(&thief_link, put(place, proof)).await, foreign, "the proof is the owner's");
    assert_eq!(ask(&thief_link, put(None, None)).await, foreign, "no write without a session");
    assert!(node.client().get("k").await.expect("get").is_none());
    assert!(ask(&owner_link, put(place, proof)).await.is_ok());

    // What can't be understood ends the link.
    assert_eq!(say(&thief_link, StreamKind::Request, &[1, 2, 3]).await, None);
    assert_eq!(end_of(&thief_link).await.code, Some(CloseCode::Malformed));
    owner.close().await;
    thief.close().await;
    node.shutdown().await.expect("shutdown");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_stands_still_holds_up_no_other() {
    let clock = Clock::new();
    let node = one(&clock).await;
    let ticket = grant(&node, everything()).await;
    let endpoint = raw(1).await;
    let link = dial(&endpoint, &ticket).await;
    let hello = Hello { ticket: ticket.to_string() }.encode();
    say(&link, StreamKind::Ticket, &hello).await.expect("a welcome");
    let mut stuck = Vec::new();
    for _ in 0..2 * GUEST_REQUESTS_MAX {
        // As long a request as there may be is announced, and does not come.
        let (mut out, input) = open_stream(&*link, StreamKind::Request).await.expect("a stream");
        out.write_all(&(CALL_BYTES_MAX as u32).to_le_bytes()).await.expect("it is sent");
        stuck.push((out, input));
    }
    let client = Client::connect(&ticket).await.expect("the ticket is good");
    for n in 0..20 {
        client.put("k", n.to_string()).await.expect("others are served");
    }
    let large = vec![7; aspen::limits::VALUE_BYTES_MAX];
    client.put("large", large).await.expect("there is room for them too");
    client.close().await;
    endpoint.close().await;
    drop(stuck);
    node.shutdown().await.expect("shutdown");
}
