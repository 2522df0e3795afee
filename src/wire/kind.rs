//! What a stream is for, and how long its messages may be.

use crate::limits::{CALL_BYTES_MAX, CONTROL_BYTES_MAX, LANE_MESSAGE_BYTES_MAX};

/// What a stream is for: the second byte of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// The first stream of a link between members: who greets whom.
    Hello = 0,
    /// The ordered messages of all groups, multiplexed.
    Lanes = 1,
    /// Votes, and questions how a vote would go, of all groups that ask at the same moment.
    Vote = 2,
    /// The heartbeats of a member to the groups that it leads.
    Heartbeat = 3,
    /// Leadership handed over.
    Transfer = 4,
    /// The index that a linearizable read must wait for.
    ReadIndex = 5,
    /// A group's state.
    Snapshot = 6,
    /// A client's operation for the node that is asked.
    Request = 7,
    /// A watch passed on to a node with a replica.
    Watch = 8,
    /// What only one member can do, asked of it by another: to hand over what it leads.
    Act = 9,
    /// A ticket, shown by whoever made the link.
    Ticket = 10,
    /// A client's operation for a group's leader, which the client does not reach itself: the member
    /// that gets it passes it on, once.
    Forward = 11,
}

impl StreamKind {
    /// Every kind.
    pub const ALL: [StreamKind; 12] = {
        use StreamKind::*;
        [
            Hello, Lanes, Vote, Heartbeat, Transfer, ReadIndex, Snapshot, Request, Watch, Act,
            Ticket, Forward,
        ]
    };

    /// The kind of a number, if it is one.
    pub fn from_number(number: u8) -> Option<Self> {
        StreamKind::ALL.get(usize::from(number)).copied()
    }

    /// Whether it is one message each way and then the end.
    pub fn is_call(self) -> bool {
        use StreamKind::*;
        match self {
            Vote | Heartbeat | Transfer | ReadIndex | Request | Act | Forward => true,
            Hello | Lanes | Snapshot | Watch | Ticket => false,
        }
    }

    /// Longest message on such a stream. A longer one closes the link.
    pub fn message_bytes_max(self) -> usize {
        use StreamKind::*;
        match self {
            Hello | Vote | Heartbeat | Transfer | ReadIndex | Act | Ticket => CONTROL_BYTES_MAX,
            Lanes => LANE_MESSAGE_BYTES_MAX,
            Snapshot | Request | Watch | Forward => CALL_BYTES_MAX,
        }
    }
}
