//! Random choices from a seed, the same on every machine and with every version of every crate.

use std::ops::Bound;

use aspen::machine::ops::KeyRange;
use aspen::types::{Key, Value};
use bytes::Bytes;

/// SplitMix64.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// True once in `times`.
    pub(crate) fn once_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }

    pub(crate) fn pick<'a, A>(&mut self, from: &'a [A]) -> &'a A {
        &from[self.below(from.len() as u64) as usize]
    }

    pub(crate) fn bytes(&mut self, len_max: u64) -> Vec<u8> {
        let len = self.below(len_max + 1);
        (0..len).map(|_| self.next() as u8).collect()
    }

    /// One of few keys: some are the beginning of others, hold zero bytes, or are claims.
    pub(crate) fn key(&mut self) -> Key {
        const KEYS: [&[u8]; 14] = [
            b"a",
            b"a\0",
            b"a\0\x01",
            b"a\0\xff",
            b"ab",
            b"a/b",
            b"b",
            b"b/c/d",
            b"\0",
            b"\xff",
            b"\xff\xff",
            b"lock/0000000000000001",
            b"lock/0000000000000002",
            b"lock/other",
        ];
        Key::try_from(*self.pick(&KEYS)).unwrap()
    }

    pub(crate) fn value(&mut self) -> Value {
        Value::try_from(*self.pick(&["", "x", "y", "yy", "a longer value"])).unwrap()
    }

    fn bound(&mut self) -> Bound<Bytes> {
        let key = self.key().into_bytes();
        match self.below(5) {
            0 => Bound::Unbounded,
            1 | 2 => Bound::Included(key),
            _ => Bound::Excluded(key),
        }
    }

    /// A range of any kind, backward and empty ones included.
    pub(crate) fn range(&mut self) -> KeyRange {
        match self.below(8) {
            0 | 1 => KeyRange::all(),
            2 => KeyRange::one(&self.key()),
            3 => KeyRange::prefix(self.key().into_bytes()),
            4 => {
                const PREFIXES: [&[u8]; 4] = [b"", b"a", b"lock/", b"\xff"];
                KeyRange::prefix(*self.pick(&PREFIXES))
            }
            _ => KeyRange { start: self.bound(), end: self.bound() },
        }
    }
}
