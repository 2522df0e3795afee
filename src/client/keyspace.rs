//! A keyspace as a client sees it: its shards, each a group with a client of its own, and which of
//! them an operation is about.
//!
//! A key's shard never changes, but the keyspace may be deleted and another made with its name: the
//! shards that are kept here are those of the keyspace as it is known now.

use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Included, Unbounded};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;
use tokio::time::Instant;

use super::KvClient;
use super::fan::Position;
use super::group::GroupClient;
use super::nodes::Nodes;
use crate::error::{Error, Invalid, Result};
use crate::machine::ops::{Action, Compare, CompareKeys, KeyRange, Op, Query, Txn};
use crate::roster::records;
use crate::roster::spread::{shard_of, shard_of_range};
use crate::seams::Random;
use crate::types::{Key, KeyspaceName, Revision};

/// A keyspace by its name.
#[derive(Debug)]
pub(super) struct Keyspace {
    all: Arc<Keyspaces>,
    name: KeyspaceName,
    shards: Mutex<Option<Arc<Shards>>>,
}

/// Those that were asked for, so that whoever asks again has the same sessions.
#[derive(Debug)]
struct Keyspaces {
    nodes: Arc<dyn Nodes>,
    random: Random,
    known: Mutex<BTreeMap<KeyspaceName, Weak<Keyspace>>>,
}

/// The shards of a keyspace.
#[derive(Debug)]
pub(super) struct Shards {
    nodes: Arc<dyn Nodes>,
    random: Random,
    name: KeyspaceName,
    keyspace: records::Keyspace,
    /// Made when they are first asked.
    groups: Box<[OnceLock<GroupClient>]>,
}

impl Keyspaces {
    fn named(self: &Arc<Self>, name: KeyspaceName) -> Arc<Keyspace> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(keyspace) = known.get(&name).and_then(Weak::upgrade) {
            return keyspace;
        }
        known.retain(|_, keyspace| keyspace.strong_count() > 0);
        let shards = Mutex::default();
        let keyspace = Arc::new(Keyspace { all: self.clone(), name: name.clone(), shards });
        known.insert(name, Arc::downgrade(&keyspace));
        keyspace
    }
}

impl Keyspace {
    pub(super) fn new(nodes: Arc<dyn Nodes>, name: KeyspaceName, random: Random) -> Arc<Self> {
        let all = Arc::new(Keyspaces { nodes, random, known: Mutex::default() });
        all.named(name)
    }

    pub(super) fn another(&self, name: KeyspaceName) -> Arc<Self> {
        self.all.named(name)
    }

    pub(super) fn name(&self) -> &KeyspaceName {
        &self.name
    }

    /// Whether it was there, and is known to be no more, or another has its name.
    pub(super) fn is_gone(&self) -> bool {
        let kept = self.shards.lock().unwrap_or_else(PoisonError::into_inner).clone();
        kept.is_some_and(|kept| self.all.nodes.keyspace(&self.name) != Some(kept.keyspace))
    }

    pub(super) async fn shards(&self, deadline: Instant) -> Result<Arc<Shards>> {
        let known = match self.all.nodes.keyspace(&self.name) {
            Some(known) => known,
            None => {
                let found = self.all.nodes.find_keyspace(&self.name, deadline).await?;
                found.ok_or_else(|| Error::UnknownKeyspace { name: self.name.clone() })?
            }
        };
        let mut kept = self.shards.lock().unwrap_or_else(PoisonError::into_inner);
        match &*kept {
            Some(shards) if shards.keyspace == known => Ok(shards.clone()),
            _ => Ok(kept.insert(Arc::new(Shards::new(self, known))).clone()),
        }
    }
}

impl Shards {
    fn new(of: &Keyspace, keyspace: records::Keyspace) -> Self {
        let groups = (0..keyspace.shards).map(|_| OnceLock::new()).collect();
        let Keyspaces { nodes, random, .. } = &*of.all;
        let (nodes, random, name) = (nodes.clone(), random.clone(), of.name.clone());
        Shards { nodes, random, name, keyspace, groups }
    }

    /// How many there are.
    pub(super) fn count(&self) -> u32 {
        self.keyspace.shards
    }

    /// A position of this keyspace.
    pub(super) fn position(&self, revisions: Vec<Revision>) -> Position {
        Position { keyspace: Some(self.keyspace.group(0)), revisions }
    }

