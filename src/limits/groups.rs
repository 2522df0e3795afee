//! What the groups of one node share, when those sleep in which nothing happens (decision 14), and how
//! their replicas are given up and begun anew.

use std::time::Duration;

/// How long a group has nothing to do before it sleeps.
pub const REST_AFTER: Duration = Duration::from_secs(5);
/// The same of one that nobody has used since it was opened, and how long its replicas sleep before
/// they are put away: where many groups are made, or many opened by a start, most are not needed.
pub const REST_UNUSED_AFTER: Duration = Duration::from_millis(100);
/// How often a node looks which of its groups those are, unless some are unused, or others wait for
/// their turn to be opened.
pub const REST_LOOK: Duration = Duration::from_secs(1);
/// Most replicas of groups that sleep that a node keeps open, those that fell asleep last: the others
/// are put away, which saves some 200 KiB each, and costs whoever touches one next an opening and an
/// election.
pub const ASLEEP_OPEN_MAX: usize = 16;
/// How long a replica sleeps before it is put away.
pub const PUT_AWAY_AFTER: Duration = Duration::from_secs(60);
/// A node that holds no more groups than these opens them all at once.
pub const OPENED_FREELY_MAX: usize = 128;
/// Of a node that holds more, most replicas that are opened at a time without being needed: each keeps
/// its turn until it sleeps, or for as long as most take for that.
pub const OPENED_UNNEEDED_MAX: usize = 8;
/// How long a replica keeps its turn.
pub const OPENED_TURN: Duration = Duration::from_secs(3);
/// How long the message of another replica waits for one that is being opened.
pub const REPLICA_OPEN_WAIT: Duration = Duration::from_secs(1);
/// How long a member has to say which groups sleep on it.
pub const REST_ASK_MAX: Duration = Duration::from_millis(500);
/// How long a group's own heartbeat may be late while its leader's node is heard, before another may
/// stand for election.
pub const CLAIM_MAX: Duration = Duration::from_secs(3);
/// Most heartbeats, or votes that are asked for, in one message; a node with more groups sends several.
pub const GATHERED_MAX: usize = 512;
/// How long the heartbeats of one message wait for those of them that take long: these are not
/// answered, for the others may not wait.
pub const BEATS_WAIT_MAX: Duration = Duration::from_millis(100);
/// The same of votes, which are on disk before they are answered.
pub const VOTES_WAIT_MAX: Duration = Duration::from_millis(200);
/// How long a node rests after it could not erase a group that it holds no longer.
pub const GROUP_ERASE_RETRY: Duration = Duration::from_secs(5);
/// How long a replica that begins with nothing rests before it asks again how far its group is.
pub const PROGRESS_RETRY: Duration = Duration::from_millis(100);
/// How often a node whose replica is repaired looks whether it is there anew.
pub const REPAIR_LOOK: Duration = Duration::from_millis(100);
/// Entries by which a member may be behind without a word being said of its catching up: less than a
/// second's work.
pub const CATCH_UP_ENTRIES_MIN: u64 = 1_000;
/// How long a node rests after it could not note how far a repair is.
pub const REPAIR_RETRY: Duration = Duration::from_millis(500);
/// How long a group may be without a leader before its node counts as unable to serve it: longer than an
/// election takes, shorter than what is asked meanwhile waits.
pub const UNLED_MAX: Duration = Duration::from_secs(3);
