//! What the roster refuses, as problems: a kind for each reason, so that a program can tell them
//! apart.

use super::problem::*;
use crate::node::ClusterError;
use crate::raft::ChangeFailed;
use crate::roster::refused::Refused;

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::Refused(refused) => refused.into(),
            ClusterError::Failed(error) => error.into(),
            ClusterError::NotChanged(failed) => failed.into(),
        }
    }
}

impl From<ChangeFailed> for Problem {
    fn from(failed: ChangeFailed) -> Self {
        let detail = failed.to_string();
        match failed {
            ChangeFailed::Refused { .. } => Problem::new(&CHANGE_REFUSED, detail),
            ChangeFailed::Unknown { .. } => Problem::new(&OUTCOME_UNKNOWN, detail),
            ChangeFailed::NotLeader { .. }
            | ChangeFailed::InProgress { .. }
            | ChangeFailed::Lags { .. }
            | ChangeFailed::Silent { .. } => Problem::for_now(detail),
        }
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let kind = match refused {
            Refused::NotFounded => &NOT_FOUNDED,
            Refused::AlreadyFounded { .. } => &ALREADY_FOUNDED,
            Refused::Malformed { .. } => &MALFORMED,
            Refused::OtherCluster { .. } => &TICKET_OTHER_CLUSTER,
            Refused::Tampered => &TICKET_TAMPERED,
            Refused::IssuerGone => &TICKET_ISSUER_GONE,
            Refused::Expired { .. } => &TICKET_EXPIRED,
            Refused::Revoked => &TICKET_REVOKED,
            Refused::UsedUp { .. } => &TICKET_USED_UP,
            Refused::UnknownTicket => &TICKET_NOT_FOUND,
            Refused::NodeTaken { .. } => &NODE_TAKEN,
            Refused::NodeOutOfBounds { .. } => &NODE_OUT_OF_BOUNDS,
            Refused::ClusterFull => &CLUSTER_FULL,
            Refused::Removed { .. } => &NODE_REMOVED,
            Refused::Leaving { .. } => &NODE_LEAVING,
            Refused::UnknownNode { .. } => &NODE_NOT_FOUND,
            Refused::LastVoter { .. } | Refused::HeirAway { .. } => &LAST_VOTER,
            Refused::NotLeaving { .. } => &NODE_NOT_LEAVING,
            Refused::NotMember => &NOT_MEMBER,
            Refused::TicketExists => &TICKET_EXISTS,
            Refused::TooManyTickets { .. } => &TOO_MANY_TICKETS,
            Refused::UnknownToken => &TOKEN_NOT_FOUND,
            Refused::TooManyTokens { .. } => &TOO_MANY_TOKENS,
            Refused::LifeOutOfBounds => &TICKET_LIFE,
            Refused::UsesOutOfBounds { .. } => &TICKET_USES,
            Refused::TooManyClients => &TOO_MANY_CLIENTS,
            Refused::UnknownKeyspace { .. } => &KEYSPACE_NOT_FOUND,
            Refused::KeyspaceExists { .. } => &KEYSPACE_EXISTS,
            Refused::KeyspaceStays { .. } => &KEYSPACE_STAYS,
            Refused::KeyspaceOutOfBounds => &KEYSPACE_OUT_OF_BOUNDS,
            Refused::TooManyKeyspaces => &TOO_MANY_KEYSPACES,
            Refused::TooManyShards { .. } => &TOO_MANY_SHARDS,
            Refused::UnknownGroup { .. } => &GROUP_NOT_FOUND,
            Refused::ShardChanged { .. } => &SHARD_CHANGED,
            Refused::UnknownSetting { .. } => &SETTING_NOT_FOUND,
            Refused::BadSetting { .. } => &SETTING_VALUE,
            Refused::MajorityAway { .. }
            | Refused::StillNeeded { .. }
            | Refused::NeverAgain { .. }
            | Refused::Lacking { .. } => &MAJORITY_AWAY,
            Refused::WeightOutOfBounds => &WEIGHT_OUT_OF_BOUNDS,
            Refused::NoReplica { .. } => &NO_REPLICA,
            Refused::NothingToTakeFrom { .. } => &NOTHING_TO_TAKE_FROM,
            Refused::OthersAway { .. } => &MAJORITY_AWAY,
            Refused::RepairUnderWay { .. } => &REPAIR_UNDER_WAY,
            Refused::MemberTooOld { .. } => &MEMBER_TOO_OLD,
            Refused::BuildTooOld { .. } => &BUILD_TOO_OLD,
            Refused::BuildApart { .. } => &BUILD_APART,
        };
        Problem::new(kind, refused.to_string())
    }
}
