//! The process's only entropy: a sequence from one seed.
//!
//! Code below us that we did not write asks the system for randomness: the keys of std's hash
//! maps, from which tokio seeds its own choices, and `rand`'s thread generator. All of it ends in
//! the C function `getrandom`, which the linker takes from here instead of from the C library. So
//! a seed repeats the whole process, and no library needs a build of its own for that. It is why
//! one process simulates one seed: what was drawn before is part of what comes next.
#![allow(unsafe_code, reason = "a symbol of the C library can't be replaced without")]

use std::sync::atomic::{AtomicU64, Ordering};

static STATE: AtomicU64 = AtomicU64::new(0);

/// Begins the sequence of a seed; to be called before anything draws from it.
pub(crate) fn begin(seed: u64) {
    STATE.store(seed, Ordering::Relaxed);
}

/// The next number: SplitMix64.
fn next() -> u64 {
    let state = STATE.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
    let mixed = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

/// Stands in for the C library's function of this name.
///
/// # Safety
///
/// As there: `buffer` has room for `len` bytes.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(buffer: *mut u8, len: usize, _flags: u32) -> isize {
    for at in 0..len {
        // SAFETY: `at` is below `len`, and the caller promises that many bytes.
        unsafe { buffer.add(at).write(next() as u8) };
    }
    len as isize
}
