//! [`Cluster`]: the cluster as a program that administers it sees it.
//!
//! Every act is a decision of `roster` on records that are known to be fresh, committed in the
//! meta group on the condition that they have not changed; if they have, it is decided anew. So
//! any member can act, and two that act at once do so one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use aspen_tickets::{
    ClientTicket, JoinTicket, PEER_ADDRESSES_MAX, PEERS_MAX, Peer, Role, Signature, TicketError,
    USES_ANY, signed_bytes,
};
use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{OnceCell, watch};
use tokio::time::{Instant, sleep, timeout};

use super::balancing::{HeardLoads, Silences};
use super::departures::Gone;
use super::join::{Acquaintance, Admitted, Question};
use super::tokens::Looks;
use crate::actors::{Groups, Members, Rumours, read_roster};
use crate::client::{self, GroupClient};
use crate::error::Error;
use crate::limits::{
    CLIENT_DEADLINE, CLUSTER_DECIDE_TRIES_MAX, CLUSTER_FOLLOW_MAX, TOLD_LOOK, TOLD_WITHIN,
};
use crate::machine::ops::{
    Action, AnswerBody, Compare, CompareKeys, CompareTarget, Delete, Is, KeyRange, Op, Put,
    PutLease, Query, Txn,
};
use crate::net::{NodeKey, Peers, verify};
use crate::raft::ChangeFailed;
use crate::roster::Roster;
use crate::roster::admit::{self, Application, Description};
use crate::roster::announcement::{Announcement, PartRole};
use crate::roster::builds::{gate, split};
use crate::roster::change::Change;
use crate::roster::found::{Founding, found};
use crate::roster::keyspaces::{Aim, NewKeyspace, create, delete};
use crate::roster::leave::Votes;
use crate::roster::placement::odd;
use crate::roster::records::{Keyspace, Member, Stage, State};
use crate::roster::refused::Refused;
use crate::roster::tickets::{self, Access, NewTicket, invite};
use crate::roster::tokens::Token;
use crate::roster::{balance, duties, leave, settings};
use crate::seams::failpoint::Failpoint;
use crate::seams::network::Network;
use crate::seams::{self, Seams};
use crate::status;
use crate::types::{Address, Consistency, EndpointId, GroupId, Key, NodeId, Revision, Value};

fn not_a_ticket(error: TicketError) -> ClusterError {
    Error::Fatal(format!("the ticket can't be made: {error}")).into()
}

/// Why something was not done to the cluster.
#[derive(Clone, Debug, Error)]
#[non_exhaustive]
pub enum ClusterError {
    /// It would not be right; nothing was done.
    #[error("{0}")]
    Refused(#[from] Refused),
    /// The meta group could not be asked or told.
    #[error("{0}")]
    Failed(#[from] Error),
    /// A group's members or leader did not change.
    #[error("{0}")]
    NotChanged(#[from] ChangeFailed),
}

/// How far a node's leaving is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It hands over what it has.
    UnderWay,
    /// It has left.
    Over,
}

/// A handle on the cluster; clones are the same.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub(super) inner: Arc<Parts>,
}

#[derive(Debug)]
pub(super) struct Parts {
    pub(super) me: NodeId,
    pub(super) key: NodeKey,
    /// The meta group's store.
    pub(super) meta: GroupClient,
    /// The nodes, as this one asks them.
    pub(super) member: client::Member,
    pub(super) looks: Looks,
    /// The token of whoever can read the node's files, once it was asked for.
    pub(super) owner: OnceCell<Token>,
    pub(super) members: Members,
    pub(super) groups: Groups,
    pub(super) network: Arc<dyn Network>,
    pub(super) peers: Peers,
    /// What the others say of themselves.
    pub(super) rumours: Rumours,
    /// Since when they are not heard.
    pub(super) silences: Silences,
    /// What was heard of the loads of shards.
    pub(super) loads: HeardLoads,
    pub(super) seams: Seams,
    pub(super) data_dir: PathBuf,
    /// Told why, when the node is a member no longer.
    pub(super) gone: watch::Receiver<Option<Gone>>,
}

impl Cluster {
    pub(super) fn new(parts: Parts) -> Self {
        Cluster { inner: Arc::new(parts) }
    }

    /// Everything that is known here of members and tickets.
    pub fn roster(&self) -> Arc<Roster> {
        self.inner.members.roster()
    }

