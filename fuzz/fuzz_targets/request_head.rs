//! Any bytes for the target `request_head`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| aspen_fuzz::run("request_head", bytes));
