//! The address book: newest first, bounded, kept, and no error when it is lost.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use aspen::limits::{PEER_ADDRESSES_MAX, PEERS_MAX};
use aspen::net::{AddressBook, AddressSource, Endpoint, Listen, NodeKey, Peers};
use aspen::seams::Seams;
use aspen::seams::disk::OpenMode;
use aspen::seams::network::Network;
use aspen::types::{Address, EndpointId};

use super::rig::{Doorman, Server};

fn at(port: u16) -> Address {
    SocketAddr::from(([127, 0, 0, 1], port)).into()
}

fn relay(n: u16) -> Address {
    format!("https://{n}.relay.example").parse().unwrap()
}

fn peer(n: u64) -> EndpointId {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&n.to_be_bytes());
    EndpointId(bytes)
}

fn ports(book: &AddressBook, peer: EndpointId) -> Vec<u16> {
    book.addresses(peer).iter().filter_map(|known| Some(known.address.ip()?.port())).collect()
}

#[test]
fn the_address_noted_last_comes_first() {
    let mut book = AddressBook::in_memory(&Seams::in_memory());
    assert!(book.note(peer(1), &[at(1), at(2)], AddressSource::Ticket));
    assert_eq!(ports(&book, peer(1)), [1, 2]);
    assert!(book.note(peer(1), &[at(3)], AddressSource::Roster));
    assert_eq!(ports(&book, peer(1)), [3, 1, 2]);
    assert!(!book.note(peer(1), &[at(2)], AddressSource::Live), "it was known");
    assert_eq!(ports(&book, peer(1)), [2, 3, 1]);
    assert_eq!(book.addresses(peer(1))[0].source, AddressSource::Live);
    assert!(!book.note(peer(2), &[], AddressSource::Live));
    assert!(book.addresses(peer(2)).is_empty());
}

#[test]
fn it_is_bounded_and_forgets_what_is_oldest() {
    let mut book = AddressBook::in_memory(&Seams::in_memory());
    for port in 1..=100 {
        book.note(peer(0), &[at(port)], AddressSource::Live);
    }
    assert_eq!(book.addresses(peer(0)).len(), PEER_ADDRESSES_MAX);
    assert_eq!(ports(&book, peer(0))[0], 100);
    for n in 1..=PEERS_MAX as u64 {
        book.note(peer(n), &[at(1)], AddressSource::Live);
    }
    assert_eq!(book.peers().count(), PEERS_MAX);
    assert!(book.addresses(peer(0)).is_empty(), "the oldest went");
}

#[test]
fn a_peers_relays_are_few_and_stay() {
    let mut book = AddressBook::in_memory(&Seams::in_memory());
    for n in 1..=9 {
        book.note(peer(1), &[relay(n)], AddressSource::Roster);
    }
    for port in 1..=100 {
        book.note(peer(1), &[at(port)], AddressSource::Live);
    }
    let known: Vec<Address> =
        book.addresses(peer(1)).iter().map(|known| known.address.clone()).collect();
    assert_eq!(known.len(), PEER_ADDRESSES_MAX);
    assert_eq!(known[PEER_ADDRESSES_MAX - 2..], [relay(9), relay(8)]);
}

#[tokio::test]
async fn it_is_there_after_a_restart() {
    let seams = Seams::in_memory();
    let path = Path::new("data/peers");
    seams.disk.create_dir_all(Path::new("data")).unwrap();
    let key = NodeKey::generate(&seams.random);
    let gate = Arc::new(Doorman::default());
    let endpoint =
        Endpoint::bind(&key, aspen::Reach::Loopback, Listen::Anywhere, gate).await.unwrap();
    let endpoint: Arc<dyn Network> = Arc::new(endpoint);
    let book = AddressBook::open(&seams, path);
    let peers =
        Peers::start(endpoint.clone(), book, Arc::new(Server::default()), seams.random.clone());
    peers.note(peer(1), &[at(1), at(2)], AddressSource::Ticket);
    peers.note(peer(2), &[at(3), relay(1)], AddressSource::Roster);
    peers.stop().await;
    endpoint.close().await;

    let book = AddressBook::open(&seams, path);
    assert_eq!(ports(&book, peer(1)), [1, 2]);
    assert_eq!(ports(&book, peer(2)), [3]);
    assert_eq!(book.addresses(peer(2))[1].address, relay(1));
    assert_eq!(book.addresses(peer(1))[0].source, AddressSource::Ticket);
}

#[tokio::test]
async fn damage_costs_the_addresses_and_nothing_else() {
    let seams = Seams::in_memory();
    let path = Path::new("peers");
    for damage in [&b""[..], &b"\x01"[..], &b"\x02\0\0\0\0\0"[..], &[0xff; 100][..]] {
        let file = seams.disk.open(path, OpenMode::Create).unwrap();
        file.set_len(0).unwrap();
        file.write_at(damage, 0).unwrap();
        let mut book = AddressBook::open(&seams, path);
        assert_eq!(book.peers().count(), 0);
        assert!(book.note(peer(1), &[at(1)], AddressSource::Live));
    }
}
