//! The records' bytes, which every later version must read.

use aspen::roster::admit::{Admitted, Application};
use aspen::roster::announcement::{
    self, Announcement, BadAnnouncement, GroupLoad, Part, PartRole, Rest, topic,
};
use aspen::roster::clients::Presented;
use aspen::roster::records::*;
use aspen::roster::refused::Refused;
use aspen::roster::tokens::TokenRecord;
use aspen::roster::{Roster, Standing};
use aspen::types::{Address, ClusterId, EndpointId, GroupId, NodeId};
use aspen_tickets::{Role, Scope, USES_ANY, Verb, Verbs};
use proptest::prelude::*;

use super::*;

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn member() -> Member {
    Member {
        node: NodeId(3),
        endpoint: key(7),
        incarnation: 9,
        name: "a".into(),
        role: Role::Learner,
        addresses: vec!["127.0.0.1:4681".parse().unwrap()],
        version: "0.1".into(),
        state: State::Leaving,
        invitation: 5,
    }
}

fn relay() -> Address {
    "https://relay.example".parse().unwrap()
}

fn grant() -> Grant {
    Grant {
        name: "app".into(),
        scope: Scope::Keyspaces(vec!["default".into()]),
        verbs: Verbs::from_iter([Verb::Read, Verb::Write]),
        created_s: 1,
        expires_s: 1_800_000_000,
        uses: 3,
        used: 1,
        issuer: key(9),
        revoked: false,
    }
}

fn invitation() -> aspen::roster::records::Invitation {
    aspen::roster::records::Invitation {
        role: Role::Voter,
        created_s: 1,
        expires_s: 1_800_000_000,
        uses: USES_ANY,
        used: 2,
        issuer: key(9),
        revoked: true,
    }
}

fn cluster() -> Cluster {
    Cluster {
        id: ClusterId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        name: "lab".into(),
        gossip_secret: [5; 32],
        next_node: NodeId(4),
        forgotten: NodeId(0),
    }
}

fn token() -> TokenRecord {
    let scope = Scope::Keyspaces(vec!["default".into()]);
    let (name, verbs) = ("app".into(), [Verb::Read].into_iter().collect());
    TokenRecord { name, scope, verbs, created_s: 1, expires_s: Some(2), hash: [9; 32] }
}

fn keyspace() -> Keyspace {
    let created_s = 1_800_000_000;
    Keyspace { first: GroupId(5), shards: 200, replicas: 3, spread: 1, created_s }
}

fn shard() -> Shard {
    Shard {
        stage: Stage::Moving,
        replicas: [1, 2, 3].map(NodeId).into(),
        leaving: [NodeId(9)].into(),
        leader: Some(NodeId(3)),
    }
}

fn records() -> Vec<(Record, String, String)> {
    let (fives, sevens, nines) = ("05".repeat(32), "07".repeat(32), "09".repeat(32));
    let relay_url = hex(b"https://relay.example/");
    vec![
        (
            Record::Cluster(cluster()),
            "cluster".into(),
            format!("01 909eb8e8c0e1828589909cb0d080c1818202 036c6162 {fives} 04 00"),
        ),
        (
            Record::Member(member()),
            "member/3".into(),
            format!("01 03 {sevens} 09 0161 01 01 007f000001c924 03302e31 01 05"),
        ),
        (
            Record::Member(Member { addresses: vec![relay()], ..member() }),
            "member/3".into(),
            format!("01 03 {sevens} 09 0161 01 01 0216 {relay_url} 03302e31 01 05"),
        ),
        (
            Record::Invitation(0x10, invitation()),
            "invitation/00000000000000000000000000000010".into(),
            format!("01 00 01 80a4a7da06 ffffffff0f 02 {nines} 01"),
        ),
        (
            Record::Grant(0x10, grant()),
            "grant/00000000000000000000000000000010".into(),
            format!("01 03617070 01 01 0764656661756c74 03 01 80a4a7da06 03 01 {nines} 00"),
        ),
        (
            Record::Client(0x10, key(7), Client { since_s: 1 }),
            format!("client/00000000000000000000000000000010/{sevens}"),
            "01 01".into(),
        ),
        (
            Record::Token(0x10, token()),
            "token/00000000000000000000000000000010".into(),
            format!("01 03617070 01 01 0764656661756c74 01 01 01 02 {nines}"),
        ),
        (
            Record::Keyspaces(Keyspaces { next_group: GroupId(300) }),
            "keyspaces".into(),
            "01 ac02".into(),
        ),
        (
            Record::Keyspace("app.v2".parse().unwrap(), keyspace()),
            "keyspace/app.v2".into(),
            "01 05 c801 03 01 80a4a7da06".into(),
        ),
        (
            Record::Shard(GroupId(5), shard()),
            "shard/5".into(),
            "01 02 03 010203 01 09 01 03".into(),
        ),
        (Record::Shard(GroupId(6), Shard::default()), "shard/6".into(), "01 00 00 00 00".into()),
        (
            Record::Repair(GroupId(5), Repair { node: NodeId(3), stage: RepairStage::LetGo }),
            "repair/5".into(),
            "01 03 01".into(),
        ),
    ]
}

