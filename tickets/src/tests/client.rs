//! The same for tickets of clients, and that the kinds are told apart.

use super::*;

fn ticket() -> ClientTicket {
    let Signed { cluster, peers, signature, .. } = super::ticket();
    let grant = Grant {
        id: 6,
        scope: Scope::Prefixes(vec![Prefix { keyspace: "default".into(), prefix: b"a/".into() }]),
        verbs: Verbs::from_iter([Verb::Read, Verb::Write]),
        expires_s: 1_800_000_000,
        uses: USES_ANY,
        issuer: [9; 32],
    };
    ClientTicket::new(cluster, peers, grant, signature).expect("the parts are within the limits")
}

/// The format of version 1, byte for byte: tickets that programs hold must stay readable.
#[test]
fn the_first_version_keeps_its_bytes() {
    let hex: String = ticket().encode_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    let expected = [
        "00",                                     // version 1
        "909eb8e8c0e1828589909cb0d080c1818202",   // the cluster's id, a varint
        "036c6162",                               // its name
        "01",                                     // one peer
        &"07".repeat(32),                         // its key
        "02",                                     // two addresses
        "007f000001c924",                         // v4, 127.0.0.1, 4681
        "0100000000000000000000000000000001c924", // v6, ::1, 4681
        "06",                                     // the grant's id
        "0201",                                   // prefixes, one
        "0764656661756c74",                       // in the keyspace `default`
        "02612f",                                 // `a/`
        "03",                                     // read and write
        "80a4a7da06ffffffff0f",                   // when it ends; any number of uses
        &"09".repeat(32),                         // its issuer's key
        &"ab".repeat(64),                         // the signature
    ];
    assert_eq!(hex, expected.concat());
}

#[test]
fn the_kinds_are_told_apart() {
    let (join, client) = (super::ticket().to_string(), ticket().to_string());
    assert!(client.starts_with("aspenclient"));
    assert_eq!(client.parse::<ClientTicket>(), Ok(ticket()));
    assert_eq!(
        client.parse::<JoinTicket>(),
        Err(TicketError::WrongKind { expected: "aspen", found: "aspenclient" })
    );
    assert_eq!(
        join.parse::<ClientTicket>(),
        Err(TicketError::WrongKind { expected: "aspenclient", found: "aspen" })
    );
    let token = "aspentokenaaaaaaaa";
    assert_eq!(token.parse::<JoinTicket>(), Err(TicketError::Token { expected: "aspen" }));
    let expected = "aspenclient";
    assert_eq!(token.parse::<ClientTicket>(), Err(TicketError::Token { expected }));
}

#[test]
fn the_largest_ticket_fits_its_limit() {
    let Signed { peers, .. } = super::ticket();
    let endpoint = [0xff; 32];
    let addresses = address::largest();
    let entry =
        Prefix { keyspace: "k".repeat(KEYSPACE_BYTES_MAX), prefix: vec![0xff; PREFIX_BYTES_MAX] };
    let largest = ClientTicket::new(
        Cluster { id: u128::MAX, name: "n".repeat(CLUSTER_NAME_BYTES_MAX) },
        vec![Peer { endpoint, addresses }; peers.len() * PEERS_MAX],
        Grant {
            id: u128::MAX,
            scope: Scope::Prefixes(vec![entry; SCOPE_ENTRIES_MAX]),
            verbs: Verbs::ALL,
            expires_s: u64::MAX,
            uses: u32::MAX,
            issuer: [0xff; 32],
        },
        Signature([0xff; 64]),
    )
    .expect("the parts are at the limits");
    assert!(largest.encode_bytes().len() <= CLIENT_TICKET_BYTES_MAX);
    assert!(largest.to_string().len() <= CLIENT_TICKET_CHARS_MAX);
    assert_eq!(largest.to_string().parse::<ClientTicket>(), Ok(largest));
}

