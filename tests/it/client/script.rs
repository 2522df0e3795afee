//! A cluster that behaves as a test says: one state on the real machine, several nodes before it,
//! and for each try what becomes of it.

use std::collections::BTreeMap;
use std::fmt;
use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use aspen::KvClient;
use aspen::client::Hop;
use aspen::client::nodes::{Changes, Nodes, NotAnswered};
use aspen::client::request::{Failure, Place, Reply, Request};
use aspen::client::{WatchBatch, WatchEvent, WatchRequest};
use aspen::error::Error;
use aspen::limits::{CLIENT_DEADLINE, SESSIONS_MAX};
use aspen::machine::ops::{Action, Command, Outcome};
use aspen::machine::tables::MemTables;
use aspen::machine::{apply, history, query};
use aspen::roster::records::Keyspace;
use aspen::roster::spread::SPREAD;
use aspen::seams::Random;
use aspen::types::{Consistency, EndpointId, GroupId, KeyspaceName, Revision};
use futures_util::future::BoxFuture;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

/// What becomes of one try.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The node answers as it should.
    Answered,
    /// It does so after a while.
    Slow(Duration),
    /// The node is not reached, which is known at once.
    NotSent,
    /// The request is lost, and that is known at once.
    RequestLost,
    /// It is done, and the answer is lost.
    AnswerLost,
    /// As above, and every session is evicted meanwhile.
    AnswerLostAndSessionsWithIt,
    /// The request is lost and nobody is told.
    Silence,
    /// The request is held up, and done when somebody else asks for something.
    Late,
    /// The node says that another leads, whoever does.
    Redirected(Option<usize>),
    /// The node does not know whether it was done; it was.
    Unknown,
    /// The node has too much to do.
    Busy,
}

type Decide = Box<dyn FnMut(usize, &Request) -> Fate + Send>;

pub struct Script {
    state: Mutex<State>,
    nodes: Arc<[EndpointId]>,
    here: Option<usize>,
    published: watch::Sender<Revision>,
}

struct State {
    tables: MemTables,
    index: u64,
    leader: Option<usize>,
    decide: Decide,
    /// Commands on their way that nobody waits for.
    late: Vec<Command>,
    asked: Vec<usize>,
    /// How many batches a watch shows before it breaks.
    watch_breaks_after: Box<dyn FnMut() -> usize + Send>,
}

impl fmt::Debug for Script {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Script")
    }
}

pub fn node(number: usize) -> EndpointId {
    EndpointId([number as u8; 32])
}

fn number(node: EndpointId) -> usize {
    node.0[0].into()
}

impl Script {
    /// Nodes 0 and up; 0 leads, and every try is answered.
    pub fn new(count: usize, here: Option<usize>) -> Arc<Self> {
        let state = State {
            tables: MemTables::default(),
            index: 0,
            leader: Some(0),
            decide: Box::new(|_, _| Fate::Answered),
            late: Vec::new(),
            asked: Vec::new(),
            watch_breaks_after: Box::new(|| usize::MAX),
        };
        Arc::new(Script {
            state: Mutex::new(state),
            nodes: (0..count).map(node).collect(),
            here,
            published: watch::Sender::new(0),
        })
    }

