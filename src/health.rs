//! How well a node is: plain facts that the supervised parts report and the doors show.
//!
//! This file decides nothing: a part says its own state and reason, and the report's state is
//! that of its worst part. Whether the node can serve is told by `ready`, which the parts that
//! serve decide: a nearly full disk makes a node degraded, not unready.

use std::fmt;

/// How well one part, or the whole node, is. Ordered from best to worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PartState {
    /// It does its work.
    #[default]
    Healthy,
    /// It does its work, and something needs attention.
    Degraded,
    /// It does not do its work.
    Unhealthy,
}

impl PartState {
    /// The word for it, as doors and logs show it.
    pub fn as_str(self) -> &'static str {
        match self {
            PartState::Healthy => "healthy",
            PartState::Degraded => "degraded",
            PartState::Unhealthy => "unhealthy",
        }
    }
}

impl fmt::Display for PartState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One part of a node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Which part: `store`, `group 1`, `disk`, ….
    pub name: String,
    /// How well it is.
    pub state: PartState,
    /// Why it is not healthy, as one sentence for an operator.
    pub reason: Option<String>,
}

impl Part {
    /// A part that does its work.
    pub fn healthy(name: impl Into<String>) -> Self {
        Part { name: name.into(), state: PartState::Healthy, reason: None }
    }

    /// A part that works and needs attention.
    pub fn degraded(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Part { name: name.into(), state: PartState::Degraded, reason: Some(reason.into()) }
    }

    /// A part that does not work.
    pub fn unhealthy(name: impl Into<String>, reason: impl Into<String>) -> Self {
        Part { name: name.into(), state: PartState::Unhealthy, reason: Some(reason.into()) }
    }
}

/// All parts of a node at one moment. The default is a node that has not started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthReport {
    /// The node can answer reads and writes.
    pub ready: bool,
    /// Its parts, in the order in which they start.
    pub parts: Vec<Part>,
}

impl HealthReport {
    /// The state of the worst part; a node without parts is healthy.
    pub fn state(&self) -> PartState {
        self.parts.iter().map(|part| part.state).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_is_as_well_as_its_worst_part() {
        let mut report = HealthReport { ready: true, parts: vec![Part::healthy("store")] };
        assert_eq!(report.state(), PartState::Healthy);
        report.parts.push(Part::degraded("disk", "12 % of the disk is free"));
        assert_eq!(report.state(), PartState::Degraded);
        report.parts.push(Part::unhealthy("group 1", "its log does not open"));
        report.parts.push(Part::healthy("http"));
        assert_eq!(report.state(), PartState::Unhealthy);
    }
}
