//! Who belongs to the cluster: members, invitations, client tickets, and what each group wants.
//!
//! The roster is records in the key space of the meta group, and this module is what they mean. It
//! is pure: given the records as they are and a request, it decides what to write and on which
//! condition. Whoever leads the meta group commits that as one guarded transaction; if a guard no
//! longer holds, nothing is written, and the request is decided again on the newer records. Every
//! decision is therefore atomic, made on what it saw, and visible to all as one revision, which is
//! the cluster's epoch.
//!
//! | where | what |
//! |---|---|
//! | [`records`] | the records, their keys and bytes |
//! | [`builds`] | what a cluster may do while its members run different builds |
//! | [`change`] | what a decision writes, and on which condition |
//! | [`found`] | the first member |
//! | [`admit`] | a ticket's holder becomes a member |
//! | [`tickets`] | tickets are made, listed by whoever asks, revoked |
//! | [`clients`] | a client's ticket is held against the records, a request against its scope |
//! | [`leave`] | members change what they say of themselves, leave and are removed |
//! | [`mesh`] | how nodes on a LAN that share a name become one cluster |
//! | [`keyspaces`] | keyspaces are made and deleted, their shards get their places |
//! | [`spread`] | which shard a key is in |
//! | [`duties`] | which members take more, less or nothing, and which are away for a while |
//! | [`settings`] | what holds for the whole cluster |
//! | [`balance`] | where the shards of all keyspaces are to be |
//! | [`placement`] | the next change of a group's membership |
//! | [`repairs`] | a replica that is damaged is taken again from the others |
//! | [`undertakings`] | what is under way and takes long, and how far it is |
//! | [`announcement`] | what a member says of itself to all others, signed |
//! | [`hearsay`] | what is believed of it, and from whom |
//! | [`pace`] | when a member announces itself next |
//! | [`recovery`] | one member makes a new cluster of what it has |
//! | [`refused`] | every reason for which a decision is not made |
//!
//! Invariants, each kept by every decision:
//! - A number is one node's for ever. What was removed stays as a tombstone, so that it can be told;
//!   the numbers of tombstones that had to be forgotten are never given again.
//! - A key belongs to at most one member that is not removed.
//! - A node that comes with the key of a member but without its data is a new node.
//! - There is always an active member whose role is voter.
//! - Decisions that depend on more than the records they rewrite also rewrite the cluster's record,
//!   and so follow each other one by one.
//!
//! What members announce to each other is no record: it is signed by its author and held against
//! the roster, but nobody has agreed on it. It says where to dial, what to show, whose disk is full
//! and how busy groups are; only who leads of those that may rests on it.
//!
//! What this module refuses to know: how a transaction is committed, who leads, what a signature
//! is made of, what time it is.

pub mod admit;
pub mod announcement;
pub mod balance;
pub mod builds;
pub mod change;
pub mod clients;
pub mod duties;
pub mod found;
pub mod hearsay;
pub mod keyspaces;
pub mod leave;
pub mod load;
pub mod mesh;
pub mod pace;
pub mod placement;
pub mod records;
pub mod recovery;
pub mod refused;
pub mod repairs;
pub mod settings;
pub mod spread;
pub mod tickets;
pub mod tokens;
pub mod undertakings;

use std::collections::BTreeMap;

use crate::types::{EndpointId, GroupId, KeyspaceName, NodeId, Revision};

use change::Change;
use records::{
    Client, Cluster, Damaged, Duty, Grant, Invitation, Keyspace, Keyspaces, Member, Record,
    RecordKey, Repair, Shard, State,
};
use refused::Refused;
use tokens::TokenRecord;

/// A record and the revision that wrote it last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct At<T> {
    /// What it says.
    pub record: T,
    /// What a guard compares.
    pub mod_revision: Revision,
}

/// What a key is to the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// A member's, which may speak; one that is leaving included.
    Member(NodeId),
    /// It was a member's, which has been removed: tell it, so that it stops trying.
    Removed(NodeId),
    /// Nobody's that we know.
    Stranger,
}

/// All records, as of one revision of the meta group.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Roster {
    revision: Revision,
    cluster: Option<At<Cluster>>,
    members: BTreeMap<NodeId, At<Member>>,
    invitations: BTreeMap<u128, At<Invitation>>,
    grants: BTreeMap<u128, At<Grant>>,
    clients: BTreeMap<(u128, EndpointId), At<Client>>,
    tokens: BTreeMap<u128, At<TokenRecord>>,
    next_group: Option<At<Keyspaces>>,
    keyspaces: BTreeMap<KeyspaceName, At<Keyspace>>,
    shards: BTreeMap<GroupId, At<Shard>>,
    duties: BTreeMap<NodeId, At<Duty>>,
    settings: BTreeMap<String, At<String>>,
    repairs: BTreeMap<GroupId, At<Repair>>,
    /// The highest level of which something was written.
    used: Option<At<u32>>,
    /// The member of each key, or else its newest tombstone.
    by_endpoint: BTreeMap<EndpointId, NodeId>,
}

