//! Any bytes for the target `client_ticket`.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| aspen_fuzz::run("client_ticket", bytes));
