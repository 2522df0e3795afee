//! Applying a command: the one way in which a shard's state changes.
//!
//! Total and deterministic: any command that decodes is applied or refused, the same on every
//! replica, validated or not. A refusal leaves no trace but the remembered answer of its session.
//! An error of the tables may leave a command half written: the caller drops what it wrote.

use super::draft::Draft;
use super::ops::{Action, Answer, AnswerBody, Command, Event, Outcome};
use super::rows::meta::Counters;
use super::session::{self, Gate};
use super::stop::{Stop, settle};
use super::tables::{TableError, WriteTables};
use super::{claim, compact, lease, write};
use crate::types::LeaseId;

/// What applying a command came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Applied {
    /// The answer, or the refusal.
    pub outcome: Outcome,
    /// What watchers are told: the changes of one revision, in order. None for a command that was
    /// answered from memory.
    pub events: Vec<Event>,
    /// What the keeper of the leases' time is told.
    pub leases: LeaseChanges,
}

/// The leases that a command made and ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LeaseChanges {
    /// Made, with their time to live in milliseconds.
    pub granted: Vec<(LeaseId, u64)>,
    /// Ended.
    pub ended: Vec<LeaseId>,
}

/// Applies the command at a log index.
pub fn apply<T: WriteTables>(
    tables: &mut T,
    index: u64,
    command: &Command,
) -> Result<Applied, TableError> {
    let stored = Counters::load(tables)?;
    let mut counters = stored;
    let session = match &command.session {
        None => None,
        Some(place) => match session::gate(tables, place)? {
            Gate::Apply(row) => Some((place, row)),
            Gate::Answered(outcome) => {
                return Ok(Applied {
                    outcome,
                    events: Vec::new(),
                    leases: LeaseChanges::default(),
                });
            }
        },
    };
    let acted = settle(act(tables, &mut counters, index, &command.action))?;
    let (outcome, events, leases) = match acted {
        Ok(Acted { body, events, leases }) => {
            (Ok(Answer { revision: counters.revision, body }), events, leases)
        }
        Err(refusal) => (Err(refusal), Vec::new(), LeaseChanges::default()),
    };
    if let Some((place, row)) = session {
        // Closing a session, or opening one more, may end the session that the command is in.
        let ended = matches!(command.action, Action::SessionOpen | Action::SessionClose { .. })
            && !session::is_open(tables, place.id)?;
        if !ended {
            session::remember(tables, index, place, row, &outcome, counters.revision)?;
        }
    }
    if counters != stored {
        counters.save(tables)?;
    }
    Ok(Applied { outcome, events, leases })
}

/// What an action came to, if it was not refused.
struct Acted {
    body: AnswerBody,
    events: Vec<Event>,
    leases: LeaseChanges,
}

/// Does an action. Those that write no keys and can't be refused once they began write as they
/// go; the others are drafted, then committed.
fn act<T: WriteTables>(
    tables: &mut T,
    counters: &mut Counters,
    index: u64,
    action: &Action,
) -> Result<Acted, Stop> {
    let mut draft = Draft::new(*counters)?;
    let body = match action {
        Action::SessionOpen => AnswerBody::Session(session::open(tables, counters, index)?),
        Action::SessionClose { id } => {
            session::close(tables, counters, *id)?;
            AnswerBody::Done
        }
        Action::Compact { revision } => compact::compact(tables, counters, *revision)?,
        Action::CompactStep => compact::step(tables, counters)?,
        Action::Put(put) => write::put(tables, &mut draft, put)?,
        Action::Delete(delete) => write::delete(tables, &mut draft, delete)?,
        Action::Txn(txn) => write::txn(tables, &mut draft, txn)?,
        Action::LeaseGrant { id, ttl_ms } => lease::grant(tables, &mut draft, index, *id, *ttl_ms)?,
        Action::LeaseRevoke { id } => lease::revoke(tables, &mut draft, *id)?,
        Action::LeaseExpire { ids } => lease::expire(tables, &mut draft, ids)?,
        Action::Claim(claim) => claim::claim(tables, &mut draft, claim)?,
        Action::Proclaim { name, lease, value } => {
            claim::proclaim(tables, &mut draft, name, *lease, value)?
        }
        Action::Release { name, lease } => claim::release(tables, &mut draft, name, *lease)?,
    };
    let (events, leases) = draft.commit(tables, counters)?;
    Ok(Acted { body, events, leases })
}
