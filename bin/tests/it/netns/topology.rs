//! That hosts, cables and NATs are what the other tests take them for.

use std::net::{Ipv4Addr, SocketAddrV4};

use super::lan::{Lan, Masquerade};
use crate::support::until;

/// Where datagrams are sent to; nobody listens.
const PORT: u16 = 4000;

fn port_at(address: Ipv4Addr) -> SocketAddrV4 {
    SocketAddrV4::new(address, PORT)
}

#[test]
fn a_host_is_where_its_address_is_as_long_as_it_is_plugged() {
    let Some(lan) = Lan::new(2) else { return };
    let [one, two] = &lan.hosts[..] else { panic!("two hosts") };
    two.note_arrivals(PORT);
    let old = two.address();
    one.send_datagram(port_at(old));
    assert!(until(|| two.arrivals().len() == 1), "{:?}", two.arrivals());

    two.move_to(99);
    assert_ne!(two.address(), old);
    // Who knew where the old address was still sends there, and it is nobody's.
    one.send_datagram(port_at(old));
    one.send_datagram(port_at(two.address()));
    assert!(until(|| two.arrivals().len() == 2), "{:?}", two.arrivals());

    two.unplug();
    one.send_datagram(port_at(two.address()));
    two.plug();
    one.send_datagram(port_at(two.address()));
    assert!(until(|| two.arrivals().len() == 3), "{:?}", two.arrivals());
}

#[test]
fn what_a_host_sends_is_counted_by_where_it_goes() {
    let Some(lan) = Lan::new(2) else { return };
    let [one, two] = &lan.hosts[..] else { panic!("two hosts") };
    let watch = one.watch();
    assert_eq!((watch.sent(), watch.beyond()), (0, 0), "{watch}");
    one.send_datagram(port_at(two.address()));
    one.send_datagram(port_at(Ipv4Addr::new(224, 0, 0, 251)));
    assert!(until(|| watch.sent() >= 3), "two and the question for an address: {watch}");
    assert_eq!(watch.beyond(), 0, "{watch}");
    // Elsewhere, and a group beyond the link by which routers are looked for.
    for (beyond, address) in [(1, [203, 0, 113, 9]), (2, [239, 255, 255, 250])] {
        one.send_datagram(port_at(address.into()));
        assert!(until(|| watch.beyond() == beyond), "{address:?}: {watch}");
    }
}

/// Each sends to the other, where it is and where it is seen, and only the internet hears of it.
#[test]
fn hosts_behind_nats_reach_the_internet_and_not_each_other() {
    let (Some(internet), Some(left), Some(right)) = (Lan::internet(1), Lan::new(1), Lan::new(1))
    else {
        return;
    };
    let seen = [
        left.connect(&internet, Masquerade::SamePort),
        right.connect(&internet, Masquerade::EachItsOwn),
    ];
    let (left, right, server) = (&left.hosts[0], &right.hosts[0], &internet.hosts[0]);
    for host in [left, right, server] {
        host.note_arrivals(PORT);
    }
    for (host, other, its_nat) in [(left, right, seen[1]), (right, left, seen[0])] {
        host.send_datagram(port_at(other.address()));
        host.send_datagram(port_at(its_nat));
        // Sent last on the same cable: once it is there, the others would be, too.
        host.send_datagram(port_at(server.address()));
    }
    let came_from = |address| server.arrivals().iter().any(|from| *from.ip() == address);
    assert!(until(|| seen.into_iter().all(came_from)), "{seen:?}: {:?}", server.arrivals());
    assert_eq!(server.arrivals().len(), 2, "the NATs hide everything else");
    for host in [left, right] {
        assert!(host.arrivals().is_empty(), "{:?} got {:?}", host.address(), host.arrivals());
    }
    // A node out there serves both.
    let http = format!("{}:0", server.address());
    let node = server.start(&["--reach", "lan", "--http", &http, "--insecure"]);
    node.printed(&["put", "k", "v"]);
    for host in [left, right] {
        let got = crate::support::run(&mut host.aspen(&["--node", node.url(), "get", "k"]));
        assert_eq!(got.printed(), "v");
    }
}

#[test]
fn a_nat_shows_everybody_the_same_port_or_each_another() {
    let (Some(internet), Some(same), Some(own)) = (Lan::internet(2), Lan::new(1), Lan::new(1))
    else {
        return;
    };
    let same_address = same.connect(&internet, Masquerade::SamePort);
    let own_address = own.connect(&internet, Masquerade::EachItsOwn);
    for server in &internet.hosts {
        server.note_arrivals(PORT);
        for lan in [&same, &own] {
            let answer = lan.hosts[0].ask(5000, port_at(server.address()));
            // The answer, which is that nobody listens there, came back: curl's code for it.
            assert_eq!(answer.code, 7, "{answer:?}");
        }
    }
    let ports = |address| {
        let arrivals = internet.hosts.iter().flat_map(|server| server.arrivals());
        let ours = arrivals.filter(|from| *from.ip() == address);
        ours.map(|from| from.port()).collect::<Vec<u16>>()
    };
    assert_eq!(ports(same_address), [5000, 5000]);
    let [one, two] = ports(own_address)[..] else { panic!("{:?}", ports(own_address)) };
    assert!(one != two && one != 5000, "{one} and {two}");
}
