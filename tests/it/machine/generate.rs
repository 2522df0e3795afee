//! Random commands and queries, biased towards what is there and towards the edges.

use aspen::machine::ops::*;
use aspen::types::{Key, LeaseId, Revision, SessionId};

use super::dice::Dice;
use super::model::Model;

/// One client's session, as the client knows it.
#[derive(Clone, Debug)]
struct Client {
    id: SessionId,
    next_seq: u64,
    acked_below: u64,
    sent: Vec<Command>,
}

/// Makes commands; remembers only what clients would.
#[derive(Default)]
pub(crate) struct Generator {
    clients: Vec<Client>,
}

impl Generator {
    /// A command, in a session or not, new or repeated.
    pub(crate) fn command(&mut self, dice: &mut Dice, model: &Model) -> Command {
        self.clients.retain(|client| model.open_sessions().any(|id| id == client.id));
        for id in model.open_sessions() {
            if !self.clients.iter().any(|client| client.id == id) {
                self.clients.push(Client { id, next_seq: 1, acked_below: 1, sent: Vec::new() });
            }
        }
        if self.clients.is_empty() || dice.once_in(2) {
            let session = dice.once_in(40).then_some(SessionSeq {
                id: SessionId(1_000_000),
                seq: 1,
                acked_below: 1,
            });
            return Command { session, action: action(dice, model) };
        }
        let which = dice.below(self.clients.len() as u64) as usize;
        let client = &mut self.clients[which];
        if !client.sent.is_empty() && dice.once_in(4) {
            return dice.pick(&client.sent).clone();
        }
        if dice.once_in(3) {
            // All that was sent so far was answered.
            client.acked_below = client.next_seq;
        }
        let mut seq = client.next_seq;
        if dice.once_in(50) {
            seq += aspen::limits::SESSION_ANSWERS_MAX + dice.below(3);
        } else {
            client.next_seq += 1;
        }
        let session = SessionSeq { id: client.id, seq, acked_below: client.acked_below };
        let command = Command { session: Some(session), action: action(dice, model) };
        if seq < client.next_seq {
            client.sent.push(command.clone());
        }
        command
    }
}

fn lease(dice: &mut Dice, model: &Model) -> LeaseId {
    let there: Vec<LeaseId> = model.leases.keys().copied().collect();
    if there.is_empty() || dice.once_in(8) {
        LeaseId(1 + dice.below(4))
    } else {
        *dice.pick(&there)
    }
}

fn revision(dice: &mut Dice, model: &Model) -> Revision {
    match dice.below(6) {
        0 => model.revision() + dice.below(3),
        1 => (model.compacted + dice.below(3)).saturating_sub(1),
        _ => dice.below(model.revision() + 1),
    }
}

fn action(dice: &mut Dice, model: &Model) -> Action {
    match dice.below(40) {
        0..=11 => Action::Put(put(dice, model)),
        12..=16 => Action::Delete(delete(dice)),
        17..=25 => Action::Txn(txn(dice, model, 0)),
        26 | 27 => Action::LeaseGrant {
            id: dice.once_in(2).then(|| LeaseId(1 + dice.below(4))),
            ttl_ms: 1_000 + dice.below(3),
        },
        28 => Action::LeaseRevoke { id: lease(dice, model) },
        29 => {
            let many = dice.below(4);
            Action::LeaseExpire { ids: (0..many).map(|_| lease(dice, model)).collect() }
        }
        30 | 31 => Action::Claim(Claim {
            name: name(dice),
            lease: lease(dice, model),
            value: dice.value(),
        }),
        32 => Action::Proclaim { name: name(dice), lease: lease(dice, model), value: dice.value() },
        33 => Action::Release { name: name(dice), lease: lease(dice, model) },
        34 => Action::Compact { revision: revision(dice, model) },
        35 => Action::CompactStep,
        36 | 37 => Action::SessionOpen,
        38 => {
            let open: Vec<SessionId> = model.open_sessions().collect();
            let close_one = !open.is_empty() && dice.once_in(2);
            Action::SessionClose { id: if close_one { *dice.pick(&open) } else { SessionId(7) } }
        }
        _ => Action::Put(Put { key: dice.key(), ..put(dice, model) }),
    }
}

