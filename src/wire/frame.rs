//! The frames of a stream of lanes: several ordered channels over one stream of bytes.
//!
//! ```text
//! open    1 · lane u32 · group u64
//! part    2 · lane u32 · length u32 · bytes      the message goes on in the next part or data
//! data    3 · lane u32 · length u32 · bytes      the message is whole
//! credit  4 · lane u32 · bytes u32               as much more may be sent on the lane
//! close   5 · lane u32                           the sender has nothing more to say
//! ```
//!
//! A lane is opened by the side that opened the stream, which numbers lanes from 1 upwards and
//! uses no number twice.

use bytes::{Buf, Bytes, BytesMut};

use super::Malformed;
use crate::limits::LANE_FRAGMENT_BYTES_MAX;
use crate::types::GroupId;

/// A lane's number on its stream.
pub type LaneId = u32;

/// One frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    /// A lane begins.
    Open {
        /// Which.
        lane: LaneId,
        /// The group that it is for.
        group: GroupId,
    },
    /// A piece of a message.
    Data {
        /// The lane.
        lane: LaneId,
        /// The piece, at most [`LANE_FRAGMENT_BYTES_MAX`].
        bytes: Bytes,
        /// Whether the message ends with it.
        last: bool,
    },
    /// The receiver has room for more.
    Credit {
        /// The lane.
        lane: LaneId,
        /// How much more.
        bytes: u32,
    },
    /// A lane ends.
    Close {
        /// Which.
        lane: LaneId,
    },
}

const OPEN: u8 = 1;
const PART: u8 = 2;
const DATA: u8 = 3;
const CREDIT: u8 = 4;
const CLOSE: u8 = 5;

/// Kind and lane.
const HEAD_BYTES: usize = 5;

/// The longest frame without its piece of a message.
pub const OVERHEAD_BYTES_MAX: usize = HEAD_BYTES + 8;

impl Frame {
    /// Appends the frame.
    pub fn encode(&self, out: &mut BytesMut) {
        match self {
            Frame::Open { lane, group } => {
                head(out, OPEN, *lane);
                out.extend_from_slice(&group.0.to_le_bytes());
            }
            Frame::Data { lane, bytes, last } => put_data(out, *lane, bytes, *last),
            Frame::Credit { lane, bytes } => {
                head(out, CREDIT, *lane);
                out.extend_from_slice(&bytes.to_le_bytes());
            }
            Frame::Close { lane } => head(out, CLOSE, *lane),
        }
    }

    /// Takes the first frame off the buffer; `None`, and nothing is taken, if it is not all there.
    /// What is announced too long is refused before it has arrived.
    pub fn decode(buffer: &mut BytesMut) -> Result<Option<Frame>, Malformed> {
        let Some((&[kind, a, b, c, d], rest)) = buffer.split_first_chunk::<HEAD_BYTES>() else {
            return match buffer.first() {
                Some(&kind) if !(OPEN..=CLOSE).contains(&kind) => Err(unknown()),
                _ => Ok(None),
            };
        };
        let lane = LaneId::from_le_bytes([a, b, c, d]);
        match kind {
            OPEN => {
                let Some(&group) = rest.first_chunk::<8>() else { return Ok(None) };
                buffer.advance(HEAD_BYTES + 8);
                Ok(Some(Frame::Open { lane, group: GroupId(u64::from_le_bytes(group)) }))
            }
            PART | DATA => {
                let Some(&length) = rest.first_chunk::<4>() else { return Ok(None) };
                let length = super::read_length(length, LANE_FRAGMENT_BYTES_MAX)?;
                if rest.len() < 4 + length {
                    return Ok(None);
                }
                // Copied, so that a message nobody takes does not keep all that arrived with it.
                let bytes = Bytes::copy_from_slice(&rest[4..4 + length]);
                buffer.advance(HEAD_BYTES + 4 + length);
                Ok(Some(Frame::Data { lane, bytes, last: kind == DATA }))
            }
            CREDIT => {
                let Some(&bytes) = rest.first_chunk::<4>() else { return Ok(None) };
                buffer.advance(HEAD_BYTES + 4);
                Ok(Some(Frame::Credit { lane, bytes: u32::from_le_bytes(bytes) }))
            }
            CLOSE => {
                buffer.advance(HEAD_BYTES);
                Ok(Some(Frame::Close { lane }))
            }
            _ => Err(unknown()),
        }
    }
}

/// Appends a piece of a message without making a frame of it first.
pub fn put_data(out: &mut BytesMut, lane: LaneId, bytes: &[u8], last: bool) {
    assert!(bytes.len() <= LANE_FRAGMENT_BYTES_MAX, "a message is cut into pieces first");
    head(out, if last { DATA } else { PART }, lane);
    out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

fn head(out: &mut BytesMut, kind: u8, lane: LaneId) {
    out.extend_from_slice(&[kind]);
    out.extend_from_slice(&lane.to_le_bytes());
}

fn unknown() -> Malformed {
    Malformed::Other("a frame of a kind that this build does not know")
}
