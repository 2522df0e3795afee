//! A client's session: what makes each of its writes happen once.
//!
//! Each write takes a turn: a sequence number that it keeps over all its tries. The machine
//! remembers the answers of all turns that are not over, so a repeated write is answered and not
//! done again. The session is opened with the first write. Turns are given out only within the
//! window of answers that the machine remembers, so one write that takes long makes the others
//! wait and never has them refused.

use std::collections::BTreeSet;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, timeout_at};

use super::group::GroupClient;
use super::request::{Proof, Reply, Request};
use super::{busy, unexpected};
use crate::error::{Error, Result};
use crate::limits::SESSION_ANSWERS_MAX;
use crate::machine::ops::{Action, AnswerBody, Command, SessionSeq};
use crate::types::SessionId;

/// The session of one client with one group.
#[derive(Debug, Default)]
pub(super) struct Session {
    turns: Arc<Mutex<Turns>>,
    /// Held while a session is opened, so that one is opened for all who wait.
    opening: tokio::sync::Mutex<()>,
    /// Told when a turn is over.
    over: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Turns {
    id: Option<SessionId>,
    proof: Option<Proof>,
    last: u64,
    open: BTreeSet<u64>,
}

/// One write's place in its session, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Mutex<Turns>>,
    over: Arc<Notify>,
    place: SessionSeq,
    proof: Option<Proof>,
}

impl Turn {
    /// What the command carries.
    pub(super) fn place(&self) -> SessionSeq {
        self.place
    }

    /// That the session is this client's.
    pub(super) fn proof(&self) -> Option<Proof> {
        self.proof
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = lock(&self.turns);
        if turns.id == Some(self.place.id) {
            turns.open.remove(&self.place.seq);
        }
        drop(turns);
        self.over.notify_waiters();
    }
}

fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// The next turn, in a session opened for it if there is none.
    pub(super) async fn turn(&self, client: &GroupClient, deadline: Instant) -> Result<Turn> {
        loop {
            // Listened to before looking, so that no turn ends unnoticed in between.
            let mut over = pin!(self.over.notified());
            over.as_mut().enable();
            match self.next() {
                Next::Turn(turn) => return Ok(turn),
                Next::WindowFull => timeout_at(deadline, over).await.map_err(|_| busy())?,
                Next::NoSession => {
                    let opening = self.opening.lock();
                    let _opening = timeout_at(deadline, opening).await.map_err(|_| {
                        let reason = "a session could not be opened in time".into();
                        Error::Unavailable { group: client.inner.group, reason }
                    })?;
                    if lock(&self.turns).id.is_none() {
                        let (id, proof) = open(client, deadline).await?;
                        *lock(&self.turns) = Turns { id: Some(id), proof, ..Turns::default() };
                    }
                }
            }
        }
    }

    fn next(&self) -> Next {
        let mut turns = lock(&self.turns);
        let Some(id) = turns.id else { return Next::NoSession };
        let seq = turns.last + 1;
        let acked_below = turns.open.first().copied().unwrap_or(seq);
        if seq - acked_below >= SESSION_ANSWERS_MAX {
            return Next::WindowFull;
        }
        turns.last = seq;
        turns.open.insert(seq);
        let place = SessionSeq { id, seq, acked_below };
        let proof = turns.proof;
        Next::Turn(Turn { turns: self.turns.clone(), over: self.over.clone(), place, proof })
    }

    /// The session has expired; the next turn opens another.
    pub(super) fn forget(&self, expired: SessionId) {
        let mut turns = lock(&self.turns);
        if turns.id == Some(expired) {
            *turns = Turns::default();
        }
        drop(turns);
        self.over.notify_waiters();
    }
}

/// What a write that asks for a turn is told.
enum Next {
    Turn(Turn),
    /// The oldest open turn is as far behind as it may be.
    WindowFull,
    NoSession,
}

/// Opens a session. Trying again may open two; the idle one is evicted in time. Nothing is
/// uncertain about the write that waits for it: it was not sent yet.
async fn open(client: &GroupClient, deadline: Instant) -> Result<(SessionId, Option<Proof>)> {
    let command = Command { session: None, action: Action::SessionOpen };
    let request = Request::Propose { group: client.inner.group, command, proof: None };
    match client.send(&request, deadline, &mut None).await? {
        Reply::Answer { answer, proof } => match answer.body {
            AnswerBody::Session(id) => Ok((id, proof)),
            other => Err(unexpected(&other)),
        },
        other => Err(other.unexpected()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_turn_that_takes_long_makes_others_wait_and_moves_what_is_acknowledged() {
        let session = Session::default();
        assert!(matches!(session.next(), Next::NoSession));
        lock(&session.turns).id = Some(SessionId(7));
        let next = || match session.next() {
            Next::Turn(turn) => Some(turn),
            Next::WindowFull => None,
            Next::NoSession => panic!("there is a session"),
        };
        let oldest = next().expect("a turn");
        for seq in 2..=SESSION_ANSWERS_MAX {
            let turn = next().expect("within the window");
            let place = SessionSeq { id: SessionId(7), seq, acked_below: 1 };
            assert_eq!(turn.place(), place);
        }
        assert!(next().is_none(), "the machine would refuse it");
        drop(oldest);
        let turn = next().expect("the window has moved");
        assert_eq!(turn.place().acked_below, turn.place().seq);
        session.forget(SessionId(7));
        drop(turn);
        assert!(matches!(session.next(), Next::NoSession));
    }
}