    /// The roster as it is now, nothing that was acknowledged missing.
    pub async fn fresh(&self) -> Result<Arc<Roster>, Error> {
        let ask = self.inner.meta.query(Query::Status, Consistency::Linearizable, deadline());
        let revision = ask.await?.revision;
        let mut changes = self.inner.members.changes();
        let seen = changes.wait_for(|roster| roster.revision() >= revision);
        if let Ok(Ok(roster)) = timeout(CLUSTER_FOLLOW_MAX, seen).await {
            return Ok(roster.clone());
        }
        self.hear().await
    }

    /// Asks the other members for the roster: this node may be cut off from whoever leads, for a
    /// reason that only the roster tells.
    pub(super) async fn hear(&self) -> Result<Arc<Roster>, Error> {
        let Parts { meta, members, .. } = &*self.inner;
        let roster =
            read_roster(|query| meta.query(query, Consistency::Linearizable, deadline())).await?;
        members.take(&roster);
        Ok(members.roster())
    }

    /// Makes a ticket for nodes: so many may join by it, or any number, until its time is over.
    pub async fn invite(
        &self,
        role: Role,
        life: Duration,
        uses: Option<u32>,
    ) -> Result<JoinTicket, ClusterError> {
        let new = self.new_ticket(life, uses, role);
        let invitation = self.decide(|roster, now_s| invite(roster, &new, now_s)).await?;
        let (cluster, peers) = self.dialled().await?;
        let bytes = signed_bytes(cluster.id, &invitation);
        let signature = Signature(self.inner.key.sign(&bytes));
        JoinTicket::new(cluster, peers, invitation, signature).map_err(not_a_ticket)
    }

    /// Makes a ticket for clients.
    pub async fn grant(
        &self,
        access: Access,
        life: Duration,
        uses: Option<u32>,
    ) -> Result<ClientTicket, ClusterError> {
        let new = self.new_ticket(life, uses, access);
        let grant = self.decide(|roster, now_s| tickets::grant(roster, &new, now_s)).await?;
        let (cluster, peers) = self.dialled().await?;
        let bytes = signed_bytes(cluster.id, &grant);
        let signature = Signature(self.inner.key.sign(&bytes));
        ClientTicket::new(cluster, peers, grant, signature).map_err(not_a_ticket)
    }

    /// Makes a ticket of either kind good for nothing.
    pub async fn revoke(&self, id: u128) -> Result<(), ClusterError> {
        self.decide(|roster, _| Ok(((), tickets::revoke(roster, id)?))).await
    }

    /// Removes a member that will not come back. Who has taken a group in says so a moment later, and is
    /// waited for.
    pub async fn remove(&self, node: NodeId) -> Result<(), ClusterError> {
        let remove = |roster: &Roster, _| {
            let away = self.silent().into_keys().collect();
            let change = leave::remove(roster, node, &away)?;
            leave::check_not_needed(roster, node, &away, &self.votes(roster))?;
            Ok(((), change))
        };
        let waits_until = Instant::now() + TOLD_WITHIN;
        loop {
            match self.decide(&remove).await {
                Err(ClusterError::Refused(Refused::Lacking { .. }))
                    if Instant::now() < waits_until =>
                {
                    sleep(TOLD_LOOK).await;
                }
                decided => return decided,
            }
        }
    }

    /// Takes this node out of its cluster: its groups are handed over first. Resolves when it is
    /// no member any more; asked again, it goes on.
    pub async fn leave(&self) -> Result<(), ClusterError> {
        match self.begin_to_leave().await? {
            Departure::Over => Ok(()),
            Departure::UnderWay => self.left().await,
        }
    }

    /// Resolves when it is decided that this node leaves, or that it does not; [`Cluster::left`] says
    /// when it has.
    pub async fn begin_to_leave(&self) -> Result<Departure, ClusterError> {
        let me = self.inner.me;
        // Once no group holds the node it sees nothing of the roster, and hears from the others that
        // it has left; whoever it asks meanwhile may not answer any more.
        if self.roster().member(me).is_some_and(|member| member.state == State::Leaving) {
            return Ok(Departure::UnderWay);
        }
        let leave = |roster: &Roster, _| {
            let away = self.silent().into_keys().collect();
            Ok(((), leave::leave(roster, me, &away)?))
        };
        tokio::select! {
            biased;
            gone = self.gone() => gone.map(|()| Departure::Over),
            decided = self.decide(leave) => match decided {
                Ok(()) => Ok(Departure::UnderWay),
                // It has left since it was asked to.
                Err(ClusterError::Refused(Refused::Removed { .. })) => Ok(Departure::Over),
                Err(error) => Err(error),
            },
        }
    }

