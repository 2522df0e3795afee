//! The records of the roster, their keys and their bytes.
//!
//! ```text
//! cluster                              → Cluster
//! member/<number>                      → Member
//! invitation/<id, 32 hex digits>       → Invitation
//! grant/<id, 32 hex digits>            → Grant
//! client/<grant, 32>/<key, 64>         → Client
//! token/<id, 32 hex digits>            → TokenRecord
//! keyspaces                            → Keyspaces
//! keyspace/<name>                      → Keyspace
//! shard/<group>                        → Shard
//! duty/<number>                        → Duty
//! setting/<name>                       → text
//! repair/<group>                       → Repair
//! level                                → number
//! ```
//!
//! A value is a version byte and postcard. Keys and values have one form each: bytes that decode
//! but would be encoded otherwise are damage, as is every part out of bounds. Other keys of the
//! meta group are not ours and mean nothing here.

use std::collections::BTreeSet;

use aspen_tickets::{Body as _, CLUSTER_NAME_BYTES_MAX, Role, Scope, Verbs};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::tokens::TokenRecord;
use crate::limits::{
    KEYSPACE_SHARDS_MAX, MEMBER_ADDRESSES_MAX, MEMBER_NAME_BYTES_MAX, MEMBER_VERSION_BYTES_MAX,
    MEMBER_WEIGHT, MEMBER_WEIGHT_MAX, MEMBERS_MAX, SETTING_BYTES_MAX, VOTERS_MAX,
};
use crate::types::{Address, ClusterId, EndpointId, GroupId, KeyspaceName, NodeId};

/// The version of all values, their first byte.
const VERSION: u8 = 1;

/// What the cluster is, and which number comes next.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// Its random id.
    pub id: ClusterId,
    /// Its name, for people.
    pub name: String,
    /// What members derive the gossip topic from; never shown.
    pub gossip_secret: [u8; 32],
    /// The number of the next node that asks for none: greater than all that were given so.
    pub next_node: NodeId,
    /// Numbers up to this one may have been given to nodes that are forgotten.
    pub forgotten: NodeId,
}

/// A node of the cluster, or the tombstone of one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number.
    pub node: NodeId,
    /// Its public key.
    pub endpoint: EndpointId,
    /// The random id of its data directory: the same key without it is another node.
    pub incarnation: u128,
    /// A label for people; need not be unique, may be empty.
    pub name: String,
    /// What it may become in its groups.
    pub role: Role,
    /// Where it says it can be dialled, best first.
    pub addresses: Vec<Address>,
    /// The version of Aspen that it runs.
    pub version: String,
    /// Whether it belongs.
    pub state: State,
    /// The invitation that admitted it; 0 for the founder.
    pub invitation: u128,
}

/// Whether a member belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// It does.
    Active,
    /// It hands over what it holds and will then be removed.
    Leaving,
    /// No longer, and never again under this number.
    Removed,
}

/// An invitation for nodes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invitation {
    /// What those it admits may become.
    pub role: Role,
    /// When it was made, in seconds since 1970.
    pub created_s: u64,
    /// When it ends, in seconds since 1970.
    pub expires_s: u64,
    /// How many nodes it admits; [`aspen_tickets::USES_ANY`] for any number.
    pub uses: u32,
    /// How many it has admitted.
    pub used: u32,
    /// The key of the member that made it.
    pub issuer: EndpointId,
    /// It admits nobody any longer.
    pub revoked: bool,
}

/// A grant for clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// A label for people; may be empty.
    pub name: String,
    /// Which keys.
    pub scope: Scope,
    /// What may be done with them.
    pub verbs: Verbs,
    /// When it was made, in seconds since 1970.
    pub created_s: u64,
    /// When it ends, in seconds since 1970.
    pub expires_s: u64,
    /// How many client keys it serves; [`aspen_tickets::USES_ANY`] for any number, uncounted.
    pub uses: u32,
    /// How many it serves by now.
    pub used: u32,
    /// The key of the member that made it.
    pub issuer: EndpointId,
    /// It serves nobody any longer.
    pub revoked: bool,
}

/// A client's key that counted as a use of a grant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// When it came first, in seconds since 1970.
    pub since_s: u64,
}

/// Which group comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyspaces {
    /// Greater than that of every shard that there is or was.
    pub next_group: GroupId,
}

