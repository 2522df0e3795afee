//! What goes wrong is counted where it does, and it goes right again.

use std::fs;

use tokio::runtime::Runtime;

use super::{MOVED_BY_TROUBLE, Scraping, leader, risen};
use crate::shards::{Nodes, shards};
use crate::support::{Node, until, write_file};

#[test]
fn what_goes_wrong_is_counted_where_it_does() {
    let nodes = Nodes::start(3, &[]);
    let scraping = Scraping { runtime: Runtime::new().expect("a runtime") };
    scraping.wait_until_settled(&nodes);
    let first = scraping.pages(&nodes);

    // With both others standing still nobody leads for long, and what is asked of whoever did is tried
    // again and again.
    let led = leader(&nodes, 1);
    let others = || nodes.all().filter(|node| node.id() != led);
    others().for_each(|node| node.signal("STOP"));
    let retries = || scraping.page(nodes.node(led)).sum("aspen_client_retries_total", &[]);
    let before = retries();
    let is_tried_again = until(|| {
        nodes.node(led).run(&["--timeout", "2s", "put", "again", "v"]);
        retries() > before
    });
    others().for_each(|node| node.signal("CONT"));
    assert!(is_tried_again, "{}", nodes.node(led).log());
    nodes.all().for_each(|node| assert!(until(|| node.run(&["put", "again", "v"]).code == 0)));

    // Where a replica is to be stands something else, so that it can't be opened.
    let in_the_way = nodes.0[&3].0.path().join("data/groups/2");
    write_file(&in_the_way, "");
    nodes.any().printed(&["keyspace", "create", "blocked"]);
    let restarts = |node: &Node| scraping.page(node).sum("aspen_part_restarts_total", &[]);
    assert!(until(|| restarts(nodes.node(3)) > 0.0), "{}", nodes.node(3).log());
    fs::remove_file(&in_the_way).expect("it is there");
    let is_whole = || {
        let shown = shards(nodes.any(), "blocked");
        shown[0]["group"] == 2 && shown[0]["stage"] == "settled"
    };
    assert!(until(is_whole), "{}", nodes.node(3).log());
    assert_eq!([1, 2].map(|node| restarts(nodes.node(node))), [0.0, 0.0]);

    let last = scraping.pages(&nodes);
    first.iter().zip(&last).for_each(|(before, after)| after.comes_after(before));
    for name in MOVED_BY_TROUBLE {
        assert!(risen(name, &[], &first, &last) > 0.0, "{name}");
    }
}
