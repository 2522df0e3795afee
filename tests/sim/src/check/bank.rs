//! Is there as much money as in the beginning, whenever anybody looks?
//!
//! Every read shows all accounts at one moment: their sum is what was there first, and none is
//! below nothing. Before the bank was founded a read shows no account; afterwards only one that
//! may be old does.

use std::fmt;

use super::Violation;

/// What a call asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Makes all accounts, if there are none.
    Found,
    /// Moves money from one account to another.
    Transfer {
        /// From which.
        from: u64,
        /// To which.
        to: u64,
        /// How much.
        amount: u64,
    },
    /// Reads all accounts.
    Read {
        /// What it shows may be old.
        may_be_old: bool,
    },
}

/// What a call that was done answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was done.
    Done,
    /// What the accounts held, in their order; nothing if there were none.
    Saw(Vec<i64>),
}

/// One call.
pub type Call = super::Call<Asked, Answer>;

/// What a bank has.
#[derive(Clone, Copy, Debug)]
pub struct Bank {
    /// How many accounts.
    pub accounts: usize,
    /// How much is in all of them together.
    pub total: i64,
}

impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Found => f.write_str("found the bank"),
            Asked::Transfer { from, to, amount } => write!(f, "move {amount} from {from} to {to}"),
            Asked::Read { may_be_old: false } => f.write_str("read all accounts"),
            Asked::Read { may_be_old: true } => f.write_str("read all accounts as they may be"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Answer::Done => f.write_str("done"),
            Answer::Saw(accounts) => write!(f, "saw {accounts:?}"),
        }
    }
}

/// Checks a history of one bank.
pub fn check(bank: Bank, calls: &[Call]) -> Result<(), Violation> {
    let shows_it = |call: &&Call| match call.answer() {
        Some(Answer::Saw(accounts)) => !accounts.is_empty(),
        Some(Answer::Done) => true,
        None => false,
    };
    // Since when anybody knows that the bank is there.
    let founded = calls.iter().filter(shows_it).min_by_key(|call| call.ended);
    for call in calls {
        let Some(Answer::Saw(accounts)) = call.answer() else { continue };
        if accounts.is_empty() {
            let is_now = call.asked == (Asked::Read { may_be_old: false });
            match founded {
                Some(first) if is_now && first.ended < call.began => {
                    return Err(Violation::new("the bank is gone", [first, call]));
                }
                _ => continue,
            }
        }
        let (count, sum) = (accounts.len(), accounts.iter().copied().map(i128::from).sum::<i128>());
        let what = if count != bank.accounts {
            format!("the bank has {count} accounts, and not {}", bank.accounts)
        } else if accounts.iter().any(|balance| *balance < 0) {
            "the bank gave what it did not have".to_owned()
        } else if sum != i128::from(bank.total) {
            format!("the bank has {sum}, and not {}", bank.total)
        } else {
            continue;
        };
        return Err(Violation::new(what, [call]));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Told;

    const BANK: Bank = Bank { accounts: 2, total: 10 };

    fn read(began: u64, may_be_old: bool, accounts: &[i64]) -> Call {
        let told = Told::Done(Answer::Saw(accounts.to_vec()));
        Call { client: 0, asked: Asked::Read { may_be_old }, began, ended: began + 1, told }
    }

    fn found(calls: &[Call]) -> Option<String> {
        check(BANK, calls).err().map(|violation| violation.what)
    }

    #[test]
    fn the_sum_stays_and_no_account_is_below_nothing() {
        let said = |accounts| found(&[read(1, false, accounts)]);
        assert_eq!(said(&[3, 7]), None);
        assert_eq!(said(&[0, 10]), None);
        assert_eq!(said(&[3, 8]).as_deref(), Some("the bank has 11, and not 10"));
        assert_eq!(said(&[-1, 11]).as_deref(), Some("the bank gave what it did not have"));
        assert_eq!(said(&[10]).as_deref(), Some("the bank has 1 accounts, and not 2"));
        assert_eq!(found(&[read(1, true, &[1, 1])]).as_deref(), Some("the bank has 2, and not 10"));
    }

    #[test]
    fn a_bank_that_was_founded_is_there() {
        let told = Told::Done(Answer::Done);
        let founds = Call { client: 0, asked: Asked::Found, began: 3, ended: 5, told };
        for (began, may_be_old, is_right) in
            [(1, false, true), (4, false, true), (6, true, true), (6, false, false)]
        {
            let said = found(&[founds.clone(), read(began, may_be_old, &[])]);
            assert_eq!(said.is_none(), is_right, "{began}: {said:?}");
        }
    }
}