fn name(dice: &mut Dice) -> Key {
    Key::try_from(*dice.pick(&["lock", "a", "lock/other"])).unwrap()
}

fn put(dice: &mut Dice, model: &Model) -> Put {
    let lease = match dice.below(5) {
        0 => PutLease::Keep,
        1 | 2 => PutLease::Attach(lease(dice, model)),
        _ => PutLease::Detach,
    };
    let value = if dice.once_in(6) { None } else { Some(dice.value()) };
    Put { key: dice.key(), value, lease, prev: dice.once_in(2) }
}

fn delete(dice: &mut Dice) -> Delete {
    let range = if dice.once_in(2) { KeyRange::one(&dice.key()) } else { dice.range() };
    Delete { range, prev: dice.once_in(2) }
}

fn txn(dice: &mut Dice, model: &Model, depth: u64) -> Txn {
    let when = (0..dice.below(3)).map(|_| compare(dice, model)).collect();
    let mut ops = || -> Vec<Op> {
        let many = dice.below(4);
        (0..many).map(|_| op(dice, model, depth)).collect()
    };
    let (then, or_else) = (ops(), ops());
    Txn { when, then, or_else }
}

fn op(dice: &mut Dice, model: &Model, depth: u64) -> Op {
    match dice.below(10) {
        0..=3 => Op::Put(put(dice, model)),
        4..=6 => Op::Range(range(dice, model)),
        7 => Op::Txn(txn(dice, model, depth + 1)),
        _ => Op::Delete(delete(dice)),
    }
}

fn compare(dice: &mut Dice, model: &Model) -> Compare {
    let range = match dice.below(3) {
        0 => CompareKeys::All(dice.range()),
        _ => CompareKeys::One(dice.key()),
    };
    let target = match dice.below(5) {
        0 => CompareTarget::Value(dice.value()),
        1 => CompareTarget::Version(dice.below(3)),
        2 => CompareTarget::Create(revision(dice, model)),
        3 => CompareTarget::Mod(revision(dice, model)),
        _ => CompareTarget::Lease(dice.below(3)),
    };
    let is = *dice.pick(&[Is::Equal, Is::NotEqual, Is::Greater, Is::Less]);
    Compare { range, target, is }
}

fn range(dice: &mut Dice, model: &Model) -> Range {
    let bound = |dice: &mut Dice| dice.once_in(4).then(|| revision(dice, model));
    Range {
        range: dice.range(),
        revision: dice.once_in(2).then(|| revision(dice, model)),
        limit: dice.once_in(2).then(|| dice.below(5)),
        order: Order {
            by: *dice.pick(&[
                OrderBy::Key,
                OrderBy::Key,
                OrderBy::Version,
                OrderBy::Create,
                OrderBy::Mod,
                OrderBy::Value,
            ]),
            descending: dice.once_in(2),
        },
        select: *dice.pick(&[Select::Records, Select::Records, Select::Keys, Select::Count]),
        filter: Filter {
            mod_min: bound(dice),
            mod_max: bound(dice),
            create_min: bound(dice),
            create_max: bound(dice),
        },
    }
}

pub(crate) fn query(dice: &mut Dice, model: &Model) -> Query {
    match dice.below(12) {
        0 | 1 => Query::Get(dice.key()),
        2 => Query::Leases {
            after: dice.once_in(2).then(|| lease(dice, model)),
            limit: dice.below(4),
        },
        3 => Query::Lease { id: lease(dice, model), keys: dice.once_in(2) },
        4 => Query::Holder { name: name(dice) },
        5 => Query::Status,
        _ => Query::Range(range(dice, model)),
    }
}
