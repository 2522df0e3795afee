//! What was asked of this node's replicas, how it ended, and how long it took.
//!
//! Counted at the desk, where whatever is asked of a replica is answered, so that an operation that
//! was done is counted once in the whole cluster: on the node that did it, whoever asked. What the
//! meta group is asked is counted apart from what the shards are.

use std::array::from_fn;

use tokio::time::Instant;

use super::request::{Failure, Reply, Request, Response};
use crate::error::Error;
use crate::machine::ops::{Action, AnswerBody, Command, Op, Query, Txn};
use crate::metrics::{COPIES, Counter, Distribution, TIMES_NS, copy};
use crate::types::{Consistency, GroupId};

/// Kinds of operations. Reads come last: each has a row for each freshness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Put,
    Delete,
    Txn,
    Compact,
    LeaseGrant,
    LeaseRevoke,
    LeaseKeepAlive,
    LeaseTtl,
    Claim,
    Proclaim,
    Release,
    Session,
    /// What only a leader proposes by itself, asked for by somebody else.
    Upkeep,
    Locate,
    Watch,
    Get,
    Range,
    Leases,
    Holder,
    Status,
}

/// Their names, in the same order.
const KINDS: [&str; 20] = [
    "put",
    "delete",
    "txn",
    "compact",
    "lease-grant",
    "lease-revoke",
    "lease-keep-alive",
    "lease-ttl",
    "claim",
    "proclaim",
    "release",
    "session",
    "upkeep",
    "locate",
    "watch",
    "get",
    "range",
    "leases",
    "holder",
    "status",
];

const FRESHNESS: [&str; 3] = ["linearizable", "lease", "stale"];
/// The first kind that is a read.
const READS: usize = Kind::Get as usize;
const ROWS: usize = READS + (KINDS.len() - READS) * FRESHNESS.len();

/// How an operation can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Ok,
    NotLeader,
    NotHere,
    Invalid,
    Refused,
    Denied,
    Busy,
    NoSpace,
    Unavailable,
    Unknown,
    Corrupt,
    Fatal,
    /// Whoever asked did not wait for the answer.
    Abandoned,
}

/// Their names, in the same order.
const OUTCOMES: [&str; 13] = [
    "ok",
    "not-leader",
    "not-here",
    "invalid",
    "refused",
    "denied",
    "busy",
    "no-space",
    "unavailable",
    "unknown",
    "corrupt",
    "fatal",
    "abandoned",
];

impl Outcome {
    pub(super) fn as_str(self) -> &'static str {
        OUTCOMES[self as usize]
    }

    /// Nothing of the request or the data made it so.
    pub(super) fn is_failure(self) -> bool {
        matches!(self, Outcome::Unavailable | Outcome::Unknown | Outcome::Corrupt | Outcome::Fatal)
    }

    fn of_failure(failure: &Failure) -> Self {
        match failure {
            Failure::NotLeader { .. } => Outcome::NotLeader,
            Failure::NotHere { .. } => Outcome::NotHere,
            Failure::Unknown { .. } => Outcome::Unknown,
            Failure::Final(error) => match error {
                Error::Invalid(_) => Outcome::Invalid,
                Error::Refused(_) => Outcome::Refused,
                Error::Denied(_) => Outcome::Denied,
                Error::Busy { .. } => Outcome::Busy,
                Error::NoSpace { .. } => Outcome::NoSpace,
                Error::Unavailable { .. } => Outcome::Unavailable,
                Error::OutcomeUnknown { .. } => Outcome::Unknown,
                Error::Corrupt(_) => Outcome::Corrupt,
                Error::UnknownKeyspace { .. } => Outcome::NotHere,
                Error::Fatal(_) => Outcome::Fatal,
            },
        }
    }
}

/// A transaction that does one write in one of its branches and none in the other, whatever it looks
/// at besides, is that write: the door makes such of every write of one key. The kind, and in which
/// branch it is done.
fn one_write(txn: &Txn) -> Option<(Kind, bool)> {
    match (writes(&txn.then)?, writes(&txn.or_else)?) {
        (Some(kind), None) => Some((kind, true)),
        (None, Some(kind)) => Some((kind, false)),
        _ => None,
    }
}

/// What a branch writes; nothing if that is more than one write.
fn writes(ops: &[Op]) -> Option<Option<Kind>> {
    let mut one = None;
    for op in ops {
        let kind = match op {
            Op::Put(_) => Kind::Put,
            Op::Delete(_) => Kind::Delete,
            Op::Txn(probe) if probe.then.is_empty() && probe.or_else.is_empty() => continue,
            Op::Txn(_) => return None,
            Op::Range(_) => continue,
        };
        if one.replace(kind).is_some() {
            return None;
        }
    }
    Some(one)
}

