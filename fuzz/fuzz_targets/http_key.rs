//! Any bytes for the target `http_key`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| aspen_fuzz::run("http_key", bytes));
