//! What an action weighs, and whether it adds data: for the bounds and guards before the log.

use super::ops::{Action, Op, Put, Txn};

/// What an action weighs beside its keys and values.
const BASE_BYTES: usize = 64;

impl Action {
    /// About how many bytes the action takes in memory and in the log.
    pub fn weight(&self) -> usize {
        BASE_BYTES
            + match self {
                Action::Put(put) => put_weight(put),
                Action::Txn(txn) => txn_weight(txn),
                Action::Claim(claim) => claim.name.as_bytes().len() + claim.value.as_bytes().len(),
                Action::Proclaim { name, value, .. } => {
                    name.as_bytes().len() + value.as_bytes().len()
                }
                Action::Release { name, .. } => name.as_bytes().len(),
                Action::LeaseExpire { ids } => size_of_val(ids.as_slice()),
                Action::Delete(_)
                | Action::SessionOpen
                | Action::SessionClose { .. }
                | Action::LeaseGrant { .. }
                | Action::LeaseRevoke { .. }
                | Action::Compact { .. }
                | Action::CompactStep => 0,
            }
    }

    /// Whether the action may make the store larger. What does not is allowed on a full disk.
    pub fn adds_data(&self) -> bool {
        match self {
            Action::Put(_)
            | Action::LeaseGrant { .. }
            | Action::Claim(_)
            | Action::Proclaim { .. } => true,
            Action::Txn(txn) => txn_adds_data(txn),
            Action::SessionOpen
            | Action::SessionClose { .. }
            | Action::Delete(_)
            | Action::LeaseRevoke { .. }
            | Action::LeaseExpire { .. }
            | Action::Release { .. }
            | Action::Compact { .. }
            | Action::CompactStep => false,
        }
    }
}

fn put_weight(put: &Put) -> usize {
    put.key.as_bytes().len() + put.value.as_ref().map_or(0, |value| value.as_bytes().len())
}

fn txn_weight(txn: &Txn) -> usize {
    let ops = txn.then.iter().chain(&txn.or_else);
    let weights = ops.map(|op| match op {
        Op::Put(put) => put_weight(put),
        Op::Txn(inner) => txn_weight(inner),
        Op::Range(_) | Op::Delete(_) => 0,
    });
    weights.map(|weight| weight + BASE_BYTES).sum::<usize>() + txn.when.len() * BASE_BYTES
}

fn txn_adds_data(txn: &Txn) -> bool {
    txn.then.iter().chain(&txn.or_else).any(|op| match op {
        Op::Put(_) => true,
        Op::Txn(inner) => txn_adds_data(inner),
        Op::Range(_) | Op::Delete(_) => false,
    })
}
