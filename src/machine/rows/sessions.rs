//! The `Sessions` and `Answers` tables.
//!
//! ```text
//! Sessions  0 · session u64                → forgotten below · used          (varints)
//! Sessions  1 · used u64 · session u64     → (empty)           oldest use first
//! Answers   session u64 · sequence u64     → 0 · outcome (postcard)
//! Answers   session u64 · sequence u64     → 1 · revision (varint)   too large to keep
//! ```
//!
//! `used` is a log index near that of the session's last command (see `session`).

use std::ops::Bound;

use super::{Reader, corrupt, write_varint};
use crate::error::Refusal;
use crate::limits::SESSION_ANSWER_BYTES_MAX;
use crate::machine::ops::Outcome;
use crate::machine::tables::{ReadTables, Table, TableError};
use crate::types::{Revision, SessionId};

const BY_ID: u8 = 0;
const BY_USE: u8 = 1;
const KEPT: u8 = 0;
const TOO_LARGE: u8 = 1;

/// A session's row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SessionRow {
    /// Answers below this sequence number are gone; all at or above it that were given are kept.
    pub(crate) forgotten_below: u64,
    /// The log index under which the session stands in the order of use.
    pub(crate) used: u64,
}

impl SessionRow {
    pub(crate) fn load<T: ReadTables + ?Sized>(
        tables: &T,
        id: SessionId,
    ) -> Result<Option<SessionRow>, TableError> {
        match tables.get(Table::Sessions, &session_key(id))? {
            Some(row) => Ok(Some(SessionRow::decode(&row)?)),
            None => Ok(None),
        }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = Vec::new();
        write_varint(&mut row, self.forgotten_below);
        write_varint(&mut row, self.used);
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Result<SessionRow, TableError> {
        let mut reader = Reader::new(Table::Sessions, row);
        let session = SessionRow { forgotten_below: reader.varint()?, used: reader.varint()? };
        reader.end()?;
        Ok(session)
    }
}

/// The key of a session's row.
pub(crate) fn session_key(id: SessionId) -> [u8; 9] {
    let mut key = [BY_ID; 9];
    key[1..].copy_from_slice(&id.0.to_be_bytes());
    key
}

/// The key of a session's row in the order of use.
pub(crate) fn use_key(used: u64, id: SessionId) -> [u8; 17] {
    let mut key = [BY_USE; 17];
    key[1..9].copy_from_slice(&used.to_be_bytes());
    key[9..].copy_from_slice(&id.0.to_be_bytes());
    key
}

/// The start of the rows in the order of use; nothing comes after them.
pub(crate) fn use_start() -> Bound<&'static [u8]> {
    Bound::Included(&[BY_USE])
}

/// The session of a row in the order of use.
pub(crate) fn decode_use_key(row_key: &[u8]) -> Result<SessionId, TableError> {
    let mut reader = Reader::new(Table::Sessions, row_key);
    if reader.byte()? != BY_USE {
        return Err(reader.corrupt("a row of an unknown kind"));
    }
    reader.u64_be()?;
    let id = SessionId(reader.u64_be()?);
    reader.end()?;
    Ok(id)
}

/// The key of a remembered answer.
pub(crate) fn answer_key(id: SessionId, seq: u64) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&id.0.to_be_bytes());
    key[8..].copy_from_slice(&seq.to_be_bytes());
    key
}

/// An answer's row: the outcome if it is small enough, or the revision at which it was given.
pub(crate) fn encode_answer(outcome: &Outcome, revision: Revision) -> Vec<u8> {
    let mut kept = [0; 1 + SESSION_ANSWER_BYTES_MAX];
    kept[0] = KEPT;
    match postcard::to_slice(outcome, &mut kept[1..]).map(|bytes| bytes.len()) {
        Ok(len) => kept[..1 + len].to_vec(),
        Err(_) => {
            let mut row = vec![TOO_LARGE];
            write_varint(&mut row, revision);
            row
        }
    }
}

/// What a repeated command is answered.
pub(crate) fn decode_answer(row: &[u8]) -> Result<Outcome, TableError> {
    let mut reader = Reader::new(Table::Answers, row);
    match reader.byte()? {
        KEPT => match postcard::take_from_bytes(reader.rest()) {
            Ok((outcome, [])) => Ok(outcome),
            Ok(_) => Err(corrupt(Table::Answers, "an answer has bytes left over")),
            Err(_) => Err(corrupt(Table::Answers, "an answer does not decode")),
        },
        TOO_LARGE => {
            let revision = reader.varint()?;
            reader.end()?;
            Ok(Err(Refusal::AnswerForgotten { revision }))
        }
        _ => Err(reader.corrupt("an answer of an unknown kind")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::ops::{Answer, AnswerBody, ClaimState, Holder};
    use crate::types::{Key, LeaseId, Value};

    #[test]
    fn sessions_have_this_layout() {
        let session = SessionRow { forgotten_below: 3, used: 200 };
        assert_eq!(session.encode(), [3, 0xc8, 0x01]);
        assert_eq!(SessionRow::decode(&session.encode()), Ok(session));
        for row in [&b""[..], &[1], &[1, 1, 1]] {
            assert!(SessionRow::decode(row).is_err(), "{row:?}");
        }
        assert_eq!(session_key(SessionId(7)), [0, 0, 0, 0, 0, 0, 0, 0, 7]);
        let by_use = use_key(2, SessionId(7));
        assert_eq!(by_use, [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(decode_use_key(&by_use), Ok(SessionId(7)));
        assert!(decode_use_key(&session_key(SessionId(7))).is_err());
        assert_eq!(answer_key(SessionId(7), 2), [0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 2]);
    }

    #[test]
    fn answers_have_this_layout() {
        let done: Outcome = Ok(Answer { revision: 3, body: AnswerBody::Put { prev: None } });
        assert_eq!(encode_answer(&done, 3), [0, 0, 3, 2, 0]);
        assert_eq!(decode_answer(&[0, 0, 3, 2, 0]), Ok(done));
        let refused: Outcome = Err(Refusal::KeyNotFound);
        assert_eq!(encode_answer(&refused, 3), [0, 1, 6]);
        assert_eq!(decode_answer(&[0, 1, 6]), Ok(refused));

        let large: Outcome = Ok(Answer {
            revision: 300,
            body: AnswerBody::Claim(ClaimState {
                own: None,
                holder: Some(Holder {
                    key: Key::try_from("k").unwrap(),
                    lease: LeaseId(1),
                    token: 1,
                    value: Value::new(vec![0; SESSION_ANSWER_BYTES_MAX]).unwrap(),
                }),
                waiting: 0,
            }),
        });
        assert_eq!(encode_answer(&large, 300), [1, 0xac, 0x02]);
        let forgotten = Err(Refusal::AnswerForgotten { revision: 300 });
        assert_eq!(decode_answer(&[1, 0xac, 0x02]), Ok(forgotten));

        for row in [&b""[..], &[2], &[0], &[0, 0, 3, 2, 0, 0], &[1], &[1, 1, 1]] {
            assert!(decode_answer(row).is_err(), "{row:?}");
        }
    }
}
