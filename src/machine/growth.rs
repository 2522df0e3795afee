//! Whether an action adds data: for the guard on free space before the log.

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
}

fn txn_adds_data(txn: &Txn) -> bool {
    txn.then.iter().chain(&txn.or_else).any(|op| match op {
        Op::Put(_) => true,
        Op::Txn(inner) => txn_adds_data(inner),
        Op::Range(_) | Op::Delete(_) => false,
    })
}
