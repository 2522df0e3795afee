//! Several nodes in one process: each line that one of them logs is its own, and not the other's.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use aspen::seams::Here;
use aspen::{KvServiceBuilder, Reach, StorageBackend};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::layer::{Context, SubscriberExt};

/// Where an event came from: the target, the node and the group.
type From = (&'static str, Option<u64>, Option<u64>);

/// Keeps where Aspen's own events came from.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<From>>>);

impl<S: Subscriber> Layer<S> for Heard {
    fn on_event(&self, event: &Event<'_>, _context: Context<'_, S>) {
        let (target, here) = (event.metadata().target(), Here::present());
        if target.starts_with("aspen::") || target.starts_with("openraft::") {
            let (node, group) = (here.node().map(|node| node.0), here.group().map(|group| group.0));
            self.0.lock().expect("no panic").push((target, node, group));
        }
    }
}

/// On one thread, which alone is listened to: what other tests log meanwhile is theirs.
#[tokio::test]
async fn each_of_several_nodes_logs_as_itself() {
    let heard = Heard::default();
    let listening =
        tracing_subscriber::registry().with(heard.clone().with_filter(LevelFilter::DEBUG));
    let _listening = tracing::subscriber::set_default(listening);
    let node = |number: u64| {
        KvServiceBuilder::new(number, format!("node-{number}"))
            .with_storage(StorageBackend::Memory)
            .with_reach(Reach::Loopback)
            .start()
    };
    let (third, fourth) = tokio::join!(node(3), node(4));
    let services = [third.expect("it starts"), fourth.expect("it starts")];
    for service in &services {
        service.client().put("k", "v").await.expect("it is written");
    }
    for service in services {
        service.shutdown().await.expect("it stops");
    }
    let heard = heard.0.lock().expect("no panic").clone();
    let of_raft = heard.iter().filter(|(target, ..)| {
        target.starts_with("aspen::raft") || target.starts_with("openraft::")
    });
    let places: BTreeSet<_> = of_raft.map(|(_, node, group)| (*node, *group)).collect();
    let both = [3, 4].into_iter().flat_map(|node| [0, 1].map(|group| (Some(node), Some(group))));
    assert_eq!(places, both.collect(), "{heard:?}");
    let nobody = heard.iter().find(|(_, node, _)| node.is_none());
    assert_eq!(nobody, None, "{heard:?}");
}
