//! Random runs against the model, and what crashes leave of them.

use aspen::seams::Random;
use aspen::store::log::Recovery;

use super::rig::{Model, Rig, drive, matching, open_on};
use super::small;
use crate::crash_disk::{CrashDisk, Op, below};

/// A run of random operations, all of it driven to the end.
pub(crate) fn run(seed: u64, acts: usize) -> Rig {
    let random = Random::from_seed(seed);
    let mut rig = Rig::new(CrashDisk::recording(), random.clone());
    for _ in 0..acts {
        rig.act().unwrap();
    }
    rig.drive().unwrap();
    rig
}

fn undamaged(recovery: &Recovery) -> bool {
    recovery.damaged.is_empty() && recovery.tainted.is_none() && recovery.healed == 0
}

#[test]
fn a_log_holds_what_the_model_holds_across_restarts() {
    for seed in 0..60 {
        let random = Random::from_seed(seed);
        let mut rig = Rig::new(CrashDisk::new(), random.clone());
        for act in 0..300 {
            rig.act().unwrap();
            if random.next_u64().is_multiple_of(40) {
                let recovery = rig.reopen();
                assert!(undamaged(&recovery), "seed {seed}, act {act}: {recovery:?}");
                assert_eq!(recovery.cut, None, "seed {seed}, act {act}");
            }
            if let Err(difference) = rig.model.compare(&rig.log, &random) {
                panic!("seed {seed}, act {act}: {difference}");
            }
        }
        let files = rig.disk.files();
        rig.drive().unwrap();
        assert_eq!(rig.waiting(), 0, "seed {seed}: all are answered");
        assert!(files.len() < 40, "seed {seed}: segments are deleted, {} are left", files.len());
    }
}

#[test]
fn a_crash_image_holds_all_that_was_acknowledged_and_nothing_else() {
    let mut images = 0;
    let mut cuts = 0;
    for seed in 0..12 {
        let rig = run(seed, 150);
        let mut replay = rig.disk.replay();
        loop {
            let synced = match replay.step() {
                None => break,
                Some(op) => matches!(op, Op::Sync(_) | Op::SyncDir(_) | Op::Rename(..)),
            };
            for number in 0..if synced { 3 } else { 1 } {
                let at = replay.position();
                let random = Random::from_seed(seed << 32 | (at as u64) << 2 | number);
                let image = replay.image(&random);
                let place = format!("seed {seed}, position {at}, image {number}");
                let (log, _core, recovery) =
                    open_on(&image, small()).unwrap_or_else(|error| panic!("{place}: {error}"));
                assert!(undamaged(&recovery), "{place}: {recovery:?}");
                let bounds = rig.bounds(at);
                if let Err(difference) = matching(&rig.steps, bounds, &log, &random) {
                    panic!("{place}: {difference}");
                }
                images += 1;
                cuts += usize::from(recovery.cut.is_some());
            }
        }
    }
    assert!(images >= 1_000, "{images} images");
    assert!(cuts >= 100, "{cuts} of {images} images had a torn end");
}

/// Crashes a run at some moment of its history; gives what is left and what it may hold.
fn crash(rig: &Rig, random: &Random) -> (CrashDisk, (usize, usize)) {
    let mut replay = rig.disk.replay();
    let at = below(random, rig.disk.position() as u64 + 1) as usize;
    while replay.position() < at && replay.step().is_some() {}
    (replay.image(random), rig.bounds(at))
}

#[test]
fn a_log_that_crashes_again_and_again_loses_nothing() {
    for seed in 0..60 {
        let random = Random::from_seed(seed);
        let mut rig = Rig::new(CrashDisk::recording(), random.clone());
        for round in 0..12 {
            for _ in 0..25 {
                rig.act().unwrap();
            }
            let place = format!("seed {seed}, round {round}");
            let (image, bounds) = crash(&rig, &random);
            let image = image.recorded();
            let (log, core, recovery) = open_on(&image, small()).unwrap();
            assert!(undamaged(&recovery), "{place}: {recovery:?}");
            let count = matching(&rig.steps, bounds, &log, &random)
                .unwrap_or_else(|difference| panic!("{place}: {difference}"));
            rig = rig.continued(image, log, core, count);
        }
    }
}

#[test]
fn the_cut_of_a_torn_end_may_be_cut_short() {
    let mut cuts = 0;
    for seed in 0..400 {
        let random = Random::from_seed(seed);
        let rig = run(seed, 30);
        let (image, bounds) = crash(&rig, &random);
        let image = image.recorded();
        let (_, _, recovery) = open_on(&image, small()).unwrap();
        if recovery.cut.is_none() {
            continue;
        }
        cuts += 1;
        let mut replay = image.replay();
        while replay.step().is_some() {
            let (log, _core, recovery) = open_on(&replay.image(&random), small()).unwrap();
            assert!(undamaged(&recovery), "seed {seed}: {recovery:?}");
            if let Err(difference) = matching(&rig.steps, bounds, &log, &random) {
                panic!("seed {seed}, position {}: {difference}", replay.position());
            }
        }
    }
    assert!(cuts > 20, "{cuts} images had a torn end");
}

#[test]
fn a_crash_while_a_log_is_made_leaves_an_empty_one() {
    let disk = CrashDisk::recording();
    drop(open_on(&disk, small()).unwrap());
    let mut replay = disk.replay();
    while replay.step().is_some() {
        for seed in 0..20 {
            let random = Random::from_seed(seed);
            let image = replay.image(&random);
            let (log, mut core, recovery) = open_on(&image, small()).unwrap();
            assert!(undamaged(&recovery), "{recovery:?}");
            Model::default().compare(&log, &random).unwrap();
            drive(&mut core).unwrap();
        }
    }
}
