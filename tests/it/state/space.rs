//! The guard on free space, at its edges.

use std::path::PathBuf;
use std::sync::Arc;

use aspen::limits::{SPACE_FREE_PERCENT_AGAIN, SPACE_FREE_PERCENT_MIN, SPACE_FREE_PERCENT_WARN};
use aspen::store::space::{Room, SpaceGuard};

use crate::node::disk::TestDisk;

#[test]
fn room_is_what_the_last_sample_says() {
    let disk = TestDisk::new();
    let guard = SpaceGuard::new(Arc::new(disk.clone()), PathBuf::from("data")).unwrap();
    let same = guard.clone();
    for percent in 0..=100 {
        let room = match percent {
            percent if percent < SPACE_FREE_PERCENT_MIN => Room::Full,
            percent if percent < SPACE_FREE_PERCENT_WARN => Room::Low,
            _ => Room::Enough,
        };
        let before = guard.free_percent();
        disk.set_free_percent(percent);
        assert_eq!(guard.free_percent(), before, "nobody looked");
        assert_eq!(guard.sample().unwrap(), room, "{percent} percent");
        assert_eq!((same.room(), same.free_percent()), (room, percent));
    }
}

/// A disk at the edge: from full to little more and back is one change.
#[test]
fn who_was_full_is_crowded_until_there_is_some_more() {
    let disk = TestDisk::new();
    let guard = SpaceGuard::new(Arc::new(disk.clone()), PathBuf::from("data")).unwrap();
    let crowded_at = |percent| {
        disk.set_free_percent(percent);
        guard.sample().unwrap();
        guard.is_crowded()
    };
    let edge = SPACE_FREE_PERCENT_MIN..SPACE_FREE_PERCENT_AGAIN;
    assert!(edge.clone().all(|percent| !crowded_at(percent)));
    assert!(crowded_at(SPACE_FREE_PERCENT_MIN - 1));
    assert!(edge.clone().all(crowded_at));
    assert!(!crowded_at(SPACE_FREE_PERCENT_AGAIN));
    assert!(edge.clone().all(|percent| !crowded_at(percent)));
}

#[test]
fn a_log_that_waits_for_room_is_a_full_disk_whatever_the_sample_says() {
    let starves = tokio::sync::watch::Sender::new(false);
    let guard = SpaceGuard::new(Arc::new(TestDisk::new()), PathBuf::from("data")).unwrap();
    let guard = guard.with_log(starves.subscribe());
    assert_eq!((guard.room(), guard.is_crowded()), (Room::Enough, false));
    starves.send_replace(true);
    assert_eq!((guard.sample().unwrap(), guard.is_crowded()), (Room::Full, true));
    starves.send_replace(false);
    assert_eq!((guard.room(), guard.is_crowded()), (Room::Enough, false));
}