impl Roster {
    /// The roster in these records (key, value, mod revision), read at `revision`. Keys that are
    /// not ours are left out.
    pub fn load<K, V>(
        records: impl IntoIterator<Item = (K, V, Revision)>,
        revision: Revision,
    ) -> Result<Self, Damaged>
    where
        K: AsRef<[u8]>,
        V: AsRef<[u8]>,
    {
        let mut roster = Roster::default();
        for (key, value, mod_revision) in records {
            roster.put(key.as_ref(), value.as_ref(), mod_revision)?;
        }
        roster.reach(revision);
        Ok(roster)
    }

    /// Takes over a record as it was written, and the revision with it. After an error the roster
    /// is as before: its reader must not go on as if it had seen this revision.
    pub fn put(&mut self, key: &[u8], value: &[u8], mod_revision: Revision) -> Result<(), Damaged> {
        if let Some(key) = RecordKey::decode(key)? {
            self.set(Record::decode(&key, value)?, mod_revision);
        }
        self.reach(mod_revision);
        Ok(())
    }

    /// Forgets a record that was deleted at `revision`.
    pub fn delete(&mut self, key: &[u8], revision: Revision) -> Result<(), Damaged> {
        if let Some(key) = RecordKey::decode(key)? {
            self.unset(&key);
        }
        self.reach(revision);
        Ok(())
    }

    /// The meta group has come to `revision`, with or without records of ours.
    pub fn reach(&mut self, revision: Revision) {
        self.revision = self.revision.max(revision);
    }

    /// Does what committing `change` does: all of it, at the next revision, or nothing, and
    /// `false`, if a guard does not hold.
    pub fn commit(&mut self, change: &Change) -> Result<bool, Damaged> {
        for (key, mod_revision) in &change.guards {
            if self.mod_revision(key)? != *mod_revision {
                return Ok(false);
            }
        }
        let mut records = Vec::new();
        for (key, value) in &change.writes {
            let Some(key) = RecordKey::decode(key)? else { continue };
            let record = value.as_ref().map(|value| Record::decode(&key, value)).transpose()?;
            records.push((key, record));
        }
        self.revision += u64::from(!change.is_empty());
        for (key, record) in records {
            match record {
                Some(record) => self.set(record, self.revision),
                None => self.unset(&key),
            }
        }
        Ok(true)
    }

