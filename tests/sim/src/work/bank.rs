//! Money that is moved between the accounts of one shard, by transactions on condition.

use aspen::client::OpAnswer;
use aspen::machine::ops::KeyRange;
use aspen::{Compare, Consistency, Error, Op, Value};
use futures_util::future::BoxFuture;

use super::client::{Client, Effect, number_in};
use super::{History, Stage, Work};
use crate::check::bank::{self, Answer, Asked, Bank};
use crate::check::{Told, Violation};

const ACCOUNTS: u64 = 5;
/// What is in each at first.
const BALANCE: u64 = 20;
/// The most that is moved at once.
const AMOUNT_MAX: u64 = 10;

pub(super) struct Accounts {
    prefix: String,
    history: History<Asked, Answer>,
}

/// What an account holds, and the revision of that.
struct Balance {
    money: u64,
    revision: u64,
}

/// How all accounts are read.
#[derive(Clone, Copy)]
enum Way {
    Now(Consistency),
    /// In a transaction.
    InOne,
    /// As they are, and then once more as they were then.
    Past,
}

impl Accounts {
    pub(super) fn new(stage: &Stage, prefix: &str) -> Self {
        Accounts { prefix: format!("{{{prefix}}}/"), history: History::new(stage) }
    }

    fn name(&self, account: u64) -> String {
        format!("{}{account}", self.prefix)
    }

    /// Makes the accounts, if there are none; founding it again does nothing.
    async fn found(&self, client: &Client) {
        let accounts = 0..ACCOUNTS;
        let txn = accounts.fold(client.kv.txn(), |txn, account| {
            let name = self.name(account);
            let is_new = Compare::version(&name).eq(0);
            txn.when(is_new).then(Op::put(&name, BALANCE.to_string()))
        });
        let found = async { txn.await.map(|_| Answer::Done) };
        client.call(&self.history, Asked::Found, Effect::Writes, found).await;
    }

    async fn read(&self, client: &Client, way: Way) {
        let may_be_old = matches!(way, Way::Now(Consistency::Stale));
        let read = async { self.balances(client, way).await.map(Answer::Saw) };
        client.calls(&self.history, Asked::Read { may_be_old }, Effect::Reads, read).await;
    }

    async fn balances(&self, client: &Client, way: Way) -> aspen::Result<Vec<i64>> {
        let range = || client.kv.range(..).prefix(&self.prefix);
        let records = match way {
            Way::Now(how) => client.in_time(range().consistency(how)).await?.records,
            Way::Past => {
                let now = client.in_time(range()).await?;
                client.in_time(range().at(now.revision)).await?.records
            }
            Way::InOne => {
                let all = Op::range(KeyRange::prefix(self.prefix.clone()));
                match client.in_time(client.kv.txn().then(all)).await?.answers.pop() {
                    Some(OpAnswer::Range(page)) => page.records,
                    other => return Err(Error::Fatal(format!("a range is answered: {other:?}"))),
                }
            }
        };
        Ok(records.iter().map(|found| money_in(&found.record.value)).collect())
    }

    /// What two accounts hold.
    async fn look(&self, client: &Client, accounts: [u64; 2]) -> Option<[Balance; 2]> {
        let look = async {
            let mut found = Vec::new();
            for account in accounts {
                found.push(client.in_time(client.kv.get(self.name(account))).await?);
            }
            Ok(Looked(found.into_iter().flatten().map(Balance::from).collect()))
        };
        let asked = format!("look at accounts {accounts:?}");
        match client.ask(&asked, Effect::Reads, look).await {
            Told::Done(Looked(balances)) => balances.try_into().ok(),
            _ => None,
        }
    }

    async fn transfer(&self, client: &Client) {
        let from = client.dice.below(ACCOUNTS);
        let to = (from + client.dice.between(1, ACCOUNTS - 1)) % ACCOUNTS;
        let Some([source, target]) = self.look(client, [from, to]).await else { return };
        let amount = client.dice.between(1, AMOUNT_MAX);
        let Some(left) = source.money.checked_sub(amount) else { return };
        let txn = client.kv.txn();
        let txn = [(from, source.revision, left), (to, target.revision, target.money + amount)]
            .into_iter()
            .fold(txn, |txn, (account, revision, money)| {
                let name = self.name(account);
                let is_same = Compare::mod_revision(&name).eq(revision);
                txn.when(is_same).then(Op::put(&name, money.to_string()))
            });
        let transfer = async {
            let changed = Error::Busy { what: "an account", retry_after_ms: 0 };
            if txn.await?.succeeded { Ok(Answer::Done) } else { Err(changed) }
        };
        let asked = Asked::Transfer { from, to, amount };
        client.call(&self.history, asked, Effect::Writes, transfer).await;
    }
}

/// The accounts that were looked at, if they are there.
struct Looked(Vec<Balance>);

impl std::fmt::Display for Looked {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|balance| write!(f, "{} ", balance.money))
    }
}

impl From<aspen::Record> for Balance {
    fn from(record: aspen::Record) -> Self {
        let money = number_in(&record.value).unwrap_or_default();
        Balance { money, revision: record.mod_revision }
    }
}

/// What an account holds; something that no account may hold if it is no number.
fn money_in(value: &Value) -> i64 {
    std::str::from_utf8(value.as_bytes())
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(i64::MIN)
}

impl Work for Accounts {
    fn run<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(async move {
            self.found(client).await;
            while client.thinks().await {
                match client.dice.below(100) {
                    0..60 => self.transfer(client).await,
                    60..70 => self.read(client, Way::Now(Consistency::Linearizable)).await,
                    70..75 => self.read(client, Way::Now(Consistency::Lease)).await,
                    75..85 => self.read(client, Way::Now(Consistency::Stale)).await,
                    85..90 => self.read(client, Way::Past).await,
                    90..95 => self.read(client, Way::InOne).await,
                    _ => self.found(client).await,
                }
            }
        })
    }

    fn close<'a>(&'a self, client: &'a Client) -> BoxFuture<'a, ()> {
        Box::pin(self.read(client, Way::Now(Consistency::Linearizable)))
    }

    fn judge(&self) -> Result<(), Violation> {
        let total = (ACCOUNTS * BALANCE) as i64;
        bank::check(Bank { accounts: ACCOUNTS as usize, total }, &self.history.calls())
    }

    fn calls(&self) -> usize {
        self.history.count()
    }
}