fn row_of(request: &Request) -> usize {
    let kind = match request {
        Request::Propose { command, .. } => match &command.action {
            Action::Put(_) => Kind::Put,
            Action::Delete(_) => Kind::Delete,
            Action::Txn(txn) => one_write(txn).map_or(Kind::Txn, |(kind, _)| kind),
            Action::Compact { .. } => Kind::Compact,
            Action::LeaseGrant { .. } => Kind::LeaseGrant,
            Action::LeaseRevoke { .. } => Kind::LeaseRevoke,
            Action::Claim(_) => Kind::Claim,
            Action::Proclaim { .. } => Kind::Proclaim,
            Action::Release { .. } => Kind::Release,
            Action::SessionOpen | Action::SessionClose { .. } => Kind::Session,
            Action::LeaseExpire { .. } | Action::CompactStep => Kind::Upkeep,
        },
        Request::Query { query, consistency, .. } => {
            let kind = match query {
                Query::Get(_) => Kind::Get,
                Query::Range(_) => Kind::Range,
                Query::Leases { .. } | Query::Lease { .. } => Kind::Leases,
                Query::Holder { .. } => Kind::Holder,
                Query::Status => Kind::Status,
            };
            let freshness = match consistency {
                Consistency::Linearizable => 0,
                Consistency::Lease => 1,
                Consistency::Stale => 2,
            };
            return READS + (kind as usize - READS) * FRESHNESS.len() + freshness;
        }
        Request::KeepAlive { .. } => Kind::LeaseKeepAlive,
        Request::LeaseTtl { .. } => Kind::LeaseTtl,
        Request::Locate { .. } => Kind::Locate,
    };
    kind as usize
}

/// The kind of a row and, of a read, its freshness.
fn named(row: usize) -> (&'static str, &'static str) {
    match row.checked_sub(READS) {
        None => (KINDS[row], ""),
        Some(read) => (KINDS[READS + read / FRESHNESS.len()], FRESHNESS[read % FRESHNESS.len()]),
    }
}

/// Operations of one kind. The buckets stand in it, so that a thread counts within few lines.
#[derive(Debug)]
struct Row {
    outcomes: [Counter; OUTCOMES.len()],
    buckets: [Counter; TIMES_NS.len() + 1],
    nanoseconds: Counter,
}

#[derive(Debug)]
struct Table {
    begun: Counter,
    rows: [Row; ROWS],
}

impl Table {
    fn new() -> Self {
        let row = || Row {
            outcomes: from_fn(|_| Counter::default()),
            buckets: from_fn(|_| Counter::default()),
            nanoseconds: Counter::default(),
        };
        Table { begun: Counter::default(), rows: from_fn(|_| row()) }
    }
}

/// What a node's desk has counted.
#[derive(Debug)]
pub struct Operations {
    /// Of the shards, one for each copy.
    shards: Box<[Table]>,
    meta: Box<Table>,
    /// Tries of this node's own client that came to nothing.
    pub retries: Counter,
}

impl Default for Operations {
    fn default() -> Self {
        let shards = (0..COPIES).map(|_| Table::new()).collect();
        Operations { shards, meta: Box::new(Table::new()), retries: Counter::default() }
    }
}

/// Operations of one kind, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OperationFacts {
    /// `meta` or `shard`.
    pub group: &'static str,
    /// What was asked.
    pub kind: &'static str,
    /// How fresh, of a read.
    pub consistency: &'static str,
    /// How many ended how; those that none did are left out, but for `ok`.
    pub outcomes: Vec<(&'static str, u64)>,
    /// How long they took, in nanoseconds, whatever they came to; those that were abandoned are left
    /// out.
    pub times: Distribution,
}

impl Operations {
    /// An operation begins; it ends when what this gives is dropped.
    pub(super) fn begin(&self, request: &Request) -> Counted<'_> {
        let mut counted = self.begin_row(request.group(), row_of(request));
        if let Request::Propose { command: Command { action: Action::Txn(txn), .. }, .. } = request
        {
            counted.writes_in = one_write(txn).map(|(_, branch)| branch);
        }
        counted
    }

    /// The same for a watch: it ends when it shows its first change, or is refused.
    pub(super) fn begin_watch(&self, group: GroupId) -> Counted<'_> {
        self.begin_row(group, Kind::Watch as usize)
    }

    fn begin_row(&self, group: GroupId, row: usize) -> Counted<'_> {
        let table = if group == GroupId::META { &*self.meta } else { &self.shards[copy()] };
        table.begun.one();
        let (kind, row, begun_at) = (row, &table.rows[row], Instant::now());
        Counted { kind, row, begun_at, writes_in: None, outcome: Outcome::Abandoned }
    }

    /// How many are under way, about.
    pub fn in_flight(&self) -> u64 {
        let ended = |table: &Table| -> u64 {
            table.rows.iter().flat_map(|row| &row.outcomes).map(Counter::get).sum()
        };
        let tables = || self.shards.iter().chain([&*self.meta]);
        // Those that end in between are counted as ended only.
        let begun: u64 = tables().map(|table| table.begun.get()).sum();
        begun.saturating_sub(tables().map(ended).sum())
    }

    /// All kinds of operations.
    pub fn read(&self) -> Vec<OperationFacts> {
        let (meta, shards) = (std::slice::from_ref(&*self.meta), &*self.shards);
        let of = |group, tables: &[Table]| -> Vec<OperationFacts> {
            (0..ROWS).map(|row| facts(group, row, tables)).collect()
        };
        [of("shard", shards), of("meta", meta)].concat()
    }
}

