//! What the machine ought to do, written to be obviously right and nothing else: the whole state
//! of every revision is kept, a command works on a copy that is dropped if it is refused, and
//! every read looks at everything. Shares no code with the machine but the vocabulary.
//!
//! It knows no limits of size or number; those have tests of their own.

use std::collections::{BTreeMap, BTreeSet};

use aspen::error::Refusal;
use aspen::machine::ops::*;
use aspen::types::{Key, LeaseId, Record, Revision, SessionId, Value};

pub(crate) type State = BTreeMap<Key, Record>;

/// What a session's client may see of its past.
#[derive(Clone, Debug, Default)]
struct Session {
    /// Every outcome there was, by sequence number, however long ago.
    outcomes: BTreeMap<u64, Outcome>,
    /// The highest acknowledgement that arrived.
    acked_below: u64,
}

#[derive(Clone, Debug)]
pub(crate) struct Model {
    /// The state after each revision, from revision 0 on.
    pub(crate) states: Vec<State>,
    /// All events there were.
    pub(crate) events: Vec<Event>,
    pub(crate) compacted: Revision,
    /// Time to live by id.
    pub(crate) leases: BTreeMap<LeaseId, u64>,
    sessions: BTreeMap<SessionId, Session>,
    /// The last command was answered from memory.
    pub(crate) was_repeated: bool,
}

impl Default for Model {
    fn default() -> Self {
        Model {
            states: vec![State::new()],
            events: Vec::new(),
            compacted: 0,
            leases: BTreeMap::new(),
            sessions: BTreeMap::new(),
            was_repeated: false,
        }
    }
}

/// A command at work on a copy of the state.
struct Work<'a> {
    model: &'a Model,
    state: State,
    events: Vec<Event>,
}

/// The outcomes that may be answered; more than one only where forgetting is lazy.
pub(crate) type Allowed = Vec<Outcome>;

impl Model {
    pub(crate) fn revision(&self) -> Revision {
        self.states.len() as u64 - 1
    }

    pub(crate) fn state(&self) -> &State {
        &self.states[self.states.len() - 1]
    }

    pub(crate) fn open_sessions(&self) -> impl Iterator<Item = SessionId> {
        self.sessions.keys().copied()
    }

    /// What applying a command may answer, and the events it makes.
    pub(crate) fn apply(&mut self, index: u64, command: &Command) -> (Allowed, Vec<Event>) {
        self.was_repeated = false;
        let Some(place) = command.session else {
            let (outcome, events) = self.act(index, &command.action);
            return (vec![outcome], events);
        };
        let Some(session) = self.sessions.get_mut(&place.id) else {
            return (vec![Err(Refusal::SessionExpired)], Vec::new());
        };
        let acknowledged = place.seq < session.acked_below;
        if let Some(outcome) = session.outcomes.get(&place.seq) {
            self.was_repeated = true;
            let mut allowed = vec![outcome.clone()];
            if acknowledged {
                allowed.push(Err(Refusal::AnswerAcknowledged));
            }
            return (allowed, Vec::new());
        }
        assert!(!acknowledged, "the generator acknowledges only what was answered");
        let acked_below = session.acked_below.max(place.acked_below);
        if place.seq - acked_below >= aspen::limits::SESSION_ANSWERS_MAX {
            return (vec![Err(Refusal::SessionFull)], Vec::new());
        }
        session.acked_below = acked_below;
        let (outcome, events) = self.act(index, &command.action);
        if let Some(session) = self.sessions.get_mut(&place.id) {
            session.outcomes.insert(place.seq, outcome.clone());
        }
        (vec![outcome], events)
    }

