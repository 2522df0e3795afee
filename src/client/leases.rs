//! Leases, locks and elections.

use std::time::Duration;

use super::request::{Reply, Request};
use super::txn::{key_of, value_of};
use super::{KvClient, LeaseTtl, unexpected};
use crate::error::{Error, Refusal, Result};
use crate::machine::ops::{
    Action, AnswerBody, Claim, ClaimState, Holder, KeyRange, LeaseInfo, Query,
};
use crate::types::{Consistency, GroupId, Key, LeaseId, Revision, Value};

/// A lease that was granted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lease {
    /// Its id.
    pub id: LeaseId,
    /// How long it lives unless it is kept alive.
    pub ttl: Duration,
}

/// A lock that is held, or an election that is won.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Lock {
    /// The key that stands for the claim, in the shard of the lock's name; it exists for as long as
    /// the lock is held.
    pub key: Key,
    /// Greater than that of every earlier holder: give it to whatever the lock protects, and
    /// have that refuse smaller ones.
    pub token: Revision,
}

impl KvClient {
    /// Makes a lease.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// use std::time::Duration;
    ///
    /// let lease = kv.lease_grant(Duration::from_secs(60)).await?;
    /// kv.put("worker/1", "here").lease(lease.id).await?;
    /// kv.lease_keep_alive(lease.id).await?;
    /// kv.lease_revoke(lease.id).await?;
    /// assert_eq!(kv.get("worker/1").await?, None);
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn lease_grant(&self, ttl: Duration) -> Result<Lease> {
        self.lease_grant_as(None, ttl).await
    }

