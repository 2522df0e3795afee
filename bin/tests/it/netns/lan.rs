//! Hosts on a link of their own, what may happen to their cables and addresses, and the way from
//! one link to the next, which is NAT.
//!
//! A link is a bridge in a namespace; that namespace is the hosts' router, too, though it leads
//! nowhere until it is connected. An internet is a link with public addresses: its hosts are what
//! everybody reaches, and the wide side of every NAT is on it.

use std::cell::Cell;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

use super::ready::is_ready;
use super::space::Space;
use crate::support::{Run, aspen, run};

/// The last byte of the router's address on its link.
const ROUTER: u8 = 1;
/// Of the first host's; the others follow.
const HOSTS: u8 = 11;
/// Of the first NAT's on the internet; the others follow.
const NATS: u8 = 101;
/// What holds the rules that keep two hosts apart.
const PAIR: &str = "pair";

/// What a NAT makes of the port from which its hosts send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Masquerade {
    /// The same towards everybody, so that others can be told of it.
    SamePort,
    /// Another one towards each destination: what is known as symmetric. Nobody can be told where
    /// to send to, so two hosts behind such NATs meet only by way of a third.
    EachItsOwn,
}

/// A link and the hosts on it; removed when dropped.
#[derive(Debug)]
pub(super) struct Lan {
    pub(super) hosts: Vec<Host>,
    router: Rc<Space>,
    /// The first three bytes of its addresses.
    network: [u8; 3],
    /// NATs that have their wide side here.
    nats: Cell<u8>,
}

impl Lan {
    /// A link with this many hosts, or nothing if this machine has none to give.
    #[track_caller]
    pub(super) fn new(hosts: u8) -> Option<Self> {
        static NUMBER: AtomicU8 = AtomicU8::new(0);
        is_ready().then(|| {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            Lan::with_network([10, 77, number], hosts)
        })
    }

    /// The same with public addresses, for NATs to connect to.
    #[track_caller]
    pub(super) fn internet(hosts: u8) -> Option<Self> {
        is_ready().then(|| Lan::with_network([203, 0, 113], hosts))
    }

    #[track_caller]
    fn with_network(network: [u8; 3], hosts: u8) -> Self {
        let router = Rc::new(Space::new("router"));
        // It passes everything on at once and learns nothing of who listens to which group.
        router.ip(&[
            "link add br0 type bridge forward_delay 0 mcast_snooping 0",
            &format!("address add {}/24 dev br0", at(network, ROUTER)),
            "link set br0 up",
            "link add br1 type bridge forward_delay 0 mcast_snooping 0",
            "link set br1 up",
        ]);
        // What stays on the link is not the router's to filter, which some kernels have it do.
        router.shell(
            "all=/proc/sys/net/bridge/bridge-nf-call-iptables; [ ! -e $all ] || echo 0 > $all",
        );
        let hosts = (0..hosts).map(|host| Host::new(&router, network, HOSTS + host)).collect();
        Lan { hosts, router, network, nats: Cell::new(0) }
    }

    /// Cuts the link in two: from this host on they hear the others no longer, nor the router. Their
    /// own interfaces stay up.
    #[track_caller]
    pub(super) fn cut_before(&self, host: usize) {
        self.plug_into("br1", &self.hosts[host..]);
    }

    /// Makes one link of the two again.
    #[track_caller]
    pub(super) fn mend(&self) {
        self.plug_into("br0", &self.hosts);
    }

    /// Cuts these two off from each other, and from nobody else: not even multicast passes.
    #[track_caller]
    pub(super) fn cut_between(&self, one: usize, other: usize) {
        self.cut_ways(&[(one, other), (other, one)]);
    }

    /// Lets nothing through from one to the other; what the other sends arrives.
    #[track_caller]
    pub(super) fn cut_one_way(&self, from: usize, to: usize) {
        self.cut_ways(&[(from, to)]);
    }