/// A keyspace: fixed when it is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Keyspace {
    /// The group of its first shard; those of the others follow.
    pub first: GroupId,
    /// How many shards it has.
    pub shards: u32,
    /// How many replicas each is to have.
    pub replicas: u8,
    /// How its keys are spread over its shards: the version of [`super::spread`].
    pub spread: u8,
    /// When it was made, in seconds since 1970.
    pub created_s: u64,
}

/// Where a shard is to be, and where it may still be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// How far it is.
    pub stage: Stage,
    /// Who is to hold a replica, and vote as far as an odd number can.
    pub replicas: BTreeSet<NodeId>,
    /// Who held one before and may still be needed: until the shard is settled.
    pub leaving: BTreeSet<NodeId>,
    /// Which of the replicas is to lead, if it can.
    pub leader: Option<NodeId>,
}

/// How far a shard is on its way to where it is to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// It has no place yet.
    #[default]
    Waiting,
    /// Its replicas found its group.
    Founding,
    /// Its group takes those in that are new, then lets go of those that leave.
    Moving,
    /// Its group is where it is to be.
    Settled,
}

/// A node takes its replica of a group again from the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repair {
    /// Whose replica.
    pub node: NodeId,
    /// How far it is.
    pub stage: RepairStage,
}

/// How far a repair is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepairStage {
    /// The group is to let go of the replica.
    Asked,
    /// The group has committed a membership without it: it is erased, and begins anew.
    LetGo,
}

/// What a member is there for; without a record the default holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Duty {
    /// How much it takes, in proportion to others.
    pub weight: u32,
    /// It is to hold nothing.
    pub draining: bool,
    /// It is to lead nothing, and is waited for.
    pub maintenance: bool,
}

impl Default for Duty {
    fn default() -> Self {
        Duty { weight: MEMBER_WEIGHT, draining: false, maintenance: false }
    }
}

/// A record with what its key says of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// The cluster's own.
    Cluster(Cluster),
    /// A member, keyed by its number.
    Member(Member),
    /// An invitation and its id.
    Invitation(u128, Invitation),
    /// A grant and its id.
    Grant(u128, Grant),
    /// A client of a grant and its key.
    Client(u128, EndpointId, Client),
    /// A token and its id.
    Token(u128, TokenRecord),
    /// Which group comes next.
    Keyspaces(Keyspaces),
    /// A keyspace and its name.
    Keyspace(KeyspaceName, Keyspace),
    /// A shard and its group.
    Shard(GroupId, Shard),
    /// What a member is there for.
    Duty(NodeId, Duty),
    /// A setting's name and value.
    Setting(String, String),
    /// The repair of a replica and its group.
    Repair(GroupId, Repair),
    /// The highest level of which something was written.
    Level(u32),
}

/// The key of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecordKey {
    /// The cluster's own record.
    Cluster,
    /// A member's.
    Member(NodeId),
    /// An invitation's, by its id.
    Invitation(u128),
    /// A grant's, by its id.
    Grant(u128),
    /// A counted client's: the grant's id and the client's key.
    Client(u128, EndpointId),
    /// A token's, by its id.
    Token(u128),
    /// That of the next group.
    Keyspaces,
    /// A keyspace's, by its name.
    Keyspace(KeyspaceName),
    /// A shard's, by its group.
    Shard(GroupId),
    /// A member's duty's, by its number.
    Duty(NodeId),
    /// A setting's, by its name.
    Setting(String),
    /// A repair's, by its group.
    Repair(GroupId),
    /// That of the highest level.
    Level,
}

/// A record is not what its writer wrote, or was written by a newer version.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[error("the roster's record `{key}` is damaged or from a newer version: {what}")]
pub struct Damaged {
    /// Its key, as far as it is text.
    pub key: String,
    /// What is wrong with it.
    pub what: &'static str,
}

impl Member {
    /// It is no tombstone.
    pub fn is_present(&self) -> bool {
        self.state != State::Removed
    }

    /// It may vote in groups, and is not about to leave them.
    pub fn may_vote(&self) -> bool {
        self.state == State::Active && self.role == Role::Voter
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.node.0 == 0 {
            return Err("a node's number is 0");
        }
        check_description(&self.name, &self.version, &self.addresses)
    }
}

/// What a node says of itself, wherever it comes from.
pub(super) fn check_description(
    name: &str,
    version: &str,
    addresses: &[Address],
) -> Result<(), &'static str> {
    if name.len() > MEMBER_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err("a node's name is too long or has control characters");
    }
    if version.len() > MEMBER_VERSION_BYTES_MAX || version.chars().any(char::is_control) {
        return Err("a node's version is too long or has control characters");
    }
    if !Address::are_few(addresses, MEMBER_ADDRESSES_MAX) {
        return Err("a node has too many addresses, or too many relays");
    }
    Ok(())
}