#[test]
fn the_first_version_of_each_record_keeps_its_bytes() {
    for (record, key, value) in records() {
        assert_eq!(String::from_utf8(record.key().encode()).unwrap(), key);
        assert_eq!(hex(&record.encode()), value.replace(' ', ""), "{key}");
        assert_eq!(RecordKey::decode(key.as_bytes()), Ok(Some(record.key())));
        assert_eq!(Record::decode(&record.key(), &record.encode()), Ok(record));
    }
}

/// So it is in a node's own file and in answers over HTTP.
#[test]
fn an_address_is_its_text_where_people_read_it() {
    for (address, text) in
        [(relay(), "https://relay.example/"), (member().addresses.remove(0), "127.0.0.1:4681")]
    {
        assert_eq!(serde_json::to_value(&address).unwrap(), text);
        assert_eq!(serde_json::from_value::<Address>(text.into()).unwrap(), address);
    }
    assert!(serde_json::from_value::<Address>("relay".into()).is_err());
}

#[test]
fn what_travels_keeps_its_bytes() {
    let bytes = |value: &dyn Fn() -> Result<Vec<u8>, postcard::Error>| hex(&value().unwrap());
    let application = Application {
        cluster: ClusterId(1),
        invitation: invitation().ticketed(2),
        signature: Signature([3; 64]),
        endpoint: key(4),
        wanted: Some(NodeId(5)),
        description: described(6),
    };
    let expected = format!(
        "01 02 00 80a4a7da06 ffffffff0f {} {} {} 01 05 06 00 00 05302e312e30",
        "09".repeat(32),
        "03".repeat(64),
        "04".repeat(32)
    );
    assert_eq!(bytes(&|| postcard::to_stdvec(&application)), expected.replace(' ', ""));

    let presented = Presented {
        cluster: ClusterId(1),
        grant: grant().ticketed(2),
        signature: Signature([3; 64]),
        endpoint: key(4),
    };
    let expected = format!(
        "01 02 01 01 0764656661756c74 03 80a4a7da06 03 {} {} {}",
        "09".repeat(32),
        "03".repeat(64),
        "04".repeat(32)
    );
    assert_eq!(bytes(&|| postcard::to_stdvec(&presented)), expected.replace(' ', ""));

    let admitted =
        Admitted { node: NodeId(3), role: Role::Voter, again: true, replaces: Some(NodeId(2)) };
    assert_eq!(bytes(&|| postcard::to_stdvec(&admitted)), "0300010102");
    assert_eq!(bytes(&|| postcard::to_stdvec(&Refused::NotFounded)), "00");
    assert_eq!(bytes(&|| postcard::to_stdvec(&Refused::Tampered)), "04");
    assert_eq!(bytes(&|| postcard::to_stdvec(&Refused::Removed { node: NodeId(2) })), "0d02");
    assert_eq!(bytes(&|| postcard::to_stdvec(&Refused::TooManyClients)), "17");
    let (version, theirs, node) = ("1".to_owned(), "2".to_owned(), NodeId(3));
    let (what, level) = ("x".to_owned(), 2);
    let refused = [
        (Refused::MemberTooOld { node, version: version.clone(), what }, "28 03 0131 0178"),
        (Refused::BuildTooOld { version: version.clone(), level }, "29 0131 02"),
        (Refused::BuildApart { node, theirs, version }, "2a 03 0132 0131"),
    ];
    for (refused, expected) in refused {
        assert_eq!(bytes(&|| postcard::to_stdvec(&refused)), expected.replace(' ', ""));
    }
    assert_eq!(hex(&Record::Level(2).encode()), "0102");
    assert_eq!(RecordKey::Level.encode(), b"level");
}