    /// Refuses a position of another keyspace.
    pub(super) fn check(&self, Position { keyspace, revisions }: &Position) -> Result<()> {
        let is_named = keyspace.is_none_or(|first| first == self.keyspace.group(0));
        if is_named && revisions.len() == self.count() as usize {
            return Ok(());
        }
        Err(Invalid::OtherKeyspace.into())
    }

    /// All of them, in order.
    pub(super) fn all(&self) -> impl Iterator<Item = &GroupClient> {
        (0..self.count()).map(|shard| self.at(shard))
    }

    pub(super) fn at(&self, shard: u32) -> &GroupClient {
        let group = self.keyspace.group(shard);
        let make = || GroupClient::over(self.nodes.clone(), group, self.random.clone());
        self.groups[shard as usize].get_or_init(make)
    }

    /// The shard of a key.
    pub(super) fn of_key(&self, key: &Key) -> u32 {
        shard_of(key.as_bytes(), self.count())
    }

    /// The one that a client means who says which, or the only one there is.
    pub(super) fn only(&self, client: &KvClient, what: &'static str) -> Result<&GroupClient> {
        match &client.near {
            Some(key) => Ok(self.at(self.of_key(key))),
            None if self.count() == 1 => Ok(self.at(0)),
            None => {
                let (keyspace, shards) = (self.name.clone(), self.count());
                Err(Invalid::NeedsShard { what, keyspace, shards }.into())
            }
        }
    }

    /// The shard that an action is about; `None` if it is about several.
    pub(super) fn of_action(
        &self,
        client: &KvClient,
        action: &Action,
    ) -> Result<Option<&GroupClient>> {
        match action {
            Action::Put(put) => self.meant(client, Some(self.of_key(&put.key)), put.key.as_bytes()),
            Action::Delete(delete) => self.of_range(client, &delete.range),
            Action::Txn(txn) => self.of_txn(client, txn).map(Some),
            Action::Claim(claim) => self.of_name(client, &claim.name),
            Action::Proclaim { name, .. } | Action::Release { name, .. } => {
                self.of_name(client, name)
            }
            Action::LeaseGrant { .. } | Action::LeaseRevoke { .. } | Action::LeaseExpire { .. } => {
                self.only(client, "a lease").map(Some)
            }
            Action::Compact { .. } | Action::CompactStep => {
                self.only(client, "a compaction").map(Some)
            }
            Action::SessionOpen | Action::SessionClose { .. } => {
                self.only(client, "a session").map(Some)
            }
        }
    }

    /// The shard that a query is about; `None` if it is about several.
    pub(super) fn of_query(
        &self,
        client: &KvClient,
        query: &Query,
    ) -> Result<Option<&GroupClient>> {
        match query {
            Query::Get(key) => self.meant(client, Some(self.of_key(key)), key.as_bytes()),
            Query::Range(range) => match (self.of_range(client, &range.range)?, range.revision) {
                (None, Some(_)) => self.only(client, "a revision").map(Some),
                (meant, _) => Ok(meant),
            },
            Query::Holder { name } => self.of_name(client, name),
            Query::Lease { .. } | Query::Leases { .. } => self.only(client, "a lease").map(Some),
            Query::Status => match client.near {
                None if self.count() > 1 => Ok(None),
                _ => self.only(client, "a status").map(Some),
            },
        }
    }

    /// The shard that has all keys of a range; `None` if several may have some.
    pub(super) fn of_range(
        &self,
        client: &KvClient,
        range: &KeyRange,
    ) -> Result<Option<&GroupClient>> {
        self.meant(client, in_one(range, self.count()), start_of(range))
    }

    /// Which of them a group is.
    pub(super) fn place_of(&self, group: &GroupClient) -> usize {
        self.keyspace.shard(group.group()).unwrap_or(0) as usize
    }

    /// A lock's claims are where its name is.
    fn of_name(&self, client: &KvClient, name: &Key) -> Result<Option<&GroupClient>> {
        self.meant(client, Some(self.of_key(name)), name.as_bytes())
    }

    /// The one shard that all of a transaction is about.
    pub(super) fn of_txn(&self, client: &KvClient, txn: &Txn) -> Result<&GroupClient> {
        // One that names no key is as good in any shard.
        let near = client.near.as_ref().map(|near| (self.of_key(near), near.as_bytes()));
        let near = near.filter(|_| self.count() > 1);
        let mut met = Met { shards: self.count(), first: near };
        match met.txn(txn) {
            Ok(()) => Ok(self.at(met.first.map_or(0, |(shard, _)| shard))),
            Err(keys) => Err(self.crosses(keys).into()),
        }
    }

