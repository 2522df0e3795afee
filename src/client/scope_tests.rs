//! What a ticket allows, and that nothing else gets through.

use aspen_tickets::{Prefix, Scope as Area, Verbs};
use bytes::Bytes;

use super::*;
use crate::machine::ops::{Claim, CompareTarget, Is, Range, SessionSeq};
use crate::types::{Consistency, Value};

const GROUP: GroupId = GroupId::FIRST_SHARD;

/// The default keyspace has this group; the meta group is in none.
fn keyspace_of(group: GroupId) -> Option<KeyspaceName> {
    (group == GROUP).then(KeyspaceName::default)
}

fn check(permit: &Permit, request: &mut Request) -> Result<(), Denied> {
    super::check(permit, keyspace_of(request.group()).as_ref(), request)
}

fn check_watch(permit: &Permit, group: GroupId, range: &KeyRange) -> Result<(), Denied> {
    super::check_watch(permit, keyspace_of(group).as_ref(), range)
}

fn permit(prefixes: &[&str], verbs: &[Verb]) -> Permit {
    let prefix = |prefix: &&str| Prefix {
        keyspace: KeyspaceName::DEFAULT.into(),
        prefix: prefix.as_bytes().into(),
    };
    let scope = match prefixes {
        [] => Area::All,
        _ => Area::Prefixes(prefixes.iter().map(prefix).collect()),
    };
    let verbs: Verbs = verbs.iter().copied().collect();
    Permit { grant: 7, scope, verbs, expires_s: u64::MAX }
}

fn key(text: &str) -> Key {
    Key::try_from(text).expect("a key")
}

fn propose(action: Action) -> Request {
    let session = Some(SessionSeq { id: SessionId(5), seq: 3, acked_below: 1 });
    Request::Propose { group: GROUP, command: Command { session, action }, proof: None }
}

fn ask(query: Query) -> Request {
    Request::Query { group: GROUP, query, consistency: Consistency::Linearizable }
}

fn put(text: &str) -> Put {
    Put::new(key(text), Value::default())
}

fn range(start: Bound<&'static [u8]>, end: Bound<&'static [u8]>) -> KeyRange {
    let bytes = |bound: Bound<&'static [u8]>| bound.map(Bytes::from_static);
    KeyRange { start: bytes(start), end: bytes(end) }
}

fn read(range: KeyRange) -> Request {
    ask(Query::Range(Range::of(range)))
}

fn txn(op: Op) -> Action {
    Action::Txn(Txn { when: Vec::new(), then: vec![op], or_else: Vec::new() })
}

/// A request about a key or a name.
type Make<'a> = Box<dyn Fn(&str) -> Request + 'a>;