fn announcement() -> Announcement {
    let part = |group, role, applied| Part { group: GroupId(group), role, applied };
    Announcement {
        cluster: ClusterId(1),
        endpoint: key(7),
        node: NodeId(3),
        start: 2,
        number: 300,
        addresses: vec!["127.0.0.1:4681".parse().unwrap()],
        writes_per_second: 500,
        free_percent: 75,
        version: "0.1".into(),
        groups_cut: false,
        groups: vec![
            part(1, PartRole::Leader, 9),
            part(0, PartRole::Voter, 8),
            part(2, PartRole::Learner, 7),
        ],
        rest: Rest {
            is_full: true,
            loads: vec![GroupLoad { group: GroupId(1), operations: 400, bytes: 9 }],
        },
    }
}

#[test]
fn announcements_keep_their_bytes_what_is_signed_of_them_and_their_topic() {
    let said = format!(
        "01 01 {} 03 02 ac02 01 00 7f000001 c924 f403 4b 03302e31 00 03 010009 000108 020207 \
         01 01 01 9003 09",
        "07".repeat(32)
    )
    .replace(' ', "");
    let prefix = "617370656e20616e6e6f756e63656d656e74203100";
    let bytes = announcement().seal(|message| {
        assert_eq!(hex(message), format!("{prefix}{said}"));
        [3; 64]
    });
    assert_eq!(hex(&bytes), said + &"03".repeat(64));
    assert_eq!(Announcement::read(&bytes), Ok(announcement()));
    assert!(announcement::is_signed(&bytes, key(7), &|signer, message, signature| {
        (signer, hex(&message[..21]), signature) == (key(7), prefix.to_owned(), &[3; 64])
    }));
    assert_eq!(
        hex(&topic(&[5; 32])),
        "dce93a22603d06fd8e0125c3ca9f5d1a8d8cd4d11b049218a8af6df0438c77b2"
    );
}

/// What builds say that don't know the rest, and those that know more.
#[test]
fn announcements_of_builds_before_and_after_this_one_are_read() {
    let whole = announcement().seal(|_| [3; 64]);
    let (said, signature) = whole.split_at(whole.len() - 64);
    let before = [&said[..said.len() - 6], signature].concat();
    let first = Announcement { rest: Rest::default(), ..announcement() };
    assert_eq!(Announcement::read(&before), Ok(first));
    let after = [said, b"what comes later", signature].concat();
    assert_eq!(Announcement::read(&after), Ok(announcement()));
}

#[test]
fn announcements_out_of_bounds_or_form_are_refused() {
    let whole = announcement().seal(|_| [3; 64]);
    assert!(matches!(Announcement::read(&[]), Err(BadAnnouncement::Malformed(_))));
    assert_eq!(Announcement::read(&[2]), Err(BadAnnouncement::Version(2)));
    assert!(matches!(
        Announcement::read(&[1; 3_585]),
        Err(BadAnnouncement::TooLong { bytes: 3_585 })
    ));
    // Without the rest it is one of an earlier build, and signed by nobody.
    let short = whole.len() - 6;
    for end in (1..whole.len()).filter(|end| *end != short) {
        assert!(Announcement::read(&whole[..end]).is_err(), "{end}");
    }
    let order = |parts: [usize; 3]| parts.map(|at| announcement().groups[at]).to_vec();
    let twice = Part { role: PartRole::Learner, ..announcement().groups[0] };
    let broken = [
        Announcement { node: NodeId(0), ..announcement() },
        Announcement { free_percent: 101, ..announcement() },
        Announcement { version: "v".repeat(33), ..announcement() },
        Announcement { version: "\u{1b}[2J".into(), ..announcement() },
        Announcement { addresses: vec![announcement().addresses[0].clone(); 9], ..announcement() },
        Announcement { groups: order([1, 0, 2]), ..announcement() },
        Announcement { groups: order([0, 0, 2]), ..announcement() },
        Announcement { groups: vec![announcement().groups[0], twice], ..announcement() },
    ];
    for broken in broken {
        let mut bytes = postcard::to_extend(&broken, vec![1]).unwrap();
        bytes.extend([3; 64]);
        assert!(Announcement::read(&bytes).is_err(), "{broken:?}");
    }
}