    fn crosses<'a>(&self, keys: impl IntoIterator<Item = &'a [u8]>) -> Invalid {
        let keys = keys.into_iter().map(Bytes::copy_from_slice).collect();
        Invalid::CrossShard { keyspace: self.name.clone(), keys }
    }

    /// Held against what the client says of the shard. What may be in several is in that one.
    fn meant(
        &self,
        client: &KvClient,
        shard: Option<u32>,
        what: &[u8],
    ) -> Result<Option<&GroupClient>> {
        let near = client.near.as_ref().filter(|_| self.count() > 1);
        match (shard, near) {
            (Some(shard), Some(near)) if shard != self.of_key(near) => {
                Err(self.crosses([near.as_bytes(), what]).into())
            }
            (Some(shard), _) => Ok(Some(self.at(shard))),
            (None, Some(near)) => Ok(Some(self.at(self.of_key(near)))),
            (None, None) => Ok(None),
        }
    }
}

fn start_of(range: &KeyRange) -> &[u8] {
    match range.bounds().0 {
        Included(start) | Excluded(start) => start,
        Unbounded => b"",
    }
}

/// The one shard that has all keys of a range; `None` if several may have some.
fn in_one(range: &KeyRange, shards: u32) -> Option<u32> {
    let (start, end) = range.bounds();
    shard_of_range(start, end, shards)
}

/// The shard of what was looked at so far of a transaction, and how what came first begins.
struct Met<'a> {
    shards: u32,
    first: Option<(u32, &'a [u8])>,
}

/// Two things that are not in one shard, or one that alone is in several.
type Apart<'a> = Vec<&'a [u8]>;

impl<'a> Met<'a> {
    fn txn(&mut self, txn: &'a Txn) -> Result<(), Apart<'a>> {
        for Compare { range, .. } in &txn.when {
            match range {
                CompareKeys::One(key) => self.key(key)?,
                CompareKeys::All(range) => self.range(range)?,
            }
        }
        for op in txn.then.iter().chain(&txn.or_else) {
            match op {
                Op::Put(put) => self.key(&put.key)?,
                Op::Range(range) => self.range(&range.range)?,
                Op::Delete(delete) => self.range(&delete.range)?,
                Op::Txn(txn) => self.txn(txn)?,
            }
        }
        Ok(())
    }

    fn key(&mut self, key: &'a Key) -> Result<(), Apart<'a>> {
        self.meet(shard_of(key.as_bytes(), self.shards), key.as_bytes())
    }

    fn range(&mut self, range: &'a KeyRange) -> Result<(), Apart<'a>> {
        let start = start_of(range);
        self.meet(in_one(range, self.shards).ok_or_else(|| vec![start])?, start)
    }

    fn meet(&mut self, shard: u32, what: &'a [u8]) -> Result<(), Apart<'a>> {
        let (first, with) = *self.first.get_or_insert((shard, what));
        if first == shard { Ok(()) } else { Err(vec![with, what]) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::ops::{Delete, Put, Range};
    use crate::types::Value;

    fn put(key: &str) -> Op {
        Op::Put(Put::new(Key::try_from(key).expect("a key"), Value::default()))
    }

    fn txn(then: Vec<Op>) -> Txn {
        Txn { then, ..Txn::default() }
    }

    fn met(txn: &Txn, shards: u32) -> Result<Option<u32>, Apart<'_>> {
        let mut met = Met { shards, first: None };
        met.txn(txn).map(|()| met.first.map(|(shard, _)| shard))
    }

    #[test]
    fn a_transaction_is_about_one_shard_or_names_what_is_not() {
        let read = Op::Range(Range::of(KeyRange::prefix("{a}")));
        let together = txn(vec![put("{a}1"), put("{a}2"), read, Op::Txn(txn(vec![]))]);
        assert_eq!(met(&together, 500), Ok(Some(shard_of(b"a", 500))));
        assert_eq!(met(&txn(vec![]), 500), Ok(None));
        let apart = txn(vec![put("{a}1"), Op::Txn(txn(vec![put("{b}1")]))]);
        assert_eq!(met(&apart, 500), Err(vec![&b"{a}1"[..], b"{b}1"]));
        assert_eq!(met(&apart, 1), Ok(Some(0)));
        let wide = Op::Delete(Delete { range: KeyRange::prefix("{a"), prev: false });
        assert_eq!(met(&txn(vec![wide]), 500), Err(vec![&b"{a"[..]]));
    }
}
