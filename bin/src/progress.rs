//! How far a node is that joins, as a person or a program would like to be told.
//!
//! What there is to say follows from glances at the node's groups, each said once ([`Progress`]).
//! A person at a terminal sees one line that grows, with a bar while the node catches up; elsewhere each
//! piece is a line, and with `--json` an event.

use std::io::{self, IsTerminal};

use aspen::limits::CATCH_UP_ENTRIES_MIN;
use aspen::status::{GroupStatus, Role};
use serde::Serialize;

use crate::bar::Bar;
use crate::exit::Failure;
use crate::output::{self, counted};

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum News {
    /// The cluster has taken the node in.
    Admitted { node_id: u64, cluster: String, cluster_id: String },
    /// It follows its groups.
    Learner { groups: u64 },
    /// It is this far with what they hold.
    CatchingUp { done: u64, of: u64, percent: u64, unit: Unit },
    /// It counts for the majority of its groups.
    Voter { groups: u64 },
}

/// What is counted while a node catches up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Unit {
    /// Bytes of snapshots, about.
    Bytes,
    /// Entries of the log.
    Entries,
}

impl Unit {
    /// `210 MiB`, `12000 entries`
    fn text(self, count: u64) -> String {
        match self {
            Unit::Entries => format!("{count} entries"),
            Unit::Bytes if count < 1 << 20 => format!("{} KiB", count.div_ceil(1 << 10)),
            Unit::Bytes => format!("{} MiB", count.div_ceil(1 << 20)),
        }
    }
}

impl News {
    fn text(&self) -> String {
        match self {
            News::Admitted { node_id, .. } => format!("admitted as node {node_id}"),
            News::Learner { groups } => format!("learner of {}", counted(*groups, "group")),
            News::CatchingUp { percent, of, unit, .. } => {
                format!("{percent} % of {}", unit.text(*of))
            }
            News::Voter { .. } => "voter".to_owned(),
        }
    }
}

/// What was told so far.
#[derive(Debug, Default)]
pub(crate) struct Progress {
    is_learner: bool,
    is_voter: bool,
    /// How far it was: done, of how much.
    far: Option<(u64, u64, Unit)>,
}

impl Progress {
    /// What a glance at the groups adds.
    pub(crate) fn see(&mut self, seen: &[GroupStatus]) -> Vec<News> {
        let (mut news, groups) = (Vec::new(), seen.len() as u64);
        if self.is_voter || groups == 0 || !seen.iter().all(is_there) {
            return news;
        }
        if seen.iter().all(votes) {
            self.is_voter = true;
            news.push(News::Voter { groups });
            return news;
        }
        if !std::mem::replace(&mut self.is_learner, true) {
            news.push(News::Learner { groups });
        }
        let far = match (behind(seen), self.far) {
            (Some(far), _) => far,
            // What it was behind by, it has now.
            (None, Some((_, of, unit))) => (of, of, unit),
            (None, None) => return news,
        };
        let percent = |(done, of, _): (u64, u64, Unit)| done.saturating_mul(100) / of;
        if self.far.map(percent) != Some(percent(far)) {
            let (done, of, unit) = far;
            news.push(News::CatchingUp { done, of, percent: percent(far), unit });
        }
        self.far = Some(far);
        news
    }

    /// Whether the last word has been said.
    pub(crate) fn is_voter(&self) -> bool {
        self.is_voter
    }
}

/// Before its first entry a replica knows of no leader, and there is nothing to say.
fn is_there(group: &GroupStatus) -> bool {
    !group.role.is_absent() && group.leader.is_some()
}

fn votes(group: &GroupStatus) -> bool {
    matches!(group.role, Role::Leader | Role::Follower)
}

/// How far the groups are that have something to catch up with, in bytes while a snapshot comes.
fn behind(seen: &[GroupStatus]) -> Option<(u64, u64, Unit)> {
    let arriving = seen.iter().filter_map(|group| group.arriving);
    let (bytes, of_bytes) = arriving
        .fold((0, 0), |(bytes, of), arriving| (bytes + arriving.bytes, of + arriving.of_bytes));
    if of_bytes > 0 {
        return Some((bytes, of_bytes, Unit::Bytes));
    }
    let sum = |count: fn(&GroupStatus) -> u64| seen.iter().map(count).sum::<u64>();
    let (done, of) = (sum(|group| group.applied_index), sum(|group| group.last_log_index));
    (done + CATCH_UP_ENTRIES_MIN < of).then_some((done, of, Unit::Entries))
}

/// Where news go.
#[derive(Debug)]
pub(crate) enum Telling {
    /// Events for a program.
    Json,
    /// A line for each piece.
    Lines,
    /// One line that grows, and stays once all is told.
    Line { bar: Bar, stands: Vec<String> },
}

