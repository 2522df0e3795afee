//! A node by itself whose log becomes long: its state is written to its file and made durable, and what
//! the log no longer needs is let go of.

use std::path::Path;

use aspen::seams::failpoint::Failpoint::{self, *};

use super::{Written, arm, come_back, harms, is_harmed, serves};
use crate::support::{Node, until, write_file};

pub(super) const LONG_LOG: &[Failpoint] =
    &[BeforeSettled, AfterSettled, BeforeCheckpoint, AfterCheckpoint, BeforePurge, AfterPurge];

/// What comes when no group's log needs a segment any more.
pub(super) const OLD_SEGMENTS: &[Failpoint] = &[BeforeSegmentRemoved, AfterSegmentRemoved];

const VALUE_BYTES: usize = 4_000_000;
/// Together more than is written before a state is made durable.
pub(super) const VALUES: usize = 12;
/// And before what the log had until then is let go of.
const VALUES_PURGED: usize = 2 * VALUES;

/// Writes large values until something is so, or it is enough.
pub(super) fn fill(node: &Node, dir: &Path, values: usize, mut is_so: impl FnMut() -> bool) {
    let file = dir.join("value");
    write_file(&file, &"v".repeat(VALUE_BYTES));
    let file = file.to_str().expect("a path");
    for _ in 0..values {
        // What the harm cuts off fails.
        node.run(&["put", "large", "--file", file]);
        if is_so() {
            return;
        }
    }
}

#[test]
fn a_long_log_is_let_go_of_whatever_step_that_is_cut_off_at() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut node = Node::start(dir.path(), &[]);
    let mut written = Written::default();
    for (at, harm) in harms(LONG_LOG) {
        assert!(until(|| written.put(&node, "w/before", &format!("{at:?}"))), "{}", node.log());
        arm(dir.path(), (at, harm));
        fill(&node, dir.path(), VALUES_PURGED, || is_harmed(dir.path(), at));
        node = come_back(dir.path(), node, at, serves);
        written.is_shown_by(&node, &format!("after {at:?}, {harm:?}"));
    }
}

/// The first segments are let go of when the node looks for groups that write little.
#[test]
fn old_segments_are_removed_whatever_step_that_is_cut_off_at() {
    let mut written = Written::default();
    let nodes: Vec<_> = harms(OLD_SEGMENTS)
        .into_iter()
        .map(|harm| {
            let dir = tempfile::tempdir().expect("a directory");
            let node = Node::start(dir.path(), &[]);
            assert!(until(|| written.put(&node, "w/before", "1")), "{}", node.log());
            arm(dir.path(), harm);
            // Past a second segment: the third is of an age apart.
            fill(&node, dir.path(), SEGMENTS_VALUES, || is_harmed(dir.path(), harm.0));
            (dir, node, harm)
        })
        .collect();
    for (dir, node, (at, harm)) in nodes {
        let node = come_back(dir.path(), node, at, serves);
        written.is_shown_by(&node, &format!("after {at:?}, {harm:?}"));
    }
}

/// More than a small first segment and a whole second hold.
const SEGMENTS_VALUES: usize = 20;
