//! Where a listing continues: an opaque text that holds the listing's revision of each shard, its
//! order and the last key it answered.
//!
//! A cursor is the client's to keep, so it is checked like any input: its version, its length to
//! the byte, and that the listing it is given to is the one it came from.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::ops::Bound;

use super::problem::{self, Problem};
use crate::client::Position;
use crate::limits::{KEY_BYTES_MAX, KEYSPACE_SHARDS_MAX};
use crate::machine::ops::KeyRange;
use crate::types::{Form, Key, Revision, Spelt};

/// The first byte of a cursor; another one is of a version that this door does not know.
const VERSION: u8 = 3;

/// Longest cursor: the version, the keyspace, a varint a shard, two more and a key, in base64.
const CURSOR_CHARS_MAX: usize =
    (KEY_BYTES_MAX + 32 + 10 * KEYSPACE_SHARDS_MAX as usize) * 4 / 3 + 4;

/// A place in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Cursor {
    /// The keyspace, and the revision of each shard that all pages of the listing are of.
    pub(super) position: Position,
    /// The listing goes from the greatest key to the least.
    pub(super) descending: bool,
    /// The last key that was answered.
    pub(super) last: Key,
}

impl Cursor {
    /// The cursor as a client keeps it.
    pub(super) fn to_text(&self) -> String {
        let bytes = postcard::to_extend(self, vec![VERSION])
            .expect("numbers, a bool and a key always encode");
        BASE64_URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a cursor back.
    pub(super) fn from_text(text: &[u8]) -> Result<Self, Problem> {
        if text.len() > CURSOR_CHARS_MAX {
            return Err(refuse("it is too long"));
        }
        let bytes =
            BASE64_URL_SAFE_NO_PAD.decode(text).map_err(|_| refuse("it is not base64url"))?;
        match bytes.split_first() {
            Some((&VERSION, body)) => match postcard::take_from_bytes::<Cursor>(body) {
                Ok((cursor, [])) => Ok(cursor),
                _ => Err(refuse("it is cut off or altered")),
            },
            _ => Err(refuse("it is of another version")),
        }
    }

    /// What is left of the range after the cursor; refused if the cursor is not of this listing.
    pub(super) fn rest_of(
        self,
        range: KeyRange,
        descending: bool,
        revision: Option<Revision>,
    ) -> Result<KeyRange, Problem> {
        if self.descending != descending {
            return Err(refuse("its order is another one"));
        }
        if revision.is_some_and(|revision| !self.position.revisions.contains(&revision)) {
            return Err(refuse("its revision is another one"));
        }
        if !range.contains(self.last.as_bytes()) {
            return Err(refuse("its range is another one"));
        }
        let last: Bytes = self.last.into_bytes();
        Ok(match descending {
            false => KeyRange { start: Bound::Excluded(last), end: range.end },
            true => KeyRange { start: range.start, end: Bound::Excluded(last) },
        })
    }
}

pub(super) const FORM: Form = Form {
    name: "cursor",
    again: |text| Some(Cursor::from_text(text).ok()?.to_text().into_bytes()),
    spelt: Spelt::Freely,
};

/// The listing that it came from was one of another keyspace.
pub(super) fn of_another_keyspace() -> Problem {
    refuse("it is of another keyspace, or of an earlier one of this name")
}

fn refuse(why: &str) -> Problem {
    let detail =
        format!("the cursor does not continue this query: {why}; start again without a cursor");
    Problem::new(&problem::BAD_CURSOR, detail)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::GroupId;
    use proptest::prelude::*;

    fn cursor(last: &[u8]) -> Cursor {
        let position = Position { keyspace: Some(GroupId(5)), revisions: vec![300] };
        Cursor { position, descending: false, last: Key::try_from(last).unwrap() }
    }

    #[test]
    fn the_form_is_fixed() {
        // 03 version, 01 05 keyspace, 01 one shard, ac 02 revision 300, 00 ascending, 02 "ab"
        assert_eq!(cursor(b"ab").to_text(), "AwEFAawCAAJhYg");
        assert_eq!(Cursor::from_text(b"AwEFAawCAAJhYg").unwrap(), cursor(b"ab"));
    }

    #[test]
    fn the_longest_key_fits() {
        let longest = cursor(&[0xff; KEY_BYTES_MAX]);
        let longest = Cursor {
            position: Position {
                keyspace: Some(GroupId(u64::MAX)),
                revisions: vec![Revision::MAX; KEYSPACE_SHARDS_MAX as usize],
            },
            ..longest
        };
        assert_eq!(Cursor::from_text(longest.to_text().as_bytes()).unwrap(), longest);
    }

    #[test]
    fn an_altered_cursor_is_refused() {
        for bad in [
            "",
            "A",
            "AwEFAawCAAJhYg==",
            "AwEFAawCAAJhYgA",
            "AwEFAawCAAJhY",
            "AgEFAawCAAJhYg",
            "AwEFAawCAAA",
            "%",
        ] {
            let problem = Cursor::from_text(bad.as_bytes()).unwrap_err();
            assert_eq!(problem.name(), "bad-cursor", "{bad}");
        }
        assert!(Cursor::from_text(&[b'A'; CURSOR_CHARS_MAX + 1]).is_err());
    }

    #[test]
    fn a_cursor_continues_only_the_listing_it_came_from() {
        let rest = |range, descending, revision| cursor(b"ab").rest_of(range, descending, revision);
        let after = rest(KeyRange::prefix("a"), false, None).unwrap();
        assert!(!after.contains(b"ab") && after.contains(b"ab\0") && !after.contains(b"b"));
        assert!(rest(KeyRange::all(), false, Some(300)).is_ok());
        assert!(rest(KeyRange::all(), false, Some(301)).is_err());
        assert!(rest(KeyRange::all(), true, None).is_err());
        assert!(rest(KeyRange::prefix("b"), false, None).is_err());
        let down = Cursor { descending: true, ..cursor(b"ab") };
        let before = down.rest_of(KeyRange::prefix("a"), true, None).unwrap();
        assert!(before.contains(b"a") && !before.contains(b"ab") && !before.contains(b"b"));
    }

    proptest! {
        #[test]
        fn nothing_panics_on_any_text(text: Vec<u8>) {
            let _ = Cursor::from_text(&text);
        }

        #[test]
        fn nothing_panics_on_any_bytes(bytes: Vec<u8>) {
            let bytes = [&[VERSION][..], &bytes].concat();
            let _ = Cursor::from_text(BASE64_URL_SAFE_NO_PAD.encode(bytes).as_bytes());
        }
    }
}
