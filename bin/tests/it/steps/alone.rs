//! A node by itself: its first start, its writes, its next starts and its stops.

use aspen::limits::{COMPACT_STEP_ENTRIES_MAX, TXN_OPS_MAX};
use aspen::seams::failpoint::Failpoint::{self, *};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Harm, Written, arm, come_back, harms, serves};
use crate::support::{Node, until, write_file};

pub(super) const FIRST_START: &[Failpoint] = &[
    BeforeKeyNamed,
    AfterKeyNamed,
    BeforeSegmentMade,
    BeforeSegmentNamed,
    AfterSegmentNamed,
    BeforeIdentityNamed,
    AfterIdentityNamed,
    BeforeMember,
    AfterMember,
    BeforeStateNamed,
    AfterStateNamed,
];

pub(super) const WRITES: &[Failpoint] = &[
    BeforeAppend,
    AfterAppend,
    BeforeFrame,
    AfterFrame,
    BeforeSync,
    AfterSync,
    AfterReport,
    BeforeCommitted,
    BeforeApplied,
    AfterApplied,
    AfterPublished,
    BeforeExpired,
    BeforeCompacted,
];

pub(super) const LATER_START: &[Failpoint] = &[BeforeVote, AfterVote, BeforeMembersApplied];

pub(super) const STOP: &[Failpoint] = &[BeforeSealed, AfterSealed];

#[test]
fn a_first_start_is_finished_by_the_next() {
    for (at, harm) in harms(FIRST_START) {
        let dir = tempfile::tempdir().expect("a directory");
        arm(dir.path(), (at, harm));
        let node = come_back(dir.path(), Node::starting(dir.path()), at, Node::has_begun);
        let mut written = Written::default();
        assert!(until(|| written.put(&node, "w/first", "1")), "after {at:?}: {}", node.log());
        written.is_shown_by(&node, &format!("after {at:?}, {harm:?}"));
    }
}

/// A node, what was written to it, and how often.
struct Alone {
    dir: TempDir,
    node: Node,
    written: Written,
    writes: u32,
}

impl Alone {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let node = Node::start(dir.path(), &[]);
        Alone { dir, node, written: Written::default(), writes: 0 }
    }

    /// One more write; false if it was not acknowledged.
    fn write(&mut self) -> bool {
        self.writes += 1;
        let (key, value) = (format!("w/{}", self.writes % 7), self.writes.to_string());
        self.written.put(&self.node, &key, &value)
    }

    /// Has the node harmed while this is done, and come back.
    #[track_caller]
    fn harm(self, (at, harm): (Failpoint, Harm), provoke: impl FnOnce(&mut Alone)) -> Self {
        let mut alone = self;
        arm(alone.dir.path(), (at, harm));
        provoke(&mut alone);
        let Alone { dir, node, written, writes } = alone;
        let node = come_back(dir.path(), node, at, serves);
        written.is_shown_by(&node, &format!("after {at:?}, {harm:?}"));
        Alone { dir, node, written, writes }
    }
}

#[test]
fn writes_are_whole_whatever_step_they_are_cut_off_at() {
    let mut alone = Alone::start();
    for (at, harm) in harms(WRITES) {
        assert!(until(|| alone.write()), "before {at:?}: {}", alone.node.log());
        alone = alone.harm((at, harm), |alone| match at {
            BeforeExpired => drop(alone.node.run(&["lease", "grant", "1s"])),
            BeforeCompacted => compact(alone),
            _ => drop(alone.write()),
        });
    }
}

/// Compacts more than one command does.
fn compact(alone: &mut Alone) {
    let put = |key| json!({"put": {"key": format!("x/{key}"), "value": ""}});
    let txn = json!({"then": (0..TXN_OPS_MAX).map(put).collect::<Vec<_>>()}).to_string();
    let file = alone.dir.path().join("txn");
    write_file(&file, &txn);
    for _ in 0..=COMPACT_STEP_ENTRIES_MAX / TXN_OPS_MAX {
        alone.node.printed(&["txn", "--file", file.to_str().expect("a path")]);
    }
    let shown = alone.node.printed(&["get", "x/0", "--json"]);
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    alone.node.run(&["compact", &shown["mod_revision"].to_string()]);
}

#[test]
fn a_later_start_is_finished_by_the_next() {
    let mut alone = Alone::start();
    for (at, harm) in harms(LATER_START) {
        assert!(until(|| alone.write()), "before {at:?}: {}", alone.node.log());
        let Alone { dir, node, written, writes } = alone;
        node.kill();
        arm(dir.path(), (at, harm));
        let node = come_back(dir.path(), Node::starting(dir.path()), at, |node| {
            node.has_begun() && serves(node)
        });
        written.is_shown_by(&node, &format!("after {at:?}, {harm:?}"));
        alone = Alone { dir, node, written, writes };
    }
}

#[test]
fn a_stop_that_is_cut_off_takes_nothing_back() {
    let mut alone = Alone::start();
    for (at, harm) in harms(STOP) {
        assert!(until(|| alone.write()), "before {at:?}: {}", alone.node.log());
        // A stop is not one that serves again.
        alone = alone.harm((at, harm), |alone| alone.node.signal("TERM"));
    }
}