impl Telling {
    /// To standard output; what still moves is shown on standard error.
    pub(crate) fn new(json: bool) -> Self {
        if json {
            return Telling::Json;
        }
        match Bar::new().filter(|_| io::stdout().is_terminal()) {
            Some(bar) => Telling::Line { bar, stands: Vec::new() },
            None => Telling::Lines,
        }
    }

    /// Tells it.
    pub(crate) fn tell(&mut self, news: &News) -> Result<(), Failure> {
        match self {
            Telling::Json => output::json_line(news),
            Telling::Lines => output::line(&news.text()),
            Telling::Line { bar, stands } => {
                match news {
                    News::CatchingUp { done, of, .. } => {
                        bar.at(*done, *of, line_of(stands.iter().chain([&news.text()])));
                    }
                    _ => {
                        stands.push(news.text());
                        bar.text(line_of(stands.iter()));
                    }
                }
                Ok(())
            }
        }
    }

    /// Ends the line, if one has begun: what comes later has lines of its own.
    pub(crate) fn end(&mut self) -> Result<(), Failure> {
        if !matches!(self, Telling::Line { .. }) {
            return Ok(());
        }
        match std::mem::replace(self, Telling::Lines) {
            Telling::Line { bar, stands } if !stands.is_empty() => {
                drop(bar);
                output::line(&line_of(stands.iter()))
            }
            _ => Ok(()),
        }
    }
}

fn line_of<'a>(pieces: impl Iterator<Item = &'a String>) -> String {
    pieces.map(String::as_str).collect::<Vec<_>>().join(" · ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use aspen::status::Arriving;
    use aspen::types::{GroupId, NodeId};

    use super::*;

    fn group(id: u64, role: Role, applied_index: u64, last_log_index: u64) -> GroupStatus {
        GroupStatus {
            group: GroupId(id),
            role,
            term: 1,
            leader: Some(NodeId(1)),
            last_log_index,
            applied_index,
            revision: 0,
            voters: BTreeSet::new(),
            learners: BTreeSet::new(),
            arriving: None,
        }
    }

    fn told(glances: &[&[GroupStatus]]) -> Vec<String> {
        let mut progress = Progress::default();
        glances.iter().flat_map(|seen| progress.see(seen)).map(|news| news.text()).collect()
    }

    #[test]
    fn each_step_is_told_once() {
        use Role::{Follower, Learner};
        let behind = [group(0, Learner, 3, 3), group(1, Learner, 6_400, 10_000)];
        let further = [group(0, Learner, 3, 3), group(1, Learner, 6_410, 10_000)];
        let there = [group(0, Learner, 3, 3), group(1, Learner, 10_000, 10_000)];
        let half = [group(0, Follower, 4, 4), group(1, Learner, 10_001, 10_001)];
        let voter = [group(0, Follower, 4, 4), group(1, Follower, 10_001, 10_001)];
        assert_eq!(
            told(&[&[], &behind, &further, &there, &there, &half, &voter, &half]),
            ["learner of 2 groups", "64 % of 10003 entries", "100 % of 10003 entries", "voter"]
        );
        assert_eq!(told(&[&there, &voter]), ["learner of 2 groups", "voter"]);
    }

    #[test]
    fn a_snapshot_is_told_in_bytes() {
        let arriving = Some(Arriving { bytes: 134 << 20, of_bytes: 210 << 20 });
        let seen = [
            group(0, Role::Learner, 3, 3),
            GroupStatus { arriving, ..group(1, Role::Learner, 0, 0) },
        ];
        assert_eq!(told(&[&seen]), ["learner of 2 groups", "63 % of 210 MiB"]);
    }

    #[test]
    fn nothing_is_said_of_a_replica_that_knows_nothing_yet() {
        let lost = GroupStatus { leader: None, ..group(0, Role::Learner, 0, 0) };
        assert_eq!(told(&[&[lost]]), [""; 0]);
        assert_eq!(told(&[&[group(0, Role::Stopped, 0, 0)]]), [""; 0]);
    }

    #[test]
    fn events_have_names_for_programs() {
        let event = |news: &News| serde_json::to_value(news).expect("JSON");
        let catching_up = News::CatchingUp { done: 64, of: 100, percent: 64, unit: Unit::Entries };
        assert_eq!(
            event(&catching_up),
            serde_json::json!({
                "event": "catching_up", "done": 64, "of": 100, "percent": 64, "unit": "entries"
            })
        );
        assert_eq!(event(&News::Voter { groups: 2 })["event"], "voter");
    }
}