    fn act(&mut self, index: u64, action: &Action) -> (Outcome, Vec<Event>) {
        let present = self.revision();
        let done = |revision, body| Ok(Answer { revision, body });
        match action {
            Action::SessionOpen => {
                self.sessions.entry(SessionId(index)).or_default();
                return (done(present, AnswerBody::Session(SessionId(index))), Vec::new());
            }
            Action::SessionClose { id } => {
                self.sessions.remove(id);
                return (done(present, AnswerBody::Done), Vec::new());
            }
            Action::Compact { revision } if *revision > present => {
                return (Err(Refusal::FutureRevision { asked: *revision, present }), Vec::new());
            }
            Action::Compact { revision } if *revision < self.compacted => {
                let refusal = Refusal::Compacted { asked: *revision, compacted: self.compacted };
                return (Err(refusal), Vec::new());
            }
            Action::Compact { .. } | Action::CompactStep => {
                if let Action::Compact { revision } = action {
                    self.compacted = *revision;
                }
                let revision = self.compacted;
                let body = AnswerBody::Compacted { revision, pending: false };
                return (done(present, body), Vec::new());
            }
            Action::LeaseGrant { id, ttl_ms } => {
                let id = match id {
                    Some(id) if self.leases.contains_key(id) => {
                        return (Err(Refusal::LeaseExists { id: *id }), Vec::new());
                    }
                    Some(id) => *id,
                    None => {
                        let mut id = LeaseId(index);
                        while self.leases.contains_key(&id) {
                            id.0 += 1;
                        }
                        id
                    }
                };
                self.leases.insert(id, *ttl_ms);
                return (done(present, AnswerBody::Lease { id, ttl_ms: *ttl_ms }), Vec::new());
            }
            _ => {}
        }
        let mut work = Work { model: self, state: self.state().clone(), events: Vec::new() };
        match work.act(action) {
            Err(refusal) => (Err(refusal), Vec::new()),
            Ok(body) => {
                let Work { state, events, .. } = work;
                match action {
                    Action::LeaseRevoke { id } => drop(self.leases.remove(id)),
                    Action::LeaseExpire { ids } => self.leases.retain(|id, _| !ids.contains(id)),
                    _ => {}
                }
                if !events.is_empty() {
                    self.states.push(state);
                    self.events.extend(events.clone());
                }
                (done(self.revision(), body), events)
            }
        }
    }

    pub(crate) fn query(&self, query: &Query) -> Outcome {
        let present = self.revision();
        let body = match query {
            Query::Get(key) => AnswerBody::Record(self.state().get(key).cloned()),
            Query::Range(range) => AnswerBody::Range(self.range(self.state(), range)?),
            Query::Leases { after, limit } => AnswerBody::Leases(
                self.leases
                    .keys()
                    .filter(|id| after.is_none_or(|after| **id > after))
                    .take(*limit as usize)
                    .map(|id| self.lease_info(*id))
                    .collect(),
            ),
            Query::Lease { id, keys } => {
                if !self.leases.contains_key(id) {
                    return Err(Refusal::LeaseNotFound { id: *id });
                }
                let with_keys = if *keys { lease_keys(self.state(), *id) } else { Vec::new() };
                AnswerBody::LeaseInfo { info: self.lease_info(*id), keys: with_keys }
            }
            Query::Holder { name } => AnswerBody::Claim(claim_state(self.state(), name, None)),
            Query::Status => AnswerBody::Status(Status {
                revision: present,
                compacted: self.compacted,
                compacting: false,
                keys: self.state().len() as u64,
                leases: self.leases.len() as u64,
                sessions: self.sessions.len() as u64,
            }),
        };
        Ok(Answer { revision: present, body })
    }

    fn lease_info(&self, id: LeaseId) -> LeaseInfo {
        let keys = lease_keys(self.state(), id).len() as u64;
        LeaseInfo { id, ttl_ms: self.leases[&id], keys }
    }

    /// A page of a range, where `state` is what is seen without asking for a revision.
    fn range(&self, state: &State, range: &Range) -> Result<Page, Refusal> {
        let present = self.revision();
        let state = match range.revision {
            None => state,
            Some(asked) if asked > present => {
                return Err(Refusal::FutureRevision { asked, present });
            }
            Some(asked) if asked < self.compacted => {
                return Err(Refusal::Compacted { asked, compacted: self.compacted });
            }
            Some(asked) => &self.states[asked as usize],
        };
        let mut found: Vec<KeyRecord> = state
            .iter()
            .filter(|(key, _)| range.range.contains(key.as_bytes()))
            .map(|(key, record)| KeyRecord { key: key.clone(), record: record.clone() })
            .collect();
        let count = found.len() as u64;
        if range.select == Select::Count {
            return Ok(Page { records: Vec::new(), count, more: false });
        }
        let Filter { mod_min, mod_max, create_min, create_max } = range.filter;
        found.retain(|KeyRecord { record, .. }| {
            mod_min.unwrap_or(0) <= record.mod_revision
                && record.mod_revision <= mod_max.unwrap_or(u64::MAX)
                && create_min.unwrap_or(0) <= record.create_revision
                && record.create_revision <= create_max.unwrap_or(u64::MAX)
        });
        found.sort_by(|KeyRecord { key: a, record: x }, KeyRecord { key: b, record: y }| {
            let order = match range.order.by {
                OrderBy::Key => a.cmp(b),
                OrderBy::Version => x.version.cmp(&y.version),
                OrderBy::Create => x.create_revision.cmp(&y.create_revision),
                OrderBy::Mod => x.mod_revision.cmp(&y.mod_revision),
                OrderBy::Value => x.value.cmp(&y.value),
            };
            if range.order.descending { order.reverse() } else { order }
        });
        let passed = found.len();
        found.truncate(range.limit.map_or(usize::MAX, |limit| limit as usize));
        let more = found.len() < passed;
        if range.select == Select::Keys {
            for found in &mut found {
                found.record.value = Value::default();
            }
        }
        Ok(Page { records: found, count, more })
    }