impl Cluster {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.name.is_empty() || self.name.len() > CLUSTER_NAME_BYTES_MAX {
            return Err("the cluster's name has no or too many bytes");
        }
        if self.name.chars().any(char::is_control) {
            return Err("the cluster's name has control characters");
        }
        if self.next_node.0 == 0 {
            return Err("the next node's number is 0");
        }
        Ok(())
    }
}

/// Shows all but the secret.
impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("id", &self.id)
            .field("name", &self.name)
            .field("next_node", &self.next_node)
            .field("forgotten", &self.forgotten)
            .finish_non_exhaustive()
    }
}

impl Invitation {
    fn check(&self) -> Result<(), &'static str> {
        if self.uses == 0 { Err("an invitation admits nobody") } else { Ok(()) }
    }
}

impl Grant {
    /// The grant as its ticket carries it, under this id.
    pub fn ticketed(&self, id: u128) -> aspen_tickets::Grant {
        aspen_tickets::Grant {
            id,
            scope: self.scope.clone(),
            verbs: self.verbs,
            expires_s: self.expires_s,
            uses: self.uses,
            issuer: self.issuer.0,
        }
    }

    fn check(&self) -> Result<(), &'static str> {
        if self.name.len() > MEMBER_NAME_BYTES_MAX || self.name.chars().any(char::is_control) {
            return Err("a grant's name is too long or has control characters");
        }
        self.ticketed(0).check().map_err(|_| "a grant is out of bounds")
    }
}

impl Invitation {
    /// The invitation as its ticket carries it, under this id.
    pub fn ticketed(&self, id: u128) -> aspen_tickets::Invitation {
        aspen_tickets::Invitation {
            id,
            role: self.role,
            expires_s: self.expires_s,
            uses: self.uses,
            issuer: self.issuer.0,
        }
    }
}

impl Stage {
    /// The word for it, as doors show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Waiting => "waiting",
            Stage::Founding => "founding",
            Stage::Moving => "moving",
            Stage::Settled => "settled",
        }
    }
}

impl RepairStage {
    /// The word for it, as doors show it.
    pub fn as_str(self) -> &'static str {
        match self {
            RepairStage::Asked => "asked",
            RepairStage::LetGo => "let-go",
        }
    }
}

impl Keyspaces {
    fn check(&self) -> Result<(), &'static str> {
        if self.next_group <= GroupId::META { Err("the next group is no shard's") } else { Ok(()) }
    }
}

impl Keyspace {
    /// The groups of its shards, in their order.
    pub fn groups(&self) -> impl Iterator<Item = GroupId> + use<> {
        let first = self.first.0;
        (first..first + u64::from(self.shards)).map(GroupId)
    }

    /// The group of one of its shards.
    pub fn group(&self, shard: u32) -> GroupId {
        GroupId(self.first.0 + u64::from(shard))
    }

    /// Which of its shards has a group; `None` if none has.
    pub fn shard(&self, group: GroupId) -> Option<u32> {
        let shard = group.0.checked_sub(self.first.0)?;
        u32::try_from(shard).ok().filter(|shard| *shard < self.shards)
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.first <= GroupId::META || self.first.0.checked_add(self.shards.into()).is_none() {
            return Err("a keyspace's groups are no shards'");
        }
        if self.shards == 0 || self.shards > KEYSPACE_SHARDS_MAX {
            return Err("a keyspace has no or too many shards");
        }
        if self.replicas == 0 || usize::from(self.replicas) > VOTERS_MAX {
            return Err("a shard has no or too many replicas");
        }
        Ok(())
    }
}

impl Duty {
    fn check(&self) -> Result<(), &'static str> {
        if (1..=MEMBER_WEIGHT_MAX).contains(&self.weight) {
            Ok(())
        } else {
            Err("a member's weight is 0 or too much")
        }
    }
}

impl Shard {
    /// Whether a node may have to do with its group: it is to hold a replica, or held one and is
    /// not let go yet.
    pub fn is_held_by(&self, node: NodeId) -> bool {
        self.replicas.contains(&node) || self.leaving.contains(&node)
    }

