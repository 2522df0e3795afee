//! Any bytes for the target `records`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| aspen_fuzz::run("records", bytes));