    /// The events that a watcher of a range sees from one revision to another.
    pub(crate) fn history(
        &self,
        from: Revision,
        to: Revision,
        range: &KeyRange,
    ) -> Result<Vec<Event>, Refusal> {
        let from = from.max(1);
        if from <= self.compacted {
            return Err(Refusal::Compacted { asked: from, compacted: self.compacted });
        }
        let seen = |event: &&Event| {
            from <= event.revision && event.revision <= to && range.contains(event.key.as_bytes())
        };
        Ok(self.events.iter().filter(seen).cloned().collect())
    }

    pub(crate) fn record_before(&self, key: &Key, revision: Revision) -> Option<Record> {
        if revision == 0 || revision - 1 < self.compacted {
            return None;
        }
        self.states.get(revision as usize - 1).unwrap_or(self.state()).get(key).cloned()
    }

    /// How many changes must still be kept: all after the compacted revision, and of each key the
    /// newest one up to it unless that is a deletion.
    pub(crate) fn kept_changes(&self) -> usize {
        let mut up_to = BTreeMap::new();
        let mut later = 0;
        for event in &self.events {
            if event.revision > self.compacted {
                later += 1;
            } else {
                up_to.insert(&event.key, event.record.is_some());
            }
        }
        later + up_to.values().filter(|there| **there).count()
    }
}

impl Work<'_> {
    fn revision(&self) -> Revision {
        self.model.revision() + 1
    }

    fn act(&mut self, action: &Action) -> Result<AnswerBody, Refusal> {
        match action {
            Action::Put(put) => self.put(put),
            Action::Delete(delete) => Ok(self.delete(delete)),
            Action::Txn(txn) => self.txn(txn),
            Action::LeaseRevoke { id } => {
                if !self.model.leases.contains_key(id) {
                    return Err(Refusal::LeaseNotFound { id: *id });
                }
                self.end_lease(*id);
                Ok(AnswerBody::Done)
            }
            Action::LeaseExpire { ids } => {
                for id in ids.iter().collect::<Vec<_>>() {
                    self.end_lease(*id);
                }
                Ok(AnswerBody::Done)
            }
            Action::Claim(Claim { name, lease, value }) => {
                if !self.model.leases.contains_key(lease) {
                    return Err(Refusal::LeaseNotFound { id: *lease });
                }
                let key = claim_key(name, *lease);
                let claimed = self.state.get(&key).is_some_and(|r| r.lease == Some(*lease));
                if !claimed {
                    self.state.remove(&key);
                    self.write(&key, value.clone(), Some(*lease));
                }
                Ok(AnswerBody::Claim(claim_state(&self.state, name, Some(key))))
            }
            Action::Proclaim { name, lease, value } => {
                match claim_state(&self.state, name, None).holder {
                    Some(holder) if holder.lease == *lease => {
                        self.write(&holder.key, value.clone(), Some(*lease));
                        Ok(AnswerBody::Done)
                    }
                    _ => Err(Refusal::NotHolder { id: *lease }),
                }
            }
            Action::Release { name, lease } => {
                let key = claim_key(name, *lease);
                let claimed = self.state.get(&key).is_some_and(|r| r.lease == Some(*lease));
                if claimed {
                    self.remove(&key);
                }
                Ok(AnswerBody::Deleted { count: u64::from(claimed), prev: Vec::new() })
            }
            other => unreachable!("{other:?} writes no keys"),
        }
    }

    fn write(&mut self, key: &Key, value: Value, lease: Option<LeaseId>) {
        let revision = self.revision();
        let record = match self.state.get(key) {
            Some(old) => Record::new(value, old.create_revision, revision, old.version + 1, lease),
            None => Record::new(value, revision, revision, 1, lease),
        };
        self.state.insert(key.clone(), record.clone());
        self.events.push(Event { revision, key: key.clone(), record: Some(record) });
    }

    fn remove(&mut self, key: &Key) -> Record {
        let record = self.state.remove(key).unwrap();
        self.events.push(Event { revision: self.revision(), key: key.clone(), record: None });
        record
    }

    fn end_lease(&mut self, id: LeaseId) {
        for key in lease_keys(&self.state, id) {
            self.remove(&key);
        }
    }

    fn put(&mut self, put: &Put) -> Result<AnswerBody, Refusal> {
        let old = self.state.get(&put.key).cloned();
        let lease = match put.lease {
            PutLease::Detach => None,
            PutLease::Keep => old.as_ref().ok_or(Refusal::KeyNotFound)?.lease,
            PutLease::Attach(id) if self.model.leases.contains_key(&id) => Some(id),
            PutLease::Attach(id) => return Err(Refusal::LeaseNotFound { id }),
        };
        let value = match &put.value {
            Some(value) => value.clone(),
            None => old.as_ref().ok_or(Refusal::KeyNotFound)?.value.clone(),
        };
        self.write(&put.key, value, lease);
        Ok(AnswerBody::Put { prev: old.filter(|_| put.prev) })
    }

    fn delete(&mut self, delete: &Delete) -> AnswerBody {
        let keys: Vec<Key> = self
            .state
            .keys()
            .filter(|key| delete.range.contains(key.as_bytes()))
            .cloned()
            .collect();
        let mut prev = Vec::new();
        for key in &keys {
            let record = self.remove(key);
            if delete.prev {
                prev.push(KeyRecord { key: key.clone(), record });
            }
        }
        AnswerBody::Deleted { count: keys.len() as u64, prev }
    }

    fn txn(&mut self, txn: &Txn) -> Result<AnswerBody, Refusal> {
        let succeeded = txn.when.iter().all(|compare| holds(self.model.state(), compare));
        let ops = if succeeded { &txn.then } else { &txn.or_else };
        let mut answers = Vec::new();
        for op in ops {
            answers.push(match op {
                Op::Put(put) => self.put(put)?,
                Op::Delete(delete) => self.delete(delete),
                Op::Txn(txn) => self.txn(txn)?,
                Op::Range(range) => AnswerBody::Range(self.model.range(&self.state, range)?),
            });
        }
        Ok(AnswerBody::Txn { succeeded, answers })
    }
}

