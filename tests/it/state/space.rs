//! The guard on free space, at its edges.

use std::path::PathBuf;
use std::sync::Arc;

use aspen::limits::{SPACE_FREE_PERCENT_MIN, SPACE_FREE_PERCENT_WARN};
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
