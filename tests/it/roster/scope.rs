//! What a client's scope lets through: no key outside it, in no kind of range.

use std::ops::Bound;

use aspen::roster::clients::Permit;
use aspen_tickets::{Prefix, Scope, Verb, Verbs};
use proptest::prelude::*;

fn permit(scope: Scope) -> Permit {
    Permit { grant: 1, scope, verbs: Verbs::from_iter([Verb::Read]), expires_s: u64::MAX }
}

fn prefixed(prefixes: &[&[u8]]) -> Permit {
    let entry = |prefix: &&[u8]| Prefix { keyspace: "default".into(), prefix: prefix.to_vec() };
    permit(Scope::Prefixes(prefixes.iter().map(entry).collect()))
}

/// Few letters, so that keys and prefixes meet; 0 and 255 are at the ends.
fn bytes(len: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(prop_oneof![Just(0), Just(97), Just(98), Just(255)], len)
}

fn bounds() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        4 => bytes(1..=4).prop_map(Bound::Included),
        4 => bytes(1..=4).prop_map(Bound::Excluded),
        1 => Just(Bound::Unbounded),
    ]
}

fn borrowed(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

#[test]
fn verbs_and_keyspaces_limit_too() {
    let all = permit(Scope::All);
    assert!(all.allows_key(Verb::Read, "any", b"k") && all.allows_all(Verb::Read));
    assert!(!all.allows_key(Verb::Write, "any", b"k") && !all.allows_all(Verb::Admin));
    let one = permit(Scope::Keyspaces(vec!["default".into()]));
    assert!(one.allows_key(Verb::Read, "default", b"k") && !one.allows_all(Verb::Read));
    assert!(!one.allows_key(Verb::Read, "other", b"k"));
    assert!(one.allows_range(Verb::Read, "default", Bound::Unbounded, Bound::Unbounded));
    assert!(!one.allows_range(Verb::Read, "other", Bound::Unbounded, Bound::Unbounded));
    assert!(!prefixed(&[b"a"]).allows_key(Verb::Read, "other", b"ab"));
}

#[test]
fn a_range_over_two_prefixes_is_within_neither() {
    let permit = prefixed(&[b"a", b"b"]);
    let range = |start, end| permit.allows_range(Verb::Read, "default", start, end);
    assert!(range(Bound::Included(&b"a"[..]), Bound::Excluded(&b"b"[..])));
    assert!(!range(Bound::Included(&b"a"[..]), Bound::Included(&b"b"[..])));
    assert!(!range(Bound::Included(&b"a"[..]), Bound::Excluded(&b"c"[..])));
    let last = prefixed(&[b"\xff"]);
    assert!(last.allows_range(Verb::Read, "default", Bound::Included(b"\xff"), Bound::Unbounded));
    assert!(!last.allows_range(Verb::Read, "default", Bound::Included(b"\xfe"), Bound::Unbounded));
}

proptest! {
    #[test]
    fn no_allowed_range_holds_a_key_that_is_not(
        prefixes in proptest::collection::vec(bytes(1..=3), 1..=3),
        start in bounds(),
        end in bounds(),
        keys in proptest::collection::vec(bytes(1..=5), 64),
    ) {
        let permit = prefixed(&prefixes.iter().map(Vec::as_slice).collect::<Vec<_>>());
        if permit.allows_range(Verb::Read, "default", borrowed(&start), borrowed(&end)) {
            use std::ops::RangeBounds;
            for key in keys.iter().filter(|key| (start.clone(), end.clone()).contains(*key)) {
                prop_assert!(permit.allows_key(Verb::Read, "default", key), "{key:?}");
            }
        }
    }

    #[test]
    fn every_range_between_keys_of_a_prefix_is_allowed(
        prefix in bytes(1..=3),
        from in bytes(0..=3),
        to in bytes(0..=3),
    ) {
        let (from, to) = ([&prefix[..], &from].concat(), [&prefix[..], &to].concat());
        let permit = prefixed(&[&prefix]);
        for end in [Bound::Included(&to[..]), Bound::Excluded(&to[..])] {
            prop_assert!(permit.allows_range(Verb::Read, "default", Bound::Included(&from), end));
            prop_assert!(permit.allows_range(Verb::Read, "default", Bound::Excluded(&from), end));
        }
    }
}