/// Parts past a limit are refused where a ticket is made and where its bytes are read.
#[test]
fn parts_past_a_limit_are_refused() {
    let entry = |keyspace: &str, len| Prefix { keyspace: keyspace.into(), prefix: vec![1; len] };
    let scopes = [
        Scope::Keyspaces(Vec::new()),
        Scope::Keyspaces(vec!["k".into(); SCOPE_ENTRIES_MAX + 1]),
        Scope::Keyspaces(vec![String::new()]),
        Scope::Keyspaces(vec!["k".repeat(KEYSPACE_BYTES_MAX + 1)]),
        Scope::Keyspaces(vec!["\u{1b}[2J".into()]),
        Scope::Prefixes(Vec::new()),
        Scope::Prefixes(vec![entry("k", 1); SCOPE_ENTRIES_MAX + 1]),
        Scope::Prefixes(vec![entry("", 1)]),
        Scope::Prefixes(vec![entry("k", 0)]),
        Scope::Prefixes(vec![entry("k", PREFIX_BYTES_MAX + 1)]),
    ];
    let grant = |scope| Grant { scope, ..ticket().body };
    let mut broken: Vec<Grant> = scopes.into_iter().map(grant).collect();
    broken.push(Grant { uses: 0, ..ticket().body });
    broken.push(Grant { verbs: Verbs::from_iter([]), ..ticket().body });
    for body in broken {
        let unchecked = Signed { body: body.clone(), ..ticket() };
        assert!(ClientTicket::decode_bytes(&unchecked.encode_bytes()).is_err(), "{body:?}");
        let Signed { cluster, peers, signature, .. } = ticket();
        assert!(ClientTicket::new(cluster, peers, body, signature).is_err());
    }
}

#[test]
fn verbs_are_read_as_they_are_shown() {
    for text in ["read", "write", "admin", "read,write", "read,write,admin"] {
        assert_eq!(text.parse::<Verbs>().map(|verbs| verbs.to_string()).as_deref(), Ok(text));
    }
    assert_eq!("admin, read".parse(), Ok(Verbs::from_iter([Verb::Read, Verb::Admin])));
    for text in ["", "reads", "read,", "read write"] {
        assert!(text.parse::<Verbs>().is_err(), "{text}");
    }
}

fn scopes() -> impl Strategy<Value = Scope> {
    let name = || "[a-zä]{1,32}";
    let prefix = proptest::collection::vec(any::<u8>(), 1..=PREFIX_BYTES_MAX);
    let entry = (name(), prefix).prop_map(|(keyspace, prefix)| Prefix { keyspace, prefix });
    prop_oneof![
        Just(Scope::All),
        proptest::collection::vec(name(), 1..=SCOPE_ENTRIES_MAX).prop_map(Scope::Keyspaces),
        proptest::collection::vec(entry, 1..=SCOPE_ENTRIES_MAX).prop_map(Scope::Prefixes),
    ]
}

fn tickets() -> impl Strategy<Value = ClientTicket> {
    let verbs = proptest::sample::subsequence(vec![Verb::Read, Verb::Write, Verb::Admin], 1..=3);
    let grant = (any::<u128>(), scopes(), verbs, any::<u64>(), 1..=u32::MAX, any::<[u8; 32]>())
        .prop_map(|(id, scope, verbs, expires_s, uses, issuer)| Grant {
            id,
            scope,
            verbs: verbs.into_iter().collect(),
            expires_s,
            uses,
            issuer,
        });
    (clusters(), peers(), grant, signatures()).prop_map(|(cluster, peers, grant, signature)| {
        ClientTicket::new(cluster, peers, grant, signature)
            .expect("the parts are within the limits")
    })
}

proptest! {
    #[test]
    fn any_ticket_survives_its_string(ticket in tickets()) {
        prop_assert_eq!(ticket.to_string().parse::<ClientTicket>(), Ok(ticket));
    }

    #[test]
    fn any_bytes_are_a_ticket_in_its_one_form_or_refused(
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        let mut bytes = ticket().encode_bytes();
        let at = at.index(bytes.len());
        bytes[at] = with;
        if let Ok(ticket) = ClientTicket::decode_bytes(&bytes) {
            prop_assert_eq!(ticket.encode_bytes(), bytes);
        }
    }

    /// No ticket to join begins as one for clients does, which is how they are told apart.
    #[test]
    fn no_ticket_to_join_passes_for_a_clients(ticket in super::tickets()) {
        prop_assert!(!ticket.to_string().starts_with(<ClientTicket as Ticket>::KIND));
    }
}