    /// Resolves when this node, which is leaving, is no member any more, or stays after all.
    pub async fn left(&self) -> Result<(), ClusterError> {
        let me = self.inner.me;
        let mut changes = self.inner.members.changes();
        let mut is = async |state| {
            let member = |roster: &Roster| roster.member(me).map(|member| member.state);
            let seen = changes.wait_for(|roster| member(roster) == Some(state)).await;
            seen.is_ok()
        };
        let stays = async {
            // That it was to leave may not have come here yet.
            if !(is(State::Leaving).await && is(State::Active).await) {
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            gone = self.gone() => gone,
            () = stays => Err(Refused::LastVoter { node: me }.into()),
        }
    }

    /// Resolves when this node knows that it is no member any more.
    async fn gone(&self) -> Result<(), ClusterError> {
        let mut gone = self.inner.gone.clone();
        let gone = gone.wait_for(Option::is_some).await;
        match gone.ok().and_then(|gone| gone.clone()) {
            Some(Gone::Removed(_)) => Ok(()),
            Some(Gone::Unfit(reason)) => Err(Error::Fatal(reason).into()),
            None => Err(Error::Fatal("the node has stopped".into()).into()),
        }
    }

    /// Makes a keyspace of so many shards, each with so many replicas once there are as many members.
    /// It can be used at once, and serves when its shards have their places.
    pub async fn create_keyspace(
        &self,
        name: &str,
        shards: u32,
        replicas: u8,
    ) -> Result<Keyspace, ClusterError> {
        let name = name.parse().map_err(Error::from)?;
        let new = NewKeyspace { name, shards, replicas };
        self.decide(|roster, now_s| create(roster, &new, now_s)).await
    }

    /// Deletes a keyspace with all that is in it.
    pub async fn delete_keyspace(&self, name: &str) -> Result<(), ClusterError> {
        let name = name.parse().map_err(Error::from)?;
        self.decide(|roster, _| Ok(((), delete(roster, &name)?))).await
    }

    /// Sets a setting of the cluster; without a value its default holds again. Answers the roster's
    /// revision by then.
    pub async fn set(&self, name: &str, value: Option<&str>) -> Result<Revision, ClusterError> {
        let (_, level) = split(seams::version());
        self.decide(|roster, _| Ok(((), settings::set(roster, level, name, value)?))).await?;
        Ok(self.fresh().await?.revision())
    }

    /// Begins to take everything off a member, or ends that.
    pub async fn drain(&self, node: NodeId, on: bool) -> Result<(), ClusterError> {
        self.decide(|roster, _| Ok(((), duties::drain(roster, node, on)?))).await
    }

    /// Puts members under maintenance, or ends that: all of them or none.
    pub async fn maintain(&self, nodes: &BTreeSet<NodeId>, on: bool) -> Result<(), ClusterError> {
        self.decide(|roster, _| Ok(((), duties::maintain(roster, nodes, on)?))).await
    }

    /// Says how much this node takes, in proportion to others.
    pub(super) async fn weigh(&self, weight: u32) -> Result<(), ClusterError> {
        let me = self.inner.me;
        self.decide(|roster, _| Ok(((), duties::weigh(roster, me, weight)?))).await
    }

    /// Where shards would be put next and why, as it looks from this node.
    pub async fn plan(&self) -> Result<Vec<(GroupId, Aim, balance::Why)>, Error> {
        let roster = self.fresh().await?;
        Ok(balance::plan_with_reasons(&roster, &self.placement_facts(&roster)))
    }

    /// The roster as it is now, or as it is known here if the others can't be asked.
    pub async fn fresh_or_known(&self) -> Arc<Roster> {
        let fresh = timeout(CLUSTER_FOLLOW_MAX, self.fresh()).await;
        fresh.ok().and_then(Result::ok).unwrap_or_else(|| self.roster())
    }

    /// Decides whether a ticket's holder becomes a member.
    pub(super) async fn admit(
        &self,
        peer: EndpointId,
        ticket: &JoinTicket,
        question: &Question,
    ) -> Result<Admitted, ClusterError> {
        let application =
            Application::new(ticket, peer, question.wanted, question.description.clone());
        let admitted =
            self.decide(|roster, now_s| admit::admit(roster, &application, now_s, &verify)).await?;
        let roster = self.fresh().await?;
        let cluster = roster.cluster().ok_or(Refused::NotFounded)?;
        tracing::info!(member = admitted.node.0, %peer, again = admitted.again, "admitted a node");
        Ok(Admitted {
            node: admitted.node,
            cluster_id: cluster.id,
            cluster_name: cluster.name.clone(),
            members: roster
                .present()
                .filter(|member| member.node != admitted.node)
                .map(|member| Acquaintance {
                    node: member.node,
                    endpoint: member.endpoint,
                    addresses: self.addresses_of(member),
                })
                .collect(),
        })
    }

    /// Writes the first records of a cluster that this node founds.
    pub(super) async fn found(&self, founding: Founding) -> Result<(), ClusterError> {
        self.decide(|roster, now_s| match roster.cluster() {
            Some(_) => Ok(((), Change::default())),
            None => Ok(((), found(roster, founding.clone(), now_s)?)),
        })
        .await
    }

    /// Tells the others what this node says of itself, if that is new.
    pub(super) async fn describe(&self, description: &Description) -> Result<(), ClusterError> {
        let me = self.inner.me;
        self.decide(|roster, _| Ok(((), leave::update(roster, me, description)?))).await
    }

    fn new_ticket<T>(&self, life: Duration, uses: Option<u32>, what: T) -> NewTicket<T> {
        NewTicket {
            id: self.inner.seams.random.next_u128(),
            life_s: life.as_secs(),
            uses: uses.unwrap_or(USES_ANY),
            issuer: self.inner.key.endpoint_id(),
            what,
        }
    }

    /// What a ticket says of where to dial: this node first.
    async fn dialled(&self) -> Result<(aspen_tickets::Cluster, Vec<Peer>), ClusterError> {
        let roster = self.fresh().await?;
        let cluster = roster.cluster().ok_or(Refused::NotFounded)?;
        let mut members: Vec<_> = roster.present().collect();
        members.sort_by_key(|member| (member.node != self.inner.me, member.node));
        let peer = |member: &&Member| Peer {
            endpoint: member.endpoint.0,
            addresses: self.addresses_of(member),
        };
        let peers = members.iter().take(PEERS_MAX).map(peer).collect();
        Ok((aspen_tickets::Cluster { id: cluster.id.0, name: cluster.name.clone() }, peers))
    }

    fn addresses_of(&self, member: &Member) -> Vec<Address> {
        let mut addresses = match member.node == self.inner.me {
            true => self.inner.network.addresses(),
            false => member.addresses.clone(),
        };
        Address::keep_few(&mut addresses, PEER_ADDRESSES_MAX);
        addresses
    }

    /// Decides on fresh records and commits what follows, as often as they change in between.
    pub(super) async fn decide<T>(
        &self,
        decide: impl Fn(&Roster, u64) -> Result<(T, Change), Refused>,
    ) -> Result<T, ClusterError> {
        for _ in 0..CLUSTER_DECIDE_TRIES_MAX {
            let roster = self.fresh().await?;
            let (decided, change) = decide(&roster, self.now_s())?;
            let change = gate(&roster, change)?;
            if change.is_empty() || self.commit(change).await? {
                return Ok(decided);
            }
        }
        Err(Error::Busy { what: "the roster, which many change", retry_after_ms: 1_000 }.into())
    }

    /// Whether this node leads the meta group, as far as it knows.
    pub(super) fn leads_meta(&self) -> bool {
        let meta = self.inner.groups.get(GroupId::META);
        meta.is_some_and(|replica| replica.status().role == status::Role::Leader)
    }

    /// The other present members that there is no link to, each with when others passed on what it
    /// said.
    pub(super) fn silent(&self) -> BTreeMap<NodeId, Option<Instant>> {
        let facts = self.inner.peers.facts();
        let connected = facts.iter().filter(|facts| facts.connected_since.is_some());
        let connected: BTreeSet<EndpointId> = connected.map(|facts| facts.peer).collect();
        let roster = self.roster();
        let others = roster.present().filter(|member| member.node != self.inner.me);
        let silent = others.filter(|member| !connected.contains(&member.endpoint));
        let told = |endpoint| Instant::now().checked_sub(self.inner.rumours.of(endpoint)?.age);
        silent.map(|member| (member.node, told(member.endpoint))).collect()
    }

    /// Who votes in each group: by the replica that is here or by what the members say, as long as
    /// nothing changes; otherwise as its leader knows. Where only the records tell it, they are ahead
    /// of what is: whoever does not say that it votes is on its way.
    fn votes(&self, roster: &Roster) -> BTreeMap<GroupId, Votes> {
        let mut told: BTreeMap<GroupId, BTreeSet<NodeId>> = BTreeMap::new();
        let mut says_all = BTreeSet::new();
        for member in roster.present() {
            let Some(heard) = self.inner.rumours.of(member.endpoint) else { continue };
            let Announcement { groups, groups_cut, .. } = heard.announcement;
            if !groups_cut {
                says_all.insert(member.node);
            }
            for part in groups.iter().filter(|part| part.role != PartRole::Learner) {
                told.entry(part.group).or_default().insert(member.node);
            }
        }
        let here =
            self.inner.groups.statuses().into_iter().filter(|status| !status.voters.is_empty());
        let mut known: BTreeMap<GroupId, (status::Role, BTreeSet<NodeId>)> =
            here.map(|status| (status.group, (status.role, status.voters))).collect();
        let members: BTreeSet<NodeId> =
            roster.members().filter(|member| member.may_vote()).map(|member| member.node).collect();
        let mut meta = Votes::of(members);
        meta.count = odd(meta.count);
        let shards = roster.shards().filter(|(_, shard, _)| shard.stage != Stage::Waiting);
        let shards = shards.map(|(group, shard, _)| (group, Votes::of_shard(shard), shard.stage));
        let votes = |(group, may, stage): (GroupId, Votes, Stage)| {
            let rests = stage == Stage::Settled;
            let told = told.remove(&group).unwrap_or_default();
            let known = known.remove(&group);
            let known = known.filter(|(role, _)| rests || *role == status::Role::Leader);
            let said = (rests && told.len() >= may.count).then(|| told.clone());
            let voters = known.map(|(_, voters)| voters).or(said);
            if stage == Stage::Founding {
                // Whoever has nothing of it yet will found it, and votes then.
                return (group, voters.map_or(may, Votes::of));
            }
            let says_no = |node| says_all.contains(&node) && !told.contains(&node);
            let says_nothing = |node| !told.contains(&node);
            let votes = match voters {
                Some(voters) => Votes::of(voters).lacked_by(says_no),
                None if rests => may.lacked_by(says_no),
                None => may.lacked_by(says_nothing),
            };
            (group, votes)
        };
        [(GroupId::META, meta, Stage::Settled)].into_iter().chain(shards).map(votes).collect()
    }

    /// Bytes that nobody can guess.
    pub(super) fn new_secret(&self) -> [u8; 32] {
        let mut secret = [0; 32];
        self.inner.seams.random.fill(&mut secret);
        secret
    }

    /// What time it is, as tickets count it: in seconds since 1970.
    pub fn now_s(&self) -> u64 {
        self.inner.seams.wall.since_epoch().as_secs()
    }

    /// False if a record was not as the change's guards say; then nothing was written.
    async fn commit(&self, change: Change) -> Result<bool, Error> {
        Failpoint::BeforeRoster.pass();
        let answer = self.inner.meta.execute(Action::Txn(transaction(change)?), deadline()).await?;
        Failpoint::AfterRoster.pass();
        match answer.body {
            AnswerBody::Txn { succeeded, .. } => Ok(succeeded),
            _ => Err(Error::Fatal("the machine answered another question".into())),
        }
    }
}

/// When an act that begins now must end.
fn deadline() -> Instant {
    Instant::now() + CLIENT_DEADLINE
}

pub(super) fn transaction(change: Change) -> Result<Txn, Error> {
    let Change { guards, writes, .. } = change;
    let when = guards.into_iter().map(|(key, revision)| {
        let range = CompareKeys::One(Key::try_from(key)?);
        Ok(Compare { range, target: CompareTarget::Mod(revision), is: Is::Equal })
    });
    let then = writes.into_iter().map(|(key, value)| {
        let key = Key::try_from(key)?;
        Ok(match value {
            None => Op::Delete(Delete { range: KeyRange::one(&key), prev: false }),
            Some(value) => Op::Put(Put {
                key,
                value: Some(Value::try_from(Bytes::from(value))?),
                lease: PutLease::Detach,
                prev: false,
            }),
        })
    });
    Ok(Txn {
        when: when.collect::<Result<_, Error>>()?,
        then: then.collect::<Result<_, Error>>()?,
        or_else: Vec::new(),
    })
}
