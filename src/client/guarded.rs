//! The nodes as somebody asks them who may not do everything: the holder of a token, or whoever comes
//! to a node that changes nothing.
//!
//! A [`KvClient`](super::KvClient) over these is like any other, and each of its requests is held
//! against what is allowed before it goes anywhere, by the same rules as those that come with a
//! ticket (`scope`). There is no other way from such a client to the store. Whether the token still
//! holds is asked with each request, and with each change that a watch shows.

use std::fmt::Debug;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use tokio::time::Instant;

use super::desk::Hop;
use super::member::Member;
use super::nodes::{Changes, Nodes, NotAnswered};
use super::request::{Place, Reply, Request};
use super::scope;
use crate::error::{Denied, Error, Result};
use crate::raft::{WatchBatch, WatchRequest};
use crate::roster::clients::Permit;
use crate::roster::records::Keyspace;
use crate::types::{EndpointId, GroupId, KeyspaceName, Revision};

/// Who knows which tokens there are: the node, from the roster.
pub trait Tokens: Debug + Send + Sync + 'static {
    /// Whether what a token permitted still is.
    fn still(&self, permit: &Permit) -> bool;
}

/// The nodes, asked by somebody who may do so much.
#[derive(Clone, Debug)]
pub struct Guarded {
    member: Member,
    rule: Rule,
}

#[derive(Clone, Debug)]
struct Rule {
    tokens: Arc<dyn Tokens>,
    /// `None` is everything that the node does at all.
    permit: Option<Permit>,
}

impl Rule {
    fn still(&self) -> Result<(), Denied> {
        let is_good = self.permit.as_ref().is_none_or(|permit| self.tokens.still(permit));
        if is_good { Ok(()) } else { Err(Denied::Token) }
    }
}

impl Guarded {
    /// Asks as the member does what this permits; without a permit, what the node does at all.
    pub fn new(member: Member, tokens: Arc<dyn Tokens>, permit: Option<Permit>) -> Self {
        Guarded { member, rule: Rule { tokens, permit } }
    }

    fn keyspace_of(&self, group: GroupId) -> Option<KeyspaceName> {
        self.member.desk().members().keyspace_of(group)
    }

    fn check(&self, request: &mut Request) -> Result<(), Denied> {
        self.rule.still()?;
        self.member.desk().check_changes_anything(request)?;
        let Some(permit) = &self.rule.permit else { return Ok(()) };
        let keyspace = self.keyspace_of(request.group());
        scope::check(permit, keyspace.as_ref(), request)
    }

    fn check_watch(&self, group: GroupId, request: &WatchRequest) -> Result<(), Denied> {
        self.rule.still()?;
        let Some(permit) = &self.rule.permit else { return Ok(()) };
        scope::check_watch(permit, self.keyspace_of(group).as_ref(), &request.range)
    }

    /// Whether a keyspace is there is for whoever may do anything with any of its keys.
    fn check_keyspace(&self, name: &KeyspaceName) -> Result<(), Denied> {
        self.rule.still()?;
        let mut request = Request::Locate { keyspace: name.clone() };
        let Some(permit) = &self.rule.permit else { return Ok(()) };
        scope::check(permit, None, &mut request)
    }
}

impl Nodes for Guarded {
    fn is_closed(&self) -> bool {
        self.member.is_closed()
    }

    fn here(&self, group: GroupId) -> Option<EndpointId> {
        self.member.here(group)
    }

    fn known(&self, group: GroupId) -> Option<Arc<[EndpointId]>> {
        self.member.known(group)
    }

    fn not_here(&self, group: GroupId, as_of: Revision) {
        self.member.not_here(group, as_of);
    }

    fn retries(&self) {
        self.member.retries();
    }

    /// One that may not be known is looked for, and that is refused.
    fn keyspace(&self, name: &KeyspaceName) -> Option<Keyspace> {
        self.check_keyspace(name).ok()?;
        self.member.keyspace(name)
    }

    fn find_keyspace<'a>(
        &'a self,
        name: &'a KeyspaceName,
        deadline: Instant,
    ) -> BoxFuture<'a, Result<Option<Keyspace>>> {
        Box::pin(async move {
            self.check_keyspace(name)?;
            self.member.find_keyspace(name, deadline).await
        })
    }

    fn learn(&self, place: &Place) {
        self.member.learn(place);
    }

    fn ask(
        &self,
        node: EndpointId,
        mut request: Request,
        hop: Hop,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Reply, NotAnswered>> {
        match self.check(&mut request) {
            Ok(()) => self.member.ask(node, request, hop, deadline),
            Err(denied) => {
                let denied = self.member.desk().refuse(&request, denied);
                Box::pin(std::future::ready(Err(NotAnswered::Failed(denied))))
            }
        }
    }

    fn watch(
        &self,
        node: EndpointId,
        group: GroupId,
        request: WatchRequest,
        deadline: Instant,
    ) -> BoxFuture<'_, Result<Box<dyn Changes>, NotAnswered>> {
        Box::pin(async move {
            self.check_watch(group, &request).map_err(Error::from)?;
            let changes = self.member.watch(node, group, request, deadline).await?;
            Ok(Box::new(GuardedChanges { changes, rule: self.rule.clone() }) as _)
        })
    }
}

/// A watch that ends when its token does.
#[derive(Debug)]
struct GuardedChanges {
    changes: Box<dyn Changes>,
    rule: Rule,
}

impl Changes for GuardedChanges {
    fn next_revision(&self) -> Revision {
        self.changes.next_revision()
    }

    fn next(&mut self) -> BoxFuture<'_, Result<Option<WatchBatch>>> {
        Box::pin(async move {
            let batch = self.changes.next().await?;
            self.rule.still()?;
            Ok(batch)
        })
    }
}
