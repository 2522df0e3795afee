//! What is under way follows from the records and what is seen, and each has one name.

use std::collections::BTreeSet;

use aspen::roster::duties::drain;
use aspen::roster::keyspaces::{NewKeyspace, create};
use aspen::roster::leave::{leave, remove};
use aspen::roster::undertakings::{Seen, Standing, What, find, under_way};
use aspen::types::{GroupId, KeyspaceName, NodeId};
use aspen_tickets::Role;
use proptest::prelude::*;

use super::{NOW_S, application, commit, founded, invited, join, key};

#[test]
fn a_name_is_one_undertakings_and_each_has_one() {
    let names = [
        "drain-3",
        "leave-2",
        "remove-2",
        "repair-7-2",
        "create-logs-of-7",
        "move-7",
        "catch-up-3",
        "erase-1",
        "compact-0",
    ];
    for name in names {
        let what: What = name.parse().unwrap_or_else(|_| panic!("{name}"));
        assert_eq!(what.to_string(), name);
    }
    for text in ["", "drain", "drain-", "drain-+3", "drain-03", "repair-7", "create-", "Drain-3"] {
        assert!(text.parse::<What>().is_err(), "{text}");
    }
}

proptest! {
    #[test]
    fn any_text_is_no_name_or_the_one_of_what_it_names(text in "[a-z0-9-]{0,20}") {
        if let Ok(what) = text.parse::<What>() {
            prop_assert_eq!(what.to_string(), text);
        }
    }
}

#[test]
fn a_departure_is_waiting_running_and_done() {
    let mut roster = founded();
    let invitation = invited(&mut roster, 1, Role::Voter, 1);
    join(&mut roster, &application(&invitation, key(2), 2)).expect("it is admitted");
    let node = NodeId(2);
    let standing = |roster: &_, seen: &Seen, what: What| {
        find(roster, seen, &what).map(|undertaking| undertaking.standing)
    };
    let seen = Seen::default();
    assert_eq!(standing(&roster, &seen, What::Drain(node)), None);
    assert_eq!(standing(&roster, &seen, What::Leave(node)), None);
    assert_eq!(standing(&roster, &seen, What::Drain(NodeId(9))), None);

    // It holds nothing yet.
    let change = drain(&roster, node, true).expect("it is a member");
    commit(&mut roster, &change);
    assert_eq!(standing(&roster, &seen, What::Drain(node)), Some(Standing::Done));
    let change = leave(&roster, node, &BTreeSet::new()).expect("another votes");
    commit(&mut roster, &change);
    assert_eq!(standing(&roster, &seen, What::Leave(node)), Some(Standing::Running));
    assert_eq!(standing(&roster, &seen, What::Remove(node)), None);
    let change = remove(&roster, node, &BTreeSet::new()).expect("another votes");
    commit(&mut roster, &change);
    for what in [What::Drain(node), What::Leave(node), What::Remove(node)] {
        assert_eq!(standing(&roster, &seen, what), Some(Standing::Done));
    }

    // The shards of the first keyspace are being founded; those of another wait for places, unless they
    // are to be given some.
    let founding = What::Create("default".parse().expect("a name"));
    assert_eq!(standing(&roster, &seen, founding), Some(Standing::Running));
    let name: KeyspaceName = "logs".parse().expect("a name");
    let new = NewKeyspace { name: name.clone(), shards: 2, replicas: 3 };
    let (_, change) = create(&roster, &new, NOW_S).expect("it is the first of its name");
    commit(&mut roster, &change);
    let create = What::Create(name);
    assert_eq!(standing(&roster, &seen, create.clone()), Some(Standing::Waiting));
    let next = roster.shards().map(|(group, ..)| group).collect();
    let seen = Seen { next, ..seen };
    assert_eq!(standing(&roster, &seen, create), Some(Standing::Running));

    // What a member holds and the roster does not know is erased, or was made since.
    let unknown = GroupId(roster.next_group().expect("a keyspace").0);
    let seen = Seen { held: [(NodeId(1), [GroupId::META, unknown].into())].into(), ..seen };
    assert_eq!(standing(&roster, &seen, What::Erase(NodeId(1))), Some(Standing::Done));
    let listed = under_way(&roster, &seen);
    let names: Vec<_> = listed.iter().map(|one| one.what.to_string()).collect();
    assert_eq!(names, ["create-default", "create-logs"]);
}