#[test]
fn keys_of_others_are_left_out_and_ours_have_one_form() {
    for key in ["", "clusters", "members/1", "shards/1", "\u{e4}"] {
        assert_eq!(RecordKey::decode(key.as_bytes()), Ok(None), "{key}");
    }
    assert_eq!(RecordKey::decode(b"\xff"), Ok(None));
    let upper = format!("invitation/{:032X}", 0xab);
    for key in [
        "cluster/",
        "cluster/1",
        "member",
        "member/",
        "member/01",
        "member/+1",
        "member/-1",
        "member/1/",
        "invitation/10",
        "grant/",
        "client/00000000000000000000000000000010",
        "client/00000000000000000000000000000010/07",
        "token/10",
        "keyspaces/",
        "keyspace/",
        "keyspace/a/b",
        "shard/01",
        &upper,
    ] {
        assert!(RecordKey::decode(key.as_bytes()).is_err(), "{key}");
    }
}

#[test]
fn records_out_of_bounds_are_damage() {
    let long = "n".repeat(65);
    let address: Address = "127.0.0.1:1".parse().unwrap();
    let broken = [
        Record::Member(Member { node: NodeId(0), ..member() }),
        Record::Member(Member { name: long.clone(), ..member() }),
        Record::Member(Member { name: "\u{1b}[2J".into(), ..member() }),
        Record::Member(Member { version: "v".repeat(33), ..member() }),
        Record::Member(Member { addresses: vec![address; 9], ..member() }),
        Record::Member(Member { addresses: vec![relay(); 3], ..member() }),
        Record::Cluster(Cluster { name: String::new(), ..cluster() }),
        Record::Cluster(Cluster { name: long.clone(), ..cluster() }),
        Record::Cluster(Cluster { next_node: NodeId(0), ..cluster() }),
        Record::Grant(1, Grant { name: long, ..grant() }),
        Record::Grant(1, Grant { uses: 0, ..grant() }),
        Record::Grant(1, Grant { scope: Scope::Keyspaces(Vec::new()), ..grant() }),
        Record::Token(1, TokenRecord { scope: Scope::Keyspaces(Vec::new()), ..token() }),
        Record::Token(1, TokenRecord { name: "n".repeat(65), ..token() }),
        Record::Invitation(1, aspen::roster::records::Invitation { uses: 0, ..invitation() }),
        Record::Keyspaces(Keyspaces { next_group: GroupId(0) }),
        Record::Keyspace("a".parse().unwrap(), Keyspace { first: GroupId(0), ..keyspace() }),
        Record::Keyspace("a".parse().unwrap(), Keyspace { shards: 501, ..keyspace() }),
        Record::Keyspace("a".parse().unwrap(), Keyspace { replicas: 0, ..keyspace() }),
        Record::Level(0),
        Record::Level(1),
        Record::Shard(GroupId(0), shard()),
        Record::Shard(GroupId(5), Shard { stage: Stage::Settled, ..shard() }),
        Record::Shard(GroupId(5), Shard { stage: Stage::Waiting, ..shard() }),
        Record::Shard(GroupId(5), Shard { leaving: [NodeId(1)].into(), ..shard() }),
        Record::Shard(GroupId(5), Shard { leader: Some(NodeId(9)), ..shard() }),
    ];
    for record in broken {
        assert!(Record::decode(&record.key(), &record.encode()).is_err(), "{record:?}");
    }
    let other = RecordKey::Member(NodeId(4));
    assert!(Record::decode(&other, &Record::Member(member()).encode()).is_err());
}