    #[track_caller]
    fn cut_ways(&self, ways: &[(usize, usize)]) {
        let port = |host: usize| &self.hosts[host].port;
        let drop_way = |&(from, to): &(usize, usize)| {
            format!("iifname \"{}\" oifname \"{}\" drop\n", port(from), port(to))
        };
        let drops: String = ways.iter().map(drop_way).collect();
        self.router.nft(&format!(
            r#"table bridge {PAIR} {{
                chain forward {{
                    type filter hook forward priority 0;
                    {drops}
                }}
            }}
            "#
        ));
    }

    /// Lets the pair that was cut apart hear each other again.
    #[track_caller]
    pub(super) fn mend_between(&self) {
        self.router.nft(&format!("delete table bridge {PAIR}\n"));
    }

    /// Whether the hosts can reach the router only, and not each other.
    #[track_caller]
    pub(super) fn isolate(&self, isolated: bool) {
        let word = if isolated { "on" } else { "off" };
        let line =
            |host: &Host| format!("link set {} type bridge_slave isolated {word}", host.port);
        let lines: Vec<String> = self.hosts.iter().map(line).collect();
        self.router.ip(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// From here on multicast DNS does not pass.
    #[track_caller]
    pub(super) fn silence_multicast(&self) {
        self.router.nft(
            r#"table bridge quiet {
                chain forward {
                    type filter hook forward priority 0;
                    udp dport 5353 drop
                }
            }
            "#,
        );
    }

    fn plug_into(&self, bridge: &str, hosts: &[Host]) {
        let line = |host: &Host| format!("link set {} master {bridge}", host.port);
        let lines: Vec<String> = hosts.iter().map(line).collect();
        self.router.ip(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Lets the hosts out to that internet behind a NAT that lets nothing in but answers. Gives the
    /// address that they have out there.
    #[track_caller]
    pub(super) fn connect(&self, internet: &Lan, masquerade: Masquerade) -> Ipv4Addr {
        let number = internet.nats.replace(internet.nats.get() + 1);
        let address = at(internet.network, NATS + number);
        let port = format!("nat{number}");
        cable(&internet.router, &port, &self.router, "wan");
        self.router.ip(&[
            &format!("address add {address}/24 dev wan"),
            "link set wan up",
            &format!("route add default via {}", at(internet.network, ROUTER)),
        ]);
        let ports = match masquerade {
            Masquerade::SamePort => "",
            Masquerade::EachItsOwn => "fully-random",
        };
        self.router.nft(&format!(
            r#"table inet nat {{
                chain input {{
                    type filter hook input priority filter; policy drop;
                    ct state established,related accept
                }}
                chain forward {{
                    type filter hook forward priority filter; policy drop;
                    ct state established,related accept
                    iifname "br0" oifname "wan" accept
                }}
                chain outward {{
                    type nat hook postrouting priority srcnat;
                    oifname "wan" masquerade {ports}
                }}
            }}
            "#
        ));
        self.router.shell("echo 1 > /proc/sys/net/ipv4/ip_forward");
        address
    }
}

fn at([a, b, c]: [u8; 3], last: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, last)
}

/// A cable from a port of a link's bridge to an interface in another namespace, whose end is down.
#[track_caller]
fn cable(router: &Space, port: &str, to: &Space, interface: &str) {
    router.ip(&[
        &format!("link add {port} type veth peer name {interface} netns {}", to.name()),
        &format!("link set {port} master br0 up"),
    ]);
}

/// A machine with one interface, `eth0`, and one disk.
#[derive(Debug)]
pub(super) struct Host {
    space: Space,
    address: Cell<Ipv4Addr>,
    disk: TempDir,
    network: [u8; 3],
    router: Rc<Space>,
    /// Where its cable ends at the router.
    port: String,
}

impl Host {
    #[track_caller]
    fn new(router: &Rc<Space>, network: [u8; 3], last: u8) -> Self {
        let space = Space::new("host");
        let port = format!("port{last}");
        cable(router, &port, &space, "eth0");
        let host = Host {
            space,
            address: Cell::new(at(network, last)),
            disk: tempfile::tempdir().expect("a directory"),
            network,
            router: Rc::clone(router),
            port,
        };
        host.space.ip(&[&host.address_line(), "link set eth0 up", &host.route_line()]);
        host
    }

    fn address_line(&self) -> String {
        format!("address add {}/24 dev eth0", self.address())
    }

    /// Multicast goes this way, too: without any route for it nobody is found by it.
    fn route_line(&self) -> String {
        format!("route add default via {}", at(self.network, ROUTER))
    }

    pub(super) fn address(&self) -> Ipv4Addr {
        self.address.get()
    }

    pub(super) fn space(&self) -> &Space {
        &self.space
    }

    pub(super) fn disk(&self) -> &TempDir {
        &self.disk
    }

    /// The namespace and port where what it sends arrives, and the network that is its link.
    pub(super) fn cable(&self) -> (Rc<Space>, &str, String) {
        let network = format!("{}/24", at(self.network, 0));
        (Rc::clone(&self.router), &self.port, network)
    }

    /// The command on this host, with nothing of the surroundings that could configure it.
    pub(super) fn aspen(&self, arguments: &[&str]) -> Command {
        self.space.inside(&aspen(arguments))
    }

    /// Takes its address away and gives it another one on the same link. What runs goes on.
    #[track_caller]
    pub(super) fn move_to(&self, last: u8) {
        self.address.set(at(self.network, last));
        // Routes go with the address.
        self.space.ip(&["address flush dev eth0", &self.address_line(), &self.route_line()]);
    }

    /// Takes its link down: it sends and gets nothing, and has no route.
    #[track_caller]
    pub(super) fn unplug(&self) {
        self.space.ip(&["link set eth0 down"]);
    }

    /// Takes its link up again.
    #[track_caller]
    pub(super) fn plug(&self) {
        self.space.ip(&["link set eth0 up", &self.route_line()]);
    }

    /// Sends a datagram and waits for nothing.
    #[track_caller]
    pub(super) fn send_datagram(&self, to: SocketAddrV4) {
        let send = format!("echo probe > /dev/udp/{}/{}", to.ip(), to.port());
        // That there is no way there may come back as an error.
        run(&mut self.space.inside(Command::new("bash").args(["-c", &send])));
    }

    /// Asks for a page, from this port; one that is not there refuses at once.
    pub(super) fn ask(&self, from_port: u16, to: SocketAddrV4) -> Run {
        let mut curl = Command::new("curl");
        curl.args(["--silent", "--show-error", "--connect-timeout", "10"]);
        curl.args(["--local-port", &from_port.to_string(), &format!("http://{to}/")]);
        run(&mut self.space.inside(&curl))
    }
}
