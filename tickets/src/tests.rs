//! Tickets keep their form, their limits, and refuse everything else.

use iroh_base::SecretKey;
use proptest::prelude::*;

use super::*;

mod address;
mod client;

fn ticket() -> JoinTicket {
    JoinTicket::new(
        Cluster { id: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10, name: "lab".into() },
        vec![Peer {
            endpoint: [7; 32],
            addresses: vec![
                "127.0.0.1:4681".parse().expect("an address"),
                "[::1]:4681".parse().expect("an address"),
            ],
        }],
        Invitation {
            id: 5,
            role: Role::Learner,
            expires_s: 1_800_000_000,
            uses: 3,
            issuer: [9; 32],
        },
        Signature([0xab; 64]),
    )
    .expect("the parts are within the limits")
}

/// The format of version 1, byte for byte: tickets that people hold must stay readable.
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
        "0501",                                   // the invitation's id; learner
        "80a4a7da0603",                           // when it ends; three uses
        &"09".repeat(32),                         // its issuer's key
        &"ab".repeat(64),                         // the signature
    ];
    assert_eq!(hex, expected.concat());
}

#[test]
fn a_ticket_is_one_string_and_back() {
    let text = ticket().to_string();
    assert!(text.starts_with("aspen"));
    assert_eq!(text.parse::<JoinTicket>().expect("its own string"), ticket());
    assert_eq!(format!(" {text}\n").parse::<JoinTicket>().expect("as pasted"), ticket());
}

#[test]
fn the_largest_ticket_fits_its_limit() {
    let addresses = address::largest();
    let largest = JoinTicket::new(
        Cluster { id: u128::MAX, name: "n".repeat(CLUSTER_NAME_BYTES_MAX) },
        vec![Peer { endpoint: [0xff; 32], addresses }; PEERS_MAX],
        Invitation {
            id: u128::MAX,
            role: Role::Voter,
            expires_s: u64::MAX,
            uses: u32::MAX,
            issuer: [0xff; 32],
        },
        Signature([0xff; 64]),
    )
    .expect("the parts are at the limits");
    assert!(largest.encode_bytes().len() <= TICKET_BYTES_MAX);
    assert_eq!(largest.to_string().parse::<JoinTicket>().expect("its own string"), largest);
}

/// Parts past a limit are refused where a ticket is made and where its bytes are read.
#[test]
fn parts_past_a_limit_are_refused() {
    type Spoil = fn(&mut JoinTicket);
    let too_much: [(&str, Spoil); 8] = [
        ("no name", |ticket| ticket.cluster.name.clear()),
        ("a long name", |ticket| ticket.cluster.name = "n".repeat(CLUSTER_NAME_BYTES_MAX + 1)),
        ("a terminal's escape", |ticket| ticket.cluster.name = "\u{1b}[2J".into()),
        ("no peer", |ticket| ticket.peers.clear()),
        ("many peers", |ticket| ticket.peers = vec![ticket.peers[0].clone(); PEERS_MAX + 1]),
        ("many addresses", |ticket| {
            let address = ticket.peers[0].addresses[0].clone();
            ticket.peers[0].addresses = vec![address; PEER_ADDRESSES_MAX + 1];
        }),
        ("many relays", |ticket| {
            let relay = Address::relay_at("https://relay.example").expect("a relay");
            ticket.peers[0].addresses = vec![relay; RELAYS_MAX + 1];
        }),
        ("no uses", |ticket| ticket.body.uses = 0),
    ];
    for (what, break_it) in too_much {
        let mut broken = ticket();
        break_it(&mut broken);
        assert!(JoinTicket::decode_bytes(&broken.encode_bytes()).is_err(), "{what}");
        let Signed { cluster, peers, body: invitation, signature } = broken;
        assert!(JoinTicket::new(cluster, peers, invitation, signature).is_err(), "{what}");
    }
}

#[test]
fn a_list_that_claims_to_be_long_is_refused_before_it_is_read() {
    let mut bytes = postcard::to_stdvec(&(0_u8, ticket().cluster)).expect("into memory");
    bytes.extend([0xff, 0xff, 0xff, 0xff, 0x0f]); // four thousand million peers
    assert!(JoinTicket::decode_bytes(&bytes).is_err());
}

#[test]
fn another_encoding_of_the_same_ticket_is_refused() {
    let bytes = ticket().encode_bytes();
    let mut longer = bytes.clone();
    longer.push(0);
    assert!(JoinTicket::decode_bytes(&longer).is_err());
    // The version as a varint of two bytes.
    let mut wide = vec![0x80];
    wide.extend(&bytes);
    assert!(JoinTicket::decode_bytes(&wide).is_err());
}