    fn check(&self, group: GroupId) -> Result<(), &'static str> {
        if group == GroupId::META {
            return Err("the meta group is no shard's");
        }
        if self.replicas.is_empty() != (self.stage == Stage::Waiting) {
            return Err("a shard's stage does not go with its replicas");
        }
        if self.replicas.len() > VOTERS_MAX || self.leaving.len() > MEMBERS_MAX {
            return Err("a shard has too many replicas");
        }
        if self.stage != Stage::Moving && !self.leaving.is_empty() {
            return Err("a shard that does not move has somebody leaving");
        }
        if !self.replicas.is_disjoint(&self.leaving) {
            return Err("a replica stays and leaves");
        }
        if self.leader.is_some_and(|leader| !self.replicas.contains(&leader)) {
            return Err("a shard is to be led by none of its replicas");
        }
        Ok(())
    }
}

impl Record {
    /// Where it is stored.
    pub fn key(&self) -> RecordKey {
        match self {
            Record::Cluster(_) => RecordKey::Cluster,
            Record::Member(member) => RecordKey::Member(member.node),
            Record::Invitation(id, _) => RecordKey::Invitation(*id),
            Record::Grant(id, _) => RecordKey::Grant(*id),
            Record::Client(id, endpoint, _) => RecordKey::Client(*id, *endpoint),
            Record::Token(id, _) => RecordKey::Token(*id),
            Record::Keyspaces(_) => RecordKey::Keyspaces,
            Record::Keyspace(name, _) => RecordKey::Keyspace(name.clone()),
            Record::Shard(group, _) => RecordKey::Shard(*group),
            Record::Duty(node, _) => RecordKey::Duty(*node),
            Record::Setting(name, _) => RecordKey::Setting(name.clone()),
            Record::Repair(group, _) => RecordKey::Repair(*group),
            Record::Level(_) => RecordKey::Level,
        }
    }

    /// Its value's bytes.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Record::Cluster(record) => to_bytes(record),
            Record::Member(record) => to_bytes(record),
            Record::Invitation(_, record) => to_bytes(record),
            Record::Grant(_, record) => to_bytes(record),
            Record::Client(_, _, record) => to_bytes(record),
            Record::Token(_, record) => to_bytes(record),
            Record::Keyspaces(record) => to_bytes(record),
            Record::Keyspace(_, record) => to_bytes(record),
            Record::Shard(_, record) => to_bytes(record),
            Record::Duty(_, record) => to_bytes(record),
            Record::Setting(_, value) => to_bytes(value),
            Record::Repair(_, record) => to_bytes(record),
            Record::Level(level) => to_bytes(level),
        }
    }

    /// The record in a value's bytes.
    pub fn decode(key: &RecordKey, value: &[u8]) -> Result<Self, Damaged> {
        let damaged = |what| Damaged { key: key.text(), what };
        let record = Record::read(key, value).map_err(damaged)?;
        record.check().map_err(damaged)?;
        if record.key() != *key {
            return Err(damaged("it is another member's"));
        }
        if record.encode() != value {
            return Err(damaged("it is not in its one form"));
        }
        Ok(record)
    }

    fn read(key: &RecordKey, value: &[u8]) -> Result<Self, &'static str> {
        Ok(match key {
            RecordKey::Cluster => Record::Cluster(from_bytes(value)?),
            RecordKey::Member(_) => Record::Member(from_bytes(value)?),
            RecordKey::Invitation(id) => Record::Invitation(*id, from_bytes(value)?),
            RecordKey::Grant(id) => Record::Grant(*id, from_bytes(value)?),
            RecordKey::Client(id, endpoint) => Record::Client(*id, *endpoint, from_bytes(value)?),
            RecordKey::Token(id) => Record::Token(*id, from_bytes(value)?),
            RecordKey::Keyspaces => Record::Keyspaces(from_bytes(value)?),
            RecordKey::Keyspace(name) => Record::Keyspace(name.clone(), from_bytes(value)?),
            RecordKey::Shard(group) => Record::Shard(*group, from_bytes(value)?),
            RecordKey::Duty(node) => Record::Duty(*node, from_bytes(value)?),
            RecordKey::Setting(name) => Record::Setting(name.clone(), from_bytes(value)?),
            RecordKey::Repair(group) => Record::Repair(*group, from_bytes(value)?),
            RecordKey::Level => Record::Level(from_bytes(value)?),
        })
    }

    fn check(&self) -> Result<(), &'static str> {
        match self {
            Record::Cluster(cluster) => cluster.check(),
            Record::Member(member) => member.check(),
            Record::Invitation(_, invitation) => invitation.check(),
            Record::Grant(_, grant) => grant.check(),
            Record::Client(..) | Record::Repair(..) => Ok(()),
            Record::Token(_, token) => token.check(),
            Record::Keyspaces(record) => record.check(),
            Record::Keyspace(_, keyspace) => keyspace.check(),
            Record::Shard(group, shard) => shard.check(*group),
            Record::Duty(_, duty) => duty.check(),
            Record::Setting(_, value) => check_setting(value),
            Record::Level(0 | 1) => Err("a level that is used is past the first"),
            Record::Level(_) => Ok(()),
        }
    }
}

