//! What kind of action it is: whether it adds data, for the guard on free space before the log, and
//! whether it writes what somebody stores, which a cluster may be told not to.

use super::ops::{Action, Op, Txn};

impl Action {
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

    /// Whether the action writes, or may, what somebody stores; other than what the cluster does by
    /// itself.
    pub fn is_users(&self) -> bool {
        match self {
            Action::Txn(txn) => txn_writes(txn),
            Action::Put(_)
            | Action::Delete(_)
            | Action::LeaseGrant { .. }
            | Action::LeaseRevoke { .. }
            | Action::Claim(_)
            | Action::Proclaim { .. }
            | Action::Release { .. } => true,
            Action::SessionOpen
            | Action::SessionClose { .. }
            | Action::LeaseExpire { .. }
            | Action::Compact { .. }
            | Action::CompactStep => false,
        }
    }
}

fn txn_writes(txn: &Txn) -> bool {
    txn.then.iter().chain(&txn.or_else).any(|op| match op {
        Op::Put(_) | Op::Delete(_) => true,
        Op::Txn(inner) => txn_writes(inner),
        Op::Range(_) => false,
    })
}

fn txn_adds_data(txn: &Txn) -> bool {
    txn.then.iter().chain(&txn.or_else).any(|op| match op {
        Op::Put(_) => true,
        Op::Txn(inner) => txn_adds_data(inner),
        Op::Range(_) | Op::Delete(_) => false,
    })
}
