//! A store in this process for tests of the workloads: one node, the real machine, and a network
//! that loses answers. It does as it should, or one thing wrong every now and then.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aspen::KvClient;
use aspen::client::nodes::{Changes, Nodes, NotAnswered};
use aspen::client::request::{Failure, Place, Reply, Request};
use aspen::client::{Hop, WatchBatch, WatchEvent, WatchRequest};
use aspen::error::{Error, Refusal};
use aspen::machine::ops::{Action, Command, Op, Outcome};
use aspen::machine::tables::MemTables;
use aspen::machine::{apply, history, query, record_before};
use aspen::roster::records::Keyspace;
use aspen::roster::spread::SPREAD;
use aspen::seams::Random;
use aspen::types::{EndpointId, GroupId, KeyspaceName, LeaseId, Revision};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use crate::dice::Dice;

/// The only node.
const NODE: EndpointId = EndpointId([1; 32]);
/// The longest way to it or back.
const WAY: Duration = Duration::from_millis(20);
/// How often in a hundred times a request or an answer is lost.
const LOST_PERCENT: u64 = 3;
/// How often in a hundred times the store does what it does wrong.
const WRONG_PERCENT: u64 = 10;
/// How many commands old a state is, at most, that is shown in place of the present one.
const OLD_COMMANDS: u64 = 40;

/// What a store does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wrong {
    Nothing,
    /// It shows a state of some time ago.
    ReadsOld,
    /// It says that it did what it did not do.
    LosesWrites,
    /// It does a command twice.
    RepeatsWrites,
    /// It forgets the conditions of a transaction.
    ForgetsConditions,
    /// It does a transaction but for its last operation.
    TearsTransactions,
    /// It does not show a change.
    SkipsEvents,
    /// It shows a change twice.
    RepeatsEvents,
    /// It ends leases before their time.
    EndsLeasesEarly,
    /// It ends no lease.
    EndsNoLease,
}

/// The store; clones are the same.
#[derive(Clone)]
pub(super) struct Store(Arc<Inner>);

struct Inner {
    state: Mutex<State>,
    published: watch::Sender<Revision>,
    dice: Dice,
    wrong: Wrong,
}

#[derive(Default)]
struct State {
    tables: MemTables,
    old: MemTables,
    index: u64,
    /// When leases end, and how long they live.
    leases: BTreeMap<LeaseId, (Instant, u64)>,
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Store({:?})", self.0.wrong)
    }
}

impl Store {
    pub(super) fn new(dice: Dice, wrong: Wrong) -> Self {
        let (state, published) = (Mutex::default(), watch::Sender::new(0));
        Store(Arc::new(Inner { state, published, dice, wrong }))
    }