impl RecordKey {
    /// The key's bytes.
    pub fn encode(&self) -> Vec<u8> {
        self.text().into_bytes()
    }

    /// The record that a key of the meta group is for; `None` if it is not one of ours.
    pub fn decode(key: &[u8]) -> Result<Option<Self>, Damaged> {
        let Ok(text) = std::str::from_utf8(key) else { return Ok(None) };
        let (kind, rest) = text.split_once('/').unwrap_or((text, ""));
        let parsed = match kind {
            "cluster" => rest.is_empty().then_some(RecordKey::Cluster),
            "member" => rest.parse().ok().map(|number| RecordKey::Member(NodeId(number))),
            "invitation" => id(rest).map(RecordKey::Invitation),
            "grant" => id(rest).map(RecordKey::Grant),
            "client" => rest.split_once('/').and_then(|(grant, endpoint)| {
                Some(RecordKey::Client(id(grant)?, endpoint.parse().ok()?))
            }),
            "token" => id(rest).map(RecordKey::Token),
            "keyspaces" => rest.is_empty().then_some(RecordKey::Keyspaces),
            "keyspace" => rest.parse().ok().map(RecordKey::Keyspace),
            "shard" => rest.parse().ok().map(|group| RecordKey::Shard(GroupId(group))),
            "duty" => rest.parse().ok().map(|number| RecordKey::Duty(NodeId(number))),
            "repair" => rest.parse().ok().map(|group| RecordKey::Repair(GroupId(group))),
            "level" => rest.is_empty().then_some(RecordKey::Level),
            "setting" => is_setting_name(rest).then(|| RecordKey::Setting(rest.to_owned())),
            _ => return Ok(None),
        };
        // What reads as a number or an id but is written otherwise would be a second key for it.
        match parsed.filter(|parsed| parsed.text() == text) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(Damaged { key: text.to_owned(), what: "the key is not in its one form" }),
        }
    }

    fn text(&self) -> String {
        match self {
            RecordKey::Cluster => "cluster".to_owned(),
            RecordKey::Member(node) => format!("member/{node}"),
            RecordKey::Invitation(id) => format!("invitation/{id:032x}"),
            RecordKey::Grant(id) => format!("grant/{id:032x}"),
            RecordKey::Client(id, endpoint) => format!("client/{id:032x}/{endpoint}"),
            RecordKey::Token(id) => format!("token/{id:032x}"),
            RecordKey::Keyspaces => "keyspaces".to_owned(),
            RecordKey::Keyspace(name) => format!("keyspace/{name}"),
            RecordKey::Shard(group) => format!("shard/{group}"),
            RecordKey::Duty(node) => format!("duty/{node}"),
            RecordKey::Setting(name) => format!("setting/{name}"),
            RecordKey::Repair(group) => format!("repair/{group}"),
            RecordKey::Level => "level".to_owned(),
        }
    }
}

fn is_setting_name(text: &str) -> bool {
    let is_inner = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
    (1..=SETTING_BYTES_MAX).contains(&text.len()) && text.bytes().all(is_inner)
}

/// What is allowed of each is another matter, and may be more for a newer member.
fn check_setting(value: &str) -> Result<(), &'static str> {
    if value.len() > SETTING_BYTES_MAX || value.chars().any(char::is_control) {
        return Err("a setting's value is too long or has control characters");
    }
    Ok(())
}

fn id(text: &str) -> Option<u128> {
    u128::from_str_radix(text, 16).ok()
}

fn to_bytes<T: Serialize>(record: &T) -> Vec<u8> {
    postcard::to_extend(record, vec![VERSION]).expect("plain fields always encode into memory")
}

fn from_bytes<T: DeserializeOwned>(value: &[u8]) -> Result<T, &'static str> {
    match value.split_first() {
        Some((&VERSION, rest)) => postcard::from_bytes(rest).map_err(|_| "it can't be read"),
        Some(_) => Err("its version is not known"),
        None => Err("it is empty"),
    }
}
