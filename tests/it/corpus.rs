//! What the fuzzer is fed with: each target holds on each of its seeds, and each form is that of one.

use std::collections::BTreeSet;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use targets::{Holds, TARGETS, Target};

#[path = "../../fuzz/src/targets/mod.rs"]
#[expect(dead_code, reason = "how much memory is taken, the fuzzer looks at")]
mod targets;

const SEED_BYTES_MAX: usize = 4 * 1024;

fn names(folder: &str) -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(folder).unwrap();
    let stem = |path: PathBuf| path.file_stem().unwrap().to_str().unwrap().to_owned();
    entries.map(|entry| stem(entry.unwrap().path())).collect()
}

/// The seeds of a target. What the fuzzer adds to them is not kept.
fn seeds(target: &Target) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.filter(|path| path.extension().is_some_and(|it| it == "seed")).collect()
}

#[test]
fn targets_their_binaries_and_their_seeds_go_together() {
    let known: BTreeSet<String> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    assert_eq!(names("fuzz/fuzz_targets"), known);
    assert_eq!(names("fuzz/corpus"), known);
}

#[test]
fn every_target_holds_on_every_seed() {
    let mut unread = Vec::new();
    for target in TARGETS {
        let seeds = seeds(target);
        assert!(!seeds.is_empty(), "{} has no seeds", target.name);
        let mut read = BTreeSet::new();
        for seed in seeds {
            let bytes = fs::read(&seed).unwrap();
            assert!(bytes.len() <= SEED_BYTES_MAX, "{} is too long", seed.display());
            let ran = catch_unwind(|| target.run(&bytes));
            read.extend(ran.unwrap_or_else(|_| panic!("{} fails", seed.display())));
        }
        if let Holds::Forms(forms) = target.holds {
            let forms = forms.iter().map(|form| form.name);
            unread.extend(forms.filter(|form| !read.contains(form)));
        }
    }
    assert!(unread.is_empty(), "no seed is read as {unread:?}");
}
