//! Client sessions: a command that carries its place in one is applied once, however often it is
//! proposed.
//!
//! The outcome of each command, refusals included, is remembered under its sequence number until
//! the client says that it has it. Commands may arrive in any order. A command is
//!
//! - refused with `SessionExpired` if the session is not known,
//! - refused with `AnswerAcknowledged` if its answer was forgotten,
//! - answered from memory if it was applied before,
//! - refused with `SessionFull` if it is [`SESSION_ANSWERS_MAX`] or more ahead of the oldest
//!   unacknowledged one (so that the answers remembered are bounded without counting them),
//! - applied otherwise.
//!
//! These four refusals are not remembered. To write a session's row seldom, answers are forgotten
//! in strides of [`FORGET_STRIDE`], and the order of use, by which sessions are evicted, is kept
//! to within [`USE_STRIDE`] log indexes. So an answer may be remembered for a little longer than it
//! must be; and a command that its client gave up and acknowledged without an answer may, until
//! the next stride, still be applied if it arrives after all, as its unknown outcome says.

use std::ops::{Bound, ControlFlow};

use super::ops::{Outcome, SessionSeq};
use super::rows::meta::{Counters, count};
use super::rows::sessions::{
    SessionRow, answer_key, decode_answer, decode_use_key, encode_answer, session_key, use_key,
    use_start,
};
use super::tables::{ReadTables, Table, TableError, WriteTables};
use crate::error::Refusal;
use crate::limits::{SESSION_ANSWERS_MAX, SESSIONS_MAX};
use crate::types::{Revision, SessionId};

/// Acknowledged answers that may wait to be forgotten together.
const FORGET_STRIDE: u64 = 32;
/// Log indexes by which a session's place in the order of use may lag.
const USE_STRIDE: u64 = 1_024;

/// What is to be done with a command that has a place in a session.
pub(crate) enum Gate {
    /// Apply it, then remember its outcome.
    Apply(SessionRow),
    /// It is answered already.
    Answered(Outcome),
}

pub(crate) fn gate<T: ReadTables + ?Sized>(
    tables: &T,
    place: &SessionSeq,
) -> Result<Gate, TableError> {
    let Some(row) = SessionRow::load(tables, place.id)? else {
        return Ok(Gate::Answered(Err(Refusal::SessionExpired)));
    };
    if place.seq < row.forgotten_below {
        return Ok(Gate::Answered(Err(Refusal::AnswerAcknowledged)));
    }
    if let Some(answer) = tables.get(Table::Answers, &answer_key(place.id, place.seq))? {
        return Ok(Gate::Answered(decode_answer(&answer)?));
    }
    if place.seq - acked_below(&row, place) >= SESSION_ANSWERS_MAX {
        return Ok(Gate::Answered(Err(Refusal::SessionFull)));
    }
    Ok(Gate::Apply(row))
}

/// Whether the session is known.
pub(crate) fn is_open<T: ReadTables + ?Sized>(
    tables: &T,
    id: SessionId,
) -> Result<bool, TableError> {
    Ok(SessionRow::load(tables, id)?.is_some())
}

/// All answers below this number can be forgotten; never the command's own.
fn acked_below(row: &SessionRow, place: &SessionSeq) -> u64 {
    place.acked_below.max(row.forgotten_below).min(place.seq)
}

/// Remembers the outcome of a command that was applied.
pub(crate) fn remember<T: WriteTables>(
    tables: &mut T,
    index: u64,
    place: &SessionSeq,
    row: SessionRow,
    outcome: &Outcome,
    revision: Revision,
) -> Result<(), TableError> {
    let answer = encode_answer(outcome, revision);
    tables.put(Table::Answers, &answer_key(place.id, place.seq), &answer)?;

    let mut next = row;
    let acked_below = acked_below(&row, place);
    if acked_below - row.forgotten_below >= FORGET_STRIDE {
        next.forgotten_below = acked_below;
        forget(tables, place.id, row.forgotten_below, acked_below)?;
    }
    if index.saturating_sub(row.used) >= USE_STRIDE {
        next.used = index;
        tables.delete(Table::Sessions, &use_key(row.used, place.id))?;
        tables.put(Table::Sessions, &use_key(index, place.id), &[])?;
    }
    if next != row {
        tables.put(Table::Sessions, &session_key(place.id), &next.encode())?;
    }
    Ok(())
}

/// Removes the answers of a session from one sequence number up to another, which is excluded.
fn forget<T: WriteTables>(
    tables: &mut T,
    id: SessionId,
    from: u64,
    below: u64,
) -> Result<(), TableError> {
    remove_answers(tables, &answer_key(id, from), Bound::Excluded(&answer_key(id, below)[..]))
}

fn remove_answers<T: WriteTables>(
    tables: &mut T,
    start: &[u8],
    end: Bound<&[u8]>,
) -> Result<(), TableError> {
    let mut keys = Vec::new();
    tables.scan(Table::Answers, Bound::Included(start), end, false, &mut |row_key, _| {
        keys.push(row_key.to_vec());
        Ok(ControlFlow::Continue(()))
    })?;
    for key in keys {
        tables.delete(Table::Answers, &key)?;
    }
    Ok(())
}

/// Opens the session whose id is the command's log index; evicts the one that is unused for
/// longest if there are as many as may be.
pub(crate) fn open<T: WriteTables>(
    tables: &mut T,
    counters: &mut Counters,
    index: u64,
) -> Result<SessionId, TableError> {
    let id = SessionId(index);
    if SessionRow::load(tables, id)?.is_some() {
        return Ok(id);
    }
    while counters.sessions >= SESSIONS_MAX {
        let mut oldest = None;
        tables.scan(Table::Sessions, use_start(), Bound::Unbounded, false, &mut |row_key, _| {
            oldest = Some(decode_use_key(row_key)?);
            Ok(ControlFlow::Break(()))
        })?;
        match oldest {
            Some(oldest) => close(tables, counters, oldest)?,
            None => return Err(super::rows::corrupt(Table::Sessions, "the order of use is lost")),
        }
    }
    let row = SessionRow { forgotten_below: 0, used: index };
    tables.put(Table::Sessions, &session_key(id), &row.encode())?;
    tables.put(Table::Sessions, &use_key(index, id), &[])?;
    count(Table::Sessions, &mut counters.sessions, 1)?;
    Ok(id)
}

/// Ends a session and forgets its answers; one that is not there is passed over.
pub(crate) fn close<T: WriteTables>(
    tables: &mut T,
    counters: &mut Counters,
    id: SessionId,
) -> Result<(), TableError> {
    let Some(row) = SessionRow::load(tables, id)? else {
        return Ok(());
    };
    tables.delete(Table::Sessions, &session_key(id))?;
    tables.delete(Table::Sessions, &use_key(row.used, id))?;
    count(Table::Sessions, &mut counters.sessions, -1)?;
    remove_answers(tables, &answer_key(id, 0), Bound::Included(&answer_key(id, u64::MAX)[..]))
}