    /// The revision up to which records were taken over: the cluster's epoch.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The cluster's own record; `None` before it is founded.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.cluster.as_ref().map(|at| &at.record)
    }

    /// Members and tombstones by number.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values().map(|at| &at.record)
    }

    /// Members that are active or leaving.
    pub fn present(&self) -> impl Iterator<Item = &Member> {
        self.members().filter(|member| member.is_present())
    }

    /// A member or tombstone.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node).map(|at| &at.record)
    }

    /// The member of a key, or its newest tombstone.
    pub fn member_of(&self, endpoint: EndpointId) -> Option<&Member> {
        self.member(*self.by_endpoint.get(&endpoint)?)
    }

    /// Invitations for nodes, by id; expired and revoked ones too until they are dropped.
    pub fn invitations(&self) -> impl Iterator<Item = (u128, &Invitation)> {
        self.invitations.iter().map(|(id, at)| (*id, &at.record))
    }

    /// Grants for clients, by id; as above.
    pub fn grants(&self) -> impl Iterator<Item = (u128, &Grant)> {
        self.grants.iter().map(|(id, at)| (*id, &at.record))
    }

    /// What a key may do here: what a connection is checked against before a byte of it is read.
    pub fn standing(&self, endpoint: EndpointId) -> Standing {
        match self.member_of(endpoint) {
            Some(member) if member.is_present() => Standing::Member(member.node),
            Some(member) => Standing::Removed(member.node),
            None => Standing::Stranger,
        }
    }

    fn founded(&self) -> Result<&At<Cluster>, Refused> {
        self.cluster.as_ref().ok_or(Refused::NotFounded)
    }

    fn known(&self, node: NodeId) -> Result<&At<Member>, Refused> {
        self.members.get(&node).ok_or(Refused::UnknownNode { node })
    }

    /// The active member with this key; only such make tickets, and only theirs are good.
    fn active(&self, endpoint: EndpointId) -> Option<&Member> {
        self.member_of(endpoint).filter(|member| member.state == State::Active)
    }

    fn mod_revision(&self, key: &[u8]) -> Result<Revision, Damaged> {
        let Some(key) = RecordKey::decode(key)? else { return Ok(0) };
        let revision = match key {
            RecordKey::Cluster => self.cluster.as_ref().map(|at| at.mod_revision),
            RecordKey::Member(node) => self.members.get(&node).map(|at| at.mod_revision),
            RecordKey::Invitation(id) => self.invitations.get(&id).map(|at| at.mod_revision),
            RecordKey::Grant(id) => self.grants.get(&id).map(|at| at.mod_revision),
            RecordKey::Client(id, endpoint) => {
                self.clients.get(&(id, endpoint)).map(|at| at.mod_revision)
            }
            RecordKey::Token(id) => self.tokens.get(&id).map(|at| at.mod_revision),
            RecordKey::Keyspaces => self.next_group.as_ref().map(|at| at.mod_revision),
            RecordKey::Keyspace(name) => self.keyspaces.get(&name).map(|at| at.mod_revision),
            RecordKey::Shard(group) => self.shards.get(&group).map(|at| at.mod_revision),
            RecordKey::Duty(node) => self.duties.get(&node).map(|at| at.mod_revision),
            RecordKey::Setting(name) => self.settings.get(&name).map(|at| at.mod_revision),
            RecordKey::Repair(group) => self.repairs.get(&group).map(|at| at.mod_revision),
            RecordKey::Level => self.used.as_ref().map(|at| at.mod_revision),
        };
        Ok(revision.unwrap_or(0))
    }

    fn set(&mut self, record: Record, mod_revision: Revision) {
        match record {
            Record::Cluster(record) => self.cluster = Some(At { record, mod_revision }),
            Record::Member(record) => {
                let (node, endpoint) = (record.node, record.endpoint);
                let before = self.members.insert(node, At { record, mod_revision });
                if let Some(before) = before.filter(|before| before.record.endpoint != endpoint) {
                    self.index(before.record.endpoint);
                }
                self.index(endpoint);
            }
            Record::Invitation(id, record) => {
                self.invitations.insert(id, At { record, mod_revision });
            }
            Record::Grant(id, record) => {
                self.grants.insert(id, At { record, mod_revision });
            }
            Record::Client(id, endpoint, record) => {
                self.clients.insert((id, endpoint), At { record, mod_revision });
            }
            Record::Token(id, record) => {
                self.tokens.insert(id, At { record, mod_revision });
            }
            Record::Keyspaces(record) => self.next_group = Some(At { record, mod_revision }),
            Record::Keyspace(name, record) => {
                self.keyspaces.insert(name, At { record, mod_revision });
            }
            Record::Shard(group, record) => {
                self.shards.insert(group, At { record, mod_revision });
            }
            Record::Duty(node, record) => {
                self.duties.insert(node, At { record, mod_revision });
            }
            Record::Setting(name, record) => {
                self.settings.insert(name, At { record, mod_revision });
            }
            Record::Repair(group, record) => {
                self.repairs.insert(group, At { record, mod_revision });
            }
            Record::Level(record) => self.used = Some(At { record, mod_revision }),
        }
    }

    fn unset(&mut self, key: &RecordKey) {
        match key {
            RecordKey::Cluster => self.cluster = None,
            RecordKey::Member(node) => {
                if let Some(before) = self.members.remove(node) {
                    self.index(before.record.endpoint);
                }
            }
            RecordKey::Invitation(id) => drop(self.invitations.remove(id)),
            RecordKey::Grant(id) => drop(self.grants.remove(id)),
            RecordKey::Client(id, endpoint) => drop(self.clients.remove(&(*id, *endpoint))),
            RecordKey::Token(id) => drop(self.tokens.remove(id)),
            RecordKey::Keyspaces => self.next_group = None,
            RecordKey::Keyspace(name) => drop(self.keyspaces.remove(name)),
            RecordKey::Shard(group) => drop(self.shards.remove(group)),
            RecordKey::Duty(node) => drop(self.duties.remove(node)),
            RecordKey::Setting(name) => drop(self.settings.remove(name)),
            RecordKey::Repair(group) => drop(self.repairs.remove(group)),
            RecordKey::Level => self.used = None,
        }
    }

    /// Finds the member of a key anew. A look at all members, but only when one changes.
    fn index(&mut self, endpoint: EndpointId) {
        let of_key = self.members().filter(|member| member.endpoint == endpoint);
        match of_key.max_by_key(|member| (member.is_present(), member.node)).map(|m| m.node) {
            Some(node) => drop(self.by_endpoint.insert(endpoint, node)),
            None => drop(self.by_endpoint.remove(&endpoint)),
        }
    }
}
