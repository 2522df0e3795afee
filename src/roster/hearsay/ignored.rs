//! Why an announcement is ignored, whose fault that is, and whether to say so again.
//!
//! Only keys that have proven themselves are named: the neighbour that delivered a message, by its
//! link, or the author, by its signature. A neighbour may have passed on in good faith what another
//! sent, for gossip passes on before anybody looks: its name says where to look, not who did it.

use std::collections::BTreeMap;
use std::time::Duration;

use thiserror::Error;

use crate::limits::{OFFENCE_LOG_GAP, OFFENDERS_MAX};
use crate::roster::announcement::BadAnnouncement;
use crate::types::{ClusterId, EndpointId, NodeId};

/// An announcement is ignored.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("{why}")]
pub struct Ignored {
    /// Why.
    pub why: Why,
    /// Whose fault it is, unless it happens among honest members.
    pub offence: Option<Offence>,
}

/// Somebody did what no honest member does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offence {
    /// The key to name.
    pub who: EndpointId,
    /// `Some` if this time is to be logged: with how many of the same key were not since the last
    /// that was.
    pub log: Option<u64>,
}

/// Why an announcement is ignored.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub enum Why {
    /// It is none, or of another version.
    #[error(transparent)]
    Unreadable(#[from] BadAnnouncement),
    /// The neighbour that delivered it delivers too many.
    #[error("a neighbour delivers more announcements than are looked at")]
    DelivererRate,
    /// All neighbours together deliver too many.
    #[error("all neighbours together deliver more announcements than are looked at")]
    Rate,
    /// It is about another cluster.
    #[error("an announcement is about cluster {0}, not this one")]
    OtherCluster(ClusterId),
    /// Its author is no member, as far as this node knows.
    #[error("an announcement is by {author}, which is no member as far as is known here")]
    Stranger {
        /// Whose it would be.
        author: EndpointId,
    },
    /// It is in this node's own name.
    #[error("an announcement is in this node's own name")]
    Ourselves,
    /// Its author did not sign it.
    #[error("an announcement is not signed by node {node}, in whose name it is")]
    Forged {
        /// Whose it would be.
        node: NodeId,
    },
    /// Its author claims another's number.
    #[error("node {node} announces itself as node {claimed}")]
    Number {
        /// Who signed it.
        author: EndpointId,
        /// Its number.
        node: NodeId,
        /// The number that it claims.
        claimed: NodeId,
    },
    /// It is not newer than what was heard of its author.
    #[error("an announcement by node {node} is not newer than the last")]
    Old {
        /// Its author.
        node: NodeId,
    },
    /// As above, and the neighbour that delivered it delivers too many such.
    #[error("a neighbour repeats old announcements, the last one by node {node}")]
    Replayed {
        /// Its author.
        node: NodeId,
    },
    /// Its author announces itself too often.
    #[error("node {node} announces itself too often")]
    AuthorRate {
        /// Who signed it.
        author: EndpointId,
        /// Its number.
        node: NodeId,
    },
}

impl Why {
    /// Whose fault it is, if `deliverer` delivered it.
    pub(super) fn offender(&self, deliverer: EndpointId) -> Option<EndpointId> {
        match self {
            // A newer version, a member that is not known here yet and an old announcement are what
            // an upgrade, an admission and gossip itself bring about.
            Why::Unreadable(BadAnnouncement::Version(_)) => None,
            Why::Rate | Why::Stranger { .. } | Why::Ourselves | Why::Old { .. } => None,
            Why::Unreadable(_)
            | Why::DelivererRate
            | Why::OtherCluster(_)
            | Why::Forged { .. }
            | Why::Replayed { .. } => Some(deliverer),
            Why::Number { author, .. } | Why::AuthorRate { author, .. } => Some(*author),
        }
    }
}

/// The offences of each key.
#[derive(Clone, Debug, Default)]
pub(super) struct Offences {
    of: BTreeMap<EndpointId, Counted>,
}

#[derive(Clone, Copy, Debug)]
struct Counted {
    logged: Duration,
    /// How many were not logged since.
    swallowed: u64,
    /// How many there were in all.
    all: u64,
}

impl Offences {
    /// Counts an offence.
    pub(super) fn count(&mut self, who: EndpointId, now: Duration) -> Offence {
        let quiet = |counted: &Counted| now.saturating_sub(counted.logged) >= OFFENCE_LOG_GAP;
        let log = match self.of.get_mut(&who) {
            Some(counted) => {
                counted.all = counted.all.saturating_add(1);
                if quiet(counted) {
                    counted.logged = now;
                    Some(std::mem::take(&mut counted.swallowed))
                } else {
                    counted.swallowed = counted.swallowed.saturating_add(1);
                    None
                }
            }
            None => {
                if self.of.len() >= OFFENDERS_MAX {
                    self.of.retain(|_, counted| !quiet(counted));
                }
                let room = self.of.len() < OFFENDERS_MAX;
                room.then(|| self.of.insert(who, Counted::at(now)).map_or(0, |old| old.swallowed))
            }
        };
        Offence { who, log }
    }

    /// How many of a key are counted.
    pub(super) fn of(&self, who: EndpointId) -> u64 {
        self.of.get(&who).map_or(0, |counted| counted.all)
    }
}

impl Counted {
    fn at(now: Duration) -> Self {
        Counted { logged: now, swallowed: 0, all: 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: u16) -> EndpointId {
        let mut bytes = [0; 32];
        bytes[..2].copy_from_slice(&number.to_be_bytes());
        EndpointId(bytes)
    }

    #[test]
    fn an_offence_is_logged_once_a_minute_with_those_in_between() {
        let mut offences = Offences::default();
        let mut logged = |s| offences.count(key(1), Duration::from_secs(s)).log;
        assert_eq!([5, 6, 64].map(&mut logged), [Some(0), None, None]);
        assert_eq!([65, 66, 500].map(&mut logged), [Some(2), None, Some(1)]);
    }

    #[test]
    fn many_offenders_fill_neither_memory_nor_the_log() {
        let mut offences = Offences::default();
        let now = Duration::from_secs(5);
        let lines = (0..u16::MAX).filter(|n| offences.count(key(*n), now).log.is_some()).count();
        assert_eq!((lines, offences.of.len()), (OFFENDERS_MAX, OFFENDERS_MAX));
        let later = now + OFFENCE_LOG_GAP;
        assert_eq!(offences.count(key(u16::MAX), later).log, Some(0));
        assert_eq!(offences.of.len(), 1);
    }
}