/// The id that a lease of the ticket could have.
fn own_lease(permit: &Permit) -> LeaseId {
    let mut grant = propose(Action::LeaseGrant { id: None, ttl_ms: 5_000 });
    check(permit, &mut grant).expect("a writer may");
    match grant {
        Request::Propose {
            command: Command { action: Action::LeaseGrant { id: Some(id), .. }, .. },
            ..
        } => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn nothing_outside_a_prefix_is_read_or_written() {
    let permit = permit(&["app/", "tmp/"], &[Verb::Read, Verb::Write, Verb::Admin]);
    let allowed = |mut request: Request| check(&permit, &mut request);
    let lease = own_lease(&permit);
    let condition = |text: &str| Compare {
        range: CompareKeys::One(key(text)),
        target: CompareTarget::Version(0),
        is: Is::Equal,
    };
    let conditional = |text: &str| {
        let txn = Txn { when: vec![condition(text)], ..Txn::default() };
        propose(Action::Txn(txn))
    };
    let nested = |text: &str| {
        let inner = Txn { or_else: vec![Op::Put(put(text))], ..Txn::default() };
        propose(txn(Op::Txn(inner)))
    };
    let delete = |range| Delete { range, prev: false };
    let claim = |text: &str| Claim { name: key(text), lease, value: Value::default() };

    for (inside, outside) in [("app/a", "apq"), ("tmp/", "tm"), ("app/\u{ff}", "b"), ("tmp/x", "A")]
    {
        let requests: Vec<Make<'_>> = vec![
            Box::new(|at| ask(Query::Get(key(at)))),
            Box::new(|at| read(KeyRange::one(&key(at)))),
            Box::new(|at| propose(Action::Put(put(at)))),
            Box::new(|at| propose(Action::Delete(delete(KeyRange::one(&key(at)))))),
            Box::new(|at| propose(txn(Op::Put(put(at))))),
            Box::new(|at| propose(txn(Op::Range(Range::of(KeyRange::one(&key(at))))))),
            Box::new(|at| propose(txn(Op::Delete(delete(KeyRange::one(&key(at))))))),
            Box::new(conditional),
            Box::new(nested),
            Box::new(|at| propose(Action::Claim(claim(at)))),
            Box::new(|at| ask(Query::Holder { name: key(at) })),
            Box::new(|at| propose(Action::Release { name: key(at), lease })),
        ];
        for (n, request) in requests.iter().enumerate() {
            assert_eq!(allowed(request(inside)), Ok(()), "{n} {inside}");
            assert_eq!(allowed(request(outside)), Err(Denied::Outside), "{n} {outside}");
        }
    }
}

#[test]
fn a_range_lies_within_one_prefix() {
    use Bound::{Excluded, Included, Unbounded};
    let limited = permit(&["app/", "app0"], &[Verb::Read]);
    let may = |start, end| check(&limited, &mut read(range(start, end))).is_ok();
    assert!(check(&limited, &mut read(KeyRange::prefix("app/"))).is_ok());
    assert!(check(&limited, &mut read(KeyRange::prefix("app/deeper/"))).is_ok());
    assert!(check(&limited, &mut read(KeyRange::prefix("app"))).is_err());
    assert!(check(&limited, &mut read(KeyRange::all())).is_err());
    assert!(may(Included(b"app/"), Excluded(b"app0")));
    assert!(may(Excluded(b"app/a"), Included(b"app/b")));
    assert!(!may(Included(b"app/"), Included(b"app0")), "two prefixes, though side by side");
    assert!(!may(Unbounded, Excluded(b"app/b")));
    assert!(!may(Included(b"app/"), Unbounded));
    assert!(check_watch(&limited, GROUP, &KeyRange::prefix("app/")).is_ok());
    assert_eq!(check_watch(&limited, GROUP, &KeyRange::all()), Err(Denied::Outside));
}

#[test]
fn each_verb_is_needed_for_what_it_names() {
    let only = |verb| permit(&[], &[verb]);
    let verdict = |verb, mut request: Request| check(&only(verb), &mut request);
    let write = || propose(Action::Put(put("k")));
    assert_eq!(verdict(Verb::Read, write()), Err(Denied::Write));
    assert_eq!(verdict(Verb::Admin, write()), Err(Denied::Write));
    assert_eq!(verdict(Verb::Write, write()), Ok(()));
    assert_eq!(verdict(Verb::Write, ask(Query::Get(key("k")))), Err(Denied::Read));
    assert_eq!(verdict(Verb::Write, ask(Query::Status)), Err(Denied::Read));
    assert_eq!(verdict(Verb::Read, ask(Query::Status)), Ok(()));
    // What is answered with what was there is a read too.
    let with_prev = Put { prev: true, ..put("k") };
    assert_eq!(verdict(Verb::Write, propose(Action::Put(with_prev))), Err(Denied::Read));
    let with_prev = Delete { range: KeyRange::all(), prev: true };
    assert_eq!(verdict(Verb::Write, propose(Action::Delete(with_prev))), Err(Denied::Read));
    let compact = || propose(Action::Compact { revision: 3 });
    assert_eq!(verdict(Verb::Write, compact()), Err(Denied::Admin));
    assert_eq!(verdict(Verb::Admin, compact()), Ok(()));
    assert_eq!(verdict(Verb::Read, propose(Action::SessionOpen)), Err(Denied::Write));
    assert_eq!(verdict(Verb::Admin, propose(Action::SessionOpen)), Ok(()));
}

#[test]
fn a_limited_ticket_has_leases_of_its_own_and_no_others() {
    let limited = permit(&["app/"], &[Verb::Read, Verb::Write]);
    let own = own_lease(&limited);
    assert_eq!(own_lease(&limited), own, "a command that is tried again asks for the same");
    let other = own_lease(&Permit { grant: 8, ..limited.clone() });
    for (lease, right) in [(own, Ok(())), (LeaseId(12), Err(LeaseId(12))), (other, Err(other))] {
        let right = right.map_err(|id| Denied::ForeignLease { id });
        let attach = Put { lease: PutLease::Attach(lease), ..put("app/k") };
        let claim = Claim { name: key("app/lock"), lease, value: Value::default() };
        for mut request in [
            propose(Action::Put(attach.clone())),
            propose(txn(Op::Put(attach))),
            propose(Action::Claim(claim)),
            propose(Action::LeaseRevoke { id: lease }),
            propose(Action::LeaseGrant { id: Some(lease), ttl_ms: 5_000 }),
            ask(Query::Lease { id: lease, keys: true }),
            Request::KeepAlive { group: GROUP, lease },
            Request::LeaseTtl { group: GROUP, lease },
        ] {
            assert_eq!(check(&limited, &mut request), right, "{request:?}");
        }
    }
    let list = || ask(Query::Leases { after: None, limit: 10 });
    assert_eq!(check(&limited, &mut list()), Err(Denied::WholeShard));
    let all = permit(&[], &[Verb::Read, Verb::Write]);
    assert_eq!(check(&all, &mut list()), Ok(()));
    assert_eq!(check(&all, &mut Request::KeepAlive { group: GROUP, lease: other }), Ok(()));
}

#[test]
fn the_clusters_own_affairs_are_nobodys() {
    let all = permit(&[], &[Verb::Read, Verb::Write, Verb::Admin]);
    for action in [
        Action::SessionClose { id: SessionId(5) },
        Action::LeaseExpire { ids: vec![LeaseId(1)] },
        Action::CompactStep,
    ] {
        assert_eq!(check(&all, &mut propose(action)), Err(Denied::Internal));
    }
    let mut meta = Request::Query {
        group: GroupId::META,
        query: Query::Get(key("cluster")),
        consistency: Consistency::Stale,
    };
    assert_eq!(check(&all, &mut meta), Err(Denied::Internal));
    assert_eq!(check_watch(&all, GroupId::META, &KeyRange::all()), Err(Denied::Internal));
}

#[test]
fn a_session_is_used_by_the_key_that_opened_it() {
    let (secret, client, other) = ([9; 32], EndpointId([1; 32]), EndpointId([2; 32]));
    let with = |proof: Option<Proof>| {
        let mut request = propose(Action::Put(put("k")));
        let Request::Propose { proof: place, .. } = &mut request else { unreachable!() };
        *place = proof;
        check_session(&secret, &request, client)
    };
    assert_eq!(with(Some(prove(&secret, GROUP, SessionId(5), client))), Ok(()));
    for wrong in [
        None,
        Some(prove(&secret, GROUP, SessionId(5), other)),
        Some(prove(&secret, GROUP, SessionId(6), client)),
        Some(prove(&[8; 32], GROUP, SessionId(5), client)),
        // Another group numbers its sessions alike.
        Some(prove(&secret, GroupId(2), SessionId(5), client)),
    ] {
        assert_eq!(with(wrong), Err(Denied::ForeignSession));
    }
    let outside = |action| Request::Propose {
        group: GROUP,
        command: Command { session: None, action },
        proof: None,
    };
    assert_eq!(check_session(&secret, &outside(Action::SessionOpen), client), Ok(()));
    let write = outside(Action::Put(put("k")));
    assert_eq!(check_session(&secret, &write, client), Err(Denied::ForeignSession));
}