    pub fn client(self: &Arc<Self>, seed: u64) -> KvClient {
        KvClient::over(self.clone(), KeyspaceName::default(), Random::from_seed(seed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    pub fn decide(&self, decide: impl FnMut(usize, &Request) -> Fate + Send + 'static) {
        self.state().decide = Box::new(decide);
    }

    pub fn always(&self, fate: Fate) {
        self.decide(move |_, _| fate);
    }

    pub fn lead(&self, leader: Option<usize>) {
        self.state().leader = leader;
    }

    pub fn break_watches_after(&self, batches: impl FnMut() -> usize + Send + 'static) {
        self.state().watch_breaks_after = Box::new(batches);
    }

    /// Which nodes were asked since the last time.
    pub fn asked(&self) -> Vec<usize> {
        std::mem::take(&mut self.state().asked)
    }

    fn fate(&self, at: usize, request: &Request) -> Fate {
        let mut state = self.state();
        state.asked.push(at);
        (state.decide)(at, request)
    }

    fn apply(&self, command: &Command) -> Outcome {
        let mut state = self.state();
        state.index += 1;
        let index = state.index;
        let applied = apply(&mut state.tables, index, command).expect("tables in memory");
        drop(state);
        if let Some(event) = applied.events.last() {
            self.published.send_replace(event.revision);
        }
        applied.outcome
    }

    /// Opens as many new sessions as there may be.
    pub fn evict_sessions(&self) {
        for _ in 0..SESSIONS_MAX {
            let opened = self.apply(&Command { session: None, action: Action::SessionOpen });
            opened.expect("a session");
        }
    }

    /// What the node would answer, done at once.
    fn answer(&self, at: usize, request: Request) -> Result<Reply, Failure> {
        let late = std::mem::take(&mut self.state().late);
        for command in late {
            let _ = self.apply(&command);
        }
        let leads = self.state().leader == Some(at);
        let not_leader = || {
            let place = |leader| Place { endpoint: node(leader), addresses: Vec::new() };
            Failure::NotLeader { leader: self.state().leader.map(place) }
        };
        let outcome = match request {
            Request::Propose { command, .. } if leads => self.apply(&command),
            Request::Query { query: asked, consistency, .. }
                if leads || consistency != Consistency::Lease =>
            {
                query(&self.state().tables, &asked).expect("tables in memory")
            }
            _ => return Err(not_leader()),
        };
        outcome.map(Reply::from).map_err(|refusal| Failure::Final(refusal.into()))
    }
}

impl Nodes for Script {
    fn is_closed(&self) -> bool {
        false
    }

    fn here(&self, _group: GroupId) -> Option<EndpointId> {
        self.here.map(node)
    }

    fn known(&self, _group: GroupId) -> Option<Arc<[EndpointId]>> {
        Some(self.nodes.clone())
    }

    fn not_here(&self, _group: GroupId, _as_of: Revision) {}

    fn keyspace(&self, _name: &KeyspaceName) -> Option<Keyspace> {
        let first = GroupId::FIRST_SHARD;
        Some(Keyspace { first, shards: 1, replicas: 3, spread: SPREAD, created_s: 0 })
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
        at: EndpointId,
        request: Request,
        _hop: Hop,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<Reply, NotAnswered>> {
        Box::pin(async move {
            let at = number(at);
            let reason = || "as the script says".to_owned();
            let lost = || Err(NotAnswered::Lost { reason: reason() });
            let answer = |request| self.answer(at, request).map_err(NotAnswered::Failed);
            match self.fate(at, &request) {
                Fate::Answered => answer(request),
                Fate::Slow(pause) => {
                    sleep(pause).await;
                    answer(request)
                }
                Fate::NotSent => Err(NotAnswered::NotSent { reason: reason() }),
                Fate::RequestLost => lost(),
                Fate::AnswerLost => {
                    let _ = answer(request);
                    lost()
                }
                Fate::AnswerLostAndSessionsWithIt => {
                    let _ = answer(request);
                    self.evict_sessions();
                    lost()
                }
                Fate::Silence => pending().await,
                Fate::Late => {
                    if let Request::Propose { command, .. } = request {
                        self.state().late.push(command);
                    }
                    lost()
                }
                Fate::Redirected(leader) => {
                    let place = |leader| Place { endpoint: node(leader), addresses: Vec::new() };
                    let leader = leader.map(place);
                    Err(NotAnswered::Failed(Failure::NotLeader { leader }))
                }
                Fate::Unknown => {
                    let _ = answer(request);
                    Err(NotAnswered::Failed(Failure::Unknown { reason: reason() }))
                }
                Fate::Busy => Err(Error::Busy { what: "the script", retry_after_ms: 1 }.into()),
            }
        })
    }

    fn watch(
        &self,
        _at: EndpointId,
        _group: GroupId,
        request: WatchRequest,
        _deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<dyn Changes>, NotAnswered>> {
        Box::pin(async move {
            let published = self.published.subscribe();
            let now = *published.borrow();
            let (left, tables) = {
                let mut state = self.state();
                ((state.watch_breaks_after)(), state.tables.clone())
            };
            let changes = ScriptChanges {
                next: request.from.unwrap_or(now + 1),
                request,
                left,
                published,
                tables,
            };
            Ok(Box::new(changes) as _)
        })
    }
}

/// A watch on a state as it was when the watch began: it ends where that ends, or sooner.
struct ScriptChanges {
    request: WatchRequest,
    next: Revision,
    left: usize,
    published: watch::Receiver<Revision>,
    tables: MemTables,
}

impl fmt::Debug for ScriptChanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ScriptChanges")
    }
}

impl Changes for ScriptChanges {
    fn next_revision(&self) -> Revision {
        self.next
    }

    fn next(&mut self) -> BoxFuture<'_, aspen::Result<Option<WatchBatch>>> {
        Box::pin(async move {
            if self.left == 0 {
                return Ok(None);
            }
            self.left -= 1;
            let page = history(&self.tables, self.next, u64::MAX, &self.request.range, 2);
            let page = page.expect("tables in memory").map_err(Error::Refused)?;
            if page.events.is_empty() {
                self.next = page.next;
                // Nothing more in this copy: break when there is something new.
                let next = self.next;
                let _ = self.published.wait_for(|published| *published >= next).await;
                return Ok(None);
            }
            self.next = page.next;
            let events = page.events.into_iter().map(|event| WatchEvent {
                revision: event.revision,
                key: event.key,
                record: event.record,
                prev: None,
            });
            Ok(Some(WatchBatch { revision: page.next - 1, events: events.collect() }))
        })
    }
}

/// How often each node was asked.
pub fn counts(asked: &[usize]) -> BTreeMap<usize, usize> {
    let mut counts = BTreeMap::new();
    asked.iter().for_each(|node| *counts.entry(*node).or_insert(0) += 1);
    counts
}

/// The longest that an operation may take: its deadline, and what ends with it.
pub const LONGEST: Duration = CLIENT_DEADLINE.saturating_add(Duration::from_millis(10));