#[test]
fn strings_that_are_no_tickets_are_refused() {
    let text = ticket().to_string();
    let other_kind = text.replacen("aspen", "endpoint", 1);
    let cut = &text[..text.len() - 1];
    let long = format!("aspen{}", "a".repeat(TICKET_CHARS_MAX));
    let newer = "aspen".to_owned() + &text["aspen".len()..].replacen('a', "b", 1);
    let refused = |text: &str| text.parse::<JoinTicket>().expect_err(text);
    assert_eq!(refused(""), TicketError::NotATicket { expected: "aspen" });
    assert_eq!(refused(&other_kind), TicketError::NotATicket { expected: "aspen" });
    assert!(matches!(refused("aspen"), TicketError::Garbled(_)));
    assert!(matches!(refused("aspen!"), TicketError::Garbled(_)));
    assert!(matches!(refused(cut), TicketError::Garbled(_)));
    assert_eq!(refused(&long), TicketError::TooLong);
    assert_eq!(refused(&newer), TicketError::Version(9));
}

#[test]
fn a_ticket_does_not_show_its_signature() {
    assert!(!format!("{:?}", ticket()).contains("ab, "));
    assert!(format!("{:?}", ticket()).contains("Signature(..)"));
}

#[test]
fn a_ticket_that_its_issuer_did_not_sign_is_noticed() {
    let key = SecretKey::from_bytes(&[3; 32]);
    let Signed { cluster, peers, body, .. } = ticket();
    let invitation = Invitation { issuer: *key.public().as_bytes(), ..body };
    let sign = |id: u128, invitation: &Invitation| {
        Signature(key.sign(&signed_bytes(id, invitation)).to_bytes())
    };
    let signed = JoinTicket::new(cluster.clone(), peers, invitation, sign(cluster.id, &invitation));
    let signed = signed.expect("the parts are within the limits");
    assert_eq!(signed.verify(), Ok(()));

    let spoils: [fn(&mut JoinTicket); 7] = [
        |ticket| ticket.cluster.id ^= 1,
        |ticket| ticket.body.id ^= 1,
        |ticket| ticket.body.role = Role::Voter,
        |ticket| ticket.body.expires_s += 1,
        |ticket| ticket.body.uses += 1,
        |ticket| ticket.body.issuer = *SecretKey::from_bytes(&[4; 32]).public().as_bytes(),
        |ticket| ticket.signature.0[63] ^= 1,
    ];
    for (at, spoil) in spoils.into_iter().enumerate() {
        let mut spoiled = signed.clone();
        spoil(&mut spoiled);
        let read: JoinTicket = spoiled.to_string().parse().expect("its shape is as before");
        assert_eq!(read.verify(), Err(TicketError::Tampered), "{at}");
    }
}

fn peers() -> impl Strategy<Value = Vec<Peer>> {
    let addresses = proptest::collection::vec(address::addresses(), 0..=PEER_ADDRESSES_MAX);
    let peer = (any::<[u8; 32]>(), addresses).prop_map(|(endpoint, mut addresses)| {
        Address::keep_few(&mut addresses, PEER_ADDRESSES_MAX);
        Peer { endpoint, addresses }
    });
    proptest::collection::vec(peer, 1..=PEERS_MAX)
}

fn signatures() -> impl Strategy<Value = Signature> {
    any::<[[u8; 32]; 2]>().prop_map(|halves| {
        let mut signature = [0; 64];
        signature[..32].copy_from_slice(&halves[0]);
        signature[32..].copy_from_slice(&halves[1]);
        Signature(signature)
    })
}

fn clusters() -> impl Strategy<Value = Cluster> {
    (any::<u128>(), "[a-zA-Zäé -]{1,32}").prop_map(|(id, name)| Cluster { id, name })
}

fn tickets() -> impl Strategy<Value = JoinTicket> {
    let role = prop_oneof![Just(Role::Voter), Just(Role::Learner)];
    let invitation = (any::<u128>(), role, any::<u64>(), 1..=u32::MAX, any::<[u8; 32]>()).prop_map(
        |(id, role, expires_s, uses, issuer)| Invitation { id, role, expires_s, uses, issuer },
    );
    (clusters(), peers(), invitation, signatures()).prop_map(
        |(cluster, peers, invitation, signature)| {
            JoinTicket::new(cluster, peers, invitation, signature)
                .expect("the parts are within the limits")
        },
    )
}

proptest! {
    #[test]
    fn any_ticket_survives_its_string(ticket in tickets()) {
        prop_assert_eq!(ticket.to_string().parse::<JoinTicket>().expect("its own string"), ticket);
    }

    #[test]
    fn any_bytes_are_a_ticket_in_its_one_form_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<prop::sample::Index>(),
        with in any::<u8>(),
    ) {
        let mut changed = ticket();
        changed.peers[0].addresses.push(Address::relay_at("https://relay.example").expect("a relay"));
        let mut changed = changed.encode_bytes();
        let at = at.index(changed.len());
        changed[at] = with;
        for bytes in [bytes, changed] {
            if let Ok(ticket) = JoinTicket::decode_bytes(&bytes) {
                prop_assert_eq!(ticket.encode_bytes(), bytes);
            }
        }
    }
}
