//! Members that run different builds: what a cluster may do while they are mixed.
//!
//! Each member says which version of Aspen it runs, and its record keeps that. A version ends in the
//! level of what the build knows, `0.2.0+level.2`; one that ends otherwise has level 1. A cluster's
//! level is the least of its members'. What was introduced at a level is written only once all
//! members have it, and then the cluster *uses* that level: this is a record of its own, written in
//! the same change, and no build below it is a member from then on.
//!
//! Invariants:
//! - Every present member's level is at least the one that is used, and that never goes down.
//! - Members' versions are at most one minor version apart from that of whoever comes or changes.

use super::Roster;
use super::change::Change;
use super::records::{Member, Record};
use super::refused::Refused;
use crate::types::NodeId;

/// The level of builds that say nothing of theirs.
pub const LEVEL_FIRST: u32 = 1;

/// A version, as far as it matters who goes together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Build {
    /// The first number, which is the same in a whole cluster.
    pub major: u64,
    /// The second, which may differ by one.
    pub minor: u64,
    /// What the build knows.
    pub level: u32,
}

/// A version without its level, and its level.
pub fn split(version: &str) -> (&str, u32) {
    let parsed = version
        .split_once("+level.")
        .and_then(|(number, level)| Some((number, level.parse().ok()?)))
        .filter(|(_, level)| *level >= LEVEL_FIRST);
    parsed.unwrap_or((version, LEVEL_FIRST))
}

impl Build {
    /// A build of this version; `None` if that is not numbers with dots between them.
    pub fn of(version: &str) -> Option<Build> {
        let (number, level) = split(version);
        let mut numbers = number.split(['.', '-', '+']).map(|number| number.parse().ok());
        Some(Build { major: numbers.next()??, minor: numbers.next()??, level })
    }

    /// Whether both may be members of one cluster.
    pub fn goes_with(&self, other: &Build) -> bool {
        self.major == other.major && self.minor.abs_diff(other.minor) <= 1
    }
}

fn level_of(member: &Member) -> u32 {
    split(&member.version).1
}

impl Roster {
    /// What all members know.
    pub fn level(&self) -> u32 {
        self.present().map(level_of).min().unwrap_or(LEVEL_FIRST)
    }

    /// The highest level of which something was written: what every member has to know.
    pub fn level_used(&self) -> u32 {
        self.used.as_ref().map_or(LEVEL_FIRST, |at| at.record)
    }

    /// The member that knows least.
    fn oldest(&self) -> Option<&Member> {
        self.present().min_by_key(|member| (level_of(member), member.node))
    }
}

/// Lets a change pass if every member knows what it writes; from then on the cluster uses it.
pub fn gate(roster: &Roster, mut change: Change) -> Result<Change, Refused> {
    let Some(needs) = change.needs.take() else { return Ok(change) };
    if change.is_empty() || needs.level <= roster.level_used() {
        return Ok(change);
    }
    if let Some(oldest) = roster.oldest().filter(|oldest| level_of(oldest) < needs.level) {
        let version = split(&oldest.version).0.to_owned();
        return Err(Refused::MemberTooOld { node: oldest.node, version, what: needs.what });
    }
    // No older build becomes a member meanwhile: that would be another change of the sequence.
    change.put_in_sequence(roster.founded()?);
    let mod_revision = roster.used.as_ref().map_or(0, |at| at.mod_revision);
    change.replace(Record::Level(needs.level), mod_revision);
    Ok(change)
}

/// Whether a build may become a member, perhaps in the place of one.
pub(super) fn check_joiner(
    roster: &Roster,
    version: &str,
    replaces: Option<NodeId>,
) -> Result<(), Refused> {
    check(roster, version, roster.level().max(roster.level_used()), replaces)
}

/// Whether a member may be of this build from now on.
pub(super) fn check_change(roster: &Roster, node: NodeId, version: &str) -> Result<(), Refused> {
    check(roster, version, roster.level_used(), Some(node))
}

fn check(
    roster: &Roster,
    version: &str,
    level: u32,
    without: Option<NodeId>,
) -> Result<(), Refused> {
    let (number, its_level) = split(version);
    let number = || number.to_owned();
    if its_level < level {
        return Err(Refused::BuildTooOld { version: number(), level });
    }
    let Some(build) = Build::of(version) else { return Ok(()) };
    let others = roster.present().filter(|member| Some(member.node) != without);
    for member in others {
        if Build::of(&member.version).is_some_and(|other| !other.goes_with(&build)) {
            let theirs = split(&member.version).0.to_owned();
            return Err(Refused::BuildApart { node: member.node, theirs, version: number() });
        }
    }
    Ok(())
}