    /// Makes a lease with an id of the caller's choice.
    pub async fn lease_grant_as(&self, id: Option<LeaseId>, ttl: Duration) -> Result<Lease> {
        let ttl_ms = u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX);
        match self.execute(Action::LeaseGrant { id, ttl_ms }).await?.body {
            AnswerBody::Lease { id, ttl_ms } => {
                Ok(Lease { id, ttl: Duration::from_millis(ttl_ms) })
            }
            other => Err(unexpected(&other)),
        }
    }

    /// Ends a lease and deletes its keys.
    pub async fn lease_revoke(&self, id: LeaseId) -> Result<()> {
        self.execute(Action::LeaseRevoke { id }).await.map(drop)
    }

    /// Gives a lease its full time again.
    pub async fn lease_keep_alive(&self, id: LeaseId) -> Result<LeaseTtl> {
        self.lease(|group| Request::KeepAlive { group, lease: id }).await
    }

    /// How much of a lease's time is left.
    pub async fn lease_ttl(&self, id: LeaseId) -> Result<LeaseTtl> {
        self.lease(|group| Request::LeaseTtl { group, lease: id }).await
    }

    async fn lease(&self, request: impl FnOnce(GroupId) -> Request) -> Result<LeaseTtl> {
        let deadline = self.until();
        let shard = self.shard("a lease", deadline).await?;
        let reply = shard.send(&request(shard.group()), deadline, &mut None).await;
        match self.explained(reply)? {
            Reply::Lease { id, ttl_ms, left_ms } => Ok(LeaseTtl { id, ttl_ms, left_ms }),
            other => Err(other.unexpected()),
        }
    }

    /// The keys attached to a lease.
    pub async fn lease_keys(&self, id: LeaseId) -> Result<Vec<Key>> {
        let query = Query::Lease { id, keys: true };
        match self.query(query, Consistency::Linearizable).await?.body {
            AnswerBody::LeaseInfo { keys, .. } => Ok(keys),
            other => Err(unexpected(&other)),
        }
    }

    /// Leases in the order of their ids, from the one after `after`.
    pub async fn leases(&self, after: Option<LeaseId>, limit: u64) -> Result<Vec<LeaseInfo>> {
        let query = Query::Leases { after, limit };
        match self.query(query, Consistency::Linearizable).await?.body {
            AnswerBody::Leases(leases) => Ok(leases),
            other => Err(unexpected(&other)),
        }
    }

    /// Waits for a lock. It is held until it is unlocked or its lease ends; an error leaves no
    /// claim behind that outlives the lease.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// use std::time::Duration;
    ///
    /// let lease = kv.lease_grant(Duration::from_secs(60)).await?;
    /// let lock = kv.lock("printer", lease.id).await?;
    /// println!("the printer refuses tokens smaller than {}", lock.token);
    /// kv.unlock("printer", lease.id).await?;
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn lock<K: TryInto<Key, Error: Into<Error>>>(
        &self,
        name: K,
        lease: LeaseId,
    ) -> Result<Lock> {
        self.campaign(name, lease, Value::default()).await
    }

    /// Takes a lock if nobody holds it or waits for it.
    pub async fn try_lock<K: TryInto<Key, Error: Into<Error>>>(
        &self,
        name: K,
        lease: LeaseId,
    ) -> Result<Option<Lock>> {
        self.try_campaign(name, lease, Value::default()).await
    }

    /// Gives up a lock, or the wait for it.
    pub async fn unlock<K: TryInto<Key, Error: Into<Error>>>(
        &self,
        name: K,
        lease: LeaseId,
    ) -> Result<()> {
        self.execute(Action::Release { name: key_of(name)?, lease }).await.map(drop)
    }

    /// Waits to win an election, proclaiming a value with it.
    ///
    /// ```
    /// # tokio::runtime::Runtime::new()?.block_on(async {
    /// # let service = aspen::KvServiceBuilder::new(1, "doc")
    /// #     .with_storage(aspen::StorageBackend::Memory)
    /// #     .with_reach(aspen::Reach::Loopback)
    /// #     .start()
    /// #     .await?;
    /// # let kv = service.client();
    /// use std::time::Duration;
    ///
    /// let lease = kv.lease_grant(Duration::from_secs(60)).await?;
    /// kv.campaign("leader", lease.id, "node-7").await?;
    /// let leader = kv.holder("leader").await?.expect("somebody won");
    /// assert_eq!(leader.value.as_bytes(), b"node-7");
    /// # service.shutdown().await?;
    /// # Ok::<(), Box<dyn std::error::Error>>(()) })?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub async fn campaign<K, V>(&self, name: K, lease: LeaseId, value: V) -> Result<Lock>
    where
        K: TryInto<Key, Error: Into<Error>>,
        V: TryInto<Value, Error: Into<Error>>,
    {
        let name = key_of(name)?;
        // The claims are where the name is, wherever their keys would be by themselves.
        let here = KvClient { near: Some(name.clone()), ..self.clone() };
        let state = here.claim(name.clone(), lease, value_of(value)?).await?;
        if let Some(lock) = held(&state) {
            return Ok(lock);
        }
        let ended = || Error::Refused(Refusal::LeaseNotFound { id: lease });
        let (key, token) = state.own.ok_or_else(ended)?;
        let claims = KeyRange::prefix([name.as_bytes(), b"/"].concat());
        loop {
            // Begun before looking, so that whatever ends a claim after that is seen; and from
            // now, because history since the claim was made may be compacted.
            let mut changes = here.watch_range(claims.clone()).await?;
            if here.claimed_at(&key).await? != Some(token) {
                return Err(ended());
            }
            match here.holder_of(&name).await? {
                Some(holder) if holder.key == key => return Ok(Lock { key, token }),
                Some(holder) => {
                    changes.until_deleted(|gone| *gone == holder.key || *gone == key).await?;
                }
                // Its own claim ended a moment ago.
                None => return Err(ended()),
            }
        }
    }

    /// Wins an election if nobody leads and nobody waits to.
    pub async fn try_campaign<K, V>(
        &self,
        name: K,
        lease: LeaseId,
        value: V,
    ) -> Result<Option<Lock>>
    where
        K: TryInto<Key, Error: Into<Error>>,
        V: TryInto<Value, Error: Into<Error>>,
    {
        let name = key_of(name)?;
        let state = self.claim(name.clone(), lease, value_of(value)?).await?;
        if let Some(lock) = held(&state) {
            return Ok(Some(lock));
        }
        self.unlock(name, lease).await?;
        Ok(None)
    }

    /// Who holds a lock or leads an election.
    pub async fn holder<K: TryInto<Key, Error: Into<Error>>>(
        &self,
        name: K,
    ) -> Result<Option<Holder>> {
        self.holder_of(&key_of(name)?).await
    }

    /// Replaces what the leader of an election proclaims.
    pub async fn proclaim<K, V>(&self, name: K, lease: LeaseId, value: V) -> Result<()>
    where
        K: TryInto<Key, Error: Into<Error>>,
        V: TryInto<Value, Error: Into<Error>>,
    {
        let (name, value) = (key_of(name)?, value_of(value)?);
        self.execute(Action::Proclaim { name, lease, value }).await.map(drop)
    }

    /// When a claim was made, if it is there.
    async fn claimed_at(&self, key: &Key) -> Result<Option<Revision>> {
        let deadline = self.until();
        let shard = self.shard("a lock", deadline).await?;
        let query = Query::Get(key.clone());
        let answer = shard.query(query, Consistency::Linearizable, deadline).await;
        match self.explained(answer)?.body {
            AnswerBody::Record(record) => Ok(record.map(|record| record.create_revision)),
            other => Err(unexpected(&other)),
        }
    }

    async fn claim(&self, name: Key, lease: LeaseId, value: Value) -> Result<ClaimState> {
        match self.execute(Action::Claim(Claim { name, lease, value })).await?.body {
            AnswerBody::Claim(state) => Ok(state),
            other => Err(unexpected(&other)),
        }
    }

    async fn holder_of(&self, name: &Key) -> Result<Option<Holder>> {
        let query = Query::Holder { name: name.clone() };
        match self.query(query, Consistency::Linearizable).await?.body {
            AnswerBody::Claim(state) => Ok(state.holder),
            other => Err(unexpected(&other)),
        }
    }
}

/// The lock, if the asking claim holds it.
fn held(state: &ClaimState) -> Option<Lock> {
    let (key, token) = state.own.as_ref()?;
    let holder = state.holder.as_ref()?;
    (holder.key == *key).then(|| Lock { key: key.clone(), token: *token })
}
