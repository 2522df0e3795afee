//! [`GroupClient`]: one group as a client asks it, whoever leads it and wherever its replicas are.
//!
//! What every operation is made of: a session, so that a write is done once however often it is
//! sent; a route to the group's nodes; and tries inside one deadline.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use super::busy;
use super::nodes::Nodes;
use super::request::{Reply, Request};
use super::route::Route;
use super::session::Session;
use crate::error::{Error, Refusal, Result};
use crate::limits::CLIENT_WRITES_MAX;
use crate::machine::ops::{Action, Answer, Command, Query};
use crate::seams::Random;
use crate::types::{Consistency, EndpointId, GroupId};

/// A handle on one group; clones share one session and what is known of the nodes.
#[derive(Clone, Debug)]
pub struct GroupClient {
    pub(super) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(super) struct Inner {
    pub(super) nodes: Arc<dyn Nodes>,
    pub(super) group: GroupId,
    session: Session,
    route: Mutex<Route>,
    pub(super) random: Random,
    /// Fewer than the answers that a session may have outstanding.
    writes: Arc<Semaphore>,
}

impl GroupClient {
    /// A client of a group that asks these nodes, in a session of its own.
    pub fn over(nodes: Arc<dyn Nodes>, group: GroupId, random: Random) -> Self {
        let inner = Inner {
            nodes,
            group,
            session: Session::default(),
            route: Mutex::default(),
            random,
            writes: Arc::new(Semaphore::new(CLIENT_WRITES_MAX)),
        };
        GroupClient { inner: Arc::new(inner) }
    }

    /// A client of another group that asks the same nodes.
    pub fn of_group(&self, group: GroupId) -> Self {
        let Inner { nodes, random, .. } = &*self.inner;
        GroupClient::over(nodes.clone(), group, random.clone())
    }

    /// Which group.
    pub fn group(&self) -> GroupId {
        self.inner.group
    }

    pub(super) fn route(&self) -> MutexGuard<'_, Route> {
        self.inner.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who leads, as far as this client knows: whoever did last what only a leader does.
    pub(super) fn leader(&self) -> Option<EndpointId> {
        self.route().leader()
    }

    /// Does an action once, however often it has to be sent; see [`KvClient::execute`].
    ///
    /// [`KvClient::execute`]: super::KvClient::execute
    pub async fn execute(&self, action: Action, deadline: Instant) -> Result<Answer> {
        action.validate()?;
        let _place = match timeout_at(deadline, self.inner.writes.acquire()).await {
            Ok(Ok(place)) => place,
            _ => return Err(busy()),
        };
        // Why an earlier try may have been done.
        let mut uncertain: Option<String> = None;
        loop {
            let turn = self.inner.session.turn(self, deadline).await?;
            let command = Command { session: Some(turn.place()), action: action.clone() };
            let request =
                Request::Propose { group: self.inner.group, command, proof: turn.proof() };
            match self.send(&request, deadline, &mut uncertain).await {
                Ok(reply) => return answer(reply),
                Err(Error::Refused(Refusal::SessionExpired)) if uncertain.is_none() => {
                    // Never done: the command gets a turn in a new session.
                    self.inner.session.forget(turn.place().id);
                }
                Err(error) => {
                    if error == Error::Refused(Refusal::SessionExpired) {
                        self.inner.session.forget(turn.place().id);
                    } else if matches!(error, Error::Refused(_)) {
                        // Decided by the machine, for all tries at once.
                        return Err(error);
                    }
                    return Err(self.what_is_known(error, uncertain));
                }
            }
        }
    }

    /// The error of the last try, unless an earlier one may have been done.
    fn what_is_known(&self, error: Error, uncertain: Option<String>) -> Error {
        match uncertain {
            Some(reason) => Error::OutcomeUnknown { group: self.inner.group, reason },
            None => error,
        }
    }

    /// Reads at a freshness.
    pub async fn query(
        &self,
        query: Query,
        consistency: Consistency,
        deadline: Instant,
    ) -> Result<Answer> {
        query.validate()?;
        let request = Request::Query { group: self.inner.group, query, consistency };
        answer(self.send(&request, deadline, &mut None).await?)
    }
}

fn answer(reply: Reply) -> Result<Answer> {
    match reply {
        Reply::Answer { answer, .. } => Ok(answer),
        other => Err(other.unexpected()),
    }
}
