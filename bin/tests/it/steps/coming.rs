//! Nodes that join a cluster and leave it, and the one that lets them.

use aspen::seams::failpoint::Failpoint::{self, *};

use super::{Written, arm, come_back, disarm, harms, is_harmed, serves};
use crate::cluster::members;
use crate::support::{Node, until};

pub(super) const JOIN: &[Failpoint] =
    &[BeforeAdmitted, AfterAdmitted, BeforeBookNamed, AfterBookNamed];

pub(super) const LEAVE: &[Failpoint] = &[BeforeGone, AfterGone];

#[test]
fn nodes_join_and_leave_whatever_step_that_is_cut_off_at() {
    let host_dir = tempfile::tempdir().expect("a directory");
    let mut host = Node::start(host_dir.path(), &[]);
    let mut written = Written::default();
    assert!(written.put(&host, "w/before", "1"));
    let mut others = Vec::new();
    for (at, harm) in harms(JOIN) {
        let ticket = host.printed(&["ticket", "create"]);
        let dir = tempfile::tempdir().expect("a directory");
        arm(host_dir.path(), (at, harm));
        let mut node = Node::joining(dir.path(), ticket.trim(), &[]);
        host = come_back(host_dir.path(), host, at, serves);
        // It asks on, or does so at its next start.
        let mut has_ended = false;
        let is_there = until(|| {
            has_ended = node.has_ended();
            has_ended || node.has_begun()
        });
        assert!(is_there, "it neither joins nor ends after {at:?}: {}", node.log());
        if has_ended {
            node = Node::start(dir.path(), &[]);
        }
        others.push((dir, node));
        let all = || members(&host).len() == others.len() + 1;
        assert!(until(all), "after {at:?}: {:?}", members(&host));
        for node in others.iter().map(|(_, node)| node).chain([&host]) {
            written.is_shown_by(node, &format!("after {at:?}, {harm:?}"));
        }
    }
    for (at, harm) in harms(LEAVE) {
        let (dir, mut node) = others.pop().expect("as many joined");
        arm(dir.path(), (at, harm));
        node.run(&["leave"]);
        assert!(until(|| is_harmed(dir.path(), at)), "no {at:?}: {}", node.log());
        disarm(dir.path());
        assert!(until(|| node.has_ended()), "it goes on after {at:?}: {}", node.log());
        // It is told again, or knows it still.
        let mut again = Node::starting(dir.path());
        assert_ne!(again.code(), 0, "it is no member after {at:?}");
        assert!(until(|| members(&host).len() == others.len() + 1), "{:?}", members(&host));
        written.is_shown_by(&host, &format!("after {at:?}, {harm:?}"));
    }
}
