//! How a group's Raft is set.

use std::time::Duration;

use openraft::{Config, SnapshotPolicy};

use crate::error::{Error, Result};
use crate::limits::{APPEND_ENTRIES_MAX, SNAPSHOT_SILENCE_MAX};
use crate::types::GroupId;

/// How fast a group notices that its leader is gone. Loose enough for a busy machine with two
/// cores; a planned change of leader does not wait for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RaftTimes {
    /// How often a leader says that it is there.
    pub heartbeat: Duration,
    /// No follower stands for election after a shorter silence of its leader.
    pub election_min: Duration,
    /// Every follower that can win has stood after this silence. Half of it is a leader's lease.
    pub election_max: Duration,
}

impl Default for RaftTimes {
    fn default() -> Self {
        RaftTimes {
            heartbeat: Duration::from_millis(150),
            election_min: Duration::from_millis(500),
            election_max: Duration::from_millis(1_000),
        }
    }
}

impl RaftTimes {
    /// How long a leader's lease is good after a majority was heard.
    pub fn lease(&self) -> Duration {
        self.election_max / 2
    }

    /// What a follower waits at least once the lease is over. openraft waits out the lease, then a
    /// timeout of its own, which it draws up to the length of the lease: together they end within
    /// the silences that were asked for.
    fn wait_min(&self) -> Duration {
        self.election_min.saturating_sub(self.lease()).max(self.lease() / 2)
    }

    /// Whether they go together: one lost heartbeat must not bring an election about, and two
    /// followers must rarely stand at once.
    pub fn check(&self) -> Result<(), String> {
        let RaftTimes { heartbeat, election_min, election_max } = *self;
        if heartbeat < Duration::from_millis(1) {
            return Err("the heartbeat must be at least 1 ms".into());
        }
        if heartbeat * 2 >= election_min {
            return Err(format!(
                "the shortest election timeout, election-min ({election_min:?}), must be more than \
                 two heartbeats ({heartbeat:?} each)"
            ));
        }
        if election_min >= election_max {
            return Err(format!(
                "the longest election timeout, election-max ({election_max:?}), must be more than \
                 the shortest, election-min ({election_min:?})"
            ));
        }
        if heartbeat * 4 >= election_max {
            return Err(format!(
                "the longest election timeout, election-max ({election_max:?}), must be more than \
                 four heartbeats ({heartbeat:?} each)"
            ));
        }
        Ok(())
    }
}

/// openraft's settings for a group.
pub(super) fn config(group: GroupId, times: RaftTimes) -> Result<Config> {
    let fatal = |error: String| Error::Fatal(format!("the settings of Raft: {error}"));
    times.check().map_err(fatal)?;
    let config = Config {
        cluster_name: format!("group-{group}"),
        heartbeat_interval: times.heartbeat.as_millis() as u64,
        election_timeout_min: times.wait_min().as_millis() as u64,
        election_timeout_max: times.lease().as_millis() as u64,
        // A candidate that can't win disturbs nobody.
        enable_pre_vote: Some(true),
        // A restarted leader must be elected again: in its old term it could reuse log ids that
        // followers committed and its own disk lost.
        enable_leader_restore: Some(false),
        // Checkpoints and purges are timed by the group's keeper, by bytes.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: u64::MAX,
        // Messages of entries are bounded by bytes, where they are read from the log.
        max_payload_entries: APPEND_ENTRIES_MAX,
        // Nothing is written there without openraft's feature for it.
        log_stage_capacity: Some(1),
        // Only told to the network, which has bounds of its own for each part of a sending.
        install_snapshot_timeout: SNAPSHOT_SILENCE_MAX.as_millis() as u64,
        ..Config::default()
    };
    config.validate().map_err(|error| fatal(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_that_do_not_go_together_are_refused() {
        let times = |heartbeat, min, max| RaftTimes {
            heartbeat: Duration::from_millis(heartbeat),
            election_min: Duration::from_millis(min),
            election_max: Duration::from_millis(max),
        };
        assert_eq!(RaftTimes::default().check(), Ok(()));
        assert_eq!(times(20, 41, 82).check(), Ok(()));
        assert!(times(20, 41, 80).check().is_err());
        assert!(times(20, 40, 80).check().is_err());
        assert!(times(0, 40, 80).check().is_err());
        assert!(times(20, 80, 80).check().is_err());
        assert!(config(GroupId(1), times(20, 60, 50)).is_err());
        assert!(config(GroupId(1), times(20, 60, 120)).is_ok());
    }

    #[test]
    fn elections_begin_within_the_silences_that_were_asked_for() {
        for (heartbeat, min, max) in [(150, 500, 1_000), (100, 400, 800), (20, 900, 1_000)] {
            let [heartbeat, election_min, election_max] =
                [heartbeat, min, max].map(Duration::from_millis);
            let times = RaftTimes { heartbeat, election_min, election_max };
            let config = config(GroupId(1), times).expect("they go together");
            let lease = config.election_timeout_max;
            assert!(lease + config.election_timeout_min >= min, "{times:?}");
            assert!(lease + config.election_timeout_max <= max, "{times:?}");
        }
    }
}
