//! Which shard of a keyspace a key is in. This is for ever: keys lie where it says.
//!
//! Version 1: of the key's tag, or of the whole key if it has none, the first eight bytes of the
//! BLAKE3 hash as a little-endian number `h`; the shard is `h × shards / 2^64`, rounded down. A
//! key's tag is what stands between its first `{` and the next `}` after that, if it is not empty:
//! keys with one tag are in one shard, so that a transaction can be about all of them.

use std::ops::Bound;

use super::clients::ends_within;

/// The version that new keyspaces have.
pub const SPREAD: u8 = 1;

/// The shard of a key, of so many.
pub fn shard_of(key: &[u8], shards: u32) -> u32 {
    if shards == 1 {
        return 0;
    }
    let hash = blake3::hash(tag(key).unwrap_or(key));
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    let place = u128::from(u64::from_le_bytes(first)) * u128::from(shards);
    (place >> 64) as u32
}

/// A key's tag and where it ends.
fn tag_in(key: &[u8]) -> Option<(&[u8], usize)> {
    let open = key.iter().position(|byte| *byte == b'{')?;
    let inner = &key[open + 1..];
    let len = inner.iter().position(|byte| *byte == b'}').filter(|len| *len > 0)?;
    Some((&inner[..len], open + 1 + len + 1))
}

fn tag(key: &[u8]) -> Option<&[u8]> {
    tag_in(key).map(|(tag, _)| tag)
}

/// The one shard that has all keys of a range; `None` if several may have some.
pub fn shard_of_range(start: Bound<&[u8]>, end: Bound<&[u8]>, shards: u32) -> Option<u32> {
    if shards == 1 {
        return Some(0);
    }
    let (Bound::Included(first) | Bound::Excluded(first)) = start else { return None };
    if let (Bound::Included(first), Bound::Included(last)) = (start, end)
        && first == last
    {
        return Some(shard_of(first, shards));
    }
    let (_, tag_end) = tag_in(first)?;
    ends_within(end, &first[..tag_end]).then(|| shard_of(first, shards))
}