fn holds(state: &State, compare: &Compare) -> bool {
    let records: Vec<Option<&Record>> = match &compare.range {
        CompareKeys::One(key) => vec![state.get(key)],
        CompareKeys::All(range) => {
            let found: Vec<_> = state
                .iter()
                .filter(|(key, _)| range.contains(key.as_bytes()))
                .map(|(_, record)| Some(record))
                .collect();
            if found.is_empty() { vec![None] } else { found }
        }
    };
    records.into_iter().all(|record| {
        let number = |of: fn(&Record) -> u64| record.map_or(0, of);
        let order = match (&compare.target, record) {
            (CompareTarget::Value(_), None) => return false,
            (CompareTarget::Value(given), Some(record)) => record.value.cmp(given),
            (CompareTarget::Version(given), _) => number(|r| r.version).cmp(given),
            (CompareTarget::Create(given), _) => number(|r| r.create_revision).cmp(given),
            (CompareTarget::Mod(given), _) => number(|r| r.mod_revision).cmp(given),
            (CompareTarget::Lease(given), _) => number(|r| r.lease.map_or(0, |l| l.0)).cmp(given),
        };
        match compare.is {
            Is::Equal => order.is_eq(),
            Is::NotEqual => order.is_ne(),
            Is::Greater => order.is_gt(),
            Is::Less => order.is_lt(),
        }
    })
}

fn lease_keys(state: &State, id: LeaseId) -> Vec<Key> {
    let attached = state.iter().filter(|(_, record)| record.lease == Some(id));
    attached.map(|(key, _)| key.clone()).collect::<BTreeSet<_>>().into_iter().collect()
}

fn claim_key(name: &Key, lease: LeaseId) -> Key {
    Key::new([name.as_bytes(), format!("/{:016x}", lease.0).as_bytes()].concat()).unwrap()
}

fn claim_state(state: &State, name: &Key, own: Option<Key>) -> ClaimState {
    let mut claims: Vec<(Revision, &Key, &Record, LeaseId)> = state
        .iter()
        .filter_map(|(key, record)| {
            let lease = record.lease?;
            (*key == claim_key(name, lease)).then_some((record.create_revision, key, record, lease))
        })
        .collect();
    claims.sort_by_key(|(create, key, ..)| (*create, (*key).clone()));
    ClaimState {
        own: own.map(|key| (key.clone(), state[&key].create_revision)),
        waiting: claims.len().saturating_sub(1) as u64,
        holder: claims.first().map(|(token, key, record, lease)| Holder {
            key: (*key).clone(),
            lease: *lease,
            token: *token,
            value: record.value.clone(),
        }),
    }
}
