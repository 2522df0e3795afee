//! Every step at which a crash or an error matters, in real processes: a node ends there, or what it
//! does there fails once. It goes on by itself or is started again; what was acknowledged is there,
//! and all replicas are equal.
//!
//! Each way of coming to steps lists those that it comes to, and all of them together are the steps
//! that the code has, so that none goes untested unseen.

mod alone;
mod coming;
mod long;
mod moving;

use std::collections::{BTreeMap, BTreeSet};
use std::env;
use std::fs;
use std::path::Path;

use aspen::seams::failpoint::Failpoint;

use crate::support::{FAILPOINTS, Node, until, write_file};

/// What befalls a node at a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Harm {
    /// Its process ends.
    Ends,
    /// What it does there fails once.
    Fails,
}

/// What befalls nodes at these steps: at each they end, and what can fail does so once. All of it as
/// often as is asked for.
fn harms(steps: &[Failpoint]) -> Vec<(Failpoint, Harm)> {
    let rounds = env::var("ASPEN_STEPS").map_or(1, |rounds| rounds.parse().expect("a number"));
    let ends = steps.iter().map(|at| (*at, Harm::Ends));
    let fail = steps.iter().filter(|at| at.can_fail()).map(|at| (*at, Harm::Fails));
    ends.chain(fail).collect::<Vec<_>>().repeat(rounds)
}

/// A node whose data is in this directory is to be harmed.
fn arm(dir: &Path, (at, harm): (Failpoint, Harm)) {
    let armed = match harm {
        Harm::Ends => at.ending(),
        Harm::Fails => at.failing(),
    };
    write_file(&dir.join(FAILPOINTS), &armed);
}

/// Whether it was.
fn is_harmed(dir: &Path, at: Failpoint) -> bool {
    fs::read_to_string(dir.join(FAILPOINTS)).is_ok_and(|told| told == at.name())
}

/// It is not to be, any more.
fn disarm(dir: &Path) {
    fs::remove_file(dir.join(FAILPOINTS)).expect("it was armed");
}

/// Waits until it is; if that ended it, or it ended by itself for what failed, it is started again.
/// `serves` says whether it does its work.
#[track_caller]
fn come_back(
    dir: &Path,
    mut node: Node,
    at: Failpoint,
    serves: impl Fn(&mut Node) -> bool,
) -> Node {
    let is_harmed = until(|| is_harmed(dir, at));
    assert!(is_harmed, "it does not come to {at:?}; its log:\n{}", node.log());
    disarm(dir);
    let mut has_ended = false;
    let is_back = until(|| {
        has_ended = node.has_ended();
        has_ended || serves(&mut node)
    });
    assert!(is_back, "it neither serves nor ends after {at:?}; its log:\n{}", node.log());
    if has_ended { Node::start(dir, &[]) } else { node }
}

/// Whether a node takes writes.
fn serves(node: &mut Node) -> bool {
    node.run(&["put", "served", "again"]).code == 0
}

/// What was written: what each key may hold. Of a write that was not acknowledged it is not known
/// whether it was done.
#[derive(Default)]
struct Written(BTreeMap<String, BTreeSet<String>>);

impl Written {
    /// Writes a key; false if that was not acknowledged.
    fn put(&mut self, node: &Node, key: &str, value: &str) -> bool {
        let may_be = self.0.entry(key.to_owned()).or_default();
        let is_done = node.run(&["put", key, value]).code == 0;
        if is_done {
            may_be.clear();
        } else if may_be.is_empty() {
            // Perhaps it is not there at all.
            may_be.insert(String::new());
        }
        may_be.insert(value.to_owned());
        is_done
    }

    /// Asserts that a node shows what may be, and by a read of its own replicas the same.
    #[track_caller]
    fn is_shown_by(&self, node: &Node, when: &str) {
        let shown = |more: &[&str]| {
            let listed = node.run(&[&["range", "w/", "--limit", "1000"], more].concat());
            (listed.code == 0).then_some(listed.stdout)
        };
        let mut all = None;
        let is_read = until(|| {
            all = shown(&[]);
            all.is_some()
        });
        assert!(is_read, "{when}: node {} does not answer:\n{}", node.id(), node.log());
        let read = all.clone().expect("it is read");
        let read: BTreeMap<&str, &str> =
            read.lines().filter_map(|line| line.split_once('\t')).collect();
        for (key, may_be) in &self.0 {
            let found = read.get(key.as_str()).copied().unwrap_or_default();
            assert!(may_be.contains(found), "{when}: {key} is {found:?}, and not of {may_be:?}");
        }
        let is_equal = until(|| shown(&["--consistency", "stale"]) == all);
        assert!(is_equal, "{when}: node {} shows something else of its own", node.id());
    }
}

#[test]
fn the_documentation_lists_every_step() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/testing.md");
    let page = fs::read_to_string(page).expect("the page").replace('\n', " ");
    let missing: Vec<&str> =
        Failpoint::all().map(Failpoint::name).filter(|name| !page.contains(name)).collect();
    assert!(missing.is_empty(), "docs/testing.md does not name {missing:?}");
}

#[test]
fn every_step_is_come_to_in_some_way() {
    let ways = [
        alone::FIRST_START,
        alone::WRITES,
        alone::LATER_START,
        alone::STOP,
        long::LONG_LOG,
        long::OLD_SEGMENTS,
        moving::MOVES,
        coming::JOIN,
        coming::LEAVE,
    ];
    let known: BTreeSet<Failpoint> = ways.into_iter().flatten().copied().collect();
    let all: BTreeSet<Failpoint> = Failpoint::FREQUENT.iter().copied().collect();
    assert_eq!(known, all);
}