    pub(super) fn client(&self, seed: u64) -> KvClient {
        let nodes = Arc::new(self.clone());
        KvClient::over(nodes, KeyspaceName::default(), Random::from_seed(seed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it does something wrong now, if it ever does.
    fn errs(&self, wrong: Wrong) -> bool {
        self.0.wrong == wrong && self.0.dice.percent(WRONG_PERCENT)
    }

    fn apply(&self, state: &mut State, command: &Command) -> Outcome {
        state.index += 1;
        if state.index.is_multiple_of(OLD_COMMANDS) {
            state.old = state.tables.clone();
        }
        let applied = apply(&mut state.tables, state.index, command).expect("tables in memory");
        for (lease, ttl_ms) in applied.leases.granted {
            let lives_ms = if self.0.wrong == Wrong::EndsLeasesEarly { ttl_ms / 2 } else { ttl_ms };
            let ends = Instant::now() + Duration::from_millis(lives_ms);
            state.leases.insert(lease, (ends, ttl_ms));
        }
        for lease in applied.leases.ended {
            state.leases.remove(&lease);
        }
        if let Some(event) = applied.events.last() {
            self.0.published.send_replace(event.revision);
        }
        applied.outcome
    }

    fn propose(&self, state: &mut State, mut command: Command) -> Outcome {
        if self.errs(Wrong::LosesWrites) && command.session.is_some() {
            return Self::pretend(state, &command);
        }
        if self.errs(Wrong::RepeatsWrites) {
            let again = Command { session: None, ..command.clone() };
            let _ = self.apply(state, &again);
        }
        if let Action::Txn(txn) = &mut command.action {
            if self.errs(Wrong::ForgetsConditions) {
                txn.when.clear();
            }
            let writes_last = txn.then.len() > 1 && matches!(txn.then.last(), Some(Op::Put(_)));
            if writes_last && self.errs(Wrong::TearsTransactions) {
                return self.tear(state, command);
            }
        }
        self.apply(state, &command)
    }

    /// Does all but the last operation of a transaction, and answers as if all were done.
    fn tear(&self, state: &mut State, mut command: Command) -> Outcome {
        let outcome = Self::pretend(state, &command);
        if let Action::Txn(txn) = &mut command.action {
            txn.then.pop();
        }
        let _ = self.apply(state, &command);
        outcome
    }

    /// What doing a command would answer.
    fn pretend(state: &State, command: &Command) -> Outcome {
        let applied = apply(&mut state.tables.clone(), state.index + 1, command);
        applied.expect("tables in memory").outcome
    }

    fn end_leases(&self, state: &mut State) {
        let now = Instant::now();
        let ids: Vec<LeaseId> =
            state.leases.iter().filter(|(_, (ends, _))| *ends <= now).map(|(id, _)| *id).collect();
        if !ids.is_empty() && self.0.wrong != Wrong::EndsNoLease {
            let command = Command { session: None, action: Action::LeaseExpire { ids } };
            let _ = self.apply(state, &command);
        }
    }

    /// What the node answers, done at once.
    fn answer(&self, request: Request) -> Result<Reply, Failure> {
        let state = &mut *self.state();
        self.end_leases(state);
        let outcome = match request {
            Request::Propose { command, .. } => self.propose(state, command),
            Request::Query { query: asked, .. } => {
                let is_old = self.errs(Wrong::ReadsOld);
                let tables = if is_old { &state.old } else { &state.tables };
                query(tables, &asked).expect("tables in memory")
            }
            Request::KeepAlive { lease, .. } | Request::LeaseTtl { lease, .. } => {
                return match state.leases.get_mut(&lease) {
                    Some((ends, ttl_ms)) => {
                        if self.0.wrong != Wrong::EndsLeasesEarly {
                            *ends = Instant::now() + Duration::from_millis(*ttl_ms);
                        }
                        Ok(Reply::Lease { id: lease, ttl_ms: *ttl_ms, left_ms: *ttl_ms })
                    }
                    None => Err(Failure::Final(Refusal::LeaseNotFound { id: lease }.into())),
                };
            }
            Request::Locate { .. } => unreachable!("the keyspace is known"),
        };
        outcome.map(Reply::from).map_err(|refusal| Failure::Final(refusal.into()))
    }
}

impl Nodes for Store {
    fn is_closed(&self) -> bool {
        false
    }

    fn here(&self, _group: GroupId) -> Option<EndpointId> {
        None
    }

    fn known(&self, _group: GroupId) -> Option<Arc<[EndpointId]>> {
        Some(Arc::new([NODE]))
    }

    fn not_here(&self, _group: GroupId, _as_of: Revision) {}

    fn keyspace(&self, _name: &KeyspaceName) -> Option<Keyspace> {
        let first = GroupId::FIRST_SHARD;
        Some(Keyspace { first, shards: 1, replicas: 1, spread: SPREAD, created_s: 0 })
    }

    fn find_keyspace<'a>(
        &'a self,
        name: &'a KeyspaceName,
        _deadline: Instant,
    ) -> BoxFuture<'a, aspen::Result<Option<Keyspace>>> {
        Box::pin(async { Ok(self.keyspace(name)) })
    }

    fn learn(&self, _place: &Place) {}

    fn ask(
        &self,
        _node: EndpointId,
        request: Request,
        _hop: Hop,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<Reply, NotAnswered>> {
        Box::pin(async move {
            let dice = &self.0.dice;
            let lost = || NotAnswered::Lost { reason: "it was lost".into() };
            sleep(dice.time_below(WAY)).await;
            if dice.percent(LOST_PERCENT) {
                return Err(lost());
            }
            let answer = self.answer(request).map_err(NotAnswered::Failed);
            sleep(dice.time_below(WAY)).await;
            if dice.percent(LOST_PERCENT) { Err(lost()) } else { answer }
        })
    }

    fn watch(
        &self,
        _node: EndpointId,
        _group: GroupId,
        request: WatchRequest,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<dyn Changes>, NotAnswered>> {
        if let Some(from) = request.from {
            let asked = history(&self.state().tables, from, from, &request.range, 1);
            if let Err(refusal) = asked.expect("tables in memory") {
                let refused = NotAnswered::Failed(Failure::Final(refusal.into()));
                return Box::pin(async { Err(refused) });
            }
        }
        let published = self.0.published.subscribe();
        let next = request.from.unwrap_or(*published.borrow() + 1);
        let changes = StoreChanges { store: self.clone(), request, next, published };
        Box::pin(async { Ok(Box::new(changes) as _) })
    }
}

/// What changed in the store.
#[derive(Debug)]
struct StoreChanges {
    store: Store,
    request: WatchRequest,
    next: Revision,
    published: watch::Receiver<Revision>,
}

impl StoreChanges {
    fn read(&mut self) -> aspen::Result<WatchBatch> {
        let state = self.store.state();
        let page = history(&state.tables, self.next, u64::MAX, &self.request.range, 2);
        let page = page.expect("tables in memory").map_err(Error::Refused)?;
        self.next = page.next;
        let mut events = Vec::new();
        for event in page.events {
            let before = record_before(&state.tables, &event.key, event.revision);
            let prev = before.expect("tables in memory").filter(|_| self.request.prev);
            let (revision, key, record) = (event.revision, event.key, event.record);
            events.push(WatchEvent { revision, key, record, prev });
        }
        drop(state);
        if self.store.errs(Wrong::SkipsEvents) {
            events.pop();
        }
        if self.store.errs(Wrong::RepeatsEvents) {
            events.extend(events.last().cloned());
        }
        Ok(WatchBatch { revision: page.next - 1, events })
    }
}

impl Changes for StoreChanges {
    fn next_revision(&self) -> Revision {
        self.next
    }

    fn next(&mut self) -> BoxFuture<'_, aspen::Result<Option<WatchBatch>>> {
        Box::pin(async move {
            loop {
                let batch = self.read()?;
                if !batch.events.is_empty() {
                    return Ok(Some(batch));
                }
                let next = self.next;
                if self.published.wait_for(|published| *published >= next).await.is_err() {
                    return Ok(None);
                }
            }
        })
    }
}
