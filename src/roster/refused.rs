//! Every reason for which a decision is not made.
//!
//! Each is one sentence for the person who asked, and says what would help. They travel to whoever
//! joins or connects, so their encoding is part of the wire format: new ones go at the end.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::limits::*;
use crate::types::{ClusterId, GroupId, KeyspaceName, NodeId};

/// Why a request to the roster is refused. Nothing was written; the same request on the same
/// records is refused again.
#[derive(Clone, Debug, Error, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Refused {
    /// There are no records yet.
    #[error("the cluster is not founded yet; try again in a moment")]
    NotFounded,
    /// There are records already.
    #[error("the cluster {id} is founded already; join it with a ticket")]
    AlreadyFounded {
        /// Which cluster it is.
        id: ClusterId,
    },
    /// What the request says of a node or a ticket is past a limit.
    #[error("the request is malformed: {what}")]
    Malformed {
        /// What is wrong.
        what: String,
    },

    /// The ticket leads to another cluster.
    #[error(
        "the ticket is for the cluster {theirs}, and this is {ours}; ask a member for a ticket"
    )]
    OtherCluster {
        /// Where it was used.
        ours: ClusterId,
        /// What it is for.
        theirs: ClusterId,
    },
    /// The signature does not fit, or the ticket says other than what was committed.
    #[error("the ticket was tampered with: its signature does not fit; ask for a new one")]
    Tampered,
    /// It was made by a node that is no longer a member, or never was.
    #[error("the member that made the ticket is no longer one; ask another member for a ticket")]
    IssuerGone,
    /// Its time is over.
    #[error("the ticket expired {ago_s} s ago; ask for a new one")]
    Expired {
        /// How long ago.
        ago_s: u64,
    },
    /// It was revoked.
    #[error("the ticket was revoked; ask for a new one")]
    Revoked,
    /// It was used as often as it may be.
    #[error("the ticket is used up ({uses} of {uses} uses); ask for a new one")]
    UsedUp {
        /// How often.
        uses: u32,
    },
    /// No such ticket is known: it was never committed, or dropped after it expired.
    #[error("the cluster does not know this ticket; ask for a new one")]
    UnknownTicket,

    /// The number asked for belongs to another node, or once did.
    #[error("the number {node} is or was another node's; ask for another, or for none")]
    NodeTaken {
        /// The number.
        node: NodeId,
    },
    /// The number asked for is no number of a node.
    #[error("a node's number is 1 to {NODE_NUMBER_MAX}, and {node} is not; ask for another")]
    NodeOutOfBounds {
        /// The number.
        node: NodeId,
    },
    /// There is no room for another member.
    #[error("the cluster has {MEMBERS_MAX} members, its limit; remove one first")]
    ClusterFull,
    /// The node was removed, and its data still says that it is a member.
    #[error(
        "node {node} was removed from the cluster; to join anew, start with an empty data directory"
    )]
    Removed {
        /// Its former number.
        node: NodeId,
    },
    /// The node is leaving.
    #[error(
        "node {node} is leaving the cluster; when it has left, join anew with an empty data directory"
    )]
    Leaving {
        /// Its number.
        node: NodeId,
    },

    /// No member has this number.
    #[error("no node has the number {node}; `aspen members` lists those there are")]
    UnknownNode {
        /// The number.
        node: NodeId,
    },
    /// Without it nobody could vote.
    #[error(
        "node {node} is the last that may vote; add another voter first (`aspen ticket create` \
         makes a ticket for it)"
    )]
    LastVoter {
        /// Its number.
        node: NodeId,
    },
    /// Only what is leaving can have left.
    #[error("node {node} is not leaving; ask it to leave, or remove it")]
    NotLeaving {
        /// Its number.
        node: NodeId,
    },

    /// Only members make tickets.
    #[error("only an active member makes tickets")]
    NotMember,
    /// The id was drawn before.
    #[error("a ticket with this id exists; try again")]
    TicketExists,
    /// The list of tickets is full.
    #[error("there are {limit} tickets of this kind, the limit; let some expire")]
    TooManyTickets {
        /// How many.
        limit: u64,
    },
    /// The time that a ticket is to live is out of bounds.
    #[error("a ticket or token lives between 1 s and {} days from now on", TICKET_LIFE_S_MAX / 86_400)]
    LifeOutOfBounds,
    /// The uses that a ticket is to have are out of bounds.
    #[error("a ticket has 1 to {limit} uses, or any number")]
    UsesOutOfBounds {
        /// The most that are counted.
        limit: u32,
    },
    /// Too many clients are counted.
    #[error("{GRANT_CLIENTS_MAX} clients of limited tickets are known, the limit; let some expire")]
    TooManyClients,

    /// No keyspace has this name.
    #[error(
        "there is no keyspace {name}; `aspen keyspace list` shows those there are, `aspen keyspace \
         create {name}` makes it"
    )]
    UnknownKeyspace {
        /// The name.
        name: KeyspaceName,
    },
    /// A keyspace has this name.
    #[error(
        "there is a keyspace {name} already, with {shards} shards and {replicas} replicas each; use \
         it, or choose another name"
    )]
    KeyspaceExists {
        /// The name.
        name: KeyspaceName,
        /// What it has.
        shards: u32,
        /// And of each.
        replicas: u8,
    },
    /// Without it, what names no keyspace would have none.
    #[error(
        "the keyspace {name} stays: it is meant wherever none is named; delete its keys instead"
    )]
    KeyspaceStays {
        /// The name.
        name: KeyspaceName,
    },
    /// The shards or replicas asked for are out of bounds.
    #[error(
        "a keyspace has 1 to {KEYSPACE_SHARDS_MAX} shards and 1 to {VOTERS_MAX} replicas of each"
    )]
    KeyspaceOutOfBounds,
    /// There is no room for another keyspace.
    #[error("there are {KEYSPACES_MAX} keyspaces, the limit; delete one first")]
    TooManyKeyspaces,
    /// There is no room for so many more shards.
    #[error("the keyspaces have {present} shards, and {SHARDS_MAX} are allowed; ask for fewer")]
    TooManyShards {
        /// How many there are.
        present: u32,
    },
    /// No shard has this group.
    #[error("there is no group {group}; `aspen status` lists those that a node holds")]
    UnknownGroup {
        /// The group.
        group: GroupId,
    },
    /// There is no such setting.
    #[error("there is no setting {name:?}; use one of: {known}")]
    UnknownSetting {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// The setting can't be that.
    #[error("{name} can't be that; use {allowed}")]
    BadSetting {
        /// The setting.
        name: String,
        /// What is allowed.
        allowed: String,
    },
    /// With these under maintenance a group would have no majority.
    #[error(
        "with these nodes under maintenance group {group} would have no majority left; end that of \
         others first"
    )]
    MajorityAway {
        /// The group.
        group: GroupId,
    },
    /// A member's weight is out of bounds.
    #[error("a node's capacity is 1 to {MEMBER_WEIGHT_MAX}")]
    WeightOutOfBounds,
    /// The shard's record is not as whoever asks has seen it.
    #[error("the group {group} was changed in between; look again")]
    ShardChanged {
        /// The group.
        group: GroupId,
    },
    /// The node is to hold nothing of the group.
    #[error("node {node} holds no replica of group {group}; `aspen status` lists those it holds")]
    NoReplica {
        /// The group.
        group: GroupId,
        /// Who was asked.
        node: NodeId,
    },
    /// Nobody else has a copy.
    #[error(
        "node {node} alone holds group {group}, and there is nobody to take it from; what is left \
         of it is a copy of the data directory, if one was made"
    )]
    NothingToTakeFrom {
        /// The group.
        group: GroupId,
        /// Who was asked.
        node: NodeId,
    },
    /// The others could not go on without this replica.
    #[error(
        "group {group} has no majority without this node's replica, so nothing may be taken away \
         from it; bring the other nodes that hold it back first"
    )]
    OthersAway {
        /// The group.
        group: GroupId,
    },
    /// Another replica of the group is being repaired.
    #[error("node {node} is taking group {group} again from the others; wait until it has it")]
    RepairUnderWay {
        /// The group.
        group: GroupId,
        /// Whose replica.
        node: NodeId,
    },
    /// A member does not know what would be written.
    #[error("node {node} runs aspen {version}, which does not know {what}; upgrade it first")]
    MemberTooOld {
        /// The one that knows least.
        node: NodeId,
        /// Its version.
        version: String,
        /// What it does not know.
        what: String,
    },
    /// The build does not know what the members do.
    #[error(
        "aspen {version} is too old for the cluster, which needs level {level}; start a newer one"
    )]
    BuildTooOld {
        /// Its version.
        version: String,
        /// What it would have to know.
        level: u32,
    },
    /// The build is too far from a member's.
    #[error(
        "aspen {version} and node {node}'s {theirs} are more than one minor version apart; upgrade \
         one version at a time"
    )]
    BuildApart {
        /// The member.
        node: NodeId,
        /// Its version.
        theirs: String,
        /// The build's version.
        version: String,
    },
    /// No such token is known: it never was, was taken back, or dropped after it expired.
    #[error("the cluster does not know this token; `aspen token list` shows those there are")]
    UnknownToken,
    /// The list of tokens is full.
    #[error("there are {limit} tokens, the limit; revoke those that nobody needs")]
    TooManyTokens {
        /// How many.
        limit: u64,
    },
    /// Whoever else may vote is away.
    #[error(
        "node {away}, which would take over from node {node}, can't be heard: start it again, or, if \
         it is lost for good, `aspen remove {away}` and let another node join"
    )]
    HeirAway {
        /// Who would leave.
        node: NodeId,
        /// The first of those that may vote.
        away: NodeId,
    },
    /// A member that is there is needed.
    #[error(
        "node {node} runs, and without it group {group} would have no majority: let it leave instead, \
         with `aspen leave` there"
    )]
    StillNeeded {
        /// Who would be removed.
        node: NodeId,
        /// The group.
        group: GroupId,
    },
    /// A group would be without a majority for good.
    #[error(
        "group {group} could never go on without node {node}, as too few would be left of those that \
         may vote in it: start it again, or delete the keyspace that the group is of"
    )]
    NeverAgain {
        /// Who would be removed.
        node: NodeId,
        /// The group.
        group: GroupId,
    },
    /// A group would be without a majority until one of its voters has taken it in, and nobody would be
    /// left that it could take it from.
    #[error(
        "group {group} could not go on without node {node} yet, as node {lacks} is to vote in it and \
         has nothing of it: wait until it has, and see that its disk is not full"
    )]
    Lacking {
        /// Who would be removed.
        node: NodeId,
        /// The group.
        group: GroupId,
        /// Who has nothing of it.
        lacks: NodeId,
    },
}
