//! What load is, and when a lead is moved for it: see [`crate::roster::load`] and
//! [`crate::roster::balance`].

use std::time::Duration;

use super::{ANNOUNCE_GAP_MIN, LOAD_LOOK};

/// Most groups whose load is in an announcement, the busiest: each takes some ten bytes, which groups
/// that do nothing would otherwise have. The rest counts as idle.
pub const ANNOUNCEMENT_LOADS_MAX: usize = 32;
/// Below so many operations a second, counted by [`LOAD_BYTES_PER_OPERATION`], a group is idle: nothing
/// is moved for what is hardly felt.
pub const LOAD_MIN: u64 = 50;
/// Over how long loads are smoothed: longer than a burst.
pub const LOAD_SMOOTH: Duration = Duration::from_secs(5);
/// A lead is moved for its load if the larger load of both members becomes at most so many parts…
pub const LOAD_GAIN_TO: u64 = 4;
/// … of so many: less would be moved back by chance.
pub const LOAD_GAIN_OF: u64 = 5;
/// How long that must have been so: longer than it takes until all have heard that a load has ended.
pub const LOAD_STEADY: Duration = Duration::from_secs(5);
/// How long what a shard's last leader said of its load counts: a new one has measured little yet.
pub const LOAD_KEPT: Duration = Duration::from_secs(10);
/// How long a lead that was moved stays where it is, whatever its load.
pub const LOAD_REST: Duration = Duration::from_secs(30);
/// How many bytes count as one more operation: what a write of so many costs beyond one of few.
pub const LOAD_BYTES_PER_OPERATION: u64 = 4_096;

const _: () = {
    assert!(LOAD_GAIN_TO < LOAD_GAIN_OF);
    assert!(LOAD_SMOOTH.as_millis() < LOAD_KEPT.as_millis());
    assert!(LOAD_KEPT.as_millis() < LOAD_REST.as_millis());
    assert!(2 * (LOAD_LOOK.as_millis() + ANNOUNCE_GAP_MIN.as_millis()) < LOAD_STEADY.as_millis());
};
