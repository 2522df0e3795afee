//! Any bytes for the target `log_open`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| aspen_fuzz::run("log_open", bytes));
