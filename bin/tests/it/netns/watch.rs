//! What passes at the two ends of a host's way: all that it sends, counted where its cable ends,
//! and what arrives for one of its ports, noted before anything could drop it.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::rc::Rc;

use serde_json::Value;

use super::lan::Host;
use super::space::Space;

/// Counts what a host sends from now on.
#[derive(Debug)]
pub(super) struct Watch {
    router: Rc<Space>,
    table: String,
}

impl Watch {
    fn count(&self, counter: &str) -> u64 {
        let listed =
            self.router.nft_list(&["-j", "list", "counters", "table", "netdev", &self.table]);
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let items = listed["nftables"].as_array().into_iter().flatten();
        let mut counters = items.map(|item| &item["counter"]);
        let ours = counters.find(|found| found["name"] == counter).expect("the counter");
        ours["packets"].as_u64().expect("a number")
    }

    /// Frames of any kind, those that ask for a neighbour's address among them.
    pub(super) fn sent(&self) -> u64 {
        self.count("sent")
    }

    /// Frames that are for nobody on the link. Groups of the link itself are on the link:
    /// 224.0.0.0/24, by which the kernel says which groups are listened to, and mDNS is there.
    pub(super) fn beyond(&self) -> u64 {
        self.count("beyond")
    }
}

/// Shows itself as the counters, and where to it went that is not on the link.
impl fmt::Display for Watch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.router.nft_list(&["list", "table", "netdev", &self.table]))
    }
}

impl Host {
    /// Counts what leaves by its cable from now on; once a host.
    #[track_caller]
    pub(super) fn watch(&self) -> Watch {
        let (router, port, network) = self.cable();
        let table = format!("watch_{port}");
        router.nft(&format!(
            r#"table netdev {table} {{
                counter sent {{ }}
                counter beyond {{ }}
                set destinations {{
                    type ipv4_addr . inet_proto . inet_service
                    size 4096
                    flags dynamic
                }}
                chain leaving {{
                    type filter hook ingress device "{port}" priority 0;
                    counter name "sent"
                    ip daddr {{ {network}, 224.0.0.0/24 }} accept
                    ether type arp accept
                    counter name "beyond"
                    update @destinations {{ ip daddr . meta l4proto . th dport }}
                }}
            }}
            "#
        ));
        Watch { router, table }
    }

    /// Notes from now on who sends to this port at an address of this host; once a host.
    #[track_caller]
    pub(super) fn note_arrivals(&self, port: u16) {
        self.space().nft(&format!(
            r"table inet arrivals {{
                set sources {{
                    type ipv4_addr . inet_service
                    size 4096
                    flags dynamic
                }}
                chain arriving {{
                    type filter hook prerouting priority raw;
                    fib daddr type local meta l4proto {{ tcp, udp }} th dport {port} \
                        update @sources {{ ip saddr . th sport }}
                }}
            }}
            "
        ));
    }

    /// Who sent to that port.
    #[track_caller]
    pub(super) fn arrivals(&self) -> BTreeSet<SocketAddrV4> {
        let listed = self.space().nft_list(&["-j", "list", "set", "inet", "arrivals", "sources"]);
        let listed: Value = serde_json::from_str(&listed).expect("JSON");
        let items = listed["nftables"].as_array().into_iter().flatten();
        let elements = items.filter_map(|item| item["set"]["elem"].as_array()).flatten();
        let source = |element: &Value| {
            let address: Ipv4Addr = element["concat"][0].as_str()?.parse().ok()?;
            let port = u16::try_from(element["concat"][1].as_u64()?).ok()?;
            Some(SocketAddrV4::new(address, port))
        };
        elements.map(|element| source(element).expect("an address and a port")).collect()
    }
}