fn facts(group: &'static str, row: usize, tables: &[Table]) -> OperationFacts {
    let rows = || tables.iter().map(|table| &table.rows[row]);
    let mut times = Distribution::empty(TIMES_NS);
    for row in rows() {
        for (sum, bucket) in times.buckets.iter_mut().zip(&row.buckets) {
            *sum += bucket.get();
        }
        times.sum += row.nanoseconds.get();
    }
    let count = |outcome: usize| rows().map(|row| row.outcomes[outcome].get()).sum::<u64>();
    let outcomes = OUTCOMES.iter().enumerate().map(|(at, name)| (*name, count(at)));
    let outcomes = outcomes.filter(|(name, count)| *count > 0 || *name == "ok").collect();
    let (kind, consistency) = named(row);
    OperationFacts { group, kind, consistency, outcomes, times }
}

/// An operation under way.
#[derive(Debug)]
pub(super) struct Counted<'a> {
    /// Which row it is.
    kind: usize,
    row: &'a Row,
    begun_at: Instant,
    /// The branch of a transaction that does one write: in the other one it is refused.
    writes_in: Option<bool>,
    outcome: Outcome,
}

impl Counted<'_> {
    /// What was asked.
    pub(super) fn kind(&self) -> &'static str {
        named(self.kind).0
    }

    fn is_refused_by(&self, reply: &Reply) -> bool {
        let (Some(writes_in), Reply::Answer { answer, .. }) = (self.writes_in, reply) else {
            return false;
        };
        matches!(answer.body, AnswerBody::Txn { succeeded, .. } if succeeded != writes_in)
    }

    /// It has this answer.
    pub(super) fn answered(mut self, response: &Response) -> Outcome {
        self.outcome = match response {
            Ok(reply) if self.is_refused_by(reply) => Outcome::Refused,
            Ok(_) => Outcome::Ok,
            Err(failure) => Outcome::of_failure(failure),
        };
        self.outcome
    }

    /// A watch has begun, or not.
    pub(super) fn begun<T>(mut self, watch: &Result<T, Failure>) -> Outcome {
        self.outcome = match watch {
            Ok(_) => Outcome::Ok,
            Err(failure) => Outcome::of_failure(failure),
        };
        self.outcome
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.row.outcomes[self.outcome as usize].one();
        if self.outcome != Outcome::Abandoned {
            let nanoseconds = self.begun_at.elapsed().as_nanos() as u64;
            let bucket = TIMES_NS.partition_point(|bound| *bound < nanoseconds);
            self.row.buckets[bucket].one();
            self.row.nanoseconds.add(nanoseconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Key, KeyspaceName};

    #[test]
    fn rows_have_the_names_of_what_they_count() {
        let group = GroupId(1);
        let propose = |action| Request::Propose {
            group,
            command: Command { session: None, action },
            proof: None,
        };
        let query = |query, consistency| Request::Query { group, query, consistency };
        let key = || Key::try_from("k").unwrap();
        use Consistency::*;
        let expected = [
            (propose(Action::Compact { revision: 1 }), ("compact", "")),
            (propose(Action::CompactStep), ("upkeep", "")),
            (propose(Action::SessionOpen), ("session", "")),
            (Request::LeaseTtl { group, lease: crate::types::LeaseId(1) }, ("lease-ttl", "")),
            (Request::Locate { keyspace: KeyspaceName::default() }, ("locate", "")),
            (query(Query::Get(key()), Linearizable), ("get", "linearizable")),
            (query(Query::Get(key()), Lease), ("get", "lease")),
            (query(Query::Holder { name: key() }, Stale), ("holder", "stale")),
            (query(Query::Status, Stale), ("status", "stale")),
        ];
        for (request, names) in expected {
            assert_eq!(named(row_of(&request)), names, "{request:?}");
        }
        assert_eq!(named(Kind::Watch as usize), ("watch", ""));
        assert_eq!(OUTCOMES[Outcome::Abandoned as usize], "abandoned");
    }

    #[test]
    fn what_is_not_waited_for_is_abandoned_and_takes_no_time() {
        let operations = Operations::default();
        let request = Request::LeaseTtl { group: GroupId(1), lease: crate::types::LeaseId(1) };
        let counted = operations.begin(&request);
        assert_eq!(operations.in_flight(), 1);
        drop(counted);
        operations.begin(&request).answered(&Err(Failure::NotLeader { leader: None }));
        assert_eq!(operations.in_flight(), 0);
        let facts = operations.read();
        let ttl = facts.iter().find(|facts| facts.kind == "lease-ttl").unwrap();
        assert_eq!(ttl.outcomes, [("ok", 0), ("not-leader", 1), ("abandoned", 1)]);
        assert_eq!(ttl.times.count(), 1);
    }
}
