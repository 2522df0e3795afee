//! Any bytes for the target `texts`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| aspen_fuzz::run("texts", bytes));