#[test]
fn damage_leaves_the_roster_as_it_was() {
    let mut roster = founded();
    let before = roster.clone();
    for value in [&b""[..], b"\x02\x01", b"\x01", b"\x00"] {
        assert!(roster.put(b"member/1", value, 9).is_err());
        assert!(roster.put(b"member/01", value, 9).is_err());
        assert_eq!(roster, before);
    }
    roster.put(b"others/default", b"whatever", 9).expect("it is not ours");
    assert_eq!(roster.revision(), 9);
    assert_eq!(roster.standing(key(1)), Standing::Member(NodeId(1)));
}

#[test]
fn a_secret_is_not_shown() {
    assert!(!format!("{:?}", cluster()).contains("5, 5"));
    assert!(!format!("{:?}", founded()).contains("5, 5"));
}

proptest! {
    #[test]
    fn changed_bytes_are_a_record_in_its_one_form_or_refused(
        which in 0..10_usize,
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
        cut in any::<bool>(),
    ) {
        let (record, ..) = records().swap_remove(which);
        let mut bytes = record.encode();
        let at = at.index(bytes.len());
        if cut { bytes.truncate(at) } else { bytes[at] = with }
        if let Ok(read) = Record::decode(&record.key(), &bytes) {
            prop_assert_eq!(read.encode(), bytes);
        }
    }

    #[test]
    fn any_key_is_in_its_one_form_or_refused(
        kind in prop_oneof!["cluster", "member", "invitation", "grant", "client", "keyspace", "shard"],
        rest in "(/[0-9a-f+]{0,40}){0,3}",
    ) {
        let key = kind + &rest;
        if let Ok(Some(read)) = RecordKey::decode(key.as_bytes()) {
            prop_assert_eq!(read.encode(), key.as_bytes());
        }
    }

    #[test]
    fn members_survive_their_bytes(
        node in 1_u64..,
        endpoint in any::<[u8; 32]>(),
        name in "[a-zä]{0,32}",
        addresses in proptest::collection::vec(any::<(std::net::IpAddr, u16)>(), 0..=6),
        relays in proptest::collection::vec("https://[a-z]{1,20}(\\.[a-z]{1,20}){0,3}/", 0..=2),
    ) {
        let sockets = addresses.into_iter().map(|at| Address::Ip(at.into()));
        let relays = relays.iter().map(|url| url.parse().unwrap());
        let addresses = sockets.chain(relays).collect();
        let endpoint = EndpointId(endpoint);
        let record = Record::Member(Member { node: NodeId(node), endpoint, name, addresses, ..member() });
        prop_assert_eq!(Record::decode(&record.key(), &record.encode()), Ok(record));
    }
}

#[test]
fn loading_is_the_same_as_following() {
    let mut roster = founded();
    let invitation = invited(&mut roster, 1, Role::Voter, 2);
    join(&mut roster, &application(&invitation, key(2), 2)).expect("a good ticket");
    let text = |record: &Record| (record.key().encode(), record.encode());
    let member = |node| text(&Record::Member(roster.member(NodeId(node)).unwrap().clone()));
    let invitations: Vec<_> =
        roster.invitations().map(|(id, at)| text(&Record::Invitation(id, at.clone()))).collect();
    let cluster = text(&Record::Cluster(roster.cluster().unwrap().clone()));
    let keyspaces = roster.keyspaces();
    let keyspaces = keyspaces.map(|(name, at)| Record::Keyspace(name.clone(), *at));
    let next_group = roster.next_group().expect("there is a keyspace");
    let shards = roster.shards().map(|(group, shard, _)| Record::Shard(group, shard.clone()));
    let founded = keyspaces.chain(shards).chain([Record::Keyspaces(Keyspaces { next_group })]);
    let founded: Vec<_> = founded.map(|record| (text(&record), 1)).collect();
    let records = [(member(1), 1), (member(2), 3), (invitations[0].clone(), 3), (cluster, 3)];
    let records = records.into_iter().chain(founded);
    let records = records.map(|((key, value), revision)| (key, value, revision));
    assert_eq!(Roster::load(records, 3), Ok(roster));
}
