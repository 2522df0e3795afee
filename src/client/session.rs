//! A client's session: what makes each of its writes happen once.
//!
//! Each write takes a turn: a sequence number that it keeps over all its tries. The machine
//! remembers the answers of all turns that are not over, so a repeated write is answered and not
//! done again. The session is opened with the first write.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::{Backoff, KvClient, unexpected};
use crate::error::{Error, Result};
use crate::machine::ops::{Action, AnswerBody, Command, SessionSeq};
use crate::raft::Failed;
use crate::types::SessionId;

/// The session of one client with one group.
#[derive(Debug, Default)]
pub(super) struct Session {
    turns: Arc<Mutex<Turns>>,
    /// Held while a session is opened, so that one is opened for all who wait.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct Turns {
    id: Option<SessionId>,
    last: u64,
    open: BTreeSet<u64>,
}

/// One write's place in its session, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Mutex<Turns>>,
    place: SessionSeq,
}

impl Turn {
    /// What the command carries.
    pub(super) fn place(&self) -> SessionSeq {
        self.place
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let mut turns = lock(&self.turns);
        if turns.id == Some(self.place.id) {
            turns.open.remove(&self.place.seq);
        }
    }
}

fn lock(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Session {
    /// The next turn, in a session opened for it if there is none.
    pub(super) async fn turn(&self, client: &KvClient, deadline: Instant) -> Result<Turn> {
        if let Some(turn) = self.next() {
            return Ok(turn);
        }
        let _opening = self.opening.lock().await;
        loop {
            if let Some(turn) = self.next() {
                return Ok(turn);
            }
            let id = open(client, deadline).await?;
            *lock(&self.turns) = Turns { id: Some(id), ..Turns::default() };
        }
    }

    fn next(&self) -> Option<Turn> {
        let mut turns = lock(&self.turns);
        let id = turns.id?;
        turns.last += 1;
        let seq = turns.last;
        turns.open.insert(seq);
        let acked_below = turns.open.first().copied().unwrap_or(seq);
        Some(Turn { turns: self.turns.clone(), place: SessionSeq { id, seq, acked_below } })
    }

    /// The session has expired; the next turn opens another.
    pub(super) fn forget(&self, expired: SessionId) {
        let mut turns = lock(&self.turns);
        if turns.id == Some(expired) {
            *turns = Turns::default();
        }
    }
}

/// Opens a session. Trying again may open two; the idle one is evicted in time.
async fn open(client: &KvClient, deadline: Instant) -> Result<SessionId> {
    let mut backoff = Backoff::new(deadline);
    loop {
        let command = Command { session: None, action: Action::SessionOpen };
        let error = match client.propose(command, deadline).await {
            Ok(answer) => match answer.body {
                AnswerBody::Session(id) => return Ok(id),
                other => return Err(unexpected(&other)),
            },
            Err(Failed::NotLeader { leader }) => client.no_leader(leader),
            // The write itself was not sent yet, so nothing is unknown about it.
            Err(Failed::Unknown { reason }) => {
                Error::Unavailable { group: client.inner.group, reason }
            }
            Err(Failed::Final(error @ Error::Unavailable { .. })) => error,
            Err(Failed::Final(error)) => return Err(error),
        };
        if !backoff.wait().await {
            return Err(error);
        }
    }
}
